"""The progress of an enrichment in Airflow: metrics, and from Airflow 3.3 on an entry of the task state store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.observability.metrics import ENRICH_PREFIX

if TYPE_CHECKING:
    from airflow_provider_responses.observability.spans import EnrichmentSpan

STATE_KEY: Final = "airflow_provider_responses.enrich"
LAST_WRITE_SECONDS: Final = 10.0  # that the end of a task waits for a slow store

log = logging.getLogger(__name__)

Figures = Mapping[str, Any]  # numbers, None where unknown, and numbers by name


class ProgressReport:
    """
    Reports figures as metrics, and to the task state store.

    The store is written in a thread of its own, since each write is a request to Airflow's API server.

    :param tags: of the metrics.
    :param store: the task state store; None before Airflow 3.3.
    :param span: of the enrichment, whose attributes the last figures become.
    :param attempt: fields of the record in the store that identify the attempt: the record outlives it.
    """

    def __init__(
        self,
        tags: Mapping[str, str],
        store: Any = None,
        span: EnrichmentSpan | None = None,
        attempt: Mapping[str, int | None] | None = None,
    ) -> None:
        self._tags, self._store, self._span = dict(tags), store, span
        self._attempt = dict(attempt or {})
        self._latest: Figures | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, task: Any, context: Any, shard: tuple[int, int], span: EnrichmentSpan | None) -> ProgressReport:
        """Return the report of a task."""
        tags = {"dag_id": task.dag_id, "task_id": task.task_id}
        if shard != (0, 1):
            tags["shard"] = str(shard[0])
        ti = context["ti"]  # only a clear changes `max_tries`
        attempt = {name: getattr(ti, name, None) for name in ("try_number", "max_tries")}
        return cls(tags, context.get("task_state_store"), span, attempt)

    def __call__(self, figures: Figures) -> None:
        """Report figures. Only numbers are metrics; the store has all, null where unknown."""
        from airflow.providers.common.compat.sdk import Stats

        if self._span is not None:
            self._span.note(figures)
        for name, value in figures.items():
            if isinstance(value, (int, float)):
                Stats.gauge(f"{ENRICH_PREFIX}.{name}", value, tags=self._tags)
        if self._store is None:
            return
        with self._changed:
            self._latest = figures
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="progress", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait until the last figures are written, at most ``LAST_WRITE_SECONDS``."""
        if self._thread is None:
            return
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(LAST_WRITE_SECONDS)

    def _write(self) -> None:
        """Write the latest figures whenever there are new ones; a slow store skips some."""
        failed = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._latest is not None)
                figures, self._latest = self._latest, None
            if figures is None:
                return
            try:
                self._store.set(STATE_KEY, {**figures, **self._attempt})
            except Exception as error:  # noqa: BLE001  no error of the store is a reason to stop the task
                if not failed:
                    log.warning("The progress cannot be written to the task state store: %s", error)
                failed = True
