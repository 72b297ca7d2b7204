"""What a release of 100,000 rules costs to load, and the next one, in which one small pack differs.

The rules lie in several packs beside the sample's, for a pack has a limit of bytes. Each request matches few of them.
The other side is loading everything anew. A change must show: the new pack's rule matches its request afterwards only.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.report import Line
from benchmarks.side_by_side import AnswersDiffer

PACKS = 8
RULES_EACH = 12_500
_HEAD = '[pack]\nname = "generated"\nowner = "bench"\nversion = "1"\n'
_RULE = """
[[rule]]
id = "{pack}-{at}"
label = "G"
effect = "deny"
code = "generated.{at}"
message = "Generated."
authority = "bench"
when = {{ home_outside = "A:5 + US", {column} = "{place}", evidence = "{evidence}" }}
"""
_COLUMNS = ("location_in", "residence_in", "entity_in", "seat_in", "counted_in")
_PLACES = ("AM", "BY", "CU", "IR", "KP", "MO", "RU", "SY", "VE")
_EVIDENCE = ("declared", "expired", "none", "conflict")


def measure(policies: Path, turns: int, say: Callable[[str], None]) -> list[Line]:
    """Load the rules once, then so many releases in turn, each with another small pack than the one before."""
    from policy_engine.rules.release import load_release, read_folder

    say(f"loading a release of {PACKS * RULES_EACH:,} rules, then changing it")
    files = read_folder(policies)
    files |= {f"packs/generated{at}.toml": pack(f"G{at}", RULES_EACH) for at in range(PACKS)}
    began = perf_counter()
    held = load_release(files)
    full = (perf_counter() - began) * 1e3
    milliseconds: list[float] = []
    for turn in range(turns):
        wanted = {path: bytes(bytearray(content)) for path, content in files.items()}  # as a store would give them
        wanted["packs/small.toml"] = pack(f"S{turn}", 1)
        began = perf_counter()
        newer = load_release(wanted, previous=held)
        milliseconds.append((perf_counter() - began) * 1e3)
        _check(held, newer, f"S{turn}-0")
        held = newer
    median = statistics.median(milliseconds)
    detail: dict[str, Any] = {
        "milliseconds": [round(each, 2) for each in milliseconds],
        "other_side": "all of it loaded anew",
    }
    name = f"release of {PACKS * RULES_EACH:,} rules: one small pack differs"
    return [Line(name, "ms", median, full, median, None, at_most=True, detail=detail)]


def pack(name: str, count: int) -> bytes:
    """Return a pack of so many rules."""
    rules = [
        _RULE.format(
            pack=name,
            at=at,
            column=_COLUMNS[at % len(_COLUMNS)],
            place=_PLACES[at // len(_COLUMNS) % len(_PLACES)],
            evidence=_EVIDENCE[at // (len(_COLUMNS) * len(_PLACES)) % len(_EVIDENCE)],
        )
        for at in range(count)
    ]
    return (_HEAD + "".join(rules)).encode()


def _check(before: Any, after: Any, id: str) -> None:
    """Raise `AnswersDiffer` unless the rule with this id is new, and found by a request that meets its conditions."""
    facets: dict[str, Any] = {token.name: "" if token.kind == "scalar" else frozenset() for token in after.tokens}
    facets |= {"now": 0, "tier": "1", "editions": after.reference.groups.at(0).domains}
    facets |= {"location": frozenset((_PLACES[0],)), "home": _PLACES[0], "evidence": _EVIDENCE[0]}
    values = tuple(facets[token.name] for token in after.tokens)
    found = [{release.rules[at].id for at in release.index.places(values)} for release in (before, after)]
    if id in found[0] or id not in found[1]:
        raise AnswersDiffer(f"the rule {id} does not match its request after it was added, or did before")
