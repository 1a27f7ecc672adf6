"""Responses conform to the schema of Open Responses too, which `llm-comply` contains beside its test cases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import llm_comply
import pytest
from jsonschema import Draft202012Validator
from llm_comply.schema import SSE_EVENT_TO_SCHEMA
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from airflow_provider_responses.sandbox import Sandbox

from .conftest import HEADERS, HELLO, read_events

OPEN_RESPONSES = Path(llm_comply.__file__).parent / "specs" / "openresponses.json"
# The endpoint is not part of OpenRouter's API; the cases accept that it is missing.
NOT_OFFERED = {"compact-response", "compact-missing-model"}
TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object"}}
# Names of reasoning events in Open Responses, which differ from those of OpenAI and OpenRouter.
NAMES = {
    "response.reasoning_text.delta": "response.reasoning.delta",
    "response.reasoning_text.done": "response.reasoning.done",
    "response.reasoning_summary_text.delta": "response.reasoning_summary.delta",
    "response.reasoning_summary_text.done": "response.reasoning_summary.done",
}


@pytest.mark.parametrize("dialect", ["openrouter", "open"])
def test_the_compliance_cases_pass(dialect: str) -> None:
    with Sandbox(dialect=dialect) as sandbox:
        report = run_cases(sandbox)
    cases = {case["id"]: case for case in report["results"]}
    assert len(cases) == 13
    assert {name: case.get("errors") for name, case in cases.items() if case["status"] != "passed"} == {}
    assert {name for name, case in cases.items() if case.get("warnings")} <= NOT_OFFERED


def run_cases(sandbox: Sandbox) -> dict[str, Any]:
    # For this model the tool also runs the case about reasoning.
    command = [sys.executable, "-m", "llm_comply.cli", "--base-url", sandbox.base_url]
    ran = subprocess.run(
        [*command, "--api-key", "sandbox-key", "--model", "openai/gpt-5", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


class OpenResponses:
    """The schema of Open Responses."""

    def __init__(self) -> None:
        document = json.loads(OPEN_RESPONSES.read_text())
        self.registry = Registry().with_resource("urn:open", Resource(contents=document, specification=DRAFT202012))

    def problems(self, value: Any, name: str = "ResponseResource") -> list[tuple[str, ...]]:
        """Return the paths at which a value does not fit."""
        validator = Draft202012Validator({"$ref": f"urn:open#/components/schemas/{name}"}, registry=self.registry)
        return [tuple(map(str, error.absolute_path)) for error in validator.iter_errors(value)]


@pytest.fixture(scope="module")
def schema() -> OpenResponses:
    return OpenResponses()


@pytest.fixture(scope="module", params=["openrouter", "open"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Sandbox, httpx.Client]]:
    with Sandbox(dialect=request.param) as sandbox, httpx.Client(base_url=sandbox.base_url, headers=HEADERS) as http:
        yield sandbox, http


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fields", "step"),
    [
        pytest.param({}, {}, id="a text"),
        pytest.param({"temperature": None, "reasoning": None, "text": None}, {}, id="nulls"),
        pytest.param({"temperature": 0.5, "top_p": 0.1, "top_logprobs": 3}, {}, id="numbers"),
        pytest.param({"text": {"format": {"type": "json_object"}, "verbosity": "low"}}, {}, id="a JSON object"),
        pytest.param({"tools": [TOOL], "tool_choice": "required"}, {}, id="a call"),
        pytest.param({"tools": [TOOL | {"description": "Look it up.", "strict": True}]}, {}, id="a described tool"),
        pytest.param({"tools": [TOOL], "tool_choice": {"type": "function", "name": "look_up"}}, {}, id="this call"),
        pytest.param({"reasoning": {"effort": "low"}}, {}, id="reasoning"),
        pytest.param({"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]}, {}, id="summary"),
        pytest.param({"max_output_tokens": 2}, {}, id="cut off"),
        pytest.param({}, {"incomplete": "content_filter"}, id="filtered"),
        pytest.param({}, {"refusal": "No."}, id="refused"),
        pytest.param({}, {"failed": "rate_limit_exceeded"}, id="failed"),
    ],
)
def test_responses_and_events_fit_both_schemas(served, schema, api, fields, step, stream):
    sandbox, http = served
    sandbox.reset()
    sandbox.script(step)
    sent = http.post("/responses", json=HELLO | fields | {"stream": stream})
    assert sent.status_code == 200, sent.text
    events = read_events(sent.text) if stream else []
    body = events[-1]["response"] if stream else sent.json()
    assert schema.problems(body) == []
    api.check(body, "OpenResponsesResult")
    for event in events:
        name = NAMES.get(event["type"], event["type"])
        renamed = event | {"type": name} if name.startswith("response.reasoning.") else event
        assert schema.problems(renamed, SSE_EVENT_TO_SCHEMA[name]) == [], event["type"]
        api.check(event, "StreamEvents")


def test_an_error_event_with_an_object_fits(served, schema):
    sandbox, http = served
    sandbox.reset()
    sandbox.script({"error_event": "error-object"})
    last = read_events(http.post("/responses", json=HELLO | {"stream": True}).text)[-1]
    assert schema.problems(last, "ErrorStreamingEvent") == []


def test_only_the_schema_of_a_typed_format_does_not_fit_open_responses(served, schema):
    """Open Responses' schema of a response has `null` as the only schema of a format; OpenRouter's has an object."""
    output_format = {
        "type": "json_schema",
        "name": "row",
        "schema": {"type": "object"},
        "strict": True,
        "description": "A row",
    }
    body = served[1].post("/responses", json=HELLO | {"text": {"format": output_format}}).json()
    assert schema.problems(body) == [("text", "format")]
    body["text"]["format"]["schema"] = None
    assert schema.problems(body) == []


def test_only_the_open_dialect_stores_responses():
    with Sandbox(dialect="open") as sandbox, httpx.Client(base_url=sandbox.base_url, headers=HEADERS) as http:
        first = http.post("/responses", json=HELLO).json()
        assert first["store"] is True
        more = {"model": HELLO["model"], "previous_response_id": first["id"]}
        second = http.post("/responses", json=more | {"store": False}).json()
        assert (second["previous_response_id"], second["store"]) == (first["id"], False)
        elsewhere = {"Authorization": "Bearer another-key"}
        for unknown, headers in ((second["id"], {}), ("resp_none", {}), (first["id"], elsewhere)):
            refused = http.post("/responses", json=more | {"previous_response_id": unknown}, headers=headers)
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (404, "previous_response_not_found")


@pytest.mark.parametrize(
    "fields",
    [
        {"include": ["message.output_text.logprobs"]},
        {"service_tier": "standard"},
        {"metadata": {f"k{number}": "v" for number in range(17)}},
        {"conversation": "conv_1", "stream_options": {"include_obfuscation": False}},
    ],
)
def test_the_open_dialect_accepts_the_fields_of_other_servers(fields):
    with Sandbox(dialect="open") as sandbox:
        assert httpx.post(f"{sandbox.base_url}/responses", json=HELLO | fields, headers=HEADERS).status_code == 200


def test_a_stored_prompt_names_its_model():
    request = {"prompt": {"id": "pmpt_1"}}
    with Sandbox(dialect="open") as sandbox:
        body = httpx.post(f"{sandbox.base_url}/responses", json=request, headers=HEADERS).json()
    assert body["model"]
    assert body["prompt"] == request["prompt"]


def test_an_image_without_detail_is_accepted(http, sandbox):
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    given = [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, image]}]
    assert http.post("/responses", json=HELLO | {"input": given}).status_code == 200
    wrong = [{"role": "user", "content": [image | {"detail": "huge"}]}]
    assert http.post("/responses", json=HELLO | {"input": wrong}).status_code == 400
