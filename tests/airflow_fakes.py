"""The parts of a task instance and its context that an operator uses, for tests without a database."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

from tests.usage import check_xcom


@dataclass
class TaskInstance:
    dag_id: str = "nightly"
    task_id: str = "ask"
    run_id: str = "scheduled__2026-01-01"
    map_index: int = -1
    max_tries: int = 2
    try_number: int = 1
    start_date: datetime.datetime | None = None
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        check_xcom(key, value)
        self.xcoms[key] = value


class TaskStateStore(dict):
    """Airflow 3.3's store that survives retries."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def context(ti: TaskInstance | None = None, **more: Any) -> dict[str, Any]:
    return {"ti": ti or TaskInstance(), **more}
