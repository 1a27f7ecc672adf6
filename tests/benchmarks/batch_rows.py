"""Rows through batches, and a script that only parses the results: the processes that ``test_batches.py`` starts."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.batch.enrichment import BatchEnrichment
from airflow_provider_responses.batch.options import BatchOptions
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.job import Job
from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.enrich.sources import read_file
from airflow_provider_responses.operators.templates import RowTemplate
from airflow_provider_responses.task.request import TaskRequest
from tests.benchmarks.enrich_rows import MODEL, PROMPT, Label, peak, used

STATE = "state.json"


def enrichment(url: str, folder: Path, **given: Any) -> BatchEnrichment:
    import jinja2.sandbox

    template = RowTemplate(PROMPT, jinja2.sandbox.SandboxedEnvironment(), {})
    job = Job(
        read_chunks=lambda: read_file(folder / "reviews.csv"),
        row_fields=lambda row: {"input": template.render(row), "model": MODEL},
        request=TaskRequest(fields={}, output_type=Label, stream=False),
        config=ClientConfig(api_key="none", base_url=url, dialect="openrouter"),
        output_path=folder / "out",
        writer=Writer(owner="bench"),
        key="id",
    )
    return BatchEnrichment(job, BatchOptions(mode="batch"), **given)


def submit(url: str, folder: Path) -> None:
    """Submit the table, and write down the batches to land."""
    unfinished = enrichment(url, folder).step()
    assert isinstance(unfinished, Unfinished)
    state = {"ids": unfinished.batch_ids, "totals": unfinished.totals}
    (folder / STATE).write_text(json.dumps(state))


def land(url: str, folder: Path) -> None:
    """Land all batches, and write the result."""
    state = json.loads((folder / STATE).read_text())
    manifest = enrichment(url, folder, totals=state["totals"], statuses=dict.fromkeys(state["ids"], "completed")).step()
    assert isinstance(manifest, dict)
    assert manifest["counts"] == {"ok": manifest["rows"]}, manifest


def parse(url: str, folder: Path) -> None:
    """Parse the results of all batches while they arrive, and write a line for each: the least that can be done."""
    import httpx
    import ijson

    ids = json.loads((folder / STATE).read_text())["ids"]
    with httpx.Client(trust_env=False, timeout=600) as client, (folder / "lines.jsonl").open("w") as file:
        for batch_id in ids:
            events = ijson.sendable_list()
            parser = ijson.items_coro(events, "results.item", use_float=True)
            with client.stream("GET", f"{url}/batches/{batch_id}") as response:
                for piece in response.iter_bytes():
                    parser.send(piece)
                    for item in events:
                        body = item["response"]["body"]
                        text = body["output"][0]["content"][0]["text"]
                        line = {"custom_id": item["custom_id"], "cost": body["usage"]["cost"], **json.loads(text)}
                        file.write(json.dumps(line) + "\n")
                    del events[:]


def parse_pages(url: str, folder: Path) -> None:
    """The same from pages."""
    import httpx

    ids = json.loads((folder / STATE).read_text())["ids"]
    with httpx.Client(trust_env=False, timeout=600) as client, (folder / "lines.jsonl").open("w") as file:
        for batch_id in ids:
            cursor = "0"
            while cursor is not None:
                page = client.get(f"{url}/batches/{batch_id}/results?cursor={cursor}").json()
                cursor = page["next_cursor"]
                for item in page["data"]:
                    body = item["response"]["body"]
                    text = body["output"][0]["content"][0]["text"]
                    line = {"custom_id": item["custom_id"], "cost": body["usage"]["cost"], **json.loads(text)}
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    way, url, folder, rows = *sys.argv[1:4], int(sys.argv[4])
    before, began = used(), time.monotonic()
    {"submit": submit, "land": land, "parse": parse, "parse_pages": parse_pages}[way](url, Path(folder))
    seconds, cpu = time.monotonic() - began, used() - before
    print(json.dumps({"rate": rows / seconds, "cpu": cpu / rows * 1000, "peak": peak()}))
