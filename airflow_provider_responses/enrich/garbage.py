"""The garbage collector while rows are sent: it would look through all that Airflow has loaded, again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

THRESHOLD: Final = 20_000  # new objects; Python's own is 700


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Leave what is there out of collections, and collect less often; afterwards all is as it was."""
    before, was_frozen = gc.get_threshold(), gc.get_freeze_count() > 0
    if not was_frozen:  # else it is another's, whose unfreezing this must not be
        gc.freeze()
    gc.set_threshold(max(before[0], THRESHOLD) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not was_frozen:
            gc.unfreeze()
