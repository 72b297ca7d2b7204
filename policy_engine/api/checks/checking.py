"""One check of a proxy: its key, the question it tells, the decision; out comes a permit or a refusal.

Rules of the room:
- Deny first: `Permit` can be made from a decided and recorded allow alone, and is made in one place. Whatever else
  happens, faults of ours included, is a refusal, in the dialect of the client behind the proxy.
- The proxy has its own key, in a place that its client cannot reach. A client's `Authorization` is never looked at.
- Whoever asks holds `answering` until what came out was handed on, so that `drained` means what it says.
Left to others: what was told (`told`), how each proxy is answered (`table`), entries and validity (`services.decide`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from policy_engine.api.callers import (
    Authenticated,
    Keys,
    identify,
    identify_again,
    identify_now,
    require_scope,
    require_time,
)
from policy_engine.api.checks.told import KEY_HEADER, Told, question
from policy_engine.api.metrics import Metrics
from policy_engine.core.decision import Decision, Principal, Request
from policy_engine.core.dialects import (
    Dialect,
    Refusal,
    Wording,
    dialect_of,
    malformed,
    refusal,
    unauthenticated,
    unavailable,
)
from policy_engine.errors import InputRefused, IssuerUnavailable, NotAuthenticated, NotPermitted, StoreUnavailable
from policy_engine.limits import LIMITS, Limits

PLAIN: Final = Wording()
TOGETHER_MAX: Final = 64
"""Checks that are recorded in one piece: a batch of the log holds several such."""

log = structlog.get_logger(__name__)


class NoPermit(Exception):
    """A permit was to be made from something that is no decided allow: a fault of ours, and a deny."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The one way to let a request pass: an allow that is on the record. Raises `NoPermit` for anything else."""

    decision: Decision

    def __post_init__(self) -> None:
        decision = self.decision
        if type(decision) is not Decision or decision.allowed is not True or not decision.id:
            raise NoPermit("a permit is made from a recorded allow, and from nothing else")


class Decider(Protocol):
    """The part of the decision service that a check needs."""

    async def decide_async(self, request: Request, principal: Principal, /) -> Decision:
        """Return the decision after its entry is durable; raise `StoreUnavailable` when that cannot be."""
        ...

    async def decide_many_async(self, requests: Sequence[Request], principal: Principal, /) -> Sequence[Decision]:
        """Return one decision a request, in order."""
        ...


