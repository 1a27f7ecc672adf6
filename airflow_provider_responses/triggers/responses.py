"""Requests that wait in the triggerer and hold no worker."""

from __future__ import annotations

import asyncio
import datetime
import functools
import gc
import importlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import ConfigurationError, ResponsesError, TransportError
from airflow_provider_responses.hooks.responses import kept_config
from airflow_provider_responses.task import payloads, xcom
from airflow_provider_responses.task.arguments import TEMPLATE_FIELDS, Arguments
from airflow_provider_responses.task.attempt import MAX_RETRY_AFTER, Exchange, call_timeout, log_line
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.idempotency import idempotency_key_of, initial_clearing_id
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.price_lookup import look_up_generations_async
from airflow_provider_responses.task.request import TaskRequest

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.client import AsyncResponsesClient
    from airflow_provider_responses.models.request import ResponsesRequest

__all__ = ["ResponsesStartTrigger", "ResponsesTrigger"]

log = logging.getLogger(__name__)

LARGE: Final = 256 * 1024  # characters; what is larger is packed off the event loop
# Airflow's own limit for a start in the triggerer. It is far away: it tells when the task began, and the deadline is
# the trigger's, since Airflow's would skip `execute_complete`.
START_TIMEOUT: Final = datetime.timedelta(days=7)


