"""The parts of earlier attempts: responses that this attempt can use, and their cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.enrich.changed_requests import unused_responses
from airflow_provider_responses.enrich.columns import ESCALATED, SCORE, SCORE_REASON, TEXT_COLUMN, has_columns
from airflow_provider_responses.enrich.index import IndexedOutcome, Sums
from airflow_provider_responses.enrich.json_values import dump
from airflow_provider_responses.enrich.next_step import FIRST, Step
from airflow_provider_responses.enrich.outcome_json import ESCALATION, JUDGE, TIER, tier_of
from airflow_provider_responses.enrich.statuses import (
    FAILED,
    INVALID,
    INVALID_OUTPUT,
    LOW_SCORE,
    OK,
    REFUSED,
    REJECTED,
)
from airflow_provider_responses.enrich.step_counts import StepCounts
from airflow_provider_responses.exceptions import ConfigurationError, OutputValidationError
from airflow_provider_responses.task.cost_total import CostTotal
from airflow_provider_responses.task.texts import storable

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.row_steps import RowSteps
    from airflow_provider_responses.task.request import TaskRequest


class EarlierResponses:
    """
    See the module.

    :param job: how this attempt reads responses.
    :param steps: of its requests.
    :param columns: that hold the response.
    """

    def __init__(self, job: Job, steps: RowSteps, columns: tuple[str, ...]) -> None:
        self._columns, self._request, self._steps = columns, job.request, steps
        self._names = (*columns, *job.meta_columns)
        self._escalates = bool(job.escalate)
        self._name_row: Callable[[bytes], str | None] = lambda _: None
        self.spent = CostTotal()
        self.counts = StepCounts()
        self.highest_prices: dict[int, float] = {}  # US dollars for one request, by `Step.price_kind`
        self._replaced: set[int] = set()  # lines of a part after which another model is asked, by `id`
        self._sums: list[Sums] = []  # of outcomes of a part that the result may not show
        self.counted_generations: set[str] = set()  # included in `spent`, though their requests are sent again

    def read(self, parts: Iterable[list[dict[str, Any]]], index: Index) -> None:
        """Read the rows of parts, and enter the responses into the index: those that can be used, and the others."""
        self._name_row = index.name_row
        for rows in parts:
            found = [self._read_row(row) for row in rows]
            index.add_outcomes(it for it in found if it is not None)
            usable = (it or (True if id(row) in self._replaced else None) for row, it in zip(rows, found, strict=True))
            index.add_unused(unused_responses(zip(rows, usable, strict=True)))
            self._replaced.clear()
            if self._sums:
                index.add_sums(self._sums)
                self._sums.clear()
        index.apply_sums()
        self._skip_rejected(index)

    def _read_row(self, row: Mapping[str, Any]) -> IndexedOutcome | None:
        cost = row.get("_cost")
        known, unknown = row.get("_paid") or (cost or 0.0, int(cost is None))
        priced = int(bool(known or (cost is not None and row.get("_response_id"))))
        self.spent.known += known
        self.spent.priced += priced
        self.spent.unpriced += unknown
        if self._steps.is_single and "_tier" not in row and "_judge" not in row:  # as nearly all are
            usable = None if row["_status"] == INVALID else usable_outcome(row, self._columns, self._request)
            found = None if usable is None else self._indexed(row, *usable)
            self._note_price(0, known)
        else:
            paid = CostTotal(known, priced, unknown)
            found = self._read_step(row, paid)
            self._count(row, paid, is_used=found is not None)
            if "_tier" in row or "_judge" in row:
                self._keep_sums(row, found)
        if found is None or row["_status"] == FAILED:
            self.counted_generations.update(row.get("_generations") or ())
        return found

    def _indexed(self, row: Mapping[str, Any], status: str, read: Mapping[str, Any]) -> IndexedOutcome:
        return IndexedOutcome(bytes.fromhex(row["_fingerprint"]), status, self._dump(read))

    def _note_price(self, kind: int, price: float) -> None:
        self.highest_prices[kind] = max(self.highest_prices.get(kind, 0.0), price)

    def _skip_rejected(self, index: Index) -> None:
        """Find the next step again of outcomes that were read before a response that makes a tier unnecessary."""
        for fingerprint, tiers in self._steps.asked.items():
            if (found := index.waiting(fingerprint)) is None or found.following.is_judge:
                continue
            if found.following.tier in tiers:
                read = json.loads(found.columns)
                following = self._steps.next_of(fingerprint, found.step, found.response, read, read.get(SCORE))
                index.set_next(
                    self._outcome(fingerprint, found.step, found.response, read, following, has_failed=False)
                )

    def _keep_sums(self, row: Mapping[str, Any], found: IndexedOutcome | None) -> None:
        """Note the sums of a later step that another outcome may stand for in the result."""
        is_last = found is not None and not found.has_failed and found.rank % 2 and not Step.of_rank(found.rank).other
        if not is_last or self._steps.judge is None:  # the parts are in no order
            fingerprint = bytes.fromhex(row["_fingerprint"])
            self._sums.append(Sums(fingerprint, row.get("_cost"), row.get("_tokens"), row.get("_sends")))

    def _dump(self, read: Mapping[str, Any]) -> str:
        return dump({name: read.get(name) for name in self._names})

    def _read_step(self, row: Mapping[str, Any], paid: CostTotal) -> IndexedOutcome | None:
        """Return the outcome of a step, with the next step by the present arguments; count it."""
        fingerprint = bytes.fromhex(row["_fingerprint"])
        step = self._steps.stored_step(fingerprint, *tier_of(row), is_judge=JUDGE in row)
        if (kind := self._steps.price_kind_of(row)) is not None:
            self._note_price(kind, paid.known)
        if row["_status"] == INVALID:
            return None
        if step.is_judge:
            return self._read_judged(row, step)
        if (usable := usable_outcome(row, self._columns, self._request, self._steps, step)) is None:
            return None
        status, read = usable
        read = {**read, ESCALATED: _is_escalated(step), SCORE: None, SCORE_REASON: None}
        has_failed = status == FAILED
        following = None if has_failed else self._next_of(fingerprint, step, status, read, None)
        if step.other and (status != OK or (following is not None and not following.is_judge)):
            self._replaced.add(id(row))
            return None  # what follows is that of the tier before
        return self._outcome(fingerprint, step, status, read, following, has_failed=has_failed)

    def _count(self, row: Mapping[str, Any], paid: CostTotal, *, is_used: bool) -> None:
        """Count the request of a step."""
        if row["_status"] == INVALID:
            return
        if JUDGE in row:
            self.counts.add_judge(row[JUDGE], paid)
        elif not row.get(TIER):
            self.counts.add_tier(0, paid)
        else:
            escalation = row.get(ESCALATION) or {}
            before = escalation.get("before") if is_used and row["_status"] != FAILED else None
            self.counts.add_tier(
                self._tier_key(*tier_of(row)),
                paid,
                None if before is None else self._tier_key(*before),
                model=escalation.get("model"),
            )

    def _tier_key(self, tier: int, fingerprint: str | None) -> int | str:
        place = self._steps.find_tier(tier, fingerprint)
        return str(fingerprint) if place is None else place

    def _read_judged(self, row: Mapping[str, Any], step: Step) -> IndexedOutcome | None:
        """Return the outcome of the judge. The status follows from the score and the present `min_score`."""
        if usable_outcome({**row, "_status": OK}, self._columns, self._request) is None:
            return None
        fingerprint, score = bytes.fromhex(row["_fingerprint"]), row.get(SCORE)
        read: dict[str, Any] = {**row, ESCALATED: _is_escalated(step)}
        if not self._steps.is_same_judge(row[JUDGE]):  # as if the response had no score yet
            self.counted_generations.update(row.get("_generations") or ())
            read |= {"_error": None, SCORE: None, SCORE_REASON: None}
            tier_step = step._replace(is_judge=False)
            following = self._next_of(fingerprint, tier_step, OK, read, None)
            return self._outcome(fingerprint, tier_step, OK, read, following, has_failed=False)
        if score is None:
            self.counted_generations.update(row.get("_generations") or ())
            return self._outcome(fingerprint, step, self._steps.status_without_score(), read, None, has_failed=True)
        status = self._steps.status_of_score(score)
        read["_error"] = self._steps.low_score_error(score) if status == LOW_SCORE else None
        following = self._next_of(fingerprint, step, status, read, score)
        if following is not None:  # the larger model's response may be the same, and so the request to the judge
            self.counted_generations.update(row.get("_generations") or ())
        return self._outcome(fingerprint, step, status, read, following, has_failed=False)

    def _next_of(
        self, fingerprint: bytes, step: Step, status: str, read: Mapping[str, Any], score: float | None
    ) -> Step | None:
        """Return the next step. No function of the user's checks a response that no row of the source can use."""
        row = self._name_row(fingerprint) if self._steps.calls_function(status) else ""
        if row is None:
            return None
        try:
            return self._steps.next_of(fingerprint, step, status, read, score)
        except ConfigurationError as error:
            error.about(row)
            raise

    def _outcome(
        self,
        fingerprint: bytes,
        step: Step,
        status: str,
        read: Mapping[str, Any],
        following: Step | None,
        *,
        has_failed: bool,
    ) -> IndexedOutcome:
        shown = self._steps.shown_status(status, following)
        columns, rank = self._dump({**read, "_status": shown}), None if following is None else following.rank
        is_later = has_failed and step != FIRST
        return IndexedOutcome(fingerprint, shown, columns, step.rank, rank, is_later, read.get(SCORE), status)


