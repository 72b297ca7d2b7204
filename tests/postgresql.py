"""A real PostgreSQL for tests: one server a test process, on a Unix socket, started when the first test wants it.

The binaries are Debian's (`apt-get install postgresql`). `POLICY_ENGINE_TEST_POSTGRES` names a server that runs already
by the URL of a superuser. Without either, tests skip; where `CI` is true they fail instead.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from policy_engine.store.migrate import install

OVERRIDE = "POLICY_ENGINE_TEST_POSTGRES"
LOGINS = {
    "pe_writer": "policy_engine_writer",
    "pe_operator": "policy_engine_operator",
    "pe_sequencer": "policy_engine_sequencer",
    "pe_auditor": None,
}
PASSWORD = "made-up"  # on a server that lives as long as the tests
TEMPLATE = f"pe_template_{os.getpid()}"
CONF = """
listen_addresses = ''
max_connections = 200
shared_buffers = 32MB
fsync = on
full_page_writes = on
synchronous_commit = on
log_min_messages = error
"""

SETTABLE_CLOCK = """
CREATE OR REPLACE FUNCTION policy_engine.clock(p_given bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN coalesce(p_given, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
END $$
"""


@dataclass
class Server:
    """A server, by the parts of a superuser's URL. `folder` is set when these tests started it."""

    parts: dict[str, Any]
    folder: Path | None = None
    binaries: Path | None = None
    _numbers: Any = field(default_factory=count)

    def url(self, database: str, user: str | None = None) -> str:
        """Return the URL of a database for a login; the superuser without one."""
        parts = {**self.parts, "dbname": database}
        if user is not None:
            parts |= {"user": user, "password": PASSWORD}
        return f"postgresql:///?{urlencode(parts, quote_via=quote)}"

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Return a superuser's connection, in autocommit mode."""
        return psycopg.connect(self.url(database), autocommit=True)

    def new_database(self, template: str = TEMPLATE) -> str:
        """Make a database as a copy of a template and return its name."""
        name = f"pe_{os.getpid()}_{secrets.token_hex(3)}_{next(self._numbers)}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[arg-type]  # our own names
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        with self.admin() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]  # as above

    # Only for servers that these tests started.

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._control("start", "-w", "-t", "30", "-l", str(self._folder / "log"))

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; `immediate` is a crash of all its processes."""
        self._control("stop", "-w", "-t", "30", "-m", mode)

    def promote(self) -> None:
        """Make a standby the primary, and wait until it is."""
        self._control("promote", "-w", "-t", "30")

    @property
    def _folder(self) -> Path:
        if self.folder is None:
            pytest.skip(f"the server of {OVERRIDE} is not ours to stop")
        return self.folder

    def _control(self, *words: str) -> None:
        assert self.binaries is not None
        command = [str(self.binaries / "pg_ctl"), "-D", str(self._folder / "data"), *words]
        subprocess.run(_as_postgres(command), check=True, stdout=subprocess.DEVNULL, cwd="/")


def _as_postgres(command: list[str]) -> list[str]:
    """Return a command that runs as another user: PostgreSQL refuses to run as root."""
    if os.geteuid():
        return command
    # An environment made by hand often lacks the folders of system programs.
    runuser = shutil.which("runuser", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "runuser"
    return [runuser, "-u", "postgres", "--", *command]


def find_binaries() -> Path | None:
    """Return the folder of the newest server installed, `None` without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return None if initdb is None else Path(initdb).resolve().parent


def _started(binaries: Path, conf: str = CONF) -> Server:
    folder = Path(tempfile.mkdtemp(prefix="pe-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    subprocess.run(
        _as_postgres([*initdb, "--locale=C.UTF-8", "--no-sync"]), check=True, stdout=subprocess.DEVNULL, cwd="/"
    )
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write(f"{conf}unix_socket_directories = '{folder}'\n")
    server = Server({"host": str(folder), "user": "postgres"}, folder, binaries)
    server.start()
    return server


def _prepared(server: Server) -> Server:
    """Make this process's template with a settable clock, and the logins, which test processes may share."""
    with server.admin() as connection:
        connection.execute("SELECT pg_advisory_lock(28773, 3)")
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
        install(server.url(TEMPLATE))
        for login, role in LOGINS.items():
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (login,)).fetchone():
                connection.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}'")  # type: ignore[arg-type]  # ours
            if role is not None:
                connection.execute(f"GRANT {role} TO {login}")  # type: ignore[arg-type]  # ours
        connection.execute("GRANT policy_engine_auditor TO pe_auditor")
        with server.admin(TEMPLATE) as template:
            template.execute(SETTABLE_CLOCK)
    return server


@cache
def _running() -> Server | None:
    given = os.environ.get(OVERRIDE)
    if given:
        named = Server(dict(conninfo_to_dict(given)))
        atexit.register(named.drop_database, TEMPLATE)
        return _prepared(named)
    binaries = find_binaries()
    if binaries is None:
        return None
    server = _started(binaries)
    atexit.register(_ended, server)
    return _prepared(server)


def _ended(server: Server) -> None:
    server.stop()
    if server.folder is not None:
        shutil.rmtree(server.folder, ignore_errors=True)


def running() -> Server:
    """Return the server of this test process; skip the test where there is none, fail it where `CI` is true."""
    server = _running()
    if server is None:
        missing = f"PostgreSQL is not installed (apt-get install postgresql), and {OVERRIDE} names none"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return server


@cache
def expendable() -> Server:
    """Return a server of its own for tests that stop it, so that nobody else's connections suffer."""
    running()
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(f"the server of {OVERRIDE} is not ours to stop, and no other is installed")
    server = _started(binaries)
    atexit.register(_ended, server)
    return _prepared(server)


@dataclass
class Pair:
    """A primary and its synchronous standby. `either` is both under one URL, of which the writable one answers."""

    primary: Server
    standby: Server
    either: Server


def started_pair() -> Pair:
    """Start a primary, prepare it, and have a standby follow it in step; the caller calls `end_pair`."""
    running()
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(f"the server of {OVERRIDE} is not ours to follow, and no other is installed")
    primary = _prepared(_started(binaries))
    folder = Path(tempfile.mkdtemp(prefix="pe-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    copy = [str(binaries / "pg_basebackup"), "-D", str(folder / "data"), "-h", primary.parts["host"], "-U", "postgres"]
    copy += ["-R", "-X", "stream", "-c", "fast", "--no-sync"]
    subprocess.run(_as_postgres(copy), check=True, stdout=subprocess.DEVNULL, cwd="/")
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write(f"unix_socket_directories = '{folder}'\n")
    standby = Server({"host": str(folder), "user": "postgres"}, folder, binaries)
    standby.start()
    with primary.admin() as session:
        session.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        session.execute("SELECT pg_reload_conf()")
        until = time.monotonic() + 30
        while session.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone() is None:
            assert time.monotonic() < until, "the standby does not follow"
            time.sleep(0.05)
    hosts = f"{primary.folder},{folder}"
    return Pair(primary, standby, Server({"host": hosts, "user": "postgres", "target_session_attrs": "read-write"}))


def end_pair(pair: Pair) -> None:
    """Stop whichever of the two runs and remove both."""
    for server in (pair.primary, pair.standby):
        with suppress(subprocess.CalledProcessError):
            server.stop()
        if server.folder is not None:
            shutil.rmtree(server.folder, ignore_errors=True)


def wait_until_up(server: Server, seconds: float = 20.0) -> None:
    """Wait until a server answers again."""
    until = time.monotonic() + seconds
    while True:
        try:
            server.admin().close()
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
