"""The checks of requests to OpenRouter and to other servers, in figures: hundreds of random requests."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from pydantic import TypeAdapter

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import ResponsesRequest
from airflow_provider_responses.models.fields import Dialect
from tests.models.generator import KINDS, Generator, Wrong, is_valid

SEED = 20261027
# The figures of this seed. In the dialect `open`, only types are checked.
MADE, VALID = 300, 300
MADE_WRONG, REFUSED, REFUSED_BY_OPEN = 500, 500, 85
OPENAIS = 300


@pytest.fixture(scope="module")
def valid() -> list[dict[str, Any]]:
    return [request for request in Generator(SEED).requests(MADE) if is_valid(request)]


@pytest.fixture(scope="module")
def invalid() -> list[Wrong]:
    return Generator(SEED).invalid(MADE_WRONG)


def sent(data: dict[str, Any], dialect: Dialect = "openrouter") -> dict[str, Any] | None:
    try:
        body = json.loads(ResponsesRequest.parse(data, dialect=dialect).to_bytes())
    except RequestValidationError:
        return None
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize("dialect", ["openrouter", "open"])
def test_every_valid_request_is_sent_unchanged(valid: list[dict[str, Any]], dialect: Dialect) -> None:
    assert len(valid) == VALID
    assert [data for data in valid if sent(data, dialect) != data] == []


def test_invalid_requests_are_refused_towards_openrouter(invalid: list[Wrong]) -> None:
    refused = Counter(wrong.kind for wrong in invalid if sent(wrong.request) is None)
    assert sum(refused.values()) == REFUSED
    assert REFUSED / len(invalid) >= 0.95
    assert all(refused[kind] > 80 for kind in KINDS)


def test_towards_other_servers_only_types_are_checked(invalid: list[Wrong]) -> None:
    refused = Counter(wrong.kind for wrong in invalid if sent(wrong.request, "open") is None)
    assert refused == {"type": REFUSED_BY_OPEN}
    assert sum(wrong.kind == "type" for wrong in invalid) == REFUSED_BY_OPEN


def test_the_generated_requests_are_always_the_same() -> None:
    assert Generator(7).requests(5) == Generator(7).requests(5)
    assert Generator(7).invalid(5) == Generator(7).invalid(5)


def test_every_request_of_openais_sdk_passes_towards_other_servers() -> None:
    params = pytest.importorskip("openai.types.responses.response_create_params")
    schema = TypeAdapter(params.ResponseCreateParamsNonStreaming).json_schema()
    requests = Generator(SEED, schema, schema["$defs"]).requests(OPENAIS)
    assert [data for data in requests if sent(data, "open") != data] == []
