"""What a search under a plain Casbin folder asks about: its entities, else the ids that the policy itself names.

Rules of the room:
- A candidate is only a question for the evaluator; nothing is listed that it does not allow.
- Where the ids come from the policy's rows, ids that no row names may be allowed as well (`*`, patterns), so such a
  listing never says that it is complete. Actions, and the tenants of a query, are all named only where the matcher
  holds them against a column of the rows.
- What nobody could ask about (an id that is too long, or holds control characters) is no candidate.
Left to others: asking, recording and showing (`search`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import product

from policy_engine.core.decision import Request
from policy_engine.core.plain import PlainRelease, Row, Use
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS
from policy_engine.services.queries import Listing, Query, Sought

SUBJECT_TYPE = "person"
RESOURCE_TYPE = "model"
"""Types of subjects and resources that no entity describes, as the command line gives them."""
_SUBJECT = "subject.id"
_RESOURCE = "resource.id"
_ACTION = "action.name"
_TENANT = "context.tenant"
"""The ids of a request, by their paths."""
_UNUSED = Use()
_ANY = "*"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Entity = tuple[str, str]


def plain_candidates(release: PlainRelease, query: Query) -> Iterator[Request]:
    """Yield the questions of a search, subjects first. Raises `InputRefused` where an action must be named."""
    actions = [query.action] if query.action is not None else sorted(_names(release, _ACTION))
    if not actions:
        raise InputRefused("the policy names no action in a column of its own; name one", where="--action")
    tenants = [query.tenant] if query.tenant is not None else _tenants(release)
    subjects = _entities(release, query.subject, SUBJECT_TYPE, _subjects(release))
    resources = _resources(release) if query.model is None else _meant(release, query.model)
    for (kind, subject), tenant, (type_, id), action in product(subjects, tenants, resources, actions):
        yield Request(
            subject, action, id, tenant, query.location, query.serving_region, subject_type=kind, resource_type=type_
        )


class PlainIds:
    """The ids of a plain folder, by type, each list sorted once for all listings under the release."""

    def __init__(self, release: PlainRelease) -> None:
        self.release = release
        described = {id for _, id in release.entities}
        self._subjects = _Kinds(release, _leaves(release, "g", _SUBJECT) - described, _use(release, _SUBJECT))
        self._resources = _Kinds(release, _leaves(release, "g2", _RESOURCE) - described, _use(release, _RESOURCE))
        self._models = None if release.models is None else _askable(release.models.models)
        self._actions = _askable(_names(release, _ACTION))
        self._all_actions = _all_named(release, _ACTION)

    def candidates(self, listing: Listing) -> tuple[Sequence[str], bool]:
        """Return the ids to ask about, sorted, and whether they are all that there is.

        Of a type that the folder describes there are its entities and the ids that rows name and no entity has;
        whatever else a listing is for is unknown, and then it has no candidates and does not say that it is complete.
        """
        request, sought = listing.request, listing.sought
        if sought is not Sought.SUBJECT and not self._subjects.knows(request.subject_type, request.subject_id):
            return (), False
        known = self._models is not None or self._resources.knows(request.resource_type, request.model)
        if sought is not Sought.RESOURCE and not known:
            return (), False
        if sought is Sought.ACTION:
            return self._actions, self._all_actions
        if sought is Sought.SUBJECT:
            return self._subjects.of(request.subject_type)
        return self._resources.of(request.resource_type) if self._models is None else (self._models, True)


class _Kinds:
    """Entities by type, and the ids that rows name beside them, which may be patterns where they are not bound."""

    def __init__(self, release: PlainRelease, named: set[str], use: Use) -> None:
        self._entities = release.entities
        self._named, self._names = _askable(named), frozenset(named)
        by_type: dict[str, list[str]] = {}
        for kind, id in release.entities:
            by_type.setdefault(kind, []).append(id)
        whole = use.bound or not named
        self._by_type = {kind: (_askable((*ids, *self._named)), whole) for kind, ids in by_type.items()}

    def of(self, kind: str) -> tuple[Sequence[str], bool]:
        """Return the ids of a type, and whether the folder describes it: only then there may be no others."""
        return self._by_type.get(kind, (self._named, False))

    def knows(self, kind: str, id: str) -> bool:
        """Return whether something may be there under a type and id."""
        return kind not in self._by_type or (kind, id) in self._entities or id in self._names


def _askable(ids: Iterable[str]) -> list[str]:
    return sorted(id for id in ids if 0 < len(id) <= LIMITS.id_characters and not _CONTROL.search(id))


def _leaves(release: PlainRelease, roles: str, path: str) -> set[str]:
    """Return the ids in a column and the members of its roles, without the roles themselves.

    Where the matcher asks no role definition about the id, `roles` says which one is about its like.
    """
    use = _use(release, path)
    groups = list(_lines(release, use.roles or {roles}))
    found = _column(release, path) | use.words | _domains(release, use) | {row[1] for row in groups}
    return found - {row[2] for row in groups} - {_ANY}


def is_complete(release: PlainRelease, query: Query) -> bool:
    """Return whether a search asks about all that there is: whether the folder says which entities there are.

    It does not where rows name somebody who is no entity and read the id, or may allow an action, resource or tenant
    that they do not name.
    """
    if not release.entities:
        return False
    described = {id for _, id in release.entities}
    by_id = _SUBJECT in release.uses
    return (
        (query.subject is not None or not by_id or _leaves(release, "g", _SUBJECT) <= described)
        and (query.action is not None or _all_named(release, _ACTION))
        and (query.model is not None or _all_resources(release, described))
        and (query.tenant is not None or not _reads_tenant(release) or _all_named(release, _TENANT))
    )


def _all_resources(release: PlainRelease, described: set[str]) -> bool:
    """Return whether a search tries all resources: the catalogue's, all that rows can allow, or the entities.

    Entities say which resources there are where rows name some of them and nothing else, or read their attributes.
    """
    if release.models is not None or _all_named(release, _RESOURCE):
        return True
    named = _leaves(release, "g2", _RESOURCE)
    return named <= described and (bool(named) or any(token.source == "resource" for token in release.tokens))


def public_word(release: PlainRelease, source: str, word: str | None) -> str | None:
    """Return a word of a query as it may stand in the log's public part: only if the policy itself names it."""
    return word if word in release.named.get(source, ()) else None


