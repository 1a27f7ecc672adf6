"""The request of ``POST /responses``: each top-level field under its own name, checked before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, SchemaValidator

from airflow_provider_responses.models import canonical
from airflow_provider_responses.models.fields import (
    METADATA_MAX_KEY,
    METADATA_MAX_PAIRS,
    METADATA_MAX_VALUE,
    OTHERS_FIELDS,
    REFUSED_FIELDS,
    REQUEST_FIELDS,
    Dialect,
)
from airflow_provider_responses.models.file_content import Content
from airflow_provider_responses.models.items import InputItem
from airflow_provider_responses.models.plugins import Plugin, StopCondition
from airflow_provider_responses.models.reading import ONE_OF, Boolean, Integer, Items, JsonObject, Number, Text
from airflow_provider_responses.models.relaxed import OPEN, is_open, relaxed_fields
from airflow_provider_responses.models.request_errors import to_request_error
from airflow_provider_responses.models.settings import (
    CacheSettings,
    Conversation,
    Debug,
    Images,
    Prompt,
    PromptCache,
    Provider,
    ReasoningSettings,
    TextSettings,
    Trace,
)
from airflow_provider_responses.models.tools import DeferredTools, Tool, ToolChoice
from airflow_provider_responses.validation import check_type

ResponseInclude = Literal[
    "file_search_call.results",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
]


class ResponsesRequest(BaseModel):
    """
    One request of the Responses API.

    Fields that are left out are not sent; a field set to ``None`` is sent as ``null``. ``extra_body`` sets any field
    or nested value, known or not: it is merged over the rest, key by key, and is not checked.

    The constructor checks by OpenRouter's rules. For another server, use
    ``ResponsesRequest.parse(..., dialect="open")``.
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
    deferred_tools: DeferredTools | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: Boolean | None = None
    max_tool_calls: Integer | None = None
    stop_server_tools_when: Annotated[Items[StopCondition], Field(min_length=1)] | None = None
    max_output_tokens: Integer | None = None
    stop: Annotated[Text | Annotated[Items[Text], Field(max_length=4)] | None, ONE_OF] = None
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
    service_tier: Literal["auto", "default", "fast", "flex", "priority", "scale", "ultrafast"] | None = None
    cache_control: CacheSettings | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: PromptCache | None = None
    prompt_cache_retention: str | None = None
    session_id: Annotated[str, Field(max_length=256)] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    safety_identifier: str | None = None
    trace: Trace | None = None
    debug: Debug | None = None
    moderation: JsonObject | None = None
    access_programs: JsonObject | None = None
    image: JsonObject | None = None
    context_management: Items[JsonObject] | None = None
    conversation: Conversation = None
    store: Boolean | None = None
    background: Boolean | None = None
    background_options: JsonObject | None = None
    previous_response_id: str | None = None
    stream: Boolean | None = None
    stream_options: JsonObject | None = None
    extra_body: JsonObject = Field(default_factory=dict)
    _dialect: Dialect = PrivateAttr("openrouter")
    # Contents of files, by the text that stands for each in a field.
    _contents: Mapping[str, Content] = PrivateAttr(default_factory=dict)

    @field_validator(*sorted(OTHERS_FIELDS), mode="before")
    @classmethod
    def _is_for_other_servers(cls, value: Any, info: ValidationInfo) -> Any:
        if not is_open(info):
            raise PydanticCustomError("others_field", 'is a field of other servers (dialect="open"), not of OpenRouter')
        return value

    @field_validator("input")
    @classmethod
    def _input_is_not_empty(cls, value: str | list[JsonObject] | None, info: ValidationInfo) -> Any:
        if not is_open(info) and value is not None and not (value.strip() if isinstance(value, str) else value):
            kind = "text" if isinstance(value, str) else "list"
            raise ValueError(f"must not be empty, got an empty {kind}: give a text, or a list with at least one item")
        return value

    @field_validator("metadata")
    @classmethod
    def _metadata_within_limits(cls, value: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        pairs = {} if value is None or is_open(info) else value
        if len(pairs) > METADATA_MAX_PAIRS:
            raise ValueError(
                f"must have at most {METADATA_MAX_PAIRS} pairs, got {len(pairs)}: drop {list(pairs)[-1]!r}"
            )
        for key, text in pairs.items():
            if len(key) > METADATA_MAX_KEY or "[" in key or "]" in key:
                raise ValueError(
                    f"must have keys of at most {METADATA_MAX_KEY} characters, without brackets, got {key!r}"
                )
            if len(text) > METADATA_MAX_VALUE:
                raise ValueError(
                    f"must have values of at most {METADATA_MAX_VALUE} characters, got {len(text)} in {key!r}"
                )
        return value

    @classmethod
    def parse(cls, data: ResponsesRequest | Mapping[str, Any], *, dialect: Dialect = "openrouter") -> Self:
        """
        Validate a request, or a mapping of its fields.

        :param dialect: ``openrouter``, or ``open`` for a request to another server.
        :raises RequestValidationError: naming each wrong field, its expected value and the given one.
        """
        if isinstance(data, cls):
            if dialect in {"open", data._dialect}:  # a request that is valid for OpenRouter is valid for others
                return data
            fields = {name: getattr(data, name) for name in data.model_fields_set}
            return cls.parse(fields, dialect=dialect).with_contents(data.contents)
        check_type("request", data, Mapping, expected="a ResponsesRequest or a dict of its fields", type_only=True)
        try:
            if dialect == "openrouter":
                return cls.model_validate(dict(data))
            values, _, given = _open_validator(cls).validate_python(dict(data), context=OPEN)
        except ValidationError as error:
            raise to_request_error(error) from None
        return cls._from_checked(values, given, dialect)

    @classmethod
    def _from_checked(cls, values: dict[str, Any], given: set[str], dialect: Dialect) -> Self:
        """Return a request of checked values; `model_construct` does the same, and takes a tenth of a call's time."""
        request = cls.__new__(cls)
        for name, value in (
            ("__dict__", values),
            ("__pydantic_fields_set__", given),
            ("__pydantic_extra__", None),
            ("__pydantic_private__", {"_dialect": dialect, "_contents": {}}),
        ):
            object.__setattr__(request, name, value)
        return request

    def replace(self, **changes: Any) -> Self:
        """Return a copy with these fields set. They are validated; the other fields stay as they are."""
        changed = type(self).parse(changes, dialect=self._dialect)
        return self.model_copy(update={name: getattr(changed, name) for name in changed.model_fields_set})

    @property
    def contents(self) -> Mapping[str, Content]:
        """Contents of files, by the text that stands for each in a field: it is replaced while the request is sent."""
        return self._contents

    def with_contents(self, contents: Mapping[str, Content]) -> Self:
        """
        Return a request that sends the contents of files in place of texts in its fields.

        :param contents: by the text that stands for each. No other text of the request may contain it.
        """
        if not contents:
            return self
        request = self.model_copy()
        request._contents = contents
        return request

    def with_merged_extra_body(self) -> Self:
        """
        Return a request with the same bytes, in which values of ``extra_body`` are moved to the fields they set.

        Readers of the fields then see the values that are sent. A value stays in ``extra_body``, unchecked, if its type
        is not the field's, or if the field is one of which some values are refused before sending.
        """
        if not self.extra_body:
            return self
        sent = self.to_dict()
        known = {name: sent[name] for name in self.extra_body if name in REQUEST_FIELDS and name not in REFUSED_FIELDS}
        moved = {name: value for name, value in known.items() if _has_type_of_field(type(self), name, value)}
        if not moved:
            return self
        rest = {name: value for name, value in self.extra_body.items() if name not in moved}
        return self.model_copy(update={**moved, "extra_body": rest})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON body: the fields that are set, always in the same order, with ``extra_body`` merged over."""
        given, extra = self.model_fields_set, self.extra_body
        body = {name: getattr(self, name) for name in REQUEST_FIELDS if name in given}
        if not extra:
            return body
        body = canonical.merged(body, extra)
        return {name: body[name] for name in (*REQUEST_FIELDS, *extra) if name in body}

    def to_bytes(self) -> bytes:
        """
        Serialize canonically: the same request is always the same bytes (UTF-8 JSON without white space).

        Contents of files are not part of them, but the texts that stand for these.

        :raises RequestValidationError: naming the path of a value that JSON cannot hold.
        """
        return canonical.to_bytes(self.to_dict())


@cache
def _open_validator(model: type[ResponsesRequest]) -> SchemaValidator:
    return relaxed_fields(model.__pydantic_core_schema__)


def _has_type_of_field(model: type[ResponsesRequest], name: str, value: Any) -> bool:
    try:
        values, _, _ = _open_validator(model).validate_python({name: value}, context=OPEN)
    except ValidationError:
        return False
    return bool(values[name] == value)
