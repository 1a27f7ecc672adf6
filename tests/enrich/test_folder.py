"""The output folder: the lease, the generations, and parts that may be torn."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.enrich import folder as module
from airflow_provider_responses.enrich.folder import LEASE, LEASE_SECONDS, PARTS, Folder, Writer, name_of
from airflow_provider_responses.exceptions import ConfigurationError, LeaseLostError
from tests.enrich.jobs import stored

# Of the path library that Airflow 2.11 has, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:in a future version of UPath:PendingDeprecationWarning")


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["path", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Where the output goes: a path, or an object storage of Airflow's."""
    if request.param == "path":
        return tmp_path / "out"
    return stored(tmp_path.name) / "out"


@pytest.fixture
def clock() -> Clock:
    return Clock()


Open = Callable[..., Folder]


@pytest.fixture
def opened(place: Any, clock: Clock) -> Open:
    """A folder that is acquired."""

    def new(owner: str = "a", try_number: int = 1, stamp: str = "s", *, resume: bool = True) -> Folder:
        made = Folder(place, Writer(owner=owner, try_number=try_number, stamp=stamp), clock)
        made.acquire(resume=resume)
        return made

    return new


def answer(number: int) -> dict[str, Any]:
    return {"_row": number, "_fingerprint": f"{number:04x}", "_status": "ok", "text": "ä😀"}


def part(*numbers: int) -> list[str]:
    return [json.dumps(answer(number), ensure_ascii=False) for number in numbers]


def rows_in(folder: Folder) -> list[int]:
    return sorted(row["_row"] for rows in folder.read_parts() for row in rows)


def names_in(place: Any) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name != PARTS)


# The lease


@pytest.mark.parametrize("try_number", [2, 3, 7])
def test_a_newer_try_of_the_same_task_takes_over_at_once(opened: Open, try_number: int) -> None:
    old = opened("a", 2)
    new = opened("a", try_number)
    new.renew()
    with pytest.raises(LeaseLostError, match=rf"a, try {try_number}, writes here now; this one stops"):
        old.renew()
    old.release()  # takes nothing away from the new one
    new.renew()


@pytest.mark.parametrize(("owner", "try_number"), [("b", 9), ("a", 1), ("b", 2)])
def test_an_older_try_and_other_tasks_are_refused_until_the_lease_lapses(
    opened: Open, clock: Clock, owner: str, try_number: int
) -> None:
    opened("a", 2)
    clock.now += 10
    with pytest.raises(ConfigurationError, match=r"is being written by a, try 2\. Wait .* for 110 s") as caught:
        opened(owner, try_number)
    assert caught.value.retryable
    clock.now += LEASE_SECONDS - 10.5
    with pytest.raises(ConfigurationError):
        opened(owner, try_number)
    clock.now += 0.5
    opened(owner, try_number).renew()


def test_who_renews_keeps_the_lease(opened: Open, clock: Clock) -> None:
    mine = opened("a")
    for _ in range(5):
        clock.now += LEASE_SECONDS - 1
        mine.renew()
        with pytest.raises(ConfigurationError):
            opened("b")


def test_a_lease_that_is_released_is_free(opened: Open, place: Any) -> None:
    opened("a").release()
    opened("b").release()
    assert names_in(place) == [LEASE]


def test_a_writer_that_comes_back_after_its_lease_lapsed_has_lost_it(opened: Open, clock: Clock) -> None:
    old = opened("a", 9)
    clock.now += LEASE_SECONDS
    new = opened("b")
    with pytest.raises(LeaseLostError, match="b, try 1, writes here now"):
        old.renew()
    new.renew()


def test_without_its_lease_a_writer_stops(opened: Open, place: Any) -> None:
    mine = opened("a")
    (place / LEASE).unlink()
    with pytest.raises(LeaseLostError, match="deleted the lease"):
        mine.renew()


def test_a_torn_lease_keeps_nobody_out_and_loses_no_answer(opened: Open, place: Any) -> None:
    opened("a", stamp="one", resume=False).write_part(part(1))
    first = opened("a", stamp="two", resume=False)
    first.write_part(part(2))
    data = (place / LEASE).read_bytes()
    for end in range(len(data)):
        (place / LEASE).write_bytes(data[:end])
        with pytest.raises(LeaseLostError):
            first.renew()
        later = opened("b", stamp="three")
        assert (later.generation, rows_in(later)) == (2, [2])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/out", "/data/out"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://conn@bucket//a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a@b/c", "gs://bucket/a@b/c"),
    ],
)
def test_a_folder_has_one_name(path: str, name: str) -> None:
    assert name_of(path) == name


