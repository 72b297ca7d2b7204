"""Who got through between the receipt of a directive and its first enforcement, by deciding again with it in force.

Rules of the room:
- The directive is supposed as it was first received, without exemptions that were approved later; amendments, which may
  name other models, are handed over by name, for nothing of them is counted. It is supposed to be in force from the
  instant asked about: the start it names, or when it was entered where it names none, or an instant given (the letter
  may have arrived before anybody entered it).
- Enforced first is the first decision that names it among its reasons. Every allow in between is decided again; those
  that the directive would have denied got through. Law 4 makes that none from the entry on. Nobody gets through a
  directive that is over: where none was denied before its end, that is where it stops.
- Each log is a writer: for each is said when it first wrote under the directive and when it first enforced it.
Left to others: the walk, who may ask (`services.asof`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policy_engine.core.decision import Outcome
from policy_engine.core.instants import ENDLESS, format_instant, parse_instant
from policy_engine.errors import NotFound
from policy_engine.services.orderdocuments import IN_FORCE
from policy_engine.services.past import is_decision
from policy_engine.services.rejudge import Recorded, Rejudge, differences
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.supposed import Otherwise, Supposed, otherwise
from policy_engine.services.suspensions import MEMBER
from policy_engine.services.switchreasons import ids_named
from policy_engine.services.walk import Changed, Closed, Walk
from policy_engine.store.interfaces import Row, StoredEntry


@dataclass(slots=True)
class Writer:
    """When one log first wrote under the directive, and when it first enforced it: entry and instant."""

    log: str
    first_entry: str | None = None
    first_at: int | None = None
    enforced_entry: str | None = None
    enforced_at: int | None = None


@dataclass(slots=True)
class Receipt:
    """What the log says of a directive: its receipt, its first enforcement, and both for each log.

    `amended` are the entries that gave it another scope later: exemptions, a confirmation and its end are none.
    """

    order: str
    entry: str
    epoch: int
    received_at: int
    received_by: str
    starts_at: int | None
    row: Row
    ends_at: int | None = None
    enforced_entry: str | None = None
    enforced_at: int | None = None
    writers: dict[str, Writer] = field(default_factory=dict)
    amended: list[str] = field(default_factory=list)

    @property
    def counts_from(self) -> int:
        """When it should have been enforced: from the start that it names, earlier or later, else from its receipt."""
        return self.received_at if self.starts_at is None else self.starts_at

    def between(self, since: int, at: int) -> bool:
        """Whether an instant lies between another and the first enforcement, or the end where nobody was denied."""
        enforced = ENDLESS if self.enforced_at is None else self.enforced_at
        return since <= at <= enforced and (self.ends_at is None or at < self.ends_at)


def receipt_of(walk: Walk, order: str) -> Receipt:
    """Return what the log says of a directive. Raises `NotFound` when no entry received it."""
    found: Receipt | None = None
    scope: Mapping[str, Any] | None = None
    mark = json.dumps(order, ensure_ascii=False).encode()

    def may(entry: StoredEntry) -> bool:
        """After the receipt each log's first decision is wanted, and every one that names the directive."""
        if found is None or not is_decision(entry):
            return False
        writer = found.writers.get(entry.log_id)
        return writer is None or (writer.enforced_at is None and mark in entry.public)

    for step in walk.steps(lambda public: True, may=may):
        if isinstance(step, Changed):
            if found is None and step.public["kind"] == "order.received" and step.public.get("order") == order:
                found = _received(walk, step, order)
                scope = None if found is None else _scope(found.row)
            if found is not None and ("orders", order) in walk.past.touched:
                found.ends_at = _ends_at(walk.past.row("orders", order), step.public["at"])
                scope, before = _scope(walk.past.row("orders", order)), scope
                if scope not in (None, before):
                    found.amended.append(walk.name(step))
        elif found is not None and step.public is not None:
            _note(walk, found, step)
    if found is None:
        raise NotFound("no entry received a directive of that id", where="directive")
    return found


def let_through(
    walk: Walk, releases: ReleaseLoader, receipt: Receipt, since: int
) -> Iterator[Otherwise | Closed | None]:
    """Yield, for every allow from `since` to the first enforcement, what the directive in force would have made of it.

    `None` stands for an allow that it would not have denied; what does not open is handed over.
    """
    supposed = Supposed(walk.past, "orders", receipt.order, lambda row: _in_force(row, receipt, since))
    rejudge = Rejudge(supposed, releases)

    def wanted(public: Mapping[str, Any]) -> bool:
        return receipt.between(since, public["instant"]) and bool(public["outcome"] == Outcome.ALLOW)

    for step in walk.steps(wanted):
        if isinstance(step, Closed):
            yield step
        elif isinstance(step, Recorded) and (gone := walk.basis_gone(step)) is not None:
            yield gone
        elif isinstance(step, Recorded):
            found = rejudge(step)
            reasons = ((reason.rule, reason.code, reason.orders) for reason in found.reasons)
            denied = found.outcome is Outcome.DENY and receipt.order in ids_named(reasons, switches=False)
            yield otherwise(walk, step, found, differences(step, found)) if denied else None


def _in_force(row: Row | None, receipt: Receipt, since: int) -> Row:
    first = receipt.row
    body = {**first.document["body"], "from": format_instant(since)}
    revision = first.revision if row is None else row.revision
    return Row("orders", first.id, revision, {**first.document, "body": body}, first.salt, first.log_id, first.seq, 0)


def _received(walk: Walk, step: Changed, order: str) -> Receipt | None:
    row = walk.past.row("orders", order)
    if row is None or row.document["kind"] != "directive":
        return None
    start = row.document["body"].get("from")
    return Receipt(
        order=order,
        entry=walk.name(step),
        epoch=step.public["epoch"],
        received_at=parse_instant(row.document["received_at"]),
        received_by=row.document["received_by"],
        starts_at=None if start is None else parse_instant(start),
        row=row,
    )


def _scope(row: Row | None) -> Mapping[str, Any] | None:
    """Return what a directive in force says beside exemptions and the date to confirm it by, `None` once over."""
    if row is None or row.document["status"] != IN_FORCE:
        return None
    return {name: said for name, said in row.document["body"].items() if name not in ("exempts", MEMBER)}


def _ends_at(row: Row | None, changed_at: int) -> int | None:
    """Return when a directive ends as of a change of it: by that change, or by itself, `None` for neither."""
    if row is None or row.document["status"] != IN_FORCE:
        return changed_at
    until = row.document["body"].get("until")
    return None if until is None else parse_instant(until)


def _note(walk: Walk, receipt: Receipt, step: Recorded | Closed) -> None:
    """Take down a log's first decision under the directive, and its first that names it."""
    public = step.public or {}
    writer = receipt.writers.setdefault(step.log_id, Writer(step.log_id))
    name = walk.name(step)
    if writer.first_at is None:
        writer.first_entry, writer.first_at = name, public["instant"]
    if receipt.order in ids_named(public["reasons"], switches=False):
        writer.enforced_entry, writer.enforced_at = name, public["instant"]
        if receipt.enforced_at is None:
            receipt.enforced_entry, receipt.enforced_at = name, public["instant"]
