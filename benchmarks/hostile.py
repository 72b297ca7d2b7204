"""A stream of values made to wear an engine out: every one new, many of them random, long or of another kind.

Rules of the room: the stream is made in chunks outside the timed calls, and beside every chunk the repeated pool is
timed, so both medians come from the same minutes. Memory is the process's resident set before the stream (one chunk and
the pool were answered already) and after it; `tracemalloc` looks again at a tenth of the stream, for tracing is slow.
Every answer is compared with what the request was made for, and now and then one is put to stock Casbin as well.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import tracemalloc
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchmarks.apart import Say, apart
from benchmarks.enforcers import NotMeasured, compiled, write
from benchmarks.report import Line
from benchmarks.shapes import Request, Shape, named
from benchmarks.side_by_side import AnswersDiffer

VALUES = 1_000_000
VALUES_QUICK = 100_000
RULES = 10_000
CHUNK = 5_000
MEMORY_MEBIBYTES = 16.0
TIMES_REPEATED = 2.0
STREAMS = ("table", "keymatch")
JUDGED_BY_TIME = ("table",)  # the promise is for inverted terms; patterns are judged beside stock
LETTERS = "abcXYZ019 _-/.:*?[](){}|\\^$%\"'\u00e9\u4e2d\u0130\U0001f600"

Asked = tuple[Request, bool]


def measure(values: int, folder: Path, say: Say) -> tuple[list[Line], list[str]]:
    """Return the lines of both streams, and a sentence for each that is not measured. Raises `AnswersDiffer`."""
    lines: list[Line] = []
    unmeasured: list[str] = []
    for name in STREAMS:
        try:
            lines += apart(say, _stream, name, values, folder)
        except NotMeasured as error:
            unmeasured.append(f"{name}, hostile stream: {error}")
    return lines, unmeasured


def requests(shape: Shape, start: int, number: int) -> list[Asked]:
    """Return so many requests from a place of the stream on: random, allowed, random, a near miss, and so on."""
    source = random.Random(start)
    made = shape.first_seen(RULES, start)
    found: list[Asked] = []
    for at, request in zip(range(start, start + number), made, strict=False):
        if at % 2 and at % 8 != 1:
            found.append((_random(shape, request, at, source), False))
        else:
            found.append((request, at % 2 == 0))
    return found


def _random(shape: Shape, request: Request, number: int, source: random.Random) -> Request:
    """Return a denied request: random values all over a table, or a random path and action under a known subject."""
    noise = [f"{number:x}{_text(source)}" for _ in request]
    if shape.pattern:
        return request[0], f"/{noise[1]}", noise[2]
    if number % 16 == 3:
        return float(number) / 7, *noise[1:-1], -number
    return tuple(noise)


def _text(source: random.Random) -> str:
    if source.random() < 0.001:
        return source.choice(LETTERS) * 10_000
    return "".join(source.choices(LETTERS, k=source.randint(4, 24)))


def _stream(name: str, values: int, folder: Path, say: Say) -> list[Line]:
    shape = named(name)
    paths = write(shape, shape.rows(RULES), folder)
    enforcer, stock = compiled(*paths), _stock(paths)
    pool = [(request, at % 2 == 0) for at, request in enumerate(shape.repeated(RULES))]
    hostile: list[tuple[float, float]] = []
    again: list[tuple[float, float]] = []
    before = 0
    for start in range(0, values, CHUNK):
        say(f"{name}, hostile stream of {values:,}", start, values)
        asked = requests(shape, start, CHUNK)
        hostile.append(_medians(enforcer, asked))
        again.append(_medians(enforcer, pool * (CHUNK // 5 // len(pool))))
        _agree(stock, *asked[start // CHUNK % CHUNK])  # one a chunk: stock takes tens of milliseconds
        del asked
        if not before:
            before = _resident()
    grown = (_resident() - before) / 2**20
    traced = _traced(enforcer, shape, values)
    cost, repeated = _dearer(hostile), _dearer(again)
    detail = {"requests": values, "rules": RULES, "resident_mebibytes_before": round(before / 2**20, 1)}
    title = f"{name}, hostile stream of {values:,}"
    lines = []
    if shape.name in JUDGED_BY_TIME:
        times = cost / repeated
        what = f"{title}: times repeated"
        lines.append(Line(what, "us", cost, repeated, times, TIMES_REPEATED, at_most=True, detail=detail))
    detail |= {"median_us": round(cost, 2), "repeated_us": round(repeated, 2), "traced_requests": values // 10}
    for what, figure in (("resident growth", grown), ("traced growth", traced)):
        line = Line(f"{title}: {what}", "MiB", figure, None, figure, MEMORY_MEBIBYTES, at_most=True, detail=detail)
        lines.append(line)
    return lines


def _stock(paths: tuple[str, str]) -> Any:
    from policy_engine.rules.stock import stock_enforcer

    return stock_enforcer(*paths)


def _medians(enforcer: Any, asked: list[Asked]) -> tuple[float, float]:
    """Return the median microseconds of the allowed and of the denied requests. Raises `AnswersDiffer`."""
    times: dict[bool, list[int]] = {True: [], False: []}
    enforce, clock = enforcer.enforce, perf_counter_ns
    for request, allowed in asked:
        began = clock()
        answer = enforce(*request)
        took = clock() - began
        if answer is not allowed:
            raise AnswersDiffer(f"a request of the hostile stream, made to be {allowed=}, was answered {answer}")
        times[allowed].append(took)
    return statistics.median(times[True]) / 1_000, statistics.median(times[False]) / 1_000


def _agree(stock: Any, request: Request, allowed: bool) -> None:
    if stock.enforce(*request) is not allowed:
        raise AnswersDiffer(f"stock Casbin disagrees with a request of the hostile stream made to be {allowed=}")


def _dearer(chunks: list[tuple[float, float]]) -> float:
    return max(statistics.median(each[outcome] for each in chunks) for outcome in (0, 1))


def _traced(enforcer: Any, shape: Shape, values: int) -> float:
    """Return by how many mebibytes the stream's next tenth grows what Python holds."""
    tracemalloc.start()
    try:
        _medians(enforcer, requests(shape, values, CHUNK))
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for start in range(values + CHUNK, values + max(2 * CHUNK, values // 10), CHUNK):
            _medians(enforcer, requests(shape, start, CHUNK))
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / 2**20
    finally:
        tracemalloc.stop()


def _resident() -> int:
    """Return the bytes of this process that lie in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
