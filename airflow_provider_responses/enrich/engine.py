"""
A table in, an enriched table out: index the source, send what has no answer yet, put the result in order.

No Airflow: whoever calls gives the rows, says what to ask about each, and opens the output folder.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import random
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses import runs
from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.enrich import results
from airflow_provider_responses.enrich.folder import LEASE_SECONDS, Folder, Writer
from airflow_provider_responses.enrich.index import FAILED, INVALID, OK, Index, IndexedRow, Pending
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.runner import Answer, Progress, Runner
from airflow_provider_responses.enrich.sources import Row
from airflow_provider_responses.enrich.values import dump, joined, to_json
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    LeaseLostError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    TooManyFailuresError,
    TransportError,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.client.client import AsyncResponsesClient
    from airflow_provider_responses.runs import Outcome

log = logging.getLogger(__name__)

TEXT: Final = "output"  # the column of an answer without an `output_type`
META: Final = ("_status", "_error", "_response_id", "_model", "_cost", "_tokens", "_tries")
OWN: Final = frozenset({*META, "_row", "_key", "_fingerprint"})
PART_ROWS: Final = 1000
FEWEST_FAILURES: Final = 50  # rows, before a run is given up because most fail
FLUSH_SECONDS: Final = 15.0
PROGRESS_SECONDS: Final = 10.0
TICK: Final = 1.0  # seconds between looks at what has to be flushed, renewed or said

Ask = Callable[[Row], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """
    What a run does.

    :param chunks: gives the source's rows in chunks; it is called once, and blocks.
    :param ask: gives the fields of the request about a row.
    :param run: how rows are asked and their answers are read; its fields are not used.
    :param key: the column that tells rows apart; by default their position does.
    :param columns: of the source, that go into the result; all by default.
    :param shard: which share of the rows is this run's, and of how many.
    :param options: for every request.
    :param output_format: ``jsonl`` or ``parquet``.
    :param allow_empty: whether a source without rows is a success.
    :param seconds: that the run may take; what is answered by then stays.
    """

    chunks: Callable[[], Iterable[list[Row]]]
    ask: Ask
    run: runs.Run
    config: ClientConfig
    folder: Any
    writer: Writer
    limits: Limits = field(default_factory=Limits)
    key: str | None = None
    columns: Sequence[str] | None = None
    shard: tuple[int, int] = (0, 1)
    options: RequestOptions = field(default_factory=RequestOptions)
    resume: bool = True
    output_format: str = "jsonl"
    allow_empty: bool = True
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Time and chance, for tests to replace, and what a run reports to."""

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random
    report: Callable[[Mapping[str, float]], None] = lambda _: None
    client: Callable[[ClientConfig], AsyncResponsesClient] | None = None
    part_rows: int = PART_ROWS
    flush_seconds: float = FLUSH_SECONDS