class ResponsesTrigger(BaseTrigger):
    """
    Send a request that a worker has prepared, and hand its outcome back, or end the task with it.

    It may start over at any time: it then sends the same bytes, and gets the answer that was kept.

    :param conn_id: the connection; its credentials are read here and are in no row of a table.
    :param request: the request's fields as JSON text, templates rendered.
    :param options: the call's ``RequestOptions`` as a dict.
    :param settings: how the answer is read: ``result``, ``on_invalid_output``, ``cache``, ``cache_ttl``, ``stream``,
        ``output_retries``, ``output_type`` (``module:name``), ``output_format`` (JSON text).
    :param do_xcom_push: whether the return value goes to XCom.
    :param idempotency key: see ``make_stamp``.
    :param spent: what earlier tries of the task are known to have spent.
    :param deadline: when the call must have ended, in seconds since the epoch.
    :param not_before: when a worker may resume the task, in seconds since the epoch.
    :param ends_task: whether the trigger ends a successful task itself.
    :param waits: whether to wait out a long ``Retry-After``, for Airflow's next try to come after it.
    """

    needed: ClassVar[tuple[str, ...]] = ("conn_id", "request", "settings", "deadline")

    def __init__(
        self,
        *,
        conn_id: str | None = None,
        request: str | None = None,
        options: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        do_xcom_push: bool = True,
        idempotency_key: str | None = None,
        spent: dict[str, float | None] | None = None,
        deadline: float | None = None,
        not_before: float = 0.0,
        ends_task: bool = False,
        waits: bool = False,
        **unknown: Any,
    ) -> None:
        # Nothing is checked here: an exception would end the whole triggerer.
        cast("Any", super()).__init__()  # Airflow's has no annotations
        self.conn_id = conn_id
        self.request: Any = request
        self.options = options
        self.settings = settings
        self.do_xcom_push = do_xcom_push
        self.idempotency_key = idempotency_key
        self.spent = spent
        self.deadline = deadline
        self.not_before = not_before
        self.ends_task = ends_task
        self.waits = waits
        self.unknown = unknown
        self._asked: TaskRequest | None = None  # once it is known
        self._now = time.time
        self._sleep = asyncio.sleep

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class and its arguments: plain JSON types, and no secret."""
        return _path(self), {
            "conn_id": self.conn_id,
            "request": self.request,
            "options": self.options,
            "settings": self.settings,
            "do_xcom_push": self.do_xcom_push,
            "idempotency_key": self.idempotency_key,
            "spent": self.spent,
            "deadline": self.deadline,
            "not_before": self.not_before,
            "ends_task": self.ends_task,
            "waits": self.waits,
            **self.unknown,
        }

    def __repr__(self) -> str:
        # Without the prompt: this lands in the triggerer's log.
        return f"<{type(self).__name__} conn_id={self.conn_id} task={getattr(self, 'task_id', None)}>"

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render nothing: a worker has, and data that it put in may look like templates."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send the request; yield one event."""
        if self.trigger_id is not None:
            _leave_out_of_collection("Airflow")
        try:
            self._check()
            outcome = await self._ask()
        except ResponsesError as error:
            outcome = Outcome(error=error)
        if self.trigger_id is not None:
            _leave_out_of_collection("what a request needs")
        if (end := await self._end(outcome)) is not None:
            yield end
            return
        fields = None if self._asked is None else self._asked.fields
        pack = functools.partial(payloads.write_event, outcome, idempotency_key=self.idempotency_key, fields=fields)
        event = await asyncio.to_thread(pack) if _is_large(outcome) else pack()
        await self._hold(outcome)
        yield cast("Any", TriggerEvent)(event)

    async def on_kill(self) -> None:
        """Say that the call is gone; its connection dropped when the trigger was cancelled."""
        self.log.warning(
            "A user ended the task: the connection of its call is dropped. A streamed answer stops, and its cost with "
            "it; a plain one is made and billed all the same"
        )

    def _check(self) -> None:
        """Refuse what another version of this package wrote."""
        missing = [name for name in self.needed if getattr(self, name) is None]
        if missing:
            raise self._of_another_version(f"lack {missing[0]!r}")
        if self.unknown:
            raise self._of_another_version(f"hold {next(iter(self.unknown))!r}, which is unknown here")

    def _of_another_version(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"the trigger's arguments {what}: the task was deferred by another version of airflow-provider-responses "
            "than the triggerer runs. Install the same on both; a retry defers anew",
            retryable=True,
        )

    async def _ask(self) -> Outcome:
        """Send the request until there is an outcome."""
        from airflow_provider_responses.client import AsyncResponsesClient

        config = await kept_config(str(self.conn_id))
        try:
            run, given, ends_at = await self._run(), self._options(), self._ends_at(config)
            ledger = self._ledger()
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            if isinstance(error, ResponsesError):
                raise
            raise self._of_another_version(f"cannot be read ({type(error).__name__}: {error})") from error
        self._asked = run
        request, options = run.prepare(config, given)
        async with AsyncResponsesClient(config.for_call(given)) as client:
            outcome = await self._send(client, Exchange(run, options), request, ends_at)
            if outcome.response is not None:
                sources = ledger.unpriced_generations(outcome.response)
                found = await look_up_generations_async(client, sources, lambda: ends_at - self._now())
                outcome = replace(outcome, generations=found)
        return outcome

    def _options(self) -> RequestOptions:
        return RequestOptions.parse(self.options)

    async def _run(self) -> TaskRequest:
        settings = dict(self.settings or {})
        typed = await self._typed(settings.pop("output_type", None), settings.pop("output_format", None))
        return TaskRequest(
            fields=dict(json.loads(self.request).items()), idempotency_key=self.idempotency_key, **typed, **settings
        )

    def _ledger(self) -> CostLedger:
        return CostLedger(dict(self.spent or {}))

    async def _typed(self, path: str | None, output_format: str | None) -> dict[str, Any]:
        asked = json.loads(output_format) if output_format else None
        return {
            "output_type": await asyncio.to_thread(self._import, path, asked) if path else None,
            "output_format": asked,
        }

    def _import(self, path: str, asked: Mapping[str, Any] | None) -> type[BaseModel] | None:
        """Give the class, None if it cannot be had here as it was asked for: then a worker reads the answer."""
        module, _, name = path.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            if asked is None or _format(found) == asked:
                return cast("type[BaseModel]", found)
            self.log.info("A worker reads the answer: the triggerer has loaded %s with other fields", path)
        except (Exception, SystemExit):
            # What a user's module does must not end the triggerer.
            self.log.info("A worker reads the answer: the triggerer cannot import %s", path, exc_info=True)
        return None

    async def _send(
        self, client: AsyncResponsesClient, exchange: Exchange, request: ResponsesRequest, ends_at: float
    ) -> Outcome:
        outcome = None
        while outcome is None:
            try:
                options = exchange.options(self._left(ends_at))
                outcome = exchange.receive(await client.send(request, options=options))
            except ResponsesError as error:
                outcome = exchange.fail(error)
        return outcome

    def _left(self, ends_at: float) -> float:
        left = ends_at - self._now()
        if left <= 0:
            raise TransportError(
                "no answer in the time of the task, which went on while no triggerer ran; it may have been billed, and "
                "a retry gets the answer if it was kept. Raise the timeout (`options`, the connection, or the task's "
                "execution_timeout)",
                kind="deadline",
                ambiguous=True,
            )
        return left

    def _ends_at(self, config: ClientConfig) -> float:  # noqa: ARG002  a start without a worker needs it
        """Give the deadline, in seconds since the epoch."""
        return float(cast("float", self.deadline))

    def _may_end(self) -> bool:
        # Without an id it runs in `dag.test()`, which knows no ends in a trigger.
        return self.ends_task and self.trigger_id is not None

    async def _end(self, outcome: Outcome) -> TriggerEvent | None:
        """Push what the task came to, if the trigger may end it; give the event that ends it."""
        if not self._may_end() or outcome.error or outcome.unparsed or outcome.response is None:
            return None
        usage = self._ledger().usage(outcome)
        values = {xcom.USAGE_KEY: usage, xcom.RETURN_KEY: outcome.value} if self.do_xcom_push else {}
        if outcome.value is None:
            values.pop(xcom.RETURN_KEY, None)
        try:
            await self._push(values)
        except Exception:
            # Whatever refused the values, a worker tells it better, with the task's own retries and callbacks.
            self.log.warning("A worker ends the task: its XCom could not be set here", exc_info=True)
            return None
        self.log.info("%s", log_line(outcome.response, usage))
        from airflow.triggers.base import TaskSuccessEvent

        return TaskSuccessEvent()

    async def _push(self, values: Mapping[str, Any]) -> None:
        # All at once: the supervisor looks at what it is sent between its turns at the database.
        await asyncio.gather(*(self._xcom("set", key, value=value) for key, value in values.items()))

    async def _xcom(self, method: str, key: str, **more: Any) -> Any:
        """Call a method of Airflow's XCom for this task, off the event loop."""
        from airflow.sdk.execution_time.xcom import XCom

        ti: Any = self.task_instance
        which = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id}
        map_index = -1 if ti.map_index is None else ti.map_index
        call = sync_to_async(getattr(XCom, method), thread_sensitive=False)
        return await call(key=key, **which, map_index=map_index, **more)

    async def _hold(self, outcome: Outcome) -> None:
        """Wait until a worker may resume: sooner, the scheduler could take the deferral for a killed task."""
        if self.trigger_id is None:  # in `dag.test()`
            return
        until = self.not_before
        if self.waits and outcome.error is not None and outcome.error.retryable and outcome.error.retry_after:
            wait = min(outcome.error.retry_after, MAX_RETRY_AFTER)
            until = max(until, self._now() + wait)
            self.log.info("Waiting out the server's Retry-After (%.0f s) before the next try", wait)
        while (left := until - self._now()) > 0:
            await self._sleep(left)


