"""A preview of an enrichment: a sample of its requests is sent, and the cost and the time of all are extrapolated."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.extrapolation import Interval, Sample, choose, extrapolate
from airflow_provider_responses.enrich.next_step import FIRST
from airflow_provider_responses.enrich.output_store import PARTS
from airflow_provider_responses.enrich.row_outcome import loggable_error
from airflow_provider_responses.enrich.statuses import INVALID, OK
from airflow_provider_responses.exceptions import TooManyFailuresError
from airflow_provider_responses.task.cost import total_cost
from airflow_provider_responses.task.cost_total import short_dollars

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.bounded_calls import UploadWatch
    from airflow_provider_responses.enrich.earlier_responses import EarlierResponses
    from airflow_provider_responses.enrich.index import Index, PendingRequest
    from airflow_provider_responses.enrich.job import Environment, Job
    from airflow_provider_responses.enrich.lease_keeper import LeaseKeeper
    from airflow_provider_responses.enrich.output_store import OutputStore
    from airflow_provider_responses.enrich.part_writer import PartWriter
    from airflow_provider_responses.enrich.row_outcome import RowOutcome
    from airflow_provider_responses.enrich.sender import Sender

log = logging.getLogger(__name__)

VERSION: Final = 1  # of the form of a preview; a field that is added does not change it
MAX_KEY_LENGTH: Final = 30  # characters, in the table


class Preview(Enrichment):
    """
    See the module. The responses become parts, which the full run uses; there is no result and no manifest.

    :param job: whose rows they are.
    :param environment: clocks, random numbers and factories.
    :param count: number of requests to send.
    :param mode: of the full run: ``live`` or ``batch``.
    :param batch_share: the price of a batch as a share of the live price.
    :param hold: holds requests that must not be sent, such as those in batches.
    """

    def __init__(
        self,
        job: Job,
        environment: Environment | None,
        *,
        count: int,
        mode: str = "live",
        batch_share: float = 1.0,
        hold: Callable[[Index, OutputStore], object] = lambda _index, _store: None,
    ) -> None:
        super().__init__(job, environment)
        self._hold = hold
        self._count, self._mode, self._batch_share = count, mode, batch_share
        self._sample = Sample([], 0, 0, {})
        self._outcomes: list[RowOutcome] = []  # of requests that have ended
        self._steps_of: dict[bytes, list[RowOutcome]] = {}  # all of them, by fingerprint
        self._before = 0  # requests without a response before the preview
        self._pending = 0  # those of them that are not in batches

    def _check_owner(self, manifest: Mapping[str, Any]) -> None:
        """Accept the result of another task, such as that of the full run: a preview does not replace it."""

    def _process(self, index: Index, earlier: EarlierResponses, lease: LeaseKeeper) -> BaseException | None:
        self._hold(index, self.store)
        self._pending, size = index.count_pending(), sum(size for _, size in index.pending_sizes())
        self._sample = choose(
            index.pending_sizes(), self._count, requests=self._pending, size=size, seed=f"{self._pending} {size}"
        )
        index.hold_all_but(self._sample.sizes)
        self._before, self._report.pending = self._report.pending, len(self._sample.sizes)
        return super()._process(index, earlier, lease)

    def _add_outcome(
        self, writer: PartWriter, sender: Sender, index: Index, outcome: RowOutcome
    ) -> PendingRequest | None:
        following = super()._add_outcome(writer, sender, index, outcome)
        self._steps_of.setdefault(outcome.request.fingerprint, []).append(outcome)
        if following is None:
            self._outcomes.append(outcome)
        return following

    def _finish(
        self,
        index: Index,
        scratch: Path,  # noqa: ARG002  for the result, which a preview does not write
        stop_reason: BaseException | None,
        watch: UploadWatch,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return the estimate, and log it with the sample; raise if the preview stopped, or all of it failed."""
        self._report.log_warnings(index)
        if stop_reason is not None:
            raise stop_reason
        failed = [it for it in self._outcomes if _has_failed(it)]
        if failed and len(failed) == len(self._outcomes):
            raise TooManyFailuresError(
                f"all {len(failed)} requests of the preview failed. The first, for row "
                f"{failed[0].request.first_row}: {loggable_error(failed[0].status, failed[0].error or '')}",
                retryable=bool(self._report.progress.retryable_failures),
            )
        rows = [self._row(index, it) for it in sorted(self._outcomes, key=lambda it: it.request.first_row)]
        found = self._estimate(index, rows)
        lines, table = describe_preview(found), len(rows) + 1
        with self.environment.log_group(f"{len(rows)} rows of the preview"):
            for line in lines[:table]:
                log.info("%s", line)
        for line in lines[table:]:
            log.info("%s", line)
        return found

    def _clean_up(self) -> None:
        """Delete nothing: the parts of another generation belong to a result, which a preview does not replace."""

    def _row(self, index: Index, outcome: RowOutcome) -> dict[str, Any]:
        request, seconds = outcome.request, self._seconds_of(outcome)
        tokens = [it.tokens for it in self._steps_of[request.fingerprint] if it.tokens is not None]
        return {
            "row": request.first_row,
            "key": index.row_at(request.first_row)[1],
            "bytes": self._sample.sizes[request.fingerprint],
            "status": outcome.status,
            "tokens": sum(tokens) if tokens else None,
            "cost": self._cost_of(outcome),
            "seconds": None if seconds is None else round(seconds, 3),
        }

    def _cost_of(self, outcome: RowOutcome) -> float | None:
        """Return the US dollars that all steps of a request cost in this preview, None if unknown."""
        return total_cost(it.cost for it in self._steps_of[outcome.request.fingerprint])

    def _seconds_of(self, outcome: RowOutcome) -> float | None:
        """Return the seconds that all steps of a request took, None if unknown."""
        responses = [it.response for it in self._steps_of[outcome.request.fingerprint]]
        known = [it.seconds for it in responses if it is not None and it.seconds is not None]
        return sum(known) if known and len(known) == len(responses) else None

    def _estimate(self, index: Index, rows: list[dict[str, Any]]) -> dict[str, Any]:
        cost = self._cost()
        seconds = self._seconds()
        report = self._report
        invalid, in_batches = index.counts().get(INVALID, 0), self._before - self._pending
        return {
            "kind": "preview",
            "version": VERSION,
            "mode": self._mode,
            "rows": report.rows,
            "invalid_rows": invalid,
            "requests": self._pending,
            "requests_reused": report.reused,
            "requests_in_batches": in_batches,
            "duplicate_rows": report.rows - invalid - self._before - report.reused,
            "sent": len(rows),
            "failed": sum(map(_has_failed, self._outcomes)),
            **_interval("cost", cost, digits=9),
            "cost_unknown_because": None if cost or not self._pending else "the server sends no price with a response",
            "cost_of_preview": report.cost_this_attempt.total,
            "cost_so_far": report.cost.total,
            **_interval("seconds", seconds, digits=1),
            "sample": rows,
            "parts": f"{self.store.path}/{PARTS}",
        }

    def _cost(self) -> Interval | None:
        """Return the cost of all requests. Those of the preview are sent live, whatever the mode of the full run."""
        costs, full_run = {}, {}
        for it in self._outcomes:
            if (cost := self._cost_of(it)) is not None:
                costs[it.request.fingerprint] = cost
                full_run[it.request.fingerprint] = cost - self._saved_by_batches(it)
        if (total := extrapolate(self._sample, full_run)) is None:
            return None
        not_saved = sum(costs.values()) - sum(full_run.values())
        return Interval(*(amount + not_saved for amount in total))

    def _saved_by_batches(self, outcome: RowOutcome) -> float:
        """Return the US dollars that a request costs less in a batch: larger models and the judge are sent live."""
        first = self._steps_of[outcome.request.fingerprint][0]
        if self._mode != "batch" or first.request.step != FIRST:
            return 0.0
        return (first.cost or 0.0) * (1 - self._batch_share)

    def _seconds(self) -> Interval | None:
        """Return the seconds of the full run, as long as the limits allow as many requests as now; None for batches."""
        if self._mode == "batch":
            return None
        found = ((it.request.fingerprint, self._seconds_of(it)) for it in self._outcomes)
        known = {fingerprint: seconds for fingerprint, seconds in found if seconds is not None}
        if (total := extrapolate(self._sample, known)) is None:
            return None
        limits, done = self.job.limits, sum(known.values())
        rest = self._pending - len(self._outcomes)
        slowest = rest * 60 / limits.requests_per_minute if limits.requests_per_minute else 0.0
        if limits.tokens_per_minute and (progress := self._report.progress).with_tokens:
            slowest = max(slowest, progress.tokens / progress.with_tokens * rest * 60 / limits.tokens_per_minute)
        at_once = max(1, min(limits.concurrency, rest))
        return Interval(*(max((amount - done) / at_once, slowest) for amount in total))


