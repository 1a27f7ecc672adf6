"""Triggers that share connections, and triggers that are cancelled."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.hooks.responses import (
    CONFIG_SECONDS,
    WOKEN_AT_ONCE,
    ResponsesHook,
    _configs,
    shared_config,
)
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import first_event, revive
from tests.triggers.tasks import ask, deferred


class TestCancelledTriggers:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_cancelled_trigger_drops_its_connection(self, stream, responses_sandbox):
        responses_sandbox.script({"hang": True})
        trigger = await asyncio.to_thread(deferred, ask(stream=stream))
        running = asyncio.create_task(anext(trigger.run()))
        await _until(lambda: responses_sandbox.ledger)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await trigger.on_kill()
        await _until(lambda: responses_sandbox.ledger[0].outcome != "running")

    def test_a_connection_that_fails_after_its_triggers_logs_no_error(self, responses_sandbox, monkeypatch):
        trigger = deferred(ask())
        reading, go_on, problems = asyncio.Event(), asyncio.Event(), []

        async def fail(hook):
            reading.set()
            await go_on.wait()
            raise RuntimeError("the secrets backend is down")

        async def cancel():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, problem: problems.append(problem))
            running = asyncio.create_task(anext(trigger.run()))
            await reading.wait()
            running.cancel()
            await asyncio.wait([running])
            go_on.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            _configs.clear()
            gc.collect()

        monkeypatch.setattr(ResponsesHook, "aconfig", fail)
        asyncio.run(cancel())
        assert not problems

    def test_a_connection_that_was_deleted_is_named_and_retried(self, airflow_db, responses_sandbox, monkeypatch):
        trigger = deferred(ask())
        monkeypatch.delenv("AIRFLOW_CONN_RESPONSES_DEFAULT")
        event = first_event(trigger)
        monkeypatch.undo()
        with pytest.raises(ConfigurationError, match="'responses_default' was not found") as caught:
            ask().execute_complete(context(), event.payload)
        assert caught.value.retryable

    def test_a_connection_that_was_broken_fails_at_once(self, responses_sandbox, monkeypatch):
        trigger = deferred(ask())
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps({"conn_type": "responses"}))
        event = first_event(trigger)
        with pytest.raises(AirflowFailException, match="password is missing"):
            ask().execute_complete(context(), event.payload)


async def _until(condition):
    await asyncio.to_thread(_wait, condition)


def _wait(condition):
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


class TestSharing:
    async def test_many_triggers_read_a_connection_once(self, responses_sandbox, monkeypatch):
        reads = []
        real = ResponsesHook.aconfig

        async def aconfig(self):
            reads.append(self.conn_id)
            await asyncio.sleep(0)
            return await real(self)

        monkeypatch.setattr(ResponsesHook, "aconfig", aconfig)
        configs = await asyncio.gather(*[shared_config("responses_default") for _ in range(50)])
        assert reads == ["responses_default"]
        assert all(config is configs[0] for config in configs)
        await shared_config("responses_default")
        assert len(reads) == 1
        loop = asyncio.get_running_loop()
        later = loop.time() + CONFIG_SECONDS + 1
        monkeypatch.setattr(loop, "time", lambda: later)
        await shared_config("responses_default")
        assert len(reads) == 2

    async def test_of_many_triggers_that_waited_for_a_connection_a_few_continue_in_each_turn(self, responses_sandbox):
        turn, turns = 0, []

        async def count():
            nonlocal turn
            while True:
                await asyncio.sleep(0)
                turn += 1

        async def one():
            await shared_config("responses_default")
            turns.append(turn)

        counting = asyncio.create_task(count())
        await asyncio.gather(*[one() for _ in range(100)])
        counting.cancel()
        assert max(Counter(turns).values()) <= WOKEN_AT_ONCE

    async def test_a_cancelled_trigger_leaves_the_connection_to_the_others(self, responses_sandbox, monkeypatch):
        gate = asyncio.Event()
        real = ResponsesHook.aconfig

        async def aconfig(self):
            await gate.wait()
            return await real(self)

        monkeypatch.setattr(ResponsesHook, "aconfig", aconfig)
        first, second = (asyncio.create_task(shared_config("responses_default")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        assert (await second).api_key
        with pytest.raises(asyncio.CancelledError):
            await first

    async def test_a_connection_that_could_not_be_read_is_read_again(self, responses_sandbox, monkeypatch):
        good = json.dumps(responses_sandbox.connection)
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps({"conn_type": "responses"}))
        with pytest.raises(ConfigurationError, match="password is missing"):
            await shared_config("responses_default")
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", good)
        assert (await shared_config("responses_default")).api_key

    async def test_many_triggers_share_connections_and_close_them_with_the_last(self, responses_sandbox):
        from airflow_provider_responses.client import async_pool

        task = ask()
        trigger = await asyncio.to_thread(deferred, task)
        before = len(async_pool._loop_pools.get(asyncio.get_running_loop(), {}))
        made = []
        real = async_pool.AsyncPool

        class Counted(real):
            def __init__(self, **kwargs):
                made.append(self)
                super().__init__(**kwargs)

        async_pool.AsyncPool = Counted
        try:
            again = [revive(trigger, TaskInstance()) for _ in range(20)]
            await asyncio.gather(*[anext(one.run()) for one in again])
        finally:
            async_pool.AsyncPool = real
        assert len(made) == 1
        assert made[0].http.is_closed
        assert len(async_pool._loop_pools.get(asyncio.get_running_loop(), {})) == before

    async def test_nothing_blocks_the_event_loop(self, responses_sandbox):
        from blockbuster import blockbuster_ctx

        trigger = await asyncio.to_thread(deferred, ask())
        await asyncio.to_thread(first_event, revive(trigger, TaskInstance()))  # the imports block, once
        with blockbuster_ctx():
            assert (await anext(trigger.run())).payload["error"] is None
