"""One exchange with an engine over HTTP: bytes out, bounded bytes in, by a deadline.

Rules of the room:
- The deadline is for the whole exchange, however slowly a server trickles.
- No redirect is followed, no proxy or password file of the environment is used: the key goes where it was meant to go.
- Only 200 with JSON, not compressed, is an answer. What is longer than its bound is dropped unread.
- A connection that the server had closed meanwhile is no failure: the question is sent once more, in the same time.
- Each question has an id of its own, which the engine sends back: an answer that names another's is none. A proxy that
  repeats an answer on a kept connection, or keeps it, would otherwise answer the next question with it.
Left to others: what the bytes mean (`reading`), whether to send at all (`breaker`).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import Mapping
from typing import Any, Final

import httpx2

from policy_engine.client.connection import Address
from policy_engine.limits import Limits

REFUSED: Final = "engine.refused"
UNREACHABLE: Final = "engine.unreachable"
UNREADABLE: Final = "engine.answer-unreadable"
_QUESTION: Final = "policy-engine-question-"
"""How the ids of questions begin. A proxy before the engine may put one of its own in their place, not one of these."""

_LATER: Final = (408, 425, 429)
_STEP_SHARE: Final = 0.9
"""What a single step (connecting, one read) may take of an exchange's time: whoever times out by itself cleans up."""
_IDLE_SECONDS: Final = 4.0
"""Shorter than servers keep an idle connection (uvicorn: 5 s)."""


class Unanswered(Exception):
    """There is no answer. `code` says why; `failure` whether the engine seems to be away."""

    def __init__(self, code: str, *, failure: bool) -> None:
        super().__init__(code)
        self.code = code
        self.failure = failure


class Exchange:
    """The connections to one engine. Made, used and closed on one event loop."""

    def __init__(self, address: Address, limits: Limits) -> None:
        self._address = address
        self._bytes_max = limits.remote_answer_bytes
        self._base = address.url.rstrip("/")
        count = limits.remote_connections_count
        self._client = httpx2.AsyncClient(
            headers={**address.headers, "Accept": "application/json", "Accept-Encoding": "identity"},
            verify=_verified(address),
            trust_env=False,
            follow_redirects=False,
            limits=httpx2.Limits(
                max_connections=count, max_keepalive_connections=count, keepalive_expiry=_IDLE_SECONDS
            ),
        )

    async def post(self, path: str, body: Mapping[str, Any], seconds: float) -> bytes:
        """Return the body of the answer. Raises `Unanswered`."""
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._send(path, content, seconds)
                except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                    return await self._send(path, content, seconds)
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError):
            raise Unanswered(UNREACHABLE, failure=True) from None

    async def _send(self, path: str, content: bytes, seconds: float) -> bytes:
        id = _QUESTION + secrets.token_hex(16)
        headers = {"Content-Type": "application/json", "X-Request-ID": id}
        step = seconds * _STEP_SHARE
        async with self._client.stream(
            "POST", self._base + path, content=content, headers=headers, timeout=step
        ) as response:
            told = response.headers.get("x-request-id", id)
            if told != id and _QUESTION in told:
                raise Unanswered(UNREADABLE, failure=True)
            if response.status_code != 200:
                away = response.status_code >= 500 or response.status_code in _LATER
                raise Unanswered(UNREACHABLE if away else REFUSED, failure=away)
            media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media != "application/json" or response.headers.get("content-encoding", "identity") != "identity":
                raise Unanswered(UNREADABLE, failure=True)
            found = bytearray()
            async for piece in response.aiter_raw():
                found += piece
                if len(found) > self._bytes_max:
                    raise Unanswered(UNREADABLE, failure=True)
            return bytes(found)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _verified(address: Address) -> ssl.SSLContext | bool:
    """Return the context to verify the server with: the one given, else the system's authorities.

    In clear there is nothing to verify and no redirect to TLS is followed; loading the authorities is spared.
    """
    if address.url.startswith("http:"):
        return False
    return ssl.create_default_context() if address.tls is None else address.tls
