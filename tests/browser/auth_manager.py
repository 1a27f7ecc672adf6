"""Airflow's simple auth manager, with a user who may not read everything."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

VISITOR = "visitor"
HIDDEN = "nightly_tickets"  # the DAG that the visitor may not read


class SomeDagsAuthManager(SimpleAuthManager):
    """Denies the visitor one DAG."""

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        if user.username == VISITOR and details is not None and details.id == HIDDEN:
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
