"""Server-sent events → the answer's events. The grammar of SSE is httpx-sse's; what the events mean is said here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_responses.client import protocol
from airflow_provider_responses.client.bodies import parse_json
from airflow_provider_responses.client.errors import error_from_event
from airflow_provider_responses.client.summary import RequestSummary
from airflow_provider_responses.exceptions import StreamInterruptedError
from airflow_provider_responses.models.events import ERROR_EVENTS, StreamEvent
from airflow_provider_responses.models.response import Response

DONE = "[DONE]"


class StreamReader:
    """
    Reads one streamed answer. Takes the data of each SSE event; keeps the text so far and the final answer.

    :param request: what is answered.
    """

    def __init__(self, headers: Mapping[str, str], *, request: RequestSummary) -> None:
        self.headers = headers
        self.request = request
        self.response: Response | None = None
        self._text: list[str] = []
        self._items: list[dict[str, Any]] = []

    @property
    def text(self) -> str:
        """The text that has arrived."""
        return "".join(self._text)

    def read(self, data: str) -> StreamEvent | None:
        """
        Turn the data of one SSE event into a stream event; None for ``[DONE]``.

        :raises StreamInterruptedError: for malformed data.
        :raises APIError: for an error event.
        """
        if not data or data.strip() == DONE:
            return None
        body = parse_json(data)
        if not isinstance(body, dict):
            raise self.interrupted(f"an event of {len(data)} characters is no JSON object")
        kind = body.get("type")
        event = StreamEvent(type=kind if isinstance(kind, str) else "", data=body)
        if event.type in ERROR_EVENTS or (not event.type and isinstance(body.get("error"), (dict, str))):
            raise error_from_event(body, self.headers, request=self.request)
        if event.type == "response.output_text.delta":
            self._text.append(event.delta)
        elif event.type == "response.output_item.done" and isinstance(body.get("item"), dict):
            self._items.append(body["item"])
        elif event.is_terminal:
            self._end(event)
        return event

    def whole(self, response: Response) -> StreamEvent:
        """Take the answer of a server that does not stream, as the event that would have ended the stream."""
        self.response = response
        kind = f"response.{response.status or 'completed'}"
        return StreamEvent(type=kind, data={"type": kind, "response": response.raw})

    def finish(self) -> Response:
        """
        Give the final answer, checked.

        :raises StreamInterruptedError: if the stream ended without a terminal event, however clean its end.
        """
        if self.response is None:
            raise self.interrupted("it ended before the answer did")
        return protocol.check_answer(self.response, request=self.request)

    def interrupted(self, why: str) -> StreamInterruptedError:
        """Build the error for a stream that broke."""
        text = self.text
        return StreamInterruptedError(
            f"{self.request.label}: the stream broke after {len(text)} characters of text: {why}. "
            "What was made so far may have been billed; the same request can be sent again",
            text=text,
            ambiguous=True,
            generation_id=self.headers.get("x-generation-id"),
        )

    def _end(self, event: StreamEvent) -> None:
        inner = event.response
        if inner is None:
            raise self.interrupted(f"its {event.type} event holds no response")
        raw = dict(inner.raw)
        named = event.type.removeprefix("response.").replace("done", "completed")
        if named != "completed" or raw.get("status") not in ("completed", "incomplete", "failed"):
            raw["status"] = named  # some servers say it by the event's name alone
        if not raw.get("output"):  # and some send the answer in its pieces alone
            raw["output"] = self._items or self._message()
        self.response = Response(raw=raw, headers=self.headers)

    def _message(self) -> list[dict[str, Any]]:
        if not self._text:
            return []
        content = [{"type": "output_text", "text": self.text, "annotations": []}]
        return [{"type": "message", "role": "assistant", "status": "completed", "content": content}]
