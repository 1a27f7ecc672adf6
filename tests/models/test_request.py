"""A request is checked before it is sent, and the same request is always the same bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import ResponsesRequest
from airflow_provider_responses.models.fields import NEWER, REQUEST_FIELDS, Dialect

BASE = {"model": "maker/small-1", "input": "Hi"}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=5)
unknown_kinds = json_objects.map(lambda item: {**item, "type": "an_unknown_kind"})
requests = st.fixed_dictionaries(
    {},
    optional={
        "model": st.text(min_size=1, max_size=20) | st.none(),
        "models": st.lists(st.text(min_size=1, max_size=9), max_size=3),
        "input": st.text(min_size=1).filter(str.strip) | st.lists(unknown_kinds, min_size=1, max_size=3),
        "text": json_objects,
        "tools": st.lists(unknown_kinds, max_size=3),
        "tool_choice": st.sampled_from(["auto", "none", "required"]) | unknown_kinds,
        "temperature": st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.none(),
        "max_output_tokens": st.integers() | st.none(),
        "store": st.booleans() | st.none(),
        "metadata": st.dictionaries(st.text("abc_-é", max_size=9), st.text(max_size=20), max_size=16),
        "trace": json_objects,
        "extra_body": st.dictionaries(st.text("xyz", min_size=1), json_values, max_size=3),
    },
)


def body(**fields: Any) -> str:
    return ResponsesRequest.parse(fields).to_bytes().decode()


def refusal(data: Any) -> RequestValidationError:
    with pytest.raises(RequestValidationError) as caught:
        ResponsesRequest.parse(data).to_bytes()
    return caught.value


@given(requests)
def test_the_bytes_are_the_same_after_a_round_trip(data: dict[str, Any]) -> None:
    first = ResponsesRequest.parse(data).to_bytes()
    sent = json.loads(first)
    extra = {name: sent.pop(name) for name in list(sent) if name not in REQUEST_FIELDS}
    assert ResponsesRequest.parse(sent | ({"extra_body": extra} if extra else {})).to_bytes() == first
    assert json.loads(first) == {k: v for k, v in data.items() if k != "extra_body"} | data.get("extra_body", {})


@given(st.dictionaries(st.text(), json_values), st.randoms(use_true_random=False))
def test_order_of_given_fields_does_not_matter(trace: dict[str, Any], random: Any) -> None:
    fields = list({**BASE, "trace": trace, "temperature": 1, "metadata": {"a": "b"}, "user": "u"}.items())
    expected = ResponsesRequest.parse(dict(fields)).to_bytes()
    random.shuffle(fields)
    assert ResponsesRequest.parse(dict(fields)).to_bytes() == expected


def test_top_level_fields_come_in_the_order_of_the_model() -> None:
    sent = json.loads(body(user="u", temperature=0, input="Hi", model="maker/small-1"))
    assert list(sent) == [name for name in REQUEST_FIELDS if name in sent]


def test_keys_of_the_users_own_dicts_are_never_reordered() -> None:
    schema = {"zebra": 1, "apple": {"y": 1, "x": 2}, "mango": 3}
    text = {"format": {"strict": True, "schema": schema, "name": "fruit", "type": "json_schema"}, "verbosity": "low"}
    assert body(**BASE, text=text).endswith(
        '"text":{"format":{"strict":true,"schema":{"zebra":1,"apple":{"y":1,"x":2},"mango":3},'
        '"name":"fruit","type":"json_schema"},"verbosity":"low"}}'
    )
    assert body(**BASE, metadata={"b": "1", "a": "2"}).endswith('"metadata":{"b":"1","a":"2"}}')


def test_unset_is_left_out_and_none_is_sent_as_null() -> None:
    assert body(**BASE) == '{"model":"maker/small-1","input":"Hi"}'
    assert body(**BASE, temperature=None) == '{"model":"maker/small-1","input":"Hi","temperature":null}'


def test_whole_numbers_and_floats_stay_what_they_are() -> None:
    assert body(temperature=1, top_p=1.0, image_config={"a": 1, "b": 1.0}) == (
        '{"temperature":1,"top_p":1.0,"image_config":{"a":1,"b":1.0}}'
    )


def test_text_is_utf8_and_not_escaped() -> None:
    assert ResponsesRequest(input="Grüße, 世界 🙂").to_bytes() == '{"input":"Grüße, 世界 🙂"}'.encode()


def test_numeric_text_is_read_as_a_number() -> None:
    assert body(temperature="0.5", max_output_tokens="100", top_k="3") == (
        '{"max_output_tokens":100,"temperature":0.5,"top_k":3}'
    )


@pytest.mark.parametrize(("text", "value"), [("true", "true"), ("False", "false"), ("TRUE", "true")])
def test_boolean_text_is_read_as_a_boolean(text: str, value: str) -> None:
    assert body(stream=text) == f'{{"stream":{value}}}'


def test_extra_body_is_sent_as_it_is_after_all_others() -> None:
    assert body(extra_body={"new": {"b": 1, "a": None}}, input="Hi") == '{"input":"Hi","new":{"b":1,"a":null}}'


@pytest.mark.parametrize(
    ("fields", "extra", "sent"),
    [
        ({}, {"service_tier": "unknown"}, {"service_tier": "unknown"}),
        ({"temperature": 0}, {"temperature": "hot"}, {"temperature": "hot"}),
        ({"reasoning": {"effort": "low"}}, {"reasoning": {"budget": 5}}, {"reasoning": {"effort": "low", "budget": 5}}),
        (
            {"provider": {"sort": {"by": "price", "partition": "none"}, "zdr": True}},
            {"provider": {"sort": {"by": "luck"}, "new": [1]}},
            {"provider": {"sort": {"by": "luck", "partition": "none"}, "zdr": True, "new": [1]}},
        ),
        (
            {"tools": [{"type": "web_search", "max_uses": 1}]},
            {"tools": [{"type": "web_search", "engine": "new"}]},
            {"tools": [{"type": "web_search", "engine": "new"}]},
        ),
        ({"metadata": {"a": "1"}}, {"metadata": {"b": 2}}, {"metadata": {"a": "1", "b": 2}}),
        ({"text": {"verbosity": "low"}}, {"text": None}, {"text": None}),
        ({}, {"extra_body": {"x": 1}, "conversation": "c", "route": "fallback"}, None),
    ],
)
def test_extra_body_sets_any_field_or_nested_value(fields: Any, extra: Any, sent: Any) -> None:
    request = ResponsesRequest.parse({**BASE, **fields, "extra_body": extra})
    assert request.to_dict() == {**BASE, **(extra if sent is None else sent)}
    assert request.with_merged_extra_body().to_bytes() == request.to_bytes()


@given(requests, st.dictionaries(st.sampled_from(REQUEST_FIELDS) | st.text("xyz", min_size=1), json_values, max_size=4))
def test_merging_extra_body_keeps_the_bytes_and_sets_the_fields(data: dict[str, Any], extra: Any) -> None:
    request = ResponsesRequest.parse({**data, "extra_body": extra})
    merged = request.with_merged_extra_body()
    assert merged.to_bytes() == request.to_bytes()
    assert merged.with_merged_extra_body().to_bytes() == request.to_bytes()
    sent = json.loads(request.to_bytes())
    for name in merged.model_fields_set - {"extra_body"} - merged.extra_body.keys():
        assert getattr(merged, name) == sent[name]


def test_the_same_request_has_the_same_bytes_however_it_is_built() -> None:
    plain = body(**BASE, temperature=0, user="u", reasoning={"effort": "low"})
    assert body(extra_body={"reasoning": {"effort": "low"}, "user": "u", "temperature": 0}, **BASE) == plain
    assert body(user="u", reasoning={}, extra_body={"temperature": 0, "reasoning": {"effort": "low"}}, **BASE) == plain


def test_merging_extra_body_does_not_change_the_given_dicts() -> None:
    reasoning, extra = {"effort": "low"}, {"reasoning": {"new": 1}}
    ResponsesRequest.parse({"reasoning": reasoning, "extra_body": extra}).with_merged_extra_body().to_bytes()
    assert (reasoning, extra) == ({"effort": "low"}, {"reasoning": {"new": 1}})


class Choice(str, Enum):  # noqa: UP042  as the code of users has it
    MODEL = "maker/small-1"
    AUTO = "auto"
    LOW = "low"
    SEARCH = "web_search"
    USER = "user"
    TEXT = "text"


@pytest.mark.parametrize("dialect", ["openrouter", "open"])
def test_members_of_a_text_enum_are_sent_as_their_values(dialect: Dialect) -> None:
    fields = {
        "model": Choice.MODEL,
        "models": [Choice.MODEL],
        "input": [{"role": Choice.USER, "content": Choice.LOW}],
        "text": {"verbosity": Choice.LOW},
        "reasoning": {"effort": Choice.LOW},
        "tools": [{"type": Choice.SEARCH, "search_context_size": Choice.LOW}],
        "truncation": Choice.AUTO,
        "modalities": [Choice.TEXT],
        "metadata": {Choice.LOW: Choice.AUTO},
        "service_tier": Choice.AUTO,
        "trace": {"x": {Choice.LOW: [Choice.AUTO]}},
        "extra_body": {"new": Choice.LOW},
    }
    sent = json.loads(ResponsesRequest.parse(fields, dialect=dialect).to_bytes())
    assert sent == {
        "model": "maker/small-1",
        "models": ["maker/small-1"],
        "input": [{"role": "user", "content": "low"}],
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "low"},
        "tools": [{"type": "web_search", "search_context_size": "low"}],
        "truncation": "auto",
        "modalities": ["text"],
        "metadata": {"low": "auto"},
        "service_tier": "auto",
        "trace": {"x": {"low": ["auto"]}},
        "new": "low",
    }


def test_a_wrong_member_of_an_enum_is_named_by_its_value() -> None:
    assert ", got 'web_search'" in refusal({"truncation": Choice.SEARCH}).message


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("temprature", "temperature"),
        ("inptu", "input"),
        ("modle", "model"),
        ("tool", "tools"),
        ("instruction", "instructions"),
        ("maxoutput_tokens", "max_output_tokens"),
        ("max_tokens", None),
        ("messages", None),
        ("seed", None),
        ("n", None),
        ("min_p", None),
        ("top_a", None),
        ("stop_sequences", None),
        ("reasoning_effort", None),
        ("response_format", None),
        ("prompt_cache_ttl", None),
        ("route", None),
    ],
)
def test_only_near_misses_are_suggested_and_extra_body_is_always_named(name: str, close: str | None) -> None:
    message = refusal({**BASE, name: 1}).message
    assert ("did you mean" in message) == (close is not None)
    assert close is None or f"did you mean {close!r}?)" in message
    assert "into `extra_body`" in message


@pytest.mark.parametrize(
    "fields", [{"service_tier": "turbo"}, {"reasoning": {"effort": "huge"}}, {"text": {"format": {"type": "yaml"}}}]
)
def test_an_unknown_value_is_refused_with_advice_to_use_extra_body(fields: dict[str, Any]) -> None:
    assert refusal(fields).message.endswith(NEWER)
    assert json.loads(body(extra_body=fields)) == fields


def test_a_wrong_type_is_refused_without_that_advice() -> None:
    assert "extra_body" not in refusal({"temperature": "warm"}).message


def test_unknown_kinds_inside_a_request_are_accepted() -> None:
    unknown = [{"type": "an_unknown_kind", "x": 1}]
    sent = json.loads(body(input=unknown, tools=unknown, plugins=[{"id": "unknown"}], tool_choice={"type": "t"}))
    assert (sent["input"], sent["tools"], sent["plugins"]) == (unknown, unknown, [{"id": "unknown"}])


def test_a_request_that_is_a_model_is_used_as_it_is() -> None:
    request = ResponsesRequest(model="maker/small-1", input="Hi")
    assert ResponsesRequest.parse(request) is request


def test_replace_returns_a_checked_copy_and_leaves_other_fields_unset() -> None:
    request = ResponsesRequest.parse({**BASE, "extra_body": {"new": 1}})
    assert request.replace(stream=True).to_dict() == {**BASE, "stream": True, "new": 1}
    assert request.to_dict() == {**BASE, "new": 1}
    with pytest.raises(RequestValidationError, match="truncation"):
        request.replace(truncation="maybe")


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
        ({"entirely_new": 1}, "entirely_new", "extra_body"),
        ({"truncation": "maybe"}, "truncation", "'auto' or 'disabled'"),
        ({"service_tier": "slow"}, "service_tier", "'flex'"),
        ({"include": ["nothing"]}, "include.0", "reasoning.encrypted_content"),
        ({"modalities": ["smell"]}, "modalities.0", "'text' or 'image'"),
        ({"route": "fallback"}, "route", "extra_body"),
        ({"model": ""}, "model", "at least 1 character"),
        ({"models": ["a", ""]}, "models.1", "at least 1 character"),
        ({"input": ""}, "input", "must not be empty"),
        ({"input": " \n\t"}, "input", "must not be empty"),
        ({"input": []}, "input", "must not be empty"),
        ({"input": 5}, "input", "string"),
        ({"input": ["text"]}, "input.0", "dictionary"),
        ({"temperature": True}, "temperature", "number"),
        ({"max_output_tokens": False}, "max_output_tokens", "number"),
        ({"temperature": "warm"}, "temperature", "number"),
        ({"temperature": float("nan")}, "temperature", "finite"),
        ({"temperature": "nan"}, "temperature", "number"),
        ({"top_p": float("inf")}, "top_p", "finite"),
        ({"top_k": 1.5}, "top_k", "number"),
        ({"stream": 1}, "stream", "boolean"),
        ({"stream": "yes"}, "stream", "boolean"),
        ({"user": "u" * 257}, "user", "256"),
        ({"session_id": "s" * 257}, "session_id", "256"),
        ({"metadata": {f"k{n}": "" for n in range(17)}}, "metadata", "must have at most 16 pairs, got 17: drop 'k16'"),
        ({"metadata": {"a[0]": "x"}}, "metadata", "'a[0]'"),
        ({"metadata": {"a]": "x"}}, "metadata", "without brackets"),
        ({"metadata": {"k" * 65: "x"}}, "metadata", "at most 64"),
        (
            {"metadata": {"note": "x" * 513}},
            "metadata",
            "have values of at most 512 characters, got 513 in 'note'",
        ),
        ({"metadata": {"count": 5}}, "metadata.count", "string"),
        ({"metadata": {"int": 5}}, "metadata.int", "string"),
        ({"extra_body": ["model"]}, "extra_body", "dict"),
        ({"conversation": "c"}, "conversation", 'dialect="open"'),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
        ({"tools": {"type": "function"}}, "tools", "list"),
        ({1: 2}, "1", "string"),
    ],
)
def test_an_invalid_value_is_refused_with_its_field_and_the_allowed_values(
    fields: dict[Any, Any], path: str, expected: str
) -> None:
    error = refusal({**BASE, **fields})
    assert path in error.fields
    assert path in error.message
    assert expected in error.message


def test_every_wrong_field_is_named_at_once() -> None:
    error = refusal({"temprature": 1, "truncation": "maybe", "input": ""})
    assert set(error.fields) == {"temprature", "truncation", "input"}
    assert not error.retryable


def test_metadata_within_its_limits_is_accepted() -> None:
    pairs = {f"{n:064}": "x" * 512 for n in range(16)}
    assert json.loads(body(metadata=pairs)) == {"metadata": pairs}


@pytest.mark.parametrize("data", [None, "text", 5, [("model", "m")]])
def test_a_value_that_is_not_a_request_is_refused(data: Any) -> None:
    assert "ResponsesRequest" in refusal(data).message


class Opaque:
    def __repr__(self) -> str:  # part of the ids of tests, which must be the same in every process
        return "Opaque()"


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        ([{"type": "new", "a": [1, Opaque()]}], "input.0.a.1", "Opaque"),
        ([{"type": "new", "when": datetime(2026, 1, 1, tzinfo=UTC)}], "input.0.when", "datetime"),
        ([{"type": "new", "a": {"b": {1, 2}}}], "input.0.a.b", "set"),
        ([{"type": "new", "a": b"bytes"}], "input.0.a", "bytes"),
        ([{"type": "new", "a": {"deep": [float("nan")]}}], "input.0.a.deep.0", "nan"),
        ([{"type": "new", "a": float("-inf")}], "input.0.a", "inf"),
        ([{"type": "new", "a": "half \ud800 a pair"}], "input.0.a", "surrogate"),
        ("half \ud800 a pair", "input", "surrogate"),
        ([{"type": "new", "a": {(1, 2): "pair"}}], "input.0.a", "key"),
        ([{"type": "new", "a": {"\ud800": "key"}}], "input.0.a", "surrogate"),
    ],
)
def test_a_value_without_a_json_form_is_refused_with_its_path(value: Any, path: str, expected: str) -> None:
    error = refusal({"model": "m", "input": value})
    assert error.fields == (path,)
    assert path in error.message
    assert expected in error.message


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {"type": "new"}
    loop["self"] = loop
    assert "contains itself" in refusal({"model": "m", "input": [loop]}).message


def test_any_mapping_inside_is_sent_or_refused_with_its_path() -> None:
    fields = {"model": "m", "input": [{"type": "new", "a": MappingProxyType({"x": 1})}]}
    try:
        sent = ResponsesRequest.parse(fields).to_bytes()
    except RequestValidationError as error:
        assert error.fields == ("input.0.a",)  # noqa: PT017  both outcomes are right
    else:
        assert b'{"x":1}' in sent


PROMPT = "the secret plan"


@pytest.mark.parametrize(
    "fields",
    [
        {"input": {"text": PROMPT}},
        {"input": [PROMPT]},
        {"instructions": [PROMPT]},
        {"prompt": PROMPT},
        {"metadata": {"note": [PROMPT]}},
        {"metadata": PROMPT},
        {"user": [PROMPT]},
        {"input": [{"role": "user", "content": PROMPT, "x": Opaque()}]},
        {"input": f"{PROMPT} \ud800"},
        {"input": [{"content": f"{PROMPT} \ud800"}]},
        {"inputs": PROMPT},
        {"instruction": PROMPT},
        {"extra_body": {"input": f"{PROMPT} \ud800"}},
        {"extra_body": PROMPT},
        {"text": PROMPT},
    ],
    ids=str,
)
def test_prompts_are_never_quoted(fields: dict[str, Any]) -> None:
    error = refusal({"model": "m", **fields})
    assert PROMPT not in str(error)
    assert PROMPT not in repr(error)


def test_prompts_are_not_quoted_by_the_model_itself() -> None:
    with pytest.raises((ValidationError, RequestValidationError)) as caught:
        ResponsesRequest(input=[PROMPT])  # type: ignore[list-item]
    assert PROMPT not in str(caught.value)
