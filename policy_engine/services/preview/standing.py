"""Who could use the models that a change reaches, by the registers, before and after it.

Rules of the room:
- Every person and service is asked for in each of their tenants, for each model and action that the change reaches, by
  the one evaluator, twice at one instant: under the orders as they stand, and under the supposed ones.
- Nobody's whereabouts are in a register: persons are asked from where they reside, or all from one place that is given.
- Whoever is denied afterwards for want of a fact is undetermined; the fact is named. So is whom a directive blocks
  while their evidence is not valid: nobody knows whether it means them.
- Models that would still serve whoever loses are the evaluation's own alternatives.
Left to others: which row is supposed (`changes`), past decisions (`recorded`), who may see it (`service`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from policy_engine.core.decision import Evaluation, Outcome, Principal, PrincipalKind, Request
from policy_engine.core.facts import Location, Person
from policy_engine.core.release import Release
from policy_engine.limits import Limits
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.factcache import FactCache, read_person
from policy_engine.services.preview.changes import Pairs, Supposition
from policy_engine.services.preview.tallies import INDIVIDUAL, LOSES, Tallies, effect_of
from policy_engine.services.snapshot import Snapshot
from policy_engine.store.registerinterfaces import RegisterReader

_PAGE_COUNT = 500

ASKER = Principal(
    "preview", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("location", "serving_region"))
)
"""Asks in a preview; it may suppose a place, and nothing that it asks is a decision."""

Moved = Callable[[int], None]
"""Called with the number of combinations asked about so far."""


@dataclass(frozen=True, slots=True)
class Line:
    """One combination whose outcome changes. `fallbacks` would still serve it after a loss."""

    effect: str
    subject: str
    tenant: str
    model: str
    action: str
    region: str | None
    reasons: tuple[str, ...]
    orders: tuple[str, ...]
    missing: tuple[str, ...]
    fallbacks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Undetermined:
    """Somebody who is denied afterwards for want of facts; `loses` says for how many combinations they had access."""

    subject: str
    tenant: str
    missing: tuple[str, ...]
    models: tuple[str, ...]
    loses: int


@dataclass(slots=True)
class Standing:
    """What was found by the registers. `complete=False`: it stopped at the limit; `listed=False`: lists did."""

    asked_count: int = 0
    complete: bool = True
    listed: bool = True
    tallies: Tallies = field(default_factory=Tallies)
    lines: list[Line] = field(default_factory=list)
    undetermined: dict[tuple[str, str, tuple[str, ...]], dict[str, int]] = field(default_factory=dict)
    fallbacks: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)

    def work(self) -> list[Undetermined]:
        """Return the undetermined, those who lose something first."""
        found = [
            Undetermined(subject, tenant, missing, tuple(sorted(models)), sum(models.values()))
            for (subject, tenant, missing), models in self.undetermined.items()
        ]
        return sorted(found, key=lambda one: (-one.loses, one.subject, one.tenant, one.missing))


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked: the snapshots before and after, at one instant, of whom, about which models and actions."""

    registers: RegisterReader
    supposition: Supposition
    before: Snapshot
    after: Snapshot
    pairs: Pairs
    at: int
    location: Location | None
    serving_region: str | None
    limits: Limits


def stand(asking: Asking, moved: Moved) -> Standing:
    """Return what becomes of every combination that the change can reach."""
    found = Standing()
    facts = FactCache(asking.registers)
    before = Evaluator(facts, serving_region=asking.serving_region, hints=False, remembers=False)
    after = Evaluator(facts, serving_region=asking.serving_region, hints=False, remembers=False)
    served = Evaluator(facts, serving_region=asking.serving_region, remembers=False)
    for request in _candidates(asking):
        if found.asked_count >= asking.limits.preview_candidates_count:
            found.complete = False
            break
        found.asked_count += 1
        moved(found.asked_count)
        was = before.evaluate(request, ASKER, asking.before, asking.at)
        would_be = after.evaluate(request, ASKER, asking.after, asking.at)
        if was.outcome is Outcome.ALLOW and would_be.outcome is Outcome.DENY:  # only then are fallbacks asked for
            would_be = served.evaluate(request, ASKER, asking.after, asking.at)
        _count(asking, found, was, would_be)
    return found


def _count(asking: Asking, found: Standing, was: Evaluation, would_be: Evaluation) -> None:
    request = would_be.request
    subject, tenant = request.subject_id, request.tenant or ""
    effect = effect_of(was.outcome is Outcome.ALLOW, would_be.outcome is Outcome.ALLOW)
    region = None if request.location is None else request.location.region or request.location.country
    tier = "unclassified" if would_be.tier is None else str(would_be.tier)
    named = INDIVIDUAL if would_be.tenant_sealed else tenant
    values = {"tenant": named, "model": request.model, "tier": tier, "action": request.action, "region": region}
    found.tallies.add(effect, subject, values)
    most = asking.limits.preview_rows_count
    lacks = would_be.missing
    if lacks:
        key = (subject, tenant, lacks)
        if key in found.undetermined or len(found.undetermined) < most:
            models = found.undetermined.setdefault(key, {})
            models[request.model] = models.get(request.model, 0) + (effect == LOSES)
        else:
            found.complete = False
    if effect not in found.tallies.persons:
        return
    if effect == LOSES:
        for name in would_be.alternatives:
            found.fallbacks.setdefault(name, set()).add((subject, tenant, request.action))
    if len(found.lines) >= most:
        found.listed = False
        return
    codes = tuple(dict.fromkeys(reason.code for reason in would_be.reasons))
    orders = tuple(dict.fromkeys(order for reason in would_be.reasons for order in reason.orders))
    fallbacks = would_be.alternatives if effect == LOSES else ()
    found.lines.append(
        Line(effect, subject, tenant, request.model, request.action, region, codes, orders, lacks, fallbacks)
    )


def _candidates(asking: Asking) -> Iterator[Request]:
    release = asking.before.release
    if not isinstance(release, Release) or not asking.pairs:
        return
    pairs = sorted(asking.pairs)
    owners = asking.supposition.owners()
    for person, kind in persons(asking.registers, owners):
        place = asking.location or _residence(person)
        for tenant in sorted(person.tenants):
            if owners is not None and not any(_is_for(owner, person.id, tenant) for owner in owners):
                continue
            for model, action in pairs:
                yield Request(person.id, action, model, tenant, place, None, kind)


def _is_for(owner: tuple[str | None, str | None], person: str, tenant: str) -> bool:
    return owner[0] in (None, person) and owner[1] in (None, tenant)


def persons(
    registers: RegisterReader, owners: list[tuple[str | None, str | None]] | None
) -> Iterator[tuple[Person, str]]:
    """Yield the persons and services that a change may be about, in order of id."""
    named = None if owners is None else {person for person, _ in owners}
    if named is not None and None not in named:
        rows = [row for id in sorted(filter(None, named)) if (row := registers.row("persons", id)) is not None]
    else:
        rows = registers.rows("persons", limit=_PAGE_COUNT)
    while rows:
        for row in rows:
            person, service = read_person(row)
            if person is not None:
                yield person, "service" if service else "person"
        if named is not None and None not in named:
            return
        rows = registers.rows("persons", after=rows[-1].id, limit=_PAGE_COUNT)


def _residence(person: Person) -> Location | None:
    if person.residence_country is None:
        return None
    return Location(person.residence_country, person.residence_region)
