"""Small jobs against the sandbox, for the tests of the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.job import Environment, Job
from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.enrich.part_writer import PartWriter
from airflow_provider_responses.enrich.row_outcome import RowOutcome
from airflow_provider_responses.enrich.sources import read_rows
from airflow_provider_responses.task.request import TaskRequest

MODEL = "openai/gpt-4o-mini"


class Label(BaseModel):
    mood: str


def table(size: int) -> list[dict[str, Any]]:
    return [{"id": f"r{number}", "text": f"hello {number}"} for number in range(size)]


def row_fields(row: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "input": f"Mood of {row['text']}"}


def connect(url: str, key: str = "sandbox-key") -> ClientConfig:
    return ClientConfig(api_key=key, base_url=url, dialect="openrouter")


def job(sandbox: Any, folder: Any, rows: list[Any], **given: Any) -> Job:
    """Return a job that requests the mood of each row; arguments take precedence."""
    defaults = {
        "read_chunks": lambda: read_rows(rows),
        "row_fields": row_fields,
        "request": TaskRequest(fields={}, output_type=Label, stream=False),
        "config": connect(sandbox.base_url),
        "output_path": folder,
        "writer": Writer(owner="task"),
        "key": "id",
    }
    return Job(**{**defaults, **given})


def enrich(
    sandbox: Any, folder: Any, rows: list[Any], environment: Environment | None = None, **given: Any
) -> dict[str, Any]:
    return Enrichment(job(sandbox, folder, rows, **given), environment).run()


def attach(protocol: str, conn_id: str | None = None, *, fs: Any) -> None:
    """Let URLs of a protocol and a connection be opened by a filesystem."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach
    attach(protocol, conn_id, fs=fs)


def stored(bucket: str) -> Any:
    """Return an ``ObjectStoragePath`` in memory."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from fsspec.implementations.memory import MemoryFileSystem

    attach("memory", fs=MemoryFileSystem())
    return ObjectStoragePath(f"memory://{bucket}")


def result(folder: Path) -> list[dict[str, Any]]:
    return lines(folder / "result.jsonl")


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "parts").iterdir())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tear(path: Path) -> None:
    """Keep the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def asked(sandbox: Any) -> list[str]:
    """Return the inputs that were sent, in order."""
    return [entry.body["input"] for entry in sandbox.ledger]


def watching(seen: Callable[[int], None]) -> Callable[..., PartWriter]:
    """Return a part writer that calls back with the number of outcomes so far."""

    class Watched(PartWriter):
        kept = 0

        def add(self, outcome: RowOutcome) -> None:
            super().add(outcome)
            self.kept += 1
            seen(self.kept)

    return Watched
