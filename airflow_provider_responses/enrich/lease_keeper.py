"""Renews the lease on a thread of its own, whatever else the attempt waits for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.exceptions import LeaseLostError, StorageError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

log = logging.getLogger(__name__)

MAX_WAIT: Final = 5.0  # seconds after a renewal that failed
MIN_WAIT: Final = 0.001


class LeaseKeeper:
    """
    See the module.

    :param renew: renews the lease once, or raises.
    :param path: of the output, for messages.
    :param clock: seconds, as of ``time.monotonic``.
    :param lease_seconds: after which the lease lapses. It is renewed four times in that time.
    :param max_outage: seconds to wait for a store that is down.
    :param on_lost: is called once, on the keeper's thread, when the lease is lost or cannot be renewed.
    """

    def __init__(
        self,
        renew: Callable[[], None],
        path: Any,
        *,
        clock: Callable[[], float],
        lease_seconds: float,
        max_outage: float,
        on_lost: Callable[[BaseException], None],
    ) -> None:
        self._renew, self._path, self._clock = renew, path, clock
        self._seconds, self._max_outage, self._on_lost = lease_seconds, max_outage, on_lost
        self._ended = threading.Event()
        self._failing_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()  # a renewal after the release would claim the lease again

    def check(self) -> None:
        """
        Check that the lease is held.

        :raises LeaseLostError: if another writer has taken it.
        :raises StorageError: if it could not be renewed for too long.
        """
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        wait = self._seconds / 4
        while not self._ended.wait(max(wait, MIN_WAIT)) and self._error is None:
            wait = self._seconds / 4
            try:
                self._renew()
            except LeaseLostError as error:
                self._end(error)
            except Exception as error:  # noqa: BLE001  the thread must go on, whatever the store raises
                wait = min(wait, MAX_WAIT)
                self._failed(error)
            else:
                self._failing_since = None

    def _failed(self, error: Exception) -> None:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
            log.warning("%s: the lease cannot be renewed; trying again. %s", self._path, error)
        if now - self._failing_since >= max(self._max_outage, self._seconds):
            failure = StorageError(
                f"output_path {str(self._path)!r}: the lease could not be renewed for {now - self._failing_since:.0f} "
                f"s, and another task may have begun to write; a retry continues with the saved responses. {error}",
                path=str(self._path),
                retryable=True,
            )
            failure.__cause__ = error
            self._end(failure)

    def _end(self, error: BaseException) -> None:
        self._error = error
        self._on_lost(error)
