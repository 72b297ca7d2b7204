"""What another fact or a directive would have made of decisions, and who kept or lost access by one."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.core.instants import DAY, SECOND, format_instant
from policy_engine.errors import InputRefused, NotFound
from policy_engine.services.asof import AsOf
from policy_engine.services.questiontext import parse_question
from policy_engine.services.supposed import Correction
from tests.services.asofstory import EVERYTHING, HOUR, ask, ids
from tests.services.histories import START, History

# Had this fact been right


def test_a_corrected_fact_lists_the_decisions_that_it_would_have_changed(story: History) -> None:
    """Only of that subject, only from the instant on, only those answered otherwise, with what would have been."""
    engine, asof = story.engine, AsOf(story.engine.replay)
    early = ask(engine, "alice")
    story.clock.now += DAY
    since = story.clock.now
    late = ask(engine, "alice")
    ask(engine, "alice", "open-1")
    ask(engine, "frank")
    wrong = {"us_status": "none", "citizenships": [{"country": "CN", "acquired": "birth", "current": True}]}
    found = asof.corrected(story.keys["auditor"], Correction("persons", "alice", wrong, since))
    named = ids(engine)
    assert [named[one.entry] for one in found.otherwise] == [late]
    (one,) = found.otherwise
    assert (one.subject, one.tenant, one.model, one.was, one.would_be) == ("alice", "acme", "fable-5", "allow", "deny")
    assert "nationality.restricted" in one.reasons
    assert {difference.member for difference in one.differences} >= {"outcome", "reasons"}
    assert found.considered_count == 2
    assert found.closed == []
    always = asof.corrected(story.keys["auditor"], Correction("persons", "alice", wrong, 0))
    assert [named[one.entry] for one in always.otherwise] == [early, late]


def test_a_corrected_fact_may_open(story: History) -> None:
    """Whoever was denied for a fact that was wrong is listed as well, and the same value changes nothing."""
    engine, asof = story.engine, AsOf(story.engine.replay)
    ask(engine, "eve")
    then = format_instant(START - DAY)[:10]
    verified = {"nationality_evidence": {"level": "verified", "verified_on": then, "expires_on": None}}
    found = asof.corrected(story.keys["auditor"], Correction("persons", "eve", verified, 0))
    assert [(one.was, one.would_be) for one in found.otherwise] == [("deny", "allow")]
    nothing = asof.corrected(story.keys["auditor"], Correction("persons", "eve", {"us_status": "citizen"}, 0))
    assert (nothing.otherwise, nothing.considered_count) == ([], 1)


def test_a_corrected_fact_of_a_tenant(story: History) -> None:
    """A tenant's fact reaches every decision for it, whoever asked; one with a date of its own counts as it says."""
    engine, asof = story.engine, AsOf(story.engine.replay)
    ask(engine, "alice")
    ask(engine, "frank")
    ask(engine, "chen", "open-1", "lab")
    owners = {"owners": [{"name": "x", "country": "CN", "percent": 60}]}
    found = asof.corrected(story.keys["auditor"], Correction("tenants", "acme", owners, 0))
    assert [one.subject for one in found.otherwise] == ["alice", "frank"]
    assert found.considered_count == 2
    stale = {"incorporated_in": {"value": "US", "expires_at": format_instant(START - DAY)}}
    found = asof.corrected(story.keys["auditor"], Correction("tenants", "acme", stale, 0))
    assert [one.would_be for one in found.otherwise] == ["deny", "deny"]


@pytest.mark.parametrize(
    ("register", "facts"),
    [("persons", {"shoe": 43}), ("persons", {"us_status": "friend"}), ("keys", {"us_status": "none"})],
)
def test_what_is_no_fact_is_refused(register: str, facts: dict[str, Any]) -> None:
    """A name, value or register that facts do not have is refused before anything is read."""
    with pytest.raises(InputRefused):
        Correction(register, "alice", facts, 0)


# Who got through


