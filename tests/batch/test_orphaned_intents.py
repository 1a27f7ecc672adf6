"""Batches whose ids were not recorded, and clocks that jump."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.exceptions import (
    BatchError,
    PaymentRequiredResponseError,
)
from tests.enrich.jobs import table

from .steps import Interrupted, interrupting, raising

DAY = 86_400.0


# Orphaned intents


def test_a_submit_whose_response_was_lost_is_found_in_the_list(attempts, caplog):
    caplog.set_level(logging.INFO)
    task = attempts(table(5))
    task.sandbox.script_batches({"drop": "after"})
    waiting = task.step()
    (batch,) = task.sandbox.batches
    assert isinstance(waiting, Unfinished)
    assert waiting.batch_ids == (batch.id,)
    assert f"It is one of {batch.id}, which is known once they have ended" in caplog.text
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 5}
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert f"Batch {batch.id} was found again" in caplog.text
    assert task.sizes == [5]


def test_a_submit_that_never_arrived_is_repeated_in_the_same_step(attempts):
    task = attempts(table(5))
    task.sandbox.script_batches({"drop": True})
    before = task.clock.now
    assert isinstance(task.step(), Unfinished)
    assert task.clock.now - before >= 60
    assert task.sizes == [5]
    assert task.finish()["requests_sent"] == 10  # the first ones may have been


def test_submits_that_never_arrive_end_the_attempt_and_a_retry_submits_again(attempts):
    task = attempts(table(5))
    task.sandbox.script_batches({"drop": True, "times": 3})
    with pytest.raises(BatchError, match="5 requests could not be submitted: 3 times in a row") as raised:
        task.step()
    assert raised.value.retryable
    assert (task.sizes, task.journal) == ([], [])
    task.retry()
    assert task.finish()["counts"] == {"ok": 5}


def test_a_batch_of_another_task_may_be_the_one_until_it_has_ended(attempts, tmp_path):
    other = attempts(table(5), folder=tmp_path / "other")
    other.task = "dag.other"
    other.sandbox.script_batches({}, {"drop": True})
    other.step()
    task = attempts(table(5))
    waiting = task.step()
    (theirs,) = task.sandbox.batches
    assert waiting.batch_ids == (theirs.id,)
    task.wait()
    assert isinstance(task.step(), Unfinished)
    assert task.sizes == [5, 5]
    assert task.finish()["counts"] == other.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5, 5]
    assert not {row["_response_id"] for row in task.result} & {row["_response_id"] for row in other.result}


def test_a_provisional_batch_that_was_deleted_was_not_the_one(attempts, tmp_path):
    other = attempts(table(5), folder=tmp_path / "other", options={"delete_after": True})
    other.task = "dag.other"
    other.sandbox.script_batches({}, {"drop": True})
    other.step()
    task = attempts(table(5))
    waiting = task.step()
    task.wait()
    other.step()
    assert task.sandbox.batches[0].deleted
    task.statuses = dict.fromkeys(waiting.batch_ids, "gone")
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5, 5]


def test_a_provisional_batch_that_cannot_be_read_any_more(attempts):
    task = attempts(table(5))
    task.sandbox.script_batches({"drop": "after"})
    task.step()
    task.wait()
    (batch,) = task.sandbox.batches
    task.sandbox.expire_batch_results(batch.id)
    with pytest.raises(BatchError, match="may have been submitted and billed") as raised:
        task.step()
    assert raised.value.batch_ids == (batch.id,)
    assert f"the batches {batch.id} cannot be read" in str(raised.value)
    task.options["on_orphaned_intent"] = "resubmit"
    task.clear()
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5, 5]


def test_a_provisional_batch_whose_account_owes_its_price_is_not_given_up(attempts):
    task = attempts(table(5), options={"on_orphaned_intent": "resubmit"})
    task.sandbox.script_batches({"drop": "after"})
    task.step()
    task.wait()
    task.sandbox.script_batches({"call": "results", "status": 402})
    with pytest.raises(PaymentRequiredResponseError):
        task.step()
    task.clear()
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5]


def test_an_orphaned_intent_where_the_server_lists_no_batches(attempts):
    task = attempts(table(5))
    task.sandbox.script_batches({"drop": "after"}, *[{"call": "list", "status": 404}] * 2)
    with pytest.raises(BatchError, match=r"a batch of 5 requests to .* may have been submitted and billed: 404"):
        task.step()
    task.options["on_orphaned_intent"] = "resubmit"
    task.clear()
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5, 5]


def test_an_orphaned_intent_whose_batch_may_not_be_listed_any_more(attempts):
    task = attempts(table(5))
    task.make_client = interrupting("create_batch", 1, raising(Interrupted()), is_after=False)
    with pytest.raises(Interrupted):
        task.step()
    task.make_client = None
    task.clock.sleep(30 * DAY)
    task.retry()
    with pytest.raises(BatchError, match="may have been submitted and billed: its intent is more than 29 days old"):
        task.step()
    task.options["on_orphaned_intent"] = "resubmit"
    task.clear()
    assert task.finish()["counts"] == {"ok": 5}


@pytest.mark.parametrize("order", ["repeated", "unknown"])
def test_an_orphaned_batch_is_recognized_by_any_of_its_results(order, attempts):
    task = attempts(table(5))
    task.sandbox.script_batches({"drop": "after", order: 3})
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5]


# Clocks


@pytest.mark.parametrize("jump", [-10 * DAY, -3600.0, 3600.0, 3 * DAY])
def test_a_clock_that_jumps_between_two_steps(jump, attempts):
    task = attempts(table(30))
    shift = [0.0]
    task.environment["now"] = lambda: task.clock.now + shift[0]
    task.step()
    task.wait()
    shift[0] = jump
    manifest = task.finish()
    assert (manifest["counts"], task.sizes) == ({"ok": 30}, [20, 10])
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_a_clock_that_jumps_far_ahead_fails_the_wait_and_a_clear_waits_again(attempts):
    task = attempts(table(30))
    shift = [0.0]
    task.environment["now"] = lambda: task.clock.now + shift[0]
    task.step()
    shift[0] = 30 * DAY
    with pytest.raises(BatchError, match="the time that a batch may take is over and 2 batches have not ended"):
        task.step()
    task.clear()
    assert task.finish()["counts"] == {"ok": 30}
    assert task.sizes == [20, 10]


@pytest.mark.parametrize("jump", [-DAY / 2, -3600.0, 3600.0, DAY])
def test_a_clock_that_jumps_after_a_lost_submit(jump, attempts):
    task = attempts(table(5))
    shift = [0.0]
    task.environment["now"] = lambda: task.clock.now + shift[0]
    task.sandbox.script_batches({"drop": "after"})
    task.step()
    shift[0] = jump
    task.wait()
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5]


def test_the_wait_for_a_lost_submit_does_not_depend_on_the_clock(attempts):
    task = attempts(table(5))
    times = iter(range(10**6, 0, -1))
    start = task.clock.now
    task.environment["now"] = lambda: start + next(times)
    task.sandbox.script_batches({"drop": True})
    assert isinstance(task.step(), Unfinished)
    assert task.sizes == [5]
