"""
The errors of this package.

ResponsesError
    ConfigurationError                    the connection or a setting is wrong
    RequestValidationError                the request is wrong; nothing was sent
    APIError                              the service reported an error (any other 4XX, 5XX)
        BadRequestResponseError           400
        UnauthorizedResponseError         401
        PaymentRequiredResponseError      402
        ForbiddenResponseError            403
        NotFoundResponseError             404
        RequestTimeoutResponseError       408  retryable
        PayloadTooLargeResponseError      413
        UnprocessableEntityResponseError  422
        TooManyRequestsResponseError      429  retryable
        InternalServerResponseError       500  retryable
        BadGatewayResponseError           502  retryable
        ServiceUnavailableResponseError   503  retryable
        EdgeNetworkTimeoutResponseError   524  retryable
        ProviderOverloadedResponseError   529  retryable
    IncompleteResponseError               the response was truncated
    RefusalError                          the model refused
    OutputValidationError                 the response does not match `output_type`
    OutputRejectedError                   a function of `escalate` does not accept the response
    StreamInterruptedError                the stream ended before the response did; retryable
    TransportError                        no response arrived (connect, read, timeout); retryable
    RequestCancelledError                 the task was killed during the call
    BudgetExceededError                   a limit that the user set is used up
    ToolError                             the loop of a task with tools cannot go on
    TooManyFailuresError                  more rows of a table failed than allowed
    BatchError                            a batch failed, is overdue or gone, or may exist without a record
    SourceError                           the source of a table cannot be read; retryable
    OutputError                           the output of a table cannot be used now; retryable
        OutputLockedError                 another attempt writes it; retryable
        LeaseLostError                    another attempt has taken it over
        StorageError                      its files cannot be read or written; retryable
    VersionMismatchError                  another version of this package wrote the data; retryable
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response

__all__ = [
    "APIError",
    "BadGatewayResponseError",
    "BadRequestResponseError",
    "BatchError",
    "BudgetExceededError",
    "ConfigurationError",
    "EdgeNetworkTimeoutResponseError",
    "ForbiddenResponseError",
    "IncompleteResponseError",
    "InternalServerResponseError",
    "LeaseLostError",
    "NotFoundResponseError",
    "OutputError",
    "OutputLockedError",
    "OutputRejectedError",
    "OutputValidationError",
    "PayloadTooLargeResponseError",
    "PaymentRequiredResponseError",
    "ProviderOverloadedResponseError",
    "RefusalError",
    "RequestCancelledError",
    "RequestTimeoutResponseError",
    "RequestValidationError",
    "ResponsesError",
    "ServiceUnavailableResponseError",
    "SourceError",
    "StorageError",
    "StreamInterruptedError",
    "TooManyFailuresError",
    "TooManyRequestsResponseError",
    "ToolError",
    "TransportError",
    "UnauthorizedResponseError",
    "UnprocessableEntityResponseError",
    "VersionMismatchError",
    "error_class_for_status",
]


MAX_HEADLINE: Final = 100


class ResponsesError(Exception):
    """
    Base of all errors of this package.

    :param message: the cause, then the advice, then the request.
    :param retryable: whether the same request may succeed later; by default the class decides.
    :param ambiguous: whether the service may have served, and so billed, the request although it failed.
    :param status_code: HTTP status, or the status that stands for a failure inside a 200.
    :param code: the service's own code.
    :param error_type: stable name of the failure, such as ``rate_limit_exceeded``.
    :param metadata: further facts from the service, such as the provider's own message.
    :param availability: the service's report on a shortage (OpenRouter).
    :param retry_after: seconds that the service asked to wait.
    :param generation_id: id under which the price can be looked up.
    :param openrouter_metadata: routing metadata, if the request asked for it.
    :param response: the response, if one arrived (truncated, refused or invalid), with its usage.
    :param previous: errors of the sends before this one, oldest first.
    """

    default_retryable: ClassVar[bool] = False
    wait: float | None = None  # seconds from the failed send to the next one, if there was a next one
    failed_after: float | None = None  # seconds from the start of the call until this send had failed
    escalated_to: str | None = None  # the larger model that got the request, since this response was not accepted
    account_reset: float | None = None  # seconds until the account's limit, if it is used up, is reset

    # Many arguments: each is a documented field of the error.
    def __init__(
        self,
        message: str = "",
        *,
        retryable: bool | None = None,
        ambiguous: bool = False,
        status_code: int | None = None,
        code: str | int | None = None,
        error_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        availability: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        generation_id: str | None = None,
        openrouter_metadata: Mapping[str, Any] | None = None,
        response: Response | None = None,
        previous: tuple[Exception, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = self.default_retryable if retryable is None else retryable
        self.ambiguous = ambiguous
        self.status_code = status_code
        self.code = code
        self.error_type = error_type
        self.metadata = metadata or {}
        self.availability = availability or {}
        self.retry_after = retry_after
        self.generation_id = generation_id or (response.generation_id if response else None)
        self.openrouter_metadata = openrouter_metadata
        self.response = response
        self.previous = previous

    def set_message(self, message: str) -> Self:
        """Replace the message."""
        self.message = message
        self.args = (message,)
        return self

    @property
    def sends(self) -> int:
        """Number of requests that were sent, this one included."""
        return len(self.previous) + 1

    @property
    def may_have_been_billed(self) -> bool:
        """Whether the failed request may be on the bill: it may have been served, or a response arrived."""
        response = self.response
        return self.ambiguous or (response is not None and response.was_generated)

    def set_previous(self, previous: Iterable[Exception]) -> Self:
        """Set the failed sends before this one, oldest first; the message lists those that may have been billed."""
        self.message = self.message.removesuffix(_billed_before(self.previous))
        self.previous = tuple(previous)
        self.message += _billed_before(self.previous)
        self.args = (self.message,)
        return self

    def redact(self, secrets: Iterable[str]) -> None:
        """Replace secrets in all fields that may be shown: a server may repeat the request in its error."""
        for secret in secrets:
            self.message = self.message.replace(secret, "***")
        self.args = (self.message,)
        self.metadata = _redacted(self.metadata, secrets)
        self.availability = _redacted(self.availability, secrets)
        if self.response is not None and "error" in self.response.raw:
            self.response.raw["error"] = _redacted(self.response.raw["error"], secrets)

    @property
    def headline(self) -> str:
        """The first sentence of the message, at most 100 characters: the cause."""
        sentence = self.message.partition("\n")[0].partition(". ")[0]
        return sentence if len(sentence) <= MAX_HEADLINE else f"{sentence[: MAX_HEADLINE - 1]}…"

    def add_place(self, kind: str, name: str) -> Self:
        """Append a place to the message, such as "Task: ask", unless it is there already."""
        place = f"{kind}: {name}"
        if not self.message.endswith(place):
            self.message = ". ".join(filter(None, (self.message.rstrip(". "), place)))
            self.args = (self.message,)
        return self

    def about(self, subject: str) -> Self:
        """Put a subject, such as a row, before the message, unless it is there already."""
        if not self.message.startswith(f"{subject}: "):
            self.message = f"{subject}: {self.message}" if self.message else subject
            self.args = (self.message,)
        return self


class ConfigurationError(ResponsesError, ValueError):
    """The connection or a setting is wrong."""


class RequestValidationError(ResponsesError, ValueError):
    """
    The request is wrong; nothing was sent.

    :param fields: the wrong fields or arguments.
    """

    custom_id: str | None = None  # of the wrong request in a batch

    def __init__(self, message: str = "", *, fields: tuple[str, ...] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.fields = fields


class APIError(ResponsesError):
    """The service reported an error."""


class BadRequestResponseError(APIError):
    """400: the request is wrong."""


class UnauthorizedResponseError(APIError):
    """401: the key is missing, wrong or disabled."""


class PaymentRequiredResponseError(APIError):
    """402: credits, or the key's own limit, are used up."""


