"""
The servers, each started once for all tests that ask for it, and stopped by its process id.

A new service: a module beside this one with ``running() -> Iterator[its address]``, and three lines here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts.services import opened

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.parts)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of moto's S3, which refuses the second create."""
    from tests.parts import moto

    with moto.running() as url:
        yield url


@pytest.fixture
def s3_path(s3: str) -> Any:
    """An empty bucket of moto's, opened by Airflow."""
    import s3fs

    fs = s3fs.S3FileSystem(endpoint_url=s3, key="made-up", secret="made-up", skip_instance_cache=True)
    bucket = f"bucket-{secrets.token_hex(4)}"
    fs.mkdir(bucket)
    return opened(f"s3://{bucket}", fs)
