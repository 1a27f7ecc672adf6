"""Values that a custom XCom backend has stored elsewhere are read by it, or reported."""

from __future__ import annotations

import json
import sys

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from tests.plugins.conftest import row
from tests.plugins.seed import usage_of_request

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.1 is the first with the page")

ELSEWHERE = {"stored://1": usage_of_request(cost=0.5), "stored://foreign": {"not": "ours"}}


def _backend(**methods):
    from airflow.sdk.bases.xcom import BaseXCom

    return type("Elsewhere", (BaseXCom,), {name: staticmethod(it) for name, it in methods.items()})


def _read(result):
    return ELSEWHERE[result.value]


@pytest.fixture
def backend(monkeypatch):
    """Configure a backend whose method reads a value."""

    def configure(read=_read):
        monkeypatch.setattr(sys.modules[__name__], "Elsewhere", _backend(deserialize_value=read), raising=False)
        monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", f"{__name__}.Elsewhere")

    return configure


def test_a_value_elsewhere_is_read_by_the_backend(database, spend, backend):
    backend()
    database(row(usage="stored://1"), row(run_id="small", usage=usage_of_request(cost=0.25)))
    found = spend()
    assert found["totals"]["cost"] == 0.75
    assert (found["missing"]["backend"], found["missing"]["unreadable"]) == ("Elsewhere", 0)


def test_the_backend_gets_the_value_as_the_database_has_it(database, spend, backend):
    asked = []
    backend(lambda result: asked.append((result.key, result.value)) or usage_of_request())
    database(row(usage="stored://1"))
    spend()
    assert asked == [("usage", "stored://1")]


def test_a_value_that_it_cannot_read_is_counted(database, spend, backend, caplog):
    backend()
    database(
        row(usage="stored://gone"),
        row(run_id="foreign", usage="stored://foreign"),
        row(run_id="other", usage="stored://gone", operator="PythonOperator", task_id="other"),
    )
    missing = spend()["missing"]
    assert (missing["unreadable"], missing["not_ours"], missing["without_usage"]) == (1, 2, 0)
    assert "Elsewhere cannot read a value: KeyError" in caplog.text
    assert "stored://gone" not in caplog.text


def test_a_slow_backend_is_not_waited_for_forever(database, spend, backend, monkeypatch):
    from airflow_provider_responses.plugins import xcom_backend

    backend()
    monkeypatch.setattr(xcom_backend, "SECONDS", -1.0)
    database(row(usage="stored://1"))
    assert spend()["missing"]["unreadable"] == 1


def test_a_backend_that_cannot_be_imported_is_reported(database, client, spend, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "nowhere.to.be.Found")
    database(row(usage="stored://1"), row(run_id="plain"))
    found = spend()
    assert (found["missing"]["backend"], found["missing"]["unreadable"]) == ("Found", 1)
    assert found["totals"]["requests"] == 1
    task = client.get("/responses/api/task", params={"dag_id": "nightly", "run_id": "run_1", "task_id": "ask"}).json()
    assert (task["usage"], task["missing"]) == (None, "unreadable")
    assert task["missing_detail"] == "Found cannot be imported: ModuleNotFoundError"


def test_a_backend_that_stores_values_as_airflow_does_is_not_reported(database, spend, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "Elsewhere", _backend(), raising=False)
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", f"{__name__}.Elsewhere")
    database(row())
    found = spend()
    assert (found["missing"]["backend"], found["totals"]["requests"]) == (None, 1)


def test_a_value_stored_as_text_with_json_is_read(database, spend):
    database(row(usage=json.dumps(usage_of_request(cost=0.5))))
    assert spend()["totals"]["cost"] == 0.5
