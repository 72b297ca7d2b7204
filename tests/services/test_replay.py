"""Replay: each recorded decision comes out the same with the state of its time; what was tampered with does not."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pysqlite3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Principal, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import DAY
from policy_engine.errors import InputRefused, NotAuthenticated, NotFound, NotPermitted, VerificationFailed
from policy_engine.services.asof import AsOf
from policy_engine.services.evidence import Filters
from policy_engine.services.keys import KeyRequest
from policy_engine.services.permissions import LOCAL
from policy_engine.services.questiontext import parse_question
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.replay import Replayed
from policy_engine.services.supposed import Correction
from policy_engine.settings import Settings
from policy_engine.store.migrate import install
from tests.laws.sample import opened
from tests.postgresql import running
from tests.services.histories import POLICIES, History, played, sqlite_settings

ALICE = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")
EVE = Request("eve", "infer", "fable-5", "acme", Location("US"), "US")
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.fixture
def house(sample_database: Any, compiled: ReleaseLoader) -> Iterator[tuple[Engine, dict[str, Principal]]]:
    """An engine on a copy of the sample database, with the sample principals by label."""
    with opened(sample_database, compiled) as made:
        yield made


def statuses(found: list[Replayed]) -> dict[str, str]:
    """Return what became of each entry, by its name."""
    return {one.entry: one.status for one in found}


def codes(found: list[Replayed]) -> Counter[str]:
    """Return how often each outcome and reason code occurs."""
    counted: Counter[str] = Counter()
    for one in found:
        public = one.public or {}
        counted[public["outcome"]] += 1
        counted.update(code for _, code, _ in public["reasons"])
        counted["licences used"] += bool(public["licences"])
    return counted


@contextmanager
def in_memory() -> Iterator[Path]:
    """Offer a place for a database that is thrown away."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder) / "engine.db"


# Everything comes out the same


@pytest.mark.parametrize("seed", [3, 5])
def test_thousands_of_decisions_of_every_outcome_come_out_the_same(seed: int, compiled: ReleaseLoader) -> None:
    """After changes of facts, orders, switches, keys and releases, each decision is the same again, byte for byte.

    Control: policy_engine/services/past.py: `self._projection.put(entry.log_id, entry.seq, rows)`
    """
    with in_memory() as place, played(seed, 320, [sqlite_settings(place)], compiled) as history:
        found = list(history.engine.replay.all(history.keys["auditor"]))
        kinds = changes_of(history.engine)
    assert [one for one in found if one.status != "same"] == []
    assert len(found) >= 2_500
    counted = codes(found)
    assert counted["allow"] >= 300
    assert counted["licences used"] >= 5
    for code in ("key.ended", "switch.engaged", "directive.foreign-person", "model.withdrawn", "tenant.not-permitted",
                 "evidence.expired", "model.unknown", "tenant.not-member", "nationality.restricted"):  # fmt: skip
        assert counted[code] >= 5, (code, counted)
    for kind in ("facts.set", "order.received", "order.licensed", "switch.engaged", "switch.released", "key.created",
                 "key.revoked", "release.activated"):  # fmt: skip
        assert kinds[kind] >= 1, (kind, kinds)


def changes_of(engine: Engine) -> Counter[str]:
    """Return how often each kind of entry occurs."""
    page = engine.evidence._store.entries(limit=100_000)
    return Counter(kind_of(public) for _, _, public in page)


def kind_of(public: bytes) -> str:
    """Return the kind of an entry."""
    from policy_engine.ledger.encoding import parse_public

    return str(parse_public(public)["kind"])


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32))
def test_any_history_comes_out_the_same(seed: int, compiled: ReleaseLoader) -> None:
    """Whatever is asked and changed in whatever order, nothing comes out otherwise."""
    with in_memory() as place, played(seed, 60, [sqlite_settings(place)], compiled) as history:
        found = list(history.engine.replay.all(history.keys["auditor"]))
    assert [one for one in found if one.status != "same"] == []


