"""Offering checkpoints: what is kept, who is believed, what stops the engine, and that nobody is delayed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from policy_engine.errors import LogForked, StoreUnavailable
from policy_engine.ledger.checkpoint import open_checkpoint
from policy_engine.ledger.compact import CompactRange
from policy_engine.ledger.note import VerifierKey, parse_key
from policy_engine.ledger.tiles import TILE_HASHES
from policy_engine.limits import LIMITS
from policy_engine.services.witness import OwnLog, Witnesses
from policy_engine.services.witnessclient import WitnessAddress
from policy_engine.store.treeinterfaces import StoredCheckpoint, TreeState
from tests.witness.test_client import KEY, head, request_of, server
from tests.witness.witnessed import LOG, ORIGIN, Running, Tree, configure, running

QUICK = replace(LIMITS, witness_seconds=1.0, witness_check_seconds=0.3, witness_retry_seconds=0.2)


class Held:
    """A database in memory: a tree with its tiles, and the cosignatures that were kept."""

    def __init__(self, tree: Tree) -> None:
        self.lines: dict[int, str] = {}
        self.away = False
        self.become(tree)

    def become(self, tree: Tree) -> None:
        """Hold another tree: grown, restored from a backup, or recomputed by whoever has the key."""
        tiles: dict[tuple[int, int], bytes] = {}

        def keep(level: int, index: int, hash: bytes) -> None:
            if level % 8 == 0:
                place = (level // 8, index // TILE_HASHES)
                tiles[place] = tiles.get(place, b"") + hash

        CompactRange().extend(tree.leaves, keep)
        self.tree, self.tiles = tree, tiles

    def tree_state(self) -> TreeState:
        """Return the row about the tree."""
        return TreeState(self.tree.size, ORIGIN, str(LOG.key), 0, 0)

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the newest checkpoint with what was kept."""
        if self.away:
            raise StoreUnavailable("the database is away")
        if not self.tree.size:
            return None
        lines = self.lines.get(self.tree.size, "")
        return StoredCheckpoint(self.tree.size, self.tree.note() + lines.encode(), 0)

    def tile(self, level: int, number: int) -> bytes | None:
        """Return a tile."""
        return self.tiles.get((level, number))

    def keep(self, size: int, cosigner: str, line: str) -> None:
        """Keep a line; a second one for the same checkpoint and witness would be a fault of the caller."""
        assert line not in self.lines.get(size, "")
        self.lines[size] = self.lines.get(size, "") + line


@contextmanager
def offering(held: Held, *addresses: WitnessAddress) -> Iterator[tuple[Witnesses, list[LogForked]]]:
    """Run the witnesses of a database, with the words that were told against it."""
    told: list[LogForked] = []
    witnesses = Witnesses(addresses, OwnLog(held, held.keep), told.append, QUICK)
    try:
        yield witnesses, told
    finally:
        witnesses.close()


def eventually(question: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.01)


@contextmanager
def witnessed(folder: Path) -> Iterator[tuple[Running, WitnessAddress]]:
    """Run a real witness; its address with its key."""
    folder.mkdir(exist_ok=True)
    key = parse_key(configure(folder))
    with running(folder) as started:
        yield started, WitnessAddress(started.url + "/", key)


def grow(held: Held, witnesses: Witnesses, count: int) -> None:
    """Let the tree grow, and offer its checkpoint as the sequencer does."""
    held.become(held.tree.grown(count))
    newest = held.checkpoint()
    assert newest is not None
    witnesses.offer(newest)


def test_every_checkpoint_gets_the_cosignatures_of_all(tmp_path: Path) -> None:
    """Two real witnesses cosign as the tree grows across tiles; what is kept makes a quorum of two."""
    held = Held(Tree.of(3))
    with witnessed(tmp_path / "a") as (_, one), witnessed(tmp_path / "b") as (_, two):
        two = WitnessAddress(two.url, parse_key(str(two.key)))
        with offering(held, one, two) as (witnesses, told):
            for count in (0, 5, 300, 1, 1):
                grow(held, witnesses, count)
                eventually(lambda: all(state.size == held.tree.size for state in witnesses.states()))
                keys: list[VerifierKey] = [one.key, two.key]
                note = held.checkpoint()
                assert note is not None
                assert len(open_checkpoint(note.note, ORIGIN, [LOG.key], keys, 2).cosignatures) == 2
    assert told == [] and witnesses.fork is None
    assert [state.problem for state in witnesses.states()] == ["", ""]


def test_what_is_cosigned_already_is_not_kept_twice(tmp_path: Path) -> None:
    """An idle log is looked at again and again; its checkpoint has one line of each witness."""
    held = Held(Tree.of(3))
    with witnessed(tmp_path) as (_, address), offering(held, address) as (witnesses, _told):
        eventually(lambda: held.lines)
        time.sleep(1.0)  # three looks
        assert held.lines[3].count("\n") == 1
        assert witnesses.states()[0].problem == ""


