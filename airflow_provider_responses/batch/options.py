"""The arguments of an enrichment about batches, as the user sets them. No I/O and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from airflow_provider_responses.validation import check_choice, check_number, check_type, wrong_value

MODES: Final = ("live", "batch", "auto")
ON_BATCH_FAILURE: Final = ("resubmit", "live", "fail")
ON_ORPHANED_INTENT: Final = ("fail", "resubmit")
BATCH_THRESHOLD: Final = 500  # rows
COMPLETION_WINDOW: Final = 24 * 3600.0  # seconds within which a server completes a batch
# Seconds after which a batch is overdue. Google Vertex takes up to 96 hours.
MAX_BATCH_SECONDS: Final = 100 * 3600.0


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """
    The arguments of an enrichment about batches.

    :param mode: ``live`` sends each request by itself; ``batch`` submits batches; ``auto`` decides.
    :param batch_threshold: number of rows below which ``auto`` sends live, and below which rows that a batch has left
        over are sent live.
    :param finish_within: seconds from the start of an attempt until its batches must have ended; below 24 hours,
        ``auto`` sends live.
    :param on_batch_failure: the handling of rows whose batch failed, expired or was cancelled.
    :param on_orphaned_intent: the handling of rows whose batch may exist, which cannot be verified.
    :param delete_after: whether a batch is deleted on the server once its results are written.
    :param callback_url: a public https URL that OpenRouter calls when a batch has ended.
    :raises RequestValidationError: naming the argument.
    """

    mode: Literal["live", "batch", "auto"] = "live"
    batch_threshold: int = BATCH_THRESHOLD
    finish_within: float | None = None
    on_batch_failure: Literal["resubmit", "live", "fail"] = "resubmit"
    on_orphaned_intent: Literal["fail", "resubmit"] = "fail"
    delete_after: bool = False
    callback_url: str | None = None

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, MODES)
        check_number("batch_threshold", self.batch_threshold, whole=True, at_least=0)
        check_number("finish_within", self.finish_within, above=0, unit="seconds", optional=True)
        check_choice("on_batch_failure", self.on_batch_failure, ON_BATCH_FAILURE)
        check_choice("on_orphaned_intent", self.on_orphaned_intent, ON_ORPHANED_INTENT)
        check_choice("delete_after", self.delete_after, (True, False))
        url = check_type("callback_url", self.callback_url, str, optional=True)
        if url is not None and (urlsplit(url).scheme != "https" or not urlsplit(url).hostname):
            raise wrong_value("callback_url", "a public https URL", url, type_only=True)

    def deadline(self, started: float, submitted: float) -> float:
        """
        Return when the batches of an attempt are overdue, in seconds since the epoch.

        :param started: when the attempt began.
        :param submitted: when its last batch was submitted.
        """
        if self.finish_within is not None:
            return started + self.finish_within
        return submitted + MAX_BATCH_SECONDS

    def is_over(self, started: float, now: float) -> bool:
        """Return whether ``finish_within`` is over."""
        return self.finish_within is not None and now >= started + self.finish_within

    def has_time(self, started: float, now: float) -> bool:
        """Return whether a batch that is submitted now can be expected to end in time."""
        return self.finish_within is None or started + self.finish_within - now >= COMPLETION_WINDOW
