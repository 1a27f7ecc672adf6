"""``escalate`` and ``judge`` of an enrichment: wrong ones are refused when the DAG is parsed, mapped tasks as well."""

from __future__ import annotations

import datetime
import json

import pytest
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_responses.enrich import Judge
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.escalation import Escalation
from tests.conftest import load_dag
from tests.operators.enrichments import MODEL, ROWS, Label, enrich

LARGE = "openai/gpt-4o"
MEDIUM = "openai/gpt-4.1-mini"
SCALE = "Is the mood right? From 1 (wrong) to 5 (right)."
JUDGE = Judge(model=LARGE, rubric=SCALE)
STRICT = Judge(model=LARGE, rubric=SCALE, min_score=4)
START = datetime.datetime(2026, 1, 1)


def low_score(*more):
    return Escalation(model=LARGE, when=["low_score", *more])


WRONG = [
    ({"escalate": LARGE}, "escalate must be a list of Escalation(model=...), got 'openai/gpt-4o'"),
    ({"escalate": [{"model": LARGE}]}, "escalate must be a list of Escalation(model=...), got [{'model': 'openai/"),
    ({"judge": SCALE}, "judge must be Judge(model=..., rubric=...), got str"),
    ({"judge": {"model": LARGE, "rubric": SCALE}}, "judge must be Judge(model=..., rubric=...), got dict"),
    (
        {"escalate": [low_score()]},
        "escalate[0]: when has 'low_score', which needs a judge: set judge=Judge(..., min_score=...)",
    ),
    (
        {"escalate": [Escalation(model=MEDIUM), low_score("invalid")], "judge": JUDGE},
        "escalate[1]: when has 'low_score', which needs the judge's min_score: set judge=Judge(..., min_score=...)",
    ),
]
FINE = [
    {"escalate": None, "judge": None},
    {"escalate": []},
    {"escalate": Escalation(model=LARGE)},  # by default also for low scores, of which there are none
    {"escalate": [Escalation(model=LARGE)], "judge": JUDGE},
    {"escalate": [low_score()], "judge": STRICT},
    {"escalate": [Escalation(model=LARGE, when="invalid")], "judge": STRICT, "output_type": Label},  # a low score fails
    {"judge": STRICT},
]


NEVER = {"escalate": [Escalation(model=MEDIUM), Escalation(model=LARGE, when="invalid")], "output_type": None}


def test_a_model_for_invalid_outputs_needs_an_output_type(tmp_path):
    with pytest.raises(RequestValidationError) as caught:
        enrich(tmp_path, **NEVER)
    assert str(caught.value).startswith(
        "escalate[1]: when='invalid' never applies, since the task has no output_type: set one, or use"
    )
    with DAG("d", schedule=None, start_date=START), pytest.raises(RequestValidationError, match="'invalid' never"):
        task.responses_enrich(source=ROWS, output_path=str(tmp_path), **NEVER)(prompt)()
    enrich(tmp_path, output_type=None, escalate=[Escalation(model=LARGE, when=["invalid", "refused"])])
    with DAG("d", schedule=None, start_date=START):  # the type may be expanded
        given = {name: it for name, it in NEVER.items() if name != "output_type"}
        mapped(tmp_path, **given).expand(output_type=[Label])


def mapped(folder, **given):
    return ResponsesEnrichOperator.partial(
        task_id="label", source=ROWS, input="{{ row.text }}", model=MODEL, output_path=str(folder), **given
    )


def prompt(row):
    return row["text"]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_ones_are_refused_with_the_name_of_the_task(given, message, tmp_path):
    with pytest.raises(RequestValidationError, match=r"\. Task: label$") as caught:
        enrich(tmp_path, **given)
    assert message in str(caught.value)


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_those_of_a_mapped_task_are_refused_too(given, message, tmp_path):
    with (
        DAG("d", schedule=None, start_date=START),
        pytest.raises(RequestValidationError, match="Task: label") as caught,
    ):
        mapped(tmp_path, **given).expand(shard=[(0, 2), (1, 2)])
    assert message in str(caught.value)


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_those_of_a_decorated_function_are_refused_too(given, message, tmp_path):
    with DAG("d", schedule=None, start_date=START):
        label = task.responses_enrich(source=ROWS, output_path=str(tmp_path), **given)(prompt)
        with pytest.raises(RequestValidationError) as caught:
            label()
    assert message in str(caught.value)


