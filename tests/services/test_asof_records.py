"""What decisions rested on: controls on a model, licences, evidence, the policy's history, rows; and who may ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from policy_engine.bootstrap import Engine
from policy_engine.core.decision import Principal
from policy_engine.core.instants import DAY, SECOND, format_instant, parse_instant
from policy_engine.errors import NotFound, NotPermitted
from policy_engine.ledger.encoding import parse_public
from policy_engine.services.asof import AsOf
from policy_engine.services.permissions import LOCAL
from policy_engine.services.questiontext import parse_question
from policy_engine.services.registercheck import RowsCheck
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.supposed import Correction
from tests.laws.sample import opened
from tests.services.asofstory import EVERYTHING, HOUR, ask, ids
from tests.services.histories import START, History, played, sqlite_settings
from tests.services.replays import edited, in_memory


@pytest.fixture
def house(sample_database: Any, compiled: ReleaseLoader) -> Iterator[tuple[Engine, dict[str, Principal]]]:
    """An engine on a copy of the sample database, with the sample principals by label."""
    with opened(sample_database, compiled) as made:
        yield made


def test_every_control_on_a_model_reached_its_family(story: History) -> None:
    """Aliases and derivatives are named; a switch on the base denies them; what was left open is counted."""
    engine, operator = story.engine, story.keys["operator"]
    text = (
        b'\n[[model]]\nid = "fable-5-tuned"\ntier = 4\nstatus = "available"\nbase = ["fable-5"]\n'
        b'permitted_serving_regions = ["US"]\nnationality_test = "EAR"\naliases = ["tuned"]\n'
    )
    proposal = engine.publish.publish(operator, {**story.files, "models.toml": story.files["models.toml"] + text})
    story.approved(proposal.id)
    story.approved(engine.publish.activate(operator, proposal.payload["hash"]).id)
    story.clock.now += SECOND
    ask(engine, "alice", "tuned")
    engine.switches.engage(operator, "stop", {"models": ["fable-5"]}, "a drill")
    engine.orders.receive(operator, "directive", {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]})
    story.clock.now += SECOND
    for model in ("fable-5", "tuned", "fable-latest", "open-1"):
        ask(engine, "alice", model)
    story.approved(engine.switches.release(operator, "stop", "over").id)
    story.clock.now += SECOND
    ask(engine, "alice", "tuned")
    ask(engine, "greg", "tuned", "lab")
    found = AsOf(engine.replay).family(story.keys["approver"], "fable-latest")
    assert found.members == {"fable-5": {"fable-latest"}, "fable-5-tuned": {"tuned"}}
    counted = {
        key: (one.denies_count, one.other_denies_count, one.allows_count, one.missed)
        for key, one in found.controls.items()
    }
    assert counted == {
        ("switch", "stop", "fable-5"): (2, 0, 0, False),
        ("switch", "stop", "fable-5-tuned"): (1, 0, 0, False),
        ("directive", "letter", "fable-5"): (0, 2, 0, False),
        ("directive", "letter", "fable-5-tuned"): (1, 1, 1, False),
    }
    with pytest.raises(NotFound, match="this model"):
        AsOf(engine.replay).family(story.keys["approver"], "no-such-model")


def test_a_switch_and_a_directive_of_one_id_are_told_apart(story: History) -> None:
    """An operator gives both the number of the letter: what the switch denied is none of the directive's doing."""
    engine, keys = story.engine, story.keys
    directive = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}
    engine.orders.receive(keys["operator"], "directive", directive)
    engine.switches.engage(keys["operator"], "letter", {"models": ["fable-5"]}, "the letter, for now")
    story.clock.now += SECOND
    stopped = ask(engine, "alice")
    story.approved(engine.switches.release(keys["operator"], "letter", "the directive will do").id)
    story.clock.now += SECOND
    ask(engine, "alice")
    story.clock.now += SECOND
    blocked = ask(engine, "greg", tenant="lab")
    asof = AsOf(engine.replay)
    counted = {
        key: (one.denies_count, one.other_denies_count, one.allows_count, one.missed)
        for key, one in asof.family(keys["auditor"], "fable-5").controls.items()
    }
    assert counted == {
        ("switch", "letter", "fable-5"): (1, 0, 0, False),
        ("directive", "letter", "fable-5"): (1, 1, 1, False),
    }
    stood = [(one.standing, one.subject) for one in asof.standings(keys["auditor"], "letter").standings]
    assert stood == [("kept", "alice"), ("lost", "greg")]
    receipt = asof.let_through(keys["auditor"], "letter").receipt
    assert receipt is not None and receipt.enforced_entry is not None
    assert ids(engine)[receipt.enforced_entry] == blocked
    for decision, register in ((stopped, "switches"), (blocked, "orders")):
        assert [one["register"] for one in asof.explained(keys["auditor"], decision)["orders"]] == [register]


