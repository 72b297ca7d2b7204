"""Law 8 over random histories, on both stores: what is erased or pruned is gone, what is held stays, every proof holds.

A small model says what must be there after each act; the database is compared with it, verified with the key file and
without it, and searched byte by byte.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from policy_engine.core.instants import SECOND
from policy_engine.errors import Conflict, Gone, InputRefused, NotFound
from policy_engine.services.holdrules import Cover
from tests.services.erasedsamples import PEOPLE, Office, raw_bytes, ten_years
from tests.store.samples import PostgresDatabase, SqliteDatabase

SUBJECTS = ("subject-a-7731", "subject-b-7731", "subject-c-7731")
TENANTS = ("acme", "lab", "solo")
MODELS = ("fable-5", "mythos-5")
Act = tuple[str, int, int]

VERBS = ("decide", "decide", "decide", "facts", "grant", "read", "hold", "unhold", "erase", "erase", "prune", "again")
HISTORIES = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 2), st.integers(0, 5)), min_size=3, max_size=14)


@dataclass
class Decided:
    """A decision of the history, and what became of its body."""

    subject: str
    tenant: str
    model: str
    at: int
    state: str = "there"


@dataclass
class History:
    """An office and the model of what must be in its database."""

    office: Office
    decided: dict[tuple[str, int], Decided] = field(default_factory=dict)
    holds: dict[str, Cover] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    known: dict[str, set[str]] = field(default_factory=dict)
    stated: dict[str, list[tuple[int, set[str]]]] = field(default_factory=dict)
    grants: int = 0
    placed: int = 0

    def do(self, act: Act) -> None:
        """Do one act, a second after the one before."""
        verb, a, b = act
        self.office.tick()
        getattr(self, verb)(SUBJECTS[a % len(SUBJECTS)], b)
        event(verb)

    def decide(self, subject: str, b: int) -> None:
        """Decide about a subject."""
        tenant, model = TENANTS[b % 3], MODELS[b % 2]
        place = self.office.decide(subject, tenant, model)
        self.decided[place] = Decided(subject, tenant, model, self.office.clock())
        self.erased.discard(subject)

    def facts(self, subject: str, b: int) -> None:
        """Set facts about a subject."""
        tenants = {TENANTS[b % 3], "acme"}
        try:
            self.office.person(subject, *sorted(tenants), residence=("DE", "GB", "IN")[b % 3])
        except Conflict:
            return  # the register says exactly this already
        except InputRefused:  # a tenant of theirs alone went with an erasure
            assert any(self.office.store.row("tenants", tenant) is None for tenant in tenants)
            return
        self.known[subject] = tenants
        self.stated.setdefault(subject, []).append((self.office.clock(), tenants))
        self.erased.discard(subject)

    def grant(self, subject: str, b: int) -> None:
        """Record a grant for a subject and end it."""
        nina, self.grants = self.office.people["nina"], self.grants + 1
        self.office.orders.receive(nina, "grant", {"id": f"g-{self.grants}", "person_id": subject})
        self.office.tick()
        self.office.orders.end(nina, f"g-{self.grants}", "over")
        self.erased.discard(subject)

    def read(self, subject: str, b: int) -> None:
        """Read the facts of a subject, which is an entry about them."""
        if subject in self.known:
            self.office.facts.show(self.office.people["nina"], "persons", subject)

    def hold(self, subject: str, b: int) -> None:
        """Place a hold of one of several kinds."""
        self.placed += 1
        cover = (
            Cover(subject=subject),
            Cover(tenant=TENANTS[b % 3]),
            Cover(model=MODELS[b % 2]),
            Cover(since=self.office.clock() - 5 * SECOND, until=self.office.clock()),
            Cover(subject=subject, model=MODELS[b % 2]),
            Cover(tenant="acme", model="mythos-5"),
        )[b]
        self.office.holds.place(self.office.people["nina"], f"h-{self.placed}", cover, "why")
        self.holds[f"h-{self.placed}"] = cover
        if cover.subject is not None:  # a hold on somebody who was erased writes the name anew
            self.erased.discard(subject)

    def unhold(self, subject: str, b: int) -> None:
        """Release the oldest hold, by two persons."""
        if self.holds:
            self.office.release_hold(next(iter(self.holds)))
            del self.holds[next(iter(self.holds))]

    def covered(self, cover: Cover, one: Decided) -> bool:
        """Say again, in other words, whether a hold covers a decision."""
        wanted = (("subject", one.subject), ("tenant", one.tenant), ("model", one.model))
        named = all(getattr(cover, name) in (None, value) for name, value in wanted)
        return named and (cover.since or 0) <= one.at and (cover.until is None or one.at < cover.until)

    def stated_under(self, cover: Cover, subject: str) -> bool:
        """Say whether a hold covers a change about a subject: none that names a model or another subject."""
        return (cover.subject, cover.model) == (None, None) and any(
            cover.tenant in (None, *tenants) and (cover.since or 0) <= at and (cover.until is None or at < cover.until)
            for at, tenants in self.stated.get(subject, ())
        )

    def erase(self, subject: str, b: int) -> None:
        """Erase a subject, unless a hold beats it."""
        there = [one for one in self.decided.values() if one.subject == subject and one.state == "there"]
        held = any(
            cover.subject == subject
            or (cover.subject is None and cover.tenant in self.known.get(subject, set()))
            or any(self.covered(cover, one) for one in there)
            or self.stated_under(cover, subject)
            for cover in self.holds.values()
        )
        try:
            self.office.erase(subject)
        except NotFound:
            assert not there and subject not in self.known
            return
        except Conflict:
            # A read is an entry too: a hold on a period may cover it, though it covers no decision.
            assert held or any(cover.since is not None for cover in self.holds.values())
            return
        assert not held
        self.known.pop(subject, None)
        self.stated.pop(subject, None)
        self.erased.add(subject)
        for one in there:
            one.state = "erased"

    def prune(self, subject: str, b: int) -> None:
        """Let ten years pass and prune what was before a moment of the history."""
        before = self.office.clock() - b * SECOND
        self.office.tick(ten_years() / SECOND)
        old = [one for one in self.decided.values() if one.state == "there" and one.at < before]
        free = [one for one in old if not any(self.covered(cover, one) for cover in self.holds.values())]
        try:
            self.office.prune(before)
        except NotFound:
            assert free == []
            return
        for one in free:
            one.state = "pruned"

    def again(self, subject: str, b: int) -> None:
        """Let another process take over, as after a restart, or beside it."""
        old = self.office
        self.office = old.again()
        if b % 2:
            old.close()

    def check(self) -> None:
        """Compare the database with the model."""
        for with_keys in (True, False):
            found = self.office.verify(with_keys=with_keys)
            assert found.findings == ()
        for place, one in self.decided.items():
            entry, mark = self.office.entry(place), self.office.mark(place)
            assert (one.state == "there") == bool(entry.sealed) == bool(entry.tags)
            assert one.state == ("there" if mark is None else mark.by)
            if mark is not None:
                with pytest.raises(Gone, match=f"^entry {place[1]}: {one.state} by entry {mark.seq} of log"):
                    self.office.read(place)
            else:
                assert self.office.read(place)["subject"] == one.subject
        for subject in self.erased:
            assert self.office.store.row("persons", subject) is None
        if isinstance(self.office.database, SqliteDatabase) and self.erased:
            self.office.scrub()
            left = raw_bytes(self.office.database)
            assert [subject for subject in self.erased if subject.encode() in left] == []


def lived(kind: Callable[[Path], Any], acts: list[Act]) -> None:
    """Live through a history on a new database and check it at the end and after each erasure."""
    with tempfile.TemporaryDirectory() as folder:
        database = kind(Path(folder))
        history = History(Office(database))
        try:
            for act in acts:
                history.do(act)
                if act[0] in ("erase", "prune"):
                    history.check()
            history.check()
        finally:
            history.office.close()
            database.close()
            database.drop()


BACK_AGAIN: list[Act] = [
    ("facts", 0, 0), ("decide", 0, 0), ("again", 0, 0), ("decide", 0, 1), ("erase", 0, 0), ("decide", 0, 0),
    ("facts", 0, 1), ("again", 0, 1), ("decide", 0, 2), ("erase", 0, 0), ("decide", 0, 0),
]  # fmt: skip
HELD: list[Act] = [
    ("facts", 0, 0), ("decide", 0, 0), ("decide", 1, 1), ("hold", 0, 2), ("erase", 0, 0), ("prune", 0, 0),
    ("unhold", 0, 0), ("erase", 0, 0), ("prune", 0, 0), ("erase", 1, 0),
]  # fmt: skip
WITHOUT_TENANT: list[Act] = [("facts", 0, 2), ("erase", 0, 0), ("facts", 0, 2)]


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(HISTORIES)
@example(BACK_AGAIN)
@example(HELD)
@example(WITHOUT_TENANT)
def test_what_is_gone_is_gone_and_every_proof_holds(acts: list[Act]) -> None:
    """On SQLite, whatever was erased or pruned is gone from every byte, all else opens, and everything verifies.

    Control: policy_engine/store/erasing.py: `self._writer.run(statements.EMPTY_BODY, log_id, seq)`
    """
    lived(SqliteDatabase, acts)


@pytest.mark.campaign
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(HISTORIES)
@example(BACK_AGAIN)
@example(HELD)
def test_the_same_on_postgresql(acts: list[Act]) -> None:
    """On PostgreSQL, with a log for each process, the same histories end the same way."""
    lived(PostgresDatabase, acts)


def test_the_people_of_these_tests_are_not_its_subjects() -> None:
    """Who acts keeps their name in the registers, so none of them may be erased here."""
    assert not set(SUBJECTS) & set(PEOPLE)
