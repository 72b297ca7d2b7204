"""Law 10: the cost of a decision grows with the rules that match it, not with the number of rules."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from policy_engine.core.index import positions
from policy_engine.core.release import Release
from policy_engine.rules.release import load_release
from tests.rules.sample import INSTANTS, facets_at, files, flat, release

FEW, MANY = 10, 5_000
RATIO_MAX = 4.0
"""Stock Casbin's ratio for the same rules is about 500."""


def with_generated(count: int) -> Release:
    """Return the sample release with so many more rules, of which a request matches few."""
    head = '[pack]\nname = "generated"\nowner = "tests"\nversion = "1"\n'
    rule = '\n[[rule]]\nid = "G{n}"\nlabel = "G"\neffect = "deny"\ncode = "generated.{n}"\nmessage = "Generated."\n'
    rule += (
        'authority = "tests"\nwhen = {{ home_outside = "{group}", {column} = "{place}", evidence = "{evidence}" }}\n'
    )
    places = sorted(release().reference.groups.at(INSTANTS[-1]).groups["D:5 + MO + E:1 + E:2"])
    columns = ("location_in", "residence_in", "entity_in", "seat_in", "counted_in")
    evidence = ("declared", "expired", "none", "conflict")
    texts = [
        rule.format(
            n=n,
            group="A:5 + US",
            column=columns[n % len(columns)],
            place=places[n // len(columns) % len(places)],
            evidence=evidence[n // (len(columns) * len(places)) % len(evidence)],
        )
        for n in range(count)
    ]
    return load_release({**files(), "packs/generated.toml": (head + "".join(texts)).encode()})


def ratio(one: tuple[Release, Sequence[tuple[Any, ...]]], other: tuple[Release, Sequence[tuple[Any, ...]]]) -> float:
    """Return how many times longer one side takes, each at its best of rounds in turn: a busy machine is no cost."""
    best = [float("inf"), float("inf")]
    for _ in range(20):
        for side, (held, requests) in enumerate((one, other)):
            matching = held.index.matching
            start = time.perf_counter()
            for request in requests:
                positions(matching(request))
            best[side] = min(best[side], time.perf_counter() - start)
    return best[0] / best[1]


def test_cost_does_not_grow_with_rules_that_do_not_match() -> None:
    """Repeated values and values never seen before cost about the same among 10 and among 5,000 more rules.

    Control: policy_engine/core/index.py: `found = self._all`
    """
    few, many = with_generated(FEW), with_generated(MANY)
    assert len(many.rules) - len(few.rules) == MANY - FEW
    repeated = [flat(facets_at(INSTANTS[-1]))] * 300
    unseen = [
        flat(facets_at(INSTANTS[-1], location=frozenset((f"X{at}",)), home=f"Y{at}", counted=frozenset((f"Z{at}",))))
        for at in range(300)
    ]
    for requests in (repeated, unseen):
        assert positions(many.index.matching(requests[0])) != ()
        assert ratio((many, requests), (few, requests)) < RATIO_MAX
    assert ratio((many, unseen), (many, repeated)) < RATIO_MAX


def test_nothing_is_kept_of_a_request() -> None:
    """Values never seen before leave the index as it was: no cache grows with what callers send."""
    index = release().index

    def sizes() -> list[int]:
        return [
            len(getattr(holder, name))
            for term in index.terms
            for holder in (term, getattr(term, "_postings", term))
            for name in ("_merged", "_domains", "dense", "few")
            if hasattr(holder, name)
        ]

    before = sizes()
    for at in range(50):
        facets = facets_at(INSTANTS[-1], location=frozenset((f"X{at}",)), home=f"Y{at}", action=f"act{at}")
        index.matching(flat({**facets, "editions": frozenset((f"ear@{at}",))}))
    assert before == sizes()
    assert sum(before) > 100
