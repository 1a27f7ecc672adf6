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


def look_up(client: ResponsesClient, sources: Iterable[str], left: Callable[[], float | None]) -> Records:
    """
    Return the records of generations, None for one that cannot be had.

    :param left: gives the seconds that are left of the task's time, None if it has no limit.
    :raises RequestCancelledError: if the client was cancelled meanwhile.
    """
    records: Records = {}
    for source in sources:
        try:
            records[source] = client.get_generation(source, options=_options(left()))
        except ResponsesError as error:
            records[source] = None
            _report(error)
    return records


async def look_up_async(
    client: AsyncResponsesClient,
    sources: Iterable[str],
    left: Callable[[], float | None] = lambda: None,
    *,
    failed: Callable[[ResponsesError], None] | None = None,
) -> Records:
    """
    Like :func:`look_up`.

    :param failed: is called with the error of each record that cannot be had; by default it is logged.
    """
    records: Records = {}
    for source in sources:
        try:
            records[source] = await client.get_generation(source, options=_options(left()))
        except ResponsesError as error:
            records[source] = None
            _report(error, failed)
    return records


def _options(left: float | None) -> RequestOptions:
    # Half of the time is for what comes after: the response is here, and is worth more than its price.
    seconds = LOOKUP_TIMEOUT if left is None else max(min(LOOKUP_TIMEOUT, left / 2), 0.001)
    return RequestOptions(timeout=seconds, max_retries=1)


def _report(error: ResponsesError, failed: Callable[[ResponsesError], None] | None = None) -> None:
    if isinstance(error, RequestCancelledError):
        raise error
    if failed is not None:
        failed(error)
        return
    log.warning("The price of a cached response is unknown, and its cost is null: %s", error)
