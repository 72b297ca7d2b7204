"""What a search asks and what it finds.

Left to others: which candidates there are (`services.search`, `services.plainsearch`), showing them (the doors).
"""

from __future__ import annotations

from dataclasses import dataclass

from policy_engine.core.facts import Location


@dataclass(frozen=True, slots=True)
class Query:
    """The fixed part of a search. What is `None` is what is sought, or unknown."""

    subject: str | None = None
    model: str | None = None
    action: str | None = None
    tenant: str | None = None
    location: Location | None = None
    serving_region: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One allowed combination. Types are what a plain Casbin folder's entities are found by."""

    subject: str
    tenant: str
    model: str
    action: str
    subject_type: str = "person"
    resource_type: str = "model"


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found. `complete=False`: it stopped at the limit, or nothing says what there is."""

    id: str
    hits: tuple[Hit, ...]
    complete: bool
    at: int
    epoch: int
    release: str
