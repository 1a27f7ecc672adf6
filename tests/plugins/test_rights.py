"""A user sees the DAGs whose XComs the auth manager lets them read, and nothing of any other."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from tests.plugins.conftest import row
from tests.plugins.seed import usage_of_request

TASK = {"run_id": "run_1", "task_id": "ask"}
PATHS = ["/responses/api/spend", "/responses/api/spend.csv", "/responses/api/task?dag_id=a&run_id=b&task_id=c"]


@pytest.mark.parametrize("path", PATHS)
def test_who_is_not_logged_in_is_refused(database, anonymous, path):
    response = anonymous().get(path)
    assert response.status_code == 401
    assert response.json()["detail"] == "Not authenticated"


@pytest.mark.parametrize("path", PATHS)
def test_a_forged_login_is_refused(database, anonymous, path):
    forged = anonymous()
    forged.cookies.set("_token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.")
    assert forged.get(path).status_code in {401, 403}


def test_a_bearer_token_is_a_login_too(database, anonymous, login):
    token = login().cookies["_token"]
    response = anonymous().get(PATHS[0], headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_can_be_written(database, client, method):
    for path in (*PATHS, "/responses/spend"):
        assert getattr(client, method)(path).status_code == 405


class TestRoles:
    @pytest.mark.parametrize("role", ["VIEWER", "USER", "ADMIN"])
    def test_who_may_read_dags_sees_all(self, database, login, role):
        database(row())
        assert login(role).get("/responses/api/spend").json()["totals"]["requests"] == 1

    def test_who_may_read_none_sees_nothing(self, database, login):
        database(row(), row(dag_id="other", usage={"not": "ours"}), row(dag_id="third", usage=None))
        client = login(None)
        found = client.get("/responses/api/spend").json()
        assert found["totals"]["requests"] == 0
        assert found["choices"] == {"dags": [], "tasks": [], "models": []}
        assert (found["missing"]["not_ours"], found["missing"]["without_usage"]) == (0, 0)
        assert len(client.get("/responses/api/spend.csv").text.splitlines()) == 1


class TestDags:
    @pytest.fixture(autouse=True)
    def _rows(self, database):
        for dag_id in ("open", "no_xcoms", "no_dag", "neither", "no_instances"):
            database(
                row(dag_id=dag_id, usage=usage_of_request(model=f"model-of-{dag_id}")),
                row(dag_id=dag_id, run_id="foreign", usage="foreign"),
                row(dag_id=dag_id, run_id="cleared", usage=None),
            )

    def test_a_dag_counts_if_it_and_its_xcoms_may_be_read(self, client, rights):
        rights["dag"] |= {"open", "no_xcoms"}
        rights["xcom"] |= {"open", "no_dag"}
        rights["task_instance"] |= {"open", "no_xcoms", "no_dag"}
        response = client.get("/responses/api/spend")
        found = response.json()
        assert found["totals"]["requests"] == 1
        assert found["choices"] == {"dags": ["open"], "tasks": [["open", "ask"]], "models": ["model-of-open"]}
        assert (found["missing"]["not_ours"], found["missing"]["without_usage"]) == (1, 1)
        table = client.get("/responses/api/spend.csv").text
        for hidden in ("no_xcoms", "no_dag", "neither"):
            assert hidden not in response.text
            assert hidden not in table

    def test_task_instances_without_usage_are_counted_if_they_may_be_read(self, client, rights):
        rights["dag"] |= {"open", "no_instances"}
        rights["xcom"] |= {"open", "no_instances"}
        rights["task_instance"] |= {"open"}
        found = client.get("/responses/api/spend").json()
        assert found["totals"]["requests"] == 2
        assert found["missing"]["without_usage"] == 1

    def test_the_auth_manager_is_not_asked_while_rows_are_read(self, client, monkeypatch):
        # MySQL permits no statement beside an open server-side cursor, and the auth manager has the same session.
        from airflow_provider_responses.plugins import metadata
        from tests.plugins.auth import AuthManagerOfTests

        reading, asked, read_usages = [], [], metadata.read_usages

        def rows(*args):
            reading.append(True)
            yield from read_usages(*args)
            reading.clear()

        def recorded(name):
            method = getattr(AuthManagerOfTests, name)

            def call(self, **kwargs):
                asked.append(bool(reading))
                return method(self, **kwargs)

            return call

        monkeypatch.setattr(metadata, "read_usages", rows)
        for name in ("is_authorized_dag", "get_authorized_dag_ids"):
            monkeypatch.setattr(AuthManagerOfTests, name, recorded(name))
        for path in PATHS[:2]:
            assert client.get(path).status_code == 200
        assert len(asked) > 2
        assert not any(asked)

    def test_a_filter_shows_nothing_of_a_dag_that_may_not_be_read(self, client, rights):
        for it in rights.values():
            it.add("open")
        for filters in ({"dag_id": "neither"}, {"model": "model-of-neither"}, {"dag_id": "nowhere"}):
            found = client.get("/responses/api/spend", params=filters).json()
            assert found["totals"]["task_instances"] == 0
            assert (found["missing"]["not_ours"], found["missing"]["without_usage"]) in {(0, 0), (1, 1)}
            assert found["choices"]["dags"] == ["open"]

    def test_what_may_not_be_read_looks_like_what_does_not_exist(self, client, rights):
        rights["dag"] |= {"open", "no_xcoms", "no_instances"}
        rights["xcom"] |= {"open", "no_dag", "no_instances"}
        rights["task_instance"] |= {"open", "no_dag", "no_xcoms"}
        assert client.get("/responses/api/task", params={"dag_id": "open", **TASK}).status_code == 200
        answers = [
            client.get("/responses/api/task", params={"dag_id": dag_id, **TASK})
            for dag_id in ("no_xcoms", "no_dag", "no_instances", "neither", "nowhere")
        ]
        answers.append(client.get("/responses/api/task", params={"dag_id": "open", **TASK, "run_id": "nowhere"}))
        assert {it.status_code for it in answers} == {404}
        assert len({it.text for it in answers}) == 1


@pytest.mark.skipif(not AIRFLOW_V_3_2_PLUS, reason="Airflow has teams from 3.2 on")
def test_the_auth_manager_is_asked_with_the_team_of_a_dag(database, client, monkeypatch):
    from airflow.models.dag import DagModel

    from tests.plugins.auth import AuthManagerOfTests

    asked = set()

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        asked.add((details.id, details.team_name, access_entity and access_entity.value))
        return True

    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    monkeypatch.setattr(AuthManagerOfTests, "is_authorized_dag", is_authorized_dag)
    monkeypatch.setattr(AuthManagerOfTests, "get_authorized_dag_ids", lambda *_, **__: {"of_a_team", "of_none"})
    teams = {"of_a_team": "blue", "of_none": None}
    monkeypatch.setattr(DagModel, "get_dag_id_to_team_name_mapping", staticmethod(lambda *_, **__: teams))
    monkeypatch.setattr(DagModel, "get_team_name", staticmethod(lambda dag_id, **_: teams[dag_id]))
    database(row(dag_id="of_a_team"), row(dag_id="of_none"))
    assert client.get("/responses/api/spend").json()["totals"]["requests"] == 2
    assert asked == {("of_a_team", "blue", "XCOM"), ("of_none", None, "XCOM")}  # no task instance is without usage
    assert client.get("/responses/api/task", params={"dag_id": "of_a_team", **TASK}).status_code == 200
    assert {("of_a_team", "blue", None), ("of_a_team", "blue", "TASK_INSTANCE")} <= asked
