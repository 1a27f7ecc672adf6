"""Reads server-sent events as the events and the response of a stream. No I/O: framing.py splits the body."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any, Final

from airflow_provider_responses.client.assembler import CARRIERS, Assembler
from airflow_provider_responses.client.bodies import parse_json
from airflow_provider_responses.client.error_reports import is_report, read_report
from airflow_provider_responses.client.framing import DONE
from airflow_provider_responses.client.pieces import output_text
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.response_check import check_response, mark_at_limit
from airflow_provider_responses.client.server_errors import error_from_event, error_from_result, names_cause_better
from airflow_provider_responses.exceptions import APIError, StreamInterruptedError
from airflow_provider_responses.models.events import ERROR_EVENTS, LastEvent, StreamEvent
from airflow_provider_responses.models.messages import is_tool_call, text_of
from airflow_provider_responses.models.response import COST_HEADER, Response

log = getLogger(__name__)

UNNAMED: Final = "message"  # httpx-sse's name of an event without a name
AFTER_ERROR: Final = 100  # events that may follow an error before the last event
ENDED: Final = ("completed", "incomplete", "failed", "cancelled")  # statuses of a response that has ended
ADVICE_UNSTREAMED: Final = (
    "Some servers refuse a request in this way, and report the reason if it is sent with stream=False"
)
END_SECONDS: Final = 0.5  # for the end of a stream after the last event of the response
# For the end of a stream after an error event: the last event of the response holds id, model and usage.
END_SECONDS_AFTER_ERROR: Final = 5.0
IDENTITY: Final = ("id", "object", "created_at", "model")  # fields of the first event that the last one may lack


class StreamReader:
    """
    Reads the server-sent events of one stream, and builds its response.

    :param headers: of the HTTP response.
    :param request: the request of the response.
    :param yields_events: whether the caller uses the events; otherwise only the last one is built.
    """

    def __init__(self, headers: Mapping[str, str], *, request: RequestSummary, yields_events: bool = True) -> None:
        # The head of a stream arrives before the model works: a cost in it is not that of the response.
        self.headers = {name: text for name, text in headers.items() if name != COST_HEADER}
        self.request = request
        self.yields_events = yields_events
        self.response: Response | None = None
        self.has_outcome = False  # response or error has arrived; after an error, the last event may add to it
        self._is_over = False  # later events are ignored
        self._assembler = Assembler()
        self._error: Mapping[str, Any] | None = None
        self._empty_error: Mapping[str, Any] | None = None
        self._after_error = 0
        self._terminal: dict[str, Any] | None = None  # the response in the last event, after an error
        self._another_ended = False  # an event ended another response, so this one may have no last event

    @property
    def text(self) -> str:
        """The text so far."""
        return self._assembler.text

    @property
    def has_output(self) -> bool:
        """Whether any output has arrived."""
        return self._assembler.has_output

    @property
    def has_failed(self) -> bool:
        """Whether an error event has arrived; the last event may add to it."""
        return self._error is not None

    def seconds_to_end(self, remaining: float) -> float:
        """
        Return the seconds for the end of the stream, once response or error has arrived.

        :param remaining: seconds until the call's deadline.
        """
        if not self.has_failed:
            return END_SECONDS
        # At most half of the remaining time, so that the error of the stream is raised, and not that of the deadline.
        return max(0.0, min(END_SECONDS_AFTER_ERROR, remaining / 2))

    def read(self, data: str, name: str = UNNAMED) -> StreamEvent | None:
        """
        Return a server-sent event as an event of the stream, None if it is not an event of the API.

        :param name: the value of its ``event:`` line.
        :raises StreamInterruptedError: for a broken JSON object, since it may have held content.
        """
        if self._is_over or not data:
            return None
        body = parse_json(data)
        if not isinstance(body, dict):
            body = self._read_non_object(body, data, name)
            if body is None:
                return None
        kind = body.get("type")
        if not isinstance(kind, str) or not kind:
            kind = name if name != UNNAMED else ""
        if self._error is not None:
            self._read_after_error(kind, body)
            return None
        if (carrier := CARRIERS.get(kind)) is not None:  # the usual case
            self._assembler.add_content(carrier, body)
            return StreamEvent(kind, body) if self.yields_events else None
        return self._read_other(kind, body)

    def _read_other(self, kind: str, body: dict[str, Any]) -> StreamEvent | None:
        if _is_error(kind, body):
            if not _is_empty(body):
                self._error = body
                self.has_outcome = True
                return None
            self._empty_error = body
        event = StreamEvent(kind, body)
        if event.is_terminal:
            return self._end(event)
        self._assembler.add_other(kind, body)
        return event

    def read_unstreamed(self, response: Response) -> LastEvent:
        """Return the response of a server that does not stream as the last event of a stream."""
        kind = f"response.{response.status or 'completed'}"
        return LastEvent(kind, {"type": kind, "response": response.raw}, self._set_outcome(response))

    def end(self) -> LastEvent | None:
        """Handle the end of the body; return the last event if it is missing and all other events have arrived."""
        has_no_end = self.response is None and self._error is None
        if has_no_end and self._another_ended and self._assembler.is_ended:
            return self._build_last_event("response.completed", {}, {}, "completed")
        return None

    def finish(self) -> Response:
        """
        Return the response, checked.

        :raises APIError: for an error event.
        :raises StreamInterruptedError: if the body ended before the last event of the response.
        """
        if self._error is not None:
            raise self._build_error(self._error)
        if self.response is None:
            if self._empty_error is not None:
                raise self._build_error(self._empty_error)
            raise self.interrupted("the stream ended before the response did")
        return check_response(self.response, request=self.request)

    def interrupted(self, reason: str) -> StreamInterruptedError:
        """Return the error of a broken stream."""
        text = self.text
        when = f"after {len(text)} characters of text" if self.has_output else "before any output"
        is_unexplained = not (self.has_output or self.request.is_openrouter or self.request.is_streamed is False)
        return StreamInterruptedError(
            self.request.error_text(
                f"the stream broke {when}: {reason}",
                "The output so far may have been billed",
                "The same request can be sent again",
                ADVICE_UNSTREAMED if is_unexplained else "",
            ),
            text=text,
            ambiguous=True,
            generation_id=self.headers.get("x-generation-id"),
        )

    def _read_non_object(self, value: Any, data: str, name: str) -> dict[str, Any] | None:
        """Return data that is not a JSON object as an error event, if that is its name."""
        if data.strip() == DONE:
            self.has_outcome = self._is_over = True
        elif data.lstrip().startswith("{") and self._error is None:
            raise self.interrupted(f"an event of {len(data)} characters is not a JSON object")
        elif name in ERROR_EVENTS and data.strip():
            return {"type": name, "message": value if isinstance(value, str) else data}
        return None  # proxies and gateways send keep-alive data between the events

    def _read_after_error(self, kind: str, body: dict[str, Any]) -> None:
        """Read an event after an error: only the last event counts, which holds id, model and usage."""
        self._after_error += 1
        event = StreamEvent(kind, body)
        if event.is_terminal and isinstance(body.get("response"), dict):
            self._terminal = body["response"]
        self._is_over = self._is_over or event.is_terminal or self._after_error >= AFTER_ERROR

    def _end(self, event: StreamEvent) -> LastEvent | None:
        inner = _response_in(event.data)
        status = event.type.removeprefix("response.").replace("done", "completed")
        if inner is None:
            if not (self._assembler.is_ended or (status == "incomplete" and self.has_output)):
                raise self.interrupted(f"the event {event.type} holds no response")
            inner = self._assembler.snapshot | {"output": []}
        if status == "completed" and inner.get("status") in ENDED:  # else only the name of the event holds it
            status = inner["status"]
        return self._build_last_event(event.type, event.data, inner, status)

    def _build_last_event(
        self, kind: str, data: dict[str, Any], inner: dict[str, Any], status: str
    ) -> LastEvent | None:
        """Return the last event, with the response of all events."""
        at_end = "completed" if status == "completed" else "incomplete"
        merged = self._assembler.merge(inner.get("output"), status=at_end)
        snapshot = self._assembler.snapshot
        if self._is_of_another_response(inner, merged.consistent):
            log.warning(
                "An event of the stream ended another response, and was ignored. Request: %s", self.request.label
            )
            self._another_ended = True
            return None
        if not merged.consistent:
            log.warning(
                "The text in the last event of the stream differs from that of its events, which is used. Request: %s",
                self.request.label,
            )
        raw = {name: snapshot[name] for name in IDENTITY if name in snapshot} | inner
        raw |= {name: snapshot[name] for name in IDENTITY if inner.get(name) is None and name in snapshot}
        raw["status"] = status
        if merged.items or not isinstance(inner.get("output"), list):  # else `output` stays as it arrived
            raw["output"] = merged.items
        inconsistent = not (merged.consistent and inner)
        response = Response(raw=raw, headers=self.headers, inconsistent=inconsistent)
        has_text = any(map(output_text, merged.items)) or response.output_text
        if not has_text and (self.text or self._lacks_unknown_text(response)):
            raise self.interrupted("its events held text, but the response built from them has none")
        return LastEvent(kind, data or {"type": kind, "response": raw}, self._set_outcome(response))

    def _lacks_unknown_text(self, response: Response) -> bool:
        """Whether events of unknown kinds held text, and no item of the response can have it."""
        return self._assembler.has_unknown_text and not any(is_tool_call(item) for item in response.output)

    def _set_outcome(self, response: Response) -> Response:
        self.response = mark_at_limit(response, request=self.request)
        self.has_outcome = self._is_over = True
        return self.response

    def _is_of_another_response(self, inner: Mapping[str, Any], consistent: bool) -> bool:
        """
        Whether the response in the last event is not that of this stream.

        Another id alone does not show it, since bridges generate new ids: it must also hold another text.
        """
        ids = {name for name in (text_of(inner.get("id")), text_of(self._assembler.snapshot.get("id"))) if name}
        return len(ids) > 1 and (
            not consistent or (not self.has_output and bool(Response(raw=dict(inner)).output_text))
        )

    def _build_error(self, body: Mapping[str, Any]) -> APIError:
        """Return the error of an error event, with the part of the response that has arrived."""
        error = error_from_event(body, self.headers, request=self.request)
        known = self._assembler.snapshot | (self._terminal or {})
        reported = {name: value for name, value in error.response.raw.items() if value} if error.response else {}
        raw = known | reported | {"status": "failed"}
        raw["output"] = self._assembler.merge(known.get("output"), status="incomplete").items
        response = Response(raw=raw, headers=self.headers)
        ended = Response(raw=self._terminal or {}, headers=self.headers)
        if names_cause_better(ended, body):
            named = {name: value for name, value in (ended.error or {}).items() if value is not None}
            words = {"message": message} if (message := read_report(body).words) else {}
            raw |= ended.raw | {"output": raw["output"], "error": words | named}
            response = Response(raw=raw, headers=self.headers)
            error = error_from_result(response, request=self.request)
        error.response = response
        error.ambiguous = error.may_have_been_billed or self.has_output
        return error


def _is_error(kind: str, body: Mapping[str, Any]) -> bool:
    if kind in ERROR_EVENTS or (not kind and isinstance(body.get("error"), (dict, str)) and body["error"]):
        return True
    if is_report(body, kind):
        return True
    # The error of a failure may be beside the response, or in place of it.
    return kind == "response.failed" and not isinstance(body.get("response"), dict) and bool(body.get("error"))


def _is_empty(body: Mapping[str, Any]) -> bool:
    """Whether an error event is empty: some servers always send one."""
    inner = body.get("error")
    values = [*inner.values()] if isinstance(inner, dict) else [inner]
    has_content = any((*values, *(body.get(name) for name in ("code", "message", "error_type"))))
    return not has_content and read_report(body).words is None


def _response_in(data: dict[str, Any]) -> dict[str, Any] | None:
    """Return the response in the last event; some servers send its fields in the event itself."""
    inner = data.get("response")
    if isinstance(inner, dict) and inner:
        beside = data.get("usage")
        return inner | ({"usage": beside} if beside and not inner.get("usage") else {})
    if isinstance(data.get("output"), list):
        return {name: value for name, value in data.items() if name not in ("type", "sequence_number", "response")}
    return None
