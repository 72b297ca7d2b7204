"""The report as a whole: its numbers are the log's, it stands by itself, and it holds nobody's facts."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.decision import Outcome, Principal, Reason
from policy_engine.core.instants import DAY, SECOND, parse_instant
from policy_engine.errors import Conflict, NotPermitted
from policy_engine.ledger.encoding import parse_public
from policy_engine.limits import LIMITS
from policy_engine.services.evidenceage import Rested
from policy_engine.services.exports.service import Target
from policy_engine.services.exports.source import Asked, pages
from policy_engine.services.permissions import LOCAL
from policy_engine.services.questions import PublicTerm, Question
from policy_engine.services.report import keyed as keyed_room
from policy_engine.services.report import sections
from policy_engine.services.report.gathered import (
    AT_THE_BEGINNING,
    CHANGED_KEPT_COUNT,
    LISTED_COUNT,
    Gathered,
    gather,
)
from policy_engine.services.report.keyed import US_PERSONS, Alike, count_keyed
from policy_engine.services.report.period import Period, parse_period
from policy_engine.services.report.service import AGE_CLASSES, Made, Reports
from policy_engine.services.unseal import Unsealer
from tests.services.exports.office import MARKUP, RELEASE, Office, OneRelease, denied
from tests.services.governed import RETENTION_DAYS, START
from tests.services.report.readhtml import Page, read

JUNE = parse_period("2026-06")


def reports(office: Office) -> Reports:
    """Return the service over an office."""
    house = office.house
    return Reports(house.store, house.evidence, house.recorder, house.vault, OneRelease())


def made(office: Office, folder: Path, who: str | Principal = "reader", period: Period = JUNE) -> tuple[Made, Page]:
    """Write a report and return it with its page, read."""
    principal = office.house[who] if isinstance(who, str) else who
    found = reports(office).write(principal, period, folder / "r.html", force=True)
    return found, read((folder / "r.html").read_text(encoding="utf-8"))


def gathered(office: Office, period: Period = JUNE) -> Gathered:
    """Return what one pass over a period counts."""
    asked = Asked("", Question(since=period.since, until=period.until))
    store, evidence = office.house.store, office.house.evidence
    return gather(period, pages(store, evidence, LOCAL, asked), 1_000_000, one_log=True)


def facets(country: str, evidence: str = "valid") -> dict[str, object]:
    """Return the facets of a foreign person, or of a US person for `US`."""
    us = country == "US"
    return {
        "location": frozenset({country}),
        "counted": frozenset() if us else frozenset({country}),
        "us_person": "yes" if us else "no",
        "evidence": evidence,
    }


@pytest.fixture
def june(office: Office) -> Office:
    """An office with two weeks of decisions from five countries, a switch, its release, a gap and a sealed reading."""
    house = office.house
    for number in range(120):
        house.clock.at = START + number * 3 * 3_600 * SECOND
        country = ("US", "CN", "GB", "DE", "IN")[number % 5]
        more = {"facets": facets(country, "expired" if number % 6 == 0 else "valid"), "tier": 4 + number % 2}
        office.decide(office.evaluation(**more) if number % 3 else denied(office, **more))
        if number == 40:
            house.switches.engage(house["quinn"], "sw-1", {"models": ["fable-5"]}, "the-reason-is-not-public")
        if number == 60:
            house.approvals.approve(house["paul"], house.switches.release(house["quinn"], "sw-1", "over").id)
        if number == 80:
            house.recorder.missed("log.unavailable")
        if number == 90:
            house.evidence.read_body(house["una"], 3)
    return office


def test_its_numbers_are_those_of_the_log(june: Office) -> None:
    """Outcomes, reasons, models, tiers, bars and kinds, counted once more by hand, are the same."""
    found, publics = gathered(june), june.publics()
    decisions = [public for public in publics if public["kind"] == "decision"]
    assert found.entries == len(publics) and found.decisions == len(decisions) == 120
    assert found.kinds == Counter(public["kind"] for public in publics)
    assert found.outcomes == Counter(public["outcome"] for public in decisions)
    assert found.tiers == Counter((str(public["tier"]), public["outcome"]) for public in decisions)
    assert found.bars == Counter(((public["at"] - JUNE.since) // DAY, public["outcome"]) for public in decisions)
    assert found.reasons == Counter({("P7", "nationality.restricted"): found.outcomes["deny"]})
    assert found.missed == 1 and [event.about for event in found.marks.events] == ["sw-1", "sw-1"]
    assert found.verdicts.keys() == {(public["log"], public["seq"]) for public in decisions}


def test_a_period_leaves_out_what_lies_outside(june: Office) -> None:
    """The first instant counts, the last does not."""
    first = june.publics()[10]["at"]
    last = june.publics()[20]["at"]
    wanted = [public for public in june.publics() if first <= public["at"] < last]
    found = gathered(june, Period("p", first, last))
    assert found.entries == len(wanted) and last not in {public["at"] for public in wanted}


def test_epochs_and_releases_are_those_of_the_log(june: Office) -> None:
    """Each change of the epoch is in the list, with its instant and what began it."""
    found = gathered(june)
    publics = june.publics()
    changed = [public for before, public in pairwise(publics) if before["epoch"] != public["epoch"]]
    assert [(era.epoch, era.at, era.kind) for era in found.eras.events[1:]] == [
        (public["epoch"], public["at"], public["kind"]) for public in changed
    ]


def test_a_decision_counts_once_for_an_order_and_a_reason(office: Office) -> None:
    """One directive can be behind two reasons, and two rows behind one reason; the decision is one all the same."""
    reasons = tuple(Reason(code, "P6", orders=("dir-1",)) for code in ("foreign", "foreign", "destination"))
    office.decide(office.evaluation(outcome=Outcome.DENY, reasons=reasons))
    found = gathered(office)
    assert found.orders == {"dir-1": 1}
    assert found.reasons == {("P6", "foreign"): 1, ("P6", "destination"): 1}


def test_a_period_that_begins_with_a_change_of_facts(june: Office) -> None:
    """Facts begin no epoch: what was in force before the period began is said to have been so."""
    house = june.house
    house.clock.at += DAY
    since = house.clock.at
    house.facts.set_facts(house["quinn"], "persons", "somebody", {"residence_country": "DE"})
    june.decide(june.evaluation())
    found = gathered(june, Period("p", since, since + DAY))
    assert [(era.kind, era.at) for era in found.eras.events] == [(AT_THE_BEGINNING, since)]
    log = gathered(june, Period("p", START - DAY, since))
    assert log.in_force.events[0].kind == "genesis"  # and so its stretch begins there, and not with the period


def test_a_reader_bounded_to_tenants_sees_no_change(june: Office) -> None:
    """To them no decision began an epoch."""
    asked = Asked("", Question(since=JUNE.since, until=JUNE.until, public=(PublicTerm("kind", ("decision",)),)))
    found = gather(JUNE, pages(june.house.store, june.house.evidence, LOCAL, asked), 10, one_log=True)
    assert [era.kind for era in found.eras.events] == [AT_THE_BEGINNING, "-", "-"]


def test_keyed_counts_are_those_of_the_sealed_parts(june: Office) -> None:
    """Counting by tags, without opening anything, gives what opening everything gives."""
    found, store = gathered(june), june.house.store
    keyed = count_keyed(store, june.house.vault, OneRelease(), found, LIMITS.small_group_decisions_count)
    unsealer = Unsealer(june.house.vault, store.data_key)
    groups: Counter[tuple[str, str]] = Counter()
    evidence: Counter[tuple[str, str]] = Counter()
    assert RELEASE.basis is not None
    tables = RELEASE.basis.read.ground.tables.groups.values()
    for (log_id, seq), ((outcome, tier, _), instant) in found.verdicts.items():
        entry = store.entry(log_id, seq)
        tagged = unsealer.body(entry, parse_public(entry.public))["tagged"]
        for table in tables:
            edition = table.members[max(0, sum(start <= instant for start in table.starts) - 1)]
            groups.update((name, tier) for name, members in edition.items() if members & set(tagged["counted"]))
        evidence[tagged["evidence"][0], outcome] += 1
        groups[US_PERSONS, tier] += tagged["us_person"] == ["yes"]
    assert keyed.evidence == evidence
    assert {cell: count for cell, count in keyed.groups.items() if count} == {c: n for c, n in groups.items() if n}
    assert keyed.groups["D:5", "4"] > 0


def test_a_person_gets_keyed_counts_after_their_entry(
    june: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting by what is sealed is a read that is durable before it is made; nobody else gets any of it."""
    before = june.house.kinds()
    seen: list[list[str]] = []
    real = keyed_room.count_keyed

    def counting(*given):
        seen.append(june.house.kinds())
        return real(*given)

    monkeypatch.setattr("policy_engine.services.report.service.count_keyed", counting)
    found, page = made(june, tmp_path)
    assert seen == [[*before, "read"]] and found.keyed
    entry = june.publics()[-1]
    assert (entry["what"], entry["by_sealed"]) == ("report", ["counted", "evidence", "us_person"])
    assert "D:5" in page.said() and "Sealed." in page.said()
    found, page = made(june, tmp_path, LOCAL)
    assert len(seen) == 1 and not found.keyed and june.house.kinds() == [*before, "read"]
    assert "D:5" not in page.said() and "is sealed. A person's key" in page.said()


