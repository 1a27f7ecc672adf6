"""The links of task instances, as Airflow's UI reads them after a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.sdk import BaseOperatorLink
from airflow.providers.common.compat.version_compat import (
    AIRFLOW_V_3_0_PLUS,
    AIRFLOW_V_3_1_PLUS,
    AIRFLOW_V_3_3_PLUS,
    AIRFLOW_V_3_4_PLUS,
)

from airflow_provider_responses.get_provider_info import get_provider_info
from airflow_provider_responses.links import task_instance
from airflow_provider_responses.links.task_instance import BatchLink, ResponseLink, ResultLink, push_result_link
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.task.web_pages import generation_page, task_page, task_tab
from tests.airflow_fakes import TaskInstance, context
from tests.conftest import DAGS, load_dag
from tests.execution_modes import performer
from tests.operators.enrichments import enrich
from tests.operators.one_request import ask

BASE = "https://airflow.example/prod"
HAS_PAGE = AIRFLOW_V_3_1_PLUS and not AIRFLOW_V_3_4_PLUS

needs_a_page = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="the plugin has pages from Airflow 3.1 on")

DAG = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

with DAG("linked", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    ResponsesOperator(task_id="worker", input="one", model="vendor/m")
    ResponsesOperator(task_id="deferred", input="two", model="vendor/m", deferrable=True)
    ResponsesOperator.partial(task_id="mapped", model="vendor/m").expand(input=["three", "four"])
    ResponsesOperator(task_id="fails", input="five", model="vendor/m", request={"max_output_tokens": 1})

    @task.responses(model="vendor/m")
    def decorated():
        return "six"

    @task.responses(model="vendor/m")
    def unsent():
        return 7

    decorated()
    unsent()
    shared = dict(source=[{"text": "a"}], model="vendor/m", input="{{ row.text }}")
    ResponsesEnrichOperator(task_id="label", output_path="FOLDER/live", **shared)
    ResponsesEnrichOperator(task_id="label_in_batch", output_path="FOLDER/batch", mode="batch", **shared)
    ResponsesEnrichOperator(
        task_id="label_fails", output_path="FOLDER/failed", **(shared | {"input": "{{ row.missing }}"})
    )
"""


DEFERRED = """
import datetime

from airflow.providers.common.compat.sdk import DAG
from airflow_provider_responses.operators.responses import ResponsesOperator

with DAG("linked", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    ResponsesOperator(task_id="deferred", input="two", model="vendor/m", deferrable=True)
"""


def serialized(dag: Any) -> Any:
    """Return a DAG as the server has it."""
    from airflow.serialization import serialized_objects

    serialization = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)
    return serialization.from_dict(serialization.to_dict(dag))


def shown_links(dag_id: str) -> dict[tuple[str, int], dict[str, str]]:
    """Return the links that are shown for the task instances of the latest run."""
    from airflow.models.taskinstance import TaskInstance as Row
    from airflow.utils.session import create_session
    from sqlalchemy import select

    dag, found = serialized(load_dag(DAGS / f"{dag_id}.py", dag_id)), {}
    with create_session() as session:
        for row in session.scalars(select(Row).where(Row.dag_id == dag_id)).all():
            task = dag.get_task(row.task_id)
            links = {name: task.get_extra_links(row, name) for name in task.extra_links}
            found[row.task_id, row.map_index] = {name: link for name, link in links.items() if link}
    return found


def key(task_id: str, map_index: int = -1, run_id: str = "scheduled__2026-01-01T00:00:00+00:00") -> Any:
    return SimpleNamespace(dag_id="linked", run_id=run_id, task_id=task_id, map_index=map_index, try_number=1)


