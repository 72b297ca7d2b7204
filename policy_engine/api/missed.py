"""What readers who come back have missed: the latest changes in a row, read once for all who ask.

Rules of the room:
- A long log takes a while to look through, so one reads at a time, and nobody who is told of news waits for it.
- What could not be told once cannot be told later: the log only grows.
Left to others: what a change says (`services.revocations`), who is told (`feed`). Used on one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from policy_engine.services.revocations import Announcement


class Missed:
    """The announcements of the latest epochs, as far back as somebody asked, `count` at most.

    `read` returns what raised each epoch after one, `None` where that is too much or cannot be told.
    """

    def __init__(self, read: Callable[[int], Sequence[Announcement] | None], count: int) -> None:
        self._read = read
        self._count = count
        self._kept: deque[Announcement] = deque(maxlen=count)
        self._lost = -1
        """The latest epoch behind which not everything can be told."""
        self._turn = asyncio.Lock()

    def clear(self) -> None:
        """Know nothing: the log may be another."""
        self._kept.clear()
        self._lost = -1

    def add(self, news: Announcement) -> None:
        """Take what was told just now."""
        while self._kept and self._kept[-1].epoch >= news.epoch:
            self._kept.pop()
        if self._kept and self._kept[-1].epoch != news.epoch - 1:
            self._kept.clear()
        self._kept.append(news)

    def is_lost(self, last: int, epoch: int) -> bool:
        """Return whether what happened after `last` up to `epoch` cannot be told."""
        return last <= self._lost or epoch - last > self._count

    def after(self, last: int, epoch: int) -> list[Announcement] | None:
        """Return what happened after `last` up to `epoch`; `None` where that has to be read first."""
        found = [each for each in self._kept if last < each.epoch <= epoch]
        return found if len(found) == epoch - last else None

    async def look(self, last: int) -> None:
        """Read what happened after `last`, unless another has meanwhile. Raises `StoreUnavailable`."""
        async with self._turn:
            if last <= self._lost or (self._kept and self._kept[0].epoch <= last + 1):
                return
            found = await asyncio.to_thread(self._read, last)
            if found is None:
                self._lost = last
            elif found:
                newer = [each for each in self._kept if each.epoch > found[-1].epoch]
                if not newer or newer[0].epoch == found[-1].epoch + 1:
                    self._kept = deque((*found, *newer), self._count)
