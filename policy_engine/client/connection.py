"""One HTTP connection to a decision point, from the standard library.

Left to others: what is asked (`asking`), what is followed (`listener`).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """Where the decision point is and with which key it is asked. `tls` replaces the default context."""

    url: str
    key: str = field(repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("the address of a decision point is an http or https URL with a host and without a query")

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that says who asks."""
        return {"Authorization": f"Bearer {self.key}"}

    def path(self, path: str) -> str:
        """Return a path behind the address's own."""
        return urlsplit(self.url).path.rstrip("/") + path

    def connection(self, timeout_seconds: float) -> HTTPConnection:
        """Return a connection that is not yet made."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return HTTPConnection(host, parts.port, timeout=timeout_seconds)
        return HTTPSConnection(host, parts.port, timeout=timeout_seconds, context=self.tls)
