"""The arguments of an enrichment about batches, and the wait for batches between two steps of an attempt."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.batch.options import BatchOptions
from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.operators.configuration import batch_poll_interval, max_trigger_bytes, min_deferral
from airflow_provider_responses.operators.log_groups import log_group

if TYPE_CHECKING:
    from airflow_provider_responses.batch.context import Unfinished
    from airflow_provider_responses.batch.waiting import BatchWait, WaitOutcome

log = logging.getLogger(__name__)


def batch_options(arguments: Mapping[str, Any]) -> BatchOptions:
    """
    Return the arguments of an operator that are about batches.

    :raises RequestValidationError: naming the argument.
    """
    given = {f.name: arguments[f.name] for f in fields(BatchOptions) if f.name in arguments}
    if isinstance(limit := given.get("finish_within"), timedelta):
        given["finish_within"] = limit.total_seconds()
    return BatchOptions(**given)


def make_wait(unfinished: Unfinished, *, conn_id: str, options: Any) -> BatchWait:
    """
    Return the arguments of the trigger that waits for the batches of a step.

    :param options: those of every request, of which the base URL is used.
    :raises ConfigurationError: naming an option of Airflow's configuration that is wrong.
    """
    from airflow_provider_responses.batch.waiting import BatchWait

    return BatchWait(
        conn_id=conn_id,
        batch_ids=unfinished.batch_ids,
        deadline=unfinished.deadline,
        poll_interval=batch_poll_interval(),
        base_url=RequestOptions.parse(options).base_url,
        attempt=unfinished.totals,
        not_before=time.time() + min_deferral(),
    )


def fits_into_trigger(wait: BatchWait) -> bool:
    """
    Return whether Airflow's database can store the arguments of the trigger, and log it otherwise.

    :raises ConfigurationError: naming the option, if ``max_trigger_bytes`` is wrong.
    """
    size, most = len(json.dumps(wait.to_kwargs())), max_trigger_bytes()
    if size > most:
        log.warning(
            "Not deferred: the ids of %d batches have %d bytes, and [responses] max_trigger_bytes is %d; waiting here",
            len(wait.batch_ids),
            size,
            most,
        )
    return size <= most


def wait_on_worker(wait: BatchWait, check: Callable[[], None]) -> WaitOutcome:
    """
    Wait for batches, as the trigger does.

    :param check: raises if the task was ended.
    """
    from airflow_provider_responses.batch.waiting import wait_for_batches
    from airflow_provider_responses.hooks.responses import ResponsesHook

    with log_group("Waiting for batches"), ResponsesHook(wait.conn_id).get_conn() as client:
        return wait_for_batches(
            wait, get_batch=client.get_batch, now=time.time, sleep=time.sleep, draw=random.random, check=check
        )


def log_running_batches(batch_ids: Iterable[str]) -> None:
    """Log which batches run on although their task ends."""
    log.warning(
        "The task ends, but not its batches, which run on and are billed: %s. A retry, or a clear of the task, uses "
        "their results",
        ", ".join(batch_ids),
    )
