"""A run that is killed again and again: no row is lost, and none is paid for again that was written. Real processes."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.sandbox import Sandbox
from tests.conftest import ROOT
from tests.enrich.child import CONCURRENCY, ROWS
from tests.enrich.jobs import manifest, parts, result, table, tear

KILLS = 10
OFTEN = {"tick": 0.02, "part_rows": 20, "flush_seconds": 0.05}
AT_MOST = (ROWS - 1) // KILLS  # requests in a try before it is killed, so that the last try has something to do


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """One of its own: the bodies of so many requests take the session's long to check."""
    with Sandbox() as started:
        yield started


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait for what other processes and threads do; the limit only ends a test that has failed."""
    limit = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < limit, "it never came to that"
        assert process is None or process.poll() is None, "the process ended by itself"
        time.sleep(0.002)


def start(sandbox: Sandbox, folder: Path, attempt: int, **given: Any) -> subprocess.Popen[bytes]:
    arguments = json.dumps({"url": sandbox.base_url, "folder": str(folder), "attempt": attempt, **given})
    return subprocess.Popen([sys.executable, "-m", "tests.enrich.child", arguments], cwd=ROOT)


def is_idle(sandbox: Sandbox) -> bool:
    """Whether all that was sent has been read and answered."""
    assert sandbox._server is not None
    state = sandbox._server.server_state
    return not state.connections and not state.tasks


def written(folder: Path) -> set[str]:
    """The rows that are in a part; of one that is torn, those that are whole."""
    found = set()
    for part in parts(folder) if (folder / "parts").exists() else ():
        for line in part.read_bytes().splitlines() if part.suffix == ".jsonl" else ():
            try:
                found.add(json.loads(line)["id"])
            except ValueError:
                break
    return found


@pytest.mark.parametrize(
    ("cache", "torn", "seed"),
    [
        pytest.param(True, False, 1, id="kept answers"),
        pytest.param(False, False, 2, id="no kept answers"),
        pytest.param(True, True, 3, id="the last part torn"),
    ],
)
def test_a_run_that_is_killed_ten_times(cache, torn, seed, sandbox, tmp_path):
    draw = random.Random(seed)  # noqa: S311
    entries = sandbox.state.ledger.entries  # `ledger` copies them all
    asked = lambda entry: f"r{entry.body['input'].split()[-1]}"  # noqa: E731
    before: set[str] = set()
    lost: list[set[str]] = []  # by each kill: paid, and not written

    for number in range(1, KILLS + 1):
        begun = len(entries)
        moment = begun + draw.randint(1, AT_MOST)
        process = start(sandbox, tmp_path, number, cache=cache, environment=OFTEN)
        try:
            until(lambda: len(entries) >= moment, process)  # noqa: B023
        finally:
            process.kill()
            process.wait()
        until(lambda: is_idle(sandbox))
        if torn and (tmp_path / "parts").exists():
            for last in parts(tmp_path)[-1:]:  # none, if the kill came between the folder and its first file
                tear(last)
        kept = written(tmp_path)
        ledger = sandbox.ledger
        lost.append({asked(entry) for entry in ledger if entry.billed} - kept)
        assert not {asked(entry) for entry in ledger[begun:]} & before, "rows that were written are sent again"
        before = kept
        assert not (tmp_path / "result.jsonl").exists()

    begun = len(entries)
    process = start(sandbox, tmp_path, KILLS + 1, cache=cache, environment=OFTEN)
    try:
        assert process.wait(timeout=50) == 0
    finally:
        process.kill()
        process.wait()
    ledger = sandbox.ledger
    assert not {asked(entry) for entry in ledger[begun:]} & before

    rows = result(tmp_path)
    assert [row["_row"] for row in rows] == list(range(ROWS))
    assert [(row["id"], row["text"]) for row in rows] == [(row["id"], row["text"]) for row in table(ROWS)]
    assert {row["_status"] for row in rows} == {"ok"}
    assert manifest(tmp_path)["counts"] == {"ok": ROWS}
    assert manifest(tmp_path)["requests_reused"] == len(before) > 0

    billed = Counter(asked(entry) for entry in ledger if entry.billed)
    assert len(billed) == ROWS
    if cache:
        # An answer that was in flight at the kill may not be kept yet when it is asked for again.
        assert billed.total() <= ROWS + KILLS * CONCURRENCY
        # All else that was paid is told, whichever try had it and died.
        paid = sum(entry.cost for entry in ledger if entry.billed)
        twice = sum(entry.cost for entry in ledger if entry.billed and billed[asked(entry)] > 1)
        assert paid - twice <= manifest(tmp_path)["cost"] + 1e-9 <= paid + 2e-9
        assert manifest(tmp_path)["answers_without_price"] == 0
    else:
        assert billed.total() <= ROWS + sum(map(len, lost))
        assert all(times <= 1 + sum(row in gone for gone in lost) for row, times in billed.items())
    # What was in flight or not written when the process died is little.
    assert any(lost)


@pytest.mark.parametrize(
    ("appends", "bound"), [pytest.param(True, 64, id="local disk"), pytest.param(False, 300, id="elsewhere")]
)
def test_what_is_paid_twice_after_a_kill_is_bounded(appends, bound, sandbox, tmp_path):
    """Without a cache, and at half of the table: what was in flight, and what was not written."""
    rows, in_flight = 3000, 256
    sandbox.latency = 0.02
    entries = sandbox.state.ledger.entries
    given = {
        "rows": rows,
        "cache": False,
        "appends": appends,
        "limits": {"concurrency": in_flight, "max_unwritten": 2000 if appends else bound},
    }
    process = start(sandbox, tmp_path, 1, **given)
    try:
        until(lambda: len(entries) >= rows // 2, process)
    finally:
        process.kill()
        process.wait()
    until(lambda: is_idle(sandbox))
    kept = written(tmp_path)

    process = start(sandbox, tmp_path, 2, **given)
    try:
        assert process.wait(timeout=100) == 0
    finally:
        process.kill()
        process.wait()
    billed = Counter(entry.body["input"] for entry in sandbox.ledger if entry.billed)
    assert [row["_row"] for row in result(tmp_path)] == list(range(rows))
    assert manifest(tmp_path)["counts"] == {"ok": rows}
    assert manifest(tmp_path)["requests_reused"] == len(kept)
    twice = billed.total() - rows
    print(f"{twice} of {rows} responses paid twice; {in_flight} in flight, {len(kept)} of {rows // 2} written")
    assert 0 <= twice <= in_flight + bound


# The boundaries at which twenty processes are killed, one after the other, on one table.
KILLED_AT = [
    ("create lease", 1, "torn"),  # which lease the store has is not known yet
    ("delete lease", 1, "after"),
    ("create lease", 3, "torn"),  # the first claim
    ("list lease", 3, "before"),
    ("append parts", 1, "before"),
    ("append parts", 1, "torn"),
    ("append parts", 2, "after"),
    ("flush", 2, "before"),
    ("flush", 3, "after"),
    ("read parts", 2, "before"),
    ("commit", 8, "after"),
    ("append parts", 3, "torn"),
    ("create lease", 4, "torn"),  # a renewal
    ("create lease", 5, "after"),
    ("delete lease", 3, "before"),
    ("put result.jsonl", 1, "torn"),
    ("put result.jsonl", 1, "after"),
    ("write manifest.json", 1, "before"),
    ("write manifest.json", 1, "torn"),
    ("write manifest.json", 1, "after"),
]


def test_twenty_processes_that_are_killed_at_a_boundary_each(sandbox, tmp_path, record_property):
    """By themselves, with SIGKILL, without a cache."""
    unwritten = 40
    given = {"cache": False, "environment": OFTEN | {"lease_seconds": 0.2}, "limits": {"max_unwritten": unwritten}}
    entries = sandbox.state.ledger.entries
    asked = lambda entry: f"r{entry.body['input'].split()[-1]}"  # noqa: E731
    kept: set[str] = set()
    lost: list[int] = []  # by each kill: sent, and not written
    for number, at in enumerate([*KILLED_AT, None], 1):
        begun = len(entries)
        process = start(sandbox, tmp_path, number, at=at, **given)
        try:
            assert process.wait(timeout=50) == (0 if at is None else -signal.SIGKILL), at
        finally:
            process.kill()
            process.wait()
        until(lambda: is_idle(sandbox))
        before, kept = kept, written(tmp_path)
        assert before <= kept
        sent = {asked(entry) for entry in sandbox.ledger[begun:]}
        assert not sent & before, f"{at}: rows that were written are sent again"
        lost.append(len(sent - kept))
        assert lost[-1] <= CONCURRENCY + unwritten
        if (tmp_path / "result.jsonl").exists():
            assert [row["_row"] for row in result(tmp_path)] == list(range(ROWS))
    assert [(row["id"], row["_status"]) for row in result(tmp_path)] == [(row["id"], "ok") for row in table(ROWS)]
    assert (manifest(tmp_path)["complete"], manifest(tmp_path)["counts"]) == (True, {"ok": ROWS})
    twice = sum(entry.billed for entry in sandbox.ledger) - ROWS
    assert twice <= sum(lost)
    record_property(
        "counted",
        f"Killed {len(KILLED_AT)} times: {twice} of {ROWS} responses paid twice, at most {max(lost)} by one kill (of "
        f"{CONCURRENCY} in flight and {unwritten} unwritten)",
    )
