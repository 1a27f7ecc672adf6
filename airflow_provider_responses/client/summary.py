"""The request that a response or an error is about, without its content."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.models.request import ResponsesRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSummary:
    """
    The facts about a request that reading its response, and building its errors, depend on.

    :param label: the request in messages: ``POST https://… (model a/b)``.
    :param is_openrouter: whether it went to OpenRouter, or to a server with its features.
    :param max_output_tokens: the limit that it sets.
    :param is_streamed: whether it asked for a stream; None if that is not known.
    :param previous_response_id: whether it continued a response that the server stores.
    """

    label: str
    is_openrouter: bool = False
    max_output_tokens: int | None = None
    is_streamed: bool | None = None
    previous_response_id: bool = False

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
        sentences = (cause, *details, f"Request: {self.label}")
        return ". ".join(sentence.rstrip(". ") for sentence in sentences if sentence)
