"""Handles orphaned intents: a batch may exist whose id was not recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.batch.context import list_ids
from airflow_provider_responses.batch.recovery import UPLOAD_SECONDS, Findings, investigate
from airflow_provider_responses.exceptions import BatchError

if TYPE_CHECKING:
    from airflow_provider_responses.batch.context import StepContext
    from airflow_provider_responses.batch.journal import BatchRecord

log = logging.getLogger(__name__)

# A batch may appear in the list some time after its upload has ended, and when that was is not known. The looks
# are counted, since a clock may jump.
GRACE_LOOKS: Final = 12
GRACE_PAUSE: Final = 5.0  # seconds between two looks
MAX_GRACE_AGE: Final = 2 * UPLOAD_SECONDS  # seconds after an intent, when its batch is in the list


@dataclass
class Recovered:
    """
    The end of a recovery.

    :param provisional: ids of batches that may belong to an orphaned intent, and that show it only at their end.
    :param put_back: number of requests whose batch does not exist, or is given up.
    """

    provisional: list[str] = field(default_factory=list)
    put_back: int = 0


def recover(context: StepContext) -> Recovered:
    """
    Record the ids of batches that are found again, and put back the rows of those that do not exist.

    :raises BatchError: if a batch may have been billed and cannot be found, with ``on_orphaned_intent="fail"``.
    """
    recovered = Recovered()
    orphans = [it for it in context.journal.unlanded if it.batch_id is None]
    for record, found in _search(context, orphans):
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
            recovered.provisional += [it for it in found.unfinished if it not in recovered.provisional]
        else:
            _give_up(context, record, found)
            context.index.release(map(bytes.fromhex, record.intent.fingerprints))
            recovered.put_back += len(record.intent.fingerprints)
    return recovered


def _search(context: StepContext, orphans: list[BatchRecord]) -> Iterator[tuple[BatchRecord, Findings]]:
    """Yield orphaned intents with what the server shows of their batches, after all looks that they may need."""
    looks = GRACE_LOOKS
    for record in orphans:
        while True:
            context.check()
            known = {it.batch_id for it in context.journal.records if it.batch_id is not None}
            found = investigate(context.client, record.intent, known, now=context.now())
            is_old = context.now() - record.intent.created >= MAX_GRACE_AGE
            if not found.is_absent or is_old or not looks:
                break
            looks -= 1  # of all orphans together: they wait at the same time
            context.sleep(GRACE_PAUSE)
        yield record, found


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
