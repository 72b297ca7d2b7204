"""Listings: for which ids of one kind is a request allowed? Page by page; each page is one entry and grants nothing.

Rules of the room:
- Each candidate is asked of the evaluator that decides, with the request as it stands, at one instant of the page and
  under one snapshot (law 9: search equals check). Where nothing is allowed at the moment, nothing is listed either.
- A page looks on to the first allowed id that is no longer its own, and the next page begins at that one: together they
  ask about each candidate once and about each first id twice, and a page without a next one is known to be the last.
- A page looks at `limits.search_page_candidates_count` candidates and then ends, with whatever it found, and says where
  the next one begins. No page depends on what a server remembers.
- One page at a time in a process: candidates are work, and work in threads side by side only takes turns. It pauses
  for other threads, so that a decision beside it does not wait for it.
- An answer is counted as on its way from before its entry is written; the fence refuses an entry of an older epoch.
- Whom a page found is not kept, nor what was asked about nobody in particular, except in words that are public: under
  the key of no one subject, it could be erased for none of them.
- What is listed must be asked again to be used.
Left to others: candidates (`candidates`, `plainsearch`), tokens (`pagetokens`), bodies and headers (the doors).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from policy_engine.core.decision import Outcome, Principal, Request
from policy_engine.core.instants import ENDLESS
from policy_engine.errors import StoreUnavailable
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.candidates import Candidates
from policy_engine.services.decide import Decider
from policy_engine.services.drafts import NoteDraft
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.pagetokens import Cursor, PageTokens
from policy_engine.services.permissions import require
from policy_engine.services.queries import Listing, Page, Sought
from policy_engine.services.record import Recorder, Result, Written
from policy_engine.services.search import public_words
from policy_engine.services.snapshot import Snapshot, Snapshots
from policy_engine.store.interfaces import Store

ATTEMPTS_COUNT = 8
BREATH_COUNT = 8
"""Candidates between two pauses for other threads."""
BREATH_SECONDS = 0.0001
"""Long enough for another thread to take its turn, which it does not in no time at all."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a page found, before its entry: `ends` is where the next one begins, `None` where there is no next one."""

    snapshot: Snapshot
    at: int
    found: tuple[str, ...]
    ends: str | None
    complete: bool
    until: int
    tenant_sealed: bool
    began: float


