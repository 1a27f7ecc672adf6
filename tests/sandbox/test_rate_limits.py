"""Rate limits under a clock that the test advances: no test sleeps."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.sandbox import Sandbox
from airflow_provider_responses.sandbox.state.rate_limits import RateLimiter, RateLimits

from .conftest import HEADERS, HELLO


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def limited(clock) -> Iterator[Sandbox]:
    with Sandbox(requests_per_minute=2, clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
def calls(limited) -> Iterator[httpx.Client]:
    limited.reset()
    with httpx.Client(base_url=limited.base_url, headers=HEADERS, timeout=30) as client:
        yield client


def test_calls_beyond_the_limit_wait_for_the_next_minute(limited, clock, calls, api):
    assert [calls.post("/responses", json=HELLO).status_code for _ in range(2)] == [200, 200]
    clock.now += 12.5
    refused = calls.post("/responses", json=HELLO)
    api.check(refused.json(), "TooManyRequestsResponse")
    headers = refused.headers
    assert (refused.status_code, headers["retry-after"]) == (429, "48")
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("2", "0")
    assert int(headers["x-ratelimit-reset"]) / 1000 == pytest.approx(time.time() + 47.5, abs=30)
    assert "2 requests per minute" in refused.json()["error"]["message"]
    clock.now += 47.4
    assert calls.post("/responses", json=HELLO).headers["retry-after"] == "1"
    clock.now += 0.2
    assert calls.post("/responses", json=HELLO).status_code == 200
    assert [entry.status for entry in limited.ledger] == [200, 200, 429, 429, 200]
    assert len(limited.billed) == 3


def test_each_key_has_a_limit_of_its_own(calls):
    for key in ("one", "two"):
        got = [
            calls.post("/responses", json=HELLO, headers={"Authorization": f"Bearer {key}"}).status_code
            for _ in range(3)
        ]
        assert got == [200, 200, 429]


def test_tokens_of_input_and_output_count(limited, clock, calls):
    limited.limits = {"tokens_per_minute": 50}
    assert limited.limits == {"requests_per_minute": None, "tokens_per_minute": 50}
    request = {"model": "a/b", "input": "x" * 80}
    used = calls.post("/responses", json=request).json()["usage"]["total_tokens"]
    assert used == 41
    refused = calls.post("/responses", json=request)
    assert (refused.status_code, refused.headers["x-ratelimit-limit"]) == (429, "50")
    assert calls.post("/responses", json={"model": "a/b", "input": "xy"}).status_code == 200
    clock.now += 60
    assert calls.post("/responses", json={"model": "a/b", "input": "x" * 4000}).status_code == 200


def test_a_rate_limited_call_uses_no_step_of_the_script(limited, calls):
    limited.limits = {"requests_per_minute": 0}
    limited.script({"status": 500})
    assert calls.post("/responses", json=HELLO).status_code == 429
    limited.limits = {}
    assert calls.post("/responses", json=HELLO).status_code == 500


def test_limits_are_set_over_http_and_restored_by_reset(limited, calls):
    where = f"{limited.url}/_sandbox/limits"
    response = calls.put(where, json={"requests_per_minute": 1})
    assert response.json() == {"data": {"requests_per_minute": 1, "tokens_per_minute": None}}
    assert [calls.post("/responses", json=HELLO).status_code for _ in range(2)] == [200, 429]
    calls.delete(f"{limited.url}/_sandbox/ledger")
    assert limited.limits == {"requests_per_minute": 2, "tokens_per_minute": None}


@pytest.mark.parametrize(
    "given",
    [3, [], {"requests": 1}, {"requests_per_minute": -1}, {"requests_per_minute": "2"}, {"tokens_per_minute": True}],
)
def test_invalid_limits_are_refused(limited, calls, given):
    assert calls.put(f"{limited.url}/_sandbox/limits", json=given).status_code == 400
    with pytest.raises(ValueError, match=r"limit|per_minute"):
        limited.limits = given
    assert limited.limits["requests_per_minute"] == 2


def test_limits_of_the_constructor_are_validated():
    with pytest.raises(ConfigurationError, match="requests_per_minute"):
        Sandbox(requests_per_minute=-1)


def test_a_call_that_obeys_retry_after_is_admitted():
    limiter = RateLimiter(RateLimits(requests_per_minute=3, tokens_per_minute=10))
    now = 0.0
    for tokens in (1, 9, 10, 11, 0, 3, 3, 3, 3, 12):
        if exceeded := limiter.admit("key", tokens, now=now):
            now += exceeded.retry_after
            assert limiter.admit("key", tokens, now=now) is None


def test_latency_is_set_over_http(sandbox, http):
    where = f"{sandbox.url}/_sandbox/latency"
    assert http.put(where, json={"seconds": 0.01}).json() == {"data": {"seconds": 0.01}}
    http.post("/responses", json=HELLO)
    assert sandbox.ledger[0].seconds >= 0.01
    for wrong in ({}, {"seconds": -1}, {"seconds": "1"}, [1]):
        assert http.put(where, json=wrong).status_code == 400
    sandbox.reset()
    assert sandbox.latency == 0.0
