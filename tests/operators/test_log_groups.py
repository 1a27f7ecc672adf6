"""The groups in the log of an enrichment, and what is outside of them."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

from airflow_provider_responses.exceptions import ResponsesError
from tests.airflow_fakes import context
from tests.observability.test_log_groups import folded
from tests.operators.enrichments import enrich, set_intervals

HAS_GROUPS = AIRFLOW_V_3_1_PLUS or not AIRFLOW_V_3_0_PLUS


@pytest.fixture(autouse=True)
def _info(caplog):
    caplog.set_level("INFO")


def shown(caplog) -> list[tuple[str | None, str]]:
    """Return the lines, each with the name of its group, without a number."""
    lines = folded([(record.levelno, record.getMessage()) for record in caplog.records])
    return [(group and group.partition(" (")[0], text) for group, _, text in lines]


def group_of(caplog, part: str) -> set[str | None]:
    found = {group for group, text in shown(caplog) if part in text}
    assert found, part
    return found


def grouped(name: str) -> set[str | None]:
    return {name if HAS_GROUPS else None}


def test_progress_is_in_a_group_and_the_counts_and_the_summary_are_outside(
    tmp_path, responses_sandbox, caplog, monkeypatch
):
    set_intervals(monkeypatch, progress_seconds=0.0, tick=0.001)
    responses_sandbox.script({"delay": 0.05})
    enrich(tmp_path).execute(context())
    assert group_of(caplog, "/5 requests, ") == grouped("Sending requests")
    assert group_of(caplog, "5 rows, 5 requests to send") == {None}
    assert group_of(caplog, "5 rows: 5 ok.") == {None}


def test_a_failure_leaves_no_group_open_and_its_warnings_and_summary_are_outside(
    tmp_path, responses_sandbox, caplog, monkeypatch
):
    set_intervals(monkeypatch, progress_seconds=0.0, tick=0.001)
    responses_sandbox.script({"delay": 0.05}, *[{"status": 500}] * 2)
    with pytest.raises(ResponsesError):
        enrich(tmp_path, options={"max_retries": 0}, limits={"concurrency": 1}).execute(context())
    assert group_of(caplog, "2 rows failed with") == {None}
    assert group_of(caplog, "3 ok, 2 failed") == {None}
    assert group_of(caplog, "/5 requests, ") == grouped("Sending requests")


def test_the_wait_for_batches_on_the_worker_is_a_group(tmp_path, responses_sandbox, caplog, monkeypatch):
    monkeypatch.setenv("AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL", "0.1")
    enrich(tmp_path, mode="batch", deferrable=False).execute(context())
    assert group_of(caplog, "1 batch: ") == grouped("Waiting for batches")
    assert group_of(caplog, "Submitted batch") == grouped("Sending requests")
    assert group_of(caplog, "5 rows: 5 ok.") == {None}


def test_the_table_of_a_preview_is_a_group_and_its_estimate_outside(tmp_path, responses_sandbox, caplog):
    enrich(tmp_path, preview=3).execute(context())
    assert group_of(caplog, "bytes  status") == grouped("3 rows of the preview")
    assert group_of(caplog, "3 of 5 requests were sent") == {None}
