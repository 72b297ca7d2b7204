"""Kill switches: checked first, by code that shares nothing with the rules.

Rules of the room: a switch can only deny. A dimension that is absent, empty or "all" means any; one that cannot be
read means any as well, so that a damaged switch covers all it could mean. What is unknown about a request (its tier,
its family, its place) is covered by a switch that asks for it. Starts are inclusive, ends exclusive; without a start it
is in force. A switch of drill scope covers the requests of a drill alone; every other switch covers those too, and what
is not plainly marked is no drill. Left to others: engaging and releasing (`services.switches`), the register (`store`),
what a drill asks (`services.drills`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.core.instants import ENDLESS, parse_instant

DIMENSIONS = ("models", "families", "tenants", "tenant_types", "tiers", "regions", "actions")

DRILL = "drill"
"""The member of a scope that marks it, with `true`, as one of a drill."""


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """One switch. Each dimension is the set it names, or `None` for any. `drill`: it covers drills alone."""

    id: str
    start: int
    until: int
    models: frozenset[str] | None = None
    tenants: frozenset[str] | None = None
    tenant_types: frozenset[str] | None = None
    tiers: frozenset[int] | None = None
    regions: frozenset[str] | None = None
    actions: frozenset[str] | None = None
    families: frozenset[str] | None = None
    drill: bool = False


@dataclass(frozen=True, slots=True)
class SwitchQuestion:
    """What a switch is compared with. `None` stands for unknown, which every named set covers.

    `models` are the model, its aliases and all it derives from; `families` those of all of these; `tenants` and
    `tenant_types` the whole chain; `regions` the country and region of the person and of the serving place. `drill`
    says that a drill asks, and nobody else.
    """

    models: frozenset[str]
    tenants: frozenset[str] | None
    tenant_types: frozenset[str]
    tier: int | None
    regions: frozenset[str] | None
    action: str
    families: frozenset[str] | None = None
    drill: bool = False


def covers(switch: KillSwitch, question: SwitchQuestion) -> bool:
    """Return whether every dimension the switch names is met by the question."""
    return (
        (question.drill or not switch.drill)
        and (switch.families is None or question.families is None or not switch.families.isdisjoint(question.families))
        and (switch.models is None or not switch.models.isdisjoint(question.models))
        and (switch.tenants is None or question.tenants is None or not switch.tenants.isdisjoint(question.tenants))
        and (
            switch.tenant_types is None
            or "unknown" in question.tenant_types
            or not switch.tenant_types.isdisjoint(question.tenant_types)
        )
        and (switch.tiers is None or question.tier is None or question.tier in switch.tiers)
        and (switch.regions is None or question.regions is None or not switch.regions.isdisjoint(question.regions))
        and (switch.actions is None or question.action in switch.actions)
    )


def doubted(switch: KillSwitch, question: SwitchQuestion) -> frozenset[str]:
    """Return the dimensions that a switch which covers the question names and the question does not know."""
    unknown = {
        "families": question.families is None,
        "tenants": question.tenants is None,
        "tenant_types": switch.tenant_types is not None
        and "unknown" in question.tenant_types
        and switch.tenant_types.isdisjoint(question.tenant_types),
        "tiers": question.tier is None,
        "regions": question.regions is None,
    }
    return frozenset(name for name, is_unknown in unknown.items() if is_unknown and getattr(switch, name) is not None)


class Switchboard:
    """All switches, each filed under the values of the one dimension that it shares with the fewest others.

    Filing only narrows what is compared: `covers` has the last word on each switch found.
    """

    __slots__ = ("_filed", "_regions", "_switches", "_unfiled")

    def __init__(self, switches: Iterable[KillSwitch] = ()) -> None:
        self._switches = tuple(switches)
        crowd = Counter(value for switch in self._switches for value in _values(switch))
        self._filed: dict[str, dict[Any, list[KillSwitch]]] = {}
        self._unfiled: list[KillSwitch] = []
        for switch in self._switches:
            places: dict[str, list[Any]] = {}
            for dimension, value in _values(switch):
                places.setdefault(dimension, []).append(value)
            if not places:
                self._unfiled.append(switch)
                continue
            fewest = min(places, key=lambda name: sum(crowd[name, value] for value in places[name]))
            for value in places[fewest]:
                self._filed.setdefault(fewest, {}).setdefault(value, []).append(switch)
        self._regions: dict[str, set[str]] = {}
        for region in {region for switch in self._switches for region in switch.regions or ()}:
            self._regions.setdefault(region.partition("-")[0], set()).add(region)

    def __iter__(self) -> Iterator[KillSwitch]:
        return iter(self._switches)

    def __len__(self) -> int:
        return len(self._switches)

    def regions_of(self, country: str) -> frozenset[str]:
        """Return the country and those of its regions that a switch names."""
        return frozenset(self._regions.get(country, ()))

    def engaged(self, question: SwitchQuestion, at: int) -> tuple[str, ...]:
        """Return the ids of the switches in force that cover the question, in order, each once."""
        return tuple(sorted({switch.id for switch in self._covering(question, at)}))

    def doubts(self, question: SwitchQuestion, at: int) -> frozenset[str]:
        """Return the dimensions that only a question which knew them could escape the switches in force by.

        None where one of them covers the question for certain: then nothing that is unknown matters.
        """
        found = [doubted(switch, question) for switch in self._covering(question, at)]
        return frozenset().union(*found) if all(found) else frozenset()

    def _covering(self, question: SwitchQuestion, at: int) -> Iterator[KillSwitch]:
        for switch in self._met(question):
            if switch.start <= at < switch.until and covers(switch, question):
                yield switch

    def _met(self, question: SwitchQuestion) -> Iterator[KillSwitch]:
        """Yield every switch that may cover the question; what the question does not know meets all that name it."""
        yield from self._unfiled
        for dimension, filed in self._filed.items():
            asked = _asked(question, dimension)
            for value in filed if asked is None else asked:
                yield from filed.get(value, ())


def _values(switch: KillSwitch) -> Iterator[tuple[str, Any]]:
    """Yield each dimension that a switch names with each of its values."""
    for dimension in DIMENSIONS:
        for value in getattr(switch, dimension) or ():
            yield dimension, value


def _asked(question: SwitchQuestion, dimension: str) -> Iterable[Any] | None:
    """Return the values of a question in a dimension of switches; `None` where they are unknown."""
    if dimension == "tenant_types":
        return None if "unknown" in question.tenant_types else question.tenant_types
    if dimension == "tiers":
        return None if question.tier is None else (question.tier,)
    if dimension == "actions":
        return (question.action,)
    found: frozenset[str] | None = getattr(question, dimension)
    return found


def read_kill_switch(id: str, document: Mapping[str, Any]) -> KillSwitch:
    """Return a switch from its register document, covering more rather than less wherever it cannot be read."""
    scope = document.get("scope")
    if not isinstance(scope, Mapping):
        scope = {}
    start = _instant(document.get("from"), -ENDLESS)
    until = min(_instant(document.get("until"), ENDLESS), _instant(document.get("released_at"), ENDLESS))
    texts = {name: _set(scope.get(name), str) for name in DIMENSIONS if name != "tiers"}
    drill = scope.get(DRILL) is True
    return KillSwitch(id=id, start=start, until=until, tiers=_set(scope.get("tiers"), int), drill=drill, **texts)


def _set(value: Any, kind: type) -> Any:
    if value is None or value == "all" or not isinstance(value, list | tuple) or not value:
        return None
    if any(not isinstance(item, kind) or isinstance(item, bool) for item in value):
        return None
    return frozenset(value)


def _instant(value: Any, otherwise: int) -> int:
    if not isinstance(value, str):
        return otherwise
    try:
        return parse_instant(value)
    except ValueError:
        return otherwise
