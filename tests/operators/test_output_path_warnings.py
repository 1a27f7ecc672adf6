"""Output paths that another worker would not find are warned about when the task runs."""

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


def configured(monkeypatch, executor):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)


@pytest.mark.parametrize("given", ["out", "./out", "a/../out", Path("out")])
def test_a_relative_one(given, monkeypatch, tmp_path):
    configured(monkeypatch, "LocalExecutor")
    monkeypatch.chdir(tmp_path)
    (warning,) = _warnings(given, None)
    assert warning.startswith(f"output_path {str(given)!r} is relative: it is '{tmp_path / 'out'}' here, and another ")


@pytest.mark.parametrize("given", ["/data/out", "~/out", "file:///data/out", Path("/data/out")])
def test_an_absolute_one(given, monkeypatch):
    configured(monkeypatch, "LocalExecutor")
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
def test_a_local_one_on_an_executor_with_many_workers(executor, own, name, monkeypatch):
    configured(monkeypatch, executor)
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
def test_a_local_one_on_one_machine(executor, own, monkeypatch):
    configured(monkeypatch, executor)
    assert list(_warnings("/data/out", own)) == []


@pytest.mark.filterwarnings("ignore:in a future version of UPath:PendingDeprecationWarning")  # of Airflow 2.11's
def test_one_of_a_store(monkeypatch):
    configured(monkeypatch, "CeleryExecutor")
    path = stored("somewhere") / "out"
    assert list(_warnings(path, None)) == list(_warnings(str(path), None)) == []
    assert list(_warnings(ObjectStoragePath("file:///data/out"), None))


def test_a_task_logs_both(tmp_path, responses_sandbox, monkeypatch, caplog):
    configured(monkeypatch, "CeleryExecutor")
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert enrich(tmp_path, output_path="out").execute(context())["complete"]
    relative, local = caplog.messages
    assert "is relative" in relative
    assert "CeleryExecutor may run the next attempt on another" in local
