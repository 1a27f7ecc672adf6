"""The triggers by themselves: what they store, how they start over, what they hold, and what becomes of bad rows."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_responses import payloads, runs
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    RequestValidationError,
    TooManyRequestsResponseError,
    TransportError,
)
from airflow_provider_responses.hooks.responses import KEPT_SECONDS, ResponsesHook, _kept_configs, kept_config
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.operators.responses import MAX_TRIGGER_BYTES, RESUMING, ResponsesOperator
from airflow_provider_responses.triggers.responses import ResponsesStartTrigger, ResponsesTrigger
from tests.airflow_fakes import TaskInstance, context
from tests.models.test_output import Nested
from tests.ways import first_event, revive, started, through_the_database

SCHEMA = {"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"type": "string"}}}


def ask(**kwargs):
    return ResponsesOperator(
        task_id="ask",
        **({"model": "vendor/m", "input": "purple elephants", "deferrable": True, "min_deferral": 0} | kwargs),
    )


def deferred(task, ti=None):
    """Give the trigger of a task, made again from what it stores."""
    ti = ti or TaskInstance()
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context(ti))
    trigger = revive(caught.value.trigger, ti)
    trigger.ends_task = False
    return trigger


def outcome_of(event):
    outcome, _ = payloads.read_event(through_the_database(event.payload))
    return outcome


class Clock:
    """A wall clock that sleeping moves."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def set_on(self, trigger: Any) -> None:
        trigger._now, trigger._sleep = self, self.sleep


