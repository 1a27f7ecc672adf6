"""Nanoseconds of Parquet without pandas, and columns that are not read."""

from __future__ import annotations

import datetime
import io
import subprocess
import sys
from typing import Any

import pyarrow as arrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.json_values import dump, to_json
from airflow_provider_responses.enrich.parquet_rows import NanosecondTime
from airflow_provider_responses.enrich.sources import Row, read_file
from airflow_provider_responses.exceptions import SourceError

ODD = 1_700_000_000_123_456_789  # nanoseconds
EPOCH = datetime.datetime(1970, 1, 1)


class Memory:
    """A path that is no ``Path``: it has a name and can be opened."""

    def __init__(self, table: Any) -> None:
        self.file = io.BytesIO()
        pyarrow.parquet.write_table(table, self.file)

    def __str__(self) -> str:
        return "in.parquet"

    def open(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.file.getvalue())


def rows_of(table: Any, **options: Any) -> list[Row]:
    return [row for chunk in read_file(Memory(table), **options) for row in chunk]


def value_of(value: Any, kind: Any) -> Any:
    [row] = rows_of(arrow.table({"a": arrow.array([value], kind)}))
    return row["a"]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (ODD, arrow.timestamp("ns"), "2023-11-14T22:13:20.123456789"),
        (ODD, arrow.timestamp("ns", "Europe/Berlin"), "2023-11-14T23:13:20.123456789+01:00"),
        (ODD - 789, arrow.timestamp("ns"), "2023-11-14T22:13:20.123456"),
        (1, arrow.timestamp("ns"), "1970-01-01T00:00:00.000000001"),
        (-1, arrow.timestamp("ns"), "1969-12-31T23:59:59.999999999"),
        (None, arrow.timestamp("ns"), None),
        ([ODD, None], arrow.list_(arrow.timestamp("ns")), ["2023-11-14T22:13:20.123456789", None]),
        ({"x": ODD, "y": "z"}, arrow.struct({"x": arrow.timestamp("ns"), "y": arrow.string()}), None),
        ([("k", ODD)], arrow.map_(arrow.string(), arrow.timestamp("ns")), [["k", "2023-11-14T22:13:20.123456789"]]),
        (1001, arrow.time64("ns"), "00:00:00.000001001"),
        (1000, arrow.time64("ns"), "00:00:00.000001"),
        (1001, arrow.duration("ns"), 1e-06),
    ],
)
def test_nanoseconds_are_kept_without_pandas(value: Any, kind: Any, expected: Any) -> None:
    form = to_json(value_of(value, kind), "a")
    assert form == ({"x": "2023-11-14T22:13:20.123456789", "y": "z"} if isinstance(value, dict) else expected)
    dump(form)


def test_a_dictionary_column_of_times_is_read() -> None:
    encoded = arrow.array([ODD, None, ODD], arrow.timestamp("ns")).dictionary_encode()
    rows = rows_of(arrow.table({"a": encoded}))
    assert [to_json(row["a"], "a") for row in rows] == ["2023-11-14T22:13:20.123456789", None] * 1 + [
        "2023-11-14T22:13:20.123456789"
    ]


def test_a_time_with_nanoseconds_is_a_datetime() -> None:
    time = value_of(ODD, arrow.timestamp("ns"))
    assert isinstance(time, NanosecondTime)
    assert (time.date(), time.nanosecond) == (datetime.date(2023, 11, 14), 789)
    assert str(time) == "2023-11-14 22:13:20.123456789"
    assert time.isoformat(timespec="seconds") == "2023-11-14T22:13:20"


@given(st.integers(-(2**62), 2**62))
def test_every_nanosecond_is_kept(nanoseconds: int) -> None:
    time = value_of(nanoseconds, arrow.timestamp("ns"))
    rest = getattr(time, "nanosecond", 0)
    assert ((time - EPOCH) // datetime.timedelta(microseconds=1)) * 1000 + rest == nanoseconds


PANDAS = """
import sys, types
fake = types.ModuleType("pandas")
fake.__version__ = "2.2.3"
fake.Timestamp = fake.Timedelta = lambda *given, **more: "of pandas"
sys.modules["pandas"] = fake
import pyarrow as arrow
from tests.enrich.test_parquet_rows import ODD, value_of
print(repr(value_of(ODD, arrow.timestamp("ns"))), repr(value_of(1000, arrow.timestamp("ns"))))
"""


def test_values_do_not_depend_on_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", PANDAS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(") ")[0] == "NanosecondTime(2023, 11, 14, 22, 13, 20, 123456"
    assert "of pandas" not in done.stdout


LATE = arrow.array([10**7] * 2, arrow.date32())  # a day after the year 9999


def test_a_column_that_is_not_needed_cannot_stop_the_table() -> None:
    table = arrow.table({"id": [1, 2], "late": LATE, "text": ["a", "b"]})
    with pytest.raises(SourceError, match="column 'late' holds a value for which Python has no type"):
        rows_of(table)
    rows = rows_of(table, needed={"id", "text", "more"})
    assert [(row["id"], row["text"]) for row in rows] == [(1, "a"), (2, "b")]
    assert set(rows[0]) == {"id", "late", "text"}
    with pytest.raises(TypeError, match="column 'late' was not read"):
        str(rows[0]["late"])
    with pytest.raises(TypeError, match="column 'late' was not read"):
        bool(rows[0]["late"])
    assert len(rows_of(table, needed=set())) == 2
