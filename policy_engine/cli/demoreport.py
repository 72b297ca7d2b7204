"""What came out of the demo's story: who kept access, who lost it, who was undetermined, and what "off for all" costs.

Rules of the room: every line is read off recorded decisions and their reason codes; the sample facts only put names to
them ("calls from GB"). Sample persons are made up, so they may be named here. Left to others: playing (`demostory`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.cli.demostory import Scene, Story
from policy_engine.core.instants import DAY, format_instant, parse_instant

KEPT, LOST, UNDETERMINED, NEVER = "kept", "lost", "undetermined", "had none"
_COLOURS = {KEPT: "green", LOST: "red", UNDETERMINED: "yellow", NEVER: "dim"}
_US = {
    "citizen": "US citizen",
    "national": "US national",
    "lpr": "US permanent resident",
    "refugee": "refugee in the US",
}
_US["asylee"] = "granted asylum in the US"
_EVIDENCE = {
    "evidence.declared-only": "says so, nobody has verified it",
    "evidence.conflict": "evidence contradicts itself",
    "evidence.none": "no evidence at all",
    "evidence.expired": "verified once, and it ran out",
}


@dataclass(frozen=True, slots=True)
class Fate:
    """What the first letter meant for one person, and why."""

    person: str
    tenant: str
    verdict: str
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The scenes of a story with the sample facts beside them."""

    story: Story
    scenes: Mapping[str, Scene]
    persons: Mapping[str, Mapping[str, Any]]
    tenants: Mapping[str, Mapping[str, Any]]

    def fates(self) -> list[Fate]:
        """Return everybody's fate under the first letter, the kept first."""
        order = [KEPT, LOST, UNDETERMINED, NEVER]
        return sorted((self._fate(person) for person in self.story.places), key=lambda fate: order.index(fate.verdict))

    def count(self, scene: str, model: str) -> int:
        """Return how many people had the model in a scene."""
        return sum(self.scenes[scene].allowed(person, model) for person in self.story.places)

    def holders(self, scene: str) -> set[str]:
        """Return who had at least one of the watched models in a scene."""
        found = self.scenes[scene]
        return {p for p in self.story.places if any(found.allowed(p, model) for model in self.story.watched)}

    def _fate(self, person: str) -> Fate:
        codes = self._codes("letter", person)
        evidence = [code for code in codes if code.startswith("evidence.")]
        if person in self.holders("letter"):
            verdict, why = KEPT, self._status(person)
            later = [code for code in self._codes("eased", person) if code.startswith("evidence.")]
            if later:
                why += f"; undetermined later: {_EVIDENCE.get(later[0], later[0])}"
        elif evidence:
            verdict, why = UNDETERMINED, _EVIDENCE.get(evidence[0], evidence[0])
        elif person in self.holders("before"):
            verdict, why = LOST, "; ".join(self._causes(person, codes))
        else:
            verdict, why = NEVER, self._message("letter", person)
        return Fate(person, self.tenant(person), verdict, why)

    def _causes(self, person: str, codes: Sequence[str]) -> Iterator[str]:
        facts, tenant = self.persons[person], self.tenants[self.tenant(person)]
        if "directive.foreign-person" in codes and facts["us_status"] not in _US:
            yield f"verified, and not a US person ({', '.join(tie['country'] for tie in facts['citizenships'])})"
        if "directive.foreign-person" in codes and tenant["incorporated_in"] != "US":
            yield f"acts for a foreign entity ({tenant['incorporated_in']})"
        if "directive.destination" in codes:
            yield f"calls from {self.story.places[person]}"

    def _status(self, person: str) -> str:
        facts = self.persons[person]
        shown = _US.get(facts["us_status"], "not a US person")
        return (
            f"{shown}, verified {facts['nationality_evidence']['verified_on']}, calls from {self.story.places[person]}"
        )

    def _codes(self, scene: str, person: str) -> list[str]:
        answers = self.scenes[scene].answers
        found = (reason.code for model in self.story.watched for reason in answers[person, model].reasons)
        return list(dict.fromkeys(found))

    def _message(self, scene: str, person: str) -> str:
        reason = self.scenes[scene].answers[person, self.story.watched[0]].reasons[0]
        return f"{reason.rule}: {reason.message}"

    def tenant(self, person: str) -> str:
        """Return the tenant a sample person acts for."""
        return str(self.persons[person]["tenants"][0])