class TestWhatIsStored:
    def test_plain_json_that_comes_back_as_it_was(self, responses_sandbox):
        trigger = deferred(ask(request={"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]}))
        path, arguments = trigger.serialize()
        assert path == "airflow_provider_responses.triggers.responses.ResponsesTrigger"
        assert through_the_database(arguments) == arguments
        assert ResponsesTrigger(**arguments).serialize() == (path, arguments)

    @pytest.mark.parametrize("start", [False, True])
    def test_no_secret_and_no_prompt_where_it_is_shown(self, start, responses_sandbox, caplog, capfd):
        caplog.set_level("DEBUG")
        trigger = revive(started(ask()), TaskInstance()) if start else deferred(ask())
        key = responses_sandbox.connection["password"]
        assert key not in json.dumps(trigger.serialize())
        event = first_event(trigger)
        answer = outcome_of(event).response.output_text
        assert answer
        for shown in (repr(trigger), repr(event), str(event), caplog.text, "".join(capfd.readouterr())):
            assert "purple" not in shown
            assert answer not in shown
            assert key not in shown
        assert "gen-" in repr(event)
        assert "output_tokens" in repr(event)
        assert key not in json.dumps(event.payload)

    @pytest.mark.parametrize("start", [False, True])
    def test_keys_keep_their_order_though_the_database_reorders_them(self, start, responses_sandbox):
        task = ask(request={"tools": [{"type": "function", "parameters": SCHEMA, "name": "f", "strict": False}]})
        if start:
            first_event(revive(started(task), TaskInstance()))
        else:
            first_event(deferred(task))
        (tool,) = responses_sandbox.ledger[0].body["tools"]
        assert list(tool) == ["type", "parameters", "name", "strict"]
        assert list(tool["parameters"]["properties"]) == ["zeta", "alpha"]

    def test_a_header_that_looks_like_a_secret_stays_on_the_worker(self, responses_sandbox):
        ti = TaskInstance()
        assert ask(options={"headers": {"X-Api-Key": "abc123"}}).execute(context(ti))
        assert ti.xcoms["response_id"]

    def test_the_largest_row_fits_a_column_of_mysql(self, responses_sandbox, monkeypatch):
        from airflow.models.trigger import Trigger
        from cryptography.fernet import Fernet

        monkeypatch.setattr("airflow.models.crypto.get_fernet", lambda: Fernet(Fernet.generate_key()))
        rest = len(json.dumps(deferred(ask()).serialize()[1]))
        trigger = deferred(ask(input="x" * (MAX_TRIGGER_BYTES - rest)))
        assert len(Trigger.from_object(trigger).encrypted_kwargs) < 65_535

    def test_a_request_too_large_for_the_table_runs_on_the_worker_and_says_so(self, responses_sandbox, capfd, caplog):
        caplog.set_level("INFO")
        assert ask(input="x" * 5000, max_trigger_bytes=4000).execute(context())
        assert "and max_trigger_bytes is 4000" in caplog.text + "".join(capfd.readouterr())

    @pytest.mark.parametrize("start", [False, True])
    def test_starting_over_sends_the_same_bytes_and_pays_once(self, start, responses_sandbox):
        task = ask()
        trigger = revive(started(task), TaskInstance()) if start else deferred(task)
        first = outcome_of(first_event(trigger))
        again = outcome_of(first_event(revive(trigger, TaskInstance())))
        assert again.response.output_text == first.response.output_text
        assert len(responses_sandbox.billed) == 1
        assert len({entry.body_sha256 for entry in responses_sandbox.ledger}) == 1
        assert again.generations[first.response.generation_id]["total_cost"] == pytest.approx(
            responses_sandbox.billed[0].cost
        )


class TestRowsOfOtherVersions:
    @pytest.mark.parametrize("cls", [ResponsesTrigger, ResponsesStartTrigger])
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda kwargs: kwargs.pop("conn_id"), "lack 'conn_id'"),
            (lambda kwargs: kwargs.update(brand_new=1), "hold 'brand_new', which is unknown here"),
            (lambda kwargs: kwargs.update(options=5), "options must be"),
        ],
    )
    def test_fail_their_task_and_never_the_triggerer(self, cls, change, said, responses_sandbox):
        trigger = deferred(ask()) if cls is ResponsesTrigger else started(ask())
        _, kwargs = trigger.serialize()
        change(kwargs)
        event = first_event(revive(cls(**kwargs), TaskInstance()))
        with pytest.raises(Exception, match=said) as caught:
            ask().execute_complete(context(), through_the_database(event.payload))
        assert isinstance(caught.value.__cause__ or caught.value, (ConfigurationError, RequestValidationError))
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize(
        ("name", "value"),
        [("settings", {"brand_new": 1}), ("request", "{"), ("request", "[]"), ("deadline", "soon"), ("spent", 5)],
    )
    def test_arguments_of_another_shape(self, name, value, responses_sandbox):
        _, kwargs = deferred(ask()).serialize()
        event = first_event(revive(ResponsesTrigger(**kwargs | {name: value}), TaskInstance()))
        with pytest.raises(ConfigurationError, match="another version of") as caught:
            ask().execute_complete(context(), event.payload)
        assert caught.value.retryable  # a retry defers anew

    @settings(max_examples=60, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(
                ["conn_id", "request", "options", "settings", "stamp", "spent", "deadline", "waits", "input"]
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
            ),
        )
    )
    def test_no_garbage_ends_the_triggerer(self, kwargs):
        for cls in (ResponsesTrigger, ResponsesStartTrigger):
            event = first_event(revive(cls(**kwargs), TaskInstance()))
            outcome = outcome_of(event)
            assert outcome.error is not None


class TestClassesOfAnswers:
    """A class that the triggerer does not have as the worker has it leaves the answer to the worker."""

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("raise SystemExit('SETTING is missing')", "SystemExit: SETTING is missing"),
            ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
            ("", "AttributeError"),
            ("Answer = 5", "AttributeError"),
            (
                "from pydantic import BaseModel\nclass Answer(BaseModel):\n    name: str",
                "has loaded answers_of_a_user:Answer with other fields",
            ),
        ],
    )
    def test_that_the_triggerer_has_not(self, source, said, responses_sandbox, tmp_path, monkeypatch, caplog, capfd):
        caplog.set_level("INFO")
        trigger = deferred(ask(output_type=Nested))
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "answers_of_a_user.py").write_text(source)
        trigger.settings["output_type"] = "answers_of_a_user:Answer"
        try:
            outcome = outcome_of(first_event(trigger))
        finally:
            sys.modules.pop("answers_of_a_user", None)
        assert outcome.unread
        assert outcome.value is None
        logged = caplog.text + "".join(capfd.readouterr())
        assert "A worker reads the answer" in logged
        assert said in logged

    def test_that_it_has(self, responses_sandbox):
        outcome = outcome_of(first_event(deferred(ask(output_type=Nested))))
        assert not outcome.unread
        assert Nested.model_validate(outcome.value)


