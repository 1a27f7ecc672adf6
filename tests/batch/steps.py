"""An enrichment in batches, step by step, against a sandbox whose clock the test moves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.batch.enrichment import BatchEnrichment
from airflow_provider_responses.batch.options import BatchOptions
from airflow_provider_responses.client import ResponsesClient
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.sandbox import Sandbox
from tests.enrich import jobs

SECONDS: Final = 1000.0  # that a batch takes
MOST_STEPS: Final = 12


class Clock:
    """The time of day of the sandbox and of the attempts; a test moves it."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Attempts:
    """
    The attempts of one task.

    :param rows: of the source.
    :param options: about batches.
    :param given: arguments of the job.
    """

    def __init__(
        self, sandbox: Sandbox, folder: Any, rows: Any, *, options: Mapping[str, Any] | None = None, **given: Any
    ) -> None:
        self.sandbox, self.folder, self.rows = sandbox, folder, rows
        self.clock: Clock = sandbox.state.batches._clock
        self.options: dict[str, Any] = {"mode": "batch", "batch_threshold": 0} | dict(options or {})
        self.given = {"limits": Limits(max_batch_requests=20), **given}
        self.task, self.key, self.tries = "dag.task", "1", 1
        self.totals: dict[str, Any] | None = None
        self.statuses: dict[str, str | None] = {}
        self.environment: dict[str, Any] = {"now": lambda: self.clock.now, "part_rows": 7}
        self.make_client: Any = None
        self.enrichment: BatchEnrichment

    def step(self) -> dict[str, Any] | Unfinished:
        """Run the next step of the attempt in a process of its own."""
        given = {"writer": Writer(owner=self.task, try_number=self.tries, idempotency_key=self.key), **self.given}
        self.enrichment = BatchEnrichment(
            jobs.job(self.sandbox, self.folder, self.rows, **given),
            BatchOptions(**self.options),
            Environment(**self.environment),
            totals=self.totals,
            statuses=self.statuses,
            make_client=self.make_client,
            sleep=self.clock.sleep,
        )
        ended = self.enrichment.step()
        if isinstance(ended, Unfinished):
            self.totals = json.loads(json.dumps(ended.totals))  # as a deferral stores them
        return ended

    def wait(self) -> None:
        """Wait until the batches have ended."""
        self.clock.sleep(SECONDS)

    def retry(self) -> None:
        """Begin the next attempt."""
        self.tries, self.totals, self.statuses = self.tries + 1, None, {}

    def clear(self) -> None:
        """Begin the first attempt after a clear of the task."""
        self.key, self.tries, self.totals, self.statuses = f"{self.key}+", 1, None, {}

    def finish(self) -> dict[str, Any]:
        """Run steps, and wait for the batches between them, until the manifest is there."""
        for _ in range(MOST_STEPS):
            if isinstance(ended := self.step(), dict):
                return ended
            self.wait()
        raise AssertionError("the attempt does not end")

    @property
    def sizes(self) -> list[int]:
        """The numbers of requests in the batches that were submitted."""
        return [len(batch.custom_ids) for batch in self.sandbox.batches]

    @property
    def live(self) -> list[str]:
        """The inputs of the requests that were sent live."""
        return jobs.asked(self.sandbox)

    @property
    def result(self) -> list[dict[str, Any]]:
        return jobs.result(Path(self.folder))

    @property
    def journal(self) -> list[str]:
        """The names of the files that record batches."""
        return sorted(path.name for path in (Path(self.folder) / "parts").glob("batch-*"))

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of all parts."""
        return [line for part in sorted((Path(self.folder) / "parts").glob("part-*")) for line in jobs.lines(part)]

    def billed(self) -> float:
        """Return the US dollars that the sandbox has billed."""
        live = sum(entry.cost for entry in self.sandbox.billed)
        return round(live + sum(batch.cost for batch in self.sandbox.batches), 9)

    def inputs(self, number: int) -> list[str]:
        """Return the inputs of a batch, in order."""
        requests = self.sandbox.batch_requests(self.sandbox.batches[number].id)
        return [request["body"]["input"] for request in requests]


@contextmanager
def batch_sandbox(**arguments: Any) -> Iterator[Sandbox]:
    """Run a sandbox whose batches take 1,000 seconds of the test's clock."""
    with Sandbox(batch_seconds=SECONDS, clock=Clock(), **arguments) as sandbox:
        yield sandbox


class Interrupted(BaseException):
    """As Airflow's timeouts and signal handlers raise it."""


def interrupting(name: str, nth: int, interrupt: Callable[[], None], *, is_after: bool) -> Callable[..., Any]:
    """Return a factory of clients whose nth call of a method is interrupted."""
    count = [0]

    def make(config: Any) -> ResponsesClient:
        client = ResponsesClient(config)
        method = getattr(client, name)

        def call(*given: Any, **more: Any) -> Any:
            count[0] += 1
            if count[0] == nth and not is_after:
                interrupt()
            found = method(*given, **more)
            if count[0] == nth and is_after:
                interrupt()
            return found

        setattr(client, name, call)
        return client

    return make


def raising(error: BaseException) -> Callable[..., None]:
    """Return a function that raises an error."""

    def fail(*_: Any) -> None:
        raise error

    return fail
