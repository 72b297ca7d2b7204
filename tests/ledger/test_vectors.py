"""Known answers, published by others and made by the twin, put to the product."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine.ledger.chain import Logs
from policy_engine.ledger.checkpoint import Checkpoint, cosign, open_checkpoint, sign_checkpoint
from policy_engine.ledger.compact import CompactRange
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.note import COSIGNATURE, Ed25519Signer, open_note, parse_key, parse_signer, sign_note
from policy_engine.ledger.prooffile import check_proof, parse_proof
from policy_engine.ledger.proofs import (
    LeafNodes,
    check_consistency,
    check_inclusion,
    make_consistency,
    make_inclusion,
    make_root,
)
from policy_engine.ledger.receipts import check_receipt, parse_receipt
from policy_engine.ledger.refusals import EvidenceRefused
from tests.ledger.vectors import make_vectors

FOLDER = Path(__file__).resolve().parent / "vectors"


def load(name: str) -> Any:
    """Read a vector file."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


PUBLISHED, TREES, NOTES, LOG = load("published"), load("trees"), load("notes"), load("log")
LEAVES = [leaf_hash(f"leaf {number}".encode()) for number in range(70)]


def hashes(texts: list[str]) -> list[bytes]:
    """Read hex."""
    return [bytes.fromhex(text) for text in texts]


@pytest.mark.parametrize("name", make_vectors.made())
def test_vectors_are_made_again_byte_for_byte(name: str) -> None:
    """Every self-made file is what its maker makes, so its making is described by a program that runs."""
    assert make_vectors.made()[name] == (FOLDER / name).read_text(encoding="utf-8")


def test_published_tree() -> None:
    """All three ways to a root give the roots published for the Certificate Transparency leaves."""
    leaves = [leaf_hash(bytes.fromhex(text)) for text in PUBLISHED["tree"]["leaves"]]
    grown = CompactRange()
    for size, published in enumerate(PUBLISHED["tree"]["roots"]):
        ways = (root(leaves[:size]), grown.root(), make_root(size, LeafNodes(leaves)))
        assert [way.hex() for way in ways] == [published] * 3
        if size < len(leaves):
            grown.append(leaves[size])


@pytest.mark.parametrize("case", PUBLISHED["notes"], ids=lambda case: case["source"])
def test_published_notes(case: dict[str, str]) -> None:
    """The published keys open the published notes, and the published private key signs exactly the published note."""
    key = parse_key(case["key"])
    opened = open_note(case["note"].encode(), [key])
    assert str(key) == case["key"]
    assert opened.signed_by[0][0] == key
    if "private" in case:
        signer = parse_signer(case["private"])
        assert (signer.text(), signer.key) == (case["private"], key)
        assert sign_note(opened.text, [signer]) == case["note"].encode()


def test_trees_of_the_twin() -> None:
    """Roots and proofs are those of the recursive definitions, and each proof is accepted."""
    nodes = LeafNodes(LEAVES)
    assert [make_root(size, nodes).hex() for size in range(71)] == TREES["roots"]
    for case in TREES["inclusion"]:
        proof = hashes(case["proof"])
        assert make_inclusion(case["index"], case["size"], nodes) == proof
        check_inclusion(bytes.fromhex(case["leaf"]), case["index"], case["size"], proof, bytes.fromhex(case["root"]))
    for case in TREES["consistency"]:
        proof = hashes(case["proof"])
        assert make_consistency(case["old_size"], case["size"], nodes) == proof
        check_consistency(
            case["old_size"], case["size"], proof, bytes.fromhex(case["old_root"]), bytes.fromhex(case["root"])
        )


@pytest.mark.parametrize("case", TREES["refused"], ids=lambda case: f"{case['check']}-{case['reason']}")
def test_refused_proofs(case: dict[str, Any]) -> None:
    """A proof that shows nothing is refused, and the reason says what is wrong with it."""
    proof, root = hashes(case["proof"]), bytes.fromhex(case["root"])
    with pytest.raises(EvidenceRefused) as caught:
        if case["check"] == "inclusion":
            check_inclusion(bytes.fromhex(case["leaf"]), case["index"], case["size"], proof, root)
        else:
            check_consistency(case["old_size"], case["size"], proof, bytes.fromhex(case["old_root"]), root)
    assert caught.value.reason == case["reason"]


