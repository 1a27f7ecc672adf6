"""
Enrich a table: send a request for each of the world's time zones, and load the responses into a database.

Real input that every Airflow has: the 400 zones of the package `tzdata`, with country, coordinates and remark.
"""

from __future__ import annotations

import datetime
import json
import sqlite3
import tempfile
from importlib import resources
from pathlib import Path
from typing import Literal

from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel, Field

from airflow_provider_responses.enrich import Limits

OUTPUT = Path(tempfile.gettempdir()) / "enriched-zones"


# [start dag]
class Zone(BaseModel):
    climate: Literal["polar", "temperate", "dry", "tropical"]
    landmark: str = Field(description="A sight near the place, in at most five words.")


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def enrich_zones():
    @task.responses_enrich(
        source=zones(),
        model="openai/gpt-4o-mini",
        output_type=Zone,
        key="zone",
        output_path=str(OUTPUT),
        limits=Limits(concurrency=32, max_cost=1.0, max_failures=0.02),
    )
    def describe(row) -> str:
        return f"{row['zone']} ({row['country']}, {row['coordinates']}). {row['remark'] or ''}"

    load_into_sqlite(describe())
    # [end dag]


@task
def zones() -> list[dict]:
    """Return the table of time zones."""
    text = resources.files("tzdata").joinpath("zoneinfo", "zone.tab").read_text()
    lines = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return [
        {"zone": zone, "country": country, "coordinates": coordinates, "remark": "".join(remark) or None}
        for country, coordinates, zone, *remark in lines
    ]


@task
def load_into_sqlite(manifest: dict) -> None:
    """Load the result into a table, and print its counts and cost."""
    lines = Path(manifest["output"]).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    with sqlite3.connect(OUTPUT / "zones.sqlite") as database:
        database.execute("CREATE TABLE IF NOT EXISTS zones (zone TEXT PRIMARY KEY, climate TEXT, landmark TEXT)")
        values = [(row["zone"], row["climate"], row["landmark"]) for row in rows if row["_status"] == "ok"]
        database.executemany("INSERT OR REPLACE INTO zones VALUES (?, ?, ?)", values)
        counts = database.execute("SELECT climate, count(*) FROM zones GROUP BY 1 ORDER BY 2 DESC").fetchall()
    print(f"{manifest['rows']} zones, ${manifest['cost']:.4f}, {manifest['rows_per_second']} rows/s")
    for climate, count in counts:
        print(f"{climate:<12} {count}")


enrich_zones()
