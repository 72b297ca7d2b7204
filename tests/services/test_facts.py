"""Facts as a service: stamping, whose facts nobody may set, imports that are whole or nothing, reads on the record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.instants import DAY, format_instant
from policy_engine.errors import Conflict, InputRefused, NotFound, NotPermitted, TooLarge
from policy_engine.ledger.sealing import tag
from policy_engine.limits import Limits
from policy_engine.services.facts import Facts
from policy_engine.services.permissions import LOCAL
from policy_engine.store.interfaces import Change, Write
from tests.services.governed import PEOPLE, VOCABULARY, House, open_house, person

INDIAN = {"us_status": "none", "residence_country": "IN", "tenants": ["acme"]}


def test_facts_are_stamped_from_the_callers_key(house: House) -> None:
    """Each fact carries its provenance, with the person as verifier and their key as source, and raises no epoch."""
    before = house.store.state()
    given = {"value": "none", "method": "document-check", "expires_at": "2027-01-01", "reference": "case 7"}
    house.facts.set_facts(house["olga"], "persons", "ines", {"us_status": given, "residence_country": "US"})
    after = house.store.state()
    shown = house.facts.show(house["olga"], "persons", "ines").facts
    assert shown["us_status"] == {
        "value": "none",
        "method": "document-check",
        "assurance": None,
        "verified_at": None,
        "expires_at": "2027-01-01T00:00:00Z",
        "reference": "case 7",
        "source": "olga",
        "verifier": "olga",
    }
    assert shown["residence_country"]["value"] == "US"
    assert (after.epoch, after.facts_revision) == (before.epoch, before.facts_revision + 1)


def test_the_stamp_names_person_and_key(house: House) -> None:
    """A person's second key is another source and the same verifier."""
    house.facts.set_facts(house["olga-2"], "persons", "ines", INDIAN)
    fact = house.facts.show(house["olga"], "persons", "ines").facts["us_status"]
    assert (fact["source"], fact["verifier"]) == ("olga-2", "olga")


def test_provenance_of_a_row_holds_for_its_plain_values(house: House) -> None:
    """Provenance given for all is overridden by what a field says itself, member by member."""
    fields = {"us_status": {"value": "lpr", "method": "phone"}, "residence_country": "US"}
    common = {"method": "document-check", "assurance": "IAL2"}
    house.facts.set_facts(house["olga"], "persons", "mina", fields, provenance=common)
    facts = house.facts.show(house["olga"], "persons", "mina").facts
    assert [(facts[name]["method"], facts[name]["assurance"]) for name in fields] == [
        ("phone", "IAL2"),
        ("document-check", "IAL2"),
    ]


def test_fields_that_are_not_named_stay(house: House) -> None:
    """Setting one fact keeps the others with their provenance; setting the same again is a conflict."""
    house.facts.set_facts(house["olga"], "persons", "ines", INDIAN)
    house.facts.set_facts(house["quinn"], "persons", "ines", {"us_status": "lpr"})
    row = house.facts.show(house["olga"], "persons", "ines")
    assert (row.facts["us_status"]["verifier"], row.facts["residence_country"]["verifier"]) == ("quinn", "olga")
    assert row.revision == 2
    with pytest.raises(Conflict, match="already"):
        house.facts.set_facts(house["quinn"], "persons", "ines", {"us_status": "lpr"})


@pytest.mark.parametrize(
    ("register", "fields", "where"),
    [
        ("persons", {"us_status": "probably-planted"}, "persons.us_status"),
        ("persons", {"mother": "planted"}, "persons"),
        ("persons", {"us_status": {"value": "none", "source": "me"}}, "persons.us_status.source"),
        ("persons", {"us_status": {"value": "none", "verifier": "me"}}, "persons.us_status.verifier"),
        ("persons", {"us_status": {"value": "none", "proof": "x"}}, "persons.us_status"),
        ("persons", {"us_status": {"value": "none", "expires_at": "soon"}}, "persons.us_status.expires_at"),
        ("persons", {"tenants": ["acme", "planted-tenant"]}, "persons.tenants"),
        ("persons", {"tenants": "acme"}, "persons.tenants"),
        ("tenants", {"owners": [{"percent": 120}]}, "tenants.owners[0].percent"),
        ("tenants", {"type": "company"}, "tenants.type"),
        ("orders", {"us_status": "none"}, "register"),
        ("persons", {}, "facts"),
    ],
)
def test_malformed_facts_are_refused(house: House, register: str, fields: dict[str, Any], where: str) -> None:
    """What is malformed is refused with the place of the field, never its value, and nothing is written."""
    before = house.kinds()
    with pytest.raises(InputRefused) as refused:
        house.facts.set_facts(house["olga"], register, "someone", fields)
    assert where in (refused.value.where, "register")
    assert "planted" not in str(refused.value)
    assert house.kinds() == before


