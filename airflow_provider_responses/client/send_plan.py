"""How the next send of a request is made: one may be unstreamed although a stream was asked for. No I/O."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import httpx

from airflow_provider_responses.client.call import Call
from airflow_provider_responses.client.sse import ADVICE_UNSTREAMED, StreamReader
from airflow_provider_responses.exceptions import APIError, ResponsesError, StreamInterruptedError

ErrorT = TypeVar("ErrorT", bound=ResponsesError)
# Words with which a server asks for a streamed request; not those about a stream that ended or was read.
STREAMING: Final = re.compile(
    r"(?<!of )(?<!of the )(?<!in )(?<!in the )(?<!input )(?<!-)\bstream(?:s|ed|ing|_options)?\b", re.IGNORECASE
)


class SendPlan:
    """
    The sends of one request.

    Some servers find an error in a request after they have begun to stream, and break off. The same request
    unstreamed brings the reason. A server that only streams refuses it: then the broken stream is the error.

    :param call: the call as it is sent at first; ``next`` is the call to send next.
    """

    def __init__(self, call: Call) -> None:
        self.next = self._first = call
        self._was_unstreamed = False
        self._broken: StreamInterruptedError | None = None  # the reason for an unstreamed send

    def after_failure(self, error: ErrorT, reader: StreamReader | None = None) -> ErrorT | StreamInterruptedError:
        """
        Choose the next send after one that failed, and return the error to raise for that one.

        :param reader: the reader of the stream, if one had begun.
        """
        if not self.next.stream and self._first.stream:
            only_streams = self._broken is not None and _only_streams(error, self.next.summary.label)
            self._was_unstreamed = self._was_unstreamed or error.ambiguous or only_streams
            self.next = self._first if self._was_unstreamed else self.next
            if self._broken is not None and only_streams:
                error.redact(self._first.config.secrets)  # it is shown as the cause
                return _broken_again(self._broken, error)
        elif (
            isinstance(error, StreamInterruptedError)
            and not isinstance(error.__cause__, (httpx.TimeoutException, TimeoutError))
            and not (reader is None or reader.has_output or self._was_unstreamed or self.next.config.is_openrouter)
        ):
            self.next, self._broken = self._first.unstreamed(), error
        return error


def _only_streams(error: ResponsesError, label: str) -> bool:
    """Whether a server refused an unstreamed request because it only streams."""
    if not isinstance(error, APIError) or error.retryable:
        return False
    status = error.status_code
    if status is not None and 200 <= status < 300:  # a bridge responds with `null` to a request that it cannot serve
        return error.response is None
    return STREAMING.search(error.message.removesuffix(label)) is not None


def _broken_again(broken: StreamInterruptedError, refusal: ResponsesError) -> StreamInterruptedError:
    status = f" (status {refusal.status_code})" if refusal.status_code else ""
    reason = f"The server only streams: it refuses the same request with stream=False{status}"
    message = broken.message.replace(ADVICE_UNSTREAMED, reason)
    return StreamInterruptedError(message, ambiguous=True, generation_id=broken.generation_id)
