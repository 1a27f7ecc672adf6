"""An S3 of the tests' own: moto's server with one bucket, looked at without the code under test."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3

from tests.e2e.processes import Service, free_port, stop, wait_for_port

BUCKET = "tables"
REGION = "us-east-1"
USER, PASSWORD = "tester", "not-a-secret"


class Store:
    """The bucket, and the Airflow connection to it."""

    def __init__(self, url: str) -> None:
        self.connection = {
            "conn_type": "aws",
            "login": USER,
            "password": PASSWORD,
            "extra": {"endpoint_url": url, "region_name": REGION},
        }
        self._client = boto3.client(
            "s3", endpoint_url=url, region_name=REGION, aws_access_key_id=USER, aws_secret_access_key=PASSWORD
        )
        self._client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, rows: list[dict[str, Any]]) -> None:
        """Write rows as JSONL."""
        self._client.put_object(Bucket=BUCKET, Key=key, Body="".join(f"{json.dumps(row)}\n" for row in rows).encode())

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return the rows of a JSONL object."""
        body = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return [json.loads(line) for line in body.splitlines()]

    def keys(self, prefix: str) -> list[str]:
        """Return the names of all objects under a prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]


@contextlib.contextmanager
def running() -> Iterator[Store]:
    """Run a server on a port of its own on loopback."""
    port = free_port()
    # The variables of whoever runs the tests must not reach it.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    with tempfile.TemporaryDirectory(prefix="airflow-e2e-s3-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
        service = Service("moto", command, env=env, folder=folder, log=folder / "moto.log")
        try:
            wait_for_port(port, service)
            yield Store(f"http://127.0.0.1:{port}")
        finally:
            stop([service])