def test_an_allow_under_a_switch_is_missed(house: tuple[Engine, dict[str, Principal]]) -> None:
    """An entry that says an allow left while a switch on just that model was engaged is found."""
    engine, keys = house
    engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "a drill")
    ask(engine, "alice")
    edited(engine, "UPDATE entries SET public = CAST(replace(public, '\"deny\"', '\"allow\"') AS BLOB) WHERE seq = 2")
    found = AsOf(engine.replay).family(keys["auditor"], "fable-5")
    assert [(one.control, one.missed) for one in found.controls.values()] == [("stop", True)]


# Licences


def licensed(story: History, id: str, **more: Any) -> None:
    """Receive a licence for chen and have it approved."""
    body = {"id": id, "from": "2026-01-01", "person_id": "chen", "models": ["fable-5"], "actions": ["infer"],
            "nationalities": ["CN"], "lifts": ["nat"], **more}  # fmt: skip
    receipt = story.engine.orders.receive(story.keys["operator"], "licence", body)
    story.engine.approvals.approve(story.keys["approver"], str(receipt.proposal))


def test_every_use_of_a_licence_by_whom_and_within_what(story: History) -> None:
    """Each use with person, model and instant; counted by person; none once it has ended, and all inside its scope."""
    engine, asof = story.engine, AsOf(story.engine.replay)
    licensed(story, "lic-1", until=format_instant(story.clock.now + 10 * DAY))
    licensed(story, "lic-2", person_id="ines")
    used = [ask(engine, "chen", tenant="lab") for _ in range(3)]
    ask(engine, "alice")
    ask(engine, "chen", "open-1", "lab")
    story.clock.now += 11 * DAY
    late = ask(engine, "chen", tenant="lab")
    found = asof.licence(story.keys["auditor"], "lic-1")
    named = ids(engine)
    assert [named[use.entry] for use in found.uses] == used
    assert late not in used
    assert found.by == Counter({"chen": 3})
    assert all(use.outside == () and use.model == "fable-5" and use.lifted for use in found.uses)
    assert found.ends_at == START + 10 * DAY
    assert found.after_end == []
    assert asof.licence(story.keys["auditor"], "lic-2").uses == []
    with pytest.raises(NotFound, match="made a licence"):
        asof.licence(story.keys["auditor"], "lic-3")


def test_a_revoked_licence_ends_at_its_revocation(story: History) -> None:
    """Uses before the revocation were inside; the end is the revocation's instant."""
    licensed(story, "lic-1")
    ask(story.engine, "chen", tenant="lab")
    story.clock.now += DAY
    story.engine.orders.end(story.keys["operator"], "lic-1", "no longer")
    ask(story.engine, "chen", tenant="lab")
    found = AsOf(story.engine.replay).licence(story.keys["auditor"], "lic-1")
    assert (len(found.uses), found.ends_at, found.after_end) == (1, START + DAY, [])


