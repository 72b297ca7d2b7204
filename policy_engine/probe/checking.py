"""A check: its name, its fix, and how the answers to its requests become one verdict.

Rules of the room: a hole is an answer of the forbidden model (of any model, where nobody may be answered) by its own
word. Without a hole, one answer that says nothing makes the check unclear, and so does one under a name that both
models may have. A refusal is only worth something where the request would have been served otherwise, so a check may
ask the same of the allowed model: its `twin`.
Left to others: what each check asks, how an answer is read (`reading`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from policy_engine.probe.asks import Ask, Form, encoded_part
from policy_engine.probe.outcomes import Evidence, Outcome
from policy_engine.probe.reading import Kind, Reading, read
from policy_engine.probe.sender import Sender
from policy_engine.probe.standing import Names, Standing, folded
from policy_engine.probe.target import Target


@dataclass(slots=True)
class Scene:
    """What a check works with: the target, whoever sends, the names of the models and the plain question's form."""

    target: Target
    sender: Sender
    names: Names
    form: Form
    run: str = ""
    marks: frozenset[str] = frozenset()  # headers that come with an answer of the upstream and with no refusal
    kept: dict[str, object] = field(default_factory=dict)  # what two checks see together

    @property
    def allowed(self) -> str:
        """Return the model that the caller may use."""
        return self.target.models.allowed[0]

    @property
    def forbidden(self) -> str:
        """Return the model that the caller may not use."""
        return self.target.models.forbidden[0]

    def claimed(self, ask: Ask) -> tuple[Reading, Evidence]:
        """Send a request as `put` does; where the forbidden model seems to answer, see first whether names are echoed.

        A request may name both models, and some gateways write one of these names over the answer's, whoever answers.
        So it is sent again with a made-up name in the place of the forbidden one: where even that seems to answer, the
        name proves nothing, and only a router's header can tell.
        """
        reading, shown = self.put(ask)
        decoy = decoyed(ask, self.allowed, self.forbidden)
        if not reading.forbidden or reading.routed or decoy is None:
            return reading, shown
        if folded(self.put(decoy)[0].said) != folded(DECOY):
            return reading, shown
        told = replace(reading, kind=Kind.UNCLEAR, found=f"{reading.found}; but the gateway repeats any name there")
        if reading.beside:
            found = f"{reading.status}, answered by the allowed model by the header {reading.beside}"
            told = replace(reading, standing=Standing.ALLOWED, found=found)
        return told, evidence(ask, told)

    def put(self, ask: Ask) -> tuple[Reading, Evidence]:
        """Send a request; return what its answer means, and that as evidence."""
        reading = read(self.sender.ask(ask), self.names)
        return reading, evidence(ask, reading)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a check, before it is counted."""

    outcome: Outcome
    finding: str
    evidence: tuple[Evidence, ...] = ()
    measured_milliseconds: int | None = None


PLAIN: Final = "plain"
"""The check that most others rest on; it is asked while the suite looks how a gateway answers."""

DECOY: Final = "policy-engine-probe-no-model"
"""A name that no model has."""

_KEPT: Final = "\ue000"

Asks = Callable[[Scene, str], Iterable[Ask]]
Run = Callable[[Scene], Verdict]


@dataclass(frozen=True, slots=True)
class Check:
    """One way past a gateway. It means nothing while one of the checks that it `rests` on has found a hole."""

    name: str
    group: str
    fix: str
    run: Run
    rests: tuple[str, ...] = (PLAIN,)


def decoyed(ask: Ask, allowed: str, forbidden: str) -> Ask | None:
    """Return a request that names both models with a made-up name for the forbidden one; `None` for any other."""

    def swapped(text: str, spell: Callable[[str], str] = str) -> str:
        kept = text.replace(spell(allowed), _KEPT)
        return kept.replace(spell(forbidden), DECOY).replace(_KEPT, spell(allowed))

    body = ask.body.decode("utf-8", "surrogateescape")
    headers = tuple((name, swapped(value)) for name, value in ask.headers)
    changed = replace(
        ask,
        path=swapped(ask.path, encoded_part),
        headers=headers,
        body=swapped(body).encode("utf-8", "surrogateescape"),
    )
    named = f"{ask.path} {ask.headers} {body}"
    both = changed != ask and (allowed in named or encoded_part(allowed) in named)
    return changed if both else None


def evidence(ask: Ask, reading: Reading) -> Evidence:
    """Return a request and its answer as evidence."""
    return Evidence(ask.sent, ask.method, ask.path, reading.status, reading.said, reading.found)


def skipped(why: str) -> Verdict:
    """Return the verdict of a check that needs what was not given."""
    return Verdict(Outcome.SKIPPED, why)


def unprobed(why: str) -> Verdict:
    """Return the verdict of a check that could not be carried out."""
    return Verdict(Outcome.UNPROBED, why)


def withheld(asks: Asks, *, twin: bool = False) -> Run:
    """Return a check that no request of `asks`, made for the forbidden model, is answered by the forbidden model."""

    def run(scene: Scene) -> Verdict:
        served_twins, twins = 0, 0
        pairs = [scene.claimed(ask) for ask in asks(scene, scene.forbidden)]
        if twin and not any(reading.forbidden for reading, _ in pairs):
            others = [scene.claimed(ask) for ask in asks(scene, scene.allowed)]
            twins, served_twins = len(others), sum(reading.kind is Kind.SERVED for reading, _ in others)
            pairs += [pair for pair in others if pair[0].forbidden]
        return judged(pairs, _compared(twins, served_twins))

    return run


def _compared(twins: int, served: int) -> str:
    if not twins:
        return ""
    if not served:
        return "; the allowed model is not served in this way either"
    return f"; the allowed model is served in {served} of {twins}"


def judged(pairs: list[tuple[Reading, Evidence]], compared: str = "", *, failing: bool = False) -> Verdict:
    """Return the verdict over answers of which none may be the forbidden model's.

    With `failing` an answer that says nothing but a failure counts as a refusal: there nobody was to answer.
    """
    holes = tuple(shown for reading, shown in pairs if reading.forbidden)
    if holes:
        return Verdict(Outcome.HOLE, first(holes), holes)
    unclear = tuple(_doubted(reading, shown) for reading, shown in pairs if not _told(reading, failing))
    if unclear:
        return Verdict(Outcome.UNCLEAR, first(unclear), unclear)
    refused = sum(reading.kind is not Kind.SERVED for reading, _ in pairs)
    answered = len(pairs) - refused
    told = [f"{refused} refused"] if refused else []
    told += [f"{answered} answered by the allowed model"] if answered else []
    return Verdict(
        Outcome.PASSED, f"{', '.join(told) or 'nothing to ask'}{compared}", tuple(shown for _, shown in pairs)
    )


def _told(reading: Reading, failing: bool) -> bool:
    if reading.kind is Kind.SERVED:
        return reading.standing is Standing.ALLOWED
    return reading.kind is Kind.REFUSED or (failing and reading.failed)


def _doubted(reading: Reading, shown: Evidence) -> Evidence:
    return replace(shown, found=f"{shown.found}; {reading.doubt}") if reading.doubt else shown


def unanswered(asks: Callable[[Scene], Iterable[Ask]]) -> Run:
    """Return a check that no request of `asks` is answered by any model at all."""

    def run(scene: Scene) -> Verdict:
        return closed([scene.put(ask) for ask in asks(scene)])

    return run


def closed(pairs: list[tuple[Reading, Evidence]]) -> Verdict:
    """Return the verdict over answers of which none may be a model's."""
    holes = tuple(shown for reading, shown in pairs if reading.kind is Kind.SERVED)
    if holes:
        return Verdict(Outcome.HOLE, first(holes), holes)
    unclear = tuple(shown for reading, shown in pairs if reading.kind is Kind.UNCLEAR)
    if unclear:
        return Verdict(Outcome.UNCLEAR, first(unclear), unclear)
    return Verdict(Outcome.PASSED, f"{len(pairs)} refused", tuple(shown for _, shown in pairs))


def first(found: tuple[Evidence, ...]) -> str:
    """Return in a sentence what the first of some requests found, and how many more there are."""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0].sent}: {found[0].found}{more}"
