"""Asking an engine: through the circuit, by a deadline, and never taking anything but a usable allow for one.

Rules of the room:
- The question is noted before it is sent: the budget counts from then, and so does what was heard.
- An allow that comes when its budget is spent is a deny. One that was overtaken by what was heard is asked for again.
- Every way to have no answer is a deny with a code of its own, beginning with `engine.`; none is an exception.
- Of many questions a few batches are under way at once: an engine that has to answer all of them at the same time
  answers none in time. Each has a deadline of its own, and one that fails denies its own questions alone.
Left to others: bytes (`exchange`, `reading`), holds (`holds`), threads (`background`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from policy_engine.client.clock import Clock
from policy_engine.client.heard import Heard
from policy_engine.client.permission import Answer, Permission
from policy_engine.client.permission import Question as Noted
from policy_engine.core.decision import Decision, Reason, Request
from policy_engine.core.questions import body_of
from policy_engine.errors import EngineUnavailable
from policy_engine.limits import Limits
from policy_engine.remote.breaker import Breaker, Circuit
from policy_engine.remote.exchange import UNREACHABLE, UNREADABLE, Exchange, Unanswered
from policy_engine.remote.reading import Unreadable, read_decision, read_decisions, read_object, read_page

EVALUATION: Final = "/access/v1/evaluation"
EVALUATIONS: Final = "/access/v1/evaluations"
SEARCH: Final = "/access/v1/search/"
AWAY: Final = "engine.away"
LATE: Final = "engine.answer-late"
ATTEMPTS_COUNT: Final = 2
_OPTIONS: Final = {"explain": True, "receipts": True}
_ROOM_BYTES: Final = 256
"""What a batch's body holds beside its items."""

_SENTENCES: Final[Mapping[str, str]] = {
    AWAY: "The decision service has not answered for a while, so nothing is allowed until it does.",
    LATE: "The answer came when it could not be used any more, so nothing is allowed.",
    "engine.refused": "The decision service does not take this question from this caller, so nothing is allowed.",
    UNREACHABLE: "The decision service did not answer in time, so nothing is allowed.",
    UNREADABLE: "What the decision service answered cannot be read, so nothing is allowed.",
}


class Grant:
    """What an engine knows of an allow that it gave: which engine it was, and what the allow permits for how long.

    It stays what it is when the decision is copied or made a mapping: there is no other permission.
    """

    __slots__ = ("engine", "permission")

    def __init__(self, engine: object, permission: Permission) -> None:
        self.engine = engine
        self.permission = permission

    def __deepcopy__(self, memo: object) -> Grant:
        return self


def unanswered(code: str, request: Request) -> Decision:
    """Return the deny of a question without an answer. It has no id: nobody recorded it."""
    sentence = _SENTENCES[code]
    return Decision(False, "", (Reason(code, "engine", sentence),), (), (), "", 0, 0, sentence, asked=request)


