"""Receipts: what a caller keeps of an answer, so that a later deletion of its entry can be proved against the log.

One signature covers a batch: a signed note (C2SP signed-note) over the batch's header and the longest validity that
any answer of it has. A receipt adds the place of one entry: its leaf hash and its path to the batch root (RFC 6962
2.1.1). Log id, batch number, epoch, release and time are the header's and are not said twice.
The note's text, version 1, three lines: `policy-engine/receipt/v1`, the header's canonical bytes, and
`valid_for_ms <n>`. It cannot pass for a checkpoint: a header is no size. The receipt is canonical JSON, version 1:
`v`, `seq`, `leaf`, `path`, `valid_for_ms`, `note`. A receipt's own `valid_for_ms` is signed only as not above `n`.
Rules: a receipt shows what the writer promised; that the log kept it is shown by the global tree (`proofs`).
Left to others: when to sign, and with which key; the writer's `open` leaf names it (`leaves`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.errors import InputRefused
from policy_engine.ledger.canonical import INTEGER_MAX, canonical, parse
from policy_engine.ledger.encoding import Header, parse_header, parse_public
from policy_engine.ledger.merkle import leaf_hash, paths
from policy_engine.ledger.note import Signer, VerifierKey, open_note, sign_note
from policy_engine.ledger.proofs import check_inclusion
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.ledger.spelling import read_decimal, read_hash, write_base64
from policy_engine.limits import LIMITS, Limits

VERSION = 1
CONTEXT = "policy-engine/receipt/v1"
_VALID = "valid_for_ms "
_NAMES = {"v", "seq", "leaf", "path", "valid_for_ms", "note"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """One entry's receipt, *unchecked* (`check_receipt`). `leaf` is the leaf *hash*."""

    seq: int
    leaf: bytes
    path: tuple[bytes, ...]
    valid_for_ms: int
    note: str

    def members(self, spell: Callable[[bytes], str] = write_base64) -> dict[str, Any]:
        """Return the receipt as a JSON object. `spell` is for one who has written the same hashes before."""
        return {
            "v": VERSION,
            "seq": self.seq,
            "leaf": spell(self.leaf),
            "path": [spell(hash) for hash in self.path],
            "valid_for_ms": self.valid_for_ms,
            "note": self.note,
        }

    def encode(self) -> bytes:
        """Return the canonical bytes of the receipt."""
        return canonical(self.members())


@dataclass(frozen=True, slots=True)
class CheckedReceipt:
    """What a known key promised: this leaf hash at `seq` of the batch with this header, and for how long at most."""

    header: Header
    header_bytes: bytes
    seq: int
    leaf: bytes
    valid_for_ms: int
    signed_by: tuple[VerifierKey, ...]


def sign_batch(header: bytes, valid_for_ms_max: int, signer: Signer) -> str:
    """Return the note that every receipt of a batch carries. `header` is the canonical bytes that were committed.

    Raises `VerificationFailed` for other bytes than a header's, `InputRefused` for a negative or huge validity.
    """
    parse_header(header)
    return sign_committed(header, valid_for_ms_max, signer)


def sign_committed(header: bytes, valid_for_ms_max: int, signer: Signer) -> str:
    """The same for bytes that are known to be a header's, because whoever calls has just written them."""
    if not 0 <= valid_for_ms_max <= INTEGER_MAX:
        raise InputRefused("a validity is a number of milliseconds from 0 on", where="receipt")
    return sign_note(f"{CONTEXT}\n{header.decode()}\n{_VALID}{valid_for_ms_max}\n", (signer,)).decode()


def make_receipts(note: str, first: int, leaves: Sequence[bytes], valid_for_ms: Mapping[int, int]) -> list[Receipt]:
    """Return the receipts of those entries of a batch that `valid_for_ms` names by sequence number, in its order.

    `note` is that of `sign_batch`, `first` the header's first sequence number, `leaves` the leaf hashes of the batch.
    """
    found = paths(leaves)
    return [Receipt(seq, leaves[seq - first], found[seq - first], ms, note) for seq, ms in valid_for_ms.items()]


