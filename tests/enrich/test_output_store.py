"""The output: the lease, the generations, and parts that may be cut off."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.enrich.lease import LEASES
from airflow_provider_responses.enrich.output_store import LEASE_SECONDS, PARTS, OutputStore, Writer, output_name
from airflow_provider_responses.exceptions import LeaseLostError, OutputLockedError, StorageError
from tests.enrich.jobs import stored

# Raised by the path library of Airflow 2.11.
pytestmark = pytest.mark.filterwarnings("ignore:in a future version of UPath:PendingDeprecationWarning")


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["path", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The path of the output: local, or an ``ObjectStoragePath``."""
    if request.param == "path":
        return tmp_path / "out"
    return stored(tmp_path.name) / "out"


@pytest.fixture
def clock() -> Clock:
    return Clock()


Open = Callable[..., OutputStore]


@pytest.fixture
def opened(place: Any, clock: Clock) -> Open:
    """An output whose lease is held."""

    def new(owner: str = "a", try_number: int = 1, idempotency_key: str = "s", *, resume: bool = True) -> OutputStore:
        made = OutputStore(
            place,
            Writer(owner=owner, try_number=try_number, idempotency_key=idempotency_key),
            clock,
            sleep=lambda _: None,
        )
        made.acquire(resume=resume)
        return made

    return new


def row(number: int) -> dict[str, Any]:
    return {"_row": number, "_fingerprint": f"{number:04x}", "_status": "ok", "text": "ä😀"}


def part(*numbers: int) -> list[str]:
    return [json.dumps(row(number), ensure_ascii=False) for number in numbers]


def rows_in(folder: OutputStore) -> list[int]:
    return sorted(row["_row"] for rows in folder.read_parts() for row in rows)


def names_in(place: Any) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name != PARTS)


def claims_in(place: Any) -> list[Any]:
    return sorted((place / LEASES).iterdir(), key=lambda path: path.name)


# The lease


@pytest.mark.parametrize("try_number", [2, 3, 7])
def test_a_newer_attempt_of_the_same_task_takes_over_at_once(opened: Open, try_number: int) -> None:
    old = opened("a", 2)
    new = opened("a", try_number)
    new.renew()
    with pytest.raises(LeaseLostError, match=rf"a, try {try_number}, writes here now; this attempt stops"):
        old.renew()
    old.release()  # does not affect the new one
    new.renew()


@pytest.mark.parametrize(("owner", "try_number"), [("b", 9), ("a", 1), ("b", 2)])
def test_an_older_attempt_and_other_tasks_are_refused_until_the_lease_lapses(
    opened: Open, clock: Clock, owner: str, try_number: int
) -> None:
    opened("a", 2)
    clock.now += 10
    with pytest.raises(OutputLockedError, match=r"is being written by a, try 2\. Wait .* for 110 s") as caught:
        opened(owner, try_number)
    assert caught.value.retryable
    clock.now += LEASE_SECONDS - 10.5
    with pytest.raises(OutputLockedError):
        opened(owner, try_number)
    clock.now += 0.5
    opened(owner, try_number).renew()


def test_a_renewal_keeps_the_lease(opened: Open, clock: Clock) -> None:
    mine = opened("a")
    for _ in range(5):
        clock.now += LEASE_SECONDS - 1
        mine.renew()
        with pytest.raises(OutputLockedError):
            opened("b")


def test_a_lease_that_is_released_is_free(opened: Open, place: Any) -> None:
    opened("a").release()
    opened("b").release()
    assert names_in(place) == [LEASES]
    assert len(claims_in(place)) <= 2  # older claims are deleted


def test_a_writer_that_returns_after_a_takeover_has_lost_the_lease(opened: Open, clock: Clock) -> None:
    old = opened("a", 9)
    clock.now += LEASE_SECONDS
    new = opened("b")
    with pytest.raises(LeaseLostError, match="b, try 1, writes here now"):
        old.renew()
    new.renew()


def test_a_writer_stops_if_its_lease_was_deleted(opened: Open, place: Any) -> None:
    mine = opened("a")
    for path in claims_in(place):
        path.unlink()
    with pytest.raises(LeaseLostError, match="the lease was deleted; this attempt stops"):
        mine.renew()
    opened("b")


def test_a_lease_that_is_cut_off_blocks_nobody_and_loses_no_response(opened: Open, place: Any) -> None:
    opened("a", idempotency_key="one", resume=False).write_part(part(1))
    first = opened("a", idempotency_key="two", resume=False)
    first.write_part(part(2))
    last = claims_in(place)[-1]
    data = last.read_bytes()
    for end in range(0, len(data), 7):
        last = claims_in(place)[-1]
        last.write_bytes(data[:end])
        later = opened("b", idempotency_key="three")
        assert (later.generation, rows_in(later)) == (2, [2])
        with pytest.raises(LeaseLostError):
            first.renew()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/out", "/data/out"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://conn@bucket//a/b/", "s3://conn@bucket/a/b"),
        ("memory:///bucket/a", "memory://bucket/a"),
        ("memory://conn@/bucket//a", "memory://conn@bucket/a"),
        ("gs://bucket/a@b/c", "gs://bucket/a@b/c"),
    ],
)
def test_an_output_has_one_name(path: str, name: str) -> None:
    assert output_name(path) == name


