"""Tools that a model may use, and the choice among them."""

from __future__ import annotations

from typing import Annotated, Final, Literal, NotRequired, Required

from typing_extensions import TypedDict

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
from airflow_provider_responses.models.server_tools import (
    SERVER_TOOLS,
    SearchEngine,
    SearchMode,
    SearchSize,
    XSearch,
)

Caller = Literal["direct", "programmatic"]
Asynchronous = TypedDict("Asynchronous", {"async": NotRequired[Boolean]})  # the name is a word of Python


class FunctionTool(Part, Asynchronous):
    """``parameters`` is a JSON schema."""

    type: Literal["function"]
    name: Text
    parameters: JsonObject | None
    description: NotRequired[Text | None]
    strict: NotRequired[Boolean | None]
    allowed_callers: NotRequired[Items[Caller] | None]
    defer_loading: NotRequired[Boolean]
    output_schema: NotRequired[JsonObject | None]


class TextFormat(Part):
    type: Literal["text"]


class GrammarFormat(Part):
    type: Literal["grammar"]
    definition: Text
    syntax: Literal["lark", "regex"]


CUSTOM_FORMATS: Final[dict[str, Choice]] = {"text": TextFormat, "grammar": GrammarFormat}


class CustomTool(Part, Asynchronous):
    """A tool of yours whose input is text."""

    type: Literal["custom"]
    name: Text
    defer_loading: NotRequired[Boolean]
    description: NotRequired[Text]
    format: NotRequired[Annotated[JsonObject, Kinds(CUSTOM_FORMATS, closed=True)]]


class NamespaceFunctionTool(Part, Asynchronous, total=False):
    type: Required[Literal["function"]]
    name: Required[Text]
    allowed_callers: Items[Caller] | None
    defer_loading: Boolean
    description: Text | None
    output_schema: JsonObject | None
    parameters: JsonObject | None
    strict: Boolean | None


class DomainFilter(Part, total=False):
    allowed_domains: Items[Text] | None
    blocked_domains: Items[Text] | None
    excluded_domains: Items[Text] | None


class Location(Part, total=False):
    type: Literal["approximate"]
    city: Text | None
    country: Text | None
    region: Text | None
    timezone: Text | None


class TypedLocation(Part, total=False):
    """As ``Location``, but ``type`` is required."""

    type: Required[Literal["approximate"]]
    city: Text | None
    country: Text | None
    region: Text | None
    timezone: Text | None


class WebSearchSettings(Part, total=False):
    engine: SearchEngine
    filters: DomainFilter | None
    max_results: Integer
    max_uses: Integer
    mode: SearchMode
    search_context_size: SearchSize
    x_search: XSearch


class WebSearchTool(WebSearchSettings, total=False):
    type: Required[Literal["web_search", "web_search_2025_08_26"]]
    user_location: Location | None


class PreviewWebSearchTool(WebSearchSettings, total=False):
    type: Required[Literal["web_search_preview", "web_search_preview_2025_03_11"]]
    user_location: TypedLocation | None


FilterValue = Annotated[Text | Number | Boolean | Items[Annotated[Text | Number, ONE_OF]], ONE_OF]


class ComparisonFilter(Part):
    type: Literal["eq", "ne", "gt", "gte", "lt", "lte"]
    key: Text
    value: FilterValue


class CompoundFilter(Part):
    """Files that pass all of the filters (``and``), or one of them (``or``)."""

    type: Literal["and", "or"]
    filters: Items[JsonObject]


FILTERS: Final[dict[str, Choice]] = {
    **dict.fromkeys(("eq", "ne", "gt", "gte", "lt", "lte"), ComparisonFilter),
    **dict.fromkeys(("and", "or"), CompoundFilter),
}


class RankingOptions(Part, total=False):
    ranker: Literal["auto", "default-2024-11-15"]
    score_threshold: Number


class FileSearchTool(Part, total=False):
    type: Required[Literal["file_search"]]
    vector_store_ids: Required[Items[Text]]
    filters: Annotated[JsonObject, Kinds(FILTERS, closed=True)] | None
    max_num_results: Integer
    ranking_options: RankingOptions


class ComputerUseTool(Part):
    type: Literal["computer_use_preview"]
    display_height: Integer
    display_width: Integer
    environment: Literal["windows", "mac", "linux", "ubuntu", "browser"]


class AutoContainer(Part, total=False):
    """A container that the service creates."""

    type: Required[Literal["auto"]]
    file_ids: Items[Text]
    memory_limit: Literal["1g", "4g", "16g", "64g", None]


