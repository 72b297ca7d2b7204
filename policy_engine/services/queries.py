"""What a search asks and what it finds.

Two shapes: a `Query` leaves open whatever it does not name and finds combinations; a `Listing` is one request with one
id left open and finds ids, page by page.
Left to others: which candidates there are (`candidates`, `plainsearch`), asking (`search`), showing (the doors).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policy_engine.core.decision import Request
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


class Sought(StrEnum):
    """Which id of a request a listing leaves open."""

    SUBJECT = "subject"
    RESOURCE = "resource"
    ACTION = "action"


@dataclass(frozen=True, slots=True)
class Listing:
    """A request with one id left open: for which ids is it allowed?

    Whatever `request` holds in the open place is ignored; its type counts. `limit=None` leaves the size of a page to
    the engine. `token` is the `next_token` of the page before.
    """

    sought: Sought
    request: Request
    limit: int | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: ids in order, each allowed at the instant `at` under the epoch and release named.

    What lies between two ids of a page, and up to the first id of the next one, was denied then. `next_token=""` is
    the end. `complete=False`: nothing says what else there is, so more may be allowed than any page shows.
    """

    id: str
    found: tuple[str, ...]
    next_token: str
    complete: bool
    at: int
    epoch: int
    release: str
    valid_for_ms: int
