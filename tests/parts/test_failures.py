"""Stores that fail: files stay complete, losses are bounded, and nothing is paid that cannot be stored."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.shard_merge import merge_shards
from airflow_provider_responses.enrich.storage import storage_at
from airflow_provider_responses.exceptions import OutputLockedError, StorageError
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import Label, enrich, table
from tests.parts.proxy import Response, error
from tests.parts.services import free_port
from tests.parts.stores import Bucket

UNPAID_AGAIN = TaskRequest(fields={}, output_type=Label, stream=False, cache=False)
SLOW_DOWN = error(503, "ServiceUnavailable")


class Died(BaseException):
    """Like Airflow's timeout, which is no ``Exception``."""


def whole(moto: Bucket, name: str = "result.jsonl") -> list[dict[str, Any]]:
    """Return the rows of a result, after checking that its last line is complete."""
    data = storage_at(moto.path() / "out").read_file(name) or b""
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def manifest(moto: Bucket) -> dict[str, Any]:
    return json.loads(storage_at(moto.path() / "out").read_file("manifest.json") or b"null")


def retry(number: int = 2) -> dict[str, Any]:
    return {"writer": Writer(owner="task", try_number=number)}


# Results


@pytest.mark.parametrize("comes", [SLOW_DOWN, error(403, "AccessDenied"), Response(None)], ids=["503", "403", "closed"])
def test_a_failed_upload_leaves_the_earlier_result(comes, moto, proxied, responses_sandbox):
    address, proxy = proxied
    enrich(responses_sandbox, moto.path() / "out", table(20))
    before = whole(moto)
    proxy.rule = lambda request, forward: comes if request.puts("result.jsonl") else forward()
    with pytest.raises(StorageError, match=r"out/result.jsonl cannot be written \(") as caught:
        enrich(responses_sandbox, moto.path(address) / "out", table(30), **retry())
    assert caught.value.retryable
    assert whole(moto) == before
    assert manifest(moto)["complete"] is False
    told = enrich(responses_sandbox, moto.path() / "out", table(30), **retry(3))
    assert (told["requests_sent"], len(whole(moto)), told["complete"]) == (0, 30, True)


@contextmanager
def dying_on_a_signal() -> Iterator[None]:
    """Raise in the main thread at a signal, as Airflow does at ``execution_timeout``."""

    def stop(*_: Any) -> None:
        raise Died

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_timeout_during_an_upload_leaves_a_complete_result(arrives, moto, proxied, responses_sandbox, tmp_path):
    """The upload goes on in a thread of fsspec's."""
    address, proxy = proxied
    enrich(responses_sandbox, moto.path() / "out", table(20))
    before = whole(moto)
    goes_on, ended = threading.Event(), threading.Event()

    def rule(request: Any, forward: Any) -> Response:
        if not request.puts("result.jsonl"):
            return forward()
        if not goes_on.is_set():  # and not for the resend
            os.kill(os.getpid(), signal.SIGUSR1)
        goes_on.wait()
        response = forward() if arrives else Response(None)
        ended.set()
        return response

    proxy.rule = rule
    with pytest.raises(Died), dying_on_a_signal():
        enrich(responses_sandbox, moto.path(address) / "out", table(30), **retry())
    assert whole(moto) == before
    assert manifest(moto)["complete"] is False
    goes_on.set()
    ended.wait()
    assert len(whole(moto)) == (30 if arrives else 20)
    assert enrich(responses_sandbox, moto.path() / "out", table(30), **retry(3))["requests_sent"] == 0
    assert len(whole(moto)) == 30


