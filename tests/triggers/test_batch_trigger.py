"""Batches that are polled in the triggerer: one event for each wait, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import math
from typing import ClassVar

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_responses.batch.waiting import BatchWait, read_batch_event
from airflow_provider_responses.client import AsyncResponsesClient, async_pool
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    InternalServerResponseError,
    ResponsesError,
    UnauthorizedResponseError,
    VersionMismatchError,
)
from airflow_provider_responses.hooks.responses import ResponsesHook
from airflow_provider_responses.triggers.base_trigger import exclude_from_garbage_collection
from airflow_provider_responses.triggers.batches import _ENDINGS, POLLS_AT_ONCE, ResponsesBatchTrigger
from tests.airflow_fakes import TaskInstance
from tests.execution_modes import first_event, revive, through_the_database

NOW = 1_000_000.0
HOUR = 3600.0
REQUEST = {"custom_id": "one", "body": {"input": "purple elephants"}}
CONNECTION = "AIRFLOW_CONN_RESPONSES_DEFAULT"
STATES = "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states"


class Clock:
    """A wall clock that sleeping moves; ``at`` has functions to call when it has reached a time."""

    def __init__(self):
        self.now = NOW
        self.at: dict[float, object] = {}

    async def sleep(self, seconds):
        self.now += seconds
        for time in sorted(time for time in self.at if time <= self.now):
            self.at.pop(time)()
        await asyncio.sleep(0)


def make(batch_ids, *, clock=None, **arguments):
    """Return the trigger of a wait, made again from its stored arguments, on a clock of the tests."""
    given = {"conn_id": "responses_default", "deadline": NOW + 24 * HOUR, "attempt": {"rows": 7}} | arguments
    trigger = ResponsesBatchTrigger(**BatchWait(batch_ids=tuple(batch_ids), **given).to_kwargs())
    return on_clock(revive(trigger, TaskInstance()), clock or Clock())


def on_clock(trigger, clock):
    trigger.clock = clock
    trigger._now, trigger._sleep, trigger._draw = lambda: clock.now, clock.sleep, lambda: 0.0
    return trigger


def outcome_of(trigger):
    """Run a trigger to its end; it yields one event."""

    async def run():
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(run())
    return read_batch_event(through_the_database(event.payload))


@pytest.fixture
def submit(responses_sandbox):
    """Return a function that submits batches, which stay in progress."""
    responses_sandbox.batch_settings = {"hold": "in_progress", "seconds": 1e-4}

    def submit_batches(count):
        return [ResponsesHook().create_batch([REQUEST], model="vendor/m").id for _ in range(count)]

    return submit_batches


@pytest.fixture
def shown(caplog, capfd):
    """Return a function that returns all lines since its last call: Airflow's version decides where they are."""
    caplog.set_level("INFO")

    def read():
        text = caplog.text + "".join(capfd.readouterr())
        caplog.clear()
        return text

    return read


