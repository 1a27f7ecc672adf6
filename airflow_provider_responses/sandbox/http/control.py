"""The sandbox's own routes, below ``/_sandbox``: its ledger, its script and its settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_responses.sandbox.http.http_errors import http_error
from airflow_provider_responses.sandbox.http.wire import json_response
from airflow_provider_responses.sandbox.state.sandbox_state import SandboxState
from airflow_provider_responses.sandbox.state.script import parse_steps


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
    ]


async def show_ledger(request: Request) -> Response:
    """``GET /_sandbox/ledger``."""
    return json_response(_state(request).ledger.report())


async def reset(request: Request) -> Response:
    """``DELETE /_sandbox/ledger``."""
    _state(request).reset()
    return json_response({"entries": []})


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
