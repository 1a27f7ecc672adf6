"""The sandbox: a server in a thread of this process."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.models.fields import Dialect
from airflow_provider_responses.sandbox.state.batch_script import BatchEnding, BatchSettings, BatchStep
from airflow_provider_responses.sandbox.state.batches import BatchEntry
from airflow_provider_responses.sandbox.state.ledger import LedgerEntry
from airflow_provider_responses.sandbox.state.random_faults import Faults
from airflow_provider_responses.sandbox.state.rate_limits import RateLimits
from airflow_provider_responses.sandbox.state.sandbox_state import SandboxState
from airflow_provider_responses.sandbox.state.script import parse_steps, parse_steps_as

if TYPE_CHECKING:
    import uvicorn

KEY: Final = "sandbox-key"
START_TIMEOUT: Final = 30.0  # seconds
PORT_MAX: Final = 65_535
BACKLOG: Final = 2048


class Sandbox:
    """
    An imitation of OpenRouter on loopback, which runs as long as the ``with`` block.

    No model runs: see :attr:`notice`.

    :param port: 0 picks a free port.
    :param host: a loopback address.
    :param latency: seconds before every response; a step's ``delay`` takes precedence.
    :param dialect: ``openrouter``, or ``open`` for a server without OpenRouter's own features.
    :param requests_per_minute: calls of one key in a minute; further calls get a 429.
    :param tokens_per_minute: input and output tokens of one key in a minute.
    :param seed: decides which calls the faults of ``fault_rates`` happen to; the same calls each time.
    :param fault_rates: a fault's name → its share of the calls: ``{"429": 0.2, "truncate": 0.05}``.
    :param batch_seconds: seconds from the submission of a batch to its end.
    :param clock: returns seconds, for the rate limits, the response cache and the batches.
    """

    #: One line that says that this is an imitation; the command and ``make demo`` print it.
    notice: Final = (
        "No model runs: the sandbox imitates one with sentences and words of the prompt. "
        "Prices and token counts are made up."
    )

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        latency: float = 0.0,
        dialect: Dialect = "openrouter",
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        seed: int = 0,
        fault_rates: Mapping[str, float] | None = None,
        batch_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not is_loopback(host):
            raise ConfigurationError(f"host must be a loopback address such as 127.0.0.1, got {host!r}")
        if not 0 <= port <= PORT_MAX:
            raise ConfigurationError(f"port must be 0 to {PORT_MAX}, got {port}")
        if dialect not in {"openrouter", "open"}:
            raise ConfigurationError(f"dialect must be 'openrouter' or 'open', got {dialect!r}")
        self.host = host
        self.port = port
        try:
            limits = RateLimits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
            faults = Faults(seed=seed, rates=dict(fault_rates or {}))
            batches = BatchSettings(seconds=batch_seconds, seed=seed)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        self.state = SandboxState(
            dialect=dialect, latency=latency, limits=limits, faults=faults, batches=batches, clock=clock
        )
        self._requested_port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """
        Listen, and return when calls are accepted.

        :raises ConfigurationError: if Starlette or uvicorn is not installed.
        :raises OSError: if the port is in use.
        """
        if self._thread is not None:
            raise RuntimeError("the sandbox is running already: it can start again after stop()")
        server = _build_server(self.state)
        listener = _listen(self.host, self._requested_port)
        self.port = listener.getsockname()[1]
        self.state.open()
        ready = threading.Event()
        self._server = server
        self._thread = threading.Thread(
            target=_serve, args=(server, listener, ready), name=f"responses-sandbox-{self.port}", daemon=True
        )
        self._thread.start()
        if not ready.wait(START_TIMEOUT) or not server.started:
            self.stop()
            raise RuntimeError("the sandbox did not start")

    def stop(self) -> None:
        """Close all connections and wait until the server's thread has ended; the ledger stays."""
        if self._thread is None or self._server is None:
            return
        self.state.close()
        self._server.should_exit = True
        self._thread.join()
        self._server = self._thread = None

    @property
    def url(self) -> str:
        """The address without the path of the API."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The address of the API, for a client or a connection."""
        return f"{self.url}/api/v1"

    @property
    def connection(self) -> dict[str, Any]:
        """An Airflow connection; as JSON it is the value of ``AIRFLOW_CONN_RESPONSES_DEFAULT``."""
        return {
            "conn_type": "responses",
            "host": self.base_url,
            "password": KEY,
            "extra": {"dialect": self.state.dialect},
        }

    def script(self, *steps: Mapping[str, Any]) -> None:
        """
        Append steps to the script; each call uses the next one.

        :raises ValueError: naming the step and its wrong fields.
        """
        self.state.add_steps(parse_steps(steps))

    @property
    def ledger(self) -> list[LedgerEntry]:
        """One entry per call, oldest first."""
        return self.state.ledger.copy()

    @property
    def billed(self) -> list[LedgerEntry]:
        """The entries that were billed."""
        return [entry for entry in self.ledger if entry.billed]

    @property
    def batches(self) -> list[BatchEntry]:
        """One entry per batch that was submitted, oldest first, with the status that it has reached."""
        return self.state.batches.entries()

    def batch_requests(self, batch_id: str) -> list[Any]:
        """
        Return the requests of a batch, as they were submitted.

        :raises ValueError: if there is no such batch.
        """
        return self.state.batches.requests(batch_id)

    def script_batches(self, *steps: Mapping[str, Any]) -> None:
        """
        Append steps to the script of batches; each call about batches uses the next one for its kind of call.

        :raises ValueError: naming the step and its wrong fields.
        """
        self.state.add_batch_steps(parse_steps_as(BatchStep, steps))

    def end_batch(self, batch_id: str, status: BatchEnding, message: str | None = None) -> None:
        """
        End a batch now: ``failed``, ``expired`` or ``cancelled``, with the results that it has.

        :raises ValueError: if there is no such batch, or it has ended.
        """
        self.state.batches.end(batch_id, status, message)

    def expire_batch_results(self, batch_id: str) -> None:
        """
        Make the results of a batch expire now: reading it is a 410.

        :raises ValueError: if there is no such batch, or it has not ended.
        """
        self.state.batches.expire_results(batch_id)

    @property
    def batch_settings(self) -> dict[str, Any]:
        """Settings of batches. When settings are set, those that are not named stay."""
        return self.state.batch_settings()

    @batch_settings.setter
    def batch_settings(self, changes: Mapping[str, Any]) -> None:
        self.state.set_batch_settings(changes)

    @property
    def key(self) -> dict[str, Any]:
        """The data of ``GET /key``. When it is set, fields that are not named get their defaults."""
        return self.state.key()

    @key.setter
    def key(self, fields: Mapping[str, Any]) -> None:
        self.state.set_key(fields)

    @property
    def limits(self) -> dict[str, int | None]:
        """The rate limits of each key. When they are set, one that is not named is no limit."""
        return self.state.limits()

    @limits.setter
    def limits(self, limits: Mapping[str, int | None]) -> None:
        self.state.set_limits(limits)

    @property
    def faults(self) -> dict[str, Any]:
        """Seed and rates of the random faults. When they are set, their draws restart."""
        return self.state.faults()

    @faults.setter
    def faults(self, faults: Mapping[str, Any]) -> None:
        self.state.set_faults(faults)

    @property
    def latency(self) -> float:
        """Seconds before every response."""
        return self.state.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self.state.set_latency(seconds)

    def reset(self) -> None:
        """Empty ledger, cache, batches and scripts, restore the initial settings, and close the calls that wait."""
        self.state.reset()