class TestWait:
    def test_it_ends_when_all_batches_have_ended(self, submit, responses_sandbox, shown):
        ids = submit(2)
        trigger = make(ids)

        def complete():
            responses_sandbox.batch_settings = {"hold": None}

        trigger.clock.at = {NOW + 100: complete}
        outcome = outcome_of(trigger)
        assert (outcome.reason, dict(outcome.statuses)) == ("finished", dict.fromkeys(ids, "completed"))
        assert dict(outcome.attempt) == {"rows": 7}
        assert trigger.clock.now == NOW + 120
        logged = shown()
        for batch_id in ids:
            assert f"Batch {batch_id}: in_progress (before: unknown)" in logged
            assert f"Batch {batch_id}: completed (before: in_progress)" in logged
        assert "2 batches: 2 completed (2 of 2 requests)" in logged

    def test_a_batch_that_has_ended_is_not_polled_again(self, submit, responses_sandbox):
        first, second = submit(2)
        responses_sandbox.end_batch(first, "failed")
        trigger = make([first, second])
        trigger.clock.at = {NOW + 500: lambda: responses_sandbox.end_batch(second, "cancelled")}
        # As the task would: it has dealt with the one, and waits for the rest.
        assert outcome_of(trigger).reason == "ended_early"
        outcome = outcome_of(on_clock(make([second]), trigger.clock))
        assert (outcome.reason, dict(outcome.statuses)) == ("finished", {second: "cancelled"})
        polls = {entry.id: len(entry.polls) for entry in responses_sandbox.batches}
        assert polls[first] == 1
        assert 4 < polls[second] < 10

    def test_failures_of_polls_are_only_logged(self, submit, responses_sandbox, shown):
        (batch_id,) = submit(1)
        responses_sandbox.end_batch(batch_id, "expired")
        failing = ({"status": 500}, {"status": 429, "retry_after": 300}, {"status": 502}, {"status": 404})
        responses_sandbox.script_batches(*[{"call": "get"} | step for step in failing])
        trigger = make([batch_id])
        outcome = outcome_of(trigger)
        assert (outcome.reason, dict(outcome.statuses)) == ("finished", {batch_id: "expired"})
        # After an interval, twice that, Retry-After, eight times that, and soon after the 404.
        assert trigger.clock.now == pytest.approx(NOW + 30 + 60 + 300 + 240 + 30)
        logged = shown()
        assert f"Batch {batch_id} could not be polled (1 in a row); its next poll is in 60 s" in logged
        assert f"Batch {batch_id} could not be polled (4 in a row)" in logged

    def test_a_key_that_is_refused_ends_the_wait_with_its_error(self, submit, responses_sandbox):
        ids = submit(2)
        responses_sandbox.script_batches({"call": "get", "status": 401})
        outcome = outcome_of(make(ids))
        assert outcome.reason == "refused"
        assert isinstance(outcome.error, UnauthorizedResponseError)

    def test_the_deadline_ends_the_wait(self, submit):
        ids = submit(2)
        trigger = make(ids, deadline=NOW + HOUR)
        outcome = outcome_of(trigger)
        assert (outcome.reason, trigger.clock.now) == ("deadline", NOW + HOUR)
        assert dict(outcome.statuses) == dict.fromkeys(ids, "in_progress")

    def test_a_trigger_that_starts_over_polls_after_one_interval(self, submit, responses_sandbox):
        (batch_id,) = submit(1)
        trigger = make([batch_id], deadline=NOW + 35)
        outcome_of(trigger)
        again = on_clock(revive(trigger, TaskInstance()), Clock())
        assert outcome_of(again).reason == "deadline"
        assert len(responses_sandbox.batches[0].polls) == 2

    def test_no_worker_resumes_before_min_deferral(self, submit, responses_sandbox):
        (batch_id,) = submit(1)
        responses_sandbox.end_batch(batch_id, "failed")
        trigger = make([batch_id], not_before=NOW + 45)
        assert outcome_of(trigger).reason == "finished"
        assert trigger.clock.now == NOW + 45

    def test_the_base_url_of_the_task_is_used(self, submit, responses_sandbox, monkeypatch):
        (batch_id,) = submit(1)
        responses_sandbox.end_batch(batch_id, "failed")
        known = responses_sandbox.connection
        monkeypatch.setenv(CONNECTION, json.dumps(known | {"host": f"{responses_sandbox.url}/elsewhere"}))
        assert outcome_of(make([batch_id])).statuses[batch_id] == "gone"
        outcome = outcome_of(make([batch_id], base_url=responses_sandbox.base_url))
        assert outcome.statuses[batch_id] == "failed"

    async def test_due_batches_are_polled_at_once_but_a_few_at_a_time(self, monkeypatch):
        in_flight, most, full = 0, 0, asyncio.Event()

        async def respond(reader, writer):
            nonlocal in_flight, most
            while head := await reader.readuntil(b"\r\n\r\n"):
                in_flight += 1
                most = max(most, in_flight)
                if in_flight == POLLS_AT_ONCE:
                    full.set()
                await full.wait()
                for _ in range(300):  # turns of the event loop, in which further polls would arrive
                    await asyncio.sleep(0)
                in_flight -= 1
                batch_id = head.split()[1].rpartition(b"/")[2].decode()
                body = json.dumps({"id": batch_id, "status": "completed"}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()

        async def serve(reader, writer):
            try:
                await respond(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            known = {"conn_type": "responses", "host": f"http://127.0.0.1:{port}/v1", "password": "none-at-all"}
            monkeypatch.setenv(CONNECTION, json.dumps(known | {"extra": {"dialect": "openrouter"}}))
            trigger = make([f"batch-{number}" for number in range(20)])
            event = await anext(trigger.run())
        assert read_batch_event(event.payload).reason == "finished"
        assert most == POLLS_AT_ONCE

    async def test_nothing_blocks_the_event_loop(self, submit, responses_sandbox):
        from blockbuster import blockbuster_ctx

        (batch_id,) = await asyncio.to_thread(submit, 1)
        responses_sandbox.end_batch(batch_id, "failed")
        await asyncio.to_thread(first_event, make([batch_id]))  # the imports block, once
        trigger = make([batch_id])
        with blockbuster_ctx():
            assert read_batch_event((await anext(trigger.run())).payload).reason == "finished"


class TestConnections:
    def test_a_connection_that_cannot_be_read_is_read_again(self, airflow_db, submit, responses_sandbox, monkeypatch):
        (batch_id,) = submit(1)
        responses_sandbox.end_batch(batch_id, "failed")
        monkeypatch.delenv(CONNECTION)
        trigger = make([batch_id])
        known = json.dumps(responses_sandbox.connection)
        trigger.clock.at = {NOW + 100: lambda: monkeypatch.setenv(CONNECTION, known)}
        assert outcome_of(trigger).reason == "finished"
        assert trigger.clock.now > NOW + 100

    def test_a_broken_connection_ends_the_wait_with_its_error(self, monkeypatch):
        monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "responses"}))
        outcome = outcome_of(make(["batch-1"]))
        assert outcome.reason == "refused"
        assert isinstance(outcome.error, ConfigurationError)
        assert "password is missing" in str(outcome.error)

    def test_a_key_that_is_changed_during_the_wait_is_used(self, submit, responses_sandbox, monkeypatch):
        monkeypatch.setattr("airflow_provider_responses.hooks.responses.CONFIG_SECONDS", -1.0)
        (batch_id,) = submit(1)
        trigger = make([batch_id])
        known = json.dumps(responses_sandbox.connection | {"password": "a-wrong-key"})
        trigger.clock.at = {NOW + 100: lambda: monkeypatch.setenv(CONNECTION, known)}
        assert outcome_of(trigger).reason == "refused"
        assert len(responses_sandbox.batches[0].polls) == 2

    async def test_many_triggers_share_connections_and_close_them_with_the_last(
        self, submit, responses_sandbox, monkeypatch
    ):
        (batch_id,) = await asyncio.to_thread(submit, 1)
        responses_sandbox.end_batch(batch_id, "failed")
        made = []

        class Counted(async_pool.AsyncPool):
            def __init__(self, **kwargs):
                made.append(self)
                super().__init__(**kwargs)

        monkeypatch.setattr(async_pool, "AsyncPool", Counted)
        await asyncio.gather(*[anext(make([batch_id]).run()) for _ in range(20)])
        assert len(made) == 1
        assert made[0].http.is_closed

    async def test_a_cancelled_trigger_closes_its_connections(self, submit):
        (batch_id,) = await asyncio.to_thread(submit, 1)
        trigger, polled = make([batch_id]), asyncio.Event()

        async def sleep(seconds):
            trigger.clock.now += seconds
            if trigger._poller._state.batches[batch_id].status:
                polled.set()
                await asyncio.Event().wait()

        trigger._sleep = sleep
        before = len(async_pool._loop_pools.get(asyncio.get_running_loop(), {}))
        running = asyncio.create_task(anext(trigger.run()))
        await polled.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(async_pool._loop_pools.get(asyncio.get_running_loop(), {})) == before


