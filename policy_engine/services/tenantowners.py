"""Tenants whose seat, parent, owner or list match is restricted or untold as of an instant, and their decisions.

Rules of the room:
- Registers, release and table editions are those of the instant; what restricts is what the release says: its group of
  seats, its thresholds of ownership (`core.derive`). A chain of end customers counts as a whole.
- Decisions are counted by the tenant in the public part. Where none stands there it may be an individual, and the
  sealed part says which; a decision whose sealed part is gone can be counted for none of them, and is handed over.
Left to others: the walk, who may ask (`services.asof`), what it means for a decision (the packs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.core.derive import Reference, TenantFacets, derive_tenant
from policy_engine.core.release import Release
from policy_engine.errors import NotFound
from policy_engine.services.factcache import read_tenant
from policy_engine.services.rejudge import Recorded, Rejudge
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.walk import Closed, Walk

_UNTOLD = ("headquarters", "parent", "owners", "owned", "end-customer", "incorporation", "screening")


@dataclass(frozen=True, slots=True)
class Owned:
    """One tenant with why it is listed. `restricted` are certain, `unknown` are what nobody knows."""

    tenant: str
    restricted: tuple[str, ...]
    unknown: tuple[str, ...]
    revision: int
    allows_count: int
    denies_count: int


def tenants_owned(walk: Walk, releases: ReleaseLoader, at: int) -> Iterator[Owned | Closed]:
    """Yield the decisions whose tenant is sealed and gone, then every tenant that is restricted or untold, in order.

    Raises `NotFound` when no release with tables was active.
    """
    counts: Counter[tuple[str | None, str]] = Counter()

    def count(public: Mapping[str, Any]) -> bool:
        if public["tenant"] is None:
            return True
        counts[public["tenant"], public["outcome"]] += 1
        return False

    for step in walk.whole(count, until=at):
        if isinstance(step, Recorded):
            counts[step.body["tenant"], step.public["outcome"]] += 1
        elif isinstance(step, Closed):
            yield step
    release = Rejudge(walk.past, releases).snapshot().release
    if not isinstance(release, Release):
        raise NotFound("no release with tables was active then", where="at")
    for row in walk.past.rows("tenants"):
        tenant = read_tenant(row)
        facets = None if tenant is None else derive_tenant(tenant, at, release.reference)
        restricted = () if facets is None else tuple(_restricted(facets, release.reference, at))
        unknown = ("row",) if facets is None else tuple(name for name in _UNTOLD if name in facets.unknown)
        if restricted or unknown:
            both = (counts[row.id, "allow"], counts[row.id, "deny"])
            yield Owned(row.id, restricted, unknown, row.revision, *both)


def _restricted(facets: TenantFacets, reference: Reference, at: int) -> Iterator[str]:
    """Yield what of a tenant is restricted."""
    group = reference.groups.at(at).groups[reference.seat_group]
    for code in sorted(facets.seats & group):
        yield f"seat or parent in {code}"
    if facets.owned:
        yield "owners of restricted countries hold the share that counts"
    for name in sorted(facets.ownership):
        yield f"owners on lists: {name}"
    for name in sorted(facets.screening - {"none", "cleared", "unscreened"}):
        yield f"list match: {name}"
