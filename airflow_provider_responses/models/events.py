"""Events of a streamed response."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.models.response import Response

# `response.done` is an older name of `response.completed`.
TERMINAL_EVENTS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.done"})
ERROR_EVENTS: Final = frozenset({"error", "response.error"})


# Not frozen, which would make events, of which a stream has thousands, three times as expensive.
@dataclass(slots=True)
class StreamEvent:
    """
    One event of a stream.

    :param type: for example ``response.output_text.delta``.
    :param data: the JSON object, as it arrived.
    """

    type: str
    data: dict[str, Any] = field(repr=False)

    @property
    def sequence_number(self) -> int | None:
        """The event's number in the stream."""
        value = self.data.get("sequence_number")
        return value if isinstance(value, int) else None

    @property
    def delta(self) -> str:
        """The piece of text in a delta event, else an empty string."""
        value = self.data.get("delta")
        return value if isinstance(value, str) else ""

    @property
    def is_terminal(self) -> bool:
        """Whether the response ends with this event."""
        return self.type in TERMINAL_EVENTS

    @property
    def response(self) -> Response | None:
        """The response inside events such as ``response.created``; in the last event, as ``send`` returns it."""
        value = self.data.get("response")
        return Response(raw=value) if isinstance(value, dict) else None


@dataclass(slots=True)
class LastEvent(StreamEvent):
    """
    The event that ends a stream.

    :param assembled: the response with the output of all events, also if the server left it out at the end.
    """

    assembled: Response = field(repr=False)

    @property
    def is_terminal(self) -> bool:
        """True: the response ends with this event."""
        return True

    @property
    def response(self) -> Response:
        """The response, as ``send`` returns it."""
        return self.assembled
