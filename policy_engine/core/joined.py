"""Terms under `or`, `and` and `not`.

Rules of the room: as in `core.terms`; what holds an inexact term is inexact, and a negation of one narrows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from policy_engine.core.columns import Cells
from policy_engine.core.terms import EVERY_ROW, Check, Kinds, Selector, merged_kinds


class _Joined:
    """What combinations of terms share."""

    def __init__(self, parts: Iterable[Selector]) -> None:
        self.parts = tuple(parts)
        self.exact = all(part.exact for part in self.parts)
        self.checks: tuple[Check, ...] = tuple(check for part in self.parts for check in part.checks)

    @cached_property
    def kinds(self) -> Kinds:
        return merged_kinds(self.parts)

    def _changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> list[Selector]:
        return [part.changed(add, remove) for part in self.parts]


class Either(_Joined):
    """At least one of the terms holds."""

    @property
    def weight(self) -> float:
        """The rows that the terms let pass together, at most."""
        return sum(part.weight for part in self.parts)

    def select(self, values: Sequence[Any]) -> int:
        found = 0
        for part in self.parts:
            found |= part.select(values)
        return found

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return any(part.test(values, slot) for part in self.parts)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Either:
        return Either(self._changed(add, remove))


class Both(_Joined):
    """All of the terms hold."""

    @property
    def weight(self) -> float:
        """The rows that the narrowest term lets pass."""
        return min(part.weight for part in self.parts)

    def select(self, values: Sequence[Any]) -> int:
        found = EVERY_ROW
        for part in self.parts:
            found &= part.select(values)
            if not found:
                break
        return found

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return all(part.test(values, slot) for part in self.parts)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Both:
        return Both(self._changed(add, remove))


class Negated(_Joined):
    """The one term does not hold."""

    weight = 1e9

    def select(self, values: Sequence[Any]) -> int:
        return ~self.parts[0].select(values) if self.exact else EVERY_ROW

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return not self.parts[0].test(values, slot)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Negated:
        return Negated(self._changed(add, remove))
