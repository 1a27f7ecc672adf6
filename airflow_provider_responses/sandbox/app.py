"""The routes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_responses.sandbox.calls import Call, authorize
from airflow_provider_responses.sandbox.control import control_routes
from airflow_provider_responses.sandbox.errors import ErrorAnswer, RefusedError, error_answer, rate_limited
from airflow_provider_responses.sandbox.prices import PRICES, price_of, provider_of
from airflow_provider_responses.sandbox.state import LedgerEntry, State
from airflow_provider_responses.sandbox.wire import json_response

API = "/api/v1"


def create_app(state: State) -> Starlette:
    """Build the ASGI application over a state."""
    routes = [
        Route(f"{API}/responses", create_response, methods=["POST"]),
        Route(f"{API}/models", list_models),
        *control_routes(),
    ]
    if state.dialect == "openrouter":
        routes += [Route(f"{API}/key", show_key), Route(f"{API}/generation", show_generation)]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error, RefusedError: _refused})
    app.state.sandbox = state
    return app


def _state(request: Request) -> State:
    state: State = request.app.state.sandbox
    return state


def _error_response(answer: ErrorAnswer, headers: dict[str, str] | None = None) -> Response:
    return json_response(answer.body, answer.status, answer.headers | (headers or {}))


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _error_response(error_answer(status))


async def _refused(_: Request, error: Exception) -> Response:
    return _error_response(error.answer if isinstance(error, RefusedError) else error_answer(500))


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
        _admit(state, entry)
        call = Call(state, entry, epoch, request, state.next_step(entry.body_sha256))
        _require_funds(state, entry.key)
        return await call.answer()
    except RefusedError as refused:
        answer = refused.answer
        state.settle(entry, "error", status=answer.status, cache=None)
        return _error_response(answer, headers)


def _admit(state: State, entry: LedgerEntry) -> None:
    if excess := state.admit(entry):
        raise RefusedError(rate_limited(excess))


def _require_funds(state: State, key_hash: str) -> None:
    if state.is_spent(key_hash):
        raise RefusedError(error_answer(402))


async def show_key(request: Request) -> Response:
    """``GET /key``."""
    key_hash = authorize(request.headers)
    return json_response({"data": _state(request).key(key_hash)})


async def show_generation(request: Request) -> Response:
    """``GET /generation?id=``."""
    key_hash = authorize(request.headers)
    generation_id = request.query_params.get("id")
    if not generation_id:
        raise RefusedError(error_answer(400, "id: give a generation's id"))
    entry = _state(request).find(generation_id)
    if entry is None or entry.key != key_hash or not (entry.billed or entry.outcome == "cached"):
        raise RefusedError(error_answer(404, f"No generation {generation_id}"))
    return json_response({"data": _generation(entry)})


async def list_models(_: Request) -> Response:
    """``GET /models``; needs no key."""
    return json_response({"object": "list", "data": [_model(name) for name in PRICES]})


def _model(name: str) -> dict[str, Any]:
    price = price_of(name)
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


def _generation(entry: LedgerEntry) -> dict[str, Any]:
    milliseconds = round((entry.seconds or 0.0) * 1000, 3)
    reason = "cancelled" if entry.outcome == "dropped" else "stop"
    counted = {
        "tokens_prompt": entry.input_tokens,
        "tokens_completion": entry.output_tokens,
        "native_tokens_prompt": entry.input_tokens,
        "native_tokens_completion": entry.output_tokens,
    }
    nothing = dict.fromkeys(
        ("native_tokens_completion_images", "native_tokens_reasoning", "native_tokens_cached", "num_media_prompt"), 0
    )
    unknown = dict.fromkeys(
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
        unknown
        | nothing
        | counted
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
