"""Erasure reaches what was asked of the log: whoever is named in a question or correction goes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from policy_engine.bootstrap import Engine
from policy_engine.core.decision import Principal, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import SECOND, format_instant
from policy_engine.errors import Conflict, Gone, InputRefused, NotFound
from policy_engine.services.asof import AsOf
from policy_engine.services.evidence import Filters
from policy_engine.services.holdrules import Cover, shown
from policy_engine.services.permissions import LOCAL
from policy_engine.services.questions import Question
from policy_engine.services.questiontext import parse_question
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.replay import Replay
from policy_engine.services.supposed import Correction
from tests.laws.sample import opened
from tests.services.erasedsamples import Office, ten_years
from tests.store.samples import VAULT, SqliteDatabase

House = tuple[Engine, Mapping[str, Principal]]

QUESTION = "subject:eve deny"


@pytest.fixture
def house(sample_database: Any, compiled: ReleaseLoader) -> Iterator[House]:
    """An engine on a copy of the sample database, with the sample principals by label."""
    with opened(sample_database, compiled) as made:
        yield made


def asked(engine: Engine) -> Any:
    """Return the question about Eve."""
    return parse_question(QUESTION, engine.store.now())


READS: Mapping[str, Callable[[Engine, Principal], Any]] = {
    "query": lambda engine, who: engine.evidence.query(who, Filters(asked(engine))),
    "replay": lambda engine, who: list(engine.replay.all(who, asked(engine), text=QUESTION)),
    "evidence": lambda engine, who: AsOf(engine.replay).evidence(who, asked(engine), QUESTION),
    "without-fact": lambda engine, who: AsOf(engine.replay).forgotten(
        who, frozenset(("us_status",)), asked(engine), QUESTION
    ),
    "with-fact": lambda engine, who: AsOf(engine.replay).corrected(
        who, Correction("persons", "eve", {"us_status": "none"}, 0)
    ),
}


def erase(engine: Engine, keys: Mapping[str, Principal], subject: str) -> None:
    """Erase a subject, by two persons."""
    proposed = engine.disposal.erasures.propose(keys["operator"], subject, "case 7")
    engine.approvals.approve(keys["approver"], proposed.proposal.id)


@pytest.mark.parametrize("what", sorted(READS))
def test_a_read_that_named_the_subject_is_erased(house: House, what: str) -> None:
    """The sealed words of a question by a subject, or about one, are about that subject and go with them."""
    engine, keys = house
    engine.decider.decide(Request("eve", "infer", "fable-5", "acme", Location("US"), "US"), LOCAL)
    READS[what](engine, keys["auditor"])
    assert engine.evidence.show(LOCAL, 2)["what"] == what
    assert "eve" in str(engine.evidence.read_body(keys["auditor"], 2))
    erase(engine, keys, "eve")
    with pytest.raises(Gone, match="erased by entry"):
        engine.evidence.read_body(keys["auditor"], 2)
    assert engine.evidence.verify().ok


def test_a_hold_on_an_alias_covers_the_model_by_either_name(house: House) -> None:
    """Whoever holds a model by its alias means the model: what was asked for by its own name is not erased."""
    engine, keys = house
    engine.decider.decide(Request("eve", "infer", "fable-5", "acme", Location("US"), "US"), LOCAL)
    engine.decider.decide(Request("frank", "infer", "opus-4-8", "acme", Location("US"), "US"), LOCAL)
    engine.disposal.holds.place(keys["operator"], "h", Cover(model="fable-latest"), "an inquiry")
    (hold,) = engine.disposal.holds.list(keys["operator"])
    assert shown(hold)["alias_of"] == "fable-5"
    with pytest.raises(Conflict, match="hold h covers"):
        erase(engine, keys, "eve")
    erase(engine, keys, "frank")


def test_decisions_that_were_erased_are_named_where_a_fact_is_corrected(house: House) -> None:
    """Nobody can tell how they would have come out: they are not left out of the answer in silence."""
    engine, keys = house
    ask = Request("eve", "infer", "fable-5", "acme", Location("US"), "US")
    engine.decider.decide(ask, LOCAL)
    engine.decider.decide(Request("dana", "infer", "fable-5", "acme", Location("US"), "US"), LOCAL)
    erase(engine, keys, "eve")
    engine.facts.set_facts(keys["operator"], "persons", "eve", {"us_status": "none", "tenants": ["acme"]})
    engine.decider.decide(ask, LOCAL)
    found = AsOf(engine.replay).corrected(keys["auditor"], Correction("persons", "eve", {"us_status": "none"}, 0))
    assert [(one["entry"], one["status"]) for one in found.closed] == [("1", "erased")]
    assert found.considered_count == 2


@pytest.mark.parametrize(
    ("register", "id", "named"), [("persons", "eve", ["3", "4", "5"]), ("tenants", "eve-alone", ["3", "4"])]
)
def test_decisions_of_their_own_tenant_are_named_where_a_fact_is_corrected(
    house: House, register: str, id: str, named: list[str]
) -> None:
    """Erased with its tenant, whom no register has any more, a decision is named as one of both all the same.

    One for a tenant that never was in a register is too: whose tenant it named nobody can tell.
    """
    engine, keys = house
    engine.facts.set_facts(keys["operator"], "tenants", "eve-alone", {"type": "individual"})
    engine.facts.set_facts(keys["operator"], "persons", "eve", {"tenants": ["acme", "eve-alone"]})
    for subject, tenant in (("eve", "eve-alone"), ("eve", "nowhere"), ("eve", "acme"), ("dana", "nowhere")):
        engine.decider.decide(Request(subject, "infer", "open-1", tenant, Location("US"), "US"), LOCAL)
    for subject in ("eve", "dana"):
        erase(engine, keys, subject)
    found = AsOf(engine.replay).corrected(keys["auditor"], Correction(register, id, {}, 0))
    assert [one["entry"] for one in found.closed] == named
    assert found.considered_count == len(named)


def test_pruned_decisions_of_an_individuals_tenant_are_named(tmp_path: Path) -> None:
    """Their tags went with their sealed parts, and the tenant is not public: the data key says whose they were."""
    office = Office(SqliteDatabase(tmp_path))
    office.person("eve", "solo")
    _, seq = office.decide("eve", "solo")
    office.decide("dana", "duo")
    office.tick(ten_years() / SECOND)
    office.prune(office.clock() - ten_years() + SECOND)
    asof = AsOf(Replay(office.store, office.recorder, VAULT, ReleaseLoader()))
    for register, id in (("persons", "eve"), ("tenants", "solo")):
        found = asof.corrected(office.people["nina"], Correction(register, id, {}, 0))
        assert [(one["entry"], one["status"]) for one in found.closed] == [(str(seq), "pruned")]
    office.close()


SOLO: Mapping[str, Callable[[Engine, Principal], Any]] = {
    "query": lambda engine, who: engine.evidence.query(
        who, Filters(parse_question("individual:eve-alone", engine.store.now()))
    ),
    "with-fact": lambda engine, who: AsOf(engine.replay).corrected(
        who, Correction("tenants", "eve-alone", {"headquarters": "US"}, 0)
    ),
}


@pytest.mark.parametrize("what", sorted(SOLO))
def test_a_read_that_named_the_subjects_own_tenant_is_erased(house: House, what: str) -> None:
    """An individual's own tenant is that individual: a question by it, or about it, goes with them."""
    engine, keys = house
    operator = keys["operator"]
    engine.facts.set_facts(operator, "tenants", "eve-alone", {"type": "individual"})
    engine.facts.set_facts(operator, "persons", "eve", {"tenants": ["eve-alone"]})
    SOLO[what](engine, keys["auditor"])
    engine.facts.show(operator, "tenants", "eve-alone")
    for seq in (3, 4):
        assert "eve-alone" in str(engine.evidence.read_body(keys["auditor"], seq))
    erase(engine, keys, "eve")
    for seq in (3, 4):
        with pytest.raises(Gone, match="erased by entry"):
            engine.evidence.read_body(keys["auditor"], seq)
    assert engine.evidence.verify().ok


