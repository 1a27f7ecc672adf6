from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.sandbox import Sandbox
from airflow_provider_responses.sandbox.http.server import is_loopback

from .conftest import HELLO

COMMAND = [sys.executable, "-W", "error", "-m", "airflow_provider_responses.sandbox"]


def test_a_stopped_sandbox_leaves_no_thread_and_can_start_again():
    before = set(threading.enumerate())
    sandbox = Sandbox()
    for _ in range(2):
        with sandbox:
            headers = {"Authorization": f"Bearer {sandbox.connection['password']}"}
            assert httpx.post(f"{sandbox.base_url}/responses", json=HELLO, headers=headers).status_code == 200
            with pytest.raises(RuntimeError, match="running already"):
                sandbox.start()
        assert set(threading.enumerate()) == before
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{sandbox.base_url}/models")
    assert len(sandbox.ledger) == 2
    sandbox.stop()


def test_connection_has_the_fields_of_an_airflow_connection(sandbox):
    assert sandbox.connection == {
        "conn_type": "responses",
        "host": sandbox.base_url,
        "password": "sandbox-key",
        "extra": {"dialect": "openrouter"},
    }


def test_a_taken_port_is_an_error():
    before = set(threading.enumerate())
    with Sandbox() as sandbox, pytest.raises(OSError, match="in use"):
        Sandbox(port=sandbox.port).start()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::", ""])  # noqa: S104  refused
def test_a_host_that_is_not_loopback_is_refused(host):
    assert not is_loopback(host)
    with pytest.raises(ConfigurationError, match="loopback"):
        Sandbox(host=host)


def test_an_unknown_dialect_is_refused():
    with pytest.raises(ConfigurationError, match="dialect"):
        Sandbox(dialect="closed")


def test_ipv6_loopback():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with Sandbox(host="::1") as sandbox:
        assert httpx.get(f"{sandbox.base_url}/models").status_code == 200


def test_importing_the_package_imports_no_server():
    code = (
        "import sys, airflow_provider_responses.sandbox;"
        "print([m for m in ('starlette', 'uvicorn', 'pydantic', 'asyncio', 'airflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_neither_airflow_nor_a_client_is_imported():
    code = (
        "import sys, airflow_provider_responses.sandbox as s; s.Sandbox().start();"
        "print([m for m in ('airflow', 'httpx', 'airflow_provider_responses.client') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [[], ["--open"]])
def test_the_command_serves_until_a_signal(number, arguments):
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            assert process.stdout.readline() == f"{Sandbox.notice}\n"
            found = re.fullmatch(r"(http://127\.0\.0\.1:\d+/api/v1) .*RESPONSES_DEFAULT='(.*)'\n", line)
            connection = json.loads(found[2])
            assert connection["host"] == found[1]
            assert connection["extra"] == {"dialect": "open" if arguments else "openrouter"}
            headers = {"Authorization": f"Bearer {connection['password']}"}
            assert httpx.post(f"{found[1]}/responses", json=HELLO, headers=headers).status_code == 200
        finally:
            process.send_signal(number)
            rest, errors = process.communicate(timeout=60)
        assert (process.returncode, rest, errors) == (0, "", "")


def test_the_command_takes_limits_and_faults():
    arguments = ["--requests-per-minute", "2", "--seed", "7", "--fault", "503=1", "--fault", "429=0"]
    with subprocess.Popen([*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            base_url = process.stdout.readline().split()[0]
            headers = {"Authorization": "Bearer some-key"}
            got = [httpx.post(f"{base_url}/responses", json=HELLO, headers=headers).status_code for _ in range(3)]
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert got == [503, 503, 429]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "0.0.0.0"],  # noqa: S104  refused
        ["--port", "99999"],
        ["--tokens-per-minute", "-1"],
        ["--fault", "sometimes=0.1"],
    ],
)
def test_the_command_refuses_in_one_line(arguments):
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("sandbox: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("absent", ["starlette", "uvicorn"])
def test_the_command_names_the_extra(tmp_path, absent):
    (tmp_path / f"{absent}.py").write_text(f"raise ModuleNotFoundError('No module', name='{absent}')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", os.curdir)])
    done = subprocess.run(
        [*COMMAND, "--port", "0"], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 1
    assert done.stderr == f"sandbox: the sandbox needs {absent}: pip install 'airflow-provider-responses[sandbox]'\n"
