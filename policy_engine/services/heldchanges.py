"""Changes that a legal hold covers and that say something about a subject: an erasure would close their rows.

Rules of the room:
- A change has no model and no tenant of its own. A hold that names a model covers none; one that names a tenant covers
  a change whose row about the subject names that tenant; one on a period alone covers every change of that period.
- Rows that were erased before are no reason, nor are proposals to erase the subject: who asked for it stands in clear.
Left to others: decisions, searches and reads, and what else stops an erasure (`services.erasure`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.sealing import KeyVault, row_key_id, split_rows
from policy_engine.services.holdrules import Hold
from policy_engine.services.marks import Marks
from policy_engine.services.past import is_change
from policy_engine.services.traces import mentions
from policy_engine.services.unseal import OpenedRow, Unsealer
from policy_engine.store.interfaces import LogView, Row


def held_change(view: LogView, vault: KeyVault, holds: Iterable[Hold], rows: Iterable[Row], erasing: str) -> str | None:
    """Return the id of a hold that covers a change with any of a subject's rows, `None` when none does.

    `erasing` is the kind of the proposals that do not count.
    """
    able = [hold for hold in holds if hold.cover.subject is None and hold.cover.model is None]
    counted = [row for row in rows if row.document.get("kind") != erasing or row.register != "approvals"]
    keys = frozenset(row_key_id(vault.index_key(), row.register, row.id) for row in counted)
    if not able or not keys:
        return None
    marks = Marks.of(view)
    unsealer = Unsealer(vault, view.data_key, marks)
    for entry in view.scan_entries():
        if not is_change(entry) or not entry.sealed:
            continue
        public = parse_public(entry.public)
        if "rows" not in public or keys.isdisjoint(key for key, _ in split_rows(entry.sealed)):
            continue
        theirs = [row for row in unsealer.rows(entry, public) if row is not None and row.key_id in keys]
        for hold in able:
            if theirs and hold.cover.covers(public, subject=False, tenant=_names(theirs, hold.cover.tenant)):
                return hold.id
    return None


def _names(rows: Collection[OpenedRow], tenant: str | None) -> bool:
    """Return whether any of these rows is a tenant's, or names it."""
    return tenant is not None and any(row.id == tenant or mentions(row.document, tenant) for row in rows)
