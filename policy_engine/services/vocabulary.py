"""What the active release knows by name, so that an order or switch that names something else is refused on receipt.

Rules of the room: the message names the place of the unknown word, never the word. A release without a catalogue (a
plain Casbin folder) knows every model id. Left to others: reading a release (`rules`), what the words do (`core`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.core.places import Gazetteer
from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.core.release import Catalogue
from policy_engine.errors import InputRefused
from policy_engine.limits import Limits


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Models, declared actions, countries and regions. `None` says: any word will do.

    `models` are ids of the catalogue; `names` also their aliases and the bases that are no entries themselves;
    `families` are those of its models; `lineages` are, by name, all names of what it derives from; `evidence_days` is
    how long verified evidence stays valid.
    """

    models: frozenset[str] | None
    names: frozenset[str] | None
    actions: frozenset[str] | None
    gazetteer: Gazetteer | None
    evidence_days: int = 365
    families: frozenset[str] | None = None
    lineages: Mapping[str, frozenset[str]] | None = None

    def require_reached(self, named: Iterable[str], reached: object, where: str) -> None:
        """Raise `InputRefused` for a model that nothing of `reached`, the models of an order, reaches."""
        if self.lineages is not None and isinstance(reached, list | tuple):
            lineages, known = self.lineages, frozenset(reached)
            problem = "is no model that the order itself reaches, so exempting it means nothing"
            self._require(named, lambda word: not known.isdisjoint(lineages.get(word, frozenset())), where, problem)

    def require_families(self, named: Iterable[str], where: str) -> None:
        """Raise `InputRefused` for a family of which the catalogue has no model."""
        if self.families is not None:
            self._require(named, self.families.__contains__, where, "is no family of the active release's catalogue")

    def require_names(self, named: Iterable[str], where: str) -> None:
        """Raise `InputRefused` for a name that reaches no model of the catalogue."""
        if self.names is not None:
            self._require(named, self.names.__contains__, where, "names no model of the active release's catalogue")

    def require_models(self, named: Iterable[str], where: str) -> None:
        """Raise `InputRefused` for a name that is not itself the id of a model; an alias would move under it."""
        if self.models is not None:
            self._require(named, self.models.__contains__, where, "is no model id of the active release's catalogue")

    def require_actions(self, named: Iterable[str], where: str) -> None:
        """Raise `InputRefused` for an action that the release does not declare."""
        if self.actions is not None:
            self._require(named, self.actions.__contains__, where, "is no action that the active release declares")

    def require_countries(self, named: Iterable[str], where: str) -> None:
        """Raise `InputRefused` for a country code that resolves to nothing."""
        self._require(named, self._is_country, where, "is no country code of ISO 3166-1")

    def require_places(self, named: Iterable[str], where: str) -> None:
        """Raise `InputRefused` for a code that is neither a country nor a region of one."""
        self._require(named, self._is_place, where, "is no country code of ISO 3166-1 and no region of ISO 3166-2")

    @staticmethod
    def _require(named: Iterable[str], known: Callable[[str], bool], where: str, problem: str) -> None:
        for place, word in enumerate(named):
            if not known(word):
                raise InputRefused(problem, where=f"{where}[{place}]")

    def _is_country(self, code: str) -> bool:
        return self.gazetteer is None or self.gazetteer.country(code) is not None

    def _is_place(self, code: str) -> bool:
        if self.gazetteer is None:
            return True
        country, dash, _ = code.partition("-")
        return self.gazetteer.resolve(country, code if dash else None).known


ANYTHING = Vocabulary(models=None, names=None, actions=None, gazetteer=None)
"""Knows every word; for a switch that must be engaged while no release is active."""

VocabularyOf = Callable[[str], Vocabulary]
"""Gives the vocabulary of a release by its hash."""


def vocabulary_of(release: AnyRelease) -> Vocabulary:
    """Return what a loaded release knows by name."""
    catalogue = release.catalogue
    if not catalogue.models:
        return ANYTHING
    names = frozenset(name for id in catalogue.models for name in catalogue.names(id))
    families = frozenset(model.family for model in catalogue.models.values() if model.family is not None)
    if isinstance(release, PlainRelease):
        return Vocabulary(
            models=frozenset(catalogue.models), names=names, actions=None, gazetteer=None, families=families
        )
    return Vocabulary(
        models=frozenset(catalogue.models),
        names=names,
        actions=release.reference.actions,
        gazetteer=release.reference.gazetteer,
        evidence_days=release.reference.evidence_days,
        families=families,
        lineages=_lineages(catalogue),
    )


def _lineages(catalogue: Catalogue) -> dict[str, frozenset[str]]:
    """Return the names in the lineage of every model, by id and by alias; a base that is no entry stands for itself."""
    found = {name: frozenset((name,)) for id in catalogue.models for name in catalogue.lineage(id)}
    found |= {id: catalogue.names(id) for id in catalogue.models}
    return found | {alias: found[id] for alias, id in catalogue.aliases.items()}


def words(document: Mapping[str, Any], name: str) -> Sequence[str]:
    """Return the list of words that a document holds under a name; none where it is absent or says `all`."""
    value = document.get(name)
    return value if isinstance(value, list | tuple) else ()


def require_id(id: object, where: str, limits: Limits) -> str:
    """Return an id of our own registers: printable, not blank, within the limit. Raises `InputRefused` otherwise."""
    if not isinstance(id, str) or not id.strip() or not id.isprintable() or len(id) > limits.id_characters:
        raise InputRefused(f"must be a text of 1 to {limits.id_characters} printable characters", where=where)
    return id
