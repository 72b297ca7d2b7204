"""Orders other than switches: directives, licences, grants and overrides, and what they do to a request.

Rules of the room:
- Starts are inclusive, ends exclusive, UTC. A licence without a start is not in force; anything else without one is.
- A directive reaches aliases and derivatives of its models; one without blocks, or with an unknown one, blocks
  everyone. A licence reaches the named model only and lifts only what it names, for what is restricted.
- Grants and overrides are recorded and lift nothing.
Source: reference policy, Orders. Left to others: receiving and approving (`services.orders`), the rules (`rules`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from policy_engine.core.derive import Counted, PersonFacets, PlaceFacets, TenantFacets
from policy_engine.core.instants import ENDLESS

FOREIGN_PERSON = "foreign_person"
DESTINATION = "destination_outside_us"
EVERYONE = "everyone"
NO_LIFTS: frozenset[str] = frozenset()
BLOCKS = frozenset((FOREIGN_PERSON, DESTINATION))

ANNEX = "annex_a_entities_and_their_employees"
LAB_EMPLOYEES = "lab_foreign_national_employees"
EXEMPT_WHO = frozenset((ANNEX, LAB_EMPLOYEES))

LIFT_KEYS = frozenset(("seat", "dest", "nat", "weights", "directive"))
"""What a licence may name. `directive` becomes `directive.<block>` for each block whose conditions it meets."""


@dataclass(frozen=True, slots=True)
class Exempt:
    """An easing of a directive for some of its models and some people."""

    id: str
    start: int
    until: int
    models: frozenset[str]
    who: str
    annex: frozenset[str]


@dataclass(frozen=True, slots=True)
class Directive:
    """An order of an authority. `models=None` reaches every model."""

    id: str
    start: int
    until: int
    models: frozenset[str] | None
    blocks: frozenset[str]
    exempts: tuple[Exempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Licence:
    """An authorisation for a person, a tenant, or both, on named models and actions.

    `conditions` are its terms in words: recorded and shown, and no decision looks at them.
    """

    id: str
    start: int | None
    until: int
    revoked_at: int
    person_id: str | None
    tenant_id: str | None
    models: frozenset[str]
    actions: frozenset[str]
    nationalities: frozenset[str]
    destinations: frozenset[str]
    lifts: frozenset[str]
    conditions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Grant:
    """A permission of the account team: recorded, lifts nothing."""

    id: str
    person_id: str | None
    tenant_id: str | None
    models: frozenset[str]
    actions: frozenset[str]
    by: str | None
    start: int
    until: int


@dataclass(frozen=True, slots=True)
class Override:
    """An internal override: recorded, lifts nothing."""

    id: str
    by: str | None
    approved_by: str | None
    reason: str | None
    start: int
    until: int


class Asked(NamedTuple):
    """The model side of a request: its id, every name that reaches it, and the map from alias to id."""

    model: str
    names: frozenset[str]
    aliases: Mapping[str, str]
    action: str
    person_id: str | None
    tenant_id: str


class Alike(NamedTuple):
    """Directives that say the same, one of them and the ids of all: they block the same requests."""

    directive: Directive
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Blocking:
    """The directives in force that reach one name with the same blocks.

    `ids` are all of theirs, in order. `for_tenants` are those that somebody of a tenant may be exempt from by an
    annex, `for_lab` those that an employee of the lab may be.
    """

    blocks: frozenset[str]
    alike: tuple[Alike, ...]
    ids: tuple[str, ...]
    for_tenants: Mapping[str, tuple[Alike, ...]]
    for_lab: tuple[Alike, ...]


class _InForce(NamedTuple):
    """What is in force from one instant until before another, by the name that is reached (`None`: every one)."""

    start: int
    until: int
    named: Mapping[str | None, tuple[Blocking, ...]]


class OrderBook:
    """Directives and licences, indexed by what they name, with the instants at which one begins or ends."""

    __slots__ = ("_boundaries", "_directives", "_in_force", "_licences", "_steps")

    def __init__(self, directives: Iterable[Directive] = (), licences: Iterable[Licence] = ()) -> None:
        self._directives = tuple(directives)
        self._licences: dict[tuple[str, str | None, str | None], list[Licence]] = {}
        boundaries: set[int] = set()
        for directive in self._directives:
            boundaries |= {directive.start, directive.until}
            for exempt in directive.exempts:
                boundaries |= {exempt.start, exempt.until}
        self._steps = tuple(sorted(boundaries))
        self._in_force: _InForce | None = None
        for licence in licences:
            if licence.start is None or (licence.person_id is None and licence.tenant_id is None):
                continue  # never in force, or nobody's
            boundaries |= {licence.start, licence.until, licence.revoked_at}
            for name in licence.models:
                self._licences.setdefault((name, licence.person_id, licence.tenant_id), []).append(licence)
        self._boundaries = tuple(sorted(boundaries))

    def all(self) -> tuple[Directive | Licence, ...]:
        """Return every directive, and every licence that could match somebody, in force or not."""
        licences = {id(licence): licence for found in self._licences.values() for licence in found}
        return (*self._directives, *licences.values())

    @property
    def has_directives(self) -> bool:
        """Return whether there is any directive, in force or not."""
        return bool(self._directives)

    @property
    def has_licences(self) -> bool:
        """Return whether there is any licence that could match somebody."""
        return bool(self._licences)

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Return the instants at which an order begins or ends, in order."""
        return self._boundaries

    def blocking(self, names: Iterable[str], at: int) -> list[Blocking]:
        """Return the directives in force that reach any of the names; one that names two of them is found twice."""
        held = self._in_force
        if held is None or not held.start <= at < held.until:
            held = self._in_force = self._at(at)
        found = list(held.named.get(None, ()))
        for name in names:
            found += held.named.get(name, ())
        return found

    def _at(self, at: int) -> _InForce:
        """Return what is in force at an instant, and around it for as long as nothing begins or ends."""
        alike: dict[Directive, list[str]] = {}
        for directive in self._directives:
            if directive.start <= at < directive.until:  # of two with one id, both bind
                alike.setdefault(replace(directive, id="", start=0, until=0), []).append(directive.id)
        named: dict[str | None, dict[frozenset[str], list[Alike]]] = {}
        for directive, ids in alike.items():
            same = Alike(directive, tuple(sorted(set(ids))))
            for name in (None,) if directive.models is None else directive.models:
                named.setdefault(name, {}).setdefault(directive.blocks, []).append(same)
        place = bisect_right(self._steps, at)
        return _InForce(
            start=self._steps[place - 1] if place else -ENDLESS,
            until=self._steps[place] if place < len(self._steps) else ENDLESS + 1,
            named={
                name: tuple(_blocking(blocks, found, at) for blocks, found in kinds.items())
                for name, kinds in named.items()
            },
        )

    def licences_for(self, asked: Asked, at: int) -> list[Licence]:
        """Return the licences in force that match the model, the action and every id they give."""
        found: list[Licence] = []
        owners = [(asked.person_id, asked.tenant_id), (asked.person_id, None), (None, asked.tenant_id)]
        for person, tenant in owners if asked.person_id is not None else [(None, asked.tenant_id)]:
            for licence in self._licences.get((asked.model, person, tenant), ()):
                start = ENDLESS if licence.start is None else licence.start
                if start <= at < min(licence.until, licence.revoked_at) and asked.action in licence.actions:
                    found.append(licence)
        return sorted(found, key=lambda licence: licence.id)