def test_ids_have_bounds(house: House) -> None:
    """An empty id and one a character too long are refused; the longest is not."""
    for id in (" ", "a\x00b", "x" * 257):
        with pytest.raises(InputRefused, match="characters"):
            house.facts.set_facts(house["olga"], "persons", id, INDIAN)
    house.facts.set_facts(house["olga"], "persons", "x" * 256, INDIAN)


def test_nobody_sets_facts_about_themselves(house: House) -> None:
    """A person's own row is closed to every key of theirs and to any spelling of their name, alone or in an import."""
    for id in ("olga", "OLGA"):
        for key in ("olga", "olga-2"):
            with pytest.raises(NotPermitted, match="themselves"):
                house.facts.set_facts(house[key], "persons", id, INDIAN)
        with pytest.raises(NotPermitted, match="themselves"):
            house.facts.import_rows(house["olga"], [{"id": "ines", **INDIAN}, {"id": id, **INDIAN}], register="persons")
    assert house.store.rows("persons") == []
    house.facts.set_facts(house["quinn"], "persons", "olga", INDIAN)


def test_nobody_sets_facts_of_the_individual_tenant_they_are(house: House) -> None:
    """The facts of an individual tenant are facts about its member; making one's company individual changes nothing."""
    house.facts.set_facts(house["quinn"], "persons", "olga", {"tenants": ["solo", "acme"]})
    with pytest.raises(NotPermitted, match="themselves"):
        house.facts.set_facts(house["olga"], "tenants", "solo", {"vetted_partner": True})
    with pytest.raises(NotPermitted, match="themselves"):
        house.facts.set_facts(house["olga"], "tenants", "solo", {"type": "enterprise"})
    with pytest.raises(NotPermitted, match="themselves"):
        house.facts.set_facts(house["olga"], "tenants", "olga", {"type": "individual"})
    house.facts.set_facts(house["olga"], "tenants", "acme", {"headquarters": "US"})
    house.facts.set_facts(house["quinn"], "tenants", "solo", {"vetted_partner": True})


def test_a_key_bounded_to_tenants_sets_their_facts_only(house: House) -> None:
    """A bounded key reaches its tenants and persons who belong to no other, before and after."""
    with pytest.raises(NotPermitted):
        house.facts.set_facts(house["bounded"], "tenants", "lab", {"headquarters": "US"})
    with pytest.raises(NotPermitted):
        house.facts.set_facts(house["bounded"], "persons", "ines", {"us_status": "none"})
    with pytest.raises(NotPermitted):
        house.facts.set_facts(house["bounded"], "persons", "ines", {"tenants": ["acme", "lab"]})
    house.facts.set_facts(house["bounded"], "tenants", "acme", {"headquarters": "US"})
    house.facts.set_facts(house["bounded"], "persons", "ines", INDIAN)
    house.facts.set_facts(house["olga"], "persons", "greg", {"tenants": ["lab"]})
    with pytest.raises(NotPermitted):
        house.facts.set_facts(house["bounded"], "persons", "greg", {"tenants": ["acme"]})
    with pytest.raises(NotPermitted):
        house.facts.show(house["bounded"], "persons", "greg")
    assert house.facts.show(house["bounded"], "persons", "ines").id == "ines"


def rows_of(count: int) -> list[dict[str, Any]]:
    """Return rows of an import: one tenant at the end, and persons who belong to it."""
    people = [{"register": "persons", "id": f"p{n:04}", "us_status": "none", "tenants": ["new"]} for n in range(count)]
    return [*people, {"register": "tenants", "id": "new", "type": "enterprise", "provenance": {"method": "extract"}}]


def test_an_import_is_one_transaction_of_bounded_entries(house: House) -> None:
    """Rows go into entries of at most 256, all in one batch; a tenant of the same import may come after its members."""
    steps: list[tuple[int, int]] = []
    imported = house.facts.import_rows(house["olga"], rows_of(600), lambda *step: steps.append(step))
    assert (imported.changed_count, imported.unchanged_count) == (601, 0)
    assert house.kinds()[1:] == ["facts.imported"] * 3
    assert (len(house.store.rows("persons")), steps) == (600, [(256, 601), (512, 601), (601, 601)])
    with house.store.view() as view:
        assert [batch.n for batch in view.scan_batches()] == [1, 3]
    assert house.store.row("tenants", "new").document["facts"]["type"]["method"] == "extract"
    assert house.evidence.verify().findings == ()


