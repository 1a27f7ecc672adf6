"""Outputs on real object stores: the same as on local disk, with the best lease that each store allows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_responses.enrich.lease import LEASES
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.shard_merge import merge_shards
from airflow_provider_responses.enrich.storage import storage_at
from airflow_provider_responses.exceptions import LeaseLostError, OutputLockedError, StorageError
from tests.enrich.jobs import enrich, table
from tests.parts.stores import Bucket

ROW = '{"_fingerprint": "00", "_status": "ok", "_row": 1}'


def test_files_are_written_read_listed_and_deleted(bucket: Bucket, tmp_path):
    storage = storage_at(bucket.path() / "a folder" / "out")
    assert storage.list_names("lease") == []
    assert storage.read_file("lease/one") is None
    storage.delete_file("lease/one")
    assert storage.create_file("lease/one", b"1")
    assert storage.create_file("lease/one", b"1") != bucket.exclusive
    storage.write_file("lease/two", b"2")
    storage.write_file("lease/two", b"two")
    assert (storage.read_file("lease/one"), storage.read_file("lease/two")) == (b"1", b"two")
    assert storage.list_names("lease") == ["one", "two"]
    local = tmp_path / "local"
    for data in (b"one" * 3_000_000, "tö".encode()):
        local.write_bytes(data)
        storage.put_file(local, "result.jsonl")
        assert storage.get_file("result.jsonl", tmp_path).read_bytes() == data
    assert storage.list_names() == ["lease", "result.jsonl"]
    storage.delete_file("lease/one")
    assert storage.list_names("lease") == ["two"]


def test_files_of_other_processes_are_listed(bucket: Bucket):
    """Although filesystems cache their listings."""
    mine, others = (storage_at(bucket.path() / "out") for _ in range(2))
    mine.write_file("parts/a", b"1")
    assert mine.list_names("parts") == others.list_names("parts") == ["a"]
    others.write_file("parts/b", b"2")
    assert mine.list_names("parts") == others.list_names("parts") == ["a", "b"]
    others.delete_file("parts/a")
    assert mine.list_names("parts") == others.list_names("parts") == ["b"]


def test_the_kind_of_lease_depends_on_the_store(bucket: Bucket, caplog):
    now = 1000.0
    first, second = (
        OutputStore(bucket.path() / "out", Writer(owner=owner), lambda: now, sleep=lambda _: None) for owner in "ab"
    )
    caplog.set_level("INFO")
    first.acquire(resume=True)
    assert first.lease_is_exclusive == bucket.exclusive
    assert ("is locked: one task at a time writes it" in caplog.text) == bucket.exclusive
    assert ("is not exclusive" in caplog.text) != bucket.exclusive
    with pytest.raises(OutputLockedError, match="is being written by a, try 1") as caught:
        second.acquire(resume=True)
    assert caught.value.retryable
    first.renew()
    first.write_part([ROW])
    now += 130
    second.acquire(resume=True)
    assert [row["_row"] for rows in second.read_parts() for row in rows] == [1]
    with pytest.raises(LeaseLostError, match="b, try 1, writes here now"):
        first.renew()
    second.release()
    first.acquire(resume=True)
    assert len(first.storage.list_names(LEASES)) == 1


@pytest.mark.parametrize("kind", ["moto", "azurite"])
def test_of_twelve_processes_that_create_a_file_one_succeeds(kind, address_of):
    bucket = Bucket.made(kind, address_of(kind))
    storages = [storage_at(bucket.path() / "out") for _ in range(12)]
    with ThreadPoolExecutor(12) as threads:
        made = list(threads.map(lambda storage: storage.create_file("claim", str(id(storage)).encode()), storages))
    assert made.count(True) == 1
    assert storages[0].read_file("claim") == str(id(storages[made.index(True)])).encode()


def test_a_table_is_enriched_and_resumed_and_shards_are_merged(bucket: Bucket, responses_sandbox):
    out = bucket.path() / "out"
    for shard in range(2):
        told = enrich(responses_sandbox, out / f"shard-{shard}", table(40), shard=(shard, 2))
        assert told["complete"]
    assert len(responses_sandbox.ledger) == 40
    again = enrich(responses_sandbox, bucket.path() / "out" / "shard-0", table(40), shard=(0, 2))
    assert again["requests_sent"] == 0
    merged = merge_shards(out)
    assert (merged["rows"], merged["counts"]) == (40, {"ok": 40})
    assert merged["output"].endswith("/out/result.jsonl")
    assert len((storage_at(out).read_file("result.jsonl") or b"").splitlines()) == 40
    if storage_at(out).list_names("shard-0") != ["lease", "manifest.json", "parts", "result.jsonl"]:
        raise AssertionError(storage_at(out).list_names("shard-0"))


def test_a_missing_bucket_is_an_error_before_anything_is_paid(bucket: Bucket, responses_sandbox):
    missing = Bucket(bucket.kind, bucket.address, "no-such-bucket")
    with pytest.raises(StorageError, match=r"no-such-bucket/out/lease/\S+ cannot be .*no such bucket or con") as caught:
        enrich(responses_sandbox, missing.path() / "out", table(3))
    assert not caught.value.retryable
    assert not responses_sandbox.ledger
    fs = missing.filesystem()
    assert "no-such-bucket" not in [str(name).strip("/") for name in fs.ls("", detail=False)]
