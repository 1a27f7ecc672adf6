"""Which way a task takes, and why: each reason once, and the log that says it."""

from __future__ import annotations

import datetime
import json

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperatorLink, Param, task
from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple
from pydantic import BaseModel

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators import ways
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task import payloads
from tests.models.test_output import Nested  # a class that any process can import

AIRFLOW = get_base_airflow_version_tuple()
ends = pytest.mark.skipif(AIRFLOW < (3, 3, 0), reason="before Airflow 3.3 a worker always ends the task")
starts = pytest.mark.skipif(AIRFLOW < (3, 3, 1), reason="before Airflow 3.3.1 no task starts in the triggerer")


class InDagFile(BaseModel):
    topic: str


InDagFile.__module__ = "unusual_prefix_0123_nightly"


class XComLink(BaseOperatorLink):
    name = "Answer"

    def get_link(self, operator, *, ti_key):
        return "https://example.com"


class Completes(ResponsesOperator):
    def execute_complete(self, context, event=None):
        return "mine"


class Executes(ResponsesOperator):
    def execute(self, context):
        return "mine"


class Renders(ResponsesOperator):
    def render_template_fields(self, context, jinja_env=None):
        super().render_template_fields(context, jinja_env)
        self.input = "mine"


class Reads(ResponsesOperator):
    template_ext = (".txt",)


class Lenient(jinja2.StrictUndefined):
    def __str__(self):
        return ""


class TakesMore(ResponsesOperator):
    template_fields = (*ResponsesOperator.template_fields, "topic")

    def __init__(self, *, topic="tides", **kwargs):
        super().__init__(**kwargs)
        self.topic = topic


class Links(ResponsesOperator):
    operator_extra_links = (XComLink(),)


def in_dag(cls=ResponsesOperator, dag=None, **kwargs):
    with DAG("ways", schedule=None, start_date=datetime.datetime(2026, 1, 1), **(dag or {})):
        return cls(task_id="ask", **({"model": "vendor/m", "input": "hi"} | kwargs))


def downstream(kind):
    with DAG("ways", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
        ask = ResponsesOperator(task_id="ask", model="vendor/m", input="hi", start_from_trigger=True)

        @task
        def use(value):
            return value

        if kind == "mapped":
            use.expand(value=ask.output)
        else:
            use(ask.output)
    return ask


def nothing(context):
    """Stand in for a callback."""


@ends
class TestWhereATaskEnds:
    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ({}, None),
            ({"output_type": Nested}, None),
            ({"retries": 3, "on_failure_callback": nothing}, None),
            ({"output_type": InDagFile}, "InDagFile is defined in a DAG file"),
            ({"outlets": ["made-up"]}, "it has outlets"),
            ({"on_success_callback": nothing}, "it has a success callback"),
            ({"post_execute": nothing}, "it has a post_execute hook"),
            ({"map_index_template": "x"}, "it has a map_index_template"),
            ({"multiple_outputs": True, "output_type": Nested}, "it has multiple outputs"),
            ({"cls": Completes}, "Completes has an execute_complete of its own"),
            ({"cls": Links}, "it has links of its own"),
        ],
    )
    def test_for_what_it_has(self, arguments, why):
        if outlets := arguments.get("outlets"):
            from airflow.sdk import Asset

            arguments = arguments | {"outlets": [Asset(name) for name in outlets]}
        found = ways.needs_worker(in_dag(**arguments))
        assert found == why or (why and found.startswith(why))

    @pytest.mark.parametrize(("kind", "why"), [("plain", None), ("mapped", "a mapped task expands over its value")])
    def test_for_who_reads_it(self, kind, why):
        assert ways.needs_worker(downstream(kind)) == why

    def test_for_a_listener(self, monkeypatch):
        monkeypatch.setattr(ways, "_has_listeners", lambda: True)
        assert ways.needs_worker(in_dag()) == "a listener is installed"

    def test_no_listener_is_installed_here(self):
        assert ways._has_listeners() is False


