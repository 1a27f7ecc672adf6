"""Settings of a request that are objects: provider, reasoning, text, prompt, caching, trace, debug, images."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from airflow_provider_responses.models.content import FilePart
from airflow_provider_responses.models.reading import (
    ONE_OF,
    Boolean,
    Checked,
    Choice,
    Integer,
    Items,
    JsonObject,
    Kinds,
    Number,
    Part,
    Text,
)

SortBy = Literal["price", "throughput", "latency", "exacto"]
Quantization = Literal[
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32", "unknown"
]


class MaxPrice(Part, total=False):
    """Prices in US dollars, as text."""

    audio: Text
    completion: Text
    image: Text
    prompt: Text
    request: Text


class Cutoffs(Part, total=False):
    """Limits by percentile."""

    p50: Number | None
    p75: Number | None
    p90: Number | None
    p99: Number | None


class SortConfig(Part, total=False):
    by: Literal["price", "throughput", "latency", "exacto", None]
    partition: Literal["model", "none", None]


@with_config(ConfigDict(extra="forbid"))
class ProviderPreferences(TypedDict, total=False):
    """Providers have the names that OpenRouter gives them; new ones are accepted. A misspelt field is refused."""

    allow_fallbacks: Boolean | None
    data_collection: Literal["deny", "allow", None]
    enforce_distillable_text: Boolean | None
    ignore: Items[Text] | None
    max_price: MaxPrice
    only: Items[Text] | None
    options: dict[Text, JsonObject]
    order: Items[Text] | None
    preferred_max_latency: Annotated[Number | Cutoffs | None, ONE_OF]
    preferred_min_throughput: Annotated[Number | Cutoffs | None, ONE_OF]
    quantizations: Items[Quantization] | None
    require_parameters: Boolean | None
    sort: Annotated[SortBy | SortConfig | None, ONE_OF]
    zdr: Boolean | None


class ReasoningConfig(Part, total=False):
    context: Literal["auto", "all_turns", "current_turn", None]
    effort: Literal["max", "xhigh", "high", "medium", "low", "minimal", "none", None]
    enabled: Boolean | None
    max_tokens: Integer | None
    mode: Literal["standard", "pro", None]
    summary: Literal["auto", "concise", "detailed", None]


class PlainFormat(Part):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(Part):
    type: Literal["json_schema"]
    name: Text
    schema: JsonObject
    description: NotRequired[Text]
    strict: NotRequired[Boolean | None]


FORMATS: Final[dict[str, Choice]] = {"text": PlainFormat, "json_object": PlainFormat, "json_schema": JsonSchemaFormat}


class TextConfig(Part, total=False):
    format: Annotated[JsonObject, Kinds(FORMATS, closed=True)]
    verbosity: Literal["low", "medium", "high", "xhigh", "max", None]


class PromptTemplate(Part):
    """A prompt that the service has stored."""

    id: Text
    variables: NotRequired[dict[Text, Annotated[Text | FilePart, ONE_OF]] | None]


class CacheControl(Part):
    type: Literal["ephemeral"]
    ttl: NotRequired[Literal["5m", "1h"]]


class PromptCacheOptions(Part):
    mode: Literal["explicit"]
    ttl: NotRequired[Text | None]


class TraceConfig(Part, total=False):
    """Names in traces; further keys of yours are sent with them."""

    generation_name: Text
    parent_span_id: Text
    span_name: Text
    trace_id: Text
    trace_name: Text


class DebugOptions(Part, total=False):
    echo_upstream_body: Boolean


class ConversationId(Part, total=False):
    """A conversation that another server has stored."""

    id: Text


ImageConfig = dict[Text, Annotated[Text | Number | Items[Any], ONE_OF]]

Provider = Annotated[JsonObject, Checked(ProviderPreferences)]
ReasoningSettings = Annotated[JsonObject, Checked(ReasoningConfig)]
TextSettings = Annotated[JsonObject, Checked(TextConfig)]
Prompt = Annotated[JsonObject, Checked(PromptTemplate)]
CacheSettings = Annotated[JsonObject, Checked(CacheControl)]
PromptCache = Annotated[JsonObject, Checked(PromptCacheOptions)]
Trace = Annotated[JsonObject, Checked(TraceConfig)]
Debug = Annotated[JsonObject, Checked(DebugOptions)]
Images = Annotated[JsonObject, Checked(ImageConfig)]
Conversation = Annotated[Text | Annotated[JsonObject, Checked(ConversationId)] | None, ONE_OF]
