"""The base of all triggers: stored arguments, a clock for tests, and the time before which no worker may resume."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import time
from typing import Any, cast

from airflow.triggers.base import BaseTrigger

log = logging.getLogger(__name__)


class ProviderTrigger(BaseTrigger):
    """
    Store keyword arguments, and show none of them but the connection.

    :param kwargs: as the worker wrote them. They are read in ``run()``, since an exception in here would end the whole
        triggerer.
    """

    def __init__(self, **kwargs: Any) -> None:
        cast("Any", super()).__init__()  # Airflow's has no annotations
        self.kwargs = kwargs
        # Attributes for tests, and no arguments: Airflow stores those.
        self._now = time.time
        self._sleep = asyncio.sleep

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class, and its keyword arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.kwargs

    def __repr__(self) -> str:
        # Without the prompt: this lands in the triggerer's log.
        conn_id, task_id = self.kwargs.get("conn_id"), getattr(self, "task_id", None)
        return f"<{type(self).__name__} conn_id={conn_id} task={task_id}>"

    @property
    def _is_in_triggerer(self) -> bool:
        """Whether a triggerer runs this trigger; `dag.test()` does without one, and without an end in the trigger."""
        return self.trigger_id is not None

    @property
    def _stored_not_before(self) -> float:
        """When a worker may resume the task, from arguments that may be those of another version."""
        stored = self.kwargs.get("not_before")
        return stored if isinstance(stored, float) else 0.0

    async def _sleep_until(self, until: float) -> None:
        while (seconds := until - self._now()) > 0:
            await self._sleep(seconds)


@functools.cache
def exclude_from_garbage_collection(loaded: str) -> None:
    """
    Exclude all objects that a triggerer has loaded by now from garbage collection, once per process and name.

    Airflow's million objects live as long as the process; visiting them stops the event loop for 0.1 to 0.2 s.
    """
    gc.freeze()
    log.debug("The objects of %s are excluded from garbage collection from now on", loaded)
