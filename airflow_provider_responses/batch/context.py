"""The parts of one step of a batch enrichment, which recovery, collection and submission share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_responses.batch.journal import BatchJournal
    from airflow_provider_responses.batch.options import BatchOptions
    from airflow_provider_responses.batch.requests import BatchableRequests
    from airflow_provider_responses.client import ResponsesClient
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.output_store import OutputStore
    from airflow_provider_responses.enrich.report import Report


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """
    The end of a step whose batches have not ended.

    :param batch_ids: the batches to wait for.
    :param deadline: seconds since the epoch.
    :param totals: the counts of the attempt so far, for its next step.
    """

    batch_ids: tuple[str, ...]
    deadline: float
    totals: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """
    See the module.

    :param check: raises if the attempt must end.
    :param now: seconds since the epoch.
    :param sleep: waits in the caller's thread.
    """

    job: Job
    options: BatchOptions
    client: ResponsesClient
    store: OutputStore
    journal: BatchJournal
    index: Index
    report: Report
    requests: BatchableRequests
    check: Callable[[], None]
    now: Callable[[], float]
    sleep: Callable[[float], object]

    @property
    def is_openrouter(self) -> bool:
        """Whether the server has OpenRouter's batches; otherwise they are OpenAI's."""
        return self.job.config.for_call(self.job.options).is_openrouter

    @property
    def started(self) -> float:
        """The time at which the attempt began, in seconds since the epoch."""
        return self.report.started_at


@dataclass
class Leftovers:
    """Requests that the batches of this attempt have not served for good, by fingerprint."""

    put_back: set[str] = field(default_factory=set)  # because their last batch did not complete
    resend: set[str] = field(default_factory=set)  # because of their own result in it
    put_backs: Counter[str] = field(default_factory=Counter)  # numbers of batches that did not complete
    resends: Counter[str] = field(default_factory=Counter)  # numbers of failures, and of missing results
    invalid: Counter[str] = field(default_factory=Counter)  # numbers of invalid outputs
    feedback: dict[str, list[str]] = field(default_factory=dict)  # texts that invalid outputs add to the request

    @classmethod
    def of(cls, journal: BatchJournal) -> Leftovers:
        """Return those that the journal records, each by the last batch that it was in."""
        found = cls()
        for record, landed in journal.landed:
            found.put_back.difference_update(record.intent.fingerprints)
            found.resend.difference_update(record.intent.fingerprints)
            found.put_back.update(landed.put_back)
            found.resend.update(landed.resend, landed.invalid)
            found.put_backs.update(landed.put_back)
            found.resends.update(landed.resend)
            found.invalid.update(landed.invalid)
            for fingerprint, text in landed.feedback.items():
                found.feedback.setdefault(fingerprint, []).append(text)
        return found


def list_ids(batch_ids: list[str] | tuple[str, ...]) -> str:
    """Return ids as text."""
    return ", ".join(batch_ids)
