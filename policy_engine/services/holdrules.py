"""What a legal hold covers, and what it looks like in the register of orders. Pure.

Rules of the room: every dimension that a hold names must match; one that names a subject stops the erasure of that
subject whatever else it names. Its `from` and `until` are about when entries were written, not about the hold: a hold
stands until two persons release it.
Left to others: placing and releasing (`holds`), what is erased (`erasure`) and pruned (`retention`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.instants import ENDLESS, format_instant, parse_instant
from policy_engine.services.orderdocuments import IN_FORCE
from policy_engine.store.interfaces import Row

KIND: Final = "hold"


@dataclass(frozen=True, slots=True)
class Cover:
    """What a hold covers: `None` is any. Instants in microseconds, `until` exclusive.

    `alias_of` is the model that `model` was an alias of when the hold was placed: it is covered by either name.
    """

    subject: str | None = None
    tenant: str | None = None
    model: str | None = None
    since: int | None = None
    until: int | None = None
    alias_of: str | None = None

    @property
    def names_something(self) -> bool:
        """Return whether it is narrower than everything."""
        return (self.subject, self.tenant, self.model, self.since, self.until) != (None,) * 5

    def body(self, id: str) -> dict[str, Any]:
        """Return the body that the register holds."""
        members = {
            "id": id,
            "subject": self.subject,
            "tenant": self.tenant,
            "model": self.model,
            "alias_of": self.alias_of,
            "from": None if self.since is None else format_instant(self.since),
            "until": None if self.until is None else format_instant(self.until),
        }
        return {name: value for name, value in members.items() if value is not None}

    def covers(self, public: Mapping[str, Any], *, subject: bool, tenant: bool) -> bool:
        """Return whether it covers an entry; the caller says whether subject and tenant are those that it names."""
        at = public["at"]
        names = {public.get("model"), public.get("asked")} - {None}
        return (
            (self.subject is None or subject)
            and (self.tenant is None or tenant)
            and (self.model is None or not names.isdisjoint((self.model, self.alias_of)))
            and (-ENDLESS if self.since is None else self.since) <= at
            and at < (ENDLESS if self.until is None else self.until)
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold as it stands."""

    id: str
    cover: Cover
    reason: str
    reference: str
    placed_by: str
    placed_at: int
    in_force: bool
    revision: int


def read_hold(row: Row) -> Hold:
    """Return the hold of a register row. One whose body cannot be read covers everything."""
    document = row.document
    return Hold(
        id=row.id,
        cover=_cover(document["body"]),
        reason=document["reason"],
        reference=document["reference"],
        placed_by=document["received_by"],
        placed_at=parse_instant(document["received_at"]),
        in_force=document["status"] == IN_FORCE,
        revision=row.revision,
    )


def shown(hold: Hold) -> dict[str, Any]:
    """Return a hold as a document: instants as text, `status`, and of its cover what it names."""
    cover = hold.cover.body(hold.id)
    if "from" in cover:
        cover["since"] = cover.pop("from")
    return {
        **cover,
        "status": "in_force" if hold.in_force else "released",
        "reason": hold.reason,
        "reference": hold.reference,
        "placed_by": hold.placed_by,
        "placed_at": format_instant(hold.placed_at),
        "revision": hold.revision,
    }


def is_hold(row: Row) -> bool:
    """Return whether a row of the register of orders is a hold."""
    return bool(row.document.get("kind") == KIND)


def _cover(body: Any) -> Cover:
    try:
        since, until = body.get("from"), body.get("until")
        return Cover(
            subject=body.get("subject"),
            tenant=body.get("tenant"),
            model=body.get("model"),
            alias_of=body.get("alias_of"),
            since=None if since is None else parse_instant(since),
            until=None if until is None else parse_instant(until),
        )
    except (AttributeError, TypeError, ValueError):
        return Cover()
