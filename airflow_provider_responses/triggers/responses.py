"""Requests that wait in the triggerer and hold no worker: after a worker has deferred them, or without any worker."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow.triggers.base import TriggerEvent

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import RequestValidationError, VersionMismatchError
from airflow_provider_responses.hooks.responses import shared_config
from airflow_provider_responses.task import payloads, xcom
from airflow_provider_responses.task.arguments import TEMPLATE_FIELDS
from airflow_provider_responses.task.attempt import call_timeout
from airflow_provider_responses.task.idempotency import idempotency_key_of, initial_clearing_id
from airflow_provider_responses.task.payloads import DeferredArguments, StartArguments
from airflow_provider_responses.triggers.request_trigger import RequestTrigger

if TYPE_CHECKING:
    from airflow_provider_responses.client.config import ClientConfig

__all__ = ["ResponsesStartTrigger", "ResponsesTrigger"]

# Airflow's time limit for a task that starts in the triggerer. It is far beyond the trigger's own deadline, since
# `execute_complete` is skipped when Airflow ends a task. Subtracted from `timeout_after`, it tells when the task began.
START_TIMEOUT: Final = datetime.timedelta(days=7)


class ResponsesTrigger(RequestTrigger):
    """
    Send a request that a worker has prepared.

    :param kwargs: those of ``task.payloads.DeferredArguments``.
    """

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render nothing: a worker has rendered the request, whose data may look like templates."""

    async def _prepare(self) -> DeferredArguments:
        return DeferredArguments.from_kwargs(self.kwargs)


class ResponsesStartTrigger(RequestTrigger):
    """
    Send the request of a task that has no worker: render it, check it, send it, end the task.

    Only the first attempt is sent here. A worker prepares later ones: only a worker has `max_tries`, which tells a
    retry (the same idempotency key, and the cached response) from a cleared task (a new key), and the costs of earlier
    attempts.

    :param kwargs: those of ``task.payloads.StartArguments``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in TEMPLATE_FIELDS:
            setattr(self, name, kwargs.get(name))  # where Airflow renders them
        self.timeout_after: datetime.datetime | None = None  # set by the triggerer
        self._is_rendered = False
        self._render_error: RequestValidationError | None = None

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """
        Render the arguments, as a worker would with a DAG that has Airflow's settings for templates.

        An error is raised later, on a worker: raised here, it would skip the task's retries.
        """
        import jinja2

        env = jinja_env or self.get_template_env()
        env = env.overlay(undefined=jinja2.StrictUndefined, extensions=["jinja2.ext.do"])
        try:
            super().render_template_fields(context, env)
            self._is_rendered = True
        except Exception as error:  # noqa: BLE001  a template may raise anything, and a worker leaves it to `retries`
            self._render_error = RequestValidationError(
                f"the task's templates cannot be rendered ({type(error).__name__}: {error}); nothing was sent",
                retryable=True,
            )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send the request of the first attempt, or leave a later attempt to a worker; yield one event."""
        attempt = int(getattr(self.task_instance, "try_number", 1))
        if attempt == 1:
            async for event in super().run():
                yield event
            return
        await self._delete_earlier_xcoms()
        self.log.info("A worker prepares attempt %d: only a worker can tell a retry from a cleared task", attempt)
        yield cast("Any", TriggerEvent)(payloads.write_unsent_event())

    async def _prepare(self) -> DeferredArguments:
        rendered = {name: getattr(self, name) for name in TEMPLATE_FIELDS if name in self.kwargs}
        given = StartArguments.from_kwargs(self.kwargs | rendered)
        self._check_rendered()
        given.arguments.check(rendered=True)
        options = RequestOptions.parse(given.arguments.options)
        key = idempotency_key_of(self.task_instance, clearing_id=initial_clearing_id(given.retries))
        request = given.arguments.to_task_request(idempotency_key=key, stream=False)
        conn_id = str(given.arguments.conn_id)
        return DeferredArguments(
            conn_id=conn_id,
            task_request=replace(
                request,
                output_format=given.output_format,
                escalations=given.escalations,
                worker_decides=given.worker_decides,
            ),
            output_type_path=given.output_type_path,
            options=options,
            do_xcom_push=given.do_xcom_push,
            deadline=self._deadline(given.execution_timeout, options, await shared_config(conn_id)),
            ends_task=True,
            deferred_at=self._began_at(given.execution_timeout),
        )

    def _check_rendered(self) -> None:
        if self._render_error is not None:
            raise self._render_error
        if self._is_in_triggerer and not self._is_rendered:
            raise VersionMismatchError(
                "the task's templates were not rendered: its DAG has changed since the task was started. A retry "
                "starts it with the DAG as it is now"
            )

    def _deadline(self, execution_timeout: float | None, options: RequestOptions, config: ClientConfig) -> float:
        """Return when the call must have ended, in seconds since the epoch; a restarted trigger returns the same."""
        timeout = options.timeout or config.timeout
        if execution_timeout is not None:
            timeout = min(timeout, call_timeout(execution_timeout))
        began = self._began_at(execution_timeout)
        return (self._now() if began is None else began) + timeout

    def _began_at(self, execution_timeout: float | None) -> float | None:
        """Return when the task began, in seconds since the epoch, None if it is unknown."""
        if self.timeout_after is None:
            return None
        limit = START_TIMEOUT.total_seconds()
        ends = self.timeout_after if self.timeout_after.tzinfo else self.timeout_after.replace(tzinfo=datetime.UTC)
        return ends.timestamp() - (limit if execution_timeout is None else min(limit, execution_timeout))

    async def _delete_earlier_xcoms(self) -> None:
        """Delete the XComs of earlier attempts, as the start of a worker would; from Airflow 3.4 on, there are none."""
        if not AIRFLOW_V_3_4_PLUS:
            await asyncio.gather(*(self._call_xcom("delete", key) for key in sorted(xcom.KEYS)))
