"""The log's key: made once, kept for the owner's eyes, and never the key of another tree."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from policy_engine.errors import StartRefused
from policy_engine.ledger.note import parse_key
from policy_engine.services.growth import TreeRefused
from policy_engine.services.keyfile import open_vault
from policy_engine.services.logkey import LogKey, check_origin, open_log_key, seeded
from policy_engine.store.treeinterfaces import TreeState

EMPTY = TreeState(0, "", "", 0, 0)


def signed(key: LogKey) -> TreeState:
    """Return the state of a tree that a key has signed."""
    signer = key.signer(EMPTY)
    return TreeState(1, signer.key.name, str(signer.key), 0, 0)


def test_an_origin_is_made_once_and_kept() -> None:
    """Without a setting the origin says that the log is local; one process names no second one, and a tree keeps it."""
    key = LogKey(seeded(bytes(32)))
    state = signed(key)
    assert state.origin.startswith("policy-engine.local/")
    assert str(key.signer(state).key) == str(LogKey(seeded(bytes(32))).signer(state).key) == state.key
    assert signed(LogKey(seeded(bytes(32)))).origin != state.origin


def test_an_origin_that_was_drawn_gives_way_to_the_trees() -> None:
    """Several processes may open an empty database at once: who signs second takes the first one's name for good."""
    first, second, other = (LogKey(seeded(bytes(32))) for _ in range(3))
    drawn = second.signer(EMPTY).key.name
    state = signed(first)
    assert drawn == second.signer(EMPTY).key.name != state.origin
    assert str(second.signer(state).key) == state.key
    assert str(first.signer(state).key) == state.key
    for key in (first, second):
        with pytest.raises(TreeRefused, match="origin"):
            key.signer(signed(other))


def test_a_tree_of_another_origin_or_key_is_refused() -> None:
    """A setting that changed, and a key file of another database, sign nothing."""
    state = signed(LogKey(seeded(bytes(32)), "log.example/one"))
    with pytest.raises(TreeRefused, match="origin"):
        LogKey(seeded(bytes(32)), "log.example/two").signer(state)
    with pytest.raises(TreeRefused, match="another key"):
        LogKey(seeded(b"1" * 32)).signer(state)


@pytest.mark.parametrize("origin", ["", "two words", "a+b", "x" * 300])
def test_an_origin_that_no_key_can_have_is_refused(origin: str) -> None:
    """The setting is refused at the start, with an example."""
    with pytest.raises(StartRefused, match="such as"):
        check_origin(origin)
    assert check_origin("log.example.org/models") == "log.example.org/models"
    assert check_origin(None) is None


def test_a_sequencer_machine_makes_its_file_once(tmp_path: Path) -> None:
    """Mode 0600, one line, and the same key at the next start."""
    path = tmp_path / "log.key"
    first = signed(open_log_key(path, EMPTY, None))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().count("\n") == 1
    assert path.read_text().startswith("PRIVATE+KEY+policy-engine.local/")
    assert signed(open_log_key(path, first, None)) == first
    assert os.listdir(tmp_path) == ["log.key"]
    assert parse_key(first.key).name == first.origin


def test_a_named_origin_is_the_name_of_the_key(tmp_path: Path) -> None:
    """A file for one origin refuses a setting that says another."""
    path = tmp_path / "log.key"
    assert signed(open_log_key(path, EMPTY, "log.example/one")).origin == "log.example/one"
    with pytest.raises(StartRefused, match="another origin"):
        open_log_key(path, EMPTY, "log.example/two")


def test_a_tree_that_was_signed_never_gets_a_new_key(tmp_path: Path) -> None:
    """Without its file the start is refused, and none is made."""
    state = signed(LogKey(seeded(bytes(32))))
    with pytest.raises(StartRefused, match="put it back"):
        open_log_key(tmp_path / "log.key", state, None)
    assert os.listdir(tmp_path) == []


def test_a_damaged_or_readable_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    """Neither the refusal nor the repr of anything holds a part of the key."""
    path = tmp_path / "log.key"
    key = open_log_key(path, EMPTY, None)
    secret = path.read_text().strip().split("+", 4)[-1]  # the key itself may have a plus
    assert secret not in repr(key) + repr(key.signer(EMPTY))
    path.chmod(0o640)
    with pytest.raises(StartRefused, match="0600"):
        open_log_key(path, EMPTY, None)
    path.chmod(0o600)
    path.write_text(path.read_text()[:-9])
    with pytest.raises(StartRefused, match="damaged") as refused:
        open_log_key(path, EMPTY, None)
    assert secret[:12] not in str(refused.value)


def test_an_older_key_file_gets_the_member_for_the_log(tmp_path: Path) -> None:
    """It is added without touching the other keys, mode and all, once; two starts agree on it."""
    path = tmp_path / "engine.db.keys"
    old = open_vault(path, database_is_empty=True, now=0)
    assert old.log_seed is None
    before = json.loads(path.read_text())
    assert "log" not in before
    new = open_vault(path, database_is_empty=False, now=0, with_log_key=True)
    assert new.log_seed is not None
    after = json.loads(path.read_text())
    assert {name: value for name, value in after.items() if name != "log"} == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert new.receipt_seed() == old.receipt_seed()
    assert open_vault(path, database_is_empty=False, now=0, with_log_key=True).log_seed == new.log_seed
    assert os.listdir(tmp_path) == ["engine.db.keys"]


def test_a_crash_while_the_member_is_added_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the rename refuses the start; the old keys are whole, and no draft is left."""
    path = tmp_path / "engine.db.keys"
    open_vault(path, database_is_empty=True, now=0)
    before = path.read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StartRefused, match="space"):
        open_vault(path, database_is_empty=False, now=0, with_log_key=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["engine.db.keys"]
