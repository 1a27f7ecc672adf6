"""Each kind of `output_type` in a DAG that Airflow runs: plain JSON in XCom, also mapped and with multiple outputs."""

from __future__ import annotations

import datetime
import re

import pytest
from airflow.providers.common.compat.sdk import DAG
from typing_extensions import TypedDict

from airflow_provider_responses.decorators.responses import responses_task
from airflow_provider_responses.exceptions import RequestValidationError

DAG_FILE = """
import dataclasses
import datetime
import enum
from typing import Literal

from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel
from typing_extensions import TypedDict

from airflow_provider_responses.operators.responses import ResponsesOperator


class Label(BaseModel):
    topic: Literal["a", "b"]
    stars: int


class Status(enum.StrEnum):
    OPEN = "open"
    DONE = "done"


class Total(TypedDict):
    name: str
    size: int


@dataclasses.dataclass
class Point:
    x: int
    day: datetime.date


SCHEMA = {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 1, "$defs": {"n": {"type": "integer"}}}


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1))
def kinds():
    @task.responses(model="openai/gpt-4o-mini")
    def labels(topic: str) -> list[Label]:
        return f"Labels of {topic}"

    @task.responses(model="openai/gpt-4o-mini")
    def status() -> Status:
        return "Is it done?"

    @task.responses(model="openai/gpt-4o-mini")
    def point() -> Point:
        return "Where, and when?"

    @task.responses(model="openai/gpt-4o-mini")
    def count() -> int:
        return "How many?"

    @task.responses(model="openai/gpt-4o-mini")
    def day() -> datetime.date | None:
        return "When?"

    @task.responses(model="openai/gpt-4o-mini", output_type=Total, multiple_outputs=True)
    def total() -> str:
        return "Which, and how large?"

    @task.responses(model="openai/gpt-4o-mini")
    def text() -> str:
        return "Say hello."

    @task
    def check(labels, status, point, count, day, name, size, text, numbers, by_name):
        for each in labels:
            assert all(label["topic"] in {"a", "b"} and type(label["stars"]) is int for label in each), each
        assert status in {"open", "done"} and type(status) is str
        assert point.keys() == {"x", "day"} and datetime.date.fromisoformat(point["day"])
        assert type(count) is int
        assert day is None or datetime.date.fromisoformat(day)
        assert type(name) is str and type(size) is int
        assert type(text) is str
        for each in numbers:
            assert each and all(type(number) is int for number in each), each
        assert all(type(number) is int for number in by_name.values())

    numbers = ResponsesOperator.partial(task_id="numbers", model="openai/gpt-4o-mini", output_type=SCHEMA).expand(
        input=["Which numbers?", "Which others?"]
    )
    by_name = ResponsesOperator(
        task_id="by_name", model="openai/gpt-4o-mini", output_type=dict[str, int], input="How many of each?"
    )
    totals = total()
    check(
        labels.expand(topic=["x", "y"]), status(), point(), count(), day(), totals["name"], totals["size"], text(),
        numbers.output, by_name.output,
    )


kinds()
"""


def test_the_value_of_each_kind_in_xcom(run_dag, responses_sandbox, tmp_path):
    path = tmp_path / "kinds.py"
    path.write_text(DAG_FILE)
    result = run_dag(path, "kinds")
    assert set(result.states.values()) == {"success"}
    assert len(responses_sandbox.billed) == 11
    typed = [entry.body for entry in responses_sandbox.ledger if "text" in entry.body]
    assert len(typed) == 10
    assert sum(not body["text"]["format"]["strict"] for body in typed) == 1  # dict[str, int]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_type": list["Later"]}, "output_type list['Later'] has no JSON schema"),  # noqa: F821  there is none
        ({"output_type": {"$ref": "#/$defs/x"}}, "output_type refers to nothing in it: '#/$defs/x'"),
        ({"output_type": list[int], "multiple_outputs": True}, "multiple_outputs needs an output_type with named"),
        ({"output_type": dict[str, int], "multiple_outputs": True}, "multiple_outputs needs an output_type with named"),
    ],
    ids=range(4),
)
def test_a_wrong_type_is_an_error_of_the_dag(arguments, message):
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    with (
        DAG("wrong", schedule=None, start_date=start),
        pytest.raises(RequestValidationError, match=rf"^{re.escape(message)}.*\. Task: ask$"),
    ):
        responses_task(lambda: "Hi", model="m", task_id="ask", **arguments)()


class Total(TypedDict):
    usage: str


def test_fields_of_any_kind_may_not_overwrite_other_xcoms():
    schema = {"type": "object", "properties": {"usage": {"type": "string"}}}
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    for kind in (Total, schema):
        with (
            DAG("wrong", schedule=None, start_date=start),
            pytest.raises(
                RequestValidationError, match=r"the field .usage. of output_type .* would overwrite the XCom"
            ),
        ):
            responses_task(lambda: "Hi", model="m", task_id="ask", output_type=kind, multiple_outputs=True)()
