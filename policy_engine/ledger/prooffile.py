"""The `.tlog-proof` file: one leaf, its inclusion proof and the checkpoint in one text (C2SP tlog-proof).

It is the form in which an auditor is handed one decision with its proof, and checks it offline against pinned keys.
Rules: `extra` is signed by nobody and never believed; the checkpoint is kept byte for byte as it was signed.
Left to others: what the leaf says (`leaves`, `encoding`), files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policy_engine.errors import InputRefused
from policy_engine.ledger.checkpoint import OpenedCheckpoint, open_checkpoint
from policy_engine.ledger.merkle import leaf_hash
from policy_engine.ledger.note import VerifierKey, parse_note
from policy_engine.ledger.proofs import check_inclusion
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.ledger.spelling import SIZE_MAX, read_base64, read_decimal, read_hash, write_base64
from policy_engine.limits import LIMITS, Limits

HEADER = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
"""The recommended end of the file's name."""


@dataclass(frozen=True, slots=True)
class ProofFile:
    """The parts of a proof file, *unchecked* (`check_proof`). `proof` runs from the leaf's sibling to the root."""

    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def format(self, limits: Limits = LIMITS) -> bytes:
        """Return the bytes of the file. Raises `InputRefused` for parts that `parse_proof` would not give back."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {write_base64(self.extra)}")
        lines += [f"index {self.index}", *(write_base64(hash) for hash in self.proof), "", ""]
        data = "\n".join(lines).encode() + self.checkpoint
        try:
            same = 0 <= self.index <= SIZE_MAX and parse_proof(data, limits) == self
        except EvidenceRefused as refused:
            raise InputRefused(refused.message, where="proof file") from None
        if not same:
            raise InputRefused("the parts are not those of a proof file", where="proof file")
        return data


def parse_proof(data: bytes, limits: Limits = LIMITS) -> ProofFile:
    """Return the parts of a proof file. Raises `EvidenceRefused` (`TOO_LARGE`, `MALFORMED`, `HASH_LENGTH`)."""
    if len(data) > limits.proof_file_bytes:
        raise EvidenceRefused(Reason.TOO_LARGE, f"the proof file has more than {limits.proof_file_bytes} bytes")
    head, empty_line, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise EvidenceRefused(Reason.MALFORMED, "the proof lines hold more than ASCII") from None
    if lines.pop(0) != HEADER or not empty_line:
        raise EvidenceRefused(Reason.MALFORMED, f"a proof file begins with {HEADER} and holds a checkpoint")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = read_base64(lines.pop(0).removeprefix("extra "), "the extra data")
        if not extra or len(extra) > limits.proof_extra_bytes:
            raise EvidenceRefused(Reason.MALFORMED, f"extra data has from 1 to {limits.proof_extra_bytes} bytes")
    if not lines or not lines[0].startswith("index "):
        raise EvidenceRefused(Reason.MALFORMED, "the proof file names no index")
    index = read_decimal(lines.pop(0).removeprefix("index "), "the index")
    if len(lines) > limits.proof_hashes_count:
        raise EvidenceRefused(Reason.TOO_LARGE, f"a proof has at most {limits.proof_hashes_count} hashes")
    proof = tuple(read_hash(line, "a hash of the proof") for line in lines)
    parse_note(checkpoint, limits)
    return ProofFile(index, proof, checkpoint, extra)


def check_proof(
    data: bytes,
    leaf: bytes,
    origin: str,
    log_keys: Sequence[VerifierKey],
    cosigners: Sequence[VerifierKey] = (),
    quorum: int = 0,
    limits: Limits = LIMITS,
) -> tuple[int, OpenedCheckpoint]:
    """Return the index at which the log has the leaf with these bytes, and the checkpoint that says so.

    Raises `EvidenceRefused` with the reasons of `parse_proof`, `open_checkpoint` and `check_inclusion`.
    """
    file = parse_proof(data, limits)
    opened = open_checkpoint(file.checkpoint, origin, log_keys, cosigners, quorum, limits)
    stated = opened.checkpoint
    check_inclusion(leaf_hash(leaf), file.index, stated.size, file.proof, stated.root)
    return file.index, opened
