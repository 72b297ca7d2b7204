"""Who asks, as the gateway authenticated them: read from its own record of the key, by the fields the settings name.

Rules of the room: whatever is not a plain text where one is needed is nobody, and nobody is let through. The record is
an object of the gateway's, not a part of the request. Left to others: what the gateway checked to make that record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policy_engine.plugins.gatewaysettings import GatewaySettings


@dataclass(frozen=True, slots=True)
class GatewayCaller:
    """A person, the tenant they act for, and the place that the operator wrote down (`None`: unknown)."""

    subject: str = field(repr=False)
    tenant: str = field(repr=False)
    location: str | None = field(default=None, repr=False)


def caller_of(record: object, settings: GatewaySettings) -> GatewayCaller | None:
    """Return whom a record names, `None` where it names no person or no tenant."""
    subject = _text(record, settings.gateway_subject)
    tenant = _text(record, settings.gateway_tenant)
    if subject is None or tenant is None:
        return None
    return GatewayCaller(subject, tenant, _text(record, settings.gateway_location))


def _text(record: object, name: str) -> str | None:
    bucket, dot, member = name.partition(".")
    found: Any = getattr(record, bucket, None) if bucket else None
    if dot:
        found = found.get(member) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) and found else None
