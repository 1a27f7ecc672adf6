"""Input items that OpenRouter's own server tools add to a conversation."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from airflow_provider_responses.models.content import ServerWord
from airflow_provider_responses.models.reading import Choice, Integer, Items, JsonObject, Kinds, Part, Text


class CreateFile(Part):
    type: Literal["create_file"]
    path: Text
    diff: Text


class UpdateFile(Part):
    type: Literal["update_file"]
    path: Text
    diff: Text


class DeleteFile(Part):
    type: Literal["delete_file"]
    path: Text


OPERATIONS: Final[dict[str, Choice]] = {
    "create_file": CreateFile,
    "update_file": UpdateFile,
    "delete_file": DeleteFile,
}
ApplyPatchOperation = Annotated[JsonObject, Kinds(OPERATIONS)]


class WebSearchSource(Part):
    type: Literal["url"]
    url: Text


class ShellAction(Part):
    commands: Items[Text]
    max_output_length: NotRequired[Integer | None]
    timeout_ms: NotRequired[Integer | None]


class Exit(Part):
    type: Literal["exit"]
    exit_code: Integer


class Timeout(Part):
    type: Literal["timeout"]


OUTCOMES: Final[dict[str, Choice]] = {"exit": Exit, "timeout": Timeout}


class ShellOutput(Part):
    stdout: Text
    stderr: Text
    outcome: Annotated[JsonObject, Kinds(OUTCOMES)]


class ContainerFile(Part):
    type: Literal["container_file_citation"]
    container_id: Text
    end_index: Integer
    file_id: Text
    filename: Text
    start_index: Integer


class ServerItem(Part):
    """The fields that all items of server tools share."""

    id: NotRequired[Text | None]
    status: ServerWord


class DatetimeItem(ServerItem):
    type: Literal["openrouter:datetime"]
    error: NotRequired[Text | None]
    datetime: Text
    timezone: Text


class ServerSearch(Part):
    type: Literal["search"]
    query: Text
    sources: NotRequired[Items[WebSearchSource] | None]


class WebSearchItem(ServerItem):
    type: Literal["openrouter:web_search"]
    error: NotRequired[Text | None]
    action: NotRequired[ServerSearch | None]


class CodeInterpreterItem(ServerItem):
    type: Literal["openrouter:code_interpreter"]
    code: NotRequired[Text | None]
    exitCode: NotRequired[Integer | None]
    language: NotRequired[Text | None]
    stderr: NotRequired[Text | None]
    stdout: NotRequired[Text | None]


class FileSearchItem(ServerItem):
    type: Literal["openrouter:file_search"]
    queries: NotRequired[Items[Text] | None]


class ImageGenerationItem(ServerItem):
    type: Literal["openrouter:image_generation"]
    error: NotRequired[Text | None]
    imageB64: NotRequired[Text | None]
    imageUrl: NotRequired[Text | None]
    prompt: NotRequired[Text | None]
    result: NotRequired[Text | None]
    revisedPrompt: NotRequired[Text | None]


class BrowserUseItem(ServerItem):
    type: Literal["openrouter:browser_use"]
    action: NotRequired[Text | None]
    screenshotB64: NotRequired[Text | None]


class BashItem(ServerItem):
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
    type: Literal["openrouter:text_editor"]
    command: NotRequired[ServerWord | None]
    filePath: NotRequired[Text | None]


class ApplyPatchItem(ServerItem):
    type: Literal["openrouter:apply_patch"]
    error: NotRequired[Text | None]
    call_id: NotRequired[Text | None]
    operation: NotRequired[ApplyPatchOperation | None]


class WebFetchItem(ServerItem):
    type: Literal["openrouter:web_fetch"]
    error: NotRequired[Text | None]
    content: NotRequired[Text | None]
    httpStatus: NotRequired[Integer | None]
    title: NotRequired[Text | None]
    url: NotRequired[Text | None]


class FoundTool(Part):
    definition: JsonObject
    schema_digest: Text
    tool_id: Text


class ToolSearchItem(ServerItem):
    type: Literal["openrouter:tool_search"]
    error: NotRequired[Text | None]
    query: NotRequired[Text | None]
    matches: NotRequired[Items[FoundTool] | None]


class MemoryItem(ServerItem):
    type: Literal["openrouter:memory"]
    action: NotRequired[ServerWord | None]
    key: NotRequired[Text | None]
    value: NotRequired[Any]


class McpItem(ServerItem):
    type: Literal["openrouter:mcp"]
    serverLabel: NotRequired[Text | None]
    toolName: NotRequired[Text | None]


class SearchModelsItem(ServerItem):
    type: Literal["openrouter:experimental__search_models"]
    error: NotRequired[Text | None]
    arguments: NotRequired[Text | None]
    query: NotRequired[Text | None]


class Stance(Part):
    model: Text
    stance: Text


class Contradiction(Part):
    topic: Text
    stances: Items[Stance]


class PartialCoverage(Part):
    models: Items[Text]
    point: Text


class UniqueInsight(Part):
    model: Text
    insight: Text


class FusionAnalysis(Part):
    consensus: Items[Text]
    contradictions: Items[Contradiction]
    partial_coverage: Items[PartialCoverage]
    unique_insights: Items[UniqueInsight]
    blind_spots: Items[Text]


class FailedModel(Part):
    model: Text
    error: Text
    status_code: NotRequired[Integer | None]


class PanelResponse(Part):
    model: Text
    content: NotRequired[Text | None]


class FusionSource(Part):
    url: Text
    title: Text


class FusionItem(ServerItem):
    """The response of a panel of models."""

    type: Literal["openrouter:fusion"]
    error: NotRequired[Text | None]
    analysis: NotRequired[FusionAnalysis | None]
    failed_models: NotRequired[Items[FailedModel] | None]
    failure_reason: NotRequired[Text | None]
    responses: NotRequired[Items[PanelResponse] | None]
    sources: NotRequired[Items[FusionSource] | None]


class FailableItem(Part):
    """The fields of the items of server tools that call another model."""

    id: NotRequired[Text | None]
    status: ServerWord
    error: NotRequired[Text | None]
    instance_name: NotRequired[Text | None]
    model: NotRequired[Text | None]


class AdvisorItem(FailableItem):
    type: Literal["openrouter:advisor"]
    advice: NotRequired[Text | None]
    prompt: NotRequired[Text | None]


class SubagentItem(FailableItem):
    type: Literal["openrouter:subagent"]
    call_id: NotRequired[Text | None]
    name: NotRequired[Text | None]
    outcome: NotRequired[Text | None]
    task_description: NotRequired[Text | None]
    task_name: NotRequired[Text | None]


class FilesItem(ServerItem):
    type: Literal["openrouter:files"]
    error: NotRequired[Text | None]
    arguments: NotRequired[Text | None]
    call_id: NotRequired[Text | None]
    file_id: NotRequired[Text | None]
    filename: NotRequired[Text | None]
    operation: NotRequired[Text | None]
    result: NotRequired[Text | None]


class ShellItem(ServerItem):
    type: Literal["openrouter:shell"]
    error: NotRequired[Text | None]
    action: NotRequired[ShellAction | None]
    arguments: NotRequired[Text | None]
    call_id: NotRequired[Text | None]
    output: NotRequired[Items[ShellOutput] | None]
    container_id: NotRequired[Text | None]
    files: NotRequired[Items[ContainerFile] | None]


class ArmorBlockedItem(Part):
    """A tool call that the ``armor`` plugin held back."""

    type: Literal["openrouter:armor_blocked"]
    id: Text
    call_id: Text
    name: Text
    arguments: Text
    explanation: Text
    reason: Text
    status: ServerWord
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
