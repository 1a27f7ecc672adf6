"""Fewer garbage collections while rows are sent: each would go through all objects that Airflow has loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

THRESHOLD: Final = 20_000  # new objects; Python's own is 700


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Leave existing objects out of garbage collections, and collect less often; restore the settings afterwards."""
    before, was_frozen = gc.get_threshold(), gc.get_freeze_count() > 0
    if not was_frozen:  # otherwise others have frozen objects, which must not be unfrozen here
        gc.freeze()
    gc.set_threshold(max(before[0], THRESHOLD) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not was_frozen:
            gc.unfreeze()
