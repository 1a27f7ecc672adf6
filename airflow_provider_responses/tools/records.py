"""The records of a loop in a store that survives retries: the responses of its steps, and the results of its calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, Protocol

from airflow_provider_responses.tools.calls import FATAL, Call, CallResult

PREFIX: Final = "airflow_provider_responses.tools"
STARTED: Final = "started"


class Store(Protocol):
    """A store of JSON values, such as Airflow's task state store."""

    def get(self, key: str, /) -> Any:
        """Return a value, None if there is none."""

    def set(self, key: str, value: Any, /) -> None:
        """Store a value before this method returns."""


class Records:
    """
    The records of one loop. A step is recorded before its calls start, and a call as soon as it has ended.

    Steps and calls are found by the task's idempotency key, which a clear changes.

    :param store: None records nothing.
    :param idempotency_key: the task's.
    """

    def __init__(self, store: Store | None, idempotency_key: str) -> None:
        self._store = store
        self._idempotency_key = idempotency_key

    def step(self, step: int) -> dict[str, Any] | None:
        """Return the ``items`` of a step's response and its ``usage``; None if its calls have not started."""
        found = None if self._store is None else self._store.get(self._key(step))
        return dict(found) if found else None

    def set_step(self, step: int, items: Sequence[Any], usage: Any) -> None:
        """Record that the calls of a step start now."""
        if self._store is not None:
            self._store.set(self._key(step), {"items": list(items), "usage": usage})

    def result(self, step: int, call: Call) -> CallResult | str | None:
        """Return the result of a call, ``fatal`` if it ended the task, None if the end of its last run is unknown."""
        found = None if self._store is None else self._store.get(self._key(step, call))
        if not found or found["status"] == STARTED:
            return None
        return FATAL if found["status"] == FATAL else CallResult(found["output"], found["status"])

    def set_started(self, step: int, call: Call) -> None:
        """Record that a call with an earlier record is called again."""
        if self._store is not None:
            self._store.set(self._key(step, call), {"status": STARTED})

    def set_result(self, step: int, call: Call, result: CallResult | None) -> None:
        """
        Record the end of a call.

        :param result: None for one that ended the task: it is called again when the task is retried.
        """
        if self._store is not None:
            value = {"status": FATAL} if result is None else {"status": result.status, "output": result.output}
            self._store.set(self._key(step, call), value)

    def idempotency_key(self, step: int, call: Call) -> str:
        """Return the idempotency key of a call: 32 hex digits, which another function or other arguments change."""
        place = f"{self._idempotency_key}/{step}/{call.position}"
        text = json.dumps([place, call.name, _canonical(call.arguments)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _key(self, step: int, call: Call | None = None) -> str:
        place = str(step) if call is None else f"{step}.{call.position}"
        return f"{PREFIX}.{self._idempotency_key}.{place}"


def _canonical(arguments: str) -> str:
    """Return arguments as JSON without differences that have no meaning; as they are, if they are no JSON."""
    try:
        return json.dumps(json.loads(arguments.strip() or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments
