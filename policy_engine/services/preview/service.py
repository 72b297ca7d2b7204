"""Previews: who may ask what a change would do, and the one entry that says that they asked.

Rules of the room:
- A person's unbounded key with a scope of the change itself, or one that reviews it, may ask; `local` may ask about
  switches on a sample database, as it may engage them there. Counts are for all of these. Persons, their regions and
  the work list are for whoever holds `audit:read` too.
- A change that would be refused is refused here, with the same sentence. Nothing is changed and nothing granted.
- What was asked, under which epoch, for which instant and how many lose or gain stands in one entry, durable before
  anything is shown. Whom it found is not kept.
- Registers and log are read while others write; the answer says under which epoch and at which instant it holds.
Left to others: what the change would write (`services.switches`, `services.orders`), showing it (the doors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.decision import Principal
from policy_engine.core.facts import Location
from policy_engine.core.instants import DAY, format_instant
from policy_engine.core.plain import PlainRelease
from policy_engine.core.release import Release
from policy_engine.errors import Conflict, InputRefused, NotPermitted, StoreUnavailable
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.orders import READERS, Orders
from policy_engine.services.permissions import LOCAL, Caller, acting_person, is_local, require_unbounded
from policy_engine.services.preview import answer
from policy_engine.services.preview.answer import Preview, by_record, by_registers
from policy_engine.services.preview.changes import APPROVED, AT_ONCE, Supposition, of_order
from policy_engine.services.preview.recorded import Past, Window, replay_supposed
from policy_engine.services.preview.standing import Asking, Standing, persons, stand
from policy_engine.services.preview.tallies import GAINS, LOSES
from policy_engine.services.record import Recorder
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.snapshot import Snapshot, Snapshots
from policy_engine.services.supposed import Supposed
from policy_engine.services.switches import Switches, released
from policy_engine.services.walk import Walk
from policy_engine.store.interfaces import Store

SWITCH_SCOPES: Final = ("switch:engage", "switch:release", "approve", "audit:read")
"""Scopes of which a person needs one to preview a switch; for orders see `orders.READERS`."""

DAYS: Final = 7
ATTEMPTS_COUNT: Final = 8
WHY: Final = "preview"

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all: combinations asked about, and entries of the log."""

