"""
The links of task instances: to the generation at OpenRouter, to the batch, and to the tab or page "Responses".

Airflow 2.11 calls ``get_link`` in its web server. Airflow 3 calls it on the worker when an attempt has ended, failed or
been deferred, and stores the address as an XCom; an empty text is no link. A task that never takes a worker gets none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_4_PLUS

from airflow_provider_responses.task.web_pages import batch_page, generation_page, task_page, task_tab
from airflow_provider_responses.task.xcom import USAGE_KEY

HAS_TAB: Final = AIRFLOW_V_3_4_PLUS
HAS_PAGE: Final = AIRFLOW_V_3_1_PLUS and not HAS_TAB

log = logging.getLogger(__name__)


class ResponseLink(BaseOperatorLink):
    """The generation at OpenRouter; for another server the tab "Responses", on Airflow 3.4."""

    name = "Response"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, an empty text if there is none."""

        def find() -> str | None:
            found = getattr(operator, "_generation_id", None) if AIRFLOW_V_3_0_PLUS else _stored_generation_id(ti_key)
            return generation_page(found) or (_tab_or_page(ti_key) if HAS_TAB else None)

        return _without_errors(find)


class ResponsesLink(BaseOperatorLink):
    """The page "Responses" of the task instance, on Airflow 3.1 to 3.3."""

    name = "Responses"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002
        """Return the address."""
        return _without_errors(lambda: _tab_or_page(ti_key))


class ResultLink(BaseOperatorLink):
    """The tab or page "Responses" of an enrichment, with its progress and the path of its result."""

    name = "Result"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002
        """Return the address."""
        return _without_errors(lambda: _tab_or_page(ti_key))


class BatchLink(BaseOperatorLink):
    """The batch at OpenAI; batches at OpenRouter, and several of them, are in the tab or page "Responses"."""

    name = "Batch"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, an empty text if the task has no batch."""

        def find() -> str | None:
            batch_ids, base_url = _batches_of(getattr(operator, "enrichment", None))
            if not batch_ids:
                return None
            page = batch_page(batch_ids[0], base_url) if len(batch_ids) == 1 else None
            return page or _tab_or_page(ti_key)

        return _without_errors(find)


def links_of_request() -> tuple[BaseOperatorLink, ...]:
    """Return the links of a task that sends one request, as far as this version of Airflow has pages for them."""
    return (ResponseLink(), ResponsesLink()) if HAS_PAGE else (ResponseLink(),)


def links_of_enrichment() -> tuple[BaseOperatorLink, ...]:
    """Return the links of a task that sends requests for the rows of a table."""
    return (ResultLink(), BatchLink()) if HAS_PAGE or HAS_TAB else ()


def push_result_link(task: Any, ti: Any) -> None:
    """Show the link to the progress of an enrichment already while it runs, where there is no tab for it."""
    if not HAS_PAGE or not task.do_xcom_push:
        return
    link = ResultLink()
    try:
        ti.xcom_push(key=link.xcom_key, value=link.get_link(task, ti_key=ti))
    except Exception as error:  # noqa: BLE001  a link is no reason to fail a task, whatever an XCom backend raises
        log.info("The link to the progress could not be stored: %s", error)


def _tab_or_page(ti_key: Any) -> str:
    # By default, Airflow's configuration has no `base_url`: an address without a host is valid in its UI.
    base_url = conf.get("api", "base_url", fallback=None)
    make = task_tab if HAS_TAB else task_page
    return make(base_url, ti_key.dag_id, ti_key.run_id, ti_key.task_id, ti_key.map_index)


def _stored_generation_id(ti_key: Any) -> Any:
    from airflow.models.xcom import XCom

    usage = XCom.get_value(key=USAGE_KEY, ti_key=ti_key)
    return usage.get("generation_id") if isinstance(usage, dict) else None


def _batches_of(enrichment: Any) -> tuple[list[str], str | None]:
    """Return the ids of the batches of an enrichment, and the address of the server."""
    if enrichment is None:
        return [], None
    listed = (enrichment.manifest or {}).get("batches", ())
    batch_ids = [batch["id"] for batch in listed if batch["id"] is not None] or enrichment.running_batches()
    return list(batch_ids), enrichment.job.config.for_call(enrichment.job.options).base_url


def _without_errors(find: Callable[[], str | None]) -> str:
    """Return an address, an empty text if it cannot be found: Airflow 3.0 fails a task whose link raises."""
    try:
        return find() or ""
    except Exception as error:  # noqa: BLE001  a link is no reason to fail a task
        log.debug("A link of the task is unknown: %s", error)
        return ""
