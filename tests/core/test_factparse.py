"""Facts as documents: strict vocabularies, exact shares, bounded lists, and the path of whatever is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.factparse import (
    PERSON_FIELDS,
    TENANT_FIELDS,
    flag,
    instant,
    items,
    members,
    optional_instant,
    optional_text,
    parse_location,
    parse_person,
    parse_tenant,
    split_provenance,
    storable,
    text,
)
from policy_engine.core.facts import (
    BIRTH,
    Evidence,
    EvidenceLevel,
    ListMatch,
    Location,
    Owner,
    OwnerList,
    Person,
    Provenance,
    Tenant,
    TenantType,
    Tie,
    UsStatus,
)
from policy_engine.core.instants import parse_instant
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS

WHOLE_PERSON: dict[str, Any] = {
    "citizenships": [{"country": "IR", "acquired": "birth", "current": False}, {"country": "US"}],
    "permanent_residencies": [{"country": "DE", "acquired": "2010-05-01"}],
    "birth_country": "IR",
    "us_status": "citizen",
    "us_status_detail": "naturalised",
    "residence_country": "US",
    "residence_region": "US-CA",
    "nationality_evidence": {"level": "verified", "verified_on": "2026-03-01", "expires_on": None},
    "lab_employee": True,
    "list_match": "cleared",
    "tenants": ["t1", "t2"],
    "subject_type": "person",
}
WHOLE_TENANT: dict[str, Any] = {
    "type": "reseller",
    "incorporated_in": "US",
    "incorporated_in_region": "US-CA",
    "headquarters": "DE",
    "headquarters_region": "DE-BE",
    "ultimate_parent_headquarters": "GB",
    "owners": [{"name": "o", "country": "CN", "percent": 49.9, "list": "MEU"}, {"percent": None}],
    "list_match": "possible",
    "vetted_partner": True,
    "denied_by_lab": True,
    "end_customer": {"id": "t2", "type": "individual"},
    "end_customer_identified": True,
}


def where_refused(read: Any, *arguments: Any) -> str:
    """Return where a document was refused."""
    with pytest.raises(InputRefused) as found:
        read(*arguments)
    return str(found.value.where)


def test_every_fact_of_a_person_is_read() -> None:
    """Each field of the vocabulary has its place; birth country and prose have none."""
    assert set(WHOLE_PERSON) == PERSON_FIELDS
    assert parse_person("p1", WHOLE_PERSON) == Person(
        id="p1",
        citizenships=(Tie("IR", BIRTH, False), Tie("US", None, True)),
        permanent_residencies=(Tie("DE", parse_instant("2010-05-01"), True),),
        us_status=UsStatus.CITIZEN,
        residence_country="US",
        residence_region="US-CA",
        evidence=Evidence(EvidenceLevel.VERIFIED, parse_instant("2026-03-01"), None),
        lab_employee=True,
        list_match=ListMatch.CLEARED,
        tenants=frozenset(("t1", "t2")),
    )


def test_every_fact_of_a_tenant_is_read() -> None:
    """Each field of the vocabulary has its place."""
    assert set(WHOLE_TENANT) == TENANT_FIELDS
    assert parse_tenant("t1", WHOLE_TENANT) == Tenant(
        id="t1",
        type=TenantType.RESELLER,
        incorporated_in="US",
        incorporated_in_region="US-CA",
        headquarters="DE",
        headquarters_region="DE-BE",
        ultimate_parent_headquarters="GB",
        owners=(Owner("CN", Fraction(499, 10), OwnerList.MEU), Owner(None, None, None)),
        list_match=ListMatch.POSSIBLE,
        vetted_partner=True,
        denied_by_lab=True,
        end_customer=Tenant("t2", TenantType.INDIVIDUAL),
        end_customer_identified=True,
    )


def test_absent_facts_are_unknown() -> None:
    """Nothing said is nothing known, null and absent alike."""
    assert parse_person("p1", {}) == Person("p1") == parse_person("p1", dict.fromkeys(PERSON_FIELDS))
    assert parse_tenant("t1", {}) == Tenant("t1") == parse_tenant("t1", dict.fromkeys(TENANT_FIELDS))
    assert Person("p1").us_status is UsStatus.UNKNOWN
    assert (Person("p1").citizenships, Tenant("t1").owners) == (None, None)


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        ({"name": "x"}, "person"),
        ([], "person"),
        ({"us_status": "resident"}, "person.us_status"),
        ({"us_status": ["citizen"]}, "person.us_status"),
        ({"us_status_detail": 3}, "person.us_status_detail"),
        ({"birth_country": 3}, "person.birth_country"),
        ({"subject_type": "robot"}, "person.subject_type"),
        ({"citizenships": "US"}, "person.citizenships"),
        ({"citizenships": {"country": "US"}}, "person.citizenships"),
        ({"citizenships": ["US"]}, "person.citizenships[0]"),
        ({"citizenships": [{"country": 1}]}, "person.citizenships[0].country"),
        ({"citizenships": [{"acquired": "long ago"}]}, "person.citizenships[0].acquired"),
        ({"citizenships": [{}, {"current": "no"}]}, "person.citizenships[1].current"),
        ({"permanent_residencies": [{"until": "2020"}]}, "person.permanent_residencies[0]"),
        ({"residence_country": ""}, "person.residence_country"),
        ({"residence_region": 1}, "person.residence_region"),
        ({"nationality_evidence": "verified"}, "person.nationality_evidence"),
        ({"nationality_evidence": {"level": "good"}}, "person.nationality_evidence.level"),
        ({"nationality_evidence": {"verified_on": "x"}}, "person.nationality_evidence.verified_on"),
        ({"nationality_evidence": {"expires_on": 1}}, "person.nationality_evidence.expires_on"),
        ({"lab_employee": "yes"}, "person.lab_employee"),
        ({"lab_employee": 1}, "person.lab_employee"),
        ({"list_match": "maybe"}, "person.list_match"),
        ({"tenants": "t1"}, "person.tenants"),
        ({"tenants": 0}, "person.tenants"),
        ({"tenants": ""}, "person.tenants"),
        ({"tenants": [None]}, "person.tenants[0]"),
    ],
)
def test_a_malformed_person_is_refused_with_the_path(facts: Any, where: str) -> None:
    """Unknown members and values outside a vocabulary are refused where they stand."""
    assert where_refused(parse_person, "p1", facts) == where


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        ({"id": "t1"}, "tenant"),
        ({"type": "company"}, "tenant.type"),
        ({"incorporated_in": 1}, "tenant.incorporated_in"),
        ({"owners": "nobody"}, "tenant.owners"),
        ({"owners": [{"share": 1}]}, "tenant.owners[0]"),
        ({"owners": [{"name": 1}]}, "tenant.owners[0].name"),
        ({"owners": [{"list": "sdn"}]}, "tenant.owners[0].list"),
        ({"owners": [{"country": 1}]}, "tenant.owners[0].country"),
        ({"list_match": True}, "tenant.list_match"),
        ({"vetted_partner": "yes"}, "tenant.vetted_partner"),
        ({"denied_by_lab": 0}, "tenant.denied_by_lab"),
        ({"end_customer_identified": "no"}, "tenant.end_customer_identified"),
        ({"end_customer": "t2"}, "tenant.end_customer"),
        ({"end_customer": {"type": "lab"}}, "tenant.end_customer.id"),
        ({"end_customer": {"id": "t2", "kind": "lab"}}, "tenant.end_customer"),
        ({"end_customer": {"id": "t2", "end_customer": {"id": 3}}}, "tenant.end_customer.end_customer.id"),
    ],
)
def test_a_malformed_tenant_is_refused_with_the_path(facts: Any, where: str) -> None:
    """Lists are spelt `SDN, entity_list, MEU`; an end customer is an object with an id."""
    assert where_refused(parse_tenant, "t1", facts) == where


def test_a_refusal_names_the_field_and_never_the_value() -> None:
    """What a caller sent does not come back in the error."""
    with pytest.raises(InputRefused) as found:
        parse_person("p1", {"us_status": "planted-value"})
    assert "planted-value" not in str(found.value)
    assert str(found.value).startswith("person.us_status: must be one of citizen, national")


@pytest.mark.parametrize(
    ("written", "share"),
    [
        (49.9, Fraction(499, 10)),
        ("49.9", Fraction(499, 10)),
        (50, Fraction(50)),
        (50.0, Fraction(50)),
        (0, Fraction(0)),
        (100, Fraction(100)),
        (0.1, Fraction(1, 10)),
        (1e-05, Fraction(1, 100_000)),
        (33.333333333333336, Fraction("33.333333333333336")),
        ("49.99999999999999999", Fraction("49.99999999999999999")),
        (None, None),
    ],
)
def test_a_share_is_exact(written: Any, share: Fraction | None) -> None:
    """A share is what was written, not its binary neighbour; null is unknown."""
    assert parse_tenant("t1", {"owners": [{"percent": written}]}).owners == (Owner(None, share),)


@pytest.mark.parametrize(
    "written",
    [
        -0.1,
        -1,
        100.1,
        101,
        10**25,
        float("nan"),
        float("inf"),
        1e300,
        True,
        False,
        "",
        "half",
        "1/2",
        " 50",
        "1_0",
        "1e99999999",
        "1e-99999999",
        "\uff15\uff10",
        "50%",
        [50],
        {},
    ],
)
def test_a_share_that_is_no_number_from_0_to_100_is_refused(written: Any) -> None:
    """Nothing is guessed and no exponent is worked out."""
    assert where_refused(parse_tenant, "t1", {"owners": [{"percent": written}]}) == "tenant.owners[0].percent"


def test_a_share_of_thousands_of_digits_is_refused_like_any_other() -> None:
    """A number too long to be written as text is refused, not an error of the reader."""
    assert where_refused(parse_tenant, "t1", {"owners": [{"percent": 10**5_000}]}) == "tenant.owners[0].percent"


@given(st.decimals(0, 100, places=12))
def test_a_share_survives_storage(share: Any) -> None:
    """A number stored as its shortest decimal text is read back as the same share."""
    stored = storable({"percent": float(share)})
    assert isinstance(stored["percent"], str)
    direct = parse_tenant("t1", {"owners": [{"percent": float(share)}]}).owners
    assert parse_tenant("t1", {"owners": [stored]}).owners == direct


def test_storable_changes_floats_only_at_any_depth() -> None:
    """Everything else keeps its value; tuples become lists."""
    value = {"a": [1, 0.5, ("x", None, True)], "b": {"c": 2.0}}
    assert storable(value) == {"a": [1, "0.5", ["x", None, True]], "b": {"c": "2.0"}}


def chain(length: int) -> dict[str, Any]:
    """Return a tenant with end customers behind it, so many entities in all."""
    facts: dict[str, Any] = {"type": "reseller"}
    for number in range(length, 1, -1):
        facts = {"type": "reseller", "end_customer": {"id": f"t{number}", **facts}}
    return facts


def test_a_chain_may_be_long_and_not_endless() -> None:
    """At the limit accepted, one entity past it refused by the name of the limit."""
    tenant: Tenant | None = parse_tenant("t1", chain(LIMITS.chain_entities_count))
    count = 0
    while tenant is not None:
        count, tenant = count + 1, tenant.end_customer
    assert count == LIMITS.chain_entities_count
    with pytest.raises(TooLarge, match=f"longer than {LIMITS.chain_entities_count}"):
        parse_tenant("t1", chain(LIMITS.chain_entities_count + 1))


def test_lists_and_texts_are_bounded() -> None:
    """At the limit accepted, one past it refused by the name of the limit."""
    most, longest = LIMITS.list_items_count, LIMITS.text_characters
    assert len(items(["x"] * most, text, "list")) == most
    with pytest.raises(TooLarge, match=f"more than {most} items"):
        items(["x"] * (most + 1), text, "list")
    assert len(text("x" * longest, "text")) == longest
    with pytest.raises(TooLarge, match=f"longer than {longest} characters"):
        text("x" * (longest + 1), "text")


@pytest.mark.parametrize(
    ("written", "location"),
    [
        (None, None),
        ("US", Location("US")),
        ("UA-43", Location("UA", "UA-43")),
        ("UA-", Location("UA", "UA-")),
        ({}, Location()),
        ({"country": "US", "region": None, "anonymiser": None}, Location("US")),
        ({"country": "US", "region": "US-CA", "anonymiser": True}, Location("US", "US-CA", True)),
    ],
)
def test_a_location_is_a_code_or_an_object(written: Any, location: Location | None) -> None:
    """`"US"` is `{"country": "US", "region": null, "anonymiser": false}`; nothing said stays nothing."""
    assert parse_location(written) == location


@pytest.mark.parametrize(
    ("written", "where"),
    [
        ("", "location"),
        (7, "location"),
        (["US"], "location"),
        ({"city": "x"}, "location"),
        ({"country": 7}, "location.country"),
        ({"region": ""}, "location.region"),
        ({"anonymiser": "no"}, "location.anonymiser"),
    ],
)
def test_a_malformed_location_is_refused(written: Any, where: str) -> None:
    """A location is never mended."""
    assert where_refused(parse_location, written) == where


def test_provenance_is_split_from_values() -> None:
    """A register document gives the plain values and, beside them, where each comes from."""
    fact = {
        "value": "US",
        "method": "passport",
        "source": "desk",
        "assurance": "high",
        "verified_at": "2026-03-01",
        "expires_at": "2027-03-01T00:00:00Z",
        "verifier": "desk",
        "reference": "r1",
    }
    values, provenance = split_provenance({"facts": {"headquarters": fact, "owners": {}}}, "tenant")
    assert values == {"headquarters": "US", "owners": None}
    dates = (parse_instant("2026-03-01"), parse_instant("2027-03-01"))
    assert provenance == {
        "headquarters": Provenance("passport", "desk", "high", *dates, "desk", "r1"),
        "owners": Provenance(),
    }
    assert split_provenance({}, "tenant") == ({}, {})


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ([], "tenant"),
        ({"values": {}}, "tenant"),
        ({"facts": []}, "tenant.facts"),
        ({"facts": None}, "tenant.facts"),
        ({"facts": {"type": "lab"}}, "tenant.type"),
        ({"facts": {"type": {"worth": 1}}}, "tenant.type"),
        ({"facts": {"type": {"method": 1}}}, "tenant.type.method"),
        ({"facts": {"type": {"expires_at": "soon"}}}, "tenant.type.expires_at"),
    ],
)
def test_a_malformed_register_document_is_refused(document: Any, where: str) -> None:
    """A row that cannot be read is refused, so that its subject counts as unknown."""
    assert where_refused(split_provenance, document, "tenant") == where


def test_the_small_readers() -> None:
    """Optional values may be null; a flag is true or false and nothing that looks like it."""
    assert optional_text(None, "x") is None
    assert optional_instant(None, "x") is None
    assert instant("2026-03-01", "x") == parse_instant("2026-03-01")
    assert flag(False, "x") is False
    assert members({"a": 1}, frozenset("ab"), "x") == {"a": 1}
    assert where_refused(flag, 0, "x") == "x"
    assert where_refused(instant, "x" * 11, "x") == "x"
