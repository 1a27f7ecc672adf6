"""What is told about a try: a line and metrics while it goes, its manifest, and why most of its rows failed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_provider_responses.enrich.failure_policy import is_final
from airflow_provider_responses.enrich.index import FAILED, OK
from airflow_provider_responses.enrich.job import Environment, Job
from airflow_provider_responses.enrich.progress import Answer, Progress
from airflow_provider_responses.exceptions import TooManyFailuresError
from airflow_provider_responses.runs import dollars

log = logging.getLogger(__name__)


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
        self.reused = 0  # requests that earlier tries have answered
        self.left = 0  # requests that they have not
        self.spent = 0.0  # US dollars, by earlier tries
        self.progress = Progress()

    def say_begin(self) -> None:
        """One line about what there is to do."""
        log.info(
            "%d rows, %d requests to send, %d answered before for %s",
            self.rows,
            self.left,
            self.reused,
            dollars(self.spent),
        )

    def say(self, window: float) -> None:
        """One line about how it goes, and the same as metrics."""
        progress, seconds = self.progress, self._around.clock() - self.began
        rate = progress.done / seconds if seconds > 0 else 0.0
        left = self.left - progress.done
        cost = self.spent + progress.cost + progress.kept_cost
        to_come = (cost - self.spent) / progress.done * left if progress.done else 0.0
        log.info(
            "%s%d of %d requests done, %.1f/s, %s so far and about %s to come, failures: %s, sent again: %s, "
            "%d in flight of %d that the service keeps up with, about %s left",
            self._outage(),
            progress.done,
            self.left,
            rate,
            dollars(cost),
            dollars(to_come),
            _most(progress.failures),
            _most(progress.again),
            progress.in_flight,
            int(window),
            f"{left / rate:.0f} s" if rate else "?",
        )
        self._around.report(
            {
                "done": progress.done,
                "left": left,
                "rate": rate,
                "cost": cost,
                "failed": progress.failures.total(),
                "sent_again": progress.again.total(),
                "in_flight": progress.in_flight,
            }
        )

    def _outage(self) -> str:
        """Return since when the service is down, by the worker's clock, empty if it is not."""
        since = self.progress.down_since
        if since is None:
            return ""
        seconds = self._around.clock() - since
        moment = datetime.fromtimestamp(self._around.now() - seconds).astimezone()
        return f"service down since {moment:%H:%M:%S %Z} ({seconds:.0f} s); "

    def manifest(
        self, path: str | None, counts: Mapping[str, int], *, complete: bool, generation: int
    ) -> dict[str, Any]:
        """Give what it came to."""
        seconds = self._around.clock() - self.began
        progress = self.progress
        return {
            "output": path,
            "output_format": self._job.output_format,
            "complete": complete,
            "rows": self.rows,
            "source_rows": self.source_rows,
            "counts": dict(counts),
            "requests_sent": progress.sent,
            "requests_reused": self.reused,
            "cache_hits": progress.cache_hits,
            "cost": round(self.spent + progress.cost + progress.kept_cost, 9),
            "cost_this_try": round(progress.cost, 9),
            "answers_without_price": progress.unpriced,
            "tokens": progress.tokens,
            "repaired": progress.repaired,
            "maybe_truncated": progress.maybe_truncated,
            "inconsistent": progress.inconsistent,
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.rows / seconds, 1) if seconds > 0 else None,
            "shard": list(self._job.shard),
            "generation": generation,
        }

    def most_fail(self, last: Answer) -> TooManyFailuresError:
        """Return the error of a run of which most requests have failed so far."""
        progress = self.progress
        return TooManyFailuresError(
            f"{progress.failures.total()} of the first {progress.done} requests failed, more than half, and "
            f"limits.max_failures is {self._job.limits.max_failures:g}: no more are sent. The last, for row "
            f"{last.pending.first}: {last.error}",
            retryable=not is_final(may_pass=progress.hopeful),
        )

    def too_many_failed(self, failed: int, counts: Mapping[str, int], example: str) -> TooManyFailuresError:
        """Say that too many rows have failed at the end."""
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


def say_end(manifest: Mapping[str, Any]) -> None:
    """One line about what a try came to."""
    counts = ", ".join(f"{count} {status}" for status, count in manifest["counts"].items())
    log.info(
        "%s",
        f"{manifest['rows']} rows: {counts}. {manifest['requests_sent']} requests sent, {manifest['requests_reused']} "
        f"known before, {manifest['cache_hits']} cache hits; {dollars(manifest['cost_this_try'])} in this try, "
        f"{dollars(manifest['cost'])} in all; {manifest['seconds']:.1f} s. Result: {manifest['output']}",
    )


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(4)) or "none"
