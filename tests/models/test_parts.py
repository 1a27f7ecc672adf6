"""The typed parts against the schema: valid values are sent unchanged, invalid ones are refused with their paths."""

from __future__ import annotations

import importlib.util
import json
import random
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import ResponsesRequest
from airflow_provider_responses.models.content import AGENT_PARTS, FILE_PARTS, INPUT_PARTS, OUTPUT_PARTS
from airflow_provider_responses.models.items import ITEMS
from airflow_provider_responses.models.plugins import PLUGINS, STOP_CONDITIONS
from airflow_provider_responses.models.settings import FORMATS, ProviderPreferences
from airflow_provider_responses.models.tools import CHOICES, NAMESPACE_TOOLS, TOOLS
from tests.api import PUBLISHED_FILE
from tests.models.generator import SERVER_WORDS
from tests.models.schema import REQUEST, SCHEMAS, branches, invalid_values, resolve, variants
from tests.models.schema import types as types_of

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "schema_structure.py"
FULL = ROOT.parent / "shared" / "spec" / "openrouter-responses.openapi.json"

# Unknown kinds are left to the server, and so are unknown words in items of a response.
OPEN_KINDS = {
    *("input.0.type", "tools.0.type", "tools.0.tools.0.type", "plugins.0.id", "stop_server_tools_when.0.type"),
    *("tool_choice.type", "prompt.variables.key.type", "input.0.content.0.type", "input.0.output.0.type"),
    *("input.0.summary.0.type", "input.0.content.0.annotations.0.type", "input.0.action.type"),
    *("input.0.operation.type", "input.0.outputs.0.type", "input.0.output.0.outcome.type", "input.0.error.type"),
}
# Items that the caller writes: their words are checked.
OWN = {
    *("user", "system", "developer", "function_call_output", "custom_tool_call_output", "local_shell_call_output"),
    *("apply_patch_call_output", "tool_search_output", "mcp_approval_response", "configuration_update"),
}
# Fields that some servers leave out.
LEFT_OUT = {
    ("shell_call", "action"),
    *(("reasoning", "id"), ("reasoning", "summary"), ("message", "id"), ("assistant", "type"), ("message", "type")),
    *(("message", name) for name in ("title", "start_index", "end_index", "bytes", "top_logprobs")),
}
# Two types share a kind: a value that is invalid for one is valid for the other.
EITHER = {
    ("user", "input.0.content", "no such"),
    ("function_call", "input.0.id", "missing"),
    ("message", "input.0.content", "missing"),
    ("reasoning", "input.0.summary", None),
}
# The error names another field than the missing one: an item with a role is a message, others need a type.
# The error names `metadata`, and has the key in its text.
OTHER_PATH = {"input.0.type": "input.0.role", "input.0.role": "input.0.type", "metadata.key": "metadata"}


def body(data: dict[str, Any]) -> str:
    return ResponsesRequest.parse(data).to_bytes().decode()


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def problem(data: dict[str, Any]) -> RequestValidationError | None:
    try:
        ResponsesRequest.parse(data)
    except RequestValidationError as error:
        return error
    return None


def right_bodies() -> list[dict[str, Any]]:
    """Every valid request, except for values that this package refuses on purpose, or accepts in `extra_body` only."""
    purposely = ({"input": ""}, {"input": []}, {"model": ""}, {"models": [""]})
    known = SCHEMAS["ResponsesRequest"]["properties"]
    return [
        value
        for value in variants(REQUEST)
        if value not in purposely and value.keys() <= known.keys() - {"previous_response_id"}
    ]


def at(data: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError):
            return "missing"
    return data


def without(data: Any, path: tuple[str | int, ...]) -> Any:
    if len(path) == 1:
        return {key: value for key, value in data.items() if key != path[0]}
    if isinstance(data, list):
        return [without(data[0], path[1:])]
    return {**data, path[0]: without(data[path[0]], path[1:])}


