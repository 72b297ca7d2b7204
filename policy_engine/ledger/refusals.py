"""Why a piece of evidence is not believed: one error, with a reason that a program can tell apart.

Rules: whatever reads or checks evidence in this room returns what is proved, or raises `EvidenceRefused`; there is no
third answer. Reasons are permanent names: a witness chooses its status code, and a test its expectation, by them.
Left to others: exit codes and status codes (the doors).
"""

from __future__ import annotations

from enum import StrEnum

from policy_engine.errors import VerificationFailed


class Reason(StrEnum):
    """Every way in which evidence is refused here."""

    TOO_LARGE = "too-large"
    """Longer, or with more parts, than a limit allows."""
    MALFORMED = "malformed"
    """Not what its format says, or a second spelling of what has only one."""
    VERSION = "unknown-version"
    """A newer program wrote it."""

    TREE_EMPTY = "tree.empty"
    SIZES_OUT_OF_ORDER = "tree.sizes-out-of-order"
    INDEX_BEYOND_SIZE = "tree.index-beyond-size"
    HASH_LENGTH = "proof.hash-length"
    PROOF_SHORT = "proof.too-short"
    PROOF_LONG = "proof.too-long"
    OTHER_ROOT = "proof.other-root"
    """The hashes do not lead to the root: another leaf, another place, another tree, or an edited proof."""

    NOT_SIGNED = "note.no-known-key"
    BAD_SIGNATURE = "note.bad-signature"
    """A known key's line is there, and its signature is not of this text."""
    KEY_ID = "key.wrong-id"

    OTHER_ORIGIN = "checkpoint.other-origin"
    OTHER_EMPTY_ROOT = "checkpoint.other-empty-root"
    FEW_COSIGNATURES = "checkpoint.too-few-cosignatures"

    NOT_OPENED = "log.not-opened"
    OPENED_TWICE = "log.opened-twice"
    ENDED = "log.ended"
    """Something follows the closing or the abandonment of a log."""
    OTHER_LOG = "log.other"
    GAP = "log.gap"
    """A batch, or a sequence number, was left out."""
    REPEATED = "log.repeated"
    """The very header that is already there."""
    FORK = "log.fork"
    """A header for a place that is taken (by another one, or further back): two histories of one log."""
    OTHER_PREVIOUS = "log.other-previous"
    """The next number, but on top of another header: something in front of it was changed."""
    TIME_BACKWARDS = "log.time-backwards"
    EPOCH_BACKWARDS = "log.epoch-backwards"

    OTHER_BATCH = "receipt.other-batch"
    """A sequence number outside the batch that the receipt names."""
    OTHER_ENTRY = "receipt.other-entry"
    LONGER_VALIDITY = "receipt.longer-validity"


class EvidenceRefused(VerificationFailed):
    """Evidence does not show what it should. `reason` is stable; the message is one sentence without any value."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)
