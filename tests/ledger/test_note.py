"""Signed notes: what is signed opens, and everything that is not exactly a note is refused with its reason."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.errors import InputRefused
from policy_engine.ledger.note import (
    COSIGNATURE,
    Ed25519Signer,
    Note,
    Signature,
    VerifierKey,
    open_note,
    parse_key,
    parse_note,
    parse_signer,
    sign_note,
)
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.limits import LIMITS
from tests.ledger import twin

SEED = sha256(b"a seed for tests").digest()
SIGNER = Ed25519Signer("example.org/log", SEED)
OTHER = Ed25519Signer("example.org/other", sha256(b"another").digest())
COSIGNER = Ed25519Signer("example.org/witness", SEED, COSIGNATURE)
TEXT = "some text\n\nwith an empty line\n"
NAMES = st.text(st.characters(exclude_characters="+", exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=40)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), min_codepoint=32) | st.just("\n"), max_size=80).map(
    lambda text: text + "\n"
)


def refusal(data: bytes, *keys: VerifierKey) -> Reason:
    """Return why a note is refused."""
    with pytest.raises(EvidenceRefused) as caught:
        open_note(data, keys or (SIGNER.key,))
    return caught.value.reason


@given(TEXTS, NAMES, st.binary(min_size=32, max_size=32))
def test_what_is_signed_opens(text: str, name: str, seed: bytes) -> None:
    """Any text, name and key make a note that the twin makes too, that opens, and that is written again as it was."""
    signer = Ed25519Signer(name, seed)
    data = sign_note(text, [signer, OTHER])
    assert data.decode() == text + "\n" + twin.signature_line(name, seed, text) + twin.signature_line(
        OTHER.key.name, sha256(b"another").digest(), text
    )
    opened = open_note(data, [signer.key])
    assert (opened.text, [key for key, _ in opened.signed_by]) == (text, [signer.key])
    assert parse_note(data).format() == data


@given(NAMES, st.binary(min_size=32, max_size=32), st.sampled_from([1, 4]))
def test_keys_come_back_from_their_text(name: str, seed: bytes, algorithm: int) -> None:
    """A verifier key and a private key are the same when read from their text."""
    signer = Ed25519Signer(name, seed, algorithm)
    assert parse_key(str(signer.key)) == signer.key == parse_signer(signer.text()).key
    assert parse_signer(signer.text()).sign(b"x") == signer.sign(b"x")
    assert signer.text() not in repr(signer)


def test_unknown_keys_are_ignored_also_under_a_known_name() -> None:
    """A stranger's line, one with a known name and another id, and one with a known id and another name do no harm."""
    data = sign_note(TEXT, [SIGNER])
    for stranger in (
        Signature(OTHER.key.name, OTHER.key.id, b"x" * 64),
        Signature(SIGNER.key.name, OTHER.key.id, b"x" * 64),
        Signature(OTHER.key.name, SIGNER.key.id, b"x"),
    ):
        opened = open_note(stranger_first(data, stranger), [SIGNER.key])
        assert [key for key, _ in opened.signed_by] == [SIGNER.key]
        assert refusal(Note(TEXT, (stranger,)).format()) == Reason.NOT_SIGNED


def stranger_first(data: bytes, signature: Signature) -> bytes:
    """Return the note with one more line in front."""
    note = parse_note(data)
    return replace(note, signatures=(signature, *note.signatures)).format()


@pytest.mark.parametrize("payload", [b"x" * 64, b"x", b"x" * 65])
def test_a_known_key_with_a_bad_signature_refuses_the_note(payload: bytes) -> None:
    """One bad line of a known key spoils a note, also beside its good line and beside that of another known key."""
    data = sign_note(TEXT, [SIGNER, OTHER])
    bad = Signature(SIGNER.key.name, SIGNER.key.id, payload)
    assert refusal(stranger_first(data, bad), SIGNER.key, OTHER.key) == Reason.BAD_SIGNATURE
    note = parse_note(data)
    assert refusal(Note(TEXT, (*note.signatures, bad)).format(), SIGNER.key) == Reason.BAD_SIGNATURE


def test_a_signature_is_of_one_text_and_one_kind() -> None:
    """The line of another text is bad, and a cosigner's key with the same secret is another key."""
    line = parse_note(sign_note("another\n", [SIGNER])).signatures
    assert refusal(Note(TEXT, line).format()) == Reason.BAD_SIGNATURE
    assert COSIGNER.key.public == SIGNER.key.public
    assert refusal(sign_note(TEXT, [SIGNER]), replace(COSIGNER.key, name=SIGNER.key.name)) == Reason.NOT_SIGNED
    plain = Signature(COSIGNER.key.name, COSIGNER.key.id, SIGNER.sign(TEXT.encode()))
    assert refusal(Note(TEXT, (plain,)).format(), COSIGNER.key) == Reason.BAD_SIGNATURE
    late = (2**63).to_bytes(8, "big") + SIGNER.sign(f"cosignature/v1\ntime {2**63}\n{TEXT}".encode())
    assert not COSIGNER.key.verifies(TEXT, late)


def test_a_public_key_that_is_no_point_verifies_nothing() -> None:
    """A pinned key of 32 bytes that is no key of the curve makes every signature bad instead of raising."""
    key = VerifierKey("example.org/log", b"\xff" * 32)
    assert refusal(Note(TEXT, (Signature(key.name, key.id, b"x" * 64),)).format(), key) == Reason.BAD_SIGNATURE


