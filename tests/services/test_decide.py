"""Deciding beside the happy path: nothing asked, a state that never rests, a log that is away, batches that end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2

from policy_engine.core.decision import Evaluation, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import DAY, format_instant, parse_instant
from policy_engine.services.decide import (
    ATTEMPTS_COUNT,
    DENY_ON_FIRST_DENY,
    EXECUTE_ALL,
    PERMIT_ON_FIRST_PERMIT,
    Decider,
)
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.factcache import FactCache
from policy_engine.services.permissions import LOCAL
from policy_engine.services.queries import Query
from policy_engine.services.releases import ReleaseLoader
from tests.laws.sample import decisions, opened
from tests.services.histories import played, sqlite_settings

ALLOWED = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")
DENIED = Request("eve", "infer", "fable-5", "acme", Location("US"), "US")


class Restless(Evaluator):
    """An evaluator in whose engine a fact changes after every evaluation."""

    engine: Any = None
    operator: Any = None
    count = 0

    def evaluate(self, *arguments: Any) -> Evaluation:
        """Evaluate, and change what was evaluated."""
        found = super().evaluate(*arguments)
        self.count += 1
        self.engine.facts.set_facts(self.operator, "persons", "alice", {"us_status_detail": f"change {self.count}"})
        return found


def restless(engine: Any, operator: Any) -> tuple[Decider, Restless]:
    """Return a decider over an engine that never rests."""
    evaluator = Restless(FactCache(engine.store), serving_region="US", remembers=False)
    evaluator.engine, evaluator.operator = engine, operator
    decider = Decider(
        engine.snapshots,
        evaluator,
        engine.recorder,
        engine.store.now,
        key_alive=engine.keys.still_alive,
        valid_for_ms=2_000,
    )
    return decider, evaluator


@pytest.mark.parametrize("form", ["sync", "async"])
def test_what_keeps_moving_is_denied_as_stale(form: str, sample_database: Any, compiled: Any) -> None:
    """After a bounded number of attempts the answer is a deny that says so, and no entry allows.

    Control: policy_engine/services/decide.py: `if isinstance(result, Written) and item.evaluation is not None:`
    """
    with opened(sample_database, compiled) as (engine, keys):
        decider, evaluator = restless(engine, keys["operator"])
        if form == "sync":
            decision = decider.decide(ALLOWED, LOCAL)
        else:
            decision = asyncio.run(decider.decide_async(ALLOWED, LOCAL))
        assert not decision.allowed
        assert [reason.code for reason in decision.reasons] == ["stale"]
        assert evaluator.count == ATTEMPTS_COUNT
        assert decisions(engine) == []


@pytest.mark.parametrize("form", ["sync", "async", "batch"])
def test_while_the_log_is_away_every_form_denies(form: str, sample_database: Any, compiled: Any) -> None:
    """A locked file denies with `log.unavailable`, alone and in a batch, and allows again when it is free."""
    with opened(sample_database, compiled) as (engine, _):
        locked = dbapi2.connect(str(engine.settings.database_path), isolation_level=None)
        locked.execute("BEGIN IMMEDIATE")
        try:
            if form == "sync":
                found = [engine.decider.decide(ALLOWED, LOCAL)]
            elif form == "async":
                found = [asyncio.run(engine.decider.decide_async(ALLOWED, LOCAL))]
            else:
                found = asyncio.run(engine.decider.decide_many_async((ALLOWED, DENIED), LOCAL))
        finally:
            locked.close()
        assert [[reason.code for reason in each.reasons] for each in found] == [["log.unavailable"]] * len(found)
        assert engine.decider.decide(ALLOWED, LOCAL).allowed


@pytest.mark.parametrize(
    ("semantic", "asked", "expected"),
    [
        (EXECUTE_ALL, "ada", "ada"),
        (DENY_ON_FIRST_DENY, "aada", "aad"),
        (DENY_ON_FIRST_DENY, "aa", "aa"),
        (PERMIT_ON_FIRST_PERMIT, "ddad", "dda"),
        (PERMIT_ON_FIRST_PERMIT, "dd", "dd"),
        (EXECUTE_ALL, "", ""),
    ],
)
def test_a_batch_ends_where_its_semantic_ends(
    semantic: str, asked: str, expected: str, sample_database: Any, compiled: Any
) -> None:
    """Nothing behind the end is decided or recorded, on a thread and on a loop alike."""
    requests = [ALLOWED if letter == "a" else DENIED for letter in asked]
    with opened(sample_database, compiled) as (engine, _):
        one = engine.decider.decide_many(requests, LOCAL, semantic=semantic)
        other = asyncio.run(engine.decider.decide_many_async(requests, LOCAL, semantic=semantic))
        for found in (one, other):
            assert "".join("a" if each.allowed else "d" for each in found) == expected
        assert len(decisions(engine)) == 2 * len(expected)


def test_a_boundary_that_the_log_has_no_number_for_leaves_the_log_whole(
    tmp_path: Path, compiled: ReleaseLoader
) -> None:
    """An order that ends in the year 9999 is no boundary that an entry names, and verifying finds nothing."""
    with played(0, 0, [sqlite_settings(tmp_path / "engine.db")], compiled) as history:
        engine = history.engine
        history.clock.now = parse_instant("2027-01-01")  # behind the last edition and period of the sample release
        body = {"id": "letter", "until": "9999-12-31", "models": ["mythos-5"], "blocks": ["foreign_person"]}
        engine.orders.receive(history.keys["operator"], "directive", body)
        denied = Request("nobody", "infer", "fable-5", "acme", Location("US"), "US")
        assert engine.decider.evaluate(denied, LOCAL).until == parse_instant("9999-12-31")
        engine.decider.decide(denied, LOCAL)
        assert engine.evidence.verify().findings == ()
        assert [recorded.public["until"] for recorded in decisions(engine)] == [None]


@pytest.mark.parametrize("kind", ["person", "service"])
def test_a_membership_ends_with_the_fact_that_says_it(kind: str, tmp_path: Path, compiled: ReleaseLoader) -> None:
    """Up to the last microsecond a member is allowed; at its expiry the fact is unknown, and nobody is a member."""
    with played(0, 0, [sqlite_settings(tmp_path / "engine.db")], compiled) as history:
        engine, ends = history.engine, history.clock.now + DAY
        membership = {"value": ["acme"], "expires_at": format_instant(ends)}
        facts = {"subject_type": kind, "tenants": membership, "list_match": "none"}
        engine.facts.set_facts(history.keys["operator"], "persons", "member", facts)
        asked = Request("member", "infer", "open-1", "acme", Location("US"), "US", subject_type=kind)
        history.clock.now = ends - 1
        decision = engine.decider.decide(asked, LOCAL)
        assert (decision.allowed, decision.valid_for_ms) == (True, 0)
        history.clock.now = ends
        decision = engine.decider.decide(asked, LOCAL)
        assert [reason.code for reason in decision.reasons] == ["tenant.not-member"]
        assert engine.search.what_can(LOCAL, Query(subject="member")).hits == ()


def test_an_entry_names_the_licences_that_lifted_and_no_others(tmp_path: Path, compiled: ReleaseLoader) -> None:
    """A licence that would lift what nothing denied was not used, though another one was."""
    with played(0, 0, [sqlite_settings(tmp_path / "engine.db")], compiled) as history:
        engine = history.engine
        body = {
            "from": "2026-01-01",
            "person_id": "chen",
            "models": ["summit-4"],
            "actions": ["infer"],
            "nationalities": ["CN"],
            "destinations": ["US"],
        }
        for id, lifts in (("needed", ["nat", "seat"]), ("idle", ["dest", "weights", "seat"])):
            received = engine.orders.receive(history.keys["operator"], "licence", {**body, "id": id, "lifts": lifts})
            history.approved(received.proposal)
        decision = engine.decider.decide(Request("chen", "infer", "summit-4", "lab", Location("US"), "US"), LOCAL)
        (recorded,) = decisions(engine)
        assert decision.allowed
        assert sorted(recorded.public["lifted"]) == ["P7.nationality-frontier", "P7.nationality-restricted"]
        assert recorded.public["licences"] == ["needed"]


@pytest.mark.parametrize("switched", ["PR", "US-PR"])
@pytest.mark.parametrize(
    ("location", "serving"),
    [(Location("PR"), "US"), (Location("US", "US-PR"), "US"), (Location("US"), "PR"), (Location("US"), "US-PR")],
)
def test_a_switch_covers_a_territory_however_it_is_written(
    switched: str, location: Location, serving: str, sample_database: Any, compiled: Any
) -> None:
    """Puerto Rico is PR and US-PR, where the person is and where the request is served: one spelling stops both."""
    with opened(sample_database, compiled) as (engine, keys):
        asked = Request("alice", "infer", "fable-5", "acme", location, serving)
        assert engine.decider.decide(asked, LOCAL).allowed
        engine.switches.engage(keys["operator"], "stop", {"regions": [switched]}, "an incident there")
        assert [reason.code for reason in engine.decider.decide(asked, LOCAL).reasons] == ["switch.engaged"]
        assert engine.decider.decide(ALLOWED, LOCAL).allowed
