"""
Enrich a file overnight, at half the price: the capital and the continent of each of the world's countries.

Trigger it with the param `rows` = 20 for a look at the responses: so few rows are sent at once, for the full price.
Without the param all rows are sent, in batches, and no worker is held. The 20 have a response, and are not sent again.
"""

from __future__ import annotations

import csv
import datetime
import json
import sqlite3
import tempfile
from importlib import resources
from pathlib import Path
from typing import Literal

from airflow.providers.common.compat.sdk import Param, dag, task
from pydantic import BaseModel

from airflow_provider_responses.enrich import Limits
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

OUTPUT = Path(tempfile.gettempdir()) / "overnight-batches"


# [start dag]
class Country(BaseModel):
    capital: str
    continent: Literal["Africa", "America", "Antarctica", "Asia", "Europe", "Oceania"]


@dag(
    schedule="0 22 * * *",
    start_date=datetime.datetime(2026, 1, 1),
    catchup=False,
    params={"rows": Param(None, type=["null", "integer"], minimum=1, description="Number of rows; empty for all")},
    tags=["responses"],
)
def overnight_batches():
    described = ResponsesEnrichOperator(
        task_id="describe",
        source=write_countries(),
        input="The capital and the continent of {{ row.name }} ({{ row.code }}).",
        model="openai/gpt-4o-mini",
        request={"max_output_tokens": 60},
        output_type=Country,
        key="code",
        output_path=str(OUTPUT / "described"),
        limits=Limits(max_cost=1.0, max_failures=0.02),
        mode="auto",
        batch_threshold=100,
        retries=2,
    )
    load_into_sqlite(described.output)
    # [end dag]


@task
def write_countries(params: dict) -> str:
    """Write the table of countries that every Airflow has (in the package `tzdata`), and return its path."""
    text = resources.files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text()
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / "countries.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("code", "name"), *rows[: params["rows"]]])
    return str(path)


@task
def load_into_sqlite(manifest: dict) -> None:
    """Load the result into a table, and print its cost and its batches."""
    rows = [json.loads(line) for line in Path(manifest["output"]).read_text(encoding="utf-8").splitlines()]
    with sqlite3.connect(OUTPUT / "countries.sqlite") as database:
        database.execute("CREATE TABLE IF NOT EXISTS countries (code TEXT PRIMARY KEY, capital TEXT, continent TEXT)")
        values = [(row["code"], row["capital"], row["continent"]) for row in rows if row["_status"] == "ok"]
        database.executemany("INSERT OR REPLACE INTO countries VALUES (?, ?, ?)", values)
    print(f"{manifest['rows']} countries, ${manifest['cost']:.6f}")
    for batch in manifest.get("batches", []):
        print(f"{batch['id']}: {batch['status']}, {batch['requests']} requests, ${batch['cost']:.6f}")


overnight_batches()
