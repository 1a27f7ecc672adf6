"""The plugin's app in an API server without a process: a real database, Airflow's own login, and its auth manager."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

from tests.plugins.seed import add_task_instances, usage_of_request

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)

collect_ignore = [] if AIRFLOW_V_3_1_PLUS else ["test_api.py", "test_task_api.py", "test_rights.py"]


def row(**changes: Any) -> dict[str, Any]:
    """Return a task instance with a ``usage``."""
    return {
        "dag_id": "nightly",
        "task_id": "ask",
        "run_id": "run_1",
        "map_index": -1,
        "operator": "ResponsesOperator",
        "started": NOW - datetime.timedelta(minutes=3),
        "ended": NOW - datetime.timedelta(minutes=2),
        "usage": usage_of_request(),
    } | changes


@pytest.fixture(scope="session")
def parent(airflow_db: None) -> Any:
    """An app with the plugin's, as Airflow mounts it."""
    import os

    from airflow.api_fastapi.app import init_auth_manager
    from fastapi import FastAPI

    from airflow_provider_responses.plugins.plugin import ResponsesPlugin

    os.environ |= {
        "AIRFLOW__CORE__AUTH_MANAGER": "tests.plugins.auth.AuthManagerOfTests",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the tests, as long as the algorithm wants a secret: 64 bytes",
    }
    app = FastAPI(root_path="/airflow")
    init_auth_manager(app)
    for it in ResponsesPlugin.fastapi_apps:
        app.mount(it["url_prefix"], it["app"])
    return app


def delete_runs() -> None:
    """Delete all DAG runs: other tests use the same database."""
    from airflow.models import xcom
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    of_xcoms = [xcom.XComModelV2, xcom.XComModelV1] if AIRFLOW_V_3_4_PLUS else [xcom.XComModel]
    models: list[Any] = [*of_xcoms, TaskInstance, DagRun]
    if AIRFLOW_V_3_3_PLUS:
        from airflow.models.task_state_store import TaskStateStoreModel

        models.insert(0, TaskStateStoreModel)
    with create_session() as session:
        for model in models:
            session.execute(model.__table__.delete())
    # Without its runs, a DAG that changes keeps its version, by which the API server of `dag.test()` caches DAGs.
    from airflow.sdk.execution_time import supervisor

    supervisor.in_process_api_server.cache_clear()


@pytest.fixture
def database(airflow_db: None) -> Iterator[Callable[..., None]]:
    """Add task instances; they are deleted after the test."""
    delete_runs()
    yield lambda *rows: add_task_instances(rows)
    delete_runs()


@pytest.fixture
def anonymous(parent: Any) -> Callable[[], Any]:
    """Return a client that is not logged in."""
    from starlette.testclient import TestClient

    return lambda: TestClient(parent, base_url="http://testserver/airflow")


@pytest.fixture
def login(anonymous: Callable[[], Any]) -> Callable[..., Any]:
    """Return a client that is logged in as a user with a role."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    def client(role: str | None = "VIEWER", username: str = "someone") -> Any:
        found = anonymous()
        user = SimpleAuthManagerUser(username=username, role=role)
        found.cookies.set("_token", get_auth_manager().generate_jwt(user))
        return found

    return client


@pytest.fixture
def client(login: Callable[..., Any]) -> Any:
    """A client that is logged in and may read all."""
    return login()


@pytest.fixture
def spend(client: Any) -> Callable[..., dict[str, Any]]:
    """Return the sums of a window."""

    def get(**params: Any) -> dict[str, Any]:
        response = client.get("/responses/api/spend", params=params)
        assert response.status_code == 200, response.text
        return dict(response.json())

    return get


@pytest.fixture
def rights(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """What each user may read: DAGs by `dag`, their XComs by `xcom`, and their task instances by `task_instance`."""
    from tests.plugins.auth import AuthManagerOfTests

    found: dict[str, set[str]] = {"dag": set(), "xcom": set(), "task_instance": set()}
    monkeypatch.setattr(AuthManagerOfTests, "rights", found)
    return found
