"""Facts: what is known of persons, tenants, places and models, typed, with provenance.

Rules of the room:
- A field that nobody stated is *unknown* (`None` or `UNKNOWN`), never a default that helps; `vetted_partner` and
  `denied_by_lab` alone mean false when absent (reference policy, Tenants).
- Values outside a vocabulary are refused when they come in (`parse_*`), with the path of the field, never the value.
- Birth country is kept (it is evidence, and a contradiction check may name it) and no facet is ever made of it.
Left to others: what the facts mean (`derive`), where they are kept (`store`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class UsStatus(StrEnum):
    """Immigration status as the evidence shows it (15 CFR 772.1, 8 USC 1324b(a)(3))."""

    CITIZEN = "citizen"
    NATIONAL = "national"
    LPR = "lpr"
    REFUGEE = "refugee"
    ASYLEE = "asylee"
    NONE = "none"
    UNKNOWN = "unknown"


class EvidenceLevel(StrEnum):
    """How a person's nationality and status were shown."""

    VERIFIED = "verified"
    DECLARED = "declared"
    CONFLICT = "conflict"
    NONE = "none"


class ListMatch(StrEnum):
    """Result of list screening, made elsewhere; `None` in a field means never screened."""

    NONE = "none"
    POSSIBLE = "possible"
    CLEARED = "cleared"
    CONFIRMED = "confirmed"


class TenantType(StrEnum):
    """What kind of party a tenant is; a type alone never allows."""

    INDIVIDUAL = "individual"
    ENTERPRISE = "enterprise"
    ACADEMIC = "academic"
    US_GOVERNMENT = "us_government"
    FOREIGN_GOVERNMENT = "foreign_government"
    INTERNATIONAL_ORGANISATION = "international_organisation"
    RESELLER = "reseller"
    LAB = "lab"


class OwnerList(StrEnum):
    """List families on which an owner may stand."""

    SDN = "SDN"
    ENTITY_LIST = "entity_list"
    MEU = "MEU"


class ModelStatus(StrEnum):
    """Life of a model in the catalogue."""

    AVAILABLE = "available"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    RETIRED = "retired"


class NationalityTest(StrEnum):
    """Which ties count: the most recent (EAR, 15 CFR 734.13(b)) or all ever held (ITAR, 22 CFR 120.50(b))."""

    EAR = "EAR"
    ITAR = "ITAR"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a fact comes from. `source` and `verifier` are stamped from the caller's principal, never taken from it.

    `verified_at` and `expires_at` are instants; a fact past `expires_at` is stale and counts as unknown.
    """

    method: str | None = None
    source: str | None = None
    assurance: str | None = None
    verified_at: int | None = None
    expires_at: int | None = None
    verifier: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Tie:
    """A citizenship or permanent residency: raw country code, instant acquired (`None` unknown, `BIRTH`), current?"""

    country: str | None
    acquired: int | None
    current: bool = True


BIRTH = -(2**62)
"""`Tie.acquired` of a tie held from birth: earlier than any date."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence of nationality and status; dates are their 00:00Z instants."""

    level: EvidenceLevel = EvidenceLevel.NONE
    verified_on: int | None = None
    expires_on: int | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of a person. `None` for a list or code means unknown; an empty tuple means known to be empty."""

    id: str
    citizenships: tuple[Tie, ...] | None = None
    permanent_residencies: tuple[Tie, ...] | None = None
    us_status: UsStatus = UsStatus.UNKNOWN
    residence_country: str | None = None
    residence_region: str | None = None
    evidence: Evidence = Evidence()
    lab_employee: bool = False
    list_match: ListMatch | None = None
    tenants: frozenset[str] = frozenset()
    provenance: Mapping[str, Provenance] | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """One owner of a tenant: raw country code, share in percent (exact; `None` unknown), list family if listed."""

    country: str | None
    percent: Fraction | None
    listed: OwnerList | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whom a person acts for, or an end customer behind a reseller. `owners=None` means unknown.

    The chain of a tenant is itself and, one behind the other, each end customer named.
    """

    id: str
    type: TenantType | None = None
    incorporated_in: str | None = None
    incorporated_in_region: str | None = None
    headquarters: str | None = None
    headquarters_region: str | None = None
    ultimate_parent_headquarters: str | None = None
    owners: tuple[Owner, ...] | None = None
    list_match: ListMatch | None = None
    vetted_partner: bool = False
    denied_by_lab: bool = False
    end_customer: Tenant | None = None
    end_customer_identified: bool = False
    provenance: Mapping[str, Provenance] | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """Where the person is, as the enforcement point saw it. An absent anonymiser flag means not detected."""

    country: str | None = None
    region: str | None = None
    anonymiser: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A catalogue entry. `tier=None` is unclassified; `bases` are the models it derives from."""

    id: str
    tier: int | None
    status: ModelStatus | None
    weights_public: bool = False
    permitted_serving_regions: frozenset[str] = frozenset()
    nationality_test: NationalityTest | None = None
    bases: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    fallback: str | None = None
    superseded_by: str | None = None
    family: str | None = None
