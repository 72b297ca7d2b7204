"""Attacks with a stolen login of the database: what a writer, an operator or an auditor tries past the functions.

Each attack runs as the login itself, on a real server, with entries there to be attacked; afterwards the log verifies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from policy_engine.errors import StoreUnavailable
from policy_engine.ledger.canonical import canonical
from policy_engine.ledger.encoding import Header, Place, note_public
from policy_engine.ledger.leaves import Closed, Opened
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.limits import LIMITS
from policy_engine.store import pgfaults
from policy_engine.store.interfaces import Committed
from policy_engine.store.pgsessions import connect
from policy_engine.store.postgres import PostgresStore
from tests.store.samples import VAULT, PostgresDatabase, Sample, genesis, put
from tests.store.trees import sequencer

Session = psycopg.Connection[Any]


@pytest.fixture
def database() -> Iterator[PostgresDatabase]:
    """A database with a release, a switch, decisions and indexed tags; it verifies when the attack is over."""
    made = PostgresDatabase(None)
    store = made.open()
    genesis(store)
    store.change(put("switches", "stop", 0, {"scope": {"models": ["fable-5"]}}))
    append(store)
    store.index_tags(100)
    yield made
    made.close()
    findings = made.verify().findings
    made.drop()
    assert findings == ()


def append(store: PostgresStore) -> Committed:
    """Append two entries."""
    state = store.state()
    result = store.append([Sample(state, instant=store.now(), until=2**62, clock_set=False) for _ in range(2)], state)
    assert isinstance(result, Committed)
    return result


def login(database: PostgresDatabase, name: str) -> Session:
    """Return a session as a thief of a login has it."""
    return connect(database.server.url(database.name, name), 1.0)


TABLES = ["entries", "batches", "bodies", "heads", "state", "fence", "tags", "data_keys", "blobs", "switches", "keys"]
TABLES += ["tree", "tree_leaves", "tree_tiles", "tree_logs", "checkpoints", "cosignatures", "log_events", "replicas"]


@pytest.mark.parametrize("who", ["pe_writer", "pe_operator", "pe_auditor"])
@pytest.mark.parametrize("table", TABLES)
def test_direct_insert_update_delete_truncate_drop(database: PostgresDatabase, who: str, table: str) -> None:
    """No login of the engine writes to any table directly."""
    name = f"policy_engine.{table}"
    with login(database, who) as session:
        row = session.execute(f"SELECT * FROM {name} LIMIT 0")
        column = row.description[0].name if row.description else ""
        for statement in (
            f"INSERT INTO {name} SELECT * FROM {name}",
            f"UPDATE {name} SET {column} = {column}",
            f"DELETE FROM {name}",
            f"TRUNCATE {name}",
            f"COPY {name} FROM STDIN",
            f"DROP TABLE {name}",
            f"ALTER TABLE {name} DISABLE TRIGGER ALL",
            f"CREATE TRIGGER mine BEFORE INSERT ON {name} EXECUTE FUNCTION policy_engine.refuse()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)  # type: ignore[arg-type]  # our own text


@pytest.mark.parametrize(
    "call",
    [
        "begin_change('0123456789abcdef', NULL)",
        "erase('0123456789abcdef', 0, 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        "prune('0123456789abcdef', 0)",
        "empty_bodies('{}', '{}')",
        "removing_entry('0123456789abcdef', 0, 'erased')",
        "change(NULL, '', '{}', '{}', '{}', '{}', '{}', 0, 0, 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',"
        " '{}', '{}', '{}')",
        "put_rows('0123456789abcdef', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        "write_batch('', '{}', '{}', '{}', '{}', '{}', 0, NULL, 0, 0)",
        "check_entries('{}', '', 0, 0, 0, 0)",
        "batch_root('{}')",
        "opening_leaf('{}')",
        "add_data_keys('{}', '{}')",
        "enter_log('0123456789abcdef')",
        "clock(0)",
    ],
)
def test_operator_and_inner_functions_called_as_writer(database: PostgresDatabase, call: str) -> None:
    """A replica's login cannot release a switch, nor call the parts that the functions are made of."""
    with login(database, "pe_writer") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(f"SELECT policy_engine.{call}")  # type: ignore[arg-type]  # our own text


def test_appending_as_operator_and_anything_as_auditor(database: PostgresDatabase) -> None:
    """An operator cannot write decisions, and an auditor can write nothing."""
    begin = "SELECT policy_engine.begin_batch('0123456789abcdef', NULL, '{}', '{}')"
    change = "SELECT policy_engine.begin_change('0123456789abcdef', NULL)"
    settle = "SELECT policy_engine.settle('0123456789abcdef')"
    for who, calls in (("pe_operator", (begin,)), ("pe_auditor", (begin, change, settle))):
        with login(database, who) as session:
            for call in calls:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(call)


