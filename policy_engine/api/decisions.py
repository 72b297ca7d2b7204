"""The decision endpoints as one raw ASGI application: `/access/v1/evaluation` and `/access/v1/evaluations`.

Every model call of every tenant may come through here, so no framework stands between the socket and the decider.

The steps of an exchange, after 1. to 5. of `posted`, numbered in `_answer`: 6. requests, 7. decisions, 8. answer.
What fails before step 7 is a problem document (400, 401, 403, 405, 413, 503). From step 7 on the answer is a decision:
a log that is away denies with 200; only a fault of ours is a 500, without detail.
Left to others: entries and validity (`services.decide`), what is counted (`metrics`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

from policy_engine.api import answers
from policy_engine.api.answers import Answer
from policy_engine.api.authzen import (
    DENY_ON_FIRST_DENY,
    PERMIT_ON_FIRST_PERMIT,
    Batch,
    read_evaluation,
    read_evaluations,
)
from policy_engine.api.callers import Keys
from policy_engine.api.exchange import JSON, NO_STORE, Send, answer
from policy_engine.api.metrics import Metrics
from policy_engine.api.posted import Posted, PostedApp
from policy_engine.api.problems import Headers
from policy_engine.core.decision import Decision, Principal, Request
from policy_engine.errors import InputRefused, StoreUnavailable
from policy_engine.limits import LIMITS, Limits

EVALUATION: Final = "/access/v1/evaluation"
EVALUATIONS: Final = "/access/v1/evaluations"
PATHS: Final = (EVALUATION, EVALUATIONS)


class Decider(Protocol):
    """The part of the decision service that these endpoints need."""

    async def decide_async(self, request: Request, principal: Principal, /) -> Decision:
        """Return the decision after its entry is durable; raise `StoreUnavailable` when that cannot be."""
        ...

    async def decide_many_async(
        self, requests: Sequence[Request], principal: Principal, /, *, semantic: str = ...
    ) -> Sequence[Decision]:
        """Return one decision a request, in order; fewer where the semantic ends early."""
        ...


class DecisionApp(PostedApp):
    """The raw ASGI application of both endpoints. The caller routes `PATHS`, and nothing else, to it."""

    failed = "decision.failed"

    def __init__(
        self,
        decider: Decider,
        keys: Keys,
        metrics: Metrics,
        limits: Limits = LIMITS,
        *,
        answering: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`answering` is held from before a decision until its answer was handed to the transport."""
        super().__init__(keys, metrics, limits)
        self._answering = answering
        self._decider = decider

    async def _answer(self, posted: Posted, send: Send) -> None:
        if posted.path == EVALUATIONS:
            asked = read_evaluations(posted.body, self._limits)  # 6
        else:
            asked = read_evaluation(posted.body, self._limits)
        with self._answering():
            body, headers = await self._answered(asked, posted)  # 7
            await answer(send, 200, body, headers, posted.head.request_id)  # 8

    async def _answered(self, asked: Request | Batch, posted: Posted) -> tuple[bytes, Headers]:
        """Decide, count, and return the answer's body and headers."""
        principal = posted.caller.principal
        if isinstance(asked, Batch):
            results = await decide_batch(self._decider, asked, principal)
            decisions = [each for each in results if isinstance(each, Decision)]
            models = [item.model for item in asked.items[: len(results)] if isinstance(item, Request)]
            self._settle(models, decisions, posted)
            headers = [JSON, NO_STORE, *answers.batch_headers(results)]
            return answers.batch(results, asked.explain, asked.receipts), headers
        decision = await self._decide_one(asked, principal)
        self._settle((asked.model,), (decision,), posted)
        return answers.single(decision), [JSON, NO_STORE]

    def _settle(self, models: Sequence[str], decisions: Sequence[Decision], posted: Posted) -> None:
        """Count the decisions, after one under another epoch than the caller's has asked for the caller again.

        The decider has denied for a key that ended meanwhile, and recorded it; the caller is told that it has no key.
        """
        for decision in decisions:
            if decision.id and decision.epoch != posted.caller.epoch:
                self._check_caller(posted)
                break
        self._metrics.decided(models, decisions, time.perf_counter() - posted.began)

    async def _decide_one(self, request: Request, principal: Principal) -> Decision:
        try:
            return await self._decider.decide_async(request, principal)
        except StoreUnavailable:
            return answers.UNAVAILABLE


async def decide_batch(decider: Decider, batch: Batch, principal: Principal) -> list[Answer]:
    """Return the answers of a batch, in order, as its semantic asks: all, or up to and with the first that ends it.

    An item that was refused counts as a denial. Items are independent, so those that can be decided go together. While
    the log is away every one of them is denied.
    """
    items = batch.items
    if batch.semantic == DENY_ON_FIRST_DENY:
        # What stands behind the first refused item is never reached, so it is not decided either.
        refused = [place for place, item in enumerate(items) if not isinstance(item, Request)]
        items = items[: refused[0] + 1] if refused else items
    requests = [item for item in items if isinstance(item, Request)]
    try:
        decided = await decider.decide_many_async(requests, principal, semantic=batch.semantic) if requests else ()
    except StoreUnavailable:
        decided = (answers.UNAVAILABLE,) * len(requests)
    return _in_order(items, iter(decided), batch.semantic)


def _in_order(items: Sequence[Request | InputRefused], decided: Iterator[Decision], semantic: str) -> list[Answer]:
    """Put decisions and refusals into the order asked, and end where the semantic ends.

    Raises `LookupError` when a decision is missing before that end: an answer must never stand at another's place.
    """
    found: list[Answer] = []
    for item in items:
        result: Answer = _next(decided) if isinstance(item, Request) else item
        found.append(result)
        allowed = isinstance(result, Decision) and result.allowed is True
        if semantic == (PERMIT_ON_FIRST_PERMIT if allowed else DENY_ON_FIRST_DENY):
            break
    return found


def _next(decided: Iterator[Decision]) -> Decision:
    """Return the next decision; raise `LookupError` when there are fewer than were asked for."""
    for decision in decided:
        return decision
    raise LookupError("fewer decisions than requests")