def test_what_rested_on_an_erased_row_is_told_under_no_supposition(house: House) -> None:
    """It would come out otherwise for what is missing: no sign that a fact decided it, or that somebody got through."""
    engine, keys = house
    operator, auditor, asof = keys["operator"], keys["auditor"], AsOf(engine.replay)
    acme = dict(engine.store.row("tenants", "acme").document["facts"])  # type: ignore[union-attr]  # of the sample
    alone = {name: fact["value"] for name, fact in acme.items()} | {"type": "individual"}
    engine.facts.set_facts(operator, "tenants", "eve-alone", alone)
    for who in ("eve", "alice"):
        engine.facts.set_facts(operator, "persons", who, {"tenants": ["acme", "eve-alone"]})
    since = engine.store.now()
    assert engine.decider.decide(Request("alice", "infer", "fable-5", "eve-alone", Location("US"), "US"), LOCAL).allowed
    engine.facts.set_facts(operator, "persons", "alice", {"tenants": ["acme"]})
    erase(engine, keys, "eve")
    letter = {"id": "d", "models": ["fable-5"], "blocks": ["foreign_person"], "from": format_instant(since)}
    seen = engine.foresight.previews.receive(operator, "directive", letter).recorded
    assert seen is not None and (seen.decisions_count, seen.closed_count, seen.lines) == (1, 1, [])
    engine.orders.receive(operator, "directive", letter)
    forgotten = asof.forgotten(auditor, frozenset(("birth_country",)), Question())
    wrong = asof.corrected(auditor, Correction("persons", "alice", {"residence_country": "US"}, 0))
    through = asof.let_through(auditor, "d")
    for found, listed in ((forgotten, forgotten.otherwise), (wrong, wrong.otherwise), (through, through.through)):
        assert (listed, [one["status"] for one in found.closed]) == ([], ["erased"])
    (rested,) = asof.evidence(auditor, parse_question("allow", engine.store.now())).doubtful
    assert any(changed.startswith("tenants.* erased by entry") for changed in rested.changed_later)


