"""Who kept access under a directive and on what evidence, who lost it, and who was undetermined.

Rules of the room:
- Looked at are decisions on models that the directive reaches, by alias and derivative too, while it was in force: as
  the register had it then, exemptions and all, by the code that decides (`core.orders`).
- Who was allowed kept access. Who was denied by the directive lost it when their evidence was valid, and is
  undetermined when it was not: then nobody knew whether it meant them. Denied for other reasons alone is neither.
- Persons are counted for each tenant that they acted for, with the evidence of the last decision.
Left to others: the walk, who may ask (`services.asof`), who got through before (`services.letthrough`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.decision import Outcome
from policy_engine.core.release import Release
from policy_engine.services.evidenceage import Grounds
from policy_engine.services.rejudge import Recorded, Rejudge
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.snapshot import Snapshot
from policy_engine.services.switchreasons import ids_named
from policy_engine.services.walk import Closed, Walk

KEPT: Final = "kept"
LOST: Final = "lost"
UNDETERMINED: Final = "undetermined"


@dataclass(slots=True)
class Standing:
    """How one person stood under a directive for one tenant, with the evidence of their last decision."""

    subject: str
    tenant: str | None
    standing: str
    count: int
    last_entry: str
    last_at: int
    evidence: str
    method: str
    age_days: int | None


def standings(walk: Walk, releases: ReleaseLoader, directive: str) -> Iterator[tuple[str, Recorded] | Closed]:
    """Yield each decision that the directive reached with how its subject stood, and what does not open."""
    rejudge = Rejudge(walk.past, releases)
    for step in walk.steps(lambda public: _reached(rejudge.snapshot(), public, directive)):
        if isinstance(step, Closed):
            yield step
        elif isinstance(step, Recorded):
            standing = _standing(step, directive)
            if standing is not None:
                yield standing, step


class Tally:
    """Counts decisions by subject, tenant and standing."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._grounds = Grounds(walk.past)
        self._found: dict[tuple[str, str | None, str], Standing] = {}

    def add(self, standing: str, step: Recorded) -> None:
        """Count a decision; the evidence is that of the last one."""
        body, at = step.body, step.public["instant"]
        ground = self._grounds.of_person(body)
        key = (body["subject"], body["tenant"], standing)
        before = self._found.get(key)
        count = 1 if before is None else before.count + 1
        name = self._walk.name(step)
        self._found[key] = Standing(*key, count, name, at, ground.level, ground.method, ground.age_days(at))

    def standings(self) -> list[Standing]:
        """Return what was counted, by standing and subject."""
        return sorted(self._found.values(), key=lambda one: (one.standing, one.subject, one.tenant or ""))


def _reached(snapshot: Snapshot, public: Mapping[str, Any], directive: str) -> bool:
    """Whether the directive reached the model of a decision at its instant."""
    release = snapshot.release
    if snapshot.orders is None or not isinstance(release, Release) or public["model"] is None:
        return False
    model = release.catalogue.find(public["model"])
    names = frozenset[str]() if model is None else release.catalogue.names(model.id)
    return any(directive in block.ids for block in snapshot.orders.blocking(names, public["instant"]))


def _standing(step: Recorded, directive: str) -> str | None:
    if step.public["outcome"] == Outcome.ALLOW:
        return KEPT
    if directive not in ids_named(step.public["reasons"], switches=False):
        return None
    shown = step.body.get("tagged", {}).get("evidence") == ["valid"]
    return LOST if shown else UNDETERMINED
