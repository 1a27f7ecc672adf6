"""The reports of an attempt: progress lines and metrics, warnings, errors about failed rows, and the manifest."""

from __future__ import annotations

import datetime
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.enrich.failure_policy import is_final
from airflow_provider_responses.enrich.index import Index
from airflow_provider_responses.enrich.job import Environment, Job
from airflow_provider_responses.enrich.progress import Progress
from airflow_provider_responses.enrich.result_owner import written_by
from airflow_provider_responses.enrich.row_outcome import JUDGE_ERROR, RowOutcome, loggable_error
from airflow_provider_responses.enrich.silence import Silence
from airflow_provider_responses.enrich.statuses import FAILED, INVALID, MISSING, OK
from airflow_provider_responses.enrich.step_counts import StepCounts
from airflow_provider_responses.exceptions import OutputValidationError, TooManyFailuresError
from airflow_provider_responses.task.cost_total import CostTotal, short_dollars

log = logging.getLogger(__name__)

MAX_LINE_LENGTH: Final = 120  # characters
FIRST_ROWS: Final = 5  # that a warning names
MAX_REASON_LENGTH: Final = 300  # characters
MAX_MODEL_LENGTH: Final = 40  # characters of a model's name in the progress line
UNREPORTED: Final = 1e-9  # US dollars; less is a rounding error
HOUR, DAY = 3600.0, 86_400.0
_DETAILS: Final = re.compile(r" \(| from ")  # the beginning of the details in a part of the line


@dataclass(slots=True)
class _Group:
    """Rows with the same kind of problem."""

    rows: int = 0
    first_rows: list[int] = field(default_factory=list)  # positions
    reason: str = ""  # of the first row

    def add(self, position: int, rows: int, reason: str) -> None:
        self.rows += rows
        self.reason = self.reason or reason
        if len(self.first_rows) < FIRST_ROWS:
            self.first_rows.append(position)


