"""Receipts: each allow of a batch can be shown from one signature, and nothing else can."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.errors import InputRefused, VerificationFailed
from policy_engine.ledger.canonical import canonical, parse
from policy_engine.ledger.checkpoint import open_checkpoint
from policy_engine.ledger.encoding import FIRST_PREVIOUS, Header, Place, note_public
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.note import Ed25519Signer, sign_note
from policy_engine.ledger.receipts import (
    CONTEXT,
    Receipt,
    check_receipt,
    make_receipts,
    parse_receipt,
    sign_batch,
)
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.limits import LIMITS

WRITER = Ed25519Signer("example.org/writer", sha256(b"writer").digest())
LOG, FIRST, MS = "00f1e2d3c4b5a697", 100, 2_000


def entry(seq: int) -> bytes:
    """Return the public bytes of an entry."""
    return note_public("search", f"{seq:032x}", Place(LOG, seq, 10, 3, None), {}, commit="", sealed="")


def batch(n: int) -> tuple[list[bytes], list[bytes], bytes]:
    """Return the entries of a batch, their leaf hashes and the header's bytes."""
    entries = [entry(FIRST + number) for number in range(n)]
    leaves = [leaf_hash(public) for public in entries]
    header = Header(LOG, 7, FIRST, n, root(leaves).hex(), FIRST_PREVIOUS, 3, None, 10)
    return entries, leaves, header.encode()


@given(st.integers(1, 60), st.data())
def test_every_entry_of_a_batch_has_its_receipt(n: int, data: st.DataObject) -> None:
    """Receipts of any entries of a batch come back from their bytes and show log, place, entry, epoch and validity."""
    entries, leaves, header = batch(n)
    chosen = data.draw(st.sets(st.integers(FIRST, FIRST + n - 1)))
    note = sign_batch(header, MS, WRITER)
    receipts = make_receipts(note, FIRST, leaves, {seq: seq for seq in chosen})
    assert [receipt.seq for receipt in receipts] == list(chosen)
    for receipt in receipts:
        assert parse_receipt(receipt.encode()) == receipt
        checked = check_receipt(receipt, [WRITER.key], entries[receipt.seq - FIRST])
        assert (checked.header.log_id, checked.header.epoch, checked.header_bytes) == (LOG, 3, header)
        assert (checked.seq, checked.valid_for_ms, checked.signed_by) == (receipt.seq, receipt.seq, (WRITER.key,))


ENTRIES, LEAVES, HEADER = batch(5)
NOTE = sign_batch(HEADER, MS, WRITER)
(GOOD,) = make_receipts(NOTE, FIRST, LEAVES, {FIRST + 2: MS})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seq": FIRST - 1}, Reason.OTHER_BATCH),
        ({"seq": FIRST + 5}, Reason.OTHER_BATCH),
        ({"seq": FIRST + 3}, Reason.OTHER_ROOT),
        ({"leaf": LEAVES[3]}, Reason.OTHER_ROOT),
        ({"path": ()}, Reason.PROOF_SHORT),
        ({"path": GOOD.path * 2}, Reason.PROOF_LONG),
        ({"valid_for_ms": MS + 1}, Reason.LONGER_VALIDITY),
        ({"note": NOTE.replace('"epoch":3', '"epoch":4')}, Reason.BAD_SIGNATURE),
        ({"note": NOTE.replace("valid_for_ms 2000", "valid_for_ms 9000")}, Reason.BAD_SIGNATURE),
        ({"note": NOTE.replace("example.org/writer", "example.org/other")}, Reason.NOT_SIGNED),
    ],
)
def test_a_changed_receipt_is_refused(change: dict[str, Any], reason: Reason) -> None:
    """Another place, entry, path, validity, header or signer is refused with its reason."""
    with pytest.raises(EvidenceRefused) as caught:
        check_receipt(replace(GOOD, **change), [WRITER.key])
    assert caught.value.reason == reason


def test_another_entry_convicts() -> None:
    """The entry that a log shows instead of the receipted one is told, also when it claims another place."""
    for shown in (ENTRIES[3], entry(FIRST + 2).replace(b'"at":10', b'"at":11')):
        with pytest.raises(EvidenceRefused) as caught:
            check_receipt(GOOD, [WRITER.key], shown)
        assert caught.value.reason == Reason.OTHER_ENTRY
    elsewhere = [entry(FIRST + 50)]
    leaves = [leaf_hash(elsewhere[0])]
    header = Header(LOG, 7, FIRST, 1, root(leaves).hex(), FIRST_PREVIOUS, 3, None, 10).encode()
    (receipt,) = make_receipts(sign_batch(header, MS, WRITER), FIRST, leaves, {FIRST: MS})
    with pytest.raises(EvidenceRefused) as caught:
        check_receipt(receipt, [WRITER.key], elsewhere[0])
    assert caught.value.reason == Reason.OTHER_ENTRY


