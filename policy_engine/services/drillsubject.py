"""Who asks in a drill: a person and a tenant that are in no register and that nobody else can ask for.

Rules of the room:
- They exist for the principal `DRILL` alone, which no door ever authenticates: to every other caller they are unknown.
- The person is a verified citizen of the release's home country, at home, for a company of that country, so that what
  denies in a drill is the switch wherever the policy allows at all. They are derived from the instant, so a replay
  gives the same.
- A row of that id in a register is not read; the entry still says revision 0 and is then refused as stale.
Left to others: the drill itself (`services.drills`), what its switches cover (`core.switches`).
"""

from __future__ import annotations

from typing import Final

from policy_engine.core.derive import (
    PersonFacets,
    Reference,
    TenantFacets,
    derive_person,
    derive_tenant,
)
from policy_engine.core.facts import (
    BIRTH,
    Evidence,
    EvidenceLevel,
    ListMatch,
    Person,
    Tenant,
    TenantType,
    Tie,
    UsStatus,
)
from policy_engine.core.instants import DAY
from policy_engine.services.factcache import Known

DRILL_SUBJECT: Final = "drill:subject"
DRILL_TENANT: Final = "drill:tenant"
DRILL_TENANT_TYPE: Final = TenantType.ENTERPRISE

_PERSON = Person(
    DRILL_SUBJECT,
    permanent_residencies=(),
    us_status=UsStatus.CITIZEN,
    list_match=ListMatch.NONE,
    tenants=frozenset((DRILL_TENANT,)),
)
_TENANT = Tenant(DRILL_TENANT, type=DRILL_TENANT_TYPE, owners=(), list_match=ListMatch.NONE)


def drill_person() -> Known[Person, PersonFacets]:
    """Return the person of a drill, as the memory of facts would hold them."""
    return Known(_PERSON, 0, False, 0, _derive_person)


def drill_tenant() -> Known[Tenant, TenantFacets]:
    """Return the tenant of a drill."""
    return Known(_TENANT, 0, False, 0, _derive_tenant)


def _derive_person(person: Person, at: int, reference: Reference) -> PersonFacets:
    home = reference.home_country
    known = Person(
        id=person.id,
        citizenships=(Tie(home, BIRTH),),
        permanent_residencies=person.permanent_residencies,
        us_status=person.us_status,
        residence_country=home,
        evidence=Evidence(EvidenceLevel.VERIFIED, at // DAY * DAY, None),
        list_match=person.list_match,
        tenants=person.tenants,
    )
    return derive_person(known, at, reference)


def _derive_tenant(tenant: Tenant, at: int, reference: Reference) -> TenantFacets:
    home = reference.home_country
    known = Tenant(
        id=tenant.id,
        type=tenant.type,
        incorporated_in=home,
        headquarters=home,
        ultimate_parent_headquarters=home,
        owners=tenant.owners,
        list_match=tenant.list_match,
    )
    return derive_tenant(known, at, reference)
