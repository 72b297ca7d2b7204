"""What a log gave out, held against what it holds: every receipt, and every checkpoint that anybody has seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from policy_engine.errors import PolicyEngineError
from policy_engine.ledger.canonical import canonical
from policy_engine.ledger.checkpoint import parse_checkpoint
from policy_engine.ledger.leaves import Opened, parse_leaf
from policy_engine.ledger.note import VerifierKey, parse_key, parse_note
from policy_engine.ledger.receipts import check_receipt, parse_receipt
from policy_engine.store.interfaces import LogView


def receipt_keys(view: LogView) -> list[VerifierKey]:
    """Return the keys that the beginnings of the logs name for their receipts."""
    opened = [parse_leaf(data) for _, kind, data in view.log_events() if kind == "open"]
    return [parse_key(leaf.key) for leaf in opened if isinstance(leaf, Opened) and leaf.key]


def broken_receipts(view: LogView, receipts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the receipts whose entry or batch is not in the log as it was promised."""
    keys = receipt_keys(view)
    entries = {(entry.log_id, entry.seq): entry.public for entry in view.scan_entries()}
    headers = {batch.header for batch in view.scan_batches()}
    broken = []
    for members in receipts:
        receipt = parse_receipt(canonical(members))
        try:
            promised = check_receipt(receipt, keys)
            check_receipt(receipt, keys, entries[promised.header.log_id, receipt.seq])
        except (KeyError, PolicyEngineError) as error:
            broken.append(f"the receipt of entry {receipt.seq}: {error}")
            continue
        if promised.header_bytes not in headers:
            broken.append(f"the receipt of entry {receipt.seq}: its batch is not in the log")
    return broken


def other_trees(view: LogView, notes: Iterable[bytes]) -> list[str]:
    """Return the checkpoints that were given out and are not the stored ones; `verify` compares those with the tree."""
    stored = {checkpoint.size: parse_note(checkpoint.note).text for checkpoint in view.scan_checkpoints()}
    wrong = []
    for note in notes:
        text = parse_note(note).text
        size = parse_checkpoint(text).size
        if stored.get(size) != text:
            wrong.append(f"the checkpoint of size {size} that was given out is not in the log")
    return wrong
