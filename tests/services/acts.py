"""Random governance: people with keys do what they can think of, and a projection says what is allowed afterwards.

An act is a tuple `(verb, actor, a, b)` of a word and three numbers, so that any list of acts means something: numbers
choose, modulo what there is to choose from. Acts that are refused are part of the game.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from policy_engine.core.decision import Outcome, Principal, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import SECOND
from policy_engine.errors import PolicyEngineError
from policy_engine.rules.release import read_folder
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.factcache import FactCache
from policy_engine.services.keydocuments import FIRST_SCOPES
from policy_engine.services.keys import KeyRequest
from policy_engine.services.permissions import LOCAL
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.snapshot import Snapshots
from policy_engine.store.interfaces import Change, Write
from policy_engine.world import load_world
from tests.services.governed import House, open_house

POLICIES = Path(__file__).parents[2] / "policies"
RELEASES = ReleaseLoader()
ACTORS = ("olga", "olga-2", "paul", "quinn", "auditor", "bounded", "gateway")

SCOPES: tuple[dict[str, Any], ...] = (
    {"models": "all"},
    {"models": ["fable-5"]},
    {"tenants": ["acme"]},
    {"tiers": [4, 5], "regions": ["US"]},
    {"models": ["open-1"], "actions": ["infer"]},
)
DIRECTIVES: tuple[dict[str, Any], ...] = (
    {"models": ["fable-5"], "blocks": ["foreign_person"]},
    {"models": ["fable-5", "mythos-5"], "blocks": ["foreign_person", "destination_outside_us"]},
    {"models": "all", "blocks": ["foreign_person"]},
    {
        "models": ["fable-5"],
        "blocks": ["foreign_person"],
        "exempts": [{"models": ["fable-5"], "who": "lab_foreign_national_employees"}],
    },
    {"models": ["fable-5"], "blocks": ["foreign_person"], "until": "2026-01-01"},
)
LICENCES: tuple[dict[str, Any], ...] = (
    {"person_id": "chen", "models": ["fable-5"], "actions": ["infer"], "nationalities": ["CN"], "lifts": ["nat"]},
    {"tenant_id": "lab", "models": ["fable-5"], "actions": ["infer"], "nationalities": ["GB"], "lifts": ["directive"]},
    {"person_id": "nobody", "models": ["fable-5"], "actions": ["infer"], "lifts": ["seat"]},
)
CHANGED_CATALOGUES = (
    (b'status = "available"', b'status = "withdrawn"'),
    (b"tier = 4", b"tier = 2"),
    (b"tier = 5", b"tier = 4"),
)
PEOPLE = (
    ("alice", "acme", "US"),
    ("mina", "acme", "US"),
    ("dana", "acme", "GB"),
    ("bruno", "acme-de", "DE"),
    ("ines", "annexco", "US"),
    ("chen", "lab", "US"),
    ("greg", "lab", "US"),
    ("eve", "acme", "US"),
)
ASKING = Principal("asks", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("location",)))

Act = tuple[str, int, int, int]


@cache
def sample() -> Mapping[str, bytes]:
    """Return the files of the sample release."""
    return read_folder(POLICIES)


@dataclass(slots=True)
class Governance:
    """A house with the sample release and world, everybody's principals, and what is allowed to whom."""

    house: House
    evaluator: Evaluator
    snapshots: Snapshots
    principals: list[Principal]

    def allowed(self) -> frozenset[tuple[str, str, str]]:
        """Return who may do what with which model now, of a small universe of questions."""
        snapshot = self.snapshots.refresh()
        found = set()
        for subject, tenant, country in PEOPLE:
            for model in ("fable-5", "mythos-5", "open-1"):
                for action in ("infer", "fine_tune"):
                    request = Request(subject, action, model, tenant, Location(country))
                    evaluation = self.evaluator.evaluate(request, ASKING, snapshot, self.house.clock())
                    if evaluation.outcome is Outcome.ALLOW:
                        found.add((subject, action, model))
        return frozenset(found)

    def do(self, act: Act) -> PolicyEngineError | None:
        """Perform an act a second after the last; return the refusal, if it was refused."""
        verb, actor, a, b = act
        self.house.clock.at += SECOND
        try:
            getattr(self, f"_{verb}")(self.principals[actor % len(self.principals)], a, b)
        except PolicyEngineError as refusal:
            return refusal
        return None

    def proposal(self, number: int) -> str:
        """Return the id of a proposal, the newest first; `none` when there is none."""
        rows = sorted(self.house.store.rows("approvals"), key=lambda row: str(row.document["proposed_at"]))
        return rows[-1 - number % len(rows)].id if rows else "none"

    def _engage(self, actor: Principal, a: int, b: int) -> None:
        self.house.switches.engage(actor, f"s{a % 2}", SCOPES[b % len(SCOPES)], "because")

    def _release(self, actor: Principal, a: int, b: int) -> None:
        self.house.switches.release(actor, f"s{a % 2}", "because")

    def _directive(self, actor: Principal, a: int, b: int) -> None:
        self.house.orders.receive(actor, "directive", {"id": f"d{a % 2}", **DIRECTIVES[b % len(DIRECTIVES)]})

    def _licence(self, actor: Principal, a: int, b: int) -> None:
        licence = {"from": "2026-01-01", **LICENCES[b % len(LICENCES)]}
        self.house.orders.receive(actor, "licence", {"id": f"l{a % 2}", **licence})

    def _amend(self, actor: Principal, a: int, b: int) -> None:
        if a % 2:
            self.house.orders.amend(actor, f"d{a // 2 % 2}", DIRECTIVES[b % len(DIRECTIVES)])
        else:
            self.house.orders.amend(actor, f"l{a // 2 % 2}", {"from": "2026-01-01", **LICENCES[b % len(LICENCES)]})

    def _end(self, actor: Principal, a: int, b: int) -> None:
        self.house.orders.end(actor, ("d0", "d1", "l0", "l1")[a % 4], "because")

    def _publish(self, actor: Principal, a: int, b: int) -> None:
        old, new = CHANGED_CATALOGUES[a % len(CHANGED_CATALOGUES)]
        self.house.publish.publish(actor, {**sample(), "models.toml": sample()["models.toml"].replace(old, new)})

    def _activate(self, actor: Principal, a: int, b: int) -> None:
        stored = self.house.publish.list(actor)
        self.house.publish.activate(actor, stored[a % len(stored)].hash)

    def _grant(self, actor: Principal, a: int, b: int) -> None:
        name = ("sock", "olga", "paul")[a % 3]
        issued = self.house.keys.create(actor, KeyRequest(name, PrincipalKind.PERSON, FIRST_SCOPES))
        held = frozenset(FIRST_SCOPES)
        self.principals.append(Principal(name, PrincipalKind.PERSON, held, None, frozenset(), issued.id))

    def _revoke(self, actor: Principal, a: int, b: int) -> None:
        rows = self.house.store.rows("keys")
        self.house.keys.revoke(actor, rows[a % len(rows)].id)

    def _facts(self, actor: Principal, a: int, b: int) -> None:
        fields = {"residence_country": ("US", "DE", "IR")[b % 3], "lab_employee": bool(b % 2)}
        self.house.facts.set_facts(actor, "persons", ("alice", "chen", "olga")[a % 3], fields)

    def _read(self, actor: Principal, a: int, b: int) -> None:
        self.house.facts.show(actor, "persons", ("alice", "chen", "olga")[a % 3])

    def _approve(self, actor: Principal, a: int, b: int) -> None:
        self.house.approvals.approve(actor, self.proposal(a))

    def _refuse(self, actor: Principal, a: int, b: int) -> None:
        self.house.approvals.refuse(actor, self.proposal(a), "because")


