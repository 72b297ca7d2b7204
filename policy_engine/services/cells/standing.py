"""What is in force in a cell, as one cell tells another: ids, revisions, reach. No reason, no person, no annex.

Rules of the room:
- A standing is made of the registers under one epoch and kept until the epoch moves. Whoever knows it already, by its
  digest, is told that nothing changed. Drills and legal holds are nobody else's.
- A standing that came from elsewhere is hostile: every member is of its kind and within its limit, or none is believed.
  What can be read of a reach narrows it; what cannot be read reaches everything.
- What another has in force and this one has not is `lacking`: for a switch the same reach as long, for a directive the
  same models and blocks as long, and, where this one exempts, no later revision there with other exemptions. Licences,
  grants and overrides are compared by people (`policy-engine cells status`): a missing one can only deny.
Left to others: asking (`peers`), denying (`doubt`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.decision import Principal
from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.core.switches import DIMENSIONS, DRILL, KillSwitch, read_kill_switch
from policy_engine.errors import NotPermitted, StoreUnavailable
from policy_engine.ledger.canonical import canonical
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.cells.exchange import CellSilent
from policy_engine.services.holdrules import is_hold
from policy_engine.services.orderdocuments import IN_FORCE
from policy_engine.services.orders import READERS
from policy_engine.store.interfaces import Row, Store

_DIGEST = re.compile(r"[0-9a-f]{64}")
_KINDS: Final = ("directive", "licence", "grant", "override")


@dataclass(frozen=True, slots=True)
class SwitchThere:
    """A switch that is engaged somewhere: its id, revision, and what it covers from when to when."""

    id: str
    revision: int
    reach: KillSwitch


@dataclass(frozen=True, slots=True)
class OrderThere:
    """An order that is in force somewhere. `reach` and what follows are a directive's: its models, as a switch has."""

    id: str
    kind: str
    revision: int
    reach: KillSwitch
    blocks: frozenset[str] = frozenset()
    exempts: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is in force in a cell, under which release and epoch; `digest` changes whenever any of it does."""

    release: str
    epoch: int
    digest: str
    switches: Mapping[str, SwitchThere]
    orders: Mapping[str, OrderThere]


class Standings:
    """This cell's own standing, read again when its epoch has moved."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: tuple[dict[str, Any], Standing] | None = None

    def shown(self, principal: Principal, known: str | None = None) -> dict[str, Any]:
        """Return the document for another cell; without the lists where it knows them by their digest already.

        Raises `NotPermitted` unless the key holds one of `orders.READERS` and is not bounded to tenants.
        """
        if principal.scopes.isdisjoint(READERS) or principal.tenants is not None:
            raise NotPermitted(f"this needs a key with the scope {' or '.join(READERS)}, not bounded to tenants")
        document, _ = self._current()
        if known != document["digest"]:
            return document
        return {name: document[name] for name in ("release", "epoch", "digest")}

    def own(self) -> Standing:
        """Return the standing, read as strictly as another's. Raises `StoreUnavailable`."""
        return self._current()[1]

    def _current(self) -> tuple[dict[str, Any], Standing]:
        for _ in range(8):
            state = self._store.state()
            kept = self._kept
            if kept is not None and (kept[1].epoch, kept[1].release) == (state.epoch, state.release or ""):
                return kept
            switches = [_switch(row) for row in self._store.rows("switches") if _counts(row)]
            orders = [_order(row) for row in self._store.rows("orders") if _stands(row)]
            if self._store.state().epoch == state.epoch:
                lists = {"switches": switches, "orders": orders}
                digest = hashlib.sha256(canonical(lists)).hexdigest()
                document = {"release": state.release or "", "epoch": state.epoch, "digest": digest, **lists}
                self._kept = document, read_standing(document)
                return self._kept
        raise StoreUnavailable("the orders kept changing while they were read; try again")


def read_standing(document: Mapping[str, Any], before: Standing | None = None, limits: Limits = LIMITS) -> Standing:
    """Return the standing of a document from anywhere. `before` are the lists that are meant where it has none.

    Raises `CellSilent` when any member is not what it should be: of such a cell nothing is known.
    """
    release, epoch, digest = (document.get(name) for name in ("release", "epoch", "digest"))
    if not isinstance(release, str) or len(release) > limits.id_characters or type(epoch) is not int:
        raise CellSilent("it does not say its release and epoch")
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise CellSilent("it does not say what it has in force")
    if "switches" not in document and "orders" not in document and before is not None and before.digest == digest:
        return Standing(release, epoch, digest, before.switches, before.orders)
    switches = {each.id: each for each in (_switch_there(item) for item in _items(document, "switches", limits))}
    orders = {each.id: each for each in (_order_there(item) for item in _items(document, "orders", limits))}
    return Standing(release, epoch, digest, switches, orders)


