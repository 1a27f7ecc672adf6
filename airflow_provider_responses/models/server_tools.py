"""OpenRouter's own server tools."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter

from airflow_provider_responses.models.reading import (
    READ_INTEGER,
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
from airflow_provider_responses.models.settings import CacheControl, ImageConfig

SearchEngine = Literal["native", "exa", "parallel", "firecrawl", "perplexity", "auto"]
SearchMode = Literal["instant", "fast", "auto", "deep-lite", "deep", "deep-reasoning", "turbo", "basic", "advanced"]
SearchSize = Literal["low", "medium", "high"]
Effort = Literal["max", "xhigh", "high", "medium", "low", "minimal", "none"]
AgentName = Annotated[Text, Field(min_length=1, max_length=64, pattern="^[a-zA-Z0-9 _-]+$")]


class ToolReasoning(Part, total=False):
    """The reasoning of the model that the tool calls."""

    effort: Effort
    max_tokens: Integer


class NestedTool(Part):
    """A tool that the called model may use."""

    type: Text
    parameters: NotRequired[JsonObject]


class AdvisorSettings(Part, total=False):
    forward_transcript: Boolean
    instructions: Text
    max_completion_tokens: Integer
    model: Text
    name: AgentName
    reasoning: ToolReasoning
    stream: Boolean
    temperature: Number


class AdvisorTool(Part):
    type: Literal["openrouter:advisor"]
    parameters: NotRequired[AdvisorSettings]


class SubagentSettings(Part, total=False):
    inherit_functions: Boolean
    inherited_function_names: Items[Annotated[Text, Field(min_length=1)]]
    instructions: Text
    max_completion_tokens: Integer
    max_tool_calls: Annotated[int, Field(ge=1, le=25), READ_INTEGER]
    model: Text
    name: AgentName
    reasoning: ToolReasoning
    temperature: Number
    tools: Items[NestedTool]


class SubagentTool(Part):
    type: Literal["openrouter:subagent"]
    parameters: NotRequired[SubagentSettings]


class DatetimeSettings(Part, total=False):
    timezone: Text


class DatetimeTool(Part):
    type: Literal["openrouter:datetime"]
    parameters: NotRequired[DatetimeSettings]


class FilesTool(Part):
    type: Literal["openrouter:files"]
    parameters: NotRequired[JsonObject]


class FusionSettings(Part, total=False):
    analysis_models: Annotated[Items[Text], Field(min_length=1, max_length=8)]
    cache_control: CacheControl
    max_completion_tokens: Integer
    max_tool_calls: Annotated[int, Field(ge=1, le=16), READ_INTEGER]
    model: Text
    reasoning: ToolReasoning
    temperature: Number
    tools: Annotated[Items[NestedTool], Field(max_length=8)]


class FusionTool(Part):
    type: Literal["openrouter:fusion"]
    parameters: NotRequired[FusionSettings]


class _ImageModel(Part, total=False):
    model: Text


def _check_image_model(settings: dict[str, Any]) -> dict[str, Any]:
    TypeAdapter(_ImageModel).validate_python(settings)
    return settings


class ImageGenerationServerTool(Part):
    """``parameters`` are those of ``image_config``, and ``model``."""

    type: Literal["openrouter:image_generation"]
    parameters: NotRequired[Annotated[ImageConfig, AfterValidator(_check_image_model)]]


class MaxResults(Part, total=False):
    max_results: Integer


class SearchModelsTool(Part):
    type: Literal["openrouter:experimental__search_models"]
    parameters: NotRequired[MaxResults]


class WebFetchSettings(Part, total=False):
    allowed_domains: Items[Text]
    blocked_domains: Items[Text]
    engine: Literal["auto", "native", "openrouter", "exa", "parallel", "firecrawl"]
    max_content_tokens: Integer
    max_uses: Integer


class WebFetchTool(Part):
    type: Literal["openrouter:web_fetch"]
    parameters: NotRequired[WebFetchSettings]


class SearchLocation(Part, total=False):
    type: Literal["approximate"]
    city: Text | None
    country: Text | None
    region: Text | None
    timezone: Text | None


class XSearch(Part, total=False):
    """Search X (Twitter) as well, where the provider does."""

    allowed_x_handles: Annotated[Items[Text], Field(max_length=20)]
    enable_image_understanding: Boolean
    enable_video_understanding: Boolean
    excluded_x_handles: Annotated[Items[Text], Field(max_length=20)]
    from_date: Text
    to_date: Text


class WebSearchServerSettings(Part, total=False):
    allowed_domains: Items[Text]
    engine: SearchEngine
    excluded_domains: Items[Text]
    max_characters: Integer
    max_results: Integer
    max_total_results: Integer
    max_uses: Integer
    mode: SearchMode
    search_context_size: SearchSize
    user_location: SearchLocation
    x_search: XSearch


class WebSearchServerTool(Part):
    type: Literal["openrouter:web_search"]
    parameters: NotRequired[WebSearchServerSettings]


class ApplyPatchSettings(Part, total=False):
    engine: Literal["auto", "native", "openrouter"]


class ApplyPatchServerTool(Part):
    type: Literal["openrouter:apply_patch"]
    parameters: NotRequired[ApplyPatchSettings]


class NoNetwork(Part):
    type: Literal["disabled"]


class SomeNetwork(Part):
    """The container reaches these hosts only."""

    type: Literal["allowlist"]
    allowed_domains: Items[Text]


NETWORKS: Final[dict[str, Choice]] = {"disabled": NoNetwork, "allowlist": SomeNetwork}


class Container(Part):
    file_ids: NotRequired[Items[Text]]
    network_policy: NotRequired[Annotated[JsonObject, Kinds(NETWORKS, closed=True)]]


class NewContainer(Container):
    """A container that OpenRouter creates."""

    type: Literal["container_auto"]


class KnownContainer(Container):
    """An existing container, or a new one that remains under this id."""

    type: Literal["container_reference"]
    container_id: Annotated[Text, Field(min_length=1, max_length=40, pattern=r"^[\w-]+$")]


CONTAINERS: Final[dict[str, Choice]] = {"container_auto": NewContainer, "container_reference": KnownContainer}


class BashSettings(Part, total=False):
    engine: Literal["auto", "native", "openrouter"]
    environment: Annotated[JsonObject, Kinds(CONTAINERS, closed=True)]
    sleep_after_seconds: Integer


class BashTool(Part):
    type: Literal["openrouter:bash"]
    parameters: NotRequired[BashSettings]


class ShellSettings(Part, total=False):
    engine: Literal["auto", "openrouter"]
    environment: Annotated[JsonObject, Kinds(CONTAINERS, closed=True)]
    sleep_after_seconds: Integer


class ShellTool(Part):
    type: Literal["openrouter:shell"]
    parameters: NotRequired[ShellSettings]


class ToolSearchTool(Part):
    type: Literal["openrouter:tool_search"]
    parameters: NotRequired[MaxResults]


SERVER_TOOLS: Final[dict[str, Choice]] = {
    "openrouter:advisor": AdvisorTool,
    "openrouter:subagent": SubagentTool,
    "openrouter:datetime": DatetimeTool,
    "openrouter:files": FilesTool,
    "openrouter:fusion": FusionTool,
    "openrouter:image_generation": ImageGenerationServerTool,
    "openrouter:experimental__search_models": SearchModelsTool,
    "openrouter:web_fetch": WebFetchTool,
    "openrouter:web_search": WebSearchServerTool,
    "openrouter:apply_patch": ApplyPatchServerTool,
    "openrouter:bash": BashTool,
    "openrouter:shell": ShellTool,
    "openrouter:tool_search": ToolSearchTool,
}
