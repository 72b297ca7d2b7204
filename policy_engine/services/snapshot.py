"""The frozen snapshot that one decision reads: epoch, release, orders, switches.

Rules of the room: a snapshot is read once per decision and replaced when the epoch moves. Orders that cannot be read
are not "no orders": an unreadable directive blocks everyone on every model, an unreadable switch covers all it could
mean, a licence that cannot be read lifts nothing, and an order of unknown kind makes the whole register unreadable.
Whoever has to hear of a new epoch in this process subscribes; the epoch told never goes back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from policy_engine.core.instants import ENDLESS
from policy_engine.core.orderparse import parse_directive, parse_grant, parse_licence, parse_override
from policy_engine.core.orders import Directive, Licence, OrderBook
from policy_engine.core.plain import AnyRelease
from policy_engine.core.switches import Switchboard, read_kill_switch
from policy_engine.errors import InputRefused, StoreUnavailable
from policy_engine.services.releases import ReleaseLoader
from policy_engine.store.interfaces import Row, State
from policy_engine.store.registerinterfaces import RegisterReader

Hears = Callable[["Snapshot"], object]
"""Called with the first snapshot of a newer epoch."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What every decision of one epoch is evaluated under. `orders=None`: the register could not be read."""

    state: State
    release: AnyRelease | None
    orders: OrderBook | None
    switches: Switchboard
    boundaries: tuple[int, ...]

    def next_boundary(self, at: int) -> int:
        """Return the next instant after `at` at which an order, a switch, a rule or a table edition changes."""
        place = bisect_right(self.boundaries, at)
        return self.boundaries[place] if place < len(self.boundaries) else ENDLESS


class Snapshots:
    """Keeps the current snapshot and rebuilds it when the store's epoch has moved."""

    def __init__(self, store: RegisterReader, releases: ReleaseLoader) -> None:
        self._store = store
        self._releases = releases
        self._lock = Lock()
        self._current: Snapshot | None = None
        self._hearing: tuple[Hears, ...] = ()

    def subscribe(self, hears: Hears) -> Callable[[], None]:
        """Call `hears` with each first snapshot of a newer epoch, once it decides here; return what ends that.

        It is called in whichever thread met the epoch, an event loop's too, while the next snapshot has to wait for
        it: it must be quick, must not raise, and asks for no snapshot itself. Epochs come in order; some are skipped.
        """
        with self._lock:
            self._hearing = (*self._hearing, hears)

        def unsubscribe() -> None:
            with self._lock:
                self._hearing = tuple(each for each in self._hearing if each is not hears)

        return unsubscribe

    @property
    def epoch(self) -> int:
        """Return the epoch that decisions are evaluated under now, 0 before the first snapshot."""
        snapshot = self._current
        return 0 if snapshot is None else snapshot.state.epoch

    def current(self) -> Snapshot:
        """Return the last snapshot built; builds the first. Raises `StoreUnavailable` when it cannot be known."""
        snapshot = self._current
        return snapshot if snapshot is not None else self.refresh()

    def refresh(self) -> Snapshot:
        """Return a snapshot of the store's state now, rebuilding only what moved."""
        with self._lock:
            for _ in range(8):
                state = self._store.state()
                snapshot = self._with(state)
                if self._store.state().epoch == state.epoch:
                    newer = self._current is None or state.epoch > self._current.state.epoch
                    self._current = snapshot
                    for hears in self._hearing if newer else ():
                        hears(snapshot)
                    return snapshot
            raise StoreUnavailable("the orders kept changing while they were read; try again")

    def _with(self, state: State) -> Snapshot:
        old = self._current
        if old is not None and old.state.epoch == state.epoch and old.state.release == state.release:
            if old.state == state:
                return old
            return Snapshot(state, old.release, old.orders, old.switches, old.boundaries)
        release = None if old is None or old.state.release != state.release else old.release
        if release is None and state.release is not None:
            release = self._releases.stored(self._store, state.release)
        rows = self._store.rows("orders")
        switches = Switchboard(read_kill_switch(row.id, row.document) for row in self._store.rows("switches"))
        orders = read_orders(rows)
        boundaries = set() if release is None else set(release.boundaries)
        boundaries |= {instant for switch in switches for instant in (switch.start, switch.until)}
        if orders is not None:
            boundaries |= set(orders.boundaries)
        return Snapshot(state, release, orders, switches, tuple(sorted(boundaries)))


def read_orders(rows: list[Row]) -> OrderBook | None:
    """Return the order book of the register's rows, or `None` when a row is of no kind we know."""
    directives: list[Directive] = []
    licences: list[Licence] = []
    for row in rows:
        kind = row.document.get("kind")
        body = row.document.get("body")
        if kind == "directive":
            directives.append(_directive(row.id, body))
        elif kind == "licence":
            licences.extend(_licence(row.id, body))
        elif kind in ("grant", "override", "hold"):
            continue  # recorded, lifts nothing
        else:
            return None
    return OrderBook(directives, licences)


def parse_order(kind: str, id: str, body: Mapping[str, Any], *, strict: bool = True) -> object:
    """Return the typed order of a kind. Raises `InputRefused`, also for an unknown kind."""
    parsers = {
        "directive": parse_directive,
        "licence": parse_licence,
        "grant": parse_grant,
        "override": parse_override,
    }
    if kind not in parsers:
        raise InputRefused(f"must be one of {', '.join(parsers)}", where="kind")
    return parsers[kind]({**body, "id": id}, kind, strict=strict)


def _directive(id: str, body: Any) -> Directive:
    try:
        return parse_directive({**body, "id": id}, strict=False)
    except (InputRefused, TypeError):
        return Directive(id, -ENDLESS, ENDLESS, None, frozenset())  # blocks everyone on every model


def _licence(id: str, body: Any) -> list[Licence]:
    try:
        return [parse_licence({**body, "id": id}, strict=False)]
    except (InputRefused, TypeError):
        return []
