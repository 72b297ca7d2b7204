"""The protocol of withdrawal as a model: every interleaving of two replicas, their enforcement points and an engage.

An enforcement point sends a request and starts its own timer. Its replica evaluates under the epoch it knows, enters
the fence (a shared lock), compares epochs, commits the entry, and answers; the enforcement point uses an allow while
its timer is below the budget. Engaging takes the lock alone, raises the epoch and commits; it is *drained* when every
replica has acknowledged, *settled* when budget and slack have passed on its own clock. Epoch 0 allows, epoch 1 denies.
What may go wrong: caches are stale, anybody pauses anywhere, a commit's outcome is unknown, clocks of enforcement
points run slow by up to one tick a request, and an older copy of the database is put back once all have drained.

Each guard of the design is named; a mutant is the design without one of them. `explore` walks all states, breadth
first, so the trace it returns for a broken promise is a shortest one.
Design: the audit commit is the fence (docs/decisions/0001). Left to others: the real code, which has tests of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

BUDGET = 2
"""Ticks for which an allow may be used."""
SLACK = 1
"""Ticks by which the clock of an enforcement point may run slow during one request."""
REPLICAS = 2


class Guard(StrEnum):
    """What the design rests on."""

    LOCK = "the lock: engaging waits for transactions in the fence, and they for it"
    COMPARE = "the fence compares the epoch evaluated under with the epoch of the database"
    ENTRY_FIRST = "an allow leaves after its entry is durable"
    UNKNOWN_DENIES = "an unknown outcome of a commit is no allow until the entry was read back"
    USE_CHECKS_BUDGET = "the enforcement point uses an allow only within its budget"
    TIMER_FROM_SENDING = "the enforcement point counts from the moment it sent the request"
    SETTLE_FROM_COMMIT = "settling counts from the commit, not from the request to engage"
    SETTLE_HAS_SLACK = "settling waits for the slack of clocks beyond the budget"
    ACKNOWLEDGE_WHEN_CLEAR = "a replica acknowledges when no older answer of its is unsent"
    REMEMBER = "a replica remembers the farthest epoch, and refuses a database that is behind it"


class Broken(StrEnum):
    """A promise that a step breaks."""

    WRITTEN = "an allow of the older epoch was written after the engage had committed"
    ANSWERED = "an allow of the older epoch left a replica after it was drained"
    USED = "an allow of the older epoch was used after it was settled"
    NO_ENTRY = "an allow left without its entry"


class Phase(StrEnum):
    """Where a request stands."""

    IDLE = "idle"
    SENT = "sent"
    EVALUATED = "evaluated"
    FENCED = "fenced"
    UNKNOWN = "unknown"
    DURABLE = "durable"
    ANSWERED = "answered"


_UNSENT = {Phase.EVALUATED, Phase.FENCED, Phase.UNKNOWN, Phase.DURABLE}


class Request(NamedTuple):
    """One enforcement point with its replica: `known` and `seen` are the replica's epochs, the rest the request's."""

    phase: Phase = Phase.IDLE
    known: int = 0
    seen: int = 0
    age: int = 0
    late: int = 0
    entry: bool = False
    acknowledged: bool = False


class Engage(StrEnum):
    """How far an engage has come."""

    NOT = "not"
    ASKED = "asked"
    LOCKED = "locked"
    COMMITTED = "committed"


class World(NamedTuple):
    """All there is: requests, the epoch in the database, the engage and its clock, whether an old copy is back."""

    requests: tuple[Request, ...] = (Request(),) * REPLICAS
    epoch: int = 0
    engage: Engage = Engage.NOT
    waited: int = 0
    restored: bool = False

    @property
    def drained(self) -> bool:
        """Every replica has acknowledged."""
        return all(request.acknowledged for request in self.requests)


Step = tuple[str, World, Broken | None]


@dataclass(frozen=True)
class Design:
    """The rules by which the world moves, without the guards that a mutant lacks."""

    without: frozenset[Guard] = field(default_factory=frozenset)

    def has(self, guard: Guard) -> bool:
        """Whether a guard is in place."""
        return guard not in self.without

    def settled(self, world: World) -> bool:
        """Whether the engage reports that no older allow takes effect any more."""
        slack = SLACK if self.has(Guard.SETTLE_HAS_SLACK) else 0
        return world.engage is Engage.COMMITTED and world.waited >= BUDGET + slack

    def steps(self, world: World) -> Iterator[Step]:
        """Yield everything that may happen next, with the promise it breaks, if any."""
        yield from self._engaging(world)
        yield from self._ticks(world)
        for at in range(REPLICAS):
            yield from self._requesting(world, at)
            yield from self._learning(world, at)

    def _engaging(self, world: World) -> Iterator[Step]:
        fenced = any(request.phase is Phase.FENCED for request in world.requests)
        if world.engage is Engage.NOT:
            yield "engage is asked for", world._replace(engage=Engage.ASKED), None
        elif world.engage is Engage.ASKED and not (fenced and self.has(Guard.LOCK)):
            yield "engage holds the lock", world._replace(engage=Engage.LOCKED), None
        elif world.engage is Engage.LOCKED:
            waited = 0 if self.has(Guard.SETTLE_FROM_COMMIT) else world.waited
            yield "engage commits", world._replace(engage=Engage.COMMITTED, epoch=1, waited=waited), None
        elif world.engage is Engage.COMMITTED and world.drained and not world.restored:
            yield "an older copy is put back", world._replace(epoch=0, restored=True), None

    def _ticks(self, world: World) -> Iterator[Step]:
        """Let one tick pass: on the engager's clock, and on those of the enforcement points unless one runs slow."""
        counts = world.engage is not Engage.NOT and not self.settled(world)
        early = not self.has(Guard.SETTLE_FROM_COMMIT)
        counts = counts and (early or world.engage is Engage.COMMITTED)
        waited = min(world.waited + counts, BUDGET + SLACK)
        for slow in range(1 << REPLICAS):
            aged = tuple(_aged(request, bool(slow >> at & 1)) for at, request in enumerate(world.requests))
            if None not in aged:
                requests = tuple(request for request in aged if request is not None)
                yield "a tick", world._replace(requests=requests, waited=waited), None

    def _requesting(self, world: World, at: int) -> Iterator[Step]:
        request = world.requests[at]

        def moved(what: str, broken: Broken | None = None, **changes: object) -> Step:
            changed = (*world.requests[:at], request._replace(**changes), *world.requests[at + 1 :])  # type: ignore[arg-type]  # names and types as in Request
            return f"{at}: {what}", world._replace(requests=changed), broken

        back = {"phase": Phase.IDLE, "age": 0, "late": 0, "entry": False}
        old = world.engage is Engage.COMMITTED
        if request.phase is Phase.IDLE:
            yield moved("sends", phase=Phase.SENT, age=0, late=0)
        elif request.phase is Phase.SENT:
            yield moved("denies", **back) if request.known else moved("evaluates", phase=Phase.EVALUATED)
        elif request.phase is Phase.EVALUATED:
            if world.engage is Engage.LOCKED and self.has(Guard.LOCK):
                return
            behind = self.has(Guard.REMEMBER) and world.epoch < request.seen
            if behind or (self.has(Guard.COMPARE) and world.epoch != 0):
                yield moved("is refused by the fence", **back)
            else:
                yield moved("enters the fence", phase=Phase.FENCED)
        elif request.phase is Phase.FENCED:
            broken = Broken.WRITTEN if old else None
            yield moved("commits", broken, phase=Phase.DURABLE, entry=True)
            yield moved("commits, and nobody hears of it", broken, phase=Phase.UNKNOWN, entry=True)
            yield moved("fails to commit, and nobody hears of it", phase=Phase.UNKNOWN)
            if not self.has(Guard.ENTRY_FIRST):
                yield moved("answers before its entry", Broken.NO_ENTRY, phase=Phase.ANSWERED)
        elif request.phase is Phase.UNKNOWN:
            yield moved("reads back", phase=Phase.DURABLE) if request.entry else moved("finds no entry", **back)
            if not self.has(Guard.UNKNOWN_DENIES):
                yield moved("answers", None if request.entry else Broken.NO_ENTRY, phase=Phase.ANSWERED)
        elif request.phase is Phase.DURABLE:
            age = request.age if self.has(Guard.TIMER_FROM_SENDING) else 0
            yield moved("answers", Broken.ANSWERED if world.drained else None, phase=Phase.ANSWERED, age=age)
        elif request.phase is Phase.ANSWERED:
            if request.age < BUDGET or not self.has(Guard.USE_CHECKS_BUDGET):
                yield moved("uses the allow", Broken.USED if self.settled(world) else None, **back)
            yield moved("lets the allow go", **back)

    def _learning(self, world: World, at: int) -> Iterator[Step]:
        request = world.requests[at]
        known, behind = world.epoch, world.epoch < request.seen
        if known != request.known and not (behind and self.has(Guard.REMEMBER)):
            learned = request._replace(known=known, seen=max(request.seen, known))
            yield f"{at}: learns the epoch", _with(world, at, learned), None
        clear = request.phase not in _UNSENT or not self.has(Guard.ACKNOWLEDGE_WHEN_CLEAR)
        if request.known and not request.acknowledged and clear and world.engage is Engage.COMMITTED:
            yield f"{at}: acknowledges", _with(world, at, request._replace(acknowledged=True)), None


