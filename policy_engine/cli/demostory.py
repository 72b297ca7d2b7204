"""The demo's story, played on a real engine: the letters of June 2026 as orders, and everybody asked after each.

Rules of the room: nothing is decided here. Orders go through the same services, keys and second person as any other;
each answer is a recorded decision. Only the clock is set: it is the story's, for the service and the store alike.
Left to others: showing what came out (`demoreport`), where the story is written (`policies/world/june-2026.toml`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policy_engine.cli.options import toml_of
from policy_engine.core.decision import Decision, Principal, Request
from policy_engine.core.factparse import parse_location
from policy_engine.core.instants import parse_instant
from policy_engine.errors import LoadRefused

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine
    from policy_engine.store.interfaces import Committed

STORY_FILE = "june-2026.toml"


@dataclass(slots=True)
class StoryClock:
    """The one clock of the demo: it says what the story says."""

    now: int = 0

    def __call__(self) -> int:
        """Return the story's instant."""
        return self.now


@dataclass(frozen=True, slots=True)
class Scene:
    """One round of questions: its name, its instant, and each person's answer for each model."""

    name: str
    at: int
    answers: Mapping[tuple[str, str], Decision]

    def allowed(self, person: str, model: str) -> bool:
        """Return whether the person had the model in this scene."""
        return self.answers[person, model].allowed


@dataclass(frozen=True, slots=True)
class Story:
    """The file, checked as far as it is read: `acts` are its tables."""

    title: str
    loaded: int
    models: tuple[str, ...]
    watched: tuple[str, ...]
    serving_region: str
    places: Mapping[str, str]
    acts: Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class Player:
    """Plays a story with the sample keys. `tell(at, sentence)` hears of each step as it is committed."""

    engine: Engine
    clock: StoryClock
    story: Story
    tenants: Mapping[str, str]
    gateway: Principal
    operator: Principal
    approver: Principal
    tell: Callable[[int, str], None]
    scenes: list[Scene] = field(default_factory=list)

    def play(self) -> list[Scene]:
        """Play the story from the licence to the end of the directive; return its scenes in order."""
        self._licence()
        self._ask("before", "before")
        self._switch_off()
        self._first_letter()
        self._ask("letter", "directive", "asked")
        self._easing()
        self._ask("eased", "easing", "asked")
        self._end()
        self._ask("ended", "end", "asked")
        return self.scenes

    def _licence(self) -> None:
        act = self._at("licence")
        receipt = self.engine.orders.receive(
            self.operator, "licence", act["order"], reference=act["reference"], reason=act["reason"]
        )
        self._approve(receipt.proposal, f"licence {receipt.id}")

    def _switch_off(self) -> None:
        act = self._at("switch")
        scope = {"models": list(self.story.watched)}
        engaged = self.engine.switches.engage(self.operator, act["id"], scope, act["reason"])
        self._say(f"operator engages the switch {act['id']}: both models off for everyone", engaged.committed)
        self._ask("all off", "switch", "asked")

    def _first_letter(self) -> None:
        act = self._at("directive")
        receipt = self.engine.orders.receive(
            self.operator, "directive", act["order"], reference=act["reference"], reason=act["reason"]
        )
        self._say(f"operator receives the directive {receipt.id}; it denies from now on", receipt.committed)
        switch = self._at("switch", "released")
        proposal = self.engine.switches.release(self.operator, switch["id"], switch["release_reason"])
        self._approve(proposal.id, f"release of the switch {switch['id']}")

    def _easing(self) -> None:
        act = self._at("easing")
        order = self.story.acts["directive"]["order"]
        receipt = self.engine.orders.amend(
            self.operator,
            order["id"],
            {**order, "exempts": act["exempts"]},
            reference=act["reference"],
            reason=act["reason"],
        )
        self._approve(receipt.proposal, "easing for mythos-5")

    def _end(self) -> None:
        act = self._at("end")
        receipt = self.engine.orders.end(self.operator, self.story.acts["directive"]["order"]["id"], act["reason"])
        self._approve(receipt.proposal, "end of the directive")

    def _approve(self, proposal: str | None, what: str) -> None:
        if proposal is None:
            raise LoadRefused("the story expects this change to wait for a second person", where=what)
        ruled = self.engine.approvals.approve(self.approver, proposal)
        self._say(f"operator proposes, approver approves: {what}", ruled.committed)

    def _ask(self, name: str, act: str, member: str = "at") -> None:
        """Ask for every person and every model, as the enforcement point would, and keep the answers."""
        self._at(act, member)
        pairs = [(person, model) for person in self.story.places for model in self.story.models]
        requests = [
            Request(
                subject_id=person,
                action="infer",
                model=model,
                tenant=self.tenants[person],
                location=parse_location(self.story.places[person]),
                serving_region=self.story.serving_region,
            )
            for person, model in pairs
        ]
        decisions = self.engine.decider.decide_many(requests, self.gateway)
        scene = Scene(name, self.clock.now, dict(zip(pairs, decisions, strict=True)))
        self.scenes.append(scene)
        count = sum(decision.allowed for decision in decisions)
        self.tell(
            self.clock.now,
            f"asked {len(pairs)} times ({len(self.story.places)} people, "
            f"{len(self.story.models)} models): {count} allowed",
        )

    def _at(self, act: str, member: str = "at") -> Mapping[str, Any]:
        found = self.story.acts[act]
        self.clock.now = parse_instant(found[member])
        return found

    def _say(self, sentence: str, committed: Committed | None) -> None:
        where = "" if committed is None else f" (entry {committed.seqs[-1]})"
        self.tell(self.clock.now, f"{sentence}{where}")


def read_story(folder: Path) -> Story:
    """Return the story of a world folder. Raises `LoadRefused` when the folder has none or a part is missing."""
    file = folder / STORY_FILE
    if not file.is_file():
        raise LoadRefused("is not there; the demo needs the sample world", where=str(file))
    data = toml_of(file)
    try:
        acts = {name: data[name] for name in ("licence", "before", "switch", "directive", "easing", "end")}
        return Story(
            title=data["title"],
            loaded=parse_instant(data["loaded"]),
            models=tuple(data["models"]),
            watched=tuple(data["watched"]),
            serving_region=data["serving_region"],
            places=dict(data["places"]),
            acts=acts,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LoadRefused(f"lacks or misstates a part of the story ({type(error).__name__})", where=str(file)) from None
