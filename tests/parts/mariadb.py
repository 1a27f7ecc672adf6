"""A MariaDB of the tests' own, in a temporary folder, on a port of its own on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.processes import Service, free_port, run, stop

USER = "airflow"
DATABASE = "warehouse"
STARTS_WITHIN = 60.0  # seconds
# The data live no longer than the tests: nothing has to survive a crash.
SETTINGS = {
    "innodb_flush_log_at_trx_commit": "0",
    "innodb_doublewrite": "0",
    "innodb_buffer_pool_size": "64M",
    "max_allowed_packet": "64M",
    "skip_name_resolve": "1",
}
NEEDED = ("mariadb-server", "libmariadb-dev")


class MariaDb:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connection(self, **extra: Any) -> dict[str, Any]:
        """Return Airflow's connection to it."""
        where = {"conn_type": "mysql", "host": "127.0.0.1", "port": self.port, "login": USER, "schema": DATABASE}
        return where | {"extra": extra}

    def connect(self) -> Any:
        """Return a connection that commits each statement."""
        import MySQLdb

        return MySQLdb.connect(host="127.0.0.1", port=self.port, user=USER, db=DATABASE, autocommit=True)


@contextlib.contextmanager
def running() -> Iterator[MariaDb]:
    """Run a server in a temporary data folder, and remove both at the end."""
    server = find("mariadbd")
    # The server refuses to be run by root; Debian's package brings a user for it.
    user = "mysql" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="parts-mariadb-"))
    try:
        if user:
            shutil.chown(folder, user, user)
        data, port = folder / "data", free_port()
        env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        prepare = [find("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--skip-test-db"]
        run([*prepare, "--auth-root-authentication-method=normal"], user=user, env=env, folder=folder)
        (folder / "init.sql").write_text(
            f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;\n"  # one statement a line
            f"CREATE USER {USER}@'127.0.0.1';\n"
            f"GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1';\n"
        )
        options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
        service = Service(
            "MariaDB",
            [
                *(server, "--no-defaults", f"--datadir={data}", "--bind-address=127.0.0.1", f"--port={port}"),
                *(f"--socket={folder / 'socket'}", f"--init-file={folder / 'init.sql'}", *options),
            ],
            env=env,
            folder=folder,
            log=folder / "mariadb.log",
            user=user,
        )
        try:
            maria = MariaDb(port)
            _wait_for(maria, service)
            yield maria
        finally:
            stop([service])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find(program: str) -> str:
    """Return the path of one of MariaDB's programs; as root on Debian they are installed if missing."""
    places = f"{os.environ['PATH']}:/usr/sbin"
    if found := shutil.which(program, path=places):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], env=env)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *NEEDED], env=env)
        if found := shutil.which(program, path=places):
            return found
    raise RuntimeError(f"{program} was not found: install MariaDB; on Debian: apt-get install {' '.join(NEEDED)}")


def _wait_for(server: MariaDb, service: Service) -> None:
    import MySQLdb

    limit = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            server.connect().close()
        except MySQLdb.OperationalError:
            service.check()
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)
        else:
            return
