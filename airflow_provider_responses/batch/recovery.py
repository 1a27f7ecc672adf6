"""
Finds out whether the batch of an orphaned intent exists.

The process ended between the intent and the id, or the response to the submit was lost. The server's list shows the
batches of that time, but the ``custom_id``s of their requests only once they have ended.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from airflow_provider_responses.exceptions import APIError, ConfigurationError

if TYPE_CHECKING:
    from airflow_provider_responses.batch.journal import Intent
    from airflow_provider_responses.models.batch import Batch, BatchResult

log = logging.getLogger(__name__)

CLOCK_SLACK: Final = 3600.0  # seconds between the clocks of workers and of the server, at most
UPLOAD_SECONDS: Final = 3600.0  # from an intent to its batch, at most
JUMP: Final = 24 * 3600.0  # seconds by which a clock may have jumped, if the intent seems to be in the future
LISTED_SECONDS: Final = 29 * 24 * 3600.0  # for which a server lists a batch, at least
SAMPLE: Final = 100  # results of a batch, of which one shows to which intent it belongs
NONCE_KEY: Final = "airflow"  # in the metadata of a batch, on servers that have some
CLOSED: Final = frozenset({404, 410})  # statuses of a read that no retry changes


class BatchReader(Protocol):
    """The calls of the client that a recovery needs."""

    def list_batches(self, *, created_after: float, created_before: float) -> Iterator[Batch]:
        """Return an iterator over batches."""

    def iter_batch_results(self, batch: Batch | str) -> Iterator[BatchResult]:
        """Return an iterator over the results of a batch."""


@dataclass
class Findings:
    """
    The state of an orphaned intent, as far as the server shows it.

    :param batch_id: of its batch, once that is certain.
    :param unfinished: batches that may be it, which show that only once they have ended.
    :param closed: batches that may be it, and whose results cannot be read.
    :param reason: why the list could not be searched.
    """

    batch_id: str | None = None
    unfinished: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    reason: str | None = None

    @property
    def is_absent(self) -> bool:
        """Whether no batch of the server can be that of the intent."""
        return not (self.batch_id or self.unfinished or self.closed or self.reason)


def investigate(client: BatchReader, intent: Intent, known: set[str], *, now: float) -> Findings:
    """
    Search the server for the batch of an orphaned intent.

    :param known: ids of batches that belong to other intents.
    :param now: seconds since the epoch. Before the intent, it shows that a clock has jumped.
    :raises ResponsesError: if the server cannot be reached.
    """
    found = Findings()
    try:
        for batch in client.list_batches(
            created_after=(intent.created if now >= intent.created else now - JUMP) - CLOCK_SLACK,
            created_before=intent.created + UPLOAD_SECONDS + CLOCK_SLACK,
        ):
            if batch.id in known or not _may_be(batch, intent):
                continue
            if _nonce_of(batch) == intent.nonce:
                return Findings(batch_id=batch.id)
            if not batch.is_finished:
                found.unfinished.append(batch.id)
            elif _has_results_of(client, batch, intent, found):
                return Findings(batch_id=batch.id)
    except ConfigurationError as error:
        found.reason = str(error)
    except APIError as error:
        if error.retryable or error.status_code not in {404, 405, 501}:
            raise
        found.reason = str(error)
    if found.is_absent and now - intent.created > LISTED_SECONDS:
        found.reason = "its intent is more than 29 days old, and the server may not list such a batch any more"
    return found


def _may_be(batch: Batch, intent: Intent) -> bool:
    """Return whether a batch could be that of an intent, by its model and its number of requests."""
    if (nonce := _nonce_of(batch)) is not None:
        return nonce == intent.nonce
    if batch.model is not None and batch.model.partition(":")[0] != intent.model.partition(":")[0]:
        return False
    return batch.counts.total in {None, 0, len(intent.fingerprints)}  # it may be counted only after its validation


def _nonce_of(batch: Batch) -> str | None:
    metadata = batch.raw.get("metadata")
    found = metadata.get(NONCE_KEY) if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def _has_results_of(client: BatchReader, batch: Batch, intent: Intent, found: Findings) -> bool:
    """Return whether the results of a batch are those of an intent; one without results has cost nothing."""
    try:
        # A server may list results of other batches, so that the first alone shows too little.
        for result in itertools.islice(client.iter_batch_results(batch), SAMPLE):
            if intent.fingerprint_of(result.custom_id) is not None:
                return True
    except APIError as error:
        if error.status_code not in CLOSED:
            raise
        found.closed.append(batch.id)
    return False
