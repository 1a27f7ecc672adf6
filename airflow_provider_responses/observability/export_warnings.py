"""
One warning about a collector of traces that is down, instead of two lines for each export.

OpenTelemetry's SDK exports every few seconds, and logs each export that fails. In a triggerer, that is a line every few
seconds for as long as the collector is down.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

INTERVAL: Final = 600.0  # seconds
_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",
)


class OneWarning(logging.Filter):
    """
    Pass the first warning or error, and no other one within ``INTERVAL``. Other levels pass.

    :param clock: seconds, as of ``time.monotonic``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is logged."""
        if record.levelno < logging.WARNING:
            return True
        now = self._clock()
        if self._passed_at is not None and now - self._passed_at < INTERVAL:
            return False
        self._passed_at = now
        return True

    def reset(self) -> None:
        """Let the next warning pass."""
        self._passed_at = None


_ONE_WARNING: Final = OneWarning()


def limit_export_warnings() -> None:
    """Limit the warnings about the exporter of a new tracer provider."""
    _ONE_WARNING.reset()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_ONE_WARNING)
