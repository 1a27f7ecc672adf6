"""A PostgreSQL of the tests' own, in a temporary folder, on a port of its own on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from tests.e2e.processes import Service, found_or_installed, free_port, run, stop, wait_for_server

USER = "airflow"
# The data live no longer than the tests: nothing has to survive a crash.
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300"}


class Postgres:
    """A running server; ``run`` starts one of PostgreSQL's programs against it."""

    def __init__(self, binaries: Path, port: int) -> None:
        self.binaries = binaries
        self.port = port

    def url(self, driver: str, database: str) -> str:
        """The address of a database for SQLAlchemy."""
        return f"postgresql+{driver}://{USER}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str) -> psycopg2.extensions.connection:
        """Connect to a database, each statement being a transaction of its own."""
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, dbname=database)
        connection.autocommit = True
        return connection

    def create(self, database: str, *, like: Path | None = None) -> None:
        """Create a database, empty or from a file of ``dump``."""
        with contextlib.closing(self.connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {database}")
        if like is not None:
            self._run("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={like}", database)

    def dump(self, database: str, target: Path) -> None:
        """Write a database into a file, which appears only once it is whole."""
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.{os.getpid()}")
        self._run("pg_dump", "--no-owner", f"--file={unfinished}", database)
        unfinished.rename(target)

    def _run(self, program: str, *arguments: str) -> None:
        where = ("--host=127.0.0.1", f"--port={self.port}", f"--username={USER}", "--no-password")
        run([str(self.binaries / program), *where, *arguments])


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """Make a cluster, run its server, and remove both at the end."""
    binaries = find_binaries()
    # The server refuses to be run by root; Debian's package brings a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="airflow-e2e-postgres-"))
    try:
        if user:
            shutil.chown(folder, user, user)
        data = folder / "data"
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)}
        initdb = [str(binaries / "initdb"), f"--pgdata={data}", f"--username={USER}", "--auth=trust", "--no-sync"]
        run([*initdb, "--encoding=UTF8"], user=user, env=env, folder=folder)
        server = Postgres(binaries, free_port())
        settings = SETTINGS | {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder)}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        service = Service(
            "PostgreSQL",
            [str(binaries / "postgres"), "-D", str(data), "-p", str(server.port), *options],
            env=env,
            folder=folder,
            log=folder / "postgres.log",
            user=user,
            stop_signal=signal.SIGINT,  # do not wait for clients
        )
        try:
            wait_for_server(lambda: server.connect("postgres"), psycopg2.OperationalError, service)
            yield server
        finally:
            stop([service])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_binaries() -> Path:
    """Find PostgreSQL's programs; on Debian they are installed where we may."""
    return found_or_installed(_binaries, "postgresql")


def _binaries() -> Path | None:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    initdb = versions[-1] if versions else shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None
