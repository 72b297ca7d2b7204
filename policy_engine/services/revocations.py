"""What changed from epoch to epoch, in public terms, for enforcement points that hold answers of older epochs.

Rules of the room:
- Read from the log: the entry that raised an epoch says what kind of change it was, the register row it wrote how far
  it reaches. A row that was written again since no longer says that, so the change then reaches everything.
- A change that only loosens voids nothing, nor does the switch of a drill; one whose kind or reach is not known voids
  everything.
- Only models and actions narrow what a change voids, the models with all aliases and derivatives: an enforcement
  point knows neither the owners of a tenant nor where the engine places a request. The rest of a scope is for people.
- Nothing personal: no person, key or licence is named, and no tenant that is an individual or unknown.
Left to others: who hears of it and how (`api.feed`), what a budget bounds (`decide`). Changes of facts raise no epoch
and are not told; the budget alone bounds an answer that rests on an older fact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policy_engine.core.facts import TenantType
from policy_engine.core.instants import format_instant
from policy_engine.core.release import Catalogue
from policy_engine.limits import LIMITS, Limits
from policy_engine.store.interfaces import ReadStore, Row

NOTHING: Final = "nothing"
EVERYTHING: Final = "everything"

LOOSENING: Final = frozenset(
    {
        "switch.released",
        "order.licensed",
        "order.recorded",
        "order.ended",
        "hold.placed",
        "hold.released",
        "key.created",
        "key.revoked",  # voids no answer; the streams of that key end, and it is refused from then on
        "release.published",
        "export.approved",
        "pruned",
    }
)
"""Kinds of changes under which no allow becomes a deny. An exemption that replaces another one is not among them."""

_SHOWN: Final = ("models", "tenants", "tenant_types", "tiers", "regions", "actions")
_CHANGE: Final = b'"rows":['
_EPOCH: Final = re.compile(rb'"epoch":([0-9]+)[,}]')


@dataclass(frozen=True, slots=True)
class Announcement:
    """What raised the epoch to `epoch`, at an instant.

    `id` and `scope` are those of a switch or directive. `voids` is `NOTHING`, `EVERYTHING`, or `models` and `actions`,
    each a list of names: an allow of an older epoch on one of the models, for one of the actions, may be a deny now.
    `about` are the tenants that a switch names, `None` for any, told to nobody: it says who may be told of the switch.
    """

    epoch: int
    at: int
    kind: str
    id: str | None
    scope: Mapping[str, Any]
    voids: str | Mapping[str, list[str]]
    about: frozenset[str] | None = None

    def document(self) -> dict[str, Any]:
        """Return the members as they are sent; what is empty is left out."""
        members = {
            "epoch": self.epoch,
            "at": format_instant(self.at),
            "kind": self.kind,
            "id": self.id,
            "scope": dict(self.scope),
            "voids": self.voids,
        }
        return {name: value for name, value in members.items() if value not in (None, {})}

    def within(self, tenants: frozenset[str] | None) -> Announcement:
        """Return it as a key bounded to tenants may see it: of other tenants' switches neither id nor scope."""
        if tenants is None or self.about is None:
            return self
        if self.about.isdisjoint(tenants):
            return replace(self, id=None, scope={})
        shown = {"tenants": sorted(self.about & tenants)} if "tenants" in self.scope else {}
        return replace(self, scope={**self.scope, **shown})


