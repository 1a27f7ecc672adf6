"""Wrong arguments of an enrichment are refused when the DAG is parsed."""

from __future__ import annotations

import pytest

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from tests.operators.enrichments import enrich

A_SOURCE = "a path, a CsvFile(path), a SqlQuery(conn_id, sql) or a list of dicts"


class TestRefusedAtParse:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"source": None}, f"source must be {A_SOURCE}, got None"),
            ({"source": 5}, f"source must be {A_SOURCE}, got int"),
            ({"source": {"text": "x"}}, f"source must be {A_SOURCE}, got dict"),
            ({"source": b"a.csv"}, f"source must be {A_SOURCE}, got bytes"),
            ({"source": [{"text": "x"}, "a.csv"]}, "source: row 1 must be a dict, got str"),
            ({"input": None}, "input is missing: set a template"),
            ({"source": "a.xlsx"}, "source: the format of 'a.xlsx' is unknown"),
            (
                {"source": SqlQuery("db", "SELECT 1")},
                "key is missing: a query may return its rows in another order",
            ),
            ({"load_to": SqlTable("db", "t")}, "key is missing: load_to needs it to find the rows to replace"),
            ({"output_format": "csv"}, "output_format must be 'jsonl' or 'parquet', got 'csv'"),
            ({"input": ["Mood of: {{ row.text }}"]}, "input must be a template or a function of the row, got list"),
            ({"output_path": ""}, "output_path is missing: set a folder"),
            ({"output_path": " None "}, "output_path is missing: set a folder"),
            ({"on_changed_request": "ask"}, "on_changed_request must be 'send' or 'fail', got 'ask'"),
            ({"resume": "yes"}, "resume must be True or False, got 'yes'"),
            ({"columns": "text"}, "columns must be a list of names, got 'text'"),
            ({"columns": 5}, "columns must be a list of names, got 5"),
            ({"output_path": 5}, "output_path must be a path, got 5"),
            (
                {"key": ["id", "text"]},
                "key must be one column's name (combine several in the source), got ['id', 'text']",
            ),
            ({"allow_empty": "false"}, "allow_empty must be True or False, got 'false'"),
            ({"load_to": "labels"}, "load_to must be SqlTable(conn_id, table), got str"),
            (
                {"load_to": SqlTable("db", "t", mode="replace"), "key": "id"},
                "load_to.mode must be 'upsert' or 'insert', got 'replace'",
            ),
            (
                {"load_to": SqlTable("db", "t", columns="id"), "key": "id"},
                "load_to.columns must be a list of names, got 'id'",
            ),
            (
                {"shard": (4, 4)},
                "shard must be two whole numbers such as (0, 4), the first from 0 and smaller, got (4, 4)",
            ),
            ({"limits": {"concurency": 5}}, "limits.concurency is unknown; did you mean 'concurrency'?"),
            ({"limits": {"concurrency": 0}}, "limits.concurrency must be a whole number >= 1, got 0"),
            ({"request": {"temprature": 1}}, "request.temprature is not a field"),
            (
                {"output_type": "Label"},
                "output_type must be a type or a JSON Schema, got 'Label'",
            ),
            ({"options": {"timeut": 5}}, "options.timeut is unknown"),
        ],
    )
    def test_a_wrong_argument_is_refused_with_its_name_and_the_task(self, arguments, message, tmp_path):
        with pytest.raises(ResponsesError, match=r"\. Task: label$") as caught:
            enrich(tmp_path, **arguments)
        assert message in str(caught.value)

    def test_an_async_function_is_refused(self, tmp_path):
        async def ask(row):
            return row["text"]

        with pytest.raises(ResponsesError, match=r"input must be a plain function, got an async one\. Task: label$"):
            enrich(tmp_path, input=ask)

    def test_templates_are_not_checked_before_they_are_rendered(self, tmp_path):
        enrich(tmp_path, source="{{ ds }}/x.csv", key="{{ params.key }}", limits={"concurrency": 2})