@pytest.mark.parametrize("given", FINE)
def test_others_are_accepted(given, tmp_path):
    task = enrich(tmp_path, **given)
    assert (task.escalate, task.judge) == (given.get("escalate"), given.get("judge"))
    with DAG("d", schedule=None, start_date=START) as dag:
        mapped(tmp_path, **given).expand(shard=[(0, 2), (1, 2)])
    assert dag.task_ids == ["label"]


DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_responses.enrich import Judge
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.escalation import Escalation

with DAG("judged", schedule=None):
    ResponsesEnrichOperator(
        task_id="label", source=[{{"text": "x"}}], input="{{{{ row.text }}}}", output_path="/data/x", {given},
    )
"""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "judge=Judge(model='m', rubric='Is the mood right?')",
            "judge: rubric states no scale, got 'Is the mood right?'. Name the lowest and the highest score in it",
        ),
        (
            "judge=Judge(model='m', rubric='From 1 to 5, or from 2 to 10.')",
            "judge: rubric states several scales (1 to 5, 2 to 10)",
        ),
        ("judge=Judge(model='m', rubric={1: 'wrong'})", "judge: rubric must be a dict of at least two scores"),
        (
            "judge=Judge(model='m', rubric='1 to 5', min_score=6)",
            "judge: min_score must be a number from 1 to 5, got 6",
        ),
        ("escalate=[Escalation(model='{{ params.model }}')]", "escalate: model must be the name of a model"),
        (
            "escalate=[Escalation(model='m', when='low_score')]",
            "escalate[0]: when has 'low_score', which needs a judge",
        ),
    ],
)
def test_a_dag_whose_judge_or_escalation_is_wrong_is_an_import_error(given, message, airflow_db, tmp_path):
    path = tmp_path / "judged.py"
    path.write_text(DAG_FILE.format(given=given))
    with pytest.raises(AssertionError) as caught:
        load_dag(path, "judged")
    assert message in str(caught.value)


def rejects(value):
    return value["mood"] == "unknown"


def test_the_recorded_prompt_names_judge_and_larger_models_and_its_fingerprint_is_that_of_the_small_model(tmp_path):
    plain = enrich(tmp_path, output_type=Label).prompt_template
    larger = Escalation(model=LARGE, when=["invalid", rejects], request={"max_output_tokens": 400})
    record = enrich(tmp_path, output_type=Label, escalate=[larger], judge=STRICT).prompt_template
    added = {name: record.pop(name) for name in ("judge", "larger_models")}
    assert record == plain
    assert added == {
        "judge": {"model": LARGE, "rubric": SCALE, "sample": 1.0, "min_score": 4},
        "larger_models": [
            {
                "model": LARGE,
                "when": ["invalid", 'def rejects(value):\n    return value["mood"] == "unknown"'],
                "request": {"max_output_tokens": 400},
            }
        ],
    }


def test_the_stored_dag_of_a_mapped_task_has_the_names_of_functions_and_no_address(tmp_path):
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

    larger = Escalation(model=LARGE, when=["invalid", rejects, print])
    with DAG("d", schedule=None, start_date=START) as dag:
        mapped(tmp_path, escalate=[larger], judge=STRICT).expand(shard=[(0, 2), (1, 2)])
    (stored,) = DagSerialization.to_dict(dag)["dag"]["tasks"]
    text = json.dumps(stored)
    assert " at 0x" not in text
    assert "Escalation(model='openai/gpt-4o', when=['invalid', rejects, print], request={})" in text
    assert SCALE in text
    assert stored["__var"]["prompt_template"]["judge"]["rubric"] == SCALE