def counts_table(outcome: Outcome) -> Any:
    """Return how many people had each model, scene by scene."""
    table = _table("How many of the twenty people could use each model (times are UTC)")
    table.add_column("model")
    for name, scene in outcome.scenes.items():
        table.add_column(f"{name}\n{format_instant(scene.at)[5:16].replace('T', ' ')}", justify="right")
    for model in outcome.story.models:
        table.add_row(model, *(str(outcome.count(name, model)) for name in outcome.scenes))
    return table


def people_tables(outcome: Outcome) -> Iterator[Any]:
    """Yield, per watched model, every person's answers: `yes`, or the rules that denied; then what the rules say."""
    shown = [name for name in outcome.scenes if name != "all off"]
    for model in outcome.story.watched:
        table = _table(f"{model}: each person's answers (yes, or the rules that denied)")
        for heading in ("person", "tenant", "from", *shown):
            table.add_column(heading, min_width=11 if heading in shown else None)
        for person, place in outcome.story.places.items():
            answers = [outcome.scenes[name].answers[person, model] for name in shown]
            table.add_row(person, outcome.tenant(person), place, *(_answer(answer) for answer in answers))
        yield table


def rule_sentences(outcome: Outcome) -> list[str]:
    """Return, for each rule that denied anybody a watched model, what it tells the person."""
    said: dict[str, str] = {}
    for scene in outcome.scenes.values():
        for (_, model), decision in scene.answers.items():
            for reason in () if decision.allowed or model not in outcome.story.watched else decision.reasons:
                said.setdefault(reason.rule or reason.code, reason.message)
    return [f"{rule:<4} {message}" for rule, message in sorted(said.items(), key=lambda item: _number(item[0]))]


def _number(rule: str) -> tuple[int, str]:
    digits = "".join(filter(str.isdigit, rule))
    return int(digits or 0), rule


def fates_table(outcome: Outcome) -> Any:
    """Return who kept access under the first letter and why, who lost it, who was undetermined."""
    from rich.text import Text

    table = _table("Under the first letter")
    for heading in ("person", "tenant", "access", "why"):
        table.add_column(heading, overflow="fold")
    for fate in outcome.fates():
        table.add_row(fate.person, fate.tenant, Text(fate.verdict, style=_COLOURS[fate.verdict]), Text(fate.why))
    return table


def cost_sentences(outcome: Outcome) -> list[str]:
    """Return what switching both models off for everyone would have cost, against the directive itself."""
    before, off, letter, eased = (outcome.holders(name) for name in ("before", "all off", "letter", "eased"))
    undetermined = [fate for fate in outcome.fates() if fate.verdict == UNDETERMINED]
    acts = outcome.story.acts
    start, easing, end = (parse_instant(acts[name]["at"]) for name in ("switch", "easing", "end"))
    days = len(letter - off) * (easing - start) / DAY + len(eased - off) * (end - easing) / DAY
    tenants = {outcome.tenant(person) for person in letter}
    models = " or ".join(outcome.story.watched)
    return [
        f"{len(before)} of {len(outcome.story.places)} people could use {models} before the letter.",
        f"Off for everyone leaves {len(off)}. The directive alone leaves {len(letter)}, in {len(tenants)} tenants; "
        f"after the easing {len(eased)}.",
        f"Kept up until the end of the directive, the switch would have cost about {days:.0f} person-days of access "
        "that no order took.",
        f"{len(undetermined)} people were undetermined: denied until somebody verifies them, not for who they are.",
    ]


def _answer(decision: Any) -> Any:
    from rich.text import Text

    if decision.allowed:
        return Text("yes", style="green")
    rules = dict.fromkeys(reason.rule or reason.code for reason in decision.reasons)
    return Text(" ".join(rules), style="yellow" if "P8" in rules else "red")


def _table(title: str) -> Any:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
