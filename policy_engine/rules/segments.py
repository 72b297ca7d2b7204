"""The index of a release in segments, so that a release that differs in one pack compiles little of it anew.

Rules of the room:
- A pack of many rules is a segment. Smaller packs lie together, by the checksum of their paths, in as few segments as
  hold so many rules: one, unless there are very many. So the packs alone decide what lies where, never what was loaded
  before, and a pack that comes or goes moves no other.
- A segment is compiled from the `p` lines of its packs and the `g` lines of the groups that they name. A group has no
  members but codes, so other groups' lines change nothing; where a role definition stands in the matcher as itself,
  all groups count.
Left to others: reading packs (`rules.packs`), the lines (`rules.adapter`), one index (`rules.compile`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Final
from zlib import crc32

from policy_engine.core.index import Index
from policy_engine.core.segments import Segments
from policy_engine.rules.groups import CompiledGroup
from policy_engine.rules.packs import Pack

OWN_SEGMENT_RULES: Final = 2_000
"""A pack from so many rules up is a segment of its own."""
SHARED_SEGMENT_RULES: Final = 8_000
"""Smaller packs are dealt into more segments when they hold more rules than this together, on average."""

Build = Callable[[Sequence[Pack], Mapping[str, CompiledGroup]], Index]


@dataclass(frozen=True, slots=True)
class Segment:
    """Some packs, in order, and the index over their rules."""

    packs: tuple[Pack, ...]
    index: Index


def compile_segments(packs: Sequence[Pack], build: Build, old: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return the segments of packs, those of `old` with the same packs as they are, the others built.

    `old` are segments built under the same model, facets and tables.
    """
    known = {segment.packs: segment for segment in old}
    return tuple(known.get(dealt) or Segment(dealt, build(dealt, _groups(dealt))) for dealt in _deal(packs))


def joined(packs: Sequence[Pack], segments: Sequence[Segment]) -> Index | Segments:
    """Return the index of a release with these packs, in their order."""
    if len(segments) == 1:
        return segments[0].index
    starts = dict(zip(packs, accumulate((len(pack.rules) for pack in packs), initial=0), strict=False))
    return Segments((segment.index, _places(segment.packs, starts)) for segment in segments)


def _deal(packs: Sequence[Pack]) -> list[tuple[Pack, ...]]:
    """Return the packs dealt into segments, each in the order of packs; packs without rules are in none."""
    small = sum(len(pack.rules) for pack in packs if len(pack.rules) < OWN_SEGMENT_RULES)
    count = 1
    while small > count * SHARED_SEGMENT_RULES:
        count *= 2
    dealt: dict[str, list[Pack]] = {}
    for pack in packs:
        if pack.rules:
            own = len(pack.rules) >= OWN_SEGMENT_RULES
            dealt.setdefault(pack.path if own else str(crc32(pack.path.encode()) % count), []).append(pack)
    return [tuple(together) for together in dealt.values()]


def _groups(packs: Sequence[Pack]) -> dict[str, CompiledGroup]:
    return {text: group for pack in packs for text, group in pack.groups.items()}


def _places(packs: Sequence[Pack], starts: Mapping[Pack, int]) -> Sequence[int]:
    """Return the positions in the release of the rules of some packs."""
    spans = [range(starts[pack], starts[pack] + len(pack.rules)) for pack in packs]
    if all(span.stop == following.start for span, following in pairwise(spans)):
        return range(spans[0].start, spans[-1].stop)
    return tuple(chain.from_iterable(spans))