def test_a_plain_folder_comes_out_the_same(tmp_path: Path) -> None:
    """Where rules read the request itself, it is replayed with what its caller could vouch for, and nothing more."""
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "model.conf").write_text(
        "[request_definition]\nr = sub, role, obj, act\n[policy_definition]\np = role, obj, act\n"
        "[policy_effect]\ne = some(where (p.eft == allow))\n"
        "[matchers]\nm = r.role == p.role && r.obj == p.obj && r.act == p.act\n"
    )
    (folder / "policy.csv").write_text("p, admin, data, read\n")
    (folder / "facets.toml").write_text('[tokens]\nrole = { from = "subject.properties.role", kind = "scalar" }\n')
    engine = open_engine(Settings(database=f"sqlite:///{tmp_path / 'e.db'}", policies=folder))
    try:
        issued = engine.keys.create_first(["anna", "bert"])
        anna, bert = (engine.keys.authenticate(key.secret) for key in issued)
        star = engine.keys.create(anna, KeyRequest("door", PrincipalKind.SERVICE, ("decide",), supplies=("*",)))
        engine.approvals.approve(bert, str(star.proposal))
        unsealer = engine.keys.create(anna, KeyRequest("uma", PrincipalKind.PERSON, ("audit:unseal",)))
        engine.approvals.approve(bert, str(unsealer.proposal))
        raw = {"subject": {"properties": {"role": "admin"}}}
        asked = Request("zoe", "read", "data", subject_type="user", resource_type="doc", raw=raw)
        allowed = engine.decider.decide(asked, engine.keys.authenticate(star.secret))
        assert allowed.allowed
        assert not engine.decider.decide(asked, anna).allowed
        found = list(engine.replay.all(engine.keys.authenticate(unsealer.secret)))
    finally:
        engine.close()
    assert [one.status for one in found] == ["same", "same"]
    assert [(one.public or {})["outcome"] for one in found] == ["allow", "deny"]


# Several writers


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[list[Settings]]:
    """Settings of two writers of one PostgreSQL database that holds the sample world."""
    server = running()
    name = server.new_database("template1")
    install(server.url(name))
    one = Settings(
        database=server.url(name, "pe_writer"),
        operator_database=server.url(name, "pe_operator"),
        policies=POLICIES,
        keys=tmp_path / "engine.keys",
        sample_world="yes",
        serving_region="US",
    )
    yield [one, one]
    server.drop_database(name)


def test_the_decisions_of_two_writers_come_out_the_same(writers: list[Settings], compiled: ReleaseLoader) -> None:
    """Two writers decide while either of them changes facts, orders, switches and keys: each decision is the same."""
    first = open_engine(writers[0], releases=compiled)
    second = open_engine(writers[1], releases=compiled)
    engines = (first, second)
    try:
        keys = {key.label: first.keys.authenticate(key.secret) for key in first.sample_keys}
        changed = threading.Event()
        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(ask_around, engine, keys, number, changed) for number, engine in enumerate(engines)]
            try:
                change_around(engines, keys)
            finally:
                changed.set()
            asked = sum(one.result() for one in asking)
        found = list(first.replay.all(keys["auditor"]))
        with first.store.view() as view:
            logs = {head.log_id for head in view.heads()}
    finally:
        first.close()
        second.close()
    assert [one for one in found if one.status != "same"] == []
    assert len(found) >= asked >= 500
    assert len({one.entry.partition(":")[0] for one in found}) == 2 <= len(logs)
    counted = codes(found)
    assert counted["allow"] >= 50
    assert counted["switch.engaged"] >= 8


def ask_around(engine: Engine, keys: Mapping[str, Principal], seed: int, changed: threading.Event) -> int:
    """Ask for some hundred decisions, a few at a time, and on until all is changed; return for how many."""
    import random

    history = History((engine,), dict(keys), None, random.Random(seed), {})  # type: ignore[arg-type]  # no clock is moved
    asked = 0
    turns = 0
    while turns < 60 or not changed.is_set():
        turns += 1
        requests = [history.request() for _ in range(history.rng.randrange(1, 10))]
        asked += sum(bool(one.id) for one in engine.decider.decide_many(requests, keys["enforcement point"]))
        asked += sum(bool(one.id) for one in engine.decider.decide_many((ALICE,), keys["enforcement point"]))
    return asked


def change_around(engines: tuple[Engine, Engine], keys: Mapping[str, Principal]) -> None:
    """Change facts, a switch and a directive by turns through both writers, and ask for what is switched off."""
    operator, approver = keys["operator"], keys["approver"]
    for turn in range(8):
        one, other = engines[turn % 2], engines[(turn + 1) % 2]
        status = ("citizen", "none")[turn % 2]
        one.facts.set_facts(operator, "persons", "alice", {"us_status": status})
        one.switches.engage(operator, f"stop-{turn}", {"models": ["mythos-5"]}, "a drill")
        assert not one.decider.decide(replace(ALICE, model="mythos-5"), keys["enforcement point"]).allowed
        directive = {"id": f"letter-{turn}", "models": ["fable-5"], "blocks": ["foreign_person"]}
        other.orders.receive(operator, "directive", directive)
        one.approvals.approve(approver, other.switches.release(operator, f"stop-{turn}", "over").id)
        other.approvals.approve(approver, str(one.orders.end(operator, f"letter-{turn}", "over").proposal))


