"""The parts of both clients without I/O: settings, and the calls of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from airflow_provider_responses.client.batch_errors import BatchAction
from airflow_provider_responses.client.batch_protocol import BatchProtocol
from airflow_provider_responses.client.call import Call, with_stream
from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.client.headers import build_headers
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.client.openai_batches import OpenAIBatches
from airflow_provider_responses.client.openrouter_batches import OpenRouterBatches
from airflow_provider_responses.client.preparation import prepare
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.retries import Retries
from airflow_provider_responses.client.streamed_body import body_of
from airflow_provider_responses.exceptions import APIError, ResponsesError, UnauthorizedResponseError
from airflow_provider_responses.models.request import ResponsesRequest

ErrorT = TypeVar("ErrorT", bound=ResponsesError)
Options = RequestOptions | Mapping[str, Any] | None


class BaseClient:
    """
    Base of both clients.

    :param config: address, key, timeouts and retries.
    :param clock: seconds of a clock that never goes back.
    :param random: returns a number from 0 to 1, which spreads the waits before retries.
    """

    def __init__(self, config: ClientConfig, *, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self.config = config
        self._clock = clock
        self._random = random

    def prepare(self, request: ResponsesRequest | Mapping[str, Any], options: Options = None) -> Call:
        """
        Return a request as a call, which ``send_call`` may send any number of times.

        :raises RequestValidationError: naming the field and what to do.
        """
        return self._post(request, options)

    def _post(self, request: ResponsesRequest | Mapping[str, Any], options: Options, *, stream: bool = False) -> Call:
        """Return the call of ``POST /responses``."""
        parsed = None if options is None else RequestOptions.parse(options)
        config = self.config.for_call(parsed)
        if isinstance(request, Mapping) and "stream" not in request:
            request = {**request, "stream": stream}  # faster than adding it below
        prepared = prepare(request, config)
        stream = stream or bool(prepared.extra_body.get("stream", prepared.stream))
        prepared = with_stream(prepared, stream=stream)
        return Call(
            method="POST",
            url=f"{config.base_url}/responses",
            headers=build_headers(config, parsed, stream=stream),
            body=body_of(prepared),
            stream=stream,
            config=config,
            summary=RequestSummary.of(prepared, config),
            prepared=prepared,
        )

    def _get(self, path: str, options: Options = None) -> Call:
        """Return the call of a ``GET``."""
        parsed = None if options is None else RequestOptions.parse(options)
        config = self.config.for_call(parsed)
        url = f"{config.base_url}{path}"
        headers = build_headers(config, parsed)
        summary = RequestSummary(label=f"GET {url}", is_openrouter=config.is_openrouter)
        return Call(method="GET", url=url, headers=headers, body=None, stream=False, config=config, summary=summary)

    def _get_generation(self, generation_id: str, options: Options) -> Call:
        """Return the call of ``GET /generation``."""
        return self._get(f"/generation?id={quote(generation_id, safe='')}", options)

    def _batch_protocol(self, options: Options) -> BatchProtocol:
        """Return the batch API of the server."""
        config = self._get("/batches", options).config
        return batch_protocol_of(config)(config, partial(self._batch_call, options))

    def _batch_call(self, options: Options, method: str, path: str, action: BatchAction) -> Call:
        """Return a call of the batch API, without a body."""
        call = self._get(path, options)
        summary = replace(call.summary, label=f"{method} {call.url}", batch=action)
        return replace(call, method=method, summary=summary)

    def _start_retries(self, call: Call) -> Retries:
        """Return the retries of a call, whose time begins now."""
        return Retries(call.config, self._clock, self._random)

    @staticmethod
    def _add_generation_id(error: ErrorT, http: HTTPResponse | None) -> ErrorT:
        """Return an error with the id under which its cost can be looked up, if the HTTP response has one."""
        if http is not None:
            error.generation_id = error.generation_id or http.headers.get("x-generation-id")
        return error


def batch_protocol_of(config: ClientConfig) -> type[BatchProtocol]:
    """Return the batch API of a server; its ``body`` has the limits, and the size of a request."""
    return OpenRouterBatches if config.is_openrouter else OpenAIBatches


def read_object(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object in the body of a ``GET``, empty if it has another shape."""
    data = body.get("data")
    return data if isinstance(data, dict) else {}


def read_objects(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the objects in the body of a ``GET``, without items of another shape."""
    data = body.get("data")
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def shows_path(found: Mapping[str, Any] | APIError) -> bool | None:
    """
    Return whether the outcome of a ``GET`` shows that its path exists on the server, None if it does not show it.

    :raises UnauthorizedResponseError: if the key was rejected, which many servers check before the path.
    """
    if isinstance(found, UnauthorizedResponseError):
        raise found
    if isinstance(found, APIError):
        return {404: False, 405: True}.get(found.status_code or 0)
    return None if found.get("error") else True  # some servers return a 200 with an error for any path
