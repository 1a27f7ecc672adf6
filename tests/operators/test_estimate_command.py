"""``python -m airflow_provider_responses estimate``: the price of a task, without a DAG run."""

from __future__ import annotations

import json
import re

import pytest

from airflow_provider_responses.__main__ import main
from tests.operators.enrichments import ROWS

DAG = """
import datetime
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.responses import ResponsesOperator

MODEL = "openai/gpt-4o-mini"
START = datetime.datetime(2026, 1, 1)

with DAG("priced", schedule=None, start_date=START, params={{"model": MODEL, "words": 3}}):
    ResponsesEnrichOperator(
        task_id="label", source={rows!r}, input="Mood on {{{{ ds }}}}: {{{{ row.text }}}}",
        model="{{{{ params.model }}}}", output_path={folder!r}, request={{"max_output_tokens": 100}},
    )
    ResponsesOperator(
        task_id="ask", model=MODEL, input="{{{{ 'word ' * params.words }}}}", request={{"max_output_tokens": 10}}
    )
    ResponsesOperator(
        task_id="larger", model=MODEL, input="word", request={{"max_output_tokens": 10}},
        escalate=[Escalation(model="openai/gpt-4o")],
    )
    ResponsesOperator(task_id="wrong", model=MODEL, input="{{{{ ti.xcom_pull('ask') }}}}")
    ResponsesOperator.partial(task_id="many", model=MODEL).expand(input=["a", "b"])

    @task
    def other():
        return "x"

    @task.responses(model=MODEL)
    def from_function(words):
        return "word " * words

    @task.responses_enrich(source=[{{"text": "a"}}], model=MODEL, output_path={folder!r} + "2")
    def each(row):
        return row["text"]

    @task.responses(model=MODEL)
    def from_upstream(text):
        return text

    from_function(8)
    from_upstream(other())
    each()
"""


@pytest.fixture
def command(airflow_db, responses_sandbox, tmp_path, capsys):
    """Run the command for the DAG, and return its exit code, its output and its errors."""
    path = tmp_path / "priced.py"
    path.write_text(DAG.format(rows=ROWS, folder=str(tmp_path / "out")))

    def run(*arguments):
        capsys.readouterr()
        code = main(["estimate", *arguments, "--file", str(path)])
        printed = capsys.readouterr()
        assert responses_sandbox.ledger == []
        return code, printed.out, printed.err

    return run


def as_json(command, *arguments):
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    return json.loads(out[out.index("{\n") :])


def test_an_enrichment_is_estimated_as_estimate_only_does(command, tmp_path):
    found = as_json(command, "priced", "label", "--logical-date", "2026-11-28")
    assert (found["kind"], found["rows"], found["requests"], found["output_tokens"]) == ("estimate", 5, 5, 500)
    assert found["input_tokens"] == sum(-(-len(f"Mood on 2026-11-28: {row['text']}") // 4) for row in ROWS)
    assert not (tmp_path / "out").exists()


def test_the_estimate_is_printed_for_people(command):
    code, out, _ = command("priced", "label")
    assert code == 0
    assert "5 rows: 5 requests to send" in out
    assert "Cost (live): about $0.0003" in out


def test_conf_overrides_the_params(command):
    cheap, dear = (
        as_json(command, "priced", "label", "--conf", json.dumps({"model": model}))
        for model in ("openai/gpt-4o-mini", "openai/gpt-4o")
    )
    assert dear["cost"] > 10 * cheap["cost"]


def test_a_single_request_is_estimated(command):
    found = as_json(command, "priced", "ask", "--conf", '{"words": 40}')
    assert (found["requests"], found["input_tokens"], found["output_tokens"]) == (1, 50, 10)
    assert found["cost"] == pytest.approx(50 * 0.15e-6 + 10 * 0.6e-6)


def test_the_estimate_of_a_request_with_a_larger_model_names_it_with_its_price(command):
    found, plain = (as_json(command, "priced", task) for task in ("larger", "ask"))
    assert (found["without"], found["cost_high"], found["requests"]) == (["escalate"], None, 1)
    assert found["later_models"] == [
        {"argument": "escalate", "model": "openai/gpt-4o", "input_price": 2.5e-6, "output_price": 10e-6}
    ]
    assert plain["cost_high"] > plain["cost"]
    assert "without" not in plain
    assert ", without the larger models\n" in command("priced", "larger")[1]


@pytest.mark.parametrize(("task", "tokens"), [("from_function", 10), ("each", 1)])
def test_tasks_of_decorators_are_estimated(command, task, tokens):
    assert as_json(command, "priced", task)["input_tokens"] == tokens


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("pricedd", "label"), "there is no DAG 'pricedd' in .*; did you mean 'priced'?"),
        (("priced", "lable"), "the DAG 'priced' has no task 'lable'; did you mean 'label'?"),
        (("priced", "other"), "the task 'other' is a .*, which sends no requests of this kind"),
        (("priced", "many"), "the task 'many' is mapped"),
        (("priced", "from_upstream"), "`op_args` comes from another task, which has not run. Task: from_upstream"),
        (("priced", "wrong"), "the task's templates cannot be rendered: .*xcom_pull"),
        (("priced", "label", "--conf", "[1"), "--conf must be a JSON object"),
        (("priced", "label", "--conf", "[1]"), "--conf must be a JSON object, got"),
        (("priced", "label", "--logical-date", "soon"), "--logical-date must be a date in ISO 8601"),
    ],
)
def test_errors_name_the_cause(command, arguments, error):
    code, _, err = command(*arguments)
    assert code == 1

    assert re.search(f"No estimate: {error}", err), err