def test_who_got_through_before_a_directive_was_entered(story: History) -> None:
    """Allows between the letter's start and the first deny under it that it would have denied, and no others."""
    engine, asof, clock = story.engine, AsOf(story.engine.replay), story.clock
    ask(engine, "mina")
    clock.now += HOUR
    arrived = clock.now
    clock.now += HOUR
    foreign = ask(engine, "greg", tenant="lab")
    ask(engine, "alice")
    ask(engine, "greg", "open-1", "lab")
    clock.now += HOUR
    body = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"], "from": format_instant(arrived)}
    engine.orders.receive(story.keys["operator"], "directive", body)
    received = clock.now
    clock.now += SECOND
    ask(engine, "alice")
    clock.now += SECOND
    denied = ask(engine, "greg", tenant="lab")
    found = asof.let_through(story.keys["auditor"], "letter")
    named = ids(engine)
    assert [named[one.entry] for one in found.through] == [foreign]
    assert (found.through[0].subject, found.through[0].orders) == ("greg", ("letter",))
    assert found.considered_count == 4  # three before it was entered and alice after it
    receipt = found.receipt
    assert receipt is not None
    assert (receipt.received_at, receipt.received_by, receipt.starts_at) == (received, "operator", arrived)
    assert receipt.enforced_entry is not None and named[receipt.enforced_entry] == denied
    (writer,) = receipt.writers.values()
    assert writer.first_at == received + SECOND and writer.enforced_at == received + 2 * SECOND


def test_nobody_gets_through_behind_the_entry_of_a_directive(story: History) -> None:
    """Without a start of its own it counts from its entry, and law 4 leaves nobody; `since` asks about earlier."""
    engine, asof, clock = story.engine, AsOf(story.engine.replay), story.clock
    before = clock.now
    clock.now += SECOND
    through = ask(engine, "greg", tenant="lab")
    clock.now += SECOND
    engine.orders.receive(
        story.keys["operator"], "directive", {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}
    )
    clock.now += SECOND
    ask(engine, "greg", tenant="lab")
    found = asof.let_through(story.keys["auditor"], "letter")
    assert (found.through, found.considered_count) == ([], 0)
    earlier = asof.let_through(story.keys["auditor"], "letter", before)
    assert [ids(engine)[one.entry] for one in earlier.through] == [through]
    with pytest.raises(NotFound, match="received a directive"):
        asof.let_through(story.keys["auditor"], "no-letter")


def test_the_amendments_of_a_directive_are_named(story: History) -> None:
    """It is taken as it was received; what gave it another scope is named, an exemption and a confirmation are not."""
    engine, asof, clock, olga = story.engine, AsOf(story.engine.replay), story.clock, story.keys["operator"]
    letter = {"id": "letter", "models": ["summit-4"], "blocks": ["foreign_person"], "from": format_instant(clock.now)}
    engine.orders.receive(olga, "directive", letter)
    clock.now += SECOND
    ask(engine, "greg", tenant="lab")
    wider = {**letter, "models": ["summit-4", "fable-5"], "from": format_instant(clock.now - HOUR)}
    entry = engine.orders.amend(olga, "letter", wider).committed
    wider["reconfirm_by"] = format_instant(clock.now + HOUR)
    engine.orders.amend(olga, "letter", wider)
    lab = {"models": ["fable-5"], "who": "lab_foreign_national_employees"}
    eased = engine.orders.amend(olga, "letter", {**wider, "exempts": [lab]}).proposal
    engine.approvals.approve(story.keys["approver"], eased)
    engine.approvals.approve(story.keys["approver"], engine.orders.end(olga, "letter", "over").proposal)
    found = asof.let_through(story.keys["auditor"], "letter")
    assert found.receipt is not None and entry is not None
    assert [name.split(":")[-1] for name in found.receipt.amended] == [str(entry.seqs[0])]


def test_nobody_gets_through_a_directive_that_has_not_begun(story: History) -> None:
    """A directive that names a start to come counts from there: allows before it were right, unless `since` asks."""
    engine, asof, clock = story.engine, AsOf(story.engine.replay), story.clock
    received = clock.now
    begins = format_instant(received + HOUR)
    body = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"], "from": begins}
    engine.orders.receive(story.keys["operator"], "directive", body)
    clock.now += SECOND
    early = ask(engine, "greg", tenant="lab")
    clock.now = received + HOUR
    ask(engine, "greg", tenant="lab")
    found = asof.let_through(story.keys["auditor"], "letter")
    assert (found.through, found.considered_count, found.since) == ([], 0, received + HOUR)
    asked = asof.let_through(story.keys["auditor"], "letter", received)
    assert [ids(engine)[one.entry] for one in asked.through] == [early]


