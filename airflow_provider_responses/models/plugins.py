"""OpenRouter's plugins, and the conditions that stop its server tools."""

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
    """The fields that both auto routers share. ``cost_quality_tradeoff`` is 0 to 10."""

    allowed_models: ModelPatterns
    cost_quality_tradeoff: Annotated[int, Field(ge=0, le=10), READ_INTEGER]
    cost_tier: Literal["low", "medium", "high", "xhigh", "max"]
    enabled: Boolean
    excluded_models: ModelPatterns


class AutoRouterPlugin(RouterPlugin, total=False):
    id: Required[Literal["auto-router"]]
    pin_model: Boolean


class AutoBetaRouterPlugin(RouterPlugin, total=False):
    """The next version of the auto router."""

    id: Required[Literal["auto-beta-router"]]


class ModerationPlugin(Part):
    id: Literal["moderation"]


class WebPlugin(Part, total=False):
    """Search the web before the model starts."""

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
    id: Required[Literal["web-fetch"]]
    allowed_domains: Items[Text]
    blocked_domains: Items[Text]
    max_content_tokens: Integer
    max_uses: Integer


class PDFOptions(Part, total=False):
    engine: Literal["mistral-ocr", "native", "cloudflare-ai", "pdf-text"]


class FileParserPlugin(Part, total=False):
    id: Required[Literal["file-parser"]]
    enabled: Boolean
    pdf: PDFOptions


class ResponseHealingPlugin(Part):
    """JSON that is not quite valid is repaired."""

    id: Literal["response-healing"]
    enabled: NotRequired[Boolean]


class ContextCompressionPlugin(Part, total=False):
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
    type: Text
    parameters: NotRequired[dict[Text, Parameter]]


class FusionPlugin(Part, total=False):
    """The request goes to a panel of models."""

    id: Required[Literal["fusion"]]
    analysis_models: Annotated[Items[Text], Field(min_length=1, max_length=8)]
    enabled: Boolean
    max_tool_calls: Annotated[int, Field(ge=1, le=16), READ_INTEGER]
    model: Text
    preset: Literal["general-high", "general-budget", "general-fast"]
    tools: Annotated[Items[FusionPluginTool], Field(max_length=8)]


class AlignmentRule(Part):
    rule: Text
    watch: Items[Literal["content", "tool_calls", "refusal", "images", "audio"]]


class AlignmentPlugin(Part):
    """Each turn is judged by the rules."""

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
    """A fact about the environment in which tools run."""

    name: Text
    value: Text


ArmorRules = Items[Annotated[Text | ArmorRule, ONE_OF]]


class ArmorAutoMode(Part, total=False):
    allow: ArmorRules
    environment: Items[Annotated[Text | ArmorEntry, ONE_OF]]
    hard_deny: ArmorRules
    soft_deny: ArmorRules


class ArmorContext(Part):
    v: Number
    auto_mode: NotRequired[ArmorAutoMode]


class ArmorPlugin(Part, total=False):
    """Each tool call is judged before it is returned."""

    id: Required[Literal["armor"]]
    classifier_context: ArmorContext
    enabled: Boolean
    evaluate_native_tools: Boolean
    mode: Literal["enforce", "audit"]
    on_error: Literal["log", "block"]
    output_mode: Literal["text", "custom_item", "claude_code_compatibility"]
    use_cc_style_default_rules: Boolean


class JevRouterPlugin(Part, total=False):
    """OpenRouter chooses the model from a pool."""

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
    type: Literal["step_count_is"]
    step_count: Integer


class HasToolCall(Part):
    type: Literal["has_tool_call"]
    tool_name: Annotated[Text, Field(min_length=1)]


class MaxTokensUsed(Part):
    type: Literal["max_tokens_used"]
    max_tokens: Integer


class MaxCost(Part):
    type: Literal["max_cost"]
    max_cost_in_dollars: Number


class FinishReasonIs(Part):
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
