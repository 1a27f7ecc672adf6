"""
Groups of log lines, which Airflow's UI folds: ``::group::NAME`` before them and ``::endgroup::`` behind.

A group has only lines of the levels DEBUG and INFO: it is closed before a warning or an error, and opened again before
the next line. It is closed also after 60 lines, for one line of this package, so that the folded log of a long task
shows its progress. A group without lines is not opened. No Airflow.

On Airflow 3, ``self.log`` of hooks and operators, and Python's warnings, are lines of structlog, which pass no handler
of the standard library. A processor of structlog sees them.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final

MAX_LINES: Final = 60  # in one group; a progress line is logged every 10 seconds
PACKAGE: Final = __name__.partition(".")[0]

log = logging.getLogger(__name__)


class LogGroup(logging.Handler):
    """
    Put the lines that are logged in a ``with`` block into a group.

    It is the first handler of the loggers that have the handlers of the process, and so logs before them.

    :param name: of the group.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._is_open = False
        self._lines = 0
        self._opened = 0  # number of times
        self._last: logging.LogRecord | None = None
        self._loggers: list[logging.Logger] = []
        self._processors: list[Any] | None = None  # of structlog
        self._is_logging = threading.local()

    def __enter__(self) -> LogGroup:
        # Airflow 2's logger of tasks does not propagate.
        self._loggers = [logging.getLogger(), logging.getLogger("airflow.task")]
        for logger in self._loggers:
            logger.handlers.insert(0, self)
        structlog = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            # The list itself is changed: loggers that structlog has cached hold it.
            self._processors = structlog.get_config()["processors"]
            self._processors.insert(0, self._process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for logger in self._loggers:
            logger.removeHandler(self)
        if self._processors is not None and self._process in self._processors:
            self._processors.remove(self._process)
        self._processors = None
        with self.lock:  # type: ignore[union-attr]  # every handler has one
            self._end()
        self.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Open or close the group before the line is logged."""
        if getattr(self._is_logging, "now", False) or record is self._last:  # Airflow 2 may let its logger propagate
            return
        self._last = record
        self._prepare_line(record.levelno, record.name)

    def _process(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Do the same before a line of structlog is logged."""
        level = logging.ERROR if method == "exception" else logging.getLevelName(method.upper())
        if isinstance(level, int) and not getattr(self._is_logging, "now", False):
            with self.lock:  # type: ignore[union-attr]  # every handler has one
                self._prepare_line(level, str(getattr(logger, "name", "")))
        return event

    def _prepare_line(self, level: int, name: str) -> None:
        if level >= logging.WARNING or (self._lines >= MAX_LINES and name.startswith(PACKAGE)):
            self._end()
        else:
            self._begin()
            self._lines += 1

    def _begin(self) -> None:
        if not self._is_open:
            self._opened += 1
            again = "" if self._opened == 1 else f" ({self._opened})"
            self._log(f"::group::{self._name}{again}")
            self._is_open = True

    def _end(self) -> None:
        if self._is_open:
            self._log("::endgroup::")
        self._is_open, self._lines = False, 0

    def _log(self, text: str) -> None:
        self._is_logging.now = True
        try:
            log.info("%s", text)
        finally:
            self._is_logging.now = False
