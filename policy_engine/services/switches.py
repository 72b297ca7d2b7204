"""Kill switches: engaged by one person at once, released by two.

Rules of the room:
- Engaging denies from its commit on: the row carries no start, so no clock decides when it begins. It may carry an end,
  which is fixed when it is engaged and never moved.
- A scope that is empty, or names what nobody knows, is refused: a switch that stops nothing must not look engaged. The
  whole engine is stopped by saying `models="all"` on purpose.
- Releasing is proposed by one person and approved by another who did not engage the switch either. A switch of drill
  scope is released by one: it covers nobody who could be allowed anything, so its release loosens nothing.
- A released or ended switch keeps its row; engaging it again under the same id is a new revision.
Left to others: what a switch covers (`core.switches`), when it has taken effect everywhere (a later issue).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from policy_engine.core.decision import Principal
from policy_engine.core.facts import TenantType
from policy_engine.core.instants import format_instant, parse_instant
from policy_engine.core.orderparse import parse_switch_scope
from policy_engine.core.switches import DRILL
from policy_engine.errors import Conflict, InputRefused, LoadRefused, NotFound, NotPermitted, TooLarge
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.approvals import Approvals, Effect
from policy_engine.services.drillsubject import DRILL_TENANT
from policy_engine.services.permissions import (
    LOCAL,
    Caller,
    acting_person,
    is_local,
    require_tenants,
    require_unbounded,
)
from policy_engine.services.proposals import Proposal
from policy_engine.services.vocabulary import ANYTHING, Vocabulary, VocabularyOf, require_id
from policy_engine.store.interfaces import Change, Committed, Row, Store, Write


@dataclass(frozen=True, slots=True)
class Switch:
    """A kill switch as it stands. `until=None` has no end; instants in microseconds."""

    id: str
    scope: Mapping[str, Any]
    until: int | None
    reason: str
    reference: str
    engaged_by: str
    engaged_at: int
    released_at: int | None
    released_by: str | None
    approved_by: str | None
    revision: int
    drilled: Mapping[str, Any] | None = None

    def engaged(self, at: int) -> bool:
        """Return whether it denies at the instant."""
        return self.released_at is None and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True)
class Engaged:
    """A switch just engaged: durable, and no decision of an older state is written after `committed.at`."""

    id: str
    committed: Committed


class Switches:
    """The register of kill switches."""

    def __init__(
        self, store: Store, approvals: Approvals, vocabulary: VocabularyOf, *, limits: Limits = LIMITS
    ) -> None:
        self._store = store
        self._approvals = approvals
        self._vocabulary = vocabulary
        self._limits = limits
        approvals.register("switch.release", self._release_approved)

    def engage(
        self,
        principal: Principal,
        id: str,
        scope: Mapping[str, Any],
        reason: str,
        *,
        reference: str = "",
        until: int | None = None,
    ) -> Engaged:
        """Engage a switch at once.

        `scope` names dimensions (`models`, `families`, `tenants`, `tenant_types`, `tiers`, `regions`, `actions`); all
        that are named must match. Raises `InputRefused` for a scope that is empty or unknown and for an end that has
        passed, `Conflict` when a switch of that id is engaged.
        """
        caller = self._engaging(principal)
        return self._engage(caller, self.engaging(caller, id, scope, reason, reference=reference, until=until))

    def engaging(
        self,
        caller: Caller,
        id: str,
        scope: Mapping[str, Any],
        reason: str,
        *,
        reference: str = "",
        until: int | None = None,
        drill: bool = False,
    ) -> Write:
        """Return what engaging a switch would write, after every check. Raises as `engage`; writes nothing."""
        require_id(id, "id", self._limits)
        _require_text(reason, "reason", self._limits.text_characters)
        if len(reference) > self._limits.text_characters:
            raise TooLarge(f"is longer than {self._limits.text_characters} characters", where="reference")
        named = self._known_scope(scope, drill=drill)
        if caller.tenants is not None:
            within = named.get("tenants", "all")
            require_tenants(caller, frozenset() if within == "all" else frozenset(within))
        if until is not None and until <= caller.at:
            raise InputRefused("has passed already; give an end that is still to come, or none", where="until")
        row = self._store.row("switches", id)
        if row is not None and _switch(row).engaged(caller.at):
            raise Conflict(f"the switch {id} is engaged already; engage another id, or release this one")
        document = {
            "scope": {**named, DRILL: True} if drill else named,
            "from": None,
            "until": None if until is None else format_instant(until),
            "reason": reason,
            "reference": reference,
            "engaged_by": caller.person,
            "engaged_at": format_instant(caller.at),
            "released_at": None,
            "released_by": None,
            "approved_by": None,
        }
        return Write("switches", id, document, expect=0 if row is None else row.revision)

    def _engage(self, caller: Caller, write: Write) -> Engaged:
        committed = self._store.change(
            Change(
                kind="switch.engaged",
                public={"by": caller.key_id, "switch": write.id, **_marked(write)},
                writes=(write,),
                raises_epoch=True,
                expects=(caller.basis,),
            )
        )
        return Engaged(write.id, committed)

    def engage_drill(self, principal: Principal, id: str, scope: Mapping[str, Any], reason: str) -> Engaged:
        """Engage a switch of drill scope, which covers the requests of a drill and nothing else. Raises as `engage`."""
        caller = self._engaging(principal)
        require_unbounded(caller)
        return self._engage(caller, self.engaging(caller, id, scope, reason, drill=True))

    def release_drill(self, principal: Principal, id: str, found: Mapping[str, Any]) -> Committed:
        """Release a switch of drill scope at once, and write down what the drill found.

        Raises `NotPermitted` for any other switch, `Conflict` when it is not engaged.
        """
        caller = self._engaging(principal)
        require_unbounded(caller)
        row = self._row(id)
        if row.document["scope"].get(DRILL) is not True:
            raise NotPermitted(f"the switch {id} is of no drill; releasing it takes two persons")
        if not _switch(row).engaged(caller.at):
            raise Conflict(f"the switch {id} is not engaged")
        document = {**released(row, caller.at, caller.person, None), "drilled": dict(found)}
        return self._store.change(
            Change(
                kind="switch.released",
                public={"by": caller.key_id, "switch": id, "drill": dict(found)},
                writes=(Write("switches", id, document, expect=row.revision),),
                raises_epoch=True,
                expects=(caller.basis,),
            )
        )

    def release(self, principal: Principal, id: str, reason: str) -> Proposal:
        """Propose to release a switch; it stays engaged until another person has approved.

        Raises `Conflict` when the switch is not engaged.
        """
        caller = acting_person(self._store, principal, "switch:release")
        require_unbounded(caller)
        _require_text(reason, "reason", self._limits.text_characters)
        row = self.engaged_row(id, caller.at)
        return self._approvals.propose(
            caller, "switch.release", {"id": id, "reason": reason}, (("switches", id, row.revision),), note=reason
        )

    def engaged_row(self, id: str, at: int) -> Row:
        """Return the row of a switch that denies at an instant. Raises `NotFound`, `Conflict` when it is over."""
        row = self._row(id)
        if not _switch(row).engaged(at):
            raise Conflict(f"the switch {id} is not engaged")
        return row

    def list(self, principal: Principal) -> tuple[Switch, ...]:
        """Return every switch, released ones too, in order of id. Any caller the engine knows may read them.

        A key bounded to tenants is shown none that names other tenants alone, as `revocations` tells it of none.
        """
        found = (_within(_switch(row), principal.tenants) for row in self._store.rows("switches"))
        return tuple(switch for switch in found if switch is not None)

    def show(self, principal: Principal, id: str) -> Switch:
        """Return one switch. Raises `NotFound`, also for one that `list` does not show the caller."""
        switch = _within(_switch(self._row(id)), principal.tenants)
        if switch is None:
            raise NotFound("there is no such switch")
        return switch

    def _engaging(self, principal: Principal) -> Caller:
        """Return who engages: a person with the scope, or `local` where the database is a sample."""
        if not is_local(principal):
            return acting_person(self._store, principal, "switch:engage")
        if not self._store.state().sample:
            raise NotPermitted(
                "without a key a switch is engaged on a sample database only; name a person's key with "
                "`switch:engage` in POLICY_ENGINE_KEY"
            )
        return Caller(LOCAL.id, LOCAL.id, None, self._store.now(), ("keys", LOCAL.id, 0))

    def _known_scope(self, scope: Mapping[str, Any], *, drill: bool) -> dict[str, Any]:
        """Return the scope as the register holds it, every word of it known."""
        for member in ("id", "from", "until"):
            if member in scope:
                raise InputRefused("names dimensions only; give the id and the end beside it", where="scope")
        named = parse_switch_scope(scope, "scope")
        # The caller's own order of words, so that a refusal points at the right one; `all` is no list of words.
        words = {dimension: scope[dimension] for dimension, values in named.items() if values != "all"}
        vocabulary = self._words_known()
        vocabulary.require_names(words.get("models", ()), "scope.models")
        vocabulary.require_families(words.get("families", ()), "scope.families")
        vocabulary.require_actions(words.get("actions", ()), "scope.actions")
        vocabulary.require_places(words.get("regions", ()), "scope.regions")
        for number, kind in enumerate(words.get("tenant_types", ())):
            if kind not in tuple(TenantType):
                raise InputRefused(f"must be one of {', '.join(TenantType)}", where=f"scope.tenant_types[{number}]")
        for number, tenant in enumerate(words.get("tenants", ())):
            if not (drill and tenant == DRILL_TENANT) and self._store.row("tenants", tenant) is None:
                raise InputRefused("is no tenant of the register", where=f"scope.tenants[{number}]")
        return named

    def _words_known(self) -> Vocabulary:
        """Return what the active release knows; every word, where there is none or this process cannot load it.

        A switch must not be held up by a damaged release: another process may still be deciding by it.
        """
        release = self._store.state().release
        try:
            return ANYTHING if release is None else self._vocabulary(release)
        except LoadRefused:
            return ANYTHING

    def _row(self, id: str) -> Row:
        row = self._store.row("switches", id)
        if row is None:
            raise NotFound("there is no such switch")
        return row

    def _release_approved(self, proposal: Proposal, approver: Caller) -> Effect:
        id = proposal.payload["id"]
        row = self._row(id)
        if row.document["engaged_by"] == approver.person:
            raise NotPermitted("who engaged a switch cannot approve its release; a third person must")
        document = released(row, approver.at, proposal.proposed_by, approver.person)
        return Effect("switch.released", {"switch": id}, (Write("switches", id, document, expect=row.revision),))


def released(row: Row, at: int, proposer: str, approver: str | None) -> dict[str, Any]:
    """Return the document of a switch that is released at an instant."""
    by = {"released_by": proposer, "approved_by": approver}
    return {**row.document, "released_at": format_instant(at), **by}


def _marked(write: Write) -> dict[str, Any]:
    """A drill's switch says so in the public part of its entry too."""
    return {"drill": {}} if write.document is not None and write.document["scope"].get(DRILL) is True else {}


def _require_text(text: str, where: str, most: int) -> None:
    if not text.strip():
        raise InputRefused("must not be empty", where=where)
    if len(text) > most:
        raise TooLarge(f"is longer than {most} characters", where=where)


def _within(switch: Switch, tenants: frozenset[str] | None) -> Switch | None:
    """Return a switch as a key bounded to tenants may see it; `None` when it names other tenants alone."""
    named = switch.scope.get("tenants")
    if tenants is None or not isinstance(named, list):
        return switch
    own = [tenant for tenant in named if tenant in tenants]
    return replace(switch, scope={**switch.scope, "tenants": own}) if own else None


def _switch(row: Row) -> Switch:
    document = row.document
    until, released_at = document["until"], document["released_at"]
    return Switch(
        id=row.id,
        scope=document["scope"],
        until=None if until is None else parse_instant(until),
        reason=document["reason"],
        reference=document["reference"],
        engaged_by=document["engaged_by"],
        engaged_at=parse_instant(document["engaged_at"]),
        released_at=None if released_at is None else parse_instant(released_at),
        released_by=document["released_by"],
        approved_by=document["approved_by"],
        revision=row.revision,
        drilled=document.get("drilled"),
    )
