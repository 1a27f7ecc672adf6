"""When batches are polled, on a clock of the tests, and when the wait for them ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_responses.batch.polling import (
    BACKOFF_LIMIT,
    JITTER,
    LONGEST_WAIT,
    NEAR_END_LIMIT,
    Finish,
    Poll,
    Polled,
    PollFailed,
    PollSettings,
    Wait,
    observe,
    start,
)
from airflow_provider_responses.task.attempt import MAX_RETRY_AFTER

NOW = 1_000_000.0
INTERVAL = 30.0
HOUR = 3600.0
SLACK = 1e-6  # seconds of rounding


class Task:
    """A state with a clock; it sleeps through waits."""

    def __init__(self, *batch_ids, deadline=NOW + 24 * HOUR, draw=0.0):
        self.now, self.draw = NOW, draw
        self.state = start(
            batch_ids or ("a",),
            settings=PollSettings(deadline=deadline, poll_interval=INTERVAL),
            now=NOW,
            draw=draw,
        )

    def see(self, *observations):
        """Return the next action that is no wait, with the seconds until then."""
        began = self.now
        self.state, action = observe(self.state, observations, now=self.now, draw=self.draw)
        while isinstance(action, Wait):
            assert self.now < action.until <= self.now + LONGEST_WAIT
            self.now = action.until
            self.state, action = observe(self.state, (), now=self.now, draw=self.draw)
        return action, self.now - began

    def waits(self, *observations):
        """Return the seconds before each next poll, after these observations of the first batch."""
        self.see()
        found = []
        for observation in observations:
            action, seconds = self.see(observation)
            assert action == Poll(("a",))
            found.append(round(seconds, 3))
        return found


def ran(batch_id="a", status="in_progress", **counts):
    return Polled(batch_id=batch_id, status=status, **counts)


def failed(batch_id="a", kind="transient", **more):
    return PollFailed(batch_id=batch_id, kind=kind, **more)


class TestEnd:
    def test_the_wait_is_finished_when_all_batches_have_ended(self):
        task = Task("a", "b")
        assert task.see()[0] == Poll(("a", "b"))
        assert task.see(ran(status="completed"), ran("b"))[0] == Poll(("b",))
        assert task.see(ran("b", "completed"))[0] == Finish("finished")

    @pytest.mark.parametrize(
        "observation",
        [
            ran(status="failed"),
            ran(status="expired"),
            ran(status="cancelled"),
            failed(kind="expired"),
        ],
    )
    def test_a_batch_that_ends_without_being_completed_ends_the_wait_for_the_others(self, observation):
        task = Task("a", "b")
        task.see()
        assert task.see(observation, ran("b")) == (Finish("ended_early"), 0)

    def test_the_wait_is_finished_and_not_early_if_the_last_batch_fails(self):
        task = Task("a", "b")
        task.see()
        assert task.see(ran(status="completed"), ran("b", "failed")) == (Finish("finished"), 0)

    def test_a_404_is_confirmed_by_another_poll_before_the_batch_counts_as_gone(self):
        task = Task("a", "b")
        task.see()
        action, seconds = task.see(failed(kind="not_found"), ran("b"))
        assert (action, seconds) == (Poll(("a", "b")), INTERVAL)
        assert task.see(failed(kind="not_found"), ran("b")) == (Finish("ended_early"), 0)
        assert task.state.batches["a"].status == "gone"

    def test_a_404_between_successful_polls_does_not_end_the_wait(self):
        task = Task()
        task.see()
        for observation in (failed(kind="not_found"), ran(), failed(kind="not_found"), failed()):
            assert task.see(observation)[0] == Poll(("a",))

    def test_a_refused_poll_ends_the_wait(self):
        task = Task("a", "b")
        task.see()
        assert task.see(failed(kind="refused"), ran("b")) == (Finish("refused"), 0)

    @pytest.mark.parametrize("status", ["validating", "cancelling", "paused", "", None])
    def test_any_other_status_is_not_final(self, status):
        task = Task()
        task.see()
        assert task.see(ran(status=status))[0] == Poll(("a",))

    def test_the_deadline_ends_a_wait_between_polls(self):
        task = Task(deadline=NOW + INTERVAL + 5)
        task.see()
        assert task.see(ran()) == (Finish("deadline"), 5)

    def test_a_batch_that_ends_after_the_deadline_counts_as_ended(self):
        task = Task(deadline=NOW + INTERVAL + 5)
        task.see()
        task.now += 10
        assert task.see(ran(status="completed")) == (Finish("finished"), 0)

    def test_the_end_is_final(self):
        task = Task(deadline=NOW)
        assert task.see() == (Finish("deadline"), 0)
        task.now -= HOUR
        assert task.see(ran(status="completed")) == (Finish("deadline"), 0)

    def test_observations_of_unknown_and_ended_batches_are_ignored(self):
        task = Task("a", "b")
        task.see()
        task.see(ran(status="completed"), ran("b"), ran("c", "failed"))
        assert set(task.state.batches) == {"a", "b"}
        assert task.see(ran("b"), ran(status="failed"))[0] == Poll(("b",))


class TestIntervals:
    def test_the_first_poll_is_after_one_interval(self):
        assert Task().see() == (Poll(("a",)), INTERVAL)

    def test_the_interval_doubles_up_to_twenty_times(self):
        assert Task().waits(*[ran()] * 8) == [30, 60, 120, 240, 480, 600, 600, 600]

    def test_a_new_status_shortens_the_interval(self):
        waits = Task().waits(*[ran(status="validating")] * 4, ran(), ran())
        assert waits == [30, 60, 120, 240, 30, 60]

    @pytest.mark.parametrize("near", [{"status": "finalizing"}, {"ended": 90, "total": 100}])
    def test_near_the_end_the_interval_is_short_again_and_grows_a_little(self, near):
        assert Task().waits(*[ran()] * 5, *[ran(**near)] * 5)[5:] == [30, 60, 120, 120, 120]
        assert NEAR_END_LIMIT * INTERVAL == 120

    def test_progress_near_the_end_shortens_the_interval(self):
        counts = (90, 90, 95, 96)
        assert Task().waits(*[ran()] * 5, *[ran(ended=ended, total=100) for ended in counts])[5:] == [30, 60, 30, 30]

    def test_the_expected_end_by_the_rate_so_far_shortens_a_long_interval(self):
        task = Task()
        task.waits(*[ran(ended=0, total=100)] * 5)  # 30, 60, 120, 240, 480 s
        # 85 requests in 930 s: the last 15 take 164 s.
        _, seconds = task.see(ran(ended=85, total=100))
        assert seconds == pytest.approx(15 * 930 / 85)

    def test_a_rate_that_the_clock_made_wrong_does_not_matter(self):
        task = Task()
        task.waits(ran(ended=50, total=100))
        task.now -= HOUR
        _, seconds = task.see(ran(ended=60, total=100))
        assert INTERVAL <= seconds <= BACKOFF_LIMIT * INTERVAL

    def test_failures_only_back_off(self):
        assert Task().waits(*[failed()] * 6, ran()) == [60, 120, 240, 480, 600, 600, 30]

    def test_retry_after_is_obeyed(self):
        assert Task().waits(failed(retry_after=400.0), failed(retry_after=1.0)) == [400, 120]

    def test_an_endless_retry_after_is_limited(self):
        task = Task(deadline=NOW + 100 * 24 * HOUR)
        assert task.waits(failed(retry_after=1e300)) == [MAX_RETRY_AFTER]

    @given(st.floats(0, 1), st.lists(st.booleans(), max_size=8))
    def test_a_wait_is_the_interval_and_at_most_a_quarter_longer(self, draw, successes):
        observations = [ran() if success else failed() for success in successes]
        plain, spread = Task().waits(*observations), Task(draw=draw).waits(*observations)
        for least, seconds in zip(plain, spread, strict=True):
            assert seconds == pytest.approx(least * (1 + JITTER * draw), abs=0.002)
        assert Task(draw=draw).see()[1] == pytest.approx(INTERVAL * (1 + JITTER * draw))

    def test_a_batch_without_an_observation_is_not_polled_before_the_next_interval(self):
        task = Task()
        task.see()
        assert task.see() == (Poll(("a",)), INTERVAL)


class TestJumpsOfTheClock:
    def test_a_clock_that_is_set_back_lengthens_a_wait_by_less_than_itself(self):
        task = Task()
        task.see()
        task.see(ran())
        task.now -= 24 * HOUR
        assert task.see() == (Poll(("a",)), INTERVAL)

    def test_a_clock_that_is_set_forward_brings_one_poll_forward(self):
        task = Task()
        task.see()
        task.now += 10 * HOUR
        assert task.see(ran()) == (Poll(("a",)), INTERVAL)
        assert task.see(ran()) == (Poll(("a",)), 2 * INTERVAL)

    def test_a_clock_that_is_set_forward_beyond_the_deadline_ends_the_wait(self):
        task = Task()
        task.now += 25 * HOUR
        assert task.see() == (Finish("deadline"), 0)


class AnyWait(RuleBasedStateMachine):
    """Polls, failures, restarts that lose the state, and a clock that jumps, in any order."""

    ids = ("a", "b", "c")

    @initialize(hours=st.floats(0.01, 48), interval=st.floats(0.01, 3600))
    def begin(self, hours, interval):
        self.now, self.elapsed = NOW, 0.0  # on the wall, and in truth
        self.settings = PollSettings(deadline=NOW + hours * HOUR, poll_interval=interval)
        self.polled: dict[str, float] = {}
        self.forward = dict.fromkeys(self.ids, False)
        self.began = 0.0
        self.restart(draw=0.5)

    @rule(draw=st.floats(0, 1))
    def restart(self, draw):
        self.state = start(self.ids, settings=self.settings, now=self.now, draw=draw)
        self.action = Wait(self.now)
        self.observed: list = []

    @rule(jump=st.floats(-72 * HOUR, 72 * HOUR))
    def jump(self, jump):
        self.now += jump
        if jump > 0:
            self.forward = dict.fromkeys(self.ids, True)

    @rule(
        draw=st.floats(0, 1),
        seconds=st.floats(0, 60),
        results=st.tuples(
            *[
                st.tuples(
                    st.sampled_from(
                        [
                            *("in_progress", "odd", "finalizing", "completed", "failed", None),
                            *("transient", "not_found", "expired", "refused", "lost"),
                        ]
                    ),
                    st.none() | st.integers(0, 5000),
                    st.none() | st.floats(0, 1e6),
                )
            ]
            * 3
        ),
    )
    @precondition(lambda self: not isinstance(self.action, Finish))
    def step(self, draw, seconds, results):
        """Do the action as the triggerer does, and observe."""
        observations = []
        if isinstance(self.action, Wait):
            self._pass(max(self.action.until - self.now, 0.0))
        else:
            for name, (result, count, retry_after) in zip(self.ids, results, strict=True):
                if name in self.action.batch_ids and result in ("transient", "not_found", "expired", "refused"):
                    observations.append(failed(name, result, retry_after=retry_after))
                elif name in self.action.batch_ids and result != "lost":
                    observations.append(ran(name, result, ended=count, total=5000))
            self._pass(seconds)
        self.state, self.action = observe(self.state, observations, now=self.now, draw=draw)
        if isinstance(self.action, Poll):
            for name in self.action.batch_ids:
                apart = self.elapsed - self.polled.get(name, -1e9)
                assert apart >= self.settings.poll_interval - SLACK or self.forward[name]
                self.polled[name], self.forward[name] = self.elapsed, False
        elif isinstance(self.action, Wait):
            assert self.now < self.action.until <= min(self.now + LONGEST_WAIT, self.settings.deadline)

    def _pass(self, seconds):
        self.now += seconds
        self.elapsed += seconds

    @invariant()
    def it_has_ended_by_the_deadline_and_no_poll_is_far(self):
        if not hasattr(self, "settings"):
            return
        state, action = observe(self.state, (), now=max(self.now, self.settings.deadline), draw=0.0)
        assert isinstance(action, Finish)
        assert state.reason == action.reason
        if self.now >= self.settings.deadline:
            state, action = observe(self.state, (), now=self.now, draw=0.0)
            assert isinstance(action, Finish)
        longest = max(self.settings.max_poll_interval * (1 + JITTER), MAX_RETRY_AFTER)
        checked, action = observe(self.state, (), now=self.now, draw=0.0)
        if isinstance(action, Wait):
            assert checked.next_poll_at <= self.now + longest + SLACK


AnyWait.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyWait = AnyWait.TestCase


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=10),
    st.lists(st.sampled_from(["in_progress", "finalizing", "transient", "not_found", "odd"]), min_size=1, max_size=10),
    st.floats(0.001, 30),
)
def test_any_service_is_polled_until_the_deadline_and_then_never(draws, results, seconds):
    deadline = NOW + 6 * HOUR
    state = start(("a",), settings=PollSettings(deadline=deadline, poll_interval=INTERVAL), now=NOW, draw=draws[0])
    now, polls, observations = NOW, [], ()
    while True:
        turn = len(polls)
        state, action = observe(state, observations, now=now, draw=draws[turn % len(draws)])
        observations = ()
        if isinstance(action, Finish):
            break
        if isinstance(action, Wait):
            now = action.until
            continue
        polls.append(now)
        result = results[turn % len(results)]
        now += seconds
        observations = (failed(kind=result) if result in ("transient", "not_found") else ran(status=result),)
    assert now <= deadline + seconds
    assert all(later - earlier >= INTERVAL - SLACK for earlier, later in pairwise(polls))
    assert action.reason in ("deadline", "finished")  # finished: a batch that was not found twice
    assert (action.reason == "deadline") == (state.batches["a"].status != "gone")