def test_ages_are_counted_for_whoever_may_unseal(june: Office, tmp_path: Path) -> None:
    """With `ages` every decision is opened and counted once, after an entry that says so; others are refused."""
    before = june.house.kinds()
    reports(june).write(june.house["una"], JUNE, tmp_path / "r.html", ages=True)
    assert june.house.kinds() == [*before, "read", "read"]
    page = read((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.problems == [] and re.search(r"unknown\s+120\b", page.said())
    with pytest.raises(NotPermitted):
        reports(june).write(june.house["reader"], JUNE, tmp_path / "q.html", ages=True)
    assert not (tmp_path / "q.html").exists()


def test_classes_of_age_are_those_that_decisions_get() -> None:
    """Every class that evidence can have is shown, and shown in order."""
    ages = [None, 0, 30, 31, 90, 180, 365, 366]
    found = [Rested("1", 0, "allow", "s", "l", "m", "a", age, (), (), ()).age for age in ages]
    assert set(found) == set(AGE_CLASSES)
    assert list(dict.fromkeys(found[1:])) == list(AGE_CLASSES[:-1])


def test_without_the_scope_there_is_no_report(june: Office, tmp_path: Path) -> None:
    """A key that may not read the log gets no file."""
    with pytest.raises(NotPermitted):
        made(june, tmp_path, "writer")
    assert not (tmp_path / "r.html").exists()


def test_a_key_bounded_to_tenants_sees_its_own(june: Office, tmp_path: Path) -> None:
    """Decisions of other tenants are not counted, and the report says whose it is of."""
    june.decide(june.evaluation(tenant="lab"))
    found, page = made(june, tmp_path, "bounded")
    assert found.decisions == 120 and "acme only" in page.said() and "lab" not in page.said().split()


def test_small_groups_are_not_broken_down(office: Office, tmp_path: Path) -> None:
    """Fewer decisions about a group than the limit: the group is named as small, and no number of it is shown."""
    least = LIMITS.small_group_decisions_count
    office.decide(*(office.evaluation(facets=facets("CN"), tier=4) for _ in range(least - 1)))
    office.decide(*(office.evaluation(facets=facets("GB"), tier=4 + (number == 0)) for number in range(least + 1)))
    _, page = made(office, tmp_path)
    text = re.sub(r"\s+", " ", page.said())
    assert f"Groups with under {least} decisions:" in text and "D:5" in text.split("Groups with under")[1]
    assert f"A:5 {least} under {least} withheld" in text


def test_no_small_number_can_be_had_by_subtraction(office: Office, tmp_path: Path) -> None:
    """Armenia is in D:1 and not in D:5, China in both: a few Armenians more would show as the difference of the two."""
    least = LIMITS.small_group_decisions_count
    office.decide(*(office.evaluation(facets=facets("CN"), tier=4) for _ in range(3 * least)))
    office.decide(*(office.evaluation(facets=facets("AM"), tier=4) for _ in range(least - 1)))
    _, page = made(office, tmp_path)
    text = re.sub(r"\s+", " ", page.said())
    assert f"D:1 {4 * least - 1} {4 * least - 1}" in text and "D:5 withheld withheld" in text
    office.decide(office.evaluation(facets=facets("AM"), tier=4))
    _, page = made(office, tmp_path)
    text = re.sub(r"\s+", " ", page.said())
    assert f"D:1 {4 * least} {4 * least}" in text and f"D:5 {3 * least} {3 * least}" in text


def test_no_state_of_evidence_can_be_had_from_the_rest(office: Office, tmp_path: Path) -> None:
    """States add up to the decisions, which are counted at the top: three expired ones would be what is left."""
    least = LIMITS.small_group_decisions_count
    for evidence, count in (("valid", 3 * least), ("declared", 2 * least), ("expired", 3)):
        office.decide(*(office.evaluation(facets=facets("GB", evidence), tier=4) for _ in range(count)))
    _, page = made(office, tmp_path)
    text = re.sub(r"\s+", " ", page.said())
    assert f"valid {3 * least} 0 {3 * least}" in text
    assert "declared withheld 0 withheld" in text
    assert f"expired under {least} under {least} under {least}" in text
    office.decide(*(office.evaluation(facets=facets("GB", "expired"), tier=4) for _ in range(least - 3)))
    _, page = made(office, tmp_path)
    assert f"declared {2 * least} 0 {2 * least}" in re.sub(r"\s+", " ", page.said())


@given(
    st.dictionaries(st.integers(0, 6), st.integers(1, 30), min_size=1),
    st.dictionaries(st.sampled_from("ABCD"), st.sets(st.integers(0, 6)), min_size=2),
)
def test_what_is_shown_of_two_groups_tells_of_nobody(counts: dict[int, int], groups: dict[str, set[int]]) -> None:
    """Of two groups that are both shown, of which one holds the other, the difference is nobody or not a few."""
    alike = Counter({Alike(frozenset((str(sort),)), "4", "r", 0): count for sort, count in counts.items()})
    parts = {name: {one for one in alike if int(min(one.countries)) in members} for name, members in groups.items()}
    withheld = set(keyed_room._told_by_difference(parts, alike, 10))
    for inner in parts.keys() - {name for name, _ in withheld}:
        for outer in parts.keys() - {name for name, _ in withheld}:
            if parts[inner] < parts[outer]:
                assert sum(alike[one] for one in parts[outer] - parts[inner]) >= 10


def test_the_page_stands_by_itself(june: Office, tmp_path: Path) -> None:
    """No script, no address but into the page itself, a policy that forbids both, and every element is closed."""
    _, page = made(june, tmp_path)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.problems == []
    assert {value[:1] for value in page.values("href")} == {"#"} and not page.values("src")
    assert set(re.findall(r"https?://[^\s\"<]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page.values("content")[1] or "default-src 'none'" in " ".join(page.values("content"))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value.removeprefix("#") for value in page.values("href")} <= set(ids)
    labels = {name for value in page.values("aria-labelledby") for name in value.split()}
    assert labels <= set(ids)


def test_nobody_is_in_it(june: Office, tmp_path: Path) -> None:
    """Subjects, places, reasons of orders and names of persons are not on the page, whoever has it made."""
    june.decide(june.evaluation(subject="zoe-quite-unique", facets=facets("FR")))
    _, page = made(june, tmp_path, "una")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    for word in ("zoe-quite-unique", "alice", "the-reason-is-not-public"):
        assert word not in text
    words = set(re.findall(r"[A-Z]{2}\b", page.said()))
    assert not words & {"CN", "GB", "DE", "IN", "FR"}


@pytest.mark.parametrize("text", [*MARKUP, "\u202egnp.exe", "a\nb", "x" * 300])
def test_hostile_words_of_the_log_stay_words(office: Office, tmp_path: Path, text: str) -> None:
    """Models, tenants, rules, reasons, orders and licences full of markup are shown, and are nothing else."""
    house = office.house
    reason = Reason(text, text, orders=(text,))
    office.decide(
        office.evaluation(False, model=text, tenant=text, reasons=(reason,), licences=(text,), flags=(text,)),
        office.evaluation(model=text, tenant=text),
    )
    house.recorder.missed(text)
    house.recorder.record(
        lambda state: house.recorder.note("read", {"what": text, "by_sealed": [text]}, house["una"], state)
    )
    _, page = made(office, tmp_path)
    assert page.problems == []
    shown = "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
    assert page.said().count(shown) >= 5


def test_a_log_that_does_not_verify_is_reported(june: Office, tmp_path: Path) -> None:
    """The report is written and says so, with the places."""
    database = tmp_path / "office" / "engine.db"
    _, page = made(june, tmp_path)
    assert "The whole log and the registers agree." in page.said()
    _spoil(database, june)
    found, page = made(june, tmp_path)
    assert found.verified is False and "They do NOT agree." in page.said()
    assert "switches" in page.said()
    _mend(database)


def _spoil(database: Path, office: Office) -> None:
    """Edit a register row behind the engine's back, which no entry made."""
    with _connected(database) as connection:
        connection.execute("CREATE TABLE kept AS SELECT id, document FROM switches")
        connection.execute("UPDATE switches SET document = replace(document, 'fable-5', 'fable-6')")


def _mend(database: Path) -> None:
    with _connected(database) as connection:
        connection.execute("UPDATE switches SET document = (SELECT document FROM kept WHERE kept.id = switches.id)")
        connection.execute("DROP TABLE kept")


class _connected:
    """A connection of the standard library, closed at the end; the engine never opens one."""

    def __init__(self, database: Path) -> None:
        import pysqlite3.dbapi2 as dbapi

        self._connection = dbapi.connect(str(database))

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.commit()
        self._connection.close()


def test_it_can_be_left_unverified_and_says_so(june: Office, tmp_path: Path) -> None:
    """A quick report does not pretend."""
    found = reports(june).write(june.house["reader"], JUNE, tmp_path / "q.html", verify=False)
    assert found.verified is None
    assert "Not verified for this report." in (tmp_path / "q.html").read_text(encoding="utf-8")


def test_an_empty_period_is_a_report(office: Office, tmp_path: Path) -> None:
    """Nothing happened, and the report says that, well formed."""
    found, page = made(office, tmp_path, period=parse_period("2019"))
    assert (found.entries, found.decisions) == (0, 0) and page.problems == []


def test_a_report_replaces_nothing(june: Office, tmp_path: Path) -> None:
    """An existing file stays unless it is said otherwise."""
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(Conflict):
        reports(june).write(june.house["reader"], JUNE, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "mine"


def test_erasures_and_exports_are_listed_and_name_nobody(june: Office, tmp_path: Path) -> None:
    """What was erased and exported in the period is in the report: by which key and entry, not whom it was about."""
    house = june.house
    id = house.disposal.erasures.propose(house["quinn"], "alice", "they asked for it").proposal.id
    house.approvals.approve(house["paul"], id)
    proposal = june.approved("kind:genesis")
    june.exports.export_unsealed(house["una"], proposal.id, june.exports.ask(""), None, Target(tmp_path / "f"))
    found, page = made(june, tmp_path)
    text = re.sub(r"\s+", " ", page.said())
    assert found.verified and found.decisions == 120
    (erased,) = (public["erases"] for public in june.publics() if "erases" in public)
    destroyed = f"data keys destroyed: {len(erased['keys'])}; bodies: {erased['bodies']} "
    assert re.search(rf"\berased [\w-]+ paul .*?{destroyed}", text)
    assert "export.unsealed" in text and "what: export" in text and "alice" not in text
    assert len(gathered(june).listed["approvals"].events) == 8


def test_as_many_bodies_are_said_to_be_pruned_as_were(office: Office) -> None:
    """A range that was pruned also has changes in it, and what was erased before: their numbers are no bodies of it."""
    house = office.house
    office.decide(office.evaluation(subject="alice"))
    house.facts.set_facts(house["quinn"], "persons", "bob", {"residence_country": "DE"})
    office.decide(office.evaluation(subject="bob"))
    before = house.clock() + 1
    house.clock.at += (RETENTION_DAYS + 1) * DAY
    proposed = house.disposal.retention.propose(house["rita"], before, "the period is over")
    house.approvals.approve(house["paul"], proposed.proposal.id)
    (event,) = (event for event in gathered(office).listed["erasures"].events if event.kind == "pruned")
    assert event.remark.endswith("; bodies pruned: 2") and proposed.bodies == 2


def test_too_many_decisions_for_keyed_counts_are_said(june: Office, tmp_path: Path) -> None:
    """Beyond the limit there are no keyed counts and no read, and the report says why."""
    found = gathered(june)
    assert found.verdicts_complete
    few = gather(JUNE, iter([[(log, seq, data) for log, seq, data in june.house.store.entries()]]), 5, one_log=True)
    assert len(few.verdicts) == 5 and not few.verdicts_complete
    assert reports(june)._keyed(june.house["reader"], few)[0] is None


def events(office: Office) -> Iterator[list[tuple[str, int, bytes]]]:
    """Yield one entry many times over."""
    (log, seq, data) = next(iter(office.house.store.entries()))
    public = json.loads(data) | {"kind": "key.revoked", "key": "k"}
    yield [(log, seq, json.dumps(public).encode())] * (LISTED_COUNT + 7)


def test_long_lists_are_counted_to_their_end(office: Office) -> None:
    """What is not listed is counted."""
    listed = gather(JUNE, events(office), 10, one_log=True).listed["keys"]
    assert (len(listed.events), listed.count) == (LISTED_COUNT, LISTED_COUNT + 7)
    assert parse_instant("2026-06-01") == JUNE.since


def switched(office: Office, count: int) -> Iterator[list[tuple[str, int, bytes]]]:
    """Yield as many changes, each with an epoch and a release of its own, in a period that begins with the first."""
    (log, _, data) = next(iter(office.house.store.entries()))
    public = json.loads(data) | {"kind": "switch.engaged", "switch": "s", "rows": [["switches", "c"]]}
    for number in range(count):
        more = {"epoch": number, "release": f"sha256:{number}", "at": JUNE.since + number}
        yield [(log, number, json.dumps(public | more).encode())]


def test_marks_and_epochs_beyond_the_limit_are_said_to_be_left_out(office: Office) -> None:
    """What is not in the tables is counted beside them, and no picture says how long an unknown stretch was."""
    found = gather(JUNE, switched(office, CHANGED_KEPT_COUNT + 3), 10, one_log=True)
    assert (found.marks.count, found.marks.left) == (CHANGED_KEPT_COUNT + 3, CHANGED_KEPT_COUNT + 3 - LISTED_COUNT)
    assert f"The first {LISTED_COUNT:,} of {CHANGED_KEPT_COUNT + 3:,}" in sections.decisions(found).text
    eras = sections.eras(found).text
    assert f"{CHANGED_KEPT_COUNT + 3 - sections.ROWS_COUNT:,} more rows are not shown" in eras
    assert "too many to draw" in eras and "<svg" not in eras
    drawn = sections.eras(gather(JUNE, switched(office, 3), 10, one_log=True)).text
    assert "3 stretches" in drawn and "<svg" in drawn
