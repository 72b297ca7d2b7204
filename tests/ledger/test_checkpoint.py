"""Checkpoints and cosignatures: who said what about which tree, and when a quorum is one."""

from __future__ import annotations

from hashlib import sha256

import pytest

from policy_engine.errors import InputRefused
from policy_engine.ledger.checkpoint import (
    Checkpoint,
    Cosignature,
    add_cosignatures,
    cosign,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from policy_engine.ledger.merkle import EMPTY_ROOT
from policy_engine.ledger.note import COSIGNATURE, Ed25519Signer, Note, parse_note
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.limits import LIMITS

ORIGIN = "example.org/log"
LOG = Ed25519Signer(ORIGIN, sha256(b"log").digest())
NEXT = Ed25519Signer(ORIGIN, sha256(b"next key of the log").digest())
WITNESSES = [Ed25519Signer(f"w{n}.example", sha256(b"w%d" % n).digest(), COSIGNATURE) for n in range(3)]
KEYS = [witness.key for witness in WITNESSES]
ROOT = sha256(b"root").digest()
CHECKPOINT = Checkpoint(ORIGIN, 7, ROOT)
NOTE = sign_checkpoint(CHECKPOINT, [LOG])
TIME = 1_795_219_200


def cosigned(*witnesses: Ed25519Signer, note: bytes = NOTE) -> bytes:
    """Return the checkpoint with cosignatures, put together as a sequencer does."""
    for witness in witnesses:
        line = cosign(CHECKPOINT.text(), witness, TIME).line()
        note = add_cosignatures(note, line, KEYS)
    return note


def refusal(data: bytes, quorum: int = 0, origin: str = ORIGIN) -> Reason:
    """Return why a checkpoint is refused."""
    with pytest.raises(EvidenceRefused) as caught:
        open_checkpoint(data, origin, [LOG.key], KEYS, quorum)
    return caught.value.reason


def test_a_checkpoint_comes_back() -> None:
    """What was signed opens; rotation of the log's key needs one known key of the two that signed."""
    opened = open_checkpoint(NOTE, ORIGIN, [LOG.key])
    assert (opened.checkpoint, opened.signed_by, opened.cosignatures) == (CHECKPOINT, (LOG.key,), ())
    both = sign_checkpoint(CHECKPOINT, [LOG, NEXT])
    assert open_checkpoint(both, ORIGIN, [NEXT.key]).signed_by == (NEXT.key,)
    assert open_checkpoint(both, ORIGIN, [NEXT.key, LOG.key]).signed_by == (LOG.key, NEXT.key)


def test_a_quorum_counts_different_known_witnesses() -> None:
    """Cosignatures of one witness at two times, of a stranger, or under a second name are not two witnesses."""
    two = cosigned(*WITNESSES[:2])
    opened = open_checkpoint(two, ORIGIN, [LOG.key], KEYS, quorum=2)
    assert opened.cosignatures == tuple(Cosignature(key, TIME) for key in KEYS[:2])
    assert refusal(two, quorum=3) == Reason.FEW_COSIGNATURES
    again = cosign(CHECKPOINT.text(), WITNESSES[0], TIME + 5).line()
    once = add_cosignatures(cosigned(WITNESSES[0]), again, KEYS)
    assert len(open_checkpoint(once, ORIGIN, [LOG.key], KEYS).cosignatures) == 2
    assert refusal(once, quorum=2) == Reason.FEW_COSIGNATURES
    alias = Ed25519Signer("alias.example", sha256(b"w0").digest(), COSIGNATURE)
    named = add_cosignatures(cosigned(WITNESSES[0]), cosign(CHECKPOINT.text(), alias, TIME).line(), [alias.key])
    with pytest.raises(EvidenceRefused):
        open_checkpoint(named, ORIGIN, [LOG.key], [*KEYS, alias.key], quorum=2)


def test_a_witness_cannot_stand_in_for_the_log() -> None:
    """A note that only witnesses signed is no checkpoint, whichever list a key was put into."""
    lines = tuple(cosign(CHECKPOINT.text(), witness, TIME) for witness in WITNESSES)
    data = Note(CHECKPOINT.text(), lines).format()
    assert refusal(data) == Reason.NOT_SIGNED
    with pytest.raises(EvidenceRefused) as caught:
        open_checkpoint(data, ORIGIN, KEYS, KEYS)
    assert caught.value.reason == Reason.NOT_SIGNED


def test_a_note_of_something_else_is_no_checkpoint() -> None:
    """Another origin is refused even under the log's own key."""
    assert refusal(NOTE, origin=ORIGIN + "2") == Reason.OTHER_ORIGIN
    assert refusal(sign_checkpoint(Checkpoint("other", 7, ROOT), [LOG])) == Reason.OTHER_ORIGIN


def test_answers_of_witnesses_are_taken_line_by_line() -> None:
    """Unknown lines and repeated ones are left out, a bad one of a known witness is refused, and so is no answer."""
    line = cosign(CHECKPOINT.text(), WITNESSES[0], TIME).line()
    stranger = cosign(CHECKPOINT.text(), Ed25519Signer("s.example", bytes(32), COSIGNATURE), TIME).line()
    with_one = add_cosignatures(NOTE, line + stranger + line, KEYS)
    assert with_one == NOTE + line.encode()
    assert add_cosignatures(with_one, line, KEYS) == with_one
    other = cosign(Checkpoint(ORIGIN, 8, ROOT).text(), WITNESSES[0], TIME).line()
    most = LIMITS.note_signatures_count
    full = Note(CHECKPOINT.text(), parse_note(NOTE).signatures * most).format()
    nearly = Note(CHECKPOINT.text(), parse_note(NOTE).signatures * (most - 1)).format()
    assert add_cosignatures(nearly, line * most, KEYS) == nearly + line.encode()
    for note, answer, reason in (
        (NOTE, other, Reason.BAD_SIGNATURE),
        (NOTE, "", Reason.MALFORMED),
        (NOTE, "\n", Reason.MALFORMED),
        (NOTE, line[:-1], Reason.MALFORMED),
        (NOTE, line + "\n", Reason.MALFORMED),
        (NOTE, line * (LIMITS.note_signatures_count + 1), Reason.MALFORMED),
        (full, line, Reason.TOO_LARGE),
    ):
        with pytest.raises(EvidenceRefused) as caught:
            add_cosignatures(note, answer, KEYS)
        assert caught.value.reason == reason


def test_what_no_checkpoint_can_hold_is_not_signed() -> None:
    """An empty or broken line, a short root, a size out of range and a wrong empty root are refused before signing."""
    for bad in (
        Checkpoint("", 7, ROOT),
        Checkpoint("a\nb", 7, ROOT),
        Checkpoint(ORIGIN, -1, ROOT),
        Checkpoint(ORIGIN, 2**63, ROOT),
        Checkpoint(ORIGIN, 7, ROOT[:31]),
        Checkpoint(ORIGIN, 0, ROOT),
        Checkpoint(ORIGIN, 7, ROOT, ("",)),
    ):
        with pytest.raises(InputRefused):
            sign_checkpoint(bad, [LOG])
    assert parse_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT).text()).size == 0