def test_a_use_outside_a_licence_is_named(house: tuple[Engine, dict[str, Principal]]) -> None:
    """An entry that claims a licence which did not cover it says what did not: a second look, not the decider's."""
    engine, keys = house
    body = {"id": "lic-1", "from": "2026-01-01", "person_id": "chen", "models": ["fable-5"], "actions": ["infer"],
            "nationalities": ["CN"], "lifts": ["nat"]}  # fmt: skip
    engine.approvals.approve(keys["approver"], str(engine.orders.receive(keys["operator"], "licence", body).proposal))
    ask(engine, "alice", "open-1")
    edited(
        engine,
        'UPDATE entries SET public = CAST(replace(public, \'"licences":[]\', \'"licences":["lic-1"]\') AS BLOB)',
    )
    found = AsOf(engine.replay).licence(keys["auditor"], "lic-1")
    assert [use.outside for use in found.uses] == [("models", "person_id")]


# Evidence


def test_decisions_by_kind_and_age_of_evidence(story: History) -> None:
    """Level, method, assurance and class of age, counted by outcome; the age is that at the decision."""
    engine, asof = story.engine, AsOf(story.engine.replay)
    then = format_instant(story.clock.now - 100 * DAY)
    evidence = {"level": "verified", "verified_on": then[:10], "expires_on": None}
    given = {"method": "document-check", "assurance": "IAL3", "verified_at": then}
    engine.facts.set_facts(
        story.keys["operator"], "persons", "alice", {"nationality_evidence": evidence}, provenance=given
    )
    ask(engine, "alice")
    story.clock.now += 200 * DAY
    ask(engine, "alice")
    ask(engine, "eve")
    ask(engine, "nobody")
    found = asof.evidence(story.keys["auditor"], EVERYTHING)
    assert found.kinds["verified", "document-check", "IAL3", "up to 180 days", "allow"] == 1
    assert found.kinds["verified", "document-check", "IAL3", "up to 365 days", "allow"] == 1
    assert sum(found.kinds.values()) == found.considered_count == 3  # nobody is no subject, so no rule was reached
    allows = asof.evidence(story.keys["auditor"], parse_question("allow", story.clock.now))
    assert sum(allows.kinds.values()) == 2


def test_decisions_on_stale_declared_and_later_changed_facts(story: History) -> None:
    """Each is listed with the fact and, where it changed, the entry that changed it; sound ones are not listed."""
    engine, asof, operator = story.engine, AsOf(story.engine.replay), story.keys["operator"]
    sound, declared, changed = ask(engine, "frank"), ask(engine, "eve"), ask(engine, "alice")
    ends = {"expires_at": format_instant(story.clock.now + HOUR), "method": "document-check"}
    engine.facts.set_facts(operator, "persons", "dana", {"residence_country": "GB"}, provenance=ends)
    story.clock.now += 2 * HOUR
    stale = ask(engine, "dana")
    engine.facts.set_facts(operator, "persons", "alice", {"us_status": "none"})
    engine.facts.set_facts(operator, "persons", "frank", {"us_status": "citizen"}, provenance={"method": "again"})
    ask(engine, "alice")
    named = ids(engine)
    found = {named[one.entry]: one for one in asof.evidence(story.keys["auditor"], EVERYTHING).doubtful}
    assert set(found) == {declared, changed, stale}
    assert "persons.nationality_evidence" in found[declared].self_declared
    assert found[stale].stale == ("persons.residence_country",)
    (why,) = found[changed].changed_later
    fact, _, entry = why.partition(" by entry ")
    assert (fact, found[changed].stale) == ("persons.us_status", ())
    assert parse_public(public_of(engine, entry))["kind"] == "facts.set"
    assert sound not in found


def public_of(engine: Engine, name: str) -> bytes:
    """Return the public bytes of the entry of a name."""
    found = {
        (str(seq) if engine.store.one_log else f"{log_id}:{seq}"): data
        for log_id, seq, data in engine.store.entries(limit=100_000)
    }
    return found[name]


# The policy's history, rows, one decision explained


