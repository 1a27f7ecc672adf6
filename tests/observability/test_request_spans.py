"""Each request has one span by the conventions for generative AI, in each execution mode."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, openai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode

from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.observability import genai_attributes
from airflow_provider_responses.observability import spans as our_spans
from airflow_provider_responses.observability.genai_attributes import finish_reason, request_attributes
from airflow_provider_responses.operators.escalation import Escalation
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import MODES, performer
from tests.observability.recording import resends
from tests.operators.one_request import MODEL, Label, ask


@pytest.fixture(params=MODES)
def perform(request, monkeypatch):
    return performer(request.param, monkeypatch)


def names_of(*modules):
    return {value for module in modules for name, value in vars(module).items() if name.isupper() and value is not None}


def test_every_attribute_of_the_conventions_has_a_name_that_they_know():
    known = names_of(gen_ai_attributes, openai_attributes, error_attributes, http_attributes, server_attributes)
    ours = {
        value
        for name, value in vars(genai_attributes).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    ours |= {attribute for _, attribute in genai_attributes._SETTINGS}
    assert len(ours) > 25
    assert ours <= known


@pytest.mark.parametrize("mode", ["worker", "deferred"])
def test_each_request_of_a_task_with_tools_has_a_span(mode, monkeypatch, spans, responses_sandbox):
    def charge(order: int) -> int:
        """Charge."""
        return order

    perform, ti = performer(mode, monkeypatch), TaskInstance()
    perform(ask(model="sandbox/calls-2", tools=[charge]), context(ti))

    found = spans.ours
    assert [span.attributes["gen_ai.response.id"] for span in found] == [
        step["response_id"] for step in ti.xcoms["usage"]["steps"]
    ]
    assert [span.attributes["gen_ai.response.finish_reasons"] for span in found] == [
        ("tool_call",),
        ("tool_call",),
        ("stop",),
    ]


def test_a_request_has_one_span_with_its_model_tokens_and_cost(perform, spans, responses_sandbox):
    ti = TaskInstance()
    perform(ask(request={"temperature": 0.5, "max_output_tokens": 200}), context(ti))
    span, usage = spans.only(), ti.xcoms["usage"]
    assert (span.name, span.kind) == (f"chat {MODEL}", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    address, _, port = responses_sandbox.base_url.removeprefix("http://").partition("/")[0].partition(":")
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openrouter",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 200,
        "gen_ai.request.stream": True if perform.mode == "worker" else None,
        "gen_ai.response.model": usage["model"],
        "gen_ai.response.id": usage["response_id"],
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": usage["input_tokens"],
        "gen_ai.usage.output_tokens": usage["output_tokens"],
        "gen_ai.usage.cache_read.input_tokens": usage["cached_tokens"],
        "gen_ai.usage.reasoning.output_tokens": usage["reasoning_tokens"],
        "openai.api.type": "responses",
        "server.address": address,
        "server.port": int(port),
        "responses.generation_id": usage["generation_id"],
        "responses.cached": False,
        "responses.cost": usage["cost"],
        "responses.sends": 1,
        "airflow.dag_id": "nightly",
        "airflow.task_id": "ask",
        "airflow.dag_run.run_id": "scheduled__2026-01-01",
        "airflow.task_instance.try_number": 1,
        "airflow.task_instance.map_index": -1,
    }
    assert dict(span.attributes) == {name: value for name, value in expected.items() if value is not None}


def test_no_span_has_content_unless_it_is_asked_for(perform, spans, responses_sandbox):
    value = perform(ask(input="purple elephants", instructions="Be brief."), context())
    shown = spans.only().to_json()
    for content in ("purple", "Be brief", value):
        assert content not in shown


def test_a_span_has_the_messages_where_the_configuration_asks_for_content(
    perform, spans, responses_sandbox, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__RESPONSES__OTEL_CONTENT", "True")
    value = perform(ask(input="purple elephants", instructions="Be brief."), context())
    found = spans.only().attributes
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "purple elephants"}]}
    ]
    assert json.loads(found["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    (message,) = json.loads(found["gen_ai.output.messages"])
    assert (message["role"], message["finish_reason"]) == ("assistant", "stop")
    assert message["parts"] == [{"type": "text", "content": value}]


def test_each_resend_is_an_event_with_its_cause_wait_and_time(perform, spans, responses_sandbox):
    responses_sandbox.script({"status": 429, "retry_after": 0.01}, {"status": 503, "retry_after": 0.01})
    ti = TaskInstance()
    perform(ask(), context(ti))
    span = spans.only()
    sends = ti.xcoms["usage"]["sends"]
    assert [send["cause"]["status"] for send in sends[:-1]] == [429, 503]
    assert resends(span) == [(send["cause"]["error"], send["cause"]["status"], send["wait"]) for send in sends[:-1]]
    assert span.attributes["responses.sends"] == 3
    times = [span.start_time, *(event.timestamp for event in span.events), span.end_time]
    assert times == sorted(times)
    # The second send failed after the wait for it.
    assert times[2] - times[1] >= sends[0]["wait"] * 1e9


def test_an_invalid_output_is_an_event_and_its_cost_is_in_that_of_the_request(perform, spans, responses_sandbox):
    responses_sandbox.script({"text": "neither"})
    ti = TaskInstance()
    perform(ask(output_type=Label), context(ti))
    found = [span for span in spans.ours if span.events]  # a worker validates it where the triggerer lacks the class
    (span,) = found or spans.ours
    assert ("OutputValidationError", None, 0.0) in resends(span)
    assert spans.ours[-1].attributes["gen_ai.output.type"] == "json"
    assert sum(entry.cost for entry in responses_sandbox.billed) == pytest.approx(ti.xcoms["usage"]["cost"])
    assert max(one.attributes["responses.cost"] for one in spans.ours) == pytest.approx(ti.xcoms["usage"]["cost"])


def test_a_response_that_was_not_accepted_is_an_event_with_both_models(perform, spans, responses_sandbox):
    responses_sandbox.script({"refusal": "No."}, {"text": "good"})
    ti = TaskInstance()
    perform(ask(escalate=[Escalation(model="openai/gpt-4o", when="refused")]), context(ti))
    span = spans.only()
    (event,) = span.events
    assert event.name == "responses.escalation"
    assert event.attributes["error.type"] == "RefusalError"
    assert event.attributes["gen_ai.response.model"] == MODEL
    assert event.attributes["responses.escalated_to"] == "openai/gpt-4o"
    assert (span.attributes["responses.sends"], span.attributes["gen_ai.response.model"]) == (2, "openai/gpt-4o")
    assert span.attributes["responses.cost"] == pytest.approx(ti.xcoms["usage"]["cost"])


def test_a_request_that_fails_has_the_class_of_its_error_and_the_status(perform, spans, responses_sandbox):
    responses_sandbox.script({"status": 400, "times": 5})
    with pytest.raises(Exception, match="400"):
        perform(ask(), context())
    span = spans.only()
    assert span.attributes["error.type"] == "BadRequestResponseError"
    assert span.attributes["http.response.status_code"] == 400
    assert span.status.status_code is StatusCode.ERROR
    assert "400" in span.status.description
    assert "responses.cost" not in span.attributes


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_request_that_max_cost_refuses_has_no_span(spans, responses_sandbox, deferrable):
    task = ask(max_cost=1e-9, request={"max_output_tokens": 10}, deferrable=deferrable)
    with pytest.raises(AirflowFailException, match="max_cost"):
        task.execute(context())
    assert spans.ours == []
    assert responses_sandbox.ledger == []


def test_a_cached_response_costs_nothing(perform, spans, responses_sandbox):
    for _ in range(2):
        perform(ask(), context())
    first, second = spans.ours
    assert (first.attributes["responses.cached"], second.attributes["responses.cached"]) == (False, True)
    assert first.attributes["responses.cost"] > 0
    assert second.attributes["responses.cost"] == 0


def test_a_request_is_a_child_of_the_current_span_of_a_worker(spans, responses_sandbox):
    with trace.get_tracer("test").start_as_current_span("worker.ask") as parent:
        ask().execute(context())
        assert trace.get_current_span() is parent
    assert spans.only().parent.span_id == parent.get_span_context().span_id


def test_an_exception_of_any_kind_ends_the_span(spans, responses_sandbox):
    tracing = our_spans.Tracing(tracer=our_spans.find_tracer())
    request = ResponsesRequest(model="m", input="hi")
    span = our_spans.start_request_span(tracing, request, base_url="https://x.ai/v1", is_openrouter=False)
    with pytest.raises(KeyboardInterrupt), span:
        raise KeyboardInterrupt
    assert spans.only().attributes["error.type"] == "KeyboardInterrupt"
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_span_that_is_not_sampled_records_nothing_and_the_task_succeeds(responses_sandbox, monkeypatch):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(sampler=ALWAYS_OFF))
    request = ResponsesRequest(model="m", input="hi")
    tracing = our_spans.Tracing(tracer=our_spans.find_tracer())
    with our_spans.start_request_span(tracing, request, base_url="https://x.ai/v1", is_openrouter=False) as span:
        assert not span.is_recorded
        assert trace.get_current_span().get_span_context().is_valid
    assert ask().execute(context())


@pytest.mark.parametrize(
    ("url", "is_openrouter", "expected"),
    [
        ("https://openrouter.ai/api/v1", True, ("openrouter.ai", 443, "openrouter")),
        ("https://api.openai.com/v1", False, ("api.openai.com", 443, "openai")),
        ("https://me.openai.azure.com:8443/v1", False, ("me.openai.azure.com", 8443, "azure.ai.openai")),
        ("https://api.x.ai/v1", False, ("api.x.ai", 443, "x_ai")),
        ("https://notx.ai/v1", False, ("notx.ai", 443, "openai")),
        ("http://[::1]/v1", False, ("::1", 80, "openai")),
    ],
)
def test_the_server_and_the_provider_come_from_the_address(url, is_openrouter, expected):
    found = request_attributes(ResponsesRequest(model="m", input="hi"), base_url=url, is_openrouter=is_openrouter)
    assert (found["server.address"], found["server.port"], found["gen_ai.provider.name"]) == expected


TEXT = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
REFUSAL = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"status": "completed", "output": [TEXT]}, "stop"),
        ({"status": "completed", "output": [CALL]}, "tool_call"),
        ({"status": "completed", "output": [REFUSAL]}, "refusal"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": {"reason": "new_reason"}}, "new_reason"),
        ({"status": "incomplete"}, "incomplete"),
        ({"status": "failed"}, "error"),
        ({}, None),
    ],
)
def test_the_finish_reason_is_one_of_the_conventions(raw, expected):
    assert finish_reason(Response(raw=raw)) == expected


def test_options_that_cannot_be_read_are_logged_once_and_ignored(spans, responses_sandbox, monkeypatch, caplog):
    from airflow_provider_responses.hooks import telemetry

    telemetry._warn.cache_clear()
    monkeypatch.setenv("AIRFLOW__RESPONSES__OTEL_CONTENT", "perhaps")
    monkeypatch.setenv("AIRFLOW__RESPONSES__OTEL_ROW_SAMPLE", "7")
    for _ in range(2):
        tracing = telemetry.tracing_of(SimpleNamespace(task_id="ask"))
        assert (tracing.content, tracing.row_sample) == (False, 0.0)
    messages = [record.getMessage() for record in caplog.records if record.name == telemetry.__name__]
    assert len(messages) == 2
    assert messages[0].startswith("[responses] otel_content cannot be read, and False is used: ")
    assert messages[1] == "[responses] otel_row_sample must be a number from 0 to 1, got 7.0: no row has a span"
