"""Whether the log of a task has groups."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Final

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

# Airflow 3.0 shows no line of a group before it is closed.
HAS_GROUPS: Final = AIRFLOW_V_3_1_PLUS or not AIRFLOW_V_3_0_PLUS


def log_group(name: str) -> AbstractContextManager[object]:
    """Return a group of the lines that are logged in a ``with`` block, which Airflow's UI folds."""
    from airflow_provider_responses.observability.log_groups import LogGroup

    return LogGroup(name) if HAS_GROUPS else nullcontext()
