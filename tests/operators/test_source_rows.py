"""Sources that change between attempts, have options, and hold more columns than are needed."""

from __future__ import annotations

import sqlite3

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_responses.enrich import CsvFile
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.sql import SqlQuery
from tests.airflow_fakes import context
from tests.operators.enrichments import enrich, inputs, result

MIB = 1024 * 1024


def write(path, rows):
    path.write_text("id,text\n" + "".join(f"{key},{text}\n" for key, text in rows))


class TestChangedSource:
    """A source that differs at the next attempt."""

    def test_only_new_and_changed_rows_are_sent_and_the_result_is_the_new_source(self, tmp_path, responses_sandbox):
        source = tmp_path / "in.csv"
        write(source, [("r1", "one"), ("r2", "two"), ("r3", "three"), ("r4", "four")])
        task = {"source": str(source), "key": "id", "limits": {"concurrency": 1}}
        enrich(tmp_path, **task).execute(context())
        assert len(responses_sandbox.billed) == 4
        responses_sandbox.reset()
        # One row is gone, one is new in front, one has another text, and two have changed places.
        write(source, [("r0", "zero"), ("r4", "four"), ("r1", "one"), ("r3", "another")])
        manifest = enrich(tmp_path, **task).execute(context())
        assert inputs(responses_sandbox) == ["Mood of: another", "Mood of: zero"]
        assert [(row["_row"], row["id"], row["_status"]) for row in result(tmp_path)] == [
            *((0, "r0", "ok"), (1, "r4", "ok"), (2, "r1", "ok"), (3, "r3", "ok")),
        ]
        assert (manifest["rows"], manifest["requests_reused"], manifest["requests_sent"]) == (4, 2, 2)

    @pytest.mark.parametrize("text", ["", "id,text\n", "id\nr1\n", "id,text\nr1,one\nr1,two\n", "id,text\nr1\n"])
    def test_a_source_that_can_no_longer_be_read_loses_no_result(self, text, tmp_path, responses_sandbox):
        source = tmp_path / "in.csv"
        write(source, [("r1", "one"), ("r2", "two")])
        task = {"source": str(source), "key": "id", "allow_empty": False}
        enrich(tmp_path, **task).execute(context())
        before = result(tmp_path)
        source.write_text(text)
        with pytest.raises(AirflowFailException):
            enrich(tmp_path, **task).execute(context())
        assert result(tmp_path) == before
        write(source, [("r1", "one"), ("r2", "two")])
        enrich(tmp_path, **task).execute(context())
        assert len(responses_sandbox.ledger) == 2


class TestCsvOptions:
    def test_a_csv_of_a_spreadsheet_is_read_with_its_options(self, tmp_path, responses_sandbox):
        source = tmp_path / "{{ ds }}.txt"
        source.with_name("today.txt").write_text("sep=;\nid;text;stars\nr1;one, two;5\n;;\nr2;three;NA\n")
        given = CsvFile(str(source), null_values=["NA"], skip_empty=True)
        task = enrich(tmp_path, source=given, key="id", input="{{ row.text }}:{{ row.stars }}")
        task.render_template_fields({**context(), "ds": "today"})
        task.execute(context())
        assert inputs(responses_sandbox) == ["one, two:5", "three:"]
        assert [row["stars"] for row in result(tmp_path)] == ["5", None]
        assert given.path.endswith("{{ ds }}.txt")

    def test_a_wrong_option_is_refused_when_the_dag_is_parsed(self, tmp_path):
        with pytest.raises(ConfigurationError, match=r"^source: CsvFile's delimiter must be one"):
            enrich(tmp_path, source=CsvFile("in.csv", delimiter="::"))


class TestUnreadColumns:
    """A column that is not needed cannot stop the table."""

    def source(self, tmp_path):
        import pyarrow as arrow
        import pyarrow.parquet

        columns = {"id": ["a", "b"], "text": ["one", "two"], "late": arrow.array([10**7] * 2, arrow.date32())}
        pyarrow.parquet.write_table(arrow.table(columns), tmp_path / "in.parquet")
        return {"source": str(tmp_path / "in.parquet"), "key": "id"}

    def test_a_column_that_neither_the_template_nor_columns_names_is_not_read(self, tmp_path, responses_sandbox):
        given = self.source(tmp_path)
        enrich(tmp_path, columns=[], **given).execute(context())
        assert [set(row) & {"id", "text", "late"} for row in result(tmp_path)] == [{"id"}] * 2

    @pytest.mark.parametrize("more", [{}, {"columns": ["late"]}, {"columns": [], "input": "{{ row | tojson }}"}])
    def test_a_needed_column_that_cannot_be_read_is_named(self, more, tmp_path, responses_sandbox):
        with pytest.raises(AirflowFailException, match="column 'late' holds a value for which Python has no type"):
            enrich(tmp_path, **self.source(tmp_path), **more).execute(context())

    def test_a_function_needs_all_columns(self, tmp_path, responses_sandbox):
        with pytest.raises(AirflowFailException, match="column 'late'"):
            enrich(tmp_path, **self.source(tmp_path), columns=[], input=lambda row: row["text"]).execute(context())

    def test_a_misspelt_column_is_compared_with_all_columns(self, tmp_path, responses_sandbox):
        with pytest.raises(AirflowFailException, match=r"names row.tetx, .*did you mean 'text'"):
            enrich(tmp_path, **self.source(tmp_path), columns=[], input="{{ row.tetx }}").execute(context())

    def test_columns_of_a_query_are_left_out(self, tmp_path, database, responses_sandbox):
        with sqlite3.connect(database) as connection:
            connection.execute("ALTER TABLE reviews ADD COLUMN raw BLOB DEFAULT x'00'")
        source = SqlQuery("warehouse", "SELECT * FROM reviews")
        enrich(tmp_path, source=source, key="id", columns=["id"]).execute(context())
        assert len(responses_sandbox.billed) == len(result(tmp_path)) == 5
        assert "raw" not in result(tmp_path)[0]
