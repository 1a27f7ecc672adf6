"""The operator that sends one request as one task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import ConfigurationError, ResponsesError
from airflow_provider_responses.hooks import telemetry
from airflow_provider_responses.links.task_instance import links_of_request
from airflow_provider_responses.operators.budget import Budget, SpendingCheck, check_limits, shares_budget
from airflow_provider_responses.operators.configuration import max_trigger_bytes, min_deferral
from airflow_provider_responses.operators.files import read_request_files, reason_to_stay_on_worker, store_images_of
from airflow_provider_responses.operators.history_argument import check_turn, note_history
from airflow_provider_responses.operators.spent_record import load_ledger, store_ledger
from airflow_provider_responses.operators.tool_loop import NEXT_STEP, ToolLoopOperator, has_functions
from airflow_provider_responses.task.arguments import RESULTS, TEMPLATE_FIELDS, check_multiple_outputs
from airflow_provider_responses.task.attempt import Exchange, call_timeout, log_line
from airflow_provider_responses.task.conversation import continue_conversation, make_session_id
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.escalation import Escalation, check_output_type_is_set, check_request_escalations
from airflow_provider_responses.task.fingerprint import prompt_fingerprint
from airflow_provider_responses.task.idempotency import clearing_id, idempotency_key_of
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.request import TaskRequest
from airflow_provider_responses.task.type_encoding import encode_type
from airflow_provider_responses.task.xcom import USAGE_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_responses.client import ResponsesClient
    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.hooks.responses import ResponsesHook
    from airflow_provider_responses.observability.spans import Tracing

__all__ = ["ResponsesOperator"]


class _PerTask:
    """
    An attribute that Airflow reads of a task when its DAG is stored, and of the class for a mapped task.

    :param get: returns the value of a task.
    :param of_class: the value of the class.
    """

    def __init__(self, get: Callable[[Any], Any], *, of_class: Any) -> None:
        self._get = get
        self._of_class = of_class

    def __get__(self, task: Any, owner: type) -> Any:
        return self._of_class if task is None else self._get(task)


class ResponsesOperator(ToolLoopOperator):
    """
    Send one Responses API request; push the response, and ``usage``, to XCom.

    XCom: ``return_value`` is the text, the typed output, or the whole response. ``usage`` has tokens, cost in US
    dollars, sends, status, model and ids (see ``task.xcom.UsageXCom``); an attempt that fails pushes it, too.

    :param input: the prompt: a text, or a list of input items.
    :param history: the conversation so far: the output of a task with ``result="response"``, or a list of input items.
    :param output_path: the folder, as a path, that generated images are written to; the value has their paths.
    :param stream: whether the response is streamed. By default it is streamed to a worker, where a killed task drops
        the connection and so ends the cost, and not to the triggerer, whose restart would end the response.
    :param deferrable: whether the request is sent by the triggerer, so that the task holds no worker meanwhile; the
        default is Airflow's ``[operators] default_deferrable``.
    :param max_cost: US dollars that the task may spend over all its attempts since it was cleared. A send whose highest
        price no longer fits is refused.
    :param budget: a ``Budget``, such as ``Budget(dag_run=1.0)`` for all tasks of the DAG run.
    :param escalate: the larger models, as a list of ``Escalation``, that get the request if a response is not accepted.
    :param start_from_trigger: whether the task starts and ends in the triggerer and never takes a worker. Where Airflow
        (before 3.3.1) or the task does not allow it, a worker defers the task, and the log states the reason.

    Other arguments: see :class:`ToolLoopOperator`, :class:`BaseResponsesOperator` and Airflow's ``BaseOperator``.
    """

    template_fields: Sequence[str] = (*TEMPLATE_FIELDS, "history", "files_root", "max_file_bytes", "output_path")
    template_fields_renderers: ClassVar[dict[str, str]] = {"request": "json", "options": "json"}
    ui_color = "#eef0ff"
    operator_extra_links = links_of_request()
    data_fields = frozenset({"history"})
    results = RESULTS
    # Why tasks of a subclass cannot start in the triggerer.
    start_on_worker_reason: ClassVar[str | None] = None
    start_from_trigger: Any = _PerTask(lambda task: task.start_trigger_args is not None, of_class=False)
    start_trigger_args: Any = _PerTask(lambda task: task._start_trigger_args(), of_class=None)

    def __init__(
        self,
        *,
        input: str | Sequence[Any] | None = None,
        history: Any = None,
        output_path: str | None = None,
        stream: bool | None = None,
        deferrable: bool | None = None,
        start_from_trigger: bool = False,
        max_cost: float | None = None,
        budget: Budget | None = None,
        escalate: Sequence[Escalation] | Escalation | None = None,
        **kwargs: Any,
    ) -> None:
        self._starts_in_triggerer = False  # Airflow reads `start_from_trigger` during the constructor
        super().__init__(**kwargs)
        self.input = input
        self.history = history
        self.output_path = output_path
        self.stream = stream
        self.max_cost = max_cost
        self.budget = budget
        self.escalate = escalate
        self._escalations: tuple[Escalation, ...] = ()
        self._spending: SpendingCheck | None = None
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable or start_from_trigger
        self._client: ResponsesClient | None = None
        self._tracing: Tracing | None = None
        self._prompt_fingerprint: str | None = None  # of a request that the triggerer has sent
        self._request: TaskRequest | None = None  # of this attempt, once its templates are rendered
        self._killed = False
        self._generation_id: str | None = None  # for the link to it
        self._function_started_at: float | None = None  # of a decorated task, whose function runs before the request
        self._started_on_worker_reason: str | None = None
        with self._checking_arguments():
            self._check()
            note_history(history)
            self._starts_in_triggerer = start_from_trigger

    @classmethod
    def check_mapped(cls, arguments: Mapping[str, Any]) -> None:
        super().check_mapped(arguments)
        check_limits(arguments.get("max_cost"), arguments.get("budget"))
        check_request_escalations(
            arguments.get("escalate"),
            has_functions=has_functions(arguments.get("tools")),
            model=arguments.get("model"),
            request=arguments.get("request"),
        )
        note_history(arguments.get("history"))
        if arguments.get("multiple_outputs"):
            check_multiple_outputs(cls._arguments_from(arguments))

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        if self._starts_in_triggerer:  # decided by the templates, before they are rendered
            self._started_on_worker_reason = self._reason_to_start_on_worker()
        super().render_template_fields(context, jinja_env)

    def execute(self, context: Context) -> Any:
        """Send the request, or defer until the triggerer has sent it; see the class."""
        self._started_at, self._function_started_at = self._function_started_at or time.monotonic(), None
        idempotency_key = self._idempotency_key(context)
        self._begin_loop(context, idempotency_key)
        if shares_budget(self) and (ledger := self._ledger(context, idempotency_key)).spent:  # Airflow deleted its XCom
            self._push_running(context, ledger.running_usage(Outcome()), Outcome())
        return self._run_steps(context, lambda: self._send_or_defer(context))

    def execute_complete(self, context: Context, event: Any = None, tool_loop: Mapping[str, Any] | None = None) -> Any:
        """Return the value of the response that the triggerer has received, or fail; see the class."""
        from airflow_provider_responses.task import payloads

        self._started_at = time.monotonic()
        if not AIRFLOW_V_3_0_PLUS and context["ti"].start_date is not None:
            # Airflow 2 counts the deferral as time of the task.
            self._started_at -= time.time() - context["ti"].start_date.timestamp()
        if payloads.is_unsent(event):
            return self._send_or_defer(context)
        return self._run_steps(context, lambda: self._complete(context, event, tool_loop))

    def _complete(self, context: Context, event: Any, tool_loop: Mapping[str, Any] | None) -> Any:
        from airflow_provider_responses.task import payloads

        idempotency_key, ledger, received = None, CostLedger(complete=False), None
        try:
            received, idempotency_key = payloads.read_event(event)
            idempotency_key = self._resume_loop(context, event, idempotency_key, tool_loop)
            ledger = self._ledger(context, idempotency_key)
            ledger.ambiguous = max(0, ledger.ambiguous - 1)  # the send of the triggerer, whose outcome is known now
            self._spending = SpendingCheck.of(self, context)
            self._tracing = telemetry.tracing_of(context["ti"])
            outcome = self._finish(context, event, idempotency_key, ledger, received)
        except ResponsesError as error:
            outcome = replace(received or Outcome(), value=None, error=error)  # what has arrived is paid
        return self._end(context, idempotency_key, ledger, outcome)

    def on_kill(self) -> None:
        """Drop the connection of the call: a streamed response stops, and nothing is resent."""
        self._killed = True
        if self._client is not None:
            self._client.cancel()

    def _idempotency_key(self, context: Context) -> str:
        return idempotency_key_of(context["ti"], clearing_id=clearing_id(context["ti"], self.retries))

    def _send_or_defer(self, context: Context) -> Any:
        idempotency_key = self._idempotency_key(context)
        ledger = self._ledger(context, idempotency_key)
        trigger, self._tracing = None, telemetry.tracing_of(context["ti"])
        try:
            if (request := self._loop_request) is None:
                self._check(rendered=True)
                self._spending = SpendingCheck.of(self, context)
                self._request = request = self._task_request(idempotency_key)
            request = replace(self._next_step(request), tier=ledger.tier)
            if self.deferrable and (reason := reason_to_stay_on_worker(self, request)):
                self.log.info("Not deferred: %s", reason)
            elif self.deferrable:
                trigger = self._make_trigger(context["ti"], request, ledger)
            if self._spending is not None and trigger is None:
                self._store_spent(context, idempotency_key, ledger, in_flight=1)
            outcome = self._send(context, request, ledger) if trigger is None else Outcome()
        except ResponsesError as error:
            outcome = Outcome(error=error)
        if trigger is not None:
            if self._spending is not None:
                self._store_spent(context, idempotency_key, ledger, in_flight=1)
            tool_loop = self._deferred_loop()
            kwargs = None if tool_loop is None else {"tool_loop": tool_loop}
            self.defer(trigger=trigger, method_name="execute_complete", kwargs=kwargs)
        return self._end(context, idempotency_key, ledger, outcome)

    def _check(self, *, rendered: bool = False) -> None:
        super()._check(rendered=rendered)
        check_limits(self.max_cost, self.budget)
        self._escalations = check_request_escalations(
            self.escalate, has_functions=has_functions(self.tools), model=self.model, request=self.request
        )
        check_output_type_is_set(self._escalations, self.output_type, has_judge=False)
        check_turn(self)
        if self.multiple_outputs:
            check_multiple_outputs(self._arguments(), rendered=rendered)

    def _task_request(self, idempotency_key: str | None) -> TaskRequest:
        request = self._arguments().to_task_request(idempotency_key=idempotency_key, stream=not self.deferrable)
        if self.history is not None or self.result == "conversation":
            is_openrouter, session_id = self._hook().config.is_openrouter, make_session_id(idempotency_key)
            fields = continue_conversation(
                self.history, request.fields, is_openrouter=is_openrouter, session_id=session_id
            )
            request = replace(request, fields=fields)
        return read_request_files(self, replace(request, escalations=self._escalations))

    def request_to_estimate(self, context: Context) -> TaskRequest:  # noqa: ARG002  for the decorator
        """Return the request that would be sent, its templates rendered, for an estimate of its price."""
        self._check(rendered=True)
        return self._task_request(None)

    def _hook(self) -> ResponsesHook:
        from airflow_provider_responses.hooks.responses import ResponsesHook

        if self._loop is None:
            return ResponsesHook(self.conn_id)
        self._loop_hook = self._loop_hook or ResponsesHook(self.conn_id)
        return self._loop_hook

    def _send(
        self, context: Context, request: TaskRequest, ledger: CostLedger, received: Outcome | None = None
    ) -> Outcome:
        """
        Send the request until there is an outcome.

        :param received: a first response, which the triggerer has received, and which a worker must read.
        """
        from airflow_provider_responses.observability.spans import start_request_span
        from airflow_provider_responses.task.price_lookup import look_up_generations

        hook, spending, given = self._hook(), self._spending, self._send_options()
        prepared, options = request.prepare(hook.config, given)
        larger = request.prepare_larger(hook.config, given)
        exchange = Exchange(request, options, larger=larger)
        outcome = None if received is None else exchange.resume(received)
        if received is not None and outcome is not None:
            return replace(outcome, generations=received.generations)
        config = hook.config.for_call(options)
        if spending is not None:
            spending.read_prices(prepared, config, larger)
            if received is None and (refusal := spending.refusal(ledger)) is not None:
                return Outcome(error=refusal)  # nothing is sent, so there is no span
        ends_at = time.monotonic() + self._call_timeout(options, hook.config)
        span = start_request_span(self._tracing, prepared, base_url=config.base_url, is_openrouter=config.is_openrouter)
        exchange.begin_span(span)
        with self._open_client(hook, options) as client:
            self._client = client
            if self._killed:  # `on_kill` ran before there was a client
                client.cancel()
            with span:
                while outcome is None:
                    if exchange.responses:
                        self._note_paid(context, request, ledger, exchange)
                    resent = exchange.next_request(prepared)
                    if spending is not None and resent is not prepared:
                        spending.read_prices(resent, config)  # its input is longer, or its model larger
                    if spending is not None and (refusal := spending.refusal(ledger, exchange.responses)) is not None:
                        outcome = exchange.refuse(refusal)
                        break
                    seconds_left = max(ends_at - time.monotonic(), 0.001)
                    try:
                        outcome = exchange.receive(client.send(resent, options=exchange.options(seconds_left)))
                    except ResponsesError as error:
                        outcome = exchange.receive_error(error)
            known = dict(received.generations) if received else {}
            unpriced = ledger.unpriced_generations(outcome.response) if outcome.response else ()
            found = look_up_generations(client, unpriced, self._seconds_left)
        return replace(outcome, generations=known | found)

    def _note_paid(self, context: Context, request: TaskRequest, ledger: CostLedger, exchange: Exchange) -> None:
        """Store and push the costs of an exchange before its next send, and the model that it goes to."""
        paid = exchange.paid()
        if shares_budget(self):
            self._push_running(context, ledger.running_usage(paid), paid)
        if exchange.has_escalated:
            from airflow_provider_responses.tools.loop import split_key

            key, _ = split_key(request.idempotency_key)
            in_flight = int(self._spending is not None)
            self._store_spent(context, key, ledger.with_outcome(paid), in_flight=in_flight)

    def _finish(
        self, context: Context, event: Any, idempotency_key: str | None, ledger: CostLedger, received: Outcome | None
    ) -> Outcome:
        """
        Return the outcome of a request that the triggerer has sent.

        :param received: the outcome in the triggerer; None if the response is too large for Airflow's database.
        """
        from airflow_provider_responses.task import payloads

        self._check(rendered=True)
        request = self._as_step(self._task_request(idempotency_key))
        if (fields := payloads.read_fields(event)) is not None:
            request = replace(request, fields=fields)
        request = replace(request, tier=ledger.tier if received is None else received.tier)
        self._request, self._prompt_fingerprint = request, event.get("prompt_fingerprint")
        if received is None:
            self.log.info("The response is too large for Airflow's database: fetching the cached one")
            return self._send(context, request, ledger)
        return self._send(context, request, ledger, received) if received.unparsed else received

    def _end(self, context: Context, idempotency_key: str | None, ledger: CostLedger, outcome: Outcome) -> Any:
        """Push ``usage``; then return the value of the outcome, or fail the task. In a loop, a step may follow."""
        ended = self._finish_step(context, idempotency_key, ledger, outcome)
        if ended is None:
            return NEXT_STEP
        outcome = ended
        self._push_usage(context, idempotency_key, ledger, outcome)
        if outcome.error is not None:
            self._fail(outcome.error)
        try:
            value = store_images_of(self, outcome)
        except ResponsesError as error:
            self._fail(error)
        if value == "" and outcome.response is not None:
            calls = len(outcome.response.function_calls)
            self.log.warning(
                'The response has no text, and %d function calls. result="response" returns all of it', calls
            )
        return value

    def _push_usage(self, context: Context, idempotency_key: str | None, ledger: CostLedger, outcome: Outcome) -> None:
        usage = ledger.usage(
            outcome, self._loop_fingerprint or self._prompt_fingerprint or prompt_fingerprint(self._request)
        )
        self._generation_id = usage["generation_id"]
        ledger.note_ambiguous(outcome)
        if outcome.response is not None or self._spending is not None:
            self._store_spent(context, idempotency_key, ledger)
        if outcome.response is not None:
            self.log.info("%s", log_line(outcome.response, usage))
        telemetry.emit_request(usage, outcome, context["ti"])
        if self.do_xcom_push:
            context["ti"].xcom_push(key=USAGE_KEY, value=self._with_steps(usage, outcome))

    def _store_spent(
        self, context: Context, idempotency_key: str | None, ledger: CostLedger, *, in_flight: int = 0
    ) -> None:
        store_ledger(context, idempotency_key, ledger, self._escalations, in_flight=in_flight)

    def _send_options(self) -> RequestOptions:
        """Return the options of a send; with a limit of cost, none that may be billed is followed by another."""
        options = RequestOptions.parse(self.options)
        return options if self._spending is None else replace(options, max_ambiguous_retries=0)

    def _fail_unsent(self, context: Context, error: ResponsesError) -> NoReturn:
        """Push ``usage`` and fail, before anything is sent."""
        idempotency_key = self._idempotency_key(context)
        self._push_usage(context, idempotency_key, self._ledger(context, idempotency_key), Outcome(error=error))
        self._fail(error)

    def _ledger(self, context: Context, idempotency_key: str | None) -> CostLedger:
        return self._loop_ledger or load_ledger(context, idempotency_key, self._escalations)

    def _make_trigger(self, ti: Any, request: TaskRequest, ledger: CostLedger) -> BaseTrigger | None:
        """Return the trigger that sends the request, None if the worker sends it; the log states which, and why."""
        from airflow_provider_responses.operators import execution_mode
        from airflow_provider_responses.task import payloads
        from airflow_provider_responses.task.escalation_encoding import find_unimportable

        if self._starts_in_triggerer:
            reason = self._started_on_worker_reason or execution_mode.reason_to_start_attempt_on_worker(ti)
            self.log.info("Not started in the triggerer, but deferred from a worker: %s", reason)
        config = self._hook().config
        options = self._send_options()
        prepared, _ = request.prepare(config, options)
        larger = request.prepare_larger(config, options)
        prepared.to_bytes()  # raises here, and not in the triggerer
        if self._spending is not None:
            self._spending.read_prices(prepared, config.for_call(options), larger)
            if (refusal := self._spending.refusal(ledger)) is not None:
                raise refusal
        seconds, left = self._call_timeout(options, config), None
        if not AIRFLOW_V_3_0_PLUS and (left := self._seconds_left()) is not None:
            # Airflow ends the deferral with its own timeout, and no worker would read the response.
            seconds = min(seconds, left - execution_mode.RESUME_SECONDS)
        end_reason = execution_mode.reason_to_end_on_worker(self, ResponsesOperator)
        is_for_worker = self._spending is not None or self._loop is not None
        if request.escalations:
            worker_decides = is_for_worker or find_unimportable(request.escalations) is not None
            request = replace(request, worker_decides=worker_decides)
        wait, now = min_deferral(), time.time()
        arguments = payloads.DeferredArguments(
            conn_id=self.conn_id,
            task_request=request,
            # Only a worker can check the limits before it sends the request again, and run tools.
            output_type_path=None if is_for_worker else encode_type(request.output_type),
            options=options,
            do_xcom_push=self.do_xcom_push,
            spent=ledger.spent,
            escalated=ledger.escalated,
            deadline=now + seconds,
            not_before=now + wait,
            ends_task=end_reason is None,
            # From 3.3 on, a retry policy delays the next attempt.
            waits_for_retry_after=not AIRFLOW_V_3_3_PLUS and left is None and ti.try_number <= ti.max_tries,
            deferred_at=now,
            trace_context=telemetry.trace_context(ti),
        )
        decision = execution_mode.decide(
            arguments, max_bytes=max_trigger_bytes(), end_reason=end_reason, seconds_left=left
        )
        self.log.log(decision.log_level, "%s", decision.log_line(wait))
        if decision.mode is execution_mode.ExecutionMode.WORKER:
            return None
        from airflow_provider_responses.triggers.responses import ResponsesTrigger

        return ResponsesTrigger(**arguments.to_kwargs())

    def _reason_to_start_on_worker(self) -> str | None:
        from airflow_provider_responses.operators import execution_mode

        try:
            max_bytes = max_trigger_bytes()
        except ConfigurationError as error:
            return str(error)
        return execution_mode.reason_to_start_on_worker(self, ResponsesOperator, max_bytes=max_bytes)

    def _start_trigger_args(self) -> Any:
        if not self._starts_in_triggerer or self._reason_to_start_on_worker():
            return None
        from airflow.triggers.base import StartTriggerArgs

        from airflow_provider_responses.task import payloads
        from airflow_provider_responses.triggers.responses import START_TIMEOUT, ResponsesStartTrigger

        return StartTriggerArgs(
            trigger_cls=f"{ResponsesStartTrigger.__module__}.{ResponsesStartTrigger.__qualname__}",
            trigger_kwargs=payloads.StartArguments.of(self).to_kwargs(),
            next_method="execute_complete",
            timeout=START_TIMEOUT,
        )

    def _call_timeout(self, options: RequestOptions, config: ClientConfig) -> float:
        """Return the seconds that the call may take, all its sends together."""
        timeout = options.timeout or config.timeout
        left = self._seconds_left()
        return timeout if left is None else min(timeout, left)

    def _seconds_left(self) -> float | None:
        """Return the seconds in which the call must end before ``execution_timeout``; None if there is none."""
        if self.execution_timeout is None or self._started_at is None:
            return None
        return call_timeout(self.execution_timeout.total_seconds() - (time.monotonic() - self._started_at))
