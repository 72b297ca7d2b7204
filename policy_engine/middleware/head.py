"""The head of a request, the same for ASGI and WSGI: method, path, query, headers that stand once, and who sent it.

Rules of the room: a header that is read here stands once, or the request is refused: two of them are two readings. What
it holds is printable ASCII, so nothing of it can end a line of a log or header. No value is ever echoed.
Left to others: what the headers mean (`subjects`, `models`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from policy_engine.errors import InputRefused

_NO_NAME = re.compile(r"\[.*|\0.*|[\s\x00-\x1f\x7f]", re.DOTALL)
"""What some readers leave out of the name of a parameter, or take for the beginning of a list."""


@dataclass(slots=True)
class Head:
    """What a request says before its body. `peer` is the address of whoever sent it, `None` where it has none."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[bytes, bytes]]
    peer: str | None
    by_unix_socket: bool = False
    _kept: dict[bytes, bytes | None] | None = field(default=None, repr=False)

    @classmethod
    def of_asgi(cls, scope: Mapping[str, Any]) -> Head:
        """Return the head of an `http` or `websocket` scope."""
        client, server = scope.get("client"), scope.get("server")
        return cls(
            method=scope.get("method", "GET"),
            path=scope["path"],
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=scope["headers"],
            peer=client[0] if client else None,
            by_unix_socket=not client and server is not None and server[1] is None,
        )

    @classmethod
    def of_wsgi(cls, environ: Mapping[str, Any]) -> Head:
        """Return the head of a WSGI request. WSGI joins headers that were sent twice with a comma, and does not say
        whether a request came over a Unix socket."""
        headers = [
            (name[5:].replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ]
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if environ.get(name):
                headers.append((name.replace("_", "-").lower().encode(), environ[name].encode("latin-1")))
        address = environ.get("REMOTE_ADDR") or None
        path = (
            (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8", "replace")
        )
        return cls(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers, address)

    def header(self, name: str) -> str | None:
        """Return a header, `None` when it was not sent. Raises `InputRefused` when it was sent twice or is no text."""
        if self._kept is None:
            self._kept = _kept(self.headers)
        key = name.lower().encode("ascii")
        if key not in self._kept:
            return None
        value = self._kept[key]
        if value is None:
            raise InputRefused("must be sent once", where=name)
        text = value.decode("latin-1")
        if not (text.isascii() and text.isprintable()):
            raise InputRefused("must be printable ASCII", where=name)
        return text

    def parameter(self, name: str) -> str | None:
        """Return a parameter of the query, `None` when there is none. Raises `InputRefused` when it stands twice, or
        where other readers would find it too: behind a semicolon, as a list (`name[]`), beside what is no character."""
        try:
            pairs = parse_qsl(self.query, keep_blank_values=True, errors="strict", max_num_fields=100)
            split = parse_qsl(self.query.replace(";", "&"), keep_blank_values=True, errors="strict", max_num_fields=100)
        except ValueError:
            raise InputRefused("cannot be read", where="the query") from None
        found = [value for key, value in pairs if key.casefold() == name.casefold()]
        names = [key for key, _ in split if _NO_NAME.sub("", key).casefold() == name.casefold()]
        if len(found) > 1:
            raise InputRefused("must stand once in the query", where=name)
        if len(found) < len(names):
            raise InputRefused("must stand plainly in the query, between & signs", where=name)
        return found[0] if found else None

    @property
    def media(self) -> Mapping[str, str]:
        """The few headers by which the dialect of a client is told; what cannot be read is left out."""
        found = {}
        for name in ("accept", "anthropic-version", "mcp-protocol-version", "mcp-session-id"):
            value = (self._kept or {}).get(name.encode())
            if value is not None:
                found[name] = value.decode("latin-1")
        return found


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes | None]:
    """Return the headers by name in lower case; `None` for one that was sent twice."""
    kept: dict[bytes, bytes | None] = {}
    for name, value in headers:
        own = name.lower()
        kept[own] = None if own in kept else value
    return kept
