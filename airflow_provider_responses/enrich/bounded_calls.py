"""Calls of a store that may hang: each runs on a thread of its own, and is given up when it takes too long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Final, TypeVar

from airflow_provider_responses.exceptions import StorageError

T = TypeVar("T")

log = logging.getLogger(__name__)

HURRIED_SECONDS: Final = 15.0  # that a call may take once the task is being ended
WARN_AFTER: Final = 60.0  # seconds without progress


class AbandonedError(Exception):
    """The upload was given up, and must not go on."""


class UploadWatch:
    """
    Runs uploads, and gives up one that makes no progress.

    :param clock: seconds, as of ``time.monotonic``.
    :param tick: seconds between two checks.
    :param patience: seconds without progress, after which an upload is given up.
    :param check: raises if there is no reason to wait any longer, such as a lost lease.
    :param is_hurried: returns whether the task is being ended; an upload then has 15 s left.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        tick: float,
        patience: float,
        check: Callable[[], None] = lambda: None,
        is_hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock, self._tick, self._patience = clock, tick, patience
        self._check, self._is_hurried = check, is_hurried
        self._hurried_at: float | None = None
        self._is_hung = False  # whether an upload was given up: the store is not waited for that long again

    def run(self, upload: Callable[[Callable[[], None]], T], url: str, is_safe: str) -> T:
        """
        Return the result of an upload.

        :param upload: is given a function that it calls at each step; one that is given up ends at its next step.
        :param url: of the file.
        :param is_safe: a sentence for the error: which data is safe, and what a retry does.
        :raises StorageError: retryable, if the upload makes no progress for too long.
        """
        last = self._clock()
        is_abandoned = is_reported = False

        def step() -> None:
            nonlocal last
            if is_abandoned:
                raise AbandonedError(url)
            last = self._clock()

        done = _started(lambda: upload(step))
        try:
            while not futures.wait([done], self._tick).done:
                self._check()
                silent, patience = self._clock() - last, self._patience_from(last)
                if silent >= patience:
                    self._is_hung = True
                    raise StorageError(
                        f"{url}: the store gave no response for {silent:.0f} s during the upload. {is_safe}", path=url
                    )
                if silent >= WARN_AFTER and not is_reported:
                    is_reported = True
                    text = "%s: the upload has made no progress for %.0f s; waiting up to %g s (limits.max_outage)"
                    log.warning(text, url, silent, patience)
        finally:
            is_abandoned = True
        return done.result()

    def _patience_from(self, last: float) -> float:
        """Return the seconds that an upload may go without progress, given the time of its last step."""
        if self._is_hurried():
            self._hurried_at = self._clock() if self._hurried_at is None else self._hurried_at
            return max(self._hurried_at - last, 0.0) + HURRIED_SECONDS
        return min(self._patience, HURRIED_SECONDS) if self._is_hung else self._patience


def within(seconds: float, call: Callable[[], T], url: str) -> T:
    """
    Return the result of a call. One that takes too long goes on in its thread, and nobody waits for it.

    :raises StorageError: retryable, if the call takes longer than that.
    """
    done = _started(call)
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():  # the call's own
            raise
        raise StorageError(
            f"{url}: the store gave no response for {seconds:.0f} s; a retry continues with the saved responses",
            path=url,
        ) from None


def _started(call: Callable[[], T]) -> futures.Future[T]:
    """Run a call on a daemon thread: neither this process nor its end waits for one that hangs."""
    done: futures.Future[T] = futures.Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised again where the result is awaited
            done.set_exception(error)

    threading.Thread(target=run, name="storage", daemon=True).start()
    return done
