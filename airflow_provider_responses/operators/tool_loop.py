"""The part of ``ResponsesOperator`` that runs Python functions as tools of a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_2_PLUS

from airflow_provider_responses.exceptions import (
    ConfigurationError,
    RequestValidationError,
    ResponsesError,
    ToolError,
)
from airflow_provider_responses.hooks import telemetry
from airflow_provider_responses.operators.base import BaseResponsesOperator
from airflow_provider_responses.operators.budget import shares_budget
from airflow_provider_responses.task.attempt import log_line
from airflow_provider_responses.task.conversation import make_session_id, with_reasoning
from airflow_provider_responses.task.cost import CostLedger, paid_generation
from airflow_provider_responses.task.fingerprint import prompt_fingerprint
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.request import TaskRequest
from airflow_provider_responses.task.xcom import USAGE_KEY
from airflow_provider_responses.validation import check_choice, check_number, wrong_value

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_responses.client import ResponsesClient
    from airflow_provider_responses.client.config import RequestOptions
    from airflow_provider_responses.hooks.responses import ResponsesHook
    from airflow_provider_responses.task.arguments import Arguments
    from airflow_provider_responses.tools.loop import ToolLoop
    from airflow_provider_responses.tools.toolbox import Toolbox

__all__ = ["ToolLoopOperator"]

MAX_STEPS: Final = 10
MOST_STEPS: Final = 100
# In 3.0 and 3.1, a task's process has one connection to its supervisor, and no lock for it.
THREADS_MAY_USE_AIRFLOW: Final = AIRFLOW_V_3_2_PLUS or not AIRFLOW_V_3_0_PLUS
NEXT_STEP: Final = object()  # instead of a task's value: its tools have run, and the next request follows
# Exceptions that have a meaning in Airflow, and end the task.
CONTROL_FLOW: Final = (AirflowFailException, AirflowSkipException)


class ToolLoopOperator(BaseResponsesOperator):
    """
    An operator whose model may call Python functions.

    :param tools: functions and ``Tool`` objects, which the task calls, and dicts, which are sent as they are.
    :param max_steps: the largest number of requests of an attempt, and of those that it continues; 1 to 100.
    :param fatal_tool_errors: exceptions of tools that end the attempt; the model gets all others as a result.
    :param on_interrupted_tool: ``fail`` or ``repeat`` a call that an earlier attempt has started, and whose result is
        not recorded, since the worker was killed.
    """

    def __init__(
        self,
        *,
        tools: Sequence[Any] | None = None,
        max_steps: int = MAX_STEPS,
        fatal_tool_errors: Sequence[type[Exception]] = (),
        on_interrupted_tool: Literal["fail", "repeat"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tools = tools
        self.max_steps = max_steps
        self.fatal_tool_errors = fatal_tool_errors
        self.on_interrupted_tool = on_interrupted_tool
        self._toolbox: Toolbox | None = None
        self._loop: ToolLoop | None = None
        self._loop_ledger: CostLedger | None = None
        self._loop_hook: ResponsesHook | None = None
        self._loop_request: TaskRequest | None = None  # the task's, of which each step has a copy
        self._loop_fingerprint: str | None = None  # of the first request
        self._loop_client: ResponsesClient | None = None
        self._loop_stack: ExitStack | None = None
        self._started_at: float | None = None  # on the monotonic clock

    @classmethod
    def check_mapped(cls, arguments: Mapping[str, Any]) -> None:
        super().check_mapped(arguments)
        check_tool_arguments(arguments)

    def _check(self, *, rendered: bool = False) -> None:
        if self._toolbox is None:
            names = ("tools", "max_steps", "fatal_tool_errors", "on_interrupted_tool")
            self._toolbox = check_tool_arguments({name: getattr(self, name) for name in names})
        super()._check(rendered=rendered)

    def _arguments(self) -> Arguments:
        arguments = super()._arguments()
        if self._toolbox is None or not isinstance(arguments.request or {}, Mapping):
            return arguments
        request = dict(arguments.request or {})
        _check_given_once(request)
        return replace(arguments, request={**request, "tools": self._toolbox.definitions})

    def _begin_loop(self, context: Context, idempotency_key: str | None) -> None:
        """Begin the loop of an attempt, if there are functions to call."""
        self._loop = self._loop_ledger = self._loop_hook = self._loop_request = self._loop_fingerprint = None
        if self._toolbox is None or not self._toolbox.functions:
            return
        from airflow.providers.common.compat.sdk import redact

        from airflow_provider_responses.tools.loop import ToolLoop
        from airflow_provider_responses.tools.records import Records

        store = context.get("task_state_store")  # Airflow 3.3 and later; survives retries
        if store is None and context["ti"].try_number > 1:
            self.log.warning("Tools are called again: Airflow before 3.3 does not store results of earlier attempts")
        self._loop = ToolLoop(
            toolbox=self._toolbox,
            records=Records(store, str(idempotency_key)),
            max_steps=self.max_steps,
            # No model can correct a connection.
            fatal=(*self.fatal_tool_errors, *CONTROL_FLOW, ConfigurationError),
            on_interrupted=self.on_interrupted_tool,
            in_threads=THREADS_MAY_USE_AIRFLOW,
            redact=lambda text: str(redact(text)),
            began_at=time.time(),
        )

    def _resume_loop(
        self, context: Context, event: Any, idempotency_key: str | None, deferred: Mapping[str, Any] | None
    ) -> str | None:
        """
        Continue the loop after a request that the triggerer has sent; return the task's idempotency key.

        :param idempotency_key: of the request.
        :param deferred: see :meth:`_deferred_loop`; None in ``dag.test()``.
        """
        from airflow_provider_responses.task import payloads
        from airflow_provider_responses.tools.loop import split_key

        key, step = split_key(idempotency_key)
        deferred = deferred or self._deferred_loop() or {}
        self._begin_loop(context, key)
        if self._loop is None:
            return key
        steps = list(deferred.get("steps", ()))
        self._loop.steps = steps if len(steps) == step - 1 else self._loop.recorded_steps(step - 1)
        self._loop.began_at = deferred.get("began_at", self._loop.began_at)
        self._loop_fingerprint = deferred.get("prompt_fingerprint")
        self._loop.fields = payloads.read_fields(event)
        if AIRFLOW_V_3_0_PLUS:
            # The time limit of a task is that of the whole loop.
            self._started_at = time.monotonic() - max(0.0, time.time() - self._loop.began_at)
        if context.get("task_state_store") is None:
            complete = context["ti"].try_number == 1
            self._loop_ledger = CostLedger(
                dict(deferred.get("spent", {})),
                complete=complete,
                tier=deferred.get("tier", 0),
                escalated=deferred.get("escalated", 0),
            )
        return key

    def _deferred_loop(self) -> dict[str, Any] | None:
        """Return the state of the loop for the worker that resumes a deferred task; None without a loop."""
        if self._loop is None:
            return None
        ledger = self._loop_ledger or CostLedger()
        return {
            "steps": self._loop.steps,
            "began_at": self._loop.began_at,
            "spent": dict(ledger.spent),
            "tier": ledger.tier,
            "escalated": ledger.escalated,
            "prompt_fingerprint": self._loop_fingerprint,
        }

    def _next_step(self, request: TaskRequest) -> TaskRequest:
        """Return the request of the next step; without a loop, the task's request."""
        if self._loop is None:
            return request
        self._loop_request = request
        if self._loop_fingerprint is None:
            self._loop_fingerprint = prompt_fingerprint(request)
        return self._loop.next_request(self._with_reasoning(request), self._seconds_left)

    def _as_step(self, request: TaskRequest) -> TaskRequest:
        """Return the request of the current step; without a loop, the task's request."""
        if self._loop is None:
            return request
        return self._loop.as_step(request if self._loop.fields is not None else self._with_reasoning(request))

    def _with_reasoning(self, request: TaskRequest) -> TaskRequest:
        """Return the request of the task so that the next step contains the encrypted reasoning of this one."""
        if not self._hook().config.is_openrouter:
            return request
        session_id = make_session_id(request.idempotency_key)
        return replace(request, fields=with_reasoning(request.fields, session_id=session_id))

    def _run_steps(self, context: Context, first: Callable[[], Any]) -> Any:
        """
        Return the value of the task.

        :param first: returns it, or ``NEXT_STEP`` if another request follows.
        """
        with ExitStack() as stack:
            self._loop_stack = stack
            stack.callback(self._forget_client)
            value = first()
            while value is NEXT_STEP:
                value = self._send_or_defer(context)
            return value

    def _forget_client(self) -> None:
        self._loop_client = self._loop_stack = None

    @contextmanager
    def _open_client(self, hook: ResponsesHook, options: RequestOptions) -> Iterator[ResponsesClient]:
        """Return a client with connections of its own; the requests of a loop share one."""
        if self._loop is None or self._loop_stack is None:
            with hook.get_conn(options=options, own_connections=True) as client:
                yield client
            return
        if self._loop_client is None:
            self._loop_client = self._loop_stack.enter_context(hook.get_conn(options=options, own_connections=True))
        yield self._loop_client

    def _finish_step(
        self, context: Context, idempotency_key: str | None, ledger: CostLedger, outcome: Outcome
    ) -> Outcome | None:
        """Run the calls of a response. Return None if the next request follows, else how the attempt ends."""
        loop, response = self._loop, outcome.response
        if loop is None or outcome.error is not None or outcome.accepted is not None or response is None:
            return outcome
        if response.status == "incomplete" or not response.function_calls:
            return outcome
        usage = self._report_step(context, idempotency_key, ledger, outcome)
        try:
            loop.finish_step(response, usage, self._seconds_left)
        except ToolError as error:
            return Outcome(error=error)
        return None

    def _report_step(
        self, context: Context, idempotency_key: str | None, ledger: CostLedger, outcome: Outcome
    ) -> dict[str, Any]:
        """Store, log and emit the cost of a step, and return its usage."""
        from airflow_provider_responses.tools.usage import step_usage

        response = outcome.response
        assert self._loop is not None  # noqa: S101  for the type checker
        assert response is not None  # noqa: S101  for the type checker
        ambiguous, was_known = ledger.ambiguous, paid_generation(response) in ledger.spent
        usage = ledger.usage(outcome)
        ledger.note_ambiguous(outcome)
        if was_known:  # a cached response of an earlier step: not that of the send which was in flight
            ledger.ambiguous = ambiguous
        self._loop_ledger = ledger
        self._store_spent(context, idempotency_key, ledger)
        self._push_running(context, {**usage, "status": "in_progress"}, outcome)
        step = step_usage(usage, outcome)
        names = ";".join(str(call.get("name")) for call in response.function_calls)
        line = log_line(response, {**usage, "cost": step["cost"]})
        self.log.info("Step %d: %s calls=%s", len(self._loop.steps) + 1, line, names)
        telemetry.emit_request(usage, outcome, context["ti"])
        return step

    def _with_steps(self, usage: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
        """Return the ``usage`` of the whole loop; without a loop, that of the request."""
        if self._loop is None:
            return usage
        from airflow_provider_responses.tools.usage import sum_steps

        return sum_steps(usage, self._loop.steps, outcome)

    def _push_running(self, context: Context, usage: dict[str, Any], outcome: Outcome) -> None:
        """Push the cost so far, if a task of the DAG has a budget, which counts it."""
        if not self.do_xcom_push or not shares_budget(self):
            return
        context["ti"].xcom_push(key=USAGE_KEY, value=self._with_steps(usage, outcome))

    def _fail(self, error: ResponsesError) -> NoReturn:
        cause = error.__cause__
        if isinstance(error, ToolError) and isinstance(cause, CONTROL_FLOW):
            raise cause
        super()._fail(error)

    # Of the subclass

    def _hook(self) -> ResponsesHook:
        raise NotImplementedError

    def _send_or_defer(self, context: Context) -> Any:
        raise NotImplementedError

    def _seconds_left(self) -> float | None:
        raise NotImplementedError

    def _store_spent(
        self, context: Context, idempotency_key: str | None, ledger: CostLedger, *, in_flight: int = 0
    ) -> None:
        raise NotImplementedError


def has_functions(tools: Any) -> bool:
    """Return whether the argument ``tools`` has functions, which the task calls."""
    return isinstance(tools, Sequence) and any(not isinstance(it, Mapping) for it in tools)


def check_tool_arguments(arguments: Mapping[str, Any]) -> Toolbox | None:
    """
    Refuse wrong arguments; return the tools, None if there are none.

    :raises RequestValidationError: naming the argument.
    """
    check_number("max_steps", arguments.get("max_steps", MAX_STEPS), whole=True, at_least=1, at_most=MOST_STEPS)
    check_choice("on_interrupted_tool", arguments.get("on_interrupted_tool", "fail"), ("fail", "repeat"))
    fatal = arguments.get("fatal_tool_errors", ())
    is_list = isinstance(fatal, Sequence) and not isinstance(fatal, str)
    if not is_list or not all(isinstance(it, type) and issubclass(it, Exception) for it in fatal):
        raise wrong_value("fatal_tool_errors", "a list of exception classes", fatal)
    if arguments.get("tools") is None:
        return None
    from airflow_provider_responses.tools.toolbox import Toolbox

    _check_given_once(arguments.get("request"))
    return Toolbox(arguments["tools"])


def _check_given_once(request: Any) -> None:
    if isinstance(request, Mapping) and "tools" in request:
        raise RequestValidationError(
            "tools is given twice, as an argument and in `request`: remove one", fields=("tools",)
        )