def test_a_failed_piece_of_an_upload_leaves_the_earlier_result(moto, proxied, tmp_path):
    """And no piece is left in the store."""
    address, proxy = proxied
    storage_at(moto.path() / "out").write_file("result.jsonl", b"before\n")
    proxy.rule = lambda request, forward: (
        error(403, "AccessDenied") if request.query.get("partNumber") == ["2"] else forward()
    )
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(110 * 2**20)
    with pytest.raises(StorageError, match=r"result.jsonl cannot be written \(PermissionError"):
        storage_at(moto.path(address) / "out").put_file(large, "result.jsonl")
    assert ["2"] in [request.query.get("partNumber") for request in proxy.requests]
    assert storage_at(moto.path() / "out").read_file("result.jsonl") == b"before\n"
    assert moto.filesystem().list_multipart_uploads(moto.name) == []
    proxy.rule = lambda _, forward: forward()
    storage_at(moto.path(address) / "out").put_file(large, "result.jsonl")
    assert moto.filesystem().size(f"{moto.name}/out/result.jsonl") == 110 * 2**20


# Parts


def test_a_part_that_cannot_be_stored_ends_the_attempt_and_a_retry_continues(moto, proxied, responses_sandbox):
    address, proxy = proxied
    stored: list[str] = []

    def rule(request: Any, forward: Any) -> Response:
        if not request.puts("/parts/"):
            return forward()
        if len(stored) < 3:
            stored.append(request.path)
            return forward()
        return SLOW_DOWN

    proxy.rule = rule
    around = Environment(part_rows=10, flush_seconds=0.0)
    limits = Limits(concurrency=4, max_outage=0.0)
    with pytest.raises(
        StorageError, match=r"responses \(\$.* could not be written.*out/parts/part-\S+ cannot be written"
    ):
        enrich(responses_sandbox, moto.path(address) / "out", table(500), around, limits=limits, request=UNPAID_AGAIN)
    rows = sum(len(data.splitlines()) for data in parts(moto))
    paid = len(responses_sandbox.billed)
    assert rows >= 3
    told = enrich(responses_sandbox, moto.path() / "out", table(500), limits=limits, request=UNPAID_AGAIN, **retry())
    assert told["requests_sent"] == 500 - rows
    assert len(responses_sandbox.billed) - paid == 500 - rows
    assert len(whole(moto)) == 500


def parts(moto: Bucket) -> list[bytes]:
    storage = storage_at(moto.path() / "out")
    return [storage.read_file(f"parts/{name}") or b"" for name in storage.list_names("parts")]


def test_a_store_that_fails_for_a_while_loses_no_response(moto, proxied, responses_sandbox):
    """Each request is refused once."""
    address, proxy = proxied
    seen: set[tuple[str, str]] = set()

    def rule(request: Any, forward: Any) -> Response:
        kind = (request.method, re.sub(r"[0-9a-f]{8}-\d+|\d{9}", "", request.target))
        if kind in seen:
            return forward()
        seen.add(kind)
        return SLOW_DOWN

    proxy.rule = rule
    told = enrich(responses_sandbox, moto.path(address, attempts=3) / "out", table(50))
    assert told["complete"]
    assert len(seen) > 5
    assert len(whole(moto)) == 50


def test_credentials_that_expire_during_an_attempt_are_named(moto, proxied, responses_sandbox):
    address, proxy = proxied
    expired = error(400, "ExpiredToken", "The provided token has expired.")
    writes: list[str] = []

    def rule(request: Any, forward: Any) -> Response:
        writes.append(request.path) if request.puts("/parts/") else None
        return expired if len(writes) > 2 else forward()

    proxy.rule = rule
    around = Environment(part_rows=10, flush_seconds=0.0)
    limits = Limits(max_outage=0.0)
    with pytest.raises(StorageError, match=r"credentials may have expired; renew them \(check the connection 'to_bu"):
        enrich(responses_sandbox, moto.path(address) / "out", table(300), around, request=UNPAID_AGAIN, limits=limits)
    rows = sum(len(data.splitlines()) for data in parts(moto))
    told = enrich(responses_sandbox, moto.path() / "out", table(300), request=UNPAID_AGAIN, **retry())
    assert told["requests_sent"] == 300 - rows
    assert len(whole(moto)) == 300


def test_an_expired_token_is_named_before_anything_is_paid(moto, proxied, responses_sandbox):
    address, proxy = proxied
    proxy.rule = lambda *_: error(400, "ExpiredToken", "The provided token has expired.")
    with pytest.raises(StorageError, match=r"out cannot be listed \(.*credentials may have expired; renew"):
        enrich(responses_sandbox, moto.path(address) / "out", table(3))
    assert not responses_sandbox.ledger


