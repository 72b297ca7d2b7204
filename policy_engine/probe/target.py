"""What is probed and with what: the gateway's address, the models, the credentials, and what may be done to it.

Rules of the room: a credential is never part of a text that is shown. Left to others: options and files (`cli.probe`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS

PRIVILEGED: Final = ("admin", "root")
DIALECTS: Final = ("auto", "openai", "anthropic")
SECRET_CHARACTERS: Final = frozenset(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class Models:
    """The models by name: what the caller may use, what it may not, and other names of what it may not."""

    allowed: tuple[str, ...]
    forbidden: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    derivatives: tuple[str, ...] = ()
    failing: str = ""

    def __post_init__(self) -> None:
        if not self.allowed or not self.forbidden:
            raise InputRefused("one model that the caller may use and one that it may not are needed", where="models")
        for name in (*self.allowed, *self.withheld, self.failing or "-"):
            if not name or len(name) > LIMITS.id_characters or not name.isprintable():
                raise InputRefused("the name of a model is printable text of bounded length", where="models")
        if set(self.allowed) & set(self.withheld):
            raise InputRefused("a model is named as allowed and as forbidden", where="models")

    @property
    def withheld(self) -> tuple[str, ...]:
        """Return every name of what the caller may not use."""
        return (*self.forbidden, *self.aliases, *self.derivatives)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks: the caller's credential and, where the operator has them, one of a stranger and one that expired."""

    own: str = field(default="", repr=False)
    foreign: str = field(default="", repr=False)
    expired: str = field(default="", repr=False)
    header: str = "Authorization"

    def __post_init__(self) -> None:
        for secret in (self.own, self.foreign, self.expired):
            if not set(secret) <= SECRET_CHARACTERS | {" "} or len(secret) > LIMITS.probe_credential_characters:
                raise InputRefused("a credential is one line of ASCII text of bounded length", where="credential")
        if not self.header or not all(mark.isascii() and (mark.isalnum() or mark == "-") for mark in self.header):
            raise InputRefused("is not the name of a header", where="--credential-header")

    def headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        """Return the header that carries a credential; a bearer one unless it says its scheme or has its own header."""
        if not secret:
            return ()
        bearer = self.header.lower() == "authorization" and " " not in secret
        return ((self.header, f"Bearer {secret}" if bearer else secret),)


@dataclass(frozen=True, slots=True)
class Switching:
    """A kill switch that the probe may engage: at which engine, with whose key, on which model. It ends by itself."""

    engine: str
    key: str = field(repr=False)
    model: str

    def __post_init__(self) -> None:
        address(self.engine, "--engine")


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway and what the operator lets the probe do. `down` and `up` take its authorizer away and bring it back."""

    url: str
    models: Models
    credentials: Credentials = Credentials()
    dialect: str = "auto"
    privileged: tuple[str, ...] = PRIVILEGED
    down: Callable[[], None] | None = None
    up: Callable[[], None] | None = None
    switching: Switching | None = None
    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    requests_count: int = LIMITS.probe_requests_count
    pause_seconds: float = LIMITS.probe_pause_seconds
    timeout_seconds: float = LIMITS.probe_answer_seconds
    stale_seconds: float = LIMITS.probe_stale_seconds
    cut_seconds: float = LIMITS.probe_cut_seconds
    stream_tokens: int = LIMITS.probe_stream_tokens
    ca_file: str | None = None

    def __post_init__(self) -> None:
        address(self.url, "URL")
        if self.dialect not in DIALECTS:
            raise InputRefused(f"is none of {', '.join(DIALECTS)}", where="--dialect")
        if (self.down is None) != (self.up is None):
            raise InputRefused("whoever takes the authorizer away must say how it comes back", where="--authorizer-up")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect, and the path in front of every path that is asked."""

    tls: bool
    host: str
    port: int
    prefix: str

    @property
    def authority(self) -> str:
        """Return what the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Return the address without its path."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def address(url: str, where: str) -> Address:
    """Return the parts of an address. Raises `InputRefused` for one that is not http or https, or holds more."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InputRefused("is not an address such as https://gateway.example", where=where) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InputRefused("is an http or https address with a host and without a query", where=where)
    if parts.username is not None:
        raise InputRefused("holds a password; give credentials by file or environment", where=where)
    tls = parts.scheme == "https"
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    if not prefix.isascii() or not prefix.isprintable() or " " in prefix:
        raise InputRefused("has a path with spaces or letters beyond ASCII; write them percent-encoded", where=where)
    return Address(tls, parts.hostname, port or (443 if tls else 80), prefix)
