"""A regular expression as a set of states, run over a text once: time is bounded by states times characters.

Rules of the room:
- The text is read from its end to its start. After each character the set holds every state from which the rest of
  the text can still be accepted, so a lookaround is a question already answered for every place before it is asked,
  and no way is ever tried twice.
- Sets that were met are remembered with what follows from them; what all automata remember together is bounded.
- What cannot be followed exactly is refused, never approximated.
Left to others: which patterns come here (`regexes`), what a character class means (`characters`), building (`wiring`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from policy_engine.limits import LIMITS

START: Final = 0


@dataclass(frozen=True, slots=True)
class Character:
    """Consumes one character of a class, named by its number, and goes on with the next state."""

    kind: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Goes on with each of the states, the earlier ones first."""

    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """Goes on with the next state where a condition holds, named by its number."""

    condition: int


@dataclass(frozen=True, slots=True)
class Leap:
    """Goes on with the next state from where an atomic group, named by its number, ends."""

    atomic: int


@dataclass(frozen=True, slots=True)
class Accept:
    """The end of the pattern."""


State: TypeAlias = Character | Fork | Gate | Leap | Accept


@dataclass(frozen=True, slots=True)
class Place:
    """A condition on a place that one anchor decides: `^`, `$`, `\\b` and the like."""

    anchor: re.Pattern[str]

    def mark(self, text: str, marks: list[int], bit: int) -> None:
        """Set the bit at every place where the condition holds."""
        for found in self.anchor.finditer(text):
            marks[found.start()] |= bit


@dataclass(frozen=True, slots=True)
class Look:
    """A condition on a place that a lookaround decides; `back` is how far before the place it begins."""

    automaton: Automaton
    back: int
    wanted: bool

    def mark(self, text: str, marks: list[int], bit: int) -> None:
        """Set the bit at every place where the condition holds."""
        found = self.automaton.places(text)
        for place in range(len(marks)):
            if self.wanted == (place >= self.back and bool(found[place - self.back])):
                marks[place] |= bit


class _Row:
    """A set of states and, for each character and place met so far, the set before it."""

    __slots__ = ("live", "moves")

    def __init__(self, live: int) -> None:
        self.live = live
        self.moves: dict[int, _Row] = {}


@dataclass(slots=True)
class _Memory:
    """What one automaton has met: its sets, and for characters which states consume them (above the marks' bits)."""

    origin: _Row = field(default_factory=lambda: _Row(0))
    rows: dict[int, _Row] = field(default_factory=dict)
    consumed: dict[str, int] = field(default_factory=dict)


class _Memories:
    """The memories of all automata, forgotten together once they hold too much; another text starts afresh.

    Threads may race here: each keeps a memory of its own to the end of its text, and the count is approximate.
    """

    def __init__(self, moves_count: int) -> None:
        self._limit = moves_count
        self._spent = 0
        self._kept: dict[Automaton, _Memory] = {}

    def of(self, automaton: Automaton) -> _Memory:
        """Return the memory of an automaton, empty when it has none."""
        if self._spent > self._limit:
            self._kept = {}
            self._spent = 0
        found = self._kept.get(automaton)
        if found is None:
            found = self._kept[automaton] = _Memory()
            self._spent += 1
        return found

    def spend(self) -> bool:
        """Count one thing more; return whether there is room for it."""
        self._spent += 1
        return self._spent <= self._limit

    @property
    def spent(self) -> int:
        """Return how much is remembered, in moves."""
        return self._spent


MEMORIES: Final = _Memories(LIMITS.regex_moves_count)