@pytest.mark.parametrize("by_itself", [True, False], ids=["its until", "ended by two"])
def test_nobody_gets_through_a_directive_that_is_over(story: History, by_itself: bool) -> None:
    """Where none was denied before its end, allows after it were right: they are neither named nor counted."""
    engine, asof, clock = story.engine, AsOf(story.engine.replay), story.clock
    before = clock.now
    clock.now += SECOND
    early = ask(engine, "greg", tenant="lab")
    clock.now += SECOND
    body = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}
    until = {"until": format_instant(clock.now + HOUR)} if by_itself else {}
    engine.orders.receive(story.keys["operator"], "directive", {**body, **until})
    clock.now += HOUR
    if not by_itself:
        receipt = engine.orders.end(story.keys["operator"], "letter", "over")
        engine.approvals.approve(story.keys["approver"], str(receipt.proposal))
        clock.now += SECOND
    ask(engine, "greg", tenant="lab")
    found = asof.let_through(story.keys["auditor"], "letter")
    assert (found.through, found.considered_count) == ([], 0)
    earlier = asof.let_through(story.keys["auditor"], "letter", before)
    assert [ids(engine)[one.entry] for one in earlier.through] == [early] and earlier.considered_count == 1


def test_an_exemption_that_came_later_did_not_let_anybody_through(story: History) -> None:
    """The directive is taken as it was first received: whoever was exempted afterwards got through before."""
    engine, asof, clock = story.engine, AsOf(story.engine.replay), story.clock
    before = clock.now
    clock.now += SECOND
    ask(engine, "greg", tenant="lab")
    body = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}
    exempt = [{"models": ["fable-5"], "who": "lab_foreign_national_employees"}]
    receipt = engine.orders.receive(story.keys["operator"], "directive", {**body, "exempts": exempt})
    engine.approvals.approve(story.keys["approver"], str(receipt.proposal))
    clock.now += SECOND
    ask(engine, "greg", tenant="lab")
    found = asof.let_through(story.keys["auditor"], "letter", before)
    assert [one.subject for one in found.through] == ["greg", "greg"]
    assert found.receipt is not None and found.receipt.enforced_entry is None


def test_who_kept_access_who_lost_it_and_who_was_undetermined(story: History) -> None:
    """By person and tenant, on models that the directive reaches while it is in force, with the evidence they had."""
    engine, clock = story.engine, story.clock
    ask(engine, "greg", tenant="lab")  # before it
    body = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"], "until": "2026-06-20"}
    engine.orders.receive(story.keys["operator"], "directive", body)
    clock.now += SECOND
    for who, tenant in (("alice", "acme"), ("alice", "acme"), ("greg", "lab"), ("eve", "acme")):
        ask(engine, who, "fable-latest", tenant)
    ask(engine, "frank", "open-1")  # not reached
    clock.now += 30 * DAY
    ask(engine, "frank")  # it has ended
    found = AsOf(engine.replay).standings(story.keys["auditor"], "letter")
    assert [(one.standing, one.subject, one.tenant, one.count) for one in found.standings] == [
        ("kept", "alice", "acme", 2),
        ("lost", "greg", "lab", 1),
        ("undetermined", "eve", "acme", 1),
    ]
    kept, lost, undetermined = found.standings
    assert (kept.evidence, kept.method, kept.age_days) == ("verified", "document-check", 30)
    assert (lost.evidence, undetermined.evidence, undetermined.age_days) == ("verified", "declared", 30)


# What did not decide