class TestTemplates:
    def test_what_a_worker_has_rendered_is_not_rendered_again(self, responses_sandbox):
        trigger = deferred(ask(input="{{ conn.secret.password }}"))
        trigger.template_fields = ("request", "conn_id")  # as Airflow sets them for a DAG that has changed since
        trigger.render_template_fields({"conn": "rendered"})
        first_event(trigger)
        assert responses_sandbox.ledger[0].body["input"] == "{{ conn.secret.password }}"

    def test_a_start_that_was_not_rendered_sends_nothing(self, responses_sandbox):
        trigger = revive(started(ask(input="{{ ds }}")), TaskInstance())
        trigger._run_began = None
        error = outcome_of(first_event(trigger)).error
        assert isinstance(error, ConfigurationError)
        assert error.retryable
        assert "templates were not rendered" in str(error)
        assert not responses_sandbox.ledger


class TestEvents:
    @pytest.mark.parametrize(
        "body", [{"id": "a\0b"}, {"id": "a\ud800b"}, {"model": "\0"}, {"usage": {"input_tokens": 10**30}}]
    )
    def test_what_a_server_says_is_shown_only_if_it_can_be_stored(self, body):
        event = payloads.write_event(runs.Outcome(response=Response(raw=body)), stamp=None, kept=False)
        shown = {name: value for name, value in event.items() if name != "outcome"}
        assert shown["response_id"] is shown["model"] is shown["usage"]["input_tokens"] is None
        assert payloads.read_event(through_the_database(event))[0].response.raw == body

    def test_a_prompt_that_travels_is_not_shown(self):
        response = Response(raw={"id": "resp-1"})
        outcome = runs.Outcome(response=response, unread=True)
        event = payloads.write_event(outcome, stamp=None, kept=False, fields={"input": "purple elephants"})
        assert payloads.read_fields(through_the_database(event)) == {"input": "purple elephants"}
        assert "purple" not in repr(event)

    @pytest.mark.parametrize("event", [None, "success", 5, [], {}, {"version": 99, "outcome": "{}"}, {"outcome": "{}"}])
    def test_of_another_shape_are_retried(self, event, responses_sandbox):
        with pytest.raises(ConfigurationError, match="the trigger's event has") as caught:
            ask().execute_complete(context(), event)
        assert caught.value.retryable

    @pytest.mark.parametrize("text", ["", "[]", 5])
    def test_whose_request_cannot_be_read_are_retried(self, text, responses_sandbox):
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            ask().execute_complete(context(), {"version": payloads.VERSION, "outcome": None, "request": text})
        assert caught.value.retryable

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"response": 5}', '{"response": {"raw": 1}}'])
    def test_that_cannot_be_read_are_retried(self, text, responses_sandbox):
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            ask().execute_complete(context(), {"version": payloads.VERSION, "outcome": text})
        assert caught.value.retryable

    def test_an_answer_too_large_to_travel_is_fetched_again_for_nothing(self, responses_sandbox, monkeypatch):
        monkeypatch.setattr(payloads, "LARGEST_ANSWER", 10)
        ti = TaskInstance()
        event = first_event(deferred(ask(), ti))
        assert event.payload["outcome"] is None
        assert ask().execute_complete(context(ti), through_the_database(event.payload))
        assert len(responses_sandbox.billed) == 1
        assert len({entry.body_sha256 for entry in responses_sandbox.ledger}) == 1
        assert ti.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.billed[0].cost)

    def test_an_answer_that_is_not_kept_travels_however_large(self, responses_sandbox, monkeypatch):
        monkeypatch.setattr(payloads, "LARGEST_ANSWER", 10)
        event = first_event(deferred(ask(cache=False)))
        assert outcome_of(event).response.output_text

    def test_a_large_answer_is_parsed_and_packed_off_the_loop(self, responses_sandbox, monkeypatch):
        monkeypatch.setattr("airflow_provider_responses.client.client.LARGE", 3)
        monkeypatch.setattr("airflow_provider_responses.triggers.responses.LARGE", 3)
        packed = []
        monkeypatch.setattr(asyncio, "to_thread", _recording(asyncio.to_thread, packed))
        assert outcome_of(first_event(deferred(ask()))).response
        assert len(packed) == 2

    def test_an_error_arrives_with_all_that_it_knew(self, responses_sandbox):
        responses_sandbox.script({"status": 429, "retry_after": 77})
        error = outcome_of(first_event(deferred(ask()))).error
        assert isinstance(error, TooManyRequestsResponseError)
        assert (error.status_code, error.retry_after, error.retryable) == (429, 77, True)
        assert "429" in str(error)


