"""Every use of a licence: by whom, how often, and whether within its scope and dates, then and as it ended.

Rules of the room:
- A use is a decision whose entry names the licence: one that lifted a deny. Scope and dates are compared here with the
  document of the order's register, and not by the code that decides, so that this is a second look.
- A licence is looked at twice: as it stood at the use, and as it stands at the end of the log. One that was erased with
  its person covers or leaves out nothing that anybody could tell: its uses are handed over as erased.
Left to others: the walk, who may ask (`services.asof`), what a licence lifts (`core.orders`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.core.instants import parse_instant
from policy_engine.services.marks import ERASED
from policy_engine.services.past import is_decision
from policy_engine.services.rejudge import Recorded
from policy_engine.services.walk import Changed, Closed, Walk
from policy_engine.store.interfaces import Row, StoredEntry


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a licence. `outside` names what of the licence, as it stood then, did not cover it; none is right."""

    entry: str
    instant: int
    subject: str
    tenant: str | None
    model: str | None
    action: str
    outcome: str
    lifted: tuple[str, ...]
    outside: tuple[str, ...]


def uses_of(walk: Walk, licence: str) -> Iterator[Use | Closed]:
    """Yield every use of a licence in the order in which they happened, and what does not open."""
    mark = json.dumps(licence, ensure_ascii=False).encode()

    def may(entry: StoredEntry) -> bool:
        return mark in entry.public and is_decision(entry)

    for step in walk.steps(lambda public: licence in public["licences"], may=may):
        if isinstance(step, Recorded):
            row = walk.past.row("orders", licence)
            gone = walk.row_gone("orders", licence, step) if row is None else None
            if gone is None:
                yield _use(walk, step, row)
            else:  # nobody can tell any more what it covered
                yield Closed(step.log_id, step.seq, ERASED, gone, step.public)
        elif isinstance(step, Closed) and not isinstance(step, Changed):
            yield step


def ends_at(row: Row | None) -> int | None:
    """Return when a licence stops lifting: its end or its revocation, `None` for neither."""
    body = {} if row is None else row.document["body"]
    ends = [parse_instant(body[name]) for name in ("until", "revoked_at") if body.get(name) is not None]
    return min(ends, default=None)


def _use(walk: Walk, step: Recorded, row: Row | None) -> Use:
    public, body = step.public, step.body
    return Use(
        entry=walk.name(step),
        instant=public["instant"],
        subject=body["subject"],
        tenant=body["tenant"],
        model=public["model"],
        action=body["action"],
        outcome=public["outcome"],
        lifted=tuple(public["lifted"]),
        outside=("licence",) if row is None else tuple(_outside(row.document["body"], public, body)),
    )


def _outside(licence: Mapping[str, Any], public: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the members of a licence's document that do not cover a decision."""
    at = public["instant"]
    if licence.get("from") is None or at < parse_instant(licence["from"]):
        yield "from"
    for name in ("until", "revoked_at"):
        if licence.get(name) is not None and at >= parse_instant(licence[name]):
            yield name
    for name, value in (("models", public["model"]), ("actions", body["action"])):
        if value not in (licence.get(name) or ()):
            yield name
    for name, value in (("person_id", body["subject"]), ("tenant_id", body["tenant"])):
        if licence.get(name) not in (None, value):
            yield name
