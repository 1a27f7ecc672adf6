"""
The plugin: the page "LLM spend" and, from Airflow 3.4 on, the tab "Responses" of this provider's task instances.

Every process of Airflow imports this module, workers and DAG processors too. So it imports neither FastAPI nor
SQLAlchemy; :class:`LazyApp` does with the first request.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_4_PLUS

from airflow_provider_responses import __version__

PREFIX: Final = "/responses"
# Template fields that no other provider has. A task's class is not enough: Airflow's API has its name, which a subclass
# changes, while a subclass and a decorator inherit the template fields.
TEMPLATE_FIELDS: Final = ("on_invalid_output", "prompt_template")

Message = MutableMapping[str, Any]


class LazyApp:
    """An ASGI app that is built with its first request."""

    def __init__(self) -> None:
        self._app: Any = None
        self._lock = threading.Lock()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve a request."""
        app = self._app or await asyncio.to_thread(self._built)  # its imports must not block the event loop
        await app(scope, receive, send)

    def _built(self) -> Any:
        with self._lock:
            if self._app is None:
                from airflow_provider_responses.plugins.web_app import make_app

                self._app = make_app()
        return self._app


def _react_apps() -> list[dict[str, Any]]:
    """Return the pages in Airflow's own frame, which it has from 3.1 on."""
    if not AIRFLOW_V_3_1_PLUS:
        return []
    # Airflow 3.1 and 3.2 take the address as it is: from the root of the host.
    base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    bundle = f"{base}{PREFIX}/static/responses.js?v={__version__}"
    spend = {
        "name": "LLM spend",
        "bundle_url": f"{bundle}&app=spend",
        "destination": "nav",
        "category": "browse",
        "url_route": "responses-spend",
    }
    if not AIRFLOW_V_3_4_PLUS:
        return [spend]
    tab = {
        "name": "Responses",
        "bundle_url": f"{bundle}&app=task",
        "destination": "task_instance",
        "url_route": "responses",
        "applies_to": {"task.template_fields": list(TEMPLATE_FIELDS)},
    }
    return [spend, tab]


class ResponsesPlugin(AirflowPlugin):
    """See the module."""

    name = "airflow_provider_responses"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "Responses"}] if AIRFLOW_V_3_0_PLUS else []
    react_apps = _react_apps()
