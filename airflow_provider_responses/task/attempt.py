"""
One attempt of a task: its sends, one after another, until there is an outcome.

No I/O and no Airflow: all execution modes (worker, triggerer, a row of a table) share it and cannot drift apart.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import OutputValidationError, ResponsesError
from airflow_provider_responses.observability.request_span import NO_SPAN, RequestSpan
from airflow_provider_responses.task.cost import charges_of, dollars, paid_for, total_cost
from airflow_provider_responses.task.feedback import feedback_of, with_feedback
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.request import TaskRequest, uses_cache

if TYPE_CHECKING:
    from airflow_provider_responses.client.config import RequestOptions
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.models.response import Response

log = logging.getLogger(__name__)

MAX_RETRY_AFTER: Final = 86_400.0  # seconds; a longer `Retry-After` delays a task for this long
MAX_LOGGED_LENGTH: Final = 200  # characters of a text in the log line
_PLAIN: Final = re.compile(r"[\w$.:;/@+~-]{1,200}", re.ASCII)
TIMEOUT_MARGIN: Final = 1.0  # seconds between the end of a call and that of its task; at most a twentieth of the time


def call_timeout(execution_timeout: float) -> float:
    """
    Return the seconds that a call may take if its task may take ``execution_timeout`` seconds.

    The call ends first, so that its cost is reported before Airflow ends the task.
    """
    return max(execution_timeout - min(TIMEOUT_MARGIN, execution_timeout / 20), 0.001)


class Exchange:
    """
    The sends of one attempt and their responses. The caller does the sending: :meth:`receive` and :meth:`fail`.

    A request is sent again, ``output_retries`` times, if its response does not match ``output_type``. The reason is
    added to it, unless the response was truncated.

    :param request: the task's request.
    :param options: of the first send, as ``TaskRequest.prepare`` returned them.
    :param on_invalid: is called with the error of an invalid response before the request is sent again; by default it
        is logged.
    :param feedback: texts that are added to the request, since earlier sends had invalid responses.
    :param span: of the request: the resends and the outcome are added to it.
    """

    def __init__(
        self,
        request: TaskRequest,
        options: RequestOptions,
        *,
        on_invalid: Callable[[OutputValidationError], None] | None = None,
        feedback: Sequence[str] = (),
        span: RequestSpan = NO_SPAN,
    ) -> None:
        self.request = request
        self._span = span
        self._on_invalid = on_invalid or self._log_invalid
        self._options = options
        self._retries_left = request.output_retries
        self._earlier_errors: tuple[Exception, ...] = ()
        self._feedback = [*feedback]
        self._is_repeated = False  # whether the next send is the same request as the last one
        self._last_response: Response | None = None
        self.responses: list[Response] = []

    @property
    def last_cost(self) -> float | None:
        """US dollars that the last response cost; None if that is unknown or the response was cached."""
        return None if self._last_response is None else paid_for(self._last_response)

    def options(self, seconds_left: float) -> RequestOptions:
        """
        Return the options of the next send.

        :param seconds_left: the time that it may take.
        """
        self._span.begin_call()
        options = replace(self._options, timeout=seconds_left)
        if self._is_repeated and uses_cache(options):  # else the cached response is the invalid one
            return options.with_headers({"X-OpenRouter-Cache-Clear": "true"})
        return options

    def next_request(self, request: ResponsesRequest) -> ResponsesRequest:
        """
        Return the request of the next send.

        :param request: of the first send, as ``TaskRequest.prepare`` returned it.
        """
        return with_feedback(request, self._feedback)

    def receive(self, response: Response) -> Outcome | None:
        """Return the outcome of a response; None if the request must be sent again."""
        self._span.add_resends(response.previous)
        if self._earlier_errors:
            response = replace(response, previous=(*self._earlier_errors, *response.previous))
        self._last_response = response
        self.responses.append(response)
        if self.request.lacks_output_type:
            return self._end(Outcome(response=response, unparsed=True))
        try:
            return self._end(self.request.read(response))
        except OutputValidationError as error:
            if not self._retries_left:
                error.response = response
                error.set_previous(response.previous)
                return self._end(Outcome(response=response, error=error, invalid=True))
            self._retries_left -= 1
            error.wait = 0.0
            error.response = replace(response, previous=())
            self._earlier_errors = (*response.previous, error)
            self._span.add_resends((error,))
            feedback = feedback_of(self.request, error)
            self._is_repeated = feedback is None
            if feedback is not None:
                self._feedback.append(feedback)
            self._on_invalid(error)
            return None

    def refuse(self, error: ResponsesError) -> Outcome:
        """Return the outcome if the next send is refused."""
        if self._last_response is None:
            return self._end(Outcome(error=error))
        error.response = self._last_response
        error.set_previous(self._earlier_errors)
        return self._end(Outcome(response=self._last_response, error=error, invalid=True))

    def fail(self, error: ResponsesError) -> Outcome:
        """Return the outcome of a send that failed."""
        self._span.add_resends(error.previous)
        if error.response is not None:
            error.response = replace(error.response, previous=(*self._earlier_errors, *error.response.previous))
        error.set_previous((*self._earlier_errors, *error.previous))
        if error.response is not None and self.request.accepts(error):
            if self.request.lacks_output_type:
                return self._end(Outcome(response=error.response, unparsed=True))
            return self._end(replace(self.request.read(error.response), accepted=error))
        # An earlier response was paid for, though the last send brought none.
        last = None if self._last_response is None else replace(self._last_response, previous=error.previous)
        return self._end(Outcome(response=error.response or last, error=error))

    def _end(self, outcome: Outcome) -> Outcome:
        if self._span.is_recorded:
            self._span.set_outcome(outcome.response, outcome.error, _cost_of_sends(outcome))
        return outcome

    def _log_invalid(self, error: OutputValidationError) -> None:
        cost = None if error.response is None else error.response.usage.cost
        log.warning(
            "Sending the request again within this attempt (%d more if that fails): %s. The invalid response cost %s",
            self._retries_left,
            error,
            dollars(cost),
        )


def _cost_of_sends(outcome: Outcome) -> float | None:
    """Return the US dollars that all responses of an outcome cost, None if that is unknown."""
    response = outcome.response
    if response is None:
        return None
    if not response.previous and (cost := paid_for(response)) is not None:  # the usual case
        return cost
    return total_cost(charge.cost for charge in charges_of(outcome) if not charge.is_cached)


def log_line(response: Response, usage: Mapping[str, Any]) -> str:
    """
    Return the log line of a response: always the same fields in the same order, and neither prompt nor text.

    :param usage: the XCom ``usage`` of the attempt.
    """
    fields = {
        "status": usage["status"],
        "model": usage["model"],
        "provider": usage["provider"],
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "cost": dollars(usage["cost"]),
        "cached": None if usage["cached"] is None else ("yes" if usage["cached"] else "no"),
        "sends": len(usage["sends"]),
        "resends": ";".join(map(_resend, usage["sends"])).removesuffix(";") or "none",
        "seconds": None if response.seconds is None else f"{response.seconds:.1f}",
        "prompt": usage.get("prompt_fingerprint"),
        "generation": usage["generation_id"],
        "response": usage["response_id"],
    }
    return "Response: " + " ".join(f"{name}={_in_log(value)}" for name, value in fields.items())


def _resend(send: Mapping[str, Any]) -> str:
    """Return the cause of a failed send, whether it may have been billed, and the wait after it."""
    if send["cause"] is None:
        return ""
    status = "" if send["cause"]["status"] is None else f":{send['cause']['status']}"
    ambiguous = ":ambiguous" if send["ambiguous"] else ""
    wait = "" if send["wait"] is None else f":{send['wait']:.1f}s"
    return f"{send['cause']['error']}{status}{ambiguous}{wait}"


def _in_log(value: object) -> str:
    """Return a value of the log line; a text of the server's that could be read as several is quoted."""
    text = "unknown" if value is None else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text[:MAX_LOGGED_LENGTH])
