"""The table of what is seen where is that of the documentation, and true on this version of Airflow."""

from __future__ import annotations

import ast
import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple
from opentelemetry import trace

from airflow_provider_responses.hooks import telemetry
from airflow_provider_responses.operators.progress_report import STATE_KEY
from tests.conftest import ROOT, version_of_airflow
from tests.links.test_task_instance import shown_links
from tests.observability import seen_where
from tests.observability.seen_where import BY_MODE, BY_VERSION, MODES, VERSIONS, as_markdown, needed_tests
from tests.observability.test_log_groups import folded
from tests.observability.test_metrics import FakeStats
from tests.operators.test_log_line import LINE

PAGE = (ROOT / "docs" / "observability.md").read_text()
VERSION = version_of_airflow()

DAG = """
import datetime

from airflow.providers.common.compat.sdk import DAG, Asset
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

with DAG("seen", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    ResponsesOperator(task_id="worker", input="one", model="vendor/m")
    ResponsesOperator(task_id="deferred", input="two", model="vendor/m", deferrable=True)
    ResponsesOperator(task_id="fails", input="three", model="vendor/m", request={"max_output_tokens": 1})
    ResponsesOperator(task_id="unsent", input="four", model="vendor/m", request={"temperature": "{{ 'warm' }}"})
    ResponsesEnrichOperator(
        task_id="label",
        source=[{"text": f"row {n}"} for n in range(5)],
        input="{{ row.text }}",
        model="vendor/m",
        output_path="FOLDER/live",
        outlets=[Asset("labels")],
    )
    ResponsesEnrichOperator(
        task_id="batch",
        source=[{"text": "a"}],
        input="{{ row.text }}",
        model="vendor/m",
        mode="batch",
        deferrable=False,
        output_path="FOLDER/batch",
        outlets=[Asset("batched")],
    )
"""


@pytest.fixture
def observed(run_dag, responses_sandbox, tmp_path, monkeypatch, task_log, spans) -> Any:
    """A DAG run, and all that it leaves."""
    from airflow.providers.common.compat.sdk import Stats

    stats, gauges, gauge = FakeStats(), set(), Stats.gauge
    monkeypatch.setattr(telemetry, "_task_stats", lambda: stats)

    def count(name: str, *args: Any, **kwargs: Any) -> None:
        gauges.add(name)
        gauge(name, *args, **kwargs)

    monkeypatch.setattr(Stats, "gauge", count)
    monkeypatch.setenv("AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL", "0.1")
    if VERSION in {"2.11", "3.0"}:
        store_assets("labels", "batched")
    with trace.get_tracer("test").start_as_current_span("dag.test"):
        result = run_dag(DAG.replace("FOLDER", str(tmp_path)), "seen")
    assert {task for (task, _), state in result.states.items() if state == "failed"} == {"fails", "unsent"}
    return SimpleNamespace(
        result=result,
        links={task: links for (task, _), links in shown_links("seen").items()},
        lines=[record.getMessage() for record in task_log.records],
        groups=folded([(it.levelno, it.getMessage()) for it in task_log.records if not is_group_of_airflow(it)]),
        spans=[span.name for span in spans.ours],
        metrics=set(stats.counts) | set(stats.times),
        gauges=gauges,
    )


def is_group_of_airflow(record: logging.LogRecord) -> bool:
    """Whether it is a line of a group that Airflow makes before and after a task."""
    return "group::" in record.getMessage() and not record.name.startswith("airflow_provider_responses.")


def store_assets(*names: str) -> None:
    """Store the assets, as Airflow's DAG processor does, and `dag.test()` of older versions does not."""
    from airflow.utils.session import create_session

    try:
        from airflow.models.asset import AssetActive, AssetModel
    except ImportError:
        from airflow.models.dataset import DatasetModel

        made: list[Any] = [DatasetModel(uri=name) for name in names]
    else:
        made = [
            cls(name=name, uri=name, **more)
            for name in names
            for cls, more in ((AssetModel, {"group": "asset"}), (AssetActive, {}))
        ]
    with create_session() as session:
        for row in made:
            session.add(row)
            session.flush()


def rows(query: Any) -> list[Any]:
    from airflow.utils.session import create_session

    with create_session() as session:
        return list(session.scalars(query).all())


def response_link(seen: Any) -> str:
    assert seen.links["worker"]["Response"].startswith("https://openrouter.ai/logs?generation_id=gen-")
    other = seen.links["unsent"].get("Response")
    assert other is None or other.endswith("/plugin/responses")
    return "generation" if other is None else "generation, otherwise the tab"


def responses_link(seen: Any) -> str:
    found = {links.get("Responses", "").partition("?")[0] for task, links in seen.links.items() if task == "worker"}
    return {"": "—", "/responses/task": "page"}[found.pop()]


def links_of_enrichments(seen: Any) -> str:
    links = [seen.links["label"].get("Result"), seen.links["batch"].get("Result"), seen.links["batch"].get("Batch")]
    if links == [None] * 3:
        return "—"
    if all(link.startswith("/responses/task?") for link in links):
        return "page, also while it runs"
    assert all(link.endswith("/plugin/responses") for link in links)
    return "tab"


