"""The calls of the batch API, and the pages of its lists. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from airflow_provider_responses.exceptions import APIError
from airflow_provider_responses.models.batch import LISTED_STATUSES, STATUSES, Batch
from airflow_provider_responses.validation import check_choice, check_number, check_type, wrong_value

BATCHES_PER_PAGE: Final = 100
RESULTS_PER_PAGE: Final = 250  # a page is in memory as a whole
NO_SUCH_PATH: Final = frozenset({404, 405, 501})  # statuses of a server that has no such endpoint


def batch_path(batch_id: str, *more: str) -> str:
    """
    Return the path of a batch.

    :raises RequestValidationError: if the id is not text, or is empty.
    """
    if not isinstance(batch_id, str) or not batch_id:
        raise wrong_value("batch_id", "text that is not empty", batch_id)
    return "/".join((f"/batches/{quote(batch_id, safe='')}", *more))


def id_of(batch: Batch | str) -> str:
    """Return the id of a batch."""
    return batch.id if isinstance(batch, Batch) else batch


def file_path(file_id: str, *more: str) -> str:
    """Return the path of a file of OpenAI's API."""
    return "/".join((f"/files/{quote(file_id, safe='')}", *more))


class BatchPages:
    """
    The pages of OpenRouter's list of batches, newest first.

    :param limit: number of batches, None for all.
    :param after: id of the batch after which the list begins.
    :param status: one or more statuses.
    :param created_after: an aware datetime, seconds since 1970, or a text that is sent as it is.
    :raises RequestValidationError: naming the argument.
    """

    def __init__(
        self,
        *,
        limit: int | None,
        after: str | None,
        status: str | Iterable[str] | None,
        created_after: datetime | float | str | None,
        created_before: datetime | float | str | None,
    ) -> None:
        self._left: int | None = check_number("limit", limit, at_least=1, whole=True, optional=True)
        self._after: str | None = check_type("after", after, str, optional=True)
        statuses = [status] if isinstance(status, str) else list(status or ())
        self._filters: list[tuple[str, str]] = []
        self._filter(statuses, created_after, created_before)
        self._has_more = True

    def next_path(self) -> str | None:
        """Return the path of the next page, None after the last one."""
        if not self._has_more or self._left == 0:
            return None
        query = [("limit", str(self._page_size())), *([("after", self._after)] if self._after else []), *self._filters]
        return f"/batches?{urlencode(query)}"

    def read(self, page: Mapping[str, Any]) -> list[Batch]:
        """Return the batches of a page."""
        data = page.get("data")
        batches = [Batch(raw=item) for item in (data if isinstance(data, list) else []) if isinstance(item, dict)]
        last = page.get("last_id") or (batches[-1].id if batches else None)
        # A server that repeats a page would do so without end.
        self._has_more = (
            page.get("has_more") is True and isinstance(last, str) and last != self._after and bool(batches)
        )
        self._after = last
        batches = self._matching(batches)
        if self._left is not None:
            batches = batches[: self._left]
            self._left -= len(batches)
        return batches

    def _filter(self, statuses: list[str], created_after: Any, created_before: Any) -> None:
        """Check the filters, and add those that the server applies to the query."""
        self._filters += [("status", check_choice("status", value, LISTED_STATUSES)) for value in statuses]
        for name, value in (("created_after", created_after), ("created_before", created_before)):
            if value is not None:
                self._filters.append((name, _timestamp(name, value)))

    def _page_size(self) -> int:
        return min(self._left or BATCHES_PER_PAGE, BATCHES_PER_PAGE)

    def _matching(self, batches: list[Batch]) -> list[Batch]:
        """Return the batches of a page that match the filters which the server does not apply."""
        return batches


class OpenAIBatchPages(BatchPages):
    """The pages of OpenAI's list of batches, newest first. Its server has no filters."""

    def _filter(self, statuses: list[str], created_after: Any, created_before: Any) -> None:
        self._statuses = frozenset(check_choice("status", value, STATUSES) for value in statuses)
        self._from = None if created_after is None else _moment("created_after", created_after)
        self._until = None if created_before is None else _moment("created_before", created_before)

    def _page_size(self) -> int:
        has_filter = self._statuses or self._from or self._until
        return BATCHES_PER_PAGE if has_filter else super()._page_size()

    def _matching(self, batches: list[Batch]) -> list[Batch]:
        if self._from and any(created <= self._from for batch in batches if (created := batch.created_at)):
            self._has_more = False  # those on the next pages are as old, or older
        return [batch for batch in batches if self._matches(batch)]

    def _matches(self, batch: Batch) -> bool:
        if self._statuses and batch.status not in self._statuses:
            return False
        created = batch.created_at
        if self._from is not None and (created is None or created <= self._from):
            return False
        return self._until is None or (created is not None and created < self._until)


class ResultPages:
    """The pages of the results of one batch."""

    def __init__(self, batch_id: str) -> None:
        self._batch_id = batch_id
        self._cursor: str | None = None
        self._has_more = True

    def next_path(self) -> str | None:
        """Return the path of the next page, None after the last one."""
        if not self._has_more:
            return None
        query = {"limit": str(RESULTS_PER_PAGE), **({"cursor": self._cursor} if self._cursor else {})}
        return f"{batch_path(self._batch_id, 'results')}?{urlencode(query)}"

    def is_unknown(self, error: APIError) -> bool:
        """Return whether an error shows that the server may have no pages of results."""
        return self._cursor is None and error.status_code in NO_SUCH_PATH

    def read(self, page: Mapping[str, Any]) -> list[Any] | None:
        """
        Return the results of a page; None if the server has no pages.

        :raises APIError: if a later page is none.
        """
        items, cursor = page.get("data"), page.get("next_cursor")
        if not isinstance(items, list):
            if self._cursor is None:
                return None
            raise APIError(
                f"expected a page of results, got JSON without `data`. Read them again. Batch: {self._batch_id}",
                retryable=True,
            )
        self._has_more = (
            page.get("has_more") is not False and isinstance(cursor, str) and cursor not in ("", self._cursor)
        )
        self._cursor = cursor
        return items


def not_finished(batch: Batch, label: str) -> APIError:
    """Return the error of a batch whose results are read too early."""
    return APIError(
        f"the batch has no results yet: its status is {batch.status!r}. Poll get_batch() until is_finished is true. "
        f"Request: {label}",
        retryable=False,
    )


def not_deletable(batch: Batch, label: str) -> APIError:
    """Return the error of a batch that is deleted too early."""
    return APIError(
        f"the batch has not finished: its status is {batch.status!r}. A batch can be deleted after it has finished: "
        f"poll get_batch() until is_finished is true, or cancel it. Request: {label}",
        status_code=409,
        retryable=False,
    )


def _timestamp(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return _moment(name, value).astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(name: str, value: Any) -> datetime:
    found = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            found = datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            raise wrong_value(name, "seconds since 1970", value) from None
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise wrong_value(
            name, "a datetime with a time zone, seconds since 1970, or a text such as 2026-08-20T00:00:00Z", value
        )
    return found
