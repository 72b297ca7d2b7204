"""`/v1/decisions`: the public parts of the decisions in the log, page by page, and single entries.

What names nobody may stand in the URL of a GET. A tenant, which may be an individual, a subject, and a whole question
(`q`, in the language of `docs/questions.md`) are looked for by POST alone; looking by what is sealed is a logged read
and needs a person's key. Left to others: what an entry holds (`ledger`), who may see which (`services.evidence`).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from policy_engine.api.access import READING, READING_ONE, Caller, Costly, OpenEngine, route_options
from policy_engine.api.documents import Id, Instant, Shown, Strict
from policy_engine.core.instants import ENDLESS, format_instant, parse_instant
from policy_engine.limits import LIMITS
from policy_engine.services.evidence import Filters, Page
from policy_engine.services.questions import EVERYTHING, PublicTerm, Question, one_of
from policy_engine.services.questiontext import parse_question

router = APIRouter(prefix="/v1/decisions", tags=["decisions"])

_INSTANTS: Final = ("at", "instant", "until")
_COLUMNS: Final = ("outcome", "model", "action", "rule", "reason", "licence", "order", "release")

Number = Annotated[int, Field(ge=0, strict=False)]


class OnlyDecisions(Strict):
    """Which decisions: every member given must match. `since` is inclusive, `until` exclusive.

    `after` continues behind the last decision of an earlier page.
    """

    outcome: Literal["allow", "deny"] | None = None
    model: Id | None = None
    action: Id | None = None
    rule: Id | None = None
    reason: Id | None = None
    licence: Id | None = None
    order: Id | None = None
    release: Id | None = None
    tier: Number | None = None
    epoch: Number | None = None
    since: Instant | None = None
    until: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=LIMITS.query_rows_count, strict=False)] = 100
    after: Annotated[str, Field(max_length=40)] | None = None
    oldest_first: Annotated[bool, Field(strict=False)] = False


class OnlyDecisionsAbout(OnlyDecisions):
    """Which decisions, also by whom they are about, and by a question; one that names a `kind` finds other entries."""

    tenant: Id | None = None
    subject: Id | None = None
    q: Annotated[str, Field(max_length=LIMITS.question_characters)] | None = None


class DecisionsShown(Shown):
    """Public parts of entries, newest first. `after`, if given, asks for the next page.

    `complete` says that nothing is missing: there is no further page, and no entry of the time asked about can come.
    `lost` is there, and true, where sealed parts of that time were erased or pruned and are asked for: what they said
    is not found any more.
    """

    decisions: list[dict[str, Any]]
    complete: bool
    after: str | None = None
    lost: bool | None = None


@router.get("", **route_options("audit:read", problems=READING))
def list_decisions(
    engine: OpenEngine, principal: Caller, few: Costly, only: Annotated[OnlyDecisions, Query()]
) -> DecisionsShown:
    """List decisions, newest first."""
    with few:
        return _shown(engine.evidence.query(principal, _filters(only, EVERYTHING)), lost=False)


@router.post("/query", **route_options("audit:read", problems=(*READING, 413)))
def query_decisions(engine: OpenEngine, principal: Caller, few: Costly, body: OnlyDecisionsAbout) -> DecisionsShown:
    """List decisions, also by tenant, subject or question; looking by what is sealed is recorded before the answer."""
    question = EVERYTHING if body.q is None else parse_question(body.q, engine.store.now())
    sealed = {} if body.subject is None else {"subject": body.subject}
    filters = _filters(body, question, tenant=body.tenant, sealed=sealed)
    with few:
        return _shown(engine.evidence.query(principal, filters), lost=engine.evidence.lost(filters.asked()))


@router.get("/{id}", **route_options("audit:read", problems=READING_ONE))
def show_decision(engine: OpenEngine, principal: Caller, id: Id) -> dict[str, Any]:
    """Show one entry by the id of its decision, or by its name."""
    return _entry(engine.evidence.show(principal, id))


def _filters(only: OnlyDecisions, question: Question, **about: Any) -> Filters:
    terms = [term for name in _COLUMNS for term in one_of(name, getattr(only, name))]
    numbers = [(name, getattr(only, name)) for name in ("tier", "epoch")]
    terms += [PublicTerm(name, (), (), number, number) for name, number in numbers if number is not None]
    named = any(term.column == "kind" for term in question.public)
    return Filters(
        question=Question((*question.public, *terms), question.sealed, question.since, question.until),
        kind=None if named else "decision",
        since=None if only.since is None else parse_instant(only.since),
        until=None if only.until is None else parse_instant(only.until),
        limit=only.limit,
        after=only.after,
        newest_first=not only.oldest_first,
        **about,
    )


def _shown(page: Page, *, lost: bool) -> DecisionsShown:
    found = [_entry(entry) for entry in page.entries]
    return DecisionsShown(decisions=found, complete=page.complete, after=page.after, lost=lost or None)


def _entry(entry: Any) -> dict[str, Any]:
    return {name: _member(name, value) for name, value in entry.items()}


def _member(name: str, value: Any) -> Any:
    if name in _INSTANTS and isinstance(value, int):
        return format_instant(value) if value < ENDLESS else None
    return value