def test_cosigners_sign_checkpoints_with_a_time_and_nothing_else() -> None:
    """The log's key, a time beyond 63 bits, and a text that is no checkpoint get no cosignature."""
    for text, signer, time in (
        (CHECKPOINT.text(), LOG, TIME),
        (CHECKPOINT.text(), WITNESSES[0], -1),
        (CHECKPOINT.text(), WITNESSES[0], 2**63),
    ):
        with pytest.raises(InputRefused):
            cosign(text, signer, time)
    for time in (0, 2**63 - 1):
        note = NOTE + cosign(CHECKPOINT.text(), WITNESSES[0], time).line().encode()
        assert open_checkpoint(note, ORIGIN, [LOG.key], KEYS, 1).cosignatures == (Cosignature(KEYS[0], time),)
    with pytest.raises(EvidenceRefused):
        cosign("anything\n", WITNESSES[0], TIME)


def test_lines_of_a_checkpoint_are_limited() -> None:
    """As many lines as the limit are read, and one more is refused."""
    most = LIMITS.checkpoint_lines_count
    assert len(parse_checkpoint(Checkpoint(ORIGIN, 7, ROOT, ("x",) * (most - 3)).text()).extensions) == most - 3
    with pytest.raises(EvidenceRefused) as caught:
        parse_checkpoint(Checkpoint(ORIGIN, 7, ROOT, ("x",) * (most - 2)).text())
    assert caught.value.reason == Reason.TOO_LARGE
    with pytest.raises(EvidenceRefused):
        parse_checkpoint(CHECKPOINT.text()[:-1])


@pytest.mark.parametrize("size", ["", "07", "+7", "-7", " 7", "7 ", "7.0", "\u0667", "9223372036854775808", "1" * 5000])
def test_sizes_have_one_spelling(size: str) -> None:
    """A size that is no plain decimal number below 2**63 is refused, whatever Python would read in it."""
    text = CHECKPOINT.text().replace("\n7\n", f"\n{size}\n")
    with pytest.raises(EvidenceRefused) as caught:
        parse_checkpoint(text)
    assert caught.value.reason == Reason.MALFORMED
