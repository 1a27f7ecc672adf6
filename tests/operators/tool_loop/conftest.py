"""The execution modes of a task with tools, its log, and a shop."""

from __future__ import annotations

import logging

import pytest

from tests.execution_modes import performer
from tests.operators.tool_loop.shop import Shop


@pytest.fixture(params=["worker", "deferred"])
def perform(request, monkeypatch):
    """Run a task with a context, in each execution mode of a task with tools."""
    return performer(request.param, monkeypatch)


@pytest.fixture
def logged(caplog, capfd):
    """Return the log so far."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + "".join(capfd.readouterr())  # Airflow 3 logs past the root logger


@pytest.fixture
def shop() -> Shop:
    return Shop()
