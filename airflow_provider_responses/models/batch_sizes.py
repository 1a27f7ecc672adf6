"""The limits of a batch. They are apart from ``models.batch``, so that a DAG file imports them at little cost."""

from __future__ import annotations

from typing import Final

MAX_BATCH_REQUESTS: Final = 5_000  # requests in one batch of OpenRouter
OPENAI_MAX_BATCH_REQUESTS: Final = 50_000
MAX_BATCH_BYTES: Final = 200_000_000  # bytes of the requests of one batch