def is_let_through(data: dict[str, Any], path: tuple[str | int, ...]) -> bool:
    """Whether a value is accepted on purpose although the schema does not allow it."""
    dotted, value = ".".join(map(str, path)), at(data, path)
    item = at(data, path[:2])
    kind = (item.get("type") or item.get("role")) if isinstance(item, dict) else None
    if value == "no such" and dotted in OPEN_KINDS:
        return True
    if value == "no such" and path[0] == "input" and len(path) == 3 and path[-1] in SERVER_WORDS and kind not in OWN:
        return True
    if value == "missing" and path[0] == "input" and (kind, path[-1]) in LEFT_OUT:
        return True
    if kind == "additional_tools" and path[2:3] == ("tools",) and len(path) > 4:
        return True  # any object with a type is a tool there
    if value is None and (len(path) == 1 or (path[0] == "input" and isinstance(path[-1], str))):
        # A null at the top is sent as it is; inside items of a response it means the same as a missing field.
        return (kind, dotted, value) in EITHER or problem(without(data, path)) is None
    return any((kind, dotted) == (k, p) and value == v for k, p, v in EITHER)


def test_every_valid_value_of_the_schema_is_sent_unchanged() -> None:
    bodies = right_bodies()
    changed = [data for data in bodies if body(data) != compact({name: data[name] for name in json.loads(body(data))})]
    assert changed == []
    assert len(bodies) > 3000


def test_every_invalid_value_is_refused_with_its_path() -> None:
    accepted, misnamed, refused = [], [], 0
    for data, path in invalid_values(REQUEST):
        dotted = ".".join(map(str, path))
        error = problem(data)
        if not path or error is None:
            accepted += [] if not path or is_let_through(data, path) else [(dotted, at(data, path))]
        elif dotted not in error.fields and OTHER_PATH.get(dotted) not in error.fields:
            misnamed.append((dotted, error.fields))
        else:
            refused += 1
    assert accepted == []
    assert misnamed == []
    assert refused > 5000


def discriminated(schema: dict[str, Any], key: str = "type") -> dict[str, set[str]]:
    """Return the fields of all types of a kind in the schema, by kind."""
    found: dict[str, set[str]] = {}
    for branch in branches(schema):
        for kind in (resolve(branch["properties"].get(key, {})).get("enum") or ()) if "properties" in branch else ():
            found.setdefault(kind, set()).update(branch["properties"])
    return found


REQUEST_PROPERTIES = SCHEMAS["ResponsesRequest"]["properties"]
INPUTS = next(branch["items"] for branch in branches(SCHEMAS["Inputs"]) if "array" in types_of(branch))


@pytest.mark.parametrize(
    ("known", "schema", "key"),
    [
        pytest.param(ITEMS, INPUTS, "type", id="items"),
        pytest.param(TOOLS, REQUEST_PROPERTIES["tools"]["items"], "type", id="tools"),
        pytest.param(NAMESPACE_TOOLS, SCHEMAS["NamespaceTool"]["properties"]["tools"]["items"], "type", id="namespace"),
        pytest.param(PLUGINS, REQUEST_PROPERTIES["plugins"]["items"], "id", id="plugins"),
        pytest.param(STOP_CONDITIONS, SCHEMAS["StopServerToolsWhenCondition"], "type", id="stop conditions"),
        pytest.param(FORMATS, SCHEMAS["Formats"], "type", id="formats"),
        pytest.param(
            INPUT_PARTS, branches(SCHEMAS["EasyInputMessage"]["properties"]["content"])[0]["items"], "type", id="input"
        ),
        pytest.param(OUTPUT_PARTS, SCHEMAS["OutputMessage"]["properties"]["content"]["items"], "type", id="output"),
        pytest.param(AGENT_PARTS, SCHEMAS["AgentMessageItem"]["properties"]["content"]["items"], "type", id="agents"),
        pytest.param(
            FILE_PARTS,
            branches(SCHEMAS["OpenAIResponseFunctionToolCallOutput"]["properties"]["output"])[1]["items"],
            "type",
            id="files",
        ),
    ],
)
def test_kinds_and_their_fields_are_those_of_the_schema(known: Any, schema: dict[str, Any], key: str) -> None:
    kinds = discriminated(schema, key)
    assert set(known) == set(kinds)
    for kind, part in known.items():
        if not isinstance(part, types.FunctionType):  # messages have three types; their fields are checked by values
            assert set(typing.get_type_hints(part)) == kinds[kind], kind


