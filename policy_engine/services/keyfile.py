"""The key file: the keys that never lie in the database, for machines without a key management service.

Rules: the first start on an empty database writes the file (mode 0600) completely or not at all, before anything is
sealed; a database that is not empty and lacks its key file refuses to start and never gets a new one, because what it
sealed would be lost without a word. Whoever holds the file can read every sealed body and guess every tag: it does
not belong in a backup of the database. A key management service implements `KeyVault` instead.
Left to others: sealing (`ledger.sealing`), whether a key file belongs to a database (`store`).
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from pathlib import Path
from typing import Any

from policy_engine.core.instants import format_instant
from policy_engine.errors import StartRefused
from policy_engine.ledger import sealing
from policy_engine.ledger.sealing import KEY_BYTES, NONCE_BYTES, KeyVault
from policy_engine.services import newfile

VERSION = 1
"""Version of the file's format."""

_KEYS = ("master", "index", "tags")
_LOG = "log"

__all__ = ["FileVault", "KeyVault", "default_path", "new_vault", "open_vault"]


class FileVault:
    """A `KeyVault` over keys held in memory, as the key file gave them. `log` is the seed of the log's own key."""

    def __init__(self, master: bytes, index: bytes, tags: bytes, log: bytes | None = None) -> None:
        if {len(master), len(index), len(tags), KEY_BYTES if log is None else len(log)} != {KEY_BYTES}:
            raise ValueError(f"each key has {KEY_BYTES} bytes")
        self.log_seed = log
        """Signs checkpoints, on SQLite; on PostgreSQL the sequencer's machine alone has a key for that."""
        self._master = master
        self._index = index
        self._tags = tags

    def receipt_seed(self) -> bytes:
        """Return the seed of the key that signs receipts of the one log of an SQLite file: the same at each start."""
        return hmac.digest(self._master, b"policy-engine receipts v1", "sha256")

    def wrap(self, key_id: str, data_key: bytes) -> bytes:
        """Return the data key encrypted under the master key, bound to `key_id`."""
        return sealing.wrap(self._master, key_id, os.urandom(NONCE_BYTES), data_key)

    def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        """Return the data key. Raises `VerificationFailed` when it was wrapped under another key or id."""
        return sealing.unwrap(self._master, key_id, wrapped)

    def index_key(self) -> bytes:
        """Return the key under which ids of data keys are hashed."""
        return self._index

    def period_key(self, period: str) -> bytes:
        """Return the key for tags of a period."""
        return sealing.period_key(self._tags, period)


def new_vault() -> FileVault:
    """Return a vault of fresh keys that no file holds, for tests, cases and demos."""
    return FileVault(*(secrets.token_bytes(KEY_BYTES) for _ in (*_KEYS, _LOG)))


def default_path(database: Path) -> Path:
    """Return where the key file of a database lies unless a setting names another."""
    return database.with_name(database.name + ".keys")


def open_vault(path: Path, *, database_is_empty: bool, now: int, with_log_key: bool = False) -> FileVault:
    """Return the vault of a key file, writing a new file when the database is empty and there is none.

    Raises `StartRefused` when the file of a database with entries is missing, or a file is damaged, readable by
    others, or cannot be written. `now` is written into a new file, for its owner to know it by. `with_log_key` asks
    for the log's key too, and adds it to a file that was written without.
    """
    if not path.exists():
        if not database_is_empty:
            raise StartRefused(
                "the database is not empty and its key file is missing: put the file back, or name it in "
                "POLICY_ENGINE_KEYS; a new one could not open what is sealed",
                where="key file",
            )
        _create(path, now, (*_KEYS, _LOG) if with_log_key else _KEYS)
    vault = _read(path)
    if with_log_key and vault.log_seed is None:
        _add_log_key(path)
        vault = _read(path)
    return vault


def _create(path: Path, now: int, names: tuple[str, ...]) -> None:
    """Write a new key file so that a crash leaves either none or all of it, and two starts agree on one."""
    document = {
        "version": VERSION,
        **{name: _drawn() for name in names},
        "created": format_instant(now),
    }
    newfile.write_once(path, json.dumps(document, indent=2) + "\n", "key file")


def _add_log_key(path: Path) -> None:
    """Add the member of the log's key to a file that was written before there was one, unless another start has."""
    with newfile.alone(path):
        document = _document(path)
        if _LOG not in document:
            newfile.replace(path, json.dumps({**document, _LOG: _drawn()}, indent=2) + "\n", "key file")


def _drawn() -> str:
    return b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _read(path: Path) -> FileVault:
    document = _document(path)
    try:
        names = (*_KEYS, _LOG) if _LOG in document else _KEYS
        return FileVault(*(b64decode(document[name], validate=True) for name in names))
    except (KeyError, TypeError, ValueError, Base64Error):
        raise StartRefused("the key file is damaged: a key is missing or malformed", where="key file") from None


def _document(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        raise StartRefused("the key file cannot be read, or is damaged", where="key file") from None
    if mode & 0o077:
        raise StartRefused("the key file may be read by others; set its mode to 0600", where="key file")
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise StartRefused("the key file has an unknown version; a newer program wrote it", where="key file")
    return document
