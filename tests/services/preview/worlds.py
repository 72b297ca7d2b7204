"""Small generated worlds with orders in them, changes to preview, and what really happens when they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st

from policy_engine.bootstrap import Engine, Template
from policy_engine.core.decision import Decision, Principal, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import parse_instant
from policy_engine.services.keys import KeyRequest
from policy_engine.services.permissions import SCOPES
from policy_engine.services.preview.answer import Preview
from policy_engine.services.preview.changes import APPROVED
from policy_engine.services.preview.service import Wanted
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from policy_engine.store.interfaces import Change, Write
from tests.services.governed import person

NOW = parse_instant("2026-06-12T12:00:00Z")
ACTIONS = ("infer", "fine_tune", "download_weights", "list")
PEOPLE: Mapping[str, KeyRequest] = {
    "olga": person("olga", *SCOPES),
    "paul": person("paul", *SCOPES),
    "quinn": person("quinn", "orders:write", "switch:engage", "switch:release"),
    "rita": person("rita", "audit:read"),
    "bounded": person("bounded", *SCOPES, tenants=("acme",)),
    "gateway": KeyRequest("gateway", PrincipalKind.SERVICE, ("decide",), supplies=("location", "serving_region")),
}
TENANTS: Mapping[str, Mapping[str, Any]] = {
    "acme": {"type": "enterprise", "incorporated_in": "US", "headquarters": "US"},
    "beta": {"type": "enterprise", "incorporated_in": "DE", "headquarters": "DE"},
    "lab": {"type": "lab", "incorporated_in": "US", "headquarters": "US"},
    "solo": {"type": "individual"},
    "dark": {"headquarters": "US"},
}
Combination = tuple[str, str, str, str]
"""Subject, tenant, model and action."""

VERIFIED = {"level": "verified", "verified_on": "2026-06-01", "expires_on": "2027-06-01"}


def facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of a person or tenant."""
    return {"facts": {name: {"value": value} for name, value in values.items()}}


def tenant_rows() -> list[Write]:
    """Return the rows of every tenant."""
    known = {"owners": [], "list_match": "none", "ultimate_parent_headquarters": "US"}
    return [Write("tenants", id, facts({**known, **values}), 0) for id, values in TENANTS.items()]


COUNTRIES = st.sampled_from(("US", "US", "DE", "CN", "IN"))


