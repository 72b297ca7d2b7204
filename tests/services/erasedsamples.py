"""An office that decides, keeps facts, holds, erases and prunes, on either kind of store, for tests of what is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policy_engine.core.decision import Principal, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import DAY, SECOND, parse_instant
from policy_engine.ledger.encoding import parse_public
from policy_engine.services.approvals import Approvals, Ruled
from policy_engine.services.erasure import Erasures, Proposed
from policy_engine.services.evidence import Evidence
from policy_engine.services.factcache import FactCache
from policy_engine.services.facts import Facts
from policy_engine.services.holds import Holds
from policy_engine.services.keys import Keys
from policy_engine.services.marks import Mark, Marks
from policy_engine.services.orders import Orders
from policy_engine.services.permissions import SCOPES
from policy_engine.services.record import Recorder, Written
from policy_engine.services.retention import Retention
from policy_engine.services.unseal import Unsealer
from policy_engine.services.verify import Report, verify
from policy_engine.store.interfaces import Change, StoredEntry, Write
from policy_engine.store.scrubbing import scrub
from tests.services.evidencesamples import PEP, evaluation
from tests.services.governed import RELEASE, known_words, person
from tests.store.samples import PATIENT, VAULT, AnyStore, Database, SqliteDatabase

START = parse_instant("2026-06-12T12:00:00Z")
RETENTION_DAYS = 3_653
PEOPLE = {
    "nina": person("nina", *SCOPES),
    "paul": person("paul", *SCOPES),
    "rita": person("rita", *SCOPES),
    "bounded": person("bounded", *SCOPES, tenants=("acme",)),
}
TENANTS = {"acme": "enterprise", "lab": "lab", "solo": "individual", "duo": "individual"}


@dataclass
class Clock:
    """A clock that moves when told."""

    at: int = START

    def __call__(self) -> int:
        return self.at


@dataclass
class Office:
    """Services over one database, as one process has them."""

    database: Database
    clock: Clock = field(default_factory=Clock)
    people: dict[str, Principal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store: AnyStore = self.database.open(self.clock)
        self.recorder = Recorder(self.store, VAULT, PATIENT)
        self.approvals = Approvals(self.store)
        self.keys = Keys(self.store, self.approvals)
        self.facts = Facts(self.store, self.recorder, known_words)
        self.cache = FactCache(self.store)
        self.orders = Orders(self.store, self.approvals, known_words)
        self.holds = Holds(self.store, self.approvals)
        self.erasures = Erasures(self.store, self.approvals, VAULT, scrub=self.scrub)
        self.retention = Retention(self.store, self.approvals, VAULT, retention_days=RETENTION_DAYS, scrub=self.scrub)
        self.evidence = Evidence(self.store, self.recorder, VAULT)
        if not self.people:
            self._lay_genesis()

    def _lay_genesis(self) -> None:
        writes, issued = self.keys.genesis(PEOPLE)
        tenants = [Write("tenants", id, {"facts": {"type": {"value": kind}}}, 0) for id, kind in TENANTS.items()]
        release = Write("releases", RELEASE, {"hash": RELEASE, "status": "published", "files": []}, 0)
        self.store.change(Change("genesis", {}, (*writes, *tenants, release), raises_epoch=True, activate=RELEASE))
        self.people |= {key.id: self.keys.authenticate(key.secret or "", self.clock()) for key in issued}

    def scrub(self) -> None:
        """Write a file anew; a server does that by itself."""
        if isinstance(self.database, SqliteDatabase):
            assert scrub(self.database.path, bytes_max=None, busy_seconds=1.0)

    def close(self) -> None:
        """Stop the recorder and close the store."""
        self.recorder.close()
        self.store.close()

    def again(self) -> Office:
        """Return another process over the same database."""
        return Office(self.database, self.clock, self.people)

    # Acting

    def tick(self, seconds: float = 1) -> None:
        """Let time pass."""
        self.clock.at += int(seconds * SECOND)

    def person(self, id: str, *tenants: str, residence: str = "DE") -> None:
        """Set the facts of a person."""
        self.facts.set_facts(
            self.people["nina"], "persons", id, {"residence_country": residence, "tenants": list(tenants)}
        )

    def decide(
        self, subject: str, tenant: str = "acme", model: str = "fable-5", asked: str | None = None
    ) -> tuple[str, int]:
        """Record a decision about a subject and return its place; again when the state moved meanwhile."""
        while True:
            state = self.store.state()
            revision = self.cache.person(subject, state.facts_revision).revision
            found = evaluation(
                state,
                self.clock(),
                subject,
                request=Request(subject, "infer", asked or model, tenant, Location("GB", f"{subject}-place")),
                model=model,
                tenant_sealed=TENANTS.get(tenant) == "individual",
                revisions=(("persons", subject, revision),),
            )
            (result,) = self.recorder.write([self.recorder.decision(found, PEP, state.facts_revision)], state)
            if isinstance(result, Written):
                return result.log_id, result.seq

    def propose(self, subject: str, by: str = "nina", reason: str = "case 7") -> Proposed:
        """Propose to erase a subject."""
        return self.erasures.propose(self.people[by], subject, reason)

    def erase(self, subject: str, by: str = "nina", approver: str = "paul") -> Ruled:
        """Erase a subject, by two persons."""
        return self.approvals.approve(self.people[approver], self.propose(subject, by).proposal.id)

    def prune(self, before: int) -> Ruled:
        """Prune what is before an instant, by two persons."""
        proposed = self.retention.propose(self.people["nina"], before, "the period is over")
        return self.approvals.approve(self.people["paul"], proposed.proposal.id)

    def release_hold(self, id: str) -> Ruled:
        """Release a hold, by two persons."""
        return self.approvals.approve(self.people["paul"], self.holds.release(self.people["nina"], id, "over").id)

    # Looking

    def entry(self, place: tuple[str, int]) -> StoredEntry:
        """Return an entry as it lies there."""
        found = self.store.entry(*place)
        assert found is not None
        return found

    def mark(self, place: tuple[str, int]) -> Mark | None:
        """Return what erased or pruned the body of an entry."""
        with self.store.view() as view:
            entry = self.entry(place)
            return Marks.of(view).of_body(entry, parse_public(entry.public)["at"])

    def read(self, place: tuple[str, int]) -> dict[str, Any]:
        """Return the sealed body of an entry, without recording the read."""
        with self.store.view() as view:
            entry = self.entry(place)
            return Unsealer.over(VAULT, view).body(entry, parse_public(entry.public))

    def verify(self, *, with_keys: bool = True) -> Report:
        """Verify everything, with or without the key file."""
        with self.store.view() as view:
            return verify(view, VAULT if with_keys else None)

    def publics(self) -> list[dict[str, Any]]:
        """Return the public parts of all entries."""
        return [parse_public(public) for _, _, public in self.store.entries(limit=100_000)]


def raw_bytes(database: SqliteDatabase) -> bytes:
    """Return every byte of a database file and of the files beside it, except the key file."""
    path = database.path
    return b"".join(
        Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal", "-shm", "-journal") if _is_there(path, suffix)
    )


def _is_there(path: Path, suffix: str) -> bool:
    return Path(f"{path}{suffix}").exists()


def ten_years() -> int:
    """Return an interval that is just longer than the retention limit."""
    return (RETENTION_DAYS + 1) * DAY


__all__ = ["PEOPLE", "START", "Office", "raw_bytes", "ten_years"]
