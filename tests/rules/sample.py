"""The sample release for the tests of rules: its files, small changes to them, and flat tuples that reach its rules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from policy_engine.core.instants import parse_instant
from policy_engine.core.release import Release
from policy_engine.errors import LoadRefused
from policy_engine.rules.release import Parts, load_release, read_folder, read_parts

FOLDER = Path(__file__).parents[2] / "policies"
RESTRICTED = "D:5 + MO + E:1 + E:2"
FRONTIER = "D:1 + D:4 - A:5 - A:6"
FAVOURED = "A:5 + US"
EMBARGOED = "embargoed"
INSTANTS = tuple(
    parse_instant(text)
    for text in ("2025-06-01", "2026-01-15", "2026-02-02T23:59:59Z", "2026-02-03", "2026-07-22T23:59:59Z", "2026-07-23")
)
PLACES = ("US", "DE", "CN", "MO", "IR", "CU", "KP", "RU", "KH", "AE", "IL", "VN", "IN", "UA", "UA-43", "UA-09", "US-CA")


@cache
def files() -> Mapping[str, bytes]:
    """Return the files of the sample release."""
    return read_folder(FOLDER)


@cache
def release() -> Release:
    """Return the sample release, loaded once."""
    return load_release(files())


@cache
def parts() -> Parts:
    """Return what the sample release's files hold."""
    return read_parts(files())


def changed(path: str, old: str, new: str) -> dict[str, bytes]:
    """Return the sample's files with one text replaced once in one of them; the old text must be there."""
    text = files()[path].decode()
    assert old in text, f"{path} no longer holds {old!r}"
    return {**files(), path: text.replace(old, new, 1).encode()}


def refusal(changed_files: Mapping[str, bytes]) -> LoadRefused:
    """Return what loading these files raises."""
    with pytest.raises(LoadRefused) as caught:
        load_release(changed_files)
    return caught.value


def with_rule(text: str) -> dict[str, bytes]:
    """Return the sample's files with one more pack that holds a rule of this text (its line 6 is `[[rule]]`)."""
    head = '[pack]\nname = "extra"\nowner = "tests"\nversion = "1"\n\n[[rule]]\n'
    return {**files(), "packs/extra.toml": (head + text).encode()}


GOOD_RULE = {
    "id": '"X1"',
    "label": '"X"',
    "effect": '"deny"',
    "code": '"extra.rule"',
    "message": '"A sentence."',
    "authority": '"a citation"',
    "when": '{ tiers = "3+" }',
}


def rule(**keys: str | None) -> dict[str, bytes]:
    """Return the sample's files with one more rule: a good one, changed by the keys named (`None`: left out)."""
    written = {**GOOD_RULE, **keys}
    return with_rule("\n".join(f"{key} = {value}" for key, value in written.items() if value is not None) + "\n")


GOOD_FACETS: Mapping[str, Any] = {
    "action": "infer",
    "tier": "4",
    "status": "available",
    "weights": "closed",
    "serving": "permitted",
    "location": frozenset(("US",)),
    "residence": frozenset(("US",)),
    "entities": frozenset(("US",)),
    "seats": frozenset(("US",)),
    "counted": frozenset(("DE",)),
    "home": "US",
    "unknown": frozenset(),
    "screening": frozenset(("none",)),
    "ownership": frozenset(),
    "affiliates": "in_force",
    "owned": frozenset(),
    "us_person": "no",
    "evidence": "valid",
    "partner": "yes",
    "employee": "yes",
    "in_us": "yes",
    "directive": frozenset(),
    "denied": "no",
    "lifts": frozenset(),
}
"""Facets that the sample policy allows."""

_FREE = {
    "location": PLACES,
    "residence": PLACES,
    "entities": PLACES,
    "seats": PLACES,
    "counted": PLACES,
    "home": (*PLACES, "unknown"),
}
_SAID_BY_UNKNOWN = {"status": "unknown", "tier": "unclassified", "serving": "unknown"}


def facets_at(at: int, **changes: Any) -> dict[str, Any]:
    """Return the facets that the policy allows, changed, at an instant, with the editions in force then."""
    found = {**GOOD_FACETS, **changes, "now": at, "editions": release().reference.groups.at(at).domains}
    unknown = set(found["unknown"])
    for name, word in _SAID_BY_UNKNOWN.items():
        unknown.discard(name)
        if found[name] == word:
            unknown.add(name)
    unknown.discard("screening")
    if "unscreened" in found["screening"]:
        unknown.add("screening")
    return {**found, "unknown": frozenset(unknown)}


def flat(facets: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the flat tuple of the sample release for these facets."""
    return tuple(facets[token.name] for token in release().tokens)


@st.composite
def some_facets(draw: st.DrawFn) -> dict[str, Any]:
    """Draw facets: good ones with none to four of them changed, at an instant on or beside an edition's start."""
    at = draw(st.sampled_from(INSTANTS))
    names = draw(st.lists(st.sampled_from(sorted(GOOD_FACETS)), max_size=4, unique=True))
    return facets_at(at, **{name: draw(_values(name)) for name in names})


def _values(name: str) -> st.SearchStrategy[Any]:
    token = next(token for token in release().tokens if token.name == name)
    words = st.sampled_from(sorted(_FREE.get(name) or token.values or ()))
    return words if token.kind == "scalar" else st.frozensets(words, max_size=3)
