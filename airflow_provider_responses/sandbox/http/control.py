"""The sandbox's own routes, below ``/_sandbox``: its ledger, its scripts, its settings and its batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_responses.sandbox.http.http_errors import http_error
from airflow_provider_responses.sandbox.http.wire import json_response
from airflow_provider_responses.sandbox.state.batch_script import ENDINGS, BatchStep
from airflow_provider_responses.sandbox.state.batches import BatchStore
from airflow_provider_responses.sandbox.state.sandbox_state import SandboxState
from airflow_provider_responses.sandbox.state.script import parse_steps, parse_steps_as


def control_routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/_sandbox/ledger", show_ledger),
        Route("/_sandbox/ledger", reset, methods=["DELETE"]),
        Route("/_sandbox/script", add_steps, methods=["POST"]),
        Route("/_sandbox/key", set_key, methods=["PUT"]),
        Route("/_sandbox/limits", set_limits, methods=["PUT"]),
        Route("/_sandbox/faults", set_faults, methods=["PUT"]),
        Route("/_sandbox/latency", set_latency, methods=["PUT"]),
        Route("/_sandbox/batches", set_batch_settings, methods=["PUT"]),
        Route("/_sandbox/batches/script", add_batch_steps, methods=["POST"]),
        Route("/_sandbox/batches/{id}", show_batch_requests, methods=["GET"]),
        Route("/_sandbox/batches/{id}", change_batch, methods=["POST"]),
    ]


async def show_ledger(request: Request) -> Response:
    """``GET /_sandbox/ledger``."""
    return json_response(_state(request).ledger.report() | _state(request).batches.report())


async def reset(request: Request) -> Response:
    """``DELETE /_sandbox/ledger``."""
    _state(request).reset()
    return json_response({"entries": [], "batches": []})


async def add_steps(request: Request) -> Response:
    """``POST /_sandbox/script``."""
    steps = await _read_json(request, parse_steps)
    return json_response({"steps": _state(request).add_steps(steps)})


async def set_key(request: Request) -> Response:
    """``PUT /_sandbox/key``."""
    await _read_json(request, _state(request).set_key)
    return json_response({"data": _state(request).key()})


async def set_limits(request: Request) -> Response:
    """``PUT /_sandbox/limits``."""
    await _read_json(request, _state(request).set_limits)
    return json_response({"data": _state(request).limits()})


async def set_faults(request: Request) -> Response:
    """``PUT /_sandbox/faults``."""
    await _read_json(request, _state(request).set_faults)
    return json_response({"data": _state(request).faults()})


async def set_latency(request: Request) -> Response:
    """``PUT /_sandbox/latency``."""
    await _read_json(request, lambda value: _state(request).set_latency(_seconds(value)))
    return json_response({"data": {"seconds": _state(request).latency}})


async def set_batch_settings(request: Request) -> Response:
    """``PUT /_sandbox/batches``."""
    await _read_json(request, _state(request).set_batch_settings)
    return json_response({"data": _state(request).batch_settings()})


async def add_batch_steps(request: Request) -> Response:
    """``POST /_sandbox/batches/script``."""
    steps = await _read_json(request, lambda value: parse_steps_as(BatchStep, value))
    return json_response({"steps": _state(request).add_batch_steps(steps)})


async def show_batch_requests(request: Request) -> Response:
    """``GET /_sandbox/batches/{id}``."""
    try:
        return json_response({"data": _state(request).batches.requests(request.path_params["id"])})
    except ValueError as error:
        raise http_error(404, str(error)) from None


async def change_batch(request: Request) -> Response:
    """``POST /_sandbox/batches/{id}``."""
    batch_id, store = request.path_params["id"], _state(request).batches
    await _read_json(request, lambda value: _change_batch(store, batch_id, value))
    entry = next(entry for entry in store.entries() if entry.id == batch_id)
    return json_response({"data": asdict(entry)})


def _change_batch(store: BatchStore, batch_id: str, change: Any) -> None:
    if change == {"results": "expired"}:
        store.expire_results(batch_id)
    elif isinstance(change, dict) and change.get("status") in ENDINGS and set(change) <= {"status", "message"}:
        store.end(batch_id, change["status"], change.get("message"))
    else:
        raise ValueError(
            f'the body must be {{"status": "failed"|"expired"|"cancelled"}} with or without `message`, '
            f'or {{"results": "expired"}}, got {change!r}'
        )


def _state(request: Request) -> SandboxState:
    state: SandboxState = request.app.state.sandbox
    return state


async def _read_json(request: Request, use: Callable[[Any], Any]) -> Any:
    """
    Return the result of ``use`` for the body.

    :raises HttpError: 400 if the body is not JSON, or ``use`` raises a ``ValueError``.
    """
    try:
        return use(json.loads(await request.body()))
    except ValueError as error:
        raise http_error(400, str(error)) from None


def _seconds(value: Any) -> Any:
    if not isinstance(value, dict) or set(value) != {"seconds"}:
        raise ValueError(f'the body must be an object such as {{"seconds": 0.5}}, got {value!r}')
    return value["seconds"]
