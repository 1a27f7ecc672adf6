"""Items of a response are valid input of the next request, also with unknown words and fields."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import Response, ResponsesRequest
from airflow_provider_responses.models.fields import Dialect
from airflow_provider_responses.models.history import fill_required
from tests.models.generator import SERVER_WORDS
from tests.models.schema import variants

OUTPUT = variants({"$ref": "#/components/schemas/OutputItems"})
WORD = "unknown_word"


def problem(item: dict[str, Any], dialect: Dialect) -> str | None:
    try:
        request = ResponsesRequest.parse({"model": "m", "input": [item]}, dialect=dialect)
    except RequestValidationError as error:
        return str(error)
    assert request.to_dict()["input"] == [item]
    return None


@pytest.mark.parametrize("dialect", ["openrouter", "open"])
def test_every_output_item_of_the_schema_is_an_input_item(dialect: Dialect) -> None:
    assert [found for item in OUTPUT if (found := problem(item, dialect))] == []
    assert len(OUTPUT) > 500


@pytest.mark.parametrize("dialect", ["openrouter", "open"])
def test_unknown_words_and_fields_of_an_output_item_are_accepted(dialect: Dialect) -> None:
    newer = [{**item, **dict.fromkeys(SERVER_WORDS & item.keys() - {"action"}, WORD), WORD: [{}]} for item in OUTPUT]
    assert [found for item in newer if (found := problem(item, dialect))] == []
    assert sum(WORD in (item.get("status"), item.get("phase"), item.get("format")) for item in newer) > 300


@pytest.mark.parametrize("item", [{"type": WORD}, {"type": "openrouter:new", "status": 5, "x": [None]}])
@pytest.mark.parametrize("dialect", ["openrouter", "open"])
def test_unknown_kinds_of_items_are_accepted(item: dict[str, Any], dialect: Dialect) -> None:
    assert problem(item, dialect) is None


@given(st.lists(st.sampled_from(OUTPUT), max_size=4))
def test_a_complete_item_is_not_changed(items: list[dict[str, Any]]) -> None:
    complete = fill_required(items)
    assert fill_required(complete) == complete
    assert all(item.items() <= found.items() for item, found in zip(items, complete, strict=True))


@pytest.mark.parametrize("other", ["text", 5, None, [], {}, {"role": "assistant"}, {"role": "user", "content": "x"}])
def test_an_item_without_missing_fields_is_not_changed(other: Any) -> None:
    assert fill_required([other]) == [other]


def test_two_equal_messages_get_two_ids() -> None:
    message = {"role": "assistant", "content": [{"type": "output_text", "text": "Yes. \ud83d\ude42 Größe"}]}
    first, second = fill_required([message, message])
    assert first["id"] != second["id"]
    assert fill_required([message])[0] == first


DIALECTS: tuple[Dialect, ...] = ("openrouter", "open")
INPUT = [
    item for value in variants({"$ref": "#/components/schemas/Inputs"}) if isinstance(value, list) for item in value
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, "a", "5", "\ud83d", WORD, "output_text", "search", "logs"])
    | st.text(max_size=3)
)
NAMES = st.sampled_from(["type", "text", "id", "url", "query", "summary"]) | st.text(max_size=2)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
LEFT_OUT = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in inside:
        yield (*path, name)
        yield from places(entry, (*path, name))


@st.composite
def spoilt(draw: st.DrawFn, items: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """Draw an item with random or missing values in some of its fields; it keeps its kind."""
    item = copy.deepcopy(draw(items))
    for _ in range(draw(st.integers(1, 4))):
        found = [path for path in places(item) if path != ("type",)]
        if not found:
            break
        *path, name = draw(st.sampled_from(found))
        around = item
        for step in path:
            around = around[step]
        value = draw(JSON | st.just(LEFT_OUT))
        if value is LEFT_OUT:
            del around[name]
        else:
            around[name] = value
    return item


def check_it_is_accepted(item: dict[str, Any]) -> list[dict[str, Any]]:
    raw = {"id": "resp_1", "output": [item]}
    history = Response(raw=raw).to_input()
    assert history == Response(raw=copy.deepcopy(raw)).to_input()
    assert history == Response(raw={"id": "resp_2", "output": history}).to_input()
    for dialect in DIALECTS if history else ():
        request = ResponsesRequest.parse({"model": "a/b", "input": history}, dialect=dialect)
        assert request.to_dict()["input"] == history
        assert json.loads(request.to_bytes())["input"] == history
    return history


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(spoilt(st.sampled_from(OUTPUT)))
def test_any_value_in_an_item_becomes_a_valid_item(item: dict[str, Any]) -> None:
    history = check_it_is_accepted(item)
    says_something = item["type"] != "message" or item.keys() & {"role", "content"}
    assert [sent["type"] for sent in history] == ([item["type"]] if says_something else [])


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(spoilt(st.sampled_from(INPUT)))
def test_an_item_of_any_shape_is_converted_or_left_out(item: dict[str, Any]) -> None:
    check_it_is_accepted(item)