class Revocations:
    """Reads what changed. `catalogue` gives the models of the release that is active now, `None` without one."""

    def __init__(self, store: ReadStore, catalogue: Callable[[], Catalogue | None], limits: Limits = LIMITS) -> None:
        self._store = store
        self._catalogue = catalogue
        self._limits = limits

    def epoch(self) -> int:
        """Return the epoch of the database. Raises `StoreUnavailable` when it cannot be read."""
        return self._store.state().epoch

    def since(self, epoch: int) -> tuple[Announcement, ...] | None:
        """Return what raised each epoch after this one, in order, up to now.

        `None` when that is too much to read, or cannot be told: then everything older is void. Raises
        `StoreUnavailable`.
        """
        now = self._store.state().epoch
        if not 0 <= now - epoch <= self._limits.revocation_missed_epochs_count:
            return None
        found = self._raised(epoch) if now > epoch else {}
        if found is None or found.keys() != set(range(epoch + 1, epoch + 1 + len(found))) or len(found) < now - epoch:
            return None
        catalogue = self._catalogue() if found else None
        return tuple(self._announcement(*found[each], catalogue) for each in sorted(found))

    def _raised(self, epoch: int) -> dict[int, tuple[str, int, Mapping[str, Any]]] | None:
        """Return the entry that raised each epoch after this one; `None` when its own entries were not reached."""
        found: dict[int, tuple[str, int, Mapping[str, Any]]] = {}
        count = self._limits.revocation_looked_entries_count
        seen = 0
        for log_id, seq, public in self._store.entries(newest_first=True, limit=count):
            seen += 1
            own = _epoch_of(public)
            if own <= epoch:
                return found
            if _CHANGE in public:
                members = json.loads(public)
                if "rows" in members:
                    found[own] = (log_id, seq, members)  # the oldest change of an epoch is the one that raised it
        return found if seen < count else None

    def _announcement(
        self, log_id: str, seq: int, public: Mapping[str, Any], catalogue: Catalogue | None
    ) -> Announcement:
        kind = str(public["kind"])
        told = Announcement(int(public["epoch"]), int(public["at"]), kind, None, {}, EVERYTHING)
        # A drill's switch covers nobody but the drill; `drill` stands in the entry, whatever became of the row since.
        if kind in LOOSENING or (kind == "switch.engaged" and "drill" in public):
            told = replace(told, voids=NOTHING)
            if "switch" in public:
                row = self._written(log_id, seq, "switches", public["switch"])
                about = frozenset[str]() if row is None else _about(row)  # of which scope it was, nobody knows now
                return replace(told, id=public["switch"], about=about)
            return replace(told, id=public.get("order") if public.get("order_kind") == "directive" else None)
        if kind == "switch.engaged":
            row = self._written(log_id, seq, "switches", public.get("switch"))
            return told if row is None else self._of_switch(told, row, catalogue)
        directive = public.get("order_kind") == "directive"
        if kind in ("order.received", "order.amended", "order.exempted") and directive:
            row = self._written(log_id, seq, "orders", public.get("order"))
            return told if row is None else self._of_directive(told, row, catalogue)
        if kind == "order.amended" and public.get("order_kind") in ("grant", "override"):
            return replace(told, voids=NOTHING)
        if kind == "order.revoked":
            row = self._written(log_id, seq, "orders", public.get("order"))
            body = {} if row is None else row.document.get("body")
            return replace(told, voids=voided(body if isinstance(body, Mapping) else {}, catalogue, self._limits))
        return told

    def _written(self, log_id: str, seq: int, register: str, id: Any) -> Row | None:
        """Return the row that an entry wrote; `None` when it has been written again since."""
        row = self._store.row(register, id) if isinstance(id, str) else None
        return row if row is not None and (row.log_id, row.seq) == (log_id, seq) else None

    def _of_switch(self, told: Announcement, row: Row, catalogue: Catalogue | None) -> Announcement:
        scope = row.document.get("scope")
        named = dict(scope) if isinstance(scope, Mapping) else {}
        shown = {name: named[name] for name in _SHOWN if name in named}
        tenants = _names(named.get("tenants"))
        if tenants is not None and not all(self._is_public(tenant) for tenant in tenants):
            del shown["tenants"]
        return replace(told, id=row.id, scope=shown, voids=voided(named, catalogue, self._limits), about=_about(row))

    def _of_directive(self, told: Announcement, row: Row, catalogue: Catalogue | None) -> Announcement:
        body = row.document.get("body")
        models = body.get("models") if isinstance(body, Mapping) else None
        shown = {} if _names(models) is None and models != "all" else {"models": models}
        return replace(told, id=row.id, scope=shown, voids=voided({"models": models}, catalogue, self._limits))

    def _is_public(self, tenant: str) -> bool:
        """Return whether the id of a tenant may be told: it is known and no individual."""
        row = self._store.row("tenants", tenant)
        if row is None or not isinstance(row.document.get("facts"), Mapping):
            return False
        fact = row.document["facts"].get("type")
        kind = fact.get("value") if isinstance(fact, Mapping) else None
        return isinstance(kind, str) and kind in tuple(TenantType) and kind != TenantType.INDIVIDUAL


def voided(
    named: Mapping[str, Any], catalogue: Catalogue | None, limits: Limits = LIMITS
) -> str | Mapping[str, list[str]]:
    """Return what an order on these models and actions voids; a dimension that cannot be read means any."""
    dimensions: dict[str, list[str]] = {}
    models, actions = _names(named.get("models")), _names(named.get("actions"))
    if models is not None:
        reached = _reached(models, catalogue)
        if len(reached) <= limits.list_items_count:
            dimensions["models"] = sorted(reached)
    if actions is not None:
        dimensions["actions"] = sorted(actions)
    return dimensions or EVERYTHING


def _reached(models: Iterable[str], catalogue: Catalogue | None) -> set[str]:
    """Return the names themselves, and every id and alias of the models whose line has one of them."""
    named = frozenset(models)
    found = set(named)
    if catalogue is not None:
        for id, model in catalogue.models.items():
            if not named.isdisjoint(catalogue.names(id)):
                found |= {id, *model.aliases}
    return found


def _about(row: Row) -> frozenset[str] | None:
    """Return the tenants that a switch names, `None` for any."""
    scope = row.document.get("scope")
    named = _names(scope.get("tenants")) if isinstance(scope, Mapping) else None
    return None if named is None else frozenset(named)


def _names(value: Any) -> list[str] | None:
    """Return a dimension's names; `None` for any: absent, empty, `all`, or not to be read."""
    if not isinstance(value, list | tuple) or not value or any(not isinstance(item, str) for item in value):
        return None
    return list(value)


def _epoch_of(public: bytes) -> int:
    """Return the epoch of an entry; parsed whole only where a member within another could be meant."""
    found: list[bytes] = _EPOCH.findall(public)
    return int(found[0]) if len(found) == 1 else int(json.loads(public)["epoch"])
