"""Processes in sessions of their own, which end together with whatever they started."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

GRACE = 10.0  # seconds between the signal to stop and SIGKILL
LISTENS_WITHIN = 60.0  # seconds


class Service:
    """A process that leads a session; its output goes to a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        log: Path,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        with log.open("a") as output:
            self.process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    @property
    def pid(self) -> int:
        """The id of the process, of its group and of its session."""
        return self.process.pid

    def check(self) -> None:
        """Fail if the process has ended by itself."""
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{tail(self.log)}")

    def ask_to_stop(self) -> None:
        """Send the signal to the process and its group."""
        if self.process.poll() is None:
            os.killpg(self.pid, self.stop_signal)

    def kill(self) -> None:
        """End every process of the session at once."""
        # A task is a group of its own within the session; one that is just being started is found in the next round.
        while members := session_members(self.pid):
            for pid in members:
                send(pid, signal.SIGKILL)
            self.process.poll()
            time.sleep(0.01)
        self.process.wait()


def stop(services: Sequence[Service]) -> None:
    """Stop all services, and kill those that still run after ``GRACE`` seconds."""
    for service in services:
        service.ask_to_stop()
    limit = time.monotonic() + GRACE
    while time.monotonic() < limit and any(session_members(service.pid) for service in services):
        for service in services:
            service.process.poll()
        time.sleep(0.05)
    for service in services:
        service.kill()


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def parent(pid: int) -> int | None:
    """The process that a running process was started by."""
    found = _stat(pid)
    return found[1] if found else None


def is_running(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    return _stat(pid) is not None


def session_members(session: int) -> list[int]:
    """The running processes of a session."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in pids if (found := _stat(pid)) and found[3] == session]


def session(pid: int) -> int | None:
    """Return the session of a running process, which is the process id of the service that it belongs to."""
    found = _stat(pid)
    return found[3] if found else None


def run(
    command: list[str], *, user: str | None = None, env: Mapping[str, str] | None = None, folder: Path | None = None
) -> None:
    """
    Run a program to its end.

    :raises RuntimeError: if it fails, with the end of its output.
    """
    done = subprocess.run(
        command,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        env=env,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def found_or_installed(find: Callable[[], Path | None], *packages: str) -> Path:
    """
    Return the path that is found; as root on Debian, the packages that have it are installed if it is missing.

    :raises RuntimeError: naming the packages.
    """
    if (found := find()) is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], env=env)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=env)
        if (found := find()) is not None:
            return found
    raise RuntimeError(f"{packages[0]}: not found. Install it; on Debian: apt-get install {' '.join(packages)}")


def _stat(pid: int) -> tuple[str, int, int, int] | None:
    """State, parent, group and session of a process; None once it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *numbers = text.rpartition(")")[2].split()[:4]
    return None if state in "ZX" else (state, int(numbers[0]), int(numbers[1]), int(numbers[2]))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_port(port: int, service: Service) -> None:
    """
    Wait until a service listens on a port of 127.0.0.1.

    :raises AssertionError: when it has ended, or does not listen in time.
    """
    limit = time.monotonic() + LISTENS_WITHIN
    while True:
        service.check()
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > limit:
            raise AssertionError(f"{service.name} does not listen on port {port}\n{tail(service.log)}")
        time.sleep(0.05)


def wait_for_server(connect: Callable[[], Any], error: type[Exception], service: Service) -> None:
    """
    Wait until a server accepts a connection.

    :param connect: a function that opens a connection.
    :param error: the error that it raises until then.
    :raises AssertionError: when the server has ended.
    """
    limit = time.monotonic() + LISTENS_WITHIN
    while True:
        try:
            connect().close()
        except error:
            service.check()
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)
        else:
            return


def tail(path: Path, lines: int = 40) -> str:
    """The end of a text file."""
    text = path.read_text(errors="replace") if path.exists() else "(no such file)"
    return "\n".join([f"--- {path}", *text.splitlines()[-lines:]])
