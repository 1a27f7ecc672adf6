"""Responses of earlier attempts that this one does not use, since what is asked about their rows has changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.index import FAILED, INVALID, EarlierResponse
from airflow_provider_responses.exceptions import RequestValidationError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.job import Job

log = logging.getLogger(__name__)

UNKNOWN: Final = "unknown"


def unused(rows: Iterable[tuple[Mapping[str, Any], object]]) -> Iterator[EarlierResponse]:
    """
    Return what :meth:`Index.note_earlier` takes.

    :param rows: of a part, each with what is used of it, if anything is.
    """
    for row, used in rows:
        if row["_status"] in {FAILED, INVALID} or "_key" not in row:
            continue
        fingerprint = None if used is None else bytes.fromhex(row["_fingerprint"])
        yield EarlierResponse(row["_key"], row.get("_prompt") or UNKNOWN, row.get("_cost"), fingerprint)


def check(index: Index, job: Job, rows: int) -> None:
    """
    Log, before anything is sent, what is paid for again.

    :param rows: how many the run has.
    :raises RequestValidationError: with ``on_changed_request="fail"``, if there is any.
    """
    now = (job.prompt or {}).get("fingerprint", UNKNOWN)
    said = [
        (before, f"{count} of {rows} rows were answered for {_what(before, now)}, {cost}) and will be sent again")
        for before, count, cost in index.changed()
    ]
    if said and job.on_changed_request == "fail":
        raise RequestValidationError(
            f"on_changed_request is 'fail', and {'; '.join(text for _, text in said)}: so nothing is sent. Take the "
            "change back, give another output_path, or set on_changed_request='send'. The prompt's fingerprint is now "
            f"{now}",
            fields=("on_changed_request",),
        )
    for before, text in said:
        # A row that has changed is what a table is resumed for; another prompt may be an oversight.
        log.log(logging.INFO if before == now != UNKNOWN else logging.WARNING, "%s", text)


def _what(before: str, now: str) -> str:
    if before == now != UNKNOWN:
        return f"another request of the same prompt (fingerprint {before}"
    return f"another prompt (fingerprint {before}"
