"""Allows of an engine that are in use: renewed before their budget is spent, looked at again when something is heard.

Rules of the room:
- A hold rests on an answer, and never lasts longer than that answer's budget without a newer one. So what no event
  tells (facts, scheduled instants) ends it too. It is asked for again when `RENEWED_SHARE` of the budget has passed.
- What is heard never lengthens anything: whatever it may end is asked for again at once; a deny, or no answer within
  `limits.remote_recheck_seconds`, ends the hold. Otherwise an answer may take as long as the older one lasts.
- Holds that are due together are asked for together, in batches, those first that something heard reaches. Each answer
  is a decision, with its entry.
- A hold ends once. Whoever waits for it is told from the engine's thread, and must be quick.
Left to others: hearing (`policy_engine.client`), cutting what was held (the enforcement point).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import RLock
from types import TracebackType
from typing import ClassVar, Final

from policy_engine.client.heard import Heard, Mark
from policy_engine.client.permission import Permission
from policy_engine.core.decision import Decision, Request
from policy_engine.limits import Limits
from policy_engine.remote.asking import Asker, Grant, parts_of, unanswered
from policy_engine.remote.exchange import UNREACHABLE

RENEWED_SHARE: Final = 0.5
ASKED_TOGETHER_COUNT: Final = 64
"""Holds of one batch: the first of many streams need not wait for the answer of the last."""


class RemoteHold:
    """One allow in use; see `core.enforcing.Hold`."""

    __slots__ = ("_calls", "_closed", "_ended", "asking", "permission", "request", "void", "void_at")
    _lock: ClassVar = RLock()
    """One for all: nothing lasts under it, and a forked process has to find the lock of every hold, watched or not.
    A handler of signals, or garbage that is collected, may close another hold under it."""

    def __init__(self, request: Request, permission: Permission) -> None:
        self.request = request
        self.permission = permission
        self.asking = False
        self.void = False
        """Whether something was heard that may end it, since its answer; `void_at` is when, on the budget's clock."""
        self.void_at = 0.0
        self._calls: list[Callable[[], None]] = []
        self._ended: Decision | None = None
        self._closed = False

    @property
    def ended(self) -> Decision | None:
        """Return the deny, once there is one. An allow whose budget is spent has ended, told or not."""
        if self._ended is None and not self._closed and self.permission.remaining_seconds() <= 0:
            self.end(unanswered(UNREACHABLE, self.request))
        return self._ended

    @property
    def watched(self) -> bool:
        """Return whether it is still in use."""
        return self._ended is None and not self._closed

    def on_end(self, call: Callable[[], None]) -> None:
        """Call once when the hold ends, at once if it has."""
        with self._lock:
            if self._ended is None:
                self._calls.append(call)
                return
        call()

    def end(self, decision: Decision) -> None:
        """End it with a deny, unless it has ended or is in use no longer."""
        with self._lock:
            if self._ended is not None or self._closed:
                return
            self._ended = decision
            calls, self._calls = self._calls, []
        for call in calls:
            with suppress(Exception):  # one who cannot be told keeps nobody else from being told
                call()

    @classmethod
    def renew(cls) -> None:
        """Take another lock in a forked process: a thread that is not here may have this one."""
        cls._lock = RLock()

    def close(self) -> None:
        """Say that the allow is in use no longer."""
        with self._lock:
            self._closed = True
            self._calls = []

    def __enter__(self) -> RemoteHold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Holds:
    """The holds of one engine. Everything but making one happens on the engine's loop."""

    def __init__(self, asker: Asker, heard: Heard, owner: object, limits: Limits) -> None:
        self._asker = asker
        self._heard = heard
        self._owner = owner
        self._limits = limits
        self._held: set[RemoteHold] = set()
        self._looking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._mark: Mark | None = None

    def add(self, hold: RemoteHold) -> None:
        """Watch a hold until it ends or is closed."""
        self._held.add(hold)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def end_all(self) -> None:
        """End every hold: the engine is closed."""
        for hold in tuple(self._held):
            hold.end(unanswered(UNREACHABLE, hold.request))

    async def _look(self) -> None:
        while self._held:
            self._once()
            await asyncio.sleep(self._limits.remote_look_seconds)

    def _once(self) -> None:
        """Look at every hold: drop those not in use, and ask for those that are due or that something heard reaches."""
        mark = self._heard.mark()
        news, self._mark = mark != self._mark, mark
        due: list[RemoteHold] = []
        for hold in tuple(self._held):
            if self._is_over(hold):
                hold.end(unanswered(UNREACHABLE, hold.request))
            if hold.ended is not None or not hold.watched:
                self._held.discard(hold)
                continue
            if news and not hold.void and _is_void(hold.permission):
                hold.void, hold.void_at = True, hold.permission.question.clock()
            if not hold.asking and (hold.void or _is_due(hold.permission)):
                hold.asking = True
                due.append(hold)
        void = [hold for hold in due if hold.void]
        for part in (*_parts(void), *_parts([hold for hold in due if not hold.void])):
            left = min(hold.permission.remaining_seconds() for hold in part)
            seconds = min(left, self._limits.remote_recheck_seconds) if part[0].void else left
            task = asyncio.get_running_loop().create_task(self._ask(part, seconds))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _is_over(self, hold: RemoteHold) -> bool:
        """Return whether a hold must end: its budget may be spent by the next look, or it was in doubt for too long.

        A question that was under way when something was heard may have been answered before that; it is not waited for.
        """
        if hold.void and hold.permission.question.clock() - hold.void_at > self._limits.remote_recheck_seconds:
            return True
        return hold.permission.remaining_seconds() <= self._limits.remote_look_seconds

    async def _ask(self, holds: list[RemoteHold], seconds: float) -> None:
        try:
            parts = parts_of([hold.request for hold in holds], self._limits)
            # Long questions make a few parts. None waits for another, for the first budget to be spent may be in any.
            decisions = await self._asker.many(parts, seconds, self._owner, at_once=len(parts))
        except Exception:  # noqa: BLE001  whatever it is, these holds are not known to be allowed any more
            decisions = [unanswered(UNREACHABLE, hold.request) for hold in holds]
        for hold, decision in zip(holds, decisions, strict=True):
            self._told(hold, decision)

    def _told(self, hold: RemoteHold, decision: Decision) -> None:
        """Go on with a newer answer, end with a deny; without an answer go on only while the older one lasts."""
        hold.asking = False
        if decision.allowed and isinstance(decision.grant, Grant):
            hold.permission = decision.grant.permission
            hold.void = hold.void and _is_void(hold.permission)
        elif hold.void or not _is_own(decision):
            hold.end(decision)


def _parts(holds: list[RemoteHold]) -> Iterator[list[RemoteHold]]:
    for start in range(0, len(holds), ASKED_TOGETHER_COUNT):
        yield holds[start : start + ASKED_TOGETHER_COUNT]


def _is_due(permission: Permission) -> bool:
    return permission.remaining_seconds() * 1_000 <= permission.answer.valid_for_ms * (1 - RENEWED_SHARE)


def _is_void(permission: Permission) -> bool:
    question = permission.question
    return question.heard.ends(permission.answer.epoch, question.mark, question.model, question.action)


def _is_own(decision: Decision) -> bool:
    """Return whether a deny is of this side's making: nobody answered."""
    return not decision.id and _all_own(reason.code for reason in decision.reasons)


def _all_own(codes: Iterable[str]) -> bool:
    return all(code.startswith("engine.") for code in codes)
