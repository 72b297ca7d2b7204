"""The certificate with which the doors prove who they are, read again when its files change.

Rules of the room: TLS 1.2 or newer. What cannot be read at the start ends the start; what cannot be read later leaves
the certificate before it in use, and the log says so. Each handshake takes the newest that was read, so nobody restarts
for a renewal and no connection is cut by one; a session of before it is resumed by no client that needs a certificate.
A key that needs a password is refused: nobody is there to type it.
Left to others: listening (`server`, `checks.listening`), whose keys may do what (`callers`): a client's certificate
lets it in, and says nothing of who asks.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from policy_engine.errors import PolicyEngineError, StartRefused
from policy_engine.limits import LIMITS

if TYPE_CHECKING:
    from policy_engine.settings import Settings

HTTP_1: Final = "http/1.1"
HTTP_2: Final = "h2"
_CHAIN: Final = "POLICY_ENGINE_TLS_CERTIFICATE"
_KEY: Final = "POLICY_ENGINE_TLS_KEY"
_AUTHORITIES: Final = "POLICY_ENGINE_TLS_CLIENT_AUTHORITIES"

log = structlog.get_logger(__name__)


class Certificate:
    """A certificate chain, its key, and the authorities of client certificates where clients must have one."""

    def __init__(self, chain: Path, key: Path, authorities: Path | None = None) -> None:
        """Read the files. Raises `StartRefused` naming the setting whose file is no good."""
        self._chain, self._key, self._authorities = chain, key, authorities
        self._seen = self._stamps()
        self._renewed = 0.0
        self._newest = {protocol: self._read(protocol) for protocol in (HTTP_1, HTTP_2)}

    def context(self, protocol: str) -> ssl.SSLContext:
        """Return what a server of a protocol listens with, for as long as it does."""
        listening = self._read(protocol)

        def renew(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
            connection.context = self._newest[protocol]
            old = connection.session if connection.session_reused and self._authorities is not None else None
            # Its client was let in by the authorities of then; told so, it drops the session and shows its certificate.
            return ssl.ALERT_DESCRIPTION_ACCESS_DENIED if old is not None and old.time <= self._renewed else None

        listening.sni_callback = renew
        return listening

    async def keep(self, seconds: float = LIMITS.certificate_seconds) -> NoReturn:
        """Look at the files now and then, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Read the files again if one has changed. What is no good, or only half in its place, is not taken."""
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return
            self._newest = {protocol: self._read(protocol) for protocol in self._newest}
            self._seen, self._renewed = stamps, time.time()
        except PolicyEngineError as refused:
            log.error("certificate.not-read", where=refused.where, message=refused.message)
        else:
            log.info("certificate.renewed")

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        """Return what tells one state of the files from another."""
        found = []
        for name, file in ((_CHAIN, self._chain), (_KEY, self._key), (_AUTHORITIES, self._authorities)):
            if file is not None:
                try:
                    status = file.stat()
                except OSError:
                    raise StartRefused("there is no such file, or it may not be read", where=name) from None
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)

    def _read(self, protocol: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION  # a client could make us shake hands for ever
        context.set_alpn_protocols([protocol])
        try:
            context.load_cert_chain(self._chain, self._key, _no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise StartRefused(f"is not the key of the certificate in {_CHAIN}", where=_KEY) from None
            raise StartRefused(f"must be a certificate chain in PEM, and {_KEY} its key in PEM", where=_CHAIN) from None
        except OSError:
            raise StartRefused(f"cannot be read, or {_KEY} cannot", where=_CHAIN) from None
        if self._authorities is not None:
            try:
                context.load_verify_locations(self._authorities)
            except OSError:  # ssl.SSLError is one
                raise StartRefused("must be certificates of authorities in PEM", where=_AUTHORITIES) from None
            context.verify_mode = ssl.CERT_REQUIRED
            context.options |= ssl.OP_NO_TICKET  # clients keep tickets, and a resumed session shows no certificate
            context.num_tickets = 0
        return context


def certificate_of(settings: Settings) -> Certificate | None:
    """Return the certificate that the settings name, `None` where they name none. Raises `StartRefused`."""
    chain, key, authorities = settings.tls_certificate, settings.tls_key, settings.tls_client_authorities
    if chain is None or key is None:
        given = {_CHAIN: chain, _KEY: key, _AUTHORITIES: authorities}
        if any(given.values()):
            missing = _CHAIN if chain is None else _KEY
            raise StartRefused("is needed too: TLS takes a certificate and its key", where=missing)
        return None
    return Certificate(chain, key, authorities)


def _no_password() -> NoReturn:
    raise StartRefused("is locked with a password: write it without one, readable by the service alone", where=_KEY)
