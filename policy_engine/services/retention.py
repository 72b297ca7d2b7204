"""Retention: sealed parts that are older than the law asks for are emptied, by two persons, in one logged event.

Rules of the room:
- Proposing needs `policy:write`: how long is kept is policy. Nothing younger than the retention limit is pruned.
- Pruned are the sealed parts of decisions, searches and reads. Changes keep theirs: the registers rest on them, and a
  person's go with an erasure. Public parts, leaves and headers stay, so every proof holds.
- What a legal hold covers is left out of the ranges that the event names, so that what is in a range is gone and what
  is outside is not. Holds are read under one epoch with the ranges.
Left to others: the transaction (`store.erasing`), answers (`marks`), erasing a person (`erasure`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.core.decision import Principal
from policy_engine.core.instants import DAY, format_instant, parse_instant
from policy_engine.errors import InputRefused, NotFound, TooLarge, VerificationFailed
from policy_engine.ledger.encoding import parse_header, parse_public
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.approvals import Approvals, Effect
from policy_engine.services.holdrules import Hold
from policy_engine.services.holds import in_force
from policy_engine.services.permissions import Caller, acting_person, require_unbounded
from policy_engine.services.proposals import Proposal
from policy_engine.services.traces import subject_tags
from policy_engine.services.unseal import Unsealer
from policy_engine.store.erasureinterfaces import Pruning
from policy_engine.store.interfaces import LogView, Store

PROPOSED = "bodies.prune"


@dataclass(frozen=True, slots=True)
class PruneProposed:
    """A pruning that waits: how many bodies go, and how many as old are kept by legal holds."""

    proposal: Proposal
    bodies: int
    held: int


@dataclass(frozen=True, slots=True)
class _Old:
    """What is older than an instant, and not held."""

    pruning: Pruning
    bodies: int
    held: int


@dataclass(frozen=True, slots=True)
class _Held:
    """A hold with the places of the entries that carry its subject's, or its sealed tenant's, tag."""

    hold: Hold
    subject: frozenset[tuple[str, int]]
    tenant: frozenset[tuple[str, int]]


class Retention:
    """Proposing and applying the pruning of old bodies. `scrub` is called when one was applied."""

    def __init__(
        self,
        store: Store,
        approvals: Approvals,
        vault: KeyVault,
        *,
        retention_days: int,
        scrub: Callable[[], object] = lambda: None,
        limits: Limits = LIMITS,
    ) -> None:
        self._store = store
        self._vault = vault
        self._approvals = approvals
        self._retention_days = retention_days
        self._scrub = scrub
        self._limits = limits
        approvals.register(PROPOSED, self._approved)

    def propose(self, principal: Principal, before: int, reason: str) -> PruneProposed:
        """Propose to empty the sealed parts of entries before an instant. Nothing is gone until another approves.

        Raises `InputRefused` for an instant within the retention limit, `NotFound` when nothing is as old.
        """
        caller = acting_person(self._store, principal, "policy:write")
        require_unbounded(caller)
        if not reason.strip():
            raise InputRefused("must not be empty", where="reason")
        if len(reason) > self._limits.text_characters:
            raise TooLarge(f"is longer than {self._limits.text_characters} characters", where="reason")
        found = self._old(before, caller.at)
        payload = {"before": format_instant(before), "bodies": found.bodies, "held": found.held, "reason": reason}
        proposal = self._approvals.propose(caller, PROPOSED, payload, (), note=reason)
        return PruneProposed(proposal, found.bodies, found.held)

    def _approved(self, proposal: Proposal, approver: Caller) -> Effect:
        found = self._old(parse_instant(proposal.payload["before"]), approver.at)
        public = {"retention_days": self._retention_days, "held": found.held}
        return Effect("pruned", public, (), removes=found.pruning, after=self._scrub)

    def _old(self, before: int, at: int) -> _Old:
        if before > at - self._retention_days * DAY:
            raise InputRefused(
                f"is younger than the retention limit of {self._retention_days} days (POLICY_ENGINE_RETENTION_DAYS)",
                where="before",
            )
        epoch = self._store.state().epoch
        held = [self._places(hold, at) for hold in in_force(self._store)]
        ranges: list[tuple[str, int, int]] = []
        bodies = kept = 0
        with self._store.view() as view:
            unsealer = Unsealer.over(self._vault, view)
            for log_id, end in _ends(view, before):
                count, own, spared = self._ranges(view, log_id, end, held, unsealer)
                ranges += own
                bodies, kept = bodies + count, kept + spared
        if not bodies:
            why = "; what there was is pruned, or under a legal hold" if kept else ""
            raise NotFound(f"no sealed part is as old{why}", where="before")
        if bodies > self._limits.pruned_bodies_count or len(ranges) > self._limits.pruned_ranges_count:
            raise TooLarge(
                f"one pruning empties at most {self._limits.pruned_bodies_count} bodies in at most "
                f"{self._limits.pruned_ranges_count} ranges; name an earlier instant first",
                where="before",
            )
        return _Old(Pruning(epoch, before, tuple(ranges)), bodies, kept)

    def _ranges(
        self, view: LogView, log_id: str, end: int, held: list[_Held], unsealer: Unsealer
    ) -> tuple[int, list[tuple[str, int, int]], int]:
        """Return how many bodies of a log go, the ranges they lie in, and how many as old stay."""
        ranges: list[tuple[str, int, int]] = []
        count = spared = 0
        open_ = False
        for seq, data in view.scan_bodies(log_id, end):
            if any(self._covers(one, log_id, seq, data, unsealer) for one in held):
                spared += 1
                open_ = False
                continue
            first = ranges.pop()[1] if open_ else seq
            ranges.append((log_id, first, seq + 1))
            open_ = True
            count += 1
        return count, ranges, spared

    def _covers(self, held: _Held, log_id: str, seq: int, data: bytes, unsealer: Unsealer) -> bool:
        public, place, named = parse_public(data), (log_id, seq), held.hold.cover.tenant
        tenant = public.get("tenant") == named or place in held.tenant
        if named is not None and not tenant and "tenant" not in public:
            tenant = self._names(named, log_id, seq, public, unsealer)
        return held.hold.cover.covers(public, subject=place in held.subject, tenant=tenant)

    def _names(self, tenant: str, log_id: str, seq: int, public: Mapping[str, Any], unsealer: Unsealer) -> bool:
        """Return whether a search or read is about a tenant, which its body alone says. What does not open is kept."""
        entry = self._store.entry(log_id, seq)
        try:
            return entry is None or unsealer.body(entry, public).get("tenant") == tenant
        except VerificationFailed:
            return True

    def _places(self, hold: Hold, at: int) -> _Held:
        def tagged(name: str, value: str | None) -> frozenset[tuple[str, int]]:
            if value is None:
                return frozenset()
            return frozenset(self._store.tagged(subject_tags(self._store, self._vault, name, value, at)))

        return _Held(hold, tagged("subject", hold.cover.subject), tagged("tenant", hold.cover.tenant))


def _ends(view: LogView, before: int) -> Iterator[tuple[str, int]]:
    """Yield for each log the number of its first entry that is not before an instant: time never runs backwards."""
    ends: dict[str, int] = {}
    over: set[str] = set()
    for batch in view.scan_batches():
        if batch.log_id in over:
            continue
        if parse_header(batch.header).at >= before:
            over.add(batch.log_id)
        else:
            ends[batch.log_id] = batch.first + batch.n
    yield from sorted(ends.items())
