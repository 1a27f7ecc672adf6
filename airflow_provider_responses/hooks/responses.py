"""
The hook, which makes clients with the settings of an Airflow connection.

Longer than other modules for the docstrings of its methods, which the documentation shows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    BaseHook,
    get_current_context,
    mask_secret,
)

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import ConfigurationError, ResponsesError
from airflow_provider_responses.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_responses.client import AsyncResponsesClient, ResponsesClient
    from airflow_provider_responses.client.batch_upload import Requests
    from airflow_provider_responses.models.batch import Batch, BatchResult
    from airflow_provider_responses.models.events import StreamEvent
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.models.response import Response

__all__ = ["ResponsesHook"]

log = logging.getLogger(__name__)

DEFAULT_CONN_ID: Final = "responses_default"
CONFIG_SECONDS: Final = 60.0  # for which the triggerer uses a connection's settings again
TEST_TIMEOUT: Final = 20.0  # seconds that the connection's Test button waits

WOKEN_AT_ONCE: Final = 8  # number of calls that continue in one turn of the event loop after waiting for a connection

_configs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, tuple[float, Any]]] = WeakKeyDictionary()
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class ResponsesHook(BaseHook):
    """
    Send Responses API requests with the settings of a connection.

    :param conn_id: a connection of type ``responses``: password = API key, host = base URL (empty = OpenRouter),
        extras: default_model, timeout, connect_timeout, read_timeout, max_retries, max_ambiguous_retries,
        max_retry_wait, app_title, app_url, extra_headers, dialect, proxy, ca_bundle, allow_insecure_http.
    """

    conn_name_attr = "conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "responses"
    hook_name = "Responses API (OpenRouter)"

    def __init__(self, conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self._config: ClientConfig | None = None
        self._remarks: list[str] = []

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form for Airflow 2.11 to 3.1; later versions read the provider's info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import BooleanField, StringField

        def widget(spec: Mapping[str, Any]) -> Any:
            if "boolean" in spec["schema"]["type"]:
                return BooleanField(lazy_gettext(spec["label"]), description=spec["description"])
            # Numbers are text here, so that an empty field stays empty.
            return StringField(
                lazy_gettext(spec["label"]), widget=BS3TextFieldWidget(), description=spec["description"]
            )

        return {name: widget(spec) for name, spec in _connection_type()["conn-fields"].items()}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the labels of the connection form for Airflow 2.11 to 3.1."""
        return {name.replace("-", "_"): value for name, value in _connection_type()["ui-field-behaviour"].items()}

    @property
    def config(self) -> ClientConfig:
        """
        The settings of the connection.

        :raises ConfigurationError: naming the connection and the field; retryable if the connection is missing.
        """
        if self._config is None:
            try:
                conn = self.get_connection(self.conn_id)
            except AirflowNotFoundException as error:
                raise missing_connection(self.conn_id) from error
            config = self._read(conn)
            for secret in config.secrets:
                mask_secret(secret)
            self._config = config
        return self._config

    def _read(self, conn: Connection) -> ClientConfig:
        config = config_from_connection(conn, self.conn_id)
        self._remarks = remarks_on(conn)
        for remark in self._remarks:
            log.warning("Connection %r: %s", self.conn_id, remark)
        return config

    async def aconfig(self) -> ClientConfig:
        """Like :attr:`config`, without blocking the event loop."""
        if self._config is None:
            from asgiref.sync import sync_to_async

            try:
                conn = await get_async_connection(self.conn_id)
            except AirflowNotFoundException:
                # `dag.test()` finds a connection of the database only by this call.
                try:
                    conn = await sync_to_async(self.get_connection)(self.conn_id)
                except AirflowNotFoundException as error:
                    raise missing_connection(self.conn_id) from error
            config = self._read(conn)
            for secret in config.secrets:
                await sync_to_async(mask_secret)(secret)
            self._config = config
        return self._config

    def get_conn(
        self, *, options: RequestOptions | Mapping[str, Any] | None = None, own_connections: bool = False
    ) -> ResponsesClient:
        """
        Return a client.

        :param options: for all of its calls.
        :param own_connections: whether it shares its connections with no other client, so that ``cancel()`` drops them.
        """
        from airflow_provider_responses.client import ResponsesClient
        from airflow_provider_responses.client.sync_pool import SyncPool

        config = self.config.for_call(RequestOptions.parse(options))
        return ResponsesClient(config, pool=SyncPool(route=config.route) if own_connections else None)

    async def get_async_conn(self) -> AsyncResponsesClient:
        """Return a client for this event loop; use it with ``async with``."""
        from airflow_provider_responses.client import AsyncResponsesClient

        return AsyncResponsesClient(await self.aconfig())

    def send(
        self,
        request: ResponsesRequest | Mapping[str, Any],
        *,
        options: RequestOptions | Mapping[str, Any] | None = None,
    ) -> Response:
        """Send a request and return the whole response; see :meth:`ResponsesClient.send`."""
        return self.get_conn().send(request, options=options)

    def stream(
        self,
        request: ResponsesRequest | Mapping[str, Any],
        *,
        options: RequestOptions | Mapping[str, Any] | None = None,
    ) -> Iterator[StreamEvent]:
        """Send a request and yield the events of its response as they arrive; see :meth:`ResponsesClient.stream`."""
        return self.get_conn().stream(request, options=options)

    async def asend(
        self,
        request: ResponsesRequest | Mapping[str, Any],
        *,
        options: RequestOptions | Mapping[str, Any] | None = None,
    ) -> Response:
        """Like :meth:`send`, without blocking the event loop."""
        async with await self.get_async_conn() as client:
            return await client.send(request, options=options)

    async def astream(
        self,
        request: ResponsesRequest | Mapping[str, Any],
        *,
        options: RequestOptions | Mapping[str, Any] | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """Like :meth:`stream`, without blocking the event loop."""
        async with await self.get_async_conn() as client:
            async for event in client.stream(request, options=options):
                yield event

    def get_key(self) -> dict[str, Any]:
        """Return the key's label, limit, remaining limit and the interval of its reset (OpenRouter only)."""
        return self.get_conn().get_key()

    def get_generation(
        self, generation_id: str, *, options: RequestOptions | Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return a generation's tokens, cost, provider and latency (OpenRouter only)."""
        return self.get_conn().get_generation(generation_id, options=options)

    def create_batch(
        self,
        requests: Requests,
        *,
        model: str,
        endpoint: str = "/v1/responses",
        completion_window: str = "24h",
        provider: Mapping[str, Any] | None = None,
        callback_url: str | None = None,
        metadata: Mapping[str, str] | None = None,
        options: RequestOptions | Mapping[str, Any] | None = None,
    ) -> Batch:
        """
        Submit a batch of requests, which run within 24 hours at about half the price.

        For OpenRouter, and for servers with OpenAI's batch API. The requests are sent while they are read. A submit
        whose outcome is unknown is never repeated: its error is ``ambiguous``, and :meth:`list_batches` shows whether
        the batch exists.

        :param requests: BatchRequests, or dicts of ``custom_id`` and ``body``; an iterable, or a function that returns
            one.
        :param model: the model of all requests.
        :param endpoint: the endpoint of all requests.
        :param completion_window: the time within which the requests run.
        :param provider: ``only`` and ``allow_fallbacks`` (OpenRouter only).
        :param callback_url: public https URL that the server calls when the batch has finished (OpenRouter only).
        :param metadata: names and texts that the server stores with the batch (not on OpenRouter).
        :param options: timeout, retries, headers and base URL of this call.
        :raises ConfigurationError: if the server has no batches; nothing was submitted.
        :raises RequestValidationError: naming the ``custom_id`` and the field; no batch exists.
        """
        return self.get_conn().create_batch(
            requests,
            model=model,
            endpoint=endpoint,
            completion_window=completion_window,
            provider=provider,
            callback_url=callback_url,
            metadata=metadata,
            options=options,
        )

    def get_batch(self, batch_id: str, *, options: RequestOptions | Mapping[str, Any] | None = None) -> Batch:
        """
        Return a batch without its results.

        :param batch_id: its id.
        :param options: timeout, retries, headers and base URL of this call.
        :raises APIError: if there is none with this id (404), or it has expired (410).
        """
        return self.get_conn().get_batch(batch_id, options=options)

    def list_batches(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        status: str | Iterable[str] | None = None,
        created_after: datetime | float | str | None = None,
        created_before: datetime | float | str | None = None,
        options: RequestOptions | Mapping[str, Any] | None = None,
    ) -> Iterator[Batch]:
        """
        Return an iterator over batches, newest first and without results.

        :param limit: number of batches; by default all.
        :param after: id of the batch after which the list begins.
        :param status: one or more statuses.
        :param created_after: a datetime with a time zone, seconds since 1970, or a text.
        :param created_before: likewise.
        :param options: timeout, retries, headers and base URL of each call.
        """
        return self.get_conn().list_batches(
            limit=limit,
            after=after,
            status=status,
            created_after=created_after,
            created_before=created_before,
            options=options,
        )

    def iter_batch_results(
        self, batch: Batch | str, *, options: RequestOptions | Mapping[str, Any] | None = None
    ) -> Iterator[BatchResult]:
        """
        Return an iterator over the results of a finished batch, in any order.

        Memory does not grow with their number. A request that failed is a result with an ``error``.

        :param batch: the batch or its id.
        :param options: timeout, retries, headers and base URL of each call.
        :raises APIError: if the batch has not finished, is unknown (404) or has expired (410).
        """
        return self.get_conn().iter_batch_results(batch, options=options)

    def cancel_batch(self, batch_id: str, *, options: RequestOptions | Mapping[str, Any] | None = None) -> Batch:
        """
        Cancel a batch and return it (not on OpenRouter).

        :param batch_id: its id.
        :param options: timeout, retries, headers and base URL of this call.
        :raises ConfigurationError: on OpenRouter, where the batch runs on and is billed.
        :raises APIError: with status 409, if the batch has finished.
        """
        return self.get_conn().cancel_batch(batch_id, options=options)

    def delete_batch(
        self, batch_id: str, *, options: RequestOptions | Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        Delete a finished batch with its requests and results, and return a report.

        On other servers than OpenRouter its files are deleted, and the batch stays in the list.

        :param batch_id: its id.
        :param options: timeout, retries, headers and base URL of this call.
        :raises APIError: with status 409, if the batch has not finished.
        """
        return self.get_conn().delete_batch(batch_id, options=options)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the connection works, and a sentence with the details or the cause."""
        from airflow_provider_responses.client import ResponsesClient
        from airflow_provider_responses.hooks.connection_check import MISSING_PATH, check_connection

        try:
            config = self.config
            timeout = min(config.timeout, TEST_TIMEOUT)
            config = replace(config, max_retries=0, max_ambiguous_retries=0, timeout=timeout)
            missing = replace(config, base_url=f"{config.base_url}{MISSING_PATH}")
            works, sentence = check_connection(ResponsesClient(config), ResponsesClient(missing))
        except ResponsesError as error:
            # The Test button gives the connection a random id.
            works, sentence = False, str(error).removesuffix(f". Connection: {self.conn_id}")
        return works, ". Note: ".join((sentence, *self._remarks))


async def shared_config(conn_id: str) -> ClientConfig:
    """
    Return a connection's settings. In each event loop they are read once a minute, by one call for all callers.

    :raises ConfigurationError: retryable if the connection cannot be read.
    """
    loop = asyncio.get_running_loop()
    known = _configs.setdefault(loop, {})
    read_at, found = known.get(conn_id, (-CONFIG_SECONDS, None))
    if isinstance(found, ClientConfig) and loop.time() - read_at < CONFIG_SECONDS:
        return found
    if not isinstance(found, asyncio.Task) or found.done():
        found = loop.create_task(ResponsesHook(conn_id).aconfig())
        found.add_done_callback(_retrieve_exception)
        known[conn_id] = loop.time(), found
    try:
        # Shielded: a caller that is cancelled must not cancel the call of the others, nor break off a message to
        # Airflow's supervisor.
        config: ClientConfig = await asyncio.shield(found)
    except ConfigurationError as error:
        raise ConfigurationError(str(error), retryable=error.retryable) from None  # each caller changes its own error
    except Exception as error:
        raise ConfigurationError(
            f"connection {conn_id!r} cannot be read ({type(error).__name__}: {error}). Check that it still exists",
            retryable=True,  # secrets backends report their outages in this way
        ) from error
    known[conn_id] = loop.time(), config
    # Hundreds of callers may have waited; if all opened their sockets in one turn, they would block the event loop.
    async with _turns.setdefault(loop, asyncio.Semaphore(WOKEN_AT_ONCE)):
        await asyncio.sleep(0)
    return config


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve a task's exception: asyncio warns of one that nobody retrieves, as if all callers are cancelled."""
    if not task.cancelled():
        task.exception()


def config_from_connection(conn: Connection, conn_id: str) -> ClientConfig:
    """
    Return the settings of a connection.

    :raises ConfigurationError: naming the connection and the field.
    """
    try:
        settings = _extras(conn.extra)
        if conn.host:
            settings["base_url"] = _host(conn)
        return ClientConfig(api_key=conn.password or "", **settings)
    except ConfigurationError as error:
        message = in_connection_fields(str(error))
        message = ". ".join((message, *remarks_on(conn)))
        raise ConfigurationError(message).add_place("Connection", conn_id) from None


def in_connection_fields(message: str) -> str:
    """Return the message of a wrong client setting with the names of the connection form."""
    message = message.replace("api_key is missing", "password is missing (it holds the API key)")
    if message.startswith("api_key"):
        message = f"password{message.removeprefix('api_key')}"
    if message.startswith("base_url"):
        message = f"host{message.removeprefix('base_url')}"
    return message


def remarks_on(conn: Connection) -> list[str]:
    """Return a sentence about each part of a connection that is ignored, or that is not as expected."""
    found = []
    if conn.conn_type != ResponsesHook.conn_type:
        found.append(
            f"its type is {conn.conn_type!r} instead of {ResponsesHook.conn_type!r}: its host, password and extras are "
            f"read as those of a connection of type {ResponsesHook.conn_type!r}"
        )
    if conn.login:  # not shown, since it may be the key
        found.append("its login is ignored: the key belongs in the password")
    if conn.schema:
        found.append(
            f"its schema {str(conn.schema)[:50]!r} is ignored: the host is the whole base URL, with scheme and path, "
            "such as https://llm.example.com/v1"
        )
    return found


def missing_connection(conn_id: str) -> ConfigurationError:
    """
    Return the error of a connection that Airflow does not find, with the command that creates it.

    It is retryable, since secrets backends report their outages in this way.
    """
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    command = (
        f'airflow connections add {shlex.quote(conn_id)} --conn-type responses --conn-password "$OPENROUTER_API_KEY"'
    )
    hint = f"{variable} is set here, but Airflow cannot read it. " if variable in os.environ else ""
    error = ConfigurationError(
        f"connection {conn_id!r} was not found. {hint}Create it: {command} (for a server other than OpenRouter, add "
        f"its base URL, such as --conn-host https://llm.example.com/v1){or_set_variable(conn_id)}",
        retryable=True,
    )
    task_id = _current_task()
    return error if task_id is None else error.add_place("Task", task_id)


def or_set_variable(conn_id: str) -> str:
    """Return the end of a sentence with the connection's environment variable, empty if shells cannot export it."""
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    return f", or set {variable}" if variable.isascii() and variable.isidentifier() else ""


def _current_task() -> str | None:
    """Return the id of the task that runs in this process, None outside of a task and in the triggerer."""
    try:
        return str(get_current_context()["ti"].task_id)
    except (AirflowException, RuntimeError, KeyError):  # which one depends on the version of Airflow
        return None


def _host(conn: Connection) -> str:
    """Return the host with the port of a connection in URI form, unless the host has a port."""
    host = str(conn.host)
    parts = urlsplit(host)
    try:
        named = parts.port or not conn.port or not parts.netloc
    except ValueError:
        return host
    return host if named else urlunsplit(parts._replace(netloc=f"{parts.netloc}:{conn.port}"))


def _extras(text: str | None) -> dict[str, Any]:
    try:
        extras = json.loads(text or "{}")
    except ValueError:
        extras = None
    if not isinstance(extras, dict):
        raise ConfigurationError("extra must be a JSON object")
    settings = {name: value for name, value in extras.items() if value is not None and value != ""}
    allowed = {f.name for f in fields(ClientConfig)} - {"api_key", "base_url"}
    if unknown := sorted(set(settings) - allowed):
        raise ConfigurationError(f"extra {unknown[0]!r} is unknown. Known extras are {', '.join(sorted(allowed))}")
    if isinstance(headers := settings.get("extra_headers"), str):
        settings["extra_headers"] = _json_object("extra_headers", headers)
    if "allow_insecure_http" in settings:
        settings["allow_insecure_http"] = str(settings["allow_insecure_http"]).lower() == "true"
    return settings


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ConfigurationError(f'extra {name!r} must be a JSON object, such as {{"X-Team": "data"}}')
    return value


def _connection_type() -> dict[str, Any]:
    types: Any = get_provider_info()["connection-types"]
    connection_type: dict[str, Any] = types[0]
    return connection_type
