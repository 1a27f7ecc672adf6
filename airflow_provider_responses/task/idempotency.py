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
    *, dag_id: str, task_id: str, run_id: str, map_index: int, cleared: object, region: str | None = None
) -> str:
    """
    Return the idempotency key: 32 hex digits that tell one task instance's requests from all others'.

    A retry has the same key, and so gets the cached response at no cost; a cleared task has a new one.

    :param cleared: changes with every clear and stays as it is on a retry.
    :param region: see :func:`region_of`.
    """
    parts = [dag_id, task_id, run_id, str(map_index), str(cleared), *([] if region is None else [region])]
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]


def idempotency_key_of(ti: Any, *, cleared: object) -> str:
    """Return the idempotency key of a task instance; see :func:`make_stamp`."""
    return make_idempotency_key(
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        cleared=cleared,
        region=region_of(ti),
    )


def region_of(ti: Any) -> str | None:
    """
    Return the place of a task instance in a task loop, None for a task outside.

    All iterations of a loop have the same map index. From Airflow 3.4 on, what runs in a loop (or is mapped) is in a
    region, whose id is made once per run, and is the iteration's (or the map's) index in it.
    """
    region_id = getattr(ti, "region_id", None)
    if region_id is None or region_id == NO_REGION:
        return None
    return f"{region_id}/{getattr(ti, 'region_index', None)}"


def clear_marker(ti: Any, retries: int | None) -> str:
    """
    Give what a clear changes and a retry does not, as a worker knows it.

    A clear sets `max_tries` to the tries that were made plus the task's `retries`, and a retry leaves it as it is. So
    one of the two has changed after a clear, also if `retries` was changed in the DAG's file. Such a change without a
    clear cannot be told from one with it: a retry after it is paid again.
    """
    return f"{ti.max_tries}/{retries}"


def first_clear_marker(retries: int) -> str:
    """Return what :func:`clears_of` gives for a first attempt, whose `max_tries` are its `retries`."""
    return f"{retries}/{retries}"


def with_idempotency_key(request: ResponsesRequest, idempotency_key: str) -> ResponsesRequest:
    """
    Return the request with the key in its ``metadata``.

    :raises RequestValidationError: if ``metadata`` has no room for it, or cannot be merged.
    """
    metadata = request.metadata or {}
    if "metadata" in request.extra_body:
        raise RequestValidationError(
            f"extra_body.metadata: must be a dict of texts, since the task's idempotency key {METADATA_KEY!r} is added "
            "to it",
            fields=("extra_body.metadata",),
        )
    if METADATA_KEY in metadata:
        raise RequestValidationError(
            f"metadata.{METADATA_KEY}: this key is taken by the task's idempotency key; use another",
            fields=(f"metadata.{METADATA_KEY}",),
        )
    if len(metadata) >= METADATA_MAX_PAIRS:
        raise RequestValidationError(
            f"metadata: has {len(metadata)} pairs, and the task's idempotency key {METADATA_KEY!r} makes "
            f"{len(metadata) + 1}; at most {METADATA_MAX_PAIRS} are allowed: drop {list(metadata)[-1]!r}",
            fields=("metadata",),
        )
    return request.model_copy(update={"metadata": {**metadata, METADATA_KEY: idempotency_key}})
