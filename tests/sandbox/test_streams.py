"""Streams and bodies that break, in each way that a script can set."""

from __future__ import annotations

import json

import httpx
import pytest

from airflow_provider_responses.sandbox.model.tokens import count_tokens
from airflow_provider_responses.sandbox.state.script import ERROR_EVENTS

from .conftest import HELLO, output_text, read_events, send_and_wait, wait_for

TEXT = "Rain fell on the old harbour all day."
STREAM = HELLO | {"stream": True}
CACHED = {"X-OpenRouter-Cache": "true"}
FOREVER = 3600


def request_with(sandbox, step, by, stream):
    """Return a request for which a fault happens, by a step of the script or by the model that stands for it."""
    ((key, value),) = step.items()
    name = f"event-{value}" if key == "error_event" else key
    if by == "script":
        sandbox.script(step)
        return HELLO | {"stream": stream}
    return HELLO | {"model": f"sandbox/{name}", "stream": stream}


@pytest.mark.parametrize("by", ["script", "model"])
@pytest.mark.parametrize("stream", [True, False])
def test_stall_sends_half_a_response_and_then_nothing(http, sandbox, by, stream):
    body = request_with(sandbox, {"stall": True}, by, stream)
    got = []
    with (
        http.stream("POST", "/responses", json=body, timeout=httpx.Timeout(30, read=0.2)) as response,
        pytest.raises(httpx.ReadTimeout),
    ):
        got.extend(response.iter_text())
    assert ("Rain" if stream else '"model":') in "".join(got)
    assert TEXT not in "".join(got)
    (entry,) = sandbox.ledger
    assert (entry.outcome, entry.status, entry.billed, entry.delivered) == ("broken", 200, True, False)
    assert http.post("/responses", json=HELLO).status_code == 200


def test_a_stall_bills_what_was_streamed(http, sandbox):
    sandbox.script({"stall": True})
    client = send_and_wait(sandbox, STREAM)
    entry = wait_for(sandbox, lambda entry: entry.outcome != "running")
    client.close()
    assert 0 < entry.output_tokens < count_tokens(TEXT)


@pytest.mark.parametrize("stream", [True, False])
def test_a_stall_ends_with_a_reset(http, sandbox, stream):
    sandbox.script({"stall": True})
    client = send_and_wait(sandbox, HELLO | {"stream": stream})
    wait_for(sandbox, lambda entry: entry.outcome != "running")
    sandbox.reset()
    client.settimeout(30)
    while client.recv(65536):
        pass
    client.close()


@pytest.mark.parametrize("by", ["script", "model"])
def test_malformed_breaks_one_event_and_goes_on(http, sandbox, by):
    response = http.post("/responses", json=request_with(sandbox, {"malformed": True}, by, True), headers=CACHED)
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    broken = [line for line in lines[:-1] if not is_json(line)]
    assert len(broken) == 1
    whole = [json.loads(line) for line in lines[:-1] if line not in broken]
    assert whole[-1]["type"] == "response.completed"
    assert "".join(event.get("delta", "") for event in whole) != TEXT
    (entry,) = sandbox.billed
    assert (entry.outcome, entry.output_tokens) == ("broken", count_tokens(TEXT))
    again = http.post("/responses", json=STREAM, headers=CACHED)
    assert again.headers["x-openrouter-cache-status"] == "MISS"


@pytest.mark.parametrize("by", ["script", "model"])
def test_a_malformed_body(http, sandbox, by):
    response = http.post("/responses", json=request_with(sandbox, {"malformed": True}, by, False))
    assert response.status_code == 200
    assert not is_json(response.text)
    assert response.headers["x-generation-id"] == sandbox.billed[0].generation_id


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("by", ["script", "model"])
@pytest.mark.parametrize("kind", ERROR_EVENTS)
def test_error_events_end_a_stream(http, sandbox, api, kind, by):
    response = http.post("/responses", json=request_with(sandbox, {"error_event": kind}, by, True))
    events = read_events(response.text)
    assert [event["type"] for event in events[-2:]] == ["response.output_text.delta", kind.removesuffix("-object")]
    last = events[-1]
    if kind == "error":
        api.check(last, "ErrorEvent")
        assert (last["code"], last["param"]) == ("server_error", None)
    else:
        assert last["error"]["error_type"] == "server"
    assert (sandbox.ledger[0].outcome, sandbox.billed) == ("error", [])