def test_becoming_another_role(database: PostgresDatabase) -> None:
    """A writer cannot become owner or operator, grant itself anything, or replace a function."""
    with login(database, "pe_writer") as session:
        for statement in (
            "SET ROLE policy_engine_owner",
            "SET ROLE policy_engine_operator",
            "GRANT policy_engine_owner TO pe_writer",
            "GRANT UPDATE ON policy_engine.entries TO pe_writer",
            "ALTER FUNCTION policy_engine.clock(bigint) COST 2",
            "CREATE OR REPLACE FUNCTION policy_engine.clock(p_given bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
            "CREATE FUNCTION policy_engine.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SET session_replication_role = replica",
            "ALTER SYSTEM SET fsync = off",
        ):
            try:
                session.execute(statement)  # type: ignore[arg-type]  # our own text
            except psycopg.errors.InsufficientPrivilege:
                continue
            # PostgreSQL answers a GRANT that grants nothing with a warning
            assert statement.startswith("GRANT UPDATE")
        row = session.execute("SELECT has_table_privilege('policy_engine.entries', 'UPDATE')").fetchone()
        assert row == (False,)


def test_search_path_hijack_by_temporary_objects(database: PostgresDatabase) -> None:
    """Tables and functions of the same names that come first for the caller are not seen by ours."""
    store = database.open()
    state = store.state()
    with login(database, "pe_writer") as session:
        session.execute(
            "CREATE TEMPORARY TABLE state (id int, epoch bigint, release text, facts_revision bigint, sample int)"
        )
        session.execute("INSERT INTO pg_temp.state VALUES (1, 99, 'sha256:evil', 0, 0)")
        session.execute("CREATE TEMPORARY TABLE fence (id int, changed_at bigint)")
        session.execute("CREATE TEMPORARY TABLE heads (LIKE policy_engine.heads)")
        session.execute(
            "CREATE FUNCTION pg_temp.clock(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 7::bigint';"
            "CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$;"
            "CREATE FUNCTION pg_temp.enter_log(text) RETURNS void LANGUAGE sql AS ''"
        )
        session.execute("SET search_path = pg_temp, policy_engine, pg_catalog")
        found = session.execute(
            "SELECT epoch, release, now FROM policy_engine.begin_batch('0123456789abcdef', NULL, '{}', '{}')"
        ).fetchone()
    assert found is not None
    assert found[:2] == (state.epoch, state.release)
    assert abs(found[2] - store.now()) < 60_000_000


def test_every_function_that_runs_as_the_owner_has_a_fixed_search_path(database: PostgresDatabase) -> None:
    """SECURITY DEFINER comes with our schema first and temporary objects last, and with no right of PUBLIC."""
    with database.server.admin(database.name) as session:
        rows = session.execute(
            "SELECT p.proname, p.prosecdef, p.proconfig, has_function_privilege('public', p.oid, 'EXECUTE')"
            " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'policy_engine'"
        ).fetchall()
    definers = {name for name, definer, *_ in rows if definer}
    assert definers == {
        "begin_batch", "append", "settle", "index_tags", "begin_change", "change", "open_log", "close_log",
        "abandon", "add_cosignature", "adopt_log", "fence_holders", "integrate", "move_horizon", "raise_horizon",
        "unleased", "index_columns", "erase", "prune", "beat", "end_replica",
    }  # fmt: skip
    for name, definer, config, public in rows:
        assert not public, name
        if definer:
            assert config == ["search_path=policy_engine, pg_temp"], name


def forged(database: PostgresDatabase, store: PostgresStore, **changes: Any) -> tuple[Any, ...]:
    """Return the parameters of an append that a thief makes up, honest but for the changes."""
    state, head = store.state(), store.head()
    assert head is not None
    public = changes.pop("public", b"{}")
    members: dict[str, Any] = {
        "log_id": head.log_id,
        "batch": head.next_batch,
        "first": head.next_seq,
        "n": 1,
        "root": root([leaf_hash(public)]).hex(),
        "prev": head.head_hash,
        "epoch": state.epoch,
        "release": state.release,
        "at": store.now() - 1_000,
    }
    header = Header(**{**members, **changes}).encode()
    none: list[Any] = []
    return (None, 10**12, header, [public], none, none, none, none, [True], [store.now()], [2**62], [0], *[none] * 4)


APPEND = (
    "SELECT * FROM policy_engine.append(%b::bigint, %b::bigint, %b, %b::bytea[], %b::bigint[], %b::text[], %b::bytea[],"
    " %b::bytea[], %b::boolean[], %b::bigint[], %b::bigint[], %b::bigint[], %b::integer[], %b::text[], %b::text[],"
    " %b::bigint[])"
)


REFUSALS = "head of the log|was not opened|does not say|16 hex digits|instant of the batch"


