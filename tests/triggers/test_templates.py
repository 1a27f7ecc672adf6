"""Templates in the triggerer: rendered as on a worker, and a template that cannot be rendered fails as there."""

from __future__ import annotations

import datetime
import uuid

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple

from airflow_provider_responses.exceptions import RequestValidationError, VersionMismatchError
from airflow_provider_responses.operators.execution_mode import reason_to_start_on_worker
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.operators.triggerer_templates import RENDERED_IN_TRIGGERER, SAME_IN_TRIGGERER
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import first_event, revive, start_trigger, through_the_database

pytestmark = pytest.mark.skipif(
    get_base_airflow_version_tuple() < (3, 3, 1), reason="before Airflow 3.3.1 no task starts in the triggerer"
)
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
IN_ORDER = {"zeta": {"b": 1, "a": [2]}}


def in_dag(**kwargs):
    with DAG("nightly", schedule=None, params={"colour": "blue", "list": ["a", 1, None], "none": None}):
        return ResponsesOperator(task_id="ask", model="vendor/m", start_from_trigger=True, **kwargs)


def run_of_dag():
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunType

    run = DagRun(
        dag_id="nightly",
        run_id="manual__1",
        logical_date=NOW,
        data_interval=(NOW, NOW + datetime.timedelta(days=1)),
        run_after=NOW,
        start_date=NOW,
        run_type=DagRunType.MANUAL,
        state="running",
        conf={"colour": "green", "deep": IN_ORDER},
    )
    run.triggering_user_name = "ada"
    return run


def rendered_on_worker(task):
    """Return the input of a task as a worker renders it."""
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun
    from airflow.sdk.api.datamodels import _generated
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    sent = DagRun.model_validate(run_of_dag().dag_run_data).model_dump_json()
    ti = RuntimeTaskInstance.model_construct(
        **ids(),
        task=task,
        _ti_context_from_server=_generated.TIRunContext.model_construct(
            dag_run=_generated.DagRun.model_validate_json(sent), max_tries=0
        ),
    )
    ti.render_templates(jinja_env=task.dag.get_template_env())
    return task.input


def rendered_in_triggerer(task):
    """Return the trigger of a task, revived and rendered as in the triggerer."""
    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.jobs.triggerer_job_runner import TriggerRunner
    from airflow.serialization.serialized_objects import DagSerialization

    trigger = revive(start_trigger(task), None)
    trigger._is_rendered = False
    ti = TaskInstanceDTO.model_construct(**ids())
    stored = through_the_database(DagSerialization.to_dict(task.dag))
    run = run_of_dag().dag_run_data.model_dump(exclude_unset=True)
    trigger.task_instance = TriggerRunner.create_runtime_ti(ti, stored, run)
    trigger.render_template_fields(context=trigger.task_instance.get_template_context())
    return trigger


def ids():
    return {
        "id": uuid.uuid4(),
        "dag_id": "nightly",
        "task_id": "ask",
        "run_id": "manual__1",
        "map_index": -1,
        "try_number": 1,
        "dag_version_id": uuid.uuid4(),
    }


def every_name():
    for name in sorted(RENDERED_IN_TRIGGERER - {"conn", "macros", "var", *SAME_IN_TRIGGERER}):
        yield f"{{{{ {name} }}}}"
    for name, attributes in SAME_IN_TRIGGERER.items():
        for attribute in sorted(attributes):
            yield f"{{{{ {name}.{attribute} }}}}"


@pytest.mark.parametrize(
    "template",
    [
        *every_name(),
        "{{ macros.ds_add(ds, 5) }} {{ params.colour | upper }} {{ dag_run.conf.deep.zeta.a[0] }}",
        "{{ logical_date | ds_nodash }} {{ data_interval_end | ts }} {{ logical_date.add(days=1) }}",
        "{% set all = [] %}{% do all.append(ds) %}{{ all | join }}",
        "{{ params.nope | default('none') }} {{ 'x' if dag_run.conf.nope is defined else 'y' }}",
    ],
)
def test_a_task_that_starts_in_the_triggerer_is_rendered_as_on_a_worker(template):
    task = in_dag(input=f"A {template} Z")
    assert reason_to_start_on_worker(task, ResponsesOperator, max_bytes=48_000) is None
    there = rendered_in_triggerer(task)
    there._check_rendered()
    assert there.input == rendered_on_worker(task) != f"A {template} Z"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ dag_run.conf.topic }}", "UndefinedError.*'topic'"),
        ("{{ params.nope }}", "UndefinedError.*'nope'"),
        ("{{ params.colour + 1 }}", "TypeError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("name", ["input", "conn_id"])
def test_an_error_of_a_template_sends_nothing_and_is_left_to_retries(name, template, message, responses_sandbox):
    task = in_dag(**{"input": "hi", name: template})
    event = first_event(rendered_in_triggerer(task))
    with pytest.raises(RequestValidationError, match=message) as caught:
        in_dag(input="hi").execute_complete(context(TaskInstance()), through_the_database(event.payload))
    assert caught.value.retryable  # as an error of a template on a worker is
    assert not responses_sandbox.ledger


def test_the_rendered_request_is_sent(responses_sandbox):
    task = in_dag(input="{{ params.colour }} for {{ dag_run.conf.deep.zeta.b }}")
    trigger = rendered_in_triggerer(task)

    async def call_xcom(method, key, **more):
        """Stand in for Airflow's XCom."""

    trigger._call_xcom = call_xcom
    assert type(first_event(trigger)).__name__ == "TaskSuccessEvent"
    assert [entry.body["input"] for entry in responses_sandbox.ledger] == ["green for 1"]


def test_a_request_that_was_not_rendered_is_not_sent(responses_sandbox):
    trigger = revive(start_trigger(in_dag(input="{{ ds }}")), TaskInstance())
    trigger._is_rendered = False  # as after a change of its DAG to one that starts on a worker
    event = first_event(trigger)
    with pytest.raises(VersionMismatchError, match="were not rendered"):
        in_dag(input="hi").execute_complete(context(TaskInstance()), through_the_database(event.payload))
    assert not responses_sandbox.ledger
