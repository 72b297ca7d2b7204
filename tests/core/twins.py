"""Slow, obvious twins of what core derives, written from the words of the reference policy.

A twin reads the plain data of a generated request, calls nothing of the product, and prefers trying every possibility
to being clever. Compared with the product in `test_twins`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

from tests.core.sample import COUNTRIES, NOW, SOVEREIGNS
from tests.core.worlds import ALIASES, BASES, World

RESTRICTED = {"CN", "MO", "IR", "KP", "CU", "SY", "RU"}
BIRTH = -(10**30)


def instant(text: str) -> int:
    """Count the microseconds since 1970 to a date or an instant with a Z."""
    moment = datetime.fromisoformat(text if "T" in text else f"{text}T00:00:00Z")
    return (moment - datetime.fromisoformat("1970-01-01T00:00:00Z")) // timedelta(microseconds=1)


def resolved(code: str | None) -> str | None:
    """HK is CN, LI is CH, a territory is its sovereign; a code that resolves to nothing is unknown."""
    if code in SOVEREIGNS:
        return SOVEREIGNS[code]
    return code if code in COUNTRIES else None


def began(text: str | None) -> int | None:
    """Read the date of a tie: birth is the earliest date, none is unknown."""
    return BIRTH if text == "birth" else None if text is None else instant(text)


def could_be_most_recent(ties: list[dict[str, Any]]) -> set[str | None]:
    """Of ties acquired by now: try for each undated one the earliest and the latest day it could have begun."""
    possible: set[str | None] = set()
    for dates in product(*([date] if (date := began(t["acquired"])) is not None else [BIRTH, NOW] for t in ties)):
        possible |= {t["country"] for t, date in zip(ties, dates, strict=True) if date == max(dates)}
    return possible


def held_by_now(tie: dict[str, Any]) -> bool:
    """Acquired at or before the decision, as far as anybody knows."""
    date = began(tie["acquired"])
    return date is None or date <= NOW


def summed(owners: list[dict[str, Any]]) -> Decimal:
    """Sum the shares that are known, in decimals as they are written."""
    return sum((Decimal(str(one["percent"])) for one in owners if one["percent"] is not None), Decimal(0))


def listed_sums(owners: list[dict[str, Any]]) -> set[str]:
    """P4: owners on SDN, and owners on entity list and MEU, at 50% or more; a listed share that nobody knows."""
    found = set()
    for name, lists in (("sdn", {"SDN"}), ("affiliates", {"entity_list", "MEU"})):
        family = [one for one in owners if one["list"] in lists]
        if summed(family) >= 50:
            found.add(name)
        if [one for one in family if one["percent"] is None]:
            found.add(f"{name}-share-unknown")
    return found


def restricted_share(owners: list[dict[str, Any]]) -> str:
    """P5: `restricted` on what is known, `unknown` where unknown shares or countries could make it so, else `no`."""
    known = [one for one in owners if resolved(one["country"]) in RESTRICTED]
    if summed(known) > 50:
        return "restricted"
    doubtful = known + [one for one in owners if resolved(one["country"]) is None]
    most = summed(doubtful)
    if any(one["percent"] is None for one in doubtful):
        most += max(Decimal(0), 100 - summed(owners))
    return "unknown" if most > 50 else "no"


US_STATUSES = ("citizen", "national", "lpr", "refugee", "asylee")


def us_person_on_valid_evidence(facts: dict[str, Any] | None) -> bool:
    """A US status, facts that do not contradict it, and evidence verified within 365 days and not past its expiry."""
    return facts is not None and facts["us_status"] in US_STATUSES and evidence_is_valid(facts)


def evidence_is_valid(facts: dict[str, Any]) -> bool:
    """Verified, dated, at most 365 days old, not past its expiry, and nothing that contradicts."""
    american = [
        [t for t in facts[name] or () if t["current"] and held_by_now(t) and resolved(t["country"]) == "US"]
        for name in ("citizenships", "permanent_residencies")
    ]
    status = facts["us_status"] or "unknown"
    if status in ("none", "unknown") and (american[0] or american[1]):
        return False
    if status == "citizen" and not american[0]:
        return False
    evidence = facts["nationality_evidence"]
    if evidence["level"] != "verified" or evidence["verified_on"] is None:
        return False
    verified = instant(evidence["verified_on"])
    if not verified <= NOW < verified + 365 * 24 * 60 * 60 * 1_000_000:
        return False
    return evidence["expires_on"] is None or instant(evidence["expires_on"]) > NOW


def entities(world: World) -> list[dict[str, Any]]:
    """The tenant and each end customer behind it."""
    chain, link = [], {"id": world.tenant_id, **world.tenant}
    while link is not None:
        chain.append(link)
        link = link.get("end_customer")
    return chain


def foreign_entities(world: World) -> list[dict[str, Any]]:
    """Incorporated outside the US or unknown, a foreign government or international organisation, or of unknown type;
    never the US government; an individual has no entity."""
    found = []
    for entity in entities(world):
        if entity["type"] in ("individual", "us_government"):
            continue
        odd = entity["type"] in ("foreign_government", "international_organisation", None)
        if odd or resolved(entity["incorporated_in"]) != "US":
            found.append(entity)
    return found


REGION_OWNERS = {"US-CA": ("US",), "DE-BE": ("DE",), "UA-43": ("UA",)}


def place_known(location: dict[str, Any] | None) -> bool:
    """The code resolves and the region, where given, is one of its country."""
    if location is None or resolved(location["country"]) is None:
        return False
    return location["region"] is None or location["country"] in REGION_OWNERS[location["region"]]


def known_and_open(location: dict[str, Any] | None) -> bool:
    """Neither unknown nor anonymised."""
    return location is not None and place_known(location) and not location["anonymiser"]


LOCATION_DEFAULTS: dict[str, Any] = {"country": None, "region": None, "anonymiser": False}


def location_of(world: World) -> dict[str, Any] | None:
    """The location with every member said."""
    return None if world.location is None else {**LOCATION_DEFAULTS, **world.location}


def in_force(order: dict[str, Any]) -> bool:
    """Starts inclusive, ends exclusive; without `from` in force, without `until` open."""
    if order["from"] is not None and instant(order["from"]) > NOW:
        return False
    return order["until"] is None or instant(order["until"]) > NOW


def lineage(model: str) -> set[str]:
    """The model and the models it derives from."""
    return {model, *BASES[model]}


def ids(names: list[str]) -> set[str]:
    """The ids that names stand for."""
    return {ALIASES.get(name, name) for name in names}


def exempt(world: World, order: dict[str, Any], block: str) -> bool:
    """Each named model that the request derives from needs an exemption in force for this person and block."""
    model = world.model["id"]
    for named in ids(order["models"]) & lineage(model):
        for easing in order["exempts"]:
            lab = world.person is not None and world.person["lab_employee"] and world.tenant_id == "lab"
            on_annex = all(entity["id"] in easing["annex_a"] for entity in entities(world))
            whom = on_annex if easing["who"].startswith("annex") else lab and block == "foreign_person"
            if in_force(easing) and whom and ids(easing["models"]) & {named, model}:
                break
        else:
            return False
    return True


def blocks_of(world: World) -> dict[str, set[str]]:
    """Which blocks of which directives hold."""
    found: dict[str, set[str]] = {}
    for order in world.directives:
        everywhere = order["models"] == "all"
        if not in_force(order) or not (everywhere or ids(order["models"]) & lineage(world.model["id"])):
            continue
        if not order["blocks"] or set(order["blocks"]) - {"foreign_person", "destination_outside_us"}:
            found.setdefault("everyone", set()).add(order["id"])
            continue
        location = location_of(world)
        home = location is not None and known_and_open(location) and resolved(location["country"]) == "US"
        foreign = not us_person_on_valid_evidence(world.person) or bool(foreign_entities(world))
        hits = {"foreign_person": foreign, "destination_outside_us": not home}
        for block in order["blocks"]:
            if hits[block] and (everywhere or not exempt(world, order, block)):
                found.setdefault(block, set()).add(order["id"])
    return found


def named(codes: list[str], place: str | None) -> bool:
    """A country is named by its own code or its sovereign's; one that resolves to nothing never is."""
    return resolved(place) is not None and (place in codes or resolved(place) in codes)


