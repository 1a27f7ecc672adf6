"""Mapped tasks: wrong arguments fail the parsing of the file, those from other tasks the task when it runs."""

from __future__ import annotations

import datetime
import json
import re
from typing import Annotated, Literal

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task
from airflow.serialization import serialized_objects
from pydantic import BaseModel, Field

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.airflow_fakes import TaskInstance, context
from tests.operators.enrichments import MODEL

KNOWN = {"schedule": None, "start_date": datetime.datetime(2026, 1, 1)}
WRONG = [
    ({"request": {"temprature": 1}}, "request.temprature is not a field"),
    ({"on_invalid_output": "bogus"}, "on_invalid_output must be 'fail' or 'return', got 'bogus'"),
    (
        {"output_type": "Label"},
        "output_type must be a type or a JSON Schema, got 'Label'",
    ),
    ({"output_retries": 11}, "output_retries must be a whole number from 0 to 10, got 11"),
    ({"options": {"timeut": 5}}, "options.timeut is unknown"),
]
WRONG_OF_ONE = [
    *WRONG,
    ({"cache": "perhaps"}, "cache must be True or False, got 'perhaps'"),
    ({"request": {"model": MODEL}}, "model is given twice"),
]
WRONG_OF_ROWS = [
    *WRONG,
    ({"limits": {"concurency": 5}}, "limits.concurency is unknown; did you mean 'concurrency'?"),
    ({"output_format": "csv"}, "output_format must be 'jsonl' or 'parquet', got 'csv'"),
    ({"columns": "text"}, "columns must be a list of names, got 'text'"),
]


def in_partial(given, wrong):
    return ResponsesOperator.partial(**given, **wrong).expand(input=["x"])


def in_expand(given, wrong):
    return ResponsesOperator.partial(**given, input="x").expand(**{name: [value] for name, value in wrong.items()})


def in_expand_kwargs(given, wrong):
    return ResponsesOperator.partial(**given).expand_kwargs([{"input": "x"}, {"input": "y", **wrong}])


@pytest.mark.parametrize(("wrong", "message"), WRONG_OF_ONE)
@pytest.mark.parametrize("expand", [in_partial, in_expand, in_expand_kwargs])
def test_wrong_arguments_in_the_file_are_refused_when_it_is_parsed(wrong, message, expand):
    with DAG("d", **KNOWN), pytest.raises(ResponsesError, match=r"\. Task: ask$") as caught:
        expand({"task_id": "ask", "model": MODEL}, wrong)
    assert message in str(caught.value)


@pytest.mark.parametrize(("wrong", "message"), WRONG_OF_ROWS)
def test_wrong_arguments_of_an_enrichment_are_refused_when_the_file_is_parsed(wrong, message, tmp_path):
    given = {"task_id": "ask", "model": MODEL, "input": "{{ row.a }}", "output_path": str(tmp_path)}
    with DAG("d", **KNOWN), pytest.raises(ResponsesError, match=r"\. Task: ask$") as caught:
        ResponsesEnrichOperator.partial(**given, **wrong).expand(source=[[{"a": 1}]])
    assert message in str(caught.value)


@pytest.mark.parametrize(("wrong", "message"), WRONG)
@pytest.mark.parametrize("decorator", ["responses", "responses_enrich"])
def test_wrong_arguments_of_a_decorated_function_are_refused_when_the_file_is_parsed(wrong, message, decorator):
    made = getattr(task, decorator)(task_id="ask", model=MODEL, **wrong)(lambda row: row)
    with DAG("d", **KNOWN), pytest.raises(ResponsesError, match=r"\. Task: ask$") as caught:
        made.expand(row=["x"])
    assert message in str(caught.value)


def test_a_function_that_cannot_be_called_is_refused_when_the_file_is_parsed():
    async def ask(row):
        return row

    for made, message in (
        (task.responses(ask), "ask must be a plain function for @task.responses, got an async one"),
        (task.responses_enrich(ask), "ask must be a plain function for @task.responses_enrich, got an async one"),
        (
            task.responses(input="x")(lambda row: row),
            "input is the value that the function of @task.responses returns: remove the argument",
        ),
        (task.responses_enrich(task_id="ask", output_path="x")(lambda line: line), "must have a parameter `row`"),
    ):
        with DAG("d", **KNOWN), pytest.raises(ResponsesError, match=message):
            made.expand(**{"line" if "row" in message else "row": ["x"]})


class Topic(ResponsesOperator):
    """A subclass whose own arguments are not those of a request."""

    def __init__(self, *, request, **kwargs):
        super().__init__(request={"user": request}, **kwargs)


