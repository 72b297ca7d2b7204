"""PostgreSQL dies under load: what was acknowledged is in the log once, and nothing is allowed on an unknown outcome.

Killed are sessions in the middle of commits, the whole server (`stop -m immediate`, which is a crash of all its
processes), the replica's own process, and the line between them at any byte. Lost answers are made at the one statement
that matters: COMMIT.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from policy_engine.errors import StoreUnavailable
from policy_engine.ledger.encoding import parse_public
from policy_engine.store.interfaces import Committed, Moved
from policy_engine.store.pgsessions import Connection
from policy_engine.store.postgres import PostgresStore
from tests.attacks.cutting import CuttingLine
from tests.attacks.expending import draft, expendable_database, places
from tests.postgresql import Server, wait_until_up
from tests.store.samples import PostgresDatabase, Sample, put

ROOT = Path(__file__).parents[2]
WRITERS_COUNT = 3
BACKEND_KILLS_COUNTS = [15, pytest.param(40, marks=pytest.mark.campaign), pytest.param(400, marks=pytest.mark.nightly)]
CRASHES_COUNTS = [5, pytest.param(100, marks=pytest.mark.nightly)]
PROCESS_KILLS_COUNTS = [4, pytest.param(50, marks=pytest.mark.nightly)]
KILLED_DECISIONS_COUNTS = [60, pytest.param(1_500, marks=pytest.mark.nightly)]
CUTS_COUNTS = [15, pytest.param(40, marks=pytest.mark.campaign), pytest.param(400, marks=pytest.mark.nightly)]
SEED = 20_261

Tell = Callable[[str], None]


@pytest.fixture
def database() -> Iterator[PostgresDatabase]:
    """A database on a server that may be stopped; whatever happened to it, its logs verify."""
    with expendable_database() as made:
        yield made


@dataclass
class Load:
    """Writers that append until told to stop, and what they were told."""

    database: PostgresDatabase
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    refused: int = 0
    wrong: list[Exception] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        for _ in range(WRITERS_COUNT):
            self._threads.append(threading.Thread(target=self._write, args=(self.database.open(),)))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _write(self, store: PostgresStore) -> None:
        while not self._stop.is_set():
            try:
                drafts = [draft(store) for _ in range(3)]
                result = store.append(drafts, drafts[0].state)
            except StoreUnavailable:
                self.refused += 1
                time.sleep(0.005)
            except Exception as error:  # noqa: BLE001  whatever it is, the test reports it
                self.wrong.append(error)
                return
            else:
                if isinstance(result, Committed):
                    self.acknowledged += [(result.log_id, seq) for seq in result.seqs]

    def await_more(self, count: int = 6) -> None:
        """Wait until so many more entries were acknowledged: the writers work again."""
        wanted, until = len(self.acknowledged) + count, time.monotonic() + 30
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < until
            time.sleep(0.002)

    def line(self) -> str:
        """Return the figures as words."""
        return f"{len(self.acknowledged)} entries acknowledged, none lost or twice, {self.refused} batches refused"

    def check(self) -> None:
        """Compare what was acknowledged with what is there."""
        assert self.wrong == []
        there = places(self.database)
        assert len(there) == len(set(there))
        assert len(self.acknowledged) == len(set(self.acknowledged))
        assert set(self.acknowledged) <= set(there)


@pytest.mark.parametrize("kills", BACKEND_KILLS_COUNTS)
def test_sessions_killed_in_the_middle_of_commits(database: PostgresDatabase, kills: int, tell: Tell) -> None:
    """0 acknowledged entries lost, 0 twice, and writing goes on after each of the kills."""
    chance = random.Random(SEED)
    with Load(database) as load, database.server.admin(database.name) as session:
        load.await_more()
        for _ in range(kills):
            time.sleep(chance.random() * 0.01)
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'pe_writer' AND datname = current_database() AND state <> 'idle'"
            )
            load.await_more()
    load.check()
    if kills > 100:
        tell(f"PostgreSQL, sessions killed {kills} times: {load.line()}; seed {SEED}")


@pytest.mark.parametrize("crashes", CRASHES_COUNTS)
def test_a_server_that_crashes_and_comes_back(database: PostgresDatabase, crashes: int, tell: Tell) -> None:
    """After `stop -m immediate` and a start, everything acknowledged is there, and the same stores write again."""
    chance = random.Random(SEED)
    with Load(database) as load:
        for _ in range(crashes):
            load.await_more()
            time.sleep(chance.random() * 0.1)
            database.server.stop("immediate")
            before = load.refused
            time.sleep(0.1)
            assert load.refused > before
            database.server.start()
            wait_until_up(database.server)
        load.await_more()
    load.check()
    if crashes > 10:
        tell(f"PostgreSQL, immediate shutdown {crashes} times: {load.line()}; seed {SEED}")


@pytest.mark.parametrize("cuts", CUTS_COUNTS)
def test_a_line_that_is_cut_at_any_byte(database: PostgresDatabase, cuts: int, tell: Tell) -> None:
    """Connections end in the middle of a request, an answer or a commit: nothing acknowledged is lost or doubled."""
    chance = random.Random(SEED)
    assert database.server.folder is not None
    line = CuttingLine(database.server.folder)
    real, database.server = (
        database.server,
        replace(database.server, parts={**database.server.parts, "host": str(line.folder)}),
    )
    try:
        with Load(database) as load:
            database.server = real
            load.await_more()
            for _ in range(cuts):
                line.cut(chance.randrange(6_000))
                load.await_more()
            assert line.cuts >= cuts // 2
    finally:
        database.server = real
        line.close()
    load.check()
    if cuts > 100:
        tell(f"PostgreSQL, connections cut {line.cuts} times: {load.line()}; seed {SEED}")


@pytest.mark.parametrize("kills", PROCESS_KILLS_COUNTS)
def test_replicas_killed_with_kill_9(database: PostgresDatabase, kills: int, tell: Tell) -> None:
    """What a killed replica had acknowledged is in its log; the next replica begins one of its own."""
    chance = random.Random(SEED)
    told: list[tuple[str, int]] = []
    for _ in range(kills):
        command = [sys.executable, "-m", "tests.attacks.test_postgres_kills", database.writer]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as output:
            first = output.readline()
            time.sleep(0.05 + chance.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            lines = (first + output.read()).decode().split("\n")[:-1]
        process.wait()
        said = (line.split() for line in lines)
        told += [(words[0], int(words[1])) for words in said if len(words) == 2]  # longer ones are log lines
    there = places(database)
    assert len(told) == len(set(told)) > 0
    assert set(told) <= set(there)
    assert len({log for log, _ in told}) == kills
    if kills > 10:
        tell(f"PostgreSQL, replicas killed {kills} times: {len(told)} entries acknowledged, none lost; seed {SEED}")


class Broken:
    """A connection that breaks around the next COMMIT: before it is sent, or after it is done and before the answer."""

    def __init__(self, connection: Connection, *, after: bool) -> None:
        self._connection = connection
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, query: Any, parameters: Any = None) -> Any:
        """Run a statement; a COMMIT is lost or its answer is."""
        if query != "COMMIT":
            return self._connection.execute(query, parameters)
        if self._after:
            self._connection.execute(query)
        self._connection.close()
        raise psycopg.OperationalError("the connection was lost")


def break_commit(store: PostgresStore, *, after: bool, again: Callable[[], None] = lambda: None) -> None:
    """Let the store's next commit end without an answer, and do something before the store looks what became of it."""
    link = store._writer
    real = link.open

    def broken() -> Any:
        link.open = reconnect  # type: ignore[method-assign]  # for this one commit
        return Broken(real(), after=after)

    def reconnect() -> Connection:
        link.open = real  # type: ignore[method-assign]  # back to normal
        again()
        return real()

    link.open = broken  # type: ignore[method-assign]  # for this one commit