def _recording(function, calls):
    async def call(*args, **kwargs):
        calls.append(args)
        return await function(*args, **kwargs)

    return call


class TestTime:
    def test_no_worker_resumes_before_min_deferral(self, responses_sandbox):
        trigger = deferred(ask(min_deferral=5))
        clock = Clock(trigger.not_before - 3)
        clock.set_on(trigger)
        first_event(trigger)
        assert clock.slept == [3]

    def test_a_long_call_is_not_held(self, responses_sandbox):
        trigger = deferred(ask(min_deferral=5))
        clock = Clock(trigger.not_before + 1)
        clock.set_on(trigger)
        first_event(trigger)
        assert clock.slept == []

    @pytest.mark.parametrize(
        ("waits", "asked", "slept"), [(True, 400, [400]), (False, 400, []), (True, 10**6, [86_400])]
    )
    def test_a_long_retry_after_is_waited_out_where_airflow_cannot(self, waits, asked, slept, responses_sandbox):
        responses_sandbox.script({"status": 429, "retry_after": asked})
        trigger = deferred(ask(min_deferral=0))
        trigger.waits = waits
        clock = Clock(time.time())
        clock.set_on(trigger)
        assert outcome_of(first_event(trigger)).error.retry_after == asked
        assert clock.slept == slept

    @pytest.mark.parametrize(("try_number", "waits"), [(1, True), (2, True), (3, False)])
    def test_it_is_waited_out_only_if_a_try_is_left(self, try_number, waits, responses_sandbox):
        trigger = deferred(ask(), TaskInstance(try_number=try_number, max_tries=2))
        assert trigger.waits is (waits and not AIRFLOW_V_3_3_PLUS)

    def test_the_deadline_goes_on_while_no_triggerer_runs(self, responses_sandbox):
        trigger = deferred(ask(options={"timeout": 60}))
        trigger._now = lambda: trigger.deadline + 1
        error = outcome_of(first_event(trigger)).error
        assert isinstance(error, TransportError)
        assert error.kind == "deadline"
        assert error.retryable
        assert not responses_sandbox.ledger

    def test_the_deadline_is_the_tasks_if_that_is_sooner(self, responses_sandbox):
        import datetime

        before = time.time()
        trigger = deferred(ask(options={"timeout": 600}, execution_timeout=datetime.timedelta(seconds=100)))
        assert before + (90 if AIRFLOW_V_3_0_PLUS else 70) < trigger.deadline < time.time() + 100

    @pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="Airflow 3 gives a task that resumes all its time")
    def test_time_is_left_to_resume_where_airflow_counts_it(self, responses_sandbox):
        import datetime

        limit = datetime.timedelta(seconds=100)
        assert deferred(ask(execution_timeout=limit)).deadline < time.time() + 100 - RESUMING
        assert not deferred(ask(execution_timeout=limit)).waits
        assert ask(execution_timeout=datetime.timedelta(seconds=30)).execute(context())  # on the worker
        ti = TaskInstance(start_date=datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=90))
        task = ask(execution_timeout=limit)
        task.execute_complete(context(ti), first_event(deferred(ask())).payload)
        assert task._left() < 11

    def test_a_start_in_the_triggerer_counts_from_the_first_start(self, responses_sandbox):
        import datetime

        from airflow_provider_responses.triggers.responses import START_TIMEOUT

        trigger = revive(started(ask(options={"timeout": 60})), TaskInstance())
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        trigger.timeout_after = start + START_TIMEOUT
        trigger._now = lambda: start.timestamp() + 61
        assert outcome_of(first_event(trigger)).error.kind == "deadline"
        assert not responses_sandbox.ledger

    def test_a_start_in_the_triggerer_ends_before_its_execution_timeout(self, responses_sandbox):
        import datetime

        task = ask(execution_timeout=datetime.timedelta(seconds=20))
        trigger = revive(started(task), TaskInstance())
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        trigger.timeout_after = start + datetime.timedelta(seconds=20)
        trigger._now = lambda: start.timestamp() + 19.5
        assert outcome_of(first_event(trigger)).error.kind == "deadline"


