"""Replay and the questions of a time on a history of 200,000 entries, compared with trying every entry of it.

What is expected comes from what the history remembers of each entry, and shares nothing with the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Principal
from policy_engine.core.instants import parse_instant
from policy_engine.services.asof import AsOf
from policy_engine.services.questions import Question
from policy_engine.services.questiontext import parse_question
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.supposed import Correction
from policy_engine.settings import Settings
from tests.services.longhistory import DIRECTIVE_AT, LongHistory

POLICIES = Path(__file__).parents[2] / "policies"
DIRECTIVE, LICENCE = "june-2026", "deemed-export-2026-014"
REACHED = ("fable-5", "mythos-5")
pytestmark = pytest.mark.campaign

NIGHTLY = settings.default.max_examples > 1_000
"""At night the questions reach over more of the history; by day they leave out days that are like others."""


@pytest.fixture(scope="module")
def house(history: LongHistory, compiled: ReleaseLoader) -> Iterator[tuple[Engine, Principal]]:
    """An engine on the history, and its auditor."""
    settings = Settings(database=f"sqlite:///{history.database}", policies=POLICIES)
    engine = open_engine(settings, releases=compiled)
    yield engine, engine.keys.authenticate(history.keys["auditor"])
    engine.close()


def test_every_decision_of_the_history_comes_out_the_same(
    history: LongHistory, house: tuple[Engine, Principal]
) -> None:
    """Allows of frontier models, and denies of the last phase: none is different, none is passed over.

    By day the allows are those from the directive's first day to the end of the licence.
    """
    engine, auditor = house
    first, end = ("2026-06-01", "2026-08-01") if NIGHTLY else ("2026-06-12", "2026-07-10")
    for text, outcome, least, since, until in (
        (f"allow tier>=4 between {first} {end}", "allow", 4, first, end),
        ("deny since 2026-07-20", "deny", 0, "2026-07-20", "2026-08-01"),
    ):
        asked = parse_question(text, engine.store.now())
        found = Counter(one.status for one in engine.replay.all(auditor, asked))
        expected = sum(
            one.public["outcome"] == outcome
            and (one.public["tier"] or 0) >= least
            and parse_instant(since) <= one.public["at"] < parse_instant(until)
            for one in history.decisions
        )
        assert found == Counter({"same": expected})
        assert expected >= 10_000


def test_one_decision_of_the_history_is_replayed(history: LongHistory, house: tuple[Engine, Principal]) -> None:
    """The last one, behind every change, is the same, and the read is the newest entry."""
    engine, auditor = house
    last = history.decisions[-1]
    found = engine.replay.one(auditor, str(last.public["id"]))
    assert (found.entry, found.status) == (str(last.public["seq"]), "same")


def test_uses_of_a_licence_of_the_history(history: LongHistory, house: tuple[Engine, Principal]) -> None:
    """Every use, by whom, all within scope and dates, none after its end."""
    engine, auditor = house
    expected = [one for one in history.decisions if LICENCE in one.public["licences"]]
    found = AsOf(engine.replay).licence(auditor, LICENCE)
    assert [use.entry for use in found.uses] == [str(one.public["seq"]) for one in expected]
    assert found.by == Counter(one.subject for one in expected)
    assert len(expected) >= 1_000
    assert [use for use in found.uses if use.outside] == found.after_end == []


def test_a_directive_of_the_history(history: LongHistory, house: tuple[Engine, Principal]) -> None:
    """First enforced where its id first stands among the reasons; nobody got through; who kept and who lost access."""
    engine, auditor = house
    asof = AsOf(engine.replay)
    found = asof.let_through(auditor, DIRECTIVE)
    naming = [one for one in history.decisions if any(DIRECTIVE in orders for _, _, orders in one.public["reasons"])]
    assert found.receipt is not None
    assert found.receipt.received_at == DIRECTIVE_AT
    assert found.receipt.enforced_entry == str(naming[0].public["seq"])
    assert found.through == []
    earlier = parse_instant("2026-06-12T20:00:00Z")
    between = asof.let_through(auditor, DIRECTIVE, earlier)
    allowed = [
        one
        for one in history.decisions
        if earlier <= one.public["instant"] < DIRECTIVE_AT
        and one.public["outcome"] == "allow"
        and one.public["model"] in REACHED
        and (one.facets.get("us_person") != {"yes"} or one.facets.get("evidence") != {"valid"})
        and LICENCE not in one.public["licences"]
        and one.public["tenant"] == "acme"
    ]
    through = {one.entry for one in between.through}
    assert {str(one.public["seq"]) for one in allowed} <= through
    assert all(DIRECTIVE in one.orders and one.model in REACHED for one in between.through)
    kept: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    end = next(
        one.public["at"]
        for one in history.entries
        if one.public["kind"] == "order.ended" and one.public["order"] == DIRECTIVE
    )
    for one in history.decisions:
        if DIRECTIVE_AT <= one.public["instant"] < end and one.public["model"] in REACHED:
            kept[one.subject] += one.public["outcome"] == "allow"
    for one in naming:
        lost[one.subject] += 1
    stood = asof.standings(auditor, DIRECTIVE).standings
    sums: Counter[str] = Counter()
    denied: Counter[str] = Counter()
    for standing in stood:
        (sums if standing.standing == "kept" else denied)[standing.subject] += standing.count
    assert sums == +kept
    assert denied == lost


def test_evidence_of_the_history(history: LongHistory, house: tuple[Engine, Principal]) -> None:
    """Every decision that reached the rules is counted once; what they were shown as expired is listed as stale."""
    engine, auditor = house
    day = "2026-07-10" if NIGHTLY else "2026-07-20"
    found = AsOf(engine.replay).evidence(auditor, parse_question(f"tier>=4 since {day}", engine.store.now()))
    since = parse_instant(day)
    asked = [
        one
        for one in history.decisions
        if one.public["reached"] and (one.public["tier"] or 0) >= 4 and one.public["at"] >= since
    ]
    assert sum(found.kinds.values()) == len(asked) >= 10_000
    counted: Counter[str] = Counter()
    for kind, count in found.kinds.items():
        counted[kind[-1]] += count
    assert counted == Counter(one.public["outcome"] for one in asked)
    doubtful = {one.entry: one for one in found.doubtful}
    expired = {str(one.public["seq"]) for one in asked if one.facets.get("evidence") == {"expired"}}
    declared = {str(one.public["seq"]) for one in asked if one.facets.get("evidence") == {"declared"}}
    assert expired == {entry for entry, one in doubtful.items() if "persons.nationality_evidence" in one.stale}
    assert declared <= {entry for entry, one in doubtful.items() if one.self_declared}


def test_a_corrected_fact_of_the_history(history: LongHistory, house: tuple[Engine, Principal]) -> None:
    """All decisions about a person since a day are decided again; those listed are among their own."""
    engine, auditor = house
    since = parse_instant("2026-07-01")
    found = AsOf(engine.replay).corrected(auditor, Correction("persons", "alice", {"us_status": "none"}, since))
    own = {
        str(one.public["seq"]) for one in history.decisions if one.subject == "alice" and one.public["instant"] >= since
    }
    assert found.considered_count == len(own) >= 1_000
    assert {one.entry for one in found.otherwise} <= own
    allowed = {str(one.public["seq"]) for one in history.decisions if one.public["outcome"] == "allow"}
    frontier = {str(one.public["seq"]) for one in history.decisions if (one.public["tier"] or 0) >= 4}
    assert own & allowed & frontier <= {one.entry for one in found.otherwise if one.would_be == "deny"}


def test_releases_and_families_of_the_history(history: LongHistory, house: tuple[Engine, Principal]) -> None:
    """What the release decided, and what the switch and the directive did to the family of a model."""
    engine, auditor = house
    asof = AsOf(engine.replay)
    (release,) = asof.releases(auditor)
    outcomes = Counter(one.public["outcome"] for one in history.decisions)
    assert (release.allows_count, release.denies_count) == (outcomes["allow"], outcomes["deny"])
    found = asof.family(auditor, "mythos-5")
    drill = found.controls["switch", "drill-1", "mythos-5"]
    stopped = [one for one in history.decisions if any("drill-1" in orders for _, _, orders in one.public["reasons"])]
    assert (drill.denies_count, drill.allows_count, drill.missed) == (len(stopped), 0, False)
    assert len(stopped) >= 100


def test_nothing_that_no_rule_reads_decided_in_the_history(
    history: LongHistory, house: tuple[Engine, Principal]
) -> None:
    """Without birth country and the details of a status, no allow since a day comes out otherwise."""
    engine, auditor = house
    day = "2026-07-15" if NIGHTLY else "2026-07-20"
    asked: Question = parse_question(f"allow tier>=4 since {day}", engine.store.now())
    unread: Any = frozenset(("birth_country", "us_status_detail"))
    found = AsOf(engine.replay).forgotten(auditor, unread, asked)
    expected = [
        one
        for one in history.decisions
        if one.public["outcome"] == "allow"
        and (one.public["tier"] or 0) >= 4
        and one.public["at"] >= parse_instant(day)
    ]
    assert found.considered_count == len(expected) >= 2_000
    assert found.otherwise == []