def test_birth_country_decides_nothing_and_status_does(story: History) -> None:
    """Decided again without a fact that no rule may read nothing changes; without one that rules rest on, it does."""
    engine, asof, auditor = story.engine, AsOf(story.engine.replay), story.keys["auditor"]
    for who, tenant in (("alice", "acme"), ("mina", "acme"), ("greg", "lab"), ("chen", "lab"), ("eve", "acme")):
        ask(engine, who, "fable-5", tenant)
        ask(engine, who, "open-1", tenant)
    unread = frozenset(("birth_country", "us_status_detail"))
    nothing = asof.forgotten(auditor, unread, EVERYTHING)
    assert (nothing.otherwise, nothing.considered_count) == ([], 10)
    status = asof.forgotten(auditor, frozenset(("us_status",)), EVERYTHING)
    assert {one.subject for one in status.otherwise} >= {"alice", "mina"}
    asked = parse_question("subject:mina", story.clock.now)
    assert {one.subject for one in asof.forgotten(auditor, frozenset(("us_status",)), asked).otherwise} == {"mina"}
    for names in (frozenset(), frozenset(("shoe",))):
        with pytest.raises(InputRefused, match="birth_country"):
            asof.forgotten(auditor, names, EVERYTHING)


# Tenants and models


def test_tenants_that_are_owned_or_seated_where_it_is_restricted(story: History) -> None:
    """With what is restricted, what nobody knows, and their decisions; as of an instant what was known by then."""
    engine, asof, auditor = story.engine, AsOf(story.engine.replay), story.keys["auditor"]
    ask(engine, "alice")
    before = story.clock.now + SECOND
    story.clock.now += HOUR
    owners = {"owners": [{"name": "x", "country": "CN", "percent": 55}, {"name": "y", "list": "SDN", "percent": 50}]}
    engine.facts.set_facts(story.keys["operator"], "tenants", "acme", owners)
    ask(engine, "alice")
    story.clock.now += SECOND
    found = {one.tenant: one for one in asof.owners(auditor).owned}
    assert found["shellco"].restricted[0] == "seat or parent in CN"
    assert found["acme"].restricted == (
        "owners of restricted countries hold the share that counts", "owners on lists: sdn",
    )  # fmt: skip
    assert (found["acme"].allows_count, found["acme"].denies_count) == (1, 1)
    assert "lab" not in found
    then = {one.tenant: one for one in asof.owners(auditor, before).owned}
    assert "acme" not in then and "shellco" in then


def test_a_tenant_that_nobody_screened_is_told(story: History) -> None:
    """Whether it is on a list cannot be told: never screened, or a screening that has run out."""
    engine, asof, auditor = story.engine, AsOf(story.engine.replay), story.keys["auditor"]
    for tenant, screening in (
        ("acme", {"value": None}),
        ("acme-de", {"value": "none", "expires_at": format_instant(story.clock.now + HOUR)}),
    ):
        engine.facts.set_facts(story.keys["operator"], "tenants", tenant, {"list_match": screening})
    story.clock.now += HOUR
    found = {one.tenant: one.unknown for one in asof.owners(auditor).owned if not one.restricted}
    assert found == {"acme": ("screening",), "acme-de": ("screening",)}


def test_decisions_of_an_individual_that_may_be_on_a_list_are_counted(story: History) -> None:
    """Their tenant is sealed and counts all the same; a decision that is erased counts for nobody, and that is said."""
    engine, asof, keys = story.engine, AsOf(story.engine.replay), story.keys
    operator = keys["operator"]
    unlisted = dict(engine.store.row("tenants", "acme").document["facts"])  # type: ignore[union-attr]  # of the sample
    alone = {name: fact["value"] for name, fact in unlisted.items()} | {"type": "individual", "list_match": "possible"}
    engine.facts.set_facts(operator, "tenants", "solo", alone)
    for who in ("alice", "frank"):
        engine.facts.set_facts(operator, "persons", who, {"tenants": ["acme", "solo"]})
        ask(engine, who, "open-1", tenant="solo")
    ask(engine, "alice", tenant="solo")
    story.clock.now += SECOND
    found = {one.tenant: one for one in asof.owners(keys["auditor"]).owned}
    assert (found["solo"].allows_count, found["solo"].denies_count) == (2, 1)
    proposed = engine.disposal.erasures.propose(operator, "frank", "case 1")
    engine.approvals.approve(keys["approver"], proposed.proposal.id)
    story.clock.now += SECOND
    after = asof.owners(keys["auditor"])
    solo = next(one for one in after.owned if one.tenant == "solo")
    assert (solo.allows_count, solo.denies_count, after.closed_count) == (1, 1, 1)
