"""
A table in, an enriched table out: index the source, send what has no answer yet, put the result in order.

No Airflow: whoever calls gives the rows, says what to ask about each, and opens the output folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from airflow_provider_responses.enrich import changed, parquet, results
from airflow_provider_responses.enrich.answers import META, fields_of, type_of
from airflow_provider_responses.enrich.asker import Asker
from airflow_provider_responses.enrich.bounded_calls import UploadWatch
from airflow_provider_responses.enrich.budget import Budget
from airflow_provider_responses.enrich.earlier import Earlier
from airflow_provider_responses.enrich.garbage import fewer_collections
from airflow_provider_responses.enrich.index import INVALID, OK, Index
from airflow_provider_responses.enrich.job import Environment, Job
from airflow_provider_responses.enrich.lease_keeper import LeaseKeeper
from airflow_provider_responses.enrich.output_store import MANIFEST
from airflow_provider_responses.enrich.ownership import refuse_other
from airflow_provider_responses.enrich.part_writer import PartWriter
from airflow_provider_responses.enrich.progress import UNREADABLE, Answer, Progress
from airflow_provider_responses.enrich.report import Report
from airflow_provider_responses.enrich.requests import Requests
from airflow_provider_responses.enrich.rows import Rows
from airflow_provider_responses.enrich.sender import Sender
from airflow_provider_responses.exceptions import (
    LeaseLostError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    StorageError,
    TransportError,
)

log = logging.getLogger(__name__)

FEWEST_FAILURES: Final = 50  # requests, before a run is given up because most fail


class Enrichment:
    """
    One try of a job.

    :param job: what to do.
    :param environment: time, chance and reports.
    """

    def __init__(self, job: Job, environment: Environment | None = None) -> None:
        self.job = job
        self.environment = environment or Environment()
        self.folder = self.environment.open_folder(
            job.folder, job.writer, self.environment.now, lease_seconds=self.environment.lease_seconds
        )
        self.fields = fields_of(job.run)
        self._typed = type_of(job.run) is not None
        self._requests = Requests(job, self.folder)
        self._report = Report(job, self.environment)
        self._sender: Sender | None = None
        self._cancelled: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed = 0  # rows, in this attempt
        self._window: float | None = None  # requests in flight that an attempt ended with
        self.manifest: dict[str, Any] | None = None  # once there is one; also of a run that failed

    def run(self) -> dict[str, Any]:
        """
        Do it, and give the manifest.

        :raises ResponsesError: why the run stopped or failed; what is done is in the folder, and the next try goes on.
        """
        rows = Rows(self.job, self.fields, self._requests.entry)
        with fewer_collections(), tempfile.TemporaryDirectory(prefix="responses-enrich-") as scratch:
            try:
                with contextlib.closing(self.environment.open_index(Path(scratch, "index.sqlite"))) as index:
                    return self._run(rows, index, Path(scratch))
            except sqlite3.OperationalError as error:
                raise StorageError(
                    f"the index of the rows in {scratch} cannot be written ({error}); it takes about as much room as "
                    "the source: give the worker more, or another TMPDIR. What is answered is in the output",
                    path=scratch,
                ) from error

    def cancel(self, why: BaseException | None = None) -> None:
        """Stop at once, from any thread or a signal's handler; the responses that came are written."""
        self._cancelled = why or RequestCancelledError("the task was ended; what is done stays")
        self._on_loop("cancel", self._cancelled)

    def _on_loop(self, name: str, why: BaseException) -> None:
        """Stop or cancel the sender, if there is one yet."""
        loop, sender = self._loop, self._sender
        if loop is not None and sender is not None:
            loop.call_soon_threadsafe(getattr(sender, name), why)

    def _run(self, rows: Rows, index: Index, scratch: Path) -> dict[str, Any]:
        refuse_other(self.folder, self.folder.read_manifest())
        self.folder.acquire(resume=self.job.resume)
        lost = False
        try:
            manifest = self.folder.read_manifest()
            refuse_other(self.folder, manifest)  # it may have ended in between
            self._window = _window_of(manifest)
            with self._keeper() as lease:
                self._index(rows, index, lease)
                earlier = self._recall(index)
                changed.check(index, self.job, self._report.rows)
                if self.job.trial is not None and self._report.left:
                    self.job.trial(self._to_try(index, lease))
                self._report.say_begin()
                self.folder.confirm()
                stopped = asyncio.run(self._send(index, earlier, lease))
                lease.check()
                self.folder.renew()  # whoever took over writes the result
                manifest = self._close(index, scratch, stopped, self._watch(lease))
                self.folder.renew()  # a large result takes long to store, and the parts may be another's by then
                self.folder.delete_parts(but_not=self.folder.generation)
        except LeaseLostError:
            lost = True
            raise
        else:
            return manifest
        finally:
            if not lost:
                self._release()

    def _keeper(self) -> LeaseKeeper:
        return LeaseKeeper(
            self.folder.try_renew,
            self.folder.path,
            clock=self.environment.clock,
            lease_seconds=self.environment.lease_seconds,
            max_outage=self.job.limits.max_outage,
            lost=lambda error: self._on_loop("stop", error),
        )

    def _watch(self, lease: LeaseKeeper) -> UploadWatch:
        limits = self.job.limits
        return UploadWatch(
            clock=self.environment.clock,
            tick=self.environment.tick,
            patience=max(limits.max_outage, limits.max_unwritten_seconds),
            check=lease.check,
            is_hurried=lambda: self._cancelled is not None,
        )

    def _release(self) -> None:
        try:
            self.folder.release()
        except (OSError, ResponsesError) as error:
            log.warning("%s: the lease could not be released, and lapses by itself. %s", self.folder.path, error)

    def _index(self, rows: Rows, index: Index, lease: LeaseKeeper) -> None:
        """Read the source."""
        columns = parquet.Columns() if self.job.output_format == "parquet" else None
        for chunk in rows.read():
            self._report.rows += len(chunk)
            index.add(chunk)
            if columns is not None:
                columns.add([(row.position, json.loads(row.columns)) for row in chunk])
            if self._cancelled is not None:
                raise self._cancelled
            lease.check()
        if columns is not None:
            columns.check()
        self._report.source_rows = rows.total
        index.seal(self.job.key)
        self._refuse_invalid(index)

    def _to_try(self, index: Index, lease: LeaseKeeper) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the rows of the result, without their responses, as long as the run may go on."""
        for position, columns in index.valid_rows():
            yield position, json.loads(columns)
            if self._cancelled is not None:
                raise self._cancelled
            lease.check()

    def _refuse_invalid(self, index: Index) -> None:
        """Send nothing if so much is wrong with the rows that the run would fail in any case."""
        if (first := index.first_invalid()) is None:
            return
        number, key, error = first
        invalid = index.counts()[INVALID]
        cause = f"row {number} (key {key}): {error}".rstrip(". ")
        if index.requests_left() == 0:
            raise RequestValidationError(f"{cause}. No row can be sent")
        if not self.job.limits.allows(invalid, self._report.rows):
            raise RequestValidationError(
                f"{cause}. In all, {invalid} of {self._report.rows} rows cannot be sent, and limits.max_failures is "
                f"{self.job.limits.max_failures:g}, so no request was sent. Correct these rows, leave them out of the "
                "source, or raise the limit"
            )

    def _recall(self, index: Index) -> Earlier:
        """Read what earlier attempts have written."""
        report, earlier = self._report, Earlier(self.fields, self.job.run)
        before = index.requests_left()
        earlier.read(self.folder.read_parts(), index)
        report.spent = earlier.spent
        report.left = index.requests_left()
        report.reused = before - report.left
        return earlier

    async def _send(self, index: Index, earlier: Earlier, lease: LeaseKeeper) -> BaseException | None:
        """Send what has no response; return why that was stopped, if it was."""
        from airflow_provider_responses.client import AsyncResponsesClient
        from airflow_provider_responses.client.response_check import is_one_of_many

        is_one_of_many.set(True)  # in this run's own context
        environment, limits = self.environment, self.job.limits
        writer = environment.part_writer(
            self.folder,
            index,
            self.fields,
            typed=self._typed,
            prompt=(self.job.prompt or {}).get("fingerprint"),
            limits=limits,
            clock=environment.clock,
            tick=environment.tick,
            part_rows=environment.part_rows,
            flush_seconds=environment.flush_seconds,
        )
        progress = self._report.progress = Progress(
            most_expensive=earlier.most_expensive, priced=earlier.most_expensive > 0
        )
        make = environment.client or AsyncResponsesClient
        async with make(replace(self.job.config, max_ambiguous_retries=0)) as client:
            self._sender = sender = Sender(
                ask=Asker(self._requests, client, self._report).ask,
                take=index.pending,
                keep=lambda answer: self._keep(writer, sender, answer),
                limits=limits,
                config=self.job.config.for_call(self.job.options),
                budget=Budget(limits, progress, spent=earlier.spent.known, known=frozenset(earlier.known)),
                progress=progress,
                room=writer,
                initial_window=self._window,
                clock=environment.clock,
                sleep=environment.sleep,
                draw=environment.draw,
            )
            self._loop = asyncio.get_running_loop()
            if self._cancelled is not None:
                sender.stop(self._cancelled)
            lease.check()
            ended = asyncio.Event()
            beside = [asyncio.create_task(it) for it in (self._say(sender, ended), self._end_in_time(sender, ended))]
            writing = asyncio.create_task(writer.run(sender))
            writing.add_done_callback(lambda task: _stop_if_failed(sender, task))
            try:
                return await sender.run()
            finally:
                self._loop = None
                self._window = sender.throttle.window if progress.sent else self._window
                writer.finish(hurried=self._cancelled is not None)
                await asyncio.wait({writing})
                ended.set()
                await asyncio.wait(beside)
                with contextlib.closing(writer):
                    for task in (writing, *beside):
                        if not task.cancelled():
                            task.result()

    def _keep(self, writer: PartWriter, sender: Sender, answer: Answer) -> None:
        """Take what came of a request; stop where most fail, since the rest would be paid without use."""
        if self._typed and answer.status == OK and not isinstance(answer.value, Mapping):
            answer = replace(answer, status=UNREADABLE)  # its text, which is all there is, was asked for
        writer.keep(answer)
        self._report.note(answer)
        if answer.error is None or (answer.value is not None and self.job.run.on_invalid_output == "return"):
            return
        self._failed += answer.pending.rows
        progress = sender.progress
        if (
            progress.failures.total() >= FEWEST_FAILURES
            and progress.failures.total() * 2 > progress.done
            and not self.job.limits.allows(self._failed, self._report.rows)
        ):
            sender.stop(self._report.most_fail(answer))

    async def _say(self, sender: Sender, ended: asyncio.Event) -> None:
        """Report how it goes, now and then."""
        clock, reported = self.environment.clock, self.environment.clock()
        while not await _is_set(ended, self.environment.tick):
            if clock() - reported >= self.environment.progress_seconds:
                self._report.say(sender.throttle.window, sender.silence.current(clock()))
                reported = clock()

    async def _end_in_time(self, sender: Sender, ended: asyncio.Event) -> None:
        """Stop when the time of the run is over."""
        if (seconds := self.job.seconds) is None:
            return
        ends_at = self._report.began + seconds
        while (left := ends_at - self.environment.clock()) > 0:
            if await _is_set(ended, min(left, self.environment.tick)):
                return
        self._cancelled = _out_of_time(seconds)
        sender.cancel(self._cancelled)

    def _close(self, index: Index, scratch: Path, stopped: BaseException | None, watch: UploadWatch) -> dict[str, Any]:
        """Write the result and the manifest; fail if too many rows have."""
        if isinstance(stopped, RequestCancelledError):
            raise stopped  # there is no time; the parts are written
        counts = Counter({OK: 0} | index.counts())
        path, unwritten = None, None
        try:
            path = self._write(index, scratch, watch)
        except LeaseLostError:
            raise
        except ResponsesError as error:
            unwritten = error
        why = stopped or unwritten
        self.manifest = manifest = self._report.manifest(
            path, counts, complete=why is None, generation=self.folder.generation
        )
        manifest["window"] = None if self._window is None else int(self._window)
        self._write_manifest(manifest, watch, why)
        self._report.warn(index)
        self._report.say_end(counts, path)
        if stopped is not None and unwritten is not None:
            log.warning("There is no result: %s", unwritten)
        if why is not None:
            raise why
        total = self._report.rows
        failed = total - counts[OK]
        if self.job.run.on_invalid_output == "return":
            failed -= counts["incomplete"] + counts["refused"] + counts["unreadable"]
        if failed and (failed == total or not self.job.limits.allows(failed, total)):
            raise self._report.too_many_failed(failed, counts, results.first_error(index))
        return manifest

    def _write_manifest(self, manifest: dict[str, Any], watch: UploadWatch, why: BaseException | None) -> None:
        """Write the manifest; where the attempt fails in any case, it fails for its own reason."""
        storage = self.folder.storage
        is_safe = f"The result and all responses are safe in {storage}; a retry writes both and sends no request again"
        try:
            watch.run(lambda _: self.folder.write_manifest(manifest), storage.url(MANIFEST), is_safe)
        except StorageError as error:
            if why is None:
                raise
            log.warning("The manifest could not be written: %s", error)

    def _write(self, index: Index, scratch: Path, watch: UploadWatch) -> str:
        return results.write(
            index,
            self.folder.storage,
            scratch,
            output_format=self.job.output_format,
            unanswered=dict.fromkeys((*self.fields, *META)),
            check=self.folder.renew,
            watch=watch,
        )


def _stop_if_failed(sender: Sender, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        sender.stop(error)


def _window_of(manifest: Mapping[str, Any]) -> float | None:
    """Return the requests in flight that the last attempt ended with, None if it is unknown."""
    window = manifest.get("window")
    return window if isinstance(window, (int, float)) and not isinstance(window, bool) and window >= 1 else None


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
