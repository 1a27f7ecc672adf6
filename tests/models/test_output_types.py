"""All accepted types: strict modes accept their schemas, and outputs of the sandbox for them are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, RootModel

from airflow_provider_responses.enrich.columns import TEXT_COLUMN, response_columns
from airflow_provider_responses.models.output import json_schema_format, read_output
from airflow_provider_responses.models.output_schema import FORMATS, is_portable
from airflow_provider_responses.sandbox.model.schema_instances import make_instance
from airflow_provider_responses.task.request import TaskRequest
from tests.models.output_corpus import CORPUS

TEXTS = [
    "",
    "Classify this: The Harbour Hotel was clean, and 3 of 4 guests would return in 2031.",
    "x",
    "red \U0001f600 b",
]
TEXTS += [f"Review number {number} of the Blue Dog" for number in range(12)]

# Accepted by OpenAI's strict mode: https://platform.openai.com/docs/guides/structured-outputs.
ALLOWED = {
    "string": {"minLength", "maxLength", "pattern", "format", "enum", "const"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const"},
    "boolean": {"const"},
    "null": set(),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
OF_TYPE = {"string": str, "integer": int, "number": (int, float), "boolean": bool}


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    items = [schema["items"]] if "items" in schema else []
    for part in (*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *items):
        yield from nodes(part)


def not_strict(root: dict[str, Any]) -> list[str]:
    """Return the parts that a strict mode would refuse."""
    problems = [] if root["type"] == "object" and "anyOf" not in root else ["the root is no object"]
    definitions = root.get("$defs", {})
    for schema in (*definitions.values(), {key: value for key, value in root.items() if key != "$defs"}):
        for node in nodes(schema):
            problems += [f"{problem}: {node}" for problem in faults(node, definitions)]
    return problems


def faults(node: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    words = node.keys() - {"title", "description"}
    if "$ref" in node:
        if node.keys() != {"$ref"} or node["$ref"].removeprefix("#/$defs/") not in definitions:
            yield "a reference that does not stand alone, or leads nowhere"
    elif "anyOf" in node:
        if words != {"anyOf"} or not node["anyOf"]:
            yield "anyOf beside other keywords"
    else:
        yield from faults_of_one_type(node, words)


def faults_of_one_type(node: dict[str, Any], words: set[str]) -> Iterator[str]:
    kinds = [node["type"]] if isinstance(node.get("type"), str) else node.get("type", [])
    if not kinds or words - {"type"} - set().union(*(ALLOWED[kind] for kind in kinds)):
        yield "no type, or keywords that do not belong to it"
    if node.get("format", "date") not in FORMATS or not is_portable(node.get("pattern", "")):
        yield "a format or a pattern that is not taken everywhere"
    for value in node.get("enum", [node["const"]] if "const" in node else []):
        if not isinstance(value, OF_TYPE[kinds[0]]) or (isinstance(value, bool) and kinds[0] != "boolean"):
            yield "a value of another type"
    closed = {"additionalProperties": False, "required": list(node.get("properties", {}))}
    if "object" in kinds and not closed.items() <= node.items():
        yield "an object that is open"


@pytest.mark.parametrize("name", CORPUS)
def test_strict_modes_accept_the_schema(name: str) -> None:
    schema = json_schema_format(CORPUS[name])["schema"]
    Draft202012Validator.check_schema(schema)
    assert not_strict(schema) == []


@pytest.mark.parametrize("name", CORPUS)
def test_outputs_of_the_sandbox_are_read(name: str) -> None:
    schema = json_schema_format(CORPUS[name])["schema"]
    for text in TEXTS:
        made = make_instance(schema, text)
        Draft202012Validator(schema).validate(made)
        read = read_output(CORPUS[name], [json.dumps(made)])
        assert not read.repaired
        assert json.loads(json.dumps(read.value)) == read.value


@pytest.mark.parametrize("name", CORPUS)
def test_the_columns_of_an_enrichment_are_the_fields_of_the_output(name: str) -> None:
    kind = CORPUS[name]
    made = make_instance(json_schema_format(kind)["schema"], "x")
    value = read_output(kind, [json.dumps(made)]).value
    columns = response_columns(TaskRequest(fields={}, output_type=kind))
    assert set(columns) == (set(value) if not issubclass(kind, RootModel) else {TEXT_COLUMN})


def test_the_corpus_is_broad() -> None:
    assert len(CORPUS) >= 120
    assert all(issubclass(model, BaseModel) for model in CORPUS.values())
