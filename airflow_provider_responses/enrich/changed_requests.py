"""Responses of earlier attempts that this one cannot use, because the requests of their rows have changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.index import UnusedResponse
from airflow_provider_responses.enrich.next_step import Step
from airflow_provider_responses.enrich.outcome_json import JUDGE, tier_of
from airflow_provider_responses.enrich.statuses import FAILED, INVALID
from airflow_provider_responses.exceptions import RequestValidationError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.job import Job

log = logging.getLogger(__name__)

UNKNOWN: Final = "unknown"


def unused_responses(rows: Iterable[tuple[Mapping[str, Any], object]]) -> Iterator[UnusedResponse]:
    """
    Yield the arguments of :meth:`Index.add_unused`.

    :param rows: of a part, each with its usable outcome, or None.
    """
    for row, usable in rows:
        if row["_status"] in {FAILED, INVALID} or "_key" not in row:
            continue
        fingerprint = None if usable is None else bytes.fromhex(row["_fingerprint"])
        cost = row.get("_cost")
        known, unknown = row.get("_paid") or (cost, cost is None)
        paid, rank = (None if unknown else known), Step(tier_of(row)[0], JUDGE in row).rank
        yield UnusedResponse(row["_key"], row.get("_prompt") or UNKNOWN, cost, fingerprint, rank, paid)


def check_changed_requests(index: Index, job: Job, rows: int) -> None:
    """
    Log, before anything is sent, which responses are paid for again.

    :param rows: number of rows of this task.
    :raises RequestValidationError: with ``on_changed_request="fail"``, if there are any.
    """
    present = (job.prompt or {}).get("fingerprint", UNKNOWN)
    found = [
        (
            before,
            f"{count} of {rows} rows have a response to {_describe(before, present)}, {cost}) and will be sent again",
        )
        for before, count, cost in index.changed_requests()
    ]
    if found and job.on_changed_request == "fail":
        raise RequestValidationError(
            f"on_changed_request is 'fail', and {'; '.join(text for _, text in found)}: so nothing is sent. Undo the "
            "change, use another output_path, or set on_changed_request='send'. The prompt's present fingerprint is "
            f"{present}",
            fields=("on_changed_request",),
        )
    for before, text in found:
        # A changed row is why tables are resumed; a changed prompt may be an oversight.
        log.log(logging.INFO if before == present != UNKNOWN else logging.WARNING, "%s", text)


def _describe(before: str, present: str) -> str:
    if before == present != UNKNOWN:
        return f"another request of the same prompt (fingerprint {before}"
    return f"another prompt (fingerprint {before}"
