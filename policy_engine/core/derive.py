"""From facts to facets: the pure, named functions that say what rules may look at.

Rules of the room:
- What is unknown is named in a facet's `unknown` set and never guessed; a fact past its expiry is unknown
  (`freshness`).
- Each result carries `until`, the next instant at which it may come out differently.
- Birth country makes no facet. Thresholds, groups and periods come as data (`Reference`), from the release.
Sources: reference policy; 15 CFR 734.13(b) and 772.1; 22 CFR 120.50(b); 8 USC 1324b(a)(3).
Left to others: directives, licences and switches (`orders`, `switches`), and what a facet means (the packs).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from policy_engine.core.facts import (
    EvidenceLevel,
    Location,
    Model,
    NationalityTest,
    OwnerList,
    Person,
    Tenant,
    TenantType,
    Tie,
    UsStatus,
)
from policy_engine.core.freshness import fresh_person, fresh_tenant
from policy_engine.core.instants import DAY, ENDLESS
from policy_engine.core.places import NOWHERE, EditionsInForce, Gazetteer, GroupTables, Place, Timeline

US_PERSON_STATUSES = frozenset((UsStatus.CITIZEN, UsStatus.NATIONAL, UsStatus.LPR, UsStatus.REFUGEE, UsStatus.ASYLEE))
"""15 CFR 772.1 with 8 USC 1324b(a)(3); `none` and `unknown` are not US persons."""

_FOREIGN_TYPES = frozenset((TenantType.FOREIGN_GOVERNMENT, TenantType.INTERNATIONAL_ORGANISATION))
_WHOLE = Fraction(100)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A share of ownership that counts: `percent` or more, or strictly more, of owners on `lists`."""

    percent: Fraction
    more_than: bool
    lists: frozenset[OwnerList] = frozenset()

    def reached(self, share: Fraction) -> bool:
        """Return whether the summed share is caught."""
        return share > self.percent if self.more_than else share >= self.percent


@dataclass(frozen=True, slots=True)
class Reference:
    """The release's data that derivations read. Nothing here is a fact about a person or a tenant."""

    gazetteer: Gazetteer
    groups: GroupTables
    affiliates: Timeline
    actions: frozenset[str]
    lab_tenant: str
    evidence_days: int
    home_country: str
    coarse_countries: frozenset[str]
    seat_group: str
    seat: Threshold
    sdn: Threshold
    affiliate: Threshold


@dataclass(frozen=True, slots=True)
class Counted:
    """The countries that count for a person under one test, raw and resolved, and what is unknown about them."""

    pairs: tuple[tuple[str | None, str | None], ...]
    codes: frozenset[str]
    unknown: frozenset[str]


@dataclass(frozen=True, slots=True)
class PersonFacets:
    """What a person's facts amount to at an instant."""

    residence: Place
    unknown: frozenset[str]
    us_person: bool
    ear: Counted
    itar: Counted
    evidence: str
    screening: str
    lab_employee: bool
    until: int
    unsaid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TenantFacets:
    """What the facts of a tenant and of each entity in its chain amount to at an instant."""

    ids: frozenset[str]
    types: frozenset[str]
    individual: bool
    entities: frozenset[str]
    seats: frozenset[str]
    home: str
    unknown: frozenset[str]
    screening: frozenset[str]
    ownership: frozenset[str]
    owned: frozenset[str]
    partner: bool
    denied: bool
    is_lab: bool
    foreign: tuple[tuple[str | None, str | None], ...]
    until: int


@dataclass(frozen=True, slots=True)
class PlaceFacets:
    """What a request's location and serving region amount to."""

    place: Place
    unknown: frozenset[str]
    in_us: str


NO_COUNTED = Counted((), frozenset(), frozenset())
NOBODY = PersonFacets(
    residence=NOWHERE,
    unknown=frozenset(("nationality",)),
    us_person=False,
    ear=NO_COUNTED,
    itar=NO_COUNTED,
    evidence="no-person",
    screening="none",
    lab_employee=False,
    until=ENDLESS,
)
"""A service with no person behind it: a foreign person for directives, and nobody's status can be shown."""


def derive_person(person: Person | None, at: int, reference: Reference) -> PersonFacets:
    """Return the facets of a person (`None`: a service with nobody behind it) at an instant."""
    if person is None:
        return NOBODY
    person, until = fresh_person(person, at)
    gazetteer = reference.gazetteer
    residence = gazetteer.resolve(person.residence_country, person.residence_region)
    unknown = set() if residence.known else {"residence"}
    if person.list_match is None:
        unknown.add("screening")
    ties = (*(person.citizenships or ()), *(person.permanent_residencies or ()))
    for tie in ties:
        if tie.acquired is not None and at < tie.acquired < until:
            until = tie.acquired
    evidence, evidence_until = evidence_state(person, at, reference)
    us_person = person.us_status in US_PERSON_STATUSES
    return PersonFacets(
        residence=residence,
        unknown=frozenset(unknown),
        us_person=us_person,
        ear=NO_COUNTED if us_person else counted_countries(person, NationalityTest.EAR, at, gazetteer),
        itar=NO_COUNTED if us_person else counted_countries(person, NationalityTest.ITAR, at, gazetteer),
        evidence=evidence,
        screening="unscreened" if person.list_match is None else person.list_match.value,
        lab_employee=person.lab_employee,
        until=min(until, evidence_until),
        unsaid=_unsaid(person),
    )


