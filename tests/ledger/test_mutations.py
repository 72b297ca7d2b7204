"""Spoiled evidence: whatever is still accepted says exactly what was said before; thousands here, the rest nightly.

Each campaign has its own oracle: the set of statements that are true, made by the twin. A proof is judged against the
size *and* root of a checkpoint, which are signed together: RFC 9162's algorithm does not tell a size from another one
with the same path, so a size is never changed without its root.
"""

from __future__ import annotations

import json
from random import Random

import pytest

from policy_engine.errors import VerificationFailed
from policy_engine.ledger.chain import Logs
from policy_engine.ledger.checkpoint import open_checkpoint
from policy_engine.ledger.compact import CompactRange
from policy_engine.ledger.merkle import leaf_hash
from policy_engine.ledger.note import parse_key
from policy_engine.ledger.prooffile import check_proof
from policy_engine.ledger.proofs import check_consistency, check_inclusion
from policy_engine.ledger.receipts import check_receipt, parse_receipt
from tests.ledger import twin
from tests.ledger.mutations import spoil_bytes, spoil_hashes
from tests.ledger.vectors import make_vectors

ROUNDS = [3_000, pytest.param(150_000, marks=pytest.mark.nightly)]
SIZE = 40
LEAVES = make_vectors.LEAVES
TREE = [twin.mth(LEAVES[:size]) for size in range(SIZE + 1)]
FORKED_LEAVES = [*LEAVES[:20], *(twin.leaf(f"other {number}".encode()) for number in range(20))]
FORK = [twin.mth(FORKED_LEAVES[:size]) for size in range(SIZE + 1)]
NODES = [*LEAVES[:SIZE], *TREE, *FORK]

VECTORS = make_vectors.notes()
ORIGIN, LOG_KEYS = VECTORS["origin"], [parse_key(VECTORS["log_key"])]
WITNESSES = [parse_key(text) for text in VECTORS["witness_keys"]]
NOTES = [case["note"].encode() for case in VECTORS["checkpoints"]]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_spoiled_inclusion_proofs(rounds: int) -> None:
    """No leaf is accepted at a place where it is not, and none with another proof than its one path."""
    random, accepted = Random(1), 0
    for _ in range(rounds):
        size = random.randint(1, SIZE)
        index = true_index = random.randrange(size)
        leaf, proof, root = LEAVES[index], twin.path(index, LEAVES[:size]), TREE[size]
        for _ in range(random.randint(1, 2)):
            way = random.randrange(6)
            if way < 3:
                proof = spoil_hashes(proof, random, NODES)
            elif way == 3:
                index = random.choice((true_index ^ 1, random.randrange(size + 1), random.randint(-1, 2 * size)))
            elif way == 4:
                leaf = random.choice(NODES)
            else:
                size = random.randint(0, SIZE)
                root = random.choice((TREE, FORK))[size]
        try:
            check_inclusion(leaf, index, size, proof, root)
        except VerificationFailed:
            continue
        accepted += 1
        leaves = LEAVES if root == TREE[size] else FORKED_LEAVES
        assert (leaf, list(proof)) == (leaves[index], twin.path(index, leaves[:size]))
    assert accepted < rounds / 5  # changes that change nothing, such as swapping a hash with itself


@pytest.mark.parametrize("rounds", ROUNDS)
def test_spoiled_consistency_proofs(rounds: int) -> None:
    """No tree is accepted as the beginning of one that it does not begin, and none with another proof than the one."""
    random, accepted = Random(2), 0
    for _ in range(rounds):
        size = random.randint(1, SIZE)
        old = random.randint(1, size)
        proof = twin.proof(old, LEAVES[:size])
        old_root, root = TREE[old], TREE[size]
        for _ in range(random.randint(1, 2)):
            way = random.randrange(6)
            if way < 4:
                proof = spoil_hashes(proof, random, NODES)
            elif way == 4:
                old = random.randint(0, SIZE)
                old_root = random.choice((TREE, FORK))[old]
            else:
                size = random.randint(0, SIZE)
                root = random.choice((TREE, FORK))[size]
        try:
            check_consistency(old, size, proof, old_root, root)
        except VerificationFailed:
            continue
        accepted += 1
        leaves = LEAVES if root == TREE[size] else FORKED_LEAVES
        assert (old_root, list(proof)) == (twin.mth(leaves[:old]), twin.proof(old, leaves[:size]))
    assert accepted < rounds / 5


