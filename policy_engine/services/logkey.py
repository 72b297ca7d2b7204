"""The key that signs checkpoints, and the origin that names the log.

Rules of the room:
- The private key lies in a file (mode 0600) of the machine that integrates: on SQLite in the key file, on PostgreSQL in
  a file of its own that only the sequencer's machine has. It is never printed or logged; `repr` shows nothing of it.
- The origin is made with the first checkpoint and kept with the tree; it is the name of the key. A key, or a setting,
  of another origin than the tree's is refused. Of several first starts at once each may draw an origin; the tree keeps
  one of them, and the others give way to it.
Left to others: signing (`growth`), the key file of SQLite (`keyfile`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from policy_engine.errors import StartRefused, VerificationFailed
from policy_engine.ledger.note import KEY_BYTES, Ed25519Signer, Signer, parse_signer
from policy_engine.services.growth import TreeRefused
from policy_engine.services.newfile import write_once
from policy_engine.store.treeinterfaces import TreeState

ORIGIN_HEX_BYTES = 8


class LogKey:
    """The log's key: `make` gives the signer for an origin, `origin` is `None` until the tree or a setting says it."""

    def __init__(self, make: Callable[[str], Signer], origin: str | None = None) -> None:
        self._make = make
        self._origin = origin
        self._settled = origin is not None  # an origin that was drawn here counts once the tree has one

    def signer(self, state: TreeState) -> Signer:
        """Return the signer for a tree. Raises `TreeRefused` for the tree of another origin or key."""
        origin = self._origin
        if not self._settled or origin is None:
            origin = self._origin = state.origin or origin or default_origin()
            self._settled = bool(state.origin)
        if state.origin not in ("", origin):
            raise TreeRefused(
                "the tree has another origin than the key or POLICY_ENGINE_LOG_ORIGIN; an origin never changes"
            )
        signer = self._make(origin)
        if state.key not in ("", str(signer.key)):
            raise TreeRefused("the tree was signed with another key; put the right key file back")
        return signer


def seeded(seed: bytes) -> Callable[[str], Signer]:
    """Return what makes the signer of a seed for an origin."""
    return lambda origin: Ed25519Signer(origin, seed)


def default_origin() -> str:
    """Return the origin of a log that nobody named: it says that the log is local, and is no other log's."""
    return f"policy-engine.local/{secrets.token_hex(ORIGIN_HEX_BYTES)}"


def check_origin(origin: str | None) -> str | None:
    """Return a setting's origin. Raises `StartRefused` when it cannot name a key."""
    if origin is not None:
        try:
            Ed25519Signer(origin, bytes(KEY_BYTES))
        except VerificationFailed:
            raise StartRefused(
                "an origin is a name without spaces and plus signs, such as log.example.org/models",
                where="POLICY_ENGINE_LOG_ORIGIN",
            ) from None
    return origin


def open_log_key(path: Path, state: TreeState, origin: str | None) -> LogKey:
    """Return the key of a file, made when there is neither a file nor a tree that was signed.

    The file holds one line, the private key as Go's `note` writes it. Raises `StartRefused` when the file is missing
    for a tree that was signed, is damaged, may be read by others, or names another origin than `origin`.
    """
    if not path.exists():
        if state.key:
            raise StartRefused(
                "the tree was signed and the file with its key is missing: put it back; another key would be "
                "another log's",
                where="POLICY_ENGINE_LOG_KEY",
            )
        made = Ed25519Signer(origin or default_origin(), secrets.token_bytes(KEY_BYTES))
        write_once(path, made.text() + "\n", "POLICY_ENGINE_LOG_KEY")
    try:
        mode = path.stat().st_mode
        signer = parse_signer(path.read_text().strip())
    except (OSError, ValueError, VerificationFailed):
        raise StartRefused("the log key cannot be read, or is damaged", where="POLICY_ENGINE_LOG_KEY") from None
    if mode & 0o077:
        raise StartRefused("the log key may be read by others; set its mode to 0600", where="POLICY_ENGINE_LOG_KEY")
    if origin not in (None, signer.key.name):
        raise StartRefused(
            "the log key is named for another origin than POLICY_ENGINE_LOG_ORIGIN says", where="POLICY_ENGINE_LOG_KEY"
        )
    return LogKey(lambda name: signer, signer.key.name)
