"""The calls of one response: their arguments are read, and their functions run together."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_responses.exceptions import ToolError
from airflow_provider_responses.models.messages import text_of
from airflow_provider_responses.task.texts import storable
from airflow_provider_responses.tools.function_tool import ArgumentsError, Tool, error_text, result_text

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response

Status = Literal["succeeded", "failed", "unknown_tool", "invalid_arguments"]
FATAL: Final = "fatal"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """
    A call that a model requests.

    :param position: among the calls of its response, from 0.
    :param arguments: as the model has sent them: JSON text.
    """

    position: int
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class CallResult:
    """
    The end of a call.

    :param output: the text that the model gets.
    :param seconds: that the function ran; None if it did not run in this attempt.
    """

    output: str
    status: Status
    seconds: float | None = None

    def to_item(self, call: Call) -> dict[str, Any]:
        """Return the item of the next request's input."""
        return {"type": "function_call_output", "call_id": call.call_id, "output": self.output}


@dataclass(frozen=True)
class Job:
    """
    A call whose arguments are valid.

    :param redact: removes secrets from the text of an error.
    """

    call: Call
    tool: Tool
    arguments: Mapping[str, Any]
    idempotency_key: str
    redact: Callable[[str], str] = str

    def run(self) -> Any:
        """Call the function; return its result, or a coroutine."""
        return self.tool.call(self.arguments, self.idempotency_key)


class FatalToolError(Exception):
    """The error of a tool that ends the task; ``__cause__`` is the tool's own."""

    def __init__(self, call: Call) -> None:
        super().__init__(call.name)
        self.call = call


def response_items(response: Response) -> list[dict[str, Any]]:
    """
    Return a response as items of the next request's input, as they can be stored; no two calls have one ``call_id``.

    Calls with one item id and different ``call_id`` are different calls: a later one gets an id of its own. Of several
    calls with one ``call_id``, the last one counts.
    """
    output = _with_own_ids(response.output)
    if output != response.output:
        response = type(response)(raw={**response.raw, "output": output})
    found: dict[Any, dict[str, Any]] = {}
    for position, item in enumerate(storable(response.to_input())):
        key = item["call_id"] if item["type"] == "function_call" else position
        if key in found:
            log.warning("Two calls of the response have the call_id %s: only the last one runs", key)
        found[key] = item
    return list(found.values())


