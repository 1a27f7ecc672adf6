"""Types and samples of the columns of responses, from the schema of the type."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, PlainSerializer, computed_field

from airflow_provider_responses.enrich.column_types import describe_columns
from airflow_provider_responses.task.request import TaskRequest


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Inner(BaseModel):
    name: str


def column_of(annotation: Any, **options: Any) -> tuple[str, tuple[Any, ...]]:
    kind = type("Kind", (BaseModel,), {"__annotations__": {"x": annotation}, "__module__": __name__})
    [column] = describe_columns(TaskRequest(fields={}, output_type=kind), nullable=options.get("nullable", False))
    assert column.name == "x"
    return column.kind, column.samples


@pytest.mark.parametrize(
    ("annotation", "kind", "samples"),
    [
        (str, "text", ("text",)),
        (int, "integer", (1,)),
        (float, "number", (0.5,)),
        (bool, "boolean", (True, False)),
        (str | None, "text", ("text", None)),
        (int | float, "number", (1, 0.5)),
        (int | str, "json", (1, "text")),
        (Literal["a", "bc"], "text", ("a", "bc")),
        (Literal[1, "a"], "json", (1, "a")),
        (Mood, "text", ("good", "bad")),
        (Mood | None, "text", ("good", "bad", None)),
        (Annotated[str, Field(max_length=3)], "text", ("tex", "xxx")),
        (Annotated[str, Field(min_length=6)], "text", ("textxx",)),
        (Annotated[str, Field(pattern=r"^[A-Z]\d$")], "text", ("A1",)),
        (Annotated[str, Field(pattern=r"^no word has this$")], "text", ()),
        (Annotated[int, Field(ge=0, le=10**12)], "integer", (1, 0, 10**12)),
        (Annotated[int, Field(ge=5)], "integer", (5,)),
        (Annotated[float, Field(gt=0)], "number", ()),
        (datetime.date, "date", ("2024-02-29",)),
        (datetime.datetime, "time", ("2024-02-29T12:30:00Z",)),
        (datetime.timedelta, "text", ("PT1H",)),
        (uuid.UUID, "text", ("6f1c7d5a-0f0e-4b5c-9d7e-1a2b3c4d5e6f",)),
        (list[str], "json", (["text"],)),
        (Inner, "json", ({"name": "text"},)),
        (dict[str, int], "json", ({},)),
        (Any, "json", ()),
        (Annotated[int, PlainSerializer(str, return_type=str)], "text", ("1",)),
    ],
)
def test_a_field_has_a_kind_and_samples(annotation: Any, kind: str, samples: tuple[Any, ...]) -> None:
    assert column_of(annotation) == (kind, samples)


def test_the_sample_of_a_decimal_is_a_number() -> None:
    assert column_of(decimal.Decimal) == ("decimal", ("1",))
    assert column_of(decimal.Decimal | None) == ("decimal", ("1", None))
    assert column_of(Annotated[decimal.Decimal, Field(max_digits=4)]) == ("decimal", ("1",))


def test_null_is_a_sample_if_rejected_responses_are_loaded() -> None:
    assert column_of(int, nullable=True) == ("integer", (1, None))


def test_columns_have_the_names_of_the_result() -> None:
    class Named(BaseModel):
        x: int = Field(serialization_alias="the x")

        @computed_field
        def twice(self) -> int:
            return self.x * 2

    found = describe_columns(TaskRequest(fields={}, output_type=Named), nullable=False)
    assert [(column.name, column.kind) for column in found] == [("the x", "integer"), ("twice", "integer")]


def test_a_recursive_type_and_a_type_without_a_schema_have_columns() -> None:
    class Tree(BaseModel):
        children: list[Tree]

    class Odd(BaseModel):
        x: complex

    [column] = describe_columns(TaskRequest(fields={}, output_type=Tree), nullable=False)
    assert (column.kind, len(column.samples)) == ("json", 1)
    [column] = describe_columns(TaskRequest(fields={}, output_type=Odd), nullable=False)
    assert column.kind in {"json", "text"}


def test_a_response_without_a_type_is_one_text_column() -> None:
    [column] = describe_columns(TaskRequest(fields={}, output_type=None), nullable=False)
    assert (column.name, column.kind, column.samples) == ("output", "text", ("text",))
