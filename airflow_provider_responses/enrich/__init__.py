"""
The engine of ``ResponsesEnrichOperator``, without Airflow: a table in, the same table with responses out.

The names load on first use, so that importing a single module stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.judge import Judge as Judge
    from airflow_provider_responses.enrich.limits import Limits as Limits
    from airflow_provider_responses.enrich.shard_merge import merge_shards as merge_shards
    from airflow_provider_responses.enrich.sources import CsvFile as CsvFile

_MODULES = {"CsvFile": "sources", "Judge": "judge", "Limits": "limits", "merge_shards": "shard_merge"}
__all__ = ["CsvFile", "Judge", "Limits", "merge_shards"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
