from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.sandbox import Sandbox

from .steps import Attempts, batch_sandbox


@pytest.fixture
def batches() -> Iterator[Sandbox]:
    """A sandbox whose batches take 1,000 seconds of the test's clock."""
    with batch_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def attempts(batches: Sandbox, tmp_path: Path) -> Callable[..., Attempts]:
    """Make the attempts of a task, against ``batches``."""

    def make(rows: Any, **given: Any) -> Attempts:
        return Attempts(batches, given.pop("folder", tmp_path / "out"), rows, **given)

    return make