# Generations


def test_generations(opened: Open) -> None:
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


def test_a_new_generation_begins_after_all_parts_also_without_a_lease(opened: Open, place: Any) -> None:
    for stamp in ("one", "two", "three"):
        opened("a", 1, stamp, resume=False).write_part(part(1))
    (place / LEASE).unlink()
    assert opened("a", 1, "four", resume=False).generation == 4


def test_a_generation_without_answers_is_passed_over_but_not_by_the_task_that_began_it(opened: Open) -> None:
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


def test_a_part_reads_back_and_what_is_no_part_is_left_alone(opened: Open, place: Any) -> None:
    folder = opened()
    name = folder.write_part(part(1, 2))
    assert name.startswith("part-g0001-t0001-")
    for other in ("notes.txt", "part-x.txt", f".{name}.0a1b2c3d"):
        (place / PARTS / other).write_bytes(b"{}\n")
    assert list(folder.read_parts()) == [[answer(1), answer(2)]]


def test_a_part_cut_at_any_byte_gives_the_rows_that_are_whole(opened: Open, place: Any) -> None:
    folder = opened()
    path = place / PARTS / folder.write_part(part(1, 2, 3))
    folder.write_part(part(4))
    data = path.read_bytes()
    ends = [len("\n".join(part(*range(1, last + 1))).encode()) for last in (1, 2, 3)]
    for end in range(len(data)):
        path.write_bytes(data[:end])
        assert rows_in(folder) == [n for n, at in enumerate(ends, 1) if at <= end] + [4]


@pytest.mark.parametrize(
    "line", ["[]", "{}", '{"_status": "ok"}', '{"_fingerprint": "00"}', "null", "\x00" * 40], ids=ascii
)
def test_a_part_ends_where_a_line_is_no_row(opened: Open, place: Any, line: str) -> None:
    folder = opened()
    path = place / PARTS / folder.write_part(part(1))
    path.write_bytes(path.read_bytes() + f"{line}\n{part(2)[0]}\n".encode())
    assert rows_in(folder) == [1]


def test_parts_of_two_writers_never_collide(opened: Open) -> None:
    """Not even if both think that they are the same try."""
    zombie, mine = opened("a", 1), opened("a", 1)
    names = [writer.write_part(part(number)) for number in range(20) for writer in (zombie, mine)]
    assert len(set(names)) == 40
    assert rows_in(mine) == sorted([*range(20), *range(20)])


def test_the_manifest_is_json(opened: Open, place: Any) -> None:
    folder = opened()
    for count in (1, 2):
        folder.write_manifest({"rows": count})
    assert json.loads((place / "manifest.json").read_bytes()) == {"rows": 2}
    assert names_in(place) == [LEASE, "manifest.json"]


# Files that are whole or not there


def full(*args: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", [(os, "fsync"), (Path, "replace")], ids=["write", "rename"])
@pytest.mark.parametrize("before", [None, b"before"])
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str], before: bytes | None
) -> None:
    target = tmp_path / "file"
    if before is not None:
        target.write_bytes(before)
    monkeypatch.setattr(*where, full)
    with pytest.raises(OSError, match="No space left"):
        module.write_whole(target, b"after")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize("where", [(shutil, "copyfile"), (Path, "replace")], ids=["copy", "rename"])
def test_a_result_that_cannot_be_put_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str]
) -> None:
    local, target = tmp_path / "local", tmp_path / "out" / "file"
    target.parent.mkdir()
    local.write_bytes(b"after")
    target.write_bytes(b"before")
    monkeypatch.setattr(*where, full)
    with pytest.raises(OSError, match="No space left"):
        module.put(local, target)
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"before"]


def test_files_are_written_and_put_whole_without_drafts(place: Any, tmp_path: Path) -> None:
    place.mkdir(parents=True)
    local = tmp_path / "local"
    for data in (b"one" * 100_000, b"two"):
        local.write_bytes(data)
        module.write_whole(place / "written", data)
        module.put(local, place / "put")
        assert (place / "written").read_bytes() == (place / "put").read_bytes() == data
    assert names_in(place) == ["put", "written"]
