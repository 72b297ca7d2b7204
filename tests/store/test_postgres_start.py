"""What PostgreSQL must be set to, and what a login may do: a start that cannot keep its promises is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import structlog

from policy_engine.errors import InputRefused, NotPermitted, StartRefused, StoreUnavailable
from policy_engine.store import pgsafety
from policy_engine.store.migrate import SCHEMA, install
from policy_engine.store.pgmigrate import read_schema
from policy_engine.store.pgsessions import connect
from policy_engine.store.postgres import PostgresStore
from tests.postgresql import Server, expendable, wait_until_up
from tests.store.samples import VAULT, PostgresDatabase, genesis, put
from tests.store.trees import append, sequencer

ROOMS = sorted(room.stem for room in Path(pgsafety.__file__).parent.glob("p*g*.py"))
"""Every module of the store for PostgreSQL, of which any may be the first that somebody asks for."""

WITHOUT_DRIVER = """
import importlib, sys
sys.modules["psycopg"] = None  # as where the extra is not installed
from policy_engine.errors import StartRefused
for room in sys.argv[1:]:
    for loaded in [name for name in sys.modules if name.startswith("policy_engine.store.p")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(f"policy_engine.store.{room}")
    except (StartRefused, ImportError) as refused:
        print(room, type(refused).__name__, refused)
"""


def test_a_missing_extra_is_said_clearly_whichever_room_is_asked_first() -> None:
    """Without psycopg each module is loaded or refuses with the command that installs it; none fails otherwise."""
    ran = subprocess.run([sys.executable, "-c", WITHOUT_DRIVER, *ROOMS], capture_output=True, text=True, check=True)
    refused = ran.stdout.splitlines()
    assert {line.split()[0] for line in refused} >= {"pgmigrate", "pgreading", "pgreplicas", "pgtree", "postgres"}
    assert all("StartRefused" in line and "'policy-engine[postgres]'" in line for line in refused), refused


@contextmanager
def altered(database: PostgresDatabase, *statements: str, back: tuple[str, ...] = ()) -> Iterator[None]:
    """Run statements as a superuser, and others when the block ends."""
    with database.server.admin(database.name) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]  # our own text
        try:
            yield
        finally:
            for statement in back:
                connection.execute(statement)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("value", ["off", "local", "remote_write"])
def test_commits_that_return_too_early_are_refused(postgres_database: PostgresDatabase, value: str) -> None:
    """With a synchronous_commit below `on`, set for the database or the login, the start is refused and named."""
    name = postgres_database.name
    with (
        altered(
            postgres_database,
            f"ALTER DATABASE {name} SET synchronous_commit = {value}",
            back=(f"ALTER DATABASE {name} RESET synchronous_commit",),
        ),
        pytest.raises(StartRefused, match="synchronous_commit = on"),
    ):
        postgres_database.open()


def test_remote_apply_is_accepted(postgres_database: PostgresDatabase) -> None:
    """`remote_apply` waits for more than `on` does."""
    name = postgres_database.name
    reset = (f"ALTER DATABASE {name} RESET synchronous_commit",)
    with altered(postgres_database, f"ALTER DATABASE {name} SET synchronous_commit = remote_apply", back=reset):
        genesis(postgres_database.open())


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("default_transaction_isolation", "'repeatable read'", "read committed"),
        ("default_transaction_read_only", "on", "read-only"),
    ],
)
def test_transactions_that_cannot_fence_are_refused(
    postgres_database: PostgresDatabase, setting: str, value: str, words: str
) -> None:
    """A login whose transactions are read-only, or see an old snapshot behind the lock, is refused."""
    name = postgres_database.name
    reset = (f"ALTER DATABASE {name} RESET {setting}",)
    with (
        altered(postgres_database, f"ALTER DATABASE {name} SET {setting} = {value}", back=reset),
        pytest.raises(StartRefused, match=words),
    ):
        postgres_database.open()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_does_not_sync_is_refused_and_stopped(setting: str) -> None:
    """Without fsync or full_page_writes no start; switched off under a running store, nothing is written."""
    database = PostgresDatabase(None, expendable())
    store = database.open()
    genesis(store)
    reload = "SELECT pg_reload_conf(), pg_sleep(0.3)"
    back = (f"ALTER SYSTEM RESET {setting}", reload)
    with altered(database, f"ALTER SYSTEM SET {setting} = off", reload, back=back):
        with pytest.raises(StartRefused, match=f"set {setting} = on"):
            database.open()
        with pytest.raises(StoreUnavailable, match="durable"):
            store.change(put("persons", "x", 0))
    store.change(put("persons", "x", 0))
    database.close()
    assert database.verify().findings == ()
    database.drop()


def test_what_refuses_a_start_is_an_outage_later(postgres_database: PostgresDatabase) -> None:
    """A server set otherwise meanwhile makes nobody raise what no caller expects, and everything resumes by itself."""
    store, made, name = postgres_database.open(), sequencer(postgres_database), postgres_database.name
    genesis(store)
    made.integrate()
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    back = (f"ALTER DATABASE {name} RESET synchronous_commit", ended)
    with altered(postgres_database, f"ALTER DATABASE {name} SET synchronous_commit = off", ended, back=back):
        with pytest.raises(StartRefused, match="synchronous_commit"):
            PostgresStore(postgres_database.writer, VAULT)
        for attempt in (store.state, lambda: append(store, 1), lambda: store.change(put("persons", "x", 0))):
            for _ in range(2):  # the first may still meet the connection that was ended
                with pytest.raises(StoreUnavailable):
                    attempt()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                made.integrate()
    append(store, 1)
    for _ in range(2):
        with suppress(StoreUnavailable):  # as above
            made.integrate()
    assert store.tree_state().size == 3
    assert made.trouble is None


def test_an_old_server_is_refused(monkeypatch: pytest.MonkeyPatch, postgres_database: PostgresDatabase) -> None:
    """A server older than the oldest supported is refused (the bound is raised above the real one to see it)."""
    monkeypatch.setattr(pgsafety, "VERSION_MIN", 990_000)
    with pytest.raises(StartRefused, match="upgrade"):
        postgres_database.open()
    monkeypatch.undo()


def test_a_read_replica_is_refused() -> None:
    """A server in recovery is refused before anything is read from it, and accepted once it was promoted."""
    server = expendable()
    database = PostgresDatabase(None, server)
    genesis(database.open())
    database.close()
    assert server.folder is not None
    signal = server.folder / "data" / "standby.signal"
    server.stop("fast")
    signal.touch()
    server.start()
    try:
        with pytest.raises(StoreUnavailable, match="read replica"):
            database.open()
    finally:
        server.stop("fast")
        signal.unlink()
        server.start()
        wait_until_up(server)
    database.open().change(put("persons", "x", 0))
    database.close()
    assert database.verify().findings == ()
    database.drop()


WRITES = [
    ("GRANT UPDATE ON policy_engine.entries TO pe_writer", "table entries"),
    ("GRANT DELETE ON policy_engine.batches TO policy_engine_writer", "table batches"),
    ("GRANT TRUNCATE ON policy_engine.bodies TO PUBLIC", "table bodies"),
    ("GRANT INSERT ON policy_engine.heads TO pe_writer", "table heads"),
    ("GRANT UPDATE (sealed) ON policy_engine.bodies TO pe_writer", "table bodies"),
    ("GRANT CREATE ON SCHEMA policy_engine TO pe_writer", "CREATE"),
    ("GRANT policy_engine_owner TO pe_writer", "policy_engine_owner"),
    ("GRANT policy_engine_operator TO pe_writer", "POLICY_ENGINE_OPERATOR_DATABASE"),
    ("REVOKE policy_engine_writer FROM pe_writer", "GRANT policy_engine_writer"),
    ("ALTER ROLE pe_writer SUPERUSER", "superuser"),
    ("ALTER ROLE pe_writer CREATEROLE", "any role"),
    ("GRANT pg_write_server_files TO pe_writer", "superuser"),
    ("GRANT pe_mid_super TO pe_writer", "superuser"),
    ("GRANT pe_mid_operator TO pe_writer", "POLICY_ENGINE_OPERATOR_DATABASE"),
    ("GRANT EXECUTE ON FUNCTION policy_engine.prune TO pe_writer", "policy_engine.prune"),
]
OTHER_ROLES = "CREATE ROLE pe_mid_super SUPERUSER; CREATE ROLE pe_mid_operator NOINHERIT; " + (
    "GRANT policy_engine_operator TO pe_mid_operator"
)
"""Roles that a login may take on (`SET ROLE`), and what it has through them is not inherited."""


@pytest.mark.parametrize(("grant", "words"), WRITES)
def test_a_login_that_may_do_more_or_less_is_refused(grant: str, words: str) -> None:
    """A writer that could edit the log, make objects or make changes is refused; so is one that cannot write."""
    database = PostgresDatabase(None, expendable())
    with database.server.admin() as admin:
        if "CREATEROLE" in grant and admin.info.server_version >= 160_000:
            pytest.skip("from PostgreSQL 16 on, making roles makes nobody a member of another's")
    back = {
        "GRANT": grant.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM "),
        "REVOK": "GRANT policy_engine_writer TO pe_writer",
        "ALTER": grant.replace("pe_writer ", "pe_writer NO"),
    }[grant[:5]]
    back = (back, "DROP ROLE pe_mid_super; DROP ROLE pe_mid_operator")
    with altered(database, OTHER_ROLES, grant, back=back), pytest.raises(StartRefused, match=words) as refused:
        database.open()
    assert "POLICY_ENGINE_DATABASE" in str(refused.value)
    database.open()
    database.close()
    database.drop()


def test_a_right_to_write_any_table_at_all_is_refused(postgres_database: PostgresDatabase) -> None:
    """Every table of the schema counts, those of later versions as well."""
    database = postgres_database
    with database.server.admin(database.name) as admin:
        tables = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'policy_engine'").fetchall()
        assert len(tables) > 30
        for (table,) in tables:
            with (
                altered(
                    database,
                    f"GRANT INSERT ON policy_engine.{table} TO pe_writer",
                    back=(f"REVOKE INSERT ON policy_engine.{table} FROM pe_writer",),
                ),
                connect(database.writer, 1.0) as session,
                pytest.raises(StartRefused, match=f"table {table} "),
            ):
                pgsafety.check_role(session, pgsafety.WRITER)


def test_each_login_is_for_its_own_setting(postgres_database: PostgresDatabase) -> None:
    """An operator's login does not serve, a writer's does not change, and without an operator's nothing is changed."""
    writer, operator = postgres_database.writer, postgres_database.operator
    with pytest.raises(StartRefused, match="GRANT policy_engine_writer"):
        PostgresStore(operator, VAULT)
    with pytest.raises(StartRefused, match="GRANT policy_engine_operator"):
        PostgresStore(writer, VAULT, operator=writer)
    store = PostgresStore(writer, VAULT)
    with pytest.raises(NotPermitted, match="POLICY_ENGINE_OPERATOR_DATABASE"):
        store.change(put("persons", "x", 0))
    store.close()


def test_a_missing_standby_is_warned_of(postgres_database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without synchronous_standby_names the start says loudly what would be lost."""
    monkeypatch.setattr(pgsafety, "log", structlog.get_logger())  # one that no earlier test has bound for good
    before = structlog.get_config()
    structlog.reset_defaults()
    try:
        with structlog.testing.capture_logs() as lines:
            postgres_database.open()
    finally:
        structlog.configure(**before)
    (line,) = [line for line in lines if line["event"] == "postgresql.no-synchronous-standby"]
    assert line["log_level"] == "warning"
    assert "synchronous standby" in line["message"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": "/nowhere"}, "cannot be reached"),
        ({"dbname": "no_such_database"}, "database of its URL"),
        ({"user": "nobody_we_know"}, "refuses the login"),
    ],
)
def test_a_server_that_cannot_be_had_is_told(server: Server, change: dict[str, str], words: str) -> None:
    """A wrong host, database or user is one sentence with a remedy, and the password is not in it."""
    wrong = Server({**server.parts, **change})
    url = wrong.url(change.get("dbname", "postgres"), change.get("user", "pe_writer"))
    with pytest.raises((StoreUnavailable, StartRefused), match=words) as told:
        PostgresStore(url, VAULT)
    assert "made-up" not in str(told.value)
    with pytest.raises(StoreUnavailable, match=words):  # unreachable, which is not the same as refused
        read_schema(url, SCHEMA)


def test_a_url_that_is_none_is_refused() -> None:
    """A URL that the driver cannot read is refused without repeating it."""
    with pytest.raises(InputRefused, match="USER@HOST") as refused:
        connect("postgresql://a:secret@[", 1.0)
    assert "secret" not in str(refused.value)


def test_a_clock_cannot_be_given_to_a_database_in_use(server: Server) -> None:
    """Only the tests' own databases take a clock; the function of an installed one refuses it."""
    name = server.new_database("template1")
    try:
        install(server.url(name))
        writer, operator = server.url(name, "pe_writer"), server.url(name, "pe_operator")
        store = PostgresStore(writer, VAULT, operator=operator, clock=lambda: 1)
        with pytest.raises(StoreUnavailable):
            genesis(store)
        store.close()
        with connect(writer, 1.0) as own, pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute("SELECT policy_engine.clock(1)")
    finally:
        server.drop_database(name)
