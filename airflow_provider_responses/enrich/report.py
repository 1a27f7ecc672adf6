"""What is reported of an attempt: one line and metrics while it runs, warnings, and its manifest."""

from __future__ import annotations

import datetime
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.enrich.amounts import Amount, short
from airflow_provider_responses.enrich.answers import loggable
from airflow_provider_responses.enrich.failure_policy import is_final
from airflow_provider_responses.enrich.index import FAILED, INVALID, OK, Index
from airflow_provider_responses.enrich.job import Environment, Job
from airflow_provider_responses.enrich.ownership import written_by
from airflow_provider_responses.enrich.progress import Answer, Progress
from airflow_provider_responses.enrich.silence import Silence
from airflow_provider_responses.exceptions import OutputValidationError, TooManyFailuresError

log = logging.getLogger(__name__)

LONGEST_LINE: Final = 120  # characters
FIRST_ROWS: Final = 5  # that a warning names
LONGEST_REASON: Final = 300  # characters
LONGEST_MODEL: Final = 40  # characters of a model's name in the progress line
HOUR, DAY = 3600.0, 86_400.0
_DETAILS: Final = re.compile(r" \(| from ")  # begins those of a part of the line


@dataclass(slots=True)
class _Group:
    """Requests to which the same happened."""

    rows: int = 0
    first: list[int] = field(default_factory=list)  # their positions
    reason: str = ""  # of the first

    def add(self, position: int, rows: int, reason: str) -> None:
        self.rows += rows
        self.reason = self.reason or reason
        if len(self.first) < FIRST_ROWS:
            self.first.append(position)


