"""Clients that race, two processes on one record, kill -9 at every point: never two trees, never a lost promise."""

from __future__ import annotations

import http.client
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from policy_engine.ledger.checkpoint import open_checkpoint
from policy_engine.ledger.note import parse_key
from policy_engine.ledger.witnessing import read_cosignature, read_size
from policy_engine_witness.record import Record
from tests.witness.witnessed import LOG, ORIGIN, Running, Tree, configure, running

KILLED_BEFORE_COMMIT = """
import os, signal
import policy_engine_witness.record as record
really = record.grew
def dying(old_size, *rest):
    if old_size:
        os.kill(os.getpid(), signal.SIGKILL)
    return really(old_size, *rest)
record.grew = dying
"""
KILLED_BEFORE_ANSWER = """
import os, signal
import policy_engine_witness.record as record
really = record.Record.advance
def dying(self, request, *rest):
    line = really(self, request, *rest)
    if request.old_size:
        os.kill(os.getpid(), signal.SIGKILL)
    return line
record.Record.advance = dying
"""
DEAD = (OSError, http.client.HTTPException)


def race(witnesses: list[Running], trees: list[Tree], old: int) -> list[Tree]:
    """Submit all trees at once, each to one of the witnesses; return those that were cosigned."""
    ready = threading.Barrier(len(trees))

    def submit(place: int) -> int:
        body = trees[place].submission(old)
        ready.wait()
        return witnesses[place % len(witnesses)].add(body)[0]

    with ThreadPoolExecutor(len(trees)) as pool:
        statuses = list(pool.map(submit, range(len(trees))))
    assert set(statuses) <= {200, 409}
    return [tree for tree, status in zip(trees, statuses, strict=True) if status == 200]


@pytest.mark.parametrize("processes", [1, 2])
def test_of_two_histories_that_race_one_is_cosigned(tmp_path: Path, processes: int) -> None:
    """Clients that submit a tree and its fork at once never both get a cosignature, in one process or in two."""
    configure(tmp_path)
    with running(tmp_path) as one, running(tmp_path) as two:
        witnesses = [one, two][:processes]
        tree = Tree.of(3)
        assert one.add(tree.submission(0))[0] == 200
        for _ in range(15):
            size = tree.size
            rivals = [tree.grown(2), tree.forked(size, 2), tree.grown(5, "third"), tree.forked(size, 7)]
            cosigned = race(witnesses, rivals, size)
            assert len(cosigned) == 1
            tree = cosigned[0]
        assert tree.checkpoint().text().encode() in two.newest()[2]


def test_the_same_checkpoint_from_two_clients_is_cosigned_twice_or_conflicts(tmp_path: Path) -> None:
    """Two replicas that submit one checkpoint do each other no harm: the slower one is told the size and asks again."""
    configure(tmp_path)
    with running(tmp_path) as witness:
        assert witness.add(Tree.of(3).submission(0))[0] == 200
        tree = Tree.of(9)
        assert len(race([witness], [tree, tree], 3)) == 1
        assert len(race([witness], [tree, tree], 9)) == 2


def test_killed_before_the_commit_it_has_promised_nothing(tmp_path: Path) -> None:
    """A witness that dies over the proof is at its old record, and cosigns either history when it is back."""
    configure(tmp_path)
    with running(tmp_path, program=KILLED_BEFORE_COMMIT) as witness:
        assert witness.add(Tree.of(3).submission(0))[0] == 200
        with pytest.raises(DEAD):
            witness.add(Tree.of(9).submission(3))
        assert witness.process.wait(timeout=20) == -9
    with running(tmp_path) as witness:
        assert witness.add(Tree.of(9).forked(3, 6).submission(3))[0] == 200


def test_killed_between_commit_and_answer_it_keeps_its_word(tmp_path: Path) -> None:
    """What was committed stays although nobody heard of it: no other history is cosigned, and the log can ask again."""
    key = parse_key(configure(tmp_path))
    tree = Tree.of(9)
    with running(tmp_path, program=KILLED_BEFORE_ANSWER) as witness:
        assert witness.add(Tree.of(3).submission(0))[0] == 200
        with pytest.raises(DEAD):
            witness.add(tree.submission(3))
        assert witness.process.wait(timeout=20) == -9
    with running(tmp_path) as witness:
        status, _, body = witness.add(tree.submission(3))
        assert (status, read_size(body)) == (409, 9)
        assert witness.add(tree.forked(3, 6).submission(9))[0] == 409
        assert witness.add(tree.forked(3, 8).submission(9))[0] == 422
        status, _, body = witness.add(tree.submission(9))
        assert status == 200
        read_cosignature(body, tree.checkpoint().text(), key)
        open_checkpoint(witness.newest()[2], ORIGIN, [LOG.key], [key], quorum=1)


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))
"""


def test_a_full_disk_gets_no_cosignature(tmp_path: Path) -> None:
    """A record that cannot be written is 503, stays what it was, and grows on when there is room again."""
    configure(tmp_path)
    with running(tmp_path) as witness:
        assert witness.add(Tree.of(3).submission(0))[0] == 200
    with running(tmp_path, program=FULL) as witness:
        status, _, body = witness.add(Tree.of(9).submission(3))
        assert (status, "—" in body.decode()) == (503, False)
        assert Tree.of(3).checkpoint().text().encode() in witness.newest()[2]
        assert witness.add(Tree.of(9).submission(9))[0] == 409
    with running(tmp_path) as witness:
        assert witness.add(Tree.of(9).forked(3, 6).submission(3))[0] == 200


def test_a_commit_is_synced_with_its_directory(tmp_path: Path) -> None:
    """Every connection to the record syncs the file, its journal and the journal's removal before it returns."""
    with Record(tmp_path / "witness.db")._connected() as connection:
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    assert (synchronous, journal) == (3, "delete")


@pytest.mark.parametrize("lives", [20, pytest.param(300, marks=pytest.mark.nightly)])
def test_killed_at_any_moment_it_never_cosigns_two_histories(tmp_path: Path, lives: int) -> None:
    """Lives that end by kill -9 under load: whatever was ever cosigned is one growing tree."""
    configure(tmp_path)
    moments = random.Random(4)
    cosigned: list[Tree] = []
    for _ in range(lives):
        with running(tmp_path) as witness:
            killer = threading.Timer(moments.uniform(0.0, 0.08), witness.kill)
            _advance(witness, cosigned, moments)
            killer.start()
            until = time.monotonic() + 20
            while witness.process.poll() is None and time.monotonic() < until:
                _advance(witness, cosigned, moments)
            killer.join()
    assert len(cosigned) >= lives
    trees = sorted(cosigned, key=lambda tree: tree.size)
    for older, newer in pairwise(trees):
        assert newer.leaves[: older.size] == older.leaves


def _advance(witness: Running, cosigned: list[Tree], moments: random.Random) -> None:
    """Submit one of two histories on top of what the witness says it has, as a log that cheats would."""
    last = cosigned[-1] if cosigned else Tree()
    try:
        for tree in (last.grown(moments.randint(1, 5)), last.forked(max(0, last.size - 1), 4)):
            status, _, body = witness.add(tree.submission(last.size))
            if status == 409 and read_size(body) == tree.size:  # it was committed, and the answer was lost
                status, _, body = witness.add(tree.submission(tree.size))
            if status == 200:
                cosigned.append(tree)
                return
    except DEAD:
        return
