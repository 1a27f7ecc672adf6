"""What a model or a server made is passed on in the next request, whatever newer words are in it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import ResponsesRequest
from airflow_provider_responses.models.fields import Dialect
from airflow_provider_responses.models.history import filled
from tests.models.generator import TOLD
from tests.models.schema import variants

OUTPUT = variants({"$ref": "#/components/schemas/OutputItems"})
WORD = "of_tomorrow"


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
def test_words_and_fields_of_tomorrow_pass_in_it(dialect: Dialect) -> None:
    newer = [{**item, **dict.fromkeys(TOLD & item.keys() - {"action"}, WORD), WORD: [{}]} for item in OUTPUT]
    assert [found for item in newer if (found := problem(item, dialect))] == []
    assert sum(WORD in (item.get("status"), item.get("phase"), item.get("format")) for item in newer) > 300


@pytest.mark.parametrize("item", [{"type": WORD}, {"type": "openrouter:new", "status": 5, "x": [None]}])
@pytest.mark.parametrize("dialect", ["openrouter", "open"])
def test_kinds_of_tomorrow_pass(item: dict[str, Any], dialect: Dialect) -> None:
    assert problem(item, dialect) is None


@given(st.lists(st.sampled_from(OUTPUT), max_size=4))
def test_what_is_whole_stays_as_it_is(items: list[dict[str, Any]]) -> None:
    whole = filled(items)
    assert filled(whole) == whole
    assert all(item.items() <= found.items() for item, found in zip(items, whole, strict=True))


@pytest.mark.parametrize("other", ["text", 5, None, [], {}, {"role": "assistant"}, {"role": "user", "content": "x"}])
def test_what_needs_nothing_gets_nothing(other: Any) -> None:
    assert filled([other]) == [other]


def test_two_equal_messages_get_two_ids() -> None:
    message = {"role": "assistant", "content": [{"type": "output_text", "text": "Yes. \ud83d\ude42 Größe"}]}
    first, second = filled([message, message])
    assert first["id"] != second["id"]
    assert filled([message])[0] == first
