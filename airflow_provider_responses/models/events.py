"""Events of a streamed answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.models.response import Response

# `response.done` is an older name of `response.completed`.
TERMINAL_EVENTS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.done"})
ERROR_EVENTS: Final = frozenset({"error", "response.error"})


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamEvent:
    """
    One event of a stream.

    :param type: for example ``response.output_text.delta``.
    :param data: the event's whole JSON object.
    """

    type: str
    data: dict[str, Any] = field(repr=False)

    @property
    def sequence_number(self) -> int | None:
        """The event's place in the stream."""
        value = self.data.get("sequence_number")
        return value if isinstance(value, int) else None

    @property
    def delta(self) -> str:
        """The piece of text that a delta event brings, else an empty string."""
        value = self.data.get("delta")
        return value if isinstance(value, str) else ""

    @property
    def is_terminal(self) -> bool:
        """Whether the answer is whole with this event."""
        return self.type in TERMINAL_EVENTS

    @property
    def response(self) -> Response | None:
        """The answer inside ``response.created``, ``response.completed`` and their like."""
        value = self.data.get("response")
        return Response(raw=value) if isinstance(value, dict) else None
