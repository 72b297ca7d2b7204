"""Directives (reference policy, Orders): reach, blocks, time, and exemptions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from policy_engine.core.derive import NOBODY, PersonFacets, PlaceFacets, TenantFacets
from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.core.orderparse import parse_directive
from policy_engine.core.orders import Asked, Directive, OrderBook, directive_blocks, loosens
from tests.core.sample import (
    NOW,
    asked,
    customer,
    foreigner,
    person,
    person_facets,
    place_facets,
    tenant,
    tenant_facets,
    tie,
)

AMERICAN = person_facets()
INDIAN = person_facets(foreigner(tie("IN", "birth")))
COMPANY = tenant_facets()
HERE = place_facets("US")
ABROAD = place_facets("GB")
BOTH = ["foreign_person", "destination_outside_us"]


def directive(**body: Any) -> Directive:
    """Return a directive on summit-4 with both blocks, changed by what is named, read as the register reads it."""
    return parse_directive({"id": "d1", "models": ["summit-4"], "blocks": BOTH, **body}, strict=False)


def exempt(who: str, *models: str, **body: Any) -> dict[str, Any]:
    """Return an exemption as a case gives it."""
    return {"id": "e1", "models": list(models), "who": who, **body}


def blocks(
    *directives: Directive,
    who: PersonFacets = INDIAN,
    of: TenantFacets = COMPANY,
    where: PlaceFacets = ABROAD,
    question: Asked | None = None,
    at: int = NOW,
) -> dict[str, tuple[str, ...]]:
    """Return the blocks that hold, by default for an Indian abroad."""
    return directive_blocks(OrderBook(directives), question or asked(), who, of, where, at)


def test_both_blocks_hold_with_their_directives() -> None:
    """Each block is named with the ids of every directive that makes it, in order."""
    second = directive(id="d0", blocks=["foreign_person"])
    assert blocks(directive(), second) == {"destination_outside_us": ("d1",), "foreign_person": ("d0", "d1")}
    assert blocks() == {}


@pytest.mark.parametrize("block", BOTH)
def test_a_directive_makes_only_the_blocks_it_names(block: str) -> None:
    """Somebody whom both blocks would hit is hit by the one that is named."""
    assert blocks(directive(blocks=[block])) == {block: ("d1",)}


@pytest.mark.parametrize(
    ("question", "reached"),
    [
        (asked("summit-4"), True),
        (asked("summit-5"), False),
        (asked("summit-5", "summit-4"), True),
        (asked("summit-6", "summit-5", "summit-4"), True),
    ],
)
def test_a_directive_reaches_aliases_and_derivatives_of_its_models(question: Asked, reached: bool) -> None:
    """The names that reach a model are its id, its aliases and all it derives from."""
    assert bool(blocks(directive(), question=question)) is reached


def test_a_directive_that_names_an_alias_reaches_the_model() -> None:
    """An alias in the directive stands for its model."""
    question = asked("summit-4", "summit-latest", aliases={"summit-latest": "summit-4"})
    assert blocks(directive(models=["summit-latest"]), question=question)


def test_a_directive_on_a_derivative_does_not_reach_its_base() -> None:
    """Reach goes from base to derivative only."""
    assert blocks(directive(models=["summit-5"]), question=asked("summit-4")) == {}


@pytest.mark.parametrize("models", [None, "all", []])
def test_a_directive_that_names_no_models_reaches_every_model(models: Any) -> None:
    """Read back from the register, a directive without models blocks more, it does not vanish."""
    assert blocks(directive(models=models), question=asked("anything"))


@pytest.mark.parametrize(
    ("at", "held"),
    [
        ("2026-06-12T21:20:59.999999Z", False),
        ("2026-06-12T21:21:00Z", True),
        ("2026-06-30T23:59:59.999999Z", True),
        ("2026-07-01T00:00:00Z", False),
    ],
)
def test_a_directive_starts_inclusive_and_ends_exclusive(at: str, held: bool) -> None:
    """In force from its first microsecond to the last before its end."""
    dated = directive(**{"from": "2026-06-12T17:21:00-04:00", "until": "2026-07-01"})
    assert bool(blocks(dated, at=parse_instant(at))) is held


def test_a_directive_without_start_is_in_force_and_without_end_open() -> None:
    """Anything but a licence is in force without `from`; `until: null` is open."""
    assert (directive().start, directive().until) == (-ENDLESS, ENDLESS)
    assert blocks(directive(**{"from": None, "until": None}), at=-ENDLESS)


def test_of_two_directives_with_one_id_both_bind() -> None:
    """A later text under the same id does not make the first one vanish, whether it reaches, ended or is milder."""
    ended = directive(until="2026-07-01")
    milder = directive(blocks=["destination_outside_us"])
    assert set(blocks(directive(), ended)) == set(blocks(ended, directive())) == set(BOTH)
    assert blocks(directive(), milder)["foreign_person"] == ("d1",)
    assert blocks(directive(), milder)["destination_outside_us"] == ("d1",)
    everywhere = directive(models="all", until="2026-07-01")
    assert blocks(everywhere, directive())


@pytest.mark.parametrize("listed", [None, [], ["everyone"], [*BOTH, "nonsense"], ["Foreign_Person"]])
def test_a_directive_without_blocks_or_with_an_unknown_one_blocks_everyone(listed: Any) -> None:
    """Then nobody passes, an American at home with valid evidence included."""
    assert blocks(directive(blocks=listed), who=AMERICAN, where=HERE) == {"everyone": ("d1",)}


@pytest.mark.parametrize(
    ("who", "blocked"),
    [
        (AMERICAN, False),
        (person_facets(person(us_status="lpr", citizenships=[tie("IN")], permanent_residencies=[tie("US")])), False),
        (person_facets(person(us_status="asylee", citizenships=[tie("IR")])), False),
        (INDIAN, True),
        (person_facets(person(us_status="unknown", citizenships=[tie("IN")])), True),
        (person_facets(person(nationality_evidence={"level": "declared"})), True),
        (person_facets(person(nationality_evidence={"level": "conflict"})), True),
        (person_facets(person(nationality_evidence=None)), True),
        (person_facets(person(nationality_evidence={"level": "verified", "verified_on": "2024-01-01"})), True),
        (person_facets(person(citizenships=[tie("IN")])), True),
        (NOBODY, True),
    ],
)
def test_foreign_person_is_who_is_no_us_person_on_valid_evidence(who: PersonFacets, blocked: bool) -> None:
    """Declared, expired, conflicting, contradictory and absent evidence are not enough; nobody is foreign."""
    assert blocks(directive(blocks=["foreign_person"]), who=who) == ({"foreign_person": ("d1",)} if blocked else {})


@pytest.mark.parametrize(
    ("facts", "blocked"),
    [
        ({}, False),
        ({"incorporated_in": "GB"}, True),
        ({"incorporated_in": None}, True),
        ({"type": "foreign_government"}, True),
        ({"type": "international_organisation"}, True),
        ({"type": "us_government", "incorporated_in": None}, False),
        ({"type": "individual", "incorporated_in": "GB"}, False),
        ({"type": "reseller", "end_customer": customer(incorporated_in="GB")}, True),
        ({"type": "reseller", "end_customer": customer()}, False),
    ],
)
def test_foreign_person_is_also_a_foreign_entity_of_the_chain(facts: dict[str, Any], blocked: bool) -> None:
    """An American at a foreign entity, or behind one, is blocked as well."""
    found = blocks(directive(blocks=["foreign_person"]), who=AMERICAN, of=tenant_facets(tenant(**facts)))
    assert bool(found) is blocked


@pytest.mark.parametrize(
    ("location", "blocked"),
    [
        ("US", False),
        ("PR", False),
        ({"country": "US", "region": "US-CA"}, False),
        ("GB", True),
        ({"country": "US", "anonymiser": True}, True),
        ({"country": "US", "region": "DE-BE"}, True),
        ("ZZ", True),
        (None, True),
    ],
)
def test_destination_outside_us_is_whatever_is_not_known_to_be_inside(location: Any, blocked: bool) -> None:
    """A US territory is inside; elsewhere, unknown or anonymised is outside."""
    found = blocks(directive(blocks=["destination_outside_us"]), who=AMERICAN, where=place_facets(location))
    assert bool(found) is blocked


def test_the_annex_lifts_both_blocks_for_its_entities_and_their_employees() -> None:
    """A tenant on annex A is exempt, whoever acts for it and from wherever."""
    easing = exempt("annex_a_entities_and_their_employees", "summit-4", annex_a=["t0", "t1"])
    assert blocks(directive(exempts=[easing])) == {}
    assert blocks(directive(exempts=[easing]), who=NOBODY) == {}
    assert set(blocks(directive(exempts=[{**easing, "annex_a": ["t0"]}]))) == set(BOTH)
    assert set(blocks(directive(exempts=[{**easing, "annex_a": []}]))) == set(BOTH)


def test_every_entity_of_the_chain_must_be_on_the_annex() -> None:
    """A reseller on the annex does not carry its end customer through."""
    easing = exempt("annex_a_entities_and_their_employees", "summit-4", annex_a=["t1"])
    chain = tenant_facets(tenant(type="reseller", end_customer=customer("t2")))
    assert set(blocks(directive(exempts=[easing]), of=chain)) == set(BOTH)
    assert blocks(directive(exempts=[{**easing, "annex_a": ["t1", "t2"]}]), of=chain) == {}


def test_an_individual_is_on_the_annex_by_its_own_id() -> None:
    """An individual has no entity, and all of none is not enough."""
    easing = exempt("annex_a_entities_and_their_employees", "summit-4", annex_a=["t9"])
    alone = tenant_facets(tenant(type="individual"))
    assert set(blocks(directive(exempts=[easing]), of=alone)) == set(BOTH)


LAB = tenant_facets(tenant("lab", type="lab"))
EMPLOYEE = person_facets(foreigner(tie("CN", "birth"), lab_employee=True))


@pytest.mark.parametrize(
    ("who", "of", "left"),
    [
        (EMPLOYEE, LAB, {"destination_outside_us"}),
        (person_facets(person(lab_employee=True, nationality_evidence=None)), LAB, {"destination_outside_us"}),
        (EMPLOYEE, COMPANY, set(BOTH)),
        (INDIAN, LAB, set(BOTH)),
        (NOBODY, LAB, set(BOTH)),
    ],
)
def test_lab_employees_are_exempt_from_foreign_person_only(who: PersonFacets, of: TenantFacets, left: set[str]) -> None:
    """Any lab employee at the lab, and nobody else; the destination stays blocked."""
    easing = exempt("lab_foreign_national_employees", "summit-4")
    assert set(blocks(directive(exempts=[easing]), who=who, of=of)) == left


def test_nobody_is_exempt_from_a_directive_that_blocks_everyone() -> None:
    """An unknown block has no exemption that could mean it."""
    easing = exempt("annex_a_entities_and_their_employees", "summit-4", annex_a=["t1"])
    assert blocks(directive(blocks=["nonsense"], exempts=[easing])) == {"everyone": ("d1",)}


def test_nobody_is_exempt_from_a_directive_on_every_model() -> None:
    """Without named models there is none to be exempt for."""
    easing = exempt("annex_a_entities_and_their_employees", "summit-4", annex_a=["t1"])
    assert set(blocks(directive(models="all", exempts=[easing]))) == set(BOTH)


@pytest.mark.parametrize(
    ("at", "held"),
    [
        ("2026-06-26T21:59:59.999999Z", True),
        ("2026-06-26T22:00:00Z", False),
        ("2026-07-31T23:59:59.999999Z", False),
        ("2026-08-01T00:00:00Z", True),
    ],
)
def test_an_exemption_starts_inclusive_and_ends_exclusive(at: str, held: bool) -> None:
    """Before and after its own interval the directive binds again."""
    dates = {"from": "2026-06-26T22:00:00Z", "until": "2026-08-01"}
    easing = exempt("annex_a_entities_and_their_employees", "summit-4", annex_a=["t1"], **dates)
    assert bool(blocks(directive(exempts=[easing]), at=parse_instant(at))) is held


DERIVATIVE = asked("child", "mother", "father", "mother-latest", aliases={"mother-latest": "mother"})
ANNEX = "annex_a_entities_and_their_employees"


@pytest.mark.parametrize(
    ("models", "exempts", "held"),
    [
        (["mother"], [["mother"]], False),
        (["mother"], [["father"]], True),
        (["mother"], [["child"]], False),
        (["mother"], [["other"]], True),
        (["mother"], [[]], True),
        (["mother", "father"], [["mother"]], True),
        (["mother", "father"], [["father"]], True),
        (["mother", "father"], [["mother", "father"]], False),
        (["mother", "father"], [["mother"], ["father"]], False),
        (["mother", "father"], [["mother"], ["mother"]], True),
        (["mother", "father"], [["child"]], False),
        (["mother", "father", "other"], [["mother", "father"]], False),
        (["mother-latest"], [["mother"]], False),
        (["mother"], [["mother-latest"]], False),
        (["mother-latest", "mother"], [["mother"]], False),
    ],
)
def test_a_derivative_of_two_named_models_must_be_exempt_for_each(
    models: list[str], exempts: list[list[str]], held: bool
) -> None:
    """Each named model that the request derives from needs an exemption, of itself or of the derivative; ids repeat."""
    easings = [exempt(ANNEX, *named, annex_a=["t1"]) for named in exempts]
    assert bool(blocks(directive(models=models, exempts=easings), question=DERIVATIVE)) is held


def test_exemptions_in_force_for_each_model_must_apply_at_once() -> None:
    """One model exempt for the annex and the other for lab employees: who is both passes the foreign-person block."""
    easings = [exempt(ANNEX, "mother", annex_a=["lab"]), exempt("lab_foreign_national_employees", "father")]
    held = directive(models=["mother", "father"], exempts=easings)
    assert set(blocks(held, who=EMPLOYEE, of=LAB, question=DERIVATIVE)) == {"destination_outside_us"}
    assert set(blocks(held, who=INDIAN, of=LAB, question=DERIVATIVE)) == set(BOTH)


def test_an_exemption_of_one_directive_eases_no_other() -> None:
    """Two directives on one model must each be eased."""
    easing = exempt(ANNEX, "summit-4", annex_a=["t1"])
    assert blocks(directive(exempts=[easing]), directive(id="d2"))["foreign_person"] == ("d2",)


def test_an_exemption_for_whom_nobody_knows_eases_no_lab_employee() -> None:
    """Built past the reader, an unknown word is not read as one of the two that are known."""
    eased = directive(exempts=[exempt("lab_foreign_national_employees", "summit-4")])
    odd = replace(eased, exempts=(replace(eased.exempts[0], who="friends"),))
    assert set(blocks(odd, who=EMPLOYEE, of=LAB)) == set(BOTH)


def test_an_unknown_kind_of_exemption_eases_nobody() -> None:
    """Built past the reader, an exemption for whom nobody knows is none."""
    eased = directive(exempts=[exempt(ANNEX, "summit-4", annex_a=["t1"])])
    odd = replace(eased, exempts=(replace(eased.exempts[0], who="friends"),))
    assert set(blocks(odd)) == set(BOTH)


def test_the_boundaries_of_a_book_are_all_instants_of_its_directives() -> None:
    """Starts and ends of directives and of their exemptions, in order."""
    dates = {"from": "2026-06-26", "until": "2026-08-01"}
    dated = directive(**{"from": "2026-06-12", "until": "2026-09-01", "exempts": [exempt(ANNEX, "m", **dates)]})
    expected = [parse_instant(day) for day in ("2026-06-12", "2026-06-26", "2026-08-01", "2026-09-01")]
    assert list(OrderBook([dated]).boundaries) == expected


EASED = exempt(ANNEX, "a", annex_a=["t1", "t2"], **{"from": "2026-06-26", "until": "2026-08-01"})
OLD = directive(**{"from": "2026-06-12", "until": "2026-09-01", "models": ["a", "b"], "exempts": [EASED]})
EASING = OLD.exempts[0]


@pytest.mark.parametrize(
    ("changes", "looser"),
    [
        ({}, False),
        ({"models": frozenset(("a", "b", "c"))}, False),
        ({"models": frozenset(("a",))}, True),
        ({"models": frozenset(("a", "c"))}, True),
        ({"models": None}, False),
        ({"blocks": frozenset(("foreign_person",))}, True),
        ({"blocks": frozenset()}, False),
        ({"blocks": frozenset((*BOTH, "nonsense"))}, False),
        ({"blocks": frozenset(("nonsense",))}, False),
        ({"start": OLD.start + 1}, True),
        ({"start": OLD.start - 1}, False),
        ({"until": OLD.until - 1}, True),
        ({"until": OLD.until + 1}, False),
        ({"exempts": ()}, False),
        ({"exempts": OLD.exempts * 2}, False),
        ({"exempts": (*OLD.exempts, replace(EASING, annex=frozenset(("t3",))))}, True),
        ({"exempts": (replace(EASING, id="e2"),)}, False),
        ({"exempts": (replace(EASING, until=EASING.until - 1),)}, False),
        ({"exempts": (replace(EASING, until=EASING.until + 1),)}, True),
        ({"exempts": (replace(EASING, start=EASING.start + 1),)}, False),
        ({"exempts": (replace(EASING, start=EASING.start - 1),)}, True),
        ({"exempts": (replace(EASING, annex=frozenset(("t1",))),)}, False),
        ({"exempts": (replace(EASING, models=frozenset()),)}, False),
        ({"exempts": (replace(EASING, models=frozenset(("a", "b"))),)}, True),
        ({"exempts": (replace(EASING, who="lab_foreign_national_employees"),)}, True),
    ],
)
def test_which_amendments_loosen(changes: dict[str, Any], looser: bool) -> None:
    """Fewer models, fewer blocks, less time or an exemption beyond the old could turn a deny into an allow."""
    assert loosens(OLD, replace(OLD, **changes)) is looser


@pytest.mark.parametrize("models", [None, frozenset(("a",))])
def test_narrowing_a_directive_on_every_model_loosens(models: frozenset[str] | None) -> None:
    """From every model to some is fewer; from every to every is not."""
    everywhere = replace(OLD, models=None)
    assert loosens(everywhere, replace(OLD, models=models)) is (models is not None)


@pytest.mark.parametrize("listed", [frozenset(), frozenset(("nonsense",))])
def test_from_everyone_to_some_loosens(listed: frozenset[str]) -> None:
    """A directive that blocked everyone blocks fewer once it names its blocks."""
    everyone = replace(OLD, blocks=listed)
    assert loosens(everyone, OLD)
    assert not loosens(everyone, replace(OLD, blocks=frozenset()))
