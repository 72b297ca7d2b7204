"""What is doubtful in a release that loads: warnings, one sentence each.

Rules of the room: a warning never stops a release; whatever could open is refused instead, where it is read.
Left to others: the checks that refuse (`rules.packs`, `rules.facets`, `rules.tables`, `rules.models`), rules that
change nothing (`rules.findings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policy_engine.core.release import Catalogue
from policy_engine.rules.conditions import Columns
from policy_engine.rules.facets import Facets
from policy_engine.rules.functions import TIERS, parse_tiers
from policy_engine.rules.packs import PackRule

_EVIDENCE_FROM_TIER = "3"


@dataclass(frozen=True, slots=True)
class Meeting:
    """What tells whether two rules can match one request: tiers, and the action and weights where they are named."""

    tiers: frozenset[str]
    action: str | None
    weights: str | None

    def meets(self, deny: Meeting) -> bool:
        """Return whether some request could match both, as far as plain conditions and tiers tell."""
        if self.tiers.isdisjoint(deny.tiers):
            return False
        named = ((self.action, deny.action), (self.weights, deny.weights))
        return all(first is None or second is None or first == second for first, second in named)


@dataclass(frozen=True, slots=True)
class Allowing:
    """What the warnings about an allow rule hang on, beside what denies."""

    meeting: Meeting
    requires: tuple[str, ...]
    evidence: bool


@dataclass(frozen=True, slots=True)
class Advised:
    """What warnings need to know of one pack: its allow rules by what matters, what it denies as unknown, its keys."""

    rules: Sequence[PackRule]
    allows: Mapping[Allowing, Sequence[int]]
    denies: frozenset[tuple[str, Meeting]]
    lifts: frozenset[str]


def advised(rules: Sequence[PackRule], columns: Columns) -> Advised:
    """Return what warnings need to know of one pack's rules."""
    allows: dict[Allowing, list[int]] = {}
    denies: set[tuple[str, Meeting]] = set()
    for at, rule in enumerate(rules):
        if rule.meta.effect == "allow":
            evidence = any(columns.source(name) == "derive:evidence" for name in rule.conditions)
            allows.setdefault(Allowing(_meeting(rule, columns), rule.meta.requires, evidence), []).append(at)
        elif unknown := _plain(rule, columns).get("derive:unknown", ""):
            denies.add((unknown, _meeting(rule, columns)))
    return Advised(rules, allows, frozenset(denies), frozenset(rule.meta.lift for rule in rules))


def warnings_of(
    packs: Sequence[Advised], facets: Facets, catalogue: Catalogue, codes: frozenset[str]
) -> tuple[str, ...]:
    """Return the warnings of a release that loads, each beginning with its file; `codes` are its tables' places."""
    denies = frozenset().union(*(pack.denies for pack in packs))
    return (
        *(warning for pack in packs for warning in _unrequired(pack, denies)),
        *_unused_lifts(packs, facets),
        *_catalogue(catalogue, codes),
    )


def _unrequired(pack: Advised, denies: frozenset[tuple[str, Meeting]]) -> list[str]:
    """An allow should require every name whose being unknown denies at its tiers, and evidence from tier 3 up."""
    found: dict[int, list[str]] = {}
    for allowing, places in pack.allows.items():
        missing = {unknown for unknown, deny in denies if allowing.meeting.meets(deny)} - set(allowing.requires)
        said: list[str] = []
        if missing:
            said.append(f"does not require {', '.join(sorted(missing))}, which deny at its tiers when unknown")
        if _EVIDENCE_FROM_TIER in allowing.meeting.tiers and not allowing.evidence:
            said.append(f"allows from tier {_EVIDENCE_FROM_TIER} up without evidence")
        if said:
            found.update(dict.fromkeys(places, said))
    metas = ((pack.rules[at].meta, found[at]) for at in sorted(found))
    return [f"{meta.pack}:{meta.line}: `{meta.id}` {text}" for meta, said in metas for text in said]


def _meeting(rule: PackRule, columns: Columns) -> Meeting:
    plain = _plain(rule, columns)
    return Meeting(_tiers(rule, columns), plain.get("derive:action"), plain.get("derive:weights"))


def _plain(rule: PackRule, columns: Columns) -> Mapping[str, str]:
    return {columns.source(name): value for name, value in rule.conditions.items()}


def _tiers(rule: PackRule, columns: Columns) -> frozenset[str]:
    column = columns.read_by("within")
    written = None if column is None else rule.conditions.get(column)
    return frozenset(TIERS) if written is None else parse_tiers(written)


def _unused_lifts(packs: Sequence[Advised], facets: Facets) -> list[str]:
    token = facets.of("lifts")
    named = frozenset().union(*(pack.lifts for pack in packs))
    unused = sorted((token.values or frozenset()) - named) if token is not None else []
    return [f"{facets.file.path}: no rule can be lifted by `{key}`" for key in unused]


def _catalogue(catalogue: Catalogue, codes: frozenset[str]) -> list[str]:
    found: list[str] = []
    if not catalogue.models:
        found.append("models.toml: there is no model, so everything is denied; add a [[model]]")
    for model in catalogue.models.values():
        for name, value in (("tier", model.tier), ("status", model.status)):
            if value is None:
                found.append(f"models.toml: `{model.id}` has no {name} and is denied")
        if not model.permitted_serving_regions:
            found.append(f"models.toml: `{model.id}` may be served nowhere and is denied")
        if codes and (unknown := sorted(model.permitted_serving_regions - codes)):
            named = ", ".join(f"`{region}`" for region in unknown)
            found.append(f"models.toml: `{model.id}` names serving regions that no table knows, so never met: {named}")
        if model.nationality_test is None and (model.tier or 0) >= int(_EVIDENCE_FROM_TIER):
            found.append(f"models.toml: `{model.id}` names no nationality test and denies everyone but US persons")
        for name, target in (("fallback", model.fallback), ("superseded_by", model.superseded_by)):
            if target is not None and catalogue.find(target) is None:
                found.append(f"models.toml: the {name} of `{model.id}` is no entry of the catalogue")
    return found
