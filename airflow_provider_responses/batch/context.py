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
    :param is_first: whether this is the first step of its attempt.
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
    is_first: bool

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
    """Requests that batches of this attempt have not served for good, by fingerprint."""

    put_back: set[str] = field(default_factory=set)  # because the batch did not complete
    resend: set[str] = field(default_factory=set)  # because of their own result
    counts: Counter[str] = field(default_factory=Counter)  # number of batches that they were in

    @classmethod
    def of(cls, journal: BatchJournal) -> Leftovers:
        """Return those that the journal records, each by the last batch that it was in."""
        found = cls()
        for _, landed in journal.landed:
            for fingerprints, kind, other in (
                (landed.put_back, found.put_back, found.resend),
                (landed.resend, found.resend, found.put_back),
            ):
                found.counts.update(fingerprints)
                kind.update(fingerprints)
                other.difference_update(fingerprints)
        return found


def list_ids(batch_ids: list[str] | tuple[str, ...]) -> str:
    """Return ids as text."""
    return ", ".join(batch_ids)