# Generations


def test_resume_and_clears_choose_the_generation(opened: Open) -> None:
    first = opened("a", 1, "one", resume=False)
    assert first.generation == 1
    first.write_part(part(1))
    retry = opened("a", 2, "one", resume=False)
    assert (retry.generation, rows_in(retry)) == (1, [1])
    cleared = opened("a", 3, "two", resume=False)
    assert (cleared.generation, rows_in(cleared)) == (2, [])
    cleared.write_part(part(2, 3))
    cleared.release()
    again = opened("a", 4, "two", resume=False)
    assert (again.generation, rows_in(again)) == (2, [2, 3])
    again.release()
    other = opened("b", 1, "three", resume=True)
    assert (other.generation, rows_in(other)) == (2, [2, 3])
    other.release()
    assert opened("a", 1, "four", resume=False).generation == 3


def test_a_retry_stays_in_its_generation_although_another_task_has_resumed_it_meanwhile(opened: Open) -> None:
    first = opened("a", 1, "one", resume=False)
    first.write_part(part(1))
    first.release()  # it waits for batches, without the lease
    opened("b", 1, "two", resume=True).release()
    retry = opened("a", 2, "one", resume=False)
    assert (retry.generation, rows_in(retry)) == (1, [1])
    retry.release()
    cleared = opened("a", 1, "three", resume=False)
    assert (cleared.generation, rows_in(cleared)) == (2, [])


def test_a_task_whose_empty_generation_another_has_left_begins_a_new_one(opened: Open) -> None:
    opened("a", 1, "one").write_part(part(1))
    opened("a", 1, "two", resume=False).release()
    opened("b", 1, "three", resume=True).release()
    retry = opened("a", 2, "two", resume=False)
    assert (retry.generation, rows_in(retry)) == (3, [])


def test_a_new_generation_follows_all_parts_even_without_a_lease(opened: Open, place: Any) -> None:
    for idempotency_key in ("one", "two", "three"):
        opened("a", 1, idempotency_key, resume=False).write_part(part(1))
    for path in claims_in(place):
        path.unlink()
    assert opened("a", 1, "four", resume=False).generation == 4


def test_a_generation_without_responses_is_skipped_except_by_its_own_task(opened: Open) -> None:
    opened("a", 1, "one").write_part(part(1))
    opened("a", 1, "two", resume=False).release()
    retry = opened("a", 2, "two", resume=True)
    assert (retry.generation, rows_in(retry)) == (2, [])
    retry.release()
    other = opened("a", 1, "three", resume=True)
    assert (other.generation, rows_in(other)) == (1, [1])
    other.release()
    assert opened("a", 1, "four", resume=False).generation == 3


def test_other_generations_are_deleted(opened: Open, place: Any) -> None:
    opened("a", 1, "one", resume=False).write_part(part(1))
    folder = opened("a", 1, "two", resume=False)
    kept = folder.write_part(part(2))
    folder.delete_parts(but_not=2)
    assert [path.name for path in (place / PARTS).iterdir()] == [kept]
    assert rows_in(folder) == [2]


# Parts


def test_a_folder_without_parts_has_no_rows(opened: Open) -> None:
    folder = opened()
    assert list(folder.read_parts()) == []
    folder.delete_parts(but_not=1)


def test_parts_are_read_and_other_files_ignored(opened: Open, place: Any) -> None:
    folder = opened()
    name = folder.write_part(part(1, 2))
    assert name.startswith("part-g0001-t0001-")
    for other in ("notes.txt", "part-x.txt", f".{name}.0a1b2c3d"):
        (place / PARTS / other).write_bytes(b"{}\n")
    assert list(folder.read_parts()) == [[row(1), row(2)]]


