from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from airflow_provider_responses.sandbox import LedgerEntry, Sandbox
from tests.api import CURRENT

HEADERS = {"Authorization": "Bearer sandbox-key"}
HELLO = {"model": "openai/gpt-4o-mini", "input": "Summarize this: Rain fell on the old harbour all day."}


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    shared_sandbox.reset()
    yield shared_sandbox
    shared_sandbox.reset()


@pytest.fixture(scope="session")
def shared_http(shared_sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared_sandbox.base_url, headers=HEADERS, timeout=30) as client:
        yield client


@pytest.fixture
def http(sandbox: Sandbox, shared_http: httpx.Client) -> httpx.Client:
    return shared_http


class Api:
    """Validates bodies by the documented schema."""

    def __init__(self, document: dict[str, Any]) -> None:
        resource = Resource(contents=document, specification=DRAFT202012)
        self.registry = Registry().with_resource("urn:api", resource).crawl()

    def check(self, value: Any, name: str) -> None:
        self.check_part(value, f"/components/schemas/{name}")

    def check_get(self, value: Any, path: str) -> None:
        pointer = path.replace("/", "~1")
        self.check_part(value, f"/paths/{pointer}/get/responses/200/content/application~1json/schema")

    def check_part(self, value: Any, pointer: str) -> None:
        Draft202012Validator({"$ref": f"urn:api#{pointer}"}, registry=self.registry).validate(value)


@pytest.fixture(scope="session")
def api() -> Api:
    return Api(CURRENT)


def read_events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def output_text(body: dict[str, Any]) -> str:
    return "".join(part["text"] for item in body["output"] for part in item.get("content", []))


def send_and_wait(sandbox: Sandbox, request: dict[str, Any], headers: dict[str, str] | None = None) -> socket.socket:
    """Send a call and return its socket once the ledger has the call; a client leaves by closing the socket."""
    body = json.dumps(request).encode()
    fields = {"Host": "sandbox", "Content-Length": str(len(body)), **HEADERS, **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    client = socket.create_connection((sandbox.host, sandbox.port))
    client.sendall(f"POST /api/v1/responses HTTP/1.1\r\n{head}\r\n".encode() + body)
    wait_for(sandbox, lambda _: True)
    return client


def wait_for(sandbox: Sandbox, fits: Callable[[LedgerEntry], bool]) -> LedgerEntry:
    """Return the first entry of the ledger that fits; wait for it for a minute at most."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = [entry for entry in sandbox.ledger if fits(entry)]
        if found:
            return found[0]
        time.sleep(0.005)
    raise AssertionError(f"no such entry in {sandbox.ledger}")