class Report:
    """
    See the module. The engine fills in the public attributes as they become known.

    :param job: the arguments of the enrichment.
    :param environment: has the clock, and receives the figures for metrics.
    """

    def __init__(self, job: Job, environment: Environment) -> None:
        self._job, self._environment = job, environment
        self.started = environment.clock()
        self.rows = 0
        self.source_rows = 0  # of all shards
        self.reused = 0  # requests with a response of an earlier attempt
        self.pending = 0  # requests without one
        self.spent = CostTotal()  # by earlier attempts
        self.running_batches = 0
        self.progress = Progress()
        self._failures: dict[tuple[str, str], _Group] = {}  # by status and error class
        self._invalid = _Group()  # outputs that were invalid, and are requested again
        self._truncated = _Group()  # responses that may be truncated
        self._failed_lookups = _Group()  # of the price of cached responses
        self._unscored = _Group()  # responses whose judge has failed
        self.steps = StepCounts()  # of all attempts
        self._has_steps = bool(job.escalate) or job.judge is not None

    def note_outcome(self, outcome: RowOutcome) -> None:
        """Collect the problem of an outcome, if it has one, and count its step."""
        request = outcome.request
        self.count_step(outcome)
        if outcome.next is not None:
            return
        if request.step.is_judge and outcome.status == OK:
            if outcome.error is not None:
                reason = outcome.error.removeprefix(JUDGE_ERROR)
                self._unscored.add(request.first_row, request.row_count, reason)
            return
        if outcome.response is not None and outcome.response.maybe_truncated:
            reason = "raise `max_output_tokens`, which the response has used up"
            self._truncated.add(request.first_row, request.row_count, reason)
        if outcome.error is None:
            return
        kind, _, reason = loggable_error(outcome.status, outcome.error).partition(": ")
        group = self._failures.setdefault((outcome.status, kind), _Group())
        group.add(request.first_row, request.row_count, reason)

    def count_step(self, outcome: RowOutcome) -> None:
        """Count the step of an outcome, and its cost."""
        if self._has_steps:
            self.steps.add(outcome, self._job.judge)

    def note_invalid_output(self, position: int, error: OutputValidationError) -> None:
        """Collect an invalid output, whose request is sent again."""
        self._invalid.add(position, 1, str(error))

    def note_failed_lookup(self, position: int, error: Exception) -> None:
        """Collect a cached response whose price could not be looked up."""
        self._failed_lookups.add(position, 1, str(error))

    @property
    def cost(self) -> CostTotal:
        """The cost of all attempts."""
        progress = self.progress
        return self.spent + CostTotal(
            progress.cost + progress.cached_cost, progress.priced_responses, progress.unpriced
        )

    @property
    def cost_this_attempt(self) -> CostTotal:
        """The cost of this attempt. Cached responses cost nothing."""
        progress = self.progress
        return CostTotal(
            progress.cost,
            progress.priced_responses - progress.priced_cached,
            progress.unpriced - progress.unpriced_cached,
        )

    @property
    def started_at(self) -> float:
        """The time at which the attempt began, in seconds since the epoch."""
        return self._environment.now() - (self._environment.clock() - self.started)

    def to_totals(self) -> dict[str, Any]:
        """Return the counts of the attempt so far as JSON, for :meth:`restore` in another process."""
        return {
            "started": self.started_at,
            "reused": self.reused,
            "pending": self.pending,
            "spent": [self.spent.known, self.spent.priced, self.spent.unpriced],
            "progress": self.progress.to_json(),
        }

    def restore(self, totals: Mapping[str, Any]) -> None:
        """Continue an attempt whose first part another process has run."""
        self.started = self._environment.clock() - (self._environment.now() - totals["started"])
        self.reused, self.pending = totals["reused"], totals["pending"]
        self.spent = CostTotal(*totals["spent"])
        self.progress = Progress.from_json(totals["progress"])

    def add_unreported(self, written: CostTotal) -> None:
        """
        Add the cost of responses that a part of the attempt has written which was killed before it could report them.

        :param written: the cost of all responses in the parts.
        """
        missing = written - self.cost
        if missing.known > UNREPORTED:
            self.spent += CostTotal(missing.known, max(missing.priced, 0), max(missing.unpriced, 0))

    def log_start(self) -> None:
        """Log the number of rows and of requests to send."""
        log.info(
            "%d rows, %d requests to send, %d with a response from before; cost so far %s",
            self.rows,
            self.pending,
            self.reused,
            self.spent,
        )

    def log_progress(self, window: float, silence: Silence | None = None) -> None:
        """
        Log the progress line, and report its figures.

        :param window: number of requests that may be in flight.
        :param silence: of models whose requests get no response.
        """
        log.info("%s", self.line(window, silence))
        self.report_figures()

    def report_figures(self) -> None:
        """Report the figures of the progress line, for metrics and for Airflow's task state store."""
        self._environment.report(self.figures())

    def line(self, window: float, silence: Silence | None = None) -> str:
        """Return the progress line, of at most 120 characters, with the most important parts first."""
        progress, rate = self.progress, self._rate()
        left = self.pending - progress.done
        parts = [f"{progress.done}/{self.pending} requests", f"{rate:.1f}/s"]
        if progress.down_since is not None:
            since = self._environment.now() - (self._environment.clock() - progress.down_since)
            parts.append(f"down since {datetime.datetime.fromtimestamp(since, datetime.UTC):%H:%M:%S} UTC")
        elif silence is not None:
            parts.append(f"no response for {_duration(silence.seconds)}{_from_models(silence.models)}")
        parts.append(f"{_duration(left / rate)} left" if rate else "time left unknown")
        parts.append(self._cost_so_far(left))
        parts.append(f"{progress.failures.total()} failed{_top_two(progress.failures)}")
        if self._job.escalate:
            parts.append(f"{progress.escalated} escalated")
        parts.append(f"{progress.resent.total()} resent{_top_two(progress.resent)}")
        parts.append(f"{progress.in_flight} in flight of {int(window)}")
        return _fit(parts)

    def _cost_so_far(self, left: int) -> str:
        done, paid = self.progress.done, self.cost.known - self.spent.known
        cost = str(self.cost)
        if cost == "unknown":
            return "cost unknown"
        return f"{cost} + about {short_dollars(paid / done * left)}" if done and paid else cost

    def _rate(self) -> float:
        seconds = self._environment.clock() - self.started
        return self.progress.done / seconds if seconds > 0 else 0.0

    def figures(self) -> dict[str, Any]:
        """Return the figures of the progress line; None if unknown. ``failures`` has their numbers by error class."""
        progress, rate = self.progress, self._rate()
        left = self.pending - progress.done
        figures = {
            "total": self.pending,
            "done": progress.done,
            "left": left,
            "rate": rate,
            "seconds_left": left / rate if rate else None,
            "cost": self.cost.total,
            "failed": progress.failures.total(),
            "failures": dict(progress.failures),
            "batches": self.running_batches,
            "resent": progress.resent.total(),
            "in_flight": progress.in_flight,
        }
        return figures | {"escalated": progress.escalated} if self._job.escalate else figures

    def steps_to_json(self, index: Index, model: str | None) -> dict[str, Any]:
        """
        Return the entries of the manifest about larger models and the judge, none without them.

        :param model: of the task's requests, None if they have several.
        """
        job, found = self._job, dict[str, Any]()
        if job.escalate:
            found["tiers"] = self.steps.tiers_to_json(model, job.escalate, index.count_waiting(), job.judge)
        if job.judge is not None:
            found["judge"] = self.steps.judge_to_json(job.judge, index.scores(job.judge.min_score))
        return found

    def manifest(
        self, path: str | None, counts: Mapping[str, int], *, complete: bool, generation: int
    ) -> dict[str, Any]:
        """Return the manifest."""
        seconds = self._environment.clock() - self.started
        progress = self.progress
        return {
            "output": path,
            "output_format": self._job.output_format,
            "complete": complete,
            "written_by": written_by(self._job.writer),
            "prompt": None if self._job.prompt is None else dict(self._job.prompt),
            "rows": self.rows,
            "source_rows": self.source_rows,
            "counts": dict(counts),
            "requests_sent": progress.sent,
            "requests_reused": self.reused,
            "cache_hits": progress.cache_hits,
            "cost": self.cost.total,
            "cost_is_minimum": self.cost.is_minimum,
            "cost_this_attempt": self.cost_this_attempt.total,
            "responses_without_price": progress.unpriced,
            "tokens": None if progress.without_tokens and not progress.with_tokens else progress.tokens,
            "repaired": progress.repaired,
            "maybe_truncated": progress.maybe_truncated,
            "inconsistent": progress.inconsistent,
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.rows / seconds, 1) if seconds > 0 else None,
            "shard": list(self._job.shard),
            "generation": generation,
        }

    def log_warnings(self, index: Index) -> None:
        """Log one warning for each kind of problem, with the keys of the first rows that have it."""
        for (status, kind), group in self._failures.items():
            problem = f"failed with {kind}" if status == FAILED else f"are {status}: {kind}"
            _log_group(f"%d rows {problem}", group, index)
        if count := index.counts().get(INVALID, 0):
            _, key, error = index.first_invalid() or (0, "", "")
            log.warning("%d rows are invalid and were not sent, the first being %r: %s", count, key, error)
        _log_group("%d outputs were invalid and their requests sent again", self._invalid, index)
        _log_group(
            "The responses of %d rows are complete by their status, and may be truncated", self._truncated, index
        )
        _log_group(
            "%d rows have no score, since the judge has failed; the next attempt sends only these to it",
            self._unscored,
            index,
        )
        _log_group(
            "The price of %d cached responses is unknown (`responses_without_price`)", self._failed_lookups, index
        )

    def log_end(self, counts: Mapping[str, int], path: str | None) -> None:
        """Log the result of the attempt, and report the last figures."""
        progress = self.progress
        log.info(
            "%d rows: %s. %d requests sent, %d reused, %d cache hits; cost %s in this attempt, %s in all; "
            "%.1f s. Result: %s",
            self.rows,
            ", ".join(f"{count} {status}" for status, count in counts.items()),
            progress.sent,
            self.reused,
            progress.cache_hits,
            self.cost_this_attempt,
            self.cost,
            self._environment.clock() - self.started,
            path,
        )
        self.report_figures()

    def most_failed_error(self, last: RowOutcome) -> TooManyFailuresError:
        """Return the error of an attempt that ends early, because most of its requests have failed."""
        progress = self.progress
        return TooManyFailuresError(
            f"{progress.failures.total()} of the first {progress.done} requests failed, more than half, and "
            f"limits.max_failures is {self._job.limits.max_failures:g}: no more are sent. The last, for row "
            f"{last.request.first_row}: {loggable_error(last.status, last.error or '')}",
            retryable=not is_final(retryable_failures=progress.retryable_failures),
        )

    def too_many_failed_error(self, failed: int, counts: Mapping[str, int], example: str) -> TooManyFailuresError:
        """Return the error of an attempt in which too many rows have failed."""
        kinds = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != OK and count)
        missing = counts.get(MISSING, 0)
        resent = counts.get(FAILED, 0) + missing if self.progress.retryable_failures or missing else 0
        remedy = (
            f"a retry sends the {resent} failed rows again"
            if resent
            else "the same requests would fail again: correct them"
        )
        allowed = f"limits.max_failures is {self._job.limits.max_failures:g}"
        reason = "none succeeded" if failed == self.rows else allowed
        return TooManyFailuresError(
            f"{failed} of {self.rows} rows failed ({kinds}), and {reason}; {remedy}. {example}",
            retryable=bool(resent),
        )