GOOD = sign_note(TEXT, [SIGNER])
LINE = GOOD.split(b"\n\n")[-1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT.encode(),
        TEXT.encode() + b"\n",
        LINE,
        b"\n" + LINE,
        GOOD[:-1],
        GOOD + b"\n",
        GOOD + b"x",
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"text", b"te\x00t"),
        GOOD.replace(b"text", b"te\tt"),
        GOOD.replace(b"text", b"te\xfft"),
        GOOD.replace("\u2014 ".encode(), b"- "),
        GOOD.replace("\u2014 ".encode(), "\u2014".encode()),
        GOOD.replace("\u2014 ".encode(), "\u2014  ".encode()),
        GOOD.replace(b"org/log ", b"org/log  "),
        GOOD.replace(b"org/log ", b"org/log\xc2\xa0 "),
        GOOD.replace(b"org/log ", b"org+log "),
        GOOD.replace(b"example.org/log ", b""),
        GOOD.replace(b"=\n", b"\n"),
        GOOD.replace(b"=\n", b"==\n"),
        GOOD.replace(b"=\n", b"= \n"),
        TEXT.encode() + "\n\u2014 example.org/log AAAAAA==\n".encode(),
        TEXT.encode() + "\n\u2014 example.org/log \n".encode(),
        TEXT.encode() + "\n\u2014 example.org/log\n".encode(),
    ],
)
def test_other_bytes_are_no_note(data: bytes) -> None:
    """Whatever departs from the format in one character is refused as malformed, whoever signed it."""
    assert refusal(data) == Reason.MALFORMED


def test_stray_bits_in_base64_are_refused() -> None:
    """Base64 whose last character carries bits that belong to no byte is a second spelling, and refused."""
    encoded = LINE.decode().rstrip("\n").split(" ")[2]
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(encoded[-2])
    stray = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[last ^ 1]
    assert refusal(GOOD.replace(encoded.encode(), (encoded[:-2] + stray + "=").encode())) == Reason.MALFORMED


def test_limits_are_exact() -> None:
    """A note at each limit opens, and one past it is refused as too large."""
    most = LIMITS.note_signatures_count
    stranger = Signature("s", b"0000", b"x")
    own = parse_note(GOOD).signatures
    assert most >= 16
    open_note(Note(TEXT, (*own, *[stranger] * (most - 1))).format(), [SIGNER.key])
    assert refusal(Note(TEXT, (*own, *[stranger] * most)).format()) == Reason.TOO_LARGE
    room = LIMITS.note_bytes - len(sign_note("\n", [SIGNER]))
    open_note(sign_note("x" * room + "\n", [SIGNER]), [SIGNER.key])
    assert refusal(sign_note("x" * (room + 1) + "\n", [SIGNER])) == Reason.TOO_LARGE
    longest = "n" * LIMITS.key_name_bytes
    open_note(sign_note(TEXT, [Ed25519Signer(longest, SEED)]), [Ed25519Signer(longest, SEED).key])
    with pytest.raises(EvidenceRefused) as caught:
        Ed25519Signer(longest + "n", SEED)
    assert caught.value.reason == Reason.TOO_LARGE


KEY = str(SIGNER.key)
NAME, ID, DATA = KEY.split("+", 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.MALFORMED),
        (NAME, Reason.MALFORMED),
        (f"{NAME}+{ID}", Reason.MALFORMED),
        (f"+{ID}+{DATA}", Reason.MALFORMED),
        (f"{NAME} +{ID}+{DATA}", Reason.MALFORMED),
        (f"{NAME}+{ID[:7]}+{DATA}", Reason.MALFORMED),
        (f"{NAME}+{ID.upper()}x+{DATA}", Reason.MALFORMED),
        (f"{NAME}+{ID}+", Reason.MALFORMED),
        (f"{NAME}+{ID}+{DATA}=", Reason.MALFORMED),
        (f"{NAME}+{ID}+{b64encode(bytes([2]) + SIGNER.key.public).decode()}", Reason.MALFORMED),
        (f"{NAME}+{ID}+{b64encode(bytes([1]) + SIGNER.key.public[:31]).decode()}", Reason.MALFORMED),
        (f"{NAME}\ud800+{ID}+{DATA}", Reason.MALFORMED),
        (f"{NAME}2+{ID}+{DATA}", Reason.KEY_ID),
        (f"{NAME}+{OTHER.key.id.hex()}+{DATA}", Reason.KEY_ID),
    ],
)
def test_other_key_texts_are_refused(text: str, reason: Reason) -> None:
    """A verifier key text that departs in one character is refused, and an id of another key or name above all."""
    with pytest.raises(EvidenceRefused) as caught:
        parse_key(text)
    assert caught.value.reason == reason


def test_other_private_key_texts_are_refused_without_a_word_of_them() -> None:
    """A private key text that is none is refused, and the message holds nothing of it."""
    text = SIGNER.text()
    start, secret = text[:-44], b64encode(b"\x01" + SEED).decode()
    assert text == start + secret
    short, of_another = b64encode(b"\x01" + SEED[:31]).decode(), b64encode(b"\x01" + bytes(32)).decode()
    endings = ("", secret[:-1], secret + "A", short, of_another)
    for bad in (KEY, text.replace("+example", "+Example"), *(start + ending for ending in endings)):
        with pytest.raises(EvidenceRefused) as caught:
            parse_signer(bad)
        assert not any(part in str(caught.value) for part in text.split("+")[2:])


def test_what_no_note_can_hold_is_not_signed() -> None:
    """A text without newline at its end or with a control character, no signer, and a cosigner are refused."""
    for text, signers in (
        ("no newline", [SIGNER]),
        ("tab\t\n", [SIGNER]),
        ("\ud800\n", [SIGNER]),
        (TEXT, []),
        (TEXT, [COSIGNER]),
    ):
        with pytest.raises(InputRefused):
            sign_note(text, signers)