class TestWhereATaskStarts:
    @starts
    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"input": "{{ ds }} {{ params.x }} {{ dag_run.conf['y'] }} {{ var.value.z }}"},
            {"input": "{{ dag.dag_id }} {{ task['task_id'] }} {{ dag_run.run_after | ds }} {% do [].append(1) %}"},
            {"params": {"topic": "tides"}, "dag": {"params": {"n": Param(1, type="integer")}}},
            {"dag": {"template_searchpath": ["made-up"]}},
            {"params": {"unused": {"b": 1}}, "input": "{{ ds }}"},
            {"output_type": Nested},
            {"output_type": InDagFile},
            {"input": [{"role": "user", "content": "{% if ds %}x{% endif %}"}], "request": {"temperature": 0.1}},
            {"options": {"timeout": "{{ params.seconds }}", "headers": {"X-Team": "data"}}},
            {"options": {"headers": "{{ params.headers }}"}},
            {"dag": {"params": {"n": Param(None, type=["null", "integer"])}}},
            {"execution_timeout": datetime.timedelta(seconds=60)},
            {"cls": TakesMore, "topic": "{{ ds }}"},
        ],
    )
    def test_in_the_triggerer(self, arguments):
        task = in_dag(start_from_trigger=True, **arguments)
        assert ways.needs_worker_to_start(task) is None
        assert task.start_from_trigger is True
        assert task.start_trigger_args.next_method == "execute_complete"

    @starts
    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ({"on_success_callback": nothing}, "it has a success callback"),
            ({"on_execute_callback": nothing}, "it has a callback for its start"),
            ({"pre_execute": nothing}, "it has an execute or a pre_execute hook of its own"),
            ({"cls": Executes}, "it has an execute or a pre_execute hook of its own"),
            ({"cls": Completes}, "Completes has an execute_complete of its own"),
            ({"cls": Renders}, "Renders has a render_template_fields of its own"),
            ({"cls": Links}, "it has links of its own"),
            ({"pool": "llm"}, "it is in the pool 'llm'"),
            ({"max_active_tis_per_dag": 2}, "it limits how many of it run at once"),
            ({"max_active_tis_per_dagrun": 2}, "it limits how many of it run at once"),
            ({"cls": Reads}, "Reads reads templates from files"),
            ({"dag": {"render_template_as_native_obj": True}}, "its DAG has render_template_as_native_obj"),
            ({"dag": {"user_defined_macros": {"x": 1}}}, "its DAG has user_defined_macros"),
            ({"dag": {"user_defined_filters": {"x": str}}}, "its DAG has user_defined_filters"),
            ({"dag": {"jinja_environment_kwargs": {"block_start_string": "<%"}}}, "its DAG has jinja_environment"),
            ({"dag": {"template_undefined": Lenient}}, "its DAG has a template_undefined of its own"),
            ({"render_template_as_native_obj": True}, "it has render_template_as_native_obj"),
            ({"input": "{% include 'a.txt' %}"}, "a template takes in a file"),
            ({"input": "{% import 'a.txt' as a %}{{ a.x }}"}, "a template takes in a file"),
            ({"request": {"instructions": "{% extends params.base %}"}}, "a template takes in a file"),
            ({"params": {"n": Param(1, type="integer")}}, "its param 'n' has a schema of its own"),
            ({"params": {"n": Param()}}, "a param has no default"),
            ({"dag": {"params": {"n": Param(type="integer")}}}, "a param has no default"),
            ({"dag": {"params": {"n": Param("x", type="integer")}}}, "a param has no default, or one that its"),
            ({"dag": {"params": {"n": Param(1, type="nonsense")}}}, "a param has no default, or one that its"),
            ({"params": {"n": {"b": 1}}, "input": "{{ params.x }}"}, "a template uses 'params', and the"),
            (
                {"params": {"n": [{"b": 1}]}, "input": "{{ params.n }}"},
                "a template uses 'params', and the",
            ),
            ({"input": "{{ task.params }}"}, "a template uses more of 'task'"),
            ({"input": "{{ dag.params }}"}, "a template uses more of 'dag'"),
            ({"input": "{{ dag_run }}"}, "a template uses more of 'dag_run'"),
            ({"input": "{{ dag_run.conf }} {{ dag_run.run_type }}"}, "a template uses more of 'dag_run'"),
            ({"input": "{{ dag_run['triggering_user_name'] }}"}, "a template uses more of 'dag_run'"),
            ({"input": "{{ dag_run[params.x] }}"}, "a template uses more of 'dag_run'"),
            ({"input": "{{ dag_run | attr('note') }}"}, "a template uses more of 'dag_run'"),
            ({"input": "{% set run = dag_run %}{{ run.conf }}"}, "a template uses more of 'dag_run'"),
            ({"input": "{{ ti.xcom_pull('a') }}"}, "a template uses 'ti'"),
            ({"request": {"instructions": "{{ task_instance.try_number }}"}}, "a template uses 'task_instance'"),
            ({"input": "{{ ds"}, "a template cannot be read"),
            ({"request": {"{{ ds }}": 1}, "input": "{{ ds }}"}, None),
            ({"options": {"headers": {"X-Api-Key": "abc"}}}, "options.headers holds 'X-Api-Key'"),
            (
                {
                    "request": {
                        "tools": [{"type": "mcp", "server_label": "wiki", "authorization": "{{ conn.wiki.password }}"}]
                    }
                },
                "request.tools.0 holds 'authorization', and a trigger's row may hold no secret",
            ),
            (
                {"request": {"extra_body": {"x": float("nan")}}},
                "the triggerer cannot be given request.extra_body.x is nan",
            ),
            ({"input": "x" * 60_000}, "the request has 60"),
            (
                {"request": {"extra_body": {"when": datetime.date(2026, 1, 1)}}},
                "the triggerer cannot be given request.extra_body.when is a date",
            ),
        ],
    )
    def test_on_a_worker(self, arguments, why):
        if why is None:
            with pytest.raises(RequestValidationError):
                in_dag(start_from_trigger=True, **arguments)
            return
        task = in_dag(start_from_trigger=True, **arguments)
        assert ways.needs_worker_to_start(task).startswith(why)
        assert task.start_from_trigger is False
        assert task.start_trigger_args is None

    @starts
    def test_the_params_of_a_dag_are_checked_once_for_all_its_tasks(self):
        ways._is_allowed.cache_clear()
        with DAG("ways", schedule=None, params={"n": Param(1, type="integer"), "topic": "tides"}):
            for number in range(5):
                task = ResponsesOperator(task_id=f"t{number}", model="vendor/m", input="hi", start_from_trigger=True)
                assert task.start_from_trigger is True
        assert ways._is_allowed.cache_info().misses == 2

    @starts
    def test_on_a_worker_where_an_upstream_task_makes_the_input(self):
        with DAG("ways", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
            first = ResponsesOperator(task_id="first", model="vendor/m", input="hi")
            second = ResponsesOperator(task_id="ask", model="vendor/m", input=first.output, start_from_trigger=True)
            third = ResponsesOperator(
                task_id="third",
                model="vendor/m",
                input=[{"role": "user", "content": first.output}],
                start_from_trigger=True,
            )
        assert ways.needs_worker_to_start(second) == "`input` comes from another task"
        assert ways.needs_worker_to_start(third) == "`input` comes from another task"

    def test_only_if_asked_and_never_mapped_or_decorated_ones(self):
        assert ResponsesOperator.start_trigger_args is None
        assert ResponsesOperator.start_from_trigger is False
        assert in_dag().start_trigger_args is None
        assert in_dag(deferrable=True).start_from_trigger is False
        with DAG("ways", schedule=None, start_date=datetime.datetime(2026, 1, 1)) as dag:
            ResponsesOperator.partial(task_id="mapped", model="vendor/m", start_from_trigger=True).expand(
                input=["a", "b"]
            )

            @task.responses(model="vendor/m", start_from_trigger=True)
            def decorated():
                return "hi"

            decorated()
        assert dag.get_task("mapped").start_trigger_args is None
        assert dag.get_task("decorated").start_trigger_args is None

    @pytest.mark.skipif(AIRFLOW >= (3, 3, 1), reason="from Airflow 3.3.1 on tasks start in the triggerer")
    def test_on_a_worker_before_airflow_3_3_1(self):
        assert ways.needs_worker_to_start(in_dag(start_from_trigger=True)) == "Airflow is older than 3.3.1"

    @starts
    def test_what_is_stored_is_what_the_trigger_takes(self):
        from airflow.serialization.serialized_objects import DagSerialization

        request = {
            "tools": [{"type": "function", "name": "f", "parameters": {"z": 1, "a": 2}}],
            "instructions": "{{ ds }}",
        }
        task = in_dag(start_from_trigger=True, request=request, output_type=Nested)
        stored = json.loads(json.dumps(DagSerialization.to_dict(task.dag), sort_keys=True))
        back = DagSerialization.from_dict(stored).get_task("ask")
        assert back.start_from_trigger is True
        from airflow.serialization.serialized_objects import BaseSerialization

        kwargs = BaseSerialization.deserialize(back.start_trigger_args.trigger_kwargs)
        assert kwargs == ways.start_fields(task)
        assert list(payloads.from_pairs(kwargs["request"])["tools"][0]["parameters"]) == ["z", "a"]
        assert kwargs["output_type"] == "tests.models.test_output:Nested"


class TestDeferrable:
    @pytest.mark.parametrize("default", ["True", "False"])
    def test_is_what_airflows_configuration_says(self, default, monkeypatch):
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", default)
        assert in_dag().deferrable is (default == "True")
        assert in_dag(deferrable=False).deferrable is False
        assert in_dag(deferrable=True).deferrable is True
        assert in_dag(start_from_trigger=True).deferrable is True