# What was tampered with is found


def edited(engine: Engine, statement: str) -> None:
    """Change the database behind the engine's back, triggers and all."""
    with pysqlite3.connect(str(engine.settings.database_path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(statement)
    connection.close()


def test_a_row_that_was_edited_for_one_decision_is_found(house: tuple[Engine, dict[str, Principal]]) -> None:
    """Facts edited by hand before a decision and put back behind it: that decision, and no other, is different."""
    engine, keys = house
    engine.decider.decide(ALICE, LOCAL)
    was, lie = '"level":"declared","verified_on":null', '"level":"verified","verified_on":"2026-11-01"'
    edited(engine, f"UPDATE persons SET document = replace(document, '{was}', '{lie}') WHERE id = 'eve'")
    deceived = engine.decider.decide(EVE, LOCAL)
    assert deceived.allowed
    edited(engine, f"UPDATE persons SET document = replace(document, '{lie}', '{was}') WHERE id = 'eve'")
    engine.decider.decide(ALICE, LOCAL)
    found = list(engine.replay.all(keys["auditor"]))
    assert [one.status for one in found] == ["same", "different", "same"]
    assert (found[1].public or {})["id"] == deceived.id
    members = {one.member: (one.recorded, one.found) for one in found[1].differences}
    assert members["outcome"] == ("allow", "deny")
    assert engine.evidence.verify().ok


def written(was: str, now: str) -> str:
    """Return the statement that edits the public part of entry 2."""
    return f"UPDATE entries SET public = CAST(replace(public, '{was}', '{now}') AS BLOB) WHERE seq = 2"


@pytest.mark.parametrize(
    ("statement", "status", "words"),
    [
        (written('"deny"', '"allow"'), "different", ""),
        (written('"P8"', '"P9"'), "different", ""),
        (written('"tier":4', '"tier":3'), "different", ""),
        ("UPDATE bodies SET sealed = CAST(substr(sealed, 1, 40) || x'00' || substr(sealed, 42) AS BLOB) WHERE seq = 2",
         "unreadable", "does not open"),
        ("DELETE FROM bodies WHERE seq = 2", "unreadable", "no sealed body"),
        ("UPDATE bodies SET data_key = (SELECT data_key FROM bodies WHERE seq = 1) WHERE seq = 2",
         "unreadable", "does not open"),
    ],
)  # fmt: skip
def test_an_altered_entry_is_found(
    house: tuple[Engine, dict[str, Principal]], statement: str, status: str, words: str
) -> None:
    """An outcome, reason or tier that was edited, and a body that was flipped, taken away or exchanged."""
    engine, keys = house
    engine.decider.decide(ALICE, LOCAL)
    engine.decider.decide(EVE, LOCAL)
    engine.decider.decide(ALICE, LOCAL)
    edited(engine, statement)
    found = list(engine.replay.all(keys["auditor"]))
    assert [one.status for one in found] == ["same", status, "same"]
    assert words in found[1].note
    assert engine.replay.one(keys["auditor"], "2").status == status


def test_a_change_that_does_not_open_is_named(house: tuple[Engine, dict[str, Principal]]) -> None:
    """Decisions rest on every change before them, so one that cannot be read is part of the answer."""
    engine, keys = house
    engine.facts.set_facts(keys["operator"], "persons", "alice", {"residence_country": "GB"})
    engine.decider.decide(ALICE, LOCAL)
    edited(engine, "UPDATE bodies SET sealed = CAST(replace(sealed, 'A', 'B') AS BLOB) WHERE seq = 1")
    found = statuses(list(engine.replay.all(keys["auditor"])))
    assert found == {"1": "unreadable", "2": "different"}


# What is gone


def test_what_was_erased_answers_by_which_entry(house: tuple[Engine, dict[str, Principal]]) -> None:
    """Of an erased subject nothing is decided again; everybody else, before and behind it, comes out the same."""
    engine, keys = house
    for request in (ALICE, EVE, ALICE):
        engine.decider.decide(request, LOCAL)
    proposed = engine.disposal.erasures.propose(keys["operator"], "eve", "asked by the person")
    ruled = engine.approvals.approve(keys["approver"], proposed.proposal.id)
    engine.decider.decide(EVE, LOCAL)
    engine.decider.decide(ALICE, LOCAL)
    found = list(engine.replay.all(keys["auditor"]))
    assert [one.status for one in found] == ["same", "erased", "same", "same", "same"]
    by = f"erased by entry {ruled.committed.seqs[-1]} of log {ruled.committed.log_id}"
    assert found[1].note == by
    one = engine.replay.one(keys["auditor"], "2")
    assert (one.status, one.note, one.differences) == ("erased", by, ())
    assert engine.evidence.verify().ok


def test_erasures_in_a_generated_history(compiled: ReleaseLoader) -> None:
    """After two subjects were erased, exactly their decisions answer so; all others come out the same."""
    with in_memory() as place, played(7, 200, [sqlite_settings(place)], compiled) as history:
        engine, auditor = history.engine, history.keys["auditor"]
        before = list(engine.replay.all(auditor))
        gone = set()
        for subject in ("dana", "frank"):
            asked = parse_question(f"subject:{subject}", history.clock.now)
            gone |= set(statuses(list(engine.replay.all(auditor, asked))))
            proposed = engine.disposal.erasures.propose(history.keys["operator"], subject, "asked by the person")
            engine.approvals.approve(history.keys["approver"], proposed.proposal.id)
        found = statuses(list(engine.replay.all(auditor)))
    assert len(gone) >= 50
    assert {name for name, status in found.items() if status == "erased"} == gone
    assert {name for name, status in found.items() if status == "same"} == set(statuses(before)) - gone


def test_what_was_pruned_answers_by_which_entry(compiled: ReleaseLoader) -> None:
    """Bodies past their retention are gone by an entry that says so; what is younger still comes out the same."""
    with in_memory() as place, played(0, 0, [sqlite_settings(place)], compiled) as history:
        engine, operator = history.engine, history.keys["operator"]
        engine.decider.decide(ALICE, LOCAL)
        history.clock.now += 4_000 * DAY
        engine.decider.decide(ALICE, LOCAL)
        before = history.clock.now - 3_700 * DAY
        proposed = engine.disposal.retention.propose(operator, before, "past its retention")
        engine.approvals.approve(history.keys["approver"], proposed.proposal.id)
        found = list(engine.replay.all(history.keys["auditor"]))
    assert [one.status for one in found] == ["pruned", "same"]
    assert found[0].note.startswith("pruned by entry ")


# One decision, and who may ask


def test_a_decision_is_named_by_entry_or_id(house: tuple[Engine, dict[str, Principal]]) -> None:
    """Its number, its log and number, or its id; each replay says the same of the same entry."""
    engine, keys = house
    decision = engine.decider.decide(ALICE, LOCAL)
    head = engine.store.head()
    assert head is not None
    for name in ("1", f"{head.log_id}:1", decision.id):
        found = engine.replay.one(keys["auditor"], name)
        assert (found.entry, found.status, found.differences) == ("1", "same", ())


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("0", InputRefused, "is a change"),
        ("2", NotFound, "no such decision"),
        ("99", NotFound, "no such decision"),
        ("f" * 32, NotFound, "no such decision"),
        ("0123456789abcdef:1", NotFound, "no such decision"),
        ("one", InputRefused, "LOG:NUMBER"),
        ("", InputRefused, "LOG:NUMBER"),
        ("-1", InputRefused, "LOG:NUMBER"),
        ("1" * 19, InputRefused, "LOG:NUMBER"),
    ],
)
def test_what_is_no_decision_is_refused(
    house: tuple[Engine, dict[str, Principal]], name: str, error: type[Exception], words: str
) -> None:
    """A change, a read, an entry that is not there and a text that names none: one sentence each."""
    engine, keys = house
    engine.decider.decide(ALICE, LOCAL)
    engine.replay.one(keys["auditor"], "1")  # entry 2 is a read
    with pytest.raises(error, match=words):
        engine.replay.one(keys["auditor"], name)


