"""Finding the very place of a change. Nothing here decides whether there was one; that is settled before it is asked.

A bundle may hold leaf hashes beside the log. Nobody vouches for them, but where they lead to a root that was signed
they are the true ones, and whatever hashes otherwise is what was changed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple

from policy_engine_verify import limits
from policy_engine_verify.formats import Refused
from policy_engine_verify.logs import Header
from policy_engine_verify.source import Lines, Source
from policy_engine_verify.tree import leaf_hash, root_of

_SEQ = re.compile(rb',"seq":([0-9]{1,16}),')


def seq_of(line: bytes) -> int:
    """Return the sequence number that a line seems to have, -1 if none."""
    found = _SEQ.search(line)
    return int(found[1]) if found else -1


def unlike(source: Source, size: int, root: bytes) -> list[int | None]:
    """Return the leaves that are not those that gave a root; one `None` when the bundle does not help to tell."""
    beside = source.hashes("leaves", 0, size)
    if beside is None or root_of(beside) != root:
        return [None]
    lines = source.lines("leaves.jsonl").take(size)
    return [number for number, line in enumerate(lines) if leaf_hash(line) != beside[number]]


class Part(NamedTuple):
    """A range of entries that is shown of a log, and how many are shown in front of it."""

    first: int
    end: int
    before: int


def part_of(shown: list[Part], seq: int) -> Part | None:
    """Return the range that holds an entry; however many there are, few are looked at."""
    place = bisect_right(shown, seq, key=lambda part: part.first) - 1
    return shown[place] if place >= 0 and seq < shown[place].end else None


def skipped(header: Header, part: Part, taken: int, lines: Lines) -> int:
    """Pass over the entries in front of a batch whose leaf could not be read (which was found), and count them."""
    left = passed = max(part.before + header.first - part.first - taken, 0)
    while left and (found := len(lines.take(min(left, 1_024)))):
        left -= found
    return passed


def where(header: Header, own: list[bytes], beside: list[bytes] | None) -> list[tuple[int | None, str]]:
    """Say which lines are not the entries that a header committed, or which entries have no line."""
    lines = {seq_of(line): line for line in own}
    numbers = range(header.first, header.first + header.n)
    if len(own) == header.n:
        lines = dict(zip(numbers, own, strict=True))
    found: list[tuple[int | None, str]] = [(seq, "the entry is missing") for seq in numbers if seq not in lines]
    if beside is not None and root_of(beside).hex() == header.root:
        changed = (seq for seq in numbers if seq in lines and leaf_hash(lines[seq]) != beside[seq - header.first])
        found += [(seq, "the entry is not the one that was committed") for seq in changed]
    if found:
        return sorted(found, key=lambda each: each[0] or 0)
    last = header.first + header.n - 1
    return [(None, f"entries {header.first} to {last} are not the ones that were committed")]


def _aligned(header: Header, own: list[bytes], lines: Lines) -> bool:
    """Return whether the lines of a batch end where they should, by the last of them or the one behind it."""
    end = header.first + header.n
    if len(own) == header.n and b',"seq":%d,' % (end - 1) in own[-1]:
        return True
    behind = lines.take(1)
    lines.back(behind)
    return len(own) == header.n and bool(behind) and seq_of(behind[0]) == end


def in_step(header: Header, lines: Lines) -> tuple[list[bytes], int]:
    """Return the lines that seem to be of a batch, whatever was taken out or put in, and how many were put in.

    Raises `Refused` for more of these than a batch may have: to look at each for its own sake would take hours.
    """
    own = lines.take(header.n)
    if _aligned(header, own, lines):
        return own, 0
    lines.back(own)
    inside: dict[int, bytes] = {}
    end, strays = header.first + header.n, 0
    while len(inside) < header.n and (taken := lines.take(1)):
        seq, behind = seq_of(taken[0]), lines.take(1)
        lines.back(behind)
        if seq >= end and not (behind and seq_of(behind[0]) < end):
            lines.back(taken)
            break
        if header.first <= seq < end and seq not in inside:
            inside[seq] = taken[0]
        elif (strays := strays + 1) > limits.BATCH_ENTRIES_COUNT:
            raise Refused(f"over {limits.BATCH_ENTRIES_COUNT} lines of log {header.log} are of no batch of it")
    return list(inside.values()), strays
