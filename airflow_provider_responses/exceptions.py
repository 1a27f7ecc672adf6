"""
What can go wrong, and what to do about it.

ResponsesError
    ConfigurationError                    the connection or the client's settings
    RequestValidationError                the request, before it was sent
    APIError                              the service said no (any other 4XX, 5XX)
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
    IncompleteResponseError               the answer was cut off
    RefusalError                          the model refused
    OutputValidationError                 the answer is not what `output_type` says
    StreamInterruptedError                the stream ended before the answer did; retryable
    TransportError                        no answer arrived (connect, read, timeout); retryable
    RequestCancelledError                 the task was killed while the call was under way
    BudgetExceededError                   a limit of the user's own is spent
    TooManyFailuresError                  more rows of a table have failed than allowed
    SourceError                           the source of a table cannot be read; retryable
    OutputError                           the output of a table cannot be used now; retryable
        OutputLockedError                 another attempt writes it; retryable
        LeaseLostError                    another attempt has taken it over
        StorageError                      its files cannot be read or written; retryable
    VersionMismatchError                  another version of this package wrote the data; retryable
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response

__all__ = [
    "APIError",
    "BadGatewayResponseError",
    "BadRequestResponseError",
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
    "TransportError",
    "UnauthorizedResponseError",
    "UnprocessableEntityResponseError",
    "VersionMismatchError",
    "error_class_for_status",
]


class ResponsesError(Exception):
    """
    Base of everything that this package raises.

    :param message: what happened, to which request, and what to do.
    :param retryable: whether the same request may succeed later; by default what the class says.
    :param ambiguous: whether the request may have been served, and so billed, all the same.
    :param retry_after: seconds that the service asked to wait.
    :param response: the answer that came after all (incomplete, refused, not as typed), with its usage.
    :param previous: errors of the tries before this one, oldest first.
    """

    default_retryable: ClassVar[bool] = False
    wait: float | None = None  # seconds between the send that failed and the next, if one followed
    account_reset: float | None = None  # seconds until a limit of the account, which is used up, is reset

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

    @property
    def tries(self) -> int:
        """How many requests were sent, this one included."""
        return len(self.previous) + 1

    @property
    def may_have_been_billed(self) -> bool:
        """Whether the request that failed may be on the bill: it may have been served, or a response came of it."""
        response = self.response
        return self.ambiguous or (response is not None and response.was_made)

    def after(self, previous: Iterable[Exception]) -> Self:
        """Enter the failed sends before this one, oldest first; the message names those that may have been billed."""
        self.message = self.message.removesuffix(_billed_before(self.previous))
        self.previous = tuple(previous)
        self.message += _billed_before(self.previous)
        self.args = (self.message,)
        return self

    def redact(self, secrets: Iterable[str]) -> None:
        """Replace secrets in everything that may be shown: a server may send back what it was sent."""
        for secret in secrets:
            self.message = self.message.replace(secret, "***")
        self.args = (self.message,)
        self.metadata = _without(self.metadata, secrets)
        self.availability = _without(self.availability, secrets)
        if self.response is not None and "error" in self.response.raw:
            self.response.raw["error"] = _without(self.response.raw["error"], secrets)

    def about(self, what: str) -> Self:
        """Begin the message with what it is about, a task or a connection, unless it does already."""
        if not self.message.startswith(f"{what}: "):
            self.message = f"{what}: {self.message}" if self.message else what
            self.args = (self.message,)
        return self


class ConfigurationError(ResponsesError, ValueError):
    """The connection or a setting cannot be used as it is."""


class RequestValidationError(ResponsesError, ValueError):
    """The request is refused before it is sent; ``fields`` names what is wrong."""

    def __init__(self, message: str = "", *, fields: tuple[str, ...] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.fields = fields


class APIError(ResponsesError):
    """The service answered with an error."""


class BadRequestResponseError(APIError):
    """400: the request is wrong as it stands."""


class UnauthorizedResponseError(APIError):
    """401: the key is missing, wrong or disabled."""


class PaymentRequiredResponseError(APIError):
    """402: credits, or the key's own limit, are used up."""


