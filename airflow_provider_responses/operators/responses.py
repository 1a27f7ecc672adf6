"""One request as one task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from airflow.providers.common.compat.sdk import conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import ConfigurationError, OutputValidationError, ResponsesError
from airflow_provider_responses.operators import execution_mode
from airflow_provider_responses.operators.base import BaseResponsesOperator
from airflow_provider_responses.operators.configuration import max_trigger_bytes, min_deferral
from airflow_provider_responses.operators.execution_mode import ExecutionMode
from airflow_provider_responses.task import payloads
from airflow_provider_responses.task.arguments import TEMPLATE_FIELDS, check_multiple_outputs
from airflow_provider_responses.task.attempt import Exchange, call_timeout, log_line
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.idempotency import clearing_id, idempotency_key_of
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.price_lookup import look_up_generations
from airflow_provider_responses.task.request import TaskRequest
from airflow_provider_responses.task.xcom import USAGE_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_responses.client import ResponsesClient
    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.hooks.responses import ResponsesHook

__all__ = ["ResponsesOperator"]

SPENT_KEY: Final = "airflow_provider_responses.spent"


class _InTriggerer:
    """
    A start without a worker, as Airflow asks for it: of a task when its DAG is stored, and nothing of the class.

    :param give: gives what it is for a task.
    :param default: what it is for the class, so that mapped tasks start on a worker.
    """

    def __init__(self, give: Callable[[Any], Any], default: Any) -> None:
        self.give = give
        self.default = default

    def __get__(self, task: Any, owner: type) -> Any:
        return self.default if task is None else self.give(task)


class ResponsesOperator(BaseResponsesOperator):
    """
    Send one Responses API request; push the response, and ``usage``, to XCom.

    XCom: ``return_value`` (the text, the typed output, or the whole response) and ``usage`` (tokens, cost in US
    dollars, sends, status, model and ids; see ``task.xcom.UsageXCom``), also of an attempt that failed.

    :param input: the prompt: a text, or a list of input items.
    :param stream: whether the response is streamed. By default it is on a worker, since the cost of a stream stops when
        its connection is dropped, and is not in the triggerer, so that a response is made even if the triggerer dies.
    :param deferrable: whether the call waits in the triggerer and holds no worker; by default what
        ``[operators] default_deferrable`` says.
    :param start_from_trigger: whether the task starts and ends in the triggerer and never takes a worker, where
        Airflow (3.3.1) and the task allow it; otherwise it defers from a worker, and the log says why.

    Other arguments: see :class:`BaseResponsesOperator` and Airflow's ``BaseOperator``.
    """

    template_fields: Sequence[str] = TEMPLATE_FIELDS
    template_fields_renderers: ClassVar[dict[str, str]] = {"request": "json", "options": "json"}
    ui_color = "#eef0ff"
    never_starts_in_triggerer: ClassVar[str | None] = None
    start_from_trigger: Any = _InTriggerer(lambda task: task.start_trigger_args is not None, default=False)
    start_trigger_args: Any = _InTriggerer(lambda task: task._start_trigger_args(), default=None)

    def __init__(
        self,
        *,
        input: str | Sequence[Any] | None = None,
        stream: bool | None = None,
        deferrable: bool | None = None,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        self._starts_in_triggerer = False  # Airflow asks while the arguments are being taken
        super().__init__(**kwargs)
        self.input = input
        self.stream = stream
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable or start_from_trigger
        self._client: ResponsesClient | None = None
        self._killed = False
        self._started: float | None = None
        self._began: float | None = None  # set by what runs before the request, within the task's time
        self._why_on_worker: str | None = None
        with self._refusing():
            self._check()
            self._starts_in_triggerer = start_from_trigger

    @classmethod
    def check_given(cls, given: Mapping[str, Any]) -> None:
        super().check_given(given)
        if given.get("multiple_outputs"):
            check_multiple_outputs(cls._arguments_from(given))

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render; what a start in the triggerer would have had to render is looked at before."""
        if self._starts_in_triggerer:
            self._why_on_worker = self._reason_to_start_on_worker()
        super().render_template_fields(context, jinja_env)

    def execute(self, context: Context) -> Any:
        """Validate, send, push; see the class."""
        self._started, self._began = self._began or time.monotonic(), None
        return self._perform(context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Take what came of the request in the triggerer."""
        self._started = time.monotonic()
        if not AIRFLOW_V_3_0_PLUS and context["ti"].start_date is not None:
            self._started -= time.time() - context["ti"].start_date.timestamp()
        if payloads.is_unsent(event):
            return self._perform(context)
        idempotency_key, ledger = None, CostLedger(complete=False)
        try:
            sent, idempotency_key = payloads.read_event(event)
            ledger = self._ledger(context, idempotency_key)
            outcome = self._complete(event, idempotency_key, ledger, sent)
        except ResponsesError as error:
            outcome = Outcome(error=error)
        self._report(context, idempotency_key, ledger, outcome)
        return self._value(outcome)

    def on_kill(self) -> None:
        """Mark the call as cancelled, then drop its connection: the answer stops, and no try follows."""
        self._killed = True
        if self._client is not None:
            self._client.cancel()

    def _idempotency_key(self, context: Context) -> str:
        return idempotency_key_of(context["ti"], clearing_id=clearing_id(context["ti"], self.retries))

    def _perform(self, context: Context) -> Any:
        """Send the request, or defer until the triggerer has."""
        idempotency_key = self._idempotency_key(context)
        ledger = self._ledger(context, idempotency_key)
        trigger = None
        try:
            self._check(rendered=True)
            run = self._run(idempotency_key)
            trigger = self._trigger(context["ti"], run, ledger) if self.deferrable else None
            outcome = self._ask(run, ledger) if trigger is None else Outcome()
        except ResponsesError as error:
            outcome = Outcome(error=error)
        if trigger is not None:
            self.defer(trigger=trigger, method_name="execute_complete")
        self._report(context, idempotency_key, ledger, outcome)
        return self._value(outcome)

    def _check(self, *, rendered: bool = False) -> None:
        super()._check(rendered=rendered)
        if self.multiple_outputs:
            check_multiple_outputs(self._arguments(), rendered=rendered)

    def _run(self, idempotency_key: str | None) -> TaskRequest:
        return self._arguments().to_task_request(idempotency_key=idempotency_key, stream=not self.deferrable)

    def _hook(self) -> ResponsesHook:
        from airflow_provider_responses.hooks.responses import ResponsesHook

        return ResponsesHook(self.conn_id)

    def _ask(self, run: TaskRequest, ledger: CostLedger, read: Outcome | None = None) -> Outcome:
        """
        Send the request until there is an outcome.

        :param read: an answer that is here already, and will not do.
        """
        hook = self._hook()
        request, options = run.prepare(hook.config, RequestOptions.parse(self.options))
        ends_at = time.monotonic() + self._seconds(options, hook.config)
        exchange = Exchange(run, options)
        outcome = exchange.receive(read.response) if read and read.response else None
        with hook.get_conn(options=options, own_connections=True) as client:
            self._client = client
            if self._killed:  # on_kill came before there was a client to tell
                client.cancel()
            while outcome is None:
                left = max(ends_at - time.monotonic(), 0.001)
                try:
                    outcome = exchange.receive(client.send(request, options=exchange.options(left)))
                except ResponsesError as error:
                    outcome = exchange.fail(error)
            known = dict(read.generations) if read else {}
            unknown = ledger.unpriced_generations(outcome.response) if outcome.response else ()
            found = look_up_generations(client, unknown, self._left)
        return replace(outcome, generations=known | found)

    def _complete(
        self, event: Any, idempotency_key: str | None, ledger: CostLedger, outcome: Outcome | None
    ) -> Outcome:
        """Do what is left of a request that the triggerer has sent."""
        self._check(rendered=True)
        run = self._run(idempotency_key)
        if (fields := payloads.read_fields(event)) is not None:
            run = replace(run, fields=fields)
        if outcome is None:
            self.log.info("The response is too large to travel through Airflow's database: fetching the cached one")
            return self._ask(run, ledger)
        return self._read(run, ledger, outcome) if outcome.unparsed else outcome

    def _read(self, run: TaskRequest, ledger: CostLedger, outcome: Outcome) -> Outcome:
        """Read a response as the type whose class only a worker has."""
        assert outcome.response is not None  # noqa: S101  for the type checker
        try:
            return replace(run.read(outcome.response), generations=outcome.generations)
        except OutputValidationError:
            return self._ask(run, ledger, outcome)

    def _report(self, context: Context, idempotency_key: str | None, ledger: CostLedger, outcome: Outcome) -> None:
        """Push ``usage``, whether or not the task then fails."""
        usage = ledger.usage(outcome)
        if outcome.response is not None:
            store = context.get("task_state_store")  # Airflow 3.3 and later; survives retries
            if store is not None:
                store.set(SPENT_KEY, {"idempotency_key": idempotency_key, "spent": dict(ledger.spent)})
            self.log.info("%s", log_line(outcome.response, usage))
        if self.do_xcom_push:
            context["ti"].xcom_push(key=USAGE_KEY, value=usage)

    def _value(self, outcome: Outcome) -> Any:
        """Return the value of an outcome, or fail the task."""
        if outcome.error is not None:
            self._fail(outcome.error)
        if outcome.value == "" and outcome.response is not None:
            calls = len(outcome.response.function_calls)
            self.log.warning('The response holds no text (%d function calls); result="response" gives all of it', calls)
        return outcome.value

    def _refuse(self, context: Context, error: ResponsesError) -> NoReturn:
        """Fail before anything is sent."""
        idempotency_key = self._idempotency_key(context)
        self._report(context, idempotency_key, self._ledger(context, idempotency_key), Outcome(error=error))
        self._fail(error)

    def _ledger(self, context: Context, idempotency_key: str | None) -> CostLedger:
        store = context.get("task_state_store")
        kept: Any = (store.get(SPENT_KEY) if store is not None else None) or {}
        spent = dict(kept["spent"]) if kept and kept.get("idempotency_key") == idempotency_key else {}
        return CostLedger(spent, complete=store is not None or context["ti"].try_number == 1)

    def _trigger(self, ti: Any, run: TaskRequest, ledger: CostLedger) -> BaseTrigger | None:
        """Return the trigger that sends the request, None if the worker sends it; the log states which, and why."""
        if self._starts_in_triggerer:
            reason = self._why_on_worker or execution_mode.reason_to_start_attempt_on_worker(ti)
            self.log.info("Not started in the triggerer, but deferred from a worker: %s", reason)
        config = self._hook().config
        options = RequestOptions.parse(self.options)
        request, _ = run.prepare(config, options)
        request.to_bytes()  # raises here, and not in the triggerer
        seconds, left = self._seconds(options, config), None
        if not AIRFLOW_V_3_0_PLUS and (left := self._left()) is not None:
            # Airflow ends the deferral with its own timeout, and no worker would read the response.
            seconds = min(seconds, left - execution_mode.RESUME_SECONDS)
        end_reason = execution_mode.reason_to_end_on_worker(self, ResponsesOperator)
        wait, now = min_deferral(), time.time()
        arguments = payloads.DeferredArguments(
            conn_id=self.conn_id,
            task_request=run,
            output_type_path=payloads.import_path(run.output_type),
            options=options,
            do_xcom_push=self.do_xcom_push,
            spent=ledger.spent,
            deadline=now + seconds,
            not_before=now + wait,
            ends_task=end_reason is None,
            # From 3.3 on, a retry policy delays the next attempt.
            waits_for_retry_after=not AIRFLOW_V_3_3_PLUS and left is None and ti.try_number <= ti.max_tries,
        )
        decision = execution_mode.decide(
            arguments, max_bytes=max_trigger_bytes(), end_reason=end_reason, seconds_left=left
        )
        self.log.log(decision.log_level, "%s", decision.log_line(wait))
        if decision.mode is ExecutionMode.WORKER:
            return None
        from airflow_provider_responses.triggers.responses import ResponsesTrigger

        return ResponsesTrigger(**arguments.to_kwargs())

    def _reason_to_start_on_worker(self) -> str | None:
        try:
            max_bytes = max_trigger_bytes()
        except ConfigurationError as error:
            return str(error)
        return execution_mode.reason_to_start_on_worker(self, ResponsesOperator, max_bytes=max_bytes)

    def _start_trigger_args(self) -> Any:
        if not self._starts_in_triggerer or self._reason_to_start_on_worker():
            return None
        from airflow.triggers.base import StartTriggerArgs

        from airflow_provider_responses.triggers.responses import START_TIMEOUT, ResponsesStartTrigger

        return StartTriggerArgs(
            trigger_cls=f"{ResponsesStartTrigger.__module__}.{ResponsesStartTrigger.__qualname__}",
            trigger_kwargs=payloads.StartArguments.of(self).to_kwargs(),
            next_method="execute_complete",
            timeout=START_TIMEOUT,
        )

    def _seconds(self, options: RequestOptions, config: ClientConfig) -> float:
        """Give the seconds that the call may take, all its sends together."""
        timeout = options.timeout or config.timeout
        left = self._left()
        return timeout if left is None else min(timeout, left)

    def _left(self) -> float | None:
        """Give the seconds until the call must have ended for Airflow not to end the task, if it will."""
        if self.execution_timeout is None or self._started is None:
            return None
        return call_timeout(self.execution_timeout.total_seconds() - (time.monotonic() - self._started))