def _entities(release: PlainRelease, id: str | None, kind: str, named: Iterable[str]) -> list[Entity]:
    """Return the entities with an id, or all of them; without entities the id, or the policy's own."""
    known = [entity for entity in release.entities if id in (None, entity[1])]
    if known:
        return sorted(known)
    return [(kind, word) for word in (named if id is None else [id])]


def _subjects(release: PlainRelease) -> list[str]:
    """Return the ids in the column of the subject, and the members of roles."""
    found = _names(release, _SUBJECT)
    found.update(row[1] for row in release.rows.entries if row is not None and row[0].startswith("g"))
    return sorted(found)


def _tenants(release: PlainRelease) -> list[str | None]:
    """Return the domains that the policy names, where it reads a tenant; otherwise no tenant."""
    if not _reads_tenant(release):
        return [None]
    found = _names(release, _TENANT)
    found.update(row[3] for row in release.rows.entries if row is not None and row[0].startswith("g") and len(row) > 3)
    return [*sorted(found)]


def _resources(release: PlainRelease) -> list[Entity]:
    """Return the entries of the catalogue; without one the entities, and the ids that rows name and no entity has."""
    if release.models is not None:
        return [one for id in sorted(release.models.models) for one in _entities(release, id, RESOURCE_TYPE, ())]
    described = {id for _, id in release.entities}
    named = sorted(_names(release, _RESOURCE) - described)
    return [*sorted(release.entities), *((RESOURCE_TYPE, id) for id in named)]


def _meant(release: PlainRelease, name: str) -> list[Entity]:
    """Return the resources that a name means, under that name: an alias has the types of its entry."""
    found = release.find(name)
    id = name if found is None else found[0]
    return [(kind, name) for kind, _ in _entities(release, id, RESOURCE_TYPE, ())]


def _reads_tenant(release: PlainRelease) -> bool:
    return _use(release, _TENANT).read or any(token.source == _TENANT for token in release.tokens)


def _all_named(release: PlainRelease, path: str) -> bool:
    """Return whether no row can allow an id that is not among `_names`."""
    return _use(release, path).bound and _ANY not in _column(release, path)


def _names(release: PlainRelease, path: str) -> set[str]:
    """Return the ids that the matcher and the rows name: in their columns and in lines of their roles."""
    use = _use(release, path)
    roles = {name for row in _lines(release, use.roles) for name in row[1:3]} if use.roles else set()
    return (_column(release, path) | use.words | _domains(release, use) | roles) - {_ANY}


def _domains(release: PlainRelease, use: Use) -> set[str]:
    """Return the domains of the roles that the matcher asks in an id as a domain."""
    return {row[3] for row in _lines(release, use.domains) if len(row) > 3} if use.domains else set()


def _lines(release: PlainRelease, kinds: Collection[str]) -> Iterator[Row]:
    return (row for row in release.rows.entries if row is not None and row[0] in kinds)


def _use(release: PlainRelease, path: str) -> Use:
    return release.uses.get(path, _UNUSED)


def _column(release: PlainRelease, path: str) -> set[str]:
    """Return the values of the columns that an id is held against."""
    places = [release.rows.columns.index(name) + 1 for name in _use(release, path).columns]
    return {row[place] for place in places for row in release.rows.lines}
