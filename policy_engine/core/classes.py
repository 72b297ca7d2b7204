"""Equivalence classes: the values of each facet that no condition tells apart, as the variables of a question.

Rules of the room:
- A facet of one value is one variable; its values are classes of texts that are in the same conditions, and one class
  more for every value that no condition names, unless a closed vocabulary leaves none.
- A facet that is a set holds any subset, so each class of elements is a variable of its own: held or not. What no
  condition names changes nothing and is left out.
- Facets are free: any value of one goes with any value of another. What follows for free facets is true of every
  request; that two facets hang together in the world is not used, so that less may be found, never too much.
Left to others: the search (`core.coverage`), what the findings are (`core.analysis`), reading rules (`rules`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from policy_engine.core.coverage import Clause, Literal, Values
from policy_engine.core.instants import ENDLESS

Named = frozenset[Hashable]
_HELD = frozenset((1,))


@dataclass(frozen=True, slots=True)
class Facet:
    """What a facet may be: one value or (`many`) a set, of a closed vocabulary or (`None`) of any text."""

    many: bool = False
    values: Named | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """Another facet of one value is among the values, or (`inside` false) is not."""

    facet: str
    values: Named
    inside: bool = True


@dataclass(frozen=True, slots=True)
class Condition:
    """A facet is among the values, or a set holds one of them; with `inside` false it is not, or holds none.

    With `given` this is asked only where that holds; elsewhere the condition is met. `label` names what wrote it.
    """

    label: str
    facet: str
    values: Named
    inside: bool = True
    given: Given | None = None


class Segments:
    """Instants cut at every bound that somebody names: inside a segment, nothing that has dates changes."""

    __slots__ = ("starts",)

    def __init__(self, bounds: Iterable[int]) -> None:
        self.starts = (-ENDLESS, *sorted({bound for bound in bounds if -ENDLESS < bound < ENDLESS}))

    @property
    def all(self) -> Named:
        """Return every segment, by number."""
        return frozenset(range(len(self.starts)))

    def between(self, start: int, until: int) -> Named:
        """Return the segments from one bound until another."""
        last = len(self.starts) if until >= ENDLESS else bisect_right(self.starts, until) - 1
        return frozenset(range(bisect_right(self.starts, max(start, -ENDLESS)) - 1, last))


class Classes:
    """The variables of some conditions: `sizes[variable]` is how many values a variable has.

    `singles` are the variables of facets that have one value.
    """

    __slots__ = ("_facets", "_first", "_known", "_of", "singles", "sizes")

    def __init__(self, facets: Mapping[str, Facet], conditions: Iterable[Condition]) -> None:
        named: dict[str, dict[Named, None]] = {facet: {} for facet in facets}
        for condition in conditions:
            named[condition.facet][condition.values] = None
            if condition.given is not None:
                named[condition.given.facet][condition.given.values] = None
        self._facets = facets
        self._of: dict[str, Mapping[Hashable, int]] = {}
        self._first: dict[str, int] = {}
        self._known: dict[tuple[str, Named], frozenset[int]] = {}
        self.singles: list[int] = []
        self.sizes: list[int] = []
        for name, facet in facets.items():
            of, count = _partition(named[name], facet.values)
            self._of[name] = of
            self._first[name] = len(self.sizes)
            if facet.many:
                self.sizes += [2] * len(set(of.values()))
            else:
                self.singles.append(len(self.sizes))
                self.sizes.append(count)

    def clauses(self, condition: Condition) -> tuple[Clause, ...]:
        """Return what a condition demands of the variables."""
        given = condition.given
        head: Clause = ()
        if given is not None:
            head = ((self._first[given.facet], Values(self._classes(given.facet, given.values), not given.inside)),)
        classes = self._classes(condition.facet, condition.values)
        first = self._first[condition.facet]
        if not self._facets[condition.facet].many:
            return ((*head, (first, Values(classes, condition.inside))),)
        held: list[Literal] = [(first + at, Values(_HELD, condition.inside)) for at in sorted(classes)]
        return ((*head, *held),) if condition.inside else tuple((*head, literal) for literal in held)

    def _classes(self, facet: str, values: Named) -> frozenset[int]:
        found = self._known.get((facet, values))
        if found is None:
            of = self._of[facet]
            found = self._known[facet, values] = frozenset(of[value] for value in values if value in of)
        return found


def _partition(sets: Iterable[Named], vocabulary: Named | None) -> tuple[Mapping[Hashable, int], int]:
    """Return the class of every value that is named, and how many classes there are with that of all others."""
    signatures: dict[Hashable, list[int]] = {}
    for number, values in enumerate(sets):
        # In order, so that two runs number classes alike and name the same rules.
        for value in sorted(values if vocabulary is None else values & vocabulary, key=str):
            signatures.setdefault(value, []).append(number)
    classes: dict[Sequence[int], int] = {}
    of = {value: classes.setdefault(tuple(numbers), len(classes)) for value, numbers in signatures.items()}
    others = vocabulary is None or len(of) < len(vocabulary)
    return of, len(classes) + others
