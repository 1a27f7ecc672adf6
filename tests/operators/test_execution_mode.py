"""Where a task starts and ends, and each reason for it once."""

from __future__ import annotations

import datetime
import json
import logging

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperatorLink, Param, task
from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple
from pydantic import BaseModel

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators import execution_mode
from airflow_provider_responses.operators.configuration import MAX_TRIGGER_BYTES
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.execution_mode import ExecutionMode
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task import payloads
from airflow_provider_responses.task.request import TaskRequest
from tests.models.test_output import Nested  # a class that any process can import

AIRFLOW = get_base_airflow_version_tuple()
ends = pytest.mark.skipif(AIRFLOW < (3, 3, 0), reason="before Airflow 3.3 a worker always ends the task")
starts = pytest.mark.skipif(AIRFLOW < (3, 3, 1), reason="before Airflow 3.3.1 no task starts in the triggerer")


class InDagFile(BaseModel):
    topic: str


InDagFile.__module__ = "unusual_prefix_0123_nightly"


class XComLink(BaseOperatorLink):
    name = "Response"

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
    with DAG("modes", schedule=None, start_date=datetime.datetime(2026, 1, 1), **(dag or {})):
        return cls(task_id="ask", **({"model": "vendor/m", "input": "hi"} | kwargs))


def downstream(kind):
    with DAG("modes", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
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


def reason_to_end_on_worker(task):
    return execution_mode.reason_to_end_on_worker(task, ResponsesOperator)


def reason_to_start_on_worker(task):
    return execution_mode.reason_to_start_on_worker(task, ResponsesOperator, max_bytes=MAX_TRIGGER_BYTES)


@ends
class TestEnd:
    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ({}, None),
            ({"output_type": Nested}, None),
            ({"retries": 3, "on_failure_callback": nothing}, None),
            ({"output_type": InDagFile}, "InDagFile is defined in a DAG file"),
            ({"output_type": list[InDagFile]}, "list[InDagFile] is defined in a DAG file"),
            ({"output_type": list[Nested]}, None),
            ({"output_type": {"type": "array", "items": {"type": "integer"}}}, None),
            ({"escalate": Escalation(model="a/b", when=["refused", nothing])}, None),
            ({"escalate": Escalation(model="a/b", when=lambda _: True)}, "TestEnd.<lambda> of `escalate` is defined"),
            ({"escalate": Escalation(model="a/b"), "max_cost": 1.0}, "its max_cost or budget is checked on a worker"),
            ({"outlets": ["made-up"]}, "it has outlets"),
            ({"on_success_callback": nothing}, "it has a success callback"),
            ({"post_execute": nothing}, "it has a post_execute hook"),
            ({"map_index_template": "x"}, "it has a map_index_template"),
            ({"multiple_outputs": True, "output_type": Nested}, "it has multiple outputs"),
            ({"cls": Completes}, "Completes has an execute_complete of its own"),
            ({"cls": Links}, "it has links of its own"),
        ],
    )
    def test_a_worker_ends_a_task_that_would_lose_something(self, arguments, reason):
        if outlets := arguments.get("outlets"):
            from airflow.sdk import Asset

            arguments = arguments | {"outlets": [Asset(name) for name in outlets]}
        found = reason_to_end_on_worker(in_dag(**arguments))
        assert found == reason or (reason and found.startswith(reason))

    @pytest.mark.parametrize(("kind", "reason"), [("plain", None), ("mapped", "a mapped task expands over its value")])
    def test_a_worker_ends_a_task_if_a_mapped_task_expands_over_its_value(self, kind, reason):
        assert reason_to_end_on_worker(downstream(kind)) == reason

    def test_a_worker_ends_a_task_where_a_listener_is_installed(self, monkeypatch):
        monkeypatch.setattr(execution_mode, "_has_listeners", lambda: True)
        assert reason_to_end_on_worker(in_dag()) == "a listener is installed"

    def test_no_listener_is_installed_here(self):
        assert execution_mode._has_listeners() is False


