"""What is doubtful in a release that loads: warnings, one sentence each.

Rules of the room: a warning never stops a release; whatever could open is refused instead, where it is read.
Left to others: the checks that refuse (`rules.packs`, `rules.facets`, `rules.tables`, `rules.models`), rules that
change nothing (`rules.findings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policy_engine.core.release import Catalogue
from policy_engine.rules.conditions import Columns
from policy_engine.rules.facets import Facets
from policy_engine.rules.functions import TIERS, parse_tiers
from policy_engine.rules.packs import PackRule

_EVIDENCE_FROM_TIER = "3"


def warnings_of(rules: Sequence[PackRule], columns: Columns, facets: Facets, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the warnings of a release that loads, each beginning with file and line."""
    return (
        *_unrequired(rules, columns),
        *_unused_lifts(rules, facets),
        *_catalogue(catalogue),
    )


def _unrequired(rules: Sequence[PackRule], columns: Columns) -> list[str]:
    """An allow should require every name whose being unknown denies at its tiers, and evidence from tier 3 up."""
    found: list[str] = []
    denies = [rule for rule in rules if rule.meta.effect == "deny" and _unknown(rule, columns)]
    for rule in rules:
        if rule.meta.effect != "allow":
            continue
        meeting = [deny for deny in denies if _meet(rule, deny, columns)]
        missing = {_unknown(deny, columns) for deny in meeting} - set(rule.meta.requires)
        if missing:
            names = ", ".join(sorted(missing))
            found.append(
                f"{_place(rule)}: `{rule.meta.id}` does not require {names}, which deny at its tiers when unknown"
            )
        sources = {columns.source(name) for name in rule.conditions}
        if _EVIDENCE_FROM_TIER in _tiers(rule, columns) and "derive:evidence" not in sources:
            found.append(f"{_place(rule)}: `{rule.meta.id}` allows from tier {_EVIDENCE_FROM_TIER} up without evidence")
    return found


def _unknown(rule: PackRule, columns: Columns) -> str:
    """Return the name that the row denies when unknown, or nothing."""
    return _plain(rule, columns).get("derive:unknown", "")


def _meet(allow: PackRule, deny: PackRule, columns: Columns) -> bool:
    """Return whether some request could match both, as far as plain conditions and tiers tell."""
    if _tiers(allow, columns).isdisjoint(_tiers(deny, columns)):
        return False
    plain = ("derive:action", "derive:weights")
    first = _plain(allow, columns)
    second = _plain(deny, columns)
    return all(first.get(source, value) == value for source, value in second.items() if source in plain)


def _plain(rule: PackRule, columns: Columns) -> Mapping[str, str]:
    return {columns.source(name): value for name, value in rule.conditions.items()}


def _tiers(rule: PackRule, columns: Columns) -> frozenset[str]:
    column = columns.read_by("within")
    written = None if column is None else rule.conditions.get(column)
    return frozenset(TIERS) if written is None else parse_tiers(written)


def _unused_lifts(rules: Sequence[PackRule], facets: Facets) -> list[str]:
    token = facets.of("lifts")
    named = {rule.meta.lift for rule in rules}
    unused = sorted((token.values or frozenset()) - named) if token is not None else []
    return [f"{facets.file.path}: no rule can be lifted by `{key}`" for key in unused]


def _catalogue(catalogue: Catalogue) -> list[str]:
    found: list[str] = []
    for model in catalogue.models.values():
        for name, value in (("tier", model.tier), ("status", model.status)):
            if value is None:
                found.append(f"models.toml: `{model.id}` has no {name} and is denied")
        if not model.permitted_serving_regions:
            found.append(f"models.toml: `{model.id}` may be served nowhere and is denied")
        if model.nationality_test is None and (model.tier or 0) >= int(_EVIDENCE_FROM_TIER):
            found.append(f"models.toml: `{model.id}` names no nationality test and denies everyone but US persons")
        for name, target in (("fallback", model.fallback), ("superseded_by", model.superseded_by)):
            if target is not None and catalogue.find(target) is None:
                found.append(f"models.toml: the {name} of `{model.id}` is no entry of the catalogue")
    return found


def _place(rule: PackRule) -> str:
    return f"{rule.meta.pack}:{rule.meta.line}"
