"""Deadlines, and how long a trigger waits before its event, on a clock of the tests."""

from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.exceptions import TransportError
from airflow_provider_responses.operators.execution_mode import RESUME_SECONDS
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import first_event, revive, start_trigger
from tests.triggers.tasks import ask, deferred, outcome_of


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


class TestTime:
    def test_no_worker_resumes_before_min_deferral(self, responses_sandbox, monkeypatch):
        monkeypatch.setenv("AIRFLOW__RESPONSES__MIN_DEFERRAL", "5")
        trigger = deferred(ask())
        clock = Clock(trigger.kwargs["not_before"] - 3)
        clock.set_on(trigger)
        first_event(trigger)
        assert clock.slept == [3]

    def test_a_response_after_min_deferral_is_not_delayed(self, responses_sandbox, monkeypatch):
        monkeypatch.setenv("AIRFLOW__RESPONSES__MIN_DEFERRAL", "5")
        trigger = deferred(ask())
        clock = Clock(trigger.kwargs["not_before"] + 1)
        clock.set_on(trigger)
        first_event(trigger)
        assert clock.slept == []

    @pytest.mark.parametrize(
        ("waits", "asked", "slept"), [(True, 400, [400]), (False, 400, []), (True, 10**6, [86_400])]
    )
    def test_a_long_retry_after_is_waited_out_where_airflow_cannot(self, waits, asked, slept, responses_sandbox):
        responses_sandbox.script({"status": 429, "retry_after": asked})
        trigger = deferred(ask())
        trigger.kwargs["waits_for_retry_after"] = waits
        clock = Clock(time.time())
        clock.set_on(trigger)
        assert outcome_of(first_event(trigger)).error.retry_after == asked
        assert clock.slept == slept

    @pytest.mark.parametrize(("try_number", "waits"), [(1, True), (2, True), (3, False)])
    def test_it_is_waited_out_only_before_another_attempt(self, try_number, waits, responses_sandbox):
        trigger = deferred(ask(), TaskInstance(try_number=try_number, max_tries=2))
        assert trigger.kwargs["waits_for_retry_after"] is (waits and not AIRFLOW_V_3_3_PLUS)

    def test_the_deadline_passes_also_while_no_triggerer_runs(self, responses_sandbox):
        trigger = deferred(ask(options={"timeout": 60}))
        trigger._now = lambda: trigger.kwargs["deadline"] + 1
        error = outcome_of(first_event(trigger)).error
        assert isinstance(error, TransportError)
        assert error.kind == "deadline"
        assert error.retryable
        assert not responses_sandbox.ledger

    def test_the_deadline_is_that_of_the_task_if_it_is_sooner(self, responses_sandbox):
        import datetime

        before = time.time()
        trigger = deferred(ask(options={"timeout": 600}, execution_timeout=datetime.timedelta(seconds=100)))
        assert before + (90 if AIRFLOW_V_3_0_PLUS else 70) < trigger.kwargs["deadline"] < time.time() + 100

    @pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="from Airflow 3.0 on, execution_timeout begins again on resuming")
    def test_time_to_resume_is_reserved_where_airflow_counts_it(self, responses_sandbox):
        import datetime

        limit = datetime.timedelta(seconds=100)
        assert deferred(ask(execution_timeout=limit)).kwargs["deadline"] < time.time() + 100 - RESUME_SECONDS
        assert not deferred(ask(execution_timeout=limit)).kwargs["waits_for_retry_after"]
        assert ask(execution_timeout=datetime.timedelta(seconds=30)).execute(context())  # on the worker
        ti = TaskInstance(start_date=datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=90))
        task = ask(execution_timeout=limit)
        task.execute_complete(context(ti), first_event(deferred(ask())).payload)
        assert task._seconds_left() < 11

    def test_the_deadline_of_a_start_in_the_triggerer_counts_from_its_first_start(self, responses_sandbox):
        import datetime

        from airflow_provider_responses.triggers.responses import START_TIMEOUT

        trigger = revive(start_trigger(ask(options={"timeout": 60})), TaskInstance())
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        trigger.timeout_after = start + START_TIMEOUT
        trigger._now = lambda: start.timestamp() + 61
        assert outcome_of(first_event(trigger)).error.kind == "deadline"
        assert not responses_sandbox.ledger

    def test_the_deadline_of_a_start_in_the_triggerer_is_before_its_execution_timeout(self, responses_sandbox):
        import datetime

        task = ask(execution_timeout=datetime.timedelta(seconds=20))
        trigger = revive(start_trigger(task), TaskInstance())
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        trigger.timeout_after = start + datetime.timedelta(seconds=20)
        trigger._now = lambda: start.timestamp() + 19.5
        assert outcome_of(first_event(trigger)).error.kind == "deadline"
