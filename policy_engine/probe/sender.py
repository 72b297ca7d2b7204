"""Sends requests one after another: marked as the probe's, with a pause between them, and never more than agreed.

Left to others: the bytes of an exchange (`wire`), what is sent (`asks`), what an answer means (`reading`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from policy_engine.limits import LIMITS
from policy_engine.probe.asks import Ask, Bearer, Headers, to_bytes
from policy_engine.probe.target import Target, address
from policy_engine.probe.wire import Answer, Exchange, Lack, Unanswered, Wire

AGENT: Final = "policy-engine-probe"
MARK: Final = "Policy-Engine-Probe"
_FOLLOWED: Final = frozenset({301, 302, 307, 308})


class Spent(Exception):
    """The number of requests that was agreed, or of bytes, is used up."""


class Sender:
    """Sends to one gateway. `count` and `sent_bytes` are what was sent so far."""

    def __init__(self, target: Target, run: str, *, rest: Callable[[float], None] = time.sleep) -> None:
        self.target = target
        self.to = address(target.url, "URL")
        self.wire = Wire(self.to, target.ca_file)
        self.count = 0
        self.sent_bytes = 0
        self._rest = rest
        self._next = 0.0
        self._marks: Headers = (("User-Agent", f"{AGENT} ({run})"), (MARK, run), ("Accept-Encoding", "identity"))

    def ask(self, ask: Ask) -> Answer | Lack:
        """Return the answer to a request, or why there is none. Raises `Spent`.

        One redirect is followed, with its method and body, where it leads to the same address: whoever wants the model
        would follow it so. Another is the answer.
        """
        try:
            answer = self._exchange(ask)
            place = answer.header("location")
            if answer.status in _FOLLOWED and (path := self._same_place(place)) is not None:
                answer = self._exchange(replace(ask, path=path))
        except Unanswered as unanswered:
            return unanswered.lack
        return answer

    @contextmanager
    def open(self, ask: Ask, bytes_max: int) -> Iterator[Exchange]:
        """Open an exchange whose answer is read by the caller. Raises `Spent` and `Unanswered`."""
        with self.wire.open(self._counted(ask), ask.method, self._timeout(ask), bytes_max) as opened:
            yield opened

    def _exchange(self, ask: Ask) -> Answer:
        return self.wire.exchange(self._counted(ask), ask.method, self._timeout(ask))

    def _counted(self, ask: Ask) -> bytes:
        """Return the bytes of a request that may be sent now, counted. Raises `Spent`."""
        credentials = self.target.credentials
        own = credentials.headers(credentials.own) if ask.bearer is Bearer.OWN else ()
        request = to_bytes(ask, self.to.authority, self.to.prefix, (*self._marks, *own))
        if self.count >= self.target.requests_count or self.sent_bytes + len(request) > LIMITS.probe_sent_bytes:
            raise Spent
        self._pause()
        self.count += 1
        self.sent_bytes += len(request)
        return request

    def _timeout(self, ask: Ask) -> float:
        return ask.timeout_seconds or self.target.timeout_seconds

    def _pause(self) -> None:
        wait = self._next - time.monotonic()
        if wait > 0:
            self._rest(wait)
        self._next = time.monotonic() + self.target.pause_seconds

    def _same_place(self, place: str) -> str | None:
        """Return the path of a redirect that stays at this address, `None` for another."""
        parts = urlsplit(place)
        if parts.netloc and (parts.scheme, parts.netloc) != (urlsplit(self.to.origin).scheme, self.to.authority):
            return None
        path = parts.path.removeprefix(self.to.prefix)
        usable = place.isascii() and place.isprintable() and " " not in place and len(place) <= LIMITS.text_characters
        return f"{path}{f'?{parts.query}' if parts.query else ''}" if usable and path.startswith("/") else None
