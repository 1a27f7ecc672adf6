"""The sandbox's own routes, below ``/_sandbox``: its ledger, its script and its settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_responses.sandbox.errors import RefusedError, error_answer
from airflow_provider_responses.sandbox.script import parse_steps
from airflow_provider_responses.sandbox.state import KEY_DEFAULTS, State
from airflow_provider_responses.sandbox.wire import json_response


def control_routes() -> list[Route]:
    """Give the routes."""
    return [
        Route("/_sandbox/ledger", show_ledger),
        Route("/_sandbox/ledger", reset, methods=["DELETE"]),
        Route("/_sandbox/script", add_steps, methods=["POST"]),
        Route("/_sandbox/key", set_key, methods=["PUT"]),
        *(Route(f"/_sandbox/{name}", endpoint, methods=["PUT"]) for name, endpoint in SETTINGS.items()),
    ]


async def show_ledger(request: Request) -> Response:
    """``GET /_sandbox/ledger``."""
    return json_response(_state(request).report())


async def reset(request: Request) -> Response:
    """``DELETE /_sandbox/ledger``."""
    _state(request).reset()
    return json_response({"entries": []})


async def add_steps(request: Request) -> Response:
    """``POST /_sandbox/script``."""
    steps = await _read(request, parse_steps)
    return json_response({"steps": _state(request).script(steps)})


async def set_key(request: Request) -> Response:
    """``PUT /_sandbox/key``."""
    await _read(request, lambda fields: _state(request).set_key(_key_fields(fields)))
    return json_response({"data": _state(request).key()})


async def set_limits(request: Request) -> Response:
    """``PUT /_sandbox/limits``."""
    await _read(request, _state(request).set_limits)
    return json_response({"data": _state(request).limits()})


async def set_faults(request: Request) -> Response:
    """``PUT /_sandbox/faults``."""
    await _read(request, _state(request).set_faults)
    return json_response({"data": _state(request).faults()})


async def set_latency(request: Request) -> Response:
    """``PUT /_sandbox/latency``."""
    await _read(request, lambda given: _state(request).set_latency(_seconds(given)))
    return json_response({"data": {"seconds": _state(request).latency}})


SETTINGS = {"limits": set_limits, "faults": set_faults, "latency": set_latency}


def _state(request: Request) -> State:
    state: State = request.app.state.sandbox
    return state


async def _read(request: Request, use: Callable[[Any], Any]) -> Any:
    """Give what ``use`` makes of the body; what it cannot use is a 400."""
    try:
        return use(json.loads(await request.body()))
    except ValueError as error:
        raise RefusedError(error_answer(400, str(error))) from None


def _key_fields(given: Any) -> dict[str, Any]:
    fields = given if isinstance(given, dict) else None
    if fields is None:
        raise ValueError(f"give a JSON object with fields of a key: {', '.join(KEY_DEFAULTS)}")
    return fields


def _seconds(given: Any) -> Any:
    if not isinstance(given, dict) or set(given) != {"seconds"}:
        raise ValueError('give {"seconds": 0.5}')
    return given["seconds"]
