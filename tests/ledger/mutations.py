"""Ways to spoil evidence: one change of bytes, of lines, or of a list of hashes, chosen by a seeded generator."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random


def spoil_bytes(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Return the data with one change: a bit, a byte, a run of bytes, a line, or a piece of another document."""
    way = random.choice((_bit, _bit, _byte, _run, _lines, _lines, _other_line, _splice))
    return way(data, random, others)


def spoil_hashes(hashes: Sequence[bytes], random: Random, others: Sequence[bytes]) -> list[bytes]:
    """Return the list with one change: a bit, a hash left out, put in, moved, doubled, cut short or replaced."""
    changed = list(hashes)
    place = random.randrange(len(changed) + 1)
    way = random.randrange(7)
    if way == 0 or not changed:
        changed.insert(place, random.choice(others))
    else:
        place = min(place, len(changed) - 1)
        old = changed[place]
        if way == 1:
            changed[place] = _bit(old, random, ())
        elif way == 2:
            del changed[place]
        elif way == 3:
            changed.insert(random.randrange(len(changed) + 1), old)
        elif way == 4:
            other = random.randrange(len(changed))
            changed[place], changed[other] = changed[other], old
        elif way == 5:
            changed[place] = old[: random.randrange(max(len(old), 1))]
        else:
            changed[place] = random.choice(others)
    return changed


def _bit(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data or b"\x00")
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _byte(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    place = random.randrange(len(data) + 1)
    put_in = random.choice((b"", b"\n", b" ", b"=", b"+", b"0", b"A", b"\x00"))
    return data[:place] + put_in + data[place + random.randrange(2) :]


def _run(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    start, end, place = sorted(random.randrange(len(data) + 1) for _ in range(3))
    if random.randrange(2):
        return data[:start] + data[end:]
    return data[:place] + data[start:end] + data[place:]


def _lines(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    one, two = random.randrange(len(lines)), random.randrange(len(lines))
    way = random.randrange(4)
    if way == 0:
        del lines[one]
    elif way == 1:
        lines.insert(two, lines[one])
    elif way == 2:
        lines[one], lines[two] = lines[two], lines[one]
    else:
        lines.insert(one, b"")
    return b"\n".join(lines)


def _other_line(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    lines[random.randrange(len(lines))] = random.choice(random.choice(others).split(b"\n"))
    return b"\n".join(lines)


def _splice(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(others)[place:]
