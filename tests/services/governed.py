"""The changing services on a fresh database with a set clock, and people with keys, for the tests beside this file.

People are laid down as a genesis change, as a sample world is; everything after that goes through the services.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.core.instants import parse_instant
from policy_engine.core.places import Gazetteer
from policy_engine.ledger.sealing import KeyVault
from policy_engine.rules.release import read_folder
from policy_engine.rules.sources import release_hash
from policy_engine.services.approvals import Approvals
from policy_engine.services.disposal import Disposal
from policy_engine.services.evidence import Evidence
from policy_engine.services.facts import Facts
from policy_engine.services.keyfile import new_vault
from policy_engine.services.keys import KeyRequest, Keys
from policy_engine.services.orders import Orders
from policy_engine.services.publish import Publish
from policy_engine.services.record import Recorder
from policy_engine.services.recovery import Recovery
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.switches import Switches
from policy_engine.services.vocabulary import Vocabulary, vocabulary_of
from policy_engine.store.interfaces import Change, Write
from policy_engine.store.migrate import copy_template
from policy_engine.store.sqlite import SqliteStore

START = parse_instant("2026-06-12T12:00:00Z")
FILES = {**read_folder(Path(__file__).parents[2] / "policies"), "made-up.txt": b""}
"""The files of the sample release and one more: decisions here are made up, and no release that is loaded has them."""
RELEASE = release_hash(FILES)
RETENTION_DAYS = 2
VOCABULARY = Vocabulary(
    models=frozenset(("fable-5", "fable-5-1", "mythos-5", "summit-4")),
    names=frozenset(("fable-5", "fable-5-1", "mythos-5", "summit-4", "fable-latest")),
    actions=frozenset(("infer", "fine_tune", "download_weights", "list")),
    gazetteer=Gazetteer(("US", "GB", "DE", "IN", "UA", "CN"), {"HK": "CN"}, ("US-CA", "UA-43"), ("UA-43",)),
    families=frozenset(("fable", "mythos", "summit")),
)

OPERATOR = ("facts:write", "orders:write", "approve", "switch:engage", "switch:release", "policy:write", "keys:write")
TENANTS = {"acme": "enterprise", "lab": "lab", "solo": "individual"}


@dataclass(slots=True)
class Clock:
    """A clock that stands still until it is moved."""

    at: int = START

    def __call__(self) -> int:
        """Return the instant."""
        return self.at


@dataclass(frozen=True, slots=True)
class House:
    """The services, and the principals of everybody who has a key, by name."""

    store: SqliteStore
    clock: Clock
    approvals: Approvals
    keys: Keys
    orders: Orders
    switches: Switches
    facts: Facts
    publish: Publish
    recorder: Recorder
    vault: KeyVault
    evidence: Evidence
    disposal: Disposal
    recovery: Recovery
    people: Mapping[str, Principal]

    def __getitem__(self, name: str) -> Principal:
        return self.people[name]

    def close(self) -> None:
        """Stop the recorder and close the store."""
        self.recorder.close()
        self.store.close()

    def kinds(self) -> list[str]:
        """Return the kinds of all entries, in order."""
        return [json.loads(public)["kind"] for _, _, public in self.store.entries()]


def person(name: str, *scopes: str, tenants: Sequence[str] | None = None, until: int | None = None) -> KeyRequest:
    """Return the request for a person's key."""
    bounded = None if tenants is None else tuple(tenants)
    return KeyRequest(name, PrincipalKind.PERSON, scopes, tenants=bounded, expires_at=until)


PEOPLE: Mapping[str, KeyRequest] = {
    "olga": person("olga", *OPERATOR),
    "olga-2": person("olga", *OPERATOR),
    "paul": person("paul", "approve", "audit:read"),
    "quinn": person("quinn", *OPERATOR),
    "auditor": person("auditor", "audit:read", "audit:unseal"),
    "bounded": person("bounded", *OPERATOR, tenants=("acme",)),
    "gateway": KeyRequest("gateway", PrincipalKind.SERVICE, ("decide",), supplies=("location",)),
}


def known_words(hash: str) -> Vocabulary:
    """Return what the made-up release of these tests knows."""
    assert hash == RELEASE
    return VOCABULARY


def open_house(
    folder: Path,
    people: Mapping[str, KeyRequest] = PEOPLE,
    *,
    release: bool = True,
    sample: bool = False,
    releases: ReleaseLoader | None = None,
) -> House:
    """Return the services on a new database in which these people have keys, with or without an active release.

    `release` activates a made-up one; with `releases` words are looked up in stored ones instead.
    """
    copy_template(folder / "engine.db")
    house = wire(folder, Clock(), new_vault(), releases)
    return _with_genesis(house, people, release=release, sample=sample)


def wire(
    folder: Path,
    clock: Clock,
    vault: KeyVault,
    releases: ReleaseLoader | None = None,
    people: Mapping[str, Principal] | None = None,
) -> House:
    """Return the services over the database in a folder, as another process that holds the same key file would."""
    store = SqliteStore(folder / "engine.db", vault, clock=clock)
    recorder = Recorder(store, vault)
    approvals = Approvals(store)
    loader = ReleaseLoader() if releases is None else releases
    vocabulary = known_words if releases is None else lambda hash: vocabulary_of(loader.stored(store, hash))
    return House(
        store=store,
        clock=clock,
        approvals=approvals,
        keys=Keys(store, approvals),
        orders=Orders(store, approvals, vocabulary),
        switches=Switches(store, approvals, vocabulary),
        facts=Facts(store, recorder, vocabulary),
        publish=Publish(store, approvals, loader),
        recorder=recorder,
        vault=vault,
        evidence=Evidence(store, recorder, vault),
        disposal=Disposal.over(store, approvals, vault, RETENTION_DAYS, lambda: None),
        recovery=Recovery(store, approvals, None),
        people=people or {},
    )


def _with_genesis(house: House, people: Mapping[str, KeyRequest], *, release: bool, sample: bool) -> House:
    writes, issued = house.keys.genesis(people)
    tenants = tuple(
        Write("tenants", id, {"facts": {"type": {"value": kind}}}, expect=0) for id, kind in TENANTS.items()
    )
    first = {"hash": RELEASE, "status": "published", "files": [], "note": "", "stored_at": "2026-06-01T00:00:00Z"}
    row = Write("releases", RELEASE, {**first, "published_by": None, "approved_by": None}, expect=0)
    house.store.change(
        Change(
            kind="genesis",
            public={},
            writes=(*writes, *tenants, *((row,) if release else ())),
            raises_epoch=True,
            activate=RELEASE if release else None,
            mark_sample=sample,
        )
    )
    at = house.clock()
    known = {key.id: house.keys.authenticate(key.secret, at) for key in issued}
    return replace(house, people=known)
