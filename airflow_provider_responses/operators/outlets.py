"""The figures of a task as the extra of its asset events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def add_to_outlets(context: Mapping[str, Any], outlets: Iterable[Any], extra: Mapping[str, Any]) -> None:
    """
    Add figures to the extra of the events of a task's assets. Entries that the user has set stay.

    :param outlets: of the task; those that are no assets are left out.
    """
    events = context.get("outlet_events")
    if events is None:  # outside of a task runner
        return
    from airflow.providers.common.compat.sdk import Asset

    for outlet in outlets:
        if isinstance(outlet, Asset):
            event = events[outlet]
            event.extra = {**extra, **(event.extra or {})}
