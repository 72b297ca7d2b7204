"""Generated histories: decisions of every outcome among changes of every kind, on one store or two writers of one.

A history is played by a seeded generator, so a number names it. Whatever is refused on the way is part of the game. The
clock is set, and jumps by seconds to weeks, so that evidence, licences and exemptions run out between decisions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Principal, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import DAY, SECOND, format_instant, parse_instant
from policy_engine.errors import PolicyEngineError
from policy_engine.rules.folder import read_folder
from policy_engine.services.keys import KeyRequest
from policy_engine.services.permissions import LOCAL
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings

POLICIES = Path(__file__).parents[2] / "policies"
START = parse_instant("2026-06-01T12:00:00Z")
MODELS = ("fable-5", "fable-5", "fable-latest", "mythos-5", "opus-4-8", "open-1", "open-1", "summit-4", "no-such-model")
HOMES = {
    "alice": "acme", "mina": "acme", "dana": "acme", "bruno": "acme-de", "ines": "annexco", "chen": "lab",
    "greg": "lab", "eve": "acme", "frank": "acme", "nobody": "acme",
}  # fmt: skip
PLACES = (*(Location("US"),) * 6, Location("GB"), Location("CN"), Location("US", "US-CA"), Location("ZZ"), None)
ACTIONS = (*("infer",) * 6, "fine_tune", "download_weights", "list", "distill")
JUMPS = (SECOND // 1_000, SECOND, 60 * SECOND, 3_600 * SECOND, DAY, 9 * DAY)
VERIFIED = {"level": "verified", "expires_on": None}
VERBS = ("ask",) * 14 + ("facts", "facts", "directive", "switch", "licence", "key", "release", "wait")


@dataclass
class Clock:
    """A clock that is moved by hand."""

    now: int = START

    def __call__(self) -> int:
        return self.now


@dataclass
class History:
    """One history being played. `engines` are the writers; `keys` the sample principals by label."""

    engines: Sequence[Engine]
    keys: dict[str, Principal]
    clock: Clock
    rng: random.Random
    files: dict[str, bytes]
    asking: list[Principal] = field(default_factory=list)
    count: int = 0

    @property
    def engine(self) -> Engine:
        """One of the writers, by chance."""
        return self.rng.choice(list(self.engines))

    def play(self, steps: int) -> None:
        """Do so many steps."""
        for _ in range(steps):
            self.count += 1
            self.clock.now += self.rng.choice(JUMPS[:3]) + 1
            try:
                getattr(self, f"_{self.rng.choice(VERBS)}")()
            except PolicyEngineError:
                continue

    def request(self) -> Request:
        """Return a request about somebody of the sample world."""
        pick = self.rng.choice
        who = pick(list(HOMES))
        tenant = HOMES[who] if self.rng.random() < 0.9 else pick(("acme", "lab", "shellco", "none", None))
        serving = pick(("US",) * 6 + ("AE", None))
        return Request(who, pick(ACTIONS), pick(MODELS), tenant, pick(PLACES), serving)

    def approved(self, proposal: str | None) -> None:
        """Have the approver approve, if there is something to approve."""
        if proposal is not None:
            self.engine.approvals.approve(self.keys["approver"], proposal)

    def _ask(self) -> None:
        who = self.rng.choice([*(LOCAL, self.keys["enforcement point"], self.keys["operator"]) * 2, *self.asking[-4:]])
        requests = [self.request() for _ in range(self.rng.randrange(1, 40))]
        self.engine.decider.decide_many(requests, who)

    def _wait(self) -> None:
        self.clock.now += self.rng.choice(JUMPS)

    def _facts(self) -> None:
        pick, days = self.rng.choice, self.rng.randrange(1, 500)
        then = format_instant(self.clock.now - days * DAY)[:10]
        facts: dict[str, Any] = pick(
            (
                *({"nationality_evidence": {**VERIFIED, "verified_on": then}},) * 3,
                {"nationality_evidence": {"level": "declared", "verified_on": None, "expires_on": None}},
                {"us_status": pick(("citizen", "lpr", "none", "unknown"))},
                {"residence_country": pick(("US", "GB", "CN", "DE"))},
                {"citizenships": [{"country": pick(("US", "CN", "GB")), "acquired": "birth", "current": True}]},
                {"list_match": pick(("none", "none", "possible"))},
            )
        )
        provenance = {
            "method": pick(("document_check", "attestation", "self_declared")),
            "assurance": pick(("high", "low", None)),
            "verified_at": then,
            "expires_at": pick((None, format_instant(self.clock.now + 20 * DAY))),
        }
        who = pick(list(HOMES)[:-1])
        self.engine.facts.set_facts(self.keys["operator"], "persons", who, facts, provenance=provenance)

    def _directive(self) -> None:
        pick = self.rng.choice
        if self.rng.random() < 0.4:
            self.approved(
                self.engine.orders.end(self.keys["operator"], f"dir-{self.rng.randrange(1, 40)}", "over").proposal
            )
            return
        body: dict[str, Any] = {
            "id": f"dir-{self.rng.randrange(1, 40)}",
            "models": pick((["fable-5"], ["mythos-5"], "all")),
            "blocks": pick(
                (["foreign_person"], ["destination_outside_us"], ["foreign_person", "destination_outside_us"])
            ),
            "until": format_instant(self.clock.now + pick((1, 3_600, 200_000)) * SECOND),
        }
        if body["models"] != "all":
            body["exempts"] = pick(([], [{"models": body["models"], "who": "lab_foreign_national_employees"}]))
        self.approved(self.engine.orders.receive(self.keys["operator"], "directive", body).proposal)

    def _switch(self) -> None:
        pick, engine, operator = self.rng.choice, self.engine, self.keys["operator"]
        id = f"stop-{self.rng.randrange(6)}"
        if self.rng.random() < 0.5:
            self.approved(engine.switches.release(operator, id, "it is over").id)
            return
        scope = pick(({"models": ["mythos-5"]}, {"tenants": ["lab"]}, {"tiers": [4]}, {"actions": ["fine_tune"]}))
        until = pick((None, self.clock.now + 7_200 * SECOND))
        engine.switches.engage(operator, id, scope, "a drill", until=until)

    def _licence(self) -> None:
        pick, engine, operator = self.rng.choice, self.engine, self.keys["operator"]
        if self.rng.random() < 0.3:
            engine.orders.end(operator, f"lic-{self.rng.randrange(30)}", "no longer needed")
            return
        body = {
            "id": f"lic-{self.rng.randrange(30)}",
            "from": "2026-01-01",
            "until": format_instant(self.clock.now + pick((60, 86_400, 5_000_000)) * SECOND),
            **pick(({"person_id": "chen"}, {"person_id": "ines"}, {"tenant_id": "lab"})),
            "models": pick((["fable-5"], ["fable-5", "mythos-5", "summit-4", "opus-4-8"])),
            "actions": pick((["infer"], ["infer", "fine_tune", "list"])),
            "nationalities": ["CN", "IN", "GB"],
            "destinations": ["US", "GB"],
            "lifts": ["nat", "seat", "directive", "dest"],
        }
        self.approved(engine.orders.receive(operator, "licence", body).proposal)

    def _key(self) -> None:
        engine, operator = self.engine, self.keys["operator"]
        if self.asking and self.rng.random() < 0.4:
            engine.keys.revoke(operator, str(self.rng.choice(self.asking).key_id), "lost")
            return
        request = KeyRequest(
            f"door-{self.count}",
            PrincipalKind.SERVICE,
            ("decide",),
            tenants=self.rng.choice((None, ("acme",), ("lab", "acme"))),
            supplies=self.rng.choice(((), ("location",), ("location", "serving_region"))),
            expires_at=self.rng.choice((None, None, self.clock.now + 30 * DAY)),
        )
        issued = engine.keys.create(operator, request)
        self.approved(issued.proposal)
        self.asking.append(engine.keys.authenticate(issued.secret, self.clock.now))

    def _release(self) -> None:
        engine, operator = self.engine, self.keys["operator"]
        published = [release for release in engine.publish.list(operator) if not release.active]
        if published and self.rng.random() < 0.5:
            hash = self.rng.choice(published).hash
        else:
            text = self.files["models.toml"].replace(b'"available"', b'"withdrawn"', self.rng.randrange(3))
            changed = {**self.files, "models.toml": text + b"\n# edition %d\n" % self.rng.randrange(3)}
            proposal = engine.publish.publish(operator, changed, "another catalogue")
            hash = proposal.payload["hash"]
            self.approved(proposal.id)
        self.approved(engine.publish.activate(operator, hash).id)


@contextmanager
def played(
    seed: int, steps: int, settings: Sequence[Settings], releases: ReleaseLoader, clock: Clock | None = None
) -> Iterator[History]:
    """Play a history on the databases of the settings (one for each writer) and offer it with its engines open."""
    clock = clock or Clock()
    with ExitStack() as opened:
        engines = []
        for one in settings:
            engines.append(open_engine(one, clock=clock, releases=releases))
            opened.callback(engines[-1].close)
        keys = {key.label: engines[0].keys.authenticate(key.secret, clock.now) for key in engines[0].sample_keys}
        history = History(engines, keys, clock, random.Random(seed), dict(read_folder(POLICIES)))
        history.play(steps)
        yield history


def sqlite_settings(place: Path) -> Settings:
    """Return settings for a new SQLite database."""
    return Settings(database=f"sqlite:///{place}", policies=POLICIES)


Change = Callable[[History], None]
