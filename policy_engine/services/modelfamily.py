"""Which models derive from a model, and whether every control that names it reached them: aliases and derivatives too.

Rules of the room:
- The family are the models whose lineage holds the model, in each release that was active; they are named with their
  aliases. A control is a kill switch or directive whose models name anything of the lineage, or all models.
- For each control and model of the family: the decisions while it was in force, and of those the denies that name it
  and the allows. A switch that names nothing but models leaves no allow; one with other dimensions, and a directive,
  may leave some, which are counted and not judged.
Left to others: the walk, who may ask (`services.asof`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from policy_engine.core.decision import Outcome
from policy_engine.core.release import Release
from policy_engine.core.switches import DIMENSIONS, KillSwitch
from policy_engine.errors import NotFound
from policy_engine.ledger.decisions import require_decision
from policy_engine.ledger.encoding import parse_public
from policy_engine.services.past import is_decision
from policy_engine.services.rejudge import Rejudge
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.snapshot import Snapshot
from policy_engine.services.switchreasons import ids_named
from policy_engine.services.walk import Changed, Walk
from policy_engine.store.interfaces import StoredEntry

SWITCH: Final = "switch"


@dataclass(slots=True)
class Reached:
    """One control and one model of the family: decisions while it was in force. `whole`: it leaves no allow."""

    control: str
    kind: str
    model: str
    whole: bool
    denies_count: int = 0
    other_denies_count: int = 0
    allows_count: int = 0

    @property
    def missed(self) -> bool:
        """Whether an allow was left that the control cannot have left."""
        return self.whole and self.allows_count > 0


@dataclass(slots=True)
class Family:
    """A model's family: names by model id, and each control that named any of its lineage, by kind, id and model."""

    model: str
    members: dict[str, set[str]] = field(default_factory=dict)
    controls: dict[tuple[str, str, str], Reached] = field(default_factory=dict)


def family_of(walk: Walk, releases: ReleaseLoader, model: str) -> Family:
    """Return the family of a model. Raises `NotFound` when no release that was active had it."""
    found = Family(model)
    rejudge = Rejudge(walk.past, releases)

    def count(entry: StoredEntry) -> bool:
        if is_decision(entry):
            _count(found, rejudge.snapshot(), entry)
        return False

    for step in walk.whole(lambda public: False, may=count):
        if isinstance(step, Changed) and "activates" in step.public:
            _add_members(found, rejudge.snapshot(), model)
    if not found.members:
        raise NotFound("no release that was active has this model", where="model")
    return found


def _add_members(found: Family, snapshot: Snapshot, model: str) -> None:
    release = snapshot.release
    if not isinstance(release, Release):
        return
    catalogue = release.catalogue
    known = catalogue.find(model)
    base = model if known is None else known.id
    for id in catalogue.models:
        if base in catalogue.lineage(id):
            names = {alias for alias, of in catalogue.aliases.items() if of == id}
            found.members.setdefault(id, set()).update(names)


def _count(found: Family, snapshot: Snapshot, entry: StoredEntry) -> None:
    """Count a decision on a model of the family under each control that reached its lineage then."""
    public = parse_public(entry.public)
    require_decision(public)
    model, release = public["model"], snapshot.release
    if model not in found.members or not isinstance(release, Release) or release.catalogue.find(model) is None:
        return
    names = release.catalogue.names(model)
    families = release.catalogue.families(model)
    for kind, id, whole in _controls(snapshot, names, families, public["instant"]):
        reached = found.controls.setdefault((kind, id, model), Reached(id, kind, model, whole))
        if public["outcome"] == Outcome.ALLOW:
            reached.allows_count += 1
        elif id in ids_named(public["reasons"], switches=kind == SWITCH):
            reached.denies_count += 1
        else:
            reached.other_denies_count += 1


def _controls(
    snapshot: Snapshot, names: frozenset[str], families: frozenset[str] | None, at: int
) -> Iterator[tuple[str, str, bool]]:
    """Yield what controls a model in force; a switch of drill scope controls nobody's access."""
    for switch in snapshot.switches:
        by_name = switch.models is None or not switch.models.isdisjoint(names)
        by_family = switch.families is None or families is None or not switch.families.isdisjoint(families)
        if switch.start <= at < switch.until and by_name and by_family and not switch.drill:
            yield SWITCH, switch.id, _is_whole(switch)
    blocking = () if snapshot.orders is None else snapshot.orders.blocking(names, at)
    for directive in sorted({id for block in blocking for id in block.ids}):
        yield "directive", directive, False


def _is_whole(switch: KillSwitch) -> bool:
    """Whether a switch names models alone, so that it covers whoever asks for them."""
    return all(getattr(switch, name) is None for name in DIMENSIONS if name != "models")