@pytest.mark.parametrize(
    "lie",
    [
        {"batch": 0},
        {"first": 0},
        {"prev": "0" * 64},
        {"n": 2},
        {"log_id": "not-hex"},
        {"log_id": os.urandom(8).hex()},
        {"at": 2**52},
        {"at": 1},
    ],
)
def test_a_header_that_lies_about_its_place(database: PostgresDatabase, lie: dict[str, Any]) -> None:
    """Overwriting, skipping, back-dating or starting in the middle of a log is refused by the function itself."""
    store = database.opened[0]
    with login(database, "pe_writer") as session, pytest.raises(psycopg.ProgrammingError, match=REFUSALS):
        session.execute(APPEND, forged(database, store, **lie))


@pytest.mark.parametrize("lie", [{"epoch": 0}, {"epoch": 99}, {"release": "sha256:other"}, {"release": None}])
def test_an_append_under_another_epoch_or_release(database: PostgresDatabase, lie: dict[str, Any]) -> None:
    """A batch that names another epoch or release than the one in force is never written, whoever sends it."""
    store = database.opened[0]
    before = store.head()
    with login(database, "pe_writer") as session:
        assert session.execute(APPEND, forged(database, store, **lie)).fetchall() == [(0, "epoch")]
    assert store.head() == before


@pytest.mark.parametrize("setting", ["synchronous_commit = off", "default_transaction_isolation = 'repeatable read'"])
def test_a_session_that_gives_up_durability_or_the_fence(database: PostgresDatabase, setting: str) -> None:
    """A writer that switches its own session to fast commits or old snapshots is refused at the next batch."""
    with login(database, "pe_writer") as session:
        session.execute(f"SET {setting}")  # type: ignore[arg-type]  # our own text
        with pytest.raises(psycopg.ProgrammingError, match=r"durable|read committed"):
            session.execute("SELECT policy_engine.begin_batch('0123456789abcdef', NULL, '{}', '{}')")


def honest(store: PostgresStore, **changes: Any) -> bytes:
    """Return the public bytes of an entry that may come next, honest but for the changes."""
    state, head = store.state(), store.head()
    assert head is not None
    place = Place(head.log_id, head.next_seq, store.now() - 1_000, state.epoch, state.release)
    lies = {name: changes.pop(name) for name in list(changes) if name in Place.__dataclass_fields__}
    public = note_public("search", "0" * 32, replace(place, **lies), {"by": "local"}, commit="0" * 64, sealed="")
    return canonical({**json.loads(public), **changes})


def test_bytes_that_could_never_be_integrated(database: PostgresDatabase) -> None:
    """One batch that nobody can read would stop the tree, and every start, for good: the function writes none."""
    store = database.opened[0]
    state = store.state()

    def call(public: bytes, header: bytes | None = None, **changes: Any) -> tuple[Any, ...]:
        at = json.loads(public)["at"] if public.startswith(b'{"at":') else store.now() - 1_000
        made = forged(database, store, public=public, at=at, **changes)
        return made if header is None else (*made[:2], header, *made[3:])

    told = honest(store)
    spaced = json.dumps(json.loads(call(told)[2])).encode()
    with login(database, "pe_writer") as session:
        with session.transaction(force_rollback=True):
            assert session.execute(APPEND, call(told)).fetchall() == []  # so that each lie below is what is refused
        for lie in (
            call(told, root="0" * 64),
            call(told, spaced),
            call(b"[]"),
            call(b"\xff"),
            call(b"{}"),
            call(honest(store, seq=7)),
            call(honest(store, log_id="0" * 16)),
            call(honest(store, epoch=state.epoch - 1)),
            call(honest(store, epoch=state.epoch + 1)),
            call(honest(store, id=None)),
            call(told + b" ", root=root([leaf_hash(told)]).hex()),
        ):
            with pytest.raises(psycopg.DatabaseError) as refused:
                session.execute(APPEND, lie)
            assert pgfaults.is_refused(refused.value)
    assert sequencer(database).integrate() is not None
    append(database.open())