def test_a_part_cut_at_any_byte_has_the_rows_before_the_cut(opened: Open, place: Any) -> None:
    folder = opened()
    path = place / PARTS / folder.write_part(part(1, 2, 3))
    folder.write_part(part(4))
    data = path.read_bytes()
    ends = [len("\n".join(part(*range(1, last + 1))).encode()) for last in (1, 2, 3)]
    for end in range(len(data)):
        path.write_bytes(data[:end])
        assert rows_in(folder) == [n for n, at in enumerate(ends, 1) if at <= end] + [4]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        '{"_status": "ok"}',
        '{"_fingerprint": "00"}',
        '{"_fingerprint": "no hex", "_status": "ok"}',
        '{"_fingerprint": "", "_status": "ok"}',
        '{"_fingerprint": 1, "_status": "ok"}',
        '{"_fingerprint": "00", "_status": ["ok"]}',
        '{"_fingerprint": "00", "_status": "ok", "_cost": "0.1"}',
        '{"_fingerprint": "00", "_status": "ok", "_paid": 1}',
        '{"_fingerprint": "00", "_status": "ok", "_paid": [1, null]}',
        '{"_fingerprint": "00", "_status": "ok", "_generations": "gen-1"}',
        '{"_fingerprint": "00", "_status": "ok", "_tier": "1"}',
        '{"_fingerprint": "00", "_status": "ok", "_tier": true}',
        '{"_fingerprint": "00", "_status": "ok", "_tier": -1}',
        '{"_fingerprint": "00", "_status": "ok", "_tier": 1000000000}',
        '{"_fingerprint": "00", "_status": "ok", "_judge": 1}',
        '{"_fingerprint": "00", "_status": "ok", "_judge": "00", "_score": "4"}',
        '{"_fingerprint": "00", "_status": "ok", "_key": {"a": 1}}',
        '{"_fingerprint": "00", "_status": "ok", "_prompt": 5}',
        "null",
        "\x00" * 40,
    ],
    ids=ascii,
)
def test_a_part_ends_at_a_damaged_line(opened: Open, place: Any, line: str) -> None:
    folder = opened()
    path = place / PARTS / folder.write_part(part(1))
    path.write_bytes(path.read_bytes() + f"{line}\n{part(2)[0]}\n".encode())
    assert rows_in(folder) == [1]


# Appends


@pytest.fixture
def local(tmp_path: Path, clock: Clock) -> OutputStore:
    """An output on local disk whose lease is held."""
    store = OutputStore(tmp_path / "out", Writer(owner="a"), clock)
    store.acquire(resume=True)
    return store


def parts_in(store: OutputStore) -> list[Path]:
    return sorted((store.path / PARTS).iterdir())


def test_appended_rows_are_read_beside_parts(local: OutputStore) -> None:
    assert local.can_append
    local.append(part(1))
    local.write_part(part(2))
    local.append(part(3, 4))
    assert rows_in(local) == [1, 2, 3, 4]
    assert len(parts_in(local)) == 2


def test_appends_begin_a_new_part_after_1000_rows(local: OutputStore) -> None:
    for first in range(0, 3000, 400):
        local.append(part(*range(first, first + 400)))
    assert rows_in(local) == list(range(3200))
    assert [path.read_bytes().count(b"\n") for path in parts_in(local)] == [1200, 1200, 800]


def test_appends_from_several_threads_lose_nothing(local: OutputStore) -> None:
    def append(thread: int) -> None:
        for number in range(200):
            local.append(part(thread * 1000 + number))
            if number % 50 == 0:
                local.write_part(part(thread * 1000 + 500 + number))
                local.renew()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(append, range(4)))
    assert len(rows_in(local)) == len(set(rows_in(local))) == 4 * 204


def test_a_killed_process_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
store = OutputStore(sys.argv[1], Writer(owner="a"), lambda: 0.0)
store.acquire(resume=True)
store.append(['{"_fingerprint": "00", "_status": "ok", "_row": %d}' % row for row in range(700)])
store.append(['{"_fingerprint": "00", "_status": "ok", "_row": 700}'])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -9
    store = OutputStore(tmp_path, Writer(owner="a", try_number=2), lambda: 0.0)
    store.acquire(resume=True)
    assert rows_in(store) == list(range(701))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is a device of Linux'")
def test_appends_to_a_full_disk_are_not_read(local: OutputStore, monkeypatch: pytest.MonkeyPatch) -> None:
    local.append(part(1))
    [path] = parts_in(local)
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"part-.* cannot be written \(OSError: .*No space left.*free some"):
        local.append(part(2))
    path.unlink()
    local.append(part(2, 3))  # added again, the row goes into another part
    assert rows_in(local) == [2, 3]


def test_an_append_that_fails_halfway_is_undone(local: OutputStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that has space for half of them."""
    local.append(part(1))
    limit, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(StorageError, match="cannot be written"):
            local.append(part(*range(2, 100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert rows_in(local) == [1]
    local.append(part(*range(2, 100)))
    assert rows_in(local) == list(range(1, 100))


def test_object_stores_have_no_appends(clock: Clock, tmp_path: Path) -> None:
    store = OutputStore(stored(tmp_path.name), Writer(owner="a"), clock)
    assert not store.can_append
    with pytest.raises(NotImplementedError, match="object stores have no appends"):
        store.append(part(1))


def test_parts_of_two_writers_never_collide(opened: Open) -> None:
    """Not even if both run as the same attempt."""
    zombie, mine = opened("a", 1), opened("a", 1)
    names = [writer.write_part(part(number)) for number in range(20) for writer in (zombie, mine)]
    assert len(set(names)) == 40
    assert rows_in(mine) == sorted([*range(20), *range(20)])


def test_the_manifest_is_json(opened: Open, place: Any) -> None:
    folder = opened()
    for count in (1, 2):
        folder.write_manifest({"rows": count})
    assert json.loads((place / "manifest.json").read_bytes()) == {"rows": 2}
    assert names_in(place) == [LEASES, "manifest.json"]
