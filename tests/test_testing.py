"""The helpers for tests of users: the fixture, and the validation of all requests of a DAG."""

from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_responses.content import InputFile
from airflow_provider_responses.enrich import Judge
from airflow_provider_responses.hooks.responses import ResponsesHook
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.testing import invalid_requests

MODEL = "openai/gpt-4o-mini"


def dag_of(*builders):
    with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)) as dag:
        for build in builders:
            build()
    return dag


PDF = InputFile.from_path("/data/a.pdf")  # a task reads it when it runs


def test_the_fixture_sets_the_connection_and_fills_the_ledger(responses_sandbox):
    ResponsesHook().send({"model": MODEL, "input": "x"})
    assert [entry.model for entry in responses_sandbox.billed] == [MODEL]


def test_a_valid_dag_has_no_invalid_requests():
    @task.responses(model=MODEL)
    def decorated(topic):
        return topic

    @task.responses()
    def whole():
        return {"model": MODEL, "input": "x"}

    dag = dag_of(
        lambda: ResponsesOperator(task_id="a", model=MODEL, input="x"),
        lambda: ResponsesOperator(
            task_id="b", model="{{ params.m }}", input="{{ ds }}", options={"timeout": "{{ 1 }}"}
        ),
        lambda: ResponsesOperator(
            task_id="c",
            model=MODEL,
            input="x",
            request={"temperature": "{{ params.t }}", "metadata": {"a": "{{ ds }}"}},
        ),
        lambda: ResponsesOperator.partial(task_id="d", model=MODEL).expand(input=["x", "y"]),
        lambda: ResponsesOperator.partial(task_id="e").expand_kwargs([{"model": MODEL, "input": "x"}]),
        lambda: ResponsesOperator(task_id="file", model=MODEL, input=[{"role": "user", "content": [PDF]}]),
        lambda: decorated("x"),
        lambda: decorated.override(task_id="f").expand(topic=["x"]),
        whole,
    )
    assert invalid_requests(dag) == {}


def test_every_invalid_request_is_named_with_its_task():
    @task.responses(model=MODEL, request={"top_p": "high"})
    def decorated(topic):
        return topic

    dag = dag_of(
        lambda: ResponsesOperator(task_id="limits", model=MODEL, input="x", request={"service_tier": "gold"}),
        lambda: ResponsesOperator(
            task_id="metadata",
            model=MODEL,
            input="x",
            request={"metadata": dict.fromkeys("abcdefghijklmnop", "x")},
        ),
        lambda: ResponsesOperator(task_id="no_model", input="x"),
        lambda: ResponsesOperator(task_id="no_input", model=MODEL),
        lambda: ResponsesOperator(task_id="empty", model=MODEL, input=" "),
        lambda: ResponsesOperator(task_id="stored", model=MODEL, input="x", request={"store": True}),
        lambda: ResponsesOperator.partial(task_id="mapped", model=MODEL, request={"temperature": "hot"}).expand(
            input=["x"]
        ),
        lambda: decorated("x"),
    )
    problems = invalid_requests(dag)
    assert set(problems) == {
        *("limits", "metadata", "no_model", "no_input", "empty", "stored", "mapped", "decorated"),
    }
    assert "service_tier must be 'auto'" in problems["limits"]


def test_the_default_model_and_dialect_of_a_connection_can_be_given():
    dag = dag_of(lambda: ResponsesOperator(task_id="a", input="x", request={"store": True}))
    assert invalid_requests(dag, default_model="local/model", dialect="open") == {}


def test_the_open_dialect_accepts_fields_of_other_servers():
    request = {"conversation": "c", "include": ["unknown"], "metadata": {str(n): "x" for n in range(17)}}
    dag = dag_of(
        lambda: ResponsesOperator(task_id="a", model=MODEL, input="x", request=request),
        lambda: ResponsesOperator(task_id="b", request={"prompt": {"id": "p"}}),
        lambda: ResponsesOperator(task_id="c", model=MODEL, request={"previous_response_id": "r"}),
    )
    assert invalid_requests(dag, dialect="open") == {}
    assert set(invalid_requests(dag)) == {"a", "b", "c"}


