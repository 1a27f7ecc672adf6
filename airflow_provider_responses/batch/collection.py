"""Collects the batches that have ended: lands their results and records that in the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.batch.context import list_ids
from airflow_provider_responses.batch.landing import COMPLETED, Landing
from airflow_provider_responses.exceptions import APIError, BatchError, ResponsesError
from airflow_provider_responses.models.batch import FINISHED_STATUSES
from airflow_provider_responses.task.cost_total import short_dollars

if TYPE_CHECKING:
    from airflow_provider_responses.batch.context import StepContext
    from airflow_provider_responses.batch.journal import BatchRecord, Landed
    from airflow_provider_responses.models.batch import Batch

log = logging.getLogger(__name__)

GONE: Final = frozenset({404, 410})  # statuses of a read


class Collection:
    """
    See the module.

    :param statuses: final statuses of batches by id, as far as they are known already.
    :param make_landing: makes the landing of one batch.
    """

    def __init__(
        self, context: StepContext, statuses: Mapping[str, str | None], make_landing: Callable[[], Landing]
    ) -> None:
        self._context, self._statuses, self._make_landing = context, statuses, make_landing
        self._failed: dict[str, Batch] = {}  # that did not complete, by id
        self.budget_error: ResponsesError | None = None  # `limits.max_cost` cannot be observed
        self._unreadable: list[ResponsesError] = []  # errors of batches that no retry can read

    def run(self) -> None:
        """
        Land the batches that have ended.

        :raises BatchError: if a batch is gone, with ``on_orphaned_intent="fail"``. The others have landed by then.
        :raises ResponsesError: if a batch cannot be read, or a result cannot be written. It can be repeated.
        """
        for record in [it for it in self._context.journal.unlanded if it.batch_id is not None]:
            self._context.check()
            try:
                status = self._final_status(str(record.batch_id))
                if status is not None:
                    self._land(record, str(record.batch_id), status)
            except APIError as error:
                if error.retryable:
                    raise
                if error.status_code in GONE:
                    self._forget(record, error)
                else:
                    self._unreadable.append(error)
        if self._unreadable:
            raise self._unreadable[0]

    def check_failures(self) -> None:
        """
        Fail the attempt after a batch that did not complete, if the user has asked for that.

        :raises BatchError: naming the batches, and those that run on.
        """
        failed = [(it, landed) for it, landed in self._context.journal.landed if landed.status != COMPLETED]
        if self._context.options.on_batch_failure != "fail" or not failed:
            return
        running = [str(it.batch_id) for it in self._context.journal.unlanded if it.batch_id is not None]
        others = f". The batches {list_ids(running)} run on and are billed; a clear lands them" if running else ""
        described = ", ".join(self._describe(str(record.batch_id), landed) for record, landed in failed)
        raise BatchError(
            f"{described} (on_batch_failure='fail'). Its results, if any, are written. Clear the task to submit the "
            f"other rows again{others}",
            batch_ids=tuple(str(record.batch_id) for record, _ in failed),
        )

    def _describe(self, batch_id: str, landed: Landed) -> str:
        batch = self._failed.get(batch_id)
        reason = f": {batch.error_message.rstrip('.')}" if batch is not None and batch.error_message else ""
        return f"batch {batch_id} is {landed.status}{reason}"

    def _final_status(self, batch_id: str) -> str | None:
        """Return the final status of a batch; None if it has not ended."""
        if self._statuses.get(batch_id) == COMPLETED:
            return COMPLETED
        batch = self._context.client.get_batch(batch_id)
        if batch.status in FINISHED_STATUSES and batch.status != COMPLETED:
            self._failed[batch_id] = batch  # which holds the reason
        return batch.status if batch.is_finished else None

    def _land(self, record: BatchRecord, batch_id: str, status: str) -> None:
        landing = self._make_landing()
        failed = self._failed.get(batch_id)
        landed = landing.land(record, status, failed, self._context.client.iter_batch_results(batch_id))
        self.budget_error = self.budget_error or landing.budget_error
        self._context.store.renew()
        self._context.journal.set_landed(record, landed)
        reason = f" ({failed.error_message})" if failed is not None and failed.error_message else ""
        log.log(
            logging.INFO if status == COMPLETED else logging.WARNING,
            "Batch %s is %s%s: %d results, %d requests are put back, %d sent again; cost %s",
            batch_id,
            status,
            reason,
            landed.results,
            len(landed.put_back),
            len(landed.resend) + len(landed.invalid),
            "unknown" if landed.cost is None else short_dollars(landed.cost),
        )
        self._context.report.report_figures()
        if self._context.options.delete_after:
            self._delete(batch_id)

    def _delete(self, batch_id: str) -> None:
        try:
            self._context.client.delete_batch(batch_id)
        except ResponsesError as error:
            log.warning("Batch %s could not be deleted (delete_after): %s", batch_id, error)

    def _forget(self, record: BatchRecord, error: APIError) -> None:
        """Put back the rows of a batch that the server does not know any more, if the user accepts the cost."""
        text = f"batch {record.batch_id} is gone, with the responses of {len(record.intent.fingerprints)} rows: {error}"
        if self._context.options.on_orphaned_intent == "fail":
            gone = BatchError(
                f"{text.rstrip('.')}. Set on_orphaned_intent='resubmit' to submit these rows again, which is paid "
                "again",
                batch_ids=(str(record.batch_id),),
            )
            gone.__cause__ = error
            self._unreadable.append(gone)
            return
        log.warning("%s. Its rows are submitted again (on_orphaned_intent)", text)
        self._context.journal.discard(record)