class Asker:
    """Asks one engine, on one event loop."""

    def __init__(self, exchange: Exchange, breaker: Breaker, heard: Heard, clock: Clock, limits: Limits) -> None:
        self._exchange = exchange
        self._breaker = breaker
        self._heard = heard
        self._clock = clock
        self._limits = limits

    async def one(self, request: Request, seconds: float, owner: object) -> Decision:
        """Return the decision of a request."""
        for _ in range(ATTEMPTS_COUNT):
            noted = self._noted(request)
            try:
                data = await self._posted(EVALUATION, body_of(request), seconds)
                decision = read_decision(data, request)
            except Unanswered as none:
                return unanswered(none.code, request)
            except Unreadable:
                return unanswered(UNREADABLE, request)
            found = self._usable(decision, noted, owner)
            if found is not None:
                return found
        return unanswered(LATE, request)

    async def many(
        self, parts: Sequence[Sequence[Request]], seconds: float, owner: object, *, at_once: int
    ) -> list[Decision]:
        """Return the decisions of requests that `parts_of` put together, in order; each part is one exchange.

        So many parts `at_once` are under way, each with `seconds` from when it is sent: where none has to wait for
        another, that is the time for all of them. Parts that find the circuit open are denied without waiting.
        """
        found: list[list[Decision]] = [[] for _ in parts]
        waiting = iter(enumerate(parts))

        async def exchange() -> None:
            for place, part in waiting:
                found[place] = await self._part(part, seconds, owner)
                await asyncio.sleep(0)  # however many parts are denied at once, what is held is looked at between them

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(parts), at_once)):
                group.create_task(exchange())
        # Whatever became of a part, its questions have their answers, and at their own places.
        return [decision for part, own in zip(parts, found, strict=True) for decision in own or _denied(part)]

    async def ids(self, kind: str, body: Mapping[str, Any], member: str, seconds: float) -> tuple[list[str], bool]:
        """Return the ids that a search finds, page by page, and whether that is all. Raises `EngineUnavailable`."""
        found: list[str] = []
        token, complete = "", True
        try:
            for _ in range(self._limits.remote_pages_count):
                asked = {**body, "page": {"token": token}} if token else body
                data = await self._exchange.post(SEARCH + kind, asked, seconds)  # a busy search opens no circuit
                ids, token, whole = read_page(read_object(data), member)
                found += ids
                complete = complete and whole
                if not token:
                    return found, complete
            return found, False
        except (Unanswered, Unreadable) as none:
            code = none.code if isinstance(none, Unanswered) else UNREADABLE
            raise EngineUnavailable(f"the search was not answered ({code})", where="engine") from None

    async def _part(self, part: Sequence[Request], seconds: float, owner: object) -> list[Decision]:
        """Return the decisions of one part, denies if anything fails."""
        try:
            return await self._batch(part, seconds, owner)
        except Exception:  # noqa: BLE001  whatever errs denies this part, and its text may hold what was asked
            return _denied(part)

    async def _batch(self, part: Sequence[Request], seconds: float, owner: object) -> list[Decision]:
        noted = [self._noted(request) for request in part]
        body = {"evaluations": [body_of(request) for request in part], "options": _OPTIONS}
        try:
            answers = read_decisions(await self._posted(EVALUATIONS, body, seconds), part)
        except Unanswered as none:
            return [unanswered(none.code, request) for request in part]
        except Unreadable:
            return [unanswered(UNREADABLE, request) for request in part]
        found = []
        for request, note, answer in zip(part, noted, answers, strict=True):
            usable = None if answer is None else self._usable(answer, note, owner)
            if usable is None:
                usable = unanswered(UNREADABLE if answer is None else LATE, request)
            found.append(usable)
        return found

    async def _posted(self, path: str, body: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return what was answered, through the circuit. Raises `Unanswered`."""
        circuit = self._breaker.begin()
        if circuit is Circuit.OPEN:
            raise Unanswered(AWAY, failure=False)
        answered: bool | None = None
        try:
            found = read_object(await self._exchange.post(path, body, seconds))
            answered = True
            return found
        except Unanswered as none:
            answered = not none.failure
            raise
        except Unreadable:
            answered = False
            raise Unanswered(UNREADABLE, failure=True) from None
        finally:
            self._breaker.end(circuit, answered)

    def _noted(self, request: Request) -> Noted:
        return Noted.of(request.model, request.action, self._heard, self._clock)

    def _usable(self, decision: Decision, noted: Noted, owner: object) -> Decision | None:
        """Return a deny, or an allow that may be used now; `None` for an allow that may not."""
        if not decision.allowed:
            return decision
        answer = Answer(True, decision.id, decision.epoch, decision.valid_for_ms)
        permission = noted.answered(answer)
        return replace(decision, grant=Grant(owner, permission)) if permission.is_usable() else None


def parts_of(requests: Sequence[Request], limits: Limits) -> list[list[Request]]:
    """Return requests in batches that the service takes, and proxies before it the answers to; in their order.

    Never raises: what cannot be sent is denied when its batch is.
    """
    if len(requests) == 1:
        return [list(requests)]
    most = min(limits.evaluations_count, limits.remote_batch_count)
    parts: list[list[Request]] = []
    size = 0
    for request in requests:
        own = len(json.dumps(body_of(request), ensure_ascii=False).encode("utf-8", "surrogatepass")) + 1
        if not parts or len(parts[-1]) == most or size + own > limits.body_bytes:
            parts.append([])
            size = _ROOM_BYTES
        parts[-1].append(request)
        size += own
    return parts


def _denied(part: Sequence[Request]) -> list[Decision]:
    return [unanswered(UNREACHABLE, request) for request in part]
