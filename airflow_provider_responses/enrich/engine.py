"""
A table in, the same table with responses out: index the source, send the pending requests, write the result in order.

No Airflow: the caller provides the rows, the requests and the output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from airflow_provider_responses.enrich import parquet_result, result
from airflow_provider_responses.enrich.bounded_calls import UploadWatch
from airflow_provider_responses.enrich.budget import Budget
from airflow_provider_responses.enrich.changed_requests import check_changed_requests
from airflow_provider_responses.enrich.columns import response_columns
from airflow_provider_responses.enrich.earlier_responses import EarlierResponses
from airflow_provider_responses.enrich.garbage_collection import fewer_collections
from airflow_provider_responses.enrich.index import Index, PendingRequest
from airflow_provider_responses.enrich.indexed_rows import IndexedRows
from airflow_provider_responses.enrich.job import Environment, Job
from airflow_provider_responses.enrich.lease_keeper import LeaseKeeper
from airflow_provider_responses.enrich.outcome_json import OutcomeForms
from airflow_provider_responses.enrich.output_store import MANIFEST
from airflow_provider_responses.enrich.part_writer import PartWriter
from airflow_provider_responses.enrich.report import Report
from airflow_provider_responses.enrich.result_owner import check_owner
from airflow_provider_responses.enrich.row_client import InvalidOutputs, RowClient
from airflow_provider_responses.enrich.row_outcome import RowOutcome
from airflow_provider_responses.enrich.row_requests import RowRequests
from airflow_provider_responses.enrich.sender import Sender
from airflow_provider_responses.enrich.statuses import INVALID, OK, REJECTED
from airflow_provider_responses.exceptions import (
    LeaseLostError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    StorageError,
    TransportError,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

MIN_FAILURES: Final = 50  # requests, before an attempt ends early because most of them fail


class Enrichment:
    """
    One attempt of an enrichment.

    :param job: its arguments.
    :param environment: clocks, random numbers and factories.
    """

    def __init__(self, job: Job, environment: Environment | None = None) -> None:
        self.job = job
        self.environment = environment or Environment()
        self.store = self.environment.open_output(
            job.output_path, job.writer, self.environment.now, lease_seconds=self.environment.lease_seconds
        )
        self.columns = response_columns(job.request)
        self._requests = RowRequests(job, self.store)
        self._steps, self._forms = self._requests.steps, OutcomeForms(job, self.columns)
        self._index_request = self._requests.index
        self._report = Report(job, self.environment)
        self._began = self.environment.clock()
        self._sender: Sender | None = None
        self._cancelled: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed_rows = 0  # in this attempt
        self._window: float | None = None  # requests in flight at the end of an attempt
        self.manifest: dict[str, Any] | None = None  # once there is one, also of an attempt that failed

    @property
    def report(self) -> Report:
        """The counts of the attempt so far."""
        return self._report

    def run(self) -> dict[str, Any]:
        """
        Run the attempt, and return the manifest.

        :raises ResponsesError: if the attempt stopped or failed. Written responses are saved for the next attempt.
        """
        return self._with_index(self._run)

    def examine(self, read: Callable[[Index, Report], T]) -> T:
        """
        Index the source, read the responses of earlier attempts, and return what ``read`` returns.

        Nothing is sent and nothing is written.
        """

        def examine(rows: IndexedRows, index: Index, _: Path) -> T:
            self.store.look(resume=self.job.resume)
            self._index_source(rows, index, None)
            self._read_parts(index)
            return read(index, self._report)

        return self._with_index(examine)

    def _with_index(self, run: Callable[[IndexedRows, Index, Path], T]) -> T:
        rows = IndexedRows(self.job, self.columns, self._index_request)
        with fewer_collections(), tempfile.TemporaryDirectory(prefix="responses-enrich-") as scratch:
            try:
                with contextlib.closing(self.environment.open_index(Path(scratch, "index.sqlite"))) as index:
                    return run(rows, index, Path(scratch))
            except sqlite3.OperationalError as error:
                raise StorageError(
                    f"the index of the rows in {scratch} cannot be written ({error}); it needs about as much space as "
                    "the source: give the worker more, or set another TMPDIR. All responses are saved in the output",
                    path=scratch,
                ) from error
            finally:
                if self.job.files is not None:
                    self.job.files.close()

    def cancel(self, reason: BaseException | None = None) -> None:
        """Stop at once, from any thread or a signal handler. Responses that have arrived are written."""
        self._cancelled = reason or RequestCancelledError("the task was ended; all responses are saved")
        self._call_sender("cancel", self._cancelled)

    def running_batches(self) -> list[str]:
        """Return the ids of batches that run on if the task ends."""
        return []

    def _call_sender(self, method: str, reason: BaseException) -> None:
        """Stop or cancel the sender from another thread, if there is one yet."""
        loop, sender = self._loop, self._sender
        if loop is not None and sender is not None:
            loop.call_soon_threadsafe(getattr(sender, method), reason)

    def _run(self, rows: IndexedRows, index: Index, scratch: Path) -> dict[str, Any]:
        self._check_owner(self.store.read_manifest())
        self._acquire()
        is_lost = False
        try:
            manifest = self.store.read_manifest()
            self._check_owner(manifest)  # another task may have ended meanwhile
            self._window = _window_of(manifest)
            with self._keep_lease() as lease:
                with self.environment.log_group("Reading the source"):
                    earlier = self._read(rows, index, lease)
                self._report.log_start()
                self.store.confirm()
                self._begin_budget(earlier)
                with self.environment.log_group("Sending requests"):
                    stop_reason = self._process(index, earlier, lease)
                lease.check()
                self.store.renew()  # another writer that took over writes the result
                manifest = self._finish(index, scratch, stop_reason, self._watch_uploads(lease))
                self.store.renew()  # the upload may have taken long: another writer's parts must not be deleted
                self._clean_up()
        except LeaseLostError:
            is_lost = True
            raise
        else:
            return manifest
        finally:
            if not is_lost:
                self._release()

    def _read(self, rows: IndexedRows, index: Index, lease: LeaseKeeper) -> EarlierResponses:
        """Index the source, read the responses of earlier attempts, and check whether the others may be sent."""
        self._index_source(rows, index, lease)
        earlier = self._read_parts(index)
        check_changed_requests(index, self.job, self._report.rows)
        if self.job.trial is not None and self._needs_trial():
            self.job.trial(self._trial_rows(index, lease))
        if self.job.check_price is not None and self._needs_trial():
            self.job.check_price(self.job, index, self._report, self.store)
        return earlier

    def _acquire(self) -> None:
        self.store.acquire(resume=self.job.resume)

    def _check_owner(self, manifest: Mapping[str, Any]) -> None:
        """Refuse to replace the result of another task."""
        check_owner(self.store, manifest)

    def _needs_trial(self) -> bool:
        return bool(self._report.pending)

    def _clean_up(self) -> None:
        """Delete files that no later attempt needs, after the result and the manifest are written."""
        self.store.delete_parts(but_not=self.store.generation)

    def _extend_manifest(self, manifest: dict[str, Any], index: Index) -> None:
        """Add entries to the manifest."""
        manifest["window"] = None if self._window is None else int(self._window)
        manifest.update(self._report.steps_to_json(index, self._requests.model))

    def _keep_lease(self) -> LeaseKeeper:
        return LeaseKeeper(
            self.store.try_renew,
            self.store.path,
            clock=self.environment.clock,
            lease_seconds=self.environment.lease_seconds,
            max_outage=self.job.limits.max_outage,
            on_lost=lambda error: self._call_sender("stop", error),
        )

    def _watch_uploads(self, lease: LeaseKeeper) -> UploadWatch:
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
            self.store.release()
        except (OSError, ResponsesError) as error:
            log.warning("%s: the lease could not be released, and lapses by itself. %s", self.store.path, error)

    def _index_source(self, rows: IndexedRows, index: Index, lease: LeaseKeeper | None) -> None:
        types = parquet_result.ColumnTypes() if self.job.output_format == "parquet" else None
        for chunk in rows.read():
            self._report.rows += len(chunk)
            index.add(chunk)
            if types is not None:
                types.add([(row.position, json.loads(row.columns)) for row in chunk])
            self._check_running(lease)
        if types is not None:
            types.check()
        self._report.source_rows = rows.total
        index.check_keys(self.job.key)
        self._refuse_invalid(index)

    def _check_running(self, lease: LeaseKeeper | None) -> None:
        """Raise if the attempt was cancelled, or its lease is lost."""
        if self._cancelled is not None:
            raise self._cancelled
        if lease is not None:
            lease.check()

    def _trial_rows(self, index: Index, lease: LeaseKeeper) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield position and columns of the rows that will be sent, while the attempt may go on."""
        for position, columns in index.valid_rows():
            yield position, json.loads(columns)
            self._check_running(lease)

    def _refuse_invalid(self, index: Index) -> None:
        """Send nothing if the invalid rows alone would fail the task."""
        if (first := index.first_invalid()) is None:
            return
        number, key, error = first
        invalid = index.counts()[INVALID]
        cause = f"row {number} (key {key}): {error}".rstrip(". ")
        if index.count_pending() == 0:
            raise RequestValidationError(f"{cause}. No row can be sent")
        if not self.job.limits.allows(invalid, self._report.rows):
            raise RequestValidationError(
                f"{cause}. In all, {invalid} of {self._report.rows} rows cannot be sent, and limits.max_failures is "
                f"{self.job.limits.max_failures:g}, so no request was sent. Correct these rows, leave them out of the "
                "source, or raise the limit"
            )

    def _read_parts(self, index: Index) -> EarlierResponses:
        """Read the responses of earlier attempts."""
        report, earlier = self._report, EarlierResponses(self.job, self._steps, self.columns)
        before = index.count_pending()
        earlier.read(self.store.read_parts(), index)
        report.spent, report.steps = earlier.spent, earlier.counts
        report.pending = index.count_pending()
        report.reused = before - report.pending
        return earlier

    def _begin_budget(self, earlier: EarlierResponses) -> None:
        """Begin to count the costs of this attempt, after those of earlier ones."""
        progress = self._report.progress
        for kind, price in earlier.highest_prices.items():
            progress.note_price(kind, price)
        progress.priced_kinds.update(kind for kind, price in progress.highest_prices.items() if price > 0)
        self._budget = Budget(
            self.job.limits,
            progress,
            spent=self._report.spent.known,
            counted_generations=frozenset(earlier.counted_generations),
        )

    def _process(self, index: Index, earlier: EarlierResponses, lease: LeaseKeeper) -> BaseException | None:  # noqa: ARG002  for subclasses
        """Get a response for each pending request; return why that stopped early, if it did."""
        return asyncio.run(self._send(index, lease))

    async def _send(self, index: Index, lease: LeaseKeeper) -> BaseException | None:
        """Send the pending requests; return why sending stopped early, if it did."""
        from airflow_provider_responses.client import AsyncResponsesClient
        from airflow_provider_responses.client.response_check import is_one_of_many

        is_one_of_many.set(True)  # in the context of this attempt alone
        environment, limits = self.environment, self.job.limits
        writer = self._make_writer(index)
        progress = self._report.progress
        make = environment.client or AsyncResponsesClient
        async with make(replace(self.job.config, max_ambiguous_retries=0)) as client:
            self._sender = sender = Sender(
                send=RowClient(self._requests, client, self._report, self._invalid_before(), environment.tracing).send,
                read=index.next_pending,
                steps=self._steps,
                on_outcome=lambda outcome: self._add_outcome(writer, sender, index, outcome),
                limits=limits,
                config=self.job.config.for_call(self.job.options),
                budget=self._budget,
                progress=progress,
                backlog=writer,
                initial_window=self._window,
                clock=environment.clock,
                sleep=environment.sleep,
                draw=environment.draw,
            )
            self._loop = asyncio.get_running_loop()
            if self._cancelled is not None:
                sender.stop(self._cancelled)
            lease.check()
            return await self._run_sender(sender, writer)

    def _invalid_before(self) -> Mapping[bytes, InvalidOutputs]:
        """Return the number of invalid outputs that requests have had in this attempt, before they are sent."""
        return {}

    def _make_writer(self, index: Index) -> PartWriter:
        environment = self.environment
        return environment.part_writer(
            self.store,
            index,
            self._forms,
            limits=self.job.limits,
            clock=environment.clock,
            tick=environment.tick,
            part_rows=environment.part_rows,
            flush_seconds=environment.flush_seconds,
        )

    async def _run_sender(self, sender: Sender, writer: PartWriter) -> BaseException | None:
        """Run the sender beside the part writer, the progress lines and the timeout; return why it stopped early."""
        ended = asyncio.Event()
        others = [asyncio.create_task(it) for it in (self._log_progress(sender, ended), self._time_out(sender, ended))]
        writing = asyncio.create_task(writer.run(sender))
        writing.add_done_callback(lambda task: _stop_if_failed(sender, task))
        try:
            return await sender.run()
        finally:
            self._loop = None
            self._window = sender.throttle.window if sender.progress.sent else self._window
            writer.finish(hurried=self._cancelled is not None)
            await asyncio.wait({writing})
            ended.set()
            await asyncio.wait(others)
            with contextlib.closing(writer):
                for task in (writing, *others):
                    if not task.cancelled():
                        task.result()

    def _add_outcome(
        self, writer: PartWriter, sender: Sender, index: Index, outcome: RowOutcome
    ) -> PendingRequest | None:
        """Add the outcome of a step, and return the request with the next step, None if it has ended."""
        if outcome.fatal is not None and (row := index.name_row(outcome.request.fingerprint)):
            outcome.fatal.about(row)
        writer.add(outcome)
        self._report.note_outcome(outcome)
        if outcome.next is not None:
            return self._forms.pending(outcome, outcome.next)
        if outcome.status != OK:
            self._note_failed_row(sender, outcome)
        return None

    def _note_failed_row(self, sender: Sender, outcome: RowOutcome) -> None:
        """Stop if most requests fail, since others would be paid without use."""
        is_accepted = outcome.value is not None and self.job.request.on_invalid_output == "return"
        if outcome.error is None or is_accepted:
            return
        self._failed_rows += outcome.request.row_count
        progress = sender.progress
        if (
            progress.failures.total() >= MIN_FAILURES
            and progress.failures.total() * 2 > progress.done
            and not self.job.limits.allows(self._failed_rows, self._report.rows)
        ):
            sender.stop(self._report.most_failed_error(outcome))

    async def _log_progress(self, sender: Sender, ended: asyncio.Event) -> None:
        clock, logged_at = self.environment.clock, self.environment.clock()
        while not await _wait_for(ended, self.environment.tick):
            if clock() - logged_at >= self.environment.progress_seconds:
                self._report.log_progress(sender.throttle.window, sender.silence.current(clock()))
                logged_at = clock()

    async def _time_out(self, sender: Sender, ended: asyncio.Event) -> None:
        """Cancel the sender when the timeout of the attempt is over."""
        if (timeout := self.job.timeout) is None:
            return
        ends_at = self._began + timeout  # not since the attempt's start: it may have waited without a worker
        while (left := ends_at - self.environment.clock()) > 0:
            if await _wait_for(ended, min(left, self.environment.tick)):
                return
        self._cancelled = TransportError(
            f"the task's time of {timeout:.0f} s is over; all responses are saved, and a retry continues from there",
            kind="deadline",
        )
        sender.cancel(self._cancelled)

    def _finish(
        self, index: Index, scratch: Path, stop_reason: BaseException | None, watch: UploadWatch
    ) -> dict[str, Any]:
        """Write the result and the manifest; raise if the attempt stopped early, or too many rows have failed."""
        if isinstance(stop_reason, RequestCancelledError):
            raise stop_reason  # there is no time for a result; the responses are written
        counts = Counter({OK: 0} | index.counts())
        path, unwritten = None, None
        try:
            with self.environment.log_group("Writing the result"):
                path = self._write_result(index, scratch, watch)
        except LeaseLostError:
            raise
        except ResponsesError as error:
            unwritten = error
        failure = stop_reason or unwritten
        self.manifest = manifest = self._report.manifest(
            path, counts, complete=failure is None, generation=self.store.generation
        )
        self._extend_manifest(manifest, index)
        self._write_manifest(manifest, watch, failure)
        self._report.log_warnings(index)
        self._report.log_end(counts, path)
        if stop_reason is not None and unwritten is not None:
            log.warning("There is no result: %s", unwritten)
        if failure is not None:
            raise failure
        total = self._report.rows
        failed = total - counts[OK]
        if self.job.request.on_invalid_output == "return":
            failed -= sum(counts[status] for status in REJECTED)
        if failed and (failed == total or not self.job.limits.allows(failed, total)):
            raise self._report.too_many_failed_error(failed, counts, result.first_error(index))
        return manifest

    def _write_manifest(self, manifest: dict[str, Any], watch: UploadWatch, failure: BaseException | None) -> None:
        """Write the manifest. If the attempt has failed already, an error here is only logged."""
        storage = self.store.storage
        is_safe = f"The result and all responses are safe in {storage}; a retry writes both and sends no request again"
        try:
            watch.run(lambda _: self.store.write_manifest(manifest), storage.url(MANIFEST), is_safe)
        except StorageError as error:
            if failure is None:
                raise
            log.warning("The manifest could not be written: %s", error)

    def _write_result(self, index: Index, scratch: Path, watch: UploadWatch) -> str:
        return result.write_result(
            index,
            self.store.storage,
            scratch,
            output_format=self.job.output_format,
            empty=self._forms.empty(),
            check=self.store.renew,
            watch=watch,
        )


def _stop_if_failed(sender: Sender, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        sender.stop(error)


def _window_of(manifest: Mapping[str, Any]) -> float | None:
    """Return the number of requests that could be in flight at the end of the last attempt, None if unknown."""
    window = manifest.get("window")
    return window if isinstance(window, (int, float)) and not isinstance(window, bool) and window >= 1 else None


async def _wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; return whether it was set in time."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
