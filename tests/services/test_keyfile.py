"""The key file: written once, for an empty database only, completely or not at all, and for its owner's eyes."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from policy_engine.errors import StartRefused, VerificationFailed
from policy_engine.services.keyfile import FileVault, default_path, new_vault, open_vault

NOW = 1_780_315_200_000_000


def open_(path: Path, *, empty: bool = True) -> FileVault:
    """Open the key file of a database."""
    return open_vault(path, database_is_empty=empty, now=NOW)


def test_the_first_start_writes_a_file_that_later_starts_read(tmp_path: Path) -> None:
    """An empty database gets a key file of mode 0600; with it, empty or not, the same keys come back."""
    path = default_path(tmp_path / "engine.db")
    assert path.name == "engine.db.keys"
    first = open_(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = open_(path, empty=False)
    assert again.unwrap("id", first.wrap("id", b"k" * 32)) == b"k" * 32
    assert (again.index_key(), again.period_key("2026")) == (first.index_key(), first.period_key("2026"))
    assert json.loads(path.read_text())["created"] == "2026-06-01T12:00:00Z"
    assert os.listdir(tmp_path) == ["engine.db.keys"]


def test_a_database_with_entries_never_gets_a_new_file(tmp_path: Path) -> None:
    """Without its key file a database that is not empty refuses to start, and none is made."""
    with pytest.raises(StartRefused, match="POLICY_ENGINE_KEYS"):
        open_(tmp_path / "engine.db.keys", empty=False)
    assert os.listdir(tmp_path) == []


def test_two_first_starts_agree_on_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another start writes the file in between, its file counts."""
    path = tmp_path / "engine.db.keys"
    link = os.link
    others: list[FileVault] = []

    def late(draft: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        others.append(open_(path))
        link(draft, target)

    monkeypatch.setattr(os, "link", late)
    assert open_(path).index_key() == others[0].index_key()
    assert os.listdir(tmp_path) == ["engine.db.keys"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A key file readable by group or others refuses to start."""
    path = tmp_path / "engine.db.keys"
    open_(path)
    path.chmod(mode)
    with pytest.raises(StartRefused, match="0600"):
        open_(path)


def damaged(document: dict[str, Any]) -> list[str]:
    """Return texts that are no key file."""
    short = {**document, "master": "AAAA"}
    missing = {name: value for name, value in document.items() if name != "tags"}
    wrong = [short, missing, {**document, "index": 5}, {**document, "index": "*" * 44}, {**document, "version": 2}, []]
    return ["", "{", *map(json.dumps, wrong)]


@pytest.mark.parametrize("number", range(8))
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, number: int) -> None:
    """A key file that is empty, cut, of another version or lacking a key refuses to start and is left as it is."""
    path = tmp_path / "engine.db.keys"
    open_(path)
    text = damaged(json.loads(path.read_text()))[number]
    path.write_text(text)
    with pytest.raises(StartRefused, match="key file"):
        open_(path)
    assert path.read_text() == text


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """When the file cannot be written the start is refused with what to check."""
    with pytest.raises(StartRefused, match="cannot be written"):
        open_(tmp_path / "nowhere" / "engine.db.keys")


def test_vaults_do_not_open_each_others_keys() -> None:
    """What one vault wrapped opens in no other and under no other id."""
    one, other = new_vault(), new_vault()
    wrapped = one.wrap("id", b"k" * 32)
    for vault, key_id in ((other, "id"), (one, "id2")):
        with pytest.raises(VerificationFailed):
            vault.unwrap(key_id, wrapped)


def test_keys_have_one_length() -> None:
    """A vault of shorter keys is a programming error."""
    with pytest.raises(ValueError, match="32"):
        FileVault(b"m", b"i" * 32, b"t" * 32)
