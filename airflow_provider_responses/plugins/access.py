"""The DAGs that a user may read, and the parts of them, by Airflow's auth manager."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel
from airflow.providers.common.compat.sdk import conf


class ReadableDags:
    """
    The DAGs that a user may read.

    The auth manager may use the session. MySQL permits no statement while rows are fetched from a server-side cursor,
    so call no method until all of them are fetched.

    :param user: as Airflow's own dependency returns it.
    """

    def __init__(self, user: Any, session: Any) -> None:
        self._user, self._session = user, session
        self._manager = get_auth_manager()
        self._dag_ids: set[str] | None = None
        self._known: dict[tuple[str, DagAccessEntity], bool] = {}

    def among(self, dag_ids: Collection[str], *parts: DagAccessEntity) -> frozenset[str]:
        """Return those of some DAGs of which the user may read the DAG and all of some parts, such as its XComs."""
        listed = sorted(set(dag_ids) & self._listed()) if dag_ids else []
        teams = self._teams(listed)
        return frozenset(
            dag_id
            for dag_id in listed
            if all(self._may_read_part(_details(dag_id, teams.get(dag_id)), part) for part in parts)
        )

    def may_read(self, dag_id: str, *parts: DagAccessEntity) -> bool:
        """Return the same for one DAG, without a list of all."""
        details = _details(dag_id, DagModel.get_team_name(dag_id) if _has_teams() else None)
        may_read = self._manager.is_authorized_dag(method="GET", details=details, user=self._user)
        return bool(may_read) and all(self._may_read_part(details, part) for part in parts)

    def _listed(self) -> set[str]:
        if self._dag_ids is None:
            found = self._manager.get_authorized_dag_ids(user=self._user, method="GET", session=self._session)
            self._dag_ids = set(found)
        return self._dag_ids

    def _teams(self, dag_ids: list[str]) -> dict[str, str | None]:
        if not dag_ids or not _has_teams():
            return {}
        return dict(DagModel.get_dag_id_to_team_name_mapping(dag_ids, session=self._session))

    def _may_read_part(self, details: DagDetails, part: DagAccessEntity) -> bool:
        key = (str(details.id), part)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = bool(
                self._manager.is_authorized_dag(method="GET", access_entity=part, details=details, user=self._user)
            )
        return known


def _details(dag_id: str, team: str | None) -> DagDetails:
    return DagDetails(id=dag_id) if team is None else DagDetails(id=dag_id, team_name=team)


def _has_teams() -> bool:
    return bool(conf.getboolean("core", "multi_team", fallback=False)) and hasattr(
        DagModel, "get_dag_id_to_team_name_mapping"
    )