class Report:
    """
    See the module. What it is made from is filled in as it becomes known.

    :param job: what is done.
    :param around: the clock, and what metrics go to.
    """

    def __init__(self, job: Job, around: Environment) -> None:
        self._job, self._around = job, around
        self.began = around.clock()
        self.rows = 0
        self.source_rows = 0  # of all shards
        self.reused = 0  # requests that earlier attempts have answered
        self.left = 0  # requests that they have not
        self.spent = Amount()  # by earlier attempts
        self.progress = Progress()
        self._failures: dict[tuple[str, str], _Group] = {}  # by status and class
        self._again = _Group()  # whose response was invalid
        self._truncated = _Group()  # whose response may be
        self._lookups = _Group()  # of cached responses whose price could not be had

    def note(self, answer: Answer) -> None:
        """Take note of what came of a request, if anything is wrong with it."""
        if answer.response is not None and answer.response.maybe_truncated:
            reason = "raise `max_output_tokens`, which the response has used up"
            self._truncated.add(answer.pending.first, answer.pending.rows, reason)
        if answer.error is None:
            return
        kind, _, reason = loggable(answer.status, answer.error).partition(": ")
        group = self._failures.setdefault((answer.status, kind), _Group())
        group.add(answer.pending.first, answer.pending.rows, reason)

    def note_invalid(self, position: int, error: OutputValidationError) -> None:
        """Take note of an invalid response, after which its request is sent again."""
        self._again.add(position, 1, str(error))

    def note_lookup(self, position: int, error: Exception) -> None:
        """Take note of a cached response whose price could not be had."""
        self._lookups.add(position, 1, str(error))

    @property
    def cost(self) -> Amount:
        """What all attempts have paid."""
        progress = self.progress
        return self.spent + Amount(progress.cost + progress.kept_cost, progress.priced_responses, progress.unpriced)

    @property
    def cost_this_attempt(self) -> Amount:
        """What this attempt has paid: cached responses cost it nothing."""
        progress = self.progress
        return Amount(
            progress.cost,
            progress.priced_responses - progress.priced_cached,
            progress.unpriced - progress.unpriced_cached,
        )

    def say_begin(self) -> None:
        """Log what there is to do."""
        log.info(
            "%d rows, %d requests to send, %d answered before; cost so far %s",
            self.rows,
            self.left,
            self.reused,
            self.spent,
        )

    def say(self, window: float, silence: Silence | None = None) -> None:
        """
        Log how it goes, and report the same as figures.

        :param window: requests in flight that the service keeps up with.
        :param silence: of models whose requests get no response.
        """
        log.info("%s", self.line(window, silence))
        self._around.report(self.figures())

    def line(self, window: float, silence: Silence | None = None) -> str:
        """Return how it goes in at most 120 characters, what matters most first."""
        progress, rate = self.progress, self._rate()
        left = self.left - progress.done
        parts = [f"{progress.done}/{self.left} requests", f"{rate:.1f}/s"]
        if progress.down_since is not None:
            since = self._around.now() - (self._around.clock() - progress.down_since)
            parts.append(f"down since {datetime.datetime.fromtimestamp(since, datetime.UTC):%H:%M:%S} UTC")
        elif silence is not None:
            parts.append(f"no response for {_duration(silence.seconds)}{_from(silence.models)}")
        parts.append(f"{_duration(left / rate)} left" if rate else "time left unknown")
        parts.append(self._cost_so_far(left))
        parts.append(f"{progress.failures.total()} failed{_most(progress.failures)}")
        parts.append(f"{progress.again.total()} resent{_most(progress.again)}")
        parts.append(f"{progress.in_flight} in flight of {int(window)}")
        return _fitting(parts)

    def _cost_so_far(self, left: int) -> str:
        done, paid = self.progress.done, self.cost.known - self.spent.known
        cost = str(self.cost)
        if cost == "unknown":
            return "cost unknown"
        return f"{cost} + about {short(paid / done * left)}" if done and paid else cost

    def _rate(self) -> float:
        seconds = self._around.clock() - self.began
        return self.progress.done / seconds if seconds > 0 else 0.0

    def figures(self) -> dict[str, float | None]:
        """Return how it goes as numbers; the cost is None where it is unknown."""
        progress = self.progress
        return {
            "done": progress.done,
            "left": self.left - progress.done,
            "rate": self._rate(),
            "cost": self.cost.total,
            "failed": progress.failures.total(),
            "sent_again": progress.again.total(),
            "in_flight": progress.in_flight,
        }

    def manifest(
        self, path: str | None, counts: Mapping[str, int], *, complete: bool, generation: int
    ) -> dict[str, Any]:
        """Return what it came to."""
        seconds = self._around.clock() - self.began
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
            "answers_without_price": progress.unpriced,
            "tokens": None if progress.uncounted and not progress.counted else progress.tokens,
            "repaired": progress.repaired,
            "maybe_truncated": progress.maybe_truncated,
            "inconsistent": progress.inconsistent,
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.rows / seconds, 1) if seconds > 0 else None,
            "shard": list(self._job.shard),
            "generation": generation,
        }

    def warn(self, index: Index) -> None:
        """Log one warning for each kind of failure, with the first rows that it happened to."""
        for (status, kind), group in self._failures.items():
            what = f"failed with {kind}" if status == FAILED else f"are {status}: {kind}"
            _warn(f"%d rows {what}", group, index)
        if count := index.counts().get(INVALID, 0):
            _, key, error = index.first_invalid() or (0, "", "")
            log.warning("%d rows are invalid and were not sent, the first being %r: %s", count, key, error)
        _warn("%d responses were invalid and their requests sent again", self._again, index)
        _warn("The responses of %d rows are complete by their status, and may be truncated", self._truncated, index)
        _warn("The price of %d cached responses is unknown (`answers_without_price`)", self._lookups, index)

    def say_end(self, counts: Mapping[str, int], path: str | None) -> None:
        """Log what an attempt came to, and report the last figures."""
        progress = self.progress
        log.info(
            "%d rows: %s. %d requests sent, %d known before, %d cache hits; cost %s in this attempt, %s in all; "
            "%.1f s. Result: %s",
            self.rows,
            ", ".join(f"{count} {status}" for status, count in counts.items()),
            progress.sent,
            self.reused,
            progress.cache_hits,
            self.cost_this_attempt,
            self.cost,
            self._around.clock() - self.began,
            path,
        )
        self._around.report(self.figures())

    def most_fail(self, last: Answer) -> TooManyFailuresError:
        """Return the error that says that most requests have failed so far."""
        progress = self.progress
        return TooManyFailuresError(
            f"{progress.failures.total()} of the first {progress.done} requests failed, more than half, and "
            f"limits.max_failures is {self._job.limits.max_failures:g}: no more are sent. The last, for row "
            f"{last.pending.first}: {loggable(last.status, last.error or '')}",
            retryable=not is_final(may_pass=progress.hopeful),
        )

    def too_many_failed(self, failed: int, counts: Mapping[str, int], example: str) -> TooManyFailuresError:
        """Return the error that says that too many rows have failed at the end."""
        kinds = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != OK and count)
        missing = counts.get("missing", 0)
        again = counts.get(FAILED, 0) + missing if self.progress.hopeful or missing else 0
        what = (
            f"a retry sends the {again} failed rows again"
            if again
            else "the same requests would fail again: correct them"
        )
        allowed = f"limits.max_failures is {self._job.limits.max_failures:g}"
        why = "none succeeded" if failed == self.rows else allowed
        return TooManyFailuresError(
            f"{failed} of {self.rows} rows failed ({kinds}), and {why}; {what}. {example}",
            retryable=bool(again),
        )


def _warn(text: str, group: _Group, index: Index) -> None:
    """Log how many rows are in a group, the keys of the first, and what is wrong with the very first."""
    if not group.rows:
        return
    keys = [repr(index.row_at(position)[1]) for position in group.first]
    reason = group.reason[:LONGEST_REASON]
    log.warning(f"{text}, the first being %s. Of %s: %s", group.rows, ", ".join(keys), keys[0], reason)  # noqa: G004


def _fitting(parts: Iterable[str]) -> str:
    """Join the parts that fit into a line, each without its details if it fits only so."""
    line = ""
    for part in parts:
        for text in (part, _DETAILS.split(part)[0]):
            longer = f"{line}, {text}" if line else text
            if len(longer) <= LONGEST_LINE:
                line = longer
                break
    return line


def _from(models: Sequence[str]) -> str:
    if len(models) > 1:
        return f" from {len(models)} models"
    return f" from {models[0][:LONGEST_MODEL] or 'the model of the connection'}" if models else ""


def _most(counts: Counter[str]) -> str:
    found = ", ".join(f"{name} {count}" for name, count in counts.most_common(2))
    return f" ({found})" if found else ""


def _duration(seconds: float) -> str:
    if seconds < 2 * HOUR:
        return f"{seconds:.0f} s"
    return f"{seconds / HOUR:.0f} h" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days"
