"""Which model serves a request, and the routing metadata of the response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_responses.sandbox.state.prices import PRICES, provider_of
from airflow_provider_responses.sandbox.state.script import Step, step_for_model


def requested_models(body: dict[str, Any]) -> list[str]:
    """Return the models of a request, in the order in which they are tried."""
    names = [body.get("model"), *(body.get("models") or [])]
    return list(dict.fromkeys(name for name in names if name))


def choose_model(models: Sequence[str], *, open_names: bool) -> tuple[str, Step | None] | None:
    """
    Return the model that serves, and the step of a ``sandbox/...`` model; ``None`` if all models are unknown.

    An unknown model, or one that ends with a retryable error, is skipped if another model follows.

    :param open_names: accept names without a vendor.
    """
    known = [(name, _step(name)) for name in models if _is_known(name, open_names=open_names)]
    available = [choice for choice in known if not _is_skipped(choice[1])]
    return next(iter(available), None) or next(iter(known), None)


def served_name(model: str) -> str:
    """Return the name of the model that runs; a router such as ``openrouter/auto`` chooses one."""
    return next(iter(PRICES)) if model.startswith("openrouter/") else model


def _is_known(model: str, *, open_names: bool) -> bool:
    vendor, slash, name = model.partition("/")
    if vendor == "sandbox":
        return step_for_model(model) is not None
    return vendor != "missing" and (open_names or bool(slash and vendor and name))


def _step(model: str) -> Step | None:
    return step_for_model(model) if model.startswith("sandbox/") else None


def _is_skipped(step: Step | None) -> bool:
    status = step.error_status if step else None
    return status is not None and (status in {408, 429} or status >= 500)


def routing_metadata(requested: str, served: str, *, status: int = 200) -> dict[str, Any]:
    """Return ``openrouter_metadata`` of a request that a provider served."""
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


def unrouted_metadata(requested: str) -> dict[str, Any]:
    """Return ``openrouter_metadata`` of a request for a model that no provider has."""
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