class ForbiddenResponseError(APIError):
    """403: a guardrail, moderation or missing permission; ``kind`` tells which."""

    @property
    def kind(self) -> str:
        """``guardrail-blocked``, ``moderation`` or ``insufficient-permissions``."""
        if self.patterns or self.pipeline:
            return "guardrail-blocked"
        return "moderation" if self.reasons or "flagged_input" in self.metadata else "insufficient-permissions"

    @property
    def patterns(self) -> list[Any]:
        """What a guardrail found."""
        return _list(self.metadata.get("patterns"))

    @property
    def pipeline(self) -> list[Any]:
        """The stages that the request went through, with what each did."""
        return _list((self.openrouter_metadata or {}).get("pipeline"))

    @property
    def reasons(self) -> list[Any]:
        """Why a moderation blocked the request."""
        return _list(self.metadata.get("reasons"))

    @property
    def flagged_input(self) -> str | None:
        """The part of the input that a moderation blocked; it is in no message, since it is content."""
        text = self.metadata.get("flagged_input")
        return text if isinstance(text, str) else None


class NotFoundResponseError(APIError):
    """404: there is no such model, endpoint or stored response."""


class RequestTimeoutResponseError(APIError):
    """408: the service gave up waiting."""

    default_retryable = True


class PayloadTooLargeResponseError(APIError):
    """413: the request is too large."""


class UnprocessableEntityResponseError(APIError):
    """422: well-formed, but not to be processed."""


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
    """524: the edge network gave up waiting."""

    default_retryable = True


class ProviderOverloadedResponseError(APIError):
    """529: the model's provider is overloaded."""

    default_retryable = True


class IncompleteResponseError(ResponsesError):
    """The answer was cut off; what there is of it is in ``response``."""


class RefusalError(ResponsesError):
    """The model refused; what it said is in ``response.refusal``."""


class OutputValidationError(ResponsesError):
    """The answer does not validate as ``output_type``."""


class StreamInterruptedError(ResponsesError):
    """The stream broke, ended early or was malformed; ``text`` holds what had arrived."""

    default_retryable = True

    def __init__(self, message: str = "", *, text: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.text = text


class TransportError(ResponsesError):
    """
    No answer arrived.

    :param kind: ``connect``, ``read``, ``timeout`` (a read that took too long) or ``deadline`` (the total).
    """

    default_retryable = True

    def __init__(self, message: str = "", *, kind: str = "connect", **details: Any) -> None:
        super().__init__(message, **details)
        self.kind = kind


class RequestCancelledError(ResponsesError):
    """The call was cancelled and its connection dropped."""

    # A killed worker is replaced: whether the task runs again is Airflow's to say.
    default_retryable = True


class BudgetExceededError(ResponsesError):
    """A limit that the user set is spent."""


class TooManyFailuresError(ResponsesError):
    """More rows have failed than ``limits.max_failures`` allows. What is done stays."""


class SourceError(ResponsesError):
    """The source of a table cannot be read. Not retryable where the file itself is missing or damaged."""

    default_retryable = True


class OutputError(ResponsesError):
    """The output of a table cannot be used now."""

    default_retryable = True


class OutputLockedError(OutputError):
    """Another attempt writes the output; ``retry_after`` is the number of seconds until its lease lapses."""


class LeaseLostError(OutputError):
    """Another attempt has taken the output over, or may have: the lease could not be renewed in time (retryable)."""

    default_retryable = False


class StorageError(OutputError):
    """A file of the output, or a temporary one on the worker, cannot be read or written; ``path`` names it."""

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


def _without(value: Any, secrets: Iterable[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
        return value
    if isinstance(value, Mapping):
        return {key: _without(item, secrets) for key, item in value.items()}
    return [_without(item, secrets) for item in value] if isinstance(value, list) else value


def _billed_before(previous: Iterable[Exception]) -> str:
    """Return the sentence about earlier sends that may have been billed, empty if there are none."""
    billed = [error for error in previous if isinstance(error, ResponsesError) and error.may_have_been_billed]
    if not billed:
        return ""
    count = "1 earlier send" if len(billed) == 1 else f"{len(billed)} earlier sends"
    return f". Before it, {count} may have been billed: {', '.join(map(_send, billed))}"


def _send(error: ResponsesError) -> str:
    """Name a failed send: its class, what kind of failure, and under which id its price can be looked up."""
    kind = getattr(error, "kind", None) if isinstance(error, TransportError) else error.status_code
    details = ", ".join(str(part) for part in (kind, error.generation_id) if part)
    return f"{type(error).__name__} ({details})" if details else type(error).__name__


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def error_class_for_status(status: int) -> tuple[type[APIError], bool]:
    """Give the class for a status, and whether the status may be tried again."""
    if cls := _BY_STATUS.get(status):
        return cls, cls.default_retryable
    return APIError, status in {409, 425} or status >= 500