def _has_failed(outcome: RowOutcome) -> bool:
    """Return whether a row has failed. One that is only without a score has not."""
    return outcome.error is not None and outcome.status != OK


def describe_preview(preview: Mapping[str, Any]) -> list[str]:
    """Return the lines that show a preview: a table of its rows, and the estimate. No prompts, no responses."""
    lines = [f"{'row':>9}  {'key':<{MAX_KEY_LENGTH}}  {'bytes':>8}  {'status':<14}  {'tokens':>7}  {'s':>6}  cost"]
    for row in preview["sample"]:
        cost = "unknown" if row["cost"] is None else f"${row['cost']:.6f}"
        seconds, tokens = ("" if row[name] is None else row[name] for name in ("seconds", "tokens"))
        key = row["key"][:MAX_KEY_LENGTH]
        lines.append(
            f"{row['row']:>9}  {key:<{MAX_KEY_LENGTH}}  {row['bytes']:>8}  {row['status']:<14}  {tokens:>7}  "
            f"{seconds:>6}  {cost}"
        )
    rows = f"{preview['sent']} of {preview['requests']} requests were sent, {preview['failed']} failed"
    if preview["cost"] is None:
        lines.append(f"{rows}; the cost of all is unknown: {preview['cost_unknown_because']}")
        return lines
    lines.append(
        f"{rows}; all cost about {short_dollars(preview['cost'])} ({preview['mode']}), with 95 % confidence "
        f"{_range(preview['cost_low'], preview['cost_high'])}"
    )
    if preview["seconds"] is not None:
        lines.append(f"The rest takes about {preview['seconds']:.0f} s at the present speed and limits")
    return lines


def _range(low: float, high: float | None) -> str:
    return f"{short_dollars(low)} to {'any amount' if high is None else short_dollars(high)}"


def _interval(name: str, interval: Interval | None, *, digits: int) -> dict[str, float | None]:
    names = (name, f"{name}_low", f"{name}_high")
    if interval is None:
        return dict.fromkeys(names)
    return {
        it: round(value, digits) if math.isfinite(value) else None for it, value in zip(names, interval, strict=True)
    }