class Enrichment:
    """
    One try of a job.

    :param job: what to do.
    :param around: time, chance and reports.
    """

    def __init__(self, job: Job, around: Surroundings | None = None) -> None:
        self.job = job
        self.around = around or Surroundings()
        self.folder = Folder(job.folder, job.writer, self.around.now)
        self.fields = _output_fields(job.run)
        # A schema is built once, and not for each row.
        self._common = replace(job.run, output_format=job.run.format())
        self._taken = OWN | set(self.fields)
        self._chosen = None if job.columns is None else _with_key(job.columns, job.key)
        self._answered: list[Answer] = []
        self._flushed_at = self._began = self.around.clock()
        self._progress = Progress()
        self._runner: Runner | None = None
        self._cancelled: BaseException | None = None
        self._spent = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left = 0
        self._failed = 0  # rows, in this try
        self.manifest: dict[str, Any] | None = None  # once there is one; also of a run that failed

    def run(self) -> dict[str, Any]:
        """
        Do it, and give the manifest.

        :raises ResponsesError: why the run stopped or failed; what is done is in the folder, and the next try goes on.
        """
        self._check_columns(self._chosen or ())
        with tempfile.TemporaryDirectory(prefix="responses-enrich-") as folder:
            scratch = Path(folder)
            index = Index(scratch / "index.sqlite")
            try:
                return self._run(index, scratch)
            finally:
                index.close()

    def cancel(self, why: BaseException | None = None) -> None:
        """Stop at once, from any thread or a signal's handler; what has been answered is written."""
        self._cancelled = why or RequestCancelledError("the task was ended; what is done stays")
        loop, runner = self._loop, self._runner
        if loop is not None and runner is not None:
            loop.call_soon_threadsafe(runner.cancel, self._cancelled)

    def _run(self, index: Index, scratch: Path) -> dict[str, Any]:
        try:
            self.folder.acquire(resume=self.job.resume)
        except OSError as error:
            raise ConfigurationError(
                f"output_path {str(self.job.folder)!r} cannot be written ({error}); take a folder that the worker may "
                "write to",
                retryable=True,
            ) from error
        lost = False
        try:
            total = self._index(index)
            reused = self._recall(index)
            stopped = asyncio.run(self._send(index, total))
            if isinstance(stopped, LeaseLostError):
                raise stopped
            self.folder.renew()  # whoever took over writes the result
            self.folder.delete_parts(but_not=self.folder.generation)
            return self._close(index, scratch, total, reused, stopped)
        except LeaseLostError:
            lost = True
            raise
        finally:
            if not lost:
                self.folder.release()

    # The source

    def _index(self, index: Index) -> int:
        """Read the source; give how many rows are this run's."""
        position = total = 0
        checked = self.around.now()
        unseen = dict.fromkeys(self._chosen or ())
        for chunk in self.job.chunks():
            if unseen:
                unseen = {name: None for name in unseen if not any(name in row for row in chunk)}
            rows = [
                indexed
                for number, row in enumerate(chunk, position)
                if (indexed := self._indexed(number, row)) is not None
            ]
            position += len(chunk)
            total += len(rows)
            index.add(rows)
            if self._cancelled is not None:
                raise self._cancelled
            if self.around.now() - checked > LEASE_SECONDS / 4:
                self.folder.renew()
                checked = self.around.now()
        if position == 0 and not self.job.allow_empty:
            raise ConfigurationError("the source has no rows, and allow_empty is False")
        if position and unseen:
            raise RequestValidationError(f"columns: no row has a column {next(iter(unseen))!r}", fields=("columns",))
        index.seal(self.job.key)
        invalid = index.first_invalid()
        if invalid is not None and index.requests_left() == 0:
            number, key, error = invalid
            raise RequestValidationError(f"no row can be sent. The first, row {number} (key {key}): {error}")
        return total

    def _indexed(self, position: int, row: Row) -> IndexedRow | None:
        key = self._key(position, row)
        share, shares = self.job.shard
        if shares > 1 and (zlib.crc32(key.encode()) if self.job.key else position) % shares != share:
            return None
        columns = self._columns(position, row)
        try:
            fields = to_json(dict(self.job.ask(row)), "request")
            body = self._body(fields)
        except ResponsesError as error:
            return IndexedRow(position, key, None, columns, str(error), None)
        if len(body) > (most := self.job.limits.max_request_bytes):
            said = f"the request has {len(body)} bytes, and limits.max_request_bytes is {most}"
            return IndexedRow(position, key, None, columns, said, None)
        return IndexedRow(position, key, blake2b(body, digest_size=16).digest(), columns, None, dump(fields))

    def _columns(self, position: int, row: Row) -> str:
        try:
            if self._chosen is None and not self._taken.isdisjoint(row):
                self._check_columns(row)
            # A JSONL row need not have them all.
            names = row if self._chosen is None else self._chosen
            return dump({name: to_json(row.get(name), name) for name in names})
        except RequestValidationError as error:
            raise error.about(f"row {position}") from None

    def _key(self, position: int, row: Row) -> str:
        if self.job.key is None:
            return str(position)
        value = to_json(row.get(self.job.key), self.job.key)
        if self.job.key not in row:
            raise RequestValidationError(
                f"key: row {position} has no column {self.job.key!r}; its columns are {', '.join(map(str, row))}",
                fields=("key",),
            )
        if value is None or value == "":
            raise RequestValidationError(
                f"key: row {position} has no value in {self.job.key!r}; give every row one, or leave `key` out",
                fields=("key",),
            )
        key = value if isinstance(value, str) else dump(value)
        try:
            key.encode()
        except UnicodeEncodeError:
            raise RequestValidationError(
                f"key: row {position} holds half of a surrogate pair in {self.job.key!r}, which is no text: decode the "
                "source as what it is",
                fields=("key",),
            ) from None
        return key

    def _body(self, fields: Mapping[str, Any]) -> bytes:
        request, _ = self._asked(fields).prepare(self.job.config, self.job.options)
        return request.to_bytes()

    def _asked(self, fields: Mapping[str, Any]) -> runs.Run:
        return replace(self._common, fields=fields, stamp=self._salt)

    @functools.cached_property
    def _salt(self) -> str:
        """Tell this output's requests from all others', but not its tries from one another."""
        salt = f"{self.job.folder}\0{self.folder.generation}"
        return blake2b(salt.encode(), digest_size=16).hexdigest()

    def _check_columns(self, names: Iterable[str]) -> None:
        if clash := next((name for name in names if name in self._taken), None):
            what = "a field of output_type" if clash in self.fields and clash != TEXT else "a column of the result"
            raise RequestValidationError(
                f"column {clash!r} of the source is also {what}; rename one, or choose the source's `columns`",
                fields=(clash,),
            )

    # The answers

    def _recall(self, index: Index) -> int:
        """Learn what is answered already; give how many of this run's requests that are."""
        before = index.requests_left()
        for rows in self.folder.read_parts():
            index.know(
                (bytes.fromhex(row["_fingerprint"]), row["_status"], self._answer_of(row))
                for row in rows
                if row["_status"] != INVALID
            )
            self._spent += sum(row.get("_cost") or 0.0 for row in rows)
        return before - index.requests_left()

    def _answer_of(self, row: Mapping[str, Any]) -> str:
        return dump({name: row.get(name) for name in (*self.fields, *META)})

    async def _send(self, index: Index, total: int) -> BaseException | None:
        """Send what has no answer; give why it was stopped, if it was."""
        from airflow_provider_responses.client.client import AsyncResponsesClient

        config = replace(self.job.config, max_ambiguous_retries=0)
        self._left = index.requests_left()
        make = self.around.client or AsyncResponsesClient
        async with make(config) as client:
            self._runner = runner = Runner(
                ask=lambda pending: self._ask(client, runner, pending),
                take=index.pending,
                keep=lambda answer: self._keep(runner, answer, total),
                limits=self.job.limits,
                config=self.job.config.for_call(self.job.options),
                spent=self._spent,
                clock=self.around.clock,
                sleep=self.around.sleep,
                draw=self.around.draw,
            )
            self._progress = runner.progress
            self._loop = asyncio.get_running_loop()
            if self._cancelled is not None:
                runner.stop(self._cancelled)
            ended = asyncio.Event()
            ticking = asyncio.create_task(self._tick(index, runner, ended))
            try:
                return await runner.run()
            finally:
                ended.set()
                await asyncio.wait({ticking})  # else a part that is being written would be written twice
                self._loop = None
                self._flush(index)

    def _keep(self, runner: Runner, answer: Answer, total: int) -> None:
        """Take an answer; stop where most fail, since the rest would be paid for nothing."""
        self._answered.append(answer)
        if answer.error is None or (answer.value is not None and self.job.run.on_incomplete == "return"):
            return
        self._failed += answer.pending.rows
        progress = runner.progress
        if (
            self._failed >= FEWEST_FAILURES
            and progress.failures.total() * 2 > progress.done
            and not self.job.limits.allows(self._failed, total)
        ):
            runner.stop(
                TooManyFailuresError(
                    f"{progress.failures.total()} of the first {progress.done} requests failed, more than half, and "
                    f"limits.max_failures is {self.job.limits.max_failures:g}: no more are sent. The last, for row "
                    f"{answer.pending.first}: {answer.error}",
                    retryable=answer.status == FAILED,
                )
            )

    async def _ask(self, client: AsyncResponsesClient, runner: Runner, pending: Pending) -> Outcome:
        """Send a request, and once more where its answer is not as typed."""
        run = self._asked(json.loads(pending.fields))
        request, options = run.prepare(self.job.config, self.job.options)
        # A row's tries are the runner's, which looks at all rows together.
        asking = runs.Asking(run, replace(options, max_retries=0))
        timeout = self.job.config.for_call(self.job.options).timeout
        while True:
            try:
                outcome = asking.answered(await client.send(request, options=asking.options(timeout)))
                if outcome is not None:
                    return outcome
                await runner.turn(pending)
            except ResponsesError as error:
                return asking.failed(error)

    async def _tick(self, index: Index, runner: Runner, ended: asyncio.Event) -> None:
        """Flush, renew the lease and tell how it goes, now and then."""
        said = renewed = self.around.clock()
        try:
            while not await _is_set(ended, TICK):
                now = self.around.clock()
                due = now - self._flushed_at >= self.around.flush_seconds
                while len(self._answered) >= self.around.part_rows or (due and self._answered):
                    answers, lines, known = self._part(index)
                    await asyncio.to_thread(self.folder.write_part, lines)
                    self._written(index, answers, known)
                    due = False
                if self.job.seconds is not None and now - self._began >= self.job.seconds:
                    runner.cancel(_out_of_time(self.job.seconds))
                if now - renewed >= LEASE_SECONDS / 4:
                    await asyncio.to_thread(self.folder.renew)
                    renewed = now
                if now - said >= PROGRESS_SECONDS:
                    self._say(runner)
                    said = now
        except Exception as error:  # noqa: BLE001  whatever keeps answers from being written has to end the run
            runner.stop(error)

    def _flush(self, index: Index) -> None:
        """Write what was answered."""
        while self._answered:
            answers, lines, known = self._part(index)
            self.folder.write_part(lines)
            self._written(index, answers, known)

    def _part(self, index: Index) -> tuple[int, list[str], list[tuple[bytes, str, str]]]:
        """Give how many answers make the next part, its lines, and the answers for the index."""
        answers = self._answered[: self.around.part_rows]
        lines: list[str] = []
        known: list[tuple[bytes, str, str]] = []
        for answer in answers:
            text = self._write(answer)
            known.append((answer.pending.fingerprint, answer.status, text))
            lines += self._lines(index, answer, text)
        return len(answers), lines, known

    def _written(self, index: Index, answers: int, known: list[tuple[bytes, str, str]]) -> None:
        index.know(known)
        del self._answered[:answers]
        self._flushed_at = self.around.clock()

    def _write(self, answer: Answer) -> str:
        response, value = answer.response, answer.value
        output = dict.fromkeys(self.fields)
        if isinstance(value, Mapping) and self.fields != (TEXT,):
            output |= {name: value.get(name) for name in self.fields}
        elif value is not None and self.fields == (TEXT,):
            output[TEXT] = value
        return dump(
            output
            | {
                "_status": answer.status,
                "_error": answer.error,
                "_response_id": response.id if response else None,
                "_model": response.model if response else None,
                "_cost": answer.cost,
                "_tokens": response.usage.total_tokens if response else None,
                "_tries": answer.tries,
            }
        )

    def _lines(self, index: Index, answer: Answer, text: str) -> Iterator[str]:
        """Give the lines of all rows with a request; the first has its price."""
        pending = answer.pending
        rows = index.rows_of(pending.fingerprint) if pending.rows > 1 else [index.row_at(pending.first)]
        for number, (position, key, columns) in enumerate(rows):
            if number:
                text = results.shared(text)
            own = dump({"_row": position, "_key": key, "_fingerprint": pending.fingerprint.hex()})
            yield joined(own, joined(columns, text))

    # The end

    def _close(
        self, index: Index, scratch: Path, total: int, reused: int, stopped: BaseException | None
    ) -> dict[str, Any]:
        if isinstance(stopped, RequestCancelledError):
            raise stopped  # there is no time; the parts are written
        counts = Counter({OK: 0} | index.counts())
        path = results.write(
            index,
            self.folder.path,
            scratch,
            output_format=self.job.output_format,
            unanswered=dict.fromkeys((*self.fields, *META)),
            check=self.folder.renew,
        )
        self.manifest = manifest = self._manifest(path, counts, total, reused, stopped)
        self.folder.write_manifest(manifest)
        log.info("%s", _sentence(manifest))
        if stopped is not None:
            raise stopped
        failed = (
            total
            - counts[OK]
            - (
                counts["incomplete"] + counts["refused"] + counts["unreadable"]
                if self.job.run.on_incomplete == "return"
                else 0
            )
        )
        if failed and (failed == total or not self.job.limits.allows(failed, total)):
            raise self._too_many(index, counts, failed, total)
        return manifest

    def _too_many(self, index: Index, counts: Mapping[str, int], failed: int, total: int) -> ResponsesError:
        kinds = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != OK and count)
        example = results.first_error(index)
        again = counts.get(FAILED, 0) + counts.get("missing", 0)
        what = (
            f"a retry sends the {again} failed rows again"
            if again
            else "the same requests would fail again: correct them"
        )
        return TooManyFailuresError(
            f"{failed} of {total} rows failed ({kinds}), and limits.max_failures is {self.job.limits.max_failures:g}; "
            f"{what}. {example}",
            retryable=bool(again),
        )

    def _manifest(
        self, path: str, counts: Mapping[str, int], total: int, reused: int, stopped: BaseException | None
    ) -> dict[str, Any]:
        seconds = self.around.clock() - self._began
        progress = self._progress
        return {
            "output": path,
            "output_format": self.job.output_format,
            "complete": stopped is None,
            "rows": total,
            "counts": dict(counts),
            "requests_sent": progress.sent,
            "requests_reused": reused,
            "cache_hits": progress.cache_hits,
            "cost": round(self._spent + progress.cost, 9),
            "cost_this_try": round(progress.cost, 9),
            "answers_without_price": progress.unpriced,
            "tokens": progress.tokens,
            "seconds": round(seconds, 3),
            "rows_per_second": round(total / seconds, 1) if seconds > 0 else None,
            "shard": list(self.job.shard),
            "generation": self.folder.generation,
        }

    def _say(self, runner: Runner) -> None:
        """One line about how it goes, and the same as metrics."""
        progress, seconds = runner.progress, self.around.clock() - self._began
        rate = progress.done / seconds if seconds > 0 else 0.0
        left = self._left - progress.done
        to_come = progress.cost / progress.done * left if progress.done else 0.0
        log.info(
            "%d of %d requests done, %.1f/s, %s so far and about %s to come, failures: %s, sent again: %s, "
            "%d in flight of %d that the service keeps up with, about %s left",
            progress.done,
            self._left,
            rate,
            runs.dollars(self._spent + progress.cost),
            runs.dollars(to_come),
            _most(progress.failures),
            _most(progress.again),
            progress.in_flight,
            int(runner.pace.window),
            f"{left / rate:.0f} s" if rate else "?",
        )
        self.around.report(
            {
                "done": progress.done,
                "left": left,
                "rate": rate,
                "cost": self._spent + progress.cost,
                "failed": progress.failures.total(),
                "sent_again": progress.again.total(),
                "in_flight": progress.in_flight,
            }
        )


