"""The request of ``POST /responses``: every top-level field under its own name, checked before it is sent."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sized
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.fields import (
    METADATA_MAX_KEY,
    METADATA_MAX_PAIRS,
    METADATA_MAX_VALUE,
    REQUEST_FIELDS,
    SECRETS,
)
from airflow_provider_responses.models.items import InputItem
from airflow_provider_responses.models.plugins import Plugin, StopCondition
from airflow_provider_responses.models.reading import ONE_OF, Boolean, Integer, Items, JsonObject, Number
from airflow_provider_responses.models.settings import (
    CacheSettings,
    Debug,
    Images,
    Prompt,
    PromptCache,
    Provider,
    ProviderPreferences,
    ReasoningSettings,
    TextSettings,
    Trace,
)
from airflow_provider_responses.models.tools import Tool, ToolChoice

ResponseInclude = Literal[
    "file_search_call.results",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
]
# Settings, whose wrong values may be quoted in messages; what people write to a model never is.
SETTINGS: Final = frozenset(
    {"model", "models", "parallel_tool_calls", "max_tool_calls", "max_output_tokens", "temperature", "top_p", "top_k"}
    | {"top_logprobs", "frequency_penalty", "presence_penalty", "truncation", "include", "modalities", "route"}
    | {"service_tier", "store", "background", "stream"}
)
# Objects with settings and words in them: a text is quoted only where a choice, a number or a boolean was due.
MIXED: Final = frozenset(
    {"reasoning", "text", "provider", "plugins", "tools", "tool_choice", "stop_server_tools_when"}
    | {"cache_control", "prompt_cache_options", "debug"}
)
CHOSEN: Final = frozenset({"literal_error", "kind", "number", "bool_type"})
CLOSED: Final = {"provider": tuple(ProviderPreferences.__annotations__)}


class ResponsesRequest(BaseModel):
    """
    One request of the Responses API.

    Fields left out are not sent; a field set to ``None`` is sent as ``null``. ``extra_body`` holds
    top-level fields that this version does not know; they are sent as they are, after all others.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), hide_input_in_errors=True)

    model: Annotated[str, Field(min_length=1)] | None = None
    models: Items[Annotated[str, Field(min_length=1)]] | None = None
    input: Annotated[str | Items[InputItem] | None, ONE_OF] = None
    instructions: str | None = None
    prompt: Prompt | None = None
    text: TextSettings | None = None
    reasoning: ReasoningSettings | None = None
    tools: Items[Tool] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: Boolean | None = None
    max_tool_calls: Integer | None = None
    stop_server_tools_when: Annotated[Items[StopCondition], Field(min_length=1)] | None = None
    max_output_tokens: Integer | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Integer | None = None
    top_logprobs: Integer | None = None
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: Items[ResponseInclude] | None = None
    modalities: Items[Literal["text", "image"]] | None = None
    image_config: Images | None = None
    metadata: dict[str, str] | None = None
    plugins: Items[Plugin] | None = None
    provider: Provider | None = None
    route: Literal["fallback", "sort"] | None = None
    service_tier: Literal["auto", "default", "fast", "flex", "priority", "scale"] | None = None
    cache_control: CacheSettings | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: PromptCache | None = None
    session_id: Annotated[str, Field(max_length=256)] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    safety_identifier: str | None = None
    trace: Trace | None = None
    debug: Debug | None = None
    store: Boolean | None = None
    background: Boolean | None = None
    previous_response_id: str | None = None
    stream: Boolean | None = None
    extra_body: JsonObject = Field(default_factory=dict)

    @field_validator("input")
    @classmethod
    def _input_says_something(cls, value: str | list[JsonObject] | None) -> str | list[JsonObject] | None:
        if value is not None and not (value.strip() if isinstance(value, str) else value):
            raise ValueError("is empty: give the text, or a list with at least one item, that the model answers")
        return value

    @field_validator("metadata")
    @classmethod
    def _metadata_within_limits(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        pairs = value or {}
        if len(pairs) > METADATA_MAX_PAIRS:
            raise ValueError(
                f"has {len(pairs)} pairs, at most {METADATA_MAX_PAIRS} are allowed: drop {list(pairs)[-1]!r}"
            )
        for key, text in pairs.items():
            if len(key) > METADATA_MAX_KEY or "[" in key or "]" in key:
                raise ValueError(f"key {key!r}: at most {METADATA_MAX_KEY} characters, without brackets, are allowed")
            if len(text) > METADATA_MAX_VALUE:
                raise ValueError(
                    f"value of {key!r} has {len(text)} characters, at most {METADATA_MAX_VALUE} are allowed"
                )
        return value

    @field_validator("extra_body")
    @classmethod
    def _extra_body_adds_only(cls, value: JsonObject) -> JsonObject:
        known = [name for name in value if name in REQUEST_FIELDS]
        if known:
            raise ValueError(f"holds {known[0]!r}, which is a field of the request: give it there")
        return value

    @classmethod
    def parse(cls, data: ResponsesRequest | Mapping[str, Any]) -> Self:
        """
        Validate a request that is a model already or a mapping of its fields.

        :raises RequestValidationError: naming each wrong field, what was given and what is allowed.
        """
        if isinstance(data, cls):
            return data
        if not isinstance(data, Mapping):
            raise RequestValidationError(
                f"a request is a ResponsesRequest or a dict of its fields, not {type(data).__name__}"
            )
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            problems = _problems(error)
            raise RequestValidationError(
                "the request is not valid: " + "; ".join(problems.values()), fields=tuple(problems)
            ) from None

    def replace(self, **changes: Any) -> Self:
        """Give a copy with these fields set, validated like any other request."""
        return type(self).parse({name: getattr(self, name) for name in self.model_fields_set} | changes)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON body, set fields only, always in the same order."""
        given = self.model_fields_set
        body = {name: getattr(self, name) for name in REQUEST_FIELDS if name in given}
        return body | self.extra_body

    def to_bytes(self) -> bytes:
        """
        Serialize canonically: the same request is always the same bytes (UTF-8 JSON without white space).

        :raises RequestValidationError: naming the path of a value that JSON cannot hold.
        """
        body = self.to_dict()
        try:
            text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_dict)
            return text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            path, reason = _first_unserializable(body) or ("", str(error))
            raise RequestValidationError(
                f"the request cannot be sent as JSON: {path}: {reason}", fields=(path,)
            ) from error


def _problems(error: ValidationError) -> dict[str, str]:
    """Field path → one sentence."""
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=False):
        path = ".".join(str(part) for part in detail["loc"])
        found[path] = f"{path}: {_sentence(detail, path)}"
    return found


def _sentence(detail: ErrorDetails, path: str) -> str:
    kind, message = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        parent, _, name = path.rpartition(".")
        close = difflib.get_close_matches(name, CLOSED.get(parent, REQUEST_FIELDS), n=1)
        what, hint = (f"`{parent}`", "leave it out") if parent else ("a request", "a new field goes into `extra_body`")
        return f"is no field of {what}; {f'did you mean {close[0]!r}?' if close else hint}{_given(detail, path)}"
    if kind == "missing":
        return "is required"
    if kind == "no_kind":
        return message
    return message.removeprefix("Value error, ").replace("Input should be", "must be") + _given(detail, path)


def _given(detail: ErrorDetails, path: str) -> str:
    """Quote small values of settings; of a prompt, and of anything large, only what it is and how long."""
    value, field = detail["input"], path.partition(".")[0]
    text = repr(value)
    chosen = field in MIXED and detail["type"] in CHOSEN and isinstance(value, str)
    quotable = field in SETTINGS or chosen or not isinstance(value, Sized)
    if len(text) <= 80 and quotable and SECRETS.isdisjoint(path.split(".")):
        return f" (given: {text})"
    name = type(value).__name__
    return f" (given: {name} of length {len(value)})" if isinstance(value, Sized) else f" (given: {name})"


def _as_dict(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _first_unserializable(value: Any, path: str = "", depth: int = 0) -> tuple[str, str] | None:
    if depth > 200:
        return path, "is nested too deeply, or contains itself"
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
        for key in value:
            if wrong := _no_json_form(key, path):
                return path, f"a key {wrong[1]}"
            if isinstance(key, tuple):
                return path, "a key is a tuple: keys are text"
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return _no_json_form(value, path)
    nested = (_first_unserializable(item, f"{path}.{key}".lstrip("."), depth + 1) for key, item in items)
    return next(filter(None, nested), None)


def _no_json_form(value: Any, path: str) -> tuple[str, str] | None:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except TypeError:
        return (
            path,
            f"is a {type(value).__name__}, which has no JSON form: convert it to text, a number, a list or a dict",
        )
    except UnicodeEncodeError:
        return path, "holds half of a surrogate pair, which is no text: decode the source as what it is"
    except ValueError:
        return path, f"is {value!r}, which has no JSON form"
    return None
