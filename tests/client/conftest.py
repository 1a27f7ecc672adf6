from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import Server
from .wire import Flavour


@pytest.fixture(params=[True, False], ids=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> Iterator[Flavour]:
    made = Flavour(sync=request.param)
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()
