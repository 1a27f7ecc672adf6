"""``python -m airflow_provider_responses.sandbox``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.sandbox.server import Sandbox


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    options = _parser().parse_args(arguments)
    try:
        sandbox = Sandbox(
            port=options.port,
            host=options.host,
            latency=options.latency,
            dialect="open" if options.open else "openrouter",
        )
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        with sandbox:
            sys.stdout.write(_greeting(sandbox))
            sys.stdout.flush()
            stopped.wait()
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"sandbox: {error}\n")
        return 1
    return 0


def _greeting(sandbox: Sandbox) -> str:
    connection = json.dumps(sandbox.connection)
    return f"{sandbox.base_url}  export AIRFLOW_CONN_RESPONSES_DEFAULT='{connection}'\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_responses.sandbox", description="An OpenRouter on loopback."
    )
    parser.add_argument("--port", type=int, default=8642, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--open", action="store_true", help="play a server without OpenRouter's own features")
    return parser


if __name__ == "__main__":
    sys.exit(main())
