"""The wait of a task for its batches: what is stored, what is logged, and the wait on a worker."""

from __future__ import annotations

import json
import logging
import math
import sys
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.batch.polling import Finish, Poll, Polled, PollFailed, Wait
from airflow_provider_responses.batch.waiting import (
    LONGEST_POLL_TIMEOUT,
    POLL_TIMEOUT,
    SLICE_SECONDS,
    BatchPoller,
    BatchWait,
    read_batch_event,
    read_poll,
    wait_for_batches,
    write_batch_event,
)
from airflow_provider_responses.client import ClientConfig, ResponsesClient
from airflow_provider_responses.client.sync_pool import SyncPool
from airflow_provider_responses.exceptions import (
    APIError,
    ConfigurationError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    TooManyRequestsResponseError,
    TransportError,
    UnauthorizedResponseError,
    VersionMismatchError,
    error_class_for_status,
)
from airflow_provider_responses.models.batch import Batch

NOW = 1_000_000.0
HOUR = 3600.0
WAIT = BatchWait(
    conn_id="responses_default",
    batch_ids=("batch-1", "batch-2"),
    deadline=NOW + 24 * HOUR,
    attempt={"zeta": 1, "alpha": {"cost": 0.5}},
)
UNCHANGED = {"status": "in_progress", "request_counts": {"total": 10, "completed": 0, "failed": 0}}


def through_the_database(value):
    return json.loads(json.dumps(value, sort_keys=True))


def batch(batch_id="batch-1", **fields):
    return Batch(raw={"id": batch_id, **fields})


def error_of(status, **details):
    cls, retryable = error_class_for_status(status)
    return cls(f"status {status}", status_code=status, retryable=retryable, **details)


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
)


class TestArguments:
    def test_they_come_back_unchanged_from_the_database(self):
        stored = through_the_database(WAIT.to_kwargs())
        assert BatchWait.from_kwargs(stored) == WAIT
        assert list(BatchWait.from_kwargs(stored).attempt) == ["zeta", "alpha"]
        full = BatchWait(
            conn_id="c", batch_ids=("b",), deadline=5, poll_interval=1, base_url="https://x.example/v1", not_before=3.0
        )
        assert BatchWait.from_kwargs(through_the_database(full.to_kwargs())) == full

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batch_ids": ()}, r"batch_ids must be a tuple of ids that is not empty, got \(\)"),
            ({"batch_ids": ("a", "")}, "batch_ids must be a tuple of ids"),
            ({"batch_ids": "batch"}, "batch_ids must be a tuple of ids"),
            ({"deadline": math.inf}, "deadline must be a number of seconds since the epoch, got inf"),
            ({"deadline": True}, "deadline must be a number of seconds since the epoch, got True"),
            ({"poll_interval": 0}, "poll_interval must be a number of seconds from 0.01 to 86400.0, got 0"),
            ({"not_before": "soon"}, "not_before must be a number of seconds since the epoch, got 'soon'"),
        ],
    )
    def test_a_wrong_argument_is_named(self, arguments, message):
        with pytest.raises(RequestValidationError, match=f"^{message}"):
            BatchWait(**({"conn_id": "c", "batch_ids": ("b",), "deadline": NOW} | arguments))

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"version": 2}, "have version 2, expected 1"),
            ({"brand_new": 1}, "hold 'brand_new', which is unknown here"),
            ({"batch_ids": "batch-1"}, "hold 'batch_ids' as str"),
            ({"batch_ids": []}, "cannot be read: RequestValidationError: batch_ids must be"),
            ({"batch_ids": [5]}, "cannot be read: RequestValidationError: batch_ids must be"),
            ({"attempt": "{"}, "cannot be read: JSONDecodeError"),
            ({"attempt": "[]"}, "cannot be read: AttributeError"),
            ({"deadline": 10**400}, "cannot be read: OverflowError"),
        ],
    )
    def test_those_of_another_version_are_left_to_retries(self, changes, problem):
        with pytest.raises(VersionMismatchError) as caught:
            BatchWait.from_kwargs(WAIT.to_kwargs() | changes)
        assert str(caught.value).startswith("the task was deferred by another version of airflow-provider-responses")
        assert f"(the trigger's arguments {problem}" in str(caught.value)
        assert caught.value.retryable

    @given(st.sets(st.sampled_from(sorted(WAIT.to_kwargs())), min_size=1), st.data())
    def test_garbage_is_either_read_or_a_mismatch(self, names, data):
        try:
            read = BatchWait.from_kwargs(WAIT.to_kwargs() | {name: data.draw(garbage) for name in sorted(names)})
        except VersionMismatchError:
            return
        assert BatchWait.from_kwargs(read.to_kwargs()) == read

    def test_the_stored_keys_change_with_the_version_only(self):
        keys = "version conn_id batch_ids deadline poll_interval base_url attempt not_before"
        assert (BatchWait.version, " ".join(WAIT.to_kwargs())) == (1, keys)
        event = write_batch_event("finished", {}, {})
        assert (event["version"], " ".join(event)) == (1, "version reason statuses attempt error")