class CodeInterpreterTool(Part):
    type: Literal["code_interpreter"]
    container: Annotated[Text | AutoContainer, ONE_OF]


class McpToolFilter(Part, total=False):
    read_only: Boolean
    tool_names: Items[Text]


class ToolNames(Part, total=False):
    tool_names: Items[Text]


class ApprovalRules(Part, total=False):
    always: ToolNames
    never: ToolNames


class McpTool(Part, total=False):
    type: Required[Literal["mcp"]]
    server_label: Required[Text]
    allowed_tools: Annotated[Items[Text] | McpToolFilter | None, ONE_OF]
    authorization: Text
    connector_id: Literal[
        "connector_dropbox",
        "connector_gmail",
        "connector_googlecalendar",
        "connector_googledrive",
        "connector_microsoftteams",
        "connector_outlookcalendar",
        "connector_outlookemail",
        "connector_sharepoint",
    ]
    headers: dict[Text, Text] | None
    require_approval: Annotated[ApprovalRules | Literal["always", "never"] | None, ONE_OF]
    server_description: Text
    server_url: Text


class ImageMask(Part, total=False):
    """The part of an image that is drawn again."""

    file_id: Text
    image_url: Text


class ImageGenerationTool(Part, total=False):
    type: Required[Literal["image_generation"]]
    background: Literal["transparent", "opaque", "auto"]
    input_fidelity: Literal["high", "low", None]
    input_image_mask: ImageMask
    model: Text
    moderation: Literal["auto", "low"]
    output_compression: Integer
    output_format: Literal["png", "webp", "jpeg"]
    partial_images: Integer
    quality: Literal["low", "medium", "high", "auto"]
    size: Text


class BareTool(Part):
    type: Literal["local_shell", "shell", "apply_patch"]


TOP_TOOLS: Final[dict[str, Choice]] = {
    "function": FunctionTool,
    "custom": CustomTool,
    "mcp": McpTool,
    **dict.fromkeys(("web_search", "web_search_2025_08_26"), WebSearchTool),
    **dict.fromkeys(("web_search_preview", "web_search_preview_2025_03_11"), PreviewWebSearchTool),
    "file_search": FileSearchTool,
    "computer_use_preview": ComputerUseTool,
    "code_interpreter": CodeInterpreterTool,
    "image_generation": ImageGenerationTool,
    **dict.fromkeys(("local_shell", "shell", "apply_patch"), BareTool),
}
NAMESPACE_TOOLS: Final[dict[str, Choice]] = {"function": NamespaceFunctionTool, "custom": CustomTool}


class NamespaceTool(Part):
    type: Literal["namespace"]
    name: Text
    description: Text
    tools: Items[Annotated[JsonObject, Kinds(NAMESPACE_TOOLS, elsewhere=TOP_TOOLS | SERVER_TOOLS)]]


TOOLS: Final[dict[str, Choice]] = TOP_TOOLS | {"namespace": NamespaceTool} | SERVER_TOOLS
Tool = Annotated[JsonObject, Kinds(TOOLS)]


class FunctionChoice(Part):
    type: Literal["function"]
    name: Text


class KindChoice(Part):
    type: Literal["web_search_preview", "web_search_preview_2025_03_11", "apply_patch", "shell"]


class AllowedTools(Part):
    """Only these tools may be used (``auto``), or one of them must be (``required``)."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Items[JsonObject]


CHOICES: Final[dict[str, Choice]] = {
    "function": FunctionChoice,
    "allowed_tools": AllowedTools,
    **dict.fromkeys(("web_search_preview", "web_search_preview_2025_03_11", "apply_patch", "shell"), KindChoice),
}
ToolChoice = Annotated[Literal["auto", "none", "required"] | Annotated[JsonObject, Kinds(CHOICES)] | None, ONE_OF]


class CatalogSearch(Part):
    """OpenRouter searches the deferred tools."""

    type: Literal["bm25", "regex"]
    max_results: NotRequired[Integer]


class CustomSearch(Part):
    """A tool of yours searches the deferred tools."""

    type: Literal["custom"]
    result_key: Text
    tool_id: Text
    max_results: NotRequired[Integer]


SEARCHES: Final[dict[str, Choice]] = {"bm25": CatalogSearch, "regex": CatalogSearch, "custom": CustomSearch}


class DeferredToolsSettings(Part):
    """Settings of the search for tools with ``defer_loading``."""

    profile: Literal["portable"]
    protocol: Literal["v1"]
    search: Annotated[JsonObject, Kinds(SEARCHES, closed=True)]
    validation: Literal["runtime"]


DeferredTools = Annotated[JsonObject, Checked(DeferredToolsSettings)]
