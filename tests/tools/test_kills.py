"""A loop of five steps with a side-effecting tool, killed at each of its boundaries, with real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.tools.killed_loop import STEPS

pytestmark = pytest.mark.timeout(600)  # each waits for some 80 attempts
# Of each step: before and after the send, the record of the step, the effect, and the record of the result.
PER_STEP = ["before send", "after send", "before record", "after record"]
PER_STEP += ["before effect", "after effect", "before record", "after record"]
BOUNDARIES = PER_STEP * STEPS + ["before send", "after send"]
# Between the record of the step and that of the result: the call may have started.
STARTED = range(PER_STEP.index("after record"), len(PER_STEP) - 1)


def run_cases(policy: str, folder: str) -> list[dict[str, Any]]:
    """Run a loop that is killed at each boundary, and one that is not, in children of one process."""
    from airflow_provider_responses.sandbox import Sandbox

    cases = [
        {"name": f"{policy}-{number}-", "boundary": number, "on_interrupted": policy}
        for number in range(len(BOUNDARIES) + 1)
    ]
    with Sandbox() as sandbox:
        given = {"runs": cases, "folder": folder, "connection": sandbox.connection}
        done = subprocess.run(
            [sys.executable, "-m", "tests.tools.killed_loop"],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            env=dict(os.environ),
            cwd=ROOT,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        for name, run in found.items():
            run["ledger"] = [entry for entry in sandbox.ledger if name in json.dumps(entry.body["input"])]
    return [found[case["name"]] for case in cases]


def test_a_loop_that_is_killed_at_any_boundary_pays_once_and_repeats_at_most_the_call_without_a_record(tmp_path):
    *killed, whole = run_cases("repeat", str(tmp_path))

    assert whole["signals"] == [0]
    assert whole["boundaries"] == len(BOUNDARIES)
    assert [run["killed_at"] for run in killed] == BOUNDARIES
    for number, run in enumerate(killed):
        step, place = divmod(number, len(PER_STEP))
        where = f"boundary {number}, {BOUNDARIES[number]}"
        assert run["signals"] == [9, 0], where
        assert run["value"], where
        billed = [entry for entry in run["ledger"] if entry.billed]
        assert len(billed) == STEPS + 1, where
        assert run["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in billed)), where
        assert len(run["usage"]["steps"]) == STEPS + 1, where
        repeated = place >= PER_STEP.index("after effect") and place in STARTED and step < STEPS
        assert len(run["effects"]) == STEPS + repeated, where
        assert len(set(run["effects"])) == STEPS, where  # a repeated call has the same idempotency key


def test_a_loop_that_is_killed_where_a_call_has_no_record_fails_and_goes_on_everywhere_else(tmp_path):
    *killed, _ = run_cases("fail", str(tmp_path))

    for number, run in enumerate(killed):
        step, place = divmod(number, len(PER_STEP))
        where = f"boundary {number}, {BOUNDARIES[number]}"
        assert len(set(run["effects"])) == len(run["effects"]), where
        bodies = {entry.body_sha256 for entry in run["ledger"]}
        assert len([entry for entry in run["ledger"] if entry.billed]) == len(bodies), where
        if place in STARTED:
            assert f"tool charge was interrupted in step {step + 1}: an earlier attempt" in run["error"], where
            assert len(run["effects"]) == step + (place >= PER_STEP.index("after effect")), where
            assert run["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in run["ledger"])), where
        else:
            assert run["value"], where
            assert len(run["effects"]) == STEPS, where
