"""The witness's own consistency, notes and keys against the engine's, the vectors, and published examples."""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.ledger.checkpoint import Checkpoint, cosign, open_checkpoint, sign_checkpoint
from policy_engine.ledger.merkle import root
from policy_engine.ledger.note import COSIGNATURE, Ed25519Signer, parse_key, parse_signature
from policy_engine.ledger.proofs import LeafNodes, check_consistency, make_consistency
from policy_engine.ledger.refusals import EvidenceRefused
from policy_engine.ledger.witnessing import read_cosignature
from policy_engine_witness.consistency import EMPTY_ROOT, grew
from policy_engine_witness.notes import COSIGNER_KEY, Cosigner, Refused, read_cosigner, read_key, read_request
from tests.witness.witnessed import LOG, NAME, ORIGIN, Tree

VECTORS = Path(__file__).resolve().parents[1] / "ledger" / "vectors"
LEAVES = Tree.of(70).leaves
SEED = sha256(b"key of the witness").digest()
TIME = 1_679_315_147
PUBLISHED = (
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+"
    "mbIUBkBIfZ+qnA=="
)
"""The cosignature of C2SP tlog-cosignature's example (its private key is not published)."""


def engine_says(old_size: int, size: int, proof: list[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Return whether the engine's check accepts a proof."""
    try:
        check_consistency(old_size, size, proof, old_root, new_root)
    except EvidenceRefused:
        return False
    return True


def test_every_growth_up_to_70_leaves_is_seen() -> None:
    """Each honest proof is accepted, and none of it leads to another root or from another one."""
    for size in range(1, 71):
        for old in range(1, size + 1):
            proof = make_consistency(old, size, LeafNodes(LEAVES))
            ends = root(LEAVES[:old]), root(LEAVES[:size])
            assert grew(old, ends[0], size, ends[1], proof)
            assert not grew(old, bytes(32), size, ends[1], proof)
            assert not grew(old, ends[0], size, bytes(32), proof)
    assert grew(0, EMPTY_ROOT, 5, root(LEAVES[:5]), [])
    assert not grew(0, EMPTY_ROOT, 5, root(LEAVES[:5]), [bytes(32)])


@given(st.data())
def test_the_witness_and_the_engine_agree_on_mutated_proofs(data: st.DataObject) -> None:
    """Two programs written from two texts of the standard accept the same proofs, and no mutated one.

    A proof says nothing of sizes that give paths of one form: 17 and 18 from 1 do. Those are signed beside the roots.
    """
    size = data.draw(st.integers(2, 70))
    old = data.draw(st.integers(1, size - 1))
    proof = make_consistency(old, size, LeafNodes(LEAVES))
    ends, sizes = [root(LEAVES[:old]), root(LEAVES[:size])], (old, size)
    place = data.draw(st.integers(0, len(proof)))
    other = data.draw(st.sampled_from([*proof, *ends, bytes(32), LEAVES[0]]))
    match data.draw(st.sampled_from(("drop", "insert", "replace", "swap", "sizes"))):
        case "drop":
            proof = proof[:place] + proof[place + 1 :]
        case "insert":
            proof = [*proof[:place], other, *proof[place:]]
        case "replace":
            proof = [*proof[:place], other, *proof[place + 1 :]]
        case "swap":
            proof = proof[::-1]
        case "sizes":
            old, size = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 80))
    accepted = grew(old, ends[0], size, ends[1], proof)
    assert accepted == engine_says(old, size, proof, *ends)
    if accepted and (old, size) == sizes:
        assert proof == make_consistency(old, size, LeafNodes(LEAVES))


def test_the_vectors_of_the_ledger() -> None:
    """The witness accepts each consistency proof of the vectors and refuses each that must be refused."""
    vectors = json.loads((VECTORS / "trees.json").read_text(encoding="utf-8"))
    refused = [case for case in vectors["refused"] if case["check"] == "consistency"]
    assert vectors["consistency"] and refused
    assert [case for case in vectors["consistency"] if not witness_says(case)] == []
    assert [case for case in refused if witness_says(case)] == []


def witness_says(case: dict[str, Any]) -> bool:
    """Return whether the witness accepts the consistency proof of a vector."""
    proof = [bytes.fromhex(hash) for hash in case["proof"]]
    old, new = bytes.fromhex(case["old_root"]), bytes.fromhex(case["root"])
    return grew(case["old_size"], old, case["size"], new, proof)


def test_a_cosignature_has_the_published_form() -> None:
    """76 bytes: the key's id, the time in 8 big-endian bytes, 64 of Ed25519, as in the example of the standard."""
    published = b64decode(PUBLISHED.rpartition(" ")[2])
    assert (len(published), int.from_bytes(published[4:12], "big")) == (76, TIME)
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    line = Cosigner("witness.example.com/w1", SEED).cosign(text, TIME)
    made = b64decode(line.rpartition(" ")[2])
    assert line.startswith("— witness.example.com/w1 ") and line.endswith("\n")
    assert (len(made), made[4:12]) == (76, published[4:12])
    assert made[:4] == sha256(b"witness.example.com/w1\n\x04" + made_key("witness.example.com/w1")).digest()[:4]


