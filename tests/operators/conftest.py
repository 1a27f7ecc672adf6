"""Every way of running a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.ways import WAYS, performer


@pytest.fixture(params=WAYS)
def perform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Any], Any]:
    """Run a task with a context, in each of the ways."""
    return performer(request.param, monkeypatch)
