"""The cases see every change: whatever is taken out of the sample release makes one of them fail.

Mutants come from the release itself. What survives is named; the few conditions that say what another row or a
derivation says already stand in `SAID_TWICE`, each with the place, and leave the list as soon as a case sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from policy_engine.core.decision import Outcome
from policy_engine.core.release import RuleMeta
from policy_engine.rules.functions import ANY, SEPARATOR
from tests.cases.held import (
    Held,
    Mutant,
    cell,
    conditions,
    held,
    lines,
    noticed,
    release,
    survivors,
    with_cell,
    with_groups_changed,
    with_lines,
    with_rules,
    without_rows,
)

pytestmark = pytest.mark.campaign

OTHER_TIERS = {"3+": ("2+", "4+", "3-4"), "4+": ("3+", "5", "4"), "5": ("4+",), "4": ("3-4",)}
"""Tiers moved by one at either end, as far as the model writes them."""

SAID_TWICE = {
    "P5.headquarters-unknown without weights": "P3 denies unknown headquarters whatever the weights",
    "P5.owners-unknown without weights": "P4 denies unknown owners whatever the weights",
    "P6.location-unknown without weights": "P3 denies an unknown place whatever the weights",
    "P6.location-anonymised without weights": "P3 denies an anonymised place whatever the weights",
    "P7.nationality-restricted without us_person": "nothing counts for a US person (derivation of `counted`)",
    "P7.nationality-frontier without us_person": "nothing counts for a US person (derivation of `counted`)",
    "P7.nationality-unresolved without us_person": "nothing is unresolved for a US person (derivation of `unknown`)",
    "P7.nationality-none without us_person": "nothing need count for a US person (derivation of `unknown`)",
    "P7.test-unknown without us_person": "a US person needs no test (derivation of `unknown`)",
    "P10.place-unknown without action": "P3 denies an unknown place for every action",
    "P10.place-unknown without weights": "P3 denies an unknown place whatever the weights",
    "access.closed without weights": "it requires all that access.public requires, and more",
    "access.closed without action": "it requires the action to be a declared one",
    "access.closed without tiers": "below tier 3 access.open allows what requires less",
    "access.open without action": "it requires the action to be a declared one",
    "access.public without action": "it requires the action to be a declared one",
    "access.public without tiers": "below tier 3 access.open allows what requires less",
}

BY_DIRECTIVE = frozenset(("directive.foreign_person", "directive.destination_outside_us"))
NOT_GIVEN_WHERE_UNKNOWN = {
    "location": BY_DIRECTIVE | {"dest"},
    "location-anonymised": BY_DIRECTIVE | {"dest"},
    "incorporation": BY_DIRECTIVE,
    "counted": frozenset(("nat", "directive.foreign_person")),
    "nationality": frozenset(("nat", "directive.foreign_person")),
    "nationality-test": frozenset(("nat", "directive.foreign_person")),
}
"""Lift keys that no licence can give where a fact is unknown (reference policy, Licence: never for what is unknown)."""


def test_the_release_itself_fails_no_case() -> None:
    """Control: compiled again from its own lines, the release passes every case."""
    assert len(held()) > 700
    assert noticed(with_lines("nothing changed", lines(), ())) is None


def test_every_row_is_seen() -> None:
    """Without any one compiled row, at least one case fails."""
    mutants = list(without_rows())
    assert len(mutants) == len(release().rules) >= 70
    assert survivors(mutants) == []


def test_every_group_of_every_edition_is_seen() -> None:
    """With any group of any edition emptied, or short of a term or a single member, at least one case fails."""
    mutants = list(with_groups_changed())
    editions = [edition for table in release().reference.groups.tables.values() for edition in table]
    assert sum(mutant.name.endswith("emptied") for mutant in mutants) == sum(len(e.groups) for e in editions)
    assert survivors(mutants) == []


def changed_lifts() -> Iterator[tuple[Mutant, RuleMeta, str]]:
    """Yield each deny row with each lift key that is not its own, or with none."""
    rules = release().rules
    for at, rule in enumerate(rules):
        for key in sorted(release().lift_keys | {""}) if rule.effect == "deny" else ():
            if key != rule.lift:
                name = f"{rule.id} lifted by {key or 'nothing'}"
                changed = (*rules[:at], replace(rule, lift=key), *rules[at + 1 :])
                yield with_rules(name, changed, (rule.id,)), rule, key


def never_given(rule: RuleMeta, key: str) -> bool:
    """Say whether no licence can give the key to a request that meets the row."""
    line = lines()[release().rules.index(rule)]
    if cell(line, "in_us") == "unknown":
        return key in NOT_GIVEN_WHERE_UNKNOWN["location"]
    if cell(line, "evidence") == "no-person":
        return key in BY_DIRECTIVE | {"nat"}
    if cell(line, "evidence") != ANY:
        return key in BY_DIRECTIVE
    return any(key in NOT_GIVEN_WHERE_UNKNOWN.get(name, ()) for name in rule.unknown)


def test_every_lift_key_is_seen() -> None:
    """A row that another key lifts, or none, or that any key lifts where none did, makes a case fail."""
    found = [(mutant, never_given(rule, key)) for mutant, rule, key in changed_lifts()]
    assert len(found) > 300
    assert survivors(mutant for mutant, idle in found if not idle) == []
    idle = [mutant for mutant, idle in found if idle]
    assert len(survivors(idle)) == len(idle)


def changed_conditions() -> Iterator[Mutant]:
    """Yield the release with one condition of one deny row dropped, or its tiers moved."""
    whole = lines()
    for at, (line, rule) in enumerate(zip(whole, release().rules, strict=True)):
        if rule.effect == "deny":
            dropped = [(column, ANY, f"{rule.id} without {column}") for column in conditions(line)]
            tiers = OTHER_TIERS.get(cell(line, "tiers"), ())
            for column, value, name in (*dropped, *(("tiers", word, f"{rule.id} at tiers {word}") for word in tiers)):
                yield with_lines(name, [*whole[:at], with_cell(line, column, value), *whole[at + 1 :]], (rule.id,))


def test_every_condition_of_a_deny_row_is_seen() -> None:
    """A deny row that forgets one condition, or begins or ends a tier off, makes a case fail."""
    mutants = list(changed_conditions())
    assert len(mutants) > 200
    assert set(survivors(mutants)) == {name for name in SAID_TWICE if not name.startswith("access.")}


# The allow rules alone, as if no row denied on what is unknown or not proved.


def bare(change: dict[str, tuple[str, str]]) -> Mutant:
    """Return the release without denies on the unknown and unproved, and with `change`d cells in the rows of rules."""
    found: list[list[str] | None] = []
    for line, rule in zip(lines(), release().rules, strict=True):
        if rule.effect == "deny":
            found.append(None if rule.unknown or cell(line, "evidence") != ANY else line)
        else:
            column, value = change.get(rule.id.partition("#")[0], ("", ""))
            found.append(with_cell(line, column, value) if column else line)
    return with_lines("bare", found, ())


def opened(mutant: Mutant) -> list[Held]:
    """Return the cases that expect a deny and are allowed under the mutant."""
    return [one for one in held() if not one.case.allowed and one.again(mutant).outcome is Outcome.ALLOW]


def test_the_allow_rules_alone_keep_out_what_is_unknown() -> None:
    """Were no row to deny on the unknown or the unproved, no case that expects a deny would be allowed."""
    assert [one.case.id for one in opened(bare({}))] == []


def allow_rules() -> dict[str, tuple[RuleMeta, list[str]]]:
    """Return each allow rule of the packs with the first of its lines."""
    found: dict[str, tuple[RuleMeta, list[str]]] = {}
    for line, rule in zip(lines(), release().rules, strict=True):
        if rule.effect == "allow":
            found.setdefault(rule.id.partition("#")[0], (rule, line))
    return found


OWN_CONDITION = frozenset(("action", "tier"))
"""Names that an allow rule requires to be known although its own action and tiers are met by nothing unknown."""


@pytest.mark.parametrize("id", allow_rules())
def test_every_name_that_an_allow_rule_requires_is_seen(id: str) -> None:
    """An allow rule that no longer requires one fact to be known would allow a case that expects a deny."""
    rule, _ = allow_rules()[id]
    unseen = []
    for name in rule.requires:
        fewer = SEPARATOR.join(other for other in rule.requires if other != name)
        if not opened(bare({id: ("requires", fewer)})):
            unseen.append(name)
    assert unseen == [name for name in rule.requires if name in OWN_CONDITION]


@pytest.mark.parametrize("id", allow_rules())
def test_every_condition_of_an_allow_rule_is_seen(id: str) -> None:
    """An allow rule that forgets its tiers, weights or evidence would allow a case that expects a deny."""
    _, line = allow_rules()[id]
    unseen = {column for column in conditions(line) if not opened(bare({id: (column, ANY)}))}
    assert {f"{id} without {column}" for column in unseen} == {n for n in SAID_TWICE if n.startswith(f"{id} ")}