def test_an_import_may_be_repeated(house: House) -> None:
    """Importing the same again changes nothing; with one row changed it writes that row."""
    house.facts.import_rows(house["olga"], rows_of(3))
    again = house.facts.import_rows(house["olga"], rows_of(3))
    assert (again.changed_count, again.unchanged_count, again.committed) == (0, 4, None)
    changed = [{**rows_of(3)[0], "us_status": "lpr"}, *rows_of(3)[1:]]
    assert house.facts.import_rows(house["olga"], changed).changed_count == 1


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda rows: rows.append({"register": "persons", "id": "bad", "us_status": "planted"}), "row 5"),
        (lambda rows: rows.append(dict(rows[0])), "row 5"),
        (lambda rows: rows.append({"register": "persons", "id": "bad", "tenants": ["nowhere"]}), "row 5.tenants"),
        (lambda rows: rows.append({"register": "orders", "id": "bad"}), "row 5.register"),
        (lambda rows: rows.append({"register": "persons", "us_status": "none"}), "row 5.id"),
        (lambda rows: rows.append({"register": "persons", "id": 7}), "row 5.id"),
        (lambda rows: rows.append(["persons", "bad"]), "row 5"),
        (lambda rows: rows.insert(0, {"register": "persons", "id": "b", "provenance": {"source": "x"}}), "row 1"),
    ],
)
def test_an_import_with_one_bad_row_writes_nothing(
    house: House, spoil: Callable[[list[Any]], None], problem: str
) -> None:
    """One bad row anywhere refuses the whole import, named by its number; no row of it is written."""
    rows: list[Any] = rows_of(3)
    spoil(rows)
    with pytest.raises(InputRefused) as refused:
        house.facts.import_rows(house["olga"], rows)
    assert (refused.value.where or "").startswith(problem)
    assert house.store.rows("persons") == [] and house.kinds() == ["genesis"]


def test_an_import_that_loses_a_race_writes_nothing(house: House) -> None:
    """When a row of a late entry changed after it was checked, nothing of the import is written, early entries too."""
    rows = rows_of(300)

    def meanwhile(done: int, total: int) -> None:
        if done == total:
            return
        if house.store.row("persons", "p0299") is None:
            house.facts.set_facts(house["quinn"], "persons", "p0299", {"us_status": "citizen"})

    broken = dataclasses.replace(Limits(), rows_per_entry_count=100)
    facts = Facts(house.store, house.recorder, lambda hash: VOCABULARY, limits=broken)
    read = house.store.row

    def row(register: str, id: str) -> Any:
        found = read(register, id)
        return None if id == "p0299" and register == "persons" else found

    house.store.row = row  # type: ignore[method-assign]  # the read that was overtaken by the other writer
    try:
        with pytest.raises(Conflict):
            facts.import_rows(house["olga"], rows, meanwhile)
    finally:
        del house.store.row
    assert [row.id for row in house.store.rows("persons")] == ["p0299"]


def test_imports_have_bounds(house: House) -> None:
    """An import of no rows is refused, and one of a row too many by the name of its limit; the largest is not."""
    small = Facts(
        house.store, house.recorder, lambda hash: VOCABULARY, limits=dataclasses.replace(Limits(), import_rows_count=4)
    )
    with pytest.raises(InputRefused, match="no row"):
        small.import_rows(house["olga"], [])
    with pytest.raises(TooLarge, match="4 rows"):
        small.import_rows(house["olga"], rows_of(4))
    assert small.import_rows(house["olga"], rows_of(3)).changed_count == 4


def test_reading_a_person_is_recorded_first(house: House) -> None:
    """Showing a person writes a `read` entry, found by the person's tag, whose public part does not name them."""
    house.facts.set_facts(house["olga"], "persons", "planted-reader", INDIAN)
    house.facts.show(house["olga"], "persons", "planted-reader")
    (_, seq, public), *_ = house.store.entries(newest_first=True)
    entry = json.loads(public)
    assert (entry["kind"], entry["by"], entry["register"]) == ("read", "olga", "persons")
    assert b"planted-reader" not in public
    found = tag(house.vault.period_key("2026"), "subject", "planted-reader")
    assert [place for _, place in house.store.tagged([found])] == [seq]


