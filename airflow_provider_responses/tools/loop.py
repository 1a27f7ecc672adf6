"""
The loop of a task with tools: a request, the calls that its response requests, the next request with their results.

No I/O but that of the tools and of the store. The caller sends the requests, on a worker or in the triggerer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_responses.exceptions import ResponsesError, ToolError
from airflow_provider_responses.tools.calls import (
    FATAL,
    Call,
    CallResult,
    FatalToolError,
    Job,
    calls_in,
    prepare_call,
    response_items,
    run_together,
)
from airflow_provider_responses.tools.usage import unknown_step
from airflow_provider_responses.validation import show_exception

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response
    from airflow_provider_responses.task.request import TaskRequest
    from airflow_provider_responses.tools.records import Records
    from airflow_provider_responses.tools.toolbox import Toolbox

MAX_STEPS: Final = 10
SEPARATOR: Final = "/"  # between a task's idempotency key and the number of a step


@dataclass(kw_only=True)
class ToolLoop:
    """
    The loop of one attempt.

    :param max_steps: the largest number of requests, those for larger models included.
    :param fatal: errors of tools that end the task; the model gets all others.
    :param on_interrupted: whether a call that was started by an earlier attempt, and whose end is not recorded, fails
        the task or is repeated.
    :param in_threads: whether synchronous functions of one response run in threads.
    :param redact: removes secrets from the text of a tool's error, which the model gets.
    :param steps: the usage of each step that has ended, oldest first; see ``task.xcom.Step``.
    :param fields: of the next request; None before the first one.
    :param began_at: when the loop began, in seconds since the epoch.
    """

    toolbox: Toolbox
    records: Records
    max_steps: int = MAX_STEPS
    fatal: tuple[type[BaseException], ...] = ()
    on_interrupted: Literal["fail", "repeat"] = "fail"
    in_threads: bool = True
    redact: Callable[[str], str] = str
    steps: list[dict[str, Any]] = field(default_factory=list)
    fields: dict[str, Any] | None = None
    began_at: float = 0.0
    _added: list[Any] = field(default_factory=list, repr=False)  # to the input of the task

    def next_request(self, request: TaskRequest, seconds_left: Callable[[], float | None]) -> TaskRequest:
        """
        Return the request of the next step. Before the first one, steps of earlier attempts are taken over.

        :param request: of the task.
        :raises ToolError: if a call of an earlier attempt was interrupted, or if there may be no next step.
        """
        if self.fields is None:
            self.fields = dict(request.fields)
            self._take_over(seconds_left)
        return self.as_step(request)

    def as_step(self, request: TaskRequest) -> TaskRequest:
        """Return the task's request as that of the current step."""
        key = request.idempotency_key
        return replace(
            request,
            fields=request.fields if self.fields is None else self.fields,
            idempotency_key=None if key is None else f"{key}{SEPARATOR}{len(self.steps) + 1}",
            runs_tools=True,
            input_with_paths=None
            if request.input_with_paths is None
            else [*_items_of(request.input_with_paths), *self._added],
        )

    def recorded_steps(self, number: int) -> list[dict[str, Any]]:
        """Return the usage of the first steps, as far as it is recorded; the values of others are unknown."""
        steps = []
        for step in range(1, number + 1):
            record = self.records.step(step)
            if record is None:
                steps.append(unknown_step())
                continue
            calls = calls_in(record["items"])
            found = [self.records.result(step, call) for call in calls]
            results = [result if isinstance(result, CallResult) else None for result in found]
            steps.append({**record["usage"], "calls": [*map(_call_usage, calls, results)]})
        return steps

    def finish_step(self, response: Response, usage: dict[str, Any], seconds_left: Callable[[], float | None]) -> None:
        """
        Run the calls of a response, whose results go into the next request.

        :param usage: of the step.
        :raises ToolError: if a tool fails with a fatal error, or if there may be no next step; see ``max_steps``.
        """
        self.steps.append(usage)
        items = response_items(response)
        calls = calls_in(items)
        usage["calls"] = [_call_usage(call, None) for call in calls]
        self._check_steps(calls)
        self.records.set_step(len(self.steps), items, usage)
        self._run(items, {}, seconds_left)

    def _take_over(self, seconds_left: Callable[[], float | None]) -> None:
        """Continue after the steps that earlier attempts have recorded; nothing of them is sent or called again."""
        while (record := self.records.step(len(self.steps) + 1)) is not None:
            self.steps.append({**record["usage"], "cost_this_attempt": 0.0})
            calls = calls_in(record["items"])
            self._check_steps(calls)
            known = {call.position: self.records.result(len(self.steps), call) for call in calls}
            self._run(record["items"], known, seconds_left)

    def _run(
        self,
        items: Sequence[Mapping[str, Any]],
        known: Mapping[int, CallResult | str | None],
        seconds_left: Callable[[], float | None],
    ) -> None:
        """
        Run the calls of a step and extend the input by its items and their results.

        :param known: the records of an earlier attempt by the position of the call; None without a record.
        """
        step, calls = len(self.steps), calls_in(items)
        results: dict[int, CallResult] = {}
        jobs: list[Job] = []
        for call in calls:
            if isinstance(found := known.get(call.position), CallResult):
                results[call.position] = found
                continue
            key = self.records.idempotency_key(step, call)
            prepared = prepare_call(call, self.toolbox.functions, key, self.redact)
            if isinstance(prepared, CallResult):
                results[call.position] = prepared
                continue
            if call.position in known and found != FATAL:
                self._check_interrupted(prepared, step)
            jobs.append(prepared)
        for job in jobs:
            if known.get(job.call.position) == FATAL:  # else a kill would leave the record of the earlier run
                self.records.set_started(step, job.call)
        fatal = self._run_jobs(jobs, results, seconds_left)
        self.steps[-1]["calls"] = [_call_usage(call, results.get(call.position)) for call in calls]
        if fatal is not None:
            raise _fatal_error(fatal, step) from fatal.__cause__
        outputs = [results[call.position].to_item(call) for call in calls]
        given = (self.fields or {}).get("input")
        self.fields = {**(self.fields or {}), "input": [*_items_of(given), *items, *outputs]}
        self._added += [*items, *outputs]
        if _is_forced(self.fields.get("tool_choice")):  # else every response would be a call
            self.fields.pop("tool_choice")

    def _run_jobs(
        self, jobs: Sequence[Job], results: dict[int, CallResult], seconds_left: Callable[[], float | None]
    ) -> FatalToolError | None:
        """Run calls, record and return their results; return the first fatal error."""
        fatal: list[FatalToolError] = []

        def end(job: Job, ended: CallResult | FatalToolError) -> None:
            if isinstance(ended, FatalToolError):
                fatal.append(ended)
                self.records.set_result(len(self.steps), job.call, None)
            else:
                self.records.set_result(len(self.steps), job.call, ended)
                results[job.call.position] = ended

        run_together(jobs, fatal=self.fatal, on_end=end, seconds_left=seconds_left(), in_threads=self.in_threads)
        return fatal[0] if fatal else None

    def _check_interrupted(self, job: Job, step: int) -> None:
        if (job.tool.on_interrupted or self.on_interrupted) == "fail":
            raise ToolError(
                f"tool {job.call.name} was interrupted in step {step}: an earlier attempt ended while it ran, and its "
                "result is not recorded. Find out whether it took effect, and clear the task to begin again; or set "
                "on_interrupted_tool='repeat' if the call may be repeated",
                tool=job.call.name,
                reason="interrupted",
            )

    def _check_steps(self, calls: Sequence[Call]) -> None:
        if sum(map(_requests_of, self.steps)) >= self.max_steps:
            name = calls[0].name if calls else None
            before = sum(call["name"] == name for step in self.steps for call in step.get("calls", ()))
            raise ToolError(
                f"max_steps of {self.max_steps} is reached, and the model still calls {name} (call {before} of it). "
                "The last calls were not run. Raise max_steps, or describe in `instructions` when to stop",
                tool=name,
                reason="max_steps",
            )


