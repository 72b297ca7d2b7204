"""Whatever is submitted in whatever order, the witness cosigns what a naive model would: trees of which each grew."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from policy_engine.ledger.checkpoint import open_checkpoint
from policy_engine.ledger.note import parse_key
from policy_engine_witness.notes import Cosigner, Refused, read_key
from policy_engine_witness.record import Record
from policy_engine_witness.server import Witness
from tests.witness.witnessed import LOG, NAME, OTHER, Tree

COSIGNER = Cosigner(NAME, bytes(range(32)))
LOGS = {signer.key.name: [read_key(str(signer.key))] for signer in (LOG, OTHER)}


@dataclass(slots=True)
class Seen:
    """The naive model of one log: every leaf of the last cosigned tree, and all trees before it."""

    leaves: list[bytes] = field(default_factory=list)
    cosigned: list[list[bytes]] = field(default_factory=list)

    def status(self, tree: Tree, old: int, honest: bool) -> int:
        """Return what must be answered: whole lists of leaves are compared, no proof is read."""
        if old > tree.size:
            return 400
        if old != len(self.leaves) or (old == tree.size and tree.leaves != self.leaves):
            return 409
        return 200 if honest and tree.leaves[:old] == self.leaves else 422


class WitnessAndModel(RuleBasedStateMachine):
    """Histories of one log that branch anywhere, submitted with honest, wrong and stolen proofs."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="witness-model-")
        self.trees = {LOG.key.name: [Tree()], OTHER.key.name: [Tree(OTHER)]}
        self.seen = {origin: Seen() for origin in self.trees}
        self.restart()

    def teardown(self) -> None:
        """Take the record away."""
        self.folder.cleanup()

    @rule()
    def restart(self) -> None:
        """A witness that was started again knows what it knew."""
        self.witness = Witness(LOGS, COSIGNER, Record(Path(self.folder.name) / "witness.db"))

    @rule(which=st.sampled_from(tuple(LOGS)), data=st.data(), more=st.integers(0, 6), keep=st.integers(0, 40))
    def branch(self, which: str, data: st.DataObject, more: int, keep: int) -> None:
        """A history of the log: one that is there, cut somewhere, and other leaves behind it."""
        trees = self.trees[which]
        tree = data.draw(st.sampled_from(trees))
        trees.append(Tree(tree.signer, tree.leaves[:keep]).grown(more, f"history {len(trees)}"))

    @rule(which=st.sampled_from(tuple(LOGS)), data=st.data(), kind=st.sampled_from(("honest", "known", "old", "proof")))
    def submit(self, which: str, data: st.DataObject, kind: str) -> None:
        """A submission that is honest about its own history, names any old size, or brings another proof."""
        tree = data.draw(st.sampled_from(self.trees[which]))
        seen = self.seen[which]
        old, honest, proof = min(len(seen.leaves), tree.size), True, None
        if kind == "old":
            old = data.draw(st.integers(0, 50))
        elif kind == "known":
            old = len(seen.leaves)
        if old > tree.size:
            proof = []
        if kind == "proof":
            proof = data.draw(st.lists(st.sampled_from([*tree.leaves, bytes(32)]), max_size=6))
            honest = proof == tree.proof(old)
        expected = seen.status(tree, old, honest)
        assert self.ask(tree.submission(old, proof)) == expected
        if expected == 200:
            seen.leaves = tree.leaves
            seen.cosigned.append(tree.leaves)

    def ask(self, body: bytes) -> int:
        """Return the status of an answer."""
        try:
            self.witness.add_checkpoint(body)
        except Refused as refused:
            return refused.status
        return 200

    @invariant()
    def every_cosigned_tree_begins_with_the_one_before(self) -> None:
        """The law: what was cosigned is one history, each tree the beginning of the next."""
        for seen in self.seen.values():
            for older, newer in pairwise(seen.cosigned):
                assert newer[: len(older)] == older

    @invariant()
    def the_record_is_the_last_cosigned_tree(self) -> None:
        """The record that anybody can fetch is what was cosigned last."""
        for (origin, seen), signer in zip(self.seen.items(), (LOG, OTHER), strict=True):
            note = self.witness._record.newest(origin)
            if note is None:
                assert not seen.cosigned
                continue
            opened = open_checkpoint(note, origin, [signer.key], [parse_key(str(COSIGNER.key))], quorum=1)
            assert opened.checkpoint == Tree(signer, seen.leaves).checkpoint()


TestWitnessAndModel = WitnessAndModel.TestCase
TestWitnessAndModel.settings = settings(stateful_step_count=25)
