"""The action after a failed request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.failure_policy import (
    MAX_BUSY,
    Action,
    Decision,
    Kind,
    State,
    decide,
    is_final,
    kind_of,
)
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestCancelledError,
    ResponsesError,
    StreamInterruptedError,
    TransportError,
)
from tests.enrich.service import dropped, refused_connection, response, status_error

STATE = State(config=ClientConfig(api_key="sk-test", max_retries=2, max_ambiguous_retries=1), max_outage=600.0)


def of_account(seconds: float) -> ResponsesError:
    error = status_error(429)
    error.account_reset = seconds
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RefusalError("no", response=response()), Kind.RESPONSE),
        (IncompleteResponseError("cut", response=response()), Kind.RESPONSE),
        (OutputValidationError("bad", response=response()), Kind.RESPONSE),
        (status_error(400), Kind.ROW),
        (status_error(413), Kind.ROW),
        (status_error(403, metadata={"reasons": ["x"]}), Kind.ROW),
        (status_error(403, metadata={"patterns": ["x"]}), Kind.ROW),
        (status_error(404, error_type="image_not_found"), Kind.ROW),
        (status_error(404, code="image_file_not_found"), Kind.ROW),
        (status_error(401), Kind.ALL),
        (status_error(402), Kind.ALL),
        (status_error(403), Kind.ALL),
        (status_error(404), Kind.ALL),
        (ConfigurationError("no such proxy"), Kind.ALL),
        (status_error(429), Kind.BUSY),
        (status_error(503), Kind.BUSY),
        (status_error(529), Kind.BUSY),
        (status_error(500), Kind.FAILING),
        (status_error(524), Kind.FAILING),
        (refused_connection(), Kind.FAILING),
        (StreamInterruptedError("cut"), Kind.FAILING),
        (RequestCancelledError("stopped"), Kind.CANCELLED),
    ],
    ids=str,
)
def test_each_failure_has_a_kind(error: ResponsesError, kind: Kind) -> None:
    assert kind_of(error) is kind


@pytest.mark.parametrize(
    ("error", "changes", "expected"),
    [
        (RefusalError("no"), {}, Decision(Action.FINISH, status="refused")),
        (IncompleteResponseError("cut"), {}, Decision(Action.FINISH, status="incomplete")),
        (OutputValidationError("bad"), {}, Decision(Action.FINISH, status="invalid_output")),
        (status_error(400), {}, Decision(Action.FINISH)),
        (status_error(400), {"is_down": True}, Decision(Action.FINISH)),
        (RequestCancelledError("stopped"), {}, Decision(Action.FINISH)),
        (status_error(401), {}, Decision(Action.STOP)),
        (status_error(429, retry_after=601.0), {}, Decision(Action.STOP)),
        (of_account(601.0), {}, Decision(Action.STOP)),
        (status_error(500, retry_after=601.0), {}, Decision(Action.STOP)),
        # one of many: only its row waits
        (status_error(429, retry_after=9.0), {}, Decision(Action.RETRY, wait=9.0, is_free=True)),
        (status_error(429), {}, Decision(Action.RETRY, wait=0.5, is_free=True)),
        (status_error(429), {"busy": 2}, Decision(Action.RETRY, wait=2.0, is_free=True)),
        (status_error(429), {"busy": 49, "retries": 2}, Decision(Action.RETRY, wait=16.0, is_free=True)),
        (status_error(429), {"busy": MAX_BUSY, "retries": 1}, Decision(Action.RETRY, wait=8.0)),
        (status_error(429), {"busy": MAX_BUSY, "retries": 2}, Decision(Action.FINISH)),
        # of a large share: all wait
        (
            status_error(503, retry_after=9.0),
            {"is_overloaded": True, "retries": 9, "busy": 99},
            Decision(Action.HOLD, wait=9.5, is_free=True, hold=9.0),
        ),
        (of_account(20.0), {}, Decision(Action.HOLD, wait=20.5, is_free=True, hold=20.0, all_models=True)),
        # the service fails
        (status_error(500), {}, Decision(Action.RETRY, wait=0.5)),
        (status_error(500, retry_after=3.0), {"retries": 1}, Decision(Action.RETRY, wait=3.0)),
        (status_error(500), {"retries": 2}, Decision(Action.FINISH)),
        (refused_connection(), {"retries": 2}, Decision(Action.RETRY, wait=2.0, is_free=True)),
        (
            status_error(502, retry_after=9.0),
            {"retries": 2, "is_down": True},
            Decision(Action.HOLD, wait=9.5, is_free=True, hold=9.0, all_models=True),
        ),
        (status_error(502), {"is_over": True, "is_down": True}, Decision(Action.CANCEL)),
        (status_error(429), {"is_over": True}, Decision(Action.CANCEL)),
        # sends that may have been billed are repeated within their own limit, whatever the reason
        (dropped(), {}, Decision(Action.RETRY, wait=0.5)),
        (dropped(), {"ambiguous_retries": 1}, Decision(Action.FINISH)),
        (dropped(), {"ambiguous_retries": 1, "is_down": True}, Decision(Action.FINISH)),
        (dropped(), {"retries": 9}, Decision(Action.RETRY, wait=30.0)),
    ],
    ids=str,
)
def test_each_failure_has_an_action(error: ResponsesError, changes: dict[str, Any], expected: Decision) -> None:
    assert decide(error, replace(STATE, draw=1.0, **changes)) == expected


@given(
    st.sampled_from([status_error(429), status_error(500), refused_connection(), TransportError("cut", kind="read")]),
    st.none() | st.floats(0, 600),
    st.integers(0, 60),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
    st.floats(0, 1),
)
def test_a_row_waits_for_retry_after_and_little_longer(
    error: ResponsesError,
    retry_after: float | None,
    busy: int,
    plain: int,
    is_overloaded: bool,
    is_down: bool,
    draw: float,
) -> None:
    error.retry_after = retry_after
    state = replace(STATE, busy=busy, retries=plain, is_overloaded=is_overloaded, is_down=is_down, draw=draw)
    decision = decide(error, state)
    if decision.action in {Action.RETRY, Action.HOLD}:
        assert (retry_after or 0.0) <= decision.wait <= (retry_after or 30.0) + 0.5
        assert decision.hold <= (retry_after or 0.0)


def test_an_attempt_is_final_if_all_its_failures_are() -> None:
    assert is_final(retryable_failures=0)
    assert not is_final(retryable_failures=1)