def test_arguments_that_may_be_right_are_not_refused():
    with DAG("d", **KNOWN):

        @task
        def words():
            return ["text"]

        one = {"model": MODEL, "request": {"user": "{{ ds }}"}}
        ResponsesOperator.partial(task_id="a", options=RequestOptions(timeout=5), **one).expand(input=words())
        ResponsesOperator.partial(task_id="b", input="x", result="{{ params.r }}", **one).expand(conn_id=["a", words()])
        ResponsesOperator.partial(task_id="c", multiple_outputs=True, **one).expand_kwargs(
            words().map(lambda word: {"input": word})
        )
        ResponsesOperator.partial(task_id="d", input="x", model=MODEL).expand(result=words())
        Topic.partial(task_id="e", input="x", model=MODEL, request="x").expand(result=["text"])
        Topic.partial(task_id="f", input="x", model=MODEL).expand(request=["x"])


# --- arguments from other tasks

BAD = [
    ({"input": "x", "request": {"temprature": 1}}, "request.temprature is not a field"),
    ({"input": 5.5}, "input must be str or list, got float"),
    ({"input": {"a": 1}}, "input must be str or list, got dict"),
    ({"input": "x", "cache_ttl": -1}, "cache_ttl must be a whole number from 1 to 86400, got -1"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
@pytest.mark.parametrize("deferrable", [False, True])
def test_wrong_arguments_from_other_tasks_fail_the_task_when_it_runs(given, message, deferrable, responses_sandbox):
    made = ResponsesOperator(task_id="ask", model=MODEL, deferrable=deferrable, _airflow_from_mapped=True, **given)
    ti = TaskInstance()
    with pytest.raises(AirflowFailException, match=rf"^{re.escape(message)}.*\. Task: ask$"):
        made.execute(context(ti))
    assert (ti.xcoms["usage"]["status"], ti.xcoms["usage"]["sends"]) == ("failed", [])
    assert not responses_sandbox.ledger


def test_wrong_arguments_from_other_tasks_fail_an_enrichment_when_it_runs(tmp_path, responses_sandbox):
    made = ResponsesEnrichOperator(
        task_id="ask",
        source=[{"a": 1}],
        input="{{ row.a }}",
        output_path=str(tmp_path / "out"),
        request={"temprature": 1},
        _airflow_from_mapped=True,
    )
    with pytest.raises(AirflowFailException, match=r"^request\.temprature is not a field.*\. Task: ask$"):
        made.execute(context(TaskInstance()))
    assert not responses_sandbox.ledger


DAG_FILE = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_responses.operators.responses import ResponsesOperator

KNOWN = dict(model="vendor/m", retries=2, retry_delay=datetime.timedelta(0))

with DAG("mapped", schedule=None, start_date=datetime.datetime(2026, 1, 1)):

    @task
    def requests():
        return [dict(input="x", request=dict(temprature=1)), dict(input=5.5), dict(input=dict(a=1)), dict(input="x")]

    ResponsesOperator.partial(task_id="ask", **KNOWN).expand_kwargs(requests())

"""


def test_in_a_real_dag_run_it_fails_at_once_and_pushes_usage(run_dag, responses_sandbox):
    result = run_dag(DAG_FILE, "mapped")
    assert [result.states["ask", number] for number in range(4)] == ["failed", "failed", "failed", "success"]
    for number in range(3):
        usage = result.xcom("ask", "usage", number)
        assert (usage["status"], usage["sends"], usage["cost"]) == ("failed", [], 0.0)
    assert len(responses_sandbox.ledger) == 1


@pytest.mark.parametrize("output_type", [list[int], Literal["a"]], ids=str)
def test_types_that_airflow_would_iterate_without_an_end_are_refused_in_expand(output_type):
    with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)):
        for expand in (
            lambda partial: partial.expand(output_type=[int, output_type]),
            lambda partial: partial.expand_kwargs([{"input": "x"}, {"output_type": output_type}]),
        ):
            with pytest.raises(RequestValidationError, match=r"^output_type cannot be .* in expand, since Airflow"):
                expand(ResponsesOperator.partial(task_id="ask", model="m"))


def test_every_kind_of_output_type_is_stored_with_its_dag():
    class Label(BaseModel):
        topic: str

    schema = {"type": "array", "items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"description": "{{ ds }}"}}}
    kinds = [Label, list[Label], Label | None, Literal["a", 1], Annotated[int, Field(ge=1)], dict[str, int], schema]
    with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)) as dag:
        for number, kind in enumerate(kinds):
            given = {"output_type": kind, "model": "m"}
            ResponsesOperator(task_id=f"one{number}", input="x", **given)
            ResponsesOperator.partial(task_id=f"mapped{number}", **given).expand(input=["a", "b"])
        ResponsesOperator.partial(task_id="expanded", input="x", model="m").expand(output_type=[Label, schema])
    serialized = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
    text = json.dumps(serialized.to_dict(dag))
    assert text == json.dumps(serialized.to_dict(dag))
    assert len(serialized.from_dict(json.loads(text)).task_dict) == 2 * len(kinds) + 1
