"""Tasks in processes of their own, on one output in a real store."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.enrich.storage import storage_at
from tests.airflow_fakes import context
from tests.operators.enrichments import ROWS, Label
from tests.operators.enrichments import enrich as operator
from tests.parts.child import RETRY
from tests.parts.proxy import Response, error, in_front_of
from tests.parts.stores import Bucket

STARTS = 4
TABLE = 60


def start(bucket: Bucket, address: str, service: str, owner: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.parts.child"]
    arguments = [bucket.kind, address, bucket.name, service, owner, str(TABLE)]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("kind", ["moto", "azurite"])
def test_of_several_tasks_that_start_at_once_one_sends_and_none_fails_for_good(kind, address_of, responses_sandbox):
    """Their first claims are held until all are under way; then one gets a 503, and another's response is lost."""
    bucket = Bucket.made(kind, address_of(kind))
    together = threading.Barrier(STARTS)
    order = iter(range(STARTS))
    numbers = threading.Lock()

    def rule(request: Any, forward: Any) -> Response:
        if not request.puts("/lease/claim-000000001"):
            return forward()
        with numbers:
            number = next(order, None)
        if number is None:  # sent again
            return forward()
        together.wait()
        if kind == "moto" and number == 0:
            return error(503, "ServiceUnavailable")
        response = forward()
        return error(503, "ServiceUnavailable") if kind == "moto" and number == 1 else response

    with in_front_of(bucket.address) as (address, proxy):
        proxy.rule = rule
        tasks = [start(bucket, address, responses_sandbox.base_url, f"task {number}") for number in range(STARTS)]
        outputs = [task.communicate(timeout=100)[0] for task in tasks]
    codes = [task.returncode for task in tasks]
    assert set(codes) <= {0, RETRY}, outputs
    assert 0 in codes, outputs
    assert len(responses_sandbox.ledger) == TABLE, outputs

    late = [number for number, code in enumerate(codes) if code == RETRY]
    for number in late:  # Airflow's retries
        task = start(bucket, bucket.address, responses_sandbox.base_url, f"task {number}")
        assert (task.communicate(timeout=100)[0], task.returncode)[1] == 0
    assert len(responses_sandbox.ledger) == TABLE
    result = storage_at(bucket.path() / "out").read_file("result.jsonl") or b""
    assert [json.loads(line)["_row"] for line in result.splitlines()] == list(range(TABLE))


def test_the_operator_writes_to_the_store_of_its_connection(moto, responses_sandbox, monkeypatch, tmp_path):
    """By Airflow's own provider, and not with boto's default credentials."""
    for name in ("store_a", "store_b"):
        extra = {"endpoint_url": moto.address, "config_kwargs": {"retries": {"max_attempts": 1}}}
        told = {"conn_type": "aws", "login": name, "password": "made-up", "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(told))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    to = f"s3://store_a@{moto.name}/out"
    first = operator(tmp_path, output_path=to, output_type=Label, key="id").execute(context())
    assert first["output"] == f"{to}/result.jsonl"
    rows = (storage_at(moto.path() / "out").read_file("result.jsonl") or b"").splitlines()
    assert [json.loads(row)["id"] for row in rows] == [row["id"] for row in ROWS]
    again = operator(tmp_path, output_path=to, output_type=Label, key="id").execute(context())
    assert again["requests_sent"] == 0
    # The same bucket by another connection may be another store.
    other = operator(tmp_path, output_path=f"s3://store_b@{moto.name}/out", output_type=Label, key="id")
    assert other.execute(context())["requests_sent"] == len(ROWS)