class TestStoredArguments:
    def test_they_come_back_unchanged_and_no_log_shows_a_secret(self, submit, responses_sandbox, shown):
        (batch_id,) = submit(1)
        responses_sandbox.end_batch(batch_id, "failed")
        trigger = make([batch_id])
        path, kwargs = trigger.serialize()
        assert path == "airflow_provider_responses.triggers.batches.ResponsesBatchTrigger"
        assert through_the_database(kwargs) == kwargs
        assert ResponsesBatchTrigger(**kwargs).serialize() == (path, kwargs)
        key = responses_sandbox.connection["password"]
        event = first_event(trigger)
        for text in (json.dumps(kwargs), repr(trigger), repr(event), json.dumps(event.payload), shown()):
            assert key not in text
            assert "purple" not in text
        assert "conn_id=responses_default" in repr(trigger)

    def test_nothing_is_rendered(self):
        trigger = make(["{{ conn.secret.password }}"])
        trigger.template_fields = ("batch_ids", "conn_id")
        before = through_the_database(trigger.kwargs)
        trigger.render_template_fields({"conn": "rendered"})
        assert trigger.kwargs == before

    def test_arguments_of_another_version_are_reported_after_min_deferral(self):
        trigger = make(["batch-1"], not_before=NOW + 45)
        trigger.kwargs["version"] = 99
        outcome = outcome_of(trigger)
        assert (outcome.reason, dict(outcome.attempt)) == ("error", {"rows": 7})
        assert isinstance(outcome.error, VersionMismatchError)
        assert "have version 99, expected 1" in str(outcome.error)
        assert trigger.clock.now == NOW + 45

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_no_garbage_ends_the_triggerer(self, data):
        kwargs = make(["batch-1"]).kwargs
        values = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
        names = data.draw(st.sets(st.sampled_from(sorted(kwargs)), min_size=1, max_size=3))
        kwargs |= {name: data.draw(values) for name in sorted(names)}
        trigger = on_clock(revive(ResponsesBatchTrigger(**kwargs), TaskInstance()), Clock())
        trigger.clock.now = math.inf  # after every deadline
        assert outcome_of(trigger).reason in ("error", "deadline")

    def test_an_unexpected_error_is_an_event_too(self, submit, shown):
        trigger = make(submit(1))

        async def sleep(seconds):
            raise RuntimeError("out of threads")

        trigger._sleep = sleep
        outcome = outcome_of(trigger)
        assert (outcome.reason, dict(outcome.attempt)) == ("error", {"rows": 7})
        assert type(outcome.error) is ResponsesError
        assert outcome.error.retryable
        assert "failed in the triggerer (RuntimeError: out of threads)" in str(outcome.error)
        assert "out of threads" in shown()

    def test_the_objects_of_airflow_and_of_the_client_are_excluded_from_garbage_collection(
        self, submit, responses_sandbox
    ):
        (batch_id,) = submit(1)
        responses_sandbox.end_batch(batch_id, "failed")
        exclude_from_garbage_collection.cache_clear()
        gc.unfreeze()
        outcome_of(make([batch_id]))
        assert exclude_from_garbage_collection.cache_info().currsize == 2
        assert gc.get_freeze_count() > 0


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="earlier triggerers do not call on_kill")
class TestKill:
    class Server(AsyncResponsesClient):
        """A client of a server that can cancel batches."""

        cancelled: ClassVar[list[str]] = []
        is_asked: ClassVar[asyncio.Event] = asyncio.Event()
        is_open: ClassVar[asyncio.Event | None] = None

        async def get_batch(self, batch_id, *, options=None):
            raise InternalServerResponseError("down", status_code=500)

        async def cancel_batch(self, batch_id, *, options=None):
            if batch_id == "batch-2":
                raise InternalServerResponseError("the server is down", status_code=500)
            self.is_asked.set()
            if self.is_open is not None:
                await self.is_open.wait()
            self.cancelled.append(batch_id)

    @pytest.fixture(autouse=True)
    def task_states(self, monkeypatch):
        """Return the states that Airflow has: those of the task of the tests, which a user has ended."""
        states = {"scheduled__2026-01-01": {"ask": "failed"}}

        def get_task_states(*, dag_id, task_ids, run_ids, map_index):
            assert (dag_id, task_ids, run_ids) == ("nightly", ["ask"], ["scheduled__2026-01-01"])
            assert map_index in {-1, 3}
            return states

        monkeypatch.setattr(
            "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", get_task_states
        )
        return states

    @pytest.fixture
    def open_server(self, monkeypatch):
        known = {"conn_type": "responses", "host": "http://127.0.0.1:1/v1", "password": "none-at-all"}
        monkeypatch.setenv(CONNECTION, json.dumps(known))

    def test_openrouters_batches_that_run_on_are_named(self, submit, responses_sandbox, shown):
        ended, running = submit(2)
        trigger = make([ended, running])
        responses_sandbox.end_batch(ended, "failed")
        outcome_of(trigger)
        shown()
        asyncio.run(trigger.on_kill())
        logged = shown()
        assert f"not its batches, which run on and are billed: {running} (OpenRouter cannot cancel a batch)" in logged
        assert ended not in logged

    def test_nothing_is_logged_if_all_batches_have_ended(self, submit, responses_sandbox, shown):
        (ended,) = submit(1)
        responses_sandbox.end_batch(ended, "failed")
        trigger = make([ended])
        outcome_of(trigger)
        shown()
        asyncio.run(trigger.on_kill())
        assert "A user ended the task" not in shown()

    @pytest.fixture
    def cancelled(self, open_server, monkeypatch):
        """Return the ids of the batches that a server has cancelled."""
        monkeypatch.setattr("airflow_provider_responses.client.AsyncResponsesClient", self.Server)
        self.Server.cancelled.clear()
        return self.Server.cancelled

    def test_another_server_is_asked_to_cancel_them_and_failures_are_logged(self, cancelled, shown):
        asyncio.run(make(["batch-1", "batch-2", "batch-3"]).on_kill())
        logged = shown()
        assert sorted(cancelled) == ["batch-1", "batch-3"]
        assert "batch batch-1 is being cancelled" in logged
        assert "run on and are billed: batch-2 (it could not be cancelled: the server is down)" in logged

    @pytest.mark.parametrize("state", ["success", "skipped"])
    def test_a_task_that_is_marked_otherwise_has_ended_too(self, cancelled, task_states, state):
        task_states["scheduled__2026-01-01"] = {"ask": state}
        asyncio.run(make(["batch-1"]).on_kill())
        assert cancelled == ["batch-1"]

    # None: it was cleared. deferred: another triggerer has taken over its trigger.
    @pytest.mark.parametrize("state", [None, "scheduled", "queued", "running", "deferred"])
    def test_nothing_is_cancelled_while_the_task_goes_on(self, cancelled, task_states, state, shown):
        task_states["scheduled__2026-01-01"] = {"ask": state}
        asyncio.run(make(["batch-1", "batch-3"]).on_kill())
        assert cancelled == []
        logged = shown()
        assert f"(its state: {state or 'none'}). Its batches run on, and it waits for the same ones" in logged
        assert "batch-1, batch-3" in logged
        assert "A user ended the task" not in logged

    def test_the_state_of_a_mapped_task_is_that_of_its_own_instance(self, cancelled, task_states):
        trigger = make(["batch-1"])
        trigger.task_instance.map_index = 3
        task_states["scheduled__2026-01-01"] = {"ask": "failed", "ask_2": "failed", "ask_3": None}
        asyncio.run(trigger.on_kill())
        assert cancelled == []
        task_states["scheduled__2026-01-01"]["ask_3"] = "failed"
        asyncio.run(trigger.on_kill())
        assert cancelled == ["batch-1"]

    @pytest.mark.parametrize("is_broken", [True, False])
    def test_nothing_is_cancelled_if_the_state_of_the_task_is_unknown(
        self, cancelled, task_states, monkeypatch, is_broken, shown
    ):
        task_states.clear()  # its run was deleted
        if is_broken:
            monkeypatch.delattr(STATES)
        asyncio.run(make(["batch-1"]).on_kill())
        assert cancelled == []
        logged = shown()
        assert "It is unknown whether a user ended the task" in logged
        assert ("AttributeError" if is_broken else "LookupError: Airflow has no state of ask") in logged
        assert "Its batches run on and are billed: batch-1" in logged

    async def test_batches_are_cancelled_although_airflow_ends_on_kill_before(self, cancelled, monkeypatch, shown):
        monkeypatch.setattr(self.Server, "is_asked", asyncio.Event())
        monkeypatch.setattr(self.Server, "is_open", asyncio.Event())
        killing = asyncio.create_task(asyncio.wait_for(make(["batch-1"]).on_kill(), timeout=30))
        await self.Server.is_asked.wait()
        (ending,) = _ENDINGS
        for _ in range(3):  # as a triggerer does each second
            killing.cancel("user-action")
            for _ in range(10):
                await asyncio.sleep(0)
        assert cancelled == []
        self.Server.is_open.set()
        await ending
        assert cancelled == ["batch-1"]
        assert "batch batch-1 is being cancelled" in shown()
        await asyncio.wait([killing])

    def test_a_client_that_cannot_cancel_names_the_batches(self, open_server, monkeypatch, shown):
        monkeypatch.setattr(AsyncResponsesClient, "cancel_batch", None, raising=False)
        asyncio.run(make(["batch-1"]).on_kill())
        assert "run on and are billed: batch-1 (the client cannot cancel a batch)" in shown()

    def test_a_connection_that_cannot_be_read_names_the_batches(self, monkeypatch, shown):
        monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "responses"}))
        asyncio.run(make(["batch-1"]).on_kill())
        assert "run on and are billed: batch-1 (they could not be cancelled: password is missing" in shown()

    def test_arguments_of_another_version_name_the_batches(self, shown):
        trigger = make(["batch-1"])
        trigger.kwargs["version"] = 99
        asyncio.run(trigger.on_kill())
        assert "run on and are billed: batch-1 (they could not be cancelled: the task was deferred by" in shown()