def test_kinds_of_tool_choice_are_those_of_the_schema() -> None:
    kinds = {
        resolve(choice).get("enum", [None])[0]
        for branch in branches(SCHEMAS["OpenAIResponsesToolChoice"])
        if "properties" in branch
        for choice in branches(branch["properties"]["type"])
    }
    assert set(CHOICES) == kinds


def test_fields_of_the_provider_are_those_of_the_schema() -> None:
    assert set(typing.get_type_hints(ProviderPreferences)) == set(SCHEMAS["ProviderPreferences"]["properties"])


# --- the structure, the published schema and the official SDK


@pytest.mark.skipif(not FULL.exists(), reason="the schema with its prose is not beside the checkout")
def test_the_structure_is_that_of_the_published_schema() -> None:
    loader = importlib.util.spec_from_file_location("schema_structure", SCRIPT)
    assert loader is not None
    assert loader.loader is not None
    script = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(script)
    found = script.write(script.structure(json.loads(FULL.read_text())))
    assert found == PUBLISHED_FILE.read_text(), f"run {SCRIPT.name}"


def test_valid_requests_pass_through_the_official_sdk_both_ways() -> None:
    sdk = pytest.importorskip("openrouter.components").ResponsesRequest
    refused = []
    for data in right_bodies()[::7]:
        try:
            theirs = sdk.model_validate_json(body(data))
        except ValidationError as error:
            refused.append({place["loc"][-1] for place in error.errors()})
            continue
        assert problem(json.loads(theirs.model_dump_json(by_alias=True, exclude_unset=True))) is None
    assert all(names <= {"from_date", "to_date"} for names in refused)  # texts here, dates there
    assert len(refused) < 10


