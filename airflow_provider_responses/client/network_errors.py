"""Builds the errors of network failures, of exceeded deadlines and of cancelled calls."""

from __future__ import annotations

import httpx

from airflow_provider_responses.client.batch_errors import MAY_EXIST, is_ambiguous
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.exceptions import RequestCancelledError, ResponsesError, TransportError


def async_network_errors() -> tuple[type[Exception], ...]:
    """Return the network errors of an async call: httpx's, and those of aiohttp that httpx-aiohttp does not map."""
    import aiohttp

    return httpx.HTTPError, aiohttp.ClientError


def async_failures() -> tuple[type[Exception], ...]:
    """Return all classes of exceptions that an async call raises before they are mapped."""
    return ResponsesError, TimeoutError, *async_network_errors()


def map_async_failure(error: Exception, *, request: RequestSummary, timeout: float) -> ResponsesError:
    """Return an exception of an async call as an error of this package."""
    if isinstance(error, ResponsesError):
        return error
    if isinstance(error, async_network_errors()):  # checked first: some classes of aiohttp are TimeoutErrors, too
        return transport_error(error, request=request)
    return deadline_error(request=request, timeout=timeout)


def transport_error(error: Exception, *, request: RequestSummary) -> TransportError:
    """Return an exception of httpx or aiohttp as an error, which is ambiguous if the request was sent."""
    kind = _kind(error)
    reason = str(error) or str(error.__cause__ or "") or type(error).__name__
    if kind == "connect":
        cause, billed = "no connection", "Nothing was sent"
        advice = "Check the base URL, the network and the proxy settings"
    elif kind == "timeout":
        cause, billed = "no response in time", _possible_effect(request)
        advice = "Raise `read_timeout` on the connection"
    else:
        cause, billed = "the connection broke", _possible_effect(request)
        advice = "" if request.batch == "submit" else "The same request can be sent again"
    text = request.error_text(f"{cause}: {reason}", billed, advice)
    return TransportError(text, kind=kind, ambiguous=kind != "connect" and is_ambiguous(request.batch))


def deadline_error(*, request: RequestSummary, timeout: float) -> TransportError:
    """
    Return the error of a call that exceeded its timeout.

    :param timeout: seconds that the call had, with all its sends and waits.
    """
    text = request.error_text(
        f"no response within {round(timeout, 2):g} s, all sends and waits included",
        _possible_effect(request),
        "Raise the timeout (`options`, the connection, or the task's execution_timeout)"
        + ("" if request.batch else ", or lower max_output_tokens"),
    )
    return TransportError(text, kind="deadline", ambiguous=is_ambiguous(request.batch))


def cancelled_error(*, request: RequestSummary) -> RequestCancelledError:
    """Return the error of a call that was cancelled."""
    text = request.error_text(
        "the call was cancelled and its connection dropped", "No send follows", _possible_effect(request)
    )
    return RequestCancelledError(text, ambiguous=is_ambiguous(request.batch))


def _possible_effect(request: RequestSummary) -> str:
    """Return the sentence about the effect that a call without a response may have had, empty if it has none."""
    if request.batch == "submit":
        return MAY_EXIST
    return "" if request.batch else "The request may have been billed"


def _kind(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) else error
    if type(cause).__module__.startswith("aiohttp"):
        import aiohttp

        before = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
        if isinstance(cause, (*before, aiohttp.ClientHttpProxyError)):
            return "connect"
        return "timeout" if isinstance(cause, TimeoutError) else "read"
    if isinstance(
        error,
        (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
            httpx.UnsupportedProtocol,
        ),
    ):
        return "connect"
    return "timeout" if isinstance(error, httpx.TimeoutException) else "read"
