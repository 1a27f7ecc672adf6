"""Handles orphaned intents: a batch may exist whose id was not recorded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.batch.context import list_ids
from airflow_provider_responses.batch.recovery import Findings, investigate
from airflow_provider_responses.exceptions import BatchError

if TYPE_CHECKING:
    from airflow_provider_responses.batch.context import StepContext
    from airflow_provider_responses.batch.journal import BatchRecord

log = logging.getLogger(__name__)

GRACE: Final = 60.0  # seconds after an intent in which its batch may still appear in the server's list
GRACE_CHECK: Final = 5.0  # seconds between two looks at it


def recover(context: StepContext) -> list[str]:
    """
    Record the ids of batches that are found again, and put back the rows of those that do not exist.

    Return the ids of batches that may belong to an orphaned intent, and that show it only at their end.

    :raises BatchError: if a batch may have been billed and cannot be found, with ``on_orphaned_intent="fail"``.
    """
    provisional: list[str] = []
    for record in [it for it in context.journal.unlanded if it.batch_id is None]:
        found = _search(context, record)
        if found.batch_id is not None:
            context.journal.set_id(record, found.batch_id)
            log.info("Batch %s was found again: it was submitted, and its id was not recorded", found.batch_id)
        elif found.unfinished:
            log.warning(
                "A batch of %d requests to %s may have been submitted. It is one of %s, which is known once they have "
                "ended; until then, its rows wait",
                len(record.intent.fingerprints),
                record.intent.model,
                list_ids(found.unfinished),
            )
            provisional += [it for it in found.unfinished if it not in provisional]
        else:
            _give_up(context, record, found)
    return provisional


def _search(context: StepContext, record: BatchRecord) -> Findings:
    """Search for the batch of an orphaned intent, for as long as it may still appear."""
    known = {it.batch_id for it in context.journal.records if it.batch_id is not None}
    while True:
        context.check()
        found = investigate(context.client, record.intent, known)
        if not found.is_absent or context.now() - record.intent.created >= GRACE:
            return found
        context.sleep(GRACE_CHECK)


def _give_up(context: StepContext, record: BatchRecord, found: Findings) -> None:
    """Put back the rows of an orphaned intent, if that is safe or the user accepts that they may be paid twice."""
    count = len(record.intent.fingerprints)
    if found.is_absent:
        log.info("A batch of %d requests was never submitted: the server does not list it", count)
        context.journal.discard(record)
        return
    seen = f"the batches {list_ids(found.closed)} cannot be read" if found.closed else found.reason
    text = f"a batch of {count} requests to {record.intent.model} may have been submitted and billed: {seen}"
    if context.options.on_orphaned_intent == "fail":
        raise BatchError(
            f"{text}. Set on_orphaned_intent='resubmit' to submit its rows again", batch_ids=tuple(found.closed)
        )
    log.warning("%s. Its rows are submitted again (on_orphaned_intent)", text)
    context.journal.discard(record)