class Automaton:
    """The states of one pattern. `wiring.build` makes it; it does not change."""

    __slots__ = (
        "_accept",
        "_atomics",
        "_before",
        "_classes",
        "_conditions",
        "_kinds",
        "_leaps",
        "_order",
        "_states",
        "_width",
    )

    def __init__(
        self,
        states: Sequence[State],
        classes: Sequence[re.Pattern[str]],
        conditions: Sequence[Place | Look],
        atomics: Sequence[Automaton],
        order: Sequence[int] = (),
    ) -> None:
        self._states = tuple(states)
        self._classes = tuple(classes)
        self._conditions = tuple(conditions)
        self._atomics = tuple(atomics)
        self._order = tuple(order)
        self._accept = 1 << (len(states) - 1)
        self._kinds = [0] * len(classes)
        self._leaps = tuple((number, state.atomic) for number, state in enumerate(states) if isinstance(state, Leap))
        self._width = len(conditions) + 2 * len(self._leaps)
        self._before: dict[int, tuple[tuple[int, int], ...]] = {}
        for number, state in enumerate(states):
            if isinstance(state, Character):
                self._kinds[state.kind] |= 1 << number
            elif isinstance(state, Fork):
                for target in state.targets:
                    self._precede(target, number, 0)
            elif isinstance(state, Gate):
                self._precede(number + 1, number, 1 << state.condition)
        for leap, (number, _) in enumerate(self._leaps):
            self._precede(number + 1, number, self._stays(leap))

    @property
    def states_count(self) -> int:
        """Return how many states there are, those of lookarounds and atomic groups not counted."""
        return len(self._states)

    def _precede(self, target: int, number: int, needed: int) -> None:
        self._before[target] = (*self._before.get(target, ()), (number, needed))

    def _stays(self, leap: int) -> int:
        """Return the mark of a place where an atomic group matches nothing and the pattern goes on at once."""
        return 1 << (len(self._conditions) + 2 * leap)

    def matches(self, text: str, start: int = 0) -> bool:
        """Return whether the pattern matches from a place on, whatever comes after the match."""
        found = 0
        for _, live in self._sets(text, start):
            found = live & 1
        return bool(found)

    def places(self, text: str) -> bytearray:
        """Return for each place of the text, its end included, whether the pattern matches from there on."""
        found = bytearray(len(text) + 1)
        for place, live in self._sets(text, 0):
            found[place] = live & 1
        return found

    def ends(self, text: str) -> list[int | None]:
        """Return for each place where the first match from there ends, in the order of preference that `re` has.

        Only for an automaton without atomic groups and with an order of its states.
        """
        marks = self._marks(text) or [0] * (len(text) + 1)
        memory = MEMORIES.of(self)
        found: list[int | None] = [None] * (len(text) + 1)
        after: list[int | None] = [None] * (len(self._states) + 1)
        for place in range(len(text), -1, -1):
            consumed = self._consumed(text[place], memory) >> self._width if place < len(text) else 0
            here: list[int | None] = [None] * (len(self._states) + 1)
            for number in self._order:
                state = self._states[number]
                if isinstance(state, Character):
                    here[number] = after[number + 1] if consumed >> number & 1 else None
                elif isinstance(state, Fork):
                    here[number] = next((here[way] for way in state.targets if here[way] is not None), None)
                elif isinstance(state, Gate):
                    here[number] = here[number + 1] if marks[place] >> state.condition & 1 else None
                else:
                    here[number] = place
            found[place] = here[START]
            after = here
        return found

    def _marks(self, text: str) -> list[int] | None:
        """Return for each place which conditions hold there, as bits; `None` when there are no conditions."""
        if not self._conditions:
            return None
        marks = [0] * (len(text) + 1)
        for number, condition in enumerate(self._conditions):
            condition.mark(text, marks, 1 << number)
        return marks

    def _sets(self, text: str, start: int) -> Iterator[tuple[int, int]]:
        """Yield each place from the end of the text down to the start, with the states that are live there."""
        memory = MEMORIES.of(self)
        marks = self._marks(text)
        leaping = _Leaping(self, text) if self._leaps else None
        known = memory.consumed.get
        row = memory.origin
        for place in range(len(text), start - 1, -1):
            move = 0
            if place < len(text):
                consumed = known(text[place])
                move = self._consumed(text[place], memory) if consumed is None else consumed
            if marks is not None:
                move |= marks[place]
            if leaping is not None:
                move |= leaping.mark(place)
            row = row.moves.get(move) or self._move(row, move, memory)
            if leaping is not None:
                leaping.keep(place, row.live)
            yield place, row.live

    def leaps(self, text: str) -> list[tuple[int, int, list[int | None]]]:
        """Return each atomic group's state and first mark, and where the group ends from each place of the text."""
        ends = [atomic.ends(text) for atomic in self._atomics]
        return [(number, self._stays(leap), ends[atomic]) for leap, (number, atomic) in enumerate(self._leaps)]

    def _consumed(self, character: str, memory: _Memory) -> int:
        """Return the states that consume a character, above the bits of the marks."""
        found = memory.consumed.get(character)
        if found is None:
            found = 0
            for kind, states in zip(self._classes, self._kinds, strict=True):
                if kind.match(character):
                    found |= states
            found <<= self._width
            if MEMORIES.spend():
                memory.consumed[character] = found
        return found

    def _move(self, row: _Row, move: int, memory: _Memory) -> _Row:
        """Return the set of states that are live before a character, given those that are live after it."""
        consumed, mark = move >> self._width, move & (1 << self._width) - 1
        live = (row.live >> 1) & consumed | self._accept
        for leap, (number, _) in enumerate(self._leaps):
            if mark & self._stays(leap) << 1:
                live |= 1 << number
        pending = live
        while pending:
            lowest = pending & -pending
            pending ^= lowest
            for number, needed in self._before.get(lowest.bit_length() - 1, ()):
                bit = 1 << number
                if not live & bit and mark & needed == needed:
                    live |= bit
                    pending |= bit
        found = memory.rows.get(live)
        if found is None:
            found = _Row(live)
            if MEMORIES.spend():
                memory.rows[live] = found
        if MEMORIES.spend():
            row.moves[move] = found
        return found


class _Leaping:
    """The atomic groups of an automaton over one text: where each ends, and whether the pattern goes on from there."""

    __slots__ = ("_after", "_leaps")

    def __init__(self, automaton: Automaton, text: str) -> None:
        self._leaps = automaton.leaps(text)
        self._after = [bytearray(len(text) + 1) for _ in self._leaps]

    def mark(self, place: int) -> int:
        """Return the marks of a place: the group matches nothing here, or leaps to where the pattern goes on."""
        found = 0
        for after, (_, stays, ends) in zip(self._after, self._leaps, strict=True):
            end = ends[place]
            if end == place:
                found |= stays
            elif end is not None and after[end]:
                found |= stays << 1
        return found

    def keep(self, place: int, live: int) -> None:
        """Remember for each group whether the pattern goes on from this place when the group ends here."""
        for after, (number, _, _) in zip(self._after, self._leaps, strict=True):
            after[place] = live >> (number + 1) & 1
