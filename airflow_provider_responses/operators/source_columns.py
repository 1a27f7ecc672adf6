"""The source's columns, collected while its rows are read: for the prompt's template, and for a load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.validation import closest

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.sources import Row
    from airflow_provider_responses.operators.databases.loader import TableLoader


def check_template_columns(chunks: Iterable[list[Row]], names: frozenset[str]) -> Iterator[list[Row]]:
    """
    Yield the chunks, and check at their end that the columns of a template exist.

    :param names: of the columns that the template names.
    :raises RequestValidationError: if no row has one of them.
    """
    known: dict[str, None] = {}
    for chunk in chunks:
        if not known.keys() >= names:  # a JSONL row need not have them all
            known |= {name: None for row in chunk for name in row}
        yield chunk
    if known and (unknown := sorted(names - known.keys(), key=str)):
        close = closest(str(unknown[0]), map(str, known))
        hint = f"did you mean {close!r}?" if close else f"its columns are {', '.join(map(str, known))}"
        raise RequestValidationError(
            f"input: the template names row.{unknown[0]}, and the source has no such column; {hint}",
            fields=("input",),
        )


def choose_loaded_columns(
    chunks: Iterable[list[Row]], loader: TableLoader | None, *, columns: Sequence[str] | None, key: str | None
) -> Iterator[list[Row]]:
    """
    Yield the chunks, and let the loader choose its columns at their end, before the first request is sent.

    :param columns: of the source, that go into the result beside the key; all by default.
    """
    known: dict[str, None] = {}
    is_empty = True
    for chunk in chunks:
        if loader is not None:  # rows need not have the same columns
            known |= dict.fromkeys(chain.from_iterable(chunk))
        is_empty = is_empty and not chunk
        yield chunk
    if loader is not None and not is_empty:
        in_result = known if columns is None else {*columns, key}
        loader.choose_columns(str(name) for name in known if name in in_result)
