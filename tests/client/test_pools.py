"""The clients of a process or of a loop share connections; a forked process does not use its parent's."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from airflow_provider_responses.client import AsyncResponsesClient, ResponsesClient, async_pool, sync_pool
from airflow_provider_responses.client.async_pool import AsyncPool

from .server import LIMIT, Server
from .wire import REQUEST, config


@pytest.fixture
def process_pool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sync_pool, "process_pools", sync_pool.ProcessPools())
    yield sync_pool.process_pools
    sync_pool.process_pools.close()


def test_blocking_clients_share_the_pool_of_the_process(server: Server, process_pool: Any) -> None:
    for _ in range(3):
        with ResponsesClient(config(base_url=server.url)) as client:
            client.send(REQUEST)
    assert server.connections == 1


def test_threads_share_the_pool_of_the_process(server: Server, process_pool: Any) -> None:
    client = ResponsesClient(config(base_url=server.url))
    responses: list[str] = []
    threads = [threading.Thread(target=lambda: responses.append(client.send(REQUEST).output_text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert responses == ["Hello"] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_fork_does_not_use_its_parents_connections(server: Server) -> None:
    client = ResponsesClient(config(base_url=server.url))
    client.send(REQUEST)
    pool = sync_pool.process_pools.get(config(base_url=server.url).route)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test's server has threads, the child uses none
        child = os.fork()
    if child == 0:
        signal.alarm(int(LIMIT))
        code = 1
        try:
            fresh = sync_pool.process_pools.get(config(base_url=server.url).route) is not pool
            code = 0 if client.send(REQUEST).output_text == "Hello" and fresh else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server.connections == 2
    client.send(REQUEST)
    assert server.connections == 2
    sync_pool.process_pools.close()


@pytest.fixture
async def two(server: Server) -> AsyncIterator[tuple[AsyncResponsesClient, AsyncResponsesClient]]:
    async with (
        AsyncResponsesClient(config(base_url=server.url)) as first,
        AsyncResponsesClient(config(base_url=server.url)) as second,
    ):
        yield first, second


async def test_clients_of_a_loop_share_a_pool_that_closes_with_the_last(
    server: Server, two: tuple[AsyncResponsesClient, AsyncResponsesClient]
) -> None:
    first, second = two
    pool = first._pool
    assert pool is second._pool
    assert pool is not None
    await first.send(REQUEST)
    await first.aclose()
    await first.aclose()
    await second.send(REQUEST)
    assert server.connections == 1
    await second.aclose()
    assert pool.http.is_closed
    await second.send(REQUEST)
    assert second._pool is not pool


def test_loops_have_pools_of_their_own(server: Server) -> None:
    async def pool() -> AsyncPool:
        async with AsyncResponsesClient(config(base_url=server.url)) as client:
            await client.send(REQUEST)
            assert client._pool is not None
            return client._pool

    first, second = asyncio.run(pool()), asyncio.run(pool())
    assert first is not second
    assert first.http.is_closed
    assert second.http.is_closed


async def test_a_pool_is_made_once_per_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(AsyncPool):
        def __init__(self, **route: Any) -> None:
            made.append(self)  # a pool loads all root certificates, which takes tens of milliseconds
            super().__init__(**route)

    monkeypatch.setattr(async_pool, "AsyncPool", Counted)
    async with AsyncResponsesClient(config()), AsyncResponsesClient(config()), AsyncResponsesClient(config()):
        assert len(made) == 1


async def test_a_client_with_a_pool_of_its_own_leaves_the_loops_alone(server: Server) -> None:
    async with AsyncResponsesClient(config(base_url=server.url)) as sharing:
        own = AsyncResponsesClient(config(base_url=server.url), pool=AsyncPool())
        for _ in range(2):
            await own.send(REQUEST)
            await own.aclose()
        assert sharing._pool is not None
        assert not sharing._pool.http.is_closed