class TestEvents:
    def test_an_event_comes_back_unchanged_from_the_database(self):
        statuses = {"zeta": "completed", "alpha": None, "beta": "gone"}
        error = TooManyRequestsResponseError("too many", status_code=429, retry_after=77.0)
        event = through_the_database(write_batch_event("refused", statuses, WAIT.attempt, error))
        outcome = read_batch_event(event)
        assert (outcome.reason, list(outcome.statuses.items())) == ("refused", list(statuses.items()))
        assert list(outcome.attempt.items()) == list(WAIT.attempt.items())
        assert type(outcome.error) is TooManyRequestsResponseError
        assert (str(outcome.error), outcome.error.retry_after) == ("too many", 77.0)
        assert read_batch_event(write_batch_event("finished", statuses, {})).error is None

    @pytest.mark.parametrize(
        ("event", "problem"),
        [
            (None, "is None"),
            ("success", "is str"),
            ({}, "has version None, expected 1"),
            ({"version": 2}, "has version 2, expected 1"),
            ({"version": 1}, "has the reason None"),
            ({"version": 1, "reason": "tired"}, "has the reason 'tired'"),
            ({"version": 1, "reason": "finished"}, "cannot be read: KeyError"),
            (write_batch_event("finished", {}, {}) | {"statuses": [5]}, "cannot be read: TypeError"),
            (write_batch_event("finished", {}, {}) | {"attempt": None}, "cannot be read: TypeError"),
            (write_batch_event("finished", {}, {}) | {"error": "{}"}, "cannot be read: KeyError"),
        ],
    )
    def test_an_event_of_another_version_is_left_to_retries(self, event, problem):
        with pytest.raises(VersionMismatchError) as caught:
            read_batch_event(event)
        assert str(caught.value).startswith(
            "the triggerer runs another version of airflow-provider-responses than the workers (the trigger's event "
            f"{problem}"
        )
        assert caught.value.retryable

    @given(st.dictionaries(st.sampled_from(["version", "reason", "statuses", "attempt", "error"]), garbage))
    def test_a_garbled_event_is_either_read_or_a_mismatch(self, changes):
        try:
            outcome = read_batch_event(write_batch_event("deadline", {"a": None}, {}) | changes)
        except VersionMismatchError:
            return
        assert outcome.reason == "deadline"


class TestObservations:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            *((status, "transient") for status in (408, 409, 425, 429, 500, 502, 503, 524, 529, 599)),
            *((status, "refused") for status in (400, 401, 402, 403, 405, 422)),
            (404, "not_found"),
            (410, "expired"),
        ],
    )
    def test_the_status_of_a_failed_poll_decides_what_it_means(self, status, kind):
        assert read_poll("b", error_of(status)) == PollFailed(batch_id="b", kind=kind)

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (TransportError("no route"), "transient"),
            (ConfigurationError("the secrets backend is down", retryable=True), "transient"),
            (ConfigurationError("password is missing"), "refused"),
            (APIError("not finished", status_code=409, retryable=False), "transient"),
            (APIError("not allowed", status_code=405, retryable=False), "refused"),
        ],
    )
    def test_an_error_without_a_status_is_transient_if_it_is_retryable(self, error, kind):
        assert read_poll("b", error).kind == kind

    def test_retry_after_is_passed_on(self):
        assert read_poll("b", error_of(429, retry_after=9.5)).retry_after == 9.5

    @pytest.mark.parametrize(
        ("counts", "ended", "total"),
        [
            ({"total": 10, "completed": 3, "failed": 2}, 5, 10),
            ({"total": 10, "completed": 3}, 3, 10),
            ({"total": 10}, None, 10),
            (None, None, None),
            ({"total": 10**400, "completed": -1, "failed": True}, None, None),
        ],
    )
    def test_counts_that_cannot_be_right_are_unknown(self, counts, ended, total):
        read = read_poll("b", batch("b", status="in_progress", request_counts=counts))
        assert read == Polled(batch_id="b", status="in_progress", ended=ended, total=total)

    @pytest.mark.parametrize("status", ["in\0progress", "x" * 51, 5, None])
    def test_a_status_that_no_database_could_store_is_unknown(self, status):
        assert read_poll("b", batch("b", status=status)).status is None


class Driver:
    """A poller on a clock of its own, that goes on to the next poll."""

    def __init__(self, wait=WAIT):
        self.now = NOW
        self.poller = BatchPoller(wait, now=NOW, draw=0.0)

    def next(self, polls=()):
        action = self.poller.next_action(dict(polls), now=self.now, draw=0.0)
        while isinstance(action, Wait):
            self.now = action.until
            action = self.poller.next_action({}, now=self.now, draw=0.0)
        return action


