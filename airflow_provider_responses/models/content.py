"""Content parts of messages and outputs, and their annotations."""

from __future__ import annotations

from typing import Annotated, Final, Literal, NotRequired

from airflow_provider_responses.models.reading import (
    ONE_OF,
    Choice,
    Integer,
    Items,
    JsonObject,
    Kinds,
    Number,
    Part,
    Text,
)

# Fields of a model's output may be null where they may be missing: some servers write one, some the other, and a
# response must be accepted as input of the next turn.


class PromptCacheBreakpoint(Part):
    """Where a prompt cache may end."""

    mode: Literal["explicit"]
    ttl: NotRequired[Text | None]


class InputText(Part):
    type: Literal["input_text"]
    text: Text
    prompt_cache_breakpoint: NotRequired[PromptCacheBreakpoint | None]


class InputImage(Part):
    """An address or a data URL (``image_url``), or the id of an upload (``file_id``)."""

    type: Literal["input_image"]
    detail: Literal["auto", "high", "low", "original"]
    file_id: NotRequired[Text | None]
    image_url: NotRequired[Text | None]


class InputFile(Part):
    """Its content (``file_data``), an address (``file_url``), or the id of an upload (``file_id``)."""

    type: Literal["input_file"]
    file_data: NotRequired[Text]
    file_id: NotRequired[Text | None]
    file_url: NotRequired[Text]
    filename: NotRequired[Text]


class AudioData(Part):
    """``data`` is Base64."""

    data: Text
    format: Literal["mp3", "wav"]


class InputAudio(Part):
    type: Literal["input_audio"]
    input_audio: AudioData


class InputVideo(Part):
    """``video_url`` is an address or a data URL."""

    type: Literal["input_video"]
    video_url: Text
    processing: NotRequired[Literal["agentic", "static"]]


class EncryptedContent(Part):
    """Content of an agent's message that only the service can read."""

    type: Literal["encrypted_content"]
    encrypted_content: Text


class FileCitation(Part):
    type: Literal["file_citation"]
    file_id: Text
    filename: Text
    index: Integer


class URLCitation(Part):
    type: Literal["url_citation"]
    url: Text
    title: NotRequired[Text | None]
    start_index: NotRequired[Integer | None]
    end_index: NotRequired[Integer | None]
    content: NotRequired[Text | None]


class FilePath(Part):
    type: Literal["file_path"]
    file_id: Text
    index: Integer


class TopLogprob(Part):
    token: Text
    bytes: NotRequired[Items[Integer] | None]
    logprob: Number


class Logprob(TopLogprob):
    top_logprobs: NotRequired[Items[TopLogprob] | None]


ANNOTATIONS: Final[dict[str, Choice]] = {
    "file_citation": FileCitation,
    "url_citation": URLCitation,
    "file_path": FilePath,
}


class OutputText(Part):
    type: Literal["output_text"]
    text: Text
    annotations: NotRequired[Items[Annotated[JsonObject, Kinds(ANNOTATIONS)]] | None]
    logprobs: NotRequired[Items[Logprob] | None]


class Refusal(Part):
    type: Literal["refusal"]
    refusal: Text


class ReasoningText(Part):
    type: Literal["reasoning_text"]
    text: Text


class SummaryText(Part):
    type: Literal["summary_text"]
    text: Text


FILE_PARTS: Final[dict[str, Choice]] = {
    "input_text": InputText,
    "input_image": InputImage,
    "input_file": InputFile,
}
INPUT_PARTS: Final[dict[str, Choice]] = FILE_PARTS | {"input_audio": InputAudio, "input_video": InputVideo}
OUTPUT_PARTS: Final[dict[str, Choice]] = {"output_text": OutputText, "refusal": Refusal}
AGENT_PARTS: Final[dict[str, Choice]] = {
    "input_text": InputText,
    "input_image": InputImage,
    "encrypted_content": EncryptedContent,
}
REASONING_PARTS: Final[dict[str, Choice]] = {"reasoning_text": ReasoningText}
SUMMARY_PARTS: Final[dict[str, Choice]] = {"summary_text": SummaryText}
CONTENT: Final = INPUT_PARTS | OUTPUT_PARTS | AGENT_PARTS | REASONING_PARTS | SUMMARY_PARTS

FilePart = Annotated[JsonObject, Kinds(FILE_PARTS, elsewhere=CONTENT)]
InputPart = Annotated[JsonObject, Kinds(INPUT_PARTS, elsewhere=CONTENT)]
OutputPart = Annotated[JsonObject, Kinds(OUTPUT_PARTS, elsewhere=CONTENT)]
AgentPart = Annotated[JsonObject, Kinds(AGENT_PARTS, elsewhere=CONTENT)]
ReasoningPart = Annotated[JsonObject, Kinds(REASONING_PARTS, elsewhere=CONTENT)]
SummaryPart = Annotated[JsonObject, Kinds(SUMMARY_PARTS, elsewhere=CONTENT)]

InputContent = Annotated[Text | Items[InputPart] | None, ONE_OF]
ToolOutput = Annotated[Text | Items[FilePart], ONE_OF]

Phase = Literal["commentary", "final_answer", None]
Status = Literal["completed", "incomplete", "in_progress"]
# A word that a model or a server wrote. New words are accepted, since a response may become the next input.
ServerWord = Text
