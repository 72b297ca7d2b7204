"""Who asks: from a verified token, or from the headers of an authenticated proxy.

Rules of the room:
- Whoever is not proven to be somebody is nobody: `NotAuthenticated`, with a sentence that echoes nothing.
- A header names a subject only if the request comes from a proxy that proved itself: by a secret compared in constant
  time, by its address, or because it came over the server's own Unix socket.
- Whatever comes from such headers is refused, not passed over, when it was sent past the proxy.
Left to others: verifying a token (`tokens`), what the subject may do (the engine).
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Protocol

from policy_engine.errors import InputRefused, NotAuthenticated
from policy_engine.limits import LIMITS, Limits
from policy_engine.middleware.head import Head, check_header_name

PERSON, SERVICE = "person", "service"
SECRET_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks, for whom and from where; what is `None` is not known from there."""

    id: str
    type: str = PERSON
    tenant: str | None = None
    location: str | Mapping[str, Any] | None = None


class Subjects(Protocol):
    """Where a door learns who asks."""

    def identify(self, head: Head) -> Subject:
        """Return who asks. Raises `NotAuthenticated`, or `InputRefused` for a head that can be read in two ways."""
        ...

    async def identify_async(self, head: Head) -> Subject:
        """The same, where waiting must not hold up an event loop."""
        ...


@dataclass(frozen=True, slots=True)
class TrustedProxy:
    """How a proxy proves itself: by a `secret` in a header, its address, or (in ASGI) the server's Unix socket. All
    that are set must hold.

    Addresses are those of the connection. A server that takes them from `X-Forwarded-For` (uvicorn does unless started
    with `--no-proxy-headers`) must not be told to.
    """

    secret: str | None = field(default=None, repr=False)
    secret_header: str = "x-proxy-secret"  # noqa: S105  the header's name
    addresses: Collection[str] = ()
    unix_socket: bool = False

    def __post_init__(self) -> None:
        if self.secret is None and not self.addresses and not self.unix_socket:
            raise InputRefused("needs a secret, addresses, or unix_socket=True", where="the trusted proxy")
        if self.secret is not None and len(self.secret) < SECRET_CHARACTERS:
            raise InputRefused(f"must have at least {SECRET_CHARACTERS} characters", where="the proxy's secret")
        if self.secret is not None and not (self.secret.isascii() and self.secret.isprintable()):
            raise InputRefused("must be printable ASCII, as headers are", where="the proxy's secret")
        check_header_name(self.secret_header, "the header of the proxy's secret")
        for address in self.addresses:
            try:
                ip_network(address)
            except ValueError:
                raise InputRefused("must be addresses or networks", where="the proxy's addresses") from None

    def require(self, head: Head) -> None:
        """Raise `NotAuthenticated` unless the request comes from the proxy."""
        if self.secret is not None:
            sent = head.header(self.secret_header)
            if sent is None or not hmac.compare_digest(sent.encode(), self.secret.encode()):
                raise NotAuthenticated("the request did not come through the proxy that names the caller")
        if self.unix_socket and not head.by_unix_socket:
            raise NotAuthenticated("the request did not come through the proxy that names the caller")
        if self.addresses and not self._is_listed(head.peer):
            raise NotAuthenticated("the request did not come through the proxy that names the caller")

    def _is_listed(self, peer: str | None) -> bool:
        try:
            address = ip_address(peer or "")
        except ValueError:
            return False
        return any(address in ip_network(each) for each in self.addresses)


@dataclass(frozen=True, slots=True)
class HeaderSubjects:
    """Subjects named by headers of an authenticated proxy."""

    proxy: TrustedProxy
    name: str
    tenant: str | None = None
    location: str | None = None
    type: str = PERSON
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        for name in (self.name, self.tenant, self.location):
            if name is not None:
                check_header_name(name, "the header that names the caller")

    def identify(self, head: Head) -> Subject:
        """Return whom the proxy names. Raises `NotAuthenticated` when it names nobody, or did not send the request."""
        self.proxy.require(head)
        id = head.header(self.name)
        if not id or len(id) > self.limits.id_characters:
            raise NotAuthenticated("the proxy names no caller")
        tenant = None if self.tenant is None else head.header(self.tenant)
        location = None if self.location is None else head.header(self.location)
        return Subject(id, self.type, tenant, location or None)

    async def identify_async(self, head: Head) -> Subject:
        """The same; nothing is waited for."""
        return self.identify(head)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A fact of a request, such as its place, that an authenticated proxy states in a header."""

    name: str
    proxy: TrustedProxy

    def __post_init__(self) -> None:
        check_header_name(self.name, "the header of the proxy")

    def __call__(self, head: Head) -> str | None:
        """Return the value, `None` when there is none. Raises `NotAuthenticated` when somebody else sent the header."""
        value = head.header(self.name)
        if value is None:
            return None
        self.proxy.require(head)
        return value or None


def from_header(
    name: str,
    *,
    proxy: TrustedProxy,
    tenant: str | None = None,
    location: str | None = None,
    type: str = PERSON,
) -> HeaderSubjects:
    """Name the subject by a header of an authenticated proxy; `tenant` and `location` name further headers of its."""
    return HeaderSubjects(proxy, name, tenant, location, type)
