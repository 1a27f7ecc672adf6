"""The facts about a request that its errors mention, without its content."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_responses.client.batch_errors import BatchAction
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.models.request import ResponsesRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSummary:
    """
    The facts about a request that are needed to read its response and to build its errors.

    :param label: the request in messages: ``POST https://… (model a/b)``.
    :param is_openrouter: whether it goes to OpenRouter, or to a server with its features.
    :param max_output_tokens: the limit that the request sets.
    :param is_streamed: whether it asks for a stream; None if this is unknown.
    :param previous_response_id: whether it continues a response that the server has stored.
    :param batch: its kind, if it is a call of the batch API.
    """

    label: str
    is_openrouter: bool = False
    max_output_tokens: int | None = None
    is_streamed: bool | None = None
    previous_response_id: bool = False
    batch: BatchAction | None = None

    @classmethod
    def of(cls, request: ResponsesRequest, config: ClientConfig) -> RequestSummary:
        """Return the summary of a request to the server of a connection."""
        model = request.model or ", ".join(request.models or [])
        return cls(
            label=f"POST {config.base_url}/responses (model {model})",
            is_openrouter=config.is_openrouter,
            max_output_tokens=request.max_output_tokens,
            is_streamed=request.stream,
            previous_response_id=request.previous_response_id is not None,
        )

    def error_text(self, cause: str, *details: str) -> str:
        """
        Return the message of an error: the cause first, the request last.

        :param details: further sentences, the advice last; empty ones are left out.
        """
        text = ""
        for sentence in (cause, *details):
            if plain := sentence.rstrip(". "):
                text += plain + (" " if plain[-1] in "!?" else ". ")
        return f"{text}Request: {self.label}"
