"""Sends the request of one row, again where its output is invalid, and looks up the price of a cached response."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from airflow_provider_responses.content.generated_images import has_images
from airflow_provider_responses.enrich.next_step import FIRST
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.observability.request_span import NO_SPAN
from airflow_provider_responses.task.attempt import Exchange
from airflow_provider_responses.task.cost import unpriced_generations
from airflow_provider_responses.task.price_lookup import look_up_generations_async

if TYPE_CHECKING:
    from airflow_provider_responses.client import AsyncResponsesClient
    from airflow_provider_responses.client.call import Call
    from airflow_provider_responses.enrich.index import PendingRequest
    from airflow_provider_responses.enrich.report import Report
    from airflow_provider_responses.enrich.row_requests import RowRequests
    from airflow_provider_responses.enrich.sender import ResendTurn
    from airflow_provider_responses.observability.request_span import RequestSpan
    from airflow_provider_responses.observability.spans import Tracing
    from airflow_provider_responses.task.outcome import Outcome


class InvalidOutputs(NamedTuple):
    """
    The invalid outputs that a request has had.

    :param number: of them.
    :param feedback: the texts that they add to the request.
    """

    number: int
    feedback: tuple[str, ...] = ()


NONE_INVALID: Final = InvalidOutputs(0)


class RowClient:
    """
    See the module.

    :param requests: of the rows.
    :param client: sends them.
    :param report: counts invalid outputs, and prices that could not be looked up.
    :param invalid_before: the invalid outputs that a request, by its fingerprint, has had in this attempt.
    :param tracing: of the rows; None if none has a span.
    """

    def __init__(
        self,
        requests: RowRequests,
        client: AsyncResponsesClient,
        report: Report,
        invalid_before: Mapping[bytes, InvalidOutputs] | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._requests, self._client, self._report = requests, client, report
        self._invalid_before, self._tracing = invalid_before or {}, tracing

    async def send(self, pending: PendingRequest, turn: ResendTurn) -> Outcome:
        """
        Send a request, and return its outcome.

        The price of a cached response is looked up, since whoever paid for it ended before the price was recorded.

        :param turn: is awaited with the price of an invalid output, before the request is sent again.
        """
        outcome = await self._exchange(pending, turn)
        if has_images(outcome.response) and outcome.error is None:
            outcome = await asyncio.to_thread(self._requests.with_image_paths, outcome)
        response = outcome.response
        if response is None or not (response.cached or response.previous):
            return outcome  # as nearly all are
        failed = partial(self._report.note_failed_lookup, pending.first_row)
        sources = unpriced_generations(response, {})
        return replace(outcome, generations=await look_up_generations_async(self._client, sources, on_failure=failed))

    async def _exchange(self, pending: PendingRequest, turn: ResendTurn) -> Outcome:
        if self._requests.has_files(pending.fields):
            call, options = await asyncio.to_thread(self._requests.call_with_files, self._client, pending)
        else:
            call, options = self._requests.call_step(self._client, pending)
        note = partial(self._report.note_invalid_output, pending.first_row)
        request, before = self._requests.later.task_request(pending.step), NONE_INVALID
        if self._invalid_before and pending.step == FIRST:
            before = self._invalid_before.get(pending.fingerprint, NONE_INVALID)
        if before.number:
            request = replace(request, output_retries=max(request.output_retries - before.number, 0))
        span = NO_SPAN if self._tracing is None else self._start_span(self._tracing, pending, call)
        exchange = Exchange(request, options, on_invalid=note, feedback=before.feedback, span=span)
        outcome: Outcome | None = None
        with span:
            try:
                if not before.feedback:
                    outcome = exchange.receive(await self._client.send_call(call))
                    if outcome is not None:
                        return outcome  # as nearly all are
                prepared = call.prepared or self._requests.prepare_step(pending)[0]
                while outcome is None:
                    if exchange.responses:
                        await turn(pending, exchange.last_cost)
                    options = exchange.options(self._requests.timeout)
                    resent = exchange.next_request(prepared)
                    outcome = exchange.receive(await self._client.send(resent, options=options))
            except ResponsesError as error:
                return exchange.fail(error)
        return outcome

    def _start_span(self, tracing: Tracing, pending: PendingRequest, call: Call) -> RequestSpan:
        """Begin the span of a row's request, if the row is sampled."""
        if not tracing.samples(pending.fields):
            return NO_SPAN
        from airflow_provider_responses.observability.spans import start_request_span

        request, _ = self._requests.prepare_step(pending)
        config = call.config
        return start_request_span(tracing, request, base_url=config.base_url, is_openrouter=config.is_openrouter)
