"""One row's request: sent, sent again where the response is invalid, and what a cached response cost."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.task.attempt import Exchange
from airflow_provider_responses.task.cost import unpriced_generations
from airflow_provider_responses.task.price_lookup import look_up_generations_async

if TYPE_CHECKING:
    from airflow_provider_responses.client import AsyncResponsesClient
    from airflow_provider_responses.enrich.index import Pending
    from airflow_provider_responses.enrich.report import Report
    from airflow_provider_responses.enrich.requests import Requests
    from airflow_provider_responses.enrich.sender import Turn
    from airflow_provider_responses.task.outcome import Outcome


class Asker:
    """
    See the module.

    :param requests: of the rows.
    :param client: sends them.
    :param report: is given what no outcome holds.
    """

    def __init__(self, requests: Requests, client: AsyncResponsesClient, report: Report) -> None:
        self._requests, self._client, self._report = requests, client, report

    async def ask(self, pending: Pending, turn: Turn) -> Outcome:
        """
        Send a request, and look up the price of a cached response: whoever had it made did not live to enter it.

        :param turn: waits until the request may be sent once more, from the price of the invalid response.
        """
        outcome = await self._outcome(pending, turn)
        response = outcome.response
        if response is None or not (response.cached or response.previous):
            return outcome  # as nearly all are
        failed = partial(self._report.note_lookup, pending.first)
        sources = unpriced_generations(response, {})
        return replace(outcome, generations=await look_up_generations_async(self._client, sources, on_failure=failed))

    async def _outcome(self, pending: Pending, turn: Turn) -> Outcome:
        call, options = self._requests.call(self._client, pending.fields)
        note = partial(self._report.note_invalid, pending.first)
        exchange = Exchange(self._requests.run, options, on_invalid=note)
        try:
            outcome = exchange.receive(await self._client.send_call(call))
            if outcome is not None:
                return outcome  # as nearly all are
            request, _ = self._requests.sent_once(json.loads(pending.fields))
            while outcome is None:
                await turn(pending, exchange.last_cost)
                options = exchange.options(self._requests.timeout)
                outcome = exchange.receive(await self._client.send(request, options=options))
        except ResponsesError as error:
            return exchange.fail(error)
        return outcome
