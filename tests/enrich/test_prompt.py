"""The record of a prompt: the same in every process, and different for another prompt."""

from __future__ import annotations

import enum
import functools
import json
import subprocess
import sys

import pytest
from pydantic import BaseModel

from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.prompt import describe
from airflow_provider_responses.models.output import json_schema_format
from airflow_provider_responses.task.escalation import Escalation

TEMPLATE = "Mood of: {{ row.text }}"


class Label(BaseModel):
    mood: str


class Model(enum.StrEnum):
    SMALL = "vendor/small"


def decorated(_):
    return lambda function: function


@decorated("with something")
def ask(row):
    return f"Mood of: {row['text']}"


class Asking:
    def __call__(self, row):
        return row["text"]


def test_a_record_has_the_template_the_model_and_the_type_in_alphabetical_order():
    record = describe(TEMPLATE, model="vendor/m", output_type=Label, request={"temperature": 0.5})
    assert list(record) == ["fingerprint", "input", "model", "output_schema", "output_type", "request"]
    assert (record["input"], record["model"], record["request"]) == (TEMPLATE, "vendor/m", {"temperature": 0.5})
    assert record["output_type"] == "tests.enrich.test_prompt.Label"
    assert record["output_schema"] == json_schema_format(Label)["schema"]
    assert len(record["fingerprint"]) == 16
    json.dumps(record)


class Longer(BaseModel):
    mood: str
    why: str


@pytest.mark.parametrize(
    "changed",
    [
        {"input": "Mood of {{ row.text }}"},
        {"model": "vendor/n"},
        {"instructions": "Short."},
        {"request": {"temperature": 0.6}},
        {"output_type": Longer},
        {"output_type": None},
    ],
)
def test_any_change_changes_the_fingerprint(changed):
    given = {"input": TEMPLATE, "model": "vendor/m", "output_type": Label}
    before, same, after = (describe(**it)["fingerprint"] for it in (given, dict(given), given | changed))
    assert before == same != after


def test_the_order_of_a_request_does_not_matter():
    first, second = {"temperature": 0.5, "top_p": 1}, {"top_p": 1, "temperature": 0.5}
    assert describe(TEMPLATE, request=first) == describe(TEMPLATE, request=second)


def test_a_function_is_recorded_as_its_source_without_decorators():
    assert describe(ask)["input"] == "def ask(row):\n    return f\"Mood of: {row['text']}\""


def test_a_lambda_is_recorded_without_its_neighbours():
    record = describe(input=lambda row: row["text"], model="vendor/m")
    assert record["input"] == 'lambda row: row["text"]'


def test_two_lambdas_of_one_line_have_different_records():
    one, other = lambda row: row["one"], lambda row: row["other"]
    assert describe(one)["fingerprint"] != describe(other)["fingerprint"]


def test_a_callable_object_is_recorded_as_its_method():
    assert describe(Asking())["input"] == 'def __call__(self, row):\n    return row["text"]'


def test_a_partial_is_recorded_as_its_function_and_arguments():
    one, other = (describe(functools.partial(ask, tone=tone)) for tone in ("short", "long"))
    assert one["input"] == describe(ask)["input"] + '\n# with [[], {"tone": "short"}]'
    assert one["fingerprint"] != other["fingerprint"]


def test_a_function_without_source_is_recorded_as_its_name_and_a_digest():
    def made(text):
        names = {}
        exec(text, names)
        return describe(names["ask"])["input"]

    one = made("def ask(row):\n    return [it for it in row['one'] if it in {'a', 'b', 'c'}]")
    assert one.startswith("<function ask, digest ")
    assert one == made("\n\ndef ask(row):\n    return [it for it in row['one'] if it in {'a', 'b', 'c'}]")
    assert one != made("def ask(row):\n    return [it for it in row['two'] if it in {'a', 'b', 'c'}]")
    assert describe(len)["input"] == "<function len>"


def test_enum_members_are_recorded_as_values_and_other_objects_as_their_class():
    record = describe(
        TEMPLATE, model=Model.SMALL, request={"user": object(), "metadata": {Model.SMALL: Label(mood="x")}}
    )
    assert record["model"] == "vendor/small"
    assert record["request"] == {"user": "<object>", "metadata": {"vendor/small": {"mood": "x"}}}


def test_a_record_is_the_same_in_every_process():
    code = (
        "from tests.enrich.test_prompt import *; print([describe(it)['fingerprint'] for it in (ask, Asking(), Label)])"
    )
    ran = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert ran == {f"{[describe(it)['fingerprint'] for it in (ask, Asking(), Label)]}\n"}


def test_the_digest_of_a_path_in_the_name_of_a_dag_files_module_does_not_count():
    names = {"__name__": f"unusual_prefix_{'0a' * 20}_reviews", "BaseModel": BaseModel}
    exec("class Label(BaseModel):\n    mood: str", names)
    assert describe(TEMPLATE, output_type=names["Label"])["output_type"] == "reviews.Label"


def test_larger_models_and_a_judge_are_recorded_without_a_change_of_the_fingerprint():
    record = describe(
        TEMPLATE,
        model="vendor/m",
        escalate=Escalation(model="vendor/large", when="invalid"),
        judge=Judge(model="vendor/judge", rubric={1: "wrong", 2: "right"}, request={"temperature": 0}),
    )
    assert list(record) == ["fingerprint", "input", "judge", "larger_models", "model"]
    assert record["fingerprint"] == describe(TEMPLATE, model="vendor/m")["fingerprint"]
    assert record["larger_models"] == [{"model": "vendor/large", "when": ["invalid"]}]
    assert record["judge"] == {
        "model": "vendor/judge",
        "rubric": {"1": "wrong", "2": "right"},
        "sample": 1.0,
        "request": {"temperature": 0},
    }
    json.dumps(record)


@pytest.mark.parametrize("wrong", [{"escalate": "vendor/large"}, {"judge": "vendor/judge"}])
def test_what_the_operator_refuses_is_left_out_of_the_record(wrong):
    assert describe(TEMPLATE, **wrong) == describe(TEMPLATE)