class TestStart:
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
            {"escalate": Escalation(model="a/b", when=["invalid", nothing], request={"max_output_tokens": 100})},
            {"escalate": Escalation(model="a/b", when=lambda _: True)},
        ],
    )
    def test_a_task_that_loses_nothing_starts_in_the_triggerer(self, arguments):
        task = in_dag(start_from_trigger=True, **arguments)
        assert reason_to_start_on_worker(task) is None
        assert task.start_from_trigger is True
        assert task.start_trigger_args.next_method == "execute_complete"

    @starts
    @pytest.mark.parametrize(
        ("arguments", "reason"),
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
            ({"input": "See README.md"}, "a text of it ends in .md, which the triggerer would take for the name of"),
            ({"dag": {"render_template_as_native_obj": True}}, "its DAG has render_template_as_native_obj"),
            ({"dag": {"user_defined_macros": {"x": 1}}}, "its DAG has user_defined_macros"),
            ({"dag": {"user_defined_filters": {"x": str}}}, "its DAG has user_defined_filters"),
            ({"dag": {"jinja_environment_kwargs": {"block_start_string": "<%"}}}, "its DAG has jinja_environment"),
            ({"dag": {"template_undefined": Lenient}}, "its DAG has a template_undefined of its own"),
            ({"render_template_as_native_obj": True}, "it has render_template_as_native_obj"),
            ({"input": "{% include 'a.txt' %}"}, "a template includes a file"),
            ({"input": "{% import 'a.txt' as a %}{{ a.x }}"}, "a template includes a file"),
            ({"request": {"instructions": "{% extends params.base %}"}}, "a template includes a file"),
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
                {"escalate": Escalation(model="a/b", request={"tools": [{"type": "mcp", "authorization": "abc"}]})},
                "escalate[0].request.tools.0 holds 'authorization', and a trigger's row may hold no secret",
            ),
            (
                {"escalate": Escalation(model="a/b", request={"extra_body": {"when": datetime.date(2026, 1, 1)}})},
                "the triggerer cannot be given escalate[0].request has no JSON form",
            ),
            (
                {"request": {"extra_body": {"when": datetime.date(2026, 1, 1)}}},
                "the triggerer cannot be given request.extra_body.when is a date",
            ),
        ],
    )
    def test_a_task_that_would_lose_something_starts_on_a_worker(self, arguments, reason):
        if reason is None:
            with pytest.raises(RequestValidationError):
                in_dag(start_from_trigger=True, **arguments)
            return
        task = in_dag(start_from_trigger=True, **arguments)
        assert reason_to_start_on_worker(task).startswith(reason)
        assert task.start_from_trigger is False
        assert task.start_trigger_args is None

    @starts
    def test_the_params_of_a_dag_are_checked_once_for_all_its_tasks(self):
        execution_mode._is_valid_param.cache_clear()
        with DAG("modes", schedule=None, params={"n": Param(1, type="integer"), "topic": "tides"}):
            for number in range(5):
                task = ResponsesOperator(task_id=f"t{number}", model="vendor/m", input="hi", start_from_trigger=True)
                assert task.start_from_trigger is True
        assert execution_mode._is_valid_param.cache_info().misses == 2

    @starts
    def test_a_task_starts_on_a_worker_if_its_input_comes_from_another_task(self):
        with DAG("modes", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
            first = ResponsesOperator(task_id="first", model="vendor/m", input="hi")
            second = ResponsesOperator(task_id="ask", model="vendor/m", input=first.output, start_from_trigger=True)
            third = ResponsesOperator(
                task_id="third",
                model="vendor/m",
                input=[{"role": "user", "content": first.output}],
                start_from_trigger=True,
            )
        assert reason_to_start_on_worker(second) == "`input` comes from another task"
        assert reason_to_start_on_worker(third) == "`input` comes from another task"

    def test_mapped_and_decorated_tasks_never_start_in_the_triggerer_nor_do_others_by_default(self):
        assert ResponsesOperator.start_trigger_args is None
        assert ResponsesOperator.start_from_trigger is False
        assert in_dag().start_trigger_args is None
        assert in_dag(deferrable=True).start_from_trigger is False
        with DAG("modes", schedule=None, start_date=datetime.datetime(2026, 1, 1)) as dag:
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
    def test_every_task_starts_on_a_worker_before_airflow_3_3_1(self):
        assert reason_to_start_on_worker(in_dag(start_from_trigger=True)) == "Airflow is older than 3.3.1"

    @starts
    def test_the_stored_dag_holds_the_arguments_of_the_trigger(self):
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
        assert kwargs == payloads.StartArguments.of(task).to_kwargs()
        assert list(payloads.StartArguments.from_kwargs(kwargs).arguments.request["tools"][0]["parameters"]) == [
            "z",
            "a",
        ]
        assert kwargs["output_type"] == "tests.models.test_output:Nested"


SECRET = {"tools": [{"type": "mcp", "server_label": "wiki", "authorization": "abc"}]}


class TestDecision:
    @pytest.mark.parametrize(
        ("fields", "given", "mode", "line"),
        [
            ({}, {}, ExecutionMode.TRIGGERER, "Deferring; the trigger ends the task"),
            (
                {},
                {"end_reason": "it has outlets"},
                ExecutionMode.DEFERRED,
                "Deferring; a worker ends the task, in 5 s at the earliest: it has outlets",
            ),
            (
                {},
                {"seconds_left": 39.0},
                ExecutionMode.WORKER,
                "Not deferred: 39 s are left of execution_timeout, too few to resume on a worker",
            ),
            ({}, {"seconds_left": 40.0}, ExecutionMode.TRIGGERER, "Deferring; the trigger ends the task"),
            (
                {"instructions": "x" * 2000},
                {},
                ExecutionMode.WORKER,
                "Not deferred: the request has 2571 bytes, and [responses] max_trigger_bytes is 2000",
            ),
            (
                SECRET | {"instructions": "x" * 2000},
                {},
                ExecutionMode.WORKER,
                "Not deferred: request.tools.0 holds 'authorization', and a trigger's row may hold no secret",
            ),
        ],
    )
    def test_the_log_states_the_mode_and_the_reason(self, fields, given, mode, line):
        arguments = payloads.DeferredArguments(
            conn_id="responses_default", task_request=TaskRequest(fields={"input": "hi"} | fields), deadline=0.0
        )
        decision = execution_mode.decide(arguments, **{"max_bytes": 2000, "end_reason": None} | given)
        assert decision.mode is mode
        assert decision.log_line(5.0) == line
        assert decision.log_level == (logging.WARNING if fields else logging.INFO)


class TestDeferrable:
    @pytest.mark.parametrize("default", ["True", "False"])
    def test_its_default_is_in_airflows_configuration(self, default, monkeypatch):
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", default)
        assert in_dag().deferrable is (default == "True")
        assert in_dag(deferrable=False).deferrable is False
        assert in_dag(deferrable=True).deferrable is True
        assert in_dag(start_from_trigger=True).deferrable is True
