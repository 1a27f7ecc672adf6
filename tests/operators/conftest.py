"""Every execution mode, and a database."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.execution_modes import MODES, performer
from tests.operators.enrichments import ROWS


@pytest.fixture(params=MODES)
def perform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Any], Any]:
    """Run a task with a context, in each execution mode."""
    return performer(request.param, monkeypatch)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A warehouse with the rows, and a table for labels."""
    path = tmp_path / "warehouse.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE reviews (id TEXT, text TEXT)")
        connection.executemany("INSERT INTO reviews VALUES (?, ?)", [tuple(row.values()) for row in ROWS])
        connection.execute("CREATE TABLE labels (id TEXT PRIMARY KEY, text TEXT, mood TEXT)")
    return path


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
