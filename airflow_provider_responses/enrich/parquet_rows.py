"""Rows of Parquet as Python objects, which do not depend on whether pandas is installed."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator
from typing import Any, Final, cast

from airflow_provider_responses.enrich.unread_value import UnreadValue
from airflow_provider_responses.exceptions import SourceError

_EPOCH: Final = datetime.datetime(1970, 1, 1)

Row = dict[str, Any]


class NanosecondTime(datetime.datetime):
    """A time with nanoseconds, which are three more digits in its text and its ISO form."""

    nanosecond: int = 0

    def isoformat(self, sep: str = "T", timespec: str = "nanoseconds") -> str:
        if timespec != "nanoseconds":
            return super().isoformat(sep, timespec)
        text = super().isoformat(sep, "microseconds")
        end = text.index(".") + 7
        return f"{text[:end]}{self.nanosecond:03}{text[end:]}"

    def __str__(self) -> str:
        return self.isoformat(" ")


def read(source: Any, path: Any, at_once: int, needed: Collection[str] | None) -> Iterator[list[Row]]:
    """
    Yield the rows of an open Parquet file.

    :param needed: names of the columns that are read; the others are ``UnreadValue``. All by default.
    """
    names = source.schema_arrow.names
    read = names if needed is None else [name for name in names if name in needed]
    left_out = {name: UnreadValue(name) for name in names if name not in read}
    for batch in source.iter_batches(batch_size=at_once, columns=read):
        rows = _rows(batch, path)
        yield [{**left_out, **row} for row in rows] if left_out else rows


def _rows(batch: Any, path: Any) -> list[Row]:
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns[name] = [_python(item) for item in column] if _has_nanoseconds(column.type) else column.to_pylist()
        except (ValueError, OverflowError) as error:  # a year after 9999
            raise SourceError(
                f"source: {str(path)!r}, column {name!r} holds a value for which Python has no type ({error}); leave "
                "the column out with `columns`, if the prompt does not need it",
                retryable=False,
            ) from None
    if not columns:
        return [{} for _ in range(batch.num_rows)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _has_nanoseconds(kind: Any) -> bool:
    """Return whether pyarrow needs pandas for values of this type."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _has_nanoseconds(kind.value_type)
    if types.is_nested(kind):
        return any(_has_nanoseconds(kind.field(number).type) for number in range(kind.num_fields))
    return bool(getattr(kind, "unit", None) == "ns")


def _python(item: Any) -> Any:
    """Return a scalar of Arrow as a Python object, without pandas."""
    from pyarrow import types

    kind = item.type
    if not item.is_valid:
        return None
    if types.is_dictionary(kind):
        return _python(item.value)
    if types.is_struct(kind):
        return {field.name: _python(item[number]) for number, field in enumerate(kind)}
    if types.is_map(kind):
        return [tuple(_python(pair).values()) for pair in item.values]
    if types.is_nested(kind):
        return [_python(value) for value in item.values]
    if getattr(kind, "unit", None) != "ns":
        return item.as_py()
    return _of_nanoseconds(item, kind)


def _of_nanoseconds(item: Any, kind: Any) -> Any:
    from pyarrow import types

    microseconds, nanosecond = divmod(item.value, 1000)
    if types.is_duration(kind):
        return datetime.timedelta(microseconds=microseconds)
    if types.is_time(kind):
        time = (_EPOCH + datetime.timedelta(microseconds=microseconds)).time()
        return f"{time.isoformat('microseconds')}{nanosecond:03}" if nanosecond else time
    whole = _at(microseconds, kind.tz)
    if not nanosecond:
        return whole
    found = NanosecondTime.combine(whole.date(), whole.timetz())
    found.nanosecond = nanosecond
    return found


def _at(microseconds: int, zone: str | None) -> datetime.datetime:
    import pyarrow as arrow

    return cast("datetime.datetime", arrow.scalar(microseconds, arrow.timestamp("us", zone)).as_py())
