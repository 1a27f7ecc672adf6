"""The price of a cached response, from OpenRouter's record of the generation that it repeats."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import RequestCancelledError, ResponsesError

if TYPE_CHECKING:
    from airflow_provider_responses.client import AsyncResponsesClient, ResponsesClient

log = logging.getLogger(__name__)

LOOKUP_TIMEOUT: Final = 5.0  # seconds

Records = dict[str, Mapping[str, Any] | None]


def look_up_generations(
    client: ResponsesClient, generations: Iterable[str], seconds_left: Callable[[], float | None]
) -> Records:
    """
    Return OpenRouter's records of generations by id, None for those that cannot be looked up.

    :param seconds_left: returns the time that the task has left, None if it has no limit.
    :raises RequestCancelledError: if the client was cancelled meanwhile.
    """
    records: Records = {}
    for generation in generations:
        try:
            records[generation] = client.get_generation(generation, options=_options(seconds_left()))
        except ResponsesError as error:
            records[generation] = None
            _report(error)
    return records


async def look_up_generations_async(
    client: AsyncResponsesClient,
    generations: Iterable[str],
    seconds_left: Callable[[], float | None] = lambda: None,
    *,
    on_failure: Callable[[ResponsesError], None] | None = None,
) -> Records:
    """
    Like :func:`look_up_generations`.

    :param on_failure: is called with the error of each lookup that fails; by default it is logged.
    """
    records: Records = {}
    for generation in generations:
        try:
            records[generation] = await client.get_generation(generation, options=_options(seconds_left()))
        except ResponsesError as error:
            records[generation] = None
            _report(error, on_failure)
    return records


def _options(seconds_left: float | None) -> RequestOptions:
    # Half of the time is left for the steps after the lookup: the response matters more than its price.
    timeout = LOOKUP_TIMEOUT if seconds_left is None else max(min(LOOKUP_TIMEOUT, seconds_left / 2), 0.001)
    return RequestOptions(timeout=timeout, max_retries=1)


def _report(error: ResponsesError, on_failure: Callable[[ResponsesError], None] | None = None) -> None:
    if isinstance(error, RequestCancelledError):
        raise error
    if on_failure is not None:
        on_failure(error)
        return
    log.warning("The price of a cached response is unknown, and its cost is null: %s", error)
