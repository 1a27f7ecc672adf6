"""Events of triggers: errors and responses, large, broken and of another version."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_responses.exceptions import TooManyRequestsResponseError, VersionMismatchError
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task import payloads
from airflow_provider_responses.task.outcome import Outcome
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import first_event, through_the_database
from tests.models.test_output import Nested
from tests.triggers.tasks import ask, deferred, outcome_of


class TestEvents:
    @pytest.mark.parametrize(
        "body", [{"id": "a\0b"}, {"id": "a\ud800b"}, {"model": "\0"}, {"usage": {"input_tokens": 10**30}}]
    )
    def test_fields_of_a_response_are_shown_only_if_they_can_be_stored(self, body):
        event = payloads.write_event(Outcome(response=Response(raw=body)), idempotency_key=None)
        shown = {name: value for name, value in event.items() if name != "outcome"}
        assert shown["response_id"] is shown["model"] is shown["usage"]["input_tokens"] is None
        assert payloads.read_event(through_the_database(event))[0].response.raw == body

    def test_the_repr_of_an_event_leaves_its_request_out(self):
        response = Response(raw={"id": "resp-1"})
        outcome = Outcome(response=response, unparsed=True)
        event = payloads.write_event(outcome, idempotency_key=None, fields={"input": "purple elephants"})
        assert payloads.read_fields(through_the_database(event)) == {"input": "purple elephants"}
        assert "purple" not in repr(event)

    @pytest.mark.parametrize(
        ("event", "problem"),
        [
            (None, "is None"),
            ("success", "is str"),
            (5, "is int"),
            ([], "is list"),
            ({}, "has version None, expected 3"),
            ({"outcome": "{}"}, "has version None, expected 3"),
            ({"version": 99, "outcome": "{}"}, "has version 99, expected 3"),
            ({"version": payloads.EVENT_VERSION}, "lacks 'outcome'"),
        ],
    )
    def test_an_event_of_another_version_is_left_to_retries(self, event, problem, responses_sandbox):
        with pytest.raises(VersionMismatchError) as caught:
            ask().execute_complete(context(), event)
        assert str(caught.value).startswith(
            "the triggerer runs another version of airflow-provider-responses than the workers (the "
            f"trigger's event {problem}). Install the same version"
        )
        assert caught.value.retryable
        assert caught.value.ambiguous

    @pytest.mark.parametrize("text", ["", "[]", 5])
    def test_an_event_whose_request_cannot_be_read_is_left_to_retries(self, text, responses_sandbox):
        with pytest.raises(VersionMismatchError, match="the trigger's event cannot be read: ") as caught:
            ask().execute_complete(context(), {"version": payloads.EVENT_VERSION, "outcome": None, "request": text})
        assert caught.value.retryable

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"response": 5}', '{"response": {"raw": 1}}'])
    def test_an_event_whose_outcome_cannot_be_read_is_left_to_retries(self, text, responses_sandbox):
        with pytest.raises(VersionMismatchError, match="the trigger's event cannot be read: ") as caught:
            ask().execute_complete(context(), {"version": payloads.EVENT_VERSION, "outcome": text})
        assert caught.value.retryable

    def test_a_response_too_large_for_an_event_is_fetched_at_no_cost(self, responses_sandbox, monkeypatch):
        monkeypatch.setattr(payloads, "MAX_EVENT_BYTES", 10)
        ti = TaskInstance()
        event = first_event(deferred(ask(), ti))
        assert event.payload["outcome"] is None
        assert ask().execute_complete(context(ti), through_the_database(event.payload))
        assert len(responses_sandbox.billed) == 1
        assert len({entry.body_sha256 for entry in responses_sandbox.ledger}) == 1
        assert ti.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.billed[0].cost)

    @pytest.mark.parametrize(
        ("arguments", "step"),
        [
            ({"cache": False}, {}),
            ({"cache_ttl": 60}, {}),
            ({"on_invalid_output": "return"}, {"incomplete": "max_output_tokens"}),
        ],
    )
    def test_a_response_that_is_not_cached_is_in_the_event_whatever_its_size(self, arguments, step, responses_sandbox):
        responses_sandbox.script({"text": "word " * 500_000, **step})
        ti = TaskInstance()
        event = first_event(deferred(ask(**arguments), ti))
        assert len(event.payload["outcome"]) > payloads.MAX_EVENT_BYTES
        value = ask(**arguments).execute_complete(context(ti), through_the_database(event.payload))
        assert value == outcome_of(event).value
        assert len(responses_sandbox.ledger) == 1

    def test_a_second_response_is_in_the_event_with_the_cost_of_the_first(self, responses_sandbox, monkeypatch):
        monkeypatch.setattr(payloads, "MAX_EVENT_BYTES", 10)
        responses_sandbox.script({"text": "nonsense"})
        ti = TaskInstance()
        event = first_event(deferred(ask(output_type=Nested), ti))
        assert ask(output_type=Nested).execute_complete(context(ti), through_the_database(event.payload))
        assert ti.xcoms["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))
        assert len(responses_sandbox.ledger) == len(responses_sandbox.billed) == 2

    def test_a_large_response_is_parsed_and_written_off_the_event_loop(self, responses_sandbox, monkeypatch):
        monkeypatch.setattr("airflow_provider_responses.client.async_client.LARGE", 3)
        monkeypatch.setattr("airflow_provider_responses.triggers.request_trigger.LARGE_TEXT", 3)
        in_threads = []
        monkeypatch.setattr(asyncio, "to_thread", _recording(asyncio.to_thread, in_threads))
        assert outcome_of(first_event(deferred(ask()))).response
        assert len(in_threads) == 2

    def test_an_error_keeps_its_class_and_its_fields(self, responses_sandbox):
        responses_sandbox.script({"status": 429, "retry_after": 77})
        error = outcome_of(first_event(deferred(ask()))).error
        assert isinstance(error, TooManyRequestsResponseError)
        assert (error.status_code, error.retry_after, error.retryable) == (429, 77, True)
        assert "429" in str(error)


def _recording(function, calls):
    async def call(*args, **kwargs):
        calls.append(args)
        return await function(*args, **kwargs)

    return call
