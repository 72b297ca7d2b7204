"""Building an automaton from a parsed pattern, and refusing by name what an automaton cannot follow.

Rules of the room:
- Counted repeats are written out; states, counts and characters of a pattern are limited.
- A refusal names the construct and how to mend it; it never shows the pattern, which a caller may have sent.
Left to others: running it (`automaton`), which patterns come here (`regexes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from re import _parser  # type: ignore[attr-defined]  # the standard library's parser has no public name
from typing import Any, Final

from policy_engine.core.automaton import Accept, Automaton, Character, Fork, Gate, Leap, Look, Place, State
from policy_engine.core.characters import LOOKS, REPEATS, SINGLE, UNBOUNDED, Item, Tree, alone, fixed, inner
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS, Limits

_RISK: Final = "this regular expression may take unbounded time and"
_UNFOLLOWED: Final = {
    _parser.GROUPREF: "refers back to a group; write out what may stand there",
    _parser.GROUPREF_EXISTS: "asks whether a group took part, as in `(?(1)...)`; write one pattern for each case",
    _parser.POSSESSIVE_REPEAT: "has a possessive repeat such as `*+`; use the plain repeat",
}


def build(tree: Tree, limits: Limits = LIMITS) -> Automaton:
    """Return the automaton of a parsed pattern. Raises `LoadRefused` for what it cannot follow or is too large."""
    wiring = _Wiring(limits, _Room(limits.regex_states_count))
    wiring.sequence(tree.items, tree.flags)
    return wiring.finished()


def refused(trouble: str) -> LoadRefused:
    """Return the refusal of a pattern that may take unbounded time and has such a trouble."""
    return LoadRefused(f"{_RISK} {trouble}")


class _Room:
    """How many states may still be made, for a pattern and all that it holds."""

    def __init__(self, states_count: int) -> None:
        self._limit = states_count
        self._left = states_count

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise refused(f"needs more than {self._limit} states (regex_states_count); lower its counts or split it")


class _Wiring:
    """The states of one automaton while they are laid out, one after the other."""

    def __init__(self, limits: Limits, room: _Room) -> None:
        self._limits = limits
        self._room = room
        self._states: list[State] = []
        self._classes: dict[Hashable, tuple[int, re.Pattern[str]]] = {}
        self._conditions: dict[Hashable, tuple[int, Place | Look]] = {}
        self._atomics: dict[Hashable, tuple[int, Automaton]] = {}

    def finished(self, order: Sequence[int] = ()) -> Automaton:
        """Return the automaton, with the end of the pattern as its last state."""
        if not isinstance(self._states[-1] if self._states else None, Accept):
            self._add(Accept())
        return Automaton(
            self._states,
            [pattern for _, pattern in self._classes.values()],
            [condition for _, condition in self._conditions.values()],
            [atomic for _, atomic in self._atomics.values()],
            order,
        )

    def sequence(self, items: Sequence[Item], flags: int) -> None:
        """Lay out items one after the other."""
        for item in items:
            self._item(item, flags)

    def _add(self, state: State) -> int:
        self._room.take()
        self._states.append(state)
        return len(self._states) - 1

    def _item(self, item: Item, flags: int) -> None:
        op, value = item
        group = inner(item, flags)
        if op in SINGLE:
            key = (fixed(item), flags)
            self._add(Character(_numbered(self._classes, key, lambda: alone(*key))))
        elif group is not None:
            self.sequence(*group)
        elif op is _parser.AT:
            self._add(Gate(_numbered(self._conditions, (item, flags), lambda: Place(alone(item, flags)))))
        elif op is _parser.BRANCH:
            self._branch(value[1], flags)
        elif op in REPEATS:
            self._repeat(value, flags, eager=op is _parser.MAX_REPEAT)
        elif op in LOOKS:
            self._look(value, flags, wanted=op is _parser.ASSERT)
        elif op is _parser.ATOMIC_GROUP:
            self._add(Leap(_numbered(self._atomics, (id(value), flags), lambda: self._atomic(value, flags))))
        else:
            raise refused(_UNFOLLOWED.get(op, f"holds {str(op).lower()}, which is not followed; write it otherwise"))

    def _branch(self, branches: Sequence[Sequence[Item]], flags: int) -> None:
        fork = self._add(Fork(()))
        starts, leaves = [], []
        for branch in branches:
            starts.append(len(self._states))
            self.sequence(branch, flags)
            leaves.append(self._add(Fork(())))
        self._states[fork] = Fork(tuple(starts))
        for leave in leaves:
            self._states[leave] = Fork((len(self._states),))

    def _repeat(self, value: tuple[int, int, Sequence[Item]], flags: int, *, eager: bool) -> None:
        least, most, body = value
        limit = self._limits.regex_repeat_count
        if least > limit or limit < most < UNBOUNDED:
            raise refused(f"repeats more than {limit} times (regex_repeat_count); lower the count or use `*`")
        for _ in range(least):
            self._add(Fork((len(self._states) + 1,)))
            self.sequence(body, flags)
        if most == UNBOUNDED:
            fork = self._add(Fork(()))
            self.sequence(body, flags)
            self._add(Fork((fork,)))
            self._states[fork] = _choice(fork + 1, len(self._states), eager)
            return
        forks = []
        for _ in range(most - least):
            forks.append(self._add(Fork(())))
            self.sequence(body, flags)
        for fork in forks:
            self._states[fork] = _choice(fork + 1, len(self._states), eager)

    def _look(self, value: tuple[int, Any], flags: int, *, wanted: bool) -> None:
        direction, items = value
        back = items.getwidth()[0] if direction < 0 else 0
        key = (id(items), flags, wanted)
        self._add(
            Gate(_numbered(self._conditions, key, lambda: Look(self._part(items, flags).finished(), back, wanted)))
        )

    def _part(self, items: Sequence[Item], flags: int) -> _Wiring:
        part = _Wiring(self._limits, self._room)
        part.sequence(items, flags)
        return part

    def _atomic(self, items: Sequence[Item], flags: int) -> Automaton:
        part = self._part(items, flags)
        if part._atomics:
            raise refused("has an atomic group inside an atomic group; use a plain group inside")
        part._add(Accept())
        return part.finished(_ordered(part._states))


def _choice(into: int, past: int, eager: bool) -> Fork:
    return Fork((into, past) if eager else (past, into))


def _numbered(table: dict[Hashable, tuple[int, Any]], key: Hashable, make: Callable[[], Any]) -> int:
    """Return the number of what stands under a key, making it at first sight."""
    if key not in table:
        made = make()
        table[key] = (len(table), made)
    return table[key][0]


def _ordered(states: Sequence[State]) -> list[int]:
    """Return the states so that each comes after those it goes on with at the same place.

    There is no such order when a repeat may go round without consuming anything; which match `re` then prefers is
    not followed.
    """
    found: list[int] = []
    seen = [0] * len(states)
    pending = list(range(len(states)))
    while pending:
        number = pending[-1]
        if seen[number] == 0:
            seen[number] = 1
            ways = [way for way in _onward(states[number], number) if seen[way] != 2]
            if any(seen[way] == 1 for way in ways):
                raise refused("repeats what may be empty inside an atomic group; make the repeated part non-empty")
            pending += ways
        else:
            pending.pop()
            if seen[number] == 1:
                seen[number] = 2
                found.append(number)
    return found


def _onward(state: State, number: int) -> tuple[int, ...]:
    if isinstance(state, Fork):
        return state.targets
    return (number + 1,) if isinstance(state, Gate) else ()
