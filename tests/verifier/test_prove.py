"""Making a proof: what the store holds is checked first, and a store that holds anything else gives no proof."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from policy_engine.errors import NotFound, VerificationFailed
from policy_engine.ledger.leaves import parse_leaf
from policy_engine.ledger.merkle import leaf_hash
from policy_engine.ledger.prooffile import parse_proof
from policy_engine.ledger.tiles import TILE_HASHES
from policy_engine.services.prove import prove
from policy_engine.store.interfaces import StoredEntry
from policy_engine.store.treeinterfaces import StoredCheckpoint, StoredLeaf, TreeState
from tests.verifier import honest

MADE = honest.make(51, 150, batch_max=16)


@dataclass
class Shelf:
    """A store in memory that holds an honest log, and whatever a test changes in it."""

    made: honest.Honest
    tiles: bool = True
    newest: bool = True

    def tree_state(self) -> TreeState:
        """Return the row about the tree."""
        size = len(self.made.leaves)
        return TreeState(size, honest.ORIGIN, self.made.key, size, 0)

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the newest checkpoint."""
        return StoredCheckpoint(len(self.made.leaves), self.made.note(), 0) if self.newest else None

    def tile(self, level: int, number: int) -> bytes | None:
        """Return a tile."""
        if level or not self.tiles:
            return None
        hashes = [leaf_hash(leaf) for leaf in self.made.leaves]
        return b"".join(hashes[number * TILE_HASHES : (number + 1) * TILE_HASHES])

    def leaf_of(self, log_id: str, seq: int) -> StoredLeaf | None:
        """Return the leaf of the batch that holds an entry."""
        for number, data in enumerate(self.made.leaves):
            leaf = parse_leaf(data)
            if leaf.log_id == log_id and hasattr(leaf, "first") and leaf.first <= seq < leaf.first + leaf.n:
                return StoredLeaf(number, log_id, leaf.batch, data)
        return None

    def entry(self, log_id: str, seq: int) -> StoredEntry | None:
        """Return one entry."""
        entries = self.made.logs[log_id].entries
        if not 0 <= seq < len(entries) or not entries[seq]:
            return None
        return StoredEntry(log_id, seq, entries[seq], leaf_hash(entries[seq]), None, None, None)


def verified(file: Path, *arguments: str) -> tuple[int, str]:
    """Return the exit code of the program, run as an auditor runs it, and what it said."""
    command = [sys.executable, "-m", "policy_engine_verify", str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_entry_has_a_proof(tmp_path: Path) -> None:
    """Each proof is a file that the program accepts, says which entry it is, and warns when the key came with it."""
    log = max(MADE.logs.values(), key=lambda log: len(log.entries))
    for seq in range(0, len(log.entries), 23):
        (tmp_path / "p").write_bytes(prove(Shelf(MADE), log.id, seq).file)  # type: ignore[arg-type]  # what is used of it
        code, said = verified(tmp_path / "p", "--key", MADE.key)
        assert code == 0 and f"entry {seq} of log {log.id}" in said and said.endswith("VERIFIED.\n")
        assert json.loads(log.entries[seq])["id"] in said and "nobody vouched" not in said
    assert "nobody vouched" in verified(tmp_path / "p")[1]
    stranger = str(honest.signer("elsewhere.example").key)
    assert verified(tmp_path / "p", "--key", stranger)[0] == 6
    assert verified(tmp_path / "p", "--key", MADE.key, "--witness", MADE.witness_key)[0] == 0
    for asked in (("--since", str(tmp_path / "p")), ("--complete",), ("--replay",)):
        code, said = verified(tmp_path / "p", "--key", MADE.key, *asked)
        assert code == 6 and "need a bundle" in said


def test_a_proof_of_something_else(tmp_path: Path) -> None:
    """Another entry, another header, another path or more members in the extra data is refused."""
    log = max(MADE.logs.values(), key=lambda log: len(log.entries))
    seq = next(header.first for header in log.headers[1:] if header.n > 3)
    proved = prove(Shelf(MADE), log.id, seq)  # type: ignore[arg-type]  # what is used of it
    file = parse_proof(proved.file)
    extra = json.loads(file.extra or b"")
    changed = [
        {"entry": log.entries[seq + 1].decode()},
        {"entry": log.entries[seq].decode().replace('"v":1}', '"v":1,"w":0}')},
        {"header": log.headers[0].encode().decode()},
        {"header": MADE.leaves[0].decode()},
        {"path": extra["path"][:-1]},
        {"path": [*extra["path"], extra["path"][0]]},
        {"v": 2},
        {"more": 1},
    ]
    for change in changed:
        (tmp_path / "p").write_bytes(replace(file, extra=honest.canonical({**extra, **change})).format())
        code, said = verified(tmp_path / "p", "--key", MADE.key)
        assert (code, said.count("\n")) == (6, 1), change
    (tmp_path / "p").write_bytes(replace(file, extra=None).format())
    assert verified(tmp_path / "p", "--key", MADE.key)[0] == 6


def test_a_store_that_holds_something_else() -> None:
    """A changed entry, a missing one, missing tiles and a missing checkpoint are each said in one sentence."""
    log = max(MADE.logs.values(), key=lambda log: len(log.entries))
    for damage, error, word in (
        (lambda made: made.logs[log.id].entries.__setitem__(0, b'{"v":1}'), VerificationFailed, "not those"),
        (lambda made: made.logs[log.id].entries.__setitem__(0, b""), VerificationFailed, "is missing"),
    ):
        made = MADE.copy()
        damage(made)
        with pytest.raises(error, match=word):
            prove(Shelf(made), log.id, 0)  # type: ignore[arg-type]  # what is used of it
    with pytest.raises(VerificationFailed, match="tiles"):
        prove(Shelf(MADE, tiles=False), log.id, 0)  # type: ignore[arg-type]  # what is used of it
    with pytest.raises(NotFound, match="not in the tree"):
        prove(Shelf(MADE, newest=False), log.id, 0)  # type: ignore[arg-type]  # what is used of it
