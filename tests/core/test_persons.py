"""Persons (reference policy): US persons, counted countries under both tests, contradictions, evidence, screening."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.core.derive import NOBODY, Counted, counted_countries
from policy_engine.core.facts import NationalityTest, Person, UsStatus
from policy_engine.core.instants import DAY, ENDLESS, parse_instant
from tests.core.sample import GAZETTEER, NOW, foreigner, person, person_facets, tenant, tenant_facets, tie

VERIFIED = parse_instant("2026-03-01")
LONG_AGO = "2010-01-01"
LATER = "2026-12-01"
TODAY = "2026-08-10T12:00:00Z"
A_MICROSECOND_AHEAD = "2026-08-10T12:00:00.000001Z"


def ear(who: Person) -> Counted:
    """Return what counts for a person under the EAR test."""
    return counted_countries(who, NationalityTest.EAR, NOW, GAZETTEER)


def itar(who: Person) -> Counted:
    """Return what counts for a person under the ITAR test."""
    return counted_countries(who, NationalityTest.ITAR, NOW, GAZETTEER)


@pytest.mark.parametrize("status", list(UsStatus))
def test_citizen_national_lpr_refugee_and_asylee_are_us_persons(status: UsStatus) -> None:
    """`none` and `unknown` are not US persons; every other status is, whatever the citizenships."""
    facets = person_facets(person(us_status=status.value))
    assert facets.us_person is (status not in (UsStatus.NONE, UsStatus.UNKNOWN))


def test_an_absent_us_status_is_unknown() -> None:
    """Nobody is a US person because nothing was said."""
    assert person(us_status=None).us_status is UsStatus.UNKNOWN


def test_nothing_is_counted_for_a_us_person() -> None:
    """A US permanent resident of Iranian birth has no counted country; P7 does not look at them."""
    facets = person_facets(
        person(us_status="lpr", citizenships=[tie("IR", "birth")], permanent_residencies=[tie("US", "2020-01-01")])
    )
    assert facets.ear.codes == facets.itar.codes == frozenset()
    assert facets.ear.unknown == facets.itar.unknown == frozenset()


@pytest.mark.parametrize(
    ("citizenships", "residencies", "counted"),
    [
        ([tie("IN", "birth")], [], {"IN"}),
        ([tie("IR", "birth"), tie("CA", LONG_AGO)], [], {"CA"}),
        ([tie("CA", LONG_AGO), tie("IR", "birth")], [], {"CA"}),
        ([tie("IR", LONG_AGO), tie("CA", "birth")], [], {"IR"}),
        ([tie("IR", "birth")], [tie("CA", LONG_AGO)], {"CA"}),
        ([tie("CA", LONG_AGO)], [tie("CN", "2011-01-01")], {"CN"}),
        ([tie("CA", LONG_AGO), tie("CN", LONG_AGO)], [], {"CA", "CN"}),
        ([tie("CA", "birth"), tie("CN", "birth")], [], {"CA", "CN"}),
        ([tie("CA", LONG_AGO)], [tie("CN", LONG_AGO)], {"CA", "CN"}),
        ([tie("CA", LONG_AGO), tie("IR")], [], {"CA", "IR"}),
        ([tie("IR", "birth"), tie("CA")], [], {"IR", "CA"}),
        ([tie("CA"), tie("IR")], [], {"CA", "IR"}),
        ([tie("CA", "2020-01-01"), tie("IR", "birth"), tie("CN")], [], {"CA", "CN"}),
        ([tie("CA", LONG_AGO)], [tie("CN")], {"CA", "CN"}),
        ([tie("CA", LONG_AGO), tie("IR", LATER)], [], {"CA"}),
        ([tie("CA", LONG_AGO), tie("IR", TODAY)], [], {"IR"}),
        ([tie("CA", LONG_AGO), tie("IR", A_MICROSECOND_AHEAD)], [], {"CA"}),
        ([tie("CA", "birth"), tie("IR", "2020-01-01", current=False)], [], {"CA"}),
        ([tie("CA", "birth"), tie("IR", current=False)], [], {"CA"}),
        ([tie("CA", "birth")], [tie("CN", "2020-01-01", current=False)], {"CA"}),
        ([tie("HK", "birth")], [], {"CN"}),
        ([tie("LI", "birth")], [], {"CH"}),
        ([tie("KY", "birth")], [], {"GB"}),
        ([tie("XK", "birth")], [], {"XK"}),
    ],
)
def test_ear_counts_every_current_tie_that_could_be_the_most_recent(
    citizenships: list[dict[str, Any]], residencies: list[dict[str, Any]], counted: set[str]
) -> None:
    """The latest dated tie acquired by now and all undated ones; birth is earliest; two on one date both count."""
    found = ear(foreigner(*citizenships, permanent_residencies=residencies))
    assert found.codes == counted
    assert found.unknown == frozenset()


@pytest.mark.parametrize(
    ("citizenships", "residencies", "counted"),
    [
        ([tie("IR", "birth"), tie("CA", LONG_AGO)], [], {"IR", "CA"}),
        ([tie("IR", "birth", current=False), tie("CA", LONG_AGO)], [], {"IR", "CA"}),
        ([tie("CA", "birth")], [tie("CN", LONG_AGO)], {"CA", "CN"}),
        ([tie("CA", "birth")], [tie("CN", LONG_AGO, current=False)], {"CA", "CN"}),
        ([tie("CA", "birth"), tie("IR")], [], {"CA", "IR"}),
        ([tie("CA", "birth"), tie("IR", TODAY)], [], {"CA", "IR"}),
        ([tie("CA", "birth"), tie("IR", A_MICROSECOND_AHEAD)], [], {"CA"}),
        ([tie("HK", "birth"), tie("CN", LONG_AGO)], [], {"CN"}),
    ],
)
def test_itar_counts_all_citizenships_ever_held_and_all_residencies(
    citizenships: list[dict[str, Any]], residencies: list[dict[str, Any]], counted: set[str]
) -> None:
    """Former citizenships and ended residencies count as well; what is not yet acquired was never held."""
    found = itar(foreigner(*citizenships, permanent_residencies=residencies))
    assert found.codes == counted
    assert found.unknown == frozenset()


def test_a_tie_is_current_unless_it_says_otherwise() -> None:
    """`permanent_residencies` holds `{country, acquired}`: a tie without `current` is current."""
    assert ear(foreigner({"country": "IN", "acquired": LONG_AGO})).codes == {"IN"}


@pytest.mark.parametrize("count", [ear, itar])
def test_stateless_without_residency_has_nothing_to_count(count: Any) -> None:
    """P7 denies where nothing counts: known to hold none is still nothing."""
    assert count(foreigner()).unknown == {"nationality"}
    assert count(foreigner()).codes == frozenset()


def test_only_former_or_future_ties_leave_nothing_to_count_under_the_ear() -> None:
    """A given-up citizenship and one of next year do not count now."""
    assert ear(foreigner(tie("IN", "birth", current=False), tie("CA", LATER))).unknown == {"nationality"}
    assert itar(foreigner(tie("IN", "birth", current=False), tie("CA", LATER))).unknown == frozenset()


def test_a_stateless_person_counts_by_residency() -> None:
    """No citizenship and a residency: the residency counts."""
    found = ear(foreigner(permanent_residencies=[tie("DE", LONG_AGO)]))
    assert (found.codes, found.unknown) == ({"DE"}, frozenset())


@pytest.mark.parametrize("count", [ear, itar])
@pytest.mark.parametrize("name", ["citizenships", "permanent_residencies"])
def test_ties_that_nobody_stated_are_unknown_not_empty(count: Any, name: str) -> None:
    """An absent list is unknown: what counts cannot be told, whatever the other list holds."""
    who = foreigner(tie("IN", "birth"), permanent_residencies=[tie("IN", LONG_AGO)])
    facts = {"citizenships": who.citizenships, "permanent_residencies": who.permanent_residencies, name: None}
    assert count(Person("p", **facts)).unknown == {"counted"}
    assert count(Person("p", **facts)).codes == {"IN"}


def test_no_ties_stated_at_all_is_both_unknown_and_nothing() -> None:
    """Neither list stated: nothing counts, and what would cannot be told."""
    assert ear(Person("p")).unknown == {"counted", "nationality"}


@pytest.mark.parametrize("count", [ear, itar])
@pytest.mark.parametrize("code", ["ZZ", "in", None])
def test_a_counted_country_that_resolves_to_nothing_is_unresolved(count: Any, code: str | None) -> None:
    """P7 denies an unresolved country, also beside an unrestricted one; its raw code is kept for licences."""
    found = count(foreigner(tie("IN", LONG_AGO), tie(code, LONG_AGO)))
    assert (found.codes, found.unknown) == ({"IN"}, {"counted"})
    assert set(found.pairs) == {("IN", "IN"), (code, None)}


def test_an_unresolved_country_that_does_not_count_is_no_matter() -> None:
    """An older, dated tie to a code nobody knows cannot be the most recent."""
    assert ear(foreigner(tie("ZZ", "birth"), tie("IN", LONG_AGO))).unknown == frozenset()
    assert itar(foreigner(tie("ZZ", "birth"), tie("IN", LONG_AGO))).unknown == {"counted"}


def test_birth_country_never_counts() -> None:
    """Where somebody was born makes no facet differ."""
    assert person_facets(foreigner(tie("DE", "birth"), birth_country="IR")) == person_facets(
        foreigner(tie("DE", "birth"), birth_country="DE")
    )


@pytest.mark.parametrize(
    ("facts", "contradictory"),
    [
        ({"us_status": "none", "citizenships": [tie("US", "birth")]}, True),
        ({"us_status": "unknown", "citizenships": [tie("US", "birth")]}, True),
        ({"us_status": "none", "citizenships": [tie("IN", "birth"), tie("US")]}, True),
        ({"us_status": "none", "citizenships": [tie("PR", "birth")]}, True),
        ({"us_status": "none", "citizenships": [], "permanent_residencies": [tie("US", LONG_AGO)]}, True),
        ({"us_status": "unknown", "citizenships": None, "permanent_residencies": [tie("US", LONG_AGO)]}, True),
        ({"us_status": "none", "citizenships": [tie("US", "birth", current=False), tie("IN", LONG_AGO)]}, False),
        ({"us_status": "none", "citizenships": [tie("US", LATER), tie("IN", LONG_AGO)]}, False),
        ({"us_status": "none", "citizenships": [tie("US", TODAY), tie("IN", LONG_AGO)]}, True),
        ({"us_status": "none", "citizenships": [tie("IN", "birth")]}, False),
        ({"us_status": "citizen", "citizenships": [tie("US")]}, False),
        ({"us_status": "citizen", "citizenships": [tie("IN", "birth"), tie("US", LONG_AGO)]}, False),
        ({"us_status": "citizen", "citizenships": [tie("IN", "birth")]}, True),
        ({"us_status": "citizen", "citizenships": []}, True),
        ({"us_status": "citizen", "citizenships": None}, True),
        ({"us_status": "citizen", "citizenships": [tie("US", "birth", current=False)]}, True),
        ({"us_status": "citizen", "citizenships": [tie("US", A_MICROSECOND_AHEAD)]}, True),
        ({"us_status": "citizen", "citizenships": [], "permanent_residencies": [tie("US", LONG_AGO)]}, True),
        ({"us_status": "lpr", "citizenships": [tie("IN", "birth")]}, False),
        ({"us_status": "national", "citizenships": [tie("US", "birth")]}, False),
        ({"us_status": "asylee", "citizenships": []}, False),
        ({"us_status": "refugee", "citizenships": None, "permanent_residencies": None}, False),
    ],
)
def test_facts_about_the_united_states_contradict_each_other(facts: dict[str, Any], contradictory: bool) -> None:
    """A current US tie beside `none` or `unknown`, or `citizen` without one: no valid evidence anywhere.

    Control: policy_engine/core/derive.py `return "contradictory", ENDLESS`
    """
    assert person_facets(person(**facts)).evidence == ("contradictory" if contradictory else "valid")


def test_contradicting_facts_are_told_before_a_poor_level() -> None:
    """A contradiction is named as such even where the evidence would not be valid anyway."""
    who = person(us_status="none", nationality_evidence={"level": "declared"})
    assert person_facets(who).evidence == "contradictory"


@pytest.mark.parametrize("level", ["declared", "conflict", "none"])
def test_only_verified_evidence_can_be_valid(level: str) -> None:
    """Any other level stands by itself, whatever dates stand beside it."""
    who = person(nationality_evidence={"level": level, "verified_on": "2026-03-01", "expires_on": "2030-01-01"})
    assert person_facets(who).evidence == level


@pytest.mark.parametrize("evidence", [None, {}, {"verified_on": "2026-03-01"}, {"level": None}])
def test_absent_evidence_is_none(evidence: dict[str, Any] | None) -> None:
    """Evidence nobody stated, or of no level, is no evidence."""
    assert person_facets(person(nationality_evidence=evidence)).evidence == "none"


@pytest.mark.parametrize(
    ("expires_on", "at", "state"),
    [
        (None, VERIFIED - 1, "undated"),
        (None, VERIFIED, "valid"),
        (None, VERIFIED + 365 * DAY - 1, "valid"),
        (None, VERIFIED + 365 * DAY, "expired"),
        ("2026-06-01", parse_instant("2026-06-01") - 1, "valid"),
        ("2026-06-01", parse_instant("2026-06-01"), "expired"),
        ("2030-06-01", VERIFIED + 365 * DAY - 1, "valid"),
        ("2030-06-01", VERIFIED + 365 * DAY, "expired"),
        ("2026-03-01", VERIFIED, "expired"),
        ("2026-02-01", VERIFIED, "expired"),
    ],
)
def test_evidence_is_valid_from_verification_for_365_days_and_until_expiry(
    expires_on: str | None, at: int, state: str
) -> None:
    """`verified_on <= now < verified_on + 365 days`, and `now < expires_on` where given, to the microsecond."""
    evidence = {"level": "verified", "verified_on": "2026-03-01", "expires_on": expires_on}
    assert person_facets(person(nationality_evidence=evidence), at).evidence == state


def test_verified_without_a_date_is_not_valid() -> None:
    """Evidence that cannot be dated cannot be young enough."""
    assert person_facets(person(nationality_evidence={"level": "verified"})).evidence == "undated"


def test_a_lab_employee_counts_only_when_the_tenant_is_the_lab() -> None:
    """The flag stands on the person; whether the tenant is the lab is the tenant's facet."""
    assert person_facets(person(lab_employee=True)).lab_employee
    assert not person_facets(person(lab_employee=None)).lab_employee
    assert tenant_facets(tenant("lab")).is_lab
    assert not tenant_facets(tenant("t1", type="lab")).is_lab


def test_a_service_without_a_person_is_nobody() -> None:
    """No evidence, no US status, nothing counted; nobody to screen and nobody whose residence could be unknown."""
    facets = person_facets()
    assert facets is not NOBODY
    nobody = NOBODY
    assert (nobody.us_person, nobody.evidence, nobody.screening) == (False, "no-person", "none")
    assert nobody.unknown == {"nationality"}
    assert nobody.residence.codes == nobody.ear.codes == nobody.itar.codes == frozenset()
    assert nobody.until == ENDLESS


@pytest.mark.parametrize(
    ("match", "screening", "unknown"),
    [
        ("none", "none", set()),
        ("possible", "possible", set()),
        ("cleared", "cleared", set()),
        ("confirmed", "confirmed", set()),
        (None, "unscreened", {"screening"}),
    ],
)
def test_list_match_absent_or_null_is_never_screened(match: str | None, screening: str, unknown: set[str]) -> None:
    """The four words of the vocabulary stand for themselves; no word means that nobody looked."""
    facets = person_facets(person(list_match=match))
    assert (facets.screening, facets.unknown) == (screening, unknown)
    entity = tenant_facets(tenant(list_match=match))
    assert (entity.screening, entity.unknown) == ({screening}, unknown)