class TestLogs:
    @pytest.fixture(autouse=True)
    def _level(self, caplog):
        caplog.set_level("INFO", logger="airflow_provider_responses.batch.waiting")

    def lines(self, caplog):
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    def test_each_change_of_a_status_is_one_line(self, caplog):
        driver = Driver()
        driver.next()
        driver.next({"batch-1": batch("batch-1", **UNCHANGED), "batch-2": batch("batch-2", status="validating")})
        assert self.lines(caplog) == [
            "Batch batch-1: in_progress (before: unknown)",
            "Batch batch-2: validating (before: unknown)",
            "2 batches: 1 in_progress, 1 validating (0 of 10 requests), next poll in 30 s",
        ]
        driver.next({"batch-1": batch("batch-1", **UNCHANGED), "batch-2": batch("batch-2", **UNCHANGED)})
        assert self.lines(caplog) == ["Batch batch-2: in_progress (before: validating)"]
        driver.next({"batch-1": batch("batch-1", **UNCHANGED)})
        assert self.lines(caplog) == []

    def test_progress_is_logged_every_ten_minutes_and_at_the_end(self, caplog):
        driver = Driver()
        action = driver.next()
        began, logged = driver.now, []
        while driver.now < began + 3 * HOUR:
            action = driver.next({name: batch(name, **UNCHANGED) for name in action.batch_ids})
            logged += [(driver.now, line) for line in self.lines(caplog) if line.startswith("2 batches")]
        assert all(later[0] - earlier[0] >= 600 for earlier, later in pairwise(logged))
        assert 10 <= len(logged) <= 19
        counts = {"total": 5_000, "completed": 3_000, "failed": 120}
        driver.next({"batch-1": batch("batch-1", status="failed", request_counts=counts)})
        assert self.lines(caplog) == [
            "Batch batch-1: failed (before: in_progress)",
            "2 batches: 1 failed, 1 in_progress (3,120 of 5,010 requests)",
        ]

    def test_a_failed_poll_is_a_warning_with_its_cause_and_the_next_poll(self, caplog):
        driver = Driver(BatchWait(conn_id="c", batch_ids=("b",), deadline=NOW + 10**6))
        driver.next()
        for times in (1, 2):
            driver.next({"b": TransportError("no route to the host")})
            warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
            wait = 60 * times
            assert warnings[-1] == (
                f"Batch b could not be polled ({times} in a row); its next poll is in {wait} s: no route to the host"
            )
        assert len(warnings) == 2

    def test_a_batch_that_is_gone_is_a_line(self, caplog):
        driver = Driver()
        driver.next()
        assert driver.next({"batch-1": error_of(410)}) == Finish("ended_early")
        assert self.lines(caplog)[0] == "Batch batch-1: gone (before: unknown)"


class TestPollOptions:
    def test_a_poll_is_sent_once_with_a_timeout_that_grows_with_failures(self):
        driver = Driver(BatchWait(conn_id="c", batch_ids=("b",), deadline=NOW + 10**6, base_url="https://x.example/v1"))
        driver.next()
        timeouts = []
        for _ in range(8):
            options = driver.poller.options("b", now=driver.now)
            assert (options.max_retries, options.base_url) == (0, "https://x.example/v1")
            timeouts.append(options.timeout)
            driver.next({"b": TransportError("slow")})
        assert timeouts[:3] == [POLL_TIMEOUT, 2 * POLL_TIMEOUT, 4 * POLL_TIMEOUT]
        assert timeouts[-1] == LONGEST_POLL_TIMEOUT

    def test_a_poll_ends_by_the_deadline(self):
        driver = Driver(BatchWait(conn_id="c", batch_ids=("b",), deadline=NOW + 40))
        assert driver.next() == Poll(("b",))
        assert driver.poller.options("b", now=driver.now).timeout == 10


class Worker:
    """A worker that waits: its clock moves while it sleeps, and its server responds from a script."""

    def __init__(self, *responses, ends_after=math.inf):
        self.now = NOW
        self.responses = list(responses)
        self.requests: list[tuple[float, str]] = []
        self.slept: list[float] = []
        self.ends_after = ends_after
        config = ClientConfig(api_key="none-at-all", dialect="openrouter", base_url="http://127.0.0.1:1/v1")
        pool = SyncPool(route=config.route)
        pool.http = httpx.Client(transport=httpx.MockTransport(self.respond))
        self.client = ResponsesClient(config, pool=pool)

    def respond(self, request):
        self.requests.append((self.now, request.url.path))
        status, fields = self.responses.pop(0) if self.responses else (200, {"status": "completed"})
        if status is None:
            raise httpx.ConnectError("no route")
        body = {"id": request.url.path.rpartition("/")[2], **fields} if status == 200 else {"error": {"message": "no"}}
        return httpx.Response(status, json=body)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def check(self):
        if self.now >= self.ends_after:
            raise KeyboardInterrupt

    def wait(self, wait=WAIT):
        return wait_for_batches(
            wait,
            get_batch=self.client.get_batch,
            now=lambda: self.now,
            sleep=self.sleep,
            draw=lambda: 0.0,
            check=self.check,
        )


