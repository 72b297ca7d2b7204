"""Sealing: what is sealed opens only with its key, at its place, and proves its commitment."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.errors import VerificationFailed
from policy_engine.ledger import sealing
from policy_engine.ledger.canonical import canonical

KEY, NONCE, SALT = b"k" * 32, b"n" * 12, bytes(range(32))
BODY = canonical({"subject": "alice", "tenant": None})


def seal(key: bytes = KEY, place: str = "log:7", body: bytes = BODY) -> sealing.SealedBody:
    """Seal the sample body."""
    return sealing.seal_body(AESGCM(key), NONCE, SALT, place, body)


def test_golden_vector_never_changes() -> None:
    """Ciphertext, commitment and hash of the sample body are the bytes written here, for ever."""
    sealed = seal()
    assert (
        sealed.commit
        == sha256(SALT + BODY).hexdigest()
        == "c640e2916a8a21fe172baccb853bf67864c8b89e8f14f331788da7170ff60ac2"
    )
    assert (
        sealed.sealed
        == sha256(sealed.ciphertext).hexdigest()
        == "bc1c0e0961838939e645e83c23e7594e82604fdab1a9f90abf80a9cce5f46e4a"
    )
    assert sealed.ciphertext == NONCE + AESGCM(KEY).encrypt(
        NONCE, b'{"body":' + BODY + b',"salt":"' + SALT.hex().encode() + b'"}', b"log:7"
    )


def test_opens_to_what_was_sealed() -> None:
    """The right key at the right place gives body and salt."""
    sealed = seal()
    opened = sealing.open_body(AESGCM(KEY), "log:7", sealed.ciphertext, sealed.commit)
    assert opened == ({"subject": "alice", "tenant": None}, SALT)


def test_another_key_place_or_commitment_is_refused() -> None:
    """A body moved to another entry, opened with another key, or under another commitment is refused."""
    sealed = seal()
    for key, place, commit in (
        (b"x" * 32, "log:7", sealed.commit),
        (KEY, "log:8", sealed.commit),
        (KEY, "log:7:0", sealed.commit),
        (KEY, "log:7", sealing.commitment(SALT, b"{}")),
    ):
        with pytest.raises(VerificationFailed):
            sealing.open_body(AESGCM(key), place, sealed.ciphertext, commit)


@given(st.integers(min_value=0), st.integers(0, 7))
def test_any_flipped_bit_is_refused(position: int, bit: int) -> None:
    """A ciphertext with one bit changed does not open."""
    sealed = seal()
    damaged = bytearray(sealed.ciphertext)
    damaged[position % len(damaged)] ^= 1 << bit
    with pytest.raises(VerificationFailed):
        sealing.open_body(AESGCM(KEY), "log:7", bytes(damaged), sealed.commit)


@pytest.mark.parametrize("ciphertext", [b"", b"short", b"n" * 12, b"n" * 27])
def test_too_short_is_refused_and_no_crash(ciphertext: bytes) -> None:
    """Bytes too short to be a ciphertext are refused like any other wrong ones."""
    with pytest.raises(VerificationFailed):
        sealing.open_body(AESGCM(KEY), "log:7", ciphertext, "")


@pytest.mark.parametrize(
    "plaintext",
    [
        b"{}",
        b'{"body":{},"salt":"00"}',
        b'{"body":{},"salt":"' + b"G" * 64 + b'"}',
        b'{"bodx":{},"salt":"' + b"0" * 64 + b'"}',
        b'{"body":[],"salt":"' + b"0" * 64 + b'"}',
        b'{"body":{"b":1,"a":1},"salt":"' + b"0" * 64 + b'"}',
    ],
)
def test_a_key_holder_cannot_seal_something_else(plaintext: bytes) -> None:
    """A ciphertext made with the right key whose plaintext is not `{body, salt}` in canonical form is refused."""
    ciphertext = NONCE + AESGCM(KEY).encrypt(NONCE, plaintext, b"log:7")
    body = plaintext[8:-75] if len(plaintext) > 75 else b""
    with pytest.raises(VerificationFailed):
        sealing.open_body(AESGCM(KEY), "log:7", ciphertext, sealing.commitment(bytes(32), body))


def test_wrapped_keys_are_bound_to_their_id() -> None:
    """A wrapped data key opens under the same master and id and under no other."""
    wrapped = sealing.wrap(b"m" * 32, "id-1", NONCE, KEY)
    assert sealing.unwrap(b"m" * 32, "id-1", wrapped) == KEY
    for master, key_id in ((b"x" * 32, "id-1"), (b"m" * 32, "id-2")):
        with pytest.raises(VerificationFailed):
            sealing.unwrap(master, key_id, wrapped)


def test_ids_and_tags_are_fixed() -> None:
    """Data key ids, row key ids and tags of sample values are those written here: they are stored for ever."""
    found = (
        sealing.data_key_id(b"i" * 32, "acme", "alice"),
        sealing.data_key_id(b"i" * 32, None, "alice"),
        sealing.row_key_id(b"i" * 32, "persons", "alice"),
        sealing.tag(sealing.period_key(b"t" * 32, "2026"), "subject", "alice").hex(),
        sealing.commitment(SALT, sealing.RowBody("persons", "alice", 1, {"facts": {}}).encode()),
    )
    assert found == GOLDEN


GOLDEN = (
    "8928902fb0e6c13e6ef296c0606fff61",
    "eb331e572e90cd71a4b5eae20594696d",
    "d453d36a93eb1741756b1587bd849a98",
    "01382834a66159ba325c5fce9218660b",
    "016a188f23cf36704a4765b5dc197765ac3c6dfe237c2835132a5c78cbdcaabb",
)


def test_no_two_pairs_share_a_data_key() -> None:
    """Whatever characters tenant and subject hold, another pair (or a register row) has another key id."""
    pairs = [("a", "b\0c"), ("a\0b", "c"), ("a", 'b","c'), (None, "persons/a"), ("", "x"), ("x", "")]
    ids = {sealing.data_key_id(b"i" * 32, tenant, subject) for tenant, subject in pairs}
    rows = {sealing.row_key_id(b"i" * 32, "persons", "a"), sealing.row_key_id(b"i" * 32, "tenants", "a")}
    assert len(ids | rows) == len(pairs) + 2


def test_tags_differ_by_period_name_and_value() -> None:
    """The same value has another tag in another year and under another name."""
    key, other = sealing.period_key(b"t" * 32, "2026"), sealing.period_key(b"t" * 32, "2027")
    tags = {
        sealing.tag(key, "subject", "US"),
        sealing.tag(other, "subject", "US"),
        sealing.tag(key, "location", "US"),
        sealing.tag(key, "location", "UA"),
    }
    assert len(tags) == 4


def test_rows_of_a_change_come_apart_as_they_were_joined() -> None:
    """The sealed part of a change gives back each row's key id and ciphertext."""
    rows = [("id-1", b"\x00\xff"), ("id-2", b"")]
    assert sealing.split_rows(sealing.join_rows(rows)) == rows


@pytest.mark.parametrize(
    "sealed", [b"", b"{}", b"[1]", b'[["a"]]', b'[["a","*"]]', b"\xff", b'[["a",1]]', b"[[[],[]]]"]
)
def test_other_bytes_are_no_rows(sealed: bytes) -> None:
    """Bytes that are no list of sealed rows are refused."""
    with pytest.raises(VerificationFailed):
        sealing.split_rows(sealed)
