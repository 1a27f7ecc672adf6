"""What tells a retry from a clear in the triggerer."""

from __future__ import annotations

import asyncio
import json

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.task import xcom
from tests.airflow_fakes import TaskInstance, context
from tests.triggers.tasks import ask
from tests.ways import first_event, revive, started


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
    STAMPED = "airflow_provider_responses.stamped_try"

    def start(self, try_number, **values):
        trigger = revive(started(ask()), TaskInstance(try_number=try_number))
        trigger._xcom = XComs(**values)
        return trigger

    def stamp(self, trigger):
        first_event(trigger)
        return trigger.stamp

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="a trigger ends a task from 3.3 on")
    def test_a_success_is_remembered_by_the_event_that_ends_the_task(self, responses_sandbox):
        trigger = self.start(1)
        event = first_event(trigger)
        assert event.xcoms == {self.FINISHED: 1}
        assert set(trigger._xcom.values) == xcom.KEYS
        # Airflow stores what comes with an event as text.
        kept = {self.FINISHED: json.dumps(event.xcoms[self.FINISHED])}
        assert self.stamp(self.start(2, **kept)) == self.stamp(self.start(2, **{self.FINISHED: 1})) != trigger.stamp

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

    @pytest.mark.parametrize("before", [{}, {FINISHED: 1}, {FINISHED: 1, STAMPED: [2, 1]}])
    def test_a_try_that_starts_over_keeps_its_stamp_whatever_was_written_since(self, before, responses_sandbox):
        try_number = 3 if self.STAMPED in before else 2
        trigger = self.start(try_number, **before)
        stamp = self.stamp(trigger)
        # A user cleared the try before it, which is known late; or this one was taken for killed.
        for finished in (try_number - 1, try_number):
            kept = trigger._xcom.values | {self.FINISHED: finished}
            assert self.stamp(self.start(try_number, **kept)) == stamp
        assert len(responses_sandbox.billed) == 1

    def test_a_retry_of_a_try_that_was_stamped_too_early_asks_for_the_same(self, responses_sandbox):
        second = self.start(2)
        stamp = self.stamp(second)
        late = second._xcom.values | {self.FINISHED: 1}
        third = self.start(3, **late)
        assert self.stamp(third) == stamp
        cleared = third._xcom.values | {self.FINISHED: 3}
        assert self.stamp(self.start(4, **cleared)) != stamp

    def test_a_stamp_is_kept_before_anything_is_sent(self, responses_sandbox):
        trigger = self.start(2)
        seen = []

        async def xcom(method, key, **more):
            seen.append((method, key, len(responses_sandbox.ledger)))

        trigger._xcom = xcom
        first_event(trigger)
        assert ("set", self.STAMPED, 0) in seen

    def test_a_first_try_asks_the_supervisor_nothing_before_it_is_sent(self, responses_sandbox):
        trigger = self.start(1)
        trigger.ends_task = False
        trigger._xcom = None
        assert self.stamp(trigger)

    def test_what_earlier_tries_left_in_xcom_is_deleted(self, responses_sandbox):
        trigger = self.start(2, return_value="stale", usage={}, **{self.FINISHED: 1})
        event = first_event(trigger)
        assert trigger._xcom.values == {self.FINISHED: 1, self.STAMPED: [2, 1]}
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