def _is_escalated(step: Step) -> bool:
    """Return whether the response of a step is a larger model's."""
    return bool(step.tier or step.other)


def usable_outcome(
    row: Mapping[str, Any],
    columns: tuple[str, ...],
    request: TaskRequest,
    steps: RowSteps | None = None,
    step: Step = FIRST,
) -> tuple[str, Mapping[str, Any]] | None:
    """Return status and columns of an earlier response, from a row of a part; None if its request is sent again."""
    read: Mapping[str, Any] | None = row
    if row["_status"] in REJECTED:
        is_escalated = steps is not None and steps.is_escalated(step, row["_status"])
        read = _read_again(row, request, is_escalated=is_escalated)
    if read is None or not read.keys() >= set(columns):
        return None
    is_text = not has_columns(request) and request.output_type is None and read[TEXT_COLUMN] is not None
    if is_text and isinstance(read[TEXT_COLUMN], Mapping) != (request.result == "response"):
        return None
    return read["_status"], read


def _read_again(row: Mapping[str, Any], request: TaskRequest, *, is_escalated: bool) -> Mapping[str, Any] | None:
    """
    Read a rejected response by the task's present arguments; return None if the part does not hold enough for that.

    The type's validators may have been corrected since, and ``on_invalid_output`` may have been changed.
    """
    text = row.get("_output_text")
    value = None if text is None else _parse(text, request)
    if value is not None and row["_status"] == INVALID_OUTPUT:
        return {**row, **value, "_status": OK, "_error": None, "_output_text": None}
    if is_escalated or request.on_invalid_output != "return":
        return row
    if text is None:  # the server sent none
        return row if row.get("_error") is None or isinstance(row.get(TEXT_COLUMN), Mapping) else None
    if request.result == "response":
        return row if isinstance(row.get(TEXT_COLUMN), Mapping) else None
    if value is not None:
        return {**row, **value}
    if has_columns(request):
        return row
    refusal = str(row.get("_error")).partition(": ")[2] if row["_status"] == REFUSED else ""
    return {**row, TEXT_COLUMN: text or refusal}


def _parse(text: str, request: TaskRequest) -> Mapping[str, Any] | None:
    """Return the columns of a text that matches the output type, None if it does not."""
    if request.output_type is None or request.result == "response":
        return None
    from airflow_provider_responses.models.output import load_output

    try:
        value = storable(load_output(request.output_type, text))
    except OutputValidationError:
        return None
    return value if has_columns(request) else {TEXT_COLUMN: value}
