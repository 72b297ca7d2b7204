"""The class of each reason code: every code that a deny may have is classed, and no class tells a fact."""

from __future__ import annotations

import ast
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.plain import REASONS
from policy_engine.core.reasonclasses import CLASSES, LEADING, PRIVATE, Why, class_of, leading
from policy_engine.rules.folder import read_folder
from policy_engine.services.cells.doubt import BEHIND, UNCONFIRMED
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.replica import CUT_OFF

ROOT = Path(__file__).parents[2]
ALLOWING = {"policy.allow", "access.open", "access.closed", "access.public"}
"""Codes of rules that allow; no deny has one."""


def _written() -> set[str]:
    """Return the first argument of every `Reason(...)`, `.reason(...)` and `.missed(...)` in the package."""
    found: set[str] = set()
    for path in (ROOT / "policy_engine").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("Reason", "reason", "missed", "_denied") and isinstance(node.args[0].value, str):
                found.add(node.args[0].value)
    return found


def test_every_code_that_the_engine_writes_has_a_class() -> None:
    """A new reason of the engine's own needs a line in the table before it can be told."""
    codes = (_written() | set(REASONS) | {BEHIND, UNCONFIRMED, CUT_OFF}) - ALLOWING
    assert len(codes) > 12
    assert sorted(codes - set(CLASSES)) == []


def test_every_code_of_the_sample_release_has_a_class() -> None:
    """So does a new rule of the sample packs; rules that allow need none."""
    release = ReleaseLoader().load(read_folder(ROOT / "policies"))
    denying = {rule.code for rule in release.rules if rule.effect == "deny"}
    allowing = {rule.code for rule in release.rules if rule.effect == "allow"}
    assert len(denying) > 50
    assert sorted((denying | set(release.engine_reasons)) - set(CLASSES)) == []
    assert allowing <= ALLOWING


def test_a_code_stands_in_one_class_only() -> None:
    """The table is a partition: its lines together are as many as the codes."""
    from policy_engine.core import reasonclasses

    lines = [code for codes in reasonclasses._CODES.values() for code in codes.split()]
    assert len(lines) == len(set(lines)) == len(CLASSES)
    assert set(LEADING) == set(Why)


def test_what_tells_of_a_person_or_an_organisation_is_private() -> None:
    """Nationality, residence, evidence, ownership, screening: the code itself would tell the fact."""
    families = ("nationality", "residence", "evidence", "ownership", "screening", "seat", "entity", "subject", "tenant")
    told = {code for code in CLASSES if code.split(".")[0] in families or code.endswith("foreign-person")}
    assert {CLASSES[code] for code in told} <= PRIVATE


@given(st.text(max_size=40).filter(lambda code: code not in CLASSES))
def test_an_unknown_code_says_least(code: str) -> None:
    """A code of somebody's own pack is of the class that says nothing, until they class it."""
    assert class_of(code) is Why.POLICY
    assert class_of(code, ((code, Why.PLACE),)) is Why.PLACE


@given(st.lists(st.sampled_from(sorted(CLASSES)), max_size=6))
def test_the_class_of_a_decision_is_the_first_that_leads(codes: list[str]) -> None:
    """The order of the reasons does not matter, and only outages alone are an outage."""
    found = leading(codes)
    assert found is leading(reversed(codes))
    assert found is (min((CLASSES[code] for code in codes), key=LEADING.index) if codes else Why.POLICY)
    assert (found is Why.OUTAGE) is (bool(codes) and all(CLASSES[code] is Why.OUTAGE for code in codes))