def _unsaid(person: Person) -> frozenset[str]:
    """Return the facts about the United States that nobody knows: they may read as a contradiction, or as foreign."""
    facts = {"us_status": person.us_status is UsStatus.UNKNOWN, "citizenships": person.citizenships is None}
    return frozenset(f"person.{name}" for name, unknown in facts.items() if unknown)


def counted_countries(person: Person, test: NationalityTest, at: int, gazetteer: Gazetteer) -> Counted:
    """Return the countries that count: EAR, every tie that could be the most recent; ITAR, every tie ever held.

    EAR: 15 CFR 734.13(b), of the current ties acquired at or before the instant, the latest dated and all undated
    ones. ITAR: 22 CFR 120.50(b). Birth country never counts; a tie that lies in the future does not count yet.
    """
    lists = (person.citizenships, person.permanent_residencies)
    unknown = {"counted"} if None in lists else set()
    held = [tie for ties in lists for tie in ties or () if tie.acquired is None or tie.acquired <= at]
    if test is NationalityTest.EAR:
        held = [tie for tie in held if tie.current]
        latest = max((tie.acquired for tie in held if tie.acquired is not None), default=None)
        held = [tie for tie in held if tie.acquired is None or tie.acquired == latest]
    pairs = tuple(dict.fromkeys((tie.country, gazetteer.country(tie.country)) for tie in held))
    codes = frozenset(code for _, code in pairs if code is not None)
    if not pairs:
        unknown.add("nationality")
    if any(code is None for _, code in pairs):
        unknown.add("counted")
    return Counted(pairs, codes, frozenset(unknown))


def evidence_state(person: Person, at: int, reference: Reference) -> tuple[str, int]:
    """Return the state of a person's evidence and the instant until which it stays so.

    `valid` while verified, `verified_on <= at < verified_on + 365 days` and before the document's expiry. Facts that
    contradict each other are no valid evidence anywhere.
    """
    if contradictory(person, at, reference.gazetteer):
        return "contradictory", ENDLESS
    evidence = person.evidence
    if evidence.level is not EvidenceLevel.VERIFIED:
        return evidence.level.value, ENDLESS
    if evidence.verified_on is None:
        return "undated", ENDLESS
    if at < evidence.verified_on:
        return "undated", evidence.verified_on
    end = evidence.verified_on + reference.evidence_days * DAY
    if evidence.expires_on is not None:
        end = min(end, evidence.expires_on)
    return ("valid", end) if at < end else ("expired", ENDLESS)


def contradictory(person: Person, at: int, gazetteer: Gazetteer) -> bool:
    """Return whether the facts contradict each other about the United States.

    A current US citizenship or permanent residency beside `none` or `unknown`; or `citizen` without a current US
    citizenship among the citizenships (a list that is unknown shows none).
    """

    def american(ties: Iterable[Tie]) -> bool:
        return any(
            tie.current and (tie.acquired is None or tie.acquired <= at) and gazetteer.country(tie.country) == "US"
            for tie in ties
        )

    citizen = american(person.citizenships or ())
    if person.us_status in (UsStatus.NONE, UsStatus.UNKNOWN):
        return citizen or american(person.permanent_residencies or ())
    return person.us_status is UsStatus.CITIZEN and not citizen


def derive_tenant(tenant: Tenant, at: int, reference: Reference) -> TenantFacets:
    """Return the facets of a tenant and its chain at an instant. An individual has no entity."""
    editions = reference.groups.at(at)
    until = editions.until
    chain: list[Tenant] = []
    link: Tenant | None = tenant
    while link is not None:
        entity, stale_at = fresh_tenant(link, at)
        until = min(until, stale_at)
        chain.append(entity)
        link = entity.end_customer
    head = chain[0]
    unknown: set[str] = set()
    screening = {"unscreened" if e.list_match is None else e.list_match.value for e in chain}
    if "unscreened" in screening:
        unknown.add("screening")
    if any(_unidentified(e) for e in chain):
        unknown.add("end-customer")
    entities: set[str] = set()
    seats: set[str] = set()
    ownership: set[str] = set()
    owned: set[str] = set()
    foreign: list[tuple[str | None, str | None]] = []
    for entity in chain:
        if entity.type is TenantType.INDIVIDUAL:
            continue
        _add_places(entity, reference.gazetteer, entities, seats, unknown)
        _add_owners(entity, editions, reference, ownership, owned, unknown)
        country = _known_country(reference.gazetteer.resolve(entity.incorporated_in, entity.incorporated_in_region))
        if _is_foreign(entity, country, reference.home_country):
            foreign.append((entity.incorporated_in, country))
    return TenantFacets(
        ids=frozenset(e.id for e in chain),
        types=frozenset("unknown" if e.type is None else e.type.value for e in chain),
        individual=head.type is TenantType.INDIVIDUAL,
        entities=frozenset(entities),
        seats=frozenset(seats),
        home=_home(head, reference.gazetteer),
        unknown=frozenset(unknown),
        screening=frozenset(screening),
        ownership=frozenset(ownership),
        owned=frozenset(owned),
        partner=head.vetted_partner,
        denied=any(e.denied_by_lab for e in chain),
        is_lab=head.id == reference.lab_tenant,
        foreign=tuple(foreign),
        until=until,
    )


