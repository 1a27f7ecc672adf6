"""The lease: exclusive if the store allows that, and kept through failures of the store."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_responses.enrich.lease import LEASES, Claim, ExclusiveLease, SharedLease, lease_in
from airflow_provider_responses.enrich.output_store import LEASE_SECONDS, OutputStore, Writer
from airflow_provider_responses.enrich.storage import LocalStorage, Storage
from airflow_provider_responses.exceptions import LeaseLostError, OutputLockedError, StorageError
from tests.enrich.stores import Clock, Failing, Race, Raced, Shelf


def store(storage: Storage, clock: Clock, owner: str = "a", try_number: int = 1, **given: Any) -> OutputStore:
    return OutputStore(storage, Writer(owner=owner, try_number=try_number), clock, sleep=clock.sleep, **given)


def claims(files: dict[str, bytes]) -> list[str]:
    return sorted(name for name in files if name.startswith(LEASES))


# Which lease a store has


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_kind_of_lease_depends_on_the_store_and_is_logged(
    caplog: pytest.LogCaptureFixture, *, exclusive: bool
) -> None:
    caplog.set_level(logging.INFO)
    files: dict[str, bytes] = {}
    first = store(Shelf(files, exclusive=exclusive), Clock())
    first.acquire(resume=True)
    assert first.lease_is_exclusive == exclusive
    [message] = caplog.messages
    if exclusive:
        assert message == "shelf://bucket/out is locked: one task at a time writes it (exclusive lease)"
    else:
        assert message.startswith("The lease of shelf://bucket/out is not exclusive, since its store accepts a second")
    assert not [name for name in files if "probe" in name]


def test_a_store_is_probed_once() -> None:
    files: dict[str, bytes] = {}
    probed = []

    class Watched(Shelf):
        def create_file(self, name: str, data: bytes) -> bool:
            probed.append("probe" in name)
            return super().create_file(name, data)

    for try_number in (1, 2, 3):
        store(Watched(files), Clock(), try_number=try_number).acquire(resume=True)
    assert sum(probed) == 2


def test_local_disk_has_an_exclusive_lease(tmp_path: Path) -> None:
    local = store(LocalStorage(tmp_path / "out"), Clock())
    local.acquire(resume=True)
    assert local.lease_is_exclusive


def test_a_probe_whose_response_was_lost_still_shows_an_exclusive_create() -> None:
    """The library sends it again, and the store refuses what it has."""
    files: dict[str, bytes] = {f"{LEASES}/probe-me": b"1"}
    assert isinstance(lease_in(Shelf(files), "me", lambda _: None), ExclusiveLease)
    assert files == {}


def test_a_probe_that_fails_raises_its_error() -> None:
    with pytest.raises(StorageError, match="503"):
        store(Failing({}, lambda _, name: "before" if "probe" in name else ""), Clock()).acquire(resume=True)


def test_a_library_without_an_exclusive_create_does_not_overwrite_claims() -> None:
    class Older(Shelf):
        has_exclusive_create = False

    files: dict[str, bytes] = {}
    assert isinstance(lease_in(Older(files), "me", lambda _: None), SharedLease)
    store(Shelf(files), Clock()).acquire(resume=True)
    with pytest.raises(StorageError, match=r"out/lease has claims that need an exclusive create.*update it"):
        store(Older(files), Clock(), try_number=2).acquire(resume=True)


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_probes_of_killed_attempts_are_deleted_by_the_holder(*, exclusive: bool) -> None:
    files: dict[str, bytes] = {f"{LEASES}/probe-{name}": b"1" for name in ("0a1b2c3d", "mine", "0a1b2c3d.txt")}
    store(Shelf(files, exclusive=exclusive), Clock()).acquire(resume=True)
    left = {name for name in claims(files) if "probe" in name}
    assert left == {f"{LEASES}/probe-mine", f"{LEASES}/probe-0a1b2c3d.txt"}, "files with other names stay"


def test_an_attempt_that_is_refused_deletes_nothing() -> None:
    files: dict[str, bytes] = {}
    store(Shelf(files), Clock(), "holder").acquire(resume=True)
    files[f"{LEASES}/probe-0a1b2c3d"] = b"1"
    with pytest.raises(OutputLockedError, match="is being written by holder"):
        store(Shelf(files), Clock(), "other").acquire(resume=True)
    assert f"{LEASES}/probe-0a1b2c3d" in files


def test_a_probe_that_another_attempt_deletes_does_not_make_the_lease_shared() -> None:
    """Between the two creates of the probe another attempt takes the lease, and deletes the probe as a leftover."""
    files: dict[str, bytes] = {}
    clock = Clock()

    class Overtaken(Shelf):
        probes = 0

        def create_file(self, name: str, data: bytes) -> bool:
            self.probes += "probe" in name
            if self.probes == 2:
                store(Shelf(files), clock, "holder").acquire(resume=True)
                assert not [name for name in claims(files) if "probe" in name]
            return super().create_file(name, data)

    late = store(Overtaken(files), clock, "late")
    with pytest.raises(OutputLockedError, match="is being written by holder"):
        late.acquire(resume=True)
    assert late.lease_is_exclusive


def test_a_temporary_file_that_cannot_be_deleted_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files: dict[str, bytes] = {f"{LEASES}/probe-0a1b2c3d": b"1"}
    fails = lambda operation, name: "before" if operation == "delete" and "0a1b2c3d" in name else ""  # noqa: E731
    holder = store(Failing(files, fails), Clock())
    holder.acquire(resume=True)
    assert holder.lease_is_exclusive
    assert (
        "Temporary files of killed attempts could not be deleted: shelf://bucket/out/lease/probe-0a1b2c3d: 503"
        in caplog.text
    )


def test_the_drafts_of_killed_attempts_are_deleted_by_the_holder(tmp_path: Path) -> None:
    """And no other files in the folder."""
    drafts = [
        ".result.jsonl.0a1b2c3d",
        ".result.parquet.0a1b2c3d",
        ".manifest.json.0a1b2c3d",
        "parts/.part-g0001-t0001-0a1b2c3d-000000.jsonl.0a1b2c3d",
    ]
    others = [".result.jsonl.swp", ".notes.txt.0a1b2c3d", "result.jsonl.0a1b2c3d", "parts/.part-1.jsonl.0a1b2c3d"]
    (tmp_path / "parts").mkdir()
    for name in (*drafts, *others):
        (tmp_path / name).write_bytes(b"half")
    store(LocalStorage(tmp_path), Clock()).acquire(resume=True)
    assert [name for name in drafts if (tmp_path / name).exists()] == []
    assert [name for name in others if (tmp_path / name).exists()] == others


# Reading


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_claim_that_is_cut_off_is_read_again(*, exclusive: bool) -> None:
    files: dict[str, bytes] = {}
    clock = Clock()
    holder = store(Shelf(files, exclusive=exclusive), clock, "holder")
    holder.acquire(resume=True)
    reads = 0

    class Torn(Shelf):
        def read_file(self, name: str) -> bytes | None:
            nonlocal reads
            reads += 1
            data = super().read_file(name)
            return data if data is None or reads > 3 else data[: len(data) // reads - 1]

    with pytest.raises(OutputLockedError, match="is being written by holder"):
        store(Torn(files, exclusive=exclusive), clock, "other").acquire(resume=True)
    assert reads == 4


def test_a_claim_that_was_cut_off_counts_as_the_one_before_it() -> None:
    """As after a kill during a renewal on local disk: the file is there, half or empty."""
    files: dict[str, bytes] = {}
    clock = Clock()
    holder = store(Shelf(files), clock, "holder")
    holder.acquire(resume=True)
    [last] = claims(files)
    number = int(last.removeprefix("lease/claim-").removesuffix(".json"))
    for cut in (files[last][:9], b""):
        number += 1
        files[f"lease/claim-{number:09d}.json"] = cut
    with pytest.raises(OutputLockedError, match="is being written by holder"):
        store(Shelf(files), clock, "other").acquire(resume=True)
    again = store(Shelf(files), clock, "holder", try_number=2)
    again.acquire(resume=True)
    assert len(claims(files)) == 1


def test_a_new_generation_is_found_again_after_a_claim_that_was_cut_off() -> None:
    files: dict[str, bytes] = {}
    clock = Clock()
    store(Shelf(files), clock).acquire(resume=True)
    first = OutputStore(Shelf(files), Writer(owner="a", idempotency_key="new"), clock)
    first.acquire(resume=False)
    assert first.generation == 2
    [last] = claims(files)
    number = int(last.removeprefix("lease/claim-").removesuffix(".json")) + 1
    files[f"lease/claim-{number:09d}.json"] = b"{"
    second = OutputStore(Shelf(files), Writer(owner="a", try_number=2, idempotency_key="new"), clock, sleep=clock.sleep)
    second.acquire(resume=False)
    assert second.generation == 2


def test_a_claim_is_read_with_one_request() -> None:
    files: dict[str, bytes] = {}
    store(Shelf(files), Clock(), "holder").acquire(resume=True)
    seen: list[tuple[str, str]] = []
    watched = Failing(files, lambda operation, name: seen.append((operation, name)) or "")
    with pytest.raises(OutputLockedError):
        store(watched, Clock(), "other").acquire(resume=True)
    [last] = claims(files)
    assert seen == [("list", LEASES), ("list", LEASES), ("read", last)]


def test_a_claim_that_is_replaced_while_it_is_read_is_looked_up_again() -> None:
    files: dict[str, bytes] = {}
    clock = Clock()
    holder = store(Shelf(files), clock, "holder")
    holder.acquire(resume=True)
    renewals = iter([True, True, False])

    def renew(operation: str, name: str) -> str:
        if operation == "read" and next(renewals, False):
            holder.renew()
        return ""

    with pytest.raises(OutputLockedError, match="is being written by holder"):
        store(Failing(files, renew), clock, "other").acquire(resume=True)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["owner", "try_number", "idempotency_key", "token", "generation", "begun", "expires"])
                | st.text(),
                inner,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_content_parses_to_a_claim_or_none(data: bytes) -> None:
    claim = Claim.parse(data)
    assert claim is None or Claim.parse(claim.encoded()) == claim


# Two at once


@settings(max_examples=300, deadline=None)
@given(
    picks=st.lists(st.integers(0, 5), max_size=150),
    faults=st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, 3]), max_size=60),
    writers=st.integers(2, 4),
    held=st.booleans(),
)
def test_of_several_tasks_that_start_at_once_one_sends_and_none_fails_for_good(
    picks: list[int], faults: list[int], writers: int, *, held: bool
) -> None:
    """In any order of their requests, with 503s, lost responses and creates that take effect late."""
    files: dict[str, bytes] = {}
    clock = Clock()
    if held:  # by a writer that was killed
        store(Shelf(files), clock, "dead").acquire(resume=True)
        clock.now += LEASE_SECONDS
    late: list[Any] = []
    drawn = iter(faults)
    for _ in range(50):  # attempts of Airflow's
        race = Race(iter(picks))
        stores = [store(Raced(files, race, number, drawn, late), clock, f"task {number}") for number in range(writers)]

        def start(mine: OutputStore) -> OutputStore:
            mine.acquire(resume=True)
            return mine

        results = race.run([lambda mine=mine: start(mine) for mine in stores])
        senders = [result for result in results if isinstance(result, OutputStore)]
        for result in results:
            assert isinstance(result, OutputStore) or result.retryable
        assert len(senders) <= 1
        if senders:
            for _, name, data in late:
                files.setdefault(name, data)
            break
        clock.now += LEASE_SECONDS
    else:
        raise AssertionError("nobody got it")
    for other in stores:
        if other is senders[0]:
            other.renew()  # no create that takes effect late takes it away
            assert other.lease_left == LEASE_SECONDS
        else:
            with pytest.raises(OutputLockedError, match="is being written by task"):
                store(Shelf(files), clock, other.writer.owner).acquire(resume=True)


def test_of_several_threads_that_start_at_once_on_local_disk_one_sends(tmp_path: Path) -> None:
    for attempt in range(10):
        begin = threading.Barrier(8)
        path = tmp_path / str(attempt)

        def start(owner: int, path: Path = path, begin: threading.Barrier = begin) -> bool:
            """Return whether it may send; if not, Airflow retries."""
            mine = OutputStore(path, Writer(owner=f"task {owner}"), lambda: 0.0)
            begin.wait()
            try:
                mine.acquire(resume=True)
            except OutputLockedError as error:
                return not error.retryable
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(start, range(8))) == 1


def test_a_renewal_and_a_takeover_in_the_same_moment_leave_one_writer() -> None:
    """Both read the lease when it has just lapsed."""
    for picks in ([0] * 20, [1] * 20, [0, 1] * 20, [1, 0] * 20, [0, 0, 1] * 20, [1, 1, 0] * 20):
        files: dict[str, bytes] = {}
        clock = Clock()
        race = Race(iter(picks))
        old = store(Raced(files, race, 0, iter(()), []), clock, "old")
        old.acquire(resume=True)
        clock.now += LEASE_SECONDS
        new = store(Raced(files, race, 1, iter(()), []), clock, "new")
        results = race.run([old.renew, lambda new=new: new.acquire(resume=True)])
        assert sum(result is None for result in results) == 1
        assert isinstance(results[0], LeaseLostError) != isinstance(results[1], OutputLockedError)


# Renewals


def test_a_renewal_that_fails_is_tried_again_until_it_works() -> None:
    files: dict[str, bytes] = {}
    clock = Clock()
    down_until = 0.0
    mine = store(Failing(files, lambda *_: "before" if clock.now < down_until else ""), clock)
    mine.acquire(resume=True)
    down_until = clock.now + LEASE_SECONDS - 5
    mine.renew()
    assert clock.now >= down_until
    assert mine.lease_left == LEASE_SECONDS


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_attempt_whose_lease_lapses_stops_and_is_retryable(when: str, caplog: pytest.LogCaptureFixture) -> None:
    files: dict[str, bytes] = {}
    clock = Clock()
    is_down = False

    def fails(operation: str, _: str) -> str:
        return when if is_down and operation in {"create", "list"} else ""

    mine = store(Failing(files, fails), clock, lease_seconds=60)
    mine.acquire(resume=True)
    began, is_down = clock.now, True
    with pytest.raises(
        LeaseLostError, match=r"the lease lapsed, because it could not be renewed for 60 s; .*503, as told"
    ) as caught:
        mine.renew()
    assert caught.value.retryable
    assert 60 <= clock.now - began < 63
    assert "The lease could not be renewed, and lapses in" in caplog.text
    assert mine.lease_left == 0.0


def test_a_renewal_whose_response_was_lost_counts() -> None:
    files: dict[str, bytes] = {}
    clock = Clock()
    lost = iter([True, True])
    is_ready = False

    def fails(operation: str, _: str) -> str:
        return "after" if is_ready and operation == "create" and next(lost, False) else ""

    mine = store(Failing(files, fails), clock)
    mine.acquire(resume=True)
    is_ready = True
    mine.renew()
    assert len(claims(files)) == 1
    assert mine.lease_left == LEASE_SECONDS
    mine.renew()


def test_a_renewal_that_hangs_does_not_use_up_the_lease() -> None:
    files: dict[str, bytes] = {}
    clock = Clock()
    released = threading.Event()
    hangs = iter([True])
    is_ready = False

    def hang(operation: str, _: str) -> str:
        if is_ready and operation == "create" and next(hangs, False):
            released.wait()
        return ""

    mine = store(Failing(files, hang), clock, lease_seconds=4)
    mine.acquire(resume=True)
    is_ready = True
    mine.renew()
    released.set()
    assert mine.lease_left > 0


@pytest.mark.parametrize("last", ["create", "list"])
def test_a_renewal_that_was_given_up_and_succeeds_late_keeps_the_lease(last: str) -> None:
    """It deletes the claims before its own, including the one that is renewed next."""
    files: dict[str, bytes] = {}
    clock = Clock()
    released, is_ready = threading.Event(), False
    hangs = iter([True])

    def hang(operation: str, _: str) -> str:
        if is_ready and operation == last and next(hangs, False):
            released.wait()
        return ""

    mine = store(Failing(files, hang), clock, lease_seconds=4)
    mine.acquire(resume=True)
    is_ready = True
    with pytest.raises(StorageError, match="no response"):
        mine.try_renew()
    [late] = [thread for thread in threading.enumerate() if thread.name == "storage"]
    released.set()
    late.join()
    mine.try_renew()
    mine.try_renew()
    assert len(claims(files)) == 1
    other = store(Shelf(files), clock, "other")
    with pytest.raises(OutputLockedError, match="is being written by"):
        other.acquire(resume=True)


def test_a_lease_that_cannot_be_released_is_only_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    files: dict[str, bytes] = {}
    is_down = False
    mine = store(Failing(files, lambda *_: "before" if is_down else ""), Clock())
    mine.acquire(resume=True)
    is_down = True
    mine.release()
    assert "The lease could not be released, and lapses in 120 s" in caplog.text


def test_a_release_that_hangs_is_only_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    files: dict[str, bytes] = {}
    released, is_ready = threading.Event(), False

    def hang(operation: str, _: str) -> str:
        if is_ready and operation == "create":
            released.wait()
        return ""

    mine = store(Failing(files, hang), Clock(), lease_seconds=0.1)
    mine.acquire(resume=True)
    is_ready = True
    mine.release()
    released.set()
    assert "lapses in 0 s: shelf://bucket/out/lease: the store gave no response" in caplog.text


def test_older_claims_are_deleted_if_possible(caplog: pytest.LogCaptureFixture) -> None:
    files: dict[str, bytes] = {}
    mine = store(Shelf(files), Clock())
    mine.acquire(resume=True)
    for _ in range(20):
        mine.renew()
    assert len(claims(files)) == 1
    caplog.set_level(logging.INFO)
    other = store(Failing(files, lambda operation, _: "before" if operation == "delete" else ""), Clock(), try_number=2)
    other.acquire(resume=True)
    other.renew()
    assert "Older claims could not be deleted" in caplog.text


def test_a_claim_that_is_created_late_does_not_take_the_lease() -> None:
    """Number 2 was deleted long ago, and is created again by a request that was open all the time."""
    files: dict[str, bytes] = {}
    clock = Clock()
    zombie = store(Shelf(files), clock, "zombie")
    zombie.acquire(resume=True)
    [first] = claims(files)
    clock.now += LEASE_SECONDS
    mine = store(Shelf(files), clock, "mine")
    mine.acquire(resume=True)
    mine.renew()
    files[first] = Claim(
        owner="zombie", try_number=9, idempotency_key="", token="z", generation=7, latest_generation=7, expires=1e12
    ).encoded()
    mine.renew()
    with pytest.raises(LeaseLostError, match="mine, try 1, writes here now"):
        zombie.renew()
    mine.renew()
