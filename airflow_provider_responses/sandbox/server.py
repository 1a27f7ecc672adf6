"""The sandbox as a server in a thread of this process."""

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
from airflow_provider_responses.sandbox.chance import Faults
from airflow_provider_responses.sandbox.limits import Limits
from airflow_provider_responses.sandbox.script import parse_steps
from airflow_provider_responses.sandbox.state import LedgerEntry, State

if TYPE_CHECKING:
    import uvicorn

KEY: Final = "sandbox-key"
STARTS_WITHIN: Final = 30.0  # seconds
PORT_MAX: Final = 65_535
BACKLOG: Final = 2048


class Sandbox:
    """
    An OpenRouter on loopback, as long as the ``with`` block lasts; see the package's docstring.

    :param port: 0 picks a free one.
    :param host: a loopback address.
    :param latency: seconds before every answer, unless a step says otherwise.
    :param dialect: ``openrouter``, or ``open`` for a server without OpenRouter's own features.
    :param requests_per_minute: calls of one key in a minute; those beyond get a 429.
    :param tokens_per_minute: tokens of one key in a minute, input and output.
    :param seed: decides which calls the ``fault_rates`` are about; the same ones in each run.
    :param fault_rates: a fault's name → its share of the calls: ``{"429": 0.2, "truncate": 0.05}``.
    :param clock: seconds, for the rate limits and the response cache; tests may give their own.
    """

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not is_loopback(host):
            raise ConfigurationError(f"the sandbox listens on loopback only, not on {host!r}: use 127.0.0.1")
        if not 0 <= port <= PORT_MAX:
            raise ConfigurationError(f"port: must be 0 to {PORT_MAX}, not {port}")
        if dialect not in {"openrouter", "open"}:
            raise ConfigurationError(f"dialect: must be 'openrouter' or 'open', not {dialect!r}")
        self.host = host
        self.port = port
        try:
            limits = Limits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
            faults = Faults(seed=seed, rates=dict(fault_rates or {}))
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        self.state = State(dialect=dialect, latency=latency, limits=limits, faults=faults, clock=clock)
        self._wanted_port = port
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
        Listen, and return when the first call can be made.

        :raises ConfigurationError: without Starlette and uvicorn.
        :raises OSError: when the port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("the sandbox is running already")
        server = _build_server(self.state)
        listener = _listen(self.host, self._wanted_port)
        self.port = listener.getsockname()[1]
        self.state.close(closed=False)
        ready = threading.Event()
        self._server = server
        self._thread = threading.Thread(
            target=_serve, args=(server, listener, ready), name=f"responses-sandbox-{self.port}", daemon=True
        )
        self._thread.start()
        if not ready.wait(STARTS_WITHIN) or not server.started:
            self.stop()
            raise RuntimeError("the sandbox did not start")

    def stop(self) -> None:
        """Close all connections and wait until the server's thread has ended; what was recorded stays."""
        if self._thread is None or self._server is None:
            return
        self.state.close()
        self._server.should_exit = True
        self._thread.join()
        self._server = self._thread = None

    @property
    def url(self) -> str:
        """The address without the API's path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The address for a client or a connection."""
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
        Append steps; each call takes the next one.

        :raises ValueError: naming what is wrong with which step.
        """
        self.state.script(parse_steps(steps))

    @property
    def ledger(self) -> list[LedgerEntry]:
        """One entry per call, oldest first."""
        return self.state.ledger

    @property
    def billed(self) -> list[LedgerEntry]:
        """The entries that were billed."""
        return [entry for entry in self.state.ledger if entry.billed]

    @property
    def key(self) -> dict[str, Any]:
        """The data of ``GET /key``; setting it sets these fields, and all others back."""
        return self.state.key()

    @key.setter
    def key(self, fields: Mapping[str, Any]) -> None:
        self.state.set_key(fields)

    @property
    def limits(self) -> dict[str, int | None]:
        """The rate limits of each key; setting them sets these, and those not named to none."""
        return self.state.limits()

    @limits.setter
    def limits(self, given: Mapping[str, int | None]) -> None:
        self.state.set_limits(given)

    @property
    def faults(self) -> dict[str, Any]:
        """Seed and rates of the faults by chance; setting them begins anew."""
        return self.state.faults()

    @faults.setter
    def faults(self, given: Mapping[str, Any]) -> None:
        self.state.set_faults(given)

    @property
    def latency(self) -> float:
        """Seconds before every answer."""
        return self.state.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self.state.set_latency(seconds)

    def reset(self) -> None:
        """Empty ledger, response cache and script, set everything as at the start, and close calls that wait."""
        self.state.reset()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _build_server(state: State) -> uvicorn.Server:
    try:
        import uvicorn

        from airflow_provider_responses.sandbox.app import create_app
        from airflow_provider_responses.sandbox.protocol import ClosableProtocol
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
        # Calls that wait are let go first; this is for a client that does not read.
        timeout_graceful_shutdown=2,
    )
    # Here, not in the event loop: it imports modules.
    config.load()
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    # With the protocol named, asyncio turns Nagle's algorithm off: without, each answer takes 40 ms more.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    family, kind, protocol, _, address = found[0]
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

        server.startup = announce  # type: ignore[method-assign]  # uvicorn tells nobody that it has started
        await server.serve(sockets=[listener])

    try:
        # Not server.run(): it may set the event loop policy of the whole process.
        asyncio.run(serve())
    finally:
        listener.close()
        ready.set()
