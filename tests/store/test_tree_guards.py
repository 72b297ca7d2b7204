"""The guards of the tree: whoever writes past the functions is stopped, and no login does what is another's."""

from __future__ import annotations

from typing import Any

import psycopg
import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine.ledger.leaves import Abandoned, Closed, Opened
from policy_engine.store.pgsessions import connect
from tests.store.samples import Database, PostgresDatabase, SqliteDatabase, genesis
from tests.store.trees import append, sequencer

FORBIDDEN = [
    "UPDATE tree SET size = size - 1",
    "UPDATE tree SET horizon = horizon - 1",
    "UPDATE tree SET origin = 'another'",
    "UPDATE tree SET key = 'another'",
    "UPDATE tree SET indexed = size + 1",
    "DELETE FROM tree",
    "UPDATE tree_leaves SET log_id = 'x'",
    "DELETE FROM tree_leaves WHERE leaf = 1",
    "INSERT INTO tree_leaves (leaf, log_id, batch_no, data) VALUES (1, 'x', 7, NULL)",
    "INSERT INTO tree_leaves (leaf, log_id, batch_no, data) SELECT 99, log_id, batch_no, NULL FROM tree_leaves"
    " WHERE batch_no = 0",
    "INSERT INTO tree_leaves (leaf, log_id, batch_no, data) VALUES (3, 'x', NULL, NULL)",
    "UPDATE tree_tiles SET number = 9",
    "UPDATE tree_tiles SET data = substr(data, 1, 32)",
    "DELETE FROM tree_tiles",
    "UPDATE checkpoints SET at = 0",
    "DELETE FROM checkpoints",
    "INSERT INTO checkpoints (size, note, at) SELECT size, note, 0 FROM checkpoints",
    "UPDATE cosignatures SET line = ''",
    "DELETE FROM cosignatures",
    "UPDATE log_events SET kind = 'close'",
    "DELETE FROM log_events",
    "INSERT INTO log_events (log_id, kind, data) SELECT log_id, kind, data FROM log_events",
    "INSERT INTO log_events (log_id, kind, data) SELECT log_id, 'other', data FROM log_events",
    "UPDATE tree_logs SET batches = batches - 1",
    "UPDATE tree_logs SET opened = 5",
    "DELETE FROM tree_logs",
]


@pytest.fixture
def integrated(database: Database) -> Database:
    """A database with a tree of three leaves, whose checkpoint a witness has cosigned."""
    store = database.open()
    genesis(store)
    append(store, 1)
    made = sequencer(database)
    made.integrate()
    made.cosign(3, "witness", "— witness AAAA\n")
    return database


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_tree_only_grows_for_any_program(integrated: Database, statement: str) -> None:
    """An edit, a deletion, a second row or a gap is refused by the schema, also to a superuser."""
    if isinstance(integrated, PostgresDatabase):
        with integrated.server.admin(integrated.name) as admin, pytest.raises(psycopg.errors.IntegrityError):
            admin.execute("SET search_path = policy_engine")
            admin.execute(statement)  # type: ignore[arg-type]  # our own text
        return
    _refused_by_the_file(integrated, statement)
    if statement.startswith("INSERT INTO"):
        _refused_by_the_file(integrated, statement.replace("INSERT INTO", "INSERT OR REPLACE INTO"))


def _refused_by_the_file(database: SqliteDatabase, statement: str) -> None:
    connection = dbapi.connect(str(database.path))
    try:
        with pytest.raises(dbapi.IntegrityError):
            connection.execute(statement)
    finally:
        connection.rollback()
        connection.close()


def test_a_cosignature_is_kept_once_and_shown_with_its_checkpoint(integrated: Database) -> None:
    """Keeping it again changes nothing; the note of the checkpoint ends with the line."""
    made = sequencer(integrated)
    made.cosign(3, "witness", "— witness BBBB\n")
    found = integrated.open().checkpoint()
    assert found is not None
    assert found.note.endswith("— witness AAAA\n".encode())
    assert found.note.count("— witness".encode()) == 1


def refused(database: PostgresDatabase, who: str, call: str, *parameters: Any) -> str:
    """Call a function as a login and return the state that it was refused with."""
    with connect(database.server.url(database.name, who), 1.0) as session, pytest.raises(psycopg.Error) as error:
        session.execute(f"SELECT policy_engine.{call}", parameters)  # type: ignore[arg-type]  # our own text
    return error.value.sqlstate or ""


