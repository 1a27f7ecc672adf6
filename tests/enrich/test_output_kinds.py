"""Each kind of `output_type` in an enrichment: the columns of its result, and invalid outputs that are sent again."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from airflow_provider_responses.enrich.column_types import describe_columns
from airflow_provider_responses.enrich.columns import response_columns
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import Label, enrich, lines, manifest, parts, result, table
from tests.models.output_kinds import Counted, Point, Status

RECORD = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "stars": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["mood"],
}


class Total(TypedDict):
    mood: str
    stars: int


@dataclasses.dataclass
class Scored:
    mood: Literal["good", "bad"]
    stars: int = 3


class Further(BaseModel):
    model_config = ConfigDict(extra="allow")
    mood: str


def typed(kind: Any, **given: Any) -> TaskRequest:
    return TaskRequest(fields={}, output_type=kind, stream=False, **given)


FIELDS = [
    (Label, ("mood",), ["text"]),
    (Total, ("mood", "stars"), ["text", "integer"]),
    (Scored, ("mood", "stars"), ["text", "integer"]),
    (Point, ("x", "y", "day"), ["integer", "number", "date"]),
    (Counted, ("by_name",), ["json"]),
    (RECORD, ("mood", "stars"), ["text", "integer"]),
    ({"$ref": "#/$defs/r", "$defs": {"r": RECORD}}, ("mood", "stars"), ["text", "integer"]),
]
WHOLE = [
    (list[Label], "json"),
    (Label | None, "json"),
    (Status, "text"),
    (Literal["a", "b"], "text"),
    (int, "integer"),
    (float, "number"),
    (bool, "boolean"),
    (int | None, "integer"),
    (dict[str, int], "text"),
    (Further, "text"),
    ({"type": "array", "items": RECORD}, "json"),
    ({**RECORD, "additionalProperties": True}, "text"),
]


@pytest.mark.parametrize(("kind", "columns", "kinds"), FIELDS, ids=range(len(FIELDS)))
def test_named_fields_are_columns(kind, columns, kinds, responses_sandbox, tmp_path):
    request = typed(kind)
    assert response_columns(request) == columns
    assert [column.kind for column in describe_columns(request, nullable=False)] == kinds
    enrich(responses_sandbox, tmp_path, table(3), request=request)
    rows = result(tmp_path)
    assert [set(columns) <= row.keys() for row in rows] == [True] * 3
    assert {row["_status"] for row in rows} == {"ok"}
    assert "output" not in rows[0]


@pytest.mark.parametrize(("kind", "name"), WHOLE, ids=range(len(WHOLE)))
def test_another_value_is_one_column(kind, name, responses_sandbox, tmp_path):
    request = typed(kind)
    assert response_columns(request) == ("output",)
    assert [(column.name, column.kind) for column in describe_columns(request, nullable=False)] == [("output", name)]
    enrich(responses_sandbox, tmp_path, table(2), request=request)
    first = result(tmp_path)
    assert {row["_status"] for row in first} == {"ok"}
    assert all("response" not in row for row in first)
    told = enrich(responses_sandbox, tmp_path, table(2), request=request)
    assert told["requests_sent"] == 0  # the responses of the first attempt are used
    assert [row["output"] for row in result(tmp_path)] == [row["output"] for row in first]


def test_lists_and_texts_are_unwrapped(responses_sandbox, tmp_path):
    responses_sandbox.script({"text": '{"response": [{"mood": "good"}]}'}, {"text": '{"response": "open"}'})
    enrich(responses_sandbox, tmp_path / "a", table(1), request=typed(list[Label]))
    assert result(tmp_path / "a")[0]["output"] == [{"mood": "good"}]
    enrich(responses_sandbox, tmp_path / "b", table(1), request=typed(Status))
    assert result(tmp_path / "b")[0]["output"] == "open"


@pytest.mark.parametrize("feedback", [True, False])
def test_a_row_with_an_invalid_output_is_sent_again_with_the_reason(feedback, responses_sandbox, tmp_path):
    responses_sandbox.script({"text": '{"mood": 3}'}, {"text": '{"mood": "good"}'})
    enrich(responses_sandbox, tmp_path, table(1), request=typed(Label, output_feedback=feedback))
    first, second = (entry.body for entry in responses_sandbox.ledger)
    assert (first["input"] == second["input"]) is not feedback
    if feedback:
        assert second["input"][0]["content"] == first["input"]
        assert "- mood: Input should be a valid string, got 3" in second["input"][1]["content"]
        assert second["metadata"]["airflow"] == first["metadata"]["airflow"] + "-1"
    row = result(tmp_path)[0]
    assert (row["mood"], row["_status"], row["_sends"]) == ("good", "ok", 2)
    assert manifest(tmp_path)["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))
    # The row is known by its first request.
    told = enrich(responses_sandbox, tmp_path, table(1), request=typed(Label, output_feedback=not feedback))
    assert told["requests_sent"] == 0


def test_the_reason_is_stored_nowhere(responses_sandbox, tmp_path):
    responses_sandbox.script(*[{"text": '{"mood": "x", "mood": 3}'}] * 2)
    enrich(responses_sandbox, tmp_path, table(1), request=typed(Label, on_invalid_output="return", output_retries=1))
    assert result(tmp_path)[0]["_status"] == "invalid_output"
    stored = [str(line) for path in parts(tmp_path) if path.suffix == ".jsonl" for line in lines(path)]
    assert not any("Your last response" in line for line in [*stored, str(result(tmp_path))])
