"""Airflow's simple auth manager, with rights by DAG if a test sets them."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class AuthManagerOfTests(SimpleAuthManager):
    rights: ClassVar[dict[str, set[str]] | None] = None

    def init(self) -> None:
        """Make no files with passwords."""

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        if self.rights is None:
            return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
        assert details is not None
        kind = {DagAccessEntity.XCOM: "xcom", DagAccessEntity.TASK_INSTANCE: "task_instance"}.get(access_entity, "dag")
        return method == "GET" and details.id in self.rights[kind]