def test_the_history_of_the_policy(story: History) -> None:
    """Each release stored, published and activated, by whom, approved by whom, in force when, with what it decided."""
    engine, asof = story.engine, AsOf(story.engine.replay)
    ask(engine, "alice")
    ask(engine, "eve")
    changed = {**story.files, "models.toml": story.files["models.toml"] + b"\n# another\n"}
    proposal = engine.publish.publish(story.keys["operator"], changed, "tested with 300 cases")
    story.clock.now += HOUR
    story.approved(proposal.id)
    story.clock.now += HOUR
    story.approved(engine.publish.activate(story.keys["operator"], proposal.payload["hash"], "go").id)
    ask(engine, "alice")
    found = asof.releases(story.keys["approver"])
    assert [one.change for one in found] == ["activated", "stored", "published", "activated"]
    first, stored, published, second = found
    assert (first.author, first.until, first.allows_count, first.denies_count) == (None, second.at, 1, 1)
    assert (stored.author, stored.approver, stored.note) == ("operator", None, "tested with 300 cases")
    assert (published.author, published.approver, published.note) == ("operator", "approver", "tested with 300 cases")
    assert (second.author, second.approver, second.note) == ("operator", "approver", "go")
    assert (second.release, second.until, second.allows_count, second.denies_count) == (stored.release, None, 1, 0)
    assert 0 <= second.at - (START + 2 * HOUR) <= SECOND


def test_rows_that_no_entry_made_and_rows_that_are_missing(house: tuple[Engine, dict[str, Principal]]) -> None:
    """An honest database has none; an edited, an added and a removed row are each named, with and without the key."""
    engine, keys = house
    engine.facts.set_facts(keys["operator"], "persons", "alice", {"residence_country": "GB"})
    with engine.store.view() as view:
        assert RowsCheck(view, engine.replay.vault).findings == []
        assert RowsCheck(view, None).counts["changes"] == 2
    edited(engine, "UPDATE persons SET document = replace(document, 'declared', 'verified') WHERE id = 'eve'")
    columns = "revision, document, salt, log_id, seq, item"
    edited(engine, f"INSERT INTO tenants (id, {columns}) SELECT 'ghost', {columns} FROM tenants LIMIT 1")
    edited(engine, "DELETE FROM persons WHERE id = 'frank'")
    with engine.store.view() as view:
        messages = Counter(finding.message for finding in RowsCheck(view, engine.replay.vault).findings)
        public = Counter(finding.message for finding in RowsCheck(view, None).findings)
    assert messages["the row is missing"] == 1
    assert messages["the row is not the one that its entry committed to"] == 2
    assert public == Counter({"the row is not the one that its entry committed to": 2})


def test_one_decision_explained(story: History) -> None:
    """Facts as then known with source and age, every rule that matched and which decided, the law, the tables' age."""
    engine, asof = story.engine, AsOf(story.engine.replay)
    story.clock.now += 60 * DAY
    given = {"method": "document-check", "verified_at": format_instant(story.clock.now - 40 * DAY)}
    engine.facts.set_facts(story.keys["operator"], "persons", "greg", {"residence_country": "US"}, provenance=given)
    engine.orders.receive(
        story.keys["operator"], "directive", {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}
    )
    decision = ask(engine, "greg", tenant="lab")
    engine.facts.set_facts(story.keys["operator"], "persons", "greg", {"residence_country": "GB"})
    found = asof.explained(story.keys["auditor"], decision)
    assert (found["outcome"], found["replayed"], found["differences"]) == ("deny", "same", ())
    assert found["asked"]["subject"] == "greg"
    (home,) = [fact for fact in found["facts"] if fact["fact"] == "residence_country"]
    assert (home["value"], home["age_days"], home["method"], home["source"]) == (
        "US", 40, "document-check", story.keys["operator"].key_id,
    )  # fmt: skip
    assert home["verifier"] == "operator"
    deciding = [rule for rule in found["rules"] if rule["decided"]]
    assert deciding and all(rule["effect"] == "deny" and rule["authority"] for rule in deciding)
    assert any(rule["effect"] == "allow" for rule in found["rules"])
    assert [order["id"] for order in found["orders"]] == ["letter"]
    tables = {table["edition"]: table["age_days"] for table in found["tables"]}
    assert tables["ear@2026-07-23"] == (story.clock.now - parse_instant("2026-07-23")) // DAY == 8
    assert found["values"]["directive"] == ["foreign_person"]


# Who may ask


