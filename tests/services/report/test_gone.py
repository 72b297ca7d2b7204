"""What the report cannot count any more: erased, pruned, or not to be opened; how many that are is in it."""

from __future__ import annotations

import re
from pathlib import Path

from policy_engine.core.instants import DAY
from policy_engine.limits import LIMITS
from policy_engine.services.permissions import LOCAL
from policy_engine.services.report.gone import Gone, closed_of
from policy_engine.services.report.sections import ages
from policy_engine.services.report.service import Made
from tests.services.exports.office import Office
from tests.services.report.readhtml import Page, read
from tests.services.report.test_report import JUNE, facets, made, reports


def said(page: Page) -> str:
    """Return the words of a page with one blank between them."""
    return re.sub(r"\s+", " ", page.said())


def aged(office: Office, folder: Path) -> tuple[Made, Page]:
    """Write a report with ages and return it with its page, read."""
    found = reports(office).write(office.house["una"], JUNE, folder / "r.html", force=True, ages=True)
    return found, read((folder / "r.html").read_text(encoding="utf-8"))


def decide(office: Office, count: int, subject: str = "alice", evidence: str = "valid", **more: str) -> None:
    """Record decisions about somebody of GB."""
    one = facets("GB", evidence)
    office.decide(*(office.evaluation(subject=subject, facets=one, tier=4, **more) for _ in range(count)))


def erase(office: Office) -> None:
    """Erase alice, by two persons."""
    id = office.house.disposal.erasures.propose(office.house["quinn"], "alice", "case 7").proposal.id
    office.house.approvals.approve(office.house["paul"], id)


def test_what_is_gone_is_counted_and_named(office: Office, tmp_path: Path) -> None:
    """An erasure and a pruning take decisions out of every count of what is sealed; the report says how many."""
    house = office.house
    decide(office, 12)
    decide(office, 20, "bob")
    house.clock.at += 3 * DAY
    before = house.clock.at
    decide(office, 11, "bob")
    found, page = aged(office, tmp_path)
    text = said(page)
    nothing = {"groups": {"erased": 0, "pruned": 0}, "ages": {"erased": 0, "pruned": 0, "unreadable": 0}}
    assert {section: gone.members() for section, gone in found.gone.items()} == nothing
    assert "None of the 43 decisions was erased or pruned." in text
    assert "None of the decisions that reached the rules was erased or pruned, and all of them opened." in text
    erase(office)
    house.clock.at += 3 * DAY
    house.approvals.approve(house["paul"], house.disposal.retention.propose(house["rita"], before, "old").proposal.id)
    found, page = aged(office, tmp_path)
    text = said(page)
    assert page.problems == [] and found.decisions == 43 and "valid 11 0 11" in text
    lost = {"erased": 12, "pruned": 20}
    gone = {section: gone.members() for section, gone in found.gone.items()}
    assert gone == {"groups": lost, "ages": {**lost, "unreadable": 0}}
    assert "32 of the 43 decisions were erased or pruned (12 erased, 20 pruned). What was sealed in them is in" in text
    assert "32 of the decisions that reached the rules were erased or pruned (12 erased, 20 pruned): no class" in text
    found, page = made(office, tmp_path)
    assert list(found.gone) == ["groups"] and said(page).count("32 of the") == 1
    found = reports(office).write(LOCAL, JUNE, tmp_path / "local.html")
    assert found.gone == {}


def test_a_bounded_reader_learns_of_what_is_gone_of_its_tenants(office: Office, tmp_path: Path) -> None:
    """What was erased of other tenants' decisions is not in its numbers, and not in what they lack."""
    for tenant, count in (("acme", 12), ("lab", 15)):
        decide(office, count, tenant=tenant)
    erase(office)
    assert made(office, tmp_path, "bounded")[0].gone == {"groups": Gone(erased=12)}
    assert made(office, tmp_path)[0].gone == {"groups": Gone(erased=27)}


def test_what_does_not_open_is_named() -> None:
    """One entry or several: the ages say that they are in no class, whether or not something was erased besides."""
    closed = [{"entry": "1", "status": status, "note": "n"} for status in ("erased", "unreadable", "pruned", "erased")]
    assert closed_of(closed) == Gone(2, 1, 1) and closed_of([]) == Gone(0, 0, 0)
    text = ages([("unknown", 40)], closed_of(closed), 10).text
    assert "3 of the decisions that reached the rules were erased or pruned (2 erased, 1 pruned), and 1 entry" in text
    text = ages([("unknown", 40)], closed_of(closed[1:2] * 2), 10).text
    assert "None of the decisions that reached the rules was erased or pruned, and 2 entries do not open: no" in text
    assert "1 of the decisions that reached the rules was erased" in ages([], closed_of(closed[:1]), 10).text


def test_what_has_no_state_of_evidence_is_counted(office: Office, tmp_path: Path) -> None:
    """The states do not add up to the decisions where some never reached the rules, and the report says how many."""
    decide(office, 12)
    office.decide(*(office.evaluation(facets={}, tier=4) for _ in range(3)))
    _, page = made(office, tmp_path)
    assert "decisions was erased or pruned. 3 more have no state of evidence" in said(page)


def test_what_is_gone_hides_no_small_number(office: Office, tmp_path: Path) -> None:
    """How many are gone is on the page, so the rest of the states is what is left without them."""
    least = LIMITS.small_group_decisions_count
    for evidence, count in (("valid", 3 * least), ("declared", 2 * least), ("expired", 3)):
        decide(office, count, "bob", evidence)
    decide(office, least)
    erase(office)
    _, page = made(office, tmp_path)
    text = said(page)
    assert f"{least} of the {6 * least + 3} decisions were erased or pruned" in text
    assert f"valid {3 * least} 0 {3 * least}" in text and "declared withheld 0 withheld" in text