def test_a_replay_needs_a_person_who_may_unseal(house: tuple[Engine, dict[str, Principal]]) -> None:
    """`local`, a gateway, an operator without the scope and an ended key are refused, and nothing is recorded."""
    engine, keys = house
    engine.decider.decide(ALICE, LOCAL)
    before = engine.store.head()
    for who in (LOCAL, keys["enforcement point"], keys["operator"], keys["approver"]):
        with pytest.raises(NotPermitted, match="audit:unseal"):
            engine.replay.one(who, "1")
        with pytest.raises(NotPermitted, match="audit:unseal"):
            engine.replay.all(who)
    assert engine.store.head() == before
    engine.keys.revoke(keys["operator"], str(keys["auditor"].key_id))
    with pytest.raises(NotAuthenticated):
        engine.replay.all(keys["auditor"])


def test_a_replay_is_recorded_before_it_is_shown(house: tuple[Engine, dict[str, Principal]]) -> None:
    """One entry of kind `read` a replay; of one decision it is found by the person it was about."""
    engine, keys = house
    engine.decider.decide(EVE, LOCAL)
    engine.replay.one(keys["auditor"], "1")
    engine.replay.all(keys["auditor"], text="subject:eve")  # not one result was taken
    one, every = (engine.evidence.show(LOCAL, seq) for seq in (2, 3))
    assert (one["kind"], one["what"], one["entry"], one["by"]) == ("read", "replay", "1", keys["auditor"].key_id)
    assert (every["kind"], every["what"]) == ("read", "replay")
    assert "eve" not in str(one) + str(every)
    assert engine.evidence.read_body(keys["auditor"], 3)["question"] == "subject:eve"
    assert engine.evidence.verify().ok