def test_each_question_needs_the_scope_and_is_recorded(house: tuple[Engine, dict[str, Principal]]) -> None:
    """Without `audit:unseal` nothing is answered and nothing recorded; with it each is one entry of kind `read`."""
    engine, keys = house
    ask(engine, "alice")
    engine.orders.receive(
        keys["operator"], "directive", {"id": "letter", "models": "all", "blocks": ["foreign_person"]}
    )
    asof = AsOf(engine.replay)
    questions: list[Any] = [
        lambda who: asof.explained(who, "1"),
        lambda who: asof.corrected(who, Correction("persons", "alice", {"us_status": "none"}, 0)),
        lambda who: asof.let_through(who, "letter"),
        lambda who: asof.evidence(who, EVERYTHING),
    ]
    before = engine.store.head()
    for question in (*questions, lambda who: asof.licence(who, "lic-1"), asof.releases):
        for who in (LOCAL, keys["enforcement point"]):
            with pytest.raises(NotPermitted):
                question(who)
    for question in questions:
        with pytest.raises(NotPermitted, match="audit:unseal"):
            question(keys["operator"])
    assert engine.store.head() == before
    for question in questions:
        question(keys["auditor"])
    asof.releases(keys["operator"])
    read = [parse_public(data) for _, _, data in engine.store.entries(after=2)]
    assert [entry["kind"] for entry in read] == ["read"] * 5
    assert [entry["what"] for entry in read] == ["explain", "with-fact", "let-through", "evidence", "releases"]
    assert "alice" not in str(read)
    assert engine.evidence.verify().ok


def test_an_id_that_no_order_bears_stays_out_of_the_public_part(house: tuple[Engine, dict[str, Principal]]) -> None:
    """Whoever types a person where an order is asked for puts no name into what is public and never erased."""
    engine, keys = house
    asof = AsOf(engine.replay)
    for question in (asof.licence, asof.let_through):
        with pytest.raises(NotFound):
            question(keys["auditor"], "eve")
    asof.standings(keys["auditor"], "eve")
    read = [parse_public(data) for _, _, data in engine.store.entries(after=0)]
    assert [entry["what"] for entry in read] == ["licence-use", "let-through", "standings"]
    assert "eve" not in str(read)
    assert [engine.evidence.read_body(keys["auditor"], seq)["order"] for seq in (1, 2, 3)] == ["eve"] * 3


# On a generated history


def test_questions_agree_with_a_naive_recount(compiled: ReleaseLoader) -> None:
    """On a generated history every answer equals what plain code counts from the public parts of the entries."""
    with in_memory() as place, played(5, 320, [sqlite_settings(place)], compiled) as history:
        engine, auditor = history.engine, history.keys["auditor"]
        asof = AsOf(engine.replay)
        entries = [parse_public(data) for _, _, data in engine.store.entries(limit=100_000)]
        decisions = [entry for entry in entries if entry["kind"] == "decision"]
        uses = Counter(licence for entry in decisions for licence in entry["licences"])
        made = {entry["order"] for entry in entries if entry["kind"] == "order.licensed"}
        for licence in sorted(made):
            found = asof.licence(auditor, licence)
            assert len(found.uses) == uses[licence]
            assert [use for use in found.uses if use.outside] == []
        evidence = asof.evidence(auditor, EVERYTHING)
        reached = [entry for entry in decisions if entry["reached"]]
        assert sum(evidence.kinds.values()) == len(reached)
        allows = sum(count for kind, count in evidence.kinds.items() if kind[-1] == "allow")
        assert allows == sum(entry["outcome"] == "allow" for entry in reached)
        releases = [one for one in asof.releases(auditor) if one.change == "activated"]
        counted = Counter((entry["release"], entry["outcome"]) for entry in decisions)
        for outcome in ("allow", "deny"):
            sums: Counter[str] = Counter()
            for one in releases:
                sums[one.release] += one.allows_count if outcome == "allow" else one.denies_count
            assert all(counted[release, outcome] == number for release, number in sums.items())
        for directive in sorted({entry["order"] for entry in entries if entry["kind"] == "order.received"}):
            assert asof.let_through(auditor, directive).through == [], directive  # law 4
    assert sum(uses.values()) >= 5
