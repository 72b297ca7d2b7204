"""A loaded release: tokens, rules' meta data, the compiled index, reference data and the model catalogue. Frozen.

Rules of the room:
- A release is named by the hash of its files and never changes; another catalogue makes another release.
- Everything a decision looks up here is in a precomputed dict.
- Lineage (a model and all it derives from) is followed to the end, bounded, and never in a circle: an order on a
  base reaches every derivative.
Left to others: reading files and refusing bad ones (`rules.release`), deciding (`core.authorizer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from policy_engine.core.decision import Principal, Reason, Request
from policy_engine.core.derive import Reference
from policy_engine.core.facts import Model
from policy_engine.core.index import Index
from policy_engine.core.segments import Segments
from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.limits import LIMITS, Limits

DERIVED = "derive:"
"""Begins the source of a token that is a facet; any other source is a path into the request."""


@dataclass(frozen=True, slots=True)
class RuleMeta:
    """What is said about one compiled row beside its conditions.

    `label` is the policy's name of the rule (`P7`), `code` the public reason, `lift` the key that an authorisation
    must name to remove it (empty: none). `requires` are names that an allow row needs to be known, `unknown` the
    names whose being unknown the row tests, `directives` the blocks of directives that it reads, `folded` its
    conditions (derivation, value) behind which something unknown may stand (`lacking`). `pack` and `line` say where it
    stands; `reason` is the reason it gives, made once.
    """

    id: str
    label: str
    effect: str
    code: str
    message: str
    authority: str
    lift: str
    requires: tuple[str, ...]
    pack: str
    line: int
    unknown: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    folded: tuple[tuple[str, str], ...] = ()
    reason: Reason = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        reason = Reason(self.code, self.label, self.message, self.authority or None, self.id)
        object.__setattr__(self, "reason", reason)


@dataclass(frozen=True, slots=True)
class Token:
    """One value of the flat tuple: its name, where it comes from (`derive:<name>` or a path), `scalar` or `set`.

    `values` is its closed vocabulary, `None` where any text may stand.
    """

    name: str
    source: str
    kind: str
    values: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ReasonText:
    """Label and end-user sentence of a reason that the engine itself gives, such as `switch.engaged`."""

    label: str
    message: str


class Catalogue:
    """Models by id, aliases, and the lineage of each model.

    A base that is no entry stays in the lineage by its id, so that an order that names it still reaches. Raises
    `LoadRefused` on a name used twice, a circle, or a lineage longer than `limits.lineage_models_count`.
    """

    __slots__ = ("_families", "_lineages", "_names", "aliases", "models")

    def __init__(self, models: Iterable[Model], *, limits: Limits = LIMITS) -> None:
        found: dict[str, Model] = {}
        aliases: dict[str, str] = {}
        for model in models:
            _claim(found, aliases, model.id)
            found[model.id] = model
            for alias in model.aliases:
                _claim(found, aliases, alias)
                aliases[alias] = model.id
        self.models: Mapping[str, Model] = MappingProxyType(found)
        self.aliases: Mapping[str, str] = MappingProxyType(aliases)
        self._lineages = {id: _lineage(found, id, limits.lineage_models_count) for id in found}
        self._names = {id: _names(found, lineage) for id, lineage in self._lineages.items()}
        self._families = {id: _families(found, lineage) for id, lineage in self._lineages.items()}

    def find(self, name: str) -> Model | None:
        """Return the model that an id or alias names, or `None` when the catalogue has none: the caller denies."""
        model = self.models.get(name)
        return self.models.get(self.aliases.get(name, "")) if model is None else model

    def lineage(self, id: str) -> frozenset[str]:
        """Return the ids of a model and of every model it derives from. Raises `KeyError` for an unknown id."""
        return self._lineages[id]

    def names(self, id: str) -> frozenset[str]:
        """Return all ids and aliases in a model's lineage. Raises `KeyError` for an unknown id."""
        return self._names[id]

    def families(self, id: str) -> frozenset[str] | None:
        """Return the families in a model's lineage, `None` when one of them is unknown. Raises `KeyError`."""
        return self._families[id]


