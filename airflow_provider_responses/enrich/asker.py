"""One row's request: how it is built, sent, sent again where the response is invalid, and what a cached one cost."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from airflow_provider_responses import runs
from airflow_provider_responses.enrich.output_store import name_of
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.task.cost import unknown_sources
from airflow_provider_responses.task.price_lookup import look_up_async

if TYPE_CHECKING:
    from airflow_provider_responses.client.client import AsyncResponsesClient
    from airflow_provider_responses.enrich.index import Pending
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.output_store import OutputStore
    from airflow_provider_responses.enrich.sender import Turn
    from airflow_provider_responses.runs import Outcome


class Asker:
    """
    See the module.

    :param job: whose rows they are.
    :param folder: of the output, whose requests have idempotency keys of their own.
    """

    def __init__(self, job: Job, folder: OutputStore) -> None:
        self._job, self._folder = job, folder
        # A schema is built once, and not for each row.
        self._common = replace(job.run, output_format=job.run.format())
        self._timeout = job.config.for_call(job.options).timeout

    def asked(self, fields: Mapping[str, Any]) -> runs.Run:
        """Return what is asked about a row, from the fields of its request."""
        return replace(self._common, fields=fields, stamp=self._stamp)

    @functools.cached_property
    def _stamp(self) -> str:
        """The idempotency key: another one for each output, and the same for all attempts."""
        salt = f"{name_of(self._folder.path)}\0{self._folder.generation}"
        return blake2b(salt.encode(), digest_size=16).hexdigest()

    async def ask(self, client: AsyncResponsesClient, pending: Pending, turn: Turn) -> Outcome:
        """
        Send a request, and look up the price of a cached response: whoever had it made did not live to enter it.

        :param turn: waits until the request may be sent once more, from the price of the invalid response.
        """
        outcome = await self._outcome(client, pending, turn)
        response = outcome.response
        if response is None or not (response.cached or response.previous):
            return outcome  # as nearly all are
        return replace(outcome, generations=await look_up_async(client, unknown_sources(response, {})))

    async def _outcome(self, client: AsyncResponsesClient, pending: Pending, turn: Turn) -> Outcome:
        run = self.asked(json.loads(pending.fields))
        request, options = run.prepare(self._job.config, self._job.options)
        # The retries of a row are the sender's, which looks at all rows together.
        asking = runs.Asking(run, replace(options, max_retries=0))
        while True:
            try:
                outcome = asking.answered(await client.send(request, options=asking.options(self._timeout)))
                if outcome is not None:
                    return outcome
                await turn(pending, asking.paid)
            except ResponsesError as error:
                return asking.failed(error)