class XComs:
    """What the triggerer of Airflow 3 gets at of a task's XComs."""

    def __init__(self, **values):
        self.values = values

    async def __call__(self, method, key, **more):
        if method == "get_one":
            return self.values.get(key)
        if method == "delete":
            return self.values.pop(key, None)
        self.values[key] = more["value"]
        return None


class TestTriesThatStartInTheTriggerer:
    FINISHED = "airflow_provider_responses.finished_try"

    def start(self, try_number, **values):
        trigger = revive(started(ask()), TaskInstance(try_number=try_number))
        trigger._xcom = XComs(**values)
        return trigger

    def stamp(self, trigger):
        first_event(trigger)
        return trigger.stamp

    def test_a_retry_has_the_same_stamp_and_a_clear_another(self, responses_sandbox):
        first = self.stamp(self.start(1))
        assert self.stamp(self.start(2)) == first
        cleared = self.stamp(self.start(2, **{self.FINISHED: 1}))
        assert cleared != first
        assert self.stamp(self.start(3, **{self.FINISHED: 1})) == cleared  # a retry of what was cleared

    def test_a_run_that_begins_anew_is_a_clear(self, responses_sandbox):
        first, second = self.start(1), self.start(2)
        second._run_began = first._run_began + 60
        assert self.stamp(first) != self.stamp(second)

    def test_a_user_who_ends_a_try_makes_the_next_ask_anew(self, responses_sandbox):
        trigger = self.start(1)
        stamp = self.stamp(trigger)
        asyncio.run(trigger.on_kill())
        assert self.stamp(self.start(2, **trigger._xcom.values)) != stamp

    def test_a_kill_that_was_none_changes_nothing_for_this_try(self, responses_sandbox):
        trigger = self.start(2)
        stamp = self.stamp(trigger)
        asyncio.run(trigger.on_kill())
        assert self.stamp(self.start(2, **trigger._xcom.values)) == stamp

    def test_what_earlier_tries_left_in_xcom_is_deleted(self, responses_sandbox):
        trigger = self.start(2, return_value="stale", usage={}, **{self.FINISHED: 1})
        event = first_event(trigger)
        assert trigger._xcom.values == {self.FINISHED: 1}
        ti = TaskInstance(try_number=2, max_tries=4)
        assert ask(start_from_trigger=True).execute_complete(context(ti), event.payload)
        assert ti.xcoms[self.FINISHED] == 2

    @pytest.mark.parametrize(("status", "try_number", "marked"), [(402, 2, True), (503, 2, False), (503, 5, True)])
    def test_a_failure_is_the_end_if_no_try_follows(self, status, try_number, marked, responses_sandbox):
        responses_sandbox.script({"status": status})
        trigger = revive(started(ask(options={"max_retries": 0})), TaskInstance())
        event = first_event(trigger)
        ti = TaskInstance(try_number=try_number, max_tries=4)
        with pytest.raises(Exception, match=str(status)):
            ask(start_from_trigger=True).execute_complete(context(ti), event.payload)
        assert (self.FINISHED in ti.xcoms) is marked


