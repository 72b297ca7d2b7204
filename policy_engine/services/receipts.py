"""Receipts for allowed decisions: one signature for a batch, made when the first receipt of it is asked for.

Rules of the room:
- The key of a log's receipts is named by the log's `open` leaf: on SQLite derived from the key file, so that it is the
  same at every start; on PostgreSQL drawn by each process, and gone with it.
- What is signed is the header as it was committed, and the longest validity that any answer of this engine has.
- Only an allow has a receipt: a caller who was denied acts on nothing.
Left to others: bytes and checking (`ledger.receipts`), when an answer leaves (`decide`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from policy_engine.ledger.merkle import paths
from policy_engine.ledger.note import Ed25519Signer
from policy_engine.ledger.receipts import Receipt, sign_committed
from policy_engine.ledger.spelling import write_base64
from policy_engine.store.interfaces import Committed

NAME = "policy-engine.local/receipts/"
"""How the names of receipt keys begin; the log's id follows."""


class ReceiptKey:
    """The key that signs the receipts of whatever log this process writes, under a name of each log's own."""

    def __init__(self, seed: bytes, valid_for_ms_max: int) -> None:
        self._seed = seed
        self._signers: dict[str, Ed25519Signer] = {}
        self.valid_for_ms_max = valid_for_ms_max

    def text(self, log_id: str) -> str:
        """Return the verifier key text for a log, as its `open` leaf names it."""
        return str(self.signer(log_id).key)

    def signer(self, log_id: str) -> Ed25519Signer:
        """Return the signer for a log."""
        found = self._signers.get(log_id)
        if found is None:
            found = self._signers[log_id] = Ed25519Signer(NAME + log_id, self._seed)
        return found

    def batch(self, committed: Committed) -> ReceiptedBatch | None:
        """Return what gives the receipts of a batch; `None` when the store did not say its header."""
        return ReceiptedBatch(self, committed) if committed.header else None


class ReceiptedBatch:
    """A committed batch whose entries have receipts."""

    def __init__(self, key: ReceiptKey, committed: Committed) -> None:
        self._key = key
        self._committed = committed
        self._spelled: dict[bytes, str] = {}

    @cached_property
    def _note(self) -> str:
        committed = self._committed
        return sign_committed(committed.header, self._key.valid_for_ms_max, self._key.signer(committed.log_id))

    @cached_property
    def _paths(self) -> Sequence[tuple[bytes, ...]]:
        return paths(self._committed.leaves)

    def receipt(self, seq: int, valid_for_ms: int) -> Mapping[str, Any]:
        """Return the receipt of an entry of the batch as a JSON object.

        The first call for a batch signs it; two threads that call at once sign the same note twice.
        """
        committed = self._committed
        place = seq - committed.seqs[0]
        valid = min(valid_for_ms, self._key.valid_for_ms_max)
        return Receipt(seq, committed.leaves[place], self._paths[place], valid, self._note).members(self._spell)

    def _spell(self, hash: bytes) -> str:
        """Return the base64 of a hash; the paths of a batch share most of theirs."""
        found = self._spelled.get(hash)
        if found is None:
            found = self._spelled[hash] = write_base64(hash)
        return found
