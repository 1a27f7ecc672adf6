"""
Attempts of an enrichment that stop at a boundary: a storage call, a commit of the index, a flush, a response.

What stops is one attempt, in this process: from then on nothing of it takes effect, on any thread.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, TypeVar

import httpx

from airflow_provider_responses.client import AsyncResponsesClient
from airflow_provider_responses.client.async_pool import AsyncPool
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.index import Index
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.part_writer import PartWriter
from airflow_provider_responses.enrich.storage import LocalStorage, ObjectStorage, Storage
from airflow_provider_responses.exceptions import ResponsesError, StorageError
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import Label, enrich, table
from tests.enrich.stores import Shelf

T = TypeVar("T")

CONCURRENCY: Final = 4
UNWRITTEN: Final = 8  # responses at most
PART_ROWS: Final = 4
PRICE: Final = 0.001  # US dollars a response
RENEWED_EVERY: Final = 8  # responses
ONCE: Final = ("before",)  # for calls without an effect that outlives the process
LOST: Final = "lost"  # it took effect, and an error says that it did not; the process goes on


class Stopped(BaseException):
    """The simulated process has ended."""


class Point(NamedTuple):
    """Where a process stops: before, in or after the nth time that it crosses a boundary, counted from 1."""

    boundary: str
    nth: int
    how: str

    def __str__(self) -> str:
        return f"{self.how} {self.boundary} {self.nth}"


def _stop() -> None:
    raise Stopped


class Crash:
    """
    Counts the boundaries of one attempt, and stops it at one of them.

    :param at: where; None for an attempt that goes on to its end.
    :param stop: ends the process, or raises.
    """

    def __init__(self, at: Point | None = None, stop: Callable[[], None] = _stop) -> None:
        self.at, self._stop = at, stop
        self.points: list[Point] = []  # that the attempt crossed
        self.is_reached = self.is_stopped = False
        self.hold: Callable[[], None] = lambda: None  # before a flush that stops
        self._seen: Counter[str] = Counter()
        self._lock = threading.RLock()

    def check(self) -> None:
        """Raise if the process has stopped."""
        if self.is_stopped:
            raise Stopped

    def cross(
        self,
        boundary: str,
        effect: Callable[[], T],
        *,
        ways: Sequence[str] = ("before", "after"),
        torn: Callable[[], None] = lambda: None,
    ) -> T:
        """Run the effect of a boundary, unless the process has stopped or stops here. One boundary at a time."""
        with self._lock:
            how = self.enter(boundary, ways)
            if how == "torn":
                torn()
            if how in {"before", "torn"}:
                self._end()
            result = effect()
            if how == "after":
                self._end()
            if how == LOST:
                raise StorageError(f"{boundary}: 503, though it came through", path=boundary)
            return result

    @contextmanager
    def around(self, boundary: str) -> Iterator[None]:
        """Like :meth:`cross`, for an effect that has boundaries itself, on several threads."""
        how = self.enter(boundary, ("before", "after"))
        if how == "before":
            self._end()
        yield
        if how == "after":
            self._end()

    def enter(self, boundary: str, ways: Sequence[str]) -> str:
        """Count a boundary; return how the process stops at it, empty if it does not."""
        with self._lock:
            self.check()
            self._seen[boundary] += 1
            here = [Point(boundary, self._seen[boundary], way) for way in ways]
            self.points += here
            if self.at not in here:
                return ""
            self.is_reached = True
            return self.at.how

    def stops_next(self, boundary: str) -> bool:
        """Return whether the process stops when it crosses this boundary next."""
        return self.at is not None and (self.at.boundary, self.at.nth) == (boundary, self._seen[boundary] + 1)

    def _end(self) -> None:
        self.is_stopped = True
        self._stop()


class Crossing(Storage):
    """Makes the calls of a storage boundaries. It is mixed in before a class of storage."""

    crash: Crash
    writes: Sequence[str] = ("before", "after")

    def tear(self, operation: str, name: str, data: bytes, effect: Callable[[], Any]) -> None:
        """
        Leave what a process leaves that stops in the middle of a write.

        :param data: as far as it came.
        :param effect: the whole operation.
        """

    def read_file(self, name: str) -> bytes | None:
        return self.crash.cross(f"read {_kind(name)}", partial(super().read_file, name), ways=ONCE)

    def write_file(self, name: str, data: bytes) -> None:
        self._write("write", name, data, partial(super().write_file, name, data))

    def create_file(self, name: str, data: bytes) -> bool:
        return self._write("create", name, data, partial(super().create_file, name, data))

    def put_file(self, local: Path, name: str, step: Callable[[], None] = lambda: None) -> None:
        self._write("put", name, local.read_bytes(), partial(super().put_file, local, name, step))

    def append(self, name: str, data: bytes) -> None:
        self._hold("append")
        self._write("append", name, data, partial(super().append, name, data))

    def list_names(self, folder: str = "") -> list[str]:
        return self.crash.cross(f"list {_kind(folder)}", partial(super().list_names, folder), ways=ONCE)

    def delete_file(self, name: str) -> None:
        self.crash.cross(f"delete {_kind(name)}", partial(super().delete_file, name))

    def _write(self, operation: str, name: str, data: bytes, effect: Callable[[], T]) -> T:
        if operation == "write" and _kind(name) == "parts":
            self._hold("write")
        torn = partial(self.tear, operation, name, data[: len(data) // 2], effect)
        return self.crash.cross(f"{operation} {_kind(name)}", effect, ways=self.writes, torn=torn)

    def _hold(self, operation: str) -> None:
        if self.crash.stops_next(f"{operation} parts"):
            self.crash.hold()


class CrossingDisk(Crossing, LocalStorage):
    """Local disk. A process that stops may have written half a file: a draft, a claim, or the end of a part."""

    writes = ("before", "torn", "after")

    def __init__(self, path: Path, crash: Crash) -> None:
        super().__init__(path)
        self.crash = crash

    def tear(self, operation: str, name: str, data: bytes, effect: Callable[[], Any]) -> None:
        path: Path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if operation in {"write", "put"}:
            path = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        modes = {"append": "ab", "create": "xb"}
        with suppress(FileExistsError), path.open(modes.get(operation, "wb")) as file:
            file.write(data)


class CrossingObjects(Crossing, ObjectStorage):
    """An object store: files are complete or missing, but the response to a write may be lost."""

    writes = ("before", "after", LOST)

    def __init__(self, path: Any, crash: Crash) -> None:
        super().__init__(path)
        self.crash = crash


class CrossingShelf(Crossing, Shelf):
    """An object store in memory that accepts a second create, so that its lease is one shared file."""

    writes = ("before", "after", LOST)

    def __init__(self, files: dict[str, bytes], crash: Crash) -> None:
        super().__init__(files, exclusive=False)
        self.crash = crash


def _kind(name: str) -> str:
    return name.partition("/")[0] or "output"


class CrossingIndex(Index):
    """The index, whose commits are boundaries."""

    def __init__(self, path: Path, crash: Crash) -> None:
        self._crash = crash
        super().__init__(path)

    def commit(self) -> None:
        self._crash.cross("commit", super().commit)


class Turns:
    """Renews the lease on its own thread exactly when the test requests it."""

    def __init__(self) -> None:
        self.asked, self.done = threading.Semaphore(0), threading.Semaphore(0)

    def take(self) -> None:
        """Renew the lease once."""
        self.asked.release()
        assert self.done.acquire(timeout=50)

    def store(self, path: Any, writer: Writer, now: Callable[[], float], *, lease_seconds: float) -> OutputStore:
        """Open an output whose lease is renewed in turns."""
        turns = self

        class Renewed(OutputStore):
            def try_renew(self) -> None:
                if threading.current_thread().name != "lease-keeper":
                    return super().try_renew()
                if turns.asked.acquire(blocking=False):
                    try:
                        with suppress(Stopped):  # the process has ended
                            super().try_renew()
                    finally:
                        turns.done.release()
                return None

        return Renewed(path, writer, now, lease_seconds=lease_seconds, sleep=lambda _: None)


class Service:
    """A service that counts paid responses by row. Requests of a process that stops stay paid."""

    def __init__(self) -> None:
        self.paid: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._turns: Turns
        self._crash: Crash
        self._begun = self._left = 0

    def begin(self, crash: Crash, turns: Turns, left: int) -> None:
        """Respond to a new process, which has a number of requests left to send."""
        self._crash, self._turns, self._left, self._begun = crash, turns, left, self.paid.total()

    def client(self, config: ClientConfig) -> AsyncResponsesClient:
        """Return a client of the service."""
        return AsyncResponsesClient(config, pool=AsyncPool(httpx.MockTransport(self._respond)))

    def wait_for(self, flushed: int) -> None:
        """Wait until the largest possible number of responses, or all, is paid and not flushed."""
        with self._changed:
            most = lambda: min(self._left, flushed + UNWRITTEN)  # noqa: E731
            assert self._changed.wait_for(
                lambda: self._crash.is_stopped or self.paid.total() - self._begun >= most(), timeout=50
            )

    async def _respond(self, request: httpx.Request) -> httpx.Response:
        self._crash.check()
        number, name, reply = self.reply(json.loads(request.content))
        with self._changed:
            self.paid[name] += 1
            self._changed.notify_all()
        if (self.paid.total() - self._begun) % RENEWED_EVERY == 0:
            self._turns.take()
        for _ in range(number * 7 % 5):  # later requests may get their response sooner
            await asyncio.sleep(0)
        return self._crash.cross("response", partial(_response, f"g-{name}", reply), ways=ONCE)

    def reply(self, body: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
        """Return the row of a request, the name of its response, and the JSON of that."""
        number = int(body["input"].rpartition(" ")[2])
        return number, f"r{number}", {"mood": mood_of(number)}


def hurried_clock() -> float:
    """A clock on which a second takes a millisecond, so that failed calls are repeated soon."""
    return time.monotonic() * 1000


def mood_of(number: int) -> str:
    """Return the mood of a row in the response of the service."""
    return f"mood {number}"


def _response(name: str, reply: dict[str, Any]) -> httpx.Response:
    content = [{"type": "output_text", "text": json.dumps(reply), "annotations": []}]
    output = [{"type": "message", "role": "assistant", "content": content}]
    usage = {"cost": PRICE, "total_tokens": 10}
    return httpx.Response(200, json={"id": name, "status": "completed", "output": output, "usage": usage})


@dataclass
class Tally:
    """The figures of several tables."""

    points: int = 0  # at which attempts stopped
    doubles: list[int] = field(default_factory=list)  # responses paid twice, by table

    def __str__(self) -> str:
        return (
            f"{self.points} points in {len(self.doubles)} tables, {sum(self.doubles)} responses paid twice, at most "
            f"{max(self.doubles, default=0)} of a table (of a stop at most {CONCURRENCY} in flight and {UNWRITTEN} "
            "unwritten)"
        )


class Table:
    """
    A table that is enriched by attempts that stop, into one output.

    :param open_storage: opens the output for an attempt.
    :param plain: the same output, for looking at it.
    :param rows: of the table.
    :param before: rows of an earlier run, whose result and responses the attempts replace; 0 for a new output. The
        result has to be there: see ``make_earlier_result``.
    :param clock: of the attempts.
    """

    make_service = Service

    def __init__(
        self,
        open_storage: Callable[[Crash], Storage],
        plain: Storage,
        *,
        rows: int,
        before: int = 0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._open, self._plain, self.rows, self._before = open_storage, plain, table(rows), before
        self._clock = clock or partial(next, itertools.count(0.0, 1e-6))  # nothing is ever due by time
        self.service = self.make_service()
        self._tries = self.crashes = 0
        self._kept = set[str]()  # the names of the responses that are written

    @property
    def responses(self) -> set[str]:
        """The names of all responses that the table needs."""
        return {row["id"] for row in self.rows}

    def name_of(self, line: dict[str, Any]) -> str:
        """Return the name of the response in a line of a part."""
        return str(line["id"])

    def mood_of(self, number: int) -> str:
        """Return the mood of a row in the result."""
        return mood_of(number)

    def job(self) -> dict[str, Any]:
        """Return more arguments of the job."""
        return {}

    def check_reused(self, reused: int, kept: set[str]) -> None:
        """Check the number of requests that were not sent, since their responses were written."""
        assert reused == len(kept)

    def make_earlier_result(self) -> None:
        """Write the result of the earlier run, which no attempt stops."""
        turns = Turns()
        service, self.service = self.service, self.make_service()
        self.service.begin(Crash(), turns, self._before)
        self._run(Crash(), turns, PartWriter, table(self._before), Writer(owner="task run=1"))
        self.service = service

    def enrich(self, at: Point | None = None) -> Crash:
        """Make an attempt, which may stop at a point, and check the output afterwards."""
        self._tries += 1
        kept, paid, flushed = self._kept, self.service.paid.copy(), set[str]()
        crash, turns = Crash(at), Turns()
        self.service.begin(crash, turns, len(self.responses) - len(kept))
        crash.hold = lambda: self.service.wait_for(len(flushed))

        name_of = self.name_of

        class Writing(PartWriter):
            def store(self, lines: list[str]) -> None:
                if crash.stops_next("flush"):
                    crash.hold()
                with crash.around("flush"):
                    super().store(lines)
                flushed.update(map(name_of, map(json.loads, lines)))

        told, error = None, None
        try:
            told = self._run(crash, turns, Writing)
        except Stopped:
            assert crash.is_stopped
        except ResponsesError as raised:
            error = raised
        is_lost = crash.is_reached and at is not None and at.how == LOST
        assert crash.is_stopped == (crash.is_reached and not is_lost)
        assert error is None or (is_lost and error.retryable), repr(error)
        self._kept = self._in_parts()
        assert kept | flushed <= self._kept, f"{at}: what was flushed is gone"
        assert not +(self.service.paid - paid) & Counter(kept), f"{at}: what was flushed is paid again"
        self._check_result(is_done=told is not None)
        if told is not None:
            assert told["requests_sent"] == len(self.responses) - len(kept)
            self.check_reused(told["requests_reused"], kept)
        self.crashes += crash.is_reached
        return crash

    def _in_parts(self) -> set[str]:
        """Return the names of the responses in the parts of this run, up to a cut."""
        found: list[str] = []
        for name in self._plain.list_names("parts"):
            if name.startswith(f"part-g{2 if self._before else 1:04d}-"):
                for line in (self._plain.read_file(f"parts/{name}") or b"").splitlines():
                    with suppress(ValueError):
                        found.append(self.name_of(json.loads(line)))
        assert len(found) == len(set(found)), "a response is written twice"
        return set(found)

    def check(self, tally: Tally) -> None:
        """Check that all rows are there, once and in order, and count the responses that were paid twice."""
        assert self._result() == len(self.rows)
        manifest = json.loads(self._plain.read_file("manifest.json") or b"null")
        paid = self.service.paid
        assert set(paid) == self.responses
        assert manifest["complete"] is True
        assert len(self.responses) * PRICE <= manifest["cost"] + 1e-9 <= paid.total() * PRICE + 2e-9
        doubles = paid.total() - len(self.responses)
        assert doubles <= self.crashes * (CONCURRENCY + UNWRITTEN), "more is paid twice than may be"
        generations = {name.partition("-t")[0] for name in self._plain.list_names("parts")}
        assert generations == {f"part-g{2 if self._before else 1:04d}"}
        assert len(self._plain.list_names("lease")) == 1
        assert not [name for name in [*self._plain.list_names(), *self._plain.list_names("parts")] if name[0] == "."]
        tally.points += self.crashes
        tally.doubles.append(doubles)

    def _run(
        self, crash: Crash, turns: Turns, writing: type[PartWriter], rows: Any = None, writer: Writer | None = None
    ) -> dict[str, Any]:
        environment = Environment(
            clock=self._clock,
            now=lambda: 1_000_000.0,  # no lease lapses
            client=self.service.client,
            tick=0.002,
            lease_seconds=0.004,  # it is renewed in turns
            part_rows=PART_ROWS,
            flush_seconds=1e9,
            open_output=turns.store,
            open_index=lambda path: CrossingIndex(path, crash),
            part_writer=writing,
        )
        return enrich(
            SimpleNamespace(base_url="http://127.0.0.1:9/api/v1"),
            self._open(crash),
            rows or self.rows,
            environment,
            request=TaskRequest(fields={}, output_type=Label, stream=False, cache=False),
            writer=writer or Writer(owner="task run=2", try_number=self._tries, idempotency_key="2"),
            limits=Limits(concurrency=CONCURRENCY, max_unwritten=UNWRITTEN, max_unwritten_seconds=1e9, max_outage=1e9),
            resume=not self._before,
            **self.job(),
        )

    def _check_result(self, *, is_done: bool) -> None:
        """Check that the result is the earlier or the new one, and that the manifest belongs to it."""
        rows = self._result()
        assert rows in ({len(self.rows)} if is_done else {self._before, len(self.rows)})
        data = self._plain.read_file("manifest.json")
        manifest = {"complete": False} if data is None else json.loads(data)
        assert manifest["complete"] or not is_done
        if manifest["complete"]:
            assert manifest["counts"] == {"ok": rows}

    def _result(self) -> int:
        """Return the number of rows of the result, after checking that each is complete and in its place."""
        data = self._plain.read_file("result.jsonl") or b""
        assert not data or data.endswith(b"\n")
        rows = [json.loads(line) for line in data.splitlines()]
        for number, (row, source) in enumerate(zip(rows, table(len(rows)), strict=True)):
            assert row | source | {"_row": number, "_status": "ok", "mood": self.mood_of(number)} == row
        return len(rows)


def stop_at_each_boundary(make: Callable[[], Table]) -> Tally:
    """Stop an attempt at each boundary, and make the next one, each time with a table of its own."""
    tally = Tally()
    for point in make().enrich().points:
        table = make()
        assert table.enrich(point).is_reached, f"there was no {point}"
        table.enrich()
        table.check(tally)
    return tally


def stop_several_times(make: Callable[[], Table], tables: int, tally: Tally) -> None:
    """Stop four attempts on the same table one after the other, at random boundaries."""
    draw = random.Random(12)  # noqa: S311  the same each time
    points = make().enrich().points
    for _ in range(tables):
        table = make()
        for point in draw.sample(points, 4):
            table.enrich(point)
        table.enrich()
        table.check(tally)