def lifts_of(world: World) -> set[str]:
    """What the one licence of a world, which matches it, lifts."""
    (licence,) = world.licences
    facts, location, found = world.person, location_of(world), {"seat", "weights"}
    test = world.model["nationality_test"]
    counted: set[str | None] = set()
    complete = facts is not None and None not in (facts["citizenships"], facts["permanent_residencies"])
    us_person = facts is not None and facts["us_status"] in US_STATUSES
    if facts is not None and complete and not us_person:
        ever = [tie for tie in facts["citizenships"] + facts["permanent_residencies"] if held_by_now(tie)]
        if test == "ITAR":
            counted = {tie["country"] for tie in ever}
        elif test == "EAR":
            counted = could_be_most_recent([tie for tie in ever if tie["current"]])
    all_named = bool(counted) and all(named(licence["nationalities"], code) for code in counted)
    here = False
    if location is not None and known_and_open(location):
        codes = licence["destinations"]
        here = named(codes, location["country"]) or location["region"] in codes
    if all_named:
        found.add("nat")
    if here:
        found.add("dest")
    incorporated = [entity["incorporated_in"] for entity in entities(world) if entity["type"] != "individual"]
    if facts is None or not evidence_is_valid(facts) or not known_and_open(location):
        return found
    if any(resolved(code) is None for code in incorporated):
        return found
    abroad = [entity["incorporated_in"] for entity in foreign_entities(world)]
    if (us_person or all_named) and all(named(licence["nationalities"], code) for code in abroad):
        found.add("directive.foreign_person")
    if here:
        found.add("directive.destination_outside_us")
    return found
