"""Reads the results of a batch as they stream, and writes them into the parts as live responses."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.batch.journal import Landed
from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.enrich.budget import Budget, RequestCost
from airflow_provider_responses.enrich.failure_policy import Kind, kind_of, status_after
from airflow_provider_responses.enrich.index import PendingRequest
from airflow_provider_responses.enrich.next_step import FIRST
from airflow_provider_responses.enrich.progress import Progress
from airflow_provider_responses.enrich.row_outcome import RowOutcome, count_marks, end_step, status_of
from airflow_provider_responses.enrich.sources import CHUNK_SIZE
from airflow_provider_responses.enrich.statuses import FAILED, INVALID_OUTPUT
from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    BatchError,
    ConfigurationError,
    OutputValidationError,
    ResponsesError,
    TransportError,
)
from airflow_provider_responses.task.attempt import Exchange
from airflow_provider_responses.task.cost import paid_for, paid_generation, total_cost
from airflow_provider_responses.task.feedback import feedback_of

if TYPE_CHECKING:
    from airflow_provider_responses.batch.context import Leftovers
    from airflow_provider_responses.batch.journal import BatchRecord, Intent
    from airflow_provider_responses.enrich.index import FoundRow, Index, IndexedOutcome
    from airflow_provider_responses.enrich.outcome_json import OutcomeForms
    from airflow_provider_responses.enrich.report import Report
    from airflow_provider_responses.enrich.row_steps import RowSteps
    from airflow_provider_responses.models.batch import Batch, BatchResult
    from airflow_provider_responses.task.outcome import Outcome
    from airflow_provider_responses.task.request import TaskRequest

log = logging.getLogger(__name__)

COMPLETED: Final = "completed"
MAX_RESENDS: Final = 2  # of a request that a batch could not serve, such as after a 429 of its provider
SHOWN_IDS: Final = 3
# Of the request because of which a batch was refused, in the order of the batch, from 0.
_POSITION: Final = re.compile(r"\b(?:requests[.\[]|request (?=\d+(?::| must\b)))(\d+)", re.IGNORECASE)


class PartBuffer:
    """
    Collects the outcomes of requests, and writes them to the parts and to the index.

    :param write: writes the lines of a part.
    :param size: maximum number of lines of a part.
    """

    def __init__(self, write: Callable[[list[str]], object], index: Index, size: int) -> None:
        self._write, self._index, self._size = write, index, size
        self._lines: list[str] = []
        self._outcomes: list[IndexedOutcome] = []
        self._bytes = 0

    def add(self, line: str, outcome: IndexedOutcome) -> None:
        """Add an outcome: its line, and its entry in the index."""
        self._lines.append(line)
        self._outcomes.append(outcome)
        self._bytes += len(line)
        if len(self._lines) >= self._size or self._bytes >= CHUNK_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        if self._lines:
            self._write(self._lines)
            self._index.add_outcomes(self._outcomes)
            self._lines, self._outcomes, self._bytes = [], [], 0


@dataclass
class _Counts:
    """The counts of one landing."""

    results: int = 0
    cost: float | None = 0.0
    repeated: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    resend: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    feedback: dict[str, str] = field(default_factory=dict)


class Landing:
    """
    See the module. A landing that was interrupted can be repeated: results that are in the parts are skipped.

    :param request: how responses are read.
    :param steps: of the requests.
    :param forms: of outcomes, in the parts and in the index.
    :param budget: counts their costs.
    :param counted: generations whose cost is counted already, though their requests are sent again.
    :param leftovers: of the batches that this attempt has landed before.
    :param check: raises if the attempt must end.
    """

    # Many arguments: each is a part of the engine.
    def __init__(
        self,
        *,
        request: TaskRequest,
        index: Index,
        steps: RowSteps,
        forms: OutcomeForms,
        budget: Budget,
        report: Report,
        buffer: PartBuffer,
        counted: frozenset[str],
        leftovers: Leftovers,
        check: Callable[[], None],
    ) -> None:
        self._output_retries = request.output_retries
        self._request = replace(request, output_retries=0)
        self._index, self._steps, self._forms = index, steps, forms
        self._budget, self._report, self._buffer, self._counted = budget, report, buffer, counted
        self._leftovers, self._check = leftovers, check
        self.budget_error: ResponsesError | None = None  # `limits.max_cost` cannot be observed

    def land(self, record: BatchRecord, status: str, batch: Batch | None, results: Iterable[BatchResult]) -> Landed:
        """
        Write the results of a batch.

        :param status: its final status.
        :param batch: with the reason of its failure, if it is not ``completed``.
        :raises ResponsesError: if the results cannot be read or written. The landing can be repeated.
        """
        intent, counts = record.intent, _Counts()
        missing = dict.fromkeys(intent.fingerprints)
        own = frozenset(missing)
        try:
            for result in results:
                self._check()
                fingerprint = intent.fingerprint_of(result.custom_id)
                if fingerprint is None or fingerprint not in missing:
                    (counts.repeated if fingerprint in own else counts.unknown).append(result.custom_id)
                    continue
                del missing[fingerprint]
                counts.results += 1
                self._add(result, fingerprint, counts)
        except (APIError, TransportError, ConfigurationError):
            self._buffer.flush()  # the rest may be gone for good
            raise
        self._log(record, counts)
        if batch is not None and status == "failed" and not counts.results:
            for fingerprint, message in _refused_requests(batch, intent).items():
                del missing[fingerprint]
                self._add_refused(fingerprint, message)
        if status == COMPLETED:
            self._add_missing(record, missing, counts)
            missing = {}
        self._buffer.flush()
        return Landed(
            status=status,
            results=counts.results,
            cost=None if counts.cost is None else round(counts.cost, 9),
            put_back=list(missing),
            resend=counts.resend,
            invalid=counts.invalid,
            feedback=counts.feedback,
        )

    def _add(self, result: BatchResult, fingerprint: str, counts: _Counts) -> None:
        row = self._index.find_row(bytes.fromhex(fingerprint))
        outcome = self._read(result)
        price = 0.0 if outcome.response is None else paid_for(outcome.response)
        counts.cost = total_cost((counts.cost, price))
        status = self._index.status_of(bytes.fromhex(fingerprint)) if row is None else row.status
        if status not in {None, FAILED}:
            return  # an earlier landing has written it
        cost = RequestCost()
        progress = self._report.progress
        is_counted = outcome.response is not None and paid_generation(outcome.response) in self._counted
        if not is_counted:
            try:
                self._budget.record(cost, outcome)
            except ResponsesError as error:
                self.budget_error = error
        if row is None:
            if not is_counted and outcome.response is not None:
                self._add_unused(fingerprint, outcome, cost)
        elif outcome.error is None:
            count_marks(progress, outcome)
            self._finish(row, fingerprint, status_of(outcome), outcome, cost)
        elif (again := self._list_for_resend(outcome.error, fingerprint, counts)) is not None:
            again.append(fingerprint)
            if again is counts.invalid and (text := self._feedback_of(outcome.error)) is not None:
                counts.feedback[fingerprint] = text
            progress.resent[_kind_of_resend(outcome.error)] += 1
            if not is_counted and outcome.response is not None:
                # Only its cost counts; the request itself has not ended.
                row_outcome = self._end(Progress(), _request(row, fingerprint), FAILED, outcome, cost)
                self._report.count_step(row_outcome)
                self._write(row, row_outcome)
        else:
            self._finish(row, fingerprint, status_after(outcome.error), outcome, cost)

    def _read(self, result: BatchResult) -> Outcome:
        exchange = Exchange(self._request, RequestOptions())
        error = result.error
        if error is None:
            assert result.response is not None  # noqa: S101  a result has one of both
            outcome = exchange.receive(result.response)
            assert outcome is not None  # noqa: S101  it has no retries
            return outcome
        error.response = error.response or result.response
        return exchange.fail(error)

    def _list_for_resend(self, error: ResponsesError, fingerprint: str, counts: _Counts) -> list[str] | None:
        """Return the list of requests to which one is added to be sent again, None if it has ended."""
        if kind_of(error) is Kind.RESPONSE:
            if self._steps.is_escalated(FIRST, status_after(error)):
                return None  # the larger model is asked in place of this one
            is_left = self._leftovers.invalid[fingerprint] < self._output_retries
            return counts.invalid if status_after(error) == INVALID_OUTPUT and is_left else None
        return counts.resend if error.retryable and self._may_resend(fingerprint) else None

    def _feedback_of(self, error: ResponsesError) -> str | None:
        return feedback_of(self._request, error) if isinstance(error, OutputValidationError) else None

    def _may_resend(self, fingerprint: str) -> bool:
        return self._leftovers.resends[fingerprint] < MAX_RESENDS

    def _finish(self, row: FoundRow, fingerprint: str, status: str, outcome: Outcome, cost: RequestCost) -> None:
        row_outcome = self._end(self._report.progress, _request(row, fingerprint), status, outcome, cost)
        self._report.note_outcome(row_outcome)
        self._write(row, row_outcome)
        if row_outcome.fatal is not None:
            raise row_outcome.fatal.about(f"row {row.position} (key {row.key})")

    def _write(self, row: FoundRow, outcome: RowOutcome) -> None:
        columns = self._forms.columns(outcome)
        line = self._forms.line((row.position, row.key, row.columns), outcome, columns)
        self._buffer.add(line, self._forms.indexed(outcome, columns))

    def _add_unused(self, fingerprint: str, outcome: Outcome, cost: RequestCost) -> None:
        """Add a response whose row is not in the source any more: it is paid for, and a later run may need it."""
        request = PendingRequest(-1, bytes.fromhex(fingerprint), 0, "{}")
        status = status_of(outcome) if outcome.error is None else status_after(outcome.error)
        row_outcome = self._end(Progress(), request, status, outcome, cost)
        self._report.count_step(row_outcome)
        columns = self._forms.columns(row_outcome)
        line = self._forms.line_without_row(row_outcome, columns)
        self._buffer.add(line, self._forms.indexed(row_outcome, columns))

    def _add_refused(self, fingerprint: str, message: str) -> None:
        """Add a request because of which the server has refused its batch."""
        row = self._index.find_row(bytes.fromhex(fingerprint))
        if row is None:
            return
        error = BadRequestResponseError(f"its batch was refused because of this request: {message}", status_code=400)
        outcome = Exchange(self._request, RequestOptions()).fail(error)
        log.warning("Row %d: %s. The other rows of the batch are put back", row.position, error)
        self._finish(row, fingerprint, FAILED, outcome, RequestCost())

    def _add_missing(self, record: BatchRecord, missing: Iterable[str], counts: _Counts) -> None:
        """Add the requests without a result in a completed batch: most are sent again, and the others have failed."""
        again, failed = list[str](), 0
        for fingerprint in missing:
            if (row := self._index.find_row(bytes.fromhex(fingerprint))) is None or row.status not in {None, FAILED}:
                continue  # it is not in the source any more, or an earlier landing has written it
            if self._may_resend(fingerprint):
                again.append(fingerprint)
                continue
            failed += 1
            error = BatchError(
                f"batch {record.batch_id} has completed without a result of this request, as others have before",
                batch_ids=(str(record.batch_id),),
                retryable=True,
            )
            outcome = Exchange(self._request, RequestOptions()).fail(error)
            self._finish(row, fingerprint, FAILED, outcome, RequestCost())
        counts.resend += again
        if again or failed:
            log.warning(
                "Batch %s: %d requests have no result in it; %d are sent again, and %d have failed",
                record.batch_id,
                len(again) + failed,
                len(again),
                failed,
            )

    def _end(
        self, progress: Progress, request: PendingRequest, status: str, outcome: Outcome, cost: RequestCost
    ) -> RowOutcome:
        return end_step(
            progress,
            self._steps,
            request,
            cost,
            status=status,
            sends=1,
            value=outcome.value if outcome.error is None else None,
            error=outcome.error,
            response=outcome.response,
            accepted=outcome.accepted,
        )

    def _log(self, record: BatchRecord, counts: _Counts) -> None:
        for problem, found in (
            ("have more than one result in it: the first is used", counts.repeated),
            ("do not belong to it: their results are ignored", counts.unknown),
        ):
            if found:
                log.warning("Batch %s: %s %s", record.batch_id, _list_ids(found), problem)


def _request(row: FoundRow, fingerprint: str) -> PendingRequest:
    return PendingRequest(row.position, bytes.fromhex(fingerprint), row.row_count, "")


def _kind_of_resend(error: ResponsesError) -> str:
    return str(error.status_code or type(error).__name__)


def _refused_requests(batch: Batch, intent: Intent) -> dict[str, str]:
    """Return the requests because of which a batch was refused, by fingerprint, as far as its error names them."""
    by_line = {error.line: str(error) for error in reversed(batch.errors) if error.line is not None}  # OpenAI's API
    if named := {it: by_line[line] for line, it in enumerate(intent.fingerprints, 1) if line in by_line}:
        return named
    message = batch.error_message
    if not message:
        return {}
    found = [it for it in intent.fingerprints if intent.custom_id(it) in message]
    if not found and (position := _POSITION.search(message)) and int(position[1]) < len(intent.fingerprints):
        found = [intent.fingerprints[int(position[1])]]
    return dict.fromkeys(found, message)


def _list_ids(custom_ids: list[str]) -> str:
    shown = ", ".join(map(repr, custom_ids[:SHOWN_IDS]))
    return f"{len(custom_ids)} custom ids ({shown}{', …' if len(custom_ids) > SHOWN_IDS else ''})"
