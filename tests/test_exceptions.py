"""The drawn tree is that of the classes, and errors keep their fields when they are copied or pickled."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from airflow_provider_responses import exceptions
from airflow_provider_responses.exceptions import ResponsesError, error_class_for_status
from airflow_provider_responses.models import Response

CLASSES = [cls for _, cls in inspect.getmembers(exceptions, inspect.isclass) if issubclass(cls, ResponsesError)]
FIELDS: dict[str, Any] = {
    "retryable": True,
    "ambiguous": True,
    "status_code": 429,
    "code": "slow_down",
    "error_type": "rate_limit_exceeded",
    "metadata": {"raw": "said"},
    "availability": {"code": "capacity_exhausted"},
    "retry_after": 7.5,
    "generation_id": "gen-1",
    "openrouter_metadata": {"attempt": 1},
    "previous": (ValueError("before"),),
}
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "RequestValidationError": {"fields": ("model",)},
    "StorageError": {"path": "s3://bucket/out/manifest.json"},
    "StreamInterruptedError": {"text": "so far"},
    "TransportError": {"kind": "read"},
}


def drawn() -> dict[str, tuple[str | None, str]]:
    """Return the tree of the module's docstring: each name with its parent's name and its line."""
    parents: list[str] = []
    found: dict[str, tuple[str | None, str]] = {}
    for line in (exceptions.__doc__ or "").splitlines():
        if match := re.match(r"( *)([A-Z]\w+Error)\b", line):
            depth = len(match[1]) // 4
            found[match[2]] = (parents[depth - 1] if depth else None, line)
            parents[depth:] = [match[2]]
    return found


def test_the_drawn_tree_is_the_tree() -> None:
    tree = drawn()
    assert set(tree) == {cls.__name__ for cls in CLASSES}
    for cls in CLASSES:
        parent, line = tree[cls.__name__]
        assert cls.__base__ is not None
        assert parent == (cls.__base__.__name__ if cls is not ResponsesError else None)
        statuses = [status for status in range(400, 600) if error_class_for_status(status)[0] is cls]
        if cls is not exceptions.APIError and statuses:
            assert re.search(rf" {statuses[0]}\b", line)


def test_the_drawn_tree_marks_the_retryable_classes() -> None:
    for name, (_, line) in drawn().items():
        # Airflow decides whether a killed task runs again, which the tree leaves out.
        if name != "RequestCancelledError":
            assert getattr(exceptions, name).default_retryable == ("retryable" in line), name


def test_every_class_is_public() -> None:
    assert set(exceptions.__all__) == {cls.__name__ for cls in CLASSES} | {"error_class_for_status"}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_has_a_docstring_and_needs_only_a_message(cls: type[ResponsesError]) -> None:
    assert cls.__doc__
    error = cls("what happened")
    assert (str(error), error.message, error.retryable) == ("what happened", "what happened", cls.default_retryable)
    assert (error.metadata, error.availability, error.previous, error.sends) == ({}, {}, (), 1)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_can_be_pickled_and_copied_with_its_fields(cls: type[ResponsesError]) -> None:
    response = Response(raw={"id": "resp_1"}, headers={"x-generation-id": "gen-1"})
    own = OWN_FIELDS.get(cls.__name__, {})
    error = cls("what happened", response=response, **FIELDS, **own)
    error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301  its own bytes
        assert type(again) is cls
        assert str(again) == again.message == "what happened"
        assert again.response == response
        assert again.__notes__ == ["a note"]
        assert repr(again.previous) == repr(error.previous)
        for name, value in (FIELDS | own).items():
            if name != "previous":
                assert getattr(again, name) == value, name
        assert again.sends == 2


def test_the_generation_id_defaults_to_that_of_the_response() -> None:
    response = Response(raw={}, headers={"x-generation-id": "gen-1"})
    assert ResponsesError("x", response=response).generation_id == "gen-1"


def test_wrong_settings_and_wrong_requests_are_value_errors() -> None:
    assert issubclass(exceptions.ConfigurationError, ValueError)
    assert issubclass(exceptions.RequestValidationError, ValueError)


@pytest.mark.parametrize("status", [409, 425, 501, 504, 520, 599])
def test_other_temporary_statuses_are_retryable(status: int) -> None:
    assert error_class_for_status(status) == (exceptions.APIError, True)


@pytest.mark.parametrize("status", [301, 307, 405, 410, 412, 418, 451])
def test_other_permanent_statuses_are_not_retryable(status: int) -> None:
    assert error_class_for_status(status) == (exceptions.APIError, False)