def stored_progress(seen: Any) -> str:
    try:
        from airflow.models.task_state_store import TaskStateStoreModel as Store
    except ImportError:
        return "—"
    from sqlalchemy import select

    stored = rows(select(Store).where(Store.dag_id == "seen", Store.key == STATE_KEY))
    return "yes" if {row.task_id for row in stored} == {"label", "batch"} else "—"


def asset_extra(seen: Any) -> str:
    try:
        from airflow.models.asset import AssetEvent as Event
    except ImportError:
        from airflow.models.dataset import DatasetEvent as Event
    from sqlalchemy import select

    extras = {row.source_task_id: row.extra for row in rows(select(Event).where(Event.source_dag_id == "seen"))}
    assert set(extras) == {"label", "batch"}
    return "yes" if all(extra.get("rows") and extra.get("cost") for extra in extras.values()) else "—"


def groups(seen: Any) -> str:
    found = {group.partition(" (")[0] for group, _, _ in seen.groups if group}
    return "yes" if {"Sending requests", "Waiting for batches"} <= found else "—"


REQUESTS = ("worker", "deferred", "fails", "unsent")
TABLES = ("label", "batch")
OBSERVE = {
    "XCom `usage`, also of an attempt that fails": lambda seen: (
        "yes"
        if {task for task, _, key in seen.result.xcoms if key == "usage"} == {*REQUESTS, "label", "batch"}
        else "—"
    ),
    'link "Response"': response_link,
    'link "Responses"': responses_link,
    'links "Result" and "Batch" of an enrichment': links_of_enrichments,
    "progress of an enrichment in the task state store": stored_progress,
    "progress as metrics": lambda seen: "yes" if "responses.enrich.done" in seen.gauges else "—",
    "`rows` and `cost` in the `extra` of asset events": asset_extra,
    "log: one line per response": lambda seen: (
        "yes" if sum(bool(LINE.fullmatch(line)) for line in seen.lines) == 3 else "—"
    ),
    "log: groups that the UI folds": groups,
    "spans of requests and enrichments": lambda seen: (
        "yes"
        if sorted(seen.spans) == ["chat vendor/m"] * 3 + ["invoke_workflow batch"] * 2 + ["invoke_workflow label"]
        else "—"
    ),
    "metrics of requests": lambda seen: "yes" if "responses.requests" in seen.metrics else "—",
}


def test_a_dag_run_shows_what_the_table_states(observed):
    found = {row: observe(observed) for row, observe in OBSERVE.items()}
    assert found == {row: BY_VERSION[row][VERSION].text for row in OBSERVE}


@pytest.mark.parametrize(
    ("first", "columns", "table"),
    [("on Airflow", VERSIONS, BY_VERSION), ("of a request, if its task", MODES, BY_MODE)],
)
def test_the_page_has_the_table(first, columns, table):
    assert as_markdown(first, columns, table) in PAGE


def test_the_versions_are_those_that_are_tested():
    makefile = (ROOT / "Makefile").read_text()
    names = (re.search(rf"^{name} := (.+)$", makefile, re.MULTILINE) for name in ("OLDER", "AIRFLOW", "NEWER"))
    assert tuple(" ".join(found[1] for found in names if found).split()) == VERSIONS
    assert ".".join(map(str, get_base_airflow_version_tuple()[:2])) == VERSION


@pytest.mark.parametrize("version", VERSIONS)
def test_each_cell_has_a_test_that_runs_on_its_version(version):
    assert all(row[version].tests for row in BY_VERSION.values())
    assert all(row[mode].tests for row in BY_MODE.values() for mode in MODES)
    skipped = folders_skipped(version)
    for test in needed_tests(version):
        path, *names = test.split("::")
        assert path.split("/")[1] not in skipped, test
        assert defines(path, names), f"{test} does not exist"


def folders_skipped(version: str) -> list[str]:
    """Return the folders of the tests that CI leaves out on a version."""
    script = (ROOT / ".ci" / "run").read_text()
    named = re.search(rf'^step test-{re.escape(version)} .* SKIP="([^"]*)"', script, re.MULTILINE)
    listed = re.search(r'^for version in ([\d. ]+); do\n.*SKIP="([^"]*)"', script, re.MULTILINE)
    assert listed
    if named:
        return named[1].split()
    return listed[2].split() if version in listed[1].split() else []


def defines(path: str, names: list[str]) -> bool:
    """Whether a file defines a class, or a function of a class or the file."""
    nodes: list[Any] = ast.parse((ROOT / path).read_text()).body
    for name in names:
        found = [it for it in nodes if isinstance(it, (ast.ClassDef, ast.FunctionDef)) and it.name == name]
        if not found:
            return False
        nodes = getattr(found[0], "body", [])
    return True


def test_a_test_that_does_not_exist_is_noticed():
    path = "tests/observability/test_seen_where.py"
    assert defines(path, ["test_the_page_has_the_table"])
    assert not defines(path, ["test_nothing"])
    assert not defines(path, ["TestNothing", "test_the_page_has_the_table"])


def test_the_tests_of_cells_are_known_by_their_ids():
    from tests.conftest import is_needed

    needed = next(iter(needed_tests(VERSION)))
    assert is_needed(f"{needed}[worker]", VERSION)
    assert is_needed(f"{seen_where.USAGE}::TestSends::test_any", VERSION)
    assert not is_needed("tests/observability/test_seen_where.py::test_nothing", VERSION)
