"""Data keys and tags in memory: what a committer needs for every entry, made once and remembered within bounds.

Rules: a key that is not remembered is made anew and offered to the store, which answers with the stored one if there
is one (`adopt`); so a first-seen subject costs no extra read, and two processes never seal under two keys. A key is
offered again until a commit has stored it. Used from the committer's thread only.
No key outlives the epoch it was used in: an erasure, which raises the epoch, may have destroyed it, in this process or
another, and what is sealed afterwards needs the key that is stored then.
Left to others: wrapping (`KeyVault`), storing (`store.entries`).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policy_engine.core.instants import SECOND
from policy_engine.ledger.decisions import Tagged
from policy_engine.ledger.sealing import KEY_BYTES, KeyVault, data_key_id, tag

CIPHERS_COUNT = 16_384
"""Remembered data keys; beyond it the oldest half is forgotten and read again when needed."""

TAGS_COUNT = 65_536
"""Remembered tags; beyond it all are forgotten."""


class DataKeys:
    """Data keys by (tenant, subject), and the wrapped ones that no commit has stored yet."""

    def __init__(self, vault: KeyVault) -> None:
        self._vault = vault
        self._ciphers: dict[tuple[str | None, str], tuple[str, AESGCM]] = {}
        self._offered: dict[str, bytes] = {}
        self._epoch = 0

    def cipher(self, tenant: str | None, subject: str, epoch: int) -> tuple[str, AESGCM]:
        """Return the id and cipher for a subject within a tenant, making a key when none is remembered.

        `epoch` is the one that the entry is written under, or not at all.
        """
        if epoch > self._epoch:
            self._ciphers.clear()
            self._offered.clear()
            self._epoch = epoch
        found = self._ciphers.get((tenant, subject))
        if found is None:
            key_id = data_key_id(self._vault.index_key(), tenant, subject)
            key = os.urandom(KEY_BYTES)
            self._offered[key_id] = self._vault.wrap(key_id, key)
            found = self._keep(tenant, subject, key_id, key)
        return found

    def offered(self, key_id: str) -> bytes | None:
        """Return the wrapped key that a commit must store with the entry, `None` when it is stored."""
        return self._offered.get(key_id)

    def adopt(self, tenant: str | None, subject: str, key_id: str, wrapped: bytes) -> tuple[str, AESGCM]:
        """Take the stored key instead of the one made here, and return it as `cipher` does."""
        self._offered.pop(key_id, None)
        return self._keep(tenant, subject, key_id, self._vault.unwrap(key_id, wrapped))

    def stored(self, key_id: str, wrapped: bytes) -> None:
        """Say that a commit has stored this key; another that was made since under its id is still to be offered."""
        if self._offered.get(key_id) == wrapped:
            del self._offered[key_id]

    def _keep(self, tenant: str | None, subject: str, key_id: str, key: bytes) -> tuple[str, AESGCM]:
        if len(self._ciphers) >= CIPHERS_COUNT:
            for old in list(self._ciphers)[: CIPHERS_COUNT // 2]:
                del self._ciphers[old]
        found = (key_id, AESGCM(key))
        self._ciphers[tenant, subject] = found
        return found


class Tags:
    """Tags of the period an instant lies in (a calendar year, UTC)."""

    def __init__(self, vault: KeyVault) -> None:
        self._vault = vault
        self._start = self._end = 0
        self._key = b""
        self._made: dict[tuple[str, str], bytes] = {}
        self._facets: dict[Tagged, tuple[bytes, ...]] = {}

    def tag(self, at: int, name: str, value: str) -> bytes:
        """Return the tag of a facet's value at an instant."""
        if not self._start <= at < self._end:
            self._turn(at)
        found = self._made.get((name, value))
        if found is None:
            if len(self._made) >= TAGS_COUNT:
                self._made.clear()
            found = self._made[name, value] = tag(self._key, name, value)
        return found

    def facet_tags(self, at: int, tagged: Tagged) -> tuple[bytes, ...]:
        """Return the tags of facets, one for each value."""
        if not self._start <= at < self._end:
            self._turn(at)
        found = self._facets.get(tagged)
        if found is None:
            if len(self._facets) >= TAGS_COUNT:
                self._facets.clear()
            tags = [self.tag(at, name, value) for name, values in tagged for value in values]
            found = self._facets[tagged] = tuple(tags)
        return found

    def _turn(self, at: int) -> None:
        """Move to the year of an instant."""
        year = year_of(at)
        self._start, self._end = start_of(year), start_of(year + 1)
        self._key = self._vault.period_key(str(year))
        self._made.clear()
        self._facets.clear()


def year_of(at: int) -> int:
    """Return the calendar year of an instant, which is the period of its tags."""
    return datetime.fromtimestamp(at // SECOND, UTC).year


def start_of(year: int) -> int:
    """Return the instant at which a calendar year begins."""
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * SECOND
