"""The routes of the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_responses.sandbox.http.batch_calls import ConnectionDropped
from airflow_provider_responses.sandbox.http.batch_routes import batch_routes
from airflow_provider_responses.sandbox.http.call_handler import CallHandler, authorize
from airflow_provider_responses.sandbox.http.control import control_routes
from airflow_provider_responses.sandbox.http.http_errors import HttpError, http_error, rate_limit_error
from airflow_provider_responses.sandbox.http.openai_batch_routes import openai_batch_routes
from airflow_provider_responses.sandbox.http.wire import ClosedConnection, json_response
from airflow_provider_responses.sandbox.state.ledger import LedgerEntry
from airflow_provider_responses.sandbox.state.prices import (
    BATCH_SHARE,
    BATCH_VARIANT,
    PRICES,
    Price,
    price_of,
    provider_of,
)
from airflow_provider_responses.sandbox.state.sandbox_state import SandboxState

API = "/api/v1"


def create_app(state: SandboxState) -> Starlette:
    """Return the ASGI application of a sandbox."""
    routes = [
        Route(f"{API}/responses", create_response, methods=["POST"]),
        Route(f"{API}/models", list_models),
        *control_routes(),
    ]
    if state.dialect == "openrouter":
        routes += [Route(f"{API}/key", show_key), Route(f"{API}/generation", show_generation), *batch_routes(API)]
    else:
        routes += openai_batch_routes(API)
    handlers: dict[Any, Any] = {
        HTTPException: _on_starlette_error,
        HttpError: _on_http_error,
        ConnectionDropped: _on_dropped_connection,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.state.sandbox = state
    return app


def _state(request: Request) -> SandboxState:
    state: SandboxState = request.app.state.sandbox
    return state


def _error_response(error: HttpError, headers: dict[str, str] | None = None) -> Response:
    return json_response(error.body, error.status, error.headers | (headers or {}))


async def _on_starlette_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _error_response(http_error(status))


async def _on_http_error(_: Request, error: Exception) -> Response:
    return _error_response(error if isinstance(error, HttpError) else http_error(500))


async def _on_dropped_connection(_: Request, __: Exception) -> Response:
    return ClosedConnection()


async def create_response(request: Request) -> Response:
    """``POST /responses``."""
    state = _state(request)
    try:
        raw = await request.body()
    except ClientDisconnect:
        return Response()
    entry, epoch = state.open_entry(raw, request.headers.items())
    headers = {"X-Generation-Id": entry.generation_id} if state.dialect == "openrouter" else {}
    try:
        entry.key = authorize(request.headers)
        _check_rate_limits(state, entry)
        handler = CallHandler(state, entry, epoch, request, state.next_step(entry.body_sha256))
        _check_key_limit(state, entry.key)
        return await handler.respond()
    except HttpError as error:
        state.close_entry(entry, "error", status=error.status, cache=None)
        return _error_response(error, headers)


def _check_rate_limits(state: SandboxState, entry: LedgerEntry) -> None:
    if exceeded := state.admit(entry):
        raise rate_limit_error(exceeded)


def _check_key_limit(state: SandboxState, key_hash: str) -> None:
    if state.is_spent(key_hash):
        raise http_error(402)


async def show_key(request: Request) -> Response:
    """``GET /key``."""
    key_hash = authorize(request.headers)
    return json_response({"data": _state(request).key(key_hash)})


async def show_generation(request: Request) -> Response:
    """``GET /generation?id=``."""
    key_hash = authorize(request.headers)
    generation_id = request.query_params.get("id")
    if not generation_id:
        raise http_error(400, "id must be the id of a generation")
    entry = _state(request).ledger.find(generation_id)
    if entry is None or entry.key != key_hash or not (entry.billed or entry.outcome == "cached"):
        raise http_error(404, f"No generation {generation_id}")
    return json_response({"data": _generation_data(entry)})


async def list_models(request: Request) -> Response:
    """``GET /models``, which needs no key. OpenRouter lists a variant of each model, for its price in a batch."""
    models = [_model_data(name, price_of(name)) for name in PRICES]
    if _state(request).dialect == "openrouter":
        models += [_model_data(f"{name}{BATCH_VARIANT}", price_of(name).times(BATCH_SHARE)) for name in PRICES]
    return json_response({"object": "list", "data": models})


def _model_data(name: str, price: Price) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "name": name,
        "created": 1_735_689_600,
        "owned_by": provider_of(name),
        "context_length": 128_000,
        "architecture": {"modality": "text->text", "input_modalities": ["text"], "output_modalities": ["text"]},
        "pricing": {"prompt": f"{price.input:.9f}", "completion": f"{price.output:.9f}"},
        "supported_parameters": ["max_output_tokens", "structured_outputs", "temperature", "tools"],
    }


def _generation_data(entry: LedgerEntry) -> dict[str, Any]:
    milliseconds = round((entry.seconds or 0.0) * 1000, 3)
    reason = "cancelled" if entry.outcome == "dropped" else "stop"
    tokens = {
        "tokens_prompt": entry.input_tokens,
        "tokens_completion": entry.output_tokens,
        "native_tokens_prompt": entry.input_tokens,
        "native_tokens_completion": entry.output_tokens,
    }
    zeros = dict.fromkeys(
        ("native_tokens_completion_images", "native_tokens_reasoning", "native_tokens_cached", "num_media_prompt"), 0
    )
    nulls = dict.fromkeys(
        (
            "app_id",
            "cache_discount",
            "external_user",
            "http_referer",
            "moderation_latency",
            "num_fetches",
            "num_input_audio_prompt",
            "num_media_completion",
            "num_search_results",
            "preset_id",
            "provider_responses",
            "router",
            "service_tier",
            "upstream_inference_cost",
            "web_search_engine",
            "workspace_id",
        )
    )
    return (
        nulls
        | zeros
        | tokens
        | {
            "id": entry.generation_id,
            "upstream_id": None,
            "api_type": None,
            "model": entry.model,
            "provider_name": provider_of(entry.model or ""),
            "created_at": datetime.fromtimestamp(entry.time, UTC).isoformat(),
            "data_region": "global",
            "origin": entry.headers.get("http-referer", ""),
            "user_agent": entry.headers.get("user-agent"),
            "streamed": entry.stream,
            "cancelled": entry.outcome == "dropped",
            "finish_reason": reason,
            "native_finish_reason": reason,
            "latency": milliseconds,
            "generation_time": milliseconds,
            "total_cost": entry.cost,
            "usage": entry.cost,
            "is_byok": False,
            "response_cache_source_id": entry.cache_source_id,
        }
    )
