"""One call about batches or files: its key, its body, and the step of the script that changes how it ends."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from airflow_provider_responses.sandbox.http.call_handler import authorize
from airflow_provider_responses.sandbox.http.http_errors import http_error
from airflow_provider_responses.sandbox.http.wire import ClosedConnection, TruncatedResponse
from airflow_provider_responses.sandbox.state.batch_script import BatchCall as CallKind
from airflow_provider_responses.sandbox.state.batch_script import BatchStep
from airflow_provider_responses.sandbox.state.batches import Batch
from airflow_provider_responses.sandbox.state.sandbox_state import SandboxState


class ConnectionDropped(Exception):  # noqa: N818  not an error of the sandbox
    """The call ends without a response."""


@dataclass(frozen=True, kw_only=True)
class BatchCall:
    """One call with an accepted key; ``step`` changes how it ends, ``raw`` is its body."""

    state: SandboxState
    raw: bytes
    key: str
    epoch: int
    step: BatchStep

    @property
    def is_current(self) -> bool:
        """Whether the sandbox was not reset since the call arrived."""
        return self.epoch == self.state.epoch

    def batch(self, batch_id: str) -> Batch:
        """
        Return a batch of the call's key.

        :raises HttpError: 404 if it has no such batch.
        """
        batch = self.state.batches.find(batch_id, self.key)
        if batch is None:
            raise http_error(404, f"No batch {batch_id}")
        return batch

    def respond(self, response: Response) -> Response:
        """Return the response, or the part of it that the step lets through."""
        if self.step.drop:
            return ClosedConnection()
        if self.step.cut:
            return TruncatedResponse(response, len(response.body) // 2, ends_cleanly=False)
        return response


async def begin_call(request: Request, kind: CallKind) -> BatchCall:
    """
    Return the call that a request is, after its latency.

    The body is read to its end in any case: a client that is still sending might never read the response.

    :raises HttpError: 413 for the body, 401 for the key, or the error of the call's step.
    :raises ConnectionDropped: if the step closes the connection, or a reset does.
    """
    state: SandboxState = request.app.state.sandbox
    raw, epoch = await _read_body(request, state.batches.settings.max_bytes), state.epoch
    key = authorize(request.headers)
    step = state.next_batch_step(kind)
    latency = state.latency if step.delay is None else step.delay
    if step.drop is True or (latency and await state.pause(latency, epoch=epoch) == "reset"):
        raise ConnectionDropped
    if step.status is not None:
        headers = {} if step.retry_after is None else {"Retry-After": f"{step.retry_after:g}"}
        raise http_error(step.status, step.message, headers)
    return BatchCall(state=state, raw=raw, key=key, epoch=epoch, step=step)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    body, length = bytearray(), 0
    try:
        async for chunk in request.stream():
            length += len(chunk)
            if length <= max_bytes:
                body += chunk
    except ClientDisconnect:
        raise ConnectionDropped from None
    if length > max_bytes:
        raise http_error(413, f"The body has {length} bytes: at most {max_bytes} are allowed")
    return bytes(body)
