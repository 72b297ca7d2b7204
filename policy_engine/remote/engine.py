"""An engine asked over HTTP, with the calls of an embedded one: for threads, and for event loops.

Rules of the room:
- Deciding never raises for an engine that is away: it denies. Listing raises, for a listing cannot deny.
- The key is sent over TLS, or in clear to this very machine; elsewhere only if that was said.
- Nothing is sent before something is asked; the stream of revocations is followed from the first hold on, in a process
  that was forked anew. Nobody closes what another process follows.
Left to others: checking questions (`core.questions`), one exchange (`asking`), the loop (`background`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError as Cancelled
from threading import Lock
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

from policy_engine.client.clock import budget_clock
from policy_engine.client.connection import Address
from policy_engine.client.heard import Heard
from policy_engine.client.listener import Listener
from policy_engine.core.decision import Decision, Request
from policy_engine.core.listed import Listed
from policy_engine.core.questions import body_of
from policy_engine.errors import EngineUnavailable, InputRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.remote.asking import ATTEMPTS_COUNT, Asker, Grant, parts_of, unanswered
from policy_engine.remote.background import Background, Closed
from policy_engine.remote.breaker import Breaker
from policy_engine.remote.exchange import UNREACHABLE, Exchange
from policy_engine.remote.holds import Holds, RemoteHold

T = TypeVar("T")
_OPEN: Final[WeakSet[RemoteEngine]] = WeakSet()
"""The engines of this process, for whoever is forked from it."""
_GRACE_SECONDS: Final = 1.0
"""How much longer than an exchange may last a thread waits for its end; after that it is a deny."""


class RemoteEngine:
    """One engine, over as many connections as are needed at once. Safe to use from several threads and loops."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_seconds: float = LIMITS.remote_seconds,
        tls: ssl.SSLContext | None = None,
        cleartext: bool = False,
        limits: Limits = LIMITS,
    ) -> None:
        """Raises `InputRefused` for an address or key that could not be used."""
        self._address = _address(url, key, tls, cleartext)
        self._seconds = _timeout(timeout_seconds)
        self._limits = limits
        self._heard = Heard()
        self._lock = Lock()
        self._listener: Listener | None = None
        self._listening_process = -1
        self._background = Background(self._begin)
        self._holds: Holds | None = None
        _OPEN.add(self)

    def decide(self, request: Request, *, explained: bool = False) -> Decision:
        """Return the decision, or a deny that names why there is none. Nobody explains over HTTP beyond the reasons."""
        return self.decide_many((request,))[0]

    async def decide_async(self, request: Request, *, explained: bool = False) -> Decision:
        """The same, waiting on the running event loop."""
        return (await self.decide_many_async((request,)))[0]

    def decide_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Return one decision a request, in order.

        Each batch has `timeout_seconds` from when it is sent, so all take that long at most for each round of them.
        """
        parts = parts_of(requests, self._limits)
        try:
            return self._wait(self._decided(parts), self._longest(len(parts)))
        except (Closed, TimeoutError, Cancelled):
            return [unanswered(UNREACHABLE, request) for request in requests]

    async def decide_many_async(self, requests: Sequence[Request]) -> list[Decision]:
        """The same, waiting on the running event loop."""
        parts = parts_of(requests, self._limits)
        try:
            return await self._wait_async(self._decided(parts))
        except Closed:
            return [unanswered(UNREACHABLE, request) for request in requests]

    def who_can(self, request: Request) -> Listed:
        """Return the subjects of the request's type that may. Raises `EngineUnavailable`."""
        return self._listed(self._searched("subject", request))

    async def who_can_async(self, request: Request) -> Listed:
        """The same, waiting on the running event loop."""
        return await self._listed_async(self._searched("subject", request))

    def what_can(self, request: Request) -> Listed:
        """Return the models that the subject may use. Raises `EngineUnavailable`."""
        return self._listed(self._searched("resource", request))

    async def what_can_async(self, request: Request) -> Listed:
        """The same, waiting on the running event loop."""
        return await self._listed_async(self._searched("resource", request))

    def hold(self, decision: Decision) -> RemoteHold:
        """Watch an allow from now on. Raises `ValueError` for a deny, or for a decision of another engine."""
        grant = decision.grant
        if not decision.allowed or decision.asked is None or not isinstance(grant, Grant) or grant.engine is not self:
            raise ValueError("only an allow that this engine gave can be held")
        hold = RemoteHold(decision.asked, grant.permission)
        if not self._background.soon(lambda: self._watch(hold)):
            hold.end(unanswered(UNREACHABLE, decision.asked))
        return hold

    def close(self) -> None:
        """Close the connections and end what is held. Closing twice is no error."""
        self._background.close(self._end)  # first, for until then a hold may begin to listen
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None and self._listening_process == os.getpid():
            listener.close()

    def renew(self) -> None:
        """Wait for no thread of the process that this one was forked from: its locks stay as they were, for ever."""
        self._lock = Lock()
        self._background.renew()
        self._heard.renew()

    def _begin(self) -> None:
        """Make what lives on the loop; in a forked process anew."""
        limits = self._limits
        pauses = limits.remote_pause_seconds, limits.remote_long_pause_seconds
        breaker = Breaker(budget_clock, limits.remote_failures_count, *pauses)
        self._exchange = Exchange(self._address, limits)
        self._asker = Asker(self._exchange, breaker, self._heard, budget_clock, limits)
        self._holds = Holds(self._asker, self._heard, self, limits)

    async def _end(self) -> None:
        if self._holds is not None:
            self._holds.end_all()
        await self._exchange.close()

    async def _decided(self, parts: Sequence[Sequence[Request]]) -> list[Decision]:
        try:
            if len(parts) == 1 and len(parts[0]) == 1:
                return [await self._asker.one(parts[0][0], self._seconds, self)]
            at_once = self._limits.remote_exchanges_count
            return await self._asker.many(parts, self._seconds, self, at_once=at_once)
        except Exception:  # noqa: BLE001  whatever errs denies, and its text may hold what was asked
            return [unanswered(UNREACHABLE, request) for part in parts for request in part]

    def _longest(self, parts: int) -> float:
        """Return how long questions in so many parts may take: a lone one is asked twice, parts go round by round."""
        if parts <= 1:
            return self._seconds * ATTEMPTS_COUNT
        rounds = -(-parts // self._limits.remote_exchanges_count)
        return rounds * (self._seconds + _GRACE_SECONDS)

    async def _searched(self, kind: str, request: Request) -> Listed:
        body: dict[str, Any] = body_of(request)
        sought = body[kind]
        del sought["id"]
        ids, complete = await self._asker.ids(kind, body, "id", self._seconds)
        return Listed(tuple(ids), complete)

    def _wait(self, call: Coroutine[Any, Any, T], seconds: float) -> T:
        future = self._background.submit(call)
        try:
            return future.result(seconds + _GRACE_SECONDS)
        finally:
            future.cancel()

    async def _wait_async(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what a call comes to. Raises `Closed` where the engine was closed meanwhile: only whoever waits can
        cancel the waiting."""
        future = asyncio.wrap_future(self._background.submit(call))
        try:
            await asyncio.wait((future,))
        finally:
            future.cancel()
        if future.cancelled():
            raise Closed("this engine was closed")
        return future.result()

    def _listed(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return self._wait(call, self._seconds * self._limits.remote_pages_count)
        except (Closed, TimeoutError, Cancelled):
            raise EngineUnavailable("the search was not answered (engine.unreachable)", where="engine") from None

    async def _listed_async(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._wait_async(call)
        except Closed:
            raise EngineUnavailable("the search was not answered (engine.unreachable)", where="engine") from None

    def _watch(self, hold: RemoteHold) -> None:
        """Watch a hold, and follow the stream of revocations from the first one on. On the loop."""
        if self._holds is not None:
            self._holds.add(hold)
        with self._lock:
            if self._listener is None or self._listening_process != os.getpid():
                self._listening_process = os.getpid()
                self._listener = Listener(self._address, self._heard).start()


def _timeout(seconds: Any) -> float:
    if not isinstance(seconds, int | float) or not 0 < seconds <= 60:
        raise InputRefused("must be above 0 and at most 60 seconds", where="timeout_seconds")
    return seconds


def _address(url: Any, key: Any, tls: Any, cleartext: Any) -> Address:
    """Return the address. Raises `InputRefused`; the key is never in what it says."""
    if not isinstance(key, str) or not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InputRefused("must be an API key or token: printable ASCII without spaces", where="key")
    if not (tls is None or isinstance(tls, ssl.SSLContext)):
        raise InputRefused("must be an ssl.SSLContext, or None for the authorities of the system", where="tls")
    if not isinstance(cleartext, bool):
        raise InputRefused("must be True or False", where="cleartext")
    if isinstance(url, str) and (not url.isprintable() or " " in url):
        raise InputRefused("must hold no spaces, line breaks or other control characters", where="url")
    try:
        address = Address(url, key, tls)
        parts = urlsplit(url)
        in_clear = parts.scheme == "http" and not _is_this_machine(parts.hostname or "")
        named = bool(parts.username or parts.password) or parts.port == 0
    except ValueError:
        raise InputRefused("must be an http or https URL with a host and without a query", where="url") from None
    if named:
        raise InputRefused("must not hold a user, a password or port 0; the key is a parameter of its own", where="url")
    if in_clear and not cleartext:
        raise InputRefused(
            "would send the key in clear to another machine: use https, or say cleartext=True where the network is "
            "encrypted by other means",
            where="url",
        )
    return address


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _renew() -> None:
    RemoteHold.renew()
    for each in list(_OPEN):
        each.renew()


os.register_at_fork(after_in_child=_renew)
