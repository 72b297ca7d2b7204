"""What a search under a plain Casbin folder asks about: its entities, else the ids that the policy itself names.

Rules of the room: a candidate is only a question for the evaluator; nothing is listed that it does not allow. Where the
ids come from the policy's rows, ids that no row names may be allowed as well (`*`, patterns), so such a listing never
says that it is complete. Left to others: asking, recording and showing (`search`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from policy_engine.core.decision import Request
from policy_engine.core.plain import PlainRelease
from policy_engine.errors import InputRefused
from policy_engine.services.queries import Query

SUBJECT_TYPE = "person"
RESOURCE_TYPE = "model"
"""Types of subjects and resources that no entity describes, as the command line gives them."""
_ANY = "*"

Entity = tuple[str, str]


def plain_candidates(release: PlainRelease, query: Query) -> Iterator[Request]:
    """Yield the questions of a search, subjects first. Raises `InputRefused` where an action must be named."""
    actions = [query.action] if query.action is not None else _named(release, "action.name", "action")
    if not actions:
        raise InputRefused("the policy names no action in a column of its own; name one", where="--action")
    tenants = [query.tenant] if query.tenant is not None else _tenants(release)
    subjects = _entities(release, query.subject, SUBJECT_TYPE, _subjects(release))
    named = _named(release, "resource.id", "resource")
    resources = _entities(release, query.model, RESOURCE_TYPE, named)
    if query.model is None:
        ids = {id for _, id in resources}
        resources += [(RESOURCE_TYPE, id) for id in named if id not in ids]
    for (kind, subject), tenant, (type_, id), action in product(subjects, tenants, resources, actions):
        yield Request(
            subject, action, id, tenant, query.location, query.serving_region, subject_type=kind, resource_type=type_
        )


def is_complete(release: PlainRelease) -> bool:
    """Return whether a listing holds all that there is to list: whether the folder says which entities there are."""
    return bool(release.entities)


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
    found = set(_named(release, "subject.id", "subject"))
    found.update(row[1] for row in release.rows.entries if row is not None and row[0].startswith("g"))
    return sorted(found)


def _tenants(release: PlainRelease) -> list[str | None]:
    """Return the domains that the policy names, where it reads a tenant; otherwise no tenant."""
    if all(token.source != "context.tenant" for token in release.tokens):
        return [None]
    found = set(_named(release, "context.tenant"))
    found.update(row[3] for row in release.rows.entries if row is not None and row[0].startswith("g") and len(row) > 3)
    return [*sorted(found)]


def _named(release: PlainRelease, *sources: str) -> list[str]:
    """Return the values in the policy's column that is named like the token from one of these sources."""
    columns = release.rows.columns
    name = next((token.name for token in release.tokens if token.source in sources), None)
    if name not in columns:
        return []
    place = columns.index(name) + 1
    return sorted({row[place] for row in release.rows.lines} - {_ANY})
