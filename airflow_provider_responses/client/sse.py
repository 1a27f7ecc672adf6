"""Server-sent events → the events of a stream and its response. No I/O: framing.py splits the body into events."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any, Final

from airflow_provider_responses.client.assembler import CARRIERS, Assembler
from airflow_provider_responses.client.bodies import parse_json
from airflow_provider_responses.client.error_reports import is_report, read_report
from airflow_provider_responses.client.framing import DONE
from airflow_provider_responses.client.pieces import output_text
from airflow_provider_responses.client.response_check import check_response, mark_at_limit
from airflow_provider_responses.client.server_errors import error_from_event, error_from_result, names_cause_better
from airflow_provider_responses.client.summary import RequestSummary
from airflow_provider_responses.exceptions import APIError, StreamInterruptedError
from airflow_provider_responses.models.events import ERROR_EVENTS, LastEvent, StreamEvent
from airflow_provider_responses.models.messages import is_tool_call, text_of
from airflow_provider_responses.models.response import COST_HEADER, Response

log = getLogger(__name__)

UNNAMED: Final = "message"  # httpx-sse's name of an event that has none
AFTER_ERROR: Final = 100  # events that may come between an error and the terminal event
ENDED: Final = ("completed", "incomplete", "failed", "cancelled")  # statuses of a response that has ended
ADVICE_UNSTREAMED: Final = (
    "Some servers refuse a request in this way, and give the reason if it is sent with stream=False"
)
END_SECONDS: Final = 0.5  # that the end of a stream may take once the response is whole
# That it may take once an error event has arrived: the terminal event after it holds id, model and usage.
END_SECONDS_AFTER_ERROR: Final = 5.0
IDENTITY: Final = ("id", "object", "created_at", "model")  # fields of the first event that a last one may lack


class StreamReader:
    """
    Reads one streamed response: takes the data of each server-sent event, and builds the response.

    :param headers: of the HTTP response.
    :param request: the request of the response.
    :param yields_events: whether the caller uses the events; otherwise those in the middle are not made.
    """

    def __init__(self, headers: Mapping[str, str], *, request: RequestSummary, yields_events: bool = True) -> None:
        # The head of a stream comes before the work: its cost header is no cost.
        self.headers = {name: text for name, text in headers.items() if name != COST_HEADER}
        self.request = request
        self.yields_events = yields_events
        self.response: Response | None = None
        self.is_settled = False  # the outcome is known, although a terminal event may add to an error
        self._is_over = False  # later events are ignored
        self._assembler = Assembler()
        self._error: Mapping[str, Any] | None = None
        self._empty_error: Mapping[str, Any] | None = None
        self._after_error = 0
        self._terminal: dict[str, Any] | None = None  # that came after an error
        self._has_foreign_end = False  # so the response may be whole without a terminal event of its own

    @property
    def text(self) -> str:
        """The text that has arrived."""
        return self._assembler.text

    @property
    def has_output(self) -> bool:
        """Whether any output has arrived."""
        return self._assembler.has_output

    @property
    def has_failed(self) -> bool:
        """Whether an error event has arrived; a terminal event may add to it."""
        return self._error is not None

    def seconds_to_end(self, remaining: float) -> float:
        """
        Return the seconds that the end of the stream may take once its outcome is known.

        :param remaining: seconds until the call's deadline.
        """
        if not self.has_failed:
            return END_SECONDS
        # Half of the time left, so that the stream's error is raised and not the deadline's.
        return max(0.0, min(END_SECONDS_AFTER_ERROR, remaining / 2))

    def read(self, data: str, name: str = UNNAMED) -> StreamEvent | None:
        """
        Return one server-sent event as an event of the stream; None if it is no event of the API.

        :param name: the value of its ``event:`` line.
        :raises StreamInterruptedError: for a JSON object that is broken: content may be lost with it.
        """
        if self._is_over or not data:
            return None
        body = parse_json(data)
        if not isinstance(body, dict):
            body = self._no_object(body, data, name)
            if body is None:
                return None
        kind = body.get("type")
        if not isinstance(kind, str) or not kind:
            kind = name if name != UNNAMED else ""
        if self._error is not None:
            self._read_on(kind, body)
            return None
        if (carrier := CARRIERS.get(kind)) is not None:  # as nearly all events are
            self._assembler.take(carrier, body)
            return StreamEvent(kind, body) if self.yields_events else None
        return self._read_other(kind, body)

    def _read_other(self, kind: str, body: dict[str, Any]) -> StreamEvent | None:
        if _is_error(kind, body):
            if not _is_empty(body):
                self._error = body
                self.is_settled = True
                return None
            self._empty_error = body
        event = StreamEvent(kind, body)
        if event.is_terminal:
            return self._end(event)
        self._assembler.take_other(kind, body)
        return event

    def take_whole(self, response: Response) -> LastEvent:
        """Return the response of a server that does not stream, as the event that would have ended the stream."""
        kind = f"response.{response.status or 'completed'}"
        return LastEvent(kind, {"type": kind, "response": response.raw}, self._settle(response))

    def end(self) -> LastEvent | None:
        """Note the end of the body; return a missing terminal event if all other events have arrived."""
        waits = self.response is None and self._error is None
        if waits and self._has_foreign_end and self._assembler.is_ended:
            return self._assembled("response.completed", {}, {}, "completed")
        return None

    def finish(self) -> Response:
        """
        Return the response, checked.

        :raises APIError: for an error event.
        :raises StreamInterruptedError: if the stream ended without a terminal event, however clean its end.
        """
        if self._error is not None:
            raise self._failure(self._error)
        if self.response is None:
            if self._empty_error is not None:
                raise self._failure(self._empty_error)
            raise self.interrupted("it ended before the response did")
        return check_response(self.response, request=self.request)

    def interrupted(self, reason: str) -> StreamInterruptedError:
        """Return the error of a stream that broke."""
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

    def _no_object(self, value: Any, data: str, name: str) -> dict[str, Any] | None:
        """Return data that is no JSON object as an error event, if its name says that it is one."""
        if data.strip() == DONE:
            self.is_settled = self._is_over = True
        elif data.lstrip().startswith("{") and self._error is None:
            raise self.interrupted(f"an event of {len(data)} characters is no JSON object")
        elif name in ERROR_EVENTS and data.strip():
            return {"type": name, "message": value if isinstance(value, str) else data}
        return None  # proxies and gateways send keep-alive data between the events

    def _read_on(self, kind: str, body: dict[str, Any]) -> None:
        """After an error only the terminal event matters: it holds id, model and usage."""
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
                raise self.interrupted(f"its {event.type} event holds no response")
            inner = self._assembler.snapshot | {"output": []}
        if status == "completed" and inner.get("status") in ENDED:  # or the name of the event alone holds it
            status = inner["status"]
        return self._assembled(event.type, event.data, inner, status)

    def _assembled(self, kind: str, data: dict[str, Any], inner: dict[str, Any], status: str) -> LastEvent | None:
        """Return the last event, with the response of all events."""
        at_end = "completed" if status == "completed" else "incomplete"
        merged = self._assembler.merge(inner.get("output"), status=at_end)
        snapshot = self._assembler.snapshot
        if self._is_of_another(inner, merged.consistent):
            log.warning(
                "An event of the stream is about another response, and was ignored. Request: %s", self.request.label
            )
            self._has_foreign_end = True
            return None
        if not merged.consistent:
            log.warning(
                "The last event of the stream holds another text than the others, whose text was used. Request: %s",
                self.request.label,
            )
        raw = {name: snapshot[name] for name in IDENTITY if name in snapshot} | inner
        raw |= {name: snapshot[name] for name in IDENTITY if inner.get(name) is None and name in snapshot}
        raw["status"] = status
        if merged.items or not isinstance(inner.get("output"), list):  # or it stays as it came
            raw["output"] = merged.items
        inconsistent = not (merged.consistent and inner)
        response = Response(raw=raw, headers=self.headers, inconsistent=inconsistent)
        has_text = any(map(output_text, merged.items)) or response.output_text
        if not has_text and (self.text or self._is_unread(response)):
            raise self.interrupted("its events held a text, and the response made of them holds none")
        return LastEvent(kind, data or {"type": kind, "response": raw}, self._settle(response))

    def _is_unread(self, response: Response) -> bool:
        """Whether unknown events held a text, and the response holds nothing that it could be part of."""
        return self._assembler.has_unread and not any(is_tool_call(item) for item in response.output)

    def _settle(self, response: Response) -> Response:
        self.response = mark_at_limit(response, request=self.request)
        self.is_settled = self._is_over = True
        return self.response

    def _is_of_another(self, inner: Mapping[str, Any], consistent: bool) -> bool:
        """
        Whether a terminal response is not the one of this stream.

        An id of its own does not show it, since bridges make one: only a text that the stream does not hold does.
        """
        ids = {name for name in (text_of(inner.get("id")), text_of(self._assembler.snapshot.get("id"))) if name}
        return len(ids) > 1 and (
            not consistent or (not self.has_output and bool(Response(raw=dict(inner)).output_text))
        )

    def _failure(self, body: Mapping[str, Any]) -> APIError:
        """Return the error of an error event, with the response as far as the stream holds it."""
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
    # A failure that holds its error beside the response, or in place of it.
    return kind == "response.failed" and not isinstance(body.get("response"), dict) and bool(body.get("error"))


def _is_empty(body: Mapping[str, Any]) -> bool:
    """Whether an error event holds nothing: some servers always send one."""
    inner = body.get("error")
    values = [*inner.values()] if isinstance(inner, dict) else [inner]
    has_content = any((*values, *(body.get(name) for name in ("code", "message", "error_type"))))
    return not has_content and read_report(body).words is None


def _response_in(data: dict[str, Any]) -> dict[str, Any] | None:
    """Return the response of a terminal event; some servers send its fields in the event itself."""
    inner = data.get("response")
    if isinstance(inner, dict) and inner:
        beside = data.get("usage")
        return inner | ({"usage": beside} if beside and not inner.get("usage") else {})
    if isinstance(data.get("output"), list):
        return {name: value for name, value in data.items() if name not in ("type", "sequence_number", "response")}
    return None
