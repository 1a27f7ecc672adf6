"""What messages and outputs are made of: content parts and their annotations."""

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

# In what a model made, a null says the same as a missing key: some servers write one, some the other, and an
# answer must be accepted as the next turn's input.


class PromptCacheBreakpoint(Part):
    """Where a prompt cache may end."""

    mode: Literal["explicit"]
    ttl: NotRequired[Text | None]


class InputText(Part):
    """Text for the model."""

    type: Literal["input_text"]
    text: Text
    prompt_cache_breakpoint: NotRequired[PromptCacheBreakpoint | None]


class InputImage(Part):
    """An image for the model: an address, a data URL, or the id of an upload."""

    type: Literal["input_image"]
    detail: Literal["auto", "high", "low", "original"]
    file_id: NotRequired[Text | None]
    image_url: NotRequired[Text | None]


class InputFile(Part):
    """A file for the model: its data, its address, or the id of an upload."""

    type: Literal["input_file"]
    file_data: NotRequired[Text]
    file_id: NotRequired[Text | None]
    file_url: NotRequired[Text]
    filename: NotRequired[Text]


class AudioData(Part):
    """Base64 of a recording."""

    data: Text
    format: Literal["mp3", "wav"]


class InputAudio(Part):
    """A recording for the model."""

    type: Literal["input_audio"]
    input_audio: AudioData


class InputVideo(Part):
    """A video for the model: an address or a data URL."""

    type: Literal["input_video"]
    video_url: Text
    processing: NotRequired[Literal["agentic", "static"]]


class EncryptedContent(Part):
    """Content of an agent's message that only the service can read."""

    type: Literal["encrypted_content"]
    encrypted_content: Text


class FileCitation(Part):
    """A file that the text cites."""

    type: Literal["file_citation"]
    file_id: Text
    filename: Text
    index: Integer


class URLCitation(Part):
    """A page that the text cites."""

    type: Literal["url_citation"]
    url: Text
    title: NotRequired[Text | None]
    start_index: NotRequired[Integer | None]
    end_index: NotRequired[Integer | None]
    content: NotRequired[Text | None]


class FilePath(Part):
    """A file that the model wrote."""

    type: Literal["file_path"]
    file_id: Text
    index: Integer


class TopLogprob(Part):
    """A token that the model might have chosen."""

    token: Text
    bytes: NotRequired[Items[Integer] | None]
    logprob: Number


class Logprob(TopLogprob):
    """A token that the model chose, and how sure it was."""

    top_logprobs: NotRequired[Items[TopLogprob] | None]


ANNOTATIONS: Final[dict[str, Choice]] = {
    "file_citation": FileCitation,
    "url_citation": URLCitation,
    "file_path": FilePath,
}


class OutputText(Part):
    """Text that a model wrote."""

    type: Literal["output_text"]
    text: Text
    annotations: NotRequired[Items[Annotated[JsonObject, Kinds(ANNOTATIONS)]] | None]
    logprobs: NotRequired[Items[Logprob] | None]


class Refusal(Part):
    """A model's refusal."""

    type: Literal["refusal"]
    refusal: Text


class ReasoningText(Part):
    """A piece of a model's reasoning."""

    type: Literal["reasoning_text"]
    text: Text


class SummaryText(Part):
    """A piece of a summary of a model's reasoning."""

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
# As a model or a server wrote it, which may be a word of tomorrow: the history of a conversation is passed on.
Told = Text