@dataclass(frozen=True, slots=True)
class Release:
    """An immutable release, ready to decide. `hash` names its `files`.

    `index` gives all rules whose conditions hold, lifts aside; position n is `rules[n]`. `boundaries` are the instants
    at which a rule's interval or a table's edition begins or ends, ascending. `lift_keys` are the keys that rules
    name. `warnings` are what lint found and did not refuse. `basis` is what the loader keeps for the next load.
    """

    hash: str
    tokens: tuple[Token, ...]
    rules: tuple[RuleMeta, ...]
    index: Index | Segments
    reference: Reference
    catalogue: Catalogue
    files: Mapping[str, bytes]
    boundaries: tuple[int, ...]
    engine_reasons: Mapping[str, ReasonText]
    lift_keys: frozenset[str]
    warnings: tuple[str, ...] = ()
    basis: Any = field(default=None, repr=False, compare=False)
    _plain: itemgetter[Any] | None = field(init=False, repr=False, compare=False)
    _reasons: Mapping[str, Reason] = field(init=False, repr=False, compare=False)
    _instant_position: int | None = field(init=False, repr=False, compare=False)
    _required: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        derived = [token.source.removeprefix(DERIVED) for token in self.tokens if token.source.startswith(DERIVED)]
        plain = itemgetter(*derived) if len(derived) == len(self.tokens) > 1 else None
        object.__setattr__(self, "_plain", plain)
        place = next((at for at, token in enumerate(self.tokens) if token.source == f"{DERIVED}now"), None)
        object.__setattr__(self, "_instant_position", place)
        reasons = {code: Reason(code, text.label, text.message) for code, text in self.engine_reasons.items()}
        object.__setattr__(self, "_reasons", reasons)
        requires = {rule.requires for rule in self.rules if rule.requires and rule.effect == "allow"}
        object.__setattr__(self, "_required", frozenset(name for names in requires for name in names))

    @property
    def instant_position(self) -> int | None:
        """Return where the instant stands in the flat tuple, `None` when rules do not read it."""
        return self._instant_position

    @property
    def reads_paths(self) -> bool:
        """Return whether some token is read from the request body itself."""
        return self._plain is None

    @property
    def required(self) -> frozenset[str]:
        """Return every name that some allow rule needs to be known."""
        return self._required

    def reason(self, code: str) -> Reason:
        """Return the reason that the engine gives under a code; a code that no file describes has no sentence."""
        found = self._reasons.get(code)
        return Reason(code) if found is None else found

    def values(self, facets: Mapping[str, Any], request: Request, principal: Principal) -> tuple[Any, ...]:
        """Return the flat tuple that the rules read, in the order of `tokens`.

        A token that names a path is read from the request body, for principals that may supply everything.
        Raises `InputRefused` when such a value is missing, of the wrong kind, or not the caller's to supply.
        """
        if self._plain is not None:
            values: tuple[Any, ...] = self._plain(facets)
            return values
        return tuple(_value(token, facets, request, principal) for token in self.tokens)


def _value(token: Token, facets: Mapping[str, Any], request: Request, principal: Principal) -> Any:
    if token.source.startswith(DERIVED):
        return facets[token.source.removeprefix(DERIVED)]
    found: Any = request.raw if "*" in principal.supplies else None
    for name in token.source.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    if token.kind == "set" and isinstance(found, list) and all(isinstance(item, str) for item in found):
        return frozenset(found)
    if token.kind == "scalar" and isinstance(found, str):
        return found
    raise InputRefused("the rules need this value, and the request does not hold it as they need it", where=token.name)


def _claim(models: Mapping[str, Model], aliases: Mapping[str, str], name: str) -> None:
    if name in models or name in aliases:
        raise LoadRefused(f"the name `{name}` stands for two models; rename one", where="models.toml")


def _lineage(models: Mapping[str, Model], id: str, most: int) -> frozenset[str]:
    """Return the ids reached from a model through its bases, depth first, refusing circles and excess."""
    reached: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> None:
        if name in path:
            raise LoadRefused(f"model `{name}` derives from itself; take one of the bases out", where="models.toml")
        if name in reached:
            return
        reached.add(name)
        if len(reached) > most:
            message = f"model `{id}` derives from more than {most} models (lineage_models_count)"
            raise LoadRefused(message, where="models.toml")
        path.append(name)
        model = models.get(name)
        for base in () if model is None else model.bases:
            visit(base)
        path.pop()

    visit(id)
    return frozenset(reached)


def _names(models: Mapping[str, Model], lineage: frozenset[str]) -> frozenset[str]:
    aliases = (alias for name in lineage if name in models for alias in models[name].aliases)
    return lineage | frozenset(aliases)


def _families(models: Mapping[str, Model], lineage: frozenset[str]) -> frozenset[str] | None:
    """A base that is no entry says nothing of its family; a model without one may be of any."""
    found = {models[name].family for name in lineage if name in models}
    return None if None in found else frozenset(name for name in found if name is not None)