@st.composite
def person_facts(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a person: who they are, what was shown of it, where they live and whom they act for."""
    citizen = draw(COUNTRIES)
    evidence = draw(st.sampled_from((VERIFIED, VERIFIED, {"level": "declared"}, None)))
    values: dict[str, Any] = {
        "citizenships": [{"country": citizen, "acquired": "birth", "current": True}],
        "permanent_residencies": [],
        "us_status": draw(st.sampled_from(("citizen", "citizen") if citizen == "US" else ("none", "lpr", "unknown"))),
        "lab_employee": draw(st.booleans()),
        "list_match": "none",
        "tenants": sorted(draw(st.sets(st.sampled_from(sorted(TENANTS)), min_size=1, max_size=2))),
    }
    if evidence is not None:
        values["nationality_evidence"] = evidence
    place = draw(st.sampled_from(("US", "US", "DE", "GB", None)))
    return values if place is None else {**values, "residence_country": place}


ALICE: Mapping[str, Any] = {
    "citizenships": [{"country": "US", "acquired": "birth", "current": True}],
    "permanent_residencies": [],
    "us_status": "citizen",
    "residence_country": "US",
    "nationality_evidence": VERIFIED,
    "lab_employee": False,
    "list_match": "none",
    "tenants": ["acme"],
}
GREG: Mapping[str, Any] = {
    **ALICE,
    "citizenships": [{"country": "GB", "acquired": "birth", "current": True}],
    "us_status": "none",
    "lab_employee": True,
    "tenants": ["lab"],
}
CHEN: Mapping[str, Any] = {**GREG, "citizenships": [{"country": "CN", "acquired": "birth", "current": True}]}
PERSONS = st.lists(person_facts(), max_size=3).map(lambda drawn: [ALICE, GREG, CHEN, *drawn])

MODELS = st.sets(st.sampled_from(("fable-5", "mythos-5", "opus-4-8", "open-1")), min_size=1, max_size=3).map(sorted)
DIMENSIONS: Mapping[str, st.SearchStrategy[Any]] = {
    "models": st.one_of(MODELS, st.just(["fable-latest"]), st.just("all")),
    "families": st.sampled_from((["fable"], ["open", "opus"])),
    "tenants": st.sampled_from((["acme"], ["lab", "dark"])),
    "tenant_types": st.sampled_from((["enterprise"], ["individual", "lab"])),
    "tiers": st.sampled_from(([4], [1, 3, 5])),
    "regions": st.sampled_from((["US"], ["DE", "GB"], ["US-CA"])),
    "actions": st.sampled_from((["infer"], ["list", "fine_tune"])),
}
SCOPES_OF_SWITCHES = st.sets(st.sampled_from(sorted(DIMENSIONS)), min_size=1, max_size=2).flatmap(
    lambda names: st.fixed_dictionaries({name: DIMENSIONS[name] for name in sorted(names)})
)
BLOCKS = st.sets(st.sampled_from(("foreign_person", "destination_outside_us")), min_size=1).map(sorted)
WHO: st.SearchStrategy[Mapping[str, Any]] = st.one_of(
    st.fixed_dictionaries(
        {
            "who": st.just("annex_a_entities_and_their_employees"),
            "annex_a": st.sampled_from((["acme"], ["beta", "lab"])),
        }
    ),
    st.just({"who": "lab_foreign_national_employees"}),
)


@st.composite
def directives(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a directive, on every model or on some with exemptions for some of these."""
    body: dict[str, Any] = {"models": draw(st.one_of(MODELS, MODELS, st.just("all"))), "blocks": draw(BLOCKS)}
    if body["models"] != "all":
        some = st.sets(st.sampled_from(body["models"]), min_size=1).map(sorted)
        body["exempts"] = [{"models": draw(some), **who} for who in draw(st.lists(WHO, max_size=2))]
    return body


DIRECTIVES = directives()
LICENCES = st.fixed_dictionaries(
    {
        "from": st.just("2026-01-01T00:00:00Z"),
        "models": MODELS,
        "actions": st.sampled_from((["infer"], list(ACTIONS))),
        "nationalities": st.just(["CN", "DE", "IN"]),
        "destinations": st.just(["US", "DE", "GB"]),
        "lifts": st.sets(st.sampled_from(("dest", "nat", "directive", "seat")), min_size=1).map(sorted),
        "owner": st.sampled_from(
            ({"person_id": "p1"}, {"person_id": "p2"}, {"tenant_id": "lab"}, {"tenant_id": "acme"})
        ),
    },
).map(lambda body: {**{name: body[name] for name in body if name != "owner"}, **body["owner"]})


@dataclass(frozen=True)
class World:
    """A generated world: persons, a switch, a directive and a licence in force, each perhaps absent."""

    persons: list[Any]
    switch: Mapping[str, Any] | None = None
    directive: Mapping[str, Any] | None = None
    licence: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Scene:
    """An engine over a world, with everybody's principals."""

    engine: Engine
    people: Mapping[str, Principal]

    @property
    def previews(self) -> Any:
        """Return the previews of the engine."""
        return self.engine.foresight.previews

    def approve(self, proposal: str | None) -> None:
        """Have the second person approve what waits, if anything does."""
        if proposal is not None:
            self.engine.approvals.approve(self.people["paul"], proposal)

    def requests(self) -> list[Request]:
        """Return every combination that there is, each person asked from where they reside."""
        found = []
        models = sorted(self.engine.snapshots.refresh().release.catalogue.models)  # type: ignore[union-attr]  # active
        for row in self.engine.store.rows("persons"):
            known = {name: fact["value"] for name, fact in row.document["facts"].items()}
            place = known.get("residence_country")
            location = None if place is None else Location(place)
            found += [
                Request(row.id, action, model, tenant, location, "US")
                for tenant in known["tenants"]
                for model in models
                for action in ACTIONS
            ]
        return found

    def decided(self) -> dict[Combination, Decision]:
        """Decide every combination for real, each with its entry."""
        requests = self.requests()
        found: list[Decision] = []
        for first in range(0, len(requests), 200):
            found += self.engine.decider.decide_many(requests[first : first + 200], self.people["gateway"])
        return {
            (request.subject_id, request.tenant or "", request.model, request.action): decision
            for request, decision in zip(requests, found, strict=True)
        }


@contextmanager
def lived(template: Template, releases: ReleaseLoader, files: Mapping[str, bytes], world: World) -> Iterator[Scene]:
    """Offer an engine over a world whose orders are in force; its clock stands still."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=memory) as folder:
        settings = Settings(database=f"sqlite:///{folder}/engine.db", serving_region="US")
        rows = [Write("persons", f"p{n}", facts(values), 0) for n, values in enumerate(world.persons)]
        genesis = (files, (*tenant_rows(), *rows))
        engine = template.open_copy(settings, clock=lambda: NOW, releases=releases, genesis=genesis)
        try:
            scene = with_people(engine)
            put(scene, world)
            yield scene
        finally:
            engine.close()


def with_people(engine: Engine) -> Scene:
    """Return the engine with keys for everybody."""
    writes, issued = engine.keys.genesis(PEOPLE)
    engine.store.change(Change(kind="genesis", public={}, writes=tuple(writes), raises_epoch=True))
    return Scene(engine, {key.id: engine.keys.authenticate(key.secret or "", NOW) for key in issued})


def put(scene: Scene, world: World) -> None:
    """Put a world's orders in force."""
    olga, engine = scene.people["olga"], scene.engine
    if world.switch is not None:
        engine.switches.engage(olga, "s", world.switch, "why")
    if world.directive is not None:
        scene.approve(engine.orders.receive(olga, "directive", {"id": "d", **world.directive}).proposal)
    if world.licence is not None:
        scene.approve(engine.orders.receive(olga, "licence", {"id": "l", **world.licence}).proposal)


@dataclass(frozen=True)
class Plan:
    """A change to make: which, with what, and whether the second person approves what waits."""

    kind: str
    with_what: Mapping[str, Any]
    stage: str

    def preview(self, scene: Scene, who: str = "olga", **more: Any) -> Preview:
        """Return the preview of the change."""
        previews, by = scene.previews, scene.people[who]
        wanted = Wanted(stage=self.stage, **more)
        kind, _, id = self.kind.partition(" ")
        made = {
            "engage": lambda: previews.engage(by, "new", self.with_what, wanted=wanted),
            "release": lambda: previews.release(by, "s", wanted=wanted),
            "receive": lambda: previews.receive(by, id, {"id": "new", **self.with_what}, wanted=wanted),
            "amend": lambda: previews.amend(by, id, self.with_what, wanted=wanted),
            "end": lambda: previews.end(by, id, wanted=wanted),
        }
        found: Preview = made[kind]()
        return found

    def make(self, scene: Scene) -> None:
        """Make the change for real."""
        engine, olga = scene.engine, scene.people["olga"]
        kind, _, id = self.kind.partition(" ")
        waiting: str | None = None
        if kind == "engage":
            engine.switches.engage(olga, "new", self.with_what, "why")
        elif kind == "release":
            waiting = engine.switches.release(scene.people["quinn"], "s", "over").id
        elif kind == "receive":
            waiting = engine.orders.receive(olga, id, {"id": "new", **self.with_what}).proposal
        elif kind == "amend":
            waiting = engine.orders.amend(olga, id, self.with_what).proposal
        else:
            waiting = engine.orders.end(olga, id, "over").proposal
        if self.stage == APPROVED:
            scene.approve(waiting)


STAGES = st.sampled_from((APPROVED, APPROVED, "at_once"))
CHANGES: Mapping[str, st.SearchStrategy[Any]] = {
    "engage": SCOPES_OF_SWITCHES,
    "release": st.just({}),
    "receive directive": DIRECTIVES,
    "receive licence": LICENCES,
    "amend d": DIRECTIVES,
    "amend l": LICENCES,
    "end d": st.just({}),
    "end l": st.just({}),
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[World, Plan]:
    """Draw a change, and a world that has what it is about."""
    kind = draw(st.sampled_from(sorted(CHANGES)))
    plan = Plan(kind, draw(CHANGES[kind]), draw(STAGES))
    switch = draw(SCOPES_OF_SWITCHES) if kind == "release" else None
    directive = draw(DIRECTIVES) if kind.endswith(" d") else draw(st.none() | DIRECTIVES)
    licence = draw(LICENCES) if kind.endswith(" l") else None
    if kind == "amend l" and licence is not None and "person_id" in licence:  # it never becomes another person's
        plan = replace(plan, with_what={**plan.with_what, "person_id": licence["person_id"]})
    return World(draw(PERSONS), switch, directive, licence), plan
