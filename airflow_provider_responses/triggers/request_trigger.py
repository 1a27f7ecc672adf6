"""The base of the triggers of one request: send one request, and hand its outcome to a worker or end the task."""

from __future__ import annotations

import asyncio
import functools
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from airflow.triggers.base import TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_responses.exceptions import ResponsesError, TransportError
from airflow_provider_responses.hooks import telemetry
from airflow_provider_responses.hooks.responses import shared_config
from airflow_provider_responses.observability.metrics import queue_metrics
from airflow_provider_responses.observability.spans import start_request_span
from airflow_provider_responses.task import payloads, xcom
from airflow_provider_responses.task.attempt import MAX_RETRY_AFTER, Exchange, log_line
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.escalation_encoding import load_functions
from airflow_provider_responses.task.fingerprint import prompt_fingerprint
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.payloads import DeferredArguments
from airflow_provider_responses.task.price_lookup import look_up_generations_async
from airflow_provider_responses.task.type_encoding import decode_type
from airflow_provider_responses.triggers.base_trigger import ProviderTrigger, exclude_from_garbage_collection

if TYPE_CHECKING:
    from airflow_provider_responses.client import AsyncResponsesClient
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.task.escalation import Escalation
    from airflow_provider_responses.task.request import TaskRequest

LARGE_TEXT: Final = 256 * 1024  # characters; events of longer texts are written off the event loop