def _blocking(blocks: frozenset[str], alike: Iterable[Alike], at: int) -> Blocking:
    """Return directives of the same blocks, filed by whom they exempt at an instant."""
    held = tuple(alike)
    tenants: dict[str, list[Alike]] = {}
    lab: list[Alike] = []
    for same in held:
        exempts = [exempt for exempt in same.directive.exempts if exempt.start <= at < exempt.until]
        for tenant in {tenant for exempt in exempts if exempt.who == ANNEX for tenant in exempt.annex}:
            tenants.setdefault(tenant, []).append(same)
        if any(exempt.who == LAB_EMPLOYEES for exempt in exempts):
            lab.append(same)
    ids = tuple(sorted({id for same in held for id in same.ids}))
    return Blocking(blocks, held, ids, {id: tuple(found) for id, found in tenants.items()}, tuple(lab))


def directive_blocks(
    book: OrderBook, asked: Asked, person: PersonFacets, tenant: TenantFacets, place: PlaceFacets, at: int
) -> dict[str, tuple[str, ...]]:
    """Return each block that denies the request, with the ids of the directives that make it."""
    if not book.has_directives:
        return {}
    found: dict[str, list[tuple[str, ...]]] = {}
    for held in book.blocking(asked.names, at):
        for block in _hits(held.blocks, person, tenant, place):
            ids = _blocked(held, block, asked, person, tenant, at)
            if ids:
                found.setdefault(block, []).append(ids)
    return {
        block: found[block][0] if len(found[block]) == 1 else tuple(sorted(set().union(*found[block])))
        for block in sorted(found)
    }


def _blocked(
    held: Blocking, block: str, asked: Asked, person: PersonFacets, tenant: TenantFacets, at: int
) -> tuple[str, ...]:
    """Return the ids of those directives that the request is not exempt from."""
    eased = [same for name in tenant.ids for same in held.for_tenants.get(name, ())]
    if person.lab_employee and tenant.is_lab:
        eased += held.for_lab
    free = {id(same) for same in eased if _exempt(same.directive, block, asked, person, tenant, at)}
    if not free:
        return held.ids
    return tuple(sorted({name for same in held.alike if id(same) not in free for name in same.ids}))


