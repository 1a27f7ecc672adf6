"""When a task runs, it logs warnings about an output path that another worker would not find."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_responses.operators.output_path_warnings import _warnings
from tests.airflow_fakes import context
from tests.enrich.jobs import stored
from tests.operators.enrichments import enrich

CELERY = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"


def set_executor(monkeypatch, executor):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)


@pytest.mark.parametrize("given", ["out", "./out", "a/../out", Path("out")])
def test_a_relative_path_is_warned_about(given, monkeypatch, tmp_path):
    set_executor(monkeypatch, "LocalExecutor")
    monkeypatch.chdir(tmp_path)
    (warning,) = _warnings(given, None)
    assert warning.startswith(f"output_path {str(given)!r} is relative: it is '{tmp_path / 'out'}' here, and another ")


@pytest.mark.parametrize("given", ["/data/out", "~/out", "file:///data/out", Path("/data/out")])
def test_an_absolute_path_is_not_warned_about(given, monkeypatch):
    set_executor(monkeypatch, "LocalExecutor")
    assert list(_warnings(given, None)) == []


@pytest.mark.parametrize(
    ("executor", "own", "name"),
    [
        ("CeleryExecutor", None, "CeleryExecutor"),
        (CELERY, None, "CeleryExecutor"),
        (f"many:{CELERY}", None, "CeleryExecutor"),
        ("KubernetesExecutor, LocalExecutor", None, "KubernetesExecutor"),
        (f"LocalExecutor,many:{CELERY}", "many", "CeleryExecutor"),
        (f"LocalExecutor,{CELERY}", CELERY, "CeleryExecutor"),
        ("LocalExecutor;team=CeleryExecutor", "CeleryExecutor", "CeleryExecutor"),
        ("team=CeleryExecutor", None, "CeleryExecutor"),
    ],
)
def test_a_local_path_is_warned_about_with_an_executor_of_many_machines(executor, own, name, monkeypatch):
    set_executor(monkeypatch, executor)
    (warning,) = _warnings("/data/out", own)
    assert warning.startswith(f"output_path '/data/out' is on this worker's disk, and {name} may run the next attempt ")


@pytest.mark.parametrize(
    ("executor", "own"),
    [
        ("LocalExecutor", None),
        ("SequentialExecutor", None),
        ("airflow.executors.local_executor.LocalExecutor", None),
        (f"LocalExecutor,{CELERY}", None),
        (f"{CELERY},here:LocalExecutor", "here"),
        (CELERY, "LocalExecutor"),
    ],
)
def test_a_local_path_is_not_warned_about_with_an_executor_of_one_machine(executor, own, monkeypatch):
    set_executor(monkeypatch, executor)
    assert list(_warnings("/data/out", own)) == []


@pytest.mark.filterwarnings("ignore:in a future version of UPath:PendingDeprecationWarning")  # of Airflow 2.11's
def test_a_path_of_an_object_store_is_not_warned_about(monkeypatch):
    set_executor(monkeypatch, "CeleryExecutor")
    path = stored("somewhere") / "out"
    assert list(_warnings(path, None)) == list(_warnings(str(path), None)) == []
    assert list(_warnings(ObjectStoragePath("file:///data/out"), None))


def test_a_task_logs_both_warnings(tmp_path, responses_sandbox, monkeypatch, caplog):
    set_executor(monkeypatch, "CeleryExecutor")
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert enrich(tmp_path, output_path="out").execute(context())["complete"]
    relative, local = caplog.messages
    assert "is relative" in relative
    assert "CeleryExecutor may run the next attempt on another" in local
