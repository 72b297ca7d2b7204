"""Postings: value -> the rules that name it, as bits of an `int`, or as a few positions of many.

Left to others: which values a condition accepts (`core.index`, `core.terms`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

Accepted = frozenset[Any] | None
"""What one rule accepts in one term: the values, or `None` for no condition."""

_FEW_POSITIONS: Final = 16
_DENSE_BYTES: Final = 4_194_304
"""Up to so many bytes a term keeps all its values as bits, which is fastest."""
_SHIFTED_COUNT: Final = 16
_CHUNK_BITS: Final = 4_096


def spread(positions: Collection[int]) -> int:
    """Return the positions as bits."""
    if len(positions) <= _SHIFTED_COUNT:
        found = 0
        for position in positions:
            found |= 1 << position
        return found
    held = bytearray((max(positions) >> 3) + 1)
    for position in positions:
        held[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(held, "little")


def first(found: int) -> int:
    """Return the lowest set bit's position, at a cost that grows with it. Raises `ValueError` where none is set."""
    if not found:
        raise ValueError("no bit is set")
    low, width = found & 0xFFFFFFFF, 32
    while not low:
        width *= 4
        low = found & ((1 << width) - 1)
    return (low & -low).bit_length() - 1


def ascending(found: int) -> Iterator[int]:
    """Yield the positions of the set bits one by one, low ones first."""
    base = 0
    while found:
        chunk = found & ((1 << _CHUNK_BITS) - 1)
        while chunk:
            low = chunk & -chunk
            yield base + low.bit_length() - 1
            chunk ^= low
        found >>= _CHUNK_BITS
        base += _CHUNK_BITS


def descending(found: int) -> Iterator[int]:
    """Yield the positions of the set bits one by one, high ones first."""
    while found:
        last = found.bit_length() - 1
        base = last - last % _CHUNK_BITS
        chunk = found >> base
        while chunk:
            place = chunk.bit_length() - 1
            yield base + place
            chunk ^= 1 << place
        found &= (1 << base) - 1


class Postings:
    """Value -> rules that name it, with the rules that have no condition (`free`) already among them."""

    __slots__ = ("dense", "few", "free", "weight")

    def __init__(self, accepted: Sequence[Accepted]) -> None:
        self.free = spread([position for position, values in enumerate(accepted) if values is None])
        lists: dict[Any, list[int]] = {}
        for position, values in enumerate(accepted):
            for value in values or ():
                lists.setdefault(value, []).append(position)
        small = len(lists) * len(accepted) // 8 <= _DENSE_BYTES
        self.few = {v: tuple(at) for v, at in lists.items() if not small and len(at) <= _FEW_POSITIONS}
        self.dense = {v: self.free | spread(at) for v, at in lists.items() if v not in self.few}
        named = sum(map(len, lists.values()))
        self.weight = self.free.bit_count() + named / max(1, len(lists))

    def named(self) -> Iterator[Any]:
        """Yield every value that a rule names."""
        return chain(self.dense, self.few)

    def of(self, value: Any) -> int:
        """Return the rules that accept a value."""
        found = self.dense.get(value)
        if found is None:
            few = self.few.get(value)
            return self.free if few is None else self.free | spread(few)
        return found

    def of_any(self, values: Iterable[Any]) -> int:
        """Return the rules that accept at least one of the values."""
        found = self.free
        get = self.dense.get
        few = self.few
        for value in values:
            more = get(value)
            if more is not None:
                found |= more
            elif value in few:
                found |= spread(few[value])
        return found

    def changed(self, add: Mapping[int, Accepted], remove: Mapping[int, Accepted]) -> Postings:
        """Return the postings with rules added and removed; what did not change is shared."""
        copy = object.__new__(Postings)
        copy.few, copy.dense, copy.free, copy.weight = dict(self.few), dict(self.dense), self.free, self.weight
        gone = spread([at for at, values in remove.items() if values is None])
        come = spread([at for at, values in add.items() if values is None])
        if gone or come:
            copy.free = copy.free & ~gone | come
            copy.dense = {value: found & ~gone | come for value, found in copy.dense.items()}
        for at, values in remove.items():
            for value in values or ():
                copy._drop(value, at)
        for at, values in add.items():
            for value in values or ():
                copy._put(value, at)
        return copy

    def _drop(self, value: Any, at: int) -> None:
        if value in self.few:
            self.few[value] = tuple(held for held in self.few[value] if held != at)
            if not self.few[value]:
                del self.few[value]
        else:
            self.dense[value] &= ~(1 << at)

    def _put(self, value: Any, at: int) -> None:
        if value in self.dense:
            self.dense[value] |= 1 << at
            return
        slots = (*self.few.get(value, ()), at)
        if len(slots) <= _FEW_POSITIONS:
            self.few[value] = slots
        else:
            self.few.pop(value, None)
            self.dense[value] = self.free | spread(slots)
