"""Attacks on erasure: each test is one, and names it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import psycopg
import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine.core.instants import SECOND
from policy_engine.errors import Conflict, InputRefused, NotFound, NotPermitted, Overtaken
from policy_engine.services.holdrules import Cover
from policy_engine.services.permissions import LOCAL
from policy_engine.store.erasureinterfaces import Erasure, Pruning
from policy_engine.store.interfaces import Change, Write
from tests.attacks.zoe import ZOE, there
from tests.services.erasedsamples import Office, ten_years
from tests.store.samples import PostgresDatabase, SqliteDatabase


def test_self_approval(office: Office) -> None:
    """Who proposed an erasure cannot approve it."""
    proposal = office.propose(ZOE).proposal
    with pytest.raises(NotPermitted, match="another person"):
        office.approvals.approve(office.people["nina"], proposal.id)
    assert there(office)


def test_erasing_oneself(office: Office) -> None:
    """The subject proposes nothing about themselves, under any spelling, and does not approve it either."""
    office.person("rita", "acme")
    for name in ("rita", "Rita"):
        with pytest.raises(NotPermitted, match="themselves"):
            office.erasures.propose(office.people["rita"], name, "case 7")
    proposal = office.propose("rita").proposal
    with pytest.raises(NotPermitted, match="themselves"):
        office.approvals.approve(office.people["rita"], proposal.id)
    assert office.store.row("persons", "rita") is not None


def test_erasing_with_a_key_bounded_to_tenants_or_none(office: Office) -> None:
    """A bounded key, a service and the shell without a key propose nothing."""
    for who in (office.people["bounded"], LOCAL):
        for attempt in (
            lambda who=who: office.erasures.propose(who, ZOE, "case 7"),
            lambda who=who: office.retention.propose(who, 0, "old"),
            lambda who=who: office.holds.place(who, "h", Cover(subject=ZOE), "why"),
            lambda who=who: office.holds.list(who),
        ):
            with pytest.raises(NotPermitted):
                attempt()
    assert there(office)


def test_erasing_under_a_hold(office: Office) -> None:
    """A hold refuses the proposal, and one that came after it refuses the approval; released, it may go on."""
    proposal = office.propose(ZOE).proposal
    office.tick()
    office.holds.place(office.people["rita"], "h", Cover(subject=ZOE), "subpoena")
    with pytest.raises(Conflict, match="hold h covers"):
        office.approvals.approve(office.people["paul"], proposal.id)
    with pytest.raises(Conflict, match="hold h covers"):
        office.propose(ZOE)
    assert there(office)
    office.tick()
    office.release_hold("h")
    office.approvals.approve(office.people["paul"], proposal.id)
    assert not there(office)


@pytest.mark.parametrize(
    "cover",
    [
        Cover(tenant="acme"),
        Cover(model="fable-5"),
        Cover(model="fable-latest"),
        Cover(subject=ZOE, tenant="lab"),
        Cover(since=0),
        Cover(tenant="acme", model="fable-5", since=0),
    ],
)
def test_every_kind_of_hold_stops_an_erasure(office: Office, cover: Cover) -> None:
    """A hold on the tenant, the model (by either name), a period, or several of them covers the subject."""
    office.decide(ZOE, "acme", asked="fable-latest")
    office.holds.place(office.people["rita"], "h", cover, "why")
    with pytest.raises(Conflict, match="hold h covers"):
        office.propose(ZOE)


@pytest.mark.parametrize("cover", [Cover(subject="bob"), Cover(tenant="lab"), Cover(model="mythos-5"), Cover(until=9)])
def test_a_hold_on_something_else_stops_nothing(office: Office, cover: Cover) -> None:
    """A hold that covers nothing of the subject lets the erasure go on."""
    office.holds.place(office.people["rita"], "h", cover, "why")
    office.erase(ZOE)
    assert not there(office)


@pytest.mark.parametrize("tenant", [None, "lab"])
def test_a_hold_on_the_time_in_which_facts_were_set(office: Office, tenant: str | None) -> None:
    """The entry of a change is an entry too: its rows about the subject stay, though no decision of then names them.

    A proposal to erase them, and a tenant that no such row names, are no reason.
    """
    office.tick()
    since = office.clock()
    office.person("yuri-7731", "lab")
    office.tick()
    nina, until = office.people["nina"], office.clock()
    office.person("yuri-7731", "acme")
    office.tick()
    early = office.propose("yuri-7731").proposal
    office.tick()
    office.holds.place(nina, "other", Cover(tenant="solo", since=since), "why")
    office.holds.place(nina, "younger", Cover(since=until + 1), "why")
    office.holds.place(nina, "h", Cover(tenant=tenant, since=since, until=until), "why")
    with pytest.raises(Conflict, match="hold h covers"):
        office.propose("yuri-7731")
    with pytest.raises(Conflict, match="hold h covers"):
        office.approvals.approve(office.people["paul"], early.id)
    assert office.store.row("persons", "yuri-7731") is not None
    office.release_hold("h")
    office.approvals.approve(office.people["paul"], early.id)
    assert office.store.row("persons", "yuri-7731") is None
    assert office.verify().findings == ()


def test_a_hold_on_a_sealed_tenant(office: Office) -> None:
    """An individual's tenant is sealed in the log and is found all the same."""
    office.decide(ZOE, "duo")
    office.holds.place(office.people["rita"], "h", Cover(tenant="duo"), "why")
    with pytest.raises(Conflict, match="hold h covers"):
        office.propose(ZOE)


