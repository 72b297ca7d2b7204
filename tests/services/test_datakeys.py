"""Data keys and tags in memory: forgotten within bounds, never two for one subject, one year after another."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy_engine.ledger.sealing import data_key_id, tag
from policy_engine.services.datakeys import DataKeys, Tags, year_of
from policy_engine.services.record import Recorder, Written
from tests.services.evidencesamples import PEP, VAULT, open_desk

NEW_YEAR = 1_798_761_600_000_000
"""2027-01-01T00:00:00Z."""


def test_a_key_is_offered_until_it_is_stored() -> None:
    """A made key is the same for every entry of its subject, and offered until a commit has stored it."""
    keys = DataKeys(VAULT)
    key_id, cipher = keys.cipher("acme", "alice", 1)
    assert key_id == data_key_id(VAULT.index_key(), "acme", "alice")
    assert keys.cipher("acme", "alice", 1) == (key_id, cipher)
    wrapped = keys.offered(key_id)
    assert wrapped is not None
    keys.stored(key_id, b"another")
    assert keys.offered(key_id) == wrapped
    keys.stored(key_id, wrapped)
    assert keys.offered(key_id) is None
    assert keys.cipher("acme", "alice", 1) == (key_id, cipher)
    assert keys.cipher("lab", "alice", 1)[0] != key_id


def test_no_key_outlives_its_epoch() -> None:
    """Under a new epoch, which an erasure raises, a remembered key is not used again but offered anew."""
    keys = DataKeys(VAULT)
    key_id, old = keys.cipher("acme", "alice", 1)
    keys.stored(key_id, keys.offered(key_id) or b"")
    again, new = keys.cipher("acme", "alice", 2)
    assert again == key_id
    assert new is not old
    assert keys.offered(key_id) is not None


def test_the_stored_key_is_adopted() -> None:
    """When the store has a key for the subject, that one seals from then on."""
    keys = DataKeys(VAULT)
    key_id, _ = keys.cipher(None, "alice", 1)
    adopted = keys.adopt(None, "alice", key_id, VAULT.wrap(key_id, b"k" * 32))
    assert keys.cipher(None, "alice", 1) == adopted
    assert keys.offered(key_id) is None
    assert adopted[1].decrypt(b"n" * 12, keys.cipher(None, "alice", 1)[1].encrypt(b"n" * 12, b"x", None), None) == b"x"


def test_keys_are_forgotten_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest half goes; a subject that comes back gets a key that is offered again."""
    monkeypatch.setattr("policy_engine.services.datakeys.CIPHERS_COUNT", 4)
    keys = DataKeys(VAULT)
    first = keys.cipher(None, "s0", 1)
    keys.stored(first[0], keys.offered(first[0]) or b"")
    for n in range(1, 5):
        keys.cipher(None, f"s{n}", 1)
    again = keys.cipher(None, "s0", 1)
    assert again[1] is not first[1]
    assert keys.offered(again[0]) is not None


def test_two_recorders_share_the_keys_of_one_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that forget and remake keys still write bodies that all open."""
    monkeypatch.setattr("policy_engine.services.datakeys.CIPHERS_COUNT", 2)
    desk = open_desk(tmp_path / "log.db")
    other = Recorder(desk.store, VAULT)
    state = desk.state
    for n in range(12):
        for recorder in (desk.recorder, other):
            drafts = [recorder.decision(desk.evaluation(f"u{(n + k) % 4}"), PEP, 1) for k in range(3)]
            assert all(isinstance(result, Written) for result in recorder.write(drafts, state))
    other.close()
    assert desk.evidence.verify().findings == ()
    desk.close()


def test_a_draft_is_encoded_after_its_key_is_known(tmp_path: Path) -> None:
    """Encoding before the store asked for keys is a programming error, not an entry without a key."""
    desk = open_desk(tmp_path / "log.db")
    draft = desk.recorder.decision(desk.evaluation(), PEP, 1)
    with pytest.raises(RuntimeError, match="new keys"):
        draft.encode("aa", 1, 1)
    desk.close()


def test_tags_turn_with_the_year(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instant's tags are keyed by its calendar year in UTC, back and forth, also when many are forgotten."""
    monkeypatch.setattr("policy_engine.services.datakeys.TAGS_COUNT", 2)
    tags = Tags(VAULT)
    for at, year in ((NEW_YEAR - 1, "2026"), (NEW_YEAR, "2027"), (NEW_YEAR - 1, "2026")):
        assert str(year_of(at)) == year
        key = VAULT.period_key(year)
        for value in ("a", "b", "c", "a"):
            assert tags.tag(at, "subject", value) == tag(key, "subject", value)
            wanted = (tag(key, "location", value), tag(key, "location", "x"), tag(key, "evidence", "valid"))
            assert tags.facet_tags(at, (("location", (value, "x")), ("evidence", ("valid",)))) == wanted
