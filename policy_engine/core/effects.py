"""What an effect makes of the rows that match: the answer, and the row that stock Casbin would name for it.

Rules of the room: Casbin scans in order and stops at the first row that decides; where none does, the last row that
matched is named. Told from the rows that match, without visiting the others; of many rows under one value all that
matters is known beforehand.
Left to others: which rows match (`core.selection`), errors (whoever tests a row).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from policy_engine.core.postings import ascending, descending, first, spread

ALLOW_OVERRIDE: Final = "some(where (p_eft == allow))"
DENY_OVERRIDE: Final = "!some(where (p_eft == deny))"
ALLOW_AND_DENY: Final = f"{ALLOW_OVERRIDE} && {DENY_OVERRIDE}"
PRIORITY: Final = "priority(p_eft) || deny"
SUBJECT_PRIORITY: Final = "subjectPriority(p_eft) || deny"

ALLOW: Final = 1
DENY: Final = 2
_WORDS: Final = {"allow": ALLOW, "deny": DENY}
DECIDING: Final[Mapping[str, frozenset[int]]] = {
    ALLOW_OVERRIDE: frozenset((ALLOW,)),
    DENY_OVERRIDE: frozenset((DENY,)),
    ALLOW_AND_DENY: frozenset((DENY,)),
    PRIORITY: frozenset((ALLOW, DENY)),
    SUBJECT_PRIORITY: frozenset((ALLOW, DENY)),
}
"""The words at which a scan stops, by effect."""
FEW_PLACES_COUNT: Final = 8
"""Up to so many rows under one value are looked at one by one."""
_TUPLE_SHARE: Final = 512
_TUPLE_PLACES_MIN: Final = 64
"""More rows than one in so many are kept as bits: either way memory stays small."""
Answer = tuple[bool, int | None]
"""Allowed or not, and the slot of the row that is named for it."""
Test = Callable[[int], bool]


def word(text: object) -> int:
    """Return what an effect column's text counts as: `ALLOW`, `DENY`, or 0 for any other word."""
    return _WORDS.get(text, 0) if isinstance(text, str) else 0


class Many:
    """Many rows under one value: the first that decides (-1: none), the last, and whether any allows."""

    __slots__ = ("allows", "deciding", "last", "places")

    def __init__(self, places: tuple[int, ...] | int, deciding: int, last: int, *, allows: bool) -> None:
        self.places = places
        self.deciding = deciding
        self.last = last
        self.allows = allows


Leaf = int | tuple[int, ...] | Many
"""The rows under one value: the place of the only one, the places of a few, or many."""


def places_of(leaf: Leaf) -> tuple[int, ...] | int:
    """Return a leaf's places, ascending, or as bits."""
    if isinstance(leaf, Many):
        return leaf.places
    return (leaf,) if isinstance(leaf, int) else leaf


