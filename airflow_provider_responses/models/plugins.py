"""OpenRouter's plugins, and when its server tools stop."""

from __future__ import annotations

from typing import Annotated, Final, Literal, NotRequired, Required

from pydantic import Field

from airflow_provider_responses.models.reading import (
    ONE_OF,
    READ_INTEGER,
    READ_NUMBER,
    Boolean,
    Choice,
    Integer,
    Items,
    JsonObject,
    Kinds,
    Number,
    Part,
    Text,
)
from airflow_provider_responses.models.server_tools import SearchMode, XSearch
from airflow_provider_responses.models.tools import TypedLocation

ModelPatterns = Annotated[Items[Annotated[Text, Field(max_length=1024)]], Field(max_length=1024)]


class RouterPlugin(Part, total=False):
    """What both routers have."""

    allowed_models: ModelPatterns
    cost_quality_tradeoff: Annotated[int, Field(ge=0, le=10), READ_INTEGER]
    cost_tier: Literal["low", "medium", "high", "xhigh", "max"]
    enabled: Boolean
    excluded_models: ModelPatterns


class AutoRouterPlugin(RouterPlugin, total=False):
    """OpenRouter chooses the model."""

    id: Required[Literal["auto-router"]]
    pin_model: Boolean


class AutoBetaRouterPlugin(RouterPlugin, total=False):
    """OpenRouter chooses the model, in the way that comes next."""

    id: Required[Literal["auto-beta-router"]]


class ModerationPlugin(Part):
    """The request is moderated."""

    id: Literal["moderation"]


class WebPlugin(Part, total=False):
    """The web is searched before the model answers."""

    id: Required[Literal["web"]]
    enabled: Boolean
    engine: Literal["native", "exa", "firecrawl", "parallel", "perplexity"]
    exclude_domains: Items[Text]
    include_domains: Items[Text]
    max_results: Integer
    max_uses: Integer
    mode: SearchMode
    search_prompt: Text
    user_location: TypedLocation | None
    x_search: XSearch


class WebFetchPlugin(Part, total=False):
    """Pages are fetched."""

    id: Required[Literal["web-fetch"]]
    allowed_domains: Items[Text]
    blocked_domains: Items[Text]
    max_content_tokens: Integer
    max_uses: Integer


class PDFOptions(Part, total=False):
    """How PDF files are read."""

    engine: Literal["mistral-ocr", "native", "cloudflare-ai", "pdf-text"]


class FileParserPlugin(Part, total=False):
    """Files are read for the model."""

    id: Required[Literal["file-parser"]]
    enabled: Boolean
    pdf: PDFOptions


class ResponseHealingPlugin(Part):
    """JSON that is nearly right is mended."""

    id: Literal["response-healing"]
    enabled: NotRequired[Boolean]


class ContextCompressionPlugin(Part, total=False):
    """A context that is too long is made shorter."""

    id: Required[Literal["context-compression"]]
    enabled: Boolean
    engine: Literal["middle-out"]


class ParetoRouterPlugin(Part, total=False):
    """OpenRouter chooses the model by score and price."""

    id: Required[Literal["pareto-router"]]
    enabled: Boolean
    max_price: Annotated[int | float, Field(ge=0), READ_NUMBER]
    min_coding_score: Annotated[int | float, Field(ge=0, le=1), READ_NUMBER]
    price_source: Literal["prompt", "weighted_avg"]


Scalar = Annotated[Text | Number | Boolean | None, ONE_OF]
Parameter = Annotated[Text | Number | Boolean | Items[Scalar] | dict[Text, Scalar] | None, ONE_OF]


class FusionPluginTool(Part):
    """A tool that the panel may use."""

    type: Text
    parameters: NotRequired[dict[Text, Parameter]]


class FusionPlugin(Part, total=False):
    """The question is put to a panel of models."""

    id: Required[Literal["fusion"]]
    analysis_models: Annotated[Items[Text], Field(min_length=1, max_length=8)]
    enabled: Boolean
    max_tool_calls: Annotated[int, Field(ge=1, le=16), READ_INTEGER]
    model: Text
    preset: Literal["general-high", "general-budget", "general-fast"]
    tools: Annotated[Items[FusionPluginTool], Field(max_length=8)]


