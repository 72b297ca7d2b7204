"""Searching: who may use a model, and what a subject may use; each search is one entry and grants nothing.

Rules of the room: a search asks the one evaluator for each candidate, at one instant, under one snapshot (law 9:
search equals check); it stops at a limit and then says `complete: false`. Where nothing is allowed at the moment,
nothing is listed either. What is listed must be asked again to be used.
Left to others: listings of one open id, page by page (`listings`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from policy_engine.core.decision import Outcome, Principal, Request
from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.errors import StoreUnavailable
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.factcache import read_person
from policy_engine.services.permissions import require
from policy_engine.services.plainsearch import is_complete, plain_candidates, public_word
from policy_engine.services.queries import Found, Hit, Query
from policy_engine.services.record import Recorder, Written
from policy_engine.services.snapshot import Snapshot, Snapshots
from policy_engine.store.interfaces import Store

ATTEMPTS_COUNT = 8
_PAGE_COUNT = 500


class Search:
    """Searches over the registers of persons and tenants and the active release's catalogue."""

    def __init__(
        self,
        snapshots: Snapshots,
        evaluator: Evaluator,
        recorder: Recorder,
        store: Store,
        limits: Limits = LIMITS,
        *,
        require_able: Callable[[], None] = lambda: None,
    ) -> None:
        """`require_able` raises while every decision is denied."""
        self._require_able = require_able
        self._snapshots = snapshots
        self._evaluator = evaluator
        self._recorder = recorder
        self._store = store
        self._limits = limits

    def who_can(self, principal: Principal, query: Query) -> Found:
        """Return the persons and services that may use a model, each for each of its tenants."""
        return self._search("who-can", principal, query)

    def what_can(self, principal: Principal, query: Query) -> Found:
        """Return the models and actions that a subject may use, for each of its tenants."""
        return self._search("what-can", principal, query)

    def _search(self, kind: str, principal: Principal, query: Query) -> Found:
        require(principal, "decide")
        for _ in range(ATTEMPTS_COUNT):
            self._require_able()
            snapshot = self._snapshots.refresh()
            at = self._store.now()
            hits, complete = self._hits(principal, query, snapshot, at)
            # Whom a search found is not kept: under the key of no one subject, it could be erased for none of them.
            # Nor, where it names no subject, for which tenant: that may be an individual.
            place = query.location
            body = {
                "search": kind,
                "location": None if place is None else [place.country, place.region, place.anonymiser],
                "serving_region": query.serving_region,
            }
            draft = self._recorder.note(
                "search",
                {
                    "search": kind,
                    **public_words(snapshot.release, query.model, query.action),
                    "count": len(hits),
                    "complete": complete,
                },
                principal,
                snapshot.state,
                body=body,
                subject=query.subject or "",
                tenant=None if query.subject is None else query.tenant,
                instant=at,
            )
            (result,) = self._recorder.write((draft,), snapshot.state)
            if isinstance(result, Written):
                state = snapshot.state
                return Found(draft.id, hits, complete, at, state.epoch, state.release or "")
        raise StoreUnavailable("the state kept changing while the search ran; try again")

    def _hits(self, principal: Principal, query: Query, snapshot: Snapshot, at: int) -> tuple[tuple[Hit, ...], bool]:
        hits: list[Hit] = []
        for tried, request in enumerate(self._candidates(query, snapshot)):
            if tried >= self._limits.search_candidates_count:
                return tuple(hits), False
            evaluation = self._evaluator.evaluate(request, principal, snapshot, at)
            if evaluation.outcome is Outcome.ALLOW:
                hits.append(_hit(request))
        release = snapshot.release
        return tuple(hits), not isinstance(release, PlainRelease) or is_complete(release, query)

    def _candidates(self, query: Query, snapshot: Snapshot) -> Iterator[Request]:
        release = snapshot.release
        if release is None:
            return
        if isinstance(release, PlainRelease):
            yield from plain_candidates(release, query)
            return
        models = [query.model] if query.model is not None else sorted(release.catalogue.models)
        actions = [query.action] if query.action is not None else sorted(release.reference.actions)
        base = Request("", "", "", location=query.location, serving_region=query.serving_region)
        for subject, kind, tenants in self._subjects(query):
            for tenant in sorted(tenants if query.tenant is None else {query.tenant}):
                for model in models:
                    for action in actions:
                        yield replace(
                            base, subject_id=subject, subject_type=kind, tenant=tenant, model=model, action=action
                        )

    def _subjects(self, query: Query) -> Iterator[tuple[str, str, frozenset[str]]]:
        if query.subject is not None:
            row = self._store.row("persons", query.subject)
            rows: Any = iter(()) if row is None else iter((row,))
        else:
            rows = self._all_persons()
        for row in rows:
            person, service = read_person(row)
            if person is not None:
                yield row.id, "service" if service else "person", person.tenants

    def _all_persons(self) -> Iterator[Any]:
        after = ""
        while rows := self._store.rows("persons", after=after, limit=_PAGE_COUNT):
            yield from rows
            after = rows[-1].id


def _hit(request: Request) -> Hit:
    return Hit(
        request.subject_id,
        request.tenant or "",
        request.model,
        request.action,
        request.subject_type,
        request.resource_type,
    )


def public_words(release: AnyRelease | None, model: str | None, action: str | None) -> dict[str, str | None]:
    """Return the model and action of a query as they may stand in the log's public part.

    What only a caller wrote may be anything, a name too: only words that the release itself has are public.
    """
    if release is None:
        return {"model": None, "action": None}
    known = None if model is None else release.catalogue.find(model)
    if not isinstance(release, PlainRelease):
        return {
            "model": None if known is None else known.id,
            "action": action if action in release.reference.actions else None,
        }
    meant = public_word(release, "resource.id", model) if known is None else known.id
    return {"model": meant, "action": public_word(release, "action.name", action)}
