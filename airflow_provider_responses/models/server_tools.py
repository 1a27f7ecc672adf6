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
    """How much the other model reasons."""

    effort: Effort
    max_tokens: Integer


class NestedTool(Part):
    """A tool that the other model may use."""

    type: Text
    parameters: NotRequired[JsonObject]


class AdvisorSettings(Part, total=False):
    """Which model advises, and how."""

    forward_transcript: Boolean
    instructions: Text
    max_completion_tokens: Integer
    model: Text
    name: AgentName
    reasoning: ToolReasoning
    stream: Boolean
    temperature: Number


class AdvisorTool(Part):
    """Ask another model for advice."""

    type: Literal["openrouter:advisor"]
    parameters: NotRequired[AdvisorSettings]


class SubagentSettings(Part, total=False):
    """Which model does the task, and how."""

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
    """Give a task to another model."""

    type: Literal["openrouter:subagent"]
    parameters: NotRequired[SubagentSettings]


class DatetimeSettings(Part, total=False):
    """Where it is what time."""

    timezone: Text


class DatetimeTool(Part):
    """Look at the clock."""

    type: Literal["openrouter:datetime"]
    parameters: NotRequired[DatetimeSettings]


class FilesTool(Part):
    """Read and write files."""

    type: Literal["openrouter:files"]
    parameters: NotRequired[JsonObject]


class FusionSettings(Part, total=False):
    """Which models form the panel."""

    analysis_models: Annotated[Items[Text], Field(min_length=1, max_length=8)]
    cache_control: CacheControl
    max_completion_tokens: Integer
    max_tool_calls: Annotated[int, Field(ge=1, le=16), READ_INTEGER]
    model: Text
    reasoning: ToolReasoning
    temperature: Number
    tools: Annotated[Items[NestedTool], Field(max_length=8)]


class FusionTool(Part):
    """Put a question to a panel of models."""

    type: Literal["openrouter:fusion"]
    parameters: NotRequired[FusionSettings]


class _ImageModel(Part, total=False):
    model: Text


def _check_image_model(settings: dict[str, Any]) -> dict[str, Any]:
    TypeAdapter(_ImageModel).validate_python(settings)
    return settings


class ImageGenerationServerTool(Part):
    """Make images with a model of OpenRouter; the parameters are those of ``image_config``, and the ``model``."""

    type: Literal["openrouter:image_generation"]
    parameters: NotRequired[Annotated[ImageConfig, AfterValidator(_check_image_model)]]


class MaxResults(Part, total=False):
    """How much a search gives."""

    max_results: Integer


class SearchModelsTool(Part):
    """Search the models of OpenRouter."""

    type: Literal["openrouter:experimental__search_models"]
    parameters: NotRequired[MaxResults]


class WebFetchSettings(Part, total=False):
    """What may be fetched, and by whom."""

    allowed_domains: Items[Text]
    blocked_domains: Items[Text]
    engine: Literal["auto", "native", "openrouter", "exa", "parallel", "firecrawl"]
    max_content_tokens: Integer
    max_uses: Integer


class WebFetchTool(Part):
    """Fetch pages."""

    type: Literal["openrouter:web_fetch"]
    parameters: NotRequired[WebFetchSettings]


class SearchLocation(Part, total=False):
    """Where the user is, roughly."""

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
    """Where a search looks, how long, and how much it gives."""

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
    """Search the web by OpenRouter."""

    type: Literal["openrouter:web_search"]
    parameters: NotRequired[WebSearchServerSettings]


class ApplyPatchSettings(Part, total=False):
    """Who applies the patch."""

    engine: Literal["auto", "native", "openrouter"]


class ApplyPatchServerTool(Part):
    """Change files."""

    type: Literal["openrouter:apply_patch"]
    parameters: NotRequired[ApplyPatchSettings]


class NoNetwork(Part):
    """A container reaches nothing."""

    type: Literal["disabled"]


class SomeNetwork(Part):
    """A container reaches these hosts."""

    type: Literal["allowlist"]
    allowed_domains: Items[Text]


NETWORKS: Final[dict[str, Choice]] = {"disabled": NoNetwork, "allowlist": SomeNetwork}


class Container(Part):
    """What all containers have."""

    file_ids: NotRequired[Items[Text]]
    network_policy: NotRequired[Annotated[JsonObject, Kinds(NETWORKS, closed=True)]]


class NewContainer(Container):
    """A container that OpenRouter makes."""

    type: Literal["container_auto"]


class KnownContainer(Container):
    """A container by its id: one that is there already, or a new one that stays."""

    type: Literal["container_reference"]
    container_id: Annotated[Text, Field(min_length=1, max_length=40, pattern=r"^[\w-]+$")]


CONTAINERS: Final[dict[str, Choice]] = {"container_auto": NewContainer, "container_reference": KnownContainer}


class BashSettings(Part, total=False):
    """Where commands run, and how long the place is kept."""

    engine: Literal["auto", "native", "openrouter"]
    environment: Annotated[JsonObject, Kinds(CONTAINERS, closed=True)]
    sleep_after_seconds: Integer


class BashTool(Part):
    """Run commands."""

    type: Literal["openrouter:bash"]
    parameters: NotRequired[BashSettings]


class ShellSettings(Part, total=False):
    """Where commands run, and how long the place is kept."""

    engine: Literal["auto", "openrouter"]
    environment: Annotated[JsonObject, Kinds(CONTAINERS, closed=True)]
    sleep_after_seconds: Integer


class ShellTool(Part):
    """Run commands in a shell."""

    type: Literal["openrouter:shell"]
    parameters: NotRequired[ShellSettings]


class ToolSearchTool(Part):
    """Search among many tools."""

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
