"""The page "LLM spend" on a metadata database of MariaDB, whose connections execute one statement at a time."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from airflow.models import xcom
from airflow.models.dag import DagModel
from sqlalchemy.orm import Session

from airflow_provider_responses.plugins import access, metadata, web_app
from airflow_provider_responses.plugins.spend import Filters
from tests.parts import mariadb
from tests.plugins.seed import usage_of_request, uuid7

pytestmark = [pytest.mark.parts, pytest.mark.timeout(300)]

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
TABLES: tuple[Any, ...] = (metadata.TI, metadata.RUN, xcom.XComModel.__table__, DagModel.__table__)


class AuthManager:
    """Has the DAGs of the session, as that of the FAB provider, and asks the database for each of them."""

    def __init__(self, session: Session) -> None:
        self.session, self.asked = session, 0

    def get_authorized_dag_ids(self, *, session: Session, **_: Any) -> set[str]:
        return set(session.scalars(sa.select(DagModel.__table__.c.dag_id)))

    def is_authorized_dag(self, *, details: Any, **_: Any) -> bool:
        self.asked += 1
        table: Any = DagModel.__table__
        return self.session.scalar(sa.select(table.c.dag_id).where(table.c.dag_id == details.id)) is not None


@pytest.fixture
def session(mariadb_server: mariadb.MariaDb) -> Iterator[Session]:
    """A session with the columns of Airflow's tables that the page reads, and task instances of two DAGs."""
    with mariadb_server.connect().cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {', '.join(f'`{table.name}`' for table in TABLES)}")
        for table in TABLES:
            cursor.execute(f"CREATE TABLE `{table.name}` ({', '.join(map(column_of, table.c))})")
    engine = sa.create_engine(f"mysql+mysqldb://{mariadb.USER}@127.0.0.1:{mariadb_server.port}/{mariadb.DATABASE}")
    with Session(engine) as found:
        add_rows(found)
        yield found
        found.rollback()
        for table in TABLES:
            found.execute(sa.text(f"DROP TABLE `{table.name}`"))
    engine.dispose()


def column_of(column: Any) -> str:
    kinds = {
        "map_index": "INT",
        "dag_run_id": "INT",
        "try_number": "INT",
        "value": "LONGTEXT",
        "timestamp": "DATETIME(6)",
    }
    kind = kinds.get(column.name, "DATETIME(6)" if column.name.endswith("_date") else "VARCHAR(250)")
    return f"`{column.name}` {kind if not column.name.startswith('conf') else 'LONGTEXT'}"


def add_rows(session: Session) -> None:
    text = "INSERT INTO {} ({}) VALUES ({})"
    for dag_id in ("nightly", "weekly"):
        insert(session, text, "dag", dag_id=dag_id)
        for number in range(5):
            names = {"dag_id": dag_id, "task_id": "ask", "run_id": f"run_{number}", "map_index": -1}
            insert(
                session, text, "task_instance", **names, id=str(uuid7(NOW)), try_number=1, operator="ResponsesOperator"
            )
            value = json.dumps(usage_of_request(cost=0.25))
            insert(
                session,
                text,
                "xcom",
                **names,
                dag_run_id=1,
                key="usage",
                timestamp=NOW.replace(tzinfo=None),
                value=value,
            )
    session.commit()


def insert(session: Session, text: str, table: str, **values: Any) -> None:
    columns, marks = ", ".join(f"`{it}`" for it in values), ", ".join(f":{it}" for it in values)
    session.execute(sa.text(text.format(f"`{table}`", columns, marks)), values)


def test_rights_are_resolved_before_rows_are_fetched(session, monkeypatch):
    monkeypatch.setattr(metadata, "CHUNK", 2)  # so that rows are left when the first ones are fetched
    manager = AuthManager(session)
    monkeypatch.setattr(access, "get_auth_manager", lambda: manager)
    window = SimpleNamespace(
        times=(NOW - datetime.timedelta(days=1), NOW + datetime.timedelta(days=1)), filters=Filters()
    )
    reader = web_app._SpendReader(None, session, window)
    rows = list(reader.rows())
    assert sorted((row.dag_id, row.run_id) for row in rows) == sorted(
        (dag_id, f"run_{n}") for dag_id in ("nightly", "weekly") for n in range(5)
    )
    assert sum(row.parts[0].cost for row in rows) == 2.5
    assert manager.asked == 2
    assert reader.missing()["without_usage"] == 0