def test_each_literal_value_of_a_mapped_task_is_validated():
    dag = dag_of(
        lambda: ResponsesOperator.partial(task_id="a", model=MODEL).expand(input=["fine", ""]),
        lambda: ResponsesOperator.partial(task_id="b", model=MODEL).expand_kwargs(
            [{"input": "x"}, {"input": "x", "request": {"service_tier": "turbo"}}]
        ),
    )
    problems = invalid_requests(dag)
    assert problems["a"].startswith("expand(input=...)[1]: ")
    assert problems["b"].startswith("expand_kwargs[1]: ")


def test_requests_of_larger_models_are_validated():
    wrong = Escalation(model="a/b", request={"store": True})
    dag = dag_of(
        lambda: ResponsesOperator(task_id="a", model=MODEL, input="x", escalate=[Escalation(model="a/b"), wrong]),
        lambda: ResponsesOperator.partial(task_id="b", model=MODEL, escalate=wrong).expand(input=["x"]),
        lambda: ResponsesOperator(task_id="c", model=MODEL, input="x", escalate=[Escalation(model="a/b")]),
    )
    found = invalid_requests(dag)
    assert found.keys() == {"a", "b"}
    assert found["a"].startswith("escalate[1]: store must not be true")


def test_requests_of_an_enrichment_to_larger_models_and_to_a_judge_are_validated():
    plain = {"source": [{"a": 1}], "input": "{{ row.a }}", "output_path": "out", "model": MODEL}
    right = {"escalate": [Escalation(model="a/b")], "judge": Judge(model="a/c", rubric="1 to 5")}
    wrong = {"judge": Judge(model="a/c", rubric="1 to 5", request={"store": True})}
    shards = {"shard": [(0, 2), (1, 2)]}
    dag = dag_of(
        lambda: ResponsesEnrichOperator(task_id="a", **plain, **right),
        lambda: ResponsesEnrichOperator(task_id="b", **plain, **wrong),
        lambda: ResponsesEnrichOperator.partial(task_id="c", **plain, **right).expand(**shards),
        lambda: ResponsesEnrichOperator.partial(task_id="d", **plain, **wrong).expand(**shards),
        lambda: ResponsesEnrichOperator(
            task_id="e", **plain, escalate=[Escalation(model="a/b", request={"store": True})]
        ),
        lambda: ResponsesEnrichOperator.partial(task_id="f", **plain).expand(judge=[right["judge"], wrong["judge"]]),
    )
    found = invalid_requests(dag)
    assert found.keys() == {"b", "d", "e", "f"}
    assert found["b"].startswith("judge: store must not be true")
    assert found["d"].startswith("judge: store must not be true")
    assert found["e"].startswith("escalate[0]: store must not be true")
    assert found["f"].startswith("expand(judge=...)[1]: judge: store must not be true")


def test_requests_of_enrichments_are_validated():
    @task.responses_enrich(source=[{"a": 1}], output_path="out")
    def whole(row):
        return {"model": MODEL, "input": row["a"]}

    @task.responses_enrich(source=[{"a": 1}], output_path="out", request={"service_tier": "gold"})
    def decorated(row):
        return row["a"]

    plain = {"source": [{"a": 1}], "output_path": "out"}
    dag = dag_of(
        whole,
        decorated,
        lambda: ResponsesEnrichOperator(task_id="fine", model=MODEL, input="{{ row.a }}", **plain),
        lambda: ResponsesEnrichOperator(task_id="function", input=lambda row: {"model": MODEL} | row, **plain),
        lambda: ResponsesEnrichOperator(task_id="no_model", input="{{ row.a }}", **plain),
        lambda: ResponsesEnrichOperator.partial(task_id="shards", input="{{ row.a }}", **plain).expand(shard=[(0, 1)]),
    )
    assert set(invalid_requests(dag)) == {"decorated", "no_model", "shards"}
