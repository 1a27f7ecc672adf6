"""Input items: messages, reasoning, and calls of tools with their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NotRequired

from typing_extensions import TypedDict

from airflow_provider_responses.models.content import (
    OUTPUT_PARTS,
    AgentPart,
    InputContent,
    OutputPart,
    Phase,
    ReasoningPart,
    ServerWord,
    Status,
    SummaryPart,
    ToolOutput,
)
from airflow_provider_responses.models.reading import (
    ONE_OF,
    Boolean,
    Choice,
    Integer,
    Items,
    JsonObject,
    Kinds,
    Part,
    Text,
)
from airflow_provider_responses.models.server_items import (
    SERVER_ITEMS,
    ApplyPatchOperation,
    ContainerFile,
    ShellAction,
    ShellOutput,
    WebSearchSource,
)
from airflow_provider_responses.models.server_tools import Effort


class AnyMessage(Part):
    """A message without ``content`` is accepted."""

    role: Literal["user", "system", "assistant", "developer"]
    type: NotRequired[Literal["message"]]
    content: NotRequired[InputContent]
    id: NotRequired[Text | None]


class Message(AnyMessage):
    phase: NotRequired[Phase]


class AssistantMessage(AnyMessage):
    """A message of the assistant that the user wrote."""

    phase: NotRequired[ServerWord | None]
    status: NotRequired[ServerWord | None]


class OutputMessage(Part):
    """A message that a model wrote. Towards OpenRouter a missing ``id`` or ``status`` is filled in."""

    type: NotRequired[Literal["message"]]
    id: NotRequired[Text | None]
    role: Literal["assistant"]
    content: Items[OutputPart]
    status: NotRequired[ServerWord | None]
    phase: NotRequired[ServerWord | None]


def message_type(given: dict[str, Any]) -> type[Any]:
    """Return the type of a message: one with ``output_text`` or ``refusal`` was written by a model."""
    if given.get("role") != "assistant":
        return Message
    content = given.get("content")
    parts = content if isinstance(content, (list, tuple)) else ()
    own = any(isinstance(part, Mapping) and part.get("type") in tuple(OUTPUT_PARTS) for part in parts)
    return OutputMessage if own else AssistantMessage


class Reasoning(Part):
    """Towards OpenRouter a missing ``id`` or ``summary`` is filled in."""

    type: Literal["reasoning"]
    id: NotRequired[Text | None]
    summary: NotRequired[Items[SummaryPart] | None]
    content: NotRequired[Items[ReasoningPart] | None]
    encrypted_content: NotRequired[Text | None]
    status: NotRequired[ServerWord | None]
    format: NotRequired[ServerWord | None]
    signature: NotRequired[Text | None]


class OfSomeType(Part):
    """An object of which only the type is known."""

    type: Text


Asynchronous = TypedDict("Asynchronous", {"async": NotRequired[Boolean | None]})  # the name is a word of Python


class FunctionCall(Part, Asynchronous):
    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: Text
    id: NotRequired[Text | None]
    namespace: NotRequired[Text | None]
    status: NotRequired[ServerWord | None]
    subagent_id: NotRequired[Text | None]
    subagent_items: NotRequired[Items[OfSomeType] | None]


class FunctionCallOutput(Part):
    type: Literal["function_call_output"]
    call_id: Text
    output: ToolOutput
    id: NotRequired[Text | None]
    status: NotRequired[Status | None]


class CustomToolCall(Part, Asynchronous):
    type: Literal["custom_tool_call"]
    call_id: Text
    name: Text
    input: Text
    id: NotRequired[Text | None]
    namespace: NotRequired[Text | None]
    status: NotRequired[ServerWord | None]


class CustomToolCallOutput(Part):
    type: Literal["custom_tool_call_output"]
    call_id: Text
    output: ToolOutput
    id: NotRequired[Text]


class ApplyPatchCall(Part):
    type: Literal["apply_patch_call"]
    call_id: Text
    status: ServerWord
    operation: ApplyPatchOperation
    id: NotRequired[Text | None]


class ApplyPatchCallOutput(Part):
    type: Literal["apply_patch_call_output"]
    call_id: Text
    status: Literal["completed", "failed"]
    id: NotRequired[Text | None]
    output: NotRequired[Text | None]


class Search(Part):
    type: Literal["search"]
    query: Text
    queries: NotRequired[Items[Text] | None]
    sources: NotRequired[Items[WebSearchSource] | None]


class OpenPage(Part):
    type: Literal["open_page"]
    url: NotRequired[Text | None]


class FindInPage(Part):
    type: Literal["find_in_page"]
    pattern: Text
    url: Text


SEARCH_ACTIONS: Final[dict[str, Choice]] = {"search": Search, "open_page": OpenPage, "find_in_page": FindInPage}


class WebSearchCall(Part):
    type: Literal["web_search_call"]
    id: Text
    status: ServerWord
    action: NotRequired[Annotated[JsonObject, Kinds(SEARCH_ACTIONS)] | None]


class FileSearchCall(Part):
    type: Literal["file_search_call"]
    id: Text
    queries: Items[Text]
    status: ServerWord


class ImageGenerationCall(Part):
    type: Literal["image_generation_call"]
    id: Text
    status: ServerWord
    result: NotRequired[Text | None]
    prompt: NotRequired[Text | None]


class CodeLogs(Part):
    type: Literal["logs"]
    logs: Text


class CodeImage(Part):
    type: Literal["image"]
    url: Text


class CodeFile(Part):
    type: Literal["file"]
    download_url: NotRequired[Text | None]
    error_code: NotRequired[Text | None]
    expires_at: NotRequired[Text | None]
    filename: NotRequired[Text | None]
    id: NotRequired[Text | None]
    media_type: NotRequired[Text | None]
    sha256: NotRequired[Text | None]
    size_bytes: NotRequired[Integer | None]
    status: NotRequired[Text | None]


CODE_OUTPUTS: Final[dict[str, Choice]] = {"logs": CodeLogs, "image": CodeImage, "file": CodeFile}


class CodeInterpreterCall(Part):
    type: Literal["code_interpreter_call"]
    id: Text
    status: ServerWord
    code: NotRequired[Text | None]
    container_id: NotRequired[Text | None]
    outputs: NotRequired[Items[Annotated[JsonObject, Kinds(CODE_OUTPUTS)]] | None]


class SafetyCheck(Part):
    """A user must confirm it before the computer is used."""

    id: Text
    code: Text
    message: Text


class ComputerCall(Part):
    type: Literal["computer_call"]
    call_id: Text
    status: ServerWord
    pending_safety_checks: Items[SafetyCheck]
    action: NotRequired[Any]
    id: NotRequired[Text | None]


class Exec(Part):
    type: Literal["exec"]
    command: Items[Text]
    env: dict[Text, Text]
    timeout_ms: NotRequired[Integer | None]
    user: NotRequired[Text | None]
    working_directory: NotRequired[Text | None]


class LocalShellCall(Part):
    type: Literal["local_shell_call"]
    id: Text
    call_id: Text
    action: Exec
    status: ServerWord


class LocalShellCallOutput(Part):
    type: Literal["local_shell_call_output"]
    id: Text
    output: Text
    status: NotRequired[Status | None]


class ShellCall(Part):
    type: Literal["shell_call"]
    call_id: Text
    action: NotRequired[ShellAction | None]
    arguments: NotRequired[Text | None]
    environment: NotRequired[Any]
    id: NotRequired[Text | None]
    status: NotRequired[ServerWord | None]


class ShellCallOutput(Part):
    type: Literal["shell_call_output"]
    call_id: Text
    output: Items[ShellOutput]
    container_id: NotRequired[Text | None]
    error: NotRequired[Text | None]
    files: NotRequired[Items[ContainerFile] | None]
    id: NotRequired[Text | None]
    max_output_length: NotRequired[Integer | None]
    status: NotRequired[ServerWord | None]


class McpTool(Part):
    name: Text
    input_schema: JsonObject
    annotations: NotRequired[Any]
    description: NotRequired[Text | None]


class McpListTools(Part):
    type: Literal["mcp_list_tools"]
    id: Text
    server_label: Text
    tools: Items[McpTool]
    error: NotRequired[Text | None]


class McpApprovalRequest(Part):
    type: Literal["mcp_approval_request"]
    id: Text
    name: Text
    arguments: Text
    server_label: Text


class McpApprovalResponse(Part):
    type: Literal["mcp_approval_response"]
    approval_request_id: Text
    approve: Boolean
    id: NotRequired[Text | None]
    reason: NotRequired[Text | None]


class McpToolError(Part):
    type: Literal["mcp_tool_execution_error"]
    content: NotRequired[Any]


class McpServerError(Part):
    type: Literal["mcp_protocol_error", "http_error"]
    code: Integer
    message: Text


MCP_ERRORS: Final[dict[str, Choice]] = {
    "mcp_tool_execution_error": McpToolError,
    **dict.fromkeys(("mcp_protocol_error", "http_error"), McpServerError),
}


class McpCall(Part):
    type: Literal["mcp_call"]
    id: Text
    name: Text
    arguments: Text
    server_label: Text
    error: NotRequired[Annotated[Text | Annotated[JsonObject, Kinds(MCP_ERRORS)] | None, ONE_OF]]
    output: NotRequired[Text | None]


class Compaction(Part):
    """A conversation that the service has shortened."""

    type: Literal["compaction"]
    encrypted_content: Text
    id: NotRequired[Text | None]


class ContextCompaction(Part):
    """A context that the service has shortened."""

    type: Literal["context_compaction"]
    encrypted_content: NotRequired[Text | None]
    id: NotRequired[Text | None]


class ItemReference(Part):
    """An item that the service has stored."""

    type: Literal["item_reference"]
    id: Text


class UpdatedReasoning(Part):
    """The effort from here on."""

    effort: Effort


class ConfigurationUpdate(Part):
    """Settings that hold from here on."""

    type: Literal["configuration_update"]
    reasoning: UpdatedReasoning
    id: NotRequired[Text | None]


class ToolSearchCall(Part):
    type: Literal["tool_search_call"]
    call_id: Text
    execution: ServerWord
    arguments: NotRequired[Any]
    id: NotRequired[Text | None]
    status: NotRequired[ServerWord | None]


class ToolSearchOutput(Part):
    type: Literal["tool_search_output"]
    call_id: Text
    execution: Literal["server", "client"]
    tools: Items[OfSomeType]
    id: NotRequired[Text | None]
    status: NotRequired[Status | None]


class AdditionalTools(Part):
    """Any object with a type may be one of the tools."""

    type: Literal["additional_tools"]
    role: Literal["unknown", "user", "assistant", "system", "critic", "discriminator", "developer", "tool"]
    tools: Items[OfSomeType]
    id: NotRequired[Text | None]


class Agent(Part):
    agent_name: Text


class AgentMessage(Part):
    type: Literal["agent_message"]
    author: Text
    recipient: Text
    content: Items[AgentPart]
    agent: NotRequired[Agent | None]
    id: NotRequired[Text | None]


ITEMS: Final[dict[str, Choice]] = {
    "message": message_type,
    "reasoning": Reasoning,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "custom_tool_call": CustomToolCall,
    "custom_tool_call_output": CustomToolCallOutput,
    "apply_patch_call": ApplyPatchCall,
    "apply_patch_call_output": ApplyPatchCallOutput,
    "web_search_call": WebSearchCall,
    "file_search_call": FileSearchCall,
    "image_generation_call": ImageGenerationCall,
    "code_interpreter_call": CodeInterpreterCall,
    "computer_call": ComputerCall,
    "local_shell_call": LocalShellCall,
    "local_shell_call_output": LocalShellCallOutput,
    "shell_call": ShellCall,
    "shell_call_output": ShellCallOutput,
    "mcp_list_tools": McpListTools,
    "mcp_approval_request": McpApprovalRequest,
    "mcp_approval_response": McpApprovalResponse,
    "mcp_call": McpCall,
    "compaction": Compaction,
    "context_compaction": ContextCompaction,
    "item_reference": ItemReference,
    "configuration_update": ConfigurationUpdate,
    "tool_search_call": ToolSearchCall,
    "tool_search_output": ToolSearchOutput,
    "additional_tools": AdditionalTools,
    "agent_message": AgentMessage,
    **SERVER_ITEMS,
}


class ItemKinds(Kinds):
    """Kinds of input items. An item without a ``type`` is a message if it has a ``role`` or ``content``."""

    def kind_of(self, given: dict[str, Any]) -> Any:
        return given.get("type", "message" if "role" in given or "content" in given else None)


InputItem = Annotated[JsonObject, ItemKinds(ITEMS)]