ORIGIN, LOG_KEYS = NOTES["origin"], [parse_key(NOTES["log_key"])]
WITNESSES = [parse_key(text) for text in NOTES["witness_keys"]]


@pytest.mark.parametrize("case", NOTES["checkpoints"], ids=range(len(NOTES["checkpoints"])))
def test_checkpoints_of_the_twin(case: dict[str, Any]) -> None:
    """A good checkpoint opens, with the cosignatures of known witnesses, and has the root of its size."""
    opened = open_checkpoint(case["note"].encode(), ORIGIN, LOG_KEYS, WITNESSES, quorum=len(case["cosigned"]))
    assert (opened.checkpoint.size, opened.checkpoint.root.hex()) == (case["size"], TREES["roots"][case["size"]])
    assert [[seen.cosigner.name, seen.time_seconds] for seen in opened.cosignatures] == case["cosigned"]
    assert opened.signed_by == (LOG_KEYS[0],)


def test_we_sign_what_the_twin_signs() -> None:
    """The same key, checkpoint and time give the twin's bytes, for the log and for both witnesses."""
    text = Checkpoint(ORIGIN, 11, bytes.fromhex(TREES["roots"][11])).text()
    checkpoint = Checkpoint(ORIGIN, 11, bytes.fromhex(TREES["roots"][11]))
    note = sign_checkpoint(checkpoint, [Ed25519Signer(ORIGIN, make_vectors.seed(ORIGIN))])
    for number, key in enumerate(WITNESSES):
        signer = Ed25519Signer(key.name, make_vectors.seed(key.name), COSIGNATURE)
        assert signer.key == key
        note += cosign(text, signer, make_vectors.TIME + number).line().encode()
    assert note == NOTES["checkpoints"][1]["note"].encode()


@pytest.mark.parametrize("case", NOTES["refused"], ids=lambda case: case["reason"])
def test_refused_checkpoints(case: dict[str, str]) -> None:
    """A note that no log key signed in this form is refused, and the reason says what is wrong with it."""
    with pytest.raises(EvidenceRefused) as caught:
        open_checkpoint(case["note"].encode(), ORIGIN, LOG_KEYS, WITNESSES)
    assert caught.value.reason == case["reason"]


def test_proof_file_of_the_twin() -> None:
    """The twin's proof file is read, written again byte for byte, and shows its leaf in the cosigned tree."""
    case = NOTES["proof_file"]
    data = case["text"].encode()
    file = parse_proof(data)
    assert (file.format(), file.extra) == (data, case["extra"].encode())
    index, opened = check_proof(data, case["leaf"].encode(), ORIGIN, LOG_KEYS, WITNESSES, quorum=2)
    assert (index, opened.checkpoint.size) == (case["index"], 11)


def test_log_of_the_twin() -> None:
    """The twin's leaves follow one another, give its roots, and leave both logs ended."""
    logs, tree = Logs(), CompactRange()
    assert tree.root().hex() == LOG["roots"][0]
    for leaf, after in zip(LOG["leaves"], LOG["roots"][1:], strict=True):
        logs.add(leaf.encode())
        tree.append(leaf_hash(leaf.encode()))
        assert tree.root().hex() == after
    assert {tip.log_id: (tip.batches, tip.entries, tip.ended) for tip in logs.tips.values()} == {
        "00000000000000aa": (2, 5, True),
        "00000000000000bb": (1, 1, True),
    }


@pytest.mark.parametrize("case", LOG["may_not_follow"], ids=lambda case: case["reason"])
def test_leaves_that_may_not_follow(case: dict[str, Any]) -> None:
    """A leaf that may not follow is refused with its reason, and the tips stay as they were."""
    logs = Logs()
    for leaf in case["after"]:
        logs.add(leaf.encode())
    before = dict(logs.tips)
    with pytest.raises(EvidenceRefused) as caught:
        logs.add(case["leaf"].encode())
    assert caught.value.reason == case["reason"]
    assert dict(logs.tips) == before


def test_receipt_of_the_twin() -> None:
    """The twin's receipt is read, written again byte for byte, and shows its entry."""
    data = LOG["receipt"].encode()
    receipt = parse_receipt(data)
    assert receipt.encode() == data
    checked = check_receipt(receipt, [parse_key(LOG["writer_key"])], LOG["receipt_entry"].encode())
    assert (checked.header_bytes.decode(), checked.seq, checked.valid_for_ms) == (LOG["leaves"][1], 1, 1500)
