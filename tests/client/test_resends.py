"""Retries: their causes, waits and limits, and the earlier sends in the final error."""

from __future__ import annotations

import logging

import httpx
import pytest

from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    InternalServerResponseError,
    ServiceUnavailableResponseError,
    TooManyRequestsResponseError,
    TransportError,
)

from .wire import Flavour, Wire, failure, good

REFUSED = httpx.ConnectError("refused")


DROPPED = httpx.ReadError("dropped")


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 524, 529, 599])
def test_temporary_statuses_are_retried(flavour: Flavour, status: int) -> None:
    wire = Wire(failure(status), failure(status), failure(status), good())
    assert flavour.on(wire).send().sends == 4
    wire = Wire(*[failure(status)] * 4)
    with pytest.raises(APIError) as caught:
        flavour.on(wire).send()
    assert (wire.send_count, caught.value.sends, caught.value.status_code) == (4, 4, status)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 410, 412, 413, 422, 451])
def test_permanent_statuses_are_not_retried(flavour: Flavour, status: int) -> None:
    wire = Wire(failure(status))
    with pytest.raises(APIError) as caught:
        flavour.on(wire).send()
    assert (wire.send_count, caught.value.status_code, caught.value.sends) == (1, status, 1)


@pytest.mark.parametrize("error", [REFUSED, httpx.ConnectTimeout("slow"), httpx.PoolTimeout("full")])
def test_a_failed_connect_is_retried_as_nothing_was_sent(flavour: Flavour, error: Exception) -> None:
    wire = Wire(*[error] * 4)
    with pytest.raises(TransportError) as caught:
        flavour.on(wire).send()
    assert (wire.send_count, caught.value.kind, caught.value.ambiguous) == (4, "connect", False)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DROPPED, "read"),
        (httpx.WriteError("dropped"), "read"),
        (httpx.RemoteProtocolError("hung up"), "read"),
        (httpx.ReadTimeout("silent"), "timeout"),
        (httpx.WriteTimeout("stuck"), "timeout"),
    ],
)
def test_failures_that_may_be_billed_have_a_limit_of_their_own(flavour: Flavour, error: Exception, kind: str) -> None:
    for knob in (0, 1, 2):
        wire = Wire(*[error] * (knob + 1))
        with pytest.raises(TransportError, match="billed") as caught:
            flavour.on(wire, max_ambiguous_retries=knob).send()
        assert (wire.send_count, caught.value.kind, caught.value.ambiguous) == (knob + 1, kind, True)
        assert caught.value.__cause__ is error


def test_plain_and_ambiguous_retries_are_counted_separately(flavour: Flavour) -> None:
    wire = Wire(REFUSED, DROPPED, failure(500), failure(500), good())
    assert flavour.on(wire).send().sends == 5
    wire = Wire(REFUSED, DROPPED, failure(500), DROPPED)
    with pytest.raises(TransportError):
        flavour.on(wire).send()


def test_a_mangled_response_is_requested_once_more(flavour: Flavour) -> None:
    wire = Wire(httpx.Response(200, text="<html>"), httpx.Response(200, text="<html>"))
    with pytest.raises(APIError) as caught:
        flavour.on(wire).send()
    assert caught.value.ambiguous


def test_retries_can_be_turned_off(flavour: Flavour) -> None:
    for settings, options in (({"max_retries": 0}, None), ({}, {"max_retries": 0})):
        wire = Wire(failure(500))
        with pytest.raises(InternalServerResponseError):
            flavour.on(wire, **settings).send(options=options)


def test_a_bug_or_a_kill_is_not_retried(flavour: Flavour) -> None:
    class Killed(BaseException):
        pass

    wire = Wire()
    wire.responses = [Killed()]  # type: ignore[list-item]
    with pytest.raises(Killed):
        flavour.on(wire).send()
    with pytest.raises(ZeroDivisionError):
        flavour.on(Wire(ZeroDivisionError())).send()


def test_waits_grow_and_are_logged_with_their_cause(flavour: Flavour, caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(failure(500), REFUSED, failure(503), good())
    with caplog.at_level(logging.WARNING):
        flavour.on(wire).send()
    assert wire.waits == [0.5, 1.0, 2.0]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    for line, wait, cause in zip(lines, ("0.5 s", "1.0 s", "2.0 s"), ("500", "refused", "503"), strict=True):
        assert wait in line
        assert cause in line


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "7"},
        {"retry-after-ms": "7000"},
        {"retry-after": "Wed, 21 Oct 2026 07:28:07 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
    ],
    ids=["seconds", "milliseconds", "date"],
)
def test_the_wait_that_the_server_names_is_obeyed(flavour: Flavour, headers: dict[str, str]) -> None:
    wire = Wire(failure(429, headers), good())
    flavour.on(wire).send()
    assert 7.0 <= wire.waits[0] <= 8.0


def test_the_wait_in_the_body_is_obeyed(flavour: Flavour) -> None:
    wire = Wire(failure(503, availability={"retry_after": 20}), good())
    flavour.on(wire).send()
    assert 20.0 <= wire.waits[0] <= 21.0


def test_a_longer_wait_is_raised_for_airflow_to_schedule(flavour: Flavour) -> None:
    wire = Wire(failure(429, {"retry-after": "61"}))
    with pytest.raises(TooManyRequestsResponseError) as caught:
        flavour.on(wire).send()
    assert (caught.value.retry_after, caught.value.retryable, wire.slept) == (61.0, True, [])
    wire = Wire(failure(429, {"retry-after": "61"}), good())
    flavour.on(wire, max_retry_wait=90).send()


def test_the_deadline_spans_all_sends(flavour: Flavour) -> None:
    def slow(_: httpx.Request) -> httpx.Response:
        wire.now += 4
        return failure(500)

    wire = Wire(*[slow] * 9)
    with pytest.raises(InternalServerResponseError) as caught:
        flavour.on(wire, timeout=9, max_retries=8).send()
    assert (wire.send_count, caught.value.sends) == (2, 2)  # 4 s, 0.5 s wait, 4 s; the next wait of 1 s would end it
    assert wire.now <= 1009


def test_no_wait_goes_past_the_deadline(flavour: Flavour) -> None:
    wire = Wire(failure(429, {"retry-after": "30"}))
    with pytest.raises(TooManyRequestsResponseError) as caught:
        flavour.on(wire).send(options={"timeout": 20})
    assert (wire.slept, caught.value.retry_after) == ([], 30.0)


def test_no_timeout_of_a_send_outlasts_the_deadline(flavour: Flavour) -> None:
    wire = Wire(failure(429, {"retry-after": "15"}), good())
    flavour.on(wire, timeout=20, connect_timeout=10, read_timeout=300).send()
    first, second = (request.extensions["timeout"] for request in wire.requests)
    assert (first["connect"], first["read"]) == (10, 20)
    assert max(second.values()) <= 5


def test_a_final_error_has_the_sends_before_it(flavour: Flavour) -> None:
    wire = Wire(REFUSED, failure(503), failure(400))
    with pytest.raises(BadRequestResponseError) as caught:
        flavour.on(wire).send()
    error = caught.value
    assert [type(before) for before in error.previous] == [TransportError, ServiceUnavailableResponseError]
    assert error.sends == 3
    assert "3 requests were sent" in error.__notes__[0]


def test_a_first_error_has_no_notes(flavour: Flavour) -> None:
    with pytest.raises(BadRequestResponseError) as caught:
        flavour.on(Wire(failure(400))).send()
    assert not getattr(caught.value, "__notes__", [])