@pytest.fixture
def base_url(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", BASE)
    return BASE


def own_page(task_id: str, map_index: int, link: str) -> None:
    """Check that a link opens the tab or the page of a task instance."""
    if AIRFLOW_V_3_4_PLUS:
        mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
        assert link.startswith(f"{BASE}/dags/linked/runs/")
        assert link.endswith(f"/tasks/{task_id}{mapped}/plugin/responses")
    else:
        assert link.startswith(f"{BASE}/responses/task?")
        fields = parse_qs(urlsplit(link).query)
        assert (fields["dag_id"], fields["task_id"]) == (["linked"], [task_id])
        assert fields.get("map_index", ["-1"]) == [str(map_index)]


def test_every_task_of_a_run_has_its_links_also_if_it_failed(
    run_dag, responses_sandbox, tmp_path, base_url, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL", "0.1")
    result = run_dag(DAG.replace("FOLDER", str(tmp_path)), "linked")
    links = shown_links("linked")
    assert {ti for ti, state in result.states.items() if state == "failed"} == {
        ("fails", -1),
        ("unsent", -1),
        ("label_fails", -1),
    }
    page = {"Responses"} if HAS_PAGE else set()
    for ti in (("worker", -1), ("deferred", -1), ("mapped", 0), ("mapped", 1), ("decorated", -1), ("fails", -1)):
        generation_id = result.xcom(ti[0], "usage", ti[1])["generation_id"]
        assert links[ti].pop("Response") == generation_page(generation_id)
        assert set(links[ti]) == page
    assert set(links["unsent", -1]) == ({"Response"} if AIRFLOW_V_3_4_PLUS else page)
    for task_id, names in {
        "label": {"Result"},
        "label_fails": {"Result"},
        "label_in_batch": {"Result", "Batch"},
    }.items():
        assert set(links[task_id, -1]) == (names if AIRFLOW_V_3_1_PLUS else set())
    for (task_id, map_index), others in links.items():
        for link in others.values():
            own_page(task_id, map_index, link)
    pushed = {name for _, _, name in result.xcoms if name.startswith("_link_")}
    of_enrichments = {"_link_ResultLink", "_link_BatchLink"} if AIRFLOW_V_3_1_PLUS else set()
    of_page = {"_link_ResponsesLink"} if HAS_PAGE else set()
    assert pushed == ({"_link_ResponseLink"} | of_enrichments | of_page if AIRFLOW_V_3_0_PLUS else set())


@needs_a_page
def test_airflow_stores_the_links_of_a_deferred_task_also_when_its_worker_defers_it(
    run_dag, responses_sandbox, base_url, monkeypatch
):
    """So a task that its trigger ends has a link, without one more XCom in the triggerer."""
    from airflow.sdk.execution_time import task_runner

    stored, store = [], task_runner._xcom_push_to_db

    def note(ti: Any, key: str, value: Any) -> None:
        stored.append((key, value))
        store(ti, key=key, value=value)

    monkeypatch.setattr(task_runner, "_xcom_push_to_db", note)
    run_dag(DEFERRED, "linked")
    first, second = (value for name, value in stored if name == "_link_ResponseLink")
    if AIRFLOW_V_3_4_PLUS:
        own_page("deferred", -1, first)
    else:
        assert first == ""
    assert second.startswith("https://openrouter.ai/logs?")
    for name, value in stored:
        if name == "_link_ResponsesLink":
            own_page("deferred", -1, value)
    assert len(stored) == (2 if AIRFLOW_V_3_4_PLUS else 4)


@needs_a_page
def test_a_task_that_is_deferred_has_its_link_before_it_ends(responses_sandbox, base_url):
    """Airflow 3 asks for the links also when a worker defers the task."""
    task = ask(deferrable=True)
    links = {link.name: link.get_link(task, ti_key=key("ask")) for link in task.operator_extra_links}
    own_page("ask", -1, links["Response" if AIRFLOW_V_3_4_PLUS else "Responses"])


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="before Airflow 3.3.1 no task starts in the triggerer")
def test_a_task_that_never_takes_a_worker_has_no_link(responses_sandbox, monkeypatch):
    """A third XCom would cost a triggerer about a fifth of the tasks that it ends in an hour."""
    ti = TaskInstance()
    perform = performer("started_in_triggerer", monkeypatch)
    perform(ask(), context(ti))
    assert set(ti.xcoms) == {"usage"}


@needs_a_page
def test_an_enrichment_shows_its_progress_by_a_link_while_it_runs(tmp_path, responses_sandbox, base_url, monkeypatch):
    seen = []
    environment = ResponsesEnrichOperator.environment
    ti = TaskInstance()
    monkeypatch.setattr(
        ResponsesEnrichOperator,
        "environment",
        lambda task, report: (seen.append(dict(ti.xcoms)), environment(task, report))[1],
    )
    enrich(tmp_path).execute(context(ti))
    assert seen == [{"_link_ResultLink": ResultLink().get_link(None, ti_key=ti)} if HAS_PAGE else {}]


@pytest.mark.skipif(not HAS_PAGE, reason="only Airflow 3.1 to 3.3 have the page without a tab")
def test_a_link_that_cannot_be_stored_fails_no_task(caplog):
    caplog.set_level("INFO")

    class Refuses(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            raise ConnectionError("no backend")

    push_result_link(SimpleNamespace(do_xcom_push=True), Refuses())
    assert "could not be stored: no backend" in caplog.text


def test_without_xcoms_no_link_is_pushed_while_a_task_runs(tmp_path, responses_sandbox):
    ti = TaskInstance()
    enrich(tmp_path, do_xcom_push=False).execute(context(ti))
    assert ti.xcoms == {}


@pytest.mark.parametrize("link", [ResponseLink, ResultLink, BatchLink])
def test_a_link_never_raises(link, monkeypatch):
    """Airflow 3.0 fails a task whose link raises."""
    monkeypatch.setattr(task_instance.conf, "get", lambda *_, **__: 1 / 0)

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert link().get_link(Broken(), ti_key=Broken()) == ""


def batches(*batch_ids, base_url, manifest=True):
    config = SimpleNamespace(for_call=lambda _: SimpleNamespace(base_url=base_url))
    return SimpleNamespace(
        enrichment=SimpleNamespace(
            manifest={"batches": [{"id": one} for one in batch_ids]} if manifest else None,
            running_batches=lambda: list(batch_ids),
            job=SimpleNamespace(config=config, options=None),
        )
    )


@needs_a_page
@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize(
    ("batch_ids", "base_url", "page"),
    [
        (["batch_1"], "https://api.openai.com/v1", "https://platform.openai.com/batches/batch_1"),
        (["batch_1", "batch_2"], "https://api.openai.com/v1", None),
        (["batch_1"], "https://openrouter.ai/api/v1", None),
        ([], "https://api.openai.com/v1", ""),
    ],
)
def test_one_batch_at_openai_has_its_page_and_others_the_tab(batch_ids, base_url, page, manifest, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", BASE)
    task = batches(*batch_ids, base_url=base_url, manifest=manifest)
    make = task_tab if AIRFLOW_V_3_4_PLUS else task_page
    ti = key("label")
    expected = make(BASE, ti.dag_id, ti.run_id, ti.task_id, ti.map_index) if page is None else page
    assert BatchLink().get_link(task, ti_key=ti) == expected


def test_airflow_2_knows_the_classes_of_all_links():
    """Its web server makes no other ones from a serialized DAG."""
    listed = get_provider_info()["extra-links"]
    assert listed == [
        f"airflow_provider_responses.links.task_instance.{name}"
        for name in ("ResponseLink", "ResponsesLink", "ResultLink", "BatchLink")
    ]
    assert {cls.__name__ for cls in BaseOperatorLink.__subclasses__() if cls.__module__ == task_instance.__name__} == {
        path.rpartition(".")[2] for path in listed
    }