def lacking(own: Standing, other: Standing) -> tuple[KillSwitch, ...]:
    """Return what could be reached by what another cell has in force and this one has not."""
    switches = [
        there.reach
        for there in other.switches.values()
        if there.id not in own.switches or not _covers(own.switches[there.id].reach, there.reach)
    ]
    directives = [
        there.reach
        for there in other.orders.values()
        if there.kind == "directive" and not _obeys(own.orders.get(there.id), there)
    ]
    return (*switches, *directives)


def _obeys(own: OrderThere | None, there: OrderThere) -> bool:
    if own is None or own.kind != "directive" or not there.blocks <= own.blocks or not _covers(own.reach, there.reach):
        return False
    return not own.exempts or own.exempts == there.exempts or own.revision >= there.revision


def _covers(own: KillSwitch, there: KillSwitch) -> bool:
    """Return whether one reaches all that the other reaches, at all times."""
    wide = all(
        getattr(own, name) is None or (getattr(there, name) is not None and getattr(there, name) <= getattr(own, name))
        for name in DIMENSIONS
    )
    return wide and own.start <= there.start and there.until <= own.until


def _counts(row: Row) -> bool:
    """A switch that nobody has released; its own end is compared by whoever reads it."""
    scope = row.document.get("scope")
    drill = isinstance(scope, Mapping) and scope.get(DRILL) is True
    return row.document.get("released_at") is None and not drill


def _stands(row: Row) -> bool:
    return not is_hold(row) and row.document.get("status") == IN_FORCE


def _switch(row: Row) -> dict[str, Any]:
    scope = row.document.get("scope")
    named = dict(scope) if isinstance(scope, Mapping) else {}
    found = {"id": row.id, "revision": row.revision, "scope": named}
    return _within(found, row.document)


def _order(row: Row) -> dict[str, Any]:
    body = row.document["body"]
    found: dict[str, Any] = {"id": row.id, "kind": row.document["kind"], "revision": row.revision}
    if found["kind"] != "directive":
        return _within(found, body)
    exempts = body.get("exempts") or []
    found |= {"models": body.get("models"), "blocks": sorted(body.get("blocks") or ())}
    found |= {"exempts": hashlib.sha256(canonical({"exempts": exempts})).hexdigest()} if exempts else {}
    return _within(found, body)


def _within(found: dict[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    return found | {name: document[name] for name in ("from", "until") if document.get(name) is not None}


def _items(document: Mapping[str, Any], name: str, limits: Limits) -> list[Mapping[str, Any]]:
    found = document.get(name)
    if not isinstance(found, list) or len(found) > limits.cell_orders_count:
        raise CellSilent(f"its {name} are no list, or more than {limits.cell_orders_count}")
    for each in found:
        if not isinstance(each, Mapping) or type(each.get("revision")) is not int:
            raise CellSilent(f"one of its {name} has no revision")
        id = each.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= limits.id_characters:
            raise CellSilent(f"one of its {name} has no id")
    return found


def _switch_there(item: Mapping[str, Any]) -> SwitchThere:
    scope = item.get("scope")
    if not isinstance(scope, Mapping) or DRILL in scope:
        raise CellSilent("one of its switches has no scope")
    return SwitchThere(item["id"], item["revision"], _reach(item, scope))


def _order_there(item: Mapping[str, Any]) -> OrderThere:
    kind, blocks, exempts = item.get("kind"), item.get("blocks", []), item.get("exempts", "")
    if kind not in _KINDS or not isinstance(blocks, list) or not isinstance(exempts, str):
        raise CellSilent("one of its orders is of no kind")
    if not all(isinstance(each, str) for each in blocks) or (exempts and _DIGEST.fullmatch(exempts) is None):
        raise CellSilent("one of its directives cannot be read")
    reach = _reach(item, {"models": item.get("models")})
    return OrderThere(item["id"], kind, item["revision"], reach, frozenset(blocks), exempts)


def _reach(item: Mapping[str, Any], scope: Mapping[str, Any]) -> KillSwitch:
    """Return what something elsewhere reaches; what cannot be read of its scope or its time reaches more, not less."""
    for name in ("from", "until"):
        if name in item and not _is_instant(item[name]):
            raise CellSilent("an instant that it names is none")
    document = {"scope": scope, "from": item.get("from"), "until": item.get("until")}
    return read_kill_switch(item["id"], document)


def _is_instant(value: Any) -> bool:
    try:
        return isinstance(value, str) and abs(parse_instant(value)) < ENDLESS
    except ValueError:
        return False
