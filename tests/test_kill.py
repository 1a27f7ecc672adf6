"""A killed task drops its connection and resends nothing; with real processes and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import DAGS, HOME

DAG = """
import datetime
from airflow.providers.common.compat.sdk import dag
from airflow_provider_responses.operators.responses import ResponsesOperator

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False)
def killed():
    ResponsesOperator(task_id="ask", model="openai/gpt-4o-mini", input="Take your time.", stream={stream})

killed()
"""


def wait_for(condition, event: str, process: subprocess.Popen) -> None:
    """Wait for an event in another process; the time limit only ends a test that has failed."""
    limit = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, f"the process ended before {event}: {(HOME / 'kill.log').read_text()[-3000:]}"
        assert time.monotonic() < limit, f"never saw {event}"
        time.sleep(0.02)


@pytest.mark.timeout(400)  # Airflow's command takes nine seconds of CPU to start
@pytest.mark.parametrize(
    ("step", "stream"),
    [
        pytest.param({"hang": True}, False, id="before the response begins"),
        pytest.param({"text": "word " * 1000, "chunk_delay": 0.05}, True, id="in the middle of a stream"),
        pytest.param({"status": 503, "retry_after": 50}, True, id="while waiting for a retry"),
    ],
)
def test_sigterm_ends_the_call_and_no_post_follows(step, stream, airflow_db, responses_sandbox):
    responses_sandbox.script(step, {}, {}, {})
    target = DAGS / "killed.py"
    target.write_text(DAG.format(stream=stream))
    log = HOME / "kill.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "airflow", "dags", "test", "killed"]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ))
        try:
            wait_for(lambda: responses_sandbox.ledger, "the request", process)
            if "status" in step:
                wait_for(lambda: "Resending in 50" in log.read_text(), "the wait", process)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=100)
        finally:
            process.kill()
            process.wait()
            target.unlink()

    assert len(responses_sandbox.ledger) == 1, log.read_text()[-3000:]
    assert process.returncode != 0
    if "chunk_delay" in step:
        assert responses_sandbox.ledger[0].outcome == "dropped"
