"""Checkpoints: what a log says its tree is, signed, and the witnesses who saw it grow (C2SP tlog-checkpoint).

The note text is the origin, the size in decimal, the root in base64, and any extension lines (not recommended: nobody
audits them). A cosignature (C2SP tlog-cosignature, Ed25519) adds a witness's time to the very same text.
Rules: an opened checkpoint has the origin that was asked for, a good signature of one of the log's keys, and at least
as many *different* cosigners as asked for. A log never signs two checkpoints of which neither tree begins the other;
nobody here can know that, so the sequencer compares before it signs.
Left to others: consistency between checkpoints (`proofs`), the clock (times come in), who the witnesses are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policy_engine.errors import InputRefused
from policy_engine.ledger.merkle import EMPTY_ROOT
from policy_engine.ledger.note import (
    COSIGNATURE,
    ED25519,
    TIME_BYTES,
    Note,
    Signature,
    SignedNote,
    Signer,
    VerifierKey,
    cosigned_message,
    open_note,
    parse_note,
    parse_signature,
    sign_note,
)
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.ledger.spelling import HASH_BYTES, SIZE_MAX, read_decimal, read_hash, write_base64
from policy_engine.limits import LIMITS, Limits


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree of a log at one size. *Nobody signed it* unless it came from `open_checkpoint`."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the note text. Raises `InputRefused` for members that a checkpoint cannot hold."""
        lines = (self.origin, str(self.size), write_base64(self.root), *self.extensions)
        if not 0 <= self.size <= SIZE_MAX or len(self.root) != HASH_BYTES:
            raise InputRefused("a checkpoint has a size below 2**63 and a root of 32 bytes", where="checkpoint")
        if any(not line or "\n" in line for line in lines):
            raise InputRefused("a line of a checkpoint is neither empty nor broken", where="checkpoint")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise InputRefused("the root of an empty tree is the hash of nothing", where="checkpoint")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's statement that this was, at a POSIX time, the largest consistent tree it had seen of the log."""

    cosigner: VerifierKey
    time_seconds: int


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint that a key of the log signed, with the good cosignatures of known witnesses."""

    checkpoint: Checkpoint
    signed_by: tuple[VerifierKey, ...]
    cosignatures: tuple[Cosignature, ...]


def parse_checkpoint(text: str, limits: Limits = LIMITS) -> Checkpoint:
    """Return the checkpoint that a note text states. Raises `EvidenceRefused` (`MALFORMED`, `HASH_LENGTH`, ...)."""
    if len(text) > limits.note_bytes or text.count("\n") > limits.checkpoint_lines_count:
        raise EvidenceRefused(Reason.TOO_LARGE, f"the checkpoint has over {limits.checkpoint_lines_count} lines")
    lines = text.removesuffix("\n").split("\n")
    if not text.endswith("\n") or len(lines) < 3 or not all(lines):
        raise EvidenceRefused(Reason.MALFORMED, "the checkpoint is not an origin, a size, a root and lines with text")
    size = read_decimal(lines[1], "the size of the checkpoint")
    root = read_hash(lines[2], "the root of the checkpoint")
    if size == 0 and root != EMPTY_ROOT:
        raise EvidenceRefused(Reason.OTHER_EMPTY_ROOT, "the checkpoint of an empty tree has another root than it")
    return Checkpoint(lines[0], size, root, tuple(lines[3:]))


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> bytes:
    """Return the signed note of a checkpoint. Raises `InputRefused` when it or a signer is not fit for one."""
    return sign_note(checkpoint.text(), signers)


def cosign(text: str, signer: Signer, time_seconds: int) -> Signature:
    """Return a witness's cosignature of a checkpoint text that it has checked (C2SP tlog-cosignature).

    The witness has checked signature, origin and consistency *before*. Raises `InputRefused` for a key of another
    type (a cosigner's key is used for nothing else) or a time outside 64 signed bits, `EvidenceRefused` for a text
    that is no checkpoint.
    """
    if signer.key.algorithm != COSIGNATURE or not 0 <= time_seconds <= SIZE_MAX:
        raise InputRefused("a cosignature needs a cosigner's key and a time from 0 to 2**63 - 1", where="witness")
    parse_checkpoint(text)
    signature = signer.sign(cosigned_message(text, time_seconds))
    return Signature(signer.key.name, signer.key.id, time_seconds.to_bytes(TIME_BYTES, "big") + signature)


def add_cosignatures(note: bytes, lines: str, cosigners: Sequence[VerifierKey], limits: Limits = LIMITS) -> bytes:
    """Return the note with the lines of known cosigners out of a witness's answer (C2SP tlog-witness add-checkpoint).

    Lines of unknown keys, and lines that the note has already, are left out. Raises `EvidenceRefused` (`MALFORMED`,
    `BAD_SIGNATURE`, `TOO_LARGE`) for an answer that is no signature lines, a bad one of a known cosigner, and one
    with more than a note holds.
    """
    whole = parse_note(note, limits)
    if not lines.endswith("\n") or lines.count("\n") > limits.note_signatures_count:
        raise EvidenceRefused(Reason.MALFORMED, "the answer of the witness is not a few signature lines")
    known = {(key.name, key.id): key for key in cosigners if key.algorithm == COSIGNATURE}
    added = list(whole.signatures)
    for line in lines[:-1].split("\n"):
        signature = parse_signature(line)
        key = known.get((signature.name, signature.key_id))
        if key is None or signature in added:
            continue
        if not key.verifies(whole.text, signature.payload):
            raise EvidenceRefused(Reason.BAD_SIGNATURE, "a known witness's cosignature is not of this checkpoint")
        added.append(signature)
    if len(added) > limits.note_signatures_count:
        raise EvidenceRefused(Reason.TOO_LARGE, f"a note has at most {limits.note_signatures_count} signature lines")
    return Note(whole.text, tuple(added)).format()


def open_checkpoint(
    data: bytes,
    origin: str,
    log_keys: Sequence[VerifierKey],
    cosigners: Sequence[VerifierKey] = (),
    quorum: int = 0,
    limits: Limits = LIMITS,
) -> OpenedCheckpoint:
    """Return what the log of this origin signed, and at least `quorum` different known cosigners with it.

    Raises `EvidenceRefused`: what `open_note` raises, `NOT_SIGNED` when no *log* key signed, `OTHER_ORIGIN`,
    `FEW_COSIGNATURES`, and what `parse_checkpoint` raises.
    """
    trusted = [key for key in log_keys if key.algorithm == ED25519]
    witnesses = [key for key in cosigners if key.algorithm == COSIGNATURE]
    note = open_note(data, (*trusted, *witnesses), limits)
    signed_by = tuple(dict.fromkeys(key for key, _ in note.signed_by if key.algorithm == ED25519))
    if not signed_by:
        raise EvidenceRefused(Reason.NOT_SIGNED, "no known key of the log signed the checkpoint")
    checkpoint = parse_checkpoint(note.text, limits)
    if checkpoint.origin != origin:
        raise EvidenceRefused(Reason.OTHER_ORIGIN, "the checkpoint is of another log than the one asked for")
    cosignatures = _cosignatures(note)
    if len({cosignature.cosigner.public for cosignature in cosignatures}) < quorum:
        raise EvidenceRefused(
            Reason.FEW_COSIGNATURES, f"fewer than {quorum} of the known witnesses cosigned the checkpoint"
        )
    return OpenedCheckpoint(checkpoint, signed_by, cosignatures)


def _cosignatures(note: SignedNote) -> tuple[Cosignature, ...]:
    return tuple(
        Cosignature(key, int.from_bytes(signature.payload[:TIME_BYTES], "big"))
        for key, signature in note.signed_by
        if key.algorithm == COSIGNATURE
    )
