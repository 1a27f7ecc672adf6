"""
Pushes the XCom ``usage`` at the end of an enrichment's attempt, also of one that failed.

On Airflow 3.3 and later, the counts are stored with the progress, so that a retry has those of an attempt that was
killed. If a task of the DAG has a budget, ``usage`` is pushed with them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_responses.operators.budget import shares_budget
from airflow_provider_responses.task.idempotency import clearing_id, idempotency_key_of
from airflow_provider_responses.task.texts import storable
from airflow_provider_responses.task.xcom import USAGE_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_responses.enrich.model_counts import ModelCounts
    from airflow_provider_responses.enrich.progress import Progress
    from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

STATE_KEY: Final = "airflow_provider_responses.enrich.usage"
PUSH_SECONDS: Final = 10.0  # between two pushes of an attempt that runs

log = logging.getLogger(__name__)


class Totals:
    """
    The counts of the first part of an attempt, which another process has run.

    :param is_known: whether there is no such part.
    """

    def __init__(self, *, is_known: bool) -> None:
        self._is_known, self._totals = is_known, dict[str, Any]()

    def set(self, totals: Mapping[str, Any]) -> None:
        """Set the totals of the wait for batches."""
        self._is_known, self._totals = True, dict(totals)

    def progress(self) -> Progress | None:
        """Return the counts; None if they are unknown."""
        from airflow_provider_responses.enrich.progress import Progress

        if not self._totals:
            return Progress() if self._is_known else None
        return Progress.from_json(self._totals["progress"])


class AttemptUsage:
    """
    The ``usage`` of an attempt: its record in the task state store, and its XCom.

    The record has the counts of earlier attempts since the task was cleared, and those of the last attempt. An attempt
    that was killed has an end that no record has; it counts as one request without a price.
    """

    def __init__(self, task: ResponsesEnrichOperator, context: Context, totals: Totals) -> None:
        self._task, self.totals = task, totals
        self._ti: Any = context["ti"]
        self._store: Any = context.get("task_state_store")  # Airflow 3.3 and later; survives retries
        self._key = idempotency_key_of(self._ti, clearing_id=clearing_id(self._ti, task.retries))
        self._is_shared = bool(task.do_xcom_push) and shares_budget(task)
        self._lock, self._ended = threading.Lock(), False
        self._is_complete = True
        self._pushed_at: float | None = None
        self._latest: Mapping[str, ModelCounts] = {}
        self.earlier: Mapping[str, ModelCounts] = self._read()

    def _read(self) -> dict[str, ModelCounts]:
        """Return the counts of earlier attempts."""
        from airflow_provider_responses.enrich.model_counts import ModelCounts
        from airflow_provider_responses.enrich.usage import add_models, models_from_json

        is_first = self._ti.try_number in {1, self._ti.max_tries - (self._task.retries or 0) + 1}
        stored: Any = None
        try:
            stored = None if self._store is None else self._store.get(STATE_KEY)
        except Exception as error:  # noqa: BLE001  no error of the store is a reason to fail a task
            self._give_up_store(error)
        if not stored or stored.get("idempotency_key") != self._key:
            self._is_complete = is_first
            return {} if is_first else {"": ModelCounts(unpriced=1)}
        found = models_from_json(stored["models"])
        if stored.get("attempt") in {None, self._ti.try_number}:  # this one, before a wait for batches
            return found
        found = add_models(found, models_from_json(stored["current"]))
        return found if stored["ended"] else add_models(found, {"": ModelCounts(unpriced=1)})

    def write(self, *, ended: bool = False) -> None:
        """Store the latest counts, if there is a store."""
        from airflow_provider_responses.enrich.usage import models_to_json

        if self._store is None:
            return
        record: dict[str, Any] = {"idempotency_key": self._key, "models": models_to_json(self.earlier)}
        record |= {"attempt": self._ti.try_number, "current": models_to_json(self._latest), "ended": ended}
        try:
            self._store.set(STATE_KEY, record)
        except Exception as error:  # noqa: BLE001  no error of the store is a reason to fail a task
            self._give_up_store(error)

    def _give_up_store(self, error: Exception) -> None:
        log.warning("`usage` counts this attempt alone: the task state store cannot be used: %s", error)
        self._store = None

    def with_store(self, context: Context) -> dict[str, Any]:
        """Return the context of a progress report, with a task state store that has the counts, too."""
        store = context.get("task_state_store")
        # Not a copy of the context, which would compute all of its lazy values.
        return {"ti": context["ti"], "task_state_store": None if store is None else _Store(store, self.push_and_write)}

    def reported_before(self, report: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return a function that notes the counts, and then reports figures."""

        def report_both(figures: Any) -> None:
            self._note()
            if self._store is None:  # else the thread that writes the progress does it
                self.push_and_write()
            report(figures)

        return report_both

    def _note(self) -> None:
        from airflow_provider_responses.enrich.usage import models_from_json, models_to_json

        progress = self._progress()
        self._latest = {} if progress is None else models_from_json(models_to_json(progress.models))

    def push_and_write(self) -> None:
        """Store the counts, and push ``usage`` if a task of the DAG has a budget, which counts it."""
        with self._lock:
            if self._ended:  # a slow store has delayed the thread that writes the progress
                return
            self.write()
            now = time.monotonic()
            if self._is_shared and (self._pushed_at is None or now - self._pushed_at >= PUSH_SECONDS):
                self._pushed_at = now
                self.push("in_progress")

    def push(self, status: str) -> None:
        """Push ``usage``."""
        from airflow_provider_responses.enrich.progress import Progress
        from airflow_provider_responses.enrich.usage import usage_of_enrichment

        enrichment = self._task.enrichment
        report = None if enrichment is None else enrichment.report
        manifest = (None if enrichment is None else enrichment.manifest) or {}
        prompt = self._task.prompt_template if enrichment is None else enrichment.job.prompt
        progress = self._progress()
        if status == "in_progress":  # in another thread than the one that counts
            progress = Progress(models=dict(self._latest))
        usage = usage_of_enrichment(
            progress,
            earlier=self.earlier,
            status=status,
            is_complete=self._is_complete,
            rows=None if report is None or not report.source_rows else report.rows,
            prompt_fingerprint=(prompt or {}).get("fingerprint"),
            result_path=manifest.get("output"),
        )
        if status == "in_progress":
            usage["cost_this_attempt"] = None  # not counted by model
        self._ti.xcom_push(key=USAGE_KEY, value=storable(usage))

    def pause(self) -> None:
        """Store the counts before the attempt waits without a worker."""
        self._note()
        self._pushed_at = None
        self.push_and_write()

    def end(self, status: str) -> None:
        """Store the counts of the attempt, and push ``usage``."""
        with self._lock:
            self._ended = True
            self._note()
            self.write(ended=True)
            self.push(status)

    def _progress(self) -> Progress | None:
        enrichment = self._task.enrichment
        return self.totals.progress() if enrichment is None else enrichment.report.progress


class _Store:
    """A task state store that calls a function after each write."""

    def __init__(self, store: Any, written: Callable[[], None]) -> None:
        self._store, self._written = store, written

    def set(self, key: str, value: Any) -> None:
        self._store.set(key, value)
        self._written()


@contextmanager
def usage_pushed(task: ResponsesEnrichOperator, context: Context, *, resumed: bool) -> Iterator[AttemptUsage]:
    """
    Push ``usage`` at the end of the block, unless the task is deferred or its process is ended.

    :param resumed: whether the attempt continues after a wait for batches.
    """
    usage = AttemptUsage(task, context, Totals(is_known=not resumed))
    is_pushed = task.do_xcom_push
    if is_pushed and not resumed:
        usage.write()
        if usage.earlier:  # Airflow has deleted their XCom
            usage.push_and_write()
    try:
        yield usage
    except TaskDeferred:  # the attempt goes on
        if is_pushed:
            usage.pause()
        raise
    except Exception:
        if is_pushed:
            usage.end("failed")
        raise
    if is_pushed:
        usage.end("completed")