LICENCE: Mapping[str, Any] = {
    "id": "lic-9", "from": "2026-01-01", "models": ["fable-5"], "actions": ["infer"], "nationalities": ["CN"],
    "destinations": ["US"], "lifts": ["nat", "seat", "directive", "dest"],
}  # fmt: skip


def test_a_licence_that_was_erased_is_not_said_to_have_never_been(house: House) -> None:
    """It goes with its person: its uses are named as erased, and whose it was, or what it covered, nobody judges."""
    engine, keys = house
    operator, auditor, asof = keys["operator"], keys["auditor"], AsOf(engine.replay)
    made = engine.orders.receive(operator, "licence", {**LICENCE, "person_id": "chen"})
    engine.approvals.approve(keys["approver"], made.proposal or "")
    assert engine.decider.decide(Request("chen", "infer", "fable-5", "lab", Location("US"), "US"), LOCAL).allowed
    assert asof.licence(auditor, "lic-9").by == {"chen": 1}
    engine.orders.end(operator, "lic-9", "over")
    erase(engine, keys, "chen")
    found = asof.licence(auditor, "lic-9")
    assert (found.licence, found.uses, found.after_end) == (None, [], [])
    assert str(found.gone).startswith("erased by entry")
    assert [one["note"] for one in found.closed] == [found.gone]
    with pytest.raises(NotFound, match="no entry made a licence"):
        asof.licence(auditor, "lic-10")


def test_a_use_of_an_erased_licence_by_somebody_else_is_not_outside_it(house: House) -> None:
    """A licence for somebody's own tenant goes with them; a use by a former member is told neither way."""
    engine, keys = house
    operator, auditor = keys["operator"], keys["auditor"]
    lab = dict(engine.store.row("tenants", "lab").document["facts"])  # type: ignore[union-attr]  # of the sample
    alone = {name: fact["value"] for name, fact in lab.items()} | {"type": "individual"}
    engine.facts.set_facts(operator, "tenants", "eve-alone", alone)
    for who in ("eve", "chen"):
        engine.facts.set_facts(operator, "persons", who, {"tenants": ["eve-alone"]})
    made = engine.orders.receive(operator, "licence", {**LICENCE, "tenant_id": "eve-alone"})
    engine.approvals.approve(keys["approver"], made.proposal or "")
    assert engine.decider.decide(Request("chen", "infer", "fable-5", "eve-alone", Location("US"), "US"), LOCAL).allowed
    assert AsOf(engine.replay).licence(auditor, "lic-9").by == {"chen": 1}
    engine.facts.set_facts(operator, "persons", "chen", {"tenants": ["lab"]})
    engine.orders.end(operator, "lic-9", "over")
    erase(engine, keys, "eve")
    found = AsOf(engine.replay).licence(auditor, "lic-9")
    assert (found.uses, [one["note"] for one in found.closed]) == ([], [found.gone])


@pytest.mark.parametrize("text", ["individual:eve,dana", "subject:eve subject:dana", "individual:eve individual:dana"])
def test_one_person_at_a_time(text: str) -> None:
    """A question names one person, by one term: its read is sealed for whom it names, and for nobody else."""
    with pytest.raises(InputRefused, match="one person at a time"):
        parse_question(text, 0)


def test_one_person_in_question_and_filter() -> None:
    """A filter beside a question names no second person either."""
    with pytest.raises(InputRefused, match="one person at a time"):
        Filters(parse_question("subject:eve", 0), sealed={"subject": "dana"}).asked()


def test_what_is_lost_to_a_question(house: House) -> None:
    """Sealed parts that were erased are lost to a question by what is sealed, for the time before the erasure."""
    engine, keys = house

    def lost(text: str) -> bool:
        return engine.evidence.lost(parse_question(text, engine.store.now()))

    engine.decider.decide(Request("eve", "infer", "fable-5", "acme", Location("US"), "US"), LOCAL)
    assert not lost("group:D:5")
    erase(engine, keys, "eve")
    assert lost("group:D:5") and lost("location:US until now") and lost("evidence:declared since 1d")
    assert not lost("deny") and not lost("group:D:5 since now")


def test_what_was_pruned_is_lost_up_to_its_instant(tmp_path: Path) -> None:
    """A pruning says before which instant it emptied; a question about later lacks nothing."""
    database = SqliteDatabase(tmp_path)
    office = Office(database)
    office.decide("bob")
    office.clock.at += ten_years()
    before = office.clock() - ten_years() + SECOND
    office.prune(before)
    for text, lost in (("location:GB", True), (f"location:GB since {format_instant(before)}", False), ("deny", False)):
        assert office.evidence.lost(parse_question(text, office.clock())) is lost
    office.close()
    database.close()
