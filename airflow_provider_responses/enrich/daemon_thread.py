"""A thread for calls that may hang. The end of the process does not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any


class DaemonThread:
    """
    Runs calls one after another. Unlike those of an executor, its thread is not joined at the end of the process.

    :param name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Run a call after those before it."""
        done: Future[Any] = Future()
        self._calls.put((done, call))
        return done

    def end(self, within: float | None = None) -> None:
        """
        End the thread after its present calls, and wait for that.

        :param within: seconds to wait at most, by default without a limit.
        """
        self._calls.put(None)
        self._thread.join(within)

    def _run(self) -> None:
        while (next_call := self._calls.get()) is not None:
            done, call = next_call
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(call())
            except BaseException as error:  # noqa: BLE001  raised again where the result is awaited
                done.set_exception(error)