class RequestTrigger(ProviderTrigger):
    """
    Send one request and yield one event.

    It may start over at any time: it then sends the same bytes, and gets the cached response.

    :param kwargs: as one of the classes in ``task.payloads`` wrote them. They are read in :meth:`run`, since an
        exception in here would end the whole triggerer.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send the request; yield one event."""
        if self._is_in_triggerer:
            exclude_from_garbage_collection("Airflow")
        arguments = None
        try:
            arguments = await self._prepare()
            outcome = await self._send(arguments)
        except ResponsesError as error:
            outcome = Outcome(error=error)
        if self._is_in_triggerer:
            exclude_from_garbage_collection("the client and the models")
        if arguments is not None and await self._end_task(arguments, outcome):
            from airflow.triggers.base import TaskSuccessEvent

            yield TaskSuccessEvent()
            return
        event = await self._write_event(arguments, outcome)
        if self._is_in_triggerer:
            await self._wait_for_worker(arguments, outcome)
        yield cast("Any", TriggerEvent)(event)

    async def on_kill(self) -> None:
        """Log that the connection is dropped; Airflow has cancelled :meth:`run` before."""
        self.log.warning(
            "A user ended the task: the connection of its request is dropped. A streamed response stops, and its cost "
            "with it; one that is not streamed is completed and billed"
        )

    @abstractmethod
    async def _prepare(self) -> DeferredArguments:
        """
        Return the request to send.

        :raises ResponsesError: if there is none.
        """

    async def _send(self, arguments: DeferredArguments) -> Outcome:
        """Send the request until there is an outcome."""
        from airflow_provider_responses.client import AsyncResponsesClient

        config = await shared_config(arguments.conn_id)
        task_request = await self._with_imports(arguments)
        request, options = task_request.prepare(config, arguments.options)
        larger = task_request.prepare_larger(config, arguments.options)
        config = config.for_call(arguments.options)
        self._emit_queue_time(arguments)
        span = start_request_span(
            telemetry.tracing_of(self.task_instance, of_worker=arguments.trace_context),
            request,
            base_url=config.base_url,
            is_openrouter=config.is_openrouter,
        )
        async with AsyncResponsesClient(config) as client:
            with span:
                exchange = Exchange(task_request, options, larger=larger, span=span)
                outcome = await self._exchange(client, exchange, request, arguments.deadline)
            if outcome.response is not None:
                sources = CostLedger(dict(arguments.spent)).unpriced_generations(outcome.response)
                found = await look_up_generations_async(client, sources, lambda: arguments.deadline - self._now())
                outcome = replace(outcome, generations=found)
        return outcome

    def _emit_queue_time(self, arguments: DeferredArguments) -> None:
        if arguments.deferred_at is not None:
            metrics = queue_metrics(self._now() - arguments.deferred_at, telemetry.task_tags(self.task_instance))
            telemetry.emit(metrics, in_triggerer=self._is_in_triggerer)

    async def _exchange(
        self, client: AsyncResponsesClient, exchange: Exchange, request: ResponsesRequest, deadline: float
    ) -> Outcome:
        outcome = None
        while outcome is None:
            try:
                options = exchange.options(self._seconds_until(deadline))
                outcome = exchange.receive(await client.send(exchange.next_request(request), options=options))
            except ResponsesError as error:
                outcome = exchange.receive_error(error)
        return outcome

    def _seconds_until(self, deadline: float) -> float:
        seconds = deadline - self._now()
        if seconds <= 0:
            raise TransportError(
                "no response before the deadline, which passes also while no triggerer runs. The request may have been "
                "billed; a retry gets the response if it is cached. Raise the timeout (`options`, the connection, or "
                "the task's execution_timeout)",
                kind="deadline",
                ambiguous=True,
            )
        return seconds

    async def _with_imports(self, arguments: DeferredArguments) -> TaskRequest:
        """Return the request with its ``output_type``; without that, or a function, a worker reads the response."""
        request, path = arguments.task_request, arguments.output_type_path
        if path is not None:
            output_type = await asyncio.to_thread(self._import, path, request.output_format)
            request = replace(request, output_type=output_type)
        if not request.escalations or request.worker_decides:
            return request
        is_known = not request.lacks_output_type
        if is_known and any(it.has_check for it in request.escalations):
            is_known = await asyncio.to_thread(self._import_functions, request.escalations)
        return request if is_known else replace(request, worker_decides=True)

    def _import_functions(self, escalations: Sequence[Escalation]) -> bool:
        """Import the functions of ``escalate``; return whether all could be."""
        try:
            load_functions(escalations)
        except (Exception, SystemExit):
            self.log.info("A worker checks the response: the triggerer cannot import a function", exc_info=True)
            return False
        return True

    def _import(self, path: str, output_format: Mapping[str, Any] | None) -> Any:
        """Return an encoded type, None if it cannot be imported or is not the one that the request asks for."""
        from airflow_provider_responses.models.output import json_schema_format

        try:
            found = decode_type(path)
            if output_format is None or json_schema_format(found) == output_format:
                return found
            self.log.info("A worker validates the response: the triggerer has loaded %s with other fields", path)
        except (Exception, SystemExit):
            # Nothing that a user's module raises must end the triggerer.
            self.log.info("A worker validates the response: the triggerer cannot import %s", path, exc_info=True)
        return None

    async def _end_task(self, arguments: DeferredArguments, outcome: Outcome) -> bool:
        """Push the XComs of a successful task if the trigger may end it; return whether it may."""
        if not (arguments.ends_task and self._is_in_triggerer):
            return False
        if outcome.error or outcome.unparsed or outcome.response is None:
            return False
        ledger = CostLedger(dict(arguments.spent), escalated=arguments.escalated)
        usage = ledger.usage(outcome, prompt_fingerprint(arguments.task_request))
        values = {xcom.USAGE_KEY: usage, xcom.RETURN_KEY: outcome.value} if arguments.do_xcom_push else {}
        if outcome.value is None:
            values.pop(xcom.RETURN_KEY, None)
        try:
            # All at once: the supervisor reads its messages between its turns at the database.
            await asyncio.gather(*(self._call_xcom("set", key, value=value) for key, value in values.items()))
        except Exception:
            # On a worker, the task's own retries and callbacks apply to the failure.
            self.log.warning("A worker ends the task: its XCom could not be set in the triggerer", exc_info=True)
            return False
        self.log.info("%s", log_line(outcome.response, usage))
        telemetry.emit_request(usage, outcome, self.task_instance, in_triggerer=True)
        return True

    async def _call_xcom(self, method: str, key: str, **more: Any) -> Any:
        """Call a method of Airflow's XCom for this task, off the event loop."""
        from airflow.sdk.execution_time.xcom import XCom

        ti: Any = self.task_instance
        which = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id}
        map_index = -1 if ti.map_index is None else ti.map_index
        call = sync_to_async(getattr(XCom, method), thread_sensitive=False)
        return await call(key=key, **which, map_index=map_index, **more)

    async def _write_event(self, arguments: DeferredArguments | None, outcome: Outcome) -> payloads.Event:
        request = None if arguments is None else arguments.task_request
        write = functools.partial(
            payloads.write_event,
            outcome,
            # Also where the rest cannot be read: a worker finds by it what earlier attempts have spent.
            idempotency_key=self.kwargs.get("idempotency_key") if request is None else request.idempotency_key,
            fields=None if request is None else request.fields,
            prompt_fingerprint=prompt_fingerprint(request),
        )
        is_large = outcome.response is not None and len(outcome.response.output_text) > LARGE_TEXT
        return await asyncio.to_thread(write) if is_large else write()

    async def _wait_for_worker(self, arguments: DeferredArguments | None, outcome: Outcome) -> None:
        """Wait until a worker may resume: before, the scheduler could mistake the deferral for a killed task."""
        until, error = self._not_before(arguments), outcome.error
        waits = arguments is not None and arguments.waits_for_retry_after
        if waits and error is not None and error.retryable and error.retry_after:
            wait = min(error.retry_after, MAX_RETRY_AFTER)
            until = max(until, self._now() + wait)
            self.log.info("Waiting out the server's Retry-After (%.0f s) before the next attempt", wait)
        await self._sleep_until(until)

    def _not_before(self, arguments: DeferredArguments | None) -> float:
        return self._stored_not_before if arguments is None else arguments.not_before
