"""`/v1/decisions`: the public parts of the decisions in the log, newest first, page by page.

What names nobody may stand in the URL of a GET. A tenant, which may be an individual, and a subject are looked for by
POST alone; looking for a subject is a logged read and needs a person's key.
Left to others: what an entry holds (`ledger`), who may see which (`services.evidence`).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from policy_engine.api.access import READING, Caller, OpenEngine, route_options
from policy_engine.api.documents import Id, Instant, Shown, Strict
from policy_engine.core.instants import ENDLESS, format_instant, parse_instant
from policy_engine.limits import LIMITS
from policy_engine.services.evidence import Filters, Page

router = APIRouter(prefix="/v1/decisions", tags=["decisions"])

_INSTANTS: Final = ("at", "instant", "until")


class OnlyDecisions(Strict):
    """Which decisions: every member given must match. `since` is inclusive, `until` exclusive.

    `after` continues behind the last decision of an earlier page.
    """

    outcome: Literal["allow", "deny"] | None = None
    model: Id | None = None
    action: Id | None = None
    rule: Id | None = None
    since: Instant | None = None
    until: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=LIMITS.query_rows_count, strict=False)] = 100
    after: Annotated[str, Field(max_length=40)] | None = None


class OnlyDecisionsAbout(OnlyDecisions):
    """Which decisions, also by whom they are about."""

    tenant: Id | None = None
    subject: Id | None = None


class DecisionsShown(Shown):
    """Public parts of entries, newest first. If not `complete`, `after` asks for the next page."""

    decisions: list[dict[str, Any]]
    complete: bool
    after: str | None = None


@router.get("", **route_options("audit:read", problems=READING))
def list_decisions(engine: OpenEngine, principal: Caller, only: Annotated[OnlyDecisions, Query()]) -> DecisionsShown:
    """List decisions, newest first."""
    return _shown(engine.evidence.query(principal, _filters(only)))


@router.post("/query", **route_options("audit:read", problems=(*READING, 413)))
def query_decisions(engine: OpenEngine, principal: Caller, body: OnlyDecisionsAbout) -> DecisionsShown:
    """List decisions, also by tenant or subject; looking for a subject is recorded before it is answered."""
    sealed = {} if body.subject is None else {"subject": body.subject}
    return _shown(engine.evidence.query(principal, _filters(body, tenant=body.tenant, sealed=sealed)))


def _filters(only: OnlyDecisions, **about: Any) -> Filters:
    return Filters(
        kind="decision",
        outcome=only.outcome,
        model=only.model,
        action=only.action,
        rule=only.rule,
        since=None if only.since is None else parse_instant(only.since),
        until=None if only.until is None else parse_instant(only.until),
        limit=only.limit,
        after=only.after,
        **about,
    )


def _shown(page: Page) -> DecisionsShown:
    found = [{name: _member(name, value) for name, value in entry.items()} for entry in page.entries]
    return DecisionsShown(decisions=found, complete=page.complete, after=page.after)


def _member(name: str, value: Any) -> Any:
    if name in _INSTANTS and isinstance(value, int):
        return format_instant(value) if value < ENDLESS else None
    return value