class Words:
    """What each row's effect counts as, by place, under one policy effect; makes leaves."""

    __slots__ = ("_tuple_places", "deciding", "held")

    def __init__(self, effect: str, held: Sequence[int]) -> None:
        self.deciding = DECIDING[effect]
        self.held = held
        self._tuple_places = max(_TUPLE_PLACES_MIN, len(held) // _TUPLE_SHARE)

    def leaf(self, places: tuple[int, ...]) -> Leaf:
        """Return the leaf of rows that lie under one value, ascending."""
        if len(places) <= FEW_PLACES_COUNT:
            return places[0] if len(places) == 1 else places
        held, deciding = self.held, self.deciding
        decides = next((place for place in places if held[place] in deciding), -1)
        allows = any(held[place] == ALLOW for place in places)
        kept = places if len(places) <= self._tuple_places else spread(places)
        return Many(kept, decides, places[-1], allows=allows)

    def changed(self, leaf: Leaf, place: int, *, adding: bool) -> Leaf:
        """Return a leaf with a row added behind the others, or removed."""
        held = places_of(leaf)
        places = tuple(ascending(held)) if isinstance(held, int) else held
        return self.leaf((*places, place) if adding else tuple(other for other in places if other != place))


class Effect:
    """A policy effect over rows whose words are known by slot.

    `ranks` give each slot's place in the scan, where rows were added between others; `None`: slots are in order.
    """

    __slots__ = ("_allows", "_deciding", "_deciding_words", "name", "ranks", "words")

    def __init__(self, name: str, words: list[int], ranks: list[int] | None = None) -> None:
        self.name = name
        self.words = bytes(words)  # so that looking a row's word up reads a byte that is near, and no pointer
        self.ranks = ranks
        deciding = self._deciding_words = DECIDING[name]
        self._allows = spread([slot for slot, held in enumerate(words) if held == ALLOW])
        self._deciding = spread([slot for slot, held in enumerate(words) if held in deciding])

    def ended(self, *, allowed: bool, last: int | None) -> Answer:
        """Return the answer of a scan that no row stopped; `allowed`: some row that allows matched."""
        if self.name == DENY_OVERRIDE:
            return True, last
        return self.name == ALLOW_AND_DENY and allowed, last

    def of_leaves(self, leaves: Iterable[Leaf]) -> Answer:
        """Return the answer where all rows of these leaves match, and no others; slots must be in order."""
        words, deciding = self.words, self._deciding_words
        decides = last = -1
        allowed = False
        for leaf in leaves:
            if type(leaf) is int:
                held = words[leaf]
                if held in deciding:
                    if decides < 0 or leaf < decides:
                        decides = leaf
                else:
                    allowed = allowed or held == ALLOW
                    if leaf > last:
                        last = leaf
            elif type(leaf) is tuple:
                for slot in leaf:
                    held = words[slot]
                    if held in deciding:
                        if decides < 0 or slot < decides:
                            decides = slot
                        break
                    allowed = allowed or held == ALLOW
                    if slot > last:
                        last = slot
            elif isinstance(leaf, Many):
                if leaf.deciding >= 0 and (decides < 0 or leaf.deciding < decides):
                    decides = leaf.deciding
                allowed = allowed or leaf.allows
                last = max(last, leaf.last)
        if decides >= 0:
            return words[decides] == ALLOW, decides
        return self.ended(allowed=allowed, last=None if last < 0 else last)

    def settled(self, leaves: Sequence[Leaf]) -> bool:
        """Return whether the last of these leaves holds a row after which no other changes whether it is allowed."""
        words, deciding = self.words, self._deciding_words
        leaf = leaves[-1]
        if len(deciding) > 1:
            return False  # the first of those that decide counts, and it may come yet
        if isinstance(leaf, int):
            return words[leaf] in deciding
        if isinstance(leaf, Many):
            return leaf.deciding >= 0
        return any(words[slot] in deciding for slot in leaf)

    def of(self, found: tuple[int, ...] | int) -> Answer:
        """Return the answer for rows that all match."""
        if self.ranks is not None or not isinstance(found, int):
            return self.scan(self.ordered(found))
        deciding = found & self._deciding
        if deciding:
            slot = first(deciding)
            return self.words[slot] == ALLOW, slot
        last = found.bit_length() - 1 if found else None
        return self.ended(allowed=bool(found & self._allows), last=last)

    def among(self, found: tuple[int, ...] | int, test: Test) -> Answer:
        """Return the answer for rows of which those match that pass the test, which is asked of as few as possible."""
        if self.ranks is not None or not isinstance(found, int):
            return self.scan(slot for slot in self.ordered(found) if test(slot))
        for slot in ascending(found & self._deciding):
            if test(slot):
                return self.words[slot] == ALLOW, slot
        last = next((slot for slot in descending(found & ~self._deciding) if test(slot)), None)
        if self.name != ALLOW_AND_DENY or last is None:
            return self.ended(allowed=False, last=last)
        return self.ended(allowed=any(test(slot) for slot in ascending(found & self._allows)), last=last)

    def ordered(self, found: tuple[int, ...] | int) -> Iterable[int]:
        """Return slots in the order of the scan, lazily where they are bits in order."""
        slots = ascending(found) if isinstance(found, int) else found
        return slots if self.ranks is None else sorted(slots, key=self.ranks.__getitem__)

    def scan(self, matching: Iterable[int]) -> Answer:
        """Return the answer of a scan that meets these matching rows in order, asking for no more than it needs."""
        allowed, last = False, None
        for last in matching:
            held = self.words[last]
            if held in self._deciding_words:
                return held == ALLOW, last
            allowed = allowed or held == ALLOW
        return self.ended(allowed=allowed, last=last)

    def changed(self, add: Sequence[int], remove: Sequence[int], ranks: list[int] | None) -> Effect:
        """Return the effect with rows of these words added behind, and rows removed."""
        copy = object.__new__(Effect)
        copy.name, copy._deciding_words, copy.ranks = self.name, self._deciding_words, ranks
        known = len(self.words)
        copy.words = self.words + bytes(add) if add else self.words
        gone = ~spread(remove)
        deciding = self._deciding_words
        copy._allows = self._allows & gone | spread([known + at for at, held in enumerate(add) if held == ALLOW])
        copy._deciding = self._deciding & gone | spread([known + at for at, held in enumerate(add) if held in deciding])
        return copy
