"""The progress line."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.report import Report
from tests.enrich.jobs import job, table


@pytest.mark.parametrize("down_since", [None, 940.0])
def test_the_line_begins_with_an_outage(
    down_since: float | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime(2026, 11, 28, 7, 0, 0).astimezone()
    sandbox = SimpleNamespace(base_url="http://127.0.0.1:1/v1")
    environment = Environment(clock=lambda: 1000.0, now=now.timestamp)
    report = Report(job(sandbox, tmp_path, table(1)), environment)
    report.progress.down_since = down_since
    with caplog.at_level(logging.INFO):
        report.say(64.0)
    line = caplog.records[-1].getMessage()
    assert line.startswith("0 of 0" if down_since is None else f"service down since 06:59:00 {now:%Z} (60 s); 0 of 0")
