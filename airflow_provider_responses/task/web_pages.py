"""The pages of other services and of Airflow that links open. No I/O and no Airflow; ids are escaped."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

TAB_ROUTE: Final = "responses"  # the `url_route` of the tab, which is a React app of the plugin
PAGE_PATH: Final = "/responses/task"

# OpenRouter documents that its Logs page can be filtered by the id of a generation and that filters are in the URL, but
# not their names. The first one filters the list, the second opens the record. A parameter that the page does not know
# leaves the list of the latest generations.
_LOGS: Final = "https://openrouter.ai/logs"
_GENERATION_ID: Final = re.compile(r"gen-[\w-]{1,200}", re.ASCII)
_OPENAI_BATCHES: Final = "https://platform.openai.com/batches/"
_BATCH_ID: Final = re.compile(r"batch_[\w-]{1,200}", re.ASCII)


def generation_page(generation_id: object) -> str | None:
    """Return OpenRouter's page of a generation; None for an id that is not OpenRouter's."""
    if not isinstance(generation_id, str) or not _GENERATION_ID.fullmatch(generation_id):
        return None
    return f"{_LOGS}?{urlencode({'generation_id': generation_id, 'transaction': generation_id})}"


def batch_page(batch_id: object, base_url: str | None) -> str | None:
    """
    Return OpenAI's page of a batch; None for other servers. OpenRouter lists batches, and has no page for one.

    :param base_url: of the server that runs it.
    """
    try:
        host = urlsplit(base_url or "").hostname or ""
    except ValueError:
        return None
    is_openai = host == "api.openai.com" or host.endswith(".api.openai.com")
    if not is_openai or not isinstance(batch_id, str) or not _BATCH_ID.fullmatch(batch_id):
        return None
    return f"{_OPENAI_BATCHES}{batch_id}"


def task_tab(base_url: str | None, dag_id: str, run_id: str, task_id: str, map_index: int | None = None) -> str:
    """
    Return the address of the tab "Responses" of a task instance, on Airflow 3.4 and later.

    :param base_url: of Airflow's API server; None for an address without a host.
    """
    dag, run, task = (quote(it, safe="") for it in (dag_id, run_id, task_id))
    mapped = f"/mapped/{map_index:d}" if _is_mapped(map_index) else ""
    return f"{_origin(base_url)}/dags/{dag}/runs/{run}/tasks/{task}{mapped}/plugin/{TAB_ROUTE}"


def task_page(base_url: str | None, dag_id: str, run_id: str, task_id: str, map_index: int | None = None) -> str:
    """Return the address of the page "Responses" of a task instance, on Airflow 3.1 to 3.3; see :func:`task_tab`."""
    fields = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}
    if _is_mapped(map_index):
        fields["map_index"] = f"{map_index:d}"
    return f"{_origin(base_url)}{PAGE_PATH}?{urlencode(fields, quote_via=quote, safe='')}"


def _is_mapped(map_index: int | None) -> bool:
    return map_index is not None and map_index >= 0


def _origin(base_url: str | None) -> str:
    """Return the beginning of an address, without a user name and password."""
    if not base_url:
        return ""
    try:
        parts = urlsplit(base_url)
    except ValueError:
        return ""
    if not parts.netloc:
        return parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
