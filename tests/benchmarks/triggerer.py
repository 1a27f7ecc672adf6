"""
1,000 triggers in Airflow's own TriggerRunner: the process that ``test_triggerer.py`` starts.

The supervisor is Airflow's, without a job in the database: it hands the runner its triggers, serves its connections
from the database through the runner's pipe, keeps a log for each, and takes its events. What is measured is written in
the runner: when each trigger began and ended, how late a sleep of 0.1 s ended, and the peak of the process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_responses.batch.waiting import BatchWait
from airflow_provider_responses.client import AsyncResponsesClient, ClientConfig
from airflow_provider_responses.task.payloads import DeferredArguments
from airflow_provider_responses.task.request import TaskRequest
from airflow_provider_responses.triggers.batches import ResponsesBatchTrigger
from airflow_provider_responses.triggers.responses import ResponsesTrigger
from tests.benchmarks.least import REQUEST, LeastTrigger

TIMEOUT = 300  # seconds
_late: list[tuple[float, float]] = []
_began: list[float] = []
_peak: list[int] = []
_watching: list[asyncio.Task[None]] = []


class Timed:
    """Reports in its event when it began and ended, and the figures of its process."""

    conn_id: str | None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if self.conn_id == "bench" and not _watching:
            _watching.append(asyncio.create_task(_watch()))
        began = time.monotonic()
        _began.append(began)
        async for event in super().run():  # type: ignore[misc]
            late = max((late for _, late in _late), default=0.0)
            # Without the time in which Airflow makes the triggers.
            waiting = max((late for at, late in _late if at > _began[-1] + 0.2), default=0.0)
            event.payload["timed"] = (began, time.monotonic(), waiting, late, max(_peak, default=0))
            yield event


class TimedTrigger(Timed, ResponsesTrigger):
    """Ours."""

    @property
    def conn_id(self) -> str:  # type: ignore[override]
        return str(self.kwargs["conn_id"])


class TimedBatchTrigger(Timed, ResponsesBatchTrigger):
    """Ours, for batches."""

    @property
    def conn_id(self) -> str:  # type: ignore[override]
        return str(self.kwargs["conn_id"])


class TimedLeastTrigger(Timed, LeastTrigger):
    """The least."""


async def _watch() -> None:
    """Do as the runner's own watchdog does."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.1)
        _late.append((time.monotonic(), time.monotonic() - began - 0.1))
        _peak.append(peak())


def peak() -> int:
    """Return the peak memory of this process in MiB; getrusage would count the process it was forked from as well."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


def rate(spans: list[tuple[float, float]]) -> float:
    """Return the requests a second from the first beginning to the last end."""
    return len(spans) / (max(end for _, end in spans) - min(begin for begin, _ in spans))


async def bare(url: str, count: int) -> float:
    """Send as many requests at once with the client alone."""
    async with AsyncResponsesClient(ClientConfig(api_key="none", base_url=url)) as client:

        async def one() -> tuple[float, float]:
            began = time.monotonic()
            await client.send(REQUEST)
            return began, time.monotonic()

        return rate(await asyncio.gather(*(one() for _ in range(count))))


def triggered(
    trigger: type[BaseTrigger], arguments: Callable[[int], dict[str, Any]], count: int, logs: str
) -> dict[str, Any]:
    """Run as many triggers at once in a TriggerRunner; ``arguments`` returns those of the one with a number."""
    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.executors.workloads.trigger import RunTrigger
    from airflow.jobs.triggerer_job_runner import TriggerLoggingFactory, TriggerRunnerSupervisor
    from airflow.models.trigger import Trigger

    found: list[Any] = []

    class Supervisor(TriggerRunnerSupervisor):
        def load_triggers(self) -> None: ...

        def clean_unused(self) -> None: ...

        def heartbeat(self) -> None: ...

        def emit_metrics(self) -> None: ...

        def on_trigger_event(self, trigger_id: int, event: Any) -> None:
            found.append((event.payload["error"], *event.payload["timed"]))

        def on_trigger_failure(self, trigger_id: int, exc: Any) -> None:
            raise RuntimeError(f"trigger {trigger_id} failed: {exc}")

    def start(numbers: range, conn_id: str) -> None:
        for number in numbers:
            ti = TaskInstanceDTO(
                id=uuid.uuid4(),
                task_id="bench",
                dag_id="bench",
                run_id=f"run-{number}",
                try_number=1,
                dag_version_id=uuid.uuid4(),
                pool_slots=1,
                priority_weight=1,
            )
            supervisor.logger_cache[number] = TriggerLoggingFactory(log_path=f"{logs}/{number}.log", ti=ti)
            path = f"{trigger.__module__}.{trigger.__qualname__}"
            kwargs = Trigger.encrypt_kwargs(arguments(number) | {"conn_id": conn_id})
            supervisor.creating_triggers.append(RunTrigger(id=number, classpath=path, encrypted_kwargs=kwargs, ti=ti))
        ends = time.monotonic() + TIMEOUT
        while len(found) < numbers.stop - 1 and supervisor.is_alive() and time.monotonic() < ends:
            supervisor.run_once()

    supervisor = Supervisor.start(job=None, capacity=count)
    try:
        # The supervisor imports Airflow's API for its first connection, which takes it seconds, once.
        start(range(1, 2), "bench_first")
        start(range(2, count + 2), "bench")
    finally:
        supervisor.kill(escalation_delay=10, force=True)
    del found[0]
    failed = [error for error, *_ in found if error]
    return {
        "done": len(found) - len(failed),
        "failed": len(failed),
        "rate": rate([(began, ended) for _, began, ended, *_ in found]),
        "late_ms": round(max(late for *_, late, _ in found) * 1000),
        "late_waiting_ms": round(max(late for *_, late, _, _ in found) * 1000),
        "peak": max(size for *_, size in found),
    }


if __name__ == "__main__":
    way, url, logs, size = sys.argv[1:]
    if way == "bare":
        found = {"rate": asyncio.run(bare(url, int(size)))}
    elif way == "least":
        found = triggered(TimedLeastTrigger, lambda _: {"url": url}, int(size), logs)
    elif way == "batches":
        deadline = time.time() + TIMEOUT
        found = triggered(
            TimedBatchTrigger,
            lambda number: BatchWait(conn_id="bench", batch_ids=(f"batch-{number}",), deadline=deadline).to_kwargs(),
            int(size),
            logs,
        )
    else:
        request = TaskRequest(fields=REQUEST, stream=False)
        arguments = DeferredArguments(conn_id="bench", task_request=request, deadline=time.time() + TIMEOUT)
        found = triggered(TimedTrigger, lambda _: arguments.to_kwargs(), int(size), logs)
    print(json.dumps(found))
