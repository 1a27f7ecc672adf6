"""The formats of a result. They are apart from ``enrich.result``, so that a DAG file imports them at little cost."""

from __future__ import annotations

from typing import Final

FORMATS: Final = ("jsonl", "parquet")
