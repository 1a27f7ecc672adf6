"""The provider in Airflow: its info, its connection form, its commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import airflow
import jsonschema
import pytest

import airflow_provider_responses
from airflow_provider_responses.get_provider_info import get_provider_info
from airflow_provider_responses.hooks.responses import ResponsesHook
from tests.airflow_commands import run_airflow

INFO = get_provider_info()


def test_the_version_is_that_of_the_distribution():
    assert metadata.version("airflow-provider-responses") == airflow_provider_responses.__version__


def test_the_info_is_valid_by_airflows_own_schema():
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_every_name_in_the_info_can_be_imported():
    modules = [
        name for kind in ("hooks", "operators", "triggers") for entry in INFO[kind] for name in entry["python-modules"]
    ]
    classes = [entry["class-name"] for entry in INFO["task-decorators"]]
    classes += [entry["hook-class-name"] for entry in INFO["connection-types"]]
    assert all(import_module(name) for name in modules)
    for path in classes:
        module, _, name = path.rpartition(".")
        assert getattr(import_module(module), name)


def test_the_adapter_for_common_ai_is_declared_and_only_that_provider_imports_it():
    (entry,) = metadata.distribution("airflow-provider-responses").entry_points.select(
        group="airflow.providers.common.ai.batch_adapters"
    )
    assert (entry.name, entry.attr) == ("openrouter", "OpenRouterBatchAdapter")
    folder = Path(airflow_provider_responses.__file__).parent
    assert (folder.parent / f"{entry.module.replace('.', '/')}.py").exists()
    name = entry.module.rpartition(".")[2]
    assert [path.name for path in folder.rglob("*.py") if name in path.read_text()] == []


def test_the_hook_and_the_info_agree():
    (connection_type,) = INFO["connection-types"]
    assert connection_type["connection-type"] == ResponsesHook.conn_type
    assert connection_type["hook-name"] == ResponsesHook.hook_name
    assert ResponsesHook.get_ui_field_behaviour() == {
        "hidden_fields": ["schema", "login", "port"],
        "relabeling": {"host": "Base URL", "password": "API key"},
        "placeholders": connection_type["ui-field-behaviour"]["placeholders"],
    }


def test_the_form_of_airflow_2_has_every_field():
    """2.11 reads the widgets; later versions read the info, and do not have these libraries."""
    pytest.importorskip("flask_appbuilder", reason="Airflow 3 builds its form from the provider's info")
    widgets = ResponsesHook.get_connection_form_widgets()
    assert set(widgets) == set(INFO["connection-types"][0]["conn-fields"])


def test_airflow_lists_the_provider_and_its_connection_type(airflow_db):
    printed = run_airflow(["providers", "list"], ["providers", "hooks"])
    assert "airflow-provider-responses" in printed
    assert "airflow_provider_responses.hooks.responses.ResponsesHook" in printed


def test_airflow_adds_and_tests_a_connection(airflow_db, responses_sandbox, monkeypatch):
    fields = responses_sandbox.connection
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    printed = run_airflow(
        [
            *("connections", "add", "mine", "--conn-type", "responses"),
            *("--conn-host", fields["host"], "--conn-password", fields["password"]),
            *("--conn-extra", json.dumps(fields["extra"])),
        ],
        ["connections", "test", "mine"],
    )
    assert "Connection success" in printed


# In a process of its own: Airflow caches the info of the providers, and up to 3.1 only the API server reads the forms.
READ_FORM = """
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

(hook,) = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "responses"]
print(hook.model_dump_json())
"""


@pytest.mark.skipif(int(airflow.__version__.split(".")[0]) < 3, reason="Airflow 2 has no such service")
def test_the_connection_form_of_the_ui(airflow_db):
    """Airflow 3.2 and later build the form from the info alone."""
    command = [sys.executable, "-c", READ_FORM]
    printed = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=True).stdout
    hook = json.loads(printed.splitlines()[-1])
    assert hook["hook_name"] == "Responses API (OpenRouter)"
    assert set(hook["extra_fields"]) == set(INFO["connection-types"][0]["conn-fields"])
    assert hook["standard_fields"]["password"]["title"] == "API key"
    assert hook["standard_fields"]["url_schema"]["hidden"] is True
