"""What an unsealed bundle holds beyond the log: the committed texts, and releases as stock Casbin reads them.

Rules: a text is given out exactly as it was committed to, salt and all, so that the verifier can check it; what was
erased is said to be gone, and what does not open is an error.
Left to others: who may open bodies, and the entry that says so (`services.exports`), writing (`bundle`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policy_engine.core.plain import AnyRelease
from policy_engine.errors import VerificationFailed
from policy_engine.ledger.sealing import NONCE_BYTES, KeyVault, place_of, split_rows
from policy_engine.rules.export import export
from policy_engine.rules.release import digests_of
from policy_engine.services.bundleplace import LISTED
from policy_engine.services.datakeys import CIPHERS_COUNT
from policy_engine.services.marks import NO_MARKS, Marks
from policy_engine.store.interfaces import LogView, StoredEntry

Opened = Sequence[tuple[str | None, bytes | None]]


class OpenedTexts:
    """Opens sealed parts to the very texts that were committed to; `stored_key` gives wrapped data keys.

    What `marks` says is gone is never tried: a data key may have been made anew under the same id.
    """

    def __init__(self, vault: KeyVault, stored_key: Callable[[str], bytes | None], marks: Marks = NO_MARKS) -> None:
        self._vault = vault
        self._marks = marks
        self._stored_key = stored_key
        self._ciphers: dict[str, AESGCM | None] = {}

    @classmethod
    def over(cls, vault: KeyVault, view: LogView) -> OpenedTexts:
        """Return one that opens what a view holds and knows what of it is gone."""
        return cls(vault, view.data_key, Marks.of(view))

    def __call__(self, entry: StoredEntry, public: Mapping[str, Any]) -> Opened:
        """Return `(data key, text)` for each commitment of an entry, `None` for a text that was erased or pruned.

        Raises `VerificationFailed` for a sealed part that is there and does not open.
        """
        sealed = entry.sealed or b""
        if "rows" not in public:
            if self._marks.of_body(entry, public["at"]) is not None:
                return [(entry.data_key, None)]
            return [(entry.data_key, self._text(entry.data_key, place_of(entry.log_id, entry.seq), sealed))]
        if not sealed:
            return [(None, None)] * len(public["rows"])
        place = (entry.log_id, entry.seq)
        return [
            (key_id, self._text(key_id, place_of(*place, item), ciphertext))
            if self._marks.of_key(key_id, *place, public["at"]) is None
            else (key_id, None)
            for item, (key_id, ciphertext) in enumerate(split_rows(sealed))
        ]

    def _text(self, key_id: str | None, place: str, ciphertext: bytes) -> bytes | None:
        cipher = None if key_id is None or not ciphertext else self._cipher(key_id)
        if cipher is None:
            return None
        try:
            return cipher.decrypt(ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise VerificationFailed("a sealed body does not open with its data key at its place") from None

    def _cipher(self, key_id: str) -> AESGCM | None:
        """Return the cipher of a data key, `None` when the key was destroyed."""
        if key_id not in self._ciphers:
            if len(self._ciphers) >= CIPHERS_COUNT:
                self._ciphers.clear()
            wrapped = self._stored_key(key_id)
            self._ciphers[key_id] = None if wrapped is None else AESGCM(self._vault.unwrap(key_id, wrapped))
        return self._ciphers[key_id]


def release_files(release: AnyRelease) -> dict[str, bytes]:
    """Return what `policy-engine-verify --replay` needs of a release: its list of files, its model, its policy.

    The list hashes to the name of the release and fixes the model; the policy of a release made of packs is what
    `rules.export` makes of them. Raises `LoadRefused` as `export` does.
    """
    listed = sorted([path, digest] for path, digest in digests_of(release).items())
    return {LISTED: json.dumps(listed, ensure_ascii=False).encode(), **export(release)}