def derive_place(location: Location | None, reference: Reference) -> PlaceFacets:
    """Return the facets of where the person is."""
    if location is None:
        return PlaceFacets(NOWHERE, frozenset(("location",)), "unknown")
    place = reference.gazetteer.resolve(location.country, location.region)
    unknown: set[str] = set()
    if not place.known:
        unknown.add("location")
    if location.anonymiser:
        unknown.add("location-anonymised")
    if place.known and place.region is None and place.country in reference.coarse_countries:
        unknown.add("location-region")
    if not place.known or location.anonymiser:
        in_us = "unknown"
    else:
        in_us = "yes" if place.country == reference.home_country else "no"
    return PlaceFacets(place, frozenset(unknown), in_us)


def serving_state(model: Model, serving_region: str | None, gazetteer: Gazetteer) -> str:
    """Return whether the model may run where the request would be served: permitted, forbidden or unknown."""
    country = gazetteer.serving(serving_region)
    if country is None:
        return "unknown"
    return "forbidden" if model.permitted_serving_regions.isdisjoint((serving_region, country)) else "permitted"


def _unidentified(entity: Tenant) -> bool:
    """A reseller must name its customer; a tenant of unknown type may be a reseller."""
    if entity.type not in (TenantType.RESELLER, None):
        return False
    return entity.end_customer is None and not entity.end_customer_identified


def _headquarters(entity: Tenant, gazetteer: Gazetteer) -> Place:
    return gazetteer.resolve(entity.headquarters, entity.headquarters_region)


def _known_country(place: Place) -> str | None:
    """Return the country of a place, `None` where country and region contradict each other."""
    return place.country if place.known else None


def _home(head: Tenant, gazetteer: Gazetteer) -> str:
    """Headquarters of an organisation; of a tenant of unknown type nobody can say that they are what counts."""
    country = None if head.type is None else _known_country(_headquarters(head, gazetteer))
    return "unknown" if country is None else country


def _add_places(entity: Tenant, gazetteer: Gazetteer, entities: set[str], seats: set[str], unknown: set[str]) -> None:
    incorporation = gazetteer.resolve(entity.incorporated_in, entity.incorporated_in_region)
    headquarters = _headquarters(entity, gazetteer)
    parent = gazetteer.resolve(entity.ultimate_parent_headquarters)
    for name, place in (("incorporation", incorporation), ("headquarters", headquarters), ("parent", parent)):
        entities |= place.codes
        if not place.known:
            unknown.add(name)
    seats |= headquarters.codes | parent.codes


def _add_owners(
    entity: Tenant,
    editions: EditionsInForce,
    reference: Reference,
    ownership: set[str],
    owned: set[str],
    unknown: set[str],
) -> None:
    """Sum owners per list family (31 CFR 50% rule; 15 CFR affiliates rule) and by restricted country."""
    if entity.owners is None:
        unknown.add("owners")
        return
    for name, threshold in (("sdn", reference.sdn), ("affiliates", reference.affiliate)):
        listed = [o for o in entity.owners if o.listed in threshold.lists]
        if threshold.reached(sum((o.percent for o in listed if o.percent is not None), Fraction(0))):
            ownership.add(name)
        if any(o.percent is None for o in listed):
            ownership.add(f"{name}-share-unknown")
    restricted = editions.groups[reference.seat_group]
    shares = [o.percent for o in entity.owners if o.percent is not None]
    remainder = max(Fraction(0), _WHOLE - sum(shares, Fraction(0)))
    certain = Fraction(0)
    possible = Fraction(0)
    open_share = False
    for owner in entity.owners:
        country = reference.gazetteer.country(owner.country)
        if country is not None and country not in restricted:
            continue
        if owner.percent is None:
            open_share = True
        elif country is None:
            possible += owner.percent
        else:
            certain += owner.percent
    if reference.seat.reached(certain):
        owned.add("restricted")
    elif reference.seat.reached(certain + possible + (remainder if open_share else 0)):
        unknown.add("owned")


def _is_foreign(entity: Tenant, country: str | None, home: str) -> bool:
    """Foreign entity (15 CFR 772.1): incorporated elsewhere or nobody knows where, a foreign government, or an
    international organisation; never the US government. An unknown type may be one of the two."""
    if entity.type is TenantType.US_GOVERNMENT:
        return False
    return entity.type is None or entity.type in _FOREIGN_TYPES or country != home
