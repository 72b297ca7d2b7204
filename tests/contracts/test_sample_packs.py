"""The sample packs say what the reference policy says: the same rules deny, and the same requests pass.

The other side is the table of the reference policy as one plain function (`tests/core/rulebook.py`), asked about
generated requests; rules that deny are compared by label, so that a right outcome for a wrong reason shows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.core.authorizer import authorize
from policy_engine.core.decision import Outcome, Principal, PrincipalKind, Request
from policy_engine.core.derive import derive_person, derive_place, derive_tenant
from policy_engine.core.facets import Parts, assemble
from policy_engine.core.factparse import parse_location
from policy_engine.core.index import positions
from policy_engine.rules.release import load_release, read_folder
from tests.core.rulebook import denials
from tests.core.sample import NOW
from tests.core.worlds import (
    World,
    asked_of,
    book_of,
    directed,
    flawed,
    licensed,
    model_of,
    person_of,
    tenant_of,
    worlds,
)
from tests.house.repository import ROOT

EXAMPLES = settings.default.max_examples
ASKER = Principal("tests", PrincipalKind.SERVICE, frozenset())
ACTIONS = ("infer", "fine_tune", "download_weights", "list")
RULES = ("P2", "P3", "P4", "P5", "P6", "P6b", "P7", "P8", "P9", "P10", "P11", "P12", "P14")


def test_the_sample_packs_deny_by_the_rules_of_the_reference_policy() -> None:
    """For requests of every tier and action, each rule of the table denies when its rows of the packs do."""
    release = load_release(read_folder(ROOT / "policies"))
    reference = release.reference
    groups = reference.groups.at(NOW).groups
    seen: Counter[str] = Counter()

    @settings(max_examples=max(400, EXAMPLES), derandomize=EXAMPLES < 1_000)
    @given(
        worlds() | flawed() | licensed() | directed(), st.sampled_from([None, 1, 2, 3, 4, 5]), st.sampled_from(ACTIONS)
    )
    def agree(drawn: World, tier: int | None, action: str) -> None:
        model = drawn.model if tier is None else {**drawn.model, "tier": tier}
        world = replace(drawn, model=model, action=action if drawn.action == "infer" else drawn.action)
        facets = assemble(
            Parts(
                asked_of(world),
                model_of(world),
                derive_person(person_of(world), NOW, reference),
                derive_tenant(tenant_of(world), NOW, reference),
                derive_place(parse_location(world.location), reference),
                world.serving_region,
                book_of(world),
                NOW,
                reference,
            )
        ).facets
        values = release.values(facets, Request("p1", world.action, world.model["id"]), ASKER)
        found = authorize(release.rules, positions(release.index.matching(values)), facets["lifts"])
        against = {rule for rule, lift in denials(facets, groups) if not lift or lift not in facets["lifts"]}
        assert {release.rules[place].label for place in found.denies} == against
        assert found.outcome is (Outcome.DENY if against else Outcome.ALLOW)
        seen.update([found.outcome.value, *against])

    agree()
    assert min(seen["allow"], seen["deny"]) >= 50, seen
    assert all(seen[rule] >= 3 for rule in RULES), seen
