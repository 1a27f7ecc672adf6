"""The return annotation of a decorated function gives `output_type` if no input of a request fits it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional, TypeVar, Union

import pytest
from airflow.providers.common.compat.sdk import DAG
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from airflow_provider_responses.decorators.enrich import responses_enrich_task
from airflow_provider_responses.decorators.responses import responses_task
from airflow_provider_responses.decorators.return_annotation import output_type_of
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import ResponsesRequest
from airflow_provider_responses.models.items import Message

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Label(BaseModel):
    topic: str


class Mood(enum.StrEnum):
    GOOD = "good"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int


class Fields(TypedDict):
    input: str


class Ordinary:
    pass


T = TypeVar("T")

OUTPUTS: list[Any] = [
    Label,
    list[Label],
    Sequence[Label],
    set[Mood],
    Label | None,
    Label | Point,
    Optional[list[Label]],  # noqa: UP045  as in older code
    Union[Label, int],  # noqa: UP007
    list[Label | Point],
    Mood,
    Level,
    Point,
    Literal["a", "b"],
    list[Literal[1, "x"]],
    bool,
    int,
    float,
    Decimal,
    datetime.date,
    datetime.datetime,
    datetime.timedelta,
    uuid.UUID,
    Annotated[int, Field(ge=0)],
    list[int],
]
INPUTS: list[Any] = [
    str,
    dict,
    list,
    tuple,
    bytes,
    None,
    type(None),
    Any,
    object,
    T,
    Fields,
    Ordinary,
    BaseModel,
    dict[str, Any],
    dict[str, int],  # {"temperature": 0}
    Mapping[str, float],
    list[dict],
    list[dict[str, int]],
    list[str],
    list[Fields],
    Iterable[Any],
    str | list[dict[str, Any]],
    str | None,
    str | Label,
    str | int,
    Annotated[str, "the prompt"],
    ResponsesRequest,
    Message,
    list[Message],
    list[Message | dict],
]


def annotated(annotation: Any) -> Any:
    def ask() -> Any:
        return "Hi"

    ask.__annotations__["return"] = annotation
    return ask


@pytest.mark.parametrize("annotation", OUTPUTS, ids=range(len(OUTPUTS)))
def test_an_annotation_that_fits_no_input_is_the_output_type(annotation):
    assert output_type_of(annotated(annotation)) is annotation


@pytest.mark.parametrize("annotation", INPUTS, ids=range(len(INPUTS)))
def test_an_annotation_that_fits_an_input_keeps_its_meaning(annotation):
    assert output_type_of(annotated(annotation)) is None


def test_a_function_without_annotation_gives_none():
    assert output_type_of(lambda: "Hi") is None
    assert output_type_of(print) is None


def test_an_annotation_that_is_a_text_is_evaluated():  # as all in this module
    def typed() -> list[Label]:
        return "Hi"

    def text() -> str:
        return "Hi"

    assert typed.__annotations__["return"] == "list[Label]"
    assert output_type_of(typed) == list[Label]
    assert output_type_of(text) is None


def test_an_annotation_whose_names_are_unknown_gives_none_and_warns():
    class Local(BaseModel):
        topic: str

    def typed() -> Local:
        return "Hi"

    with pytest.warns(UserWarning, match="annotation 'Local' of typed gives no output_type: .*'Local' is not defined"):
        assert output_type_of(typed) is None


class TestDecorators:
    def test_the_annotation_is_the_output_type_of_the_task(self):
        with DAG("d", schedule=None, start_date=START):

            @responses_task(model="m")
            def ask() -> list[Label]:
                return "Hi"

            @responses_task
            def bare() -> Mood:
                return "Hi"

            @responses_task
            def text() -> str:
                return "Hi"

            assert ask().operator.output_type == list[Label]
            assert bare().operator.output_type is Mood
            assert text().operator.output_type is None

    def test_the_argument_counts_before_the_annotation_and_that_before_default_args(self):
        with DAG("d", schedule=None, start_date=START, default_args={"output_type": Point}):

            def ask() -> Label:
                return "Hi"

            def text() -> str:
                return "Hi"

            assert responses_task(ask, output_type=Mood)().operator.output_type is Mood
            assert responses_task(ask, output_type=None)().operator.output_type is None
            assert responses_task(ask).override(output_type=int)().operator.output_type is int
            assert responses_task(ask)().operator.output_type is Label
            assert responses_task(text)().operator.output_type is Point

    def test_a_mapped_task_and_an_enrichment_have_it_too(self, tmp_path):
        with DAG("d", schedule=None, start_date=START):

            @responses_task(multiple_outputs=True)
            def ask(topic: str) -> Label:
                return topic

            @responses_enrich_task(source=[{"x": 1}], output_path=str(tmp_path / "out.jsonl"))
            def label(row: dict) -> Label:
                return f"Label {row}"

            assert ask.expand(topic=["a", "b"]).operator.partial_kwargs["output_type"] is Label
            assert label().operator.output_type is Label

    def test_a_type_that_cannot_be_requested_is_refused_when_the_dag_is_parsed(self):
        @dataclasses.dataclass
        class Holder:
            thing: Ordinary

        with (
            DAG("d", schedule=None, start_date=START),
            pytest.raises(
                RequestValidationError, match=r"^output_type must be a type or a JSON Schema, got Holder.thing: "
            ),
        ):
            responses_task(annotated(Holder))()