def split_key(idempotency_key: str | None) -> tuple[str | None, int]:
    """Return the task's idempotency key and the number of the step, of the key of a step's request."""
    key, _, step = (idempotency_key or "").partition(SEPARATOR)
    return key or None, int(step) if step.isdecimal() else 1


def _items_of(given: Any) -> list[Any]:
    """Return an input as a list of items."""
    if given is None:
        return []
    return [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else list(given)


def _is_forced(tool_choice: Any) -> bool:
    mode = tool_choice.get("mode", "required") if isinstance(tool_choice, Mapping) else tool_choice
    return bool(mode == "required")


def _requests_of(step: Mapping[str, Any]) -> int:
    """Return the number of requests of a step: one, and one for each larger model that got it."""
    return 1 + sum("escalated_to" in send for send in step.get("sends", ()))


def _call_usage(call: Call, result: CallResult | None) -> dict[str, Any]:
    seconds = None if result is None or result.seconds is None else round(result.seconds, 3)
    return {"name": call.name, "status": None if result is None else result.status, "seconds": seconds}


def _fatal_error(fatal: FatalToolError, step: int) -> ToolError:
    cause = fatal.__cause__
    shown = "an error" if cause is None else show_exception(cause)
    retryable = cause.retryable if isinstance(cause, ResponsesError) else True
    advice = "A retry calls it again, after the recorded steps" if retryable else "A retry would fail in the same way"
    return ToolError(
        f"tool {fatal.call.name} failed in step {step}: {shown}. {advice}",
        tool=fatal.call.name,
        reason="fatal",
        retryable=retryable,
    )
