"""The request's fields, limits and names against the published schema and the official SDK."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from airflow_provider_responses.client.error_names import read_cause
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import ResponsesRequest
from airflow_provider_responses.models.fields import METADATA_MAX_VALUE, OTHERS_FIELDS, REQUEST_FIELDS
from tests.models.schema import SCHEMAS


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    return SCHEMAS


def resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def accepts(name: str, value: Any) -> bool:
    try:
        ResponsesRequest.parse({name: value})
    except RequestValidationError:
        return False
    return True


def test_the_model_has_the_fields_of_the_canonical_order() -> None:
    assert set(ResponsesRequest.model_fields) == {*REQUEST_FIELDS, "extra_body"}
    assert len(set(REQUEST_FIELDS)) == len(REQUEST_FIELDS)


def test_fields_are_those_of_the_schema(schemas: dict[str, Any]) -> None:
    assert set(REQUEST_FIELDS) - OTHERS_FIELDS == set(schemas["ResponsesRequest"]["properties"])


def test_fields_are_those_of_the_official_sdk() -> None:
    components = pytest.importorskip("openrouter.components")
    fields = {field.alias or name for name, field in components.ResponsesRequest.model_fields.items()}
    assert set(REQUEST_FIELDS) - OTHERS_FIELDS == fields


def test_fields_of_other_servers_are_those_of_openais_sdk() -> None:
    params = pytest.importorskip("openai.types.responses.response_create_params")
    fields = set(typing.get_type_hints(params.ResponseCreateParamsNonStreaming))
    assert fields - set(REQUEST_FIELDS) == set()
    assert fields - OTHERS_FIELDS | OTHERS_FIELDS == fields


def test_every_enum_of_the_schema_is_in_the_model(schemas: dict[str, Any]) -> None:
    checked = 0
    for name, raw in schemas["ResponsesRequest"]["properties"].items():
        schema = resolved(raw, schemas)
        items = resolved(schema.get("items", {}), schemas)
        for allowed, wrap in ((schema.get("enum"), False), (items.get("enum"), True)):
            for value in allowed or []:
                checked += 1
                assert accepts(name, [value] if wrap else value), (name, value)
            assert not (allowed and accepts(name, ["no such"] if wrap else "no such")), name
    assert checked > 10


def test_every_length_limit_of_the_schema_is_in_the_model(schemas: dict[str, Any]) -> None:
    limited = set()
    for name, raw in schemas["ResponsesRequest"]["properties"].items():
        if longest := resolved(raw, schemas).get("maxLength"):
            limited.add(name)
            assert accepts(name, "x" * longest)
            assert not accepts(name, "x" * (longest + 1))
    assert limited >= {"user", "session_id"}
    assert schemas["RequestMetadata"]["additionalProperties"]["maxLength"] == METADATA_MAX_VALUE


def test_lists_that_may_not_be_empty_are_refused_empty(schemas: dict[str, Any]) -> None:
    for name, raw in schemas["ResponsesRequest"]["properties"].items():
        if resolved(raw, schemas).get("minItems"):
            assert not accepts(name, []), name


@pytest.mark.parametrize("kind", ["string", "integer", "number", "boolean", "array", "object"])
def test_values_of_another_type_are_refused(schemas: dict[str, Any], kind: str) -> None:
    # Texts such as "5" and "true" are read, since templates render text; "word" is neither.
    samples = {"string": "word", "integer": 7, "number": 0.5, "boolean": True, "array": [{}], "object": {}}
    for name, raw in schemas["ResponsesRequest"]["properties"].items():
        declared = resolved(raw, schemas).get("type")
        kinds = {declared} if isinstance(declared, str) else set(declared or [])
        if kind in kinds or not kinds or (kind == "integer" and "number" in kinds):
            continue
        assert not accepts(name, samples[kind]), name


def test_null_is_accepted_wherever_the_schema_allows_it(schemas: dict[str, Any]) -> None:
    for name, raw in schemas["ResponsesRequest"]["properties"].items():
        if "null" in (resolved(raw, schemas).get("type") or []):
            assert accepts(name, None), name


def test_every_error_type_of_the_schema_has_a_status(schemas: dict[str, Any]) -> None:
    assert all(map(read_cause, schemas["ApiErrorType"]["enum"]))


def test_every_error_code_of_the_schema_has_a_status(schemas: dict[str, Any]) -> None:
    codes = schemas["ResponsesErrorField"]["properties"]["code"]["enum"]
    assert all(map(read_cause, codes))
