"""Chromium for all tests of a process, a tab for each, and servers whose pages it opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.stub import Stub, stub
from tests.conftest import HOME
from tools.pictures import browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    with browser.chromium() as address:
        yield address


@pytest.fixture
def tab(chromium: str) -> Iterator[browser.Page]:
    with browser.page(chromium, width=1280, height=900) as page:
        yield page


@pytest.fixture(scope="session")
def running_stub() -> Iterator[Stub]:
    with stub() as server:
        yield server


@pytest.fixture
def server(running_stub: Stub) -> Iterator[Stub]:
    running_stub.clear()
    yield running_stub
    assert running_stub.others == [], "the page asked for what only another server has"


@pytest.fixture(scope="session")
def airflow(airflow_db: None) -> Iterator[Any]:
    """An api-server of Airflow, and what its database holds."""
    from tests.browser.airflow_server import running  # imports Airflow 3

    with running(HOME) as server:
        yield server


@pytest.fixture
def admin(tab: browser.Page, airflow: Any) -> Iterator[browser.Page]:
    """A tab whose user may read everything."""
    from tests.browser.airflow_server import ADMIN, log_in

    log_in(tab, airflow, ADMIN)
    yield tab
    tab.run("localStorage.clear()")
    tab.command("Network.clearBrowserCookies")