class TestWorker:
    def test_it_polls_until_all_batches_have_ended(self):
        worker = Worker((200, UNCHANGED), (503, {}), (200, {"status": "completed"}), (200, {"status": "cancelled"}))
        outcome = worker.wait()
        assert outcome.reason == "finished"
        assert dict(outcome.statuses) == {"batch-1": "completed", "batch-2": "cancelled"}
        assert outcome.attempt == WAIT.attempt
        assert worker.requests == [
            (NOW + 30, "/v1/batches/batch-1"),
            (NOW + 30, "/v1/batches/batch-2"),
            (NOW + 60, "/v1/batches/batch-1"),
            (NOW + 90, "/v1/batches/batch-2"),
        ]

    def test_it_never_sleeps_longer_than_a_second_without_a_check(self):
        worker = Worker(ends_after=NOW + 12)
        with pytest.raises(KeyboardInterrupt):
            worker.wait()
        assert worker.now == NOW + 12
        assert set(worker.slept) == {SLICE_SECONDS}
        assert not worker.requests

    def test_a_task_that_is_ended_during_a_poll_sends_no_further_one(self):
        worker = Worker(ends_after=NOW + 31)
        poll = worker.client.get_batch

        def get_batch(batch_id, *, options):
            worker.now += 5
            return poll(batch_id, options=options)

        worker.client.get_batch = get_batch
        with pytest.raises(KeyboardInterrupt):
            worker.wait()
        assert [path for _, path in worker.requests] == ["/v1/batches/batch-1"]

    def test_a_refused_poll_ends_the_wait_with_its_error(self):
        outcome = Worker((401, {})).wait()
        assert outcome.reason == "refused"
        assert isinstance(outcome.error, UnauthorizedResponseError)

    def test_the_deadline_ends_the_wait(self):
        worker = Worker(*[(None, {})] * 1000)
        outcome = worker.wait()
        assert (outcome.reason, worker.now) == ("deadline", pytest.approx(WAIT.deadline))
        assert dict(outcome.statuses) == {"batch-1": None, "batch-2": None}
        assert len(worker.requests) < 2 * 24 * 8

    def test_a_call_that_was_cancelled_because_the_task_was_ended_is_raised(self):
        def get_batch(batch_id, *, options):
            raise RequestCancelledError("killed")

        worker = Worker()
        with pytest.raises(RequestCancelledError):
            wait_for_batches(
                WAIT,
                get_batch=get_batch,
                now=lambda: worker.now,
                sleep=worker.sleep,
                draw=lambda: 0.0,
                check=worker.check,
            )

    def test_batches_of_a_server_are_polled_with_the_hook(self, responses_sandbox):
        from airflow_provider_responses.hooks.responses import ResponsesHook

        responses_sandbox.batch_settings = {"hold": "in_progress"}
        request = {"custom_id": "one", "body": {"input": "hi"}}
        ids = tuple(ResponsesHook().create_batch([request], model="vendor/m").id for _ in range(3))
        responses_sandbox.end_batch(ids[2], "expired")
        responses_sandbox.script_batches({"call": "get", "status": 429}, {"call": "get", "drop": True})
        worker = Worker()
        outcome = wait_for_batches(
            BatchWait(conn_id="responses_default", batch_ids=ids, deadline=NOW + HOUR),
            get_batch=ResponsesHook().get_batch,
            now=lambda: worker.now,
            sleep=worker.sleep,
            draw=lambda: 0.0,
            check=worker.check,
        )
        assert (outcome.reason, worker.now) == ("ended_early", NOW + 30)
        assert list(outcome.statuses.values()) == [None, None, "expired"]
        assert sum(len(entry.polls) for entry in responses_sandbox.batches) == 1  # the others failed, and once


def test_the_room_imports_no_airflow_and_no_http():
    import subprocess

    code = (
        "import sys, airflow_provider_responses.batch.waiting\n"
        "print(sorted({'airflow', 'httpx', 'pydantic', 'aiohttp', 'ijson'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_class_of_error_is_read_as_the_base():
    class OddError(ResponsesError):
        pass

    outcome = read_batch_event(write_batch_event("error", {}, {}, OddError("strange", retryable=True)))
    assert (type(outcome.error), outcome.error.retryable) == (ResponsesError, True)
