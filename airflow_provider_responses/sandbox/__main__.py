"""The command ``python -m airflow_provider_responses.sandbox``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.sandbox.http.server import Sandbox


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    options = _parser().parse_args(arguments)
    try:
        sandbox = Sandbox(
            port=options.port,
            host=options.host,
            latency=options.latency,
            dialect="open" if options.open else "openrouter",
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
            seed=options.seed,
            fault_rates=dict(options.fault),
            batch_seconds=options.batch_seconds,
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
    return f"{sandbox.base_url}  export AIRFLOW_CONN_RESPONSES_DEFAULT='{connection}'\n{sandbox.notice}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_responses.sandbox",
        description="An imitation of OpenRouter on loopback. No model runs.",
    )
    parser.add_argument("--port", type=int, default=8642, help="0 picks a free port (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every response")
    parser.add_argument("--open", action="store_true", help="imitate a server without OpenRouter's own features")
    parser.add_argument("--requests-per-minute", type=int, metavar="N", help="calls of one key in a minute")
    parser.add_argument("--tokens-per-minute", type=int, metavar="N", help="tokens of one key in a minute")
    parser.add_argument(
        "--fault",
        type=_fault_rate,
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="let a share of the calls fail: 429=0.2, truncate=0.05; repeatable",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides which calls fail (default: %(default)s)")
    parser.add_argument(
        "--batch-seconds",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="from the submission of a batch to its end (default: %(default)s)",
    )
    return parser


def _fault_rate(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    return name, float(share)


if __name__ == "__main__":
    sys.exit(main())
