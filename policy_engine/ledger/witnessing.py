"""What a log says to a witness and hears back: the texts of C2SP tlog-witness `add-checkpoint`.

Rules: a request names the size that the witness has and proves growth from there; an answer counts for the one witness
that was asked, and only when its cosignature is of the very text that was sent. Left to others: sending
(`services.witnessclient`), and what a refusal means (`services.witness`).
"""

from __future__ import annotations

from collections.abc import Sequence

from policy_engine.errors import InputRefused
from policy_engine.ledger.note import TIME_BYTES, Signature, VerifierKey, parse_signature
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.ledger.spelling import read_decimal, write_base64
from policy_engine.limits import LIMITS, Limits

ADD_CHECKPOINT = "add-checkpoint"
SIZE_TYPE = "text/x.tlog.size"
PROOF_HASHES_MAX = 63
"""The place, the media type of a conflict, and the most proof lines (C2SP tlog-witness)."""


def write_submission(old_size: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """Return the body that asks a witness, whose last tree had `old_size` leaves, to cosign a signed checkpoint.

    Raises `InputRefused` for a longer proof than a witness takes (no tree below 2**63 leaves needs one).
    """
    if len(proof) > PROOF_HASHES_MAX:
        raise InputRefused(f"a witness takes at most {PROOF_HASHES_MAX} hashes of a proof", where="witness")
    lines = [f"old {old_size}", *(write_base64(hash) for hash in proof), "", ""]
    return "\n".join(lines).encode() + checkpoint


def read_size(body: bytes) -> int:
    """Return the size that a witness names in a conflict (409). Raises `EvidenceRefused` (`MALFORMED`)."""
    text = body.decode("ascii", errors="replace")
    if not text.endswith("\n"):
        raise EvidenceRefused(Reason.MALFORMED, "the witness answers a conflict without its size")
    return read_decimal(text[:-1], "the size of the witness")


def read_cosignature(body: bytes, text: str, key: VerifierKey, limits: Limits = LIMITS) -> tuple[Signature, int]:
    """Return the cosignature of a checkpoint text by the witness that was asked, and its time in seconds.

    Lines of other keys are left out. Raises `EvidenceRefused`: `MALFORMED`, `BAD_SIGNATURE` when a line of its key is
    not of this text, `NOT_SIGNED` when there is none.
    """
    lines = body.decode(errors="replace")
    if not lines.endswith("\n") or lines.count("\n") > limits.note_signatures_count:
        raise EvidenceRefused(Reason.MALFORMED, "the answer of the witness is not a few signature lines")
    found = None
    for line in lines[:-1].split("\n"):
        signature = parse_signature(line)
        if (signature.name, signature.key_id) != (key.name, key.id):
            continue
        if not key.verifies(text, signature.payload):
            raise EvidenceRefused(Reason.BAD_SIGNATURE, "the witness's cosignature is not of this checkpoint")
        found = signature if found is None else found
    if found is None:
        raise EvidenceRefused(Reason.NOT_SIGNED, "the answer holds no cosignature of the witness that was asked")
    return found, int.from_bytes(found.payload[:TIME_BYTES], "big")