class ForbiddenResponseError(APIError):
    """403: blocked by a guardrail or moderation, or a permission is missing; see ``kind``."""

    @property
    def kind(self) -> str:
        """``guardrail-blocked``, ``moderation`` or ``insufficient-permissions``."""
        if self.patterns or self.pipeline:
            return "guardrail-blocked"
        return "moderation" if self.reasons or "flagged_input" in self.metadata else "insufficient-permissions"

    @property
    def patterns(self) -> list[Any]:
        """Patterns that a guardrail found in the input."""
        return _list(self.metadata.get("patterns"))

    @property
    def pipeline(self) -> list[Any]:
        """The stages that the request passed, each with its outcome."""
        return _list((self.openrouter_metadata or {}).get("pipeline"))

    @property
    def reasons(self) -> list[Any]:
        """Reasons for which a moderation blocked the request."""
        return _list(self.metadata.get("reasons"))

    @property
    def flagged_input(self) -> str | None:
        """The part of the input that a moderation blocked. No message quotes it, since it is content."""
        text = self.metadata.get("flagged_input")
        return text if isinstance(text, str) else None


class NotFoundResponseError(APIError):
    """404: there is no such model, endpoint or stored response."""


class RequestTimeoutResponseError(APIError):
    """408: the service timed out."""

    default_retryable = True


class PayloadTooLargeResponseError(APIError):
    """413: the request is too large."""


class UnprocessableEntityResponseError(APIError):
    """422: the request is well-formed, but cannot be processed."""


class TooManyRequestsResponseError(APIError):
    """429: a rate limit."""

    default_retryable = True


class InternalServerResponseError(APIError):
    """500: an error of the service."""

    default_retryable = True


class BadGatewayResponseError(APIError):
    """502: the model's provider failed."""

    default_retryable = True


class ServiceUnavailableResponseError(APIError):
    """503: no provider is available now."""

    default_retryable = True


class EdgeNetworkTimeoutResponseError(APIError):
    """524: the edge network timed out."""

    default_retryable = True


class ProviderOverloadedResponseError(APIError):
    """529: the model's provider is overloaded."""

    default_retryable = True


class IncompleteResponseError(ResponsesError):
    """The response was truncated; ``response`` holds the part that arrived."""


