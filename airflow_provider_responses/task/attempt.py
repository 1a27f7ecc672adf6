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
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import (
    ConfigurationError,
    OutputRejectedError,
    OutputValidationError,
    ResponsesError,
)
from airflow_provider_responses.observability.request_span import NO_SPAN, RequestSpan
from airflow_provider_responses.task.cost import charges_of, dollars, paid_for, total_cost
from airflow_provider_responses.task.escalation import find_rejection, next_tier, problem_of
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
_NO_LARGER: Final[Mapping[int, Any]] = MappingProxyType({})
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

    A request goes to a larger model if its response is not accepted; see ``task.escalation``. Otherwise it is sent
    again, ``output_retries`` times for each model, if its response does not match ``output_type``. The reason is added
    to it, unless the response was truncated.

    :param request: the task's request.
    :param options: of the first send, as ``TaskRequest.prepare`` returned them.
    :param larger: the requests for larger models, as ``TaskRequest.prepare_larger`` returned them.
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
        larger: Mapping[int, tuple[ResponsesRequest, RequestOptions]] = _NO_LARGER,
        on_invalid: Callable[[OutputValidationError], None] | None = None,
        feedback: Sequence[str] = (),
        span: RequestSpan = NO_SPAN,
    ) -> None:
        self.request = request
        self._span = span
        self._on_invalid = on_invalid or self._log_invalid
        self._options = options
        self._larger = larger
        self._tier = request.tier
        self._escalated = 0
        self._unsent_escalation: tuple[ResponsesError, Response] | None = None  # until its send
        self._retries_left = request.output_retries
        self._earlier_errors: tuple[Exception, ...] = ()
        self._feedback = [*feedback]
        self._is_repeated = False  # whether the next send is the same request as the last one
        self._last_response: Response | None = None
        self.responses: list[Response] = []

    @property
    def has_escalated(self) -> bool:
        """Whether the next send, or the last one, goes to a larger model than the first one."""
        return self._tier > self.request.tier

    @property
    def last_cost(self) -> float | None:
        """US dollars that the last response cost; None if that is unknown or the response was cached."""
        return None if self._last_response is None else paid_for(self._last_response)

    def paid(self) -> Outcome:
        """Return an interim outcome with the responses so far."""
        return Outcome(response=self._last_response, tier=self._tier, escalated=self._escalated)

    def begin_span(self, span: RequestSpan) -> None:
        """Set the span, and add the sends so far, whose responses the triggerer has received."""
        self._span = span
        span.add_resends(self._earlier_errors)

    def options(self, seconds_left: float) -> RequestOptions:
        """
        Return the options of the next send.

        :param seconds_left: the time that it may take.
        """
        self._span.begin_call()
        self._log_escalation(is_sent=True)
        options = replace(self._options, timeout=seconds_left)
        if self._is_repeated and uses_cache(options):  # else the cached response is the invalid one
            return options.with_headers({"X-OpenRouter-Cache-Clear": "true"})
        return options

    def next_request(self, request: ResponsesRequest) -> ResponsesRequest:
        """
        Return the request of the next send.

        :param request: of the first send, as ``TaskRequest.prepare`` returned it.
        """
        return with_feedback(self._larger[self._tier][0] if self.has_escalated else request, self._feedback)

    def resume(self, received: Outcome) -> Outcome | None:
        """Return the outcome of a response that the triggerer has received; None if a request must be sent."""
        if received.error is not None:
            return self.receive_error(received.error)
        return None if received.response is None else self.receive(received.response)

    def receive(self, response: Response) -> Outcome | None:
        """Return the outcome of a response; None if a request must be sent: to a larger model, or again."""
        self._span.add_resends(response.previous)
        if self._earlier_errors:
            response = replace(response, previous=(*self._earlier_errors, *response.previous))
        self._last_response = response
        self.responses.append(response)
        if self.request.is_read_on_worker:
            return self._end(Outcome(response=response, unparsed=True))
        try:
            outcome = self.request.read(response)
            return None if self._escalates_after(outcome) else self._end(outcome)
        except OutputValidationError as error:
            if self._escalates(error, response):
                return None
            if not self._retries_left:
                error.response = response
                error.set_previous(response.previous)
                return self._end(Outcome(response=response, error=error, invalid=True))
            self._retries_left -= 1
            self._note_unaccepted(error, response)
            feedback = feedback_of(self.request, error)
            self._is_repeated = feedback is None
            if feedback is not None:
                self._feedback.append(feedback)
            self._on_invalid(error)
            return None
        except ConfigurationError as error:  # of a function in `escalate`
            error.response = response
            error.set_previous(response.previous)
            return self._end(Outcome(response=response, error=error))

    def refuse(self, error: ResponsesError) -> Outcome:
        """Return the outcome if the next send is refused."""
        self._log_escalation(is_sent=False)
        if self._last_response is None:
            return self._end(Outcome(error=error))
        error.response = self._last_response
        error.set_previous(self._earlier_errors)
        is_invalid = isinstance(self._earlier_errors[-1], (OutputRejectedError, OutputValidationError))
        return self._end(Outcome(response=self._last_response, error=error, invalid=is_invalid))

    def receive_error(self, error: ResponsesError) -> Outcome | None:
        """Return the outcome of a send that failed; None if a larger model gets the request."""
        response = error.response
        if response is None or problem_of(error) is None:
            return self.fail(error)
        if self.request.worker_decides:
            return replace(self.fail(error), error=error, accepted=None, value=None, unparsed=True)
        response = replace(response, previous=(*self._earlier_errors, *response.previous))
        if not self._escalates(error, response):
            return self.fail(error)
        return None

    def fail(self, error: ResponsesError) -> Outcome:
        """Return the outcome of a send that failed, if no larger model gets the request."""
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

    def _escalates_after(self, outcome: Outcome) -> bool:
        """Return whether a larger model gets the request after a response that could be read."""
        response, escalations = outcome.response, self.request.escalations
        if not escalations or response is None or self.request.requests_calls(response):
            return False
        if outcome.accepted is not None:  # by `on_invalid_output`, which is for the response of the last model
            return self._escalates(outcome.accepted, response)
        if not any(it.has_check for it in escalations[self._tier :]):
            return False
        rejection = find_rejection(escalations, self._tier, None, self.request.checked_value(outcome))
        if rejection is None:
            return False
        tier, name = rejection
        self._escalate(tier, OutputRejectedError(f"the function {name} did not accept it", function=name), response)
        return True

    def _escalates(self, error: ResponsesError, response: Response) -> bool:
        """Return whether a larger model gets the request after a response with an error."""
        problem = problem_of(error) if self.request.escalations else None
        tier = None if problem is None else next_tier(self.request.escalations, self._tier, problem, None)
        if tier is not None:
            self._escalate(tier, error, response)
        return tier is not None

    def _escalate(self, tier: int, error: ResponsesError, response: Response) -> None:
        if response is not self._last_response:  # it came with an error
            self._span.add_resends(response.previous[len(self._earlier_errors) :])
            self._last_response = response
            self.responses.append(response)
        self._tier, self._escalated, self._options = tier, self._escalated + 1, self._larger[tier][1]
        self._retries_left, self._feedback, self._is_repeated = self.request.output_retries, [], False
        error.escalated_to = self.request.escalations[tier - 1].model
        self._note_unaccepted(error, response)
        self._unsent_escalation = (error, response)

    def _log_escalation(self, *, is_sent: bool) -> None:
        """Log why a larger model gets the request, or would have got it."""
        if self._unsent_escalation is None:
            return
        (error, response), self._unsent_escalation = self._unsent_escalation, None
        log.info(
            "%s to %s: the response of %s was not accepted (%s: %s). It cost %s",
            "Escalating" if is_sent else "The limit of cost does not allow escalation",
            error.escalated_to,
            response.model or "an unknown model",
            type(error).__name__,
            error.headline,
            "nothing, since it was cached" if response.cached else dollars(response.usage.cost),
        )
        if not is_sent:
            self._escalated, error.escalated_to = self._escalated - 1, None

    def _note_unaccepted(self, error: ResponsesError, response: Response) -> None:
        """Add a response to those that are followed by another send."""
        error.wait = 0.0
        error.response = replace(response, previous=())
        error.previous = ()  # they are written before it
        self._earlier_errors = (*response.previous, error)
        self._span.add_resends((error,))

    def _end(self, outcome: Outcome) -> Outcome:
        if self._tier:
            outcome = replace(outcome, tier=self._tier, escalated=self._escalated)
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
