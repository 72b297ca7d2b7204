"""What an enforcement point has heard of changes, and which answers that ends.

Rules of the room:
- Everything is known from one epoch up to another, without a gap; an answer of an epoch before the first is in doubt.
- Whatever cannot be read, comes out of order, or says that everything is void ends every answer asked for before it.
- What is heard only ever ends answers. Silence ends none: then their budget does.
Left to others: where it is heard (`listener`), the budget (`permission`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

KEPT_COUNT: Final = 1_024
"""Changes that are remembered; answers of older epochs are in doubt."""

NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Mark:
    """What had been heard when a question was sent: how often everything was void, and the farthest epoch."""

    doubts: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class _Change:
    epoch: int
    voids: Any


class Heard:
    """What was heard so far; may be shared by threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._doubts = 0
        self._since: int | None = None
        self._epoch = 0
        self._changes: deque[_Change] = deque()

    @property
    def epoch(self) -> int:
        """The farthest epoch up to which everything is known; 0 before anything was heard."""
        return self._epoch

    def mark(self) -> Mark:
        """Return what has been heard by now, for a question that is about to be sent."""
        with self._lock:
            return Mark(self._doubts, self._epoch)

    def doubt(self) -> None:
        """Let go of every answer asked for before now, and of what was known."""
        with self._lock:
            self._begin_anew(None)

    def renew(self) -> None:
        """Begin anew in a forked process: a thread that is not here may have had the lock, with its work half done."""
        self._lock = Lock()
        self.doubt()

    def take(self, event: str, data: Mapping[str, Any]) -> None:
        """Take an event of the stream; one that cannot be read, or does not follow what is known, is a doubt."""
        epoch = data.get("epoch")
        with self._lock:
            if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
                self._begin_anew(None)
            elif event == "standing" and self._since is None:
                self._since = self._epoch = epoch
            elif event == "standing" and epoch == self._epoch:
                return
            elif event == "changed" and self._since is not None and epoch == self._epoch + 1:
                self._epoch = epoch
                self._changes.append(_Change(epoch, data.get("voids")))
                while len(self._changes) > KEPT_COUNT:
                    self._since = self._changes.popleft().epoch
            else:
                self._begin_anew(epoch)

    def ends(self, epoch: int, mark: Mark, model: str, action: str) -> bool:
        """Return whether an allow of an epoch, whose question was sent at a mark, must not be used."""
        with self._lock:
            if mark.doubts != self._doubts or epoch < mark.epoch:
                return True
            if self._since is None or epoch >= self._epoch:
                return False
            if epoch < self._since:
                return True
            return any(change.epoch > epoch and _covers(change.voids, model, action) for change in self._changes)

    def _begin_anew(self, epoch: int | None) -> None:
        self._doubts += 1
        self._since = epoch
        self._epoch = 0 if epoch is None else epoch
        self._changes.clear()


def _covers(voids: Any, model: str, action: str) -> bool:
    """Return whether a change voids an allow of a model and action. What cannot be read does."""
    if voids == NOTHING:
        return False
    if not isinstance(voids, Mapping) or not voids:
        return True
    return not (_spares(voids.get("models"), model) or _spares(voids.get("actions"), action))


def _spares(named: Any, own: str) -> bool:
    readable = isinstance(named, list) and named and all(isinstance(name, str) for name in named)
    return bool(readable) and own not in named