@pytest.mark.parametrize("rounds", ROUNDS)
def test_spoiled_checkpoints(rounds: int) -> None:
    """A spoiled checkpoint that opens has a text that the log signed, and cosignatures that witnesses made of it."""
    random, accepted = Random(3), 0
    cosigned = {
        (note.decode().split("\n\n")[0], name, time)
        for case, note in zip(VECTORS["checkpoints"], NOTES, strict=True)
        for name, time in case["cosigned"]
    }
    texts = {note.decode().split("\n\n")[0] for note in NOTES}
    for _ in range(rounds):
        data = random.choice(NOTES)
        for _ in range(random.randint(1, 2)):
            data = spoil_bytes(data, random, NOTES) or b"\n"
        try:
            opened = open_checkpoint(data, ORIGIN, LOG_KEYS, WITNESSES)
        except VerificationFailed:
            continue
        accepted += 1
        text = opened.checkpoint.text().removesuffix("\n")
        assert text in texts
        assert {(text, seen.cosigner.name, seen.time_seconds) for seen in opened.cosignatures} <= cosigned
    assert accepted < rounds / 2  # lines of strangers and whole cosignatures may come and go


@pytest.mark.parametrize("rounds", ROUNDS)
def test_spoiled_proof_files(rounds: int) -> None:
    """A spoiled proof file that is accepted shows the same leaf at the same index of the same tree."""
    random, accepted = Random(4), 0
    case = VECTORS["proof_file"]
    data, leaf = case["text"].encode(), case["leaf"].encode()
    others = [data, *NOTES]
    for _ in range(rounds):
        spoiled = spoil_bytes(data, random, others)
        try:
            index, opened = check_proof(spoiled, leaf, ORIGIN, LOG_KEYS, WITNESSES)
        except VerificationFailed:
            continue
        accepted += 1
        assert (index, opened.checkpoint.size, opened.checkpoint.root) == (5, 11, TREE[11])
    assert accepted < rounds / 2  # the extra data is nobody's word, and a cosignature may be cut off


@pytest.mark.parametrize("rounds", ROUNDS)
def test_spoiled_receipts(rounds: int) -> None:
    """A spoiled receipt that is accepted promises the same entry of the same batch, for no longer than was signed."""
    random, accepted = Random(5), 0
    case = make_vectors.log()
    data, keys, leaves = case["receipt"].encode(), [parse_key(case["writer_key"])], case["leaves"]
    leaf = leaf_hash(case["receipt_entry"].encode())
    members = json.loads(data)
    for _ in range(rounds):
        if random.randrange(2):
            spoiled = spoil_bytes(data, random, [data])
        else:
            name = random.choice(("seq", "valid_for_ms", "note", "leaf"))
            value = members[name]
            if isinstance(value, int):
                value += random.choice((-2, -1, 1, 600, 10_000))
            else:
                value = spoil_bytes(value.encode(), random, NOTES).decode(errors="replace")
            spoiled = make_vectors.dumps({**members, name: value}).encode()
        try:
            checked = check_receipt(parse_receipt(spoiled), keys)
        except VerificationFailed:
            continue
        accepted += 1
        assert (checked.header_bytes.decode(), checked.seq, checked.leaf) == (leaves[1], 1, leaf)
        assert 0 <= checked.valid_for_ms <= 2_000
    assert accepted < rounds / 3


@pytest.mark.parametrize("rounds", ROUNDS)
def test_spoiled_logs(rounds: int) -> None:
    """A spoiled run of leaves is refused by the chain, or its root is not the one that was signed."""
    random, refused = Random(6), 0
    case = make_vectors.log()
    honest = [leaf.encode() for leaf in case["leaves"]]
    others = [leaf.encode() for follower in case["may_not_follow"] for leaf in (*follower["after"], follower["leaf"])]
    for _ in range(rounds):
        leaves = list(honest)
        one, two = random.randrange(len(leaves)), random.randrange(len(leaves))
        way = random.randrange(5)
        if way == 0:
            leaves[one] = spoil_bytes(leaves[one], random, others)
        elif way == 1:
            del leaves[one]
        elif way == 2:
            leaves.insert(two, leaves[one])
        elif way == 3:
            leaves[one], leaves[two] = leaves[two], leaves[one]
        else:
            leaves[one] = random.choice(others)
        logs, tree = Logs(), CompactRange()
        try:
            for leaf in leaves:
                logs.add(leaf)
                tree.append(leaf_hash(leaf))
        except VerificationFailed:
            refused += 1
            continue
        assert leaves == honest or (tree.end, tree.root().hex()) != (len(honest), case["roots"][-1])
    assert refused > rounds / 2
