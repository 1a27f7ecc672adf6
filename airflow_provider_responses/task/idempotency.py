"""
The idempotency key of a task instance, which makes a retry free of charge. No I/O and no Airflow.

A retry sends the same bytes with the same key, so OpenRouter returns the cached response. A cleared task has a new key.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.fields import METADATA_MAX_PAIRS

if TYPE_CHECKING:
    from airflow_provider_responses.models.request import ResponsesRequest

METADATA_KEY: Final = "airflow"
NO_REGION: Final = UUID(int=0)  # Airflow's region of a task that is neither mapped nor in a loop


def make_idempotency_key(
    *, dag_id: str, task_id: str, run_id: str, map_index: int, clearing_id: object, region: str | None = None
) -> str:
    """
    Return the idempotency key: 32 hex digits that no other task instance has.

    :param clearing_id: see :func:`clearing_id`.
    :param region: see :func:`region_of`.
    """
    parts = [dag_id, task_id, run_id, str(map_index), str(clearing_id), *([] if region is None else [region])]
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]


def idempotency_key_of(ti: Any, *, clearing_id: object) -> str:
    """Return the idempotency key of a task instance; see :func:`make_idempotency_key`."""
    return make_idempotency_key(
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        clearing_id=clearing_id,
        region=region_of(ti),
    )


def region_of(ti: Any) -> str | None:
    """
    Return the place of a task instance in a task loop, None for a task outside of loops.

    All iterations of a loop have the same map index. From Airflow 3.4 on, a task in a loop, or a mapped task, is in a
    region. The region's id is unique in the DAG run; its index is that of the iteration (or the map).
    """
    region_id = getattr(ti, "region_id", None)
    if region_id is None or region_id == NO_REGION:
        return None
    return f"{region_id}/{getattr(ti, 'region_index', None)}"


def clearing_id(ti: Any, retries: int | None) -> str:
    """
    Return an id that changes when the task is cleared, and not when it is retried. Only workers can compute it.

    A clear sets `max_tries` to the number of attempts so far plus the task's `retries`; a retry leaves it unchanged. So
    one of the two differs after a clear, also if the DAG's file has new `retries`. New `retries` without a clear look
    the same: a retry after such a change is paid again.
    """
    return f"{ti.max_tries}/{retries}"


def initial_clearing_id(retries: int) -> str:
    """Return the :func:`clearing_id` of a first attempt: its `max_tries` are the task's `retries`."""
    return f"{retries}/{retries}"


def with_idempotency_key(request: ResponsesRequest, idempotency_key: str) -> ResponsesRequest:
    """
    Return the request with the key in its ``metadata``.

    :raises RequestValidationError: if ``metadata`` is full, or is not a dict of texts in ``extra_body``.
    """
    metadata = request.metadata or {}
    if "metadata" in request.extra_body:
        raise RequestValidationError(
            "extra_body.metadata must be a dict of texts, since the task's idempotency key "
            f"{METADATA_KEY!r} is added to it",
            fields=("extra_body.metadata",),
        )
    if METADATA_KEY in metadata:
        raise RequestValidationError(
            f"metadata.{METADATA_KEY}: this key is reserved for the task's idempotency key; use another",
            fields=(f"metadata.{METADATA_KEY}",),
        )
    if len(metadata) >= METADATA_MAX_PAIRS:
        raise RequestValidationError(
            f"metadata must have at most {METADATA_MAX_PAIRS - 1} pairs, got {len(metadata)}: the task's idempotency "
            f"key {METADATA_KEY!r} is one more, and {METADATA_MAX_PAIRS} are allowed. Remove {list(metadata)[-1]!r}",
            fields=("metadata",),
        )
    return request.model_copy(update={"metadata": {**metadata, METADATA_KEY: idempotency_key}})
