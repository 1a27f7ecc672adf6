"""A task that starts in the triggerer: its first attempt is sent from there, later ones are prepared on a worker."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

from airflow_provider_responses.exceptions import TransportError, VersionMismatchError
from airflow_provider_responses.task import payloads, xcom
from airflow_provider_responses.triggers.responses import ResponsesTrigger
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.execution_modes import first_event, revive, start_trigger, through_the_database
from tests.triggers.tasks import ask

RETRIES = 2
pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="a trigger ends a task from 3.3 on")


class XComs:
    """Stands in for the XComs of a task in the triggerer, and records the calls."""

    def __init__(self, **values):
        self.values = values
        self.calls = []

    async def __call__(self, method, key, **more):
        self.calls.append(method)
        if method == "delete":
            self.values.pop(key, None)
        else:
            self.values[key] = more["value"]


class Starts:
    """A task that starts in the triggerer, with the state that survives its attempts."""

    def __init__(self, **arguments):
        self.arguments = {"retries": RETRIES, "start_from_trigger": True} | arguments
        self.store = TaskStateStore()

    def attempt(self, number, cleared_after=0):
        """Make an attempt, as Airflow does; return its task instance."""
        ti = TaskInstance(try_number=number, max_tries=cleared_after + RETRIES)
        trigger = revive(start_trigger(ask(**self.arguments)), ti)
        event = first_event(self.connected(trigger, ti))
        if type(event).__name__ == "TaskSuccessEvent":
            return ti
        task = ask(**self.arguments)
        given = context(ti, task_state_store=self.store)
        try:
            ti.xcoms["return_value"] = task.execute_complete(given, through_the_database(event.payload))
        except TaskDeferred as deferred:
            event = first_event(self.connected(revive(deferred.trigger, ti), ti))
            if type(event).__name__ != "TaskSuccessEvent":
                ti.xcoms["return_value"] = task.execute_complete(given, through_the_database(event.payload))
        return ti

    @staticmethod
    def connected(trigger, ti):
        trigger._call_xcom = xcoms = XComs()
        xcoms.values = ti.xcoms
        return trigger


@pytest.fixture
def sends_once(responses_sandbox, monkeypatch):
    """A sandbox whose connection sends each request once."""
    known = responses_sandbox.connection
    extra = known["extra"] | {"max_retries": 0, "max_ambiguous_retries": 0}
    monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(known | {"extra": extra}))
    return responses_sandbox


def test_a_retry_has_the_same_key_and_the_cached_response(sends_once):
    sends_once.script({"drop": "after"})
    task = Starts()
    with pytest.raises(TransportError):
        task.attempt(1)
    second = task.attempt(2)
    assert len({entry.body_sha256 for entry in sends_once.ledger}) == 1
    assert len(sends_once.billed) == 1
    assert second.xcoms["return_value"]
    assert second.xcoms["usage"]["cached"]
    assert second.xcoms["usage"]["cost"] == pytest.approx(sends_once.billed[0].cost)


def test_a_cleared_task_has_a_new_key_and_its_retry_the_same(responses_sandbox):
    task = Starts()
    task.attempt(1)
    task.attempt(2, cleared_after=1)
    task.attempt(3, cleared_after=1)
    task.attempt(4, cleared_after=3)
    first, cleared, retried, again = (entry.metadata["airflow"] for entry in responses_sandbox.ledger)
    assert cleared == retried
    assert len({first, cleared, again}) == 3
    assert len(responses_sandbox.billed) == 3


def test_a_task_that_is_cleared_before_its_retry_has_a_new_key(sends_once):
    sends_once.script({"drop": "after"})
    task = Starts()
    with pytest.raises(TransportError):
        task.attempt(1)
    task.attempt(2, cleared_after=1)
    assert len({entry.metadata["airflow"] for entry in sends_once.ledger}) == 2


def test_the_cost_includes_that_of_earlier_attempts(responses_sandbox):
    responses_sandbox.script({"text": "no label"}, {"status": 503, "times": 1})
    from tests.models.test_output import Nested

    task = Starts(output_type=Nested, options={"max_retries": 0})
    with pytest.raises(Exception, match="503"):
        task.attempt(1)
    second = task.attempt(2)
    billed = sum(entry.cost for entry in responses_sandbox.billed)
    assert second.xcoms["usage"]["cost"] == pytest.approx(billed)


def test_a_first_attempt_reads_no_xcom(responses_sandbox):
    trigger = revive(start_trigger(ask(retries=RETRIES)), TaskInstance(max_tries=RETRIES))
    trigger._call_xcom = xcoms = XComs()
    assert type(first_event(trigger)).__name__ == "TaskSuccessEvent"
    assert set(xcoms.calls) == {"set"}
    assert set(xcoms.values) == xcom.KEYS


def test_a_later_attempt_sends_nothing_in_the_triggerer(responses_sandbox):
    trigger = revive(start_trigger(ask(retries=RETRIES)), TaskInstance(try_number=2, max_tries=RETRIES))
    trigger._call_xcom = xcoms = XComs(return_value="stale", usage={}, mine=1)
    event = first_event(trigger)
    assert payloads.is_unsent(through_the_database(event.payload))
    assert not responses_sandbox.ledger
    # Before Airflow 3.4, an attempt sees the XComs of those before it, and a worker deletes them when it starts.
    assert set(xcoms.values) == ({"return_value", "usage", "mine"} if AIRFLOW_V_3_4_PLUS else {"mine"})
    assert set(xcoms.calls) <= {"delete"}


def test_a_worker_defers_a_later_attempt_and_logs_why(responses_sandbox, caplog, capfd):
    caplog.set_level("INFO")
    ti = TaskInstance(try_number=2, max_tries=RETRIES)
    with pytest.raises(TaskDeferred) as caught:
        ask(retries=RETRIES, start_from_trigger=True).execute_complete(context(ti), payloads.write_unsent_event())
    assert type(caught.value.trigger) is ResponsesTrigger
    logged = caplog.text + "".join(capfd.readouterr())
    assert "in attempt 2, only a worker can tell a retry from a cleared task" in logged


def test_workers_of_another_version_leave_an_unsent_event_to_retries():
    with pytest.raises(VersionMismatchError, match="lacks 'outcome'") as caught:
        payloads.read_event(through_the_database(payloads.write_unsent_event()))
    assert caught.value.retryable
    assert not payloads.is_unsent({"version": payloads.EVENT_VERSION + 1, "unsent": True})