class Checker:
    """Answers the checks of every door for proxies."""

    def __init__(
        self,
        decider: Decider,
        keys: Keys,
        metrics: Metrics,
        wording: Wording = PLAIN,
        limits: Limits = LIMITS,
        *,
        answering: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`answering` is what doors enter before they check and leave when the answer was handed on."""
        self.answering = answering
        self.limits = limits
        self._decider = decider
        self._keys = keys
        self._metrics = metrics
        self._wording = wording

    async def caller(self, key: str | None) -> Authenticated:
        """Return whom a proxy's key or token belongs to; may wait for keys of the token's issuer, bounded.

        Raises `NotAuthenticated`, `IssuerUnavailable`, and `NotPermitted` without the scope.
        """
        caller = await identify(self._keys, _own(key), fresh=False)
        require_scope(caller.principal, "decide")
        return caller

    def caller_now(self, key: str | None) -> Authenticated:
        """The same, with the keys of issuers that are known already."""
        caller = identify_now(self._keys, _own(key), fresh=False)
        require_scope(caller.principal, "decide")
        return caller

    async def check(
        self, told: Told, caller: Authenticated, read: Callable[[Told, Limits], Request] = question
    ) -> Permit | Refusal:
        """Return a permit for a decided allow, a refusal for everything else; never raises.

        `caller` is what `caller` returned for the key, `read` makes the question of what was told.
        """
        try:
            return await self._decided(told, caller, read)
        except Exception as error:  # noqa: BLE001  whatever it is, it is a refusal
            return self.refused(error, told)

    def refused(self, error: Exception, told: Told) -> Refusal:
        """Return the refusal that an error is, counted; what is not an error of ours says nothing and is logged."""
        dialect = _dialect(told)
        if isinstance(error, NotAuthenticated | NotPermitted):
            answer = unauthenticated(dialect, f"The proxy is not let in: {error}.")
        elif isinstance(error, InputRefused):
            answer = malformed(dialect, f"The request cannot be decided: {error}.")
        else:
            answer = unavailable(dialect)
            if not isinstance(error, StoreUnavailable | IssuerUnavailable):
                log.error("check.failed", exc_info=error)
        self._metrics.refused(answer.status)
        return answer

    async def check_all(self, items: Sequence[tuple[Told, Authenticated]]) -> list[Permit | Refusal]:
        """Return what comes of several checks that came together, in their order; never raises.

        Those of one caller are decided, and recorded, together.
        """
        if len(items) == 1:
            return [await self.check(*items[0])]
        found: dict[int, Permit | Refusal] = {}
        groups: dict[Principal, list[tuple[int, Told, Authenticated, Request]]] = {}
        for place, (told, caller) in enumerate(items):
            try:
                asked = question(told, self.limits)
                require_time(self._keys, caller)
            except Exception as error:  # noqa: BLE001  whatever it is, it is a refusal
                found[place] = self.refused(error, told)
            else:
                groups.setdefault(caller.principal, []).append((place, told, caller, asked))
        for principal, group in groups.items():
            for start in range(0, len(group), TOGETHER_MAX):
                found |= await self._decided_together(principal, group[start : start + TOGETHER_MAX])
        return [found[place] for place in range(len(items))]

    async def _decided_together(
        self, principal: Principal, group: Sequence[tuple[int, Told, Authenticated, Request]]
    ) -> dict[int, Permit | Refusal]:
        """Return what comes of checks of one caller, by their places."""
        began = time.perf_counter()
        found: dict[int, Permit | Refusal] = {}
        try:
            decisions = await self._decider.decide_many_async([asked for *_, asked in group], principal)
            together = list(zip(group, decisions, strict=True))
        except Exception as error:  # noqa: BLE001  whatever it is, each of them is a refusal
            return {place: self.refused(error, told) for place, told, *_ in group}
        for (place, told, caller, asked), decision in together:
            try:
                found[place] = self._outcome(told, caller, asked, decision, began)
            except Exception as error:  # noqa: BLE001  whatever it is, it is a refusal
                found[place] = self.refused(error, told)
        return found

    async def _decided(
        self, told: Told, caller: Authenticated, read: Callable[[Told, Limits], Request]
    ) -> Permit | Refusal:
        began = time.perf_counter()
        asked = read(told, self.limits)
        require_time(self._keys, caller)  # the body may have been long in coming
        decision = await self._decider.decide_async(asked, caller.principal)
        return self._outcome(told, caller, asked, decision, began)

    def _outcome(
        self, told: Told, caller: Authenticated, asked: Request, decision: Decision, began: float
    ) -> Permit | Refusal:
        """Count a decision, and make of it what it is: the one place where a permit is made."""
        if decision.id and decision.epoch != caller.epoch:
            identify_again(self._keys, _as_authorization(str(told.key)), caller)
        self._metrics.decided((asked.model,), (decision,), time.perf_counter() - began)
        if decision.allowed is True:
            return Permit(decision)
        return refusal(decision, _dialect(told), self._wording)


def _dialect(told: Told) -> Dialect:
    """Return whose words the client understands. Nothing that it sent may fail this: it chooses words, no more."""
    try:
        return dialect_of(told.path, told.shown)
    except Exception:  # noqa: BLE001  see above
        return Dialect.PROBLEM


def _own(key: str | None) -> bytes:
    if key is None:
        raise NotAuthenticated(f"the proxy must send its own key in {KEY_HEADER}")
    return _as_authorization(key)


def _as_authorization(key: str) -> bytes:
    return b"Bearer " + key.encode("utf-8", "replace")
