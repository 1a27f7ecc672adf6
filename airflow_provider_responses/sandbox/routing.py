"""Which model serves a request, and the routing metadata that tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_responses.sandbox.prices import PRICES, provider_of
from airflow_provider_responses.sandbox.script import Step, step_for_model


def requested_models(body: dict[str, Any]) -> list[str]:
    """Give the models in the order in which they are tried."""
    named = [body.get("model"), *(body.get("models") or [])]
    return list(dict.fromkeys(name for name in named if name))


def choose_model(models: Sequence[str], *, open_names: bool) -> tuple[str, Step | None] | None:
    """
    Choose the model that serves, and how it misbehaves; ``None`` when all are unknown.

    A model that is unknown, or that would answer with a retryable error, gives way to the next one.
    """
    known = [(name, _step(name)) for name in models if _is_known(name, open_names=open_names)]
    standing = [choice for choice in known if not _gives_way(choice[1])]
    return next(iter(standing), None) or next(iter(known), None)


def served_name(model: str) -> str:
    """Name the model that really runs; the routers choose one."""
    return next(iter(PRICES)) if model.startswith("openrouter/") else model


def _is_known(model: str, *, open_names: bool) -> bool:
    vendor, slash, name = model.partition("/")
    if vendor == "sandbox":
        return step_for_model(model) is not None
    return vendor != "missing" and (open_names or bool(slash and vendor and name))


def _step(model: str) -> Step | None:
    return step_for_model(model) if model.startswith("sandbox/") else None


def _gives_way(step: Step | None) -> bool:
    status = step.error_status if step else None
    return status is not None and (status in {408, 429} or status >= 500)


def routing_metadata(requested: str, served: str, *, status: int = 200) -> dict[str, Any]:
    """Tell how a request was routed."""
    provider, selected = provider_of(served), status == 200
    return {
        "requested": requested,
        "strategy": _strategy(requested, served),
        "region": "loopback",
        "summary": f"available=1, selected={provider}" if selected else "available=1",
        "attempt": 1,
        "is_byok": False,
        "endpoints": {"total": 1, "available": [{"model": served, "provider": provider, "selected": selected}]},
        "attempts": [{"model": served, "provider": provider, "status": status}],
    }


def unrouted(requested: str) -> dict[str, Any]:
    """Tell that no provider offers what was requested."""
    return routing_metadata(requested, requested, status=404) | {
        "summary": "available=0",
        "endpoints": {"total": 0, "available": []},
        "attempts": [],
    }


def _strategy(requested: str, served: str) -> str:
    if requested.endswith(":free"):
        return "free"
    if requested.startswith("openrouter/"):
        return "auto"
    return "direct" if requested == served else "fallback"