def test_a_log_without_a_checkpoint_is_offered_when_it_has_one(tmp_path: Path) -> None:
    """Before the first checkpoint there is nothing to ask; the first one is cosigned."""
    held = Held(Tree())
    with witnessed(tmp_path) as (_, address), offering(held, address) as (witnesses, _told):
        witnesses.await_first()
        assert (witnesses.states()[0].size, witnesses.states()[0].problem) == (0, "")
        grow(held, witnesses, 4)
        eventually(lambda: 4 in held.lines)


def test_a_witness_that_was_away_is_caught_up_with(tmp_path: Path) -> None:
    """Stopped and started again it gets the newest checkpoint; the trouble is shown while it lasts."""
    held = Held(Tree.of(3))
    with witnessed(tmp_path) as (started, address):
        port = started.port
        with offering(held, address) as (witnesses, told):
            eventually(lambda: 3 in held.lines)
            started.kill()
            grow(held, witnesses, 5)
            eventually(lambda: witnesses.states()[0].problem)
            with running(tmp_path, port=port):
                eventually(lambda: 8 in held.lines)
                eventually(lambda: not witnesses.states()[0].problem)
            assert told == []


def test_a_backup_restored_is_noticed(tmp_path: Path) -> None:
    """A database that is behind what the witness cosigned stops the engine before the first decision, with proof."""
    held = Held(Tree.of(9))
    with witnessed(tmp_path) as (_, address):
        with offering(held, address):
            eventually(lambda: 9 in held.lines)
        held.become(Tree.of(5))
        with offering(held, address) as (witnesses, told):
            witnesses.await_first()
            assert witnesses.fork is not None and told == [witnesses.fork]
            sentence = str(told[0])
            assert "shows, signed by our key, a larger tree" in sentence and "size 9" in sentence
            assert "size 5" in sentence and "right database" in sentence
            assert witnesses.states()[0].problem == sentence


def test_a_backup_that_grew_past_the_witness_is_noticed(tmp_path: Path) -> None:
    """Restored at 5 and gone on to 20 by itself: the tree that the witness saw at 9 does not begin it."""
    held = Held(Tree.of(9))
    with witnessed(tmp_path) as (_, address):
        with offering(held, address):
            eventually(lambda: 9 in held.lines)
        held.become(Tree.of(9).forked(5, 15))
        with offering(held, address) as (witnesses, told):
            witnesses.await_first()
            assert len(told) == 1 and "another tree, which ours does not continue" in str(told[0])


@pytest.mark.parametrize("size", [9, 12])
def test_everything_recomputed_with_the_stolen_key_is_noticed(tmp_path: Path, size: int) -> None:
    """Every leaf rewritten and every checkpoint signed anew by the log's own key: the witness does not go along."""
    held = Held(Tree.of(9))
    with witnessed(tmp_path) as (started, address):
        with offering(held, address):
            eventually(lambda: 9 in held.lines)
        held.become(Tree.of(size, "rewritten"))
        held.lines.clear()
        with offering(held, address) as (witnesses, told):
            witnesses.await_first()
            assert len(told) == 1 and "another tree" in str(told[0])
        assert held.lines == {}
        opened = open_checkpoint(started.newest()[2], ORIGIN, [LOG.key], [address.key], 1)
        assert opened.checkpoint == Tree.of(9).checkpoint()


def test_hashes_that_do_not_lead_to_our_own_checkpoint_stop_the_engine(tmp_path: Path) -> None:
    """A tile that was edited in the database is found before a wrong proof is sent."""
    held = Held(Tree.of(9))
    with witnessed(tmp_path) as (_, address), offering(held, address) as (witnesses, told):
        eventually(lambda: 9 in held.lines)
        held.become(held.tree.grown(4))
        held.tiles[0, 0] = held.tiles[0, 0][:64] + bytes(32) + held.tiles[0, 0][96:]
        newest = held.checkpoint()
        assert newest is not None
        witnesses.offer(newest)
        eventually(lambda: told)
        assert "stored hashes" in str(told[0])


def lying(answers: Callable[[bytes], bytes]) -> Callable[[socket.socket], None]:
    """Return a witness that answers by the first line of a request."""

    def talk(connection: socket.socket) -> None:
        while data := request_of(connection):
            connection.sendall(answers(data))

    return talk


def conflict(size: int) -> bytes:
    """Return an answer 409 with a size."""
    body = b"%d\n" % size
    return head(len(body), "409 Conflict", "Content-Type: text/x.tlog.size") + body


def test_a_witness_that_shows_nothing_is_believed_all_the_same() -> None:
    """Not every witness shows its record: its word for a larger tree stops the engine as well."""
    held = Held(Tree.of(9))
    talk = lying(lambda data: head(0, "404 Not Found") if data.startswith(b"GET") else conflict(40))
    with server(talk) as address, offering(held, address) as (witnesses, told):
        witnesses.await_first()
        assert len(told) == 1 and "says that it has seen a larger tree of size 40" in str(told[0])


