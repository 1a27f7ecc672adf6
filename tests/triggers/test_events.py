"""What a trigger tells a worker: errors and answers, large ones and broken ones."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_responses.exceptions import (
    ConfigurationError,
    TooManyRequestsResponseError,
)
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task import payloads
from airflow_provider_responses.task.outcome import Outcome
from tests.airflow_fakes import TaskInstance, context
from tests.models.test_output import Nested
from tests.triggers.tasks import ask, deferred, outcome_of
from tests.ways import first_event, through_the_database


class TestEvents:
    @pytest.mark.parametrize(
        "body", [{"id": "a\0b"}, {"id": "a\ud800b"}, {"model": "\0"}, {"usage": {"input_tokens": 10**30}}]
    )
    def test_what_a_server_says_is_shown_only_if_it_can_be_stored(self, body):
        event = payloads.write_event(Outcome(response=Response(raw=body)), idempotency_key=None)
        shown = {name: value for name, value in event.items() if name != "outcome"}
        assert shown["response_id"] is shown["model"] is shown["usage"]["input_tokens"] is None
        assert payloads.read_event(through_the_database(event))[0].response.raw == body

    def test_a_prompt_that_travels_is_not_shown(self):
        response = Response(raw={"id": "resp-1"})
        outcome = Outcome(response=response, unparsed=True)
        event = payloads.write_event(outcome, idempotency_key=None, fields={"input": "purple elephants"})
        assert payloads.read_fields(through_the_database(event)) == {"input": "purple elephants"}
        assert "purple" not in repr(event)

    @pytest.mark.parametrize("event", [None, "success", 5, [], {}, {"version": 99, "outcome": "{}"}, {"outcome": "{}"}])
    def test_of_another_shape_are_retried(self, event, responses_sandbox):
        with pytest.raises(ConfigurationError, match="the trigger's event has") as caught:
            ask().execute_complete(context(), event)
        assert caught.value.retryable

    @pytest.mark.parametrize("text", ["", "[]", 5])
    def test_whose_request_cannot_be_read_are_retried(self, text, responses_sandbox):
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            ask().execute_complete(context(), {"version": payloads.VERSION, "outcome": None, "request": text})
        assert caught.value.retryable

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"response": 5}', '{"response": {"raw": 1}}'])
    def test_that_cannot_be_read_are_retried(self, text, responses_sandbox):
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            ask().execute_complete(context(), {"version": payloads.VERSION, "outcome": text})
        assert caught.value.retryable

    def test_an_answer_too_large_to_travel_is_fetched_again_for_nothing(self, responses_sandbox, monkeypatch):
        monkeypatch.setattr(payloads, "LARGEST_ANSWER", 10)
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
    def test_an_answer_that_is_not_kept_travels_however_large(self, arguments, step, responses_sandbox):
        responses_sandbox.script({"text": "word " * 500_000, **step})
        ti = TaskInstance()
        event = first_event(deferred(ask(**arguments), ti))
        assert len(event.payload["outcome"]) > payloads.LARGEST_ANSWER
        value = ask(**arguments).execute_complete(context(ti), through_the_database(event.payload))
        assert value == outcome_of(event).value
        assert len(responses_sandbox.ledger) == 1

    def test_an_answer_that_was_asked_for_twice_travels_with_what_the_first_cost(self, responses_sandbox, monkeypatch):
        monkeypatch.setattr(payloads, "LARGEST_ANSWER", 10)
        responses_sandbox.script({"text": "nonsense"})
        ti = TaskInstance()
        event = first_event(deferred(ask(output_type=Nested), ti))
        assert ask(output_type=Nested).execute_complete(context(ti), through_the_database(event.payload))
        assert ti.xcoms["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))
        assert len(responses_sandbox.ledger) == len(responses_sandbox.billed) == 2

    def test_a_large_answer_is_parsed_and_packed_off_the_loop(self, responses_sandbox, monkeypatch):
        monkeypatch.setattr("airflow_provider_responses.client.async_client.LARGE", 3)
        monkeypatch.setattr("airflow_provider_responses.triggers.responses.LARGE", 3)
        packed = []
        monkeypatch.setattr(asyncio, "to_thread", _recording(asyncio.to_thread, packed))
        assert outcome_of(first_event(deferred(ask()))).response
        assert len(packed) == 2

    def test_an_error_arrives_with_all_that_it_knew(self, responses_sandbox):
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
