"""
One span for each request, with an event for each resend; one for an enrichment. No Airflow.

``request_span.NO_SPAN`` stands in where tracing is off, and OpenTelemetry is not imported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Self
from zlib import crc32

from airflow_provider_responses import __version__
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.observability.export_warnings import limit_export_warnings
from airflow_provider_responses.observability.genai_attributes import (
    CHAT,
    INVOKE_WORKFLOW,
    OPERATION,
    REQUEST_MODEL,
    WORKFLOW,
    Attributes,
    error_attributes,
    exportable_text,
    request_attributes,
    resend_attributes,
    response_attributes,
)
from airflow_provider_responses.observability.genai_content import request_content, response_content
from airflow_provider_responses.observability.request_span import NO_SPAN, RequestSpan

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.models.response import Response

RESEND_EVENT: Final = "responses.resend"
ESCALATION_EVENT: Final = "responses.escalation"
NANOSECONDS: Final = 1_000_000_000
_SCOPE: Final = "airflow_provider_responses"

_known: tuple[Any, Tracer] | None = None  # the last tracer provider, and the tracer that it made


def find_tracer() -> Tracer | None:
    """
    Return the tracer of the process, None if it has no tracer provider.

    A process that has not imported OpenTelemetry has set no tracer provider, so nothing is imported for it. Only the
    environment variable that names a provider works without an import.
    """
    global _known  # noqa: PLW0603  making a tracer takes longer than a span
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        if "OTEL_PYTHON_TRACER_PROVIDER" not in os.environ:
            return None
        try:
            api = import_module("opentelemetry.trace")
        except ImportError:
            return None
    provider = api.get_tracer_provider()
    if isinstance(provider, (api.ProxyTracerProvider, api.NoOpTracerProvider)):
        return None
    if _known is None or _known[0] is not provider:
        limit_export_warnings()
        _known = provider, provider.get_tracer(_SCOPE, __version__)
    return _known[1]


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """
    The tracer of a task's requests, the parent of their spans, and their common attributes.

    :param tracer: of the process.
    :param parent: of the spans; None for the current one.
    :param attributes: of the task, for each of its spans.
    :param content: whether spans have the input and the output.
    :param row_sample: share of the rows of a table that have a span, from 0 to 1.
    """

    tracer: Tracer
    parent: Context | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    content: bool = False
    row_sample: float = 0.0

    def samples(self, fields: str) -> bool:
        """Return whether the row with these fields has spans: the same row always, also when it is sent again."""
        return self.row_sample > 0 and crc32(fields.encode()) < self.row_sample * 2**32


class CurrentSpan(RequestSpan):
    """
    A span that is the current one in a ``with`` block, whose end ends it.

    One that is not sampled is, too: so its descendants are not sampled either.

    :param span: a span that has begun.
    """

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: Any = None

    def __enter__(self) -> Self:
        api = _api()
        self._token = api.attach(api.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        _api().detach(self._token)
        if error is not None:
            _fail(self._span, error)
        self._span.end()


class RecordedSpan(CurrentSpan):
    """
    A span that is exported.

    :param span: a span that has begun.
    :param content: whether it has the output.
    """

    __slots__ = ("_call_began", "_content", "_sends")
    is_recorded = True

    def __init__(self, span: Span, *, content: bool) -> None:
        super().__init__(span)
        self._content, self._sends = content, 1
        self._call_began = time.time_ns()

    def begin_call(self) -> None:
        self._call_began = time.time_ns()

    def add_resends(self, errors: Iterable[Exception]) -> None:
        for error in errors:
            self._sends += 1
            after = getattr(error, "failed_after", None)
            at = None if after is None else self._call_began + int(after * NANOSECONDS)
            is_escalation = getattr(error, "escalated_to", None) is not None
            name = ESCALATION_EVENT if is_escalation else RESEND_EVENT
            self._span.add_event(name, resend_attributes(error), at)

    def set_outcome(self, response: Response | None, error: Exception | None, cost: float | None) -> None:
        found: Attributes = {} if response is None else response_attributes(response)
        found["responses.sends"] = self._sends
        if cost is not None:
            found["responses.cost"] = cost
        if response is not None and self._content:
            found |= response_content(response)
        self._span.set_attributes(found)
        if error is not None:
            _fail(self._span, error)


def start_request_span(
    tracing: Tracing | None, request: ResponsesRequest, *, base_url: str, is_openrouter: bool
) -> RequestSpan:
    """
    Begin the span of a request.

    :param tracing: None if tracing is off.
    :param base_url: the server's address.
    :param is_openrouter: whether the server is OpenRouter, or speaks its dialect.
    """
    if tracing is None:
        return NO_SPAN
    attributes = request_attributes(request, base_url=base_url, is_openrouter=is_openrouter)
    attributes.update(tracing.attributes)
    if tracing.content:
        attributes.update(request_content(request))
    name = f"{CHAT} {attributes[REQUEST_MODEL]}".rstrip()
    span = tracing.tracer.start_span(name, tracing.parent, _api().CLIENT, attributes)
    return RecordedSpan(span, content=tracing.content) if span.is_recording() else CurrentSpan(span)


class EnrichmentSpan:
    """
    The span of a step of an enrichment: of all of it, unless it is deferred in between.

    :param tracing: None if tracing is off: then nothing is recorded.
    :param name: of the task.
    :param model: of its requests, None if it is the connection's, or the rows have several.
    """

    def __init__(self, tracing: Tracing | None, *, name: str, model: str | None) -> None:
        self._tracing, self._name, self._model = tracing, name, model
        self._figures: Mapping[str, Any] = {}
        self._span: Span | None = None
        self._token: Any = None

    @property
    def rows(self) -> Tracing | None:
        """The tracing of single rows, whose spans are children of this one; None if no row has a span."""
        if self._tracing is None or not self._tracing.row_sample:
            return None
        return replace(self._tracing, parent=None)

    def __enter__(self) -> Self:
        if self._tracing is not None:
            api, attributes = _api(), {OPERATION: INVOKE_WORKFLOW, WORKFLOW: self._name, **self._tracing.attributes}
            if self._model is not None:
                attributes[REQUEST_MODEL] = self._model
            self._span = self._tracing.tracer.start_span(
                f"{INVOKE_WORKFLOW} {self._name}", self._tracing.parent, attributes=attributes
            )
            self._token = api.attach(api.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._span is None:
            return
        _api().detach(self._token)
        figures = {
            f"responses.enrich.{name}": value
            for name, value in self._figures.items()
            if isinstance(value, (int, float))
        }
        self._span.set_attributes(figures)
        if error is not None:
            # Airflow's exception says only that no retry follows.
            _fail(self._span, error.__cause__ if isinstance(error.__cause__, ResponsesError) else error)
        self._span.end()

    def note(self, figures: Mapping[str, Any]) -> None:
        """Note the figures so far; the last ones become attributes."""
        self._figures = figures


@cache
def _api() -> Any:
    """Return the functions of OpenTelemetry that are used here; only where a span is made, so they are imported."""
    from opentelemetry.context import attach, detach
    from opentelemetry.trace import SpanKind, set_span_in_context

    return SimpleNamespace(
        attach=attach, detach=detach, set_span_in_context=set_span_in_context, CLIENT=SpanKind.CLIENT
    )


def _fail(span: Span, error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attributes(error_attributes(error))
    # The text of an error holds no content; see `exceptions`.
    headline = error.headline if isinstance(error, ResponsesError) else type(error).__name__
    span.set_status(Status(StatusCode.ERROR, exportable_text(headline)))