# Rights and addresses


def test_a_worker_needs_rights_only_under_its_prefix(moto, proxied, responses_sandbox):
    """Its policy allows list with the prefix, and get, put and delete under it; a missing object is a 403."""
    address, proxy = proxied
    refused: list[str] = []

    def rule(request: Any, forward: Any) -> Response:
        _, _, key = request.path.lstrip("/").partition("/")
        prefix = request.query.get("prefix", [""])[0]
        if key:
            is_allowed = key.startswith("team/out/")
        else:
            is_allowed = request.method == "GET" and "list-type" in request.query and prefix.startswith("team/out/")
        if not is_allowed:
            refused.append(f"{request.method} {request.target}")
            return error(403, "AccessDenied", "Access Denied")
        response = forward()
        # A worker that may only list with a prefix gets no 404 for a missing object.
        return error(403, "AccessDenied", "Access Denied") if response.status == 404 and key else response

    proxy.rule = rule
    out = moto.path(address) / "team" / "out"
    for shard in range(2):
        enrich(responses_sandbox, out / f"shard-{shard}", table(20), shard=(shard, 2))
        enrich(responses_sandbox, out / f"shard-{shard}", table(20), shard=(shard, 2), **retry())
    assert merge_shards(out)["counts"] == {"ok": 20}
    assert len(responses_sandbox.ledger) == 20
    assert refused == []


def test_missing_rights_are_named_before_anything_is_paid(moto, proxied, responses_sandbox):
    address, proxy = proxied
    proxy.rule = lambda request, forward: error(403, "AccessDenied") if request.method == "PUT" else forward()
    with pytest.raises(
        StorageError, match=r"lease/\S+ cannot be created \(PermissionError: .*let the worker list, read"
    ):
        enrich(responses_sandbox, moto.path(address) / "out", table(3))
    assert not responses_sandbox.ledger


def test_missing_credentials_are_named(moto, responses_sandbox, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    path = moto.path(key=None, secret=None)
    with pytest.raises(StorageError, match=r"\(NoCredentialsError: .*there are no credentials; check the connection"):
        enrich(responses_sandbox, path / "out", table(3))
    assert not responses_sandbox.ledger


def test_a_store_that_cannot_be_reached_is_named(moto, responses_sandbox):
    with pytest.raises(StorageError, match=r"out cannot be listed .*the store cannot be reached; check its endpoint"):
        enrich(responses_sandbox, moto.path(f"http://127.0.0.1:{free_port()}") / "out", table(3))
    assert not responses_sandbox.ledger


# The lease


@pytest.mark.parametrize("on", ["probe", "claim"])
def test_a_claim_whose_response_is_lost_keeps_the_lease(on, moto, proxied):
    """The library sends it again, and the store refuses what it has."""
    address, proxy = proxied
    lost: list[str] = []

    def rule(request: Any, forward: Any) -> Response:
        response = forward()
        if request.puts(f"/lease/{on}") and len(lost) < 3:
            lost.append(request.path)
            return SLOW_DOWN
        return response

    proxy.rule = rule
    store = OutputStore(moto.path(address, attempts=5) / "out", Writer(owner="a"), lambda: 1.0)
    store.acquire(resume=True)
    assert store.lease_is_exclusive
    assert len(lost) == 3
    store.renew()
    with pytest.raises(OutputLockedError, match="is being written by a"):
        OutputStore(moto.path() / "out", Writer(owner="b"), lambda: 1.0).acquire(resume=True)


def test_a_renewal_outlasts_a_store_that_fails_for_a_while(moto, proxied):
    address, proxy = proxied
    now = 1000.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    store = OutputStore(moto.path(address) / "out", Writer(owner="a"), lambda: now, sleep=sleep)
    store.acquire(resume=True)
    proxy.rule = lambda _, forward: SLOW_DOWN if now < 1004 else forward()
    store.renew()
    assert (now, store.lease_left) == (1004, 120)