class Listings:
    """Answers listings over the registers and the active release, or over a plain folder."""

    def __init__(
        self,
        snapshots: Snapshots,
        evaluator: Evaluator,
        recorder: Recorder,
        store: Store,
        vault: KeyVault,
        decider: Decider,
        limits: Limits = LIMITS,
    ) -> None:
        """`evaluator` has memories of its own: a long listing must drive nothing out of those that decisions use."""
        self._snapshots = snapshots
        self._evaluator = evaluator
        self._recorder = recorder
        self._store = store
        self._decider = decider
        self._limits = limits
        self._candidates = Candidates(store, evaluator.facts)
        self._tokens = PageTokens(vault, store.now, limits)
        self._alone = Lock()
        self._thread = ThreadPoolExecutor(1, "listings")

    def close(self) -> None:
        """End the thread that asks for event loops."""
        self._thread.shutdown()

    def page(self, principal: Principal, listing: Listing) -> Page:
        """Return a page once its entry is durable.

        Raises `InputRefused` for a token or limit that does not belong to the listing, `NotPermitted` without the scope
        `decide`, and `StoreUnavailable` when nothing can be read, recorded or allowed.
        """
        cursor = self._cursor(principal, listing)
        for _ in range(ATTEMPTS_COUNT):
            looked = self._look(principal, listing, cursor)
            draft = self._draft(principal, listing, cursor, looked)
            (result,) = self._recorder.write((draft,), looked.snapshot.state)
            if isinstance(result, Written):
                return self._paged(principal, listing, cursor, looked, draft.id)
        raise _moving()

    @asynccontextmanager
    async def page_async(self, principal: Principal, listing: Listing) -> AsyncIterator[Page]:
        """Offer the same on the running event loop, which stays free meanwhile.

        The page counts as on its way until the context ends: hand it on inside.
        """
        loop, cursor = asyncio.get_running_loop(), self._cursor(principal, listing)
        for _ in range(ATTEMPTS_COUNT):
            try:
                looking = loop.run_in_executor(self._thread, self._look, principal, listing, cursor)
            except RuntimeError:
                raise StoreUnavailable("the engine is closed", where="engine") from None
            looked = await looking
            draft = self._draft(principal, listing, cursor, looked)
            with self._decider.answering():
                results: list[Result] = await self._recorder.write_async((draft,), looked.snapshot.state)
                if isinstance(results[0], Written):
                    yield self._paged(principal, listing, cursor, looked, draft.id)
                    return
        raise _moving()

    def _cursor(self, principal: Principal, listing: Listing) -> Cursor:
        require(principal, "decide")
        return self._tokens.read(principal, listing)

    def _look(self, principal: Principal, listing: Listing, cursor: Cursor) -> _Looked:
        """Ask about one candidate after the other, from the cursor to where the page ends."""
        with self._alone:
            self._decider.require_able()
            began = time.monotonic()
            snapshot = self._snapshots.refresh()
            at = self._store.now()
            ids, complete = self._candidates.of(listing, snapshot, cursor.after)
            asked, size = _asking(listing), self._size(listing, cursor)
            found: list[str] = []
            last, ends, until, sealed = cursor.after, None, ENDLESS, True
            for tried, id in enumerate(ids):
                if tried >= self._limits.search_page_candidates_count:
                    ends = last
                    break
                if tried % BREATH_COUNT == 0:
                    time.sleep(BREATH_SECONDS)
                evaluation = self._evaluator.evaluate(asked(id), principal, snapshot, at)
                until, sealed = min(until, evaluation.until), sealed and evaluation.tenant_sealed
                if evaluation.outcome is Outcome.ALLOW:
                    if len(found) >= size:
                        ends = last
                        break
                    found.append(id)
                last = id
            return _Looked(snapshot, at, tuple(found), ends, complete, until, sealed, began)

    def _size(self, listing: Listing, cursor: Cursor) -> int:
        """Return how many ids the page holds at most.

        A listing that began with limit 0 asked whether there is anything; whoever follows its token without a limit
        wants to see it, and must not go round in circles.
        """
        limit = listing.limit if cursor.limit == 0 else cursor.limit
        return self._limits.search_page_count if limit is None else min(limit, self._limits.search_page_count)

    def _draft(self, principal: Principal, listing: Listing, cursor: Cursor, looked: _Looked) -> NoteDraft:
        request, sought = listing.request, listing.sought
        release = looked.snapshot.release
        words = public_words(
            release,
            None if sought is Sought.RESOURCE else request.model,
            None if sought is Sought.ACTION else request.action,
        )
        members: dict[str, Any] = {
            "search": str(sought),
            **words,
            "tenant": None if looked.tenant_sealed else request.tenant,
            "count": len(looked.found),
            "complete": looked.complete and looked.ends is None,
            "continued": listing.token is not None,
            "instant": looked.at,
        }
        about = sought is not Sought.SUBJECT
        body: dict[str, Any] = {"search": str(sought)}
        if about:
            place = request.location
            body |= {
                "subject_type": request.subject_type,
                "resource": None if sought is Sought.RESOURCE else request.model,
                "resource_type": request.resource_type,
                "action": None if sought is Sought.ACTION else request.action,
                "location": None if place is None else [place.country, place.region, place.anonymiser],
                "serving_region": request.serving_region,
            }
        return self._recorder.note(
            "search",
            members,
            principal,
            looked.snapshot.state,
            body=body,
            subject=request.subject_id if about else "",
            tenant=request.tenant if about else None,
            instant=looked.at,
        )

    def _paged(self, principal: Principal, listing: Listing, cursor: Cursor, looked: _Looked, id: str) -> Page:
        state = looked.snapshot.state
        taken_ms = int((time.monotonic() - looked.began) * 1_000)
        valid_for_ms = min(self._decider.valid_for_ms, (looked.until - looked.at) // 1_000) - taken_ms
        token = ""
        if looked.ends is not None:
            token = self._tokens.make(principal, listing, Cursor(looked.ends, cursor.limit))
        release = state.release or ""
        return Page(id, looked.found, token, looked.complete, looked.at, state.epoch, release, max(0, valid_for_ms))


def _asking(listing: Listing) -> Callable[[str], Request]:
    """Return what makes the request about a candidate: what an answer names of it, and nothing else that was said."""
    request, sought = listing.request, listing.sought
    request = replace(request, raw={name: member for name, member in request.raw.items() if name != sought})
    if sought is Sought.SUBJECT:
        return lambda id: replace(request, subject_id=id)
    if sought is Sought.RESOURCE:
        return lambda id: replace(request, model=id)
    return lambda id: replace(request, action=id)


def _moving() -> StoreUnavailable:
    return StoreUnavailable("the state kept changing while the search ran; try again")
