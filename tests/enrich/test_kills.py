"""Real processes that are killed again and again: no row is lost, and no written response is paid again."""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.sandbox import Sandbox
from tests.enrich import child, jobs
from tests.enrich.child import CONCURRENCY, ROWS
from tests.enrich.jobs import manifest, parts, result, table, tear

KILLS = 6
OFTEN = {"tick": 0.02, "part_rows": 20, "flush_seconds": 0.05}
AT_MOST = (ROWS - 1) // KILLS  # requests of an attempt before it is killed, so that the last one still has some to send


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox without the session's checks, which take long for this number of requests."""
    with Sandbox() as started:
        yield started


def until(condition: Callable[[], bool], process: BaseProcess | None = None) -> None:
    """Wait for other processes and threads; the limit only ends a test that has failed."""
    limit = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < limit, "it never came to that"
        assert process is None or process.is_alive(), "the process ended by itself"
        time.sleep(0.002)


# Processes are forked from one that has imported everything: importing takes longer than what they do until the kill.
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["tests.enrich.child"])


def start(sandbox: Sandbox, folder: Path, attempt: int, **given: Any) -> BaseProcess:
    """Start an attempt in a process of its own."""
    process = FORKING.Process(target=child.main, args=(sandbox.base_url, str(folder), attempt), kwargs=given)
    process.start()
    return process


def end(process: BaseProcess, seconds: float = 0.0) -> int | None:
    """Kill a process unless it ends within some seconds, and return its exit code."""
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def is_idle(sandbox: Sandbox) -> bool:
    """Return whether all requests have got their response."""
    assert sandbox._server is not None
    state = sandbox._server.server_state
    return not state.connections and not state.tasks


def written(folder: Path) -> set[str]:
    """Return the rows in the parts; of a part that is cut off, those before the cut."""
    found = set()
    for part in parts(folder) if (folder / "parts").exists() else ():
        for line in part.read_bytes().splitlines() if part.suffix == ".jsonl" else ():
            try:
                found.add(json.loads(line)["id"])
            except ValueError:
                break
    return found


def test_a_process_that_is_killed_at_random_moments_loses_no_row(sandbox, tmp_path):
    """With a cache, and with a part that is cut off after every other kill."""
    draw = random.Random(1)  # noqa: S311
    entries = sandbox.state.ledger.entries  # `ledger` copies them all
    asked = lambda entry: f"r{entry.body['input'].split()[-1]}"  # noqa: E731
    before: set[str] = set()
    lost: list[set[str]] = []  # by each kill: paid, and not written

    for number in range(1, KILLS + 1):
        begun = len(entries)
        moment = begun + draw.randint(1, AT_MOST)
        process = start(sandbox, tmp_path, number, environment=OFTEN)
        try:
            until(lambda: len(entries) >= moment, process)  # noqa: B023
        finally:
            end(process)
        until(lambda: is_idle(sandbox))
        if number % 2 and (tmp_path / "parts").exists():
            for last in parts(tmp_path)[-1:]:  # none, if the kill came between the folder and its first file
                tear(last)
        kept = written(tmp_path)
        ledger = sandbox.ledger
        lost.append({asked(entry) for entry in ledger if entry.billed} - kept)
        assert not {asked(entry) for entry in ledger[begun:]} & before, "rows that were written are sent again"
        before = kept
        assert not (tmp_path / "result.jsonl").exists()

    begun = len(entries)
    assert end(start(sandbox, tmp_path, KILLS + 1, environment=OFTEN), 50) == 0
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
    # A response that was in flight at the kill may not be cached yet when it is requested again.
    assert billed.total() <= ROWS + KILLS * CONCURRENCY
    # All else that was paid is in the manifest, whichever attempt paid it and died.
    paid = sum(entry.cost for entry in ledger if entry.billed)
    twice = sum(entry.cost for entry in ledger if entry.billed and billed[asked(entry)] > 1)
    assert paid - twice <= manifest(tmp_path)["cost"] + 1e-9 <= paid + 2e-9
    assert manifest(tmp_path)["responses_without_price"] == 0
    # Some were in flight, or not written.
    assert any(lost)


