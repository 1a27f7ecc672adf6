"""The spans that a test has recorded."""

from __future__ import annotations

from typing import Any

SCOPE = "airflow_provider_responses"


class Spans:
    """
    The ended spans, oldest first.

    :param exporter: the SDK's exporter in memory.
    """

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    @property
    def all(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())

    @property
    def ours(self) -> list[Any]:
        return [span for span in self.all if span.instrumentation_scope.name == SCOPE]

    def only(self) -> Any:
        (span,) = self.ours
        return span

    def named(self, name: str) -> list[Any]:
        return [span for span in self.all if span.name == name]


def resends(span: Any) -> list[tuple[str, Any, Any]]:
    """Return the error, the status and the wait of each resend."""
    return [
        (
            event.attributes["error.type"],
            event.attributes.get("http.response.status_code"),
            event.attributes["responses.wait"],
        )
        for event in span.events
        if event.name == "responses.resend"
    ]
