"""Opening sealed parts with the vault: of decisions and notes, and of the rows of a change.

Rules: what is opened is also proved: place, data key and commitment agree, or `VerificationFailed` says which did not.
What was erased or pruned is never tried: a body raises `Gone` with the entry that did it, a row comes out as `None`.
Left to others: who may read (`services.evidence`), bytes (`ledger.sealing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policy_engine.errors import VerificationFailed
from policy_engine.ledger.sealing import (
    KeyVault,
    data_key_id,
    open_body,
    place_of,
    row_key_id,
    split_rows,
)
from policy_engine.services.datakeys import CIPHERS_COUNT, Tags
from policy_engine.services.marks import NO_MARKS, Marks
from policy_engine.store.interfaces import LogView, StoredEntry


@dataclass(frozen=True, slots=True)
class OpenedRow:
    """One row of a change, opened: `document=None` says that the row was taken away."""

    register: str
    id: str
    revision: int
    document: Mapping[str, Any] | None
    salt: bytes
    key_id: str


def row_documents(rows: Sequence[OpenedRow | None], public: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a change as plain data; an erased one keeps the register that the entry names in public."""
    return [
        {"register": public["rows"][item][0], "erased": True}
        if row is None
        else {"register": row.register, "id": row.id, "revision": row.revision, "document": row.document}
        for item, row in enumerate(rows)
    ]


class Unsealer:
    """Opens bodies with a vault; `stored_key` gives wrapped data keys. Remembers opened keys within bounds."""

    def __init__(self, vault: KeyVault, stored_key: Callable[[str], bytes | None], marks: Marks = NO_MARKS) -> None:
        self._vault = vault
        self._stored_key = stored_key
        self._marks = marks
        self._ciphers: dict[str, AESGCM] = {}
        self._tags = Tags(vault)

    @classmethod
    def over(cls, vault: KeyVault, view: LogView) -> Unsealer:
        """Return one that opens what a view holds and knows what of it is gone."""
        return cls(vault, view.data_key, Marks.of(view))

    def body(self, entry: StoredEntry, public: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sealed body of a decision or note.

        Raises `VerificationFailed` when it proves anything else, `Gone` when it was erased or pruned.
        """
        self._marks.require_body(entry, public["at"])
        if entry.sealed is None or entry.data_key is None:
            raise VerificationFailed("the entry has no sealed body")
        cipher = self._cipher(entry.data_key)
        body, _ = open_body(cipher, place_of(entry.log_id, entry.seq), entry.sealed, str(public["commit"]))
        if entry.data_key != data_key_id(self._vault.index_key(), body.get("tenant"), str(body.get("subject"))):
            raise VerificationFailed("the body is sealed under the data key of another subject")
        return body

    def rows(self, entry: StoredEntry, public: Mapping[str, Any]) -> list[OpenedRow | None]:
        """Return the rows of a change, in write order, `None` for one that was erased.

        Raises `VerificationFailed` as `body` does.
        """
        sealed = [] if entry.sealed is None else split_rows(entry.sealed)
        promised: Sequence[Sequence[str]] = public["rows"]
        if len(sealed) != len(promised):
            raise VerificationFailed("the change seals another number of rows than it commits to")
        place = (entry.log_id, entry.seq)
        return [
            self._row(place_of(*place, item), key_id, ciphertext, *promised[item])
            if self._marks.of_key(key_id, *place, public["at"]) is None
            else None
            for item, (key_id, ciphertext) in enumerate(sealed)
        ]

    def _row(self, place: str, key_id: str, ciphertext: bytes, register: str, commit: str) -> OpenedRow:
        row, salt = open_body(self._cipher(key_id), place, ciphertext, commit)
        if set(row) != {"register", "id", "revision", "document"} or row["register"] != register:
            raise VerificationFailed("a row of the change is not of the register it commits to")
        if key_id != row_key_id(self._vault.index_key(), register, row["id"]):
            raise VerificationFailed("a row of the change is sealed under the data key of another row")
        return OpenedRow(register, row["id"], row["revision"], row["document"], salt, key_id)

    def tags(self, body: Mapping[str, Any], public: Mapping[str, Any]) -> set[bytes]:
        """Return the tags that an entry must have: of its subject, its sealed tenant, and its tagged facets."""
        at, tag = public["at"], self._tags.tag
        tags = {tag(at, name, value) for name, values in body.get("tagged", {}).items() for value in values}
        if body["subject"]:
            tags.add(tag(at, "subject", body["subject"]))
        if public["kind"] == "decision" and public["tenant"] is None and body["tenant"] is not None:
            tags.add(tag(at, "tenant", body["tenant"]))
        return tags

    def _cipher(self, key_id: str) -> AESGCM:
        found = self._ciphers.get(key_id)
        if found is None:
            wrapped = self._stored_key(key_id)
            if wrapped is None:
                raise VerificationFailed("the data key is missing")
            if len(self._ciphers) >= CIPHERS_COUNT:
                self._ciphers.clear()
            found = self._ciphers[key_id] = AESGCM(self._vault.unwrap(key_id, wrapped))
        return found
