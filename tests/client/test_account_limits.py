"""The reset of the account's limit in the headers of a 429."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.client.account_limits import account_reset
from airflow_provider_responses.client.server_errors import error_from_response

from .error_rows import OPENROUTER

NOW = datetime(2026, 11, 28, 7, 0, tzinfo=UTC)
DATE = {"date": format_datetime(NOW, usegmt=True)}
EPOCH = NOW.timestamp()


def used_up(reset: str, kind: str = "") -> dict[str, str]:
    return {**DATE, f"x-ratelimit-remaining{kind}": "0", f"x-ratelimit-reset{kind}": reset}


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        (f"{(EPOCH + 47) * 1000:.0f}", 47.0),
        (f"{EPOCH + 47:.0f}", 47.0),
        ("47", 47.0),
        ("0.5", 0.5),
        ("47s", 47.0),
        ("1m30.5s", 90.5),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1d2h", 93_600.0),
        (f"{EPOCH - 5:.0f}", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("1m30", None),
    ],
)
def test_every_form_of_a_reset_is_read(reset: str, expected: float | None) -> None:
    found = account_reset(used_up(reset))
    assert found == (expected if expected is None else pytest.approx(expected, abs=1e-3))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-ratelimit-reset": "9"}, None),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "9"}, None),
        ({"x-ratelimit-remaining": "many", "x-ratelimit-reset": "9"}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-remaining": "-3", "x-ratelimit-reset": "9"}, 9.0),
        ({"x-ratelimit-remaining": "0.0", "x-ratelimit-reset": "9"}, 9.0),
        (used_up("9s", "-tokens") | {"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "90s"}, 9.0),
        (used_up("9s", "-tokens") | used_up("11s", "-requests"), 11.0),
    ],
)
def test_only_a_limit_that_is_used_up_counts(headers: dict[str, str], expected: float | None) -> None:
    assert account_reset(headers) == expected


@given(st.dictionaries(st.sampled_from(["x-ratelimit-remaining", "x-ratelimit-reset", "date"]), st.text()))
def test_whatever_a_server_sends_is_a_wait_or_none(headers: dict[str, str]) -> None:
    found = account_reset(headers)
    assert found is None or found >= 0.0


def error(status: int, headers: dict[str, str], body: bytes = b'{"error": {"message": "slow"}}') -> Any:
    return error_from_response(status, httpx.Headers(headers), body, request=OPENROUTER)


def test_an_error_has_the_reset_and_its_wait() -> None:
    found = error(429, used_up("47"))
    assert (found.account_reset, found.retry_after) == (47.0, 47.0)
    assert "The service asks to wait 47 s" in str(found)
    found = error(429, used_up("47") | {"retry-after": "3"})
    assert (found.account_reset, found.retry_after) == (47.0, 3.0)
    for other in (error(429, {"retry-after": "3"}), error(503, used_up("47"))):
        assert other.account_reset is None


def test_a_reset_in_the_body_of_openrouter_is_read() -> None:
    reset = (datetime.now(UTC).timestamp() + 100) * 1000
    headers = f'{{"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{reset:.0f}"}}'
    body = f'{{"error": {{"message": "slow", "code": 429, "metadata": {{"headers": {headers}}}}}}}'.encode()
    assert error(429, {}, body).account_reset == pytest.approx(100, abs=20)
