"""Connections, deadlines and network errors on real sockets, within the time limit of the test's server."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from blockbuster import blockbuster_ctx

from airflow_provider_responses.client import AsyncResponsesClient, ResponsesClient, async_pool, sockets
from airflow_provider_responses.client.async_pool import AsyncPool
from airflow_provider_responses.client.network_errors import transport_error
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.sync_pool import SyncPool
from airflow_provider_responses.exceptions import (
    RequestCancelledError,
    ResponsesError,
    StreamInterruptedError,
    TransportError,
)

from .server import DRIP, LIMIT, Connection, Server
from .wire import KEY, REQUEST, Flavour, config, deltas, result, sse

OK = "HTTP/1.1 200 OK\r\ncontent-type: {}\r\n"
JSON_OK = OK.format("application/json")
STREAM_OK = OK.format("text/event-stream")


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def failing(flavour: Flavour, server: Server, **settings: Any) -> TransportError:
    client = flavour.network(**({"base_url": server.url} | settings))
    with pytest.raises(TransportError) as caught:
        client.send()
    return caught.value


# --- the head of a response


@pytest.mark.parametrize(
    "headers",
    [
        ["x-policy: " + "p" * 10_000],
        ["x-policy: " + "p" * 60_000],
        [f"x-report-{place}: r" for place in range(200)],
    ],
    ids=["10 KB", "60 KB", "200 headers"],
)
def test_a_large_head_of_a_response_is_read(flavour: Flavour, server: Server, headers: list[str]) -> None:
    def sends_a_large_head(connection: Connection) -> None:
        while connection.read_request():
            connection.respond(None, *headers)

    server.script = sends_a_large_head
    response = flavour.network(base_url=server.url).send()
    assert (response.output_text, response.sends, len(server.heads)) == ("Hello", 1, 1)
    name, _, value = headers[-1].partition(": ")
    assert response.headers[name] == value


def test_older_aiohttp_has_no_setting_for_the_number_of_headers() -> None:
    def older(*, max_line_size: int = 8190, max_field_size: int = 8190) -> None: ...

    assert async_pool.header_limits(older).keys() == {"max_line_size", "max_field_size"}
    assert "max_field_size" in async_pool.header_limits(aiohttp.ClientSession)


# --- failures


def test_a_refused_connection_has_sent_nothing(flavour: Flavour) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    client = flavour.network(base_url=f"http://127.0.0.1:{port}/v1")
    with pytest.raises(TransportError, match="Nothing was sent") as caught:
        client.send()
    assert (caught.value.kind, caught.value.ambiguous, caught.value.sends) == ("connect", False, 4)


def hangs_up(connection: Connection) -> None:
    connection.read_request()


def resets(connection: Connection) -> None:
    connection.read_request()
    connection.reset()


def sends_half(connection: Connection) -> None:
    connection.read_request()
    connection.send(f'{JSON_OK}content-length: 100\r\n\r\n{{"id":')


def sends_half_a_head(connection: Connection) -> None:
    connection.read_request()
    connection.send("HTTP/1.1 200 OK\r\ncontent-ty")


def breaks_a_chunk(connection: Connection) -> None:
    connection.read_request()
    connection.send(f"{JSON_OK}transfer-encoding: chunked\r\n\r\nzz\r\nnonsense")


def speaks_no_http(connection: Connection) -> None:
    connection.read_request()
    connection.send("SSH-2.0-nonsense\r\n\r\n")


def mangles_gzip(connection: Connection) -> None:
    connection.read_request()
    connection.send(f"{JSON_OK}content-encoding: gzip\r\nconnection: close\r\ncontent-length: 8\r\n\r\nnot gzip")


@pytest.mark.parametrize(
    "script",
    [hangs_up, resets, sends_half, sends_half_a_head, breaks_a_chunk, speaks_no_http, mangles_gzip],
    ids=lambda script: script.__name__,
)
def test_a_failure_after_the_request_was_sent_may_have_been_billed(
    flavour: Flavour, server: Server, script: Callable[[Connection], None]
) -> None:
    server.script = script
    error = failing(flavour, server)
    assert (error.kind, error.ambiguous, error.retryable) == ("read", True, True)
    assert len(server.heads) == error.sends == 2
    assert error.__cause__ is not None
    assert KEY not in str(error) + repr(error.__cause__)


def test_a_silent_server_is_a_timeout_that_may_have_been_billed(flavour: Flavour, server: Server) -> None:
    def is_silent(connection: Connection) -> None:
        connection.read_request()
        connection.wait_for_end()

    server.script = is_silent
    error = failing(flavour, server, read_timeout=0.2, max_ambiguous_retries=0)
    assert (error.kind, error.ambiguous) == ("timeout", True)
    assert server.hung_up.wait(LIMIT)


def test_a_silence_inside_the_body_is_a_timeout(flavour: Flavour, server: Server) -> None:
    def falls_silent(connection: Connection) -> None:
        connection.read_request()
        connection.send(f"{JSON_OK}content-length: 100\r\n\r\n   ")
        connection.wait_for_end()

    server.script = falls_silent
    error = failing(flavour, server, read_timeout=0.2, max_ambiguous_retries=0)
    assert (error.kind, error.ambiguous) == ("timeout", True)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def key_of(port: int = 1) -> Any:
    return aiohttp.client_reqrep.ConnectionKey("h", port, False, True, None, None, None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("x"), "connect"),
        (httpx.ConnectTimeout("x"), "connect"),
        (httpx.PoolTimeout("x"), "connect"),
        (httpx.ProxyError("x"), "connect"),
        (httpx.UnsupportedProtocol("x"), "connect"),
        (httpx.ReadTimeout("x"), "timeout"),
        (httpx.WriteTimeout("x"), "timeout"),
        (httpx.ReadError("x"), "read"),
        (httpx.RemoteProtocolError("x"), "read"),
        (httpx.DecodingError("x"), "read"),
        (caused(httpx.ConnectError("x"), aiohttp.ClientConnectorError(key_of(), OSError(1, "x"))), "connect"),
        (caused(httpx.ConnectError("x"), aiohttp.ClientConnectorDNSError(key_of(), OSError(1, "x"))), "connect"),
        (caused(httpx.ConnectTimeout("x"), aiohttp.ConnectionTimeoutError("x")), "connect"),
        (caused(httpx.ConnectTimeout("x"), aiohttp.ServerDisconnectedError("x")), "read"),
        (caused(httpx.ConnectTimeout("x"), aiohttp.ClientOSError(104, "reset")), "read"),
        (caused(httpx.ReadTimeout("x"), aiohttp.SocketTimeoutError("x")), "timeout"),
        (caused(httpx.ReadError("x"), aiohttp.ClientPayloadError("x")), "read"),
        (aiohttp.ClientConnectorError(key_of(), OSError(1, "x")), "connect"),
        (aiohttp.ClientProxyConnectionError(key_of(), OSError(1, "x")), "connect"),
        (aiohttp.ConnectionTimeoutError("x"), "connect"),
        (aiohttp.InvalidURL("x"), "connect"),
        (aiohttp.SocketTimeoutError("x"), "timeout"),
        (aiohttp.ServerDisconnectedError("x"), "read"),
        (aiohttp.ClientOSError(104, "reset"), "read"),
        (aiohttp.ClientPayloadError("x"), "read"),
        (caused(aiohttp.ClientPayloadError("x"), aiohttp.ConnectionTimeoutError("x")), "read"),
    ],
    ids=repr,
)
def test_every_exception_shows_whether_the_request_was_sent(error: Exception, kind: str) -> None:
    made = transport_error(error, request=RequestSummary(label="POST x"))
    assert (made.kind, made.ambiguous) == (kind, kind != "connect")
    assert "POST x" in str(made)


# --- the total deadline

DRIPS = {
    "chunked": (f"{JSON_OK}transfer-encoding: chunked\r\n\r\n", chunk(b" ")),
    "with a length": (f"{JSON_OK}content-length: 100000\r\n\r\n", b" "),
    "until the end": (f"{JSON_OK}connection: close\r\n\r\n", b" "),
    "an error": ("HTTP/1.1 503 Busy\r\ncontent-length: 100000\r\n\r\n", b" "),
    "in the head": ("HTTP/1.1 200 OK\r\nx-slow: ", b"z"),
}


@pytest.mark.parametrize(("head", "piece"), DRIPS.values(), ids=DRIPS)
def test_a_response_that_drips_forever_ends_at_the_deadline(
    flavour: Flavour, server: Server, head: str, piece: bytes
) -> None:
    def drips(connection: Connection) -> None:
        connection.read_request()
        connection.send(head)
        connection.drip(piece)

    server.script = drips
    started = time.monotonic()
    error = failing(flavour, server, timeout=0.5)
    assert time.monotonic() - started < DRIP
    assert (error.kind, error.ambiguous) == ("deadline", True)
    assert len(server.heads) == 1
    assert server.hung_up.wait(LIMIT)


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", "connection: close"])
def test_a_response_that_falls_silent_ends_at_the_deadline(flavour: Flavour, server: Server, framing: str) -> None:
    def falls_silent(connection: Connection) -> None:
        connection.read_request()
        connection.send(f"{JSON_OK}{framing}\r\n\r\n")
        connection.send(chunk(b"{") if "chunked" in framing else b"{")
        connection.wait_for_end()

    server.script = falls_silent
    assert failing(flavour, server, timeout=0.4).kind == "deadline"


def drips_events(connection: Connection) -> None:
    connection.read_request()
    connection.send(f"{STREAM_OK}transfer-encoding: chunked\r\n\r\n")
    connection.send(chunk(sse(*deltas("Hello"), done=False)))
    connection.drip(chunk(b": PROCESSING\n\n"))


def test_a_stream_that_never_ends_raises_with_its_text_at_the_deadline(flavour: Flavour, server: Server) -> None:
    server.script = drips_events
    client = flavour.network(base_url=server.url, timeout=0.5)
    with pytest.raises(StreamInterruptedError) as caught:
        list(client.stream())
    assert (caught.value.text, caught.value.ambiguous) == ("Hello", True)
    assert server.hung_up.wait(LIMIT)


def test_a_streamed_send_that_never_ends_raises_the_deadline(flavour: Flavour, server: Server) -> None:
    server.script = drips_events
    client = flavour.network(base_url=server.url, timeout=0.5)
    with pytest.raises(TransportError) as caught:
        client.send({**REQUEST, "stream": True})
    assert caught.value.kind == "deadline"


def test_leaving_a_stream_drops_its_connection(flavour: Flavour, server: Server) -> None:
    server.script = drips_events
    events = flavour.network(base_url=server.url).stream()
    assert next(events).delta == "Hello"
    events.close()  # type: ignore[attr-defined]
    assert server.hung_up.wait(LIMIT)


# --- connections


def test_calls_share_a_connection(flavour: Flavour, server: Server) -> None:
    client = flavour.network(base_url=server.url)
    assert [client.send().output_text for _ in range(3)] == ["Hello"] * 3
    assert (server.connections, len(server.heads)) == (1, 3)


def idle_seconds_of(pool: SyncPool | AsyncPool) -> float:
    """Return the idle time of connections, as the library has it."""
    inner: Any = pool.http._transport
    if isinstance(pool, SyncPool):
        return float(inner._pool._keepalive_expiry)
    inner.client = inner.get_client()
    return float(inner.client.connector._keepalive_timeout)


async def close(pool: SyncPool | AsyncPool) -> None:
    if isinstance(pool, AsyncPool):
        await pool.close()
    else:
        pool.close()


@pytest.mark.parametrize("kind", [SyncPool, AsyncPool])
@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"base_url": "https://openrouter.ai/api/v1"}, 30.0),
        ({"base_url": "https://eu.openrouter.ai/api/v1"}, 30.0),
        ({"base_url": "https://llm.example.com/v1"}, 4.0),
        ({"base_url": "http://127.0.0.1:8000/v1"}, 4.0),
        ({"base_url": "https://llm.example.com/v1", "proxy": "http://proxy.example.com:3128"}, 4.0),
        ({"base_url": "https://llm.example.com/v1", "dialect": "openrouter"}, 4.0),
    ],
    ids=str,
)
async def test_idle_connections_to_other_servers_are_kept_for_less_than_uvicorn_keeps_them(
    kind: type[SyncPool | AsyncPool], settings: dict[str, Any], seconds: float
) -> None:
    pool = kind(route=config(**settings).route)
    try:
        assert idle_seconds_of(pool) == seconds
    finally:
        await close(pool)


async def test_a_proxy_of_the_environment_keeps_idle_connections_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    pool = AsyncPool(route=config(base_url="https://llm.example.com/v1").route)
    mounted: Any = next(transport for transport in pool.http._mounts.values() if transport)
    mounted.client = mounted.get_client()
    assert mounted.client.connector._keepalive_timeout == 4.0
    await pool.close()


@pytest.mark.parametrize(("idle_seconds", "connections"), [(0.0, 2), (LIMIT, 1)])
def test_a_connection_that_was_idle_for_longer_carries_no_request(
    flavour: Flavour, server: Server, idle_seconds: float, connections: int
) -> None:
    route = config(base_url=server.url).route._replace(idle_seconds=idle_seconds)
    client = flavour.network((SyncPool if flavour.sync else AsyncPool)(route=route), base_url=server.url)
    for _ in range(2):
        client.send()
    assert (server.connections, len(server.heads)) == (connections, 2)


STREAM = "".join(f"data: {json.dumps(event)}\n\n" for event in ({"type": "response.completed", "response": result()},))


def test_streamed_calls_share_a_connection(flavour: Flavour, server: Server) -> None:
    def streams(connection: Connection) -> None:
        while connection.read_request():
            connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for piece in (STREAM, "data: [DONE]\n\n"):
                connection.send(f"{len(piece):x}\r\n{piece}\r\n")
            connection.send("0\r\n\r\n")

    server.script = streams
    client = flavour.network(base_url=server.url)
    assert [client.send({**REQUEST, "stream": True}).output_text for _ in range(2)] == ["Hello"] * 2
    assert len(list(client.stream())) == 1
    assert (server.connections, len(server.heads)) == (1, 3)


def test_a_whole_response_does_not_wait_for_the_end_of_its_stream(flavour: Flavour, server: Server) -> None:
    def never_ends(connection: Connection) -> None:
        connection.read_request()
        connection.send(f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{STREAM}")
        connection.wait_for_end()

    server.script = never_ends
    assert flavour.network(base_url=server.url).send({**REQUEST, "stream": True}).output_text == "Hello"
    assert server.hung_up.wait(LIMIT)


def test_a_compressed_response_is_read(flavour: Flavour, server: Server) -> None:
    data = gzip.compress(json.dumps(result("Grüße")).encode())

    def compresses(connection: Connection) -> None:
        connection.read_request()
        connection.send(f"{JSON_OK}content-encoding: gzip\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)

    server.script = compresses
    assert flavour.network(base_url=server.url).send().output_text == "Grüße"


def test_one_authorization_is_sent_despite_netrc(
    flavour: Flavour, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\ndefault login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    flavour.network(base_url=server.url).send()
    lines = [line for line in server.heads[0].splitlines() if line.lower().startswith("authorization:")]
    assert [line.partition(": ")[2] for line in lines] == [f"Bearer {KEY}"]


def test_the_bytes_on_the_wire_are_alike_in_both_clients(server: Server) -> None:
    heads = []
    for sync in (True, False):
        flavour = Flavour(sync=sync)
        flavour.network(base_url=server.url).send()
        flavour.close()
        heads.append({line.lower() for line in server.heads[-1].splitlines() if line})
    assert {line.partition(":")[0] for line in heads[0] ^ heads[1]} <= {"accept-encoding", "connection"}


def sockets_to(port: int) -> list[socket.socket]:
    found = []
    for thing in gc.get_objects():
        # Not `__class__`: of a lazy object of Airflow, it would import a module.
        if issubclass(type(thing), socket.socket) and thing.fileno() >= 0 and thing.family == socket.AF_INET:
            try:
                if thing.getpeername()[1] == port:
                    found.append(thing)
            except OSError:  # a listener, or not connected
                continue
    return found


def test_the_kernel_probes_silent_connections(flavour: Flavour, server: Server) -> None:
    flavour.network(base_url=server.url).send()
    found = sockets_to(server.port)
    assert found
    for sock in found:
        for level, option, value in sockets.TCP_KEEPALIVE:
            given = sock.getsockopt(level, option)
            assert given == value if level == socket.IPPROTO_TCP else given


# --- cancelling, blocking


def waits(connection: Connection) -> None:
    connection.read_request()
    connection.wait_for_end()


def test_cancel_from_another_thread_ends_a_waiting_call(server: Server) -> None:
    server.script = waits
    client = ResponsesClient(config(base_url=server.url), pool=SyncPool())

    def cancel_when_received() -> None:
        server.received.wait(LIMIT)
        client.cancel()

    thread = threading.Thread(target=cancel_when_received)
    thread.start()
    with client, pytest.raises(RequestCancelledError, match="No send follows") as caught:
        client.send(REQUEST)
    thread.join(LIMIT)
    assert caught.value.ambiguous
    assert server.hung_up.wait(LIMIT)
    assert len(server.heads) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the platform has no such signal")
def test_cancel_inside_a_signal_handler_ends_the_call_it_interrupted(server: Server) -> None:
    client = ResponsesClient(config(base_url=server.url), pool=SyncPool())

    def signals(connection: Connection) -> None:
        connection.read_request()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        connection.wait_for_end()

    server.script = signals
    before = signal.signal(signal.SIGUSR1, lambda *_: client.cancel())
    try:
        with client, pytest.raises(RequestCancelledError):
            client.send(REQUEST)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(server.heads) == 1


def test_cancel_inside_a_stream_ends_it(server: Server) -> None:
    server.script = drips_events
    with ResponsesClient(config(base_url=server.url), pool=SyncPool()) as client:
        events = client.stream(REQUEST)
        next(events)
        client.cancel()
        with pytest.raises(RequestCancelledError):
            list(events)


def test_cancel_while_the_connection_is_made_sends_nothing(server: Server) -> None:
    server.script = waits
    pool = SyncPool()
    client = ResponsesClient(config(base_url=server.url, read_timeout=1), pool=pool)
    watch = pool.trace

    def cancel_first(event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            client.cancel()
        watch(event, info)

    pool.trace = cancel_first  # type: ignore[method-assign]
    with client, pytest.raises(RequestCancelledError):
        client.send(REQUEST)
    assert server.heads == []


# --- pools


async def test_a_call_does_not_block_the_loop(server: Server) -> None:
    with blockbuster_ctx():
        async with AsyncResponsesClient(config(base_url=server.url)) as client:
            assert (await client.send(REQUEST)).output_text == "Hello"


async def test_hundreds_of_calls_are_under_way_at_once(server: Server) -> None:
    calls = 150  # more than the default limit of aiohttp and httpx, 100
    together = threading.Barrier(calls, timeout=LIMIT)

    def responds_when_all_are_there(connection: Connection) -> None:
        connection.read_request()
        together.wait()
        connection.respond()

    server.script = responds_when_all_are_there
    async with AsyncResponsesClient(config(base_url=server.url, timeout=LIMIT)) as client:
        responses = await asyncio.gather(*(client.send(REQUEST) for _ in range(calls)))
    assert {response.output_text for response in responses} == {"Hello"}


async def test_cancelling_a_coroutine_drops_its_connection(server: Server) -> None:
    server.script = waits
    async with AsyncResponsesClient(config(base_url=server.url)) as client:
        task = asyncio.create_task(client.send(REQUEST))
        assert await asyncio.to_thread(server.received.wait, LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.hung_up.wait, LIMIT)
    assert len(server.heads) == 1


async def test_a_timeout_of_the_callers_own_is_the_callers(server: Server) -> None:
    server.script = waits
    async with AsyncResponsesClient(config(base_url=server.url)) as client:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.2):
                await client.send(REQUEST)
    assert not isinstance(caught.value, ResponsesError)
