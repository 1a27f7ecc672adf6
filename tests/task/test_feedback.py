"""The request that is sent after an invalid response, with the reason added to its input."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import OutputValidationError
from airflow_provider_responses.models import Response, ResponsesRequest
from airflow_provider_responses.models.output import parse_output
from airflow_provider_responses.models.output_problems import MAX_FEEDBACK
from airflow_provider_responses.task.attempt import Exchange
from airflow_provider_responses.task.feedback import with_feedback
from airflow_provider_responses.task.request import TaskRequest

KEY = "0" * 32


class Label(BaseModel):
    topic: Literal["good", "bad"]
    stars: int


class Judged(BaseModel):
    address: str

    @field_validator("address")
    @classmethod
    def reachable(cls, value: str) -> str:
        raise ValueError(f"cannot reach postgres://me:secret-word@db/x for {value}")


class Broken(BaseModel):
    address: str

    @field_validator("address")
    @classmethod
    def broken(cls, value: str) -> str:
        raise RuntimeError(f"password=secret-word {value}")


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


def response(text: str, **given: Any) -> Response:
    return Response(
        raw={
            "id": "resp_1",
            "status": "completed",
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}],
        },
        **given,
    )


def feedback_for(kind: Any, text: str) -> str | None:
    with pytest.raises(OutputValidationError) as caught:
        parse_output(kind, text)
    return caught.value.feedback


def test_the_feedback_names_the_field_what_was_given_and_what_is_expected() -> None:
    assert feedback_for(Label, '{"topic": "great", "stars": "many"}') == (
        "Your last response was rejected, because it does not match the required JSON schema:\n"
        "- topic: Input should be 'good' or 'bad', got 'great'\n"
        "- stars: Input should be a valid integer, unable to parse string as an integer, got 'many'\n"
        "Respond again, completely, with all of this corrected. Respond with the JSON alone."
    )


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        (Label, '{"topic": "good"}', "- stars: Field required\n"),
        (Label, "Good!", "- the text: Invalid JSON: expected value at line 1 column 1, got 'Good!'\n"),
        (list[Label], '{"response": [{"topic": "good", "stars": null}]}', "- response.0.stars: Input should be a"),
        (
            {"type": "object", "properties": {"a": {"type": "integer"}}},
            '{"a": "x"}',
            "- a: must be of type \"integer\", got 'x'",
        ),
        (
            {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a", "b"]},
            '{"a": "z"}',
            "- the text: must have 'b', got {'a': 'z'}\n- a: must be one of [\"x\", \"y\"], got 'z'\n",
        ),
        (
            {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
            '{"c": 1}',
            "- the text: must have no properties but 'a', got {'c': 1}\n",
        ),
        (
            {"type": "array", "items": {"type": "string", "format": "date"}},
            '["2026-02-30"]',
            '- response.0: must have the format "date"',
        ),
        (
            {
                "type": "array",
                "items": {
                    "anyOf": [
                        {"type": "null"},
                        {"type": "object", "properties": {"a": {"maximum": 3, "type": "number"}}},
                    ]
                },
            },
            '[{"a": 4}]',
            "- response.0.a: must be at most 3, got 4\n",
        ),
        ({"type": "array"}, '{"response": [], "x": 1}', "must be an object with the field 'response', and no other"),
        (
            {"type": "object", "not": {"required": ["a"]}},
            '{"a": 1}',
            '- the text: must satisfy not: {"required": ["a"]}, got',
        ),
    ],
    ids=range(10),
)
def test_each_kind_of_problem_is_described(kind: Any, text: str, line: str) -> None:
    assert line in str(feedback_for(kind, text))


def test_the_message_for_the_user_does_not_quote_the_response() -> None:
    for kind in (Label, {"type": "object", "properties": {"topic": {"enum": ["good"]}}, "required": ["topic"]}):
        with pytest.raises(OutputValidationError) as caught:
            parse_output(kind, '{"topic": "zanzibar", "stars": 1}')
        assert "zanzibar" not in str(caught.value)
        assert "zanzibar" in str(caught.value.feedback)
        assert "zanzibar" not in repr(caught.value)


def test_credentials_in_a_message_of_a_validator_are_redacted() -> None:
    feedback = str(feedback_for(Judged, '{"address": "here"}'))
    assert "cannot reach postgres://***@db/x for here" in feedback
    assert "secret-word" not in feedback


def test_an_exception_that_is_none_of_a_validator_adds_nothing() -> None:
    # Its text may hold anything, and no other output would help.
    assert feedback_for(Broken, '{"address": "here"}') is None


@pytest.mark.parametrize("text", ['{"topic": "good", "stars": ', '{"topic": "go', "", "```json\n{"])
def test_json_that_is_open_at_its_end_adds_nothing(text: str) -> None:
    assert feedback_for(Label, text) is None
    assert feedback_for({"type": "object", "properties": {"a": {"type": "null"}}}, text) is None


@given(
    st.dictionaries(st.text(max_size=400), st.text(max_size=2000), min_size=20, max_size=40)
    | st.lists(st.text(), max_size=99)
)
def test_the_feedback_has_a_bounded_length(value: Any) -> None:
    closed = {"type": "object", "patternProperties": {"": {"type": "integer"}}}
    feedback = feedback_for(closed, json.dumps(value))
    assert feedback is not None
    assert len(feedback) <= MAX_FEEDBACK
    assert feedback.endswith("Respond with the JSON alone.")
    assert feedback.count("\n- ") <= 11


FIRST = "Your last response"


def exchange(**given: Any) -> tuple[Exchange, ResponsesRequest]:
    request = TaskRequest(
        fields={"model": "vendor/m", "input": "Hi"},
        **({"output_type": Label, "output_retries": 5, "idempotency_key": KEY, "stream": False} | given),
    )
    config = ClientConfig(api_key="k", base_url="http://127.0.0.1:1", dialect="openrouter")
    prepared, options = request.prepare(config, RequestOptions())
    return Exchange(request, options), prepared


INVALID = '{"topic": "great", "stars": 1}'


def clears_cache(sends: Exchange) -> bool:
    return "X-OpenRouter-Cache-Clear" in (sends.options(1.0).headers or {})


class TestExchange:
    def test_the_first_request_is_sent_as_it_is(self) -> None:
        sends, prepared = exchange()
        assert sends.next_request(prepared) is prepared
        assert not clears_cache(sends)

    def test_each_reason_is_added_and_each_request_has_its_own_key(self) -> None:
        sends, prepared = exchange()
        assert sends.receive(response(INVALID)) is None
        second = sends.next_request(prepared)
        assert sends.receive(response('{"topic": "good"}')) is None
        third = sends.next_request(prepared)
        assert second.input == [message("Hi"), message(str(feedback_for(Label, INVALID)))]
        assert third.input[:2] == second.input
        assert "stars: Field required" in third.input[2]["content"]
        keys = [it.metadata["airflow"] for it in (prepared, second, third)]
        assert keys == [KEY, f"{KEY}-1", f"{KEY}-2"]
        assert not clears_cache(sends)  # a cached response is one to the same reasons

    def test_the_same_responses_lead_to_the_same_bytes(self) -> None:
        chains = []
        for _ in range(2):
            sends, prepared = exchange()
            sends.receive(response(INVALID))
            sends.receive(response("no JSON"))
            chains.append(sends.next_request(prepared).to_bytes())
        assert chains[0] == chains[1]

    @pytest.mark.parametrize(
        ("given", "invalid"),
        [
            ({"output_feedback": False}, response(INVALID)),
            ({}, response(INVALID, maybe_truncated=True)),
            ({}, response('{"topic": "good", "stars": ')),
        ],
        ids=["off", "as long as max_output_tokens", "open at its end"],
    )
    def test_the_same_request_is_sent_again_with_a_fresh_response(self, given: Any, invalid: Response) -> None:
        sends, prepared = exchange(**given)
        assert sends.receive(invalid) is None
        assert sends.next_request(prepared) is prepared
        assert clears_cache(sends)

    def test_after_a_truncated_response_the_earlier_reasons_are_sent_again(self) -> None:
        sends, prepared = exchange()
        sends.receive(response(INVALID))
        second = sends.next_request(prepared)
        sends.receive(response("{"))
        assert sends.next_request(prepared).to_bytes() == second.to_bytes()
        assert clears_cache(sends)
        sends.receive(response(INVALID))
        assert not clears_cache(sends)

    def test_reasons_count_within_output_retries(self) -> None:
        sends, _ = exchange(output_retries=1)
        assert sends.receive(response(INVALID)) is None
        outcome = sends.receive(response(INVALID))
        assert outcome is not None
        assert isinstance(outcome.error, OutputValidationError)


class TestInput:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"input": "Hi"}, [message("Hi"), message("Why")]),
            ({"input": [message("Hi")]}, [message("Hi"), message("Why")]),
            ({"prompt": {"id": "p"}}, [message("Why")]),
        ],
        ids=["text", "list", "none"],
    )
    def test_the_reason_is_the_last_message(self, fields: Any, expected: Any) -> None:
        made = with_feedback(ResponsesRequest(model="m", **fields), ["Why"])
        assert json.loads(made.to_bytes())["input"] == expected
        assert json.loads(made.to_bytes())["model"] == "m"
        assert "metadata" not in json.loads(made.to_bytes())

    def test_an_input_in_extra_body_counts(self) -> None:
        request = ResponsesRequest(input="unused", extra_body={"input": "Hi", "x": 1})
        body = json.loads(with_feedback(request, ["Why"]).to_bytes())
        assert (body["input"], body["x"]) == ([message("Hi"), message("Why")], 1)

    def test_an_input_of_another_form_is_left_unchanged(self) -> None:
        request = ResponsesRequest(extra_body={"input": {"own": "form"}})
        assert with_feedback(request, ["Why"]) is request

    def test_the_first_request_is_not_changed(self) -> None:
        request = ResponsesRequest(input=[message("Hi")], metadata={"airflow": KEY})
        before = request.to_bytes()
        with_feedback(request, ["Why"])
        assert request.to_bytes() == before