def _with_own_ids(output: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return items in which calls with one id, but different ``call_id``, have ids of their own."""
    owners: dict[str, str] = {}
    items: list[Mapping[str, Any]] = []
    for item in output:
        is_call = item.get("type") == "function_call"
        name, call_id = text_of(item.get("id")), text_of(item.get("call_id"))
        if is_call and name and call_id and owners.setdefault(name, call_id) != call_id:
            digest = hashlib.sha256(f"{name}/{call_id}".encode(errors="surrogatepass")).hexdigest()[:24]
            item = {**item, "id": f"fc_{digest}"}  # noqa: PLW2901
        items.append(item)
    return items


def calls_in(items: Sequence[Mapping[str, Any]]) -> list[Call]:
    """Return the calls among the items of a response, in their order."""
    found = [item for item in items if item.get("type") == "function_call"]
    return [
        Call(position, str(item["call_id"]), str(item["name"]), str(item["arguments"]))
        for position, item in enumerate(found)
    ]


def prepare_call(
    call: Call, functions: Mapping[str, Tool], idempotency_key: str, redact: Callable[[str], str] = str
) -> Job | CallResult:
    """Return a call that can run, or the result of one that cannot: an unknown tool, or invalid arguments."""
    tool = functions.get(call.name)
    if tool is None:
        names = ", ".join(functions)
        return CallResult(f"Error: there is no tool {call.name!r}. The tools are: {names}", "unknown_tool")
    try:
        return Job(call, tool, tool.read_arguments(call.arguments), idempotency_key, redact)
    except ArgumentsError as error:  # its text may be that of a validator of the user's
        text = storable(redact(f"Error: invalid arguments of {call.name}: {error}"))
        return CallResult(text, "invalid_arguments")


def run_together(
    jobs: Sequence[Job],
    *,
    fatal: tuple[type[BaseException], ...],
    on_end: Callable[[Job, CallResult | FatalToolError], None],
    seconds_left: float | None,
    in_threads: bool = True,
) -> None:
    """
    Run the functions of calls at the same time.

    A single synchronous one runs in this thread, where a signal can interrupt it.

    :param fatal: errors that end the task.
    :param on_end: is called in this thread: as soon as a single call, or all of several, have ended. It is called for
        each of them, also if it raises for another one.
    :param seconds_left: within which all must end.
    :param in_threads: whether synchronous functions run in threads; otherwise one after another in this one.
    :raises ToolError: if they do not. A thread cannot be stopped, and its result is lost.
    """
    if len(jobs) == 1 and not jobs[0].tool.is_async:
        (job,) = jobs
        ended = _run(job, fatal)
        if not isinstance(ended, _Started):
            on_end(job, ended)
            return
        _run_loop([(job, ended)], fatal, on_end, seconds_left, in_threads=in_threads)
    elif jobs:
        _run_loop([(job, None) for job in jobs], fatal, on_end, seconds_left, in_threads=in_threads)


@dataclass(frozen=True)
class _Started:
    """A function that has returned an awaitable."""

    awaitable: Any
    began: float


def _run_loop(
    jobs: Sequence[tuple[Job, _Started | None]],
    fatal: tuple[type[BaseException], ...],
    on_end: Callable[[Job, CallResult | FatalToolError], None],
    seconds_left: float | None,
    *,
    in_threads: bool,
) -> None:
    found: list[tuple[Job, CallResult | FatalToolError]] = []
    errors: list[BaseException] = []
    try:
        asyncio.run(_run_all(jobs, fatal, lambda *ended: found.append(ended), seconds_left, in_threads=in_threads))
    except BaseException as error:  # noqa: BLE001  raised below
        errors.append(error)
    # Airflow's store is for the task's own thread, and not for an event loop.
    for job, ended in found:
        try:
            on_end(job, ended)
        except BaseException as error:  # noqa: BLE001  raised below
            errors.append(error)
    if errors:
        raise errors[0]


async def _run_all(
    jobs: Sequence[tuple[Job, _Started | None]],
    fatal: tuple[type[BaseException], ...],
    on_end: Callable[[Job, CallResult | FatalToolError], None],
    seconds_left: float | None,
    *,
    in_threads: bool,
) -> None:
    async def off_loop(call: Callable[[], Any]) -> Any:
        return await _in_thread(call) if in_threads else call()

    async def run(job: Job, started: _Started | None) -> None:
        ended: CallResult | FatalToolError | _Started = started or (
            _run(job, fatal) if job.tool.is_async else await off_loop(lambda: _run(job, fatal))
        )
        result = await _await(job, ended, fatal) if isinstance(ended, _Started) else ended
        on_end(job, result)

    tasks = {asyncio.ensure_future(run(*job)): job[0] for job in jobs}
    done, pending = await asyncio.wait(tasks, timeout=seconds_left)
    for task in pending:
        task.cancel()
    for task in done:
        task.result()  # an error of `on_end`
    if pending:
        name = next(tasks[task].call.name for task in tasks if task in pending)
        raise ToolError(
            f"tool {name} did not end within the task's execution_timeout. Make it faster, or raise the timeout",
            tool=name,
            reason="deadline",
            retryable=True,
        )


def _run(job: Job, fatal: tuple[type[BaseException], ...]) -> CallResult | FatalToolError | _Started:
    began = time.perf_counter()
    try:
        value = job.run()
    except Exception as error:  # noqa: BLE001  a tool may raise anything, and the model gets it
        return _failed(job, error, fatal, began)
    return _Started(value, began) if inspect.isawaitable(value) else _ended(job, value, began)


async def _await(job: Job, started: _Started, fatal: tuple[type[BaseException], ...]) -> CallResult | FatalToolError:
    try:
        value = await started.awaitable
    except Exception as error:  # noqa: BLE001  as above
        return _failed(job, error, fatal, started.began)
    return _ended(job, value, started.began)


def _in_thread(call: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run a call in a thread of its own, which does not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def end(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def work() -> None:
        try:
            outcome: tuple[Callable[[Any], None], Any] = (future.set_result, context.run(call))
        except BaseException as error:  # noqa: BLE001  it is raised in the other thread
            outcome = (future.set_exception, error)
        if not loop.is_closed():  # the deadline has passed
            loop.call_soon_threadsafe(end, *outcome)

    threading.Thread(target=work, name="responses-tool", daemon=True).start()
    return future


def _ended(job: Job, value: Any, began: float) -> CallResult:
    seconds = time.perf_counter() - began
    try:
        return CallResult(result_text(value), "succeeded", seconds)
    except Exception as error:  # noqa: BLE001  a serializer of the user's may raise anything
        return CallResult(error_text(error, job.redact), "failed", seconds)


def _failed(
    job: Job, error: Exception, fatal: tuple[type[BaseException], ...], began: float
) -> CallResult | FatalToolError:
    if isinstance(error, fatal):
        ended = FatalToolError(job.call)
        ended.__cause__ = error
        return ended
    # Its message may hold content, which belongs in no log.
    log.warning("Tool %s failed with %s, which the model gets as its result", job.call.name, type(error).__name__)
    log.debug("The error of tool %s", job.call.name, exc_info=error)
    return CallResult(error_text(error, job.redact), "failed", time.perf_counter() - began)