def is_loopback(host: str) -> bool:
    """Whether a host is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _build_server(state: SandboxState) -> uvicorn.Server:
    try:
        import uvicorn

        from airflow_provider_responses.sandbox.http.app import create_app
        from airflow_provider_responses.sandbox.http.protocol import ClosableProtocol
    except ImportError as error:
        raise ConfigurationError(
            f"the sandbox needs {error.name}: pip install 'airflow-provider-responses[sandbox]'"
        ) from error
    config = uvicorn.Config(
        create_app(state),
        http=ClosableProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        # For clients that do not read: calls that wait are closed before.
        timeout_graceful_shutdown=2,
    )
    # Here and not in the event loop, because it imports modules.
    config.load()
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    # asyncio disables Nagle's algorithm only if the protocol is set; otherwise each response takes 40 ms longer.
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    family, kind, protocol, _, address = addresses[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _serve(server: uvicorn.Server, listener: socket.socket, ready: threading.Event) -> None:
    async def serve() -> None:
        startup = server.startup

        async def announce(sockets: list[socket.socket] | None = None) -> None:
            await startup(sockets=sockets)
            ready.set()

        server.startup = announce  # type: ignore[method-assign]  # uvicorn has no event for it
        await server.serve(sockets=[listener])

    try:
        # Not server.run(): it may set the event loop policy of the whole process.
        asyncio.run(serve())
    finally:
        listener.close()
        ready.set()