def test_a_hold_on_a_tenant_that_is_erased_by_its_own_id(office: Office) -> None:
    """A hold on an individual's tenant stops its erasure, also when nobody is its member any more."""
    office.holds.place(office.people["rita"], "h", Cover(tenant="solo"), "subpoena")
    with pytest.raises(Conflict, match="hold h covers"):
        office.propose("solo")
    assert office.store.row("tenants", "solo") is not None


def test_a_hold_placed_at_the_last_moment(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold that commits between the look at the holds and the erasing transaction wins.

    Control: policy_engine/store/erasing.py: `if erasure.epoch != state.epoch or set(found) != set(erasure.places):`
    """
    proposal = office.propose(ZOE).proposal
    change = office.store.change

    def late(asked: Change) -> Any:
        if asked.kind == "erased" and office.store.row("orders", "h") is None:
            office.tick()
            monkeypatch.setattr(office.store, "change", change)
            office.holds.place(office.people["rita"], "h", Cover(subject=ZOE), "why")
        return change(asked)

    monkeypatch.setattr(office.store, "change", late)
    with pytest.raises(Conflict, match="hold h covers"):
        office.approvals.approve(office.people["paul"], proposal.id)
    assert there(office)


def test_a_decision_written_at_the_last_moment(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision, even under a new tenant, that commits between the look and the transaction is erased as well."""
    proposal = office.propose(ZOE).proposal
    change, late_place = office.store.change, []

    def late(asked: Change) -> Any:
        if asked.kind == "erased" and not late_place:
            late_place.append(office.decide(ZOE, "never-heard-of"))
            office.tick()
        return change(asked)

    monkeypatch.setattr(office.store, "change", late)
    office.approvals.approve(office.people["paul"], proposal.id)
    assert office.entry(late_place[0]).sealed == b""
    assert str(office.mark(late_place[0])).startswith("erased by entry")


def test_a_held_decision_written_at_the_last_moment(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision that a hold covers, and that commits between the look and the transaction, stops the erasure.

    Control: policy_engine/store/erasing.py: `if erasure.epoch != state.epoch or set(found) != set(erasure.places):`
    """
    office.holds.place(office.people["rita"], "h", Cover(model="mythos-5"), "why")
    proposal = office.propose(ZOE).proposal
    change, late_place = office.store.change, []

    def late(asked: Change) -> Any:
        if asked.kind == "erased" and not late_place:
            late_place.append(office.decide(ZOE, model="mythos-5"))
            office.tick()
        return change(asked)

    monkeypatch.setattr(office.store, "change", late)
    with pytest.raises(Conflict, match="hold h covers"):
        office.approvals.approve(office.people["paul"], proposal.id)
    assert there(office)


def test_a_row_that_moved(office: Office) -> None:
    """When the subject's row changed since the proposal, the approval fails for good."""
    proposal = office.propose(ZOE).proposal
    office.tick()
    office.person(ZOE, "acme", "lab")
    with pytest.raises(Conflict, match="has changed since"):
        office.approvals.approve(office.people["paul"], proposal.id)
    assert there(office)
    assert office.approvals.show(office.people["paul"], proposal.id).status == "failed"


def test_approving_another_content(office: Office) -> None:
    """The content hash that the approver read is the one that is applied, or nothing is."""
    proposal = office.propose(ZOE).proposal
    with pytest.raises(Conflict, match="content hash"):
        office.approvals.approve(office.people["paul"], proposal.id, hash="0" * 64)
    assert there(office)


def test_approving_twice(office: Office) -> None:
    """An erasure is applied once, and its proposal names nobody afterwards."""
    proposal = office.propose(ZOE).proposal
    office.approvals.approve(office.people["paul"], proposal.id)
    with pytest.raises(Conflict, match="approved already"):
        office.approvals.approve(office.people["rita"], proposal.id)
    kept = office.approvals.show(office.people["paul"], proposal.id)
    assert (kept.payload, kept.salt, kept.basis, kept.hash) == ({"redacted": True}, "", (), proposal.hash)
    with pytest.raises(NotFound):
        office.propose(ZOE)


def test_a_name_in_the_reason(office: Office) -> None:
    """The reason outlives the erasure, so one that holds the subject's id is refused, and so is an empty one."""
    for reason in (f"the wish of {ZOE}", f"the wish of {ZOE.upper()}", " "):
        with pytest.raises(InputRefused):
            office.propose(ZOE, reason=reason)


def test_erasing_whom_a_licence_still_names(office: Office) -> None:
    """An order for the subject that is in force is ended first."""
    nina = office.people["nina"]
    office.orders.receive(nina, "grant", {"id": "g", "person_id": ZOE})
    with pytest.raises(Conflict, match="order g is for this subject"):
        office.propose(ZOE)
    office.tick()
    office.orders.end(nina, "g", "over")
    office.erase(ZOE)
    assert office.store.row("orders", "g") is None


def test_who_acts_keeps_the_record_of_it(office: Office) -> None:
    """Erasing one who holds a key takes their facts and says how many rows of what they did stay."""
    office.person("rita", "acme")
    office.tick()
    office.holds.place(office.people["rita"], "h", Cover(model="mythos-5"), "why")
    proposed = office.propose("rita")
    assert proposed.rows == {"persons": 1}
    assert proposed.kept == {"keys": 1, "orders": 1}
    office.approvals.approve(office.people["paul"], proposed.proposal.id)
    assert office.store.row("persons", "rita") is None
    assert office.store.row("keys", "rita") is not None


def test_what_names_the_subjects_own_tenant(office: Office) -> None:
    """A hold on it that was released goes with it; rows about others that name it stay, and are counted."""
    office.person(ZOE, "acme", "solo")
    for id, cover in (("h-1", Cover(tenant="solo")), ("h-2", Cover(subject="bob", tenant="solo"))):
        office.tick()
        office.holds.place(office.people["rita"], id, cover, "why")
        office.tick()
        office.release_hold(id)
    proposed = office.propose(ZOE)
    assert proposed.rows == {"persons": 1, "tenants": 1, "orders": 1}
    assert proposed.kept == {"orders": 1}
    office.approvals.approve(office.people["paul"], proposed.proposal.id)
    assert [row.id for row in office.store.rows("orders")] == ["h-2"]


# The stores themselves


def erasing(office: Office, **changes: Any) -> Change:
    """Return a change that erases nothing, but for the changes."""
    removes = Erasure(
        **{"epoch": office.store.state().epoch, "tags": (), "places": (), "keys": (), "rows": (), **changes}
    )
    return Change("erased", {}, (), raises_epoch=True, removes=removes)


def test_erasing_under_an_older_epoch(office: Office) -> None:
    """What was looked at under an older epoch is never carried out."""
    with pytest.raises(Overtaken):
        office.store.change(erasing(office, epoch=0))
    with pytest.raises(Overtaken):
        office.store.change(Change("pruned", {}, (), raises_epoch=True, removes=Pruning(0, 1, ())))


def test_erasing_a_row_at_another_revision(office: Office) -> None:
    """A row that is not at the revision that was looked at stays."""
    with pytest.raises(Conflict):
        office.store.change(erasing(office, rows=(("persons", ZOE, 7),)))
    assert there(office)


@pytest.mark.parametrize("register", ["keys", "switches", "releases", "entries"])
def test_erasing_what_somebody_did(office: Office, register: str) -> None:
    """No erasure takes a row of a register of acts, whoever asks the store for it."""
    with pytest.raises(ValueError, match="takes rows of"):
        office.store.change(erasing(office, rows=((register, "nina", 1),)))


@pytest.mark.parametrize(
    "change",
    [
        Change("erased", {}, (), raises_epoch=True),
        Change("facts.set", {}, (), raises_epoch=True, removes=Pruning(0, 1, ())),
        Change("erased", {}, (), raises_epoch=True, removes=Pruning(0, 1, ())),
        Change("pruned", {}, (), raises_epoch=False, removes=Pruning(0, 1, ())),
    ],
)
def test_an_entry_that_says_another_thing_than_it_does(office: Office, change: Change) -> None:
    """The kind of an entry and what it takes away go together, or the change is refused."""
    with pytest.raises(ValueError, match=r"erase|epoch"):
        office.store.change(change)


@pytest.mark.parametrize("name", ["erases", "prunes"])
def test_an_entry_that_claims_to_have_erased(office: Office, name: str) -> None:
    """No caller writes the members that say what is gone."""
    change = Change("facts.set", {name: {"keys": []}}, (Write("persons", "x", {"facts": {}}, 0),), raises_epoch=False)
    with pytest.raises(InputRefused, match="the log itself writes"):
        office.store.change(change)


def test_many_decisions_meanwhile(office: Office) -> None:
    """While decisions about the subject pour in, the erasure is applied or refused, and never half."""
    proposal = office.propose(ZOE).proposal
    stop = threading.Event()

    def pour() -> None:
        while not stop.is_set():
            office.decide(ZOE)

    pouring = threading.Thread(target=pour)
    pouring.start()
    try:
        office.approvals.approve(office.people["paul"], proposal.id)
    except Conflict:
        assert there(office)
    finally:
        stop.set()
        pouring.join()


SQLITE_GUARDS = [
    "DELETE FROM data_keys",
    "UPDATE data_keys SET wrapped = x'00'",
    "INSERT OR REPLACE INTO data_keys SELECT id, x'00' FROM data_keys",
    "DELETE FROM erased_keys",
    "UPDATE erased_keys SET seq = 99",
    "INSERT OR REPLACE INTO erased_keys SELECT * FROM erased_keys",
    "DELETE FROM pruned_ranges",
    "UPDATE pruned_ranges SET end_seq = 99",
    "INSERT INTO erased_keys VALUES ('k', 'log', 1, 1, 'persons', NULL)",
    "INSERT INTO pruned_ranges VALUES ('log', 9, 'log', 5, 5, 1)",
]


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_a_program_that_opens_the_file(tmp_path: Path, recursive: str) -> None:
    """Data keys and marks are not changed or taken away by any program that respects the schema."""
    database = SqliteDatabase(tmp_path)
    office = Office(database)
    office.tick()
    office.person(ZOE, "acme")
    office.decide(ZOE)
    office.tick()
    office.erase(ZOE)
    office.decide("bob")
    office.clock.at += ten_years()
    office.prune(office.clock() - ten_years() + SECOND)
    connection = dbapi.connect(str(database.path))
    try:
        connection.execute(f"PRAGMA recursive_triggers = {recursive}")
        for statement in SQLITE_GUARDS:
            with pytest.raises(dbapi.IntegrityError):
                connection.execute(statement)
            connection.rollback()
    finally:
        connection.close()
        office.close()


def test_an_operator_that_erases_without_an_entry(tmp_path: Path) -> None:
    """PostgreSQL lets go only what an entry of the same transaction says, and a writer's login nothing."""
    database = PostgresDatabase(tmp_path)
    office = Office(database)
    office.tick()
    office.person(ZOE, "acme")
    office.decide(ZOE)
    office.tick()
    office.erase(ZOE)
    log_id, seq = office.publics()[-1]["log"], office.publics()[-1]["seq"]
    keys = "ARRAY(SELECT id FROM policy_engine.data_keys)"
    calls = [
        f"SELECT policy_engine.erase('{log_id}', {n}, 1, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', {keys}, '{{}}')"
        for n in (0, seq, seq + 1)
    ] + [f"SELECT policy_engine.prune('{log_id}', {n})" for n in (0, seq, seq + 1)]
    try:
        for url, refusal in (
            (database.operator, psycopg.errors.RaiseException),
            (database.writer, psycopg.errors.InsufficientPrivilege),
        ):
            with psycopg.connect(url, autocommit=True) as session:
                for call in calls:
                    with pytest.raises(psycopg.Error) as refused:
                        session.execute(call)  # type: ignore[call-overload]  # our own text
                    assert isinstance(refused.value, refusal) or refused.value.sqlstate == "PE001"
        with database.server.admin(database.name) as owner:
            for statement in (
                "DELETE FROM policy_engine.data_keys",
                "UPDATE policy_engine.data_keys SET wrapped = ''",
                "DELETE FROM policy_engine.persons",
                "TRUNCATE policy_engine.persons",
                "DELETE FROM policy_engine.erased_keys",
                "TRUNCATE policy_engine.pruned_ranges",
            ):
                with pytest.raises(psycopg.errors.IntegrityError):
                    owner.execute(statement)
        assert office.verify().findings == ()
    finally:
        office.close()
        database.close()
        database.drop()
