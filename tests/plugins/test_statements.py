"""The statements in the SQL of each database that Airflow supports: SQLite is tested by all others."""

from __future__ import annotations

import datetime
import re

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.1 is the first with the page")

START = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
WINDOW = (START, START + datetime.timedelta(days=30))


class Recorder:
    """Stands in for a session: compiles statements, and finds nothing."""

    def __init__(self, dialect):
        self.dialect, self.statements = dialect, []

    def execute(self, statement):
        self.statements.append(str(statement.compile(dialect=self.dialect)))
        return []

    def scalar(self, statement):
        self.execute(statement)


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql"])
def test_they_are_plain_and_begin_with_a_key_or_a_time(name):
    import importlib

    from airflow_provider_responses.plugins import metadata

    session = Recorder(importlib.import_module(f"sqlalchemy.dialects.{name}").dialect())
    assert list(metadata.read_usages(session, *WINDOW)) == []
    assert metadata.find_usage_tasks(session, *WINDOW) == []
    assert metadata.count_without_usage(session, *WINDOW, {"ResponsesOperator"}) == {}
    key, region = metadata.TaskKey("nightly", "run", "ask", -1), metadata.Region(None, -1)
    metadata.read_xcoms(session, metadata.InstanceRow("id", 1, 0, "success", "ResponsesOperator", region))
    metadata.read_state(session, key, region, "key")
    assert len(session.statements) == (6 if AIRFLOW_V_3_4_PLUS else 4) + AIRFLOW_V_3_3_PLUS
    for statement in session.statements:
        assert "JSON" not in statement.upper()
        assert "CAST(" not in statement.upper()
    usages = session.statements[0]
    if AIRFLOW_V_3_4_PLUS:  # where no index has the key
        assert "xcom_v2.id >=" in usages
        assert "working_set" in usages
    else:
        assert re.search(r"WHERE xcom\.[`\"]?key[`\"]? = ", usages)
    assert "task_instance.id >=" in session.statements[3 if AIRFLOW_V_3_4_PLUS else 2]


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql"])
def test_the_latest_instance_is_first_and_one_that_has_not_begun_last(name):
    import importlib

    from airflow_provider_responses.plugins import metadata

    class First(Recorder):
        def execute(self, statement):
            super().execute(statement)
            return self

        def first(self):
            return None

    session = First(importlib.import_module(f"sqlalchemy.dialects.{name}").dialect())
    key = metadata.TaskKey("nightly", "run", "ask", -1)
    assert metadata.read_instance(session, key, metadata.Region(None, None)) is None
    order = " ".join(session.statements[0].partition("ORDER BY")[2].split())
    ti = "task_instance"
    assert order.startswith(f"{ti}.start_date IS NULL, {ti}.start_date DESC, {ti}.id DESC")


def test_the_bound_of_ids_is_before_all_of_a_window():
    from airflow_provider_responses.plugins import metadata
    from tests.plugins.seed import uuid7

    column = metadata.TI.c.id
    bound = metadata._first_id(column, START, metadata.INSTANCE_AGE)
    first = uuid7(START - metadata.INSTANCE_AGE)
    assert bound <= (str(first) if column.type.python_type is str else first)
    assert metadata._is_by_time(column)