class RefusalError(ResponsesError):
    """The model refused; ``response.refusal`` holds its words."""


class OutputValidationError(ResponsesError):
    """
    The response does not match ``output_type``.

    :param feedback: the reason as a model reads it, with values of the response; None if there is none to send.
    """

    def __init__(self, message: str = "", *, feedback: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.feedback = feedback


class OutputRejectedError(ResponsesError):
    """
    A function of ``escalate`` does not accept the response, and a larger model gets the request.

    :param function: its name.
    """

    def __init__(self, message: str = "", *, function: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.function = function


class StreamInterruptedError(ResponsesError):
    """
    The stream broke, ended early or was malformed.

    :param text: the text that had arrived.
    """

    default_retryable = True

    def __init__(self, message: str = "", *, text: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.text = text


class TransportError(ResponsesError):
    """
    No response arrived.

    :param kind: ``connect``, ``read``, ``timeout`` (a read took too long) or ``deadline`` (the whole call did).
    """

    default_retryable = True

    def __init__(self, message: str = "", *, kind: str = "connect", **details: Any) -> None:
        super().__init__(message, **details)
        self.kind = kind


class RequestCancelledError(ResponsesError):
    """The call was cancelled and its connection dropped."""

    # A killed worker is replaced: Airflow decides whether the task runs again.
    default_retryable = True


class BudgetExceededError(ResponsesError):
    """A limit that the user set is used up."""


class ToolError(ResponsesError):
    """
    The loop of a task with tools cannot go on; see ``reason``.

    :param tool: name of the tool, if there is one.
    :param reason: ``fatal`` (the tool raised an error that is listed as fatal; retryable), ``interrupted`` (an attempt
        was killed while the tool ran), ``max_steps``, or ``deadline`` (retryable).
    """

    def __init__(self, message: str = "", *, tool: str | None = None, reason: str = "fatal", **details: Any) -> None:
        super().__init__(message, **details)
        self.tool = tool
        self.reason = reason


class TooManyFailuresError(ResponsesError):
    """More rows failed than ``limits.max_failures`` allows. Responses that are written remain."""


class BatchError(ResponsesError):
    """
    A batch failed, is overdue or gone, or may exist without a record of its id.

    :param batch_ids: the batches that the error is about.
    """

    def __init__(self, message: str = "", *, batch_ids: tuple[str, ...] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.batch_ids = batch_ids


class SourceError(ResponsesError):
    """The source of a table cannot be read. Not retryable if the file is missing or damaged."""

    default_retryable = True


class OutputError(ResponsesError):
    """The output of a table cannot be used now."""

    default_retryable = True


class OutputLockedError(OutputError):
    """Another attempt writes the output; ``retry_after`` is the number of seconds until its lease lapses."""


class LeaseLostError(OutputError):
    """Another attempt has taken the output over, or may have: the lease was not renewed in time (then retryable)."""

    default_retryable = False


class StorageError(OutputError):
    """
    A file of the output, or a temporary one on the worker, cannot be read or written.

    :param path: the file.
    """

    def __init__(self, message: str = "", *, path: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.path = path


class VersionMismatchError(ResponsesError):
    """Another version of this package wrote the data that is read."""

    default_retryable = True


_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequestResponseError,
    401: UnauthorizedResponseError,
    402: PaymentRequiredResponseError,
    403: ForbiddenResponseError,
    404: NotFoundResponseError,
    408: RequestTimeoutResponseError,
    413: PayloadTooLargeResponseError,
    422: UnprocessableEntityResponseError,
    429: TooManyRequestsResponseError,
    500: InternalServerResponseError,
    502: BadGatewayResponseError,
    503: ServiceUnavailableResponseError,
    524: EdgeNetworkTimeoutResponseError,
    529: ProviderOverloadedResponseError,
}


def _redacted(value: Any, secrets: Iterable[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
        return value
    if isinstance(value, Mapping):
        return {key: _redacted(item, secrets) for key, item in value.items()}
    return [_redacted(item, secrets) for item in value] if isinstance(value, list) else value


def _billed_before(previous: Iterable[Exception]) -> str:
    """Return the sentence about earlier sends that may have been billed, empty if there are none."""
    billed = [error for error in previous if isinstance(error, ResponsesError) and error.may_have_been_billed]
    if not billed:
        return ""
    count = "1 earlier send" if len(billed) == 1 else f"{len(billed)} earlier sends"
    return f". Before it, {count} may have been billed: {', '.join(map(_describe_send, billed))}"


def _describe_send(error: ResponsesError) -> str:
    """Return a failed send's class, kind or status, and the id under which its price can be looked up."""
    kind = getattr(error, "kind", None) if isinstance(error, TransportError) else error.status_code
    details = ", ".join(str(part) for part in (kind, error.generation_id) if part)
    return f"{type(error).__name__} ({details})" if details else type(error).__name__


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def error_class_for_status(status: int) -> tuple[type[APIError], bool]:
    """Return the class for a status, and whether a request with this status may be retried."""
    if cls := _BY_STATUS.get(status):
        return cls, cls.default_retryable
    return APIError, status in {409, 425} or status >= 500