def govern(folder: Path) -> Governance:
    """Return governance over a fresh database with the sample release and the sample world."""
    house = open_house(folder, release=False, releases=RELEASES)
    first = house.publish.genesis_release(sample())
    world = load_world(POLICIES / "world", house.clock())
    facts = [Write("persons", id, document, 0) for id, document in world.persons.items()]
    for id, document in world.tenants.items():
        row = house.store.row("tenants", id)
        facts.append(Write("tenants", id, document, 0 if row is None else row.revision))
    writes = (*first.writes, *facts)
    house.store.change(Change("genesis", {}, writes, raises_epoch=True, activate=first.hash, blobs=first.blobs))
    principals = [*(house[name] for name in ACTORS), LOCAL]
    evaluator = Evaluator(FactCache(house.store), serving_region="US")
    return Governance(house, evaluator, Snapshots(house.store, RELEASES), principals)


TIGHTENING = ("engage", "directive", "directive", "revoke", "refuse")
LOOSENING = ("release", "licence", "amend", "end", "publish", "activate", "grant")
NUMBERS = st.integers(0, 11)
ACTOR = st.sampled_from((0, 0, 0, 3, 3, 2, *range(9)))
ONE = st.tuples(st.sampled_from((*TIGHTENING, *LOOSENING)), ACTOR, NUMBERS, NUMBERS)
APPROVAL = st.tuples(st.just("approve"), st.sampled_from((2, 2, 3, *range(9))), st.sampled_from((0, 0, 1, 2)), NUMBERS)
STEPS = st.one_of(
    st.lists(st.one_of(ONE, APPROVAL), min_size=1, max_size=2),
    st.tuples(st.tuples(st.sampled_from(LOOSENING), st.just(0), NUMBERS, NUMBERS), APPROVAL).map(list),
    st.integers(0, 1).flatmap(
        lambda id: st.tuples(
            st.tuples(st.just("engage"), st.just(3), st.just(id), NUMBERS),
            st.tuples(st.just("release"), st.just(0), st.just(id), NUMBERS),
            ONE,
            APPROVAL,
        ).map(list)
    ),
    st.tuples(st.sampled_from(LOOSENING), NUMBERS, NUMBERS).map(
        lambda twice: [(twice[0], actor, *twice[1:]) for actor in (0, 1)] + [("approve", 2, n, 0) for n in (0, 1, 0)]
    ),
)
HISTORIES = st.lists(STEPS, min_size=2, max_size=6).map(lambda steps: [act for step in steps for act in step])
"""Random histories: single acts, proposals approved soon after, and the same proposed twice and approved twice."""

EVERYTHING = st.tuples(
    HISTORIES, st.lists(st.tuples(st.sampled_from(("facts", "read")), ACTOR, NUMBERS, NUMBERS), max_size=4)
).flatmap(lambda parts: st.permutations([*parts[0], *parts[1]]))
"""Histories with facts set and read in between. Setting facts takes one person, so law 11 leaves them out."""