def test_leaves_that_could_never_be_integrated(database: PostgresDatabase) -> None:
    """Nor does a log begin or end with bytes that are no leaf, or that run backwards."""
    store, log = database.opened[0], "0123456789abcdef"
    head, epoch = store.head(), store.state().epoch
    assert head is not None
    opened = Opened(log, "boot", None, epoch, "sha256:aa", store.now())
    ended = Closed(head.log_id, head.next_batch, head.next_seq, head.head_hash, epoch, head.last_at)
    with login(database, "pe_writer") as session:
        for function, leaves in (
            (
                "open_log",
                (
                    b'{"kind":"open","log":"0123456789abcdef"}',
                    json.dumps(json.loads(opened.encode())).encode(),
                    canonical({**json.loads(opened.encode()), "more": 1}),
                    canonical({**json.loads(opened.encode()), "epoch": str(epoch)}),
                    replace(opened, epoch=epoch + 1).encode(),
                    replace(opened, boot="").encode(),
                    opened.encode().replace(b'"at":', b'"at":9'),
                ),
            ),
            (
                "close_log",
                (
                    canonical({"kind": "close", **{k: v for k, v in json.loads(ended.encode()).items() if k != "v"}}),
                    json.dumps(json.loads(ended.encode())).encode(),
                    replace(ended, epoch=0).encode(),
                    replace(ended, epoch=epoch + 1).encode(),
                ),
            ),
        ):
            for leaf in leaves:
                with pytest.raises(psycopg.DatabaseError) as refused:
                    session.execute(f"SELECT policy_engine.{function}(%s)", (leaf,))  # type: ignore[arg-type]  # ours
                assert pgfaults.is_refused(refused.value)
        with session.transaction(force_rollback=True):
            session.execute("SELECT policy_engine.open_log(%s)", (opened.encode(),))
            session.execute("SELECT policy_engine.close_log(%s)", (ended.encode(),))
    assert sequencer(database).integrate() is not None


def test_a_log_that_opens_in_the_future_takes_no_batch(database: PostgresDatabase) -> None:
    """Its first batch would be dated before its opening, which nobody could integrate."""
    store, log = database.opened[0], "0123456789abcdef"
    state = store.state()
    with login(database, "pe_writer") as session:
        leaf = Opened(log, "boot", None, state.epoch, state.release, store.now() + 3_600_000_000).encode()
        session.execute("SELECT policy_engine.open_log(%s)", (leaf,))
        lie = {"log_id": log, "batch": 0, "first": 0, "prev": "0" * 64}
        public = honest(store, log_id=log, seq=0)
        with pytest.raises(psycopg.ProgrammingError, match="instant of the batch"):
            session.execute(APPEND, forged(database, store, public=public, at=json.loads(public)["at"], **lie))


def test_a_stolen_log_stops_its_writer(database: PostgresDatabase) -> None:
    """Whoever appends to another writer's log is noticed by that writer at its next batch, which is not written."""
    victim, thief = database.opened[0], database.open()
    thief._head = victim._head
    append(thief)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="look into it"):
            append(victim)


def test_owner_and_superuser_meet_the_guards(database: PostgresDatabase) -> None:
    """Even whoever owns the tables is stopped by triggers, until they take them away; bodies may only be emptied."""
    with database.server.admin(database.name) as session:
        for statement in (
            "UPDATE policy_engine.entries SET public = ''",
            "DELETE FROM policy_engine.entries WHERE seq = 0",
            "TRUNCATE policy_engine.entries",
            "INSERT INTO policy_engine.entries SELECT * FROM policy_engine.entries"
            " ON CONFLICT (log_id, seq) DO UPDATE SET public = ''",
            "UPDATE policy_engine.batches SET hash = ''",
            "DELETE FROM policy_engine.batches",
            "TRUNCATE policy_engine.batches CASCADE",
            "UPDATE policy_engine.bodies SET sealed = 'x'",
            "UPDATE policy_engine.bodies SET sealed = ''",
            "DELETE FROM policy_engine.bodies",
            "TRUNCATE policy_engine.bodies",
            "UPDATE policy_engine.tags SET seq = 9",
            "DELETE FROM policy_engine.tags",
            "TRUNCATE policy_engine.tags",
            "UPDATE policy_engine.state SET epoch = epoch - 1",
            "DELETE FROM policy_engine.state",
            "INSERT INTO policy_engine.state SELECT 2, epoch, release, facts_revision, sample FROM policy_engine.state",
            "UPDATE policy_engine.heads SET next_seq = 0",
            "DELETE FROM policy_engine.heads",
            "DELETE FROM policy_engine.switches",
            "TRUNCATE policy_engine.switches",
        ):
            with pytest.raises(psycopg.errors.IntegrityError):
                session.execute(statement)  # type: ignore[arg-type]  # our own text
        with session.transaction(force_rollback=True):
            session.execute("UPDATE policy_engine.bodies SET sealed = '', tags = ''")
            session.execute("DELETE FROM policy_engine.tags")


def test_holding_the_lock_of_the_fence(database: PostgresDatabase) -> None:
    """Whoever may connect can hold the lock: then nothing is allowed and nothing hangs, and afterwards it goes on."""
    store = PostgresStore(database.writer, VAULT, limits=replace(LIMITS, answer_seconds=0.3))
    with login(database, "pe_auditor") as session:
        session.execute("SELECT pg_advisory_lock(28773, 1)")
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            append(store)
    assert append(store).seqs == (0, 1)
    store.close()
