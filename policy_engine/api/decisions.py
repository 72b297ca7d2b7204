"""The decision endpoints as one raw ASGI application: `/access/v1/evaluation` and `/access/v1/evaluations`.

Every model call of every tenant may come through here, so no framework stands between the socket and the decider.

The steps of an exchange, numbered in `_decide`:
1. method, 2. caller and scope, 3. media type, 4. body, 5. strict JSON, 6. requests, 7. decisions, 8. answer.
What fails before step 7 is a problem document (400, 401, 403, 405, 413, 503). From step 7 on the answer is a decision:
a log that is away denies with 200; only a fault of ours is a 500, without detail.
Left to others: entries and validity (`services.decide`), what is counted (`metrics`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

import structlog

from policy_engine.api import answers, problems
from policy_engine.api.answers import Answer
from policy_engine.api.authzen import (
    DENY_ON_FIRST_DENY,
    PERMIT_ON_FIRST_PERMIT,
    Batch,
    read_evaluation,
    read_evaluations,
)
from policy_engine.api.callers import Authenticated, Keys, identify, identify_again, require_scope
from policy_engine.api.exchange import (
    JSON,
    NO_STORE,
    Disconnected,
    Head,
    Receive,
    Scope,
    Send,
    answer,
    answer_problem,
    read_body,
    read_head,
    require_json,
)
from policy_engine.api.metrics import Metrics
from policy_engine.api.parse import parse_object
from policy_engine.api.problems import Headers
from policy_engine.core.decision import Decision, Principal, Request
from policy_engine.errors import InputRefused, PolicyEngineError, StoreUnavailable
from policy_engine.limits import LIMITS, Limits

EVALUATION: Final = "/access/v1/evaluation"
EVALUATIONS: Final = "/access/v1/evaluations"
PATHS: Final = (EVALUATION, EVALUATIONS)

log = structlog.get_logger(__name__)


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


class DecisionApp:
    """The raw ASGI application of both endpoints. The caller routes `PATHS`, and nothing else, to it."""

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
        self._answering = answering
        self._decider = decider
        self._keys = keys
        self._metrics = metrics
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one exchange; never raises for what a caller sent."""
        head = Head()
        try:
            await self._decide(scope, receive, send, head)
            return
        except Disconnected:
            return
        except PolicyEngineError as error:
            problem = problems.of_error(error)
        except Exception as error:  # the last line of defence: nothing of a fault leaves
            problem = problems.internal()
            log.error("decision.failed", exc_info=error)
        self._metrics.refused(problem.status)
        await answer_problem(send, problem, head.request_id)

    async def _decide(self, scope: Scope, receive: Receive, send: Send, head: Head) -> None:
        began = time.perf_counter()
        read_head(scope, head, self._limits)
        if scope["method"] != "POST":  # 1
            self._metrics.refused(405)
            return await answer_problem(send, problems.method_not_allowed("POST"), head.request_id)
        caller = identify(self._keys, head.authorization, fresh=False)  # 2
        require_scope(caller.principal, "decide")
        require_json(head)  # 3
        content = await read_body(receive, head, self._limits.body_bytes)  # 4
        parsed = parse_object(content, limits=self._limits)  # 5
        if scope["path"] == EVALUATIONS:
            asked = read_evaluations(parsed, self._limits)  # 6
        else:
            asked = read_evaluation(parsed, self._limits)
        with self._answering():
            body, headers = await self._answered(asked, head, caller, began)  # 7
            await answer(send, 200, body, headers, head.request_id)  # 8

    async def _answered(
        self, asked: Request | Batch, head: Head, caller: Authenticated, began: float
    ) -> tuple[bytes, Headers]:
        """Decide, count, and return the answer's body and headers."""
        if isinstance(asked, Batch):
            results = await decide_batch(self._decider, asked, caller.principal)
            decisions = [each for each in results if isinstance(each, Decision)]
            models = [item.model for item in asked.items[: len(results)] if isinstance(item, Request)]
            self._settle(models, decisions, head, caller, began)
            headers = [JSON, NO_STORE, *answers.batch_headers(results)]
            return answers.batch(results, asked.explain, asked.receipts), headers
        decision = await self._decide_one(asked, caller.principal)
        self._settle((asked.model,), (decision,), head, caller, began)
        return answers.single(decision), [JSON, NO_STORE]

    def _settle(
        self, models: Sequence[str], decisions: Sequence[Decision], head: Head, caller: Authenticated, began: float
    ) -> None:
        """Count the decisions, after one under another epoch than the caller's has asked for the caller again.

        The decider has denied for a key that ended meanwhile, and recorded it; the caller is told that it has no key.
        """
        for decision in decisions:
            if decision.id and decision.epoch != caller.epoch:
                identify_again(self._keys, head.authorization, caller)
                break
        self._metrics.decided(models, decisions, time.perf_counter() - began)

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
