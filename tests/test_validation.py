"""The checks of values that users set, and the form of their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import pytest

from airflow_provider_responses import validation
from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError

ERRORS = pytest.mark.parametrize("error", [RequestValidationError, ConfigurationError, ValueError])


@ERRORS
@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (None, {"at_least": 0}, "a number >= 0"),
        ("5", {"at_least": 0}, "a number >= 0"),
        (True, {"at_least": 0}, "a number >= 0"),
        (-1, {"at_least": 0}, "a number >= 0"),
        (math.nan, {"at_least": 0}, "a number >= 0"),
        (math.inf, {"at_least": 0}, "a number >= 0"),
        (-math.inf, {}, "a number"),
        (0, {"above": 0, "unit": "seconds"}, "a number of seconds > 0"),
        (3, {"at_most": 2}, "a number <= 2"),
        (1, {"above": 0, "at_most": 0.5}, "a number > 0 and <= 0.5"),
        (0, {"at_least": 1, "at_most": 10, "whole": True}, "a whole number from 1 to 10"),
        (11, {"at_least": 1, "at_most": 10, "whole": True}, "a whole number from 1 to 10"),
        (1.0, {"at_least": 1, "whole": True}, "a whole number >= 1"),
        ("1.5", {"whole": True, "convert": True}, "a whole number"),
        ("many", {"convert": True}, "a number"),
        ("inf", {"whole": True, "convert": True}, "a whole number"),
        ("nan", {"convert": True}, "a number"),
        ([], {"convert": True}, "a number"),
        (False, {"convert": True}, "a number"),
        (10**400, {"convert": True}, "a number"),
    ],
)
def test_a_wrong_number_is_refused_with_its_bounds(
    value: Any, bounds: dict[str, Any], expected: str, error: type[ValueError]
) -> None:
    with pytest.raises(error) as caught:
        validation.check_number("field", value, error=error, **bounds)
    assert type(caught.value) is error
    shown = repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:200]}…"
    assert str(caught.value) == f"field must be {expected}, got {shown}"
    assert getattr(caught.value, "fields", ("field",)) == ("field",)


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (0, {"at_least": 0}, 0),
        (2.5, {"above": 2, "at_most": 2.5}, 2.5),
        (10**400, {"whole": True}, 10**400),
        ("30", {"convert": True}, 30.0),
        (" 7.5 ", {"convert": True}, 7.5),
        ("3", {"whole": True, "convert": True}, 3),
        (3.0, {"whole": True, "convert": True}, 3),
        (2**63 + 1, {"whole": True, "convert": True}, 2**63 + 1),
        (None, {"optional": True}, None),
    ],
)
def test_a_right_number_is_returned(value: Any, bounds: dict[str, Any], expected: Any) -> None:
    found = validation.check_number("field", value, **bounds)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "allowed", "expected"),
    [
        ("b", ("a",), "'a'"),
        (5, ("a", "b"), "'a' or 'b'"),
        ("", ("a", "b", "c"), "'a', 'b' or 'c'"),
        (1, (True, False), "True or False"),
        (None, (True, False), "True or False"),
    ],
)
def test_another_choice_is_refused_with_those_allowed(value: Any, allowed: tuple[Any, ...], expected: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        validation.check_choice("field", value, allowed)
    assert str(caught.value) == f"field must be {expected}, got {value!r}"
    assert caught.value.fields == ("field",)


def test_a_right_choice_is_returned() -> None:
    assert validation.check_choice("field", "a", ("a", "b")) == "a"
    assert validation.check_choice("field", False, (True, False)) is False
    assert validation.check_choice("field", None, ("a", "b"), optional=True) is None


@pytest.mark.parametrize(
    ("value", "kinds", "options", "message"),
    [
        (5, str, {}, "str, got 5"),
        (None, (str, Sequence), {}, "str or list, got None"),
        (b"text", (str, Sequence), {}, "str or list, got b'text'"),
        (True, int, {}, "int, got True"),
        ([5], (Mapping, PathLike), {}, "dict or path, got [5]"),
        (["hidden"], Mapping, {"type_only": True}, "dict, got list"),
        (None, Mapping, {"type_only": True}, "dict, got None"),
        (5, str, {"expected": "one column's name"}, "one column's name, got 5"),
        ("x" * 300, int, {}, f"int, got '{'x' * 199}…"),
    ],
)
def test_a_value_of_another_type_is_refused(value: Any, kinds: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        validation.check_type("field", value, kinds, **options)
    assert str(caught.value) == f"field must be {message}"
    assert caught.value.fields == ("field",)


@pytest.mark.parametrize(
    ("value", "kinds"), [("a", str), ({}, Mapping), ([], (str, Sequence)), (b"", bytes), (True, (bool, int)), (0, int)]
)
def test_a_value_of_a_right_type_is_returned(value: Any, kinds: Any) -> None:
    assert validation.check_type("field", value, kinds) is value


@pytest.mark.parametrize("value", ["text", 5, None, ["a", 5]])
def test_another_value_than_a_list_of_names_is_refused(value: Any) -> None:
    with pytest.raises(RequestValidationError) as caught:
        validation.check_list_of_names("columns", value)
    assert str(caught.value) == f"columns must be a list of names, got {value!r}"


def test_any_iterable_of_texts_is_a_list_of_names() -> None:
    for names in (["a", "b"], ("a",), {"a": 1}, []):
        assert validation.check_list_of_names("columns", names) is names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timout": 1}, "options.timout is unknown; did you mean 'timeout'? options may have timeout, accept"),
        ({"accept": 1, "zzz": 2, "b": 1}, "options.b is unknown; options may have timeout, accept"),
        ({5: 1}, "options.5 is unknown; options may have timeout, accept"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(given: dict[Any, Any], message: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        validation.check_known("options", given, ("timeout", "accept"))
    assert str(caught.value) == message
    assert caught.value.fields == (message.partition(" ")[0],)
    validation.check_known("options", {"accept": 1}, ("timeout", "accept"))


@pytest.mark.parametrize(
    "check",
    [
        validation.check_number,
        lambda *args, **kwargs: validation.check_choice(*args, ("a",), **kwargs),
        lambda *args, **kwargs: validation.check_type(*args, int, **kwargs),
        validation.check_list_of_names,
    ],
)
def test_a_value_that_is_known_only_when_the_task_runs_is_not_checked(check: Callable[..., Any]) -> None:
    template = "{{ params.number }}"
    assert check("field", template, lazy=lambda value: "{{" in value) is template
    with pytest.raises(RequestValidationError, match="field must be"):
        check("field", template, lazy=validation.never)


def test_an_error_may_name_other_fields() -> None:
    error = validation.wrong_value("shard", "two numbers", 5, fields=("shard", "shards"))
    assert str(error) == "shard must be two numbers, got 5"
    assert isinstance(error, RequestValidationError)
    assert error.fields == ("shard", "shards")
