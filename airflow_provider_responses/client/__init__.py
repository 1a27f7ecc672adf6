"""
The HTTP clients. They need no Airflow, and can be used in a notebook.

The names load on first use, so that DAG files can import options at little cost.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_responses.client.async_client import AsyncResponsesClient as AsyncResponsesClient
    from airflow_provider_responses.client.config import ClientConfig as ClientConfig
    from airflow_provider_responses.client.config import RequestOptions as RequestOptions
    from airflow_provider_responses.client.sync_client import ResponsesClient as ResponsesClient

_MODULES = {
    "AsyncResponsesClient": "async_client",
    "ClientConfig": "config",
    "RequestOptions": "config",
    "ResponsesClient": "sync_client",
}
__all__ = ["AsyncResponsesClient", "ClientConfig", "RequestOptions", "ResponsesClient"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
