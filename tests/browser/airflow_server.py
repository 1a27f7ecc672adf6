"""Airflow's api-server on loopback, with a SQLite database that holds weeks of usage."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx

from tests.browser.auth_manager import HIDDEN, VISITOR, SomeDagsAuthManager
from tests.e2e.processes import Service, free_port, stop, tail
from tools.pictures.browser import Page

ROOT = Path(__file__).resolve().parents[2]
STARTS_WITHIN = 100.0  # seconds
TASK_INSTANCES = 10_000
ADMIN = "admin"
PASSWORDS = {ADMIN: "a", VISITOR: "v"}
UNPRICED = "open_model"  # a DAG of whose requests no cost is known
ENRICHMENT = ("product_catalog", "running", "describe")
SINGLE = (HIDDEN, "single", "summarize")
OTHER = ("plain", "single", "nothing")

DAGS = f'''
from airflow.sdk import DAG, task
from airflow.providers.common.compat.sdk import BaseOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

class NothingOperator(BaseOperator):
    def execute(self, context):
        pass

with DAG("{HIDDEN}", schedule=None):
    ResponsesOperator(task_id="triage", model="openai/gpt-4o-mini", input="-")

    @task.responses(model="openai/gpt-4o-mini")
    def summarize():
        return "-"

    summarize()

with DAG("plain", schedule=None):
    NothingOperator(task_id="nothing")
'''
PLUGIN = "from airflow_provider_responses.plugins.plugin import ResponsesPlugin as ResponsesPlugin\n"

SENDS = [
    {"cause": {"error": "RateLimitError", "status": 429}, "ambiguous": False, "wait": 2.5},
    {"cause": {"error": "ReadTimeoutError", "status": None}, "ambiguous": True, "wait": 4.0},
    {"cause": None, "ambiguous": False, "wait": None},
]


class Server:
    """An api-server that runs."""

    def __init__(self, address: str, tokens: dict[str, str]) -> None:
        self.address = address
        self.tokens = tokens

    def task_page(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the address of a task instance in Airflow's own pages."""
        return f"{self.address}/dags/{dag_id}/runs/{quote(run_id, safe='')}/tasks/{task_id}"

    def standalone(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the address of a task instance's page without Airflow's frame."""
        query = httpx.QueryParams(dag_id=dag_id, run_id=run_id, task_id=task_id)
        return f"{self.address}/responses/task?{query}"


@contextlib.contextmanager
def running(home: Path) -> Iterator[Server]:
    """Fill the database of this process' Airflow, and run an api-server on it."""
    env = os.environ | _settings() | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    (home / "dags" / "usage_of_models.py").write_text(DAGS)
    if not any(point.value.startswith("airflow_provider_responses") for point in _plugins()):
        (home / "plugins").mkdir(exist_ok=True)
        (home / "plugins" / "responses_plugin.py").write_text(PLUGIN)
    (home / "simple_auth_manager_passwords.json.generated").write_text(json.dumps(PASSWORDS))
    command = [sys.executable, "-m", "airflow"]
    done = subprocess.run(
        [*command, "dags", "reserialize"], env=env, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    fill()
    port = free_port()
    arguments = ("api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    log = home / "api-server.log"
    service = Service("api-server", [*command, *arguments], env=env, folder=home, log=log)
    try:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
            _wait_for(client, service)
            tokens = {name: _token(client, name, word) for name, word in PASSWORDS.items()}
        yield Server(address, tokens)
    finally:
        stop([service])


def log_in(tab: Page, airflow: Server, name: str) -> None:
    """Let the browser be logged in as a user."""
    tab.command("Network.clearBrowserCookies")
    tab.command("Network.setCookie", name="_token", value=airflow.tokens[name], url=airflow.address)


def fill() -> None:
    """Write the task instances that the tests are about."""
    from tests.plugins.seed import add_task_instances, seed, usage_of_request

    seed(TASK_INSTANCES)
    now = datetime.datetime.now(datetime.UTC)
    common = {"map_index": -1, "started": now - datetime.timedelta(minutes=3), "ended": now}

    def row(key: tuple[str, str, str], **values: Any) -> dict[str, Any]:
        return dict(zip(("dag_id", "run_id", "task_id"), key, strict=True)) | common | values

    usage = usage_of_request(
        cost=0.000031, cost_this_attempt=0.000031, sends=SENDS, ambiguous_sends=1, generation_id="gen-1790000000-abcDEF"
    )
    rows = [
        row(
            SINGLE,
            operator="_ResponsesDecoratedOperator",
            custom_operator_name="@task.responses",
            usage=usage,
            links=_links(SINGLE, usage["generation_id"]),
        ),
        row(OTHER, operator="NothingOperator", usage=None),
        row(ENRICHMENT, operator="ResponsesEnrichOperator", usage=None, state="running"),
    ]
    unpriced = usage_of_request(cost=None, cost_this_attempt=None)
    rows += [row((UNPRICED, f"run_{n}", "ask"), operator="ResponsesOperator", usage=unpriced) for n in range(40)]
    if has_states():
        rows[2] |= {"progress": PROGRESS}
    add_task_instances(rows)


def _links(key: tuple[str, str, str], generation_id: str) -> dict[str, str]:
    """Return the links of a task instance, as a worker stores them at the end of an attempt."""
    from airflow_provider_responses.links.task_instance import links_of_request

    ti_key = SimpleNamespace(**dict(zip(("dag_id", "run_id", "task_id"), key, strict=True)), map_index=-1)
    task = SimpleNamespace(_generation_id=generation_id)
    return {link.xcom_key: link.get_link(task, ti_key=ti_key) for link in links_of_request()}


PROGRESS = {
    "total": 10_000,
    "done": 4200,
    "left": 5800,
    "rate": 42.5,
    "seconds_left": 136.5,
    "cost": 0.26,
    "failed": 15,
    "failures": {"RateLimitError": 12, "InvalidOutputError": 3},
    "resent": 21,
    "in_flight": 64,
    "batches": [],
    "try_number": 1,
    "max_tries": 1,
}


def has_states() -> bool:
    """Return whether this Airflow has a task state store."""
    return importlib.util.find_spec("airflow.models.task_state_store") is not None


def _plugins() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group="airflow.plugins")


def _settings() -> dict[str, str]:
    settings = {
        "API__SECRET_KEY": secrets.token_hex(),
        "API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "CORE__AUTH_MANAGER": f"{SomeDagsAuthManager.__module__}.{SomeDagsAuthManager.__name__}",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin,{VISITOR}:viewer",
    }
    return {f"AIRFLOW__{name}": value for name, value in settings.items()}


def _wait_for(client: httpx.Client, service: Service) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while True:
        service.check()
        with contextlib.suppress(httpx.TransportError):
            if client.get("/api/v2/version").status_code == 200:
                return
        assert time.monotonic() < end, f"the api-server does not listen\n{tail(service.log)}"
        time.sleep(0.2)


def _token(client: httpx.Client, name: str, password: str) -> str:
    response = client.post("/auth/token", json={"username": name, "password": password})
    return str(response.raise_for_status().json()["access_token"])