def test_a_word_that_its_own_record_contradicts_is_not_believed() -> None:
    """A conflict about a tree that begins ours, and a record that is ours: a faulty witness, which stops nothing."""
    held = Held(Tree.of(9))
    own = Tree.of(6).note()
    for answer in (conflict(40), conflict(9), head(0, "422 Unprocessable Entity")):

        def answers(data: bytes, answer: bytes = answer) -> bytes:
            if data.startswith(b"GET"):
                return head(len(own)) + own
            return conflict(6) if b"\nold 0\n" in data and b" 422 " in answer else answer

        with server(lying(answers)) as address, offering(held, address) as (witnesses, told):
            witnesses.await_first()
            eventually(lambda: witnesses.states()[0].problem)
            time.sleep(0.4)
            assert (told, witnesses.fork) == ([], None)


@pytest.mark.parametrize(
    "answer",
    [
        head(0, "200 OK"),
        head(3) + b"ok\n",
        head(0, "403 Forbidden"),
        head(0, "404 Not Found"),
        head(0, "409 Conflict"),
        head(3, "409 Conflict", "Content-Type: text/x.tlog.size") + b"xx\n",
        head(0, "500 Internal Server Error"),
        head(0, "301 Moved Permanently", "Location: http://127.0.0.1:1/"),
        b"",
    ],
)
def test_an_answer_that_is_not_understood_stops_nothing(answer: bytes) -> None:
    """A refusal, rubbish, a redirect: the witness has a problem, which is shown; the engine goes on."""
    held = Held(Tree.of(9))
    with server(lying(lambda data: answer)) as address, offering(held, address) as (witnesses, told):
        witnesses.await_first()
        eventually(lambda: witnesses.states()[0].problem)
        assert (told, held.lines) == ([], {})


def test_a_witness_that_hangs_delays_nobody(tmp_path: Path) -> None:
    """Offering returns at once, the other witness cosigns, and closing does not wait."""
    held = Held(Tree.of(3))

    def hang(connection: socket.socket) -> None:
        connection.recv(1)
        connection.settimeout(20)
        while connection.recv(65_536):
            pass

    patient = replace(QUICK, witness_seconds=20.0)
    with server(hang) as stuck, witnessed(tmp_path) as (_, good):
        witnesses = Witnesses([replace(stuck, key=KEY), good], OwnLog(held, held.keep), print, patient)
        begun = time.monotonic()
        for _ in range(100):
            grow(held, witnesses, 1)
        assert time.monotonic() - begun < 2
        eventually(lambda: held.tree.size in held.lines)
        begun = time.monotonic()
        witnesses.await_first(0.2)
        assert 0.1 < time.monotonic() - begun < 2
        begun = time.monotonic()
        witnesses.await_last()
        witnesses.close()
        witnesses.close()
        assert time.monotonic() - begun < 5
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("witness-")]


def test_a_database_that_is_away_is_no_fork(tmp_path: Path) -> None:
    """Nothing can be offered while the database cannot be read; it goes on afterwards."""
    held = Held(Tree.of(3))
    with witnessed(tmp_path) as (_, address), offering(held, address) as (witnesses, told):
        eventually(lambda: 3 in held.lines)
        held.away = True
        eventually(lambda: "away" in witnesses.states()[0].problem)
        held.away = False
        grow(held, witnesses, 2)
        eventually(lambda: 5 in held.lines)
        assert told == []


def test_a_replica_that_keeps_nothing_is_warned_as_well(tmp_path: Path) -> None:
    """A process that does not integrate keeps no cosignature, and stops like the others when the tree is another."""
    held, told = Held(Tree.of(9)), list[LogForked]()
    with witnessed(tmp_path) as (_, address):
        for tree, count in ((Tree.of(9), 0), (Tree.of(5), 1)):
            held.become(tree)
            witnesses = Witnesses([address], OwnLog(held), told.append, QUICK)
            witnesses.await_first()
            witnesses.close()
            assert (len(told), held.lines) == (count, {})


def test_two_replicas_offer_without_harm(tmp_path: Path) -> None:
    """Two processes on one database, the slower one a checkpoint behind: no false alarm, whoever comes first."""
    held, behind = Held(Tree.of(3)), Held(Tree.of(3))
    with witnessed(tmp_path) as (_, address):
        with offering(held, address) as (first, told), offering(behind, address) as (second, told_too):
            for _ in range(20):
                held.become(held.tree.grown(3))
                behind.become(held.tree)
                for each in (first, second):
                    newest = held.checkpoint()
                    assert newest is not None
                    each.offer(newest)
                time.sleep(0.02)
            eventually(lambda: all(each.states()[0].size == held.tree.size for each in (first, second)))
        assert (told, told_too) == ([], [])
