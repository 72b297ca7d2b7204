"""What processes remember of a subject does not outlive the erasure: data keys, facts, evaluations, in any process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from policy_engine.core.decision import Request
from policy_engine.core.facts import Location
from policy_engine.services.factcache import FactCache
from policy_engine.services.permissions import LOCAL
from policy_engine.services.record import Recorder
from tests.laws.sample import opened
from tests.services.erasedsamples import Office
from tests.store.samples import PostgresDatabase, SqliteDatabase

KINDS = {"sqlite": SqliteDatabase, "postgres": PostgresDatabase}
ZOE = "zoe-7731"


@pytest.fixture(params=sorted(KINDS))
def offices(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Office, Office]]:
    """Two processes over one database of either kind, both of which know Zoe."""
    database = KINDS[request.param](tmp_path)
    here = Office(database)
    here.tick()
    here.person(ZOE, "acme")
    there = here.again()
    for office in (here, there):
        here.tick()
        office.decide(ZOE)
    here.tick()
    yield here, there
    assert here.verify().findings == ()
    for office in (here, there):
        office.close()
    database.close()
    database.drop()


def test_a_process_that_remembers_the_key_seals_under_the_stored_one(offices: tuple[Office, Office]) -> None:
    """After an erasure elsewhere, the key in memory seals nothing; the next entry opens with the key that is stored.

    Control: policy_engine/services/datakeys.py: `if epoch > self._epoch:`
    """
    here, there = offices
    here.erase(ZOE)
    here.tick()
    first, second = there.decide(ZOE), here.decide(ZOE)
    assert (here.read(first)["subject"], there.read(second)["subject"]) == (ZOE, ZOE)
    assert here.entry(first).data_key == here.entry(second).data_key


def test_an_index_that_is_being_filled_keeps_nothing_of_who_is_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL a process fills the index while another erases: the erasure waits, and takes those tags as well.

    Without a lock between them the erasure sees no tags, and the index keeps those that it had read before.
    """
    monkeypatch.setattr(
        Recorder, "_index", lambda recorder: None
    )  # the test fills it, in a transaction that stays open
    database = PostgresDatabase(tmp_path)
    here = Office(database)
    here.tick()
    here.person(ZOE, "acme")
    there = here.again()
    here.tick()
    place = there.decide(ZOE)
    here.tick()
    erasing = Thread(target=here.erase, args=(ZOE,))
    with database.server.admin(database.name) as session:
        session.execute("BEGIN")
        session.execute("SELECT policy_engine.index_tags(%s, 1000)", (there.entry(place).log_id,))
        erasing.start()
        erasing.join(0.5)
        assert erasing.is_alive()
        session.execute("COMMIT")
    erasing.join(30)
    assert here.verify().findings == ()
    for office in (here, there):
        office.close()
    database.close()
    database.drop()


def test_a_process_that_remembers_the_facts_sees_the_new_ones(offices: tuple[Office, Office]) -> None:
    """A row that comes back has a revision of its own, so that the facts in memory are not taken for it.

    Control: policy_engine/store/registers.py:
    `revision = (rows.last_erased(key_id) if found is None else found[0]) + 1`
    """
    here, there = offices
    cache = FactCache(there.store)
    before = cache.person(ZOE, there.store.state().facts_revision)
    here.erase(ZOE)
    here.tick()
    here.person(ZOE, "lab", residence="IN")
    after = cache.person(ZOE, there.store.state().facts_revision)
    assert before.subject is not None and after.subject is not None
    assert (before.subject.tenants, after.subject.tenants) == ({"acme"}, {"lab"})
    assert after.revision > before.revision


def test_a_remembered_evaluation_is_not_answered_again(sample_database: Any, compiled: Any) -> None:
    """Who was allowed a moment ago is unknown after the erasure, also to a process that remembers the answer."""
    asked = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")
    with opened(sample_database, compiled) as (engine, people):
        assert engine.decider.decide(asked, LOCAL)
        assert engine.decider.decide(asked, LOCAL)
        waiting = engine.disposal.erasures.propose(people["operator"], "alice", "case 7").proposal
        engine.approvals.approve(people["approver"], waiting.id)
        decided = engine.decider.decide(asked, LOCAL)
        assert not decided
        assert "subject.unknown" in [reason.code for reason in decided.reasons]
        assert engine.evidence.verify().findings == ()