def test_who_reads_facts(house: House) -> None:
    """Persons are read with `facts:write` or `audit:unseal`; companies also with `audit:read`, without an entry."""
    house.facts.set_facts(house["olga"], "persons", "ines", INDIAN)
    readers = {"clerk": person("clerk", "audit:read"), "writer": person("writer", "orders:write")}
    issued = {name: house.keys.create(house["olga"], request) for name, request in readers.items()}
    for key in issued.values():
        house.approvals.approve(house["paul"], key.proposal)
    clerk, writer = (house.keys.authenticate(issued[name].secret, house.clock()) for name in ("clerk", "writer"))
    assert house.facts.show(house["auditor"], "persons", "ines").revision == 1
    reads = house.kinds().count("read")
    assert house.facts.show(clerk, "tenants", "acme").facts["type"]["value"] == "enterprise"
    assert house.kinds().count("read") == reads
    house.facts.show(house["auditor"], "tenants", "solo")
    assert house.kinds().count("read") == reads + 1
    for principal in (clerk, writer, house["gateway"], LOCAL):
        for register, id in (("persons", "ines"), ("tenants", "solo")):
            with pytest.raises(NotPermitted):
                house.facts.show(principal, register, id)
    with pytest.raises(NotFound):
        house.facts.show(house["olga"], "persons", "nobody")
    assert house.kinds().count("read") == reads + 1


def test_who_writes_facts(house: House) -> None:
    """Facts need a person's key with `facts:write`."""
    for principal in (LOCAL, house["gateway"], house["paul"], house["auditor"]):
        with pytest.raises(NotPermitted):
            house.facts.set_facts(principal, "persons", "ines", INDIAN)
        with pytest.raises(NotPermitted):
            house.facts.import_rows(principal, rows_of(1))
    assert house.store.rows("persons") == []


def test_expiring_lists_what_ends_soonest_first(house: House) -> None:
    """Facts up to the horizon are listed, expired ones too; verified evidence ends by its own dates and by 365 days."""
    now = house.clock()

    def on(days: int) -> str:
        return format_instant(now + days * DAY)

    def evidence(verified: int, expires: int | None, level: str = "verified") -> dict[str, Any]:
        ends = None if expires is None else on(expires)
        return {"nationality_evidence": {"level": level, "verified_on": on(verified), "expires_on": ends}}

    house.facts.set_facts(house["olga"], "persons", "a", evidence(-360, 400))
    house.facts.set_facts(house["olga"], "persons", "b", evidence(-10, 30))
    house.facts.set_facts(house["olga"], "persons", "c", evidence(-10, 31))
    house.facts.set_facts(house["olga"], "persons", "d", evidence(-400, None, "declared"))
    stale = {"list_match": {"value": "cleared", "expires_at": on(-1)}}
    house.facts.set_facts(house["olga"], "tenants", "acme", stale)
    found = house.facts.expiring(house["olga"], 30)
    assert [(item.register, item.id, item.field, (item.expires_at - now) // DAY) for item in found] == [
        ("tenants", "acme", "list_match", -1),
        ("persons", "a", "nationality_evidence", 5),
        ("persons", "b", "nationality_evidence", 30),
    ]
    assert house.kinds()[-1] == "read"
    assert [item.id for item in house.facts.expiring(house["bounded"], 30)] == ["acme"]
    for days in (-1, 36_501):
        with pytest.raises(InputRefused, match="days"):
            house.facts.expiring(house["olga"], days)
    with pytest.raises(NotPermitted):
        house.facts.expiring(house["paul"], 30)


def test_expiring_passes_over_a_row_that_cannot_be_read(tmp_path: Path) -> None:
    """A damaged row has no endings in the list, and a database without a release counts 365 days."""
    house = open_house(tmp_path, PEOPLE, release=False)
    good = {"nationality_evidence": {"level": "verified", "verified_on": format_instant(house.clock() - 364 * DAY)}}
    house.facts.set_facts(house["olga"], "persons", "a", good)
    damaged = Write("persons", "b", {"facts": {"us_status": {"value": 7}}}, 0)
    house.store.change(Change("facts.set", {}, (damaged,), raises_epoch=False))
    assert [item.id for item in house.facts.expiring(house["olga"], 1)] == ["a"]
    house.close()