def parse_receipt(data: bytes, limits: Limits = LIMITS) -> Receipt:
    """Return the parts of a receipt. Raises `VerificationFailed` (mostly `EvidenceRefused`) for other bytes."""
    if len(data) > limits.receipt_bytes:
        raise EvidenceRefused(Reason.TOO_LARGE, f"the receipt has more than {limits.receipt_bytes} bytes")
    members = parse(data, "the receipt")
    if not isinstance(members, dict) or set(members) != _NAMES:
        raise EvidenceRefused(Reason.MALFORMED, "the receipt has other members than this program knows")
    if type(members["v"]) is not int or members["v"] != VERSION:
        raise EvidenceRefused(Reason.VERSION, "the receipt has a version that this program does not know")
    numbers, path = (members["seq"], members["valid_for_ms"]), members["path"]
    right = (
        all(type(number) is int and number >= 0 for number in numbers)
        and type(members["leaf"]) is str
        and type(members["note"]) is str
        and type(path) is list
        and all(type(text) is str for text in path)
    )
    if not right:
        raise EvidenceRefused(Reason.MALFORMED, "a member of the receipt has the wrong type or is negative")
    if len(path) > limits.proof_hashes_count:
        raise EvidenceRefused(Reason.TOO_LARGE, f"a path has at most {limits.proof_hashes_count} hashes")
    return Receipt(
        seq=members["seq"],
        leaf=read_hash(members["leaf"], "the leaf hash of the receipt"),
        path=tuple(read_hash(text, "a hash of the receipt's path") for text in path),
        valid_for_ms=members["valid_for_ms"],
        note=members["note"],
    )


def check_receipt(
    receipt: Receipt, keys: Sequence[VerifierKey], entry: bytes | None = None, limits: Limits = LIMITS
) -> CheckedReceipt:
    """Return what known keys signed about an entry; `entry` is its public bytes, where the log has shown them.

    Raises `VerificationFailed`: what `open_note`, `parse_header` and `check_inclusion` raise, `OTHER_BATCH`,
    `LONGER_VALIDITY`, and `OTHER_ENTRY` when the entry shown is not the one that was receipted: together with a proof
    that the header is in the tree, or that another one is in its place, that convicts the log.
    """
    note = open_note(receipt.note.encode(), keys, limits)
    lines = note.text.split("\n")
    if len(lines) != 4 or lines[0] != CONTEXT or not lines[2].startswith(_VALID) or lines[3]:
        raise EvidenceRefused(Reason.MALFORMED, "the note of the receipt is signed, and is not about a batch")
    header_bytes = lines[1].encode()
    header = parse_header(header_bytes)
    if receipt.valid_for_ms > read_decimal(lines[2].removeprefix(_VALID), "the validity in the note"):
        raise EvidenceRefused(Reason.LONGER_VALIDITY, "the receipt claims a longer validity than its batch was signed")
    if not header.first <= receipt.seq < header.first + header.n:
        raise EvidenceRefused(Reason.OTHER_BATCH, "the sequence number is not one of the batch that was signed")
    root = bytes.fromhex(header.root)
    check_inclusion(receipt.leaf, receipt.seq - header.first, header.n, receipt.path, root)
    if entry is not None:
        _check_entry(receipt, header, entry)
    signed_by = tuple(dict.fromkeys(key for key, _ in note.signed_by))
    return CheckedReceipt(header, header_bytes, receipt.seq, receipt.leaf, receipt.valid_for_ms, signed_by)


def _check_entry(receipt: Receipt, header: Header, entry: bytes) -> None:
    if leaf_hash(entry) != receipt.leaf:
        raise EvidenceRefused(Reason.OTHER_ENTRY, "the entry is not the one that the receipt was given for")
    members = parse_public(entry)
    if (members["log"], members["seq"]) != (header.log_id, receipt.seq):
        raise EvidenceRefused(Reason.OTHER_ENTRY, "the entry names another place than the receipt")
