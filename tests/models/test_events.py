"""No content of an event raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses import models
from airflow_provider_responses.models.events import ERROR_EVENTS, TERMINAL_EVENTS, StreamEvent

values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.none()) | st.just({"id": 1})


@given(st.text(), st.dictionaries(st.sampled_from(["delta", "sequence_number", "response", "x"]), values))
def test_no_property_raises(kind: str, data: dict[str, Any]) -> None:
    event = StreamEvent(type=kind, data=data)
    assert isinstance(event.delta, str)
    assert event.sequence_number is None or isinstance(event.sequence_number, int)
    assert (event.response is not None) == isinstance(data.get("response"), dict)
    assert event.is_terminal == (kind in TERMINAL_EVENTS)


def test_repr_shows_no_text() -> None:
    event = StreamEvent(type="response.output_text.delta", data={"delta": "secret"})
    assert event.delta == "secret"
    assert "secret" not in repr(event)


def test_no_event_is_both_terminal_and_an_error() -> None:
    assert "response.done" in TERMINAL_EVENTS
    assert not TERMINAL_EVENTS & ERROR_EVENTS


@pytest.mark.parametrize("name", models.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(models, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = models.Nonsense
