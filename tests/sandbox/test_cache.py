from __future__ import annotations

import json

import pytest

from airflow_provider_responses.sandbox.model.generation import Generation, Part
from airflow_provider_responses.sandbox.state.sandbox_state import SandboxState

from .conftest import HELLO, output_text, read_events

CACHED = {"X-OpenRouter-Cache": "true"}
KEY = ("key", "a/b", "/responses", False, "sha")
GENERATION = Generation(parts=(Part(content="Hello."),))


@pytest.mark.parametrize("stream", [True, False])
def test_the_same_bytes_again_are_free(http, sandbox, api, stream):
    request = HELLO | {"stream": stream}
    first, second = (http.post("/responses", json=request, headers=CACHED) for _ in range(2))
    assert first.headers["x-openrouter-cache-status"] == "MISS"
    assert first.headers["x-openrouter-cache-ttl"] == "300"
    source = first.headers["x-generation-id"]
    headers = second.headers
    assert headers["x-openrouter-cache-status"] == "HIT"
    assert headers["x-openrouter-cache-source-id"] == source != headers["x-generation-id"]
    assert int(headers["x-openrouter-cache-age"]) >= 0
    assert headers["x-openrouter-cache-ttl"] == "300"
    bodies = [read_events(one.text)[-1]["response"] if stream else one.json() for one in (first, second)]
    assert output_text(bodies[0]) == output_text(bodies[1])
    api.check(bodies[1], "OpenResponsesResult")
    usage = bodies[1]["usage"]
    assert [usage[name] for name in ("input_tokens", "output_tokens", "total_tokens", "cost")] == [0, 0, 0, 0]
    assert usage["cost_details"]["upstream_inference_input_cost"] == 0
    assert [(entry.outcome, entry.cache, entry.billed) for entry in sandbox.ledger] == [
        ("generated", "MISS", True),
        ("cached", "HIT", False),
    ]
    assert sandbox.ledger[1].cache_source_id == source
    if stream:
        assert [e["type"] for e in read_events(first.text)] == [e["type"] for e in read_events(second.text)]


def test_a_cached_generation_is_free_and_names_its_source(http, api):
    first, second = (http.post("/responses", json=HELLO, headers=CACHED) for _ in range(2))
    found = http.get("/generation", params={"id": second.headers["x-generation-id"]}).json()
    api.check_get(found, "/generation")
    assert found["data"]["total_cost"] == 0
    assert found["data"]["response_cache_source_id"] == first.headers["x-generation-id"]
    source = http.get("/generation", params={"id": first.headers["x-generation-id"]}).json()
    assert source["data"]["total_cost"] == first.json()["usage"]["cost"]


def test_the_cache_ignores_white_space_but_not_the_order_of_properties(http):
    def status(raw: str) -> str:
        response = http.post("/responses", content=raw.encode(), headers=CACHED)
        return response.headers["x-openrouter-cache-status"]

    assert status(json.dumps(HELLO)) == "MISS"
    assert status(json.dumps(HELLO, indent=4)) == "HIT"
    assert status(json.dumps(dict(reversed(HELLO.items())))) == "MISS"


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({"stream": True}, CACHED),
        ({"metadata": {"airflow": "other"}}, CACHED),
        ({}, CACHED | {"Authorization": "Bearer another-key"}),
        ({}, CACHED | {"X-OpenRouter-Cache-Clear": "true"}),
    ],
)
def test_another_body_key_or_cache_clear_is_a_cache_miss(http, sandbox, changes, headers):
    http.post("/responses", json=HELLO, headers=CACHED)
    response = http.post("/responses", json=HELLO | changes, headers=headers)
    assert response.headers["x-openrouter-cache-status"] == "MISS"
    assert len(sandbox.billed) == 2


def test_cache_clear_replaces_the_cached_response(http):
    sources = []
    for headers in (CACHED, CACHED | {"X-OpenRouter-Cache-Clear": "true"}):
        sources.append(http.post("/responses", json=HELLO, headers=headers).headers["x-generation-id"])
    hit = http.post("/responses", json=HELLO, headers=CACHED)
    assert hit.headers["x-openrouter-cache-source-id"] == sources[1]


def test_other_headers_are_not_part_of_the_cache_key(http):
    http.post("/responses", json=HELLO, headers=CACHED)
    more = CACHED | {"X-OpenRouter-Metadata": "enabled", "X-OpenRouter-Title": "another"}
    hit = http.post("/responses", json=HELLO, headers=more)
    assert hit.headers["x-openrouter-cache-status"] == "HIT"
    assert "openrouter_metadata" not in hit.json()


@pytest.mark.parametrize("headers", [{}, {"X-OpenRouter-Cache": "false"}])
def test_without_the_header_nothing_is_cached(http, sandbox, headers):
    for _ in range(2):
        response = http.post("/responses", json=HELLO, headers=headers)
        assert "x-openrouter-cache-status" not in response.headers
    assert len(sandbox.billed) == 2


@pytest.mark.parametrize(
    "step", [{"status": 500}, {"failed": "server"}, {"incomplete": "max_output_tokens"}, {"truncate": True}]
)
def test_only_completed_responses_are_cached(http, sandbox, step):
    sandbox.script(step, {})
    http.post("/responses", json=HELLO, headers=CACHED)
    assert http.post("/responses", json=HELLO, headers=CACHED).headers["x-openrouter-cache-status"] == "MISS"


def test_a_cached_response_is_not_changed_by_a_later_step(http, sandbox):
    http.post("/responses", json=HELLO, headers=CACHED)
    sandbox.script({"status": 503}, {"text": "another"})
    assert http.post("/responses", json=HELLO, headers=CACHED).status_code == 503
    hit = http.post("/responses", json=HELLO, headers=CACHED)
    assert output_text(hit.json()) != "another"


@pytest.mark.parametrize("ttl", ["0", "86401", "-1", "1.5", "soon", ""])
def test_a_ttl_out_of_range_is_refused(http, ttl):
    assert http.post("/responses", json=HELLO, headers=CACHED | {"X-OpenRouter-Cache-TTL": ttl}).status_code == 400


@pytest.mark.parametrize("ttl", ["1", "86400"])
def test_a_ttl_within_range_is_accepted(http, ttl):
    response = http.post("/responses", json=HELLO, headers=CACHED | {"X-OpenRouter-Cache-TTL": ttl})
    assert response.headers["x-openrouter-cache-ttl"] == ttl


def test_a_cached_generation_expires_with_its_ttl():
    now = 1000.0
    state = SandboxState(clock=lambda: now)
    state.cache_generation(KEY, GENERATION, model="a/b", generation_id="gen-1", ttl=60, epoch=0)
    now += 59.5
    found, age = state.cache.get(KEY) or (None, 0)
    assert (found.generation, found.model, found.generation_id, age) == (GENERATION, "a/b", "gen-1", 59)
    now += 0.5
    assert state.cache.get(KEY) is None


def test_a_generation_from_before_a_reset_is_not_cached():
    state = SandboxState()
    entry, epoch = state.open_entry(b"{}", [])
    state.reset()
    state.cache_generation(KEY, GENERATION, model="a/b", generation_id=entry.generation_id, ttl=60, epoch=epoch)
    assert state.cache.get(KEY) is None
