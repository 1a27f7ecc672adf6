"""A MariaDB of the tests' own, in a temporary folder, on a port of its own on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.processes import Service, found_or_installed, free_port, run, stop, wait_for_server

USER = "airflow"
DATABASE = "warehouse"
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
    import MySQLdb  # whose library the same packages bring

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
            wait_for_server(maria.connect, MySQLdb.OperationalError, service)
            yield maria
        finally:
            stop([service])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find(program: str) -> str:
    """Return the path of one of MariaDB's programs; as root on Debian they are installed if missing."""
    folders = f"{os.environ['PATH']}:/usr/sbin"

    def which() -> Path | None:
        found = shutil.which(program, path=folders)
        return Path(found) if found else None

    return str(found_or_installed(which, *NEEDED))