def test_a_process_that_is_killed_between_the_steps_of_its_rows_pays_no_written_response_again(sandbox, tmp_path):
    """With a larger model and a judge, without a cache."""
    rows, kills = 300, 4
    entries = sandbox.state.ledger.entries
    given = {"rows": rows, "environment": OFTEN, "cache": False, "has_steps": True}

    def sent(begun: int) -> set[tuple[str, str]]:
        """Return the models and the rows of the requests since then."""
        return {
            (entry.body["model"], "r" + re.findall(r"hello (\d+)", entry.body["input"])[0])
            for entry in sandbox.ledger[begun:]
        }

    def written_steps() -> set[tuple[str, str]]:
        models = {0: jobs.MODEL, 1: "openai/gpt-4o"}
        found = set()
        for part in parts(tmp_path) if (tmp_path / "parts").exists() else ():
            for text in part.read_bytes().splitlines() if part.suffix == ".jsonl" else ():
                try:
                    line = json.loads(text)
                except ValueError:
                    break
                model = "google/gemini-2.5-flash" if "_judge" in line else models[line.get("_tier", 0)]
                found.add((model, line["id"]))
        return found

    before: set[tuple[str, str]] = set()
    draw = random.Random(3)  # noqa: S311
    for number in range(1, kills + 1):
        begun = len(entries)
        moment = begun + draw.randint(1, rows // kills)
        process = start(sandbox, tmp_path, number, **given)
        try:
            until(lambda: len(entries) >= moment, process)  # noqa: B023
        finally:
            end(process)
        until(lambda: is_idle(sandbox))
        assert not sent(begun) & before
        before = written_steps()
    begun = len(entries)
    assert end(start(sandbox, tmp_path, kills + 1, **given), 50) == 0
    assert before
    assert not sent(begun) & before

    told, found = manifest(tmp_path), result(tmp_path)
    escalated = [row for row in found if row["_escalated"]]
    assert (told["counts"], len(found)) == ({"ok": rows}, rows)
    assert [tier["requests"] for tier in told["tiers"]] == [rows, len(escalated)]
    assert told["judge"]["scored"] == sum(row["_score"] is not None for row in found)
    assert 0 < len(escalated) < rows
    billed = Counter((entry.body["model"], entry.body["input"]) for entry in sandbox.ledger if entry.billed)
    assert billed.total() - len(billed) <= kills * (CONCURRENCY + 64)  # in flight, and unwritten


@pytest.mark.parametrize(
    ("appends", "bound"), [pytest.param(True, 64, id="local disk"), pytest.param(False, 300, id="elsewhere")]
)
def test_responses_paid_twice_after_a_kill_are_bounded(appends, bound, sandbox, tmp_path):
    """Without a cache, at half of the table: requests in flight, and unwritten responses."""
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
        end(process)
    until(lambda: is_idle(sandbox))
    kept = written(tmp_path)

    assert end(start(sandbox, tmp_path, 2, **given), 50) == 0
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


def test_twenty_processes_that_are_killed_at_boundaries_lose_no_row(sandbox, tmp_path, record_property):
    """With SIGKILL, each from inside at the boundary, without a cache."""
    unwritten = 40
    given = {"cache": False, "environment": OFTEN | {"lease_seconds": 0.2}, "limits": {"max_unwritten": unwritten}}
    entries = sandbox.state.ledger.entries
    asked = lambda entry: f"r{entry.body['input'].split()[-1]}"  # noqa: E731
    kept: set[str] = set()
    lost: list[int] = []  # by each kill: sent, and not written
    for number, at in enumerate([*KILLED_AT, None], 1):
        begun = len(entries)
        ended = end(start(sandbox, tmp_path, number, at=at, **given), 50)
        assert ended == (0 if at is None else -signal.SIGKILL), at
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
