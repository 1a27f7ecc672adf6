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

pytestmark = pytest.mark.timeout(600)  # the first test waits for some 150 attempts
# Of each step: before and after the send, the record of the step, the effect, and the record of the result.
PER_STEP = ["before send", "after send", "before record", "after record"]
PER_STEP += ["before effect", "after effect", "before record", "after record"]
BOUNDARIES = PER_STEP * STEPS + ["before send", "after send"]
# Between the record of the step and that of the result: the call may have started.
STARTED = range(PER_STEP.index("after record"), len(PER_STEP) - 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Run every case, in children of one process; return its outcome, with the entries of the ledger."""
    from airflow_provider_responses.sandbox import Sandbox

    cases = [
        {"name": f"{policy}-{number}-", "boundary": number, "on_interrupted": policy}
        for policy in ("repeat", "fail")
        for number in range(len(BOUNDARIES) + 1)
    ]
    with Sandbox() as sandbox:
        folder = str(tmp_path_factory.mktemp("killed"))
        given = {"runs": cases, "folder": folder, "connection": sandbox.connection}
        command = [sys.executable, "-m", "tests.tools.killed_loop"]
        done = subprocess.run(
            command,
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
    return found


def test_the_boundaries_of_an_attempt_are_these(runs):
    whole = runs[f"repeat-{len(BOUNDARIES)}-"]

    assert whole["signals"] == [0]
    assert whole["boundaries"] == len(BOUNDARIES)
    assert [runs[f"repeat-{n}-"]["killed_at"] for n in range(len(BOUNDARIES))] == BOUNDARIES


@pytest.mark.parametrize("number", range(len(BOUNDARIES)))
def test_a_killed_loop_pays_once_and_repeats_at_most_the_call_without_a_record(runs, number):
    run = runs[f"repeat-{number}-"]
    step, place = divmod(number, len(PER_STEP))

    assert run["signals"] == [9, 0]
    assert run["value"]
    billed = [entry for entry in run["ledger"] if entry.billed]
    assert len(billed) == STEPS + 1
    assert run["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in billed))
    assert len(run["usage"]["steps"]) == STEPS + 1
    repeated = place >= PER_STEP.index("after effect") and place in STARTED and step < STEPS
    assert len(run["effects"]) == STEPS + repeated
    assert len(set(run["effects"])) == STEPS  # a repeated call has the same idempotency key


@pytest.mark.parametrize("number", range(len(BOUNDARIES)))
def test_a_killed_loop_fails_where_a_call_has_no_record_and_goes_on_everywhere_else(runs, number):
    run = runs[f"fail-{number}-"]
    step, place = divmod(number, len(PER_STEP))

    assert len(set(run["effects"])) == len(run["effects"])
    assert len([entry for entry in run["ledger"] if entry.billed]) == len({e.body_sha256 for e in run["ledger"]})
    if place in STARTED:
        assert f"tool charge was interrupted in step {step + 1}: an earlier attempt" in run["error"]
        assert len(run["effects"]) == step + (place >= PER_STEP.index("after effect"))
        assert run["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in run["ledger"]))
    else:
        assert run["value"]
        assert len(run["effects"]) == STEPS