_WHAT: Final[Mapping[str, str]] = {"directive": "received", "licence": "licensed"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a preview is made: days of recorded decisions, the stage, and a place that all are asked from."""

    days: int = DAYS
    stage: str = APPROVED
    location: Location | None = None
    progress: Progress | None = None


_USUAL = Wanted()


class Previews:
    """Answers what a change would do."""

    def __init__(
        self,
        store: Store,
        switches: Switches,
        orders: Orders,
        recorder: Recorder,
        vault: KeyVault,
        releases: ReleaseLoader,
        *,
        serving_region: str | None,
        limits: Limits = LIMITS,
    ) -> None:
        self._store = store
        self._switches = switches
        self._orders = orders
        self._recorder = recorder
        self._vault = vault
        self._releases = releases
        self._serving_region = serving_region
        self._limits = limits

    def engage(
        self,
        principal: Principal,
        id: str,
        scope: Mapping[str, Any],
        *,
        until: int | None = None,
        wanted: Wanted = _USUAL,
    ) -> Preview:
        """Return what engaging a switch would do. Raises as `Switches.engage` does for a scope that is refused."""
        caller = self._about_switches(principal)
        write = self._switches.engaging(caller, id, scope, WHY, until=until)
        return self._made(
            principal, caller, Supposition("switch.engaged", "switches", id, write.document, None, False), wanted
        )

    def release(self, principal: Principal, id: str, *, wanted: Wanted = _USUAL) -> Preview:
        """Return what releasing a switch would do, once approved. Raises as `Switches.release`."""
        caller = self._about_switches(principal)
        row = self._switches.engaged_row(id, caller.at)
        document = None if wanted.stage == AT_ONCE else released(row, caller.at, caller.person, None)
        return self._made(
            principal, caller, Supposition("switch.released", "switches", id, document, row.document, True), wanted
        )

    def receive(
        self, principal: Principal, kind: str, document: Mapping[str, Any], *, wanted: Wanted = _USUAL
    ) -> Preview:
        """Return what receiving an order (giving a licence) would do. Raises as `Orders.receive`."""
        caller, release = self._about_orders(principal)
        drafted = self._orders.receiving(release, kind, document, caller.at)
        what = f"order.{_WHAT.get(kind, 'recorded')}"
        return self._made(principal, caller, of_order(what, drafted, wanted.stage), wanted)

    def amend(
        self,
        principal: Principal,
        id: str,
        document: Mapping[str, Any],
        *,
        kind: str | None = None,
        wanted: Wanted = _USUAL,
    ) -> Preview:
        """Return what amending an order would do. Raises as `Orders.amend`, and for an order of another kind."""
        caller, release = self._about_orders(principal)
        drafted, _ = self._orders.amending(release, id, document)
        if kind not in (None, drafted.kind):
            raise InputRefused(f"must be {drafted.kind}, as the order {id} is", where="kind")
        return self._made(principal, caller, of_order("order.amended", drafted, wanted.stage), wanted)

    def end(self, principal: Principal, id: str, *, wanted: Wanted = _USUAL) -> Preview:
        """Return what ending an order (revoking a licence) would do. Raises as `Orders.end`."""
        caller, _ = self._about_orders(principal)
        drafted, _ = self._orders.ending(id, WHY, caller.at)
        what = "order.revoked" if drafted.kind == "licence" else "order.ended"
        return self._made(principal, caller, of_order(what, drafted, wanted.stage), wanted)

    # Who may ask

    def _about_switches(self, principal: Principal) -> Caller:
        if is_local(principal):
            if not self._store.state().sample:
                raise NotPermitted("without a key a switch is previewed on a sample database only; name a person's key")
            return Caller(LOCAL.id, LOCAL.id, None, self._store.now(), ("keys", LOCAL.id, 0))
        caller = acting_person(self._store, principal, *SWITCH_SCOPES)
        require_unbounded(caller)
        return caller

    def _about_orders(self, principal: Principal) -> tuple[Caller, str]:
        caller = acting_person(self._store, principal, *READERS)
        require_unbounded(caller)
        release = self._store.state().release
        if release is None:
            raise Conflict("no release is active, so the models an order names are not known; activate one first")
        return caller, release

    def _sees_persons(self, principal: Principal) -> bool:
        try:
            acting_person(self._store, principal, "audit:read")
        except NotPermitted:
            return False
        return True

    # Finding out

    def _made(self, principal: Principal, caller: Caller, supposition: Supposition, wanted: Wanted) -> Preview:
        if wanted.stage not in (APPROVED, AT_ONCE):
            raise InputRefused(f"must be {APPROVED} or {AT_ONCE}", where="stage")
        if not 0 <= wanted.days <= self._limits.preview_days:
            raise InputRefused(f"must be from 0 to {self._limits.preview_days} days", where="days")
        personal = self._sees_persons(principal)
        at = supposition.begins(caller.at)
        before, after = self._snapshots(supposition)
        _require_place(wanted.location, before)
        pairs = supposition.pairs(before.release) if before.release and supposition.document else frozenset()
        steps = _Steps(wanted.progress, self._steps(supposition, len(pairs)), self._entries() if wanted.days else 0)
        asking = Asking(
            self._store, supposition, before, after, pairs, at, wanted.location, self._serving_region, self._limits
        )
        found = stand(asking, steps.asked)
        window = Window(caller.at - wanted.days * DAY, caller.at + 1, at, self._limits)
        past = self._past(supposition, window, steps) if wanted.days else None
        most = self._limits.preview_rows_count
        registers = by_registers(found, sorted({model for model, _ in pairs}), personal=personal, listed_max=most)
        recorded = None if past is None else by_record(past, personal=personal)
        plain = isinstance(before.release, PlainRelease)
        complete = found.complete and (recorded is None or recorded.complete) and not plain
        preview = Preview(
            id=self._logged(principal, supposition, before, at, found, wanted, complete),
            what=supposition.what,
            change=supposition.id,
            stage=wanted.stage,
            waits=supposition.waits,
            at=at,
            epoch=before.state.epoch,
            release=before.state.release or "",
            complete=complete,
            sees_persons=personal,
            registers=registers,
            recorded=recorded,
            notes=[
                *_notes(supposition, wanted, found, past, personal=personal, plain=plain),
                *answer.otherwise(at, supposition.otherwise(caller.at, at)),
            ],
        )
        steps.done()
        return preview

    def _snapshots(self, supposition: Supposition) -> tuple[Snapshot, Snapshot]:
        """Return the snapshots without and with the change, of one epoch."""
        supposed = Supposed(self._store, supposition.register, supposition.id, supposition.now)
        for _ in range(ATTEMPTS_COUNT):
            before = Snapshots(self._store, self._releases).refresh()
            after = Snapshots(supposed, self._releases).refresh()
            if before.state.epoch == after.state.epoch and before.state.release == after.state.release:
                return before, after
        raise StoreUnavailable("the orders kept changing while they were read; try again")

    def _past(self, supposition: Supposition, window: Window, steps: _Steps) -> Past:
        with self._store.view() as view:
            walk = Walk(view, self._vault, self._store.blob, progress=steps.walked)
            return replay_supposed(walk, self._releases, supposition, window)

    def _steps(self, supposition: Supposition, pairs: int) -> int:
        """Return how many combinations will be asked about, at most."""
        if not pairs:
            return 0
        owners = supposition.owners()
        most, count = self._limits.preview_candidates_count, 0
        for person, _ in persons(self._store, owners):
            count += len(person.tenants) * pairs
            if count >= most:
                return most
        return count

    def _entries(self) -> int:
        with self._store.view() as view:
            return sum(head.next_seq for head in view.heads())

    def _logged(
        self,
        principal: Principal,
        supposition: Supposition,
        before: Snapshot,
        at: int,
        found: Standing,
        wanted: Wanted,
        complete: bool,
    ) -> str:
        """Write the entry of a preview and return its id."""
        named = {"switches": "switch", "orders": "order"}[supposition.register]
        count = found.tallies.effects[LOSES] + found.tallies.effects[GAINS]
        members = {
            "search": "preview",
            "change": supposition.what,
            named: supposition.id,
            "stage": wanted.stage,
            "days": wanted.days,
            "for": format_instant(at),
            "seen_epoch": before.state.epoch,
            "count": count,
            "complete": complete,
        }
        owners = supposition.owners() or []
        subject = next((person for person, _ in owners if person is not None), "")
        place = wanted.location
        body = {
            "search": "preview",
            "location": None if place is None else [place.country, place.region, place.anonymiser],
        }
        ids: list[str] = []

        def drafted(state: Any) -> Any:
            draft = self._recorder.note("search", members, principal, state, body=body, subject=subject)
            ids.append(draft.id)
            return draft

        self._recorder.record(drafted)
        return ids[-1]


def _require_place(place: Location | None, snapshot: Snapshot) -> None:
    """Refuse a place that does not exist: everybody would be asked from nowhere, and the counts would say nothing."""
    if place is None or not isinstance(snapshot.release, Release):
        return
    if not snapshot.release.reference.gazetteer.resolve(place.country, place.region).known:
        raise InputRefused("is no country code of ISO 3166-1 and no region of ISO 3166-2", where="location")


class _Steps:
    """Counts the steps of both halves for the one progress that is shown."""

    def __init__(self, progress: Progress | None, asking: int, walking: int) -> None:
        self._progress = progress
        self._asking, self._total = asking, asking + walking

    def asked(self, count: int) -> None:
        """Take down how many combinations have been asked about."""
        if self._progress is not None and count % 100 == 0:
            self._progress(count, self._total)

    def walked(self, done: int, total: int) -> None:
        """Take down how many entries have been walked."""
        if self._progress is not None:
            self._progress(self._asking + done, self._total)

    def done(self) -> None:
        """Say that there is nothing left to do."""
        if self._progress is not None:
            self._progress(self._total, self._total)


def _notes(
    supposition: Supposition, wanted: Wanted, found: Standing, past: Past | None, *, personal: bool, plain: bool
) -> list[str]:
    stopped = not found.complete or (past is not None and not past.complete)
    unlisted = not found.listed or (past is not None and not past.listed)
    said = (
        (answer.STREAMS, True),
        (answer.SEALED, not personal),
        (answer.AT_LIMIT, stopped),
        (answer.NOT_LISTED, unlisted and personal),
        (answer.PLAIN, plain),
        (answer.RESIDENCE, wanted.location is None and not plain),
        (answer.NOTHING, supposition.document is None),
        (answer.WAITS, supposition.waits and supposition.document is not None),
    )
    return [text for text, holds in said if holds]
