"""The head of a request, the same for ASGI and WSGI: method, path, query, headers that stand once, and who sent it.

Rules of the room:
- A header that is read here stands once, or the request is refused: two of them are two readings. What it holds is
  printable ASCII, so nothing of it can end a line of a log or header. No value is ever echoed.
- A path is what the server decoded. Whoever makes an address of it again may decode, join or cut it once more, so a
  path that would not stay what it is names nothing.
Left to others: what the headers mean (`subjects`, `models`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from policy_engine.core.pathreading import is_plain
from policy_engine.core.querymodel import named_in_query
from policy_engine.errors import InputRefused

_CUT_PATH = re.compile(r"[?#%\x00-\x1f\x7f](?:(?<!%)|(?:25)*(?:3[fF]|23|[01][0-9a-fA-F]|7[fF]))")
"""What ends a path in an address that is made of it, however often it is decoded before. It begins with one class of
characters, which is what makes it quick to find nowhere."""

_JOINED = re.compile(r"%(?:2f|5c)", re.IGNORECASE)
"""A slash that is part of a segment to whoever splits a path before it is decoded."""

_HOST = re.compile(r"\A[a-z][a-z0-9+.-]*://[^/?]*", re.IGNORECASE)

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PRINTABLE = bytes(range(0x20, 0x7F))
_NOT_SENT: Final[Any] = object()


@dataclass(slots=True)
class Head:
    """What a request says before its body. `peer` is the address of whoever sent it, `None` where it has none."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[bytes, bytes]]
    peer: str | None
    by_unix_socket: bool = False
    sent_path: bytes = b""
    """The path before it was decoded, empty where the server does not show it; a query may hang on it."""
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
            sent_path=scope.get("raw_path") or b"",
        )

    @classmethod
    def of_wsgi(cls, environ: Mapping[str, Any], path: str | None = None) -> Head:
        """Return the head of a WSGI request. WSGI joins headers that were sent twice with a comma, and does not say
        whether a request came over a Unix socket. `path` is the whole path where a framework has read it already."""
        headers = [
            (name[5:].replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ]
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if environ.get(name):
                headers.append((name.replace("_", "-").lower().encode(), environ[name].encode("latin-1")))
        address = environ.get("REMOTE_ADDR") or None
        if path is None:
            raw: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
            path = raw.encode("latin-1").decode("utf-8", "replace")
        sent: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
        return cls(
            method=environ["REQUEST_METHOD"],
            path=path,
            query=environ.get("QUERY_STRING", ""),
            headers=headers,
            peer=address,
            sent_path=sent.encode("latin-1", "replace"),
        )

    @property
    def plain_path(self) -> str:
        """Return the path where something hangs on it. Raises `InputRefused` for one that need not stay what it is."""
        self.require_plain()
        return self.path

    def require_plain(self) -> None:
        """Raise `InputRefused` for a path that an upstream could read otherwise, or cut into a path and a query."""
        if not is_plain(self.path):
            raise InputRefused(
                "can be read in two ways: write it without dot or empty segments, backslashes, semicolons, question "
                "marks, spaces and double encoding",
                where="the path",
            )

    def require_whole(self) -> None:
        """Raise `InputRefused` for what is no path, and for one that holds what ends a path: an address made of it
        would have another path, and a query that nobody looked at."""
        if _CUT_PATH.search(self.path) is not None or self.path[:1] not in ("", "/"):
            raise InputRefused(
                "must begin with a slash, and hold no question marks, number signs or control characters",
                where="the path",
            )

    @property
    def joined_path(self) -> str | None:
        """Return the path as it is to whoever splits it before decoding it, with another character for each slash that
        is part of a segment; `None` where there is none, or the server does not show how the path was sent."""
        if b"%" not in self.sent_path:
            return None
        sent = _HOST.sub("", self.sent_path.decode("latin-1").partition("?")[0], count=1)
        joined = _JOINED.sub("-", sent)
        return None if joined == sent else unquote(joined)

    def header(self, name: str) -> str | None:
        """Return a header, `None` when it was not sent. Raises `InputRefused` when it was sent twice or is no text."""
        if self._kept is None:
            self._kept = _kept(self.headers)
        value = self._kept.get(name.lower().encode("ascii"), _NOT_SENT)
        if value is _NOT_SENT:
            return None
        if value is None:
            raise InputRefused("must be sent once", where=name)
        if value.translate(None, _PRINTABLE):
            raise InputRefused("must be printable ASCII", where=name)
        text: str = value.decode("ascii")
        return text

    def parameter(self, name: str) -> str | None:
        """Return a parameter of the query, `None` when there is none. Raises `InputRefused` when it stands twice, or
        where other readers would find it too, or end the query before it."""
        if "#" in self.query:
            raise InputRefused("must not hold a number sign", where="the query")
        found = named_in_query(self.query, name)
        if len(found) > 1:
            raise InputRefused("must stand once in the query", where=name)
        return found[0] if found else None

    @property
    def media(self) -> Mapping[str, str]:
        """The few headers by which the dialect of a client is told; what cannot be read is left out."""
        found = {}
        if self._kept is None:
            self._kept = _kept(self.headers)
        for name in ("accept", "anthropic-version", "mcp-protocol-version", "mcp-session-id"):
            value = self._kept.get(name.encode())
            if value is not None:
                found[name] = value.decode("latin-1")
        return found


def check_header_name(name: str, where: str) -> None:
    """Raise `InputRefused` for a setting that names no header: no request could ever have it."""
    if _HEADER_NAME.fullmatch(name) is None:
        raise InputRefused("must be the name of a header, such as x-user", where=where)


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes | None]:
    """Return the headers by name in lower case; `None` for one that was sent twice."""
    kept: dict[bytes, bytes | None] = {}
    for name, value in headers:
        own = name.lower()
        kept[own] = None if own in kept else value
    return kept
