"""Merging sorted lists of which only the beginnings are read: the next of all is known, however long the lists are.

Rules of the room: pure; a list is read further only when its beginning is used up, and a little more each time.
Left to others: what lists there are (`services.finding`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from policy_engine.store.indexinterfaces import Candidate, Position

Key = TypeVar("Key", bound=Hashable)

FIRST_COUNT = 8
"""Positions read of each list at first; four times as many at each further reading."""

MOST_COUNT = 1_024


def key_of(position: Position, newest_first: bool) -> Position:
    """Return what sorts positions in the order wanted."""
    return (-position[0], -position[1]) if newest_first else position


def merge_lists(
    keys: Sequence[Key],
    listed: Callable[[Sequence[Key], Position | None, int], Mapping[Key, Sequence[Candidate]]],
    newest_first: bool,
) -> Iterator[Candidate]:
    """Yield the candidates of the lists of all keys in order. `listed` reads the next ones of keys behind a position.

    A candidate that is in several lists comes as often.
    """
    if len(keys) == 1:
        yield from _one_list(keys[0], listed)
        return
    waiting: list[tuple[Position, int, int]] = []
    held: dict[int, tuple[Sequence[Candidate], int]] = {}

    def push(place: int, part: Sequence[Candidate], count: int) -> None:
        held[place] = (part, count)
        if part:
            heapq.heappush(waiting, (key_of(part[0].position, newest_first), place, 0))

    begun = listed(keys, None, FIRST_COUNT)
    for place, key in enumerate(keys):
        push(place, begun[key], FIRST_COUNT)
    while waiting:
        _, place, at = heapq.heappop(waiting)
        part, count = held[place]
        yield part[at]
        if at + 1 < len(part):
            heapq.heappush(waiting, (key_of(part[at + 1].position, newest_first), place, at + 1))
        elif len(part) == count:
            more, key = min(count * 4, MOST_COUNT), keys[place]
            push(place, listed([key], part[at].position, more)[key], more)


def _one_list(
    key: Key, listed: Callable[[Sequence[Key], Position | None, int], Mapping[Key, Sequence[Candidate]]]
) -> Iterator[Candidate]:
    """Yield the candidates of one list, which has nothing to be merged with."""
    behind, count = None, FIRST_COUNT
    while True:
        part = listed([key], behind, count)[key]
        yield from part
        if len(part) < count:
            return
        behind, count = part[-1].position, min(count * 4, MOST_COUNT)


def merge_logs(
    lists: Iterable[tuple[Position, Callable[[], Iterator[Candidate]]]], newest_first: bool
) -> Iterator[Candidate]:
    """Yield the candidates of all lists in order, each once. A list is begun only when its turn may have come.

    Each list comes with the first position it may have, and the lists in the order of those.
    """
    waiting: list[tuple[Position, int, Candidate, Iterator[Candidate]]] = []
    last: Position | None = None
    ahead = sorted(lists, key=lambda item: key_of(item[0], newest_first))
    begun = 0
    if len(ahead) == 1:
        for candidate in ahead[0][1]():
            if candidate.position != last:
                yield candidate
            last = candidate.position
        return
    while waiting or begun < len(ahead):
        while begun < len(ahead) and (not waiting or key_of(ahead[begun][0], newest_first) <= waiting[0][0]):
            stream = ahead[begun][1]()
            begun += 1
            _push(waiting, stream, begun, newest_first)
        if not waiting:
            continue
        _, place, candidate, stream = heapq.heappop(waiting)
        _push(waiting, stream, place, newest_first)
        if candidate.position != last:
            yield candidate
        last = candidate.position


def _push(
    waiting: list[tuple[Position, int, Candidate, Iterator[Candidate]]],
    stream: Iterator[Candidate],
    place: int,
    newest_first: bool,
) -> None:
    """Put the next candidate of a stream where its position belongs; `place` tells streams apart that stand alike."""
    candidate = next(stream, None)
    if candidate is not None:
        heapq.heappush(waiting, (key_of(candidate.position, newest_first), place, candidate, stream))