DAG = """
import datetime
import time

from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_provider_responses.batch.waiting import BatchWait, read_batch_event
from airflow_provider_responses.hooks.responses import ResponsesHook
from airflow_provider_responses.triggers.batches import ResponsesBatchTrigger


class Waiting(BaseOperator):
    def execute(self, context):
        request = {"custom_id": "one", "body": {"input": "hi"}}
        ids = tuple(ResponsesHook().create_batch([request], model="vendor/m").id for _ in range(2))
        wait = BatchWait(
            conn_id="responses_default",
            batch_ids=ids,
            deadline=time.time() + 60,
            poll_interval=0.02,
            attempt={"submitted": 2},
        )
        self.defer(trigger=ResponsesBatchTrigger(**wait.to_kwargs()), method_name="execute_complete")

    def execute_complete(self, context, event):
        outcome = read_batch_event(event)
        return [outcome.reason, sorted(outcome.statuses.values()), outcome.attempt]


with DAG("batches", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    Waiting(task_id="waiting")
"""


def test_a_task_waits_for_its_batches_in_airflow(run_dag, responses_sandbox):
    responses_sandbox.batch_settings = {"seconds": 0.2}
    result = run_dag(DAG, "batches")
    assert result.xcom("waiting") == ["finished", ["completed", "completed"], {"submitted": 2}]
    assert all(len(entry.polls) >= 1 for entry in responses_sandbox.batches)