def test_the_bounded_replay_their_tenants_only(house: tuple[Engine, dict[str, Principal]]) -> None:
    """A key bounded to tenants replays the decisions of those tenants; others are not there."""
    engine, keys = house
    bounded = KeyRequest("vera", PrincipalKind.PERSON, ("audit:unseal",), tenants=("lab",))
    issued = engine.keys.create(keys["operator"], bounded)
    engine.approvals.approve(keys["approver"], str(issued.proposal))
    vera = engine.keys.authenticate(issued.secret)
    engine.decider.decide(ALICE, LOCAL)
    engine.decider.decide(Request("greg", "infer", "fable-5", "lab", Location("US"), "US"), LOCAL)
    assert list(statuses(list(engine.replay.all(vera)))) == ["4"]
    with pytest.raises(NotFound):
        engine.replay.one(vera, "3")


# Questions


@pytest.mark.parametrize(
    ("question", "entries"),
    [
        ("", ["1", "2", "3", "4"]),
        ("allow", ["1", "3"]),
        ("deny", ["2", "4"]),
        ("tier>=4", ["1", "2", "4"]),
        ("tenant:lab", ["3", "4"]),
        ("subject:alice", ["1"]),
        ("country:GB,US", ["4"]),
        ("us_person:yes allow", ["1"]),
        ("group:D:5", ["3"]),
        ("until 2020-01-01", []),
    ],
)
def test_a_question_selects_what_is_replayed(
    house: tuple[Engine, dict[str, Principal]], question: str, entries: list[str]
) -> None:
    """Public columns, sealed facets, groups of countries and times select decisions as they do everywhere."""
    engine, keys = house
    for request in (
        ALICE,
        EVE,
        Request("chen", "infer", "open-1", "lab", Location("US"), "US"),
        Request("greg", "infer", "fable-5", "lab", Location("CN"), "US"),
    ):
        engine.decider.decide(request, LOCAL)
    asked = parse_question(question, engine.store.now())
    found = list(engine.replay.all(keys["auditor"], asked))
    assert list(statuses(found)) == entries


# Damage


@pytest.mark.parametrize("member", ["instant", "reasons", "by", "outcome"])
def test_a_decision_that_lacks_a_member_is_unreadable(house: tuple[Engine, dict[str, Principal]], member: str) -> None:
    """It is named and nothing else is kept back; whoever cannot say so with an answer gives none."""
    engine, keys = house
    for request in (ALICE, EVE, ALICE):
        engine.decider.decide(request, LOCAL)
    edited(engine, written(f'"{member}":', f'"{member[:-1]}_":'))
    found = list(engine.replay.all(keys["auditor"]))
    assert [one.status for one in found] == ["same", "unreadable", "same"]
    assert "missing or has the wrong type" in found[1].note
    assert engine.replay.one(keys["auditor"], "2").status == "unreadable"
    asof = AsOf(engine.replay)
    corrected = asof.corrected(keys["auditor"], Correction("persons", "eve", {"us_status": "none"}, 0))
    assert [one["entry"] for one in corrected.closed] == ["2"]
    for ask in (lambda: asof.family(keys["auditor"], "fable-5"), lambda: asof.owners(keys["auditor"])):
        with pytest.raises(VerificationFailed, match="would lack entry 2"):
            ask()


@pytest.mark.parametrize("now", ["[1]", "hello"])
def test_a_question_names_the_entry_that_is_none(house: tuple[Engine, dict[str, Principal]], now: str) -> None:
    """What is no entry is neither found nor passed over: the answer is refused, with its place."""
    engine, _ = house
    engine.decider.decide(ALICE, LOCAL)
    edited(engine, f"UPDATE entries SET public = CAST('{now}' AS BLOB) WHERE seq = 1")
    with pytest.raises(VerificationFailed, match="entry 1 of log"):
        engine.evidence.query(LOCAL, Filters(outcome="allow"))