def literals(annotation: Any) -> set[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        return set(typing.get_args(annotation))
    return set().union(*map(literals, typing.get_args(annotation)))


# Fields that only one of the two has: SDK and schema were published on different days.
NOT_IN_SDK = {
    "BashServerToolConfig": {"sleep_after_seconds"},
    "ShellServerToolConfig": {"sleep_after_seconds"},
    "ProviderName": {"NCompass"},  # any name of a provider is accepted
}
NOT_IN_REQUESTS = {"OpenResponsesResult"}


def test_fields_and_choices_are_those_of_the_official_sdk() -> None:
    components = pytest.importorskip("openrouter.components")
    compared = 0
    for name, raw in SCHEMAS.items():
        schema, theirs = resolve(raw), getattr(components, name.replace("_", ""), None)
        lacks = NOT_IN_SDK.get(name, set())
        if "enum" in schema and theirs is not None:
            assert set(schema["enum"]) - {None} ^ literals(theirs) == lacks, name
        if not hasattr(theirs, "model_fields") or "properties" not in schema or name in NOT_IN_REQUESTS:
            continue
        fields = {field.alias or key: field.annotation for key, field in theirs.model_fields.items()}
        assert schema["properties"].keys() ^ fields.keys() == lacks, name
        for field in schema["properties"].keys() & fields.keys():
            ours = {value for branch in branches(schema["properties"][field]) for value in branch.get("enum", ())}
            choices = literals(fields[field])
            compared += bool(ours and choices)
            assert not (ours and choices) or ours - {None} ^ choices <= NOT_IN_SDK["ProviderName"], (name, field)
    assert compared > 300


# --- combinations


def shuffled(value: Any, order: random.Random) -> Any:
    """Return the same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


LISTS = {
    name: [data[name][0] for data in right_bodies() if isinstance(data.get(name), list) and data[name]]
    for name in ("input", "tools", "plugins", "stop_server_tools_when")
}
OBJECTS = {
    name: [data[name] for data in right_bodies() if isinstance(data.get(name), dict)]
    for name in ("provider", "reasoning", "text", "prompt", "trace", "tool_choice", "image_config", "cache_control")
}
requests = st.fixed_dictionaries(
    {},
    optional={name: st.lists(st.sampled_from(parts), min_size=1, max_size=4) for name, parts in LISTS.items()}
    | {name: st.sampled_from(parts) for name, parts in OBJECTS.items()},
)
REFUSED = [
    (data[path[0]][0], path[0], path[2:])
    for data, path in invalid_values(REQUEST)
    if path[:1] and path[0] in LISTS and path[1:2] == (0,) and not is_let_through(data, path)
]


@given(requests, st.randoms(use_true_random=False))
def test_valid_parts_are_sent_unchanged_in_any_order(data: dict[str, Any], order: random.Random) -> None:
    given_ = shuffled(data, order)
    sent = body(given_)
    assert sent == compact({name: given_[name] for name in json.loads(sent)})
    assert json.loads(sent) == data
    assert body(json.loads(sent)) == sent


@given(requests, st.sampled_from(REFUSED), st.randoms(use_true_random=False))
def test_one_invalid_part_among_valid_ones_is_named(
    data: dict[str, Any], wrong: tuple[Any, str, tuple[Any, ...]], order: random.Random
) -> None:
    part, field, path = wrong
    parts = data.get(field, [])
    place = order.randint(0, len(parts))
    error = problem(shuffled(data | {field: [*parts[:place], part, *parts[place:]]}, order))
    assert error is not None
    dotted = ".".join(map(str, (field, place, *path)))
    others = {f"{field}.{place}.type", f"{field}.{place}.role"} if path in {("type",), ("role",)} else set()
    assert set(error.fields) & {dotted, *others}, error.fields
    assert all(name.startswith(f"{field}.{place}") for name in error.fields)


# --- messages


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        (
            {"tools": [{"type": "function", "name": "f", "parameters": "{}"}]},
            "tools.0.parameters",
            "must be a valid dict",
        ),
        ({"tools": [{"type": "function", "parameters": {}}]}, "tools.0.name", "is required"),
        ({"tools": [{"name": "f"}]}, "tools.0.type", "is required"),
        ({"tools": [{"type": ["function"]}]}, "tools.0.type", "must be"),
        (
            {"tools": [{"type": "web_search", "engine": "bing"}]},
            "tools.0.engine",
            "'perplexity' or 'auto', got 'bing'",
        ),
        ({"tools": [{"type": "web_search", "max_results": "many"}]}, "tools.0.max_results", ", got 'many'"),
        (
            {"tools": [{"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "mcp"}]}]},
            "tools.0.tools.0.type",
            "must be 'function' or 'custom', got 'mcp'",
        ),
        ({"tools": {"function"}}, "tools", "must be a list, not a set, which has no order, got set of length 1"),
        (
            {"input": [{"role": "user", "content": [{"type": "output_text", "text": "secret"}]}]},
            "input.0.content.0.type",
            "'input_video'",
        ),
        ({"input": [{"role": "user", "content": [{"text": "secret"}]}]}, "input.0.content.0.type", "'input_text'"),
        ({"input": [{"role": "robot", "content": "secret"}]}, "input.0.role", "'assistant' or 'developer'"),
        ({"input": [{"content": "secret"}]}, "input.0.role", "is required"),
        ({"input": [{"role": "user", "content": 5}]}, "input.0.content", "must be a string, a list or null"),
        (
            {
                "input": [
                    {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refused": "secret"}]}
                ]
            },
            "input.0.content.0.refusal",
            "is required",
        ),
        (
            {"provider": {"alow_fallbacks": True}},
            "provider.alow_fallbacks",
            "not a field of `provider` (did you mean 'allow_fallbacks'?), got True",
        ),
        (
            {"provider": {"nothing": True}},
            "provider.nothing",
            "not a field of `provider`, got True. Put a field",
        ),
        ({"provider": {"sort": "cheap"}}, "provider.sort", ", got 'cheap'"),
        ({"provider": {"sort": {"by": "cheap"}}}, "provider.sort.by", "'exacto'"),
        ({"provider": {"preferred_max_latency": "soon"}}, "provider.preferred_max_latency", "must be a finite number"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort", "'minimal', 'none' or None, got 'extreme'"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type", "'text', 'json_object' or 'json_schema'"),
        ({"plugins": [{"id": "fusion", "max_tool_calls": 17}]}, "plugins.0.max_tool_calls", "less than or equal to 16"),
        ({"plugins": [{"enabled": True}]}, "plugins.0.id", "is required: 'alignment'"),
        (
            {"stop_server_tools_when": [{"type": "max_cost"}]},
            "stop_server_tools_when.0.max_cost_in_dollars",
            "required",
        ),
        ({"tool_choice": "perhaps"}, "tool_choice", "must be 'auto', 'none' or 'required', got 'perhaps'"),
        ({"image_config": {"n": True}}, "image_config.n", "a string, a number or a list"),
    ],
)
def test_errors_are_about_one_kind_and_list_the_allowed_values(
    fields: dict[str, Any], path: str, expected: str
) -> None:
    error = problem(fields)
    assert error is not None
    assert error.fields == (path,)
    assert expected in error.message
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "item",
    [
        {"role": "Ada Lovelace", "content": "secret"},
        {"type": "message", "role": "user", "content": [{"type": "input_image", "detail": "secret"}]},
        {"type": "function_call", "name": ["secret"], "call_id": "c", "arguments": {"secret": 1}},
        {"type": "agent_message", "author": ["Ada Lovelace"], "recipient": "r", "content": "secret"},
    ],
)
def test_the_content_of_an_item_is_never_quoted(item: dict[str, Any]) -> None:
    error = problem({"input": [item]})
    assert error is not None
    assert "secret" not in str(error)
    assert "Ada" not in str(error)


def test_neither_headers_nor_authorization_are_quoted() -> None:
    tool = {"type": "mcp", "server_label": "s", "headers": {"X-Key": 112233, "X": ["sk-1"]}, "authorization": 445566}
    error = problem({"tools": [tool]})
    assert error is not None
    assert error.fields == ("tools.0.authorization", "tools.0.headers.X-Key", "tools.0.headers.X")
    assert not any(secret in str(error) for secret in ("sk-", "112233", "445566"))


# --- templates, order, identity


def test_rendered_numbers_are_converted_and_the_rest_is_unchanged() -> None:
    plugin = {"mode": "deep", "max_results": "5", "id": "web", "x": {"b": "1", "a": 1.0}, "enabled": "True"}
    tool = {"parameters": {"z": "1", "a": "true"}, "strict": "false", "name": "f", "type": "function"}
    provider = {"sort": "price", "preferred_max_latency": {"p90": "1.5", "p50": 1.0}, "allow_fallbacks": "true"}
    assert body({"plugins": [plugin], "tools": [tool], "provider": provider}) == (
        '{"tools":[{"parameters":{"z":"1","a":"true"},"strict":false,"name":"f","type":"function"}],'
        '"plugins":[{"mode":"deep","max_results":5,"id":"web","x":{"b":"1","a":1.0},"enabled":true}],'
        '"provider":{"sort":"price","preferred_max_latency":{"p90":1.5,"p50":1.0},"allow_fallbacks":true}}'
    )


@pytest.mark.parametrize(("value", "sent"), [(5, "5"), (5.0, "5.0"), ("5", "5"), ("5.0", "5")])
@pytest.mark.parametrize("enabled", [True, "true"])
def test_whole_numbers_stay_whole_beside_other_values(value: Any, sent: str, enabled: Any) -> None:
    plugin = {"id": "web", "max_results": value, "enabled": enabled}
    assert body({"plugins": [plugin]}) == f'{{"plugins":[{{"id":"web","max_results":{sent},"enabled":true}}]}}'


def test_texts_that_look_like_numbers_stay_texts() -> None:
    item = {"role": "user", "content": [{"type": "input_text", "text": "0.5"}]}
    assert body({"input": [item], "image_config": {"n": "4"}}) == compact({"input": [item], "image_config": {"n": "4"}})


def test_tuples_are_sent_as_lists_and_sets_are_refused() -> None:
    assert body({"input": ({"role": "user", "content": ()},)}) == '{"input":[{"role":"user","content":[]}]}'
    error = problem({"provider": {"only": {"a", "b"}}})
    assert error is not None
    assert error.fields == ("provider.only",)


def test_a_response_of_another_server_is_accepted_as_the_next_input() -> None:
    items = [
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": None, "status": None},
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "phase": None,
            "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": None}],
        },
        {"type": "function_call", "id": None, "call_id": "c", "name": "f", "arguments": "{}", "namespace": None},
    ]
    assert body({"input": items}) == compact({"input": items})


def test_a_given_dict_is_not_changed() -> None:
    plugin = {"id": "web", "max_results": "5"}
    assert body({"plugins": [plugin]}) == '{"plugins":[{"id":"web","max_results":5}]}'
    assert plugin == {"id": "web", "max_results": "5"}