class AlignmentRule(Part):
    """A rule that a response must follow."""

    rule: Text
    watch: Items[Literal["content", "tool_calls", "refusal", "images", "audio"]]


class AlignmentPlugin(Part):
    """Each turn is judged by rules."""

    id: Literal["alignment"]
    rules: Items[AlignmentRule]
    instruct: NotRequired[Boolean]
    max_retries: NotRequired[Integer]
    mode: NotRequired[Literal["enforce", "audit"]]
    threshold: NotRequired[Annotated[int | float, Field(ge=0.01, le=1), READ_NUMBER]]


class ArmorRule(Part):
    """A rule for tool calls."""

    id: Text
    instructions: Text
    name: NotRequired[Text]
    threshold: NotRequired[Number]


class ArmorEntry(Part):
    """A fact about the place where tools run."""

    name: Text
    value: Text


ArmorRules = Items[Annotated[Text | ArmorRule, ONE_OF]]


class ArmorAutoMode(Part, total=False):
    """Rules for tool calls, by what follows from them."""

    allow: ArmorRules
    environment: Items[Annotated[Text | ArmorEntry, ONE_OF]]
    hard_deny: ArmorRules
    soft_deny: ArmorRules


class ArmorContext(Part):
    """What tool calls are judged by."""

    v: Number
    auto_mode: NotRequired[ArmorAutoMode]


class ArmorPlugin(Part, total=False):
    """Each tool call is judged before it reaches you."""

    id: Required[Literal["armor"]]
    classifier_context: ArmorContext
    enabled: Boolean
    evaluate_native_tools: Boolean
    mode: Literal["enforce", "audit"]
    on_error: Literal["log", "block"]
    output_mode: Literal["text", "custom_item", "claude_code_compatibility"]
    use_cc_style_default_rules: Boolean


class JevRouterPlugin(Part, total=False):
    """OpenRouter chooses the model among those of a pool."""

    id: Required[Literal["jev-router"]]
    allowed_models: ModelPatterns
    cost_tier: Text
    excluded_models: ModelPatterns
    models: ModelPatterns


class SwitchyardRouterPlugin(Part, total=False):
    """OpenRouter chooses between a strong and a cheap model."""

    id: Required[Literal["switchyard-router"]]
    algorithm: Literal["capability", "stage", "auto", "random", "composite", "passthrough"]
    judge_model: Text


PLUGINS: Final[dict[str, Choice]] = {
    "alignment": AlignmentPlugin,
    "armor": ArmorPlugin,
    "jev-router": JevRouterPlugin,
    "switchyard-router": SwitchyardRouterPlugin,
    "auto-router": AutoRouterPlugin,
    "auto-beta-router": AutoBetaRouterPlugin,
    "moderation": ModerationPlugin,
    "web": WebPlugin,
    "web-fetch": WebFetchPlugin,
    "file-parser": FileParserPlugin,
    "response-healing": ResponseHealingPlugin,
    "context-compression": ContextCompressionPlugin,
    "pareto-router": ParetoRouterPlugin,
    "fusion": FusionPlugin,
}
Plugin = Annotated[JsonObject, Kinds(PLUGINS, key="id")]


class StepCountIs(Part):
    """After so many steps."""

    type: Literal["step_count_is"]
    step_count: Integer


class HasToolCall(Part):
    """After a call of this tool."""

    type: Literal["has_tool_call"]
    tool_name: Annotated[Text, Field(min_length=1)]


class MaxTokensUsed(Part):
    """After so many tokens."""

    type: Literal["max_tokens_used"]
    max_tokens: Integer


class MaxCost(Part):
    """After so many US dollars."""

    type: Literal["max_cost"]
    max_cost_in_dollars: Number


class FinishReasonIs(Part):
    """After an answer that ended for this reason."""

    type: Literal["finish_reason_is"]
    reason: Annotated[Text, Field(min_length=1)]


STOP_CONDITIONS: Final[dict[str, Choice]] = {
    "step_count_is": StepCountIs,
    "has_tool_call": HasToolCall,
    "max_tokens_used": MaxTokensUsed,
    "max_cost": MaxCost,
    "finish_reason_is": FinishReasonIs,
}
StopCondition = Annotated[JsonObject, Kinds(STOP_CONDITIONS)]