class ResponsesStartTrigger(ResponsesTrigger):
    """
    Send a task's request without a worker: render it, check it, send it, end the task.

    That is for the first attempt. A worker prepares later ones: only a worker knows `max_tries`, which tells a retry
    (the same idempotency key, and the cached response) from a cleared task (a new key), and what was spent before.

    Its arguments are those of the operator, with dicts as lists of pairs (``payloads.to_pairs``), and

    :param output_type: ``module:name`` of the operator's, if another process can import it.
    :param output_format: what the operator's ``output_type`` asks for, as JSON text.
    :param execution_timeout: the task's, in seconds.
    :param do_xcom_push: the task's.
    :param retries: the task's.
    """

    needed = ("conn_id", "cache_ttl", "output_retries", "retries")

    def __init__(
        self,
        *,
        conn_id: Any = None,
        input: Any = None,
        model: Any = None,
        instructions: Any = None,
        request: Any = None,
        result: Any = None,
        on_invalid_output: Any = None,
        cache: Any = None,
        cache_ttl: Any = None,
        stream: Any = None,
        output_retries: Any = None,
        options: Any = None,
        output_type: str | None = None,
        output_format: str | None = None,
        execution_timeout: float | None = None,
        do_xcom_push: bool = True,
        retries: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(
            conn_id=conn_id, request=request, options=options, do_xcom_push=do_xcom_push, ends_task=True, **unknown
        )
        self.input = input
        self.model = model
        self.instructions = instructions
        self.result = result
        self.on_invalid_output = on_invalid_output
        self.cache = cache
        self.cache_ttl = cache_ttl
        self.stream = stream
        self.output_retries = output_retries
        self.output_type = output_type
        self.output_format = output_format
        self.execution_timeout = execution_timeout
        self.retries = retries
        self.timeout_after: datetime.datetime | None = None  # set by the triggerer
        self._is_rendered = False
        self._unrendered: ConfigurationError | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class and its arguments."""
        names = (*TEMPLATE_FIELDS, "output_type", "output_format", "execution_timeout", "do_xcom_push", "retries")
        return _path(self), {**{name: getattr(self, name) for name in names}, **self.unknown}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send the request of the first attempt; leave one after it to a worker. Yield one event."""
        if self._attempt() == 1:
            async for event in super().run():
                yield event
            return
        await self._forget()
        self.log.info("A worker prepares attempt %d: it can tell a retry from a cleared task", self._attempt())
        yield cast("Any", TriggerEvent)(payloads.write_unsent())

    def _attempt(self) -> int:
        return int(getattr(self.task_instance, "try_number", 1))

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """
        Render the arguments, as a worker would with a DAG that has Airflow's settings for templates.

        What cannot be rendered fails the task on a worker, and not the trigger: that would skip the task's retries.
        """
        import jinja2

        env = jinja_env or self.get_template_env()
        env = env.overlay(undefined=jinja2.StrictUndefined, extensions=["jinja2.ext.do"])
        try:
            BaseTrigger.render_template_fields(self, context, env)
            self._is_rendered = True
        except Exception as error:  # noqa: BLE001  a template may raise anything, and a worker leaves it to `retries`
            self._unrendered = ConfigurationError(
                f"the task's templates cannot be rendered ({type(error).__name__}: {error}); nothing was sent",
                retryable=True,
            )

    def _check(self) -> None:
        super()._check()
        if self._unrendered is not None:
            raise self._unrendered
        if not self._is_rendered and self.trigger_id is not None:
            raise ConfigurationError(
                "the task's templates were not rendered: its DAG has changed since it was started. A retry starts it "
                "as the DAG is now",
                retryable=True,
            )

    def _options(self) -> RequestOptions:
        return RequestOptions.parse(payloads.from_pairs(self.options))

    async def _run(self) -> TaskRequest:
        arguments = Arguments(**{name: payloads.from_pairs(getattr(self, name)) for name in TEMPLATE_FIELDS})
        arguments.check(rendered=True)
        self.idempotency_key = idempotency_key_of(
            self.task_instance, clearing_id=initial_clearing_id(int(cast("int", self.retries)))
        )
        run = arguments.to_task_request(idempotency_key=self.idempotency_key, stream=False)
        return replace(run, **await self._typed(self.output_type, self.output_format))

    async def _forget(self) -> None:
        """Delete the XComs of earlier attempts, as the start of a worker would; from Airflow 3.4 on, there are none."""
        if not AIRFLOW_V_3_4_PLUS:
            await asyncio.gather(*(self._xcom("delete", key) for key in sorted(xcom.KEYS)))

    def _ends_at(self, config: ClientConfig) -> float:
        timeout = self._options().timeout or config.timeout
        limit = START_TIMEOUT.total_seconds()
        if self.execution_timeout is not None:
            limit = min(limit, self.execution_timeout)
            timeout = min(timeout, call_timeout(self.execution_timeout))
        if self.timeout_after is None:
            return self._now() + timeout
        ends = self.timeout_after if self.timeout_after.tzinfo else self.timeout_after.replace(tzinfo=datetime.UTC)
        return ends.timestamp() - limit + timeout


@functools.cache
def _leave_out_of_collection(loaded: str) -> None:
    """
    Let the garbage collector pass over what a triggerer has loaded by now, once per process and name.

    Airflow's million objects live as long as the process; going through them stops the event loop for 0.1 to 0.2 s.
    """
    gc.freeze()
    log.debug("The garbage collector passes over %s from now on", loaded)


@functools.lru_cache(maxsize=256)
def _format(output_type: type[BaseModel]) -> Any:
    """Give what asks for a type, as it is after it has travelled."""
    from airflow_provider_responses.models.output import json_schema_format

    return json.loads(json.dumps(json_schema_format(output_type)))


def _path(trigger: BaseTrigger) -> str:
    return f"{type(trigger).__module__}.{type(trigger).__qualname__}"


def _is_large(outcome: Outcome) -> bool:
    return outcome.response is not None and len(outcome.response.output_text) > LARGE
