"""The common part of requests is validated once: bytes and errors are the same as for each row by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_responses.client import AsyncResponsesClient
from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.enrich.json_values import to_json
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.row_requests import MAX_SHAPES, RECENT, RowRequests
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import Label, connect, job

SERVER = SimpleNamespace(base_url="http://127.0.0.1:1/api/v1")
RUN = TaskRequest(fields={}, output_type=Label, stream=False)


def requests_of(
    folder: Path, *, dialect: str = "openrouter", **given_: Any
) -> tuple[RowRequests, AsyncResponsesClient]:
    config = replace(connect(SERVER.base_url), dialect=dialect)
    what = job(SERVER, folder, [], config=config, **{"request": RUN, **given_})
    return RowRequests(what, OutputStore(folder, Writer(owner="task"), lambda: 0.0)), AsyncResponsesClient(config)


def by_itself(requests: RowRequests, client: AsyncResponsesClient, asked: dict[str, Any]) -> tuple[Any, ...]:
    """Return the indexed request of a row alone, and its call."""
    fields = to_json(dict(asked), "request")
    body = requests.prepare(fields)[0].to_bytes()
    request, options = requests.prepare_send(fields)
    call = client.prepare(request, options)
    entry = blake2b(body, digest_size=16).digest(), len(body), fields
    return (*entry, call.body, call.headers, call.config, options)


def together(requests: RowRequests, client: AsyncResponsesClient, asked: dict[str, Any]) -> tuple[Any, ...]:
    entry = requests.index(asked)
    call, options = requests.call(client, entry.fields)
    fields = json.loads(entry.fields)  # the order of the fields does not matter
    return (entry.fingerprint, entry.size, fields, call.body, call.headers, call.config, options)


def outcome(of: Callable[..., Any], *given_: Any) -> Any:
    try:
        return of(*given_)
    except RequestValidationError as error:
        return str(error), error.fields


texts = st.one_of(
    st.text(),
    st.text(st.characters(codec=None, exclude_categories=())),  # halves of surrogate pairs
    st.sampled_from(["", " ", '"', "\\", '","model":"x', "\x00", "\u2028", "x" * 3000, "[1]", "null"]),
)
inputs = st.one_of(texts, texts, texts, st.just([{"type": "message", "role": "user", "content": "x"}]), st.none())
others = st.fixed_dictionaries(
    {"model": st.sampled_from(["a/b", "a/c"])},
    optional={
        "temperature": st.sampled_from([0, 0.0, 1, 1.0, True, -0.0]),
        "metadata": st.sampled_from([{"a": "1"}, {"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "\ud800"}]),
        "instructions": st.sampled_from(["x", "Short.", ""]),
        "reasoning": st.sampled_from([{"effort": "low"}, {"effort": "high"}]),
        "extra_body": st.sampled_from([{"seed": 1}, {"seed": 1.0}, {"input": "another"}, {"model": "z/z"}]),
    },
)
rows = st.builds(
    lambda text, more, first: {"input": text, **more} if first else {**more, "input": text},
    inputs,
    others,
    st.booleans(),
)
tables = st.lists(rows, max_size=12) | st.builds(
    lambda more, texts: [{"input": text, **more} for text in texts], others, st.lists(inputs, max_size=12)
)


@pytest.mark.parametrize("dialect", ["openrouter", "open"])
@pytest.mark.parametrize("run", [RUN, replace(RUN, output_type=None, cache=False)], ids=["typed", "text"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(table=tables)
def test_a_shape_does_not_change_the_request_of_a_row(table, run, dialect, tmp_path):
    shared, client = requests_of(tmp_path, dialect=dialect, request=run)
    alone, _ = requests_of(tmp_path, dialect=dialect, request=run)
    for asked in table:
        assert outcome(together, shared, client, asked) == outcome(by_itself, alone, client, asked)


def count_validations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    prepare = TaskRequest.prepare
    monkeypatch.setattr(TaskRequest, "prepare", lambda run, *more: (made.append(run), prepare(run, *more))[1])
    return made


def test_requests_that_differ_only_in_their_input_are_validated_once(tmp_path, monkeypatch):
    requests, client = requests_of(tmp_path)
    made = count_validations(monkeypatch)
    for number in range(1000):
        entry = requests.index({"input": f"row {number}", "model": "a/b", "reasoning": {"effort": "low"}})
        assert json.loads(requests.call(client, entry.fields)[0].body or b"")["input"] == f"row {number}"
    assert len(made) <= 5


def test_requests_to_two_models_are_validated_twice(tmp_path, monkeypatch):
    requests, _ = requests_of(tmp_path)
    made = count_validations(monkeypatch)
    for number in range(1000):
        requests.index({"input": f"row {number}", "model": f"a/{number % 2}"})
    assert len(made) <= 8


def test_requests_with_nothing_in_common_do_not_accumulate_shapes(tmp_path, monkeypatch):
    requests, _ = requests_of(tmp_path)
    made = count_validations(monkeypatch)
    for number in range(RECENT * 10):
        requests.index({"input": f"row {number}", "model": "a/b", "metadata": {"row": str(number)}})
    assert len(made) == RECENT * 10


def test_the_number_of_shapes_is_bounded(tmp_path):
    requests, client = requests_of(tmp_path)
    for number in range(MAX_SHAPES * 2):
        for text in ("one", "two", "three"):
            asked = {"input": text, "model": "a/b", "metadata": {"group": str(number)}}
            assert together(requests, client, asked) == by_itself(requests, client, asked)


def test_a_function_that_changes_its_earlier_return_value_gets_the_right_request(tmp_path):
    """The values are the same objects with another content."""
    requests, client = requests_of(tmp_path)
    shared: dict[str, Any] = {"model": "a/b", "metadata": {"row": "0"}}
    for number in range(5):
        shared["metadata"]["row"] = str(number // 3)
        asked = {"input": f"row {number}", **shared}
        assert together(requests, client, asked) == by_itself(requests, client, asked)


def test_each_call_has_the_options_of_a_single_send(tmp_path):
    options = RequestOptions(timeout=7.0, max_retries=5, headers={"X-Mine": "1"})
    requests, client = requests_of(tmp_path, options=options)
    for number in range(4):
        call, sent_with = requests.call(client, requests.index({"input": f"row {number}", "model": "a/b"}).fields)
        assert (call.config.timeout, call.config.max_retries, call.headers["x-mine"]) == (7.0, 0, "1")
        assert (sent_with.timeout, sent_with.max_retries) == (7.0, 0)
