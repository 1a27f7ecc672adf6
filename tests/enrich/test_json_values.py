"""The values of rows as JSON."""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import json
import math
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_provider_responses.enrich.json_values import dump, joined, to_json
from airflow_provider_responses.exceptions import RequestValidationError


class Mood(enum.Enum):
    GOOD = "good"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Text(str):
    __slots__ = ()


class Point(BaseModel):
    x: float
    at: datetime.date


class Array:
    """Like numpy's arrays and numbers, whose ``tolist`` returns their values."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return self.value


class LongDouble:
    """Like a number of numpy whose ``tolist`` returns itself."""

    def tolist(self) -> LongDouble:
        return self


class NoTime(datetime.datetime):
    """Like pandas' missing time, which is a time and not equal to itself."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.datetime.__hash__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (10**40, 10**40),
        ("ä\x00", "ä\x00"),
        (Text("a"), "a"),
        (0.1, 0.1),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.datetime(2024, 2, 29, 1, 2, 3, 4), "2024-02-29T01:02:03.000004"),
        (datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC), "2024-02-29T00:00:00+00:00"),
        (datetime.time(1, 2), "01:02:00"),
        (datetime.timedelta(days=1, milliseconds=5), 86400.005),
        (NoTime(2024, 1, 1), None),
        (decimal.Decimal("12.3400"), "12.3400"),
        (decimal.Decimal("NaN"), None),
        (decimal.Decimal("sNaN"), None),
        (decimal.Decimal("-Infinity"), None),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        (memoryview(b"a"), "YQ=="),
        (Mood.GOOD, "good"),
        (Level.HIGH, 3),
        (Word.YES, "yes"),
        (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
        (ipaddress.ip_interface("10.0.0.1/24"), "10.0.0.1/24"),
        (ipaddress.ip_network("2001:db8::/32"), "2001:db8::/32"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ((1, (2.0, None)), [1, [2.0, None]]),
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (frozenset({2, "x"}), ["x", 2]),
        (Array([1, math.nan]), [1, None]),
        (Array(7), 7),
        (Point(x=math.nan, at=datetime.date(2024, 1, 1)), {"x": None, "at": "2024-01-01"}),
        ({1: {"a": [decimal.Decimal("1.0")]}}, {"1": {"a": ["1.0"]}}),
    ],
)
def test_every_kind_of_value_has_one_form(value: Any, expected: Any) -> None:
    form = to_json(value, "column")
    assert form == expected
    assert json.loads(dump(form)) == expected


@pytest.mark.parametrize(
    "value", [1j, object(), LongDouble(), Point, Point.model_validate], ids=lambda value: type(value).__name__
)
def test_a_value_without_a_json_form_is_refused_with_its_column(value: Any) -> None:
    with pytest.raises(RequestValidationError, match=r"column 'a\.b' holds a .*no JSON form") as caught:
        to_json({"b": [value]}, "a")
    assert caught.value.fields == ("a.b",)


def test_half_a_surrogate_pair_is_written_as_a_question_mark() -> None:
    assert dump({"a": "ä\ud800"}) == '{"a":"ä?"}'


def test_json_is_compact_and_holds_no_nan() -> None:
    assert dump({"a": [1, "ä"]}) == '{"a":[1,"ä"]}'
    with pytest.raises(ValueError, match="JSON"):
        dump(math.nan)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # halves of surrogate pairs among them
    | st.binary()
    | st.decimals()
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.sampled_from([*Mood, *Level])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.sets(st.integers() | st.text())
    ),
    max_leaves=10,
)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@given(VALUES)
def test_every_value_is_strict_json_in_utf8(value: Any) -> None:
    text = dump(to_json(value, "column"))
    assert "\n" not in text
    json.loads(text.encode(), parse_constant=refuse)


NAMES = st.text(max_size=5)


@given(st.dictionaries(NAMES, SCALARS), st.dictionaries(NAMES, SCALARS))
def test_two_objects_together_are_their_union(first: dict[str, Any], second: dict[str, Any]) -> None:
    one = to_json({f"a{name}": value for name, value in first.items()}, "column")
    two = to_json({f"b{name}": value for name, value in second.items()}, "column")
    together = joined(dump(one), dump(two))
    assert json.loads(together) == json.loads(dump(one | two))
    assert list(json.loads(together)) == list(json.loads(dump(one | two)))


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
odd = st.sampled_from([1e-5, -1e-4, 0.0001, 9999999999999998.0, 1e16, 1e22, 5e-324, 0.1 + 0.2, -0.0, 2**70, -(2**64)])
characters = st.text(st.characters(codec=None, exclude_categories=()))
json_values = st.recursive(
    plain | odd | characters,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | characters, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(characters | st.text() | st.integers() | st.booleans() | st.none(), json_values, max_size=5))
def test_json_is_written_as_the_json_module_writes_it(value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    assert dump(value) == text.encode(errors="replace").decode()
