"""The `.tlog-proof` file: one leaf with its proof and checkpoint, read strictly and written back."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.errors import InputRefused
from policy_engine.ledger.checkpoint import Checkpoint, sign_checkpoint
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.note import Ed25519Signer
from policy_engine.ledger.prooffile import HEADER, ProofFile, check_proof, parse_proof
from policy_engine.ledger.proofs import LeafNodes, make_inclusion
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.limits import LIMITS

ORIGIN = "example.org/log"
LOG = Ed25519Signer(ORIGIN, sha256(b"log").digest())
ENTRIES = [b"entry %d" % number for number in range(50)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


def made(index: int, size: int, extra: bytes | None = None) -> ProofFile:
    """Return the proof file of one entry."""
    checkpoint = sign_checkpoint(Checkpoint(ORIGIN, size, root(LEAVES[:size])), [LOG])
    return ProofFile(index, tuple(make_inclusion(index, size, LeafNodes(LEAVES))), checkpoint, extra)


@given(st.integers(1, 50), st.data(), st.none() | st.binary(min_size=1, max_size=50))
def test_files_come_back_and_prove_their_entry_alone(size: int, data: st.DataObject, extra: bytes | None) -> None:
    """A file is the same when read, shows its entry, and shows no other."""
    index = data.draw(st.integers(0, size - 1))
    file = made(index, size, extra)
    assert parse_proof(file.format()) == file
    found, opened = check_proof(file.format(), ENTRIES[index], ORIGIN, [LOG.key])
    assert (found, opened.checkpoint.size) == (index, size)
    with pytest.raises(EvidenceRefused) as caught:
        check_proof(file.format(), ENTRIES[(index + 1) % 50], ORIGIN, [LOG.key])
    assert caught.value.reason == Reason.OTHER_ROOT


GOOD = made(5, 11, b"extra").format()
PROOF_LINE = GOOD.split(b"\n")[3]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.MALFORMED),
        (HEADER.encode(), Reason.MALFORMED),
        (HEADER.encode() + b"\n\n", Reason.MALFORMED),
        (HEADER.encode() + b"\nindex 0\n\n", Reason.MALFORMED),
        (GOOD.replace(b"@v1", b"@v2"), Reason.MALFORMED),
        (b"\n" + GOOD, Reason.MALFORMED),
        (GOOD.replace(b"index 5", b"index 05"), Reason.MALFORMED),
        (GOOD.replace(b"index 5", b"index -5"), Reason.MALFORMED),
        (GOOD.replace(b"index 5\n", b""), Reason.MALFORMED),
        (GOOD.replace(b"index 5", b"index 5\nindex 5"), Reason.MALFORMED),
        (GOOD.replace(b"extra ", b"extra"), Reason.MALFORMED),
        (GOOD.replace(b64encode(b"extra"), b""), Reason.MALFORMED),
        (GOOD.replace(b64encode(b"extra"), b"ZXh0cmF="), Reason.MALFORMED),
        (GOOD.replace(b"extra ", b"extra ZQ==\nextra "), Reason.MALFORMED),
        (GOOD.replace(PROOF_LINE, PROOF_LINE[:-1]), Reason.MALFORMED),
        (GOOD.replace(PROOF_LINE, b"AAAA"), Reason.HASH_LENGTH),
        (GOOD.replace(PROOF_LINE, "\u00e9".encode()), Reason.MALFORMED),
        (GOOD.replace(b"\n", b"\r\n"), Reason.MALFORMED),
        (GOOD.rstrip(b"\n"), Reason.MALFORMED),
        (GOOD.replace(b"\n\n" + ORIGIN.encode(), b"\n" + ORIGIN.encode()), Reason.MALFORMED),
        (GOOD.replace(PROOF_LINE, b"\n".join([PROOF_LINE] * 65)), Reason.TOO_LARGE),
        (GOOD.replace(PROOF_LINE, b"\n".join([PROOF_LINE] * 20_000)), Reason.TOO_LARGE),
        (made(5, 11).format().replace(b"index", b"extra " + b64encode(bytes(65_537)) + b"\nindex"), Reason.MALFORMED),
    ],
    ids=range(23),
)
def test_other_bytes_are_no_proof_file(data: bytes, reason: Reason) -> None:
    """Whatever departs from the format is refused with its reason."""
    with pytest.raises(EvidenceRefused) as caught:
        parse_proof(data)
    assert caught.value.reason == reason


def test_a_file_of_another_log_proves_nothing_here() -> None:
    """The checkpoint in a file is believed under the pinned keys and origin alone."""
    for origin, key, reason in (
        ("example.org/log2", LOG.key, Reason.OTHER_ORIGIN),
        (ORIGIN, Ed25519Signer(ORIGIN, bytes(32)).key, Reason.NOT_SIGNED),
    ):
        with pytest.raises(EvidenceRefused) as caught:
            check_proof(GOOD, ENTRIES[5], origin, [key])
        assert caught.value.reason == reason
    with pytest.raises(EvidenceRefused) as caught:
        check_proof(GOOD, ENTRIES[5], ORIGIN, [LOG.key], quorum=1)
    assert caught.value.reason == Reason.FEW_COSIGNATURES


def test_limits_are_exact() -> None:
    """The largest index, the longest proof and a file of the largest size are read, and one byte more is not."""
    file = made(5, 11)
    longest = replace(file, index=2**63 - 1, proof=(LEAVES[0],) * LIMITS.proof_hashes_count)
    assert parse_proof(longest.format()) == longest
    exact = replace(LIMITS, proof_file_bytes=len(GOOD))
    assert parse_proof(GOOD, exact) == parse_proof(GOOD)
    with pytest.raises(EvidenceRefused) as caught:
        parse_proof(GOOD, replace(LIMITS, proof_file_bytes=len(GOOD) - 1))
    assert caught.value.reason == Reason.TOO_LARGE


def test_what_would_not_come_back_is_not_written() -> None:
    """Parts that a reader would refuse, or read as something else, are refused when the file is written."""
    file = made(5, 11)
    for bad in (
        replace(file, index=-1),
        replace(file, index=2**63),
        replace(file, proof=(b"short",)),
        replace(file, proof=file.proof * 20),
        replace(file, extra=b""),
        replace(file, extra=bytes(LIMITS.proof_extra_bytes + 1)),
        replace(file, checkpoint=b"no note"),
    ):
        with pytest.raises(InputRefused):
            bad.format()
