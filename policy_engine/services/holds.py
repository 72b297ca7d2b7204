"""Legal holds: placed by one person at once, released by two.

Rules of the room:
- A hold is a dated instrument of the register of orders, so it is a change with its entry, and raises the epoch: what
  was about to be erased or pruned under an older epoch is looked at anew.
- It names a subject, a tenant, a model, a period, or several of them. A hold on nothing is refused.
- While it is in force nothing that it covers is erased or pruned. Releasing loosens, so it waits for a second person.
Left to others: what a hold covers (`holdrules`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from policy_engine.core.decision import Principal
from policy_engine.core.plain import AnyRelease
from policy_engine.core.release import Catalogue
from policy_engine.errors import Conflict, InputRefused, LoadRefused, NotFound, TooLarge
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.approvals import Approvals, Effect
from policy_engine.services.holdrules import KIND, Cover, Hold, is_hold, read_hold
from policy_engine.services.orderdocuments import ENDED, IN_FORCE, Paper, first_document, next_document
from policy_engine.services.orders import READERS
from policy_engine.services.permissions import Caller, acting_person, require_unbounded
from policy_engine.services.proposals import Proposal
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.vocabulary import require_id
from policy_engine.store.interfaces import Change, Committed, ReadStore, Row, Store, Write


class Holds:
    """The legal holds of the register of orders."""

    def __init__(
        self,
        store: Store,
        approvals: Approvals,
        *,
        load: Callable[[str], AnyRelease] | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        """`load` gives a release by its hash, to look a model up in its catalogue; by default each is loaded anew."""
        self._store = store
        self._load = partial(ReleaseLoader().stored, store) if load is None else load
        self._approvals = approvals
        self._limits = limits
        approvals.register("hold.release", self._released)

    def place(self, principal: Principal, id: str, cover: Cover, reason: str, *, reference: str = "") -> Committed:
        """Place a hold at once. Needs a person's key with `orders:write`.

        Raises `InputRefused` for a hold that names nothing or a period that ends before it begins, `Conflict` for an
        id already used.
        """
        caller = acting_person(self._store, principal, "orders:write")
        require_unbounded(caller)
        require_id(id, "id", self._limits)
        for name, named in (("subject", cover.subject), ("tenant", cover.tenant), ("model", cover.model)):
            if named is not None:
                require_id(named, name, self._limits)
        if not cover.names_something:
            raise InputRefused("names a subject, a tenant, a model or a period, or several of them", where="hold")
        if cover.since is not None and cover.until is not None and cover.until <= cover.since:
            raise InputRefused("must be later than its beginning", where="until")
        self._require_words(reason, reference)
        if self._store.row("orders", id) is not None:
            raise Conflict(f"the order {id} exists already; give the hold an id of its own")
        cover = replace(cover, alias_of=self._alias_of(cover.model))
        paper = Paper("", reference, reason)
        document = first_document(KIND, cover.body(id), paper, caller.person, caller.at)
        return self._store.change(
            Change(
                kind="hold.placed",
                public={"by": caller.key_id, "hold": id},
                writes=(Write("orders", id, document, expect=0),),
                raises_epoch=True,
                expects=(caller.basis,),
            )
        )

    def unregistered(self, cover: Cover) -> tuple[str, ...]:
        """Return which of `subject`, `tenant` and `model` a hold names by what nothing is known by.

        A subject and a tenant are known by a row in the registers, a model by an id or alias in the catalogue of the
        active release. Entries may name others all the same, of a request about somebody unknown, of one who left, or
        for a model of an older release: it is no refusal.
        """
        named = (("subject", "persons", cover.subject), ("tenant", "tenants", cover.tenant))
        found = [name for name, register, id in named if id is not None and self._store.row(register, id) is None]
        return (*found, *(("model",) if cover.model is not None and not self._knows_model(cover.model) else ()))

    def _knows_model(self, name: str) -> bool:
        """Return whether a name is one that decisions are recorded under. Without a catalogue any id is a model."""
        catalogue = self._catalogue()  # none: the hold stands already, and whoever placed it is told to look once more
        return catalogue is not None and (not catalogue.models or catalogue.find(name) is not None)

    def _alias_of(self, name: str | None) -> str | None:
        """Return the model that a name is an alias of in the active release, `None` where it is no alias."""
        catalogue = None if name is None else self._catalogue()
        return None if catalogue is None or name is None else catalogue.aliases.get(name)

    def _catalogue(self) -> Catalogue | None:
        """Return the catalogue of the active release, `None` where no release is active or it does not load."""
        active = self._store.state().release
        try:
            return None if active is None else self._load(active).catalogue
        except LoadRefused:
            return None

    def release(self, principal: Principal, id: str, reason: str) -> Proposal:
        """Propose to release a hold; it stays in force until another person has approved."""
        caller = acting_person(self._store, principal, "orders:write")
        require_unbounded(caller)
        self._require_words(reason, "")
        row = self._in_force(id)
        return self._approvals.propose(
            caller, "hold.release", {"id": id, "reason": reason}, (("orders", id, row.revision),), note=reason
        )

    def list(self, principal: Principal) -> tuple[Hold, ...]:
        """Return every hold, released ones too, in order of id, for whoever may read orders."""
        require_unbounded(acting_person(self._store, principal, *READERS))
        return tuple(read_hold(row) for row in self._store.rows("orders") if is_hold(row))

    def _require_words(self, reason: str, reference: str) -> None:
        if not reason.strip():
            raise InputRefused("must not be empty", where="reason")
        for name, words in (("reason", reason), ("reference", reference)):
            if len(words) > self._limits.text_characters:
                raise TooLarge(f"is longer than {self._limits.text_characters} characters", where=name)

    def _in_force(self, id: str) -> Row:
        row = self._store.row("orders", id)
        if row is None or not is_hold(row):
            raise NotFound("there is no such hold")
        if row.document["status"] != IN_FORCE:
            raise Conflict(f"the hold {id} is released already")
        return row

    def _released(self, proposal: Proposal, approver: Caller) -> Effect:
        row = self._in_force(proposal.payload["id"])
        paper = Paper.of(row, proposal.payload["reason"])
        document = next_document(
            row,
            row.document["body"],
            paper,
            "released",
            proposal.proposed_by,
            approver.at,
            self._limits,
            approver.person,
        )
        write = Write("orders", row.id, {**document, "status": ENDED}, row.revision)
        return Effect("hold.released", {"hold": row.id}, (write,))


def in_force(store: ReadStore) -> tuple[Hold, ...]:
    """Return the holds that stand now."""
    holds = (read_hold(row) for row in store.rows("orders") if is_hold(row))
    return tuple(hold for hold in holds if hold.in_force)