def _with(world: World, at: int, request: Request) -> World:
    return world._replace(requests=(*world.requests[:at], request, *world.requests[at + 1 :]))


def _aged(request: Request, slow: bool) -> Request | None:
    """Return a request a tick later on its own clock, which may be slow; `None` where it may not be any slower."""
    timing = request.phase is not Phase.IDLE
    if slow:
        return request._replace(late=request.late + 1) if timing and request.late < SLACK else None
    return request._replace(age=min(request.age + 1, BUDGET)) if timing else request


@dataclass(frozen=True)
class Explored:
    """What a walk over all states came to: how many there are, which ends were met, and a broken promise's trace."""

    states: int
    met: frozenset[str]
    broken: Broken | None = None
    trace: tuple[str, ...] = ()


def explore(design: Design, stop: Callable[[Broken], bool] = lambda _: True) -> Explored:
    """Walk every state that can be reached, and stop at the first broken promise that `stop` asks about."""
    start = World()
    came: dict[World, tuple[World, str] | None] = {start: None}
    frontier = [start]
    met: set[str] = set()
    while frontier:
        following: list[World] = []
        for world in frontier:
            for what, after, broken in design.steps(world):
                met.add(what.partition(": ")[2] or what)
                if broken is not None and stop(broken):
                    return Explored(len(came), frozenset(met), broken, _trace(came, world, what))
                if after not in came:
                    came[after] = (world, what)
                    following.append(after)
        frontier = following
    return Explored(len(came), frozenset(met))


def _trace(came: dict[World, tuple[World, str] | None], world: World, last: str) -> tuple[str, ...]:
    steps = [last]
    before = came[world]
    while before is not None:
        steps.append(before[1])
        before = came[before[0]]
    return tuple(reversed(steps))
