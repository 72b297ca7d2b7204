"""How upstreams may read a path that was decoded once: as it stands, or otherwise.

Rules of the room: pure, and in time that grows with the length. Left to others: what a path names (`middleware`,
`api.checks.told`).
"""

from __future__ import annotations

import re
from posixpath import normpath
from typing import Final
from urllib.parse import unquote

_UNCLEAR_PATH: Final = re.compile(
    r"(?:^|/)\.{1,2}(?:/|\Z)|//|%[0-9a-fA-F]{2}|[\\;?#\s\x00-\x1f\x7f-\x9f\ufffd]",
)
"""What upstreams write otherwise before they read a path: dots, empty segments, backslashes, a second decoding,
parameters, white space, what is no text in UTF-8, and what ends a path."""

_LEFT_OUT: Final = re.compile(r"[;?#\x00][^/]*|[\s\x00-\x1f\x7f]")
"""What of a segment of a path some upstreams do not read."""


def is_plain(path: str) -> bool:
    """Return whether a path stays what it is, whoever writes an address of it."""
    return _UNCLEAR_PATH.search(path) is None


def loosely(path: str) -> str:
    """Return a path as the least strict of upstreams may read it: decoded once more, without regard to case, without
    parameters, dot and empty segments."""
    read = _LEFT_OUT.sub("", unquote(path).replace("\\", "/")).casefold()
    return normpath("/" + read.lstrip("/"))