def made_key(name: str) -> bytes:
    """Return the public key of the tests' witness."""
    return Ed25519Signer(name, SEED, COSIGNATURE).key.public


def test_the_witness_and_the_engine_cosign_byte_for_byte() -> None:
    """One key, one text and one time give one line in both programs, and the engine counts the witness's."""
    text = Tree.of(7).checkpoint().text()
    engine, witness = Ed25519Signer(NAME, SEED, COSIGNATURE), Cosigner(NAME, SEED)
    assert str(engine.key) == str(witness.key) and engine.text() == witness.private_text()
    line = witness.cosign(text, TIME)
    assert line == cosign(text, engine, TIME).line()
    opened = open_checkpoint(Tree.of(7).note() + line.encode(), ORIGIN, [LOG.key], [engine.key], 1)
    assert opened.cosignatures[0].time_seconds == TIME
    assert read_cosignature(line.encode(), text, engine.key) == (parse_signature(line[:-1]), TIME)


def test_keys_come_back_and_nothing_else_is_one() -> None:
    """A key text reads as what wrote it; a wrong id, type, length or spelling is refused without showing it."""
    witness = Cosigner(NAME, SEED)
    assert read_cosigner(witness.private_text()).key == witness.key == read_key(str(witness.key))
    assert str(read_key(str(LOG.key))) == str(parse_key(str(LOG.key)))
    text = str(witness.key)
    for bad in ("", NAME, text[1:], text[:-1], text.replace("+", " "), text + "=", f"{NAME}+00000000+{text[-44:]}"):
        with pytest.raises(ValueError, match="key"):
            read_key(bad)
    private = witness.private_text()
    for bad in (text, private[:-4], LOG.text(), private.replace(NAME, NAME + "2")):
        with pytest.raises(ValueError, match="key") as caught:
            read_cosigner(bad)
        assert bad[-20:] not in str(caught.value)
    assert read_key(text).type == COSIGNER_KEY


def test_a_request_is_read_as_the_engine_writes_it() -> None:
    """Old size, proof, checkpoint and signatures arrive; a checkpoint with extension lines and cosignatures too."""
    tree = Tree.of(9)
    request = read_request(tree.submission(5))
    assert (request.old_size, list(request.proof)) == (5, tree.proof(5))
    assert (request.origin, request.size, request.root) == (ORIGIN, 9, root(tree.leaves))
    extended = sign_checkpoint(Checkpoint(ORIGIN, 9, root(tree.leaves), ("more",)), [LOG])
    line = Cosigner(NAME, SEED).cosign("x", 1).encode()
    assert read_request(b"old 0\n\n" + extended + line).text.endswith("\nmore\n")


GOOD = Tree.of(9).submission(5)
HASH = b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"old\n",
        b"old 5\n",
        GOOD[:-1],
        GOOD.replace(b"old 5", b"old 05"),
        GOOD.replace(b"old 5", b"old +5"),
        GOOD.replace(b"old 5", b"old  5"),
        GOOD.replace(b"old 5", b"old 5 "),
        GOOD.replace(b"old 5", "old \N{ARABIC-INDIC DIGIT FIVE}".encode()),
        GOOD.replace(b"old 5", b"old 9223372036854775808"),
        GOOD.replace(b"old 5", b"old " + b"9" * 5000),
        GOOD.replace(b"old 5\n", b"old 5\r\n"),
        GOOD.replace(b"old 5\n", b"old 5\n" + HASH * 60),
        GOOD.replace(b"old 5\n", b"old 5\n" + HASH[:-2] + b"\n"),
        GOOD.replace(b"old 5\n", b"old 5\n " + HASH),
        GOOD.replace(b"old 5\n", b"old 5\n" + HASH.replace(b"I=", b"J=")),
        GOOD.replace(b"old 5\n", b"old 5\nAAAA\n"),
        GOOD.replace(b"\n9\n", b"\n09\n"),
        GOOD.replace(b"\n9\n", b"\n-9\n"),
        GOOD.replace(b"\n9\n", b"\n\n"),
        GOOD.replace("— ".encode(), b"- "),
        GOOD.replace("— ".encode(), "— \x00".encode()),
        GOOD.replace("— ".encode(), b"\xff "),
        GOOD + b"\n",
        GOOD + "— a+b AAAAAAA=\n".encode(),
        GOOD + "— ab AAAAAA==\n".encode(),
        GOOD + "— ab AAAAAAA=\n".encode() * 64,
        b"old 0\n\n" + Checkpoint(ORIGIN, 9, bytes(32), ("x",) * 40).text().encode() + b"\n" + GOOD.split(b"\n\n")[2],
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    """Each other spelling, and each part too many, is 400, before any signature is looked at."""
    with pytest.raises(Refused) as caught:
        read_request(body)
    assert caught.value.status == 400
