"""Batches that are polled in the triggerer while their task holds no worker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, cast

from airflow.triggers.base import TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_responses.batch.polling import Finish, Poll, Wait
from airflow_provider_responses.batch.waiting import (
    BatchPoller,
    BatchWait,
    WaitOutcome,
    read_attempt,
    write_batch_event,
)
from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.hooks.responses import shared_config
from airflow_provider_responses.task.payloads import READING_ERRORS
from airflow_provider_responses.triggers.base_trigger import ProviderTrigger, exclude_from_garbage_collection

if TYPE_CHECKING:
    from airflow_provider_responses.client import AsyncResponsesClient
    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.models.batch import Batch

__all__ = ["ResponsesBatchTrigger"]

POLLS_AT_ONCE: Final = 8  # of one task
CANCEL_TIMEOUT: Final = 10.0  # seconds; Airflow ends `on_kill` after 30
ENDED_STATES: Final = frozenset({"failed", "success", "skipped"})  # of a task that nothing resumes

_ENDINGS: Final[set[asyncio.Task[None]]] = set()  # those of `on_kill` that run; an event loop has no strong references


class ResponsesBatchTrigger(ProviderTrigger):
    """
    Poll the batches of one task, and yield one event: all have ended, one has ended early, or the deadline has passed.

    It may start over at any time: it then polls the same batches, after one interval.

    :param kwargs: those of ``batch.waiting.BatchWait``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._draw = random.random
        self._poller: BatchPoller | None = None

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render nothing: the arguments have no templates."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the wait has ended; yield one event."""
        if self._is_in_triggerer:
            exclude_from_garbage_collection("Airflow")
        outcome = await self._wait()
        event = write_batch_event(outcome.reason, outcome.statuses, outcome.attempt, outcome.error)
        if self._is_in_triggerer:
            await self._sleep_until(self._stored_not_before)
        yield cast("Any", TriggerEvent)(event)

    async def on_kill(self) -> None:
        """
        Cancel the batches of a task that a user has ended, where the server can; log which ones run on.

        Airflow calls this also when the task is cleared, and its next attempt waits for the same batches; Airflow 3.3
        even when another triggerer takes the trigger over. Only the state of the task shows the difference.
        """
        if not (running := self._running()):
            return
        ending = asyncio.create_task(self._end(running))
        _ENDINGS.add(ending)
        ending.add_done_callback(_ENDINGS.discard)
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                # Airflow 3.3 and 3.4 cancel this method each second until it ends, and not after 30 seconds.
                self.log.debug("Airflow ends `on_kill` before it is done")

    async def _end(self, running: tuple[str, ...]) -> None:
        """Cancel batches, or log which ones run on."""
        try:
            state = await self._task_state()
        except Exception as error:  # noqa: BLE001  whatever the cause: nothing is cancelled by mistake
            self.log.warning(
                "It is unknown whether a user ended the task (%s: %s). Its batches run on and are billed: %s",
                type(error).__name__,
                error,
                ", ".join(running),
            )
            return
        if state in ENDED_STATES:
            await self._cancel_where_possible(running)
            return
        self.log.info(
            "The task was cleared, or waits in another triggerer (its state: %s). Its batches run on, and it waits for "
            "the same ones: %s",
            state or "none",
            ", ".join(running),
        )

    async def _task_state(self) -> str | None:
        """Return the present state of the task, which is None after a clear."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        ti: Any = self.task_instance
        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
        if name not in states.get(ti.run_id, {}):
            raise LookupError(f"Airflow has no state of {name}")
        return cast("str | None", states[ti.run_id][name])

    async def _cancel_where_possible(self, running: tuple[str, ...]) -> None:
        try:
            wait = BatchWait.from_kwargs(self.kwargs)
            config = (await shared_config(wait.conn_id)).for_call(RequestOptions(base_url=wait.base_url))
        except ResponsesError as error:
            self._warn_of_costs(running, f"they could not be cancelled: {error}")
            return
        if config.is_openrouter:
            self._warn_of_costs(running, "OpenRouter cannot cancel a batch")
        else:
            await self._cancel(config, running)

    def _running(self) -> tuple[str, ...]:
        """Return the ids of the batches that run, as far as is known."""
        if self._poller is not None:
            return self._poller.running
        stored = self.kwargs.get("batch_ids")
        return tuple(map(str, stored)) if isinstance(stored, list | tuple) else ()

    async def _cancel(self, config: ClientConfig, batch_ids: tuple[str, ...]) -> None:
        from airflow_provider_responses.client import AsyncResponsesClient

        async with AsyncResponsesClient(config) as client:
            cancel: Any = getattr(client, "cancel_batch", None)
            if cancel is None:
                self._warn_of_costs(batch_ids, "the client cannot cancel a batch")
                return
            limit = asyncio.Semaphore(POLLS_AT_ONCE)

            async def cancel_one(batch_id: str) -> None:
                try:
                    async with limit:
                        await cancel(batch_id, options=RequestOptions(timeout=CANCEL_TIMEOUT))
                    self.log.warning("A user ended the task: batch %s is being cancelled", batch_id)
                except ResponsesError as error:
                    self._warn_of_costs((batch_id,), f"it could not be cancelled: {error}")

            await asyncio.gather(*map(cancel_one, batch_ids))

    def _warn_of_costs(self, batch_ids: tuple[str, ...], cause: str) -> None:
        self.log.warning(
            "A user ended the task, but not its batches, which run on and are billed: %s (%s)",
            ", ".join(batch_ids),
            cause,
        )

    async def _wait(self) -> WaitOutcome:
        """Return the outcome of the wait, also where it cannot begin."""
        try:
            return await self._poll_until_finished(BatchWait.from_kwargs(self.kwargs))
        except ResponsesError as error:
            return self._failed(error)
        except Exception as error:
            # A worker reports it: the task's own retries and callbacks apply, and a retry waits for the same batches.
            self.log.exception("The wait for the task's batches has failed in the triggerer")
            cause = f"the wait for the task's batches failed in the triggerer ({type(error).__name__}: {error})"
            return self._failed(ResponsesError(f"{cause}. A retry waits for the same batches", retryable=True))

    def _failed(self, error: ResponsesError) -> WaitOutcome:
        if self._poller is not None:
            outcome = self._poller.outcome("error")
            return WaitOutcome(reason="error", statuses=outcome.statuses, attempt=outcome.attempt, error=error)
        try:
            attempt = read_attempt(self.kwargs)
        except READING_ERRORS:  # of another version
            attempt = {}
        return WaitOutcome(reason="error", statuses={}, attempt=attempt, error=error)

    async def _poll_until_finished(self, wait: BatchWait) -> WaitOutcome:
        poller = self._poller = BatchPoller(wait, now=self._now(), draw=self._draw(), logger=self.log)
        client = _SharedClient(wait)
        polls: dict[str, Batch | ResponsesError] = {}
        try:
            while True:
                action = poller.next_action(polls, now=self._now(), draw=self._draw())
                polls = {}
                match action:
                    case Finish(reason=reason):
                        return poller.outcome(reason)
                    case Poll(batch_ids=batch_ids):
                        polls = await self._poll(client, poller, batch_ids)
                        if self._is_in_triggerer:
                            exclude_from_garbage_collection("the client and the models of batches")
                    case Wait(until=until):
                        await self._sleep(max(until - self._now(), 0.0))
        finally:
            await client.close()

    async def _poll(
        self, shared: _SharedClient, poller: BatchPoller, batch_ids: tuple[str, ...]
    ) -> dict[str, Batch | ResponsesError]:
        """Poll batches, a few at once, and return each or its error."""
        try:
            client = await shared.get()
        except ResponsesError as error:
            return dict.fromkeys(batch_ids, error)
        limit = asyncio.Semaphore(POLLS_AT_ONCE)

        async def poll_one(batch_id: str) -> Batch | ResponsesError:
            async with limit:
                try:
                    return await client.get_batch(batch_id, options=poller.options(batch_id, now=self._now()))
                except ResponsesError as error:
                    return error

        return dict(zip(batch_ids, await asyncio.gather(*map(poll_one, batch_ids)), strict=True))


class _SharedClient:
    """A client with the present settings of a connection, whose key may change during a wait of hours."""

    def __init__(self, wait: BatchWait) -> None:
        self._conn_id = wait.conn_id
        self._options = RequestOptions(base_url=wait.base_url)
        self._config: ClientConfig | None = None
        self._client: AsyncResponsesClient | None = None

    async def get(self) -> AsyncResponsesClient:
        """
        Return the client.

        :raises ConfigurationError: retryable if the connection cannot be read.
        """
        from airflow_provider_responses.client import AsyncResponsesClient

        config = await shared_config(self._conn_id)
        if self._client is None or config != self._config:
            client = await AsyncResponsesClient(config.for_call(self._options)).__aenter__()
            await self.close()
            self._config, self._client = config, client
        return self._client

    async def close(self) -> None:
        """Close it; connections that other triggers use stay open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
