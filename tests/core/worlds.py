"""Generated requests for properties of core: facts in case form, mostly in good standing, with a few flaws each.

A world is plain data, so that a twin can read it straight and a property can change one fact of it. `evaluate` takes
it through the product's own parsing, derivation and facets, and asks the plain rulebook for the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from policy_engine.core.derive import derive_person, derive_place, derive_tenant
from policy_engine.core.facets import Found, Parts, assemble
from policy_engine.core.factparse import parse_location, parse_person, parse_tenant
from policy_engine.core.facts import Model, ModelStatus, NationalityTest, Person, Tenant
from policy_engine.core.instants import DAY, format_instant
from policy_engine.core.orderparse import parse_directive, parse_licence
from policy_engine.core.orders import Asked, OrderBook
from policy_engine.core.release import Catalogue
from tests.core.rulebook import denied
from tests.core.sample import AMERICAN, COMPANY, NOW, REFERENCE, owner, tie

BASES: Mapping[str, tuple[str, ...]] = {"mother": (), "father": (), "child": ("mother", "father"), "other": ()}
ALIASES: Mapping[str, str] = {"mother-latest": "mother", "child-latest": "child"}
ALL_NAMES = (*BASES, *ALIASES)

INSTANTS = tuple(
    NOW + shift for shift in (-400 * DAY, -365 * DAY, -365 * DAY + 1, -30 * DAY, -1, 0, 1, 30 * DAY, 400 * DAY)
)
DATES = tuple(format_instant(instant) for instant in INSTANTS)


@dataclass(frozen=True, slots=True)
class World:
    """One request with all that is known of it. `person=None` is a service."""

    person: dict[str, Any] | None
    tenant: dict[str, Any]
    location: dict[str, Any] | None = None
    serving_region: str | None = "US"
    model: dict[str, Any] = field(default_factory=lambda: {"id": "child"})
    action: str = "infer"
    directives: tuple[dict[str, Any], ...] = ()
    licences: tuple[dict[str, Any], ...] = ()
    tenant_id: str = "t1"


def mostly(good: Any, *others: Any, weight: int = 6) -> st.SearchStrategy[Any]:
    """Return the good value most of the time."""
    return st.sampled_from([good] * weight + list(others))


COUNTRIES = st.sampled_from(["US", "PR", "IN", "DE", "GB", "CN", "HK", "IR", "VN", "AE", "ZZ", None])
TIES = st.builds(
    tie, COUNTRIES, st.sampled_from([*DATES, "birth", "birth", None]), current=mostly(True, False, weight=4)
)
TIE_LISTS = st.lists(TIES, max_size=3)
EVIDENCE = st.fixed_dictionaries(
    {
        "level": mostly("verified", "declared", "conflict", "none", weight=9),
        "verified_on": mostly(format_instant(NOW - 30 * DAY), *DATES, None, weight=12),
        "expires_on": mostly(None, *DATES, weight=9),
    }
)
OWNERS = st.lists(
    st.builds(
        owner,
        st.sampled_from([10, 20, 24.9, 25, 25.1, 30, 49.9, 50, 50.1, None]),
        mostly("US", "DE", "CN", "HK", "IR", None, "ZZ", weight=4),
        mostly(None, "SDN", "entity_list", "MEU", weight=6),
    ),
    max_size=3,
)
INTERVALS = st.fixed_dictionaries({"from": mostly(None, *DATES, weight=9), "until": mostly(None, *DATES, weight=9)})


def _citizens() -> st.SearchStrategy[dict[str, Any]]:
    american = st.just({"citizenships": AMERICAN["citizenships"], "permanent_residencies": [], "us_status": "citizen"})
    foreign = st.fixed_dictionaries(
        {
            "citizenships": st.lists(TIES, min_size=1, max_size=2) | st.just([tie("IN", "birth")]),
            "permanent_residencies": mostly([], [tie("DE", "2010-01-01")], [tie("CN")], None),
            "us_status": mostly("none", "unknown", None, weight=3),
        }
    )
    settled = st.fixed_dictionaries(
        {
            "citizenships": TIE_LISTS,
            "permanent_residencies": TIE_LISTS | st.none(),
            "us_status": st.sampled_from(["national", "lpr", "refugee", "asylee", "citizen"]),
        }
    )
    return american | foreign | settled


@st.composite
def persons(draw: Callable[..., Any]) -> dict[str, Any]:
    """Draw the facts of a person."""
    facts = {
        **draw(_citizens()),
        "residence_country": draw(mostly("US", "GB", "IR", "UA", "ZZ", None, weight=12)),
        "nationality_evidence": draw(EVIDENCE | st.just(AMERICAN["nationality_evidence"])),
        "lab_employee": draw(st.booleans()),
        "list_match": draw(mostly("none", "cleared", "possible", "confirmed", None, weight=12)),
    }
    if facts["residence_country"] == "UA":
        facts["residence_region"] = draw(st.sampled_from(["UA-30", "UA-43", None]))
    return facts


@st.composite
def tenants(draw: Callable[..., Any], depth: int = 2) -> dict[str, Any]:
    """Draw the facts of a tenant, with end customers behind resellers. Known shares never exceed the whole."""
    kinds = ["individual", "academic", "us_government", "foreign_government", "international_organisation", "reseller"]
    facts = {
        "type": draw(mostly("enterprise", *kinds, None, weight=6)),
        "incorporated_in": draw(mostly("US", "GB", "CN", "ZZ", None, weight=14)),
        "headquarters": draw(mostly("US", "GB", "CN", "IR", None, weight=16)),
        "ultimate_parent_headquarters": draw(mostly("US", "CN", None, weight=12)),
        "owners": draw(mostly([], None, weight=9) | OWNERS.filter(lambda o: sum(x["percent"] or 0 for x in o) <= 100)),
        "list_match": draw(mostly("none", "possible", "confirmed", None, weight=16)),
        "vetted_partner": draw(st.booleans()),
        "denied_by_lab": draw(mostly(False, True, weight=20)),
    }
    if facts["type"] == "reseller":
        facts["end_customer_identified"] = draw(st.booleans())
        if depth and draw(st.booleans()):
            facts["end_customer"] = {"id": f"t{4 - depth}", **draw(tenants(depth=depth - 1))}
    return facts


LOCATIONS = st.fixed_dictionaries(
    {
        "country": mostly("US", "PR", "GB", "CN", "HK", "IR", "ZZ", None, weight=8),
        "region": mostly(None, "US-CA", "DE-BE", "UA-43", weight=12),
        "anonymiser": mostly(False, True, weight=8),
    }
)
MODEL_IDS = mostly("child", "mother", "other", weight=3)
MODELS = st.fixed_dictionaries(
    {
        "id": MODEL_IDS,
        "tier": mostly(4, 3, 5, weight=2),
        "status": mostly("available", "superseded", "retired", None, weight=16),
        "weights_public": mostly(False, True, weight=4),
        "nationality_test": mostly("EAR", "ITAR", "ITAR", None, weight=4),
    }
)
NAMES = st.lists(st.sampled_from(ALL_NAMES), max_size=3)


@st.composite
def directives(draw: Callable[..., Any]) -> dict[str, Any]:
    """Draw a directive, often on the mother or the father of the child, with exemptions."""
    both = ["foreign_person", "destination_outside_us"]
    blocks = st.sampled_from([["foreign_person"], ["destination_outside_us"], both, both, [], ["nonsense"]])
    exempts = st.lists(
        st.fixed_dictionaries(
            {
                "models": NAMES,
                "who": st.sampled_from(["annex_a_entities_and_their_employees", "lab_foreign_national_employees"]),
                "annex_a": mostly(["t1", "lab", "t2", "t3"], ["t1"], [], weight=3),
            }
        ).flatmap(lambda exempt: INTERVALS.map(lambda dates: {**exempt, **dates})),
        max_size=3,
    )
    return {
        "id": draw(st.sampled_from(["d1", "d2"])),
        "models": draw(NAMES.filter(bool) | mostly(["mother", "father"], "all", weight=2)),
        "blocks": draw(blocks),
        "exempts": draw(exempts),
        **draw(INTERVALS),
    }


@st.composite
def licences(draw: Callable[..., Any]) -> dict[str, Any]:
    """Draw a licence that names much and lifts much."""
    codes = st.lists(st.sampled_from(["US", "PR", "IN", "DE", "GB", "CN", "HK", "IR", "VN", "AE", "ZZ"]), max_size=11)
    every = st.just(["US", "PR", "IN", "DE", "GB", "CN", "HK", "IR", "VN", "AE", "ZZ"])
    return {
        "id": draw(st.sampled_from(["l1", "l2"])),
        "from": draw(mostly(DATES[0], *DATES, None, weight=12)),
        "person_id": draw(mostly("p1", None, "p2", weight=3)),
        "tenant_id": draw(mostly("t1", None, "t2", weight=3)),
        "models": draw(mostly(["child", "mother", "other"], ["mother"], weight=4)),
        "actions": draw(mostly(["infer", "fine_tune", "download_weights"], ["list"], weight=6)),
        "nationalities": draw(every | codes),
        "destinations": draw(every | codes),
        "lifts": draw(st.lists(st.sampled_from(["seat", "dest", "nat", "weights", "directive"]), min_size=1)),
    }


GOOD_PERSONS = st.sampled_from(
    [
        {},
        {"citizenships": [tie("IN", "birth")], "us_status": "none"},
        {"citizenships": [tie("IR", "birth"), tie("DE", "2010-01-01")], "us_status": "none"},
        {"citizenships": [tie("CN", "birth")], "us_status": "none"},
        {"citizenships": [tie("CN", "birth")], "us_status": "none", "lab_employee": True},
        {"citizenships": [tie("IR", "birth")], "us_status": "asylee", "lab_employee": True},
    ]
).map(lambda facts: {**AMERICAN, **facts})
SPOILT_PARTS = ("person", "tenant", "location", "serving_region", "model", "action")


@st.composite
def worlds(draw: Callable[..., Any]) -> World:
    """Draw a request with orders, at most three of its parts spoilt."""
    spoilt = draw(st.sets(st.sampled_from(SPOILT_PARTS), max_size=3))

    def part(name: str, bad: st.SearchStrategy[Any], good: st.SearchStrategy[Any]) -> Any:
        return draw(bad if name in spoilt else good)

    return World(
        person=part("person", persons() | persons() | persons() | st.none(), GOOD_PERSONS),
        tenant=part("tenant", tenants(), st.just(dict(COMPANY))),
        location=part("location", LOCATIONS | st.none(), st.just({"country": "US"})),
        serving_region=part("serving_region", st.sampled_from(["DE", "CN", "ZZ", None]), st.just("US")),
        model=part("model", MODELS, st.builds(lambda id: {"id": id, "weights_public": False}, MODEL_IDS)),
        action=part("action", st.sampled_from(["fine_tune", "download_weights", "dance"]), st.just("infer")),
        directives=tuple(draw(st.lists(directives(), max_size=2))),
        licences=tuple(draw(st.lists(licences(), max_size=2))),
        tenant_id=draw(mostly("t1", "lab", weight=3)),
    )


PERSON_FLAWS: tuple[dict[str, Any], ...] = (
    {"citizenships": [tie("CN", "birth")], "us_status": "none"},
    {"citizenships": [tie("IN", "birth"), tie("IR")], "us_status": "none"},
    {"citizenships": [tie("IN")], "permanent_residencies": [tie("CN", "2020-01-01")], "us_status": "none"},
    {"residence_country": "IR"},
    {"residence_country": "UA", "residence_region": "UA-43"},
    {"list_match": "possible"},
    {"list_match": "confirmed"},
    {"nationality_evidence": {"level": "declared", "verified_on": "2026-03-01"}},
    {"nationality_evidence": {"level": "verified", "verified_on": "2024-03-01"}},
)
TENANT_FLAWS: tuple[dict[str, Any], ...] = (
    {"incorporated_in": "CU"},
    {"headquarters": "CN"},
    {"ultimate_parent_headquarters": "MO"},
    {"headquarters": "UA", "headquarters_region": "UA-09"},
    {"owners": [owner(50, listed="SDN")]},
    {"owners": [owner(60, "CN")]},
    {"owners": [owner(60, None)]},
    {"list_match": "possible"},
    {"list_match": "confirmed"},
    {"denied_by_lab": True},
    {"type": "reseller"},
)


@st.composite
def flawed(draw: Callable[..., Any]) -> World:
    """Draw a request in good standing but for one flaw, of the person, the tenant or a tenant behind it."""
    person, tenant = dict(AMERICAN), dict(COMPANY)
    whose = draw(st.sampled_from(["person", "tenant", "end customer"]))
    if whose == "person":
        person |= draw(st.sampled_from(PERSON_FLAWS))
    elif whose == "tenant":
        tenant |= draw(st.sampled_from(TENANT_FLAWS))
    else:
        tenant |= {"type": "reseller", "end_customer": {"id": "t2", **COMPANY, **draw(st.sampled_from(TENANT_FLAWS))}}
    return World(person, tenant, {"country": "US"}, model={"id": "other", "tier": draw(st.sampled_from([3, 4]))})


def licensed() -> st.SearchStrategy[World]:
    """Return requests that a licence for everything matches, with anything known or unknown about them."""
    broad = {
        "id": "l1",
        "from": DATES[0],
        "person_id": None,
        "tenant_id": "t1",
        "models": list(BASES),
        "actions": ["infer"],
        "lifts": ["seat", "dest", "nat", "weights", "directive"],
    }
    named = licences().map(
        lambda drawn: {**broad, "nationalities": drawn["nationalities"], "destinations": drawn["destinations"]}
    )
    return st.builds(
        World,
        person=persons() | GOOD_PERSONS | st.none(),
        tenant=tenants() | st.just(dict(COMPANY)),
        location=LOCATIONS | st.none(),
        model=MODELS,
        licences=st.tuples(named),
    )


def directed() -> st.SearchStrategy[World]:
    """Return requests for the child of two models by people of every kind, from anywhere, without orders."""
    return st.builds(
        World,
        person=persons() | GOOD_PERSONS | GOOD_PERSONS | st.none(),
        tenant=tenants() | st.just(dict(COMPANY)),
        location=LOCATIONS | st.just({"country": "US"}),
        tenant_id=st.sampled_from(["t1", "lab"]),
    )


def model_of(world: World) -> Model:
    """Return the model of a world; what its dict does not say is good."""
    said = {"tier": 4, "status": "available", "weights_public": False, "nationality_test": "EAR", **world.model}
    return Model(
        id=said["id"],
        tier=said["tier"],
        status=None if said["status"] is None else ModelStatus(said["status"]),
        weights_public=said["weights_public"],
        permitted_serving_regions=frozenset(said.get("permitted_serving_regions", ("US", "DE"))),
        nationality_test=None if said["nationality_test"] is None else NationalityTest(said["nationality_test"]),
        bases=BASES[said["id"]],
    )


def asked_of(world: World) -> Asked:
    """Return the model side of a world, with the names that reach its model."""
    aliases = {id: tuple(alias for alias, of in ALIASES.items() if of == id) for id in BASES}
    catalogue = Catalogue([Model(id, 4, None, bases=BASES[id], aliases=aliases[id]) for id in BASES])
    person_id = None if world.person is None else "p1"
    id = world.model["id"]
    return Asked(id, catalogue.names(id), catalogue.aliases, world.action, person_id, world.tenant_id)


def book_of(world: World) -> OrderBook:
    """Return the orders of a world as the register reads them."""
    return OrderBook(
        [parse_directive(body, strict=False) for body in world.directives],
        [parse_licence(body, strict=False) for body in world.licences],
    )


def person_of(world: World) -> Person | None:
    """Return the person of a world."""
    return None if world.person is None else parse_person("p1", world.person)


def tenant_of(world: World) -> Tenant:
    """Return the tenant of a world."""
    return parse_tenant(world.tenant_id, {**COMPANY, **world.tenant})


def evaluate(world: World, *, person: Person | None = None, tenant: Tenant | None = None, at: int = NOW) -> Found:
    """Return the facets of a world; a person or tenant given replaces its own."""
    return assemble(
        Parts(
            asked_of(world),
            model_of(world),
            derive_person(person or person_of(world), at, REFERENCE),
            derive_tenant(tenant or tenant_of(world), at, REFERENCE),
            derive_place(parse_location(world.location), REFERENCE),
            world.serving_region,
            book_of(world),
            at,
            REFERENCE,
        )
    )


def is_denied(found: Found, at: int = NOW) -> bool:
    """Return whether the plain rulebook denies these facets."""
    return denied(found.facets, REFERENCE.groups.at(at).groups)


def forgotten(world: World) -> dict[str, World]:
    """Return the world with one known fact made unknown, once for each, by the name of the fact.

    Left out is what the reference policy calls absent rather than unknown: a region, `anonymiser`, `expires_on`, an
    owner's list, `weights_public` and `denied_by_lab`; and, of public weights, the parent, which no rule then asks.
    """
    found = _forgotten_of_request(world)
    for name, tenant in _forgotten_of_tenant(world.tenant, ask_parent=not world.model.get("weights_public")):
        found[f"tenant.{name}"] = replace(world, tenant=tenant)
    if world.person is not None:
        for name, person in _forgotten_of_person(world.person):
            found[f"person.{name}"] = replace(world, person=person)
    return found


def _forgotten_of_request(world: World) -> dict[str, World]:
    found: dict[str, World] = {
        "location": replace(world, location=None),
        "serving_region": replace(world, serving_region=None),
        "permitted": replace(world, model={**world.model, "permitted_serving_regions": ()}),
    }
    if world.location is not None:
        found["location.country"] = replace(world, location={**world.location, "country": None})
    for name in ("tier", "status", "nationality_test"):
        found[f"model.{name}"] = replace(world, model={**world.model, name: None})
    return found


def _forgotten_of_person(facts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [(name, {**facts, name: None}) for name in facts if name != "residence_region"]
    evidence = facts["nationality_evidence"]
    for name in ("level", "verified_on"):
        found.append((f"evidence.{name}", {**facts, "nationality_evidence": {**evidence, name: None}}))
    for name in ("citizenships", "permanent_residencies"):
        for place, one in enumerate(facts[name] or ()):
            for part in ("country", "acquired"):
                ties = [*facts[name][:place], {**one, part: None}, *facts[name][place + 1 :]]
                found.append((f"{name}.{part}", {**facts, name: ties}))
    return found


def _forgotten_of_tenant(facts: dict[str, Any], *, ask_parent: bool) -> list[tuple[str, dict[str, Any]]]:
    regions = {"incorporated_in_region", "headquarters_region"}
    spared = {"id", "denied_by_lab", "end_customer", *regions} | (
        set() if ask_parent else {"ultimate_parent_headquarters"}
    )
    found = [(name, {**facts, name: None}) for name in facts if name not in spared]
    for place, one in enumerate(facts["owners"] or ()):
        for part in ("country", "percent"):
            owners = [*facts["owners"][:place], {**one, part: None}, *facts["owners"][place + 1 :]]
            found.append((f"owners.{part}", {**facts, "owners": owners}))
    if "end_customer" in facts:
        if not facts.get("end_customer_identified"):
            found.append(("end_customer", {**facts, "end_customer": None}))
        for name, customer in _forgotten_of_tenant(facts["end_customer"], ask_parent=ask_parent):
            found.append((f"end_customer.{name}", {**facts, "end_customer": customer}))
    return found