@pytest.mark.parametrize("after", [True, False])
def test_a_lost_answer_is_settled_by_reading_back(database: PostgresDatabase, after: bool) -> None:
    """A batch whose answer was lost is found by its number; one that never arrived is tried once more under it."""
    store = database.open()
    state = store.state()
    assert isinstance(store.append([draft(store)], state), Committed)
    break_commit(store, after=after)
    result = store.append([draft(store), draft(store)], state)
    assert isinstance(result, Committed)
    assert result.seqs == (1, 2)
    head = store.head()
    assert head is not None
    assert (head.next_seq, head.next_batch) == (3, 2)
    assert [seq for log, seq in sorted(places(database)) if log == store.log_id] == [0, 1, 2]


@pytest.mark.parametrize("after", [True, False])
def test_an_interrupt_between_a_commit_and_its_answer(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Whoever is interrupted there and goes on finds out what became of the batch, as with an answer that was lost."""
    store = database.open()
    state = store.state()
    connection = store._writer.open()
    execute = connection.execute

    def interrupted(query: Any, *more: Any) -> Any:
        if query != "COMMIT":
            return execute(query, *more)
        monkeypatch.undo()
        if after:
            execute(query)
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.append([draft(store)], state)
    result = store.append([draft(store)], state)
    assert isinstance(result, Committed)
    assert result.seqs == (1 if after else 0,)


def test_a_lost_commit_meets_a_change(database: PostgresDatabase) -> None:
    """A batch that is tried again is fenced again: a change that came between makes it stale, and it is not written."""
    store, other = database.open(), database.open()
    state = store.state()
    break_commit(store, after=False, again=lambda: other.change(put("switches", "stop", 0)) and None)
    result = store.append([draft(store)], state)
    assert isinstance(result, Moved)
    assert result.stale == {0: "epoch"}
    assert store.head() is None


def test_an_unknown_outcome_while_the_server_is_away(database: PostgresDatabase) -> None:
    """Nobody is told that it was written while nobody knows; when the server is back the log goes on behind it."""
    store = database.open()
    state = store.state()
    break_commit(store, after=True, again=lambda: database.server.stop("immediate"))
    with pytest.raises(StoreUnavailable):
        store.append([draft(store)], state)
    with pytest.raises(StoreUnavailable):
        store.append([Sample(state, instant=store.now(), until=2**62)], state)
    database.server.start()
    wait_until_up(database.server)
    result = store.append([draft(store)], state)
    assert isinstance(result, Committed)
    assert result.seqs == (1,)


def waiting(server: Server) -> int:
    """Wait for a session that waits for a standby, and return its process."""
    until = time.monotonic() + 20
    with server.admin() as session:
        while time.monotonic() < until:
            row = session.execute("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchone()
            if row is not None:
                return int(row[0])
            time.sleep(0.01)
    raise AssertionError("nobody waits for the standby")


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_wait_for_the_standby_that_is_given_up(database: PostgresDatabase, end: str) -> None:
    """A commit whose standby did not answer is not acknowledged, though the server committed it, until one has it."""
    server = database.server
    store = database.open()
    state = store.state()
    results: list[Any] = []

    def write() -> None:
        try:
            results.append(store.append([draft(store)], state))
        except StoreUnavailable as error:
            results.append(error)

    reload = "SELECT pg_reload_conf()"
    with server.admin() as session:
        session.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        session.execute(reload)
        time.sleep(0.3)
        thread = threading.Thread(target=write)
        try:
            thread.start()
            session.execute(f"SELECT {end}(%s)", (waiting(server),))  # type: ignore[arg-type]  # our own text
            if end == "pg_terminate_backend":
                waiting(server)  # the transaction behind which the store wants to read it back waits as well
                assert results == []
            else:
                thread.join(30)  # before nobody has to wait any more, which would be an answer as well
        finally:
            session.execute("ALTER SYSTEM RESET synchronous_standby_names")
            session.execute(reload)
            thread.join(30)
    (result,) = results
    if end == "pg_cancel_backend":
        assert isinstance(result, StoreUnavailable)
    else:
        assert isinstance(result, Committed)
    after = store.append([draft(store)], state)
    assert isinstance(after, Committed)
    assert after.seqs == (1,)


@pytest.mark.parametrize("decisions", KILLED_DECISIONS_COUNTS)
def test_no_allow_without_an_entry(compiled: Any, tmp_path: Path, decisions: int, tell: Tell) -> None:
    """Decisions of a whole engine while its sessions are killed: every allow that left is in the log."""
    from policy_engine.bootstrap import open_engine
    from policy_engine.core.decision import Request
    from policy_engine.core.facts import Location
    from policy_engine.services.permissions import LOCAL
    from policy_engine.settings import Settings
    from tests.conftest import POLICIES

    database = PostgresDatabase(None)
    settings = Settings(
        database=database.writer,
        operator_database=database.operator,  # type: ignore[arg-type]  # pydantic makes a secret of it
        policies=POLICIES,
        keys=tmp_path / "keys",
        sample_world="yes",
        serving_region="US",
    )
    engine = open_engine(settings, releases=compiled)
    request = Request("alice", "infer", "fable-5", "acme", Location("US"))
    allowed: list[str] = []
    denied = 0
    chance = random.Random(SEED)
    with database.server.admin(database.name) as session:
        for number in range(decisions):
            if number % 3 == 0:
                pid = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pe_writer'"
                threading.Timer(chance.random() * 0.004, session.execute, (pid,)).start()
            decision = engine.decider.decide(request, LOCAL)
            if decision.allowed:
                allowed.append(decision.id)
            else:
                denied += 1
        time.sleep(0.05)
    engine.close()
    with database.server.admin(database.name) as session:
        found = [parse_public(row[0]) for row in session.execute("SELECT public FROM policy_engine.entries")]
    written = [public["id"] for public in found if public["kind"] == "decision" and public["outcome"] == "allow"]
    assert set(allowed) <= set(written)
    assert len(written) == len(set(written))
    assert len(allowed) > 20
    database.drop()
    if decisions > 100:
        tell(f"PostgreSQL, {decisions} decisions while sessions are killed: {len(allowed)} allows, {denied} denied")


def main(url: str) -> None:
    """Append and say what was acknowledged, until killed."""
    from tests.store.samples import VAULT

    store = PostgresStore(url, VAULT)
    while True:
        one = draft(store)
        result = store.append([one, one], one.state)
        if isinstance(result, Committed):
            os.write(1, "".join(f"{result.log_id} {seq}\n" for seq in result.seqs).encode())


if __name__ == "__main__":
    main(sys.argv[1])
