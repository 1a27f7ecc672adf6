"""
The servers, each started once for all tests that ask for it, and stopped by its process id.

A new service: a module beside this one with a context manager that yields its address, and a fixture here.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.parts import mariadb, proxy
from tests.parts.stores import KINDS, Bucket

HERE = Path(__file__).parent
# Only `make parts` has what the tests import.
if not all(map(importlib.util.find_spec, ("moto", "MySQLdb", "psycopg2", "duckdb"))):
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.parts)
            # Raised inside the libraries.
            item.add_marker(pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning"))


@pytest.fixture(scope="session")
def address_of() -> Iterator[Callable[[str], str]]:
    """Return the address of a store of a kind, which is started when it is asked for first."""
    with contextlib.ExitStack() as stack:
        started: dict[str, str] = {}

        def address(kind: str) -> str:
            if kind not in started:
                started[kind] = stack.enter_context(KINDS[kind].running())
            return started[kind]

        yield address


@pytest.fixture(params=KINDS)
def bucket(request: pytest.FixtureRequest, address_of: Callable[[str], str]) -> Bucket:
    """An empty bucket of every kind of store."""
    return Bucket.made(request.param, address_of(request.param))


@pytest.fixture
def moto(address_of: Callable[[str], str]) -> Bucket:
    """An empty bucket of moto's."""
    return Bucket.made("moto", address_of("moto"))


@pytest.fixture
def proxied(moto: Bucket) -> Iterator[tuple[str, proxy.Proxy]]:
    """A proxy in front of moto: its address, and itself."""
    with proxy.in_front_of(moto.address) as running:
        yield running


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[mariadb.MariaDb]:
    with mariadb.running() as server:
        yield server