SEQUENCER_CALLS = [
    "integrate(0, '{}', '{}', '{}', '{}', '{}', '{}', '', 0, '', '', 0)",
    "abandon('')",
    "adopt_log('')",
    "raise_horizon(NULL)",
    "move_horizon(0, 0)",
    "add_cosignature(0, '', '')",
]


@pytest.mark.parametrize("call", SEQUENCER_CALLS)
@pytest.mark.parametrize("who", ["pe_writer", "pe_operator", "pe_auditor"])
def test_nobody_else_grows_the_tree(postgres_database: PostgresDatabase, who: str, call: str) -> None:
    """A stolen login of a replica or an operator signs nothing into the tree and ends no other's log."""
    assert refused(postgres_database, who, call) == "42501"


@pytest.mark.parametrize(
    "call",
    ["begin_batch('0123456789abcdef', NULL, '{}', '{}')", "begin_change('0123456789abcdef', NULL)", "open_log('')"],
)
def test_a_sequencer_writes_no_log(postgres_database: PostgresDatabase, call: str) -> None:
    """Whoever holds the signing key has no login that appends: to forge an entry takes two machines."""
    assert refused(postgres_database, "pe_sequencer", call) == "42501"
    with connect(postgres_database.server.url(postgres_database.name, "pe_sequencer"), 1.0) as session:
        for table in ("bodies", "data_keys", "persons"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SELECT * FROM policy_engine.{table}")  # type: ignore[arg-type]  # our own text


def test_a_sequencer_that_makes_up_a_leaf(postgres_database: PostgresDatabase) -> None:
    """Only batches and events that are there get into the tree, without a gap, from its true size on, each once."""
    store = postgres_database.open()
    genesis(store)
    append(store, 1)
    log, opened = store.log_id, store.pending(1)[0].data
    made_up = Opened("0" * 16, "boot", None, 0, None, 0).encode()

    def integrate(size: int, logs: list[str], batches: list[int | None], data: list[bytes | None]) -> str:
        call = "integrate(%s, %s, %s::bigint[], %s::bytea[], '{}', '{}', '{}', '', 0, 'o', 'k', 0)"
        return refused(postgres_database, "pe_sequencer", call, size, logs, batches, data)

    assert integrate(0, ["0" * 16], [None], [made_up]) == "PE001"
    assert integrate(0, [log, log], [None, 9], [opened, None]) == "PE001"
    assert integrate(0, [log, log], [None, 1], [opened, None]) == "PE001"
    assert integrate(0, [log], [0], [None]) == "PE001"
    assert integrate(0, [], [], []) == "PE001"
    with connect(postgres_database.server.url(postgres_database.name, "pe_sequencer"), 1.0) as session:
        call = "SELECT policy_engine.integrate(7, %s, %s::bigint[], %s::bytea[], '{}', '{}', '{}', '', 0, 'o', 'k', 0)"
        assert session.execute(call, ([log], [None], [opened])).fetchone() == (False,)
    assert store.tree_state().size == 0


def test_a_writer_that_lies_about_its_log(postgres_database: PostgresDatabase) -> None:
    """Nobody closes a log at another place than its end, opens it twice, or abandons it by a writer's login."""
    store = postgres_database.open()
    genesis(store)
    log, head = store.log_id, store.head()
    assert head is not None
    at, tip = head.last_at, head.head_hash
    for leaf in (
        Closed(log, 2, 1, tip, 1, at),
        Closed(log, 1, 2, tip, 1, at),
        Closed(log, 1, 1, "0" * 64, 1, at),
        Closed(log, 1, 1, tip, 1, at - 1),
        Abandoned(log, 1, 1, tip, 1, at),
    ):
        assert refused(postgres_database, "pe_writer", "close_log(%s)", leaf.encode()) == "PE002"
    again = Opened(log, "boot", None, 0, None, at).encode()
    assert refused(postgres_database, "pe_writer", "open_log(%s)", again) == "PE001"
    lie = Abandoned(log, 1, 1, tip, 1, at).encode()
    assert refused(postgres_database, "pe_sequencer", "abandon(%s)", lie) == "PE002"
