"""
An enrichment whose requests go into batches.

An attempt runs in steps, with hours between them: each reads the source and the parts, lands the batches that have
ended, submits what is left, and then either waits for batches, without a worker, or writes the result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.batch.collection import Collection
from airflow_provider_responses.batch.context import Leftovers, StepContext, Unfinished, list_ids
from airflow_provider_responses.batch.journal import BatchJournal, attempt_id
from airflow_provider_responses.batch.landing import Landing, PartBuffer
from airflow_provider_responses.batch.orphans import recover
from airflow_provider_responses.batch.requests import BatchableRequests
from airflow_provider_responses.batch.submission import Submission, chunks
from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.row_client import InvalidOutputs
from airflow_provider_responses.exceptions import BatchError, ResponsesError

if TYPE_CHECKING:
    from airflow_provider_responses.batch.options import BatchOptions
    from airflow_provider_responses.client import ResponsesClient
    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.enrich.earlier_responses import EarlierResponses
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.job import Environment, Job
    from airflow_provider_responses.enrich.lease_keeper import LeaseKeeper

log = logging.getLogger(__name__)

MAX_SUBMITS: Final = 3  # of the same requests in one step, whose response was lost each time, and that made no batch


class _BatchesUnfinishedError(Exception):
    def __init__(self, unfinished: Unfinished) -> None:
        super().__init__("batches have not ended")
        self.unfinished = unfinished


class BatchEnrichment(Enrichment):
    """
    One attempt of an enrichment, whose requests may go into batches; see :meth:`step`.

    :param job: its arguments.
    :param options: those about batches.
    :param environment: clocks, random numbers and factories.
    :param totals: of :class:`Unfinished`, if an earlier step of this attempt has returned it.
    :param statuses: final statuses of batches by id, as far as they are known already.
    :param make_client: makes the blocking client of the batch calls.
    :param sleep: waits in the caller's thread.
    """

    def __init__(
        self,
        job: Job,
        options: BatchOptions,
        environment: Environment | None = None,
        *,
        totals: Mapping[str, Any] | None = None,
        statuses: Mapping[str, str | None] | None = None,
        make_client: Callable[[ClientConfig], ResponsesClient] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(job, environment)
        self.options = options
        self._totals, self._statuses = totals, dict(statuses or {})
        self._make_client, self._sleep = make_client or _open_client, sleep
        self._batchable = BatchableRequests(job, self._requests)
        self._client: ResponsesClient | None = None
        self._journal = BatchJournal(self.store, attempt_id(self.store.writer))
        if totals is not None:
            self._report.restore(totals)  # for the report of an attempt that ends before it reads the parts
        if options.mode == "batch":
            self._index_request = self._batchable.index

    def step(self) -> dict[str, Any] | Unfinished:
        """
        Run one step of the attempt, and return the manifest, or the batches to wait for.

        :raises ResponsesError: if the attempt failed. Nothing is lost, and no batch is submitted again by the next one.
        """
        try:
            return self.run()
        except _BatchesUnfinishedError as stop:
            return stop.unfinished

    def cancel(self, reason: BaseException | None = None) -> None:
        super().cancel(reason)
        if self._client is not None:
            self._client.cancel()

    def running_batches(self) -> list[str]:
        """Return the ids of submitted batches whose results are not written; the server runs and bills them."""
        return [record.batch_id for record in self._journal.unlanded if record.batch_id is not None]

    def _acquire(self) -> None:
        self.store.acquire(resume=self.job.resume, generation=(self._totals or {}).get("generation"))

    def _read_parts(self, index: Index) -> EarlierResponses:
        earlier = super()._read_parts(index)
        if self._totals is not None:
            self._report.restore(self._totals)
            self._report.add_unreported(earlier.spent)
        return earlier

    def _needs_trial(self) -> bool:
        return self._totals is None and super()._needs_trial()

    def _process(self, index: Index, earlier: EarlierResponses, lease: LeaseKeeper) -> BaseException | None:
        self._journal.read()
        if self._journal.abandoned:
            log.warning("%d batches from before resume=False run on and are billed, unused", self._journal.abandoned)
        if self.options.mode == "live" and not self._journal.records:
            return super()._process(index, earlier, lease)
        with self._make_client(self.job.config.for_call(self.job.options)) as client:
            self._client = client
            self._check_running(lease)
            stop_reason = self._run_batches(self._context(client, index, lease), earlier)
        return super()._process(index, earlier, lease) or stop_reason

    def _context(self, client: ResponsesClient, index: Index, lease: LeaseKeeper) -> StepContext:
        return StepContext(
            job=self.job,
            options=self.options,
            client=client,
            store=self.store,
            journal=self._journal,
            index=index,
            report=self._report,
            requests=self._batchable,
            check=partial(self._check_running, lease),
            now=self.environment.now,
            sleep=self._sleep,
        )

    def _run_batches(self, context: StepContext, earlier: EarlierResponses) -> ResponsesError | None:
        """Land, submit, and wait; return why the attempt must stop before all rows have a response."""
        recovered = recover(context)
        collection = Collection(context, self._statuses, partial(self._make_landing, context, earlier))
        collection.run()
        leftovers = self._hold(context.index)
        collection.check_failures()
        if (stop_reason := collection.budget_error) is not None:
            for requests in chunks(context.index):
                context.index.hold(request.fingerprint for request in requests)
        else:
            for _ in range(MAX_SUBMITS):
                stop_reason = Submission(context, leftovers).run()
                recovered = recover(context)  # of submits whose response was lost
                if not recovered.put_back:
                    break
            else:
                raise BatchError(
                    f"{recovered.put_back} requests could not be submitted: {MAX_SUBMITS} times in a row, the response "
                    "was lost, and the server lists no batch. A retry submits them again",
                    retryable=True,
                )
        waiting_for = tuple(dict.fromkeys((*self.running_batches(), *recovered.provisional)))
        if waiting_for:
            self._wait_for(waiting_for, context)
        return stop_reason

    def _make_landing(self, context: StepContext, earlier: EarlierResponses) -> Landing:
        return Landing(
            request=self._requests.task_request,
            index=context.index,
            steps=self._steps,
            forms=self._forms,
            budget=self._budget,
            report=self._report,
            buffer=PartBuffer(self._write_part, context.index, self.environment.part_rows),
            counted=frozenset(earlier.counted_generations),
            leftovers=Leftovers.of(self._journal),
            check=context.check,
        )

    def _write_part(self, lines: list[str]) -> None:
        if self.store.can_append:
            self.store.append(lines)
        else:
            self.store.write_part(lines)

    def _hold(self, index: Index) -> Leftovers:
        """Hold the requests that are in batches, and those that this attempt does not send again."""
        leftovers = Leftovers.of(self._journal)
        self._batchable.feedback = leftovers.feedback
        again = leftovers.put_back | leftovers.resend
        for record in [record for record, _ in self._journal.landed]:
            index.hold(bytes.fromhex(it) for it in record.intent.fingerprints if it not in again)
        index.release_later_steps()  # which are sent live
        for record in self._journal.unlanded:
            index.hold(map(bytes.fromhex, record.intent.fingerprints))
        return leftovers

    def _wait_for(self, batch_ids: tuple[str, ...], context: StepContext) -> None:
        """End the step, since its batches have not ended."""
        context.check()  # a task that was ended must not be deferred
        if self.options.mode == "live":
            raise BatchError(
                f"output_path {str(self.store.path)!r} has rows in batches that have not ended "
                f"({list_ids(batch_ids)}), and mode is 'live'; sent live, they would be paid twice. Set mode='batch' "
                "to wait for these batches, or resume=False to send all rows again",
                batch_ids=batch_ids,
            )
        # A clock may have jumped back since; and an attempt after an overdue batch waits for it again.
        submitted = min(max(record.intent.created for record in self._journal.unlanded), context.now())
        deadline = self.options.deadline(context.started, max(submitted, context.started))
        if context.now() >= deadline:
            limit = "the time that a batch may take" if self.options.finish_within is None else "finish_within"
            raise BatchError(
                f"{limit} is over and {len(batch_ids)} batches have not ended ({list_ids(batch_ids)}); they run on "
                "and are billed. Clear the task to wait for them again: none is submitted twice",
                batch_ids=batch_ids,
            )
        self._report.log_warnings(context.index)
        self._report.running_batches = len(batch_ids)
        self._report.report_figures()
        raise _BatchesUnfinishedError(
            Unfinished(
                batch_ids=batch_ids,
                deadline=deadline,
                totals={**self._report.to_totals(), "generation": self.store.generation},
            )
        )

    def _invalid_before(self) -> Mapping[bytes, InvalidOutputs]:
        leftovers = Leftovers.of(self._journal)
        return {
            bytes.fromhex(it): InvalidOutputs(count, tuple(leftovers.feedback.get(it, ())))
            for it, count in leftovers.invalid.items()
        }

    def _clean_up(self) -> None:
        super()._clean_up()
        self._journal.clean_up()

    def _extend_manifest(self, manifest: dict[str, Any], index: Index) -> None:
        super()._extend_manifest(manifest, index)
        if self.options.mode == "live" and not self._journal.records:
            return
        manifest["batches"] = [
            {
                "id": record.batch_id,
                "model": record.intent.model,
                "status": None if record.landed is None else record.landed.status,
                "requests": len(record.intent.fingerprints),
                "cost": None if record.landed is None else record.landed.cost,
            }
            for record in self._journal.records
        ]


def _open_client(config: ClientConfig) -> ResponsesClient:
    from airflow_provider_responses.client import ResponsesClient
    from airflow_provider_responses.client.sync_pool import SyncPool

    return ResponsesClient(config, pool=SyncPool(route=config.route))
