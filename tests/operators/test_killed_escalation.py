"""A task that is killed between its models, at each boundary, with real processes: neither response is paid twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from airflow_provider_responses.sandbox import Sandbox
from tests.conftest import ROOT
from tests.operators.killed_escalation import LARGE, SMALL

pytestmark = pytest.mark.timeout(400)  # each waits for some 20 attempts
BOUNDARIES = [
    *("before send", "after send", "before record", "after record"),  # of the small model
    *("before send", "after send", "before record", "after record"),
]


def test_a_task_that_is_killed_at_any_boundary_pays_each_model_once(tmp_path):
    cases = [{"name": f"killed-{number}-", "boundary": number} for number in range(len(BOUNDARIES) + 1)]
    with Sandbox() as sandbox:
        done = subprocess.run(
            [sys.executable, "-m", "tests.operators.killed_escalation"],
            input=json.dumps({"runs": cases, "folder": str(tmp_path), "connection": sandbox.connection}),
            capture_output=True,
            text=True,
            env=dict(os.environ),
            cwd=ROOT,
            check=False,
            timeout=380,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        ledger = list(sandbox.ledger)
    found = json.loads(done.stdout.splitlines()[-1])
    *killed, whole = (found[case["name"]] for case in cases)

    assert (whole["signals"], whole["boundaries"]) == ([0], BOUNDARIES)
    for number, run in enumerate(killed):
        where = f"boundary {number}, {BOUNDARIES[number]}"
        assert run["signals"] == [9, 0], where
        assert run["boundaries"] == BOUNDARIES[: number + 1], where
        assert run["value"], where
        entries = [entry for entry in ledger if entry.body["input"] == f"killed-{number}-"]
        assert [entry.model for entry in entries if entry.billed] == [SMALL, LARGE], where
        assert run["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in entries)), where
        assert run["usage"]["escalated"] == 1, where
        # From its record on, the small model does not get the request again.
        assert [entry.body["model"] for entry in entries].count(SMALL) == (1 if number in {0, *range(3, 8)} else 2), (
            where
        )
