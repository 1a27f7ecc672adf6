"""The DAGs whose XComs a user may read, by Airflow's auth manager."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel
from airflow.providers.common.compat.sdk import conf


class ReadableDags:
    """
    The DAGs that a user may read, and whose XComs.

    The auth manager is asked for the XComs of a DAG when that DAG is looked up.

    :param user: as Airflow's own dependency returns it.
    """

    def __init__(self, user: Any, session: Any) -> None:
        self._user, self._session = user, session
        self._manager = get_auth_manager()
        self._dag_ids: set[str] | None = None
        self._teams: dict[str, str | None] | None = None
        self._known: dict[str, bool] = {}

    def __contains__(self, dag_id: str) -> bool:
        known = self._known.get(dag_id)
        if known is None:
            known = self._known[dag_id] = self._is_listed(dag_id) and self._may_read_xcoms(dag_id)
        return known

    def may_read(self, dag_id: str) -> bool:
        """Return the same for one DAG, without a list of all."""
        details = self._details(dag_id, DagModel.get_team_name(dag_id) if _has_teams() else None)
        may_read = self._manager.is_authorized_dag(method="GET", details=details, user=self._user)
        return may_read and self._may_read_xcoms_of(details)

    def _is_listed(self, dag_id: str) -> bool:
        if self._dag_ids is None:
            self._dag_ids = self._manager.get_authorized_dag_ids(user=self._user, method="GET", session=self._session)
        return dag_id in self._dag_ids

    def _may_read_xcoms(self, dag_id: str) -> bool:
        if self._teams is None:
            teams: Any = {}
            if _has_teams():
                teams = DagModel.get_dag_id_to_team_name_mapping(list(self._dag_ids or ()), session=self._session)
            self._teams = dict(teams)
        return self._may_read_xcoms_of(self._details(dag_id, self._teams.get(dag_id)))

    def _may_read_xcoms_of(self, details: DagDetails) -> bool:
        return bool(
            self._manager.is_authorized_dag(
                method="GET", access_entity=DagAccessEntity.XCOM, details=details, user=self._user
            )
        )

    def _details(self, dag_id: str, team: str | None) -> DagDetails:
        return DagDetails(id=dag_id) if team is None else DagDetails(id=dag_id, team_name=team)


def _has_teams() -> bool:
    return bool(conf.getboolean("core", "multi_team", fallback=False)) and hasattr(
        DagModel, "get_dag_id_to_team_name_mapping"
    )
