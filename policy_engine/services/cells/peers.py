"""The other cells, as this process knows them: what each said last is in force there, and when.

Rules of the room:
- Each cell is asked by a thread of its own, so that a slow one delays nobody, and never while something is decided.
- What was confirmed counts from before the question was sent, on CLOCK_BOOTTIME: no setting of the time makes an old
  word new, and a machine that slept knows that it did. Nothing is confirmed at the start.
- A cell confirms by a whole answer that is believed (`standing`). A silent one leaves its word to grow old; what it
  said to be in force there, and is not here, stays behind until it says otherwise.
- A word can only deny (`doubt`). Own orders are read after the other's, so that one that came in between is no lack.
Left to others: what a doubt denies (`doubt`), reading answers (`standing`), bounds of an exchange (`exchange`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from random import SystemRandom

import structlog

from policy_engine.core.switches import KillSwitch, Switchboard
from policy_engine.errors import PolicyEngineError
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.cells.addresses import Cell
from policy_engine.services.cells.comparing import ask
from policy_engine.services.cells.doubt import Doubt
from policy_engine.services.cells.exchange import CellClient
from policy_engine.services.cells.standing import Standing, Standings, lacking
from policy_engine.services.replica import boottime

_SPREAD = SystemRandom()  # of its own: whoever embeds this and seeds the module `random` must not be disturbed

BEHIND_SHARE = 0.2
"""How much sooner a cell is asked again after it had more in force than this one: orders often arrive just then."""

CLOSING_SECONDS = 1.0
"""How long closing waits for all threads together; none of them writes anything."""

log = structlog.get_logger(__name__)


class Peers:
    """The other cells. `start` begins to ask, `doubt` says what may not be allowed now, `close` ends the asking."""

    def __init__(
        self,
        cells: Sequence[Cell],
        standings: Standings,
        tier: int,
        limits: Limits = LIMITS,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._tier = tier
        self._limits = limits
        self._clock = clock
        self._board = Switchboard()
        self._lock = threading.Lock()
        self._peers = tuple(_Peer(cell, standings, limits, clock, self._changed) for cell in cells)

    def start(self) -> None:
        """Begin to ask every cell."""
        for peer in self._peers:
            peer.start()

    def close(self) -> None:
        """End the asking; what is under way is broken off. Closing twice is no error.

        One that still looks for an address, or waits to be connected, is left to itself: what the engine has to write
        before it ends does not wait for another cell.
        """
        for peer in self._peers:
            peer.stop()
        until = time.monotonic() + CLOSING_SECONDS
        for peer in self._peers:
            peer.join(max(0.0, until - time.monotonic()))

    def unconfirmed(self) -> tuple[str, ...]:
        """Return the names of the cells whose last word is too old."""
        oldest = self._clock() - self._limits.cell_unconfirmed_seconds
        return tuple(peer.name for peer in self._peers if peer.confirmed_at < oldest)

    def doubted(self) -> tuple[str, ...]:
        """Return the names of the cells because of which something is denied now."""
        unconfirmed = self.unconfirmed()
        return tuple(peer.name for peer in self._peers if peer.lacking or peer.name in unconfirmed)

    def doubt(self) -> Doubt | None:
        """Return what is doubted now, `None` when every cell has confirmed and none has more in force than this one."""
        board, unconfirmed = self._board, self.unconfirmed()
        if not unconfirmed and not board:
            return None
        return Doubt(self._tier if unconfirmed else None, board)

    def _changed(self) -> None:
        with self._lock:
            self._board = Switchboard(reach for peer in self._peers for reach in peer.lacking)


class _Peer:
    """One other cell and the thread that asks it."""

    def __init__(
        self,
        cell: Cell,
        standings: Standings,
        limits: Limits,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.name = cell.name
        self.confirmed_at = -float("inf")
        self.lacking: tuple[KillSwitch, ...] = ()
        self._client = CellClient(cell, limits)
        self._standings = standings
        self._limits = limits
        self._clock = clock
        self._changed = changed
        self._known: Standing | None = None
        self._compared: tuple[str, str] | None = None
        self._silent = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"cell-{cell.name}", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Break off what is under way."""
        self._over.set()
        self._client.close()

    def join(self, seconds: float) -> None:
        """Wait a little for the thread, which has been told to end."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._over.is_set():
            self._ask()
            share = BEHIND_SHARE if self.lacking else 1.0
            self._over.wait(self._limits.cell_ask_seconds * share * _SPREAD.uniform(0.5, 1.0))  # not all at once

    def _ask(self) -> None:
        """Ask once; a failure leaves what was confirmed to grow old."""
        began = self._clock()
        try:
            there = self._known = ask(self._client, self._known, self._limits)
            self._compare(self._standings.own(), there)
            self.confirmed_at = began
            if self._silent:
                log.info("cell.confirmed", cell=self.name)
            self._silent = False
        except Exception as error:  # noqa: BLE001  the thread must live; what is not confirmed grows old by itself
            if not self._silent and not self._over.is_set():
                said = error.message if isinstance(error, PolicyEngineError) else ""
                log.warning("cell.silent", cell=self.name, cause=type(error).__name__, reason=said)
            self._silent = True

    def _compare(self, own: Standing, there: Standing) -> None:
        if self._compared == (own.digest, there.digest):
            return
        before, self.lacking = self.lacking, lacking(own, there)
        self._compared = (own.digest, there.digest)
        if self.lacking != before:
            self._changed()
            log.warning("cell.behind", cell=self.name, count=len(self.lacking))