def keys_given(
    book: OrderBook,
    asked: Asked,
    counted: Counted | None,
    person: PersonFacets,
    tenant: TenantFacets,
    place: PlaceFacets,
    at: int,
) -> dict[str, frozenset[str]]:
    """Return the lift keys that each licence in force gives this request, by its id, for those that give one.

    `counted=None` says that the model names no known nationality test: then no nationality condition can be met.
    """
    if not book.has_licences:
        return {}
    given: dict[str, frozenset[str]] = {}
    for licence in book.licences_for(asked, at):
        if keys := frozenset(_licence_keys(licence, asked, counted, person, tenant, place)):
            given[licence.id] = given.get(licence.id, NO_LIFTS) | keys
    return given


def _licence_keys(
    licence: Licence,
    asked: Asked,
    counted: Counted | None,
    person: PersonFacets,
    tenant: TenantFacets,
    place: PlaceFacets,
) -> Iterable[str]:
    nationalities = licence.nationalities
    named_person = counted is not None and not counted.unknown and _names_all(nationalities, counted.pairs)
    here = place.place
    named_place = place.place.known and "location-anonymised" not in place.unknown
    named_place = named_place and not licence.destinations.isdisjoint({here.raw, here.country, here.region} - {None})
    for key in licence.lifts:
        if key in ("seat", "weights") or (key == "nat" and named_person) or (key == "dest" and named_place):
            yield key
        elif key == "directive" and asked.person_id is not None and _shown(person, tenant, place):
            if (person.us_person or named_person) and _names_all(nationalities, tenant.foreign, empty=True):
                yield f"directive.{FOREIGN_PERSON}"
            if named_place:
                yield f"directive.{DESTINATION}"


def _shown(person: PersonFacets, tenant: TenantFacets, place: PlaceFacets) -> bool:
    """Whether all that a licence must know to lift a directive is known."""
    unknown = tenant.unknown | place.unknown
    return person.evidence == "valid" and unknown.isdisjoint(("incorporation", "location", "location-anonymised"))


def _names_all(named: frozenset[str], pairs: Iterable[tuple[str | None, str | None]], *, empty: bool = False) -> bool:
    """Whether every pair of raw and resolved code is named by either; unresolved never is, and none is not all."""
    pairs = tuple(pairs)
    if not pairs:
        return empty
    return all(resolved is not None and (raw in named or resolved in named) for raw, resolved in pairs)


def _hits(blocks: frozenset[str], person: PersonFacets, tenant: TenantFacets, place: PlaceFacets) -> list[str]:
    if not blocks or not blocks <= BLOCKS:
        return [EVERYONE]
    hits: list[str] = []
    shown = person.us_person and person.evidence == "valid"
    if FOREIGN_PERSON in blocks and (not shown or tenant.foreign):
        hits.append(FOREIGN_PERSON)
    if DESTINATION in blocks and place.in_us != "yes":
        hits.append(DESTINATION)
    return hits


def _exempt(
    directive: Directive, block: str, asked: Asked, person: PersonFacets, tenant: TenantFacets, at: int
) -> bool:
    """Whether every named model that reaches the request is exempt from this block."""
    if block == EVERYONE or directive.models is None:
        return False
    applicable = [
        exempt
        for exempt in directive.exempts
        if exempt.start <= at < exempt.until and _is_exempt(exempt, block, person, tenant)
    ]
    if not applicable:
        return False
    eased = [{asked.aliases.get(name, name) for name in exempt.models} for exempt in applicable]
    named = {asked.aliases.get(name, name) for name in directive.models & asked.names}
    return all(any(name in models or asked.model in models for models in eased) for name in named)


def _is_exempt(exempt: Exempt, block: str, person: PersonFacets, tenant: TenantFacets) -> bool:
    if exempt.who == ANNEX:
        return tenant.ids <= exempt.annex
    return exempt.who == LAB_EMPLOYEES and block == FOREIGN_PERSON and person.lab_employee and tenant.is_lab


def loosens(old: Directive, new: Directive) -> bool:
    """Return whether replacing `old` by `new` could turn any deny into an allow."""
    if old.models is not None and new.models is not None:
        fewer_models = not old.models <= new.models
    else:
        fewer_models = new.models is not None
    everyone = not new.blocks or not new.blocks <= BLOCKS
    fewer_blocks = not everyone and (not old.blocks or not old.blocks <= new.blocks)
    shorter = new.start > old.start or new.until < old.until
    eased = any(not any(_within(exempt, known) for known in old.exempts) for exempt in new.exempts)
    return fewer_models or fewer_blocks or shorter or eased


def _within(new: Exempt, old: Exempt) -> bool:
    """Whether an exemption eases nothing that the old one did not; its id means nothing."""
    fewer = new.who == old.who and new.models <= old.models and new.annex <= old.annex
    return fewer and old.start <= new.start and new.until <= old.until
