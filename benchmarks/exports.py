"""How fast the log goes to files: entries a second, on one core, proof sheet and sync included.

The log holds decisions of the sample policy, as the engine writes them. JSON Lines of everything is judged; other
forms, and JSON Lines of what a question finds, are shown, over fewer entries where it takes long. Files are counted:
a fast export that loses entries would be none.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from benchmarks.report import Line

ENTRIES = 200_000
ENTRIES_QUICK = 20_000
SLOW_ENTRIES = 20_000
RATE = 100_000.0
_PLACES = ("US", "GB", "DE", "IN", "CN", "IR")
_MODELS = ("fable-5", "mythos-5", "opus-4-8", "open-1", "summit-4")
_PERSONS = (("alice", "acme"), ("bruno", "acme-de"), ("ines", "annexco"), ("chen", "lab"), ("eve", "acme"))


class NotExported(RuntimeError):
    """A file does not hold what was asked for, so its speed means nothing."""


def measure(policies: Path, folder: Path, entries: int, runs: int, say: Callable[[str], None]) -> list[Line]:
    """Fill a log, and export it so many times in each form."""
    from policy_engine.bootstrap import open_engine
    from policy_engine.services.exports.service import Form
    from policy_engine.settings import Settings

    engine = open_engine(Settings(database=f"sqlite:///{folder / 'exports.db'}", policies=policies))
    try:
        say(f"writing a log of {entries:,} entries")
        slow_until = _fill(engine, entries)
        say("indexing it, so that nothing else runs beside the exports")
        while engine.store.index_tags(1_000):
            pass
        while engine.store.index_columns(1_000).leaves:
            pass
        everything = [_line(engine, folder, Form.JSONL, "", None, RATE, runs, say)]
        found = _line(engine, folder, Form.JSONL, "deny", None, None, 1, say)
        others = [form for form in Form if form is not Form.JSONL]
        return [*everything, found, *(_line(engine, folder, form, "", slow_until, None, 1, say) for form in others)]
    finally:
        engine.close()


def _fill(engine: Any, entries: int) -> int:
    """Write decisions, and return the instant before which the entries for slow forms lie."""
    from policy_engine.core.decision import Request
    from policy_engine.core.facts import Location
    from policy_engine.services.permissions import LOCAL

    random, slow_until, written = Random(3), 0, 0
    while written < entries:
        batch = []
        for _ in range(256):
            person, tenant = random.choice(_PERSONS)
            place = Location(random.choice(_PLACES))
            batch.append(Request(person, "infer", random.choice(_MODELS), tenant, place, "US"))
        engine.decider.decide_many(batch, LOCAL)
        written += len(batch)
        if written <= SLOW_ENTRIES:
            slow_until = engine.store.now()
    return slow_until


def _line(
    engine: Any,
    folder: Path,
    form: Any,
    text: str,
    until: int | None,
    bound: float | None,
    runs: int,
    say: Callable[[str], None],
) -> Line:
    from policy_engine.services.exports.service import Target
    from policy_engine.services.permissions import LOCAL

    name = f"exported: {form}{f', {text}' if text else ''}"
    say(name)
    place = folder / ("export.zip" if form == "bundle" else f"export.{form}")
    asked, seconds = engine.exports.ask(text, None, until), []
    for _ in range(runs):
        began = perf_counter()
        sheet = engine.exports.export(LOCAL, asked, form, Target(place, force=True))
        seconds.append(perf_counter() - began)
    _check(engine, asked, sheet, name, place if form == "jsonl" else None)
    rate = sheet.entries / statistics.median(seconds)
    detail = {"seconds": [round(each, 3) for each in seconds], "entries": sheet.entries, "bytes": sheet.size_bytes}
    place.unlink()
    return Line(name, "entries/s", rate, None, rate, bound, detail=detail)


def _check(engine: Any, asked: Any, sheet: Any, name: str, lines_of: Path | None) -> None:
    """Raise `NotExported` unless the file holds as many entries as the question finds by itself."""
    from policy_engine.services.permissions import LOCAL

    wanted = sum(1 for _ in engine.evidence.scan(LOCAL, asked.question))
    found = sheet.entries if lines_of is None else lines_of.read_bytes().count(b"\n")
    if found != wanted and sheet.format != "bundle":
        raise NotExported(f"{name}: {found:,} entries in the file, {wanted:,} in the log")