def _log_group(text: str, group: _Group, index: Index) -> None:
    """Log the number of rows in a group, the keys of the first rows, and the reason of the very first."""
    if not group.rows:
        return
    keys = [repr(index.row_at(position)[1]) for position in group.first_rows]
    reason = group.reason[:MAX_REASON_LENGTH]
    log.warning(f"{text}, the first being %s. Of %s: %s", group.rows, ", ".join(keys), keys[0], reason)  # noqa: G004


def _fit(parts: Iterable[str]) -> str:
    """Return the parts that fit into one line, each without its details if it only fits without them."""
    line = ""
    for part in parts:
        for text in (part, _DETAILS.split(part)[0]):
            longer = f"{line}, {text}" if line else text
            if len(longer) <= MAX_LINE_LENGTH:
                line = longer
                break
    return line


def _from_models(models: Sequence[str]) -> str:
    if len(models) > 1:
        return f" from {len(models)} models"
    return f" from {models[0][:MAX_MODEL_LENGTH] or 'the model of the connection'}" if models else ""


def _top_two(counts: Counter[str]) -> str:
    found = ", ".join(f"{name} {count}" for name, count in counts.most_common(2))
    return f" ({found})" if found else ""


def _duration(seconds: float) -> str:
    if seconds < 2 * HOUR:
        return f"{seconds:.0f} s"
    return f"{seconds / HOUR:.0f} h" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days"