def test_an_error_event_has_the_fields_of_its_step(http, sandbox):
    step = {"error_event": "response.error", "error_type": "rate_limit_exceeded", "message": "slower"}
    sandbox.script(step, step)
    error = {"code": "rate_limit_exceeded", "message": "slower"}
    last = read_events(http.post("/responses", json=STREAM).text)[-1]
    assert last["error"] == error | {"error_type": "rate_limit_exceeded"}
    assert http.post("/responses", json=HELLO).json() == {"error": error}


def test_every_break_acts_on_a_response_without_text(http, sandbox):
    for step in ({"truncate": True}, {"malformed": True}):
        sandbox.script(step | {"text": ""})
        response = http.post("/responses", json=STREAM)
        assert not [
            line
            for line in response.text.splitlines()
            if '"response.completed","response"' in line and is_json(line[6:])
        ]


@pytest.mark.parametrize("step", [{"truncate": True}, {"malformed": True}])
def test_late_breaks_lose_the_end_only(http, sandbox, step):
    sandbox.script(step | {"late": True}, step | {"late": True})
    text = http.post("/responses", json=STREAM).text
    whole = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ") and is_json(line[6:])]
    assert whole[-1]["type"] == "response.output_item.done"
    assert output_text({"output": [whole[-1]["item"]]}) == TEXT
    assert not is_json(http.post("/responses", json=HELLO).text)
    assert [entry.outcome for entry in sandbox.billed] == ["broken"] * 2
    assert sandbox.billed[0].output_tokens == count_tokens(TEXT)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("stream", [True, False])
def test_split_cuts_anywhere_and_loses_nothing(http, sandbox, size, stream):
    text = "Grüße — 你好 🎉"
    sandbox.script({"split": size, "text": text})
    with http.stream("POST", "/responses", json=HELLO | {"stream": stream}) as response:
        raw = b"".join(response.iter_raw())
    body = read_events(raw.decode())[-1]["response"] if stream else json.loads(raw)
    assert output_text(body) == text


def test_keep_alive_comments_come_while_a_stream_waits(http, sandbox, api):
    sandbox.script({"delay": 0.1, "keep_alive": 0.01})
    lines = http.post("/responses", json=STREAM).text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("data: "))
    assert lines[:first].count(": OPENROUTER PROCESSING") > 2
    assert read_events("\n".join(lines))[-1]["type"] == "response.completed"


def test_keep_alive_white_space_comes_before_a_body(http, sandbox):
    sandbox.script(
        {"delay": 0.1, "keep_alive": 0.01}, {"drop": "after", "keep_alive": 1}, {"truncate": True, "keep_alive": 1}
    )
    response = http.post("/responses", json=HELLO)
    assert response.text.startswith("  ")
    assert output_text(response.json()) == TEXT
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/responses", json=HELLO)
    assert not is_json(http.post("/responses", json=HELLO).text)
    assert [entry.outcome for entry in sandbox.ledger] == ["generated", "generated", "broken"]


@pytest.mark.parametrize("stream", [True, False])
def test_keep_alive_goes_on_during_a_stall(http, sandbox, stream):
    sandbox.script({"stall": True, "keep_alive": 0.01})
    got = ""
    sign = ": OPENROUTER PROCESSING" if stream else "   "
    with http.stream("POST", "/responses", json=HELLO | {"stream": stream}) as response:
        for text in response.iter_text():
            got += text
            if got.endswith(f"{sign}\n\n" if stream else sign):
                break
    assert TEXT not in got


def test_a_padded_call_runs_on_without_its_client_unless_reset(sandbox):
    sandbox.script({"delay": 0.1, "keep_alive": 0.02}, {"delay": FOREVER, "keep_alive": 0.02})
    send_and_wait(sandbox, HELLO).close()
    assert wait_for(sandbox, lambda entry: entry.outcome != "running").outcome == "generated"
    sandbox.reset()
