"""
A table in, an enriched table out: index the source, send what has no answer yet, put the result in order.

No Airflow: whoever calls gives the rows, says what to ask about each, and opens the output folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses import runs
from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.enrich import parquet, results
from airflow_provider_responses.enrich.answers import META, fields_of, line_of, recalled, text_of, type_of
from airflow_provider_responses.enrich.folder import LEASE_SECONDS, Folder, name_of
from airflow_provider_responses.enrich.index import FAILED, INVALID, OK, Index, Pending
from airflow_provider_responses.enrich.job import Job, Surroundings
from airflow_provider_responses.enrich.report import Report, say_end
from airflow_provider_responses.enrich.rows import Rows
from airflow_provider_responses.enrich.runner import UNREADABLE, Answer, Runner
from airflow_provider_responses.enrich.sources import CHUNK_SIZE
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    LeaseLostError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    TransportError,
)

if TYPE_CHECKING:
    from airflow_provider_responses.client.client import AsyncResponsesClient
    from airflow_provider_responses.runs import Outcome

log = logging.getLogger(__name__)

FEWEST_FAILURES: Final = 50  # requests, before a run is given up because most fail
PROGRESS_SECONDS: Final = 10.0
TICK: Final = 1.0  # seconds between looks at what has to be flushed, renewed or said


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
        self.fields = fields_of(job.run)
        self._typed = type_of(job.run) is not None
        # A schema is built once, and not for each row.
        self._common = replace(job.run, output_format=job.run.format())
        self._report = Report(job, self.around)
        self._answered: list[Answer] = []
        self._flushed_at = self._report.began
        self._runner: Runner | None = None
        self._cancelled: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed = 0  # rows, in this try
        self._dearest = 0.0  # US dollars, for one answer of earlier tries
        self._known: set[str] = set()  # ids of their answers to what is asked again
        self.manifest: dict[str, Any] | None = None  # once there is one; also of a run that failed

    def run(self) -> dict[str, Any]:
        """
        Do it, and give the manifest.

        :raises ResponsesError: why the run stopped or failed; what is done is in the folder, and the next try goes on.
        """
        rows = Rows(self.job, self.fields, self._asked)
        with tempfile.TemporaryDirectory(prefix="responses-enrich-") as scratch:
            try:
                with contextlib.closing(Index(Path(scratch, "index.sqlite"))) as index:
                    return self._run(rows, index, Path(scratch))
            except sqlite3.OperationalError as error:
                raise ConfigurationError(
                    f"the index of the rows in {scratch} cannot be written ({error}); it takes about as much room as "
                    "the source: give the worker more, or another TMPDIR. What is answered is in the output",
                    retryable=True,
                ) from error

    def cancel(self, why: BaseException | None = None) -> None:
        """Stop at once, from any thread or a signal's handler; what has been answered is written."""
        self._cancelled = why or RequestCancelledError("the task was ended; what is done stays")
        loop, runner = self._loop, self._runner
        if loop is not None and runner is not None:
            loop.call_soon_threadsafe(runner.cancel, self._cancelled)

    def _run(self, rows: Rows, index: Index, scratch: Path) -> dict[str, Any]:
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
            self._index(rows, index)
            self._recall(index)
            self._report.say_begin()
            self.folder.confirm()
            stopped = asyncio.run(self._send(index))
            if isinstance(stopped, LeaseLostError):
                raise stopped
            self.folder.renew()  # whoever took over writes the result
            manifest = self._close(index, scratch, stopped)
            self.folder.renew()  # a large result takes long to store, and the parts may be another's by then
            self.folder.delete_parts(but_not=self.folder.generation)
        except LeaseLostError:
            lost = True
            raise
        else:
            return manifest
        finally:
            if not lost:
                self.folder.release()

    def _index(self, rows: Rows, index: Index) -> None:
        """Read the source."""
        checked = self.around.now()
        columns = parquet.Columns() if self.job.output_format == "parquet" else None
        for chunk in rows.read():
            self._report.rows += len(chunk)
            index.add(chunk)
            if columns is not None:
                columns.add([(row.position, json.loads(row.columns)) for row in chunk])
            if self._cancelled is not None:
                raise self._cancelled
            if self.around.now() - checked > LEASE_SECONDS / 4:
                self.folder.renew()
                checked = self.around.now()
        if columns is not None:
            columns.check()
        self._report.source_rows = rows.total
        index.seal(self.job.key)
        self._refuse_invalid(index)

    def _refuse_invalid(self, index: Index) -> None:
        """Send nothing if so much is wrong with the rows that the run would fail in any case."""
        if (first := index.first_invalid()) is None:
            return
        number, key, error = first
        invalid = index.counts()[INVALID]
        which = f"The first, row {number} (key {key}): {error}"
        if index.requests_left() == 0:
            raise RequestValidationError(f"no row can be sent. {which}")
        if not self.job.limits.allows(invalid, self._report.rows):
            raise RequestValidationError(
                f"{invalid} of {self._report.rows} rows cannot be sent, and limits.max_failures is "
                f"{self.job.limits.max_failures:g}: so nothing is. Correct them, leave them out of the source, or "
                f"raise the limit. {which}"
            )

    def _asked(self, fields: Mapping[str, Any]) -> runs.Run:
        return replace(self._common, fields=fields, stamp=self._salt)

    @functools.cached_property
    def _salt(self) -> str:
        """Tell this output's requests from all others', but not its tries from one another."""
        salt = f"{name_of(self.folder.path)}\0{self.folder.generation}"
        return blake2b(salt.encode(), digest_size=16).hexdigest()

    def _recall(self, index: Index) -> None:
        """Learn what is answered already."""
        report = self._report
        before = index.requests_left()
        for rows in self.folder.read_parts():
            index.know(found for row in rows if (found := self._recalled(row)) is not None)
        report.left = index.requests_left()
        report.reused = before - report.left

    def _recalled(self, row: Mapping[str, Any]) -> tuple[bytes, str, str] | None:
        """Learn what a row of a part tells; give its answer if it can be used."""
        cost = row.get("_cost") or 0.0
        self._report.spent += cost
        self._dearest = max(self._dearest, cost)
        found = None if row["_status"] == INVALID else recalled(row, self.fields, self.job.run)
        if found is None or row["_status"] == FAILED:
            self._known.update(row.get("_generations") or ())
        return None if found is None else (bytes.fromhex(row["_fingerprint"]), *found)

    async def _send(self, index: Index) -> BaseException | None:
        """Send what has no answer; give why it was stopped, if it was."""
        from airflow_provider_responses.client.client import AsyncResponsesClient

        config = replace(self.job.config, max_ambiguous_retries=0)
        make = self.around.client or AsyncResponsesClient
        async with make(config) as client:
            self._runner = runner = Runner(
                ask=lambda pending: self._ask(client, runner, pending),
                take=index.pending,
                keep=lambda answer: self._keep(runner, answer),
                limits=self.job.limits,
                config=self.job.config.for_call(self.job.options),
                spent=self._report.spent,
                dearest=self._dearest,
                known=frozenset(self._known),
                clock=self.around.clock,
                sleep=self.around.sleep,
                draw=self.around.draw,
            )
            self._report.progress = runner.progress
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

    def _keep(self, runner: Runner, answer: Answer) -> None:
        """Take an answer; stop where most fail, since the rest would be paid for nothing."""
        if self._typed and answer.status == OK and not isinstance(answer.value, Mapping):
            answer = replace(answer, status=UNREADABLE)  # its text, which is all there is, was asked for
        self._answered.append(answer)
        if answer.error is None or (answer.value is not None and self.job.run.on_incomplete == "return"):
            return
        self._failed += answer.pending.rows
        progress = runner.progress
        if (
            progress.failures.total() >= FEWEST_FAILURES
            and progress.failures.total() * 2 > progress.done
            and not self.job.limits.allows(self._failed, self._report.rows)
        ):
            runner.stop(self._report.most_fail(answer))

    async def _ask(self, client: AsyncResponsesClient, runner: Runner, pending: Pending) -> Outcome:
        """Send a request, and learn what its answer cost, if it was kept: whoever had it made did not live to say."""
        outcome = await self._answer(client, runner, pending)
        response = outcome.response
        if response is None or not (response.cached or response.previous):
            return outcome  # as nearly all are
        sources = runs.Account().unknown_sources(response)
        return replace(outcome, generations={source: await _generation(client, source) for source in sources})

    async def _answer(self, client: AsyncResponsesClient, runner: Runner, pending: Pending) -> Outcome:
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
                await runner.turn(pending, asking.paid)
            except ResponsesError as error:
                return asking.failed(error)

    async def _tick(self, index: Index, runner: Runner, ended: asyncio.Event) -> None:
        """Flush, renew the lease and tell how it goes, now and then."""
        said = renewed = self.around.clock()
        try:
            while not await _is_set(ended, TICK):
                now = self.around.clock()
                due = len(self._answered)
                if now - self._flushed_at < self.around.flush_seconds:
                    due -= due % self.around.part_rows  # the rest may wait, and so makes no small part
                while due > 0:
                    answers, lines, known = self._part(index)
                    await asyncio.to_thread(self.folder.write_part, lines)
                    del self._answered[:answers]  # first of all: else they would be written twice
                    self._flushed_at = self.around.clock()
                    index.know(known)
                    due -= answers
                if self.job.seconds is not None and now - self._report.began >= self.job.seconds:
                    runner.cancel(_out_of_time(self.job.seconds))
                if now - renewed >= LEASE_SECONDS / 4:
                    await asyncio.to_thread(self.folder.renew)
                    renewed = now
                if now - said >= PROGRESS_SECONDS:
                    self._report.say(runner.pace.window)
                    said = now
        except Exception as error:  # noqa: BLE001  whatever keeps answers from being written has to end the run
            runner.stop(error)

    def _flush(self, index: Index) -> None:
        """Write what was answered: all of it, before the index, which may have no room, learns of it."""
        written = []
        while self._answered:
            answers, lines, known = self._part(index)
            self.folder.write_part(lines)
            del self._answered[:answers]
            written += known
        index.know(written)
        self._flushed_at = self.around.clock()

    def _part(self, index: Index) -> tuple[int, list[str], list[tuple[bytes, str, str]]]:
        """Give how many answers make the next part, its lines, and the answers for the index."""
        lines: list[str] = []
        known: list[tuple[bytes, str, str]] = []
        size = 0
        for answer in self._answered[: self.around.part_rows]:
            text = text_of(answer, self.fields, typed=self._typed)
            known.append((answer.pending.fingerprint, answer.status, text))
            lines.append(line_of(index, answer, text))
            size += len(lines[-1])
            if size >= CHUNK_SIZE:
                break
        return len(lines), lines, known

    def _close(self, index: Index, scratch: Path, stopped: BaseException | None) -> dict[str, Any]:
        """Write the result and the manifest; fail if too many rows have."""
        if isinstance(stopped, RequestCancelledError):
            raise stopped  # there is no time; the parts are written
        counts = Counter({OK: 0} | index.counts())
        path, unwritten = None, None
        try:
            path = self._write(index, scratch)
        except LeaseLostError:
            raise
        except ResponsesError as error:
            unwritten = error
        why = stopped or unwritten
        self.manifest = manifest = self._report.manifest(
            path, counts, complete=why is None, generation=self.folder.generation
        )
        self.folder.write_manifest(manifest)
        say_end(manifest)
        if stopped is not None and unwritten is not None:
            log.warning("There is no result: %s", unwritten)
        if why is not None:
            raise why
        total = self._report.rows
        failed = total - counts[OK]
        if self.job.run.on_incomplete == "return":
            failed -= counts["incomplete"] + counts["refused"] + counts["unreadable"]
        if failed and (failed == total or not self.job.limits.allows(failed, total)):
            raise self._report.too_many_failed(failed, counts, results.first_error(index))
        return manifest

    def _write(self, index: Index, scratch: Path) -> str:
        return results.write(
            index,
            self.folder.path,
            scratch,
            output_format=self.job.output_format,
            unanswered=dict.fromkeys((*self.fields, *META)),
            check=self.folder.renew,
        )


async def _generation(client: AsyncResponsesClient, source: str) -> Mapping[str, Any] | None:
    try:
        return await client.get_generation(source, options=RequestOptions(timeout=runs.LOOKUP_TIMEOUT, max_retries=1))
    except ResponsesError as error:
        log.warning("The price of a kept answer is unknown (`answers_without_price`): %s", error)
        return None


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
