"""The plugin as Airflow loads it, in each of its processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from airflow.providers.common.compat.version_compat import (
    AIRFLOW_V_3_0_PLUS,
    AIRFLOW_V_3_1_PLUS,
    AIRFLOW_V_3_4_PLUS,
)

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.plugins.plugin import TEMPLATE_FIELDS, ResponsesPlugin, _react_apps
from tests.plugins.conftest import row

ROOT = Path(__file__).resolve().parent.parent.parent
LIGHT = """
import json, sys, time
try:
    import airflow.sdk.plugins_manager
except ImportError:
    import airflow.plugins_manager
import airflow.configuration
import airflow.providers.common.compat.sdk as compat
compat.AirflowPlugin, compat.conf
before, began = set(sys.modules), time.process_time()
import airflow_provider_responses.plugins.plugin
seconds = time.process_time() - began
print(json.dumps({"new": sorted(set(sys.modules) - before), "seconds": seconds}))
"""
SERVED = """
import json
from airflow.api_fastapi.app import create_app
from starlette.testclient import TestClient

client = TestClient(create_app())
refused = client.get("/responses/api/spend")
token = client.post("/auth/token", json=dict(username="admin", password="admin"))
if token.status_code >= 300:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    access = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="ADMIN"))
else:
    access = token.json()["access_token"]
client.cookies.set("_token", access)
bearer = {"Authorization": f"Bearer {access}"}
plugins = client.get("/api/v2/plugins", headers=bearer).json()["plugins"]
print("FOUND" + json.dumps({
    "refused": refused.status_code,
    "spend": client.get("/responses/api/spend").json()["totals"],
    "plugins": [it for it in plugins if it["name"] == "airflow_provider_responses"],
}))
"""


def run(code, folder, **env):
    home = folder / "home"
    (home / "plugins").mkdir(parents=True, exist_ok=True)
    (home / "plugins" / "pages.py").write_text(
        "from airflow_provider_responses.plugins.plugin import ResponsesPlugin\n"
    )
    env = os.environ | {"AIRFLOW_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"} | env
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_module_is_light_in_every_process(tmp_path, record_property):
    found = json.loads(run(LIGHT, tmp_path).splitlines()[-1])
    heavy = {"fastapi", "sqlalchemy", "starlette", "pydantic", "httpx", "airflow.models"}
    assert not [it for it in found["new"] if it.split(".")[0] in heavy or it in heavy]
    assert not [it for it in found["new"] if it.startswith("airflow_provider_responses.") and ".plugins" not in it]
    assert found["seconds"] < 0.5
    record_property("counted", f"importing the plugin takes {found['seconds'] * 1000:.1f} ms")


def test_the_entry_point_names_it():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["airflow.plugins"]
    (path,) = declared.values()
    assert path == f"{ResponsesPlugin.__module__}:{ResponsesPlugin.__qualname__}"


def test_each_airflow_gets_the_parts_that_it_knows():
    names = [it["name"] for it in ResponsesPlugin.react_apps]
    assert [it["url_prefix"] for it in ResponsesPlugin.fastapi_apps] == (["/responses"] if AIRFLOW_V_3_0_PLUS else [])
    assert names == ["LLM spend"] * AIRFLOW_V_3_1_PLUS + ["Responses"] * AIRFLOW_V_3_4_PLUS


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow has React apps from 3.1 on")
def test_the_bundles_have_different_addresses_below_airflows_own(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://company.example/airflow/")
    found = [it["bundle_url"] for it in _react_apps()]
    assert all(it.startswith("/airflow/responses/static/responses.js?") for it in found)
    assert len(set(found)) == len(found)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://localhost:8080")
    assert _react_apps()[0]["bundle_url"].startswith("/responses/static/responses.js?")


def test_the_tab_is_for_our_operators_their_subclasses_and_decorators():
    from airflow_provider_responses.decorators.enrich import _ResponsesEnrichDecoratedOperator
    from airflow_provider_responses.decorators.responses import _ResponsesDecoratedOperator

    class Own(ResponsesOperator):
        template_fields = (*ResponsesOperator.template_fields, "more")

    ours = [ResponsesOperator, ResponsesEnrichOperator, Own]
    ours += [_ResponsesDecoratedOperator, _ResponsesEnrichDecoratedOperator]
    for kind in ours:
        assert set(TEMPLATE_FIELDS) & set(kind.template_fields)


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.1 is the first with the page")
def test_airflow_serves_the_app_and_lists_the_pages(airflow_db, database, tmp_path):
    database(row())
    output = run(
        SERVED,
        tmp_path,
        AIRFLOW__CORE__AUTH_MANAGER="airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
    )
    found = json.loads(output.rpartition("FOUND")[2].splitlines()[0])
    assert found["refused"] == 401
    assert found["spend"]["requests"] == 1
    (plugin,) = found["plugins"]
    assert [it["url_prefix"] for it in plugin["fastapi_apps"]] == ["/responses"]
    apps = {it["name"]: it for it in plugin["react_apps"]}
    assert apps["LLM spend"]["destination"] == "nav"
    assert ("Responses" in apps) == AIRFLOW_V_3_4_PLUS
    if AIRFLOW_V_3_4_PLUS:
        assert apps["Responses"]["destination"] == "task_instance"
        assert apps["Responses"]["url_route"] == "responses"
        assert apps["Responses"]["applies_to"] == {"task.template_fields": list(TEMPLATE_FIELDS)}


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow serves apps of plugins from 3.0 on")
class TestFiles:
    @pytest.fixture
    def files(self, tmp_path, monkeypatch):
        from airflow_provider_responses.plugins import web_app

        (tmp_path / "static").mkdir()
        for name in ("index.html", "responses.js", "page.css"):
            (tmp_path / "static" / name).write_text(f"the text of {name}")
        (tmp_path / "secret").write_text("secret")
        monkeypatch.setattr(web_app, "STATIC", tmp_path / "static")

    @pytest.mark.parametrize(
        ("path", "name", "media_type"),
        [
            ("spend", "index.html", "text/html"),
            ("task?dag_id=a", "index.html", "text/html"),
            ("static/responses.js?v=1&app=spend", "responses.js", "text/javascript"),
            ("static/page.css", "page.css", "text/css"),
        ],
    )
    def test_a_page_needs_no_login_and_may_load_nothing_from_elsewhere(self, files, anonymous, path, name, media_type):
        response = anonymous().get(f"/responses/{path}")
        assert response.status_code == 200
        assert response.text == f"the text of {name}"
        assert response.headers["content-type"].split(";")[0] == media_type
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-content-type-options"] == "nosniff"
        again = anonymous().get(f"/responses/{path}", headers={"If-None-Match": response.headers["etag"]})
        assert again.headers["etag"] == response.headers["etag"]

    @pytest.mark.parametrize("name", ["nothing.js", "..%2Fsecret", "%2e%2e/secret", "../secret", "", ".", "%00"])
    def test_no_other_file_is_served(self, files, anonymous, name):
        response = anonymous().get(f"/responses/static/{name}")
        assert response.status_code == 404
        assert "secret" not in response.text.replace("..%2Fsecret", "")

    def test_the_api_has_no_documentation_that_anyone_can_read(self, anonymous):
        for path in ("docs", "redoc", "openapi.json"):
            assert anonymous().get(f"/responses/{path}").status_code == 404
