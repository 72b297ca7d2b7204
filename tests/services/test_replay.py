"""Replay: each recorded decision comes out the same with the state of its time, by one writer or by several."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Principal, PrincipalKind, Request
from policy_engine.services.keys import KeyRequest
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.replay import Replayed
from policy_engine.settings import Settings
from policy_engine.store.migrate import install
from tests.postgresql import running
from tests.services.histories import POLICIES, History, played, sqlite_settings
from tests.services.replays import ALICE, in_memory


def codes(found: list[Replayed]) -> Counter[str]:
    """Return how often each outcome and reason code occurs."""
    counted: Counter[str] = Counter()
    for one in found:
        public = one.public or {}
        counted[public["outcome"]] += 1
        counted.update(code for _, code, _ in public["reasons"])
        counted["licences used"] += bool(public["licences"])
    return counted


@pytest.mark.parametrize("seed", [3, pytest.param(5, marks=pytest.mark.campaign)])
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
