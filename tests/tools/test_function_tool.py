"""Functions as tools: their schemas, their descriptions, the arguments that a model sends, and their results."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.tools import IdempotencyKey, Tool
from airflow_provider_responses.tools.docstrings import read_docstring
from airflow_provider_responses.tools.function_tool import MAX_RESULT, ArgumentsError, error_text, result_text


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(StrEnum):
    HIGH = "high"


class Address(BaseModel):
    street: str
    city: str | None = None


@dataclass
class Item:
    sku: str
    count: int = 1


def order(
    customer: str,
    items: list[Item],
    address: Address,
    colour: Colour = Colour.RED,
    speed: Literal["slow", "fast"] = "slow",
    discount: Annotated[float, Field(ge=0, le=1, description="A share.")] = 0.0,
) -> str:
    """Order items.

    :param customer: the customer's name.
    :param items: what is ordered,
        and how many.
    """
    return f"{customer} {items[0].sku} {address.city} {colour.value} {speed} {discount}"


def test_the_schema_has_the_types_and_descriptions_of_the_parameters_and_is_strict():
    tool = Tool(order)

    definition = tool.definition
    assert (definition["name"], definition["description"]) == ("order", "Order items.")
    assert definition["strict"] is True
    schema = definition["parameters"]
    assert list(schema["properties"]) == ["customer", "items", "address", "colour", "speed", "discount"]
    assert schema["required"] == list(schema["properties"])
    assert schema["additionalProperties"] is False
    assert schema["properties"]["customer"]["description"] == "the customer's name."
    assert schema["properties"]["items"]["description"] == "what is ordered, and how many."
    assert schema["properties"]["speed"]["enum"] == ["slow", "fast"]
    ResponsesRequest.parse({"model": "openai/a", "input": "a", "tools": [definition]}, dialect="openrouter")


def test_arguments_are_read_as_the_types_of_the_function():
    tool = Tool(order)
    text = '{"customer": "Ada", "items": [{"sku": "a", "count": 2}], "address": {"street": "x", "city": "Rome"}}'

    arguments = tool.read_arguments(text)

    assert arguments["items"] == [Item("a", 2)]
    assert arguments["address"] == Address(street="x", city="Rome")
    assert tool.call(arguments, "key") == "Ada a Rome red slow 0.0"


@pytest.mark.parametrize("annotation", [dict[str, int], tuple[int, str], Any], ids=["any keys", "a tuple", "any value"])
def test_a_schema_that_cannot_be_strict_is_sent_without_strict(annotation):
    def find(filters) -> None:
        """Find."""

    find.__annotations__["filters"] = annotation

    definition = Tool(find).definition

    assert definition["strict"] is False
    assert list(definition["parameters"]["properties"]) == ["filters"]


def test_a_function_without_parameters_and_docstring_is_a_tool():
    def now() -> str:
        return "noon"

    tool = Tool(now)

    assert "description" not in tool.definition
    assert tool.read_arguments("") == tool.read_arguments("{}") == {}
    assert tool.call({}, "key") == "noon"


@pytest.mark.parametrize("name", ["copy", "schema", "model_config", "_hidden", "json", "self"])
def test_any_name_of_a_parameter_is_allowed(name):
    space: dict[str, Any] = {}
    exec(f"def find({name}: int) -> int:\n    return {name}", space)
    tool = Tool(space["find"])

    assert list(tool.definition["parameters"]["properties"]) == [name]
    assert tool.call(tool.read_arguments(f'{{"{name}": 3}}'), "key") == 3


def test_methods_partials_positional_parameters_and_callable_objects_are_tools():
    class Shop:
        def find(self, name: str, /, count: int) -> str:
            """Find."""
            return f"{name} {count}"

        def __call__(self, name: str) -> str:
            return name

    method = Tool(Shop().find)
    assert method.call(method.read_arguments('{"name": "a", "count": 2}'), "key") == "a 2"
    partial = Tool(functools.partial(order, speed="fast"), name="order_fast")
    assert partial.definition["name"] == "order_fast"
    assert Tool(Shop(), name="shop").call({"name": "b"}, "key") == "b"


def test_the_idempotency_key_is_passed_and_not_shown_to_the_model():
    def charge(order: int, key: IdempotencyKey) -> str:
        """Charge."""
        return f"{order} {key}"

    def refund(order: int, idempotency_key: str) -> str:
        """Refund."""
        return f"{order} {idempotency_key}"

    for function in (charge, refund):
        tool = Tool(function)
        assert list(tool.definition["parameters"]["properties"]) == ["order"]
        assert tool.call(tool.read_arguments('{"order": 7}'), "abc") == "7 abc"


def test_an_async_function_is_known_as_one():
    async def find(name: str) -> str:
        return name

    assert (Tool(find).is_async, Tool(order).is_async) == (True, False)


def without_annotation(order):
    pass


def with_args(*orders: int) -> None:
    pass


def with_kwargs(**orders: int) -> None:
    pass


def with_unknown_name(order: Missing) -> None:  # noqa: F821  the test is about it
    pass


class NotJson:
    pass


def with_opaque_type(order: NotJson) -> None:
    pass


def with_wrong_key(idempotency_key: int) -> None:
    pass


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (without_annotation, "tool without_annotation: the parameter order must have an annotation, such as `: str`"),
        (with_args, r"tool with_args must have named parameters, got \*orders"),
        (with_kwargs, r"tool with_kwargs must have named parameters, got \*\*orders"),
        (with_unknown_name, "tool with_unknown_name: an annotation cannot be read .name 'Missing' is not defined"),
        (with_opaque_type, "tool with_opaque_type: a parameter has a type without a JSON schema"),
        (with_wrong_key, "tool with_wrong_key: the parameter idempotency_key must be a str"),
        (7, "a tool must be a function, got int"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused(function, message):
    with pytest.raises(RequestValidationError, match=message) as info:
        Tool(function)
    assert info.value.fields == ("tools",)


def test_a_task_is_refused_as_a_tool():
    from airflow.providers.common.compat.sdk import task

    @task
    def find(name: str) -> str:
        return name

    with pytest.raises(RequestValidationError, match="tools must hold plain functions, got a task"):
        Tool(find)


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"customer": 1}', '{"unknown": 1}', "null", "\ud800"])
def test_wrong_arguments_are_an_error_without_their_values(text):
    with pytest.raises(ArgumentsError) as info:
        Tool(order).read_arguments(text)
    assert str(info.value)
    assert "ud800" not in str(info.value)


@given(st.text())
def test_no_text_of_a_model_raises_another_error(text):
    with contextlib.suppress(ArgumentsError):
        assert Tool(order).read_arguments(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (Level.HIGH, "high"),
        (None, "null"),
        ({"a": [1, 2.5]}, '{"a":[1,2.5]}'),
        (Address(street="x"), '{"street":"x","city":null}'),
        (Item("a"), '{"sku":"a","count":1}'),
        ([Colour.RED, Decimal("1.10")], '["red","1.10"]'),
        (b"\xff", '"_w=="'),
        (float("nan"), "null"),
    ],
)
def test_a_result_is_text_or_json(value, text):
    found = result_text(value)
    assert (found, type(found)) == (text, str)


def test_a_result_that_is_too_long_is_an_error():
    with pytest.raises(ValueError, match="the result has 1000001 characters, and 1000000 are allowed: ask for less"):
        result_text("a" * (MAX_RESULT + 1))


def test_the_text_of_an_error_is_short():
    text = error_text(ValueError("x" * 10_000))
    assert text.startswith("Error: ValueError: xxx")
    assert len(text) < 600


GOOGLE = """Find orders.

    Of all years.

    Args:
        name (str): the name
            of the customer.
        count: how many.
        other: no parameter.

    Returns:
        a list: of orders.
    """
NUMPY = """
    Find orders.

    Of all years.

    Parameters
    ----------
    name : str
        the name
        of the customer.
    count
        how many.

    Returns
    -------
    list
        of orders.
    """
SPHINX = """
    Find orders.

    Of all years.

    :param str name: the name
        of the customer.
    :param count: how many.
    :return: a list.
    :raises ValueError: never.
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_a_docstring_in_each_style_describes_the_function_and_its_parameters(docstring):
    description, parameters = read_docstring(docstring, ["name", "count"])

    assert description == "Find orders.\nOf all years."
    assert parameters == {"name": "the name of the customer.", "count": "how many."}


@given(st.text() | st.none(), st.lists(st.text()))
def test_any_docstring_is_read(docstring, names):
    description, parameters = read_docstring(docstring, names)

    assert isinstance(description, str)
    assert set(parameters) <= set(names)