def _output_fields(run: runs.Run) -> tuple[str, ...]:
    from pydantic import RootModel

    kind: type[BaseModel] | None = run.output_type
    if kind is None or run.result == "response" or issubclass(kind, RootModel):
        return (TEXT,)
    names = kind.model_fields.items()
    return tuple(info.serialization_alias or info.alias or name for name, info in names)


def _with_key(columns: Sequence[str], key: str | None) -> Sequence[str]:
    return columns if key is None or key in columns else (key, *columns)


async def _is_set(event: asyncio.Event, within: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), within)
    except TimeoutError:
        return False
    return True


def _out_of_time(seconds: float) -> TransportError:
    return TransportError(
        f"the task's time of {seconds:.0f} s is over; what is done stays, and a retry goes on from there",
        kind="deadline",
    )


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(4)) or "none"


def _sentence(manifest: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in manifest["counts"].items())
    return (
        f"{manifest['rows']} rows: {counts}. {manifest['requests_sent']} requests sent, {manifest['requests_reused']} "
        f"known before, {manifest['cache_hits']} cache hits; {runs.dollars(manifest['cost_this_try'])} in this try, "
        f"{runs.dollars(manifest['cost'])} in all; {manifest['seconds']:.1f} s. Result: {manifest['output']}"
    )
