"""Plans the sends of a request: one may be unstreamed although the request asks for a stream. No I/O."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import httpx

from airflow_provider_responses.client.call import Call
from airflow_provider_responses.client.sse import ADVICE_UNSTREAMED, StreamReader
from airflow_provider_responses.exceptions import APIError, ResponsesError, StreamInterruptedError

ErrorT = TypeVar("ErrorT", bound=ResponsesError)
# Words of a server that requires a stream; not those about a stream that ended or was read.
STREAMING: Final = re.compile(
    r"(?<!of )(?<!of the )(?<!in )(?<!in the )(?<!input )(?<!-)\bstream(?:s|ed|ing|_options)?\b", re.IGNORECASE
)


class SendPlan:
    """
    The sends of one request.

    Some servers detect an error in a request after they have begun to stream, and close the connection. They report
    the reason if the same request is sent unstreamed. A server that only streams refuses that: then the broken stream
    is the error.

    :param call: the call of the first send; ``next`` is that of the next one.
    """

    def __init__(self, call: Call) -> None:
        self.next = self._first = call
        self._was_unstreamed = False
        self._broken: StreamInterruptedError | None = None  # the error after which the request is sent unstreamed

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
    """Whether a server refused an unstreamed request since it only streams."""
    if not isinstance(error, APIError) or error.retryable:
        return False
    status = error.status_code
    if status is not None and 200 <= status < 300:  # one bridge responds with `null` to such a request
        return error.response is None
    return STREAMING.search(error.message.removesuffix(label)) is not None


def _broken_again(broken: StreamInterruptedError, refusal: ResponsesError) -> StreamInterruptedError:
    status = f" (status {refusal.status_code})" if refusal.status_code else ""
    reason = f"The server only streams: it refuses the same request with stream=False{status}"
    message = broken.message.replace(ADVICE_UNSTREAMED, reason)
    return StreamInterruptedError(message, ambiguous=True, generation_id=broken.generation_id)
