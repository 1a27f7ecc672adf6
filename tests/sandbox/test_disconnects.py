from __future__ import annotations

import threading

import httpx
import pytest

from airflow_provider_responses.sandbox import Sandbox
from airflow_provider_responses.sandbox.model.tokens import count_tokens

from .conftest import HEADERS, HELLO, send_and_wait, wait_for

CACHED = {"X-OpenRouter-Cache": "true"}
FOREVER = 3600


def test_a_call_whose_client_left_runs_on_is_billed_and_cached(http, sandbox):
    sandbox.script({"delay": 0.2})
    send_and_wait(sandbox, HELLO, CACHED).close()
    entry = wait_for(sandbox, lambda entry: entry.outcome != "running")
    assert (entry.outcome, entry.billed) == ("generated", True)
    again = http.post("/responses", json=HELLO, headers=CACHED)
    assert again.headers["x-openrouter-cache-source-id"] == entry.generation_id
    assert len(sandbox.billed) == 1


def test_a_stream_whose_client_left_stops_and_bills_the_output_so_far(http, sandbox):
    sandbox.script({"chunk_delay": FOREVER})
    with http.stream("POST", "/responses", json=HELLO | {"stream": True}, headers=CACHED) as response:
        lines = response.iter_lines()
        assert any("output_text.delta" in line for line in lines)
    entry = wait_for(sandbox, lambda entry: entry.outcome != "running")
    assert (entry.outcome, entry.billed, entry.delivered) == ("dropped", True, False)
    assert entry.output_tokens == count_tokens("Rain")
    assert entry.input_tokens > 0
    generation = http.get("/generation", params={"id": entry.generation_id}).json()["data"]
    assert (generation["cancelled"], generation["total_cost"]) == (True, entry.cost)
    again = http.post("/responses", json=HELLO | {"stream": True}, headers=CACHED)
    assert again.headers["x-openrouter-cache-status"] == "MISS"


def test_a_stream_that_the_client_leaves_before_the_first_token_is_free(http, sandbox):
    sandbox.script({"delay": FOREVER})
    with http.stream("POST", "/responses", json=HELLO | {"stream": True}) as response:
        assert next(response.iter_lines()) == ": OPENROUTER PROCESSING"
    entry = wait_for(sandbox, lambda entry: entry.outcome != "running")
    assert (entry.outcome, entry.billed, entry.cost) == ("dropped", False, 0.0)


def test_two_identical_calls_in_flight_are_both_billed(http, sandbox):
    request = HELLO | {"stream": True}
    sandbox.script({"chunk_delay": FOREVER})
    with http.stream("POST", "/responses", json=request, headers=CACHED) as first:
        assert any("output_text.delta" in line for line in first.iter_lines())
        second = http.post("/responses", json=request, headers=CACHED)
        assert second.headers["x-openrouter-cache-status"] == "MISS"
    wait_for(sandbox, lambda entry: entry.outcome == "dropped")
    assert len(sandbox.billed) == 2


@pytest.mark.parametrize(
    ("step", "stream"),
    [
        ({"hang": True}, False),
        ({"hang": True}, True),
        ({"delay": FOREVER}, False),
        ({"delay": FOREVER, "status": 500}, False),
        ({"delay": FOREVER}, True),
        ({"chunk_delay": FOREVER}, True),
    ],
)
@pytest.mark.parametrize("by", ["reset", "stop"])
def test_waiting_calls_are_closed_by_reset_and_stop(step, stream, by):
    with Sandbox() as sandbox:
        sandbox.script(step)
        raised: list[Exception] = []

        def call() -> None:
            try:
                httpx.post(
                    f"{sandbox.base_url}/responses", json=HELLO | {"stream": stream}, headers=HEADERS, timeout=60
                )
            except httpx.TransportError as error:
                raised.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        wait_for(sandbox, lambda _: bool(sandbox.state._waiters))  # a running call may not wait yet
        sandbox.reset() if by == "reset" else sandbox.stop()
        thread.join(60)
        assert not thread.is_alive()
        assert len(raised) == 1


def test_latency_delays_every_response():
    with Sandbox(latency=FOREVER) as sandbox, httpx.Client(base_url=sandbox.base_url, headers=HEADERS) as http:
        sandbox.script({"delay": 0})
        assert http.post("/responses", json=HELLO).status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            http.post("/responses", json=HELLO, timeout=httpx.Timeout(30, read=0.05))
        with http.stream("POST", "/responses", json=HELLO | {"stream": True}) as response:
            assert next(response.iter_lines()) == ": OPENROUTER PROCESSING"
