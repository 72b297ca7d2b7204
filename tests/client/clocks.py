"""Clocks of one machine in a made-up world: they run at a rate of their own, and may stand still in suspend."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class World:
    """True time, in seconds."""

    now: float = 0.0


@dataclass
class MachineClock:
    """A clock that never steps. `rate` is its seconds in one true second; `suspended` are stretches of true time."""

    world: World
    rate: float = 1.0
    counts_suspend: bool = True
    suspended: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self) -> float:
        """Return its seconds."""
        asleep = sum(max(0.0, min(end, self.world.now) - start) for start, end in self.suspended)
        return 1_000.0 + (self.world.now - (0.0 if self.counts_suspend else asleep)) * self.rate