class TestBeingEnded:
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

    def test_a_connection_that_fails_once_nobody_waits_for_it_is_no_complaint(self, responses_sandbox, monkeypatch):
        trigger = deferred(ask())
        asked, go_on, complaints = asyncio.Event(), asyncio.Event(), []

        async def fail(hook):
            asked.set()
            await go_on.wait()
            raise RuntimeError("the secrets backend is down")

        async def cancel():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, problem: complaints.append(problem))
            running = asyncio.create_task(anext(trigger.run()))
            await asked.wait()
            running.cancel()
            await asyncio.wait([running])
            go_on.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            _kept_configs.clear()
            gc.collect()

        monkeypatch.setattr(ResponsesHook, "aconfig", fail)
        asyncio.run(cancel())
        assert not complaints

    def test_a_connection_deleted_meanwhile_is_said_and_retried(self, airflow_db, responses_sandbox, monkeypatch):
        trigger = deferred(ask())
        monkeypatch.delenv("AIRFLOW_CONN_RESPONSES_DEFAULT")
        event = first_event(trigger)
        monkeypatch.undo()
        with pytest.raises(ConfigurationError, match="'responses_default' could not be read") as caught:
            ask().execute_complete(context(), event.payload)
        assert caught.value.retryable

    def test_a_connection_broken_meanwhile_fails_at_once(self, responses_sandbox, monkeypatch):
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
    async def test_a_connection_is_read_once_for_many(self, responses_sandbox, monkeypatch):
        reads = []
        real = ResponsesHook.aconfig

        async def aconfig(self):
            reads.append(self.conn_id)
            await asyncio.sleep(0)
            return await real(self)

        monkeypatch.setattr(ResponsesHook, "aconfig", aconfig)
        configs = await asyncio.gather(*[kept_config("responses_default") for _ in range(50)])
        assert reads == ["responses_default"]
        assert all(config is configs[0] for config in configs)
        await kept_config("responses_default")
        assert len(reads) == 1
        loop = asyncio.get_running_loop()
        later = loop.time() + KEPT_SECONDS + 1
        monkeypatch.setattr(loop, "time", lambda: later)
        await kept_config("responses_default")
        assert len(reads) == 2

    async def test_whoever_is_cancelled_leaves_the_others_their_connection(self, responses_sandbox, monkeypatch):
        gate = asyncio.Event()
        real = ResponsesHook.aconfig

        async def aconfig(self):
            await gate.wait()
            return await real(self)

        monkeypatch.setattr(ResponsesHook, "aconfig", aconfig)
        first, second = (asyncio.create_task(kept_config("responses_default")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        assert (await second).api_key
        with pytest.raises(asyncio.CancelledError):
            await first

    async def test_a_failure_is_not_kept(self, responses_sandbox, monkeypatch):
        good = json.dumps(responses_sandbox.connection)
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps({"conn_type": "responses"}))
        with pytest.raises(ConfigurationError, match="password is missing"):
            await kept_config("responses_default")
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", good)
        assert (await kept_config("responses_default")).api_key

    async def test_many_triggers_share_connections_and_close_them_with_the_last(self, responses_sandbox):
        from airflow_provider_responses.client import transport

        task = ask()
        trigger = await asyncio.to_thread(deferred, task)
        before = len(transport._loop_pools.get(asyncio.get_running_loop(), {}))
        made = []
        real = transport.AsyncPool

        class Counted(real):
            def __init__(self, **kwargs):
                made.append(self)
                super().__init__(**kwargs)

        transport.AsyncPool = Counted
        try:
            again = [revive(trigger, TaskInstance()) for _ in range(20)]
            await asyncio.gather(*[anext(one.run()) for one in again])
        finally:
            transport.AsyncPool = real
        assert len(made) == 1
        assert made[0].http.is_closed
        assert len(transport._loop_pools.get(asyncio.get_running_loop(), {})) == before

    async def test_nothing_blocks_the_loop(self, responses_sandbox):
        from blockbuster import blockbuster_ctx

        trigger = await asyncio.to_thread(deferred, ask())
        await asyncio.to_thread(first_event, revive(trigger, TaskInstance()))  # what is imported once
        with blockbuster_ctx():
            assert (await anext(trigger.run())).payload["error"] is None
