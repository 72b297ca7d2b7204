"""Keys read again in a thread of their own, once for all whose token needs them: near and far, loops and threads.

Rules of the room:
- Whoever needs the keys waits for the one reading that is under way, at most `limits.jwks_seconds`: a token of a key
  that is being fetched is not one of a key that is not accepted. Whose key is known meanwhile does not wait.
- No more than `limits.token_waiting_count` wait for an issuer that hangs, for anybody can send made-up tokens and hold
  a place; the others go on with the keys there are.
Left to others: when keys are due, and reading them (`keysets`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager

import structlog

from policy_engine.limits import LIMITS, Limits
from policy_engine.tokens.keysets import KeySource

log = structlog.get_logger(__name__)


class Refreshing:
    """Keys of one source, read again in a thread: once for all who ask meanwhile."""

    def __init__(self, keys: KeySource, limits: Limits = LIMITS) -> None:
        self._keys = keys
        self._limits = limits
        self._lock = threading.Lock()
        self._flight: Future[None] | None = None
        self._waiting = 0

    def wait(self, kid: str | None, algorithm: str) -> None:
        """Wait for the keys that a token may need, where that may help; says nothing about the token."""
        flight = self._needed(kid, algorithm)
        if flight is not None:
            with self._place() as free:
                if free:
                    wait((flight,), self._limits.jwks_seconds)

    async def wait_async(self, kid: str | None, algorithm: str) -> None:
        """The same, waiting on the running event loop."""
        flight = self._needed(kid, algorithm)
        if flight is not None:
            with self._place() as free:
                if free:
                    await asyncio.wait((asyncio.wrap_future(flight),), timeout=self._limits.jwks_seconds)

    def begin(self, kid: str | None = None) -> Future[None]:
        """Begin to read the keys, unless that is under way."""
        with self._lock:
            if self._flight is None:
                flight = Future[None]()
                flight.set_running_or_notify_cancel()  # who hangs up cancels it for nobody else
                threading.Thread(target=self._fly, args=(flight, kid), name="jwks", daemon=True).start()
                self._flight = flight
            return self._flight

    def _needed(self, kid: str | None, algorithm: str) -> Future[None] | None:
        """Return what a token of that key has to wait for, begun if need be; `None` when nothing would help."""
        if self._keys.is_due(kid):
            return self.begin(kid)
        if self._keys.find(kid, algorithm) is not None:
            return None
        with self._lock:  # behind whoever is about to say that it has begun
            return self._flight

    @contextmanager
    def _place(self) -> Iterator[bool]:
        """Say whether one more may wait, and count it for as long as it does."""
        with self._lock:
            free = self._waiting < self._limits.token_waiting_count
            self._waiting += free
        try:
            yield free
        finally:
            with self._lock:
                self._waiting -= free

    def _fly(self, flight: Future[None], kid: str | None) -> None:
        try:
            self._keys.refresh(kid)
        except Exception as error:  # noqa: BLE001  whoever waits goes on with the keys there are
            log.error("jwks.not-read", cause=type(error).__name__)
        finally:
            with self._lock:
                self._flight = None
            flight.set_result(None)