@pytest.mark.parametrize(
    "text",
    [
        "another text\n",
        f"{CONTEXT}\n{HEADER.decode()}\n",
        f"{CONTEXT}\n{HEADER.decode()}\nvalid_for_ms 2000\nmore\n",
        f"{CONTEXT}2\n{HEADER.decode()}\nvalid_for_ms 2000\n",
        f"{CONTEXT}\n{HEADER.decode()}\nvalid_for_ms 02000\n",
        f"{CONTEXT}\n{HEADER.decode()}\nvalid_for_ms -1\n",
        f"{CONTEXT}\n{HEADER.decode()} \nvalid_for_ms 2000\n",
        f"{CONTEXT}\n{{}}\nvalid_for_ms 2000\n",
    ],
)
def test_a_signed_note_about_something_else_is_no_receipt(text: str) -> None:
    """Even the writer's own signature under another text shows no batch."""
    with pytest.raises(VerificationFailed):
        check_receipt(replace(GOOD, note=sign_note(text, [WRITER]).decode()), [WRITER.key])


def test_a_receipt_is_no_checkpoint() -> None:
    """The note of a receipt is refused as a checkpoint, also by whoever takes its first line for an origin."""
    with pytest.raises(EvidenceRefused) as caught:
        open_checkpoint(NOTE.encode(), CONTEXT, [WRITER.key])
    assert caught.value.reason == Reason.MALFORMED


def test_receipts_have_these_bytes_for_ever() -> None:
    """The encoding of a small receipt is exactly what is written here."""
    receipt = Receipt(3, b"\x00" * 32, (b"\xff" * 32,), 7, "note\n")
    assert receipt.encode() == (
        b'{"leaf":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","note":"note\\n",'
        b'"path":["//////////////////////////////////////////8="],"seq":3,"v":1,"valid_for_ms":7}'
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"v": 2}, Reason.VERSION),
        ({"v": True}, Reason.VERSION),
        ({"more": 1}, Reason.MALFORMED),
        ({"seq": -1}, Reason.MALFORMED),
        ({"seq": "1"}, Reason.MALFORMED),
        ({"seq": True}, Reason.MALFORMED),
        ({"valid_for_ms": -1}, Reason.MALFORMED),
        ({"leaf": None}, Reason.MALFORMED),
        ({"leaf": "AA=="}, Reason.HASH_LENGTH),
        ({"leaf": "AA"}, Reason.MALFORMED),
        ({"path": "AA=="}, Reason.MALFORMED),
        ({"path": [1]}, Reason.MALFORMED),
        ({"path": ["AA=="]}, Reason.HASH_LENGTH),
        ({"path": ["AA=="] * 65}, Reason.TOO_LARGE),
        ({"note": 1}, Reason.MALFORMED),
        ({"note": "x" * LIMITS.receipt_bytes}, Reason.TOO_LARGE),
    ],
)
def test_other_bytes_are_no_receipt(change: dict[str, Any], reason: Reason) -> None:
    """A member too many, of another type, negative or too long is refused with its reason."""
    with pytest.raises(EvidenceRefused) as caught:
        parse_receipt(canonical({**parse(GOOD.encode(), "receipt"), **change}))
    assert caught.value.reason == reason


def test_limits_are_exact() -> None:
    """A validity of nothing, the longest path and the largest receipt are read."""
    (receipt,) = make_receipts(sign_batch(HEADER, 0, WRITER), FIRST, LEAVES, {FIRST: 0})
    assert check_receipt(parse_receipt(receipt.encode()), [WRITER.key]).valid_for_ms == 0
    longest = replace(GOOD, path=(LEAVES[0],) * LIMITS.proof_hashes_count)
    assert parse_receipt(longest.encode()) == longest
    room = LIMITS.receipt_bytes - len(replace(GOOD, note="").encode())
    assert len(parse_receipt(replace(GOOD, note="x" * room).encode()).note) == room
    with pytest.raises(EvidenceRefused) as caught:
        parse_receipt(replace(GOOD, note="x" * (room + 1)).encode())
    assert caught.value.reason == Reason.TOO_LARGE


def test_only_a_header_and_a_validity_are_signed() -> None:
    """Bytes that are no header, and a negative validity, get no signature."""
    with pytest.raises(VerificationFailed):
        sign_batch(b"{}", MS, WRITER)
    with pytest.raises(InputRefused):
        sign_batch(HEADER, -1, WRITER)
    with pytest.raises(VerificationFailed):
        parse_receipt(b"[]")
