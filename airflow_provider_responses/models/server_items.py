"""Input items that OpenRouter's own server tools leave in a conversation."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from airflow_provider_responses.models.content import Told
from airflow_provider_responses.models.reading import Choice, Integer, Items, JsonObject, Kinds, Part, Text


class CreateFile(Part):
    """A patch makes a file."""

    type: Literal["create_file"]
    path: Text
    diff: Text


class UpdateFile(Part):
    """A patch changes a file."""

    type: Literal["update_file"]
    path: Text
    diff: Text


class DeleteFile(Part):
    """A patch removes a file."""

    type: Literal["delete_file"]
    path: Text


OPERATIONS: Final[dict[str, Choice]] = {
    "create_file": CreateFile,
    "update_file": UpdateFile,
    "delete_file": DeleteFile,
}
ApplyPatchOperation = Annotated[JsonObject, Kinds(OPERATIONS)]


class WebSearchSource(Part):
    """A page that a search found."""

    type: Literal["url"]
    url: Text


class ShellAction(Part):
    """Commands for a shell."""

    commands: Items[Text]
    max_output_length: NotRequired[Integer | None]
    timeout_ms: NotRequired[Integer | None]


class Exit(Part):
    """A command ended."""

    type: Literal["exit"]
    exit_code: Integer


class Timeout(Part):
    """A command took too long."""

    type: Literal["timeout"]


OUTCOMES: Final[dict[str, Choice]] = {"exit": Exit, "timeout": Timeout}


class ShellOutput(Part):
    """What a command gave."""

    stdout: Text
    stderr: Text
    outcome: Annotated[JsonObject, Kinds(OUTCOMES)]


class ContainerFile(Part):
    """A file in a container."""

    type: Literal["container_file_citation"]
    container_id: Text
    end_index: Integer
    file_id: Text
    filename: Text
    start_index: Integer


class ServerItem(Part):
    """What all items of server tools have."""

    id: NotRequired[Text | None]
    status: Told


class DatetimeItem(ServerItem):
    """What time it was."""

    type: Literal["openrouter:datetime"]
    error: NotRequired[Text | None]
    datetime: Text
    timezone: Text


class ServerSearch(Part):
    """A search of the web."""

    type: Literal["search"]
    query: Text
    sources: NotRequired[Items[WebSearchSource] | None]


class WebSearchItem(ServerItem):
    """A search of the web."""

    type: Literal["openrouter:web_search"]
    error: NotRequired[Text | None]
    action: NotRequired[ServerSearch | None]


class CodeInterpreterItem(ServerItem):
    """Code that was run."""

    type: Literal["openrouter:code_interpreter"]
    code: NotRequired[Text | None]
    exitCode: NotRequired[Integer | None]
    language: NotRequired[Text | None]
    stderr: NotRequired[Text | None]
    stdout: NotRequired[Text | None]


class FileSearchItem(ServerItem):
    """A search in files."""

    type: Literal["openrouter:file_search"]
    queries: NotRequired[Items[Text] | None]


class ImageGenerationItem(ServerItem):
    """An image that was made."""

    type: Literal["openrouter:image_generation"]
    error: NotRequired[Text | None]
    imageB64: NotRequired[Text | None]
    imageUrl: NotRequired[Text | None]
    prompt: NotRequired[Text | None]
    result: NotRequired[Text | None]
    revisedPrompt: NotRequired[Text | None]


class BrowserUseItem(ServerItem):
    """A browser that was used."""

    type: Literal["openrouter:browser_use"]
    action: NotRequired[Text | None]
    screenshotB64: NotRequired[Text | None]


class BashItem(ServerItem):
    """A command that was run."""

    type: Literal["openrouter:bash"]
    error: NotRequired[Text | None]
    arguments: NotRequired[Text | None]
    call_id: NotRequired[Text | None]
    command: NotRequired[Text | None]
    exitCode: NotRequired[Integer | None]
    stderr: NotRequired[Text | None]
    stdout: NotRequired[Text | None]
    container_id: NotRequired[Text | None]
    files: NotRequired[Items[ContainerFile] | None]


class TextEditorItem(ServerItem):
    """An edit of a file."""

    type: Literal["openrouter:text_editor"]
    command: NotRequired[Told | None]
    filePath: NotRequired[Text | None]


class ApplyPatchItem(ServerItem):
    """A patch."""

    type: Literal["openrouter:apply_patch"]
    error: NotRequired[Text | None]
    call_id: NotRequired[Text | None]
    operation: NotRequired[ApplyPatchOperation | None]


class WebFetchItem(ServerItem):
    """A page that was fetched."""

    type: Literal["openrouter:web_fetch"]
    error: NotRequired[Text | None]
    content: NotRequired[Text | None]
    httpStatus: NotRequired[Integer | None]
    title: NotRequired[Text | None]
    url: NotRequired[Text | None]


class FoundTool(Part):
    """A tool that was found."""

    definition: JsonObject
    schema_digest: Text
    tool_id: Text


class ToolSearchItem(ServerItem):
    """A search for tools."""

    type: Literal["openrouter:tool_search"]
    error: NotRequired[Text | None]
    query: NotRequired[Text | None]
    matches: NotRequired[Items[FoundTool] | None]


class MemoryItem(ServerItem):
    """Something that was remembered."""

    type: Literal["openrouter:memory"]
    action: NotRequired[Told | None]
    key: NotRequired[Text | None]
    value: NotRequired[Any]


class McpItem(ServerItem):
    """A call of an MCP server."""

    type: Literal["openrouter:mcp"]
    serverLabel: NotRequired[Text | None]
    toolName: NotRequired[Text | None]


class SearchModelsItem(ServerItem):
    """A search for models."""

    type: Literal["openrouter:experimental__search_models"]
    error: NotRequired[Text | None]
    arguments: NotRequired[Text | None]
    query: NotRequired[Text | None]


class Stance(Part):
    """What one model holds."""

    model: Text
    stance: Text


class Contradiction(Part):
    """Where models disagree."""

    topic: Text
    stances: Items[Stance]


class PartialCoverage(Part):
    """What only some models say."""

    models: Items[Text]
    point: Text


class UniqueInsight(Part):
    """What only one model says."""

    model: Text
    insight: Text


class FusionAnalysis(Part):
    """What a panel of models agrees on, and what not."""

    consensus: Items[Text]
    contradictions: Items[Contradiction]
    partial_coverage: Items[PartialCoverage]
    unique_insights: Items[UniqueInsight]
    blind_spots: Items[Text]


class FailedModel(Part):
    """A model of the panel that gave no answer."""

    model: Text
    error: Text
    status_code: NotRequired[Integer | None]


class PanelResponse(Part):
    """The answer of one model of the panel."""

    model: Text
    content: NotRequired[Text | None]


class FusionSource(Part):
    """A page that the panel used."""

    url: Text
    title: Text


class FusionItem(ServerItem):
    """A question put to a panel of models."""

    type: Literal["openrouter:fusion"]
    error: NotRequired[Text | None]
    analysis: NotRequired[FusionAnalysis | None]
    failed_models: NotRequired[Items[FailedModel] | None]
    failure_reason: NotRequired[Text | None]
    responses: NotRequired[Items[PanelResponse] | None]
    sources: NotRequired[Items[FusionSource] | None]


class FailableItem(Part):
    """What items of tools have that may fail as a whole."""

    id: NotRequired[Text | None]
    status: Told
    error: NotRequired[Text | None]
    instance_name: NotRequired[Text | None]
    model: NotRequired[Text | None]


class AdvisorItem(FailableItem):
    """Advice of another model."""

    type: Literal["openrouter:advisor"]
    advice: NotRequired[Text | None]
    prompt: NotRequired[Text | None]


class SubagentItem(FailableItem):
    """A task that another model did."""

    type: Literal["openrouter:subagent"]
    call_id: NotRequired[Text | None]
    name: NotRequired[Text | None]
    outcome: NotRequired[Text | None]
    task_description: NotRequired[Text | None]
    task_name: NotRequired[Text | None]


class FilesItem(ServerItem):
    """A file that was read or written."""

    type: Literal["openrouter:files"]
    error: NotRequired[Text | None]
    arguments: NotRequired[Text | None]
    call_id: NotRequired[Text | None]
    file_id: NotRequired[Text | None]
    filename: NotRequired[Text | None]
    operation: NotRequired[Text | None]
    result: NotRequired[Text | None]


class ShellItem(ServerItem):
    """Commands that were run."""

    type: Literal["openrouter:shell"]
    error: NotRequired[Text | None]
    action: NotRequired[ShellAction | None]
    arguments: NotRequired[Text | None]
    call_id: NotRequired[Text | None]
    output: NotRequired[Items[ShellOutput] | None]
    container_id: NotRequired[Text | None]
    files: NotRequired[Items[ContainerFile] | None]


class ArmorBlockedItem(Part):
    """A tool call that was held back."""

    type: Literal["openrouter:armor_blocked"]
    id: Text
    call_id: Text
    name: Text
    arguments: Text
    explanation: Text
    reason: Text
    status: Told
    namespace: NotRequired[Text | None]


SERVER_ITEMS: Final[dict[str, Choice]] = {
    "openrouter:datetime": DatetimeItem,
    "openrouter:web_search": WebSearchItem,
    "openrouter:code_interpreter": CodeInterpreterItem,
    "openrouter:file_search": FileSearchItem,
    "openrouter:image_generation": ImageGenerationItem,
    "openrouter:browser_use": BrowserUseItem,
    "openrouter:bash": BashItem,
    "openrouter:text_editor": TextEditorItem,
    "openrouter:apply_patch": ApplyPatchItem,
    "openrouter:web_fetch": WebFetchItem,
    "openrouter:tool_search": ToolSearchItem,
    "openrouter:memory": MemoryItem,
    "openrouter:mcp": McpItem,
    "openrouter:experimental__search_models": SearchModelsItem,
    "openrouter:fusion": FusionItem,
    "openrouter:advisor": AdvisorItem,
    "openrouter:subagent": SubagentItem,
    "openrouter:files": FilesItem,
    "openrouter:shell": ShellItem,
    "openrouter:armor_blocked": ArmorBlockedItem,
}
