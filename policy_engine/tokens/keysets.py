"""The keys that tokens may be signed with: pinned in a file, or fetched from one configured https URL.

Rules of the room:
- The set is small and bounded; a key that is not for signatures, is symmetric, weak, or not readable is not in it.
- A key is for the algorithms of its kind and curve alone, so one of another curve neither serves nor makes two of one.
- A pinned file is read again when it changed, which is looked at when a token comes: at once for one that names a key
  which is not known, else every `limits.jwks_file_seconds`. So keys can rotate, and one taken out is soon none.
- A URL is https, redirects are not followed, and it is asked again when its set is old or a token names an unknown key;
  never more often than every `limits.jwks_pause_seconds`, whatever tokens say. A set that could not be fetched again is
  used up to `limits.jwks_stale_seconds`; after that no set is known.
Left to others: what a token must say (`verifying`), who waits for keys (`issuers`).
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPS_PORT, HTTPException, HTTPSConnection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import structlog

from policy_engine.errors import InputRefused, PolicyEngineError, StartRefused
from policy_engine.limits import LIMITS, Limits

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    Key = RSAKey | ECKey | OKPKey

log = structlog.get_logger(__name__)

RSA_BITS = 2_048
_SERVES = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA", "Ed25519"),
    "Ed448": ("EdDSA",),
}
"""What a key verifies, by its curve, or its kind where it has none."""


class KeySource(Protocol):
    """Where keys are looked up."""

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key of that name for that algorithm; without a name, the only one there is for it."""
        ...

    def is_known(self) -> bool:
        """Return whether there is a set to look in, so that a key that is not found is none."""
        ...

    def is_due(self, kid: str | None) -> bool:
        """Return whether `refresh` might find what `find` does not."""
        ...

    def refresh(self, kid: str | None) -> None:
        """Read the keys again where they come from; may wait. What fails leaves the keys as they are."""
        ...


class _Keys:
    """A set of keys that was read."""

    def __init__(self, document: Any, limits: Limits) -> None:
        listed = document.get("keys") if isinstance(document, Mapping) else None
        if not isinstance(listed, list) or len(listed) > limits.jwks_keys_count:
            raise InputRefused(f"must be a JWK set of at most {limits.jwks_keys_count} keys", where="the key set")
        self._keys: list[tuple[str | None, str | None, tuple[str, ...], Key]] = []
        for each in listed:
            key = _readable(each)
            if key is not None:
                self._keys.append((each.get("kid"), each.get("alg"), _serves(each), key))

    def __len__(self) -> int:
        return len(self._keys)

    def names(self, kid: str | None) -> bool:
        return kid is None or any(name == kid for name, *_ in self._keys)

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        found = [
            key
            for name, own, serves, key in self._keys
            if (kid is None or name == kid) and (own is None or own == algorithm) and algorithm in serves
        ]
        return found[0] if len(found) == 1 else None


def _readable(member: Any) -> Key | None:
    """Return a public key for signatures, `None` for anything else."""
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    if not isinstance(member, Mapping) or member.get("use", "sig") != "sig":
        return None
    kinds: dict[Any, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    kind = kinds.get(member["kty"]) if isinstance(member.get("kty"), str) else None
    operations = member.get("key_ops", ["verify"])
    if kind is None or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        if not _serves(member) or (kind is RSAKey and _bits(member["n"]) < RSA_BITS):
            return None
        key: Key = kind.import_key(dict(member))
        key.public_key  # noqa: B018  reading it is what finds a key that is none
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key


def _serves(member: Mapping[str, Any]) -> tuple[str, ...]:
    return _SERVES.get(member["kty"] if member["kty"] == "RSA" else member["crv"], ())


def _bits(number: str) -> int:
    """Return the size of a number as a key writes it; zeros before it add nothing."""
    return int.from_bytes(urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()


class PinnedKeys:
    """Keys given as a mapping, or in a file that whoever deploys replaces. Raises `InputRefused` for a set of none."""

    def __init__(
        self,
        jwks: str | Path | Mapping[str, Any],
        limits: Limits = LIMITS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._looked = self._tried = clock()
        self._lock = threading.Lock()
        self._path = None if isinstance(jwks, Mapping) else Path(jwks)
        self._stamp: object = None
        self._unread = False
        self._keys = _Keys(jwks, limits) if isinstance(jwks, Mapping) else self._read()
        if not len(self._keys):
            raise InputRefused("holds no public key for signatures", where="the key set")

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key of that name for that algorithm; without a name, the only one there is for it."""
        return self._keys.find(kid, algorithm)

    def is_known(self) -> bool:
        """Return that there is a set: it was read when this was made."""
        return True

    def is_due(self, kid: str | None) -> bool:
        """Return whether the file has changed: looked at for a key that is not known, and once in a while anyway.

        One that could not be read is due again after that while: a mended permission changes nothing else of a file.
        """
        if self._path is None:
            return False
        now = self._clock()
        if self._keys.names(kid) and now - self._looked < self._limits.jwks_file_seconds:
            return False
        self._looked = now
        late = self._unread and now - self._tried >= self._limits.jwks_file_seconds
        return late or self._stamped() != self._stamp

    def refresh(self, kid: str | None) -> None:
        """Read the file again; one that cannot be read leaves the keys as they are, and is tried again."""
        with self._lock:  # of two that read it at once the later might leave the older keys
            self._tried, self._unread = self._clock(), True
            try:
                self._keys = self._read()
                self._unread = False
            except PolicyEngineError as error:
                log.error("jwks.not-read", cause=type(error).__name__)

    def _read(self) -> _Keys:
        if self._path is None:
            raise InputRefused("is no file", where="the key set")
        self._stamp = self._stamped()
        try:
            content = self._path.read_bytes()
            if len(content) > self._limits.jwks_bytes:
                raise InputRefused(f"is longer than {self._limits.jwks_bytes} bytes", where="the key set")
            return _Keys(json.loads(content), self._limits)
        except (OSError, ValueError, RecursionError):
            raise InputRefused("cannot be read", where="the key set") from None

    def _stamped(self) -> object:
        try:
            found = (self._path or Path()).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


class UrlKeys:
    """Keys fetched from one https URL. Nothing is fetched before the first token asks for a key."""

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        limits: Limits = LIMITS,
    ) -> None:
        wrong = InputRefused("must be one https URL without user or fragment", where="the URL of the key set")
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:  # no port, or no address
            raise wrong from None
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
            raise wrong
        self._host = parts.hostname
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = tls
        self._clock = clock
        self._limits = limits
        self._lock = threading.Lock()
        self._keys: _Keys | None = None
        self._fetched = self._tried = -float("inf")

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key of that name for that algorithm, from a set that is not too old."""
        keys = self._keys
        return keys.find(kid, algorithm) if keys is not None and self.is_known() else None

    def is_known(self) -> bool:
        """Return whether a set was fetched, and of late."""
        return self._keys is not None and self._clock() - self._fetched <= self._limits.jwks_stale_seconds

    def is_due(self, kid: str | None) -> bool:
        """Return whether to fetch: the set is old or lacks the key, and the last attempt is long enough ago."""
        now = self._clock()
        if now - self._tried < self._limits.jwks_pause_seconds:
            return False
        return self._keys is None or not self._keys.names(kid) or now - self._fetched > self._limits.jwks_fresh_seconds

    def refresh(self, kid: str | None) -> None:
        """Fetch the set, once for all who wait; what fails leaves the keys as they are, until they are too old."""
        with self._lock:
            if not self.is_due(kid):
                return
            self._tried = self._clock()
            try:
                self._keys = _Keys(json.loads(self._fetch()), self._limits)
                self._fetched = self._tried
            except (OSError, HTTPException, ValueError, RecursionError, PolicyEngineError) as error:
                log.error("jwks.not-fetched", cause=type(error).__name__)

    def _fetch(self) -> bytes:
        """Return what the URL answers. The time is for all of it, however slowly a server trickles."""
        seconds, context = self._limits.jwks_seconds, self._tls or ssl.create_default_context()
        with socket.create_connection((self._host, self._port or HTTPS_PORT), seconds) as plain:
            tls = context.wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False)
            late = threading.Timer(seconds, _shut, (tls,))
            late.daemon = True
            late.start()
            try:
                with tls:
                    tls.do_handshake()
                    status, content = self._asked(tls)
                if late.finished.is_set():
                    raise TimeoutError("the key set did not come in time")
            finally:
                late.cancel()
        if status != 200 or len(content) > self._limits.jwks_bytes:
            raise InputRefused("the key set could not be fetched", where="the URL of the key set")
        return content

    def _asked(self, tls: ssl.SSLSocket) -> tuple[int, bytes]:
        connection = HTTPSConnection(self._host, self._port)
        connection.sock = tls
        connection.request("GET", self._target, headers={"Accept": "application/json"})
        response = connection.getresponse()
        return response.status, response.read(self._limits.jwks_bytes + 1)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def require_extra(where: str) -> None:
    """Raise `StartRefused` where the library of tokens is missing: else the first token would find it out."""
    if find_spec("joserfc") is None:
        raise StartRefused("tokens need the extra `jwt`: pip install 'policy-engine[jwt]'", where=where)


def key_source(jwks: str | Path | Mapping[str, Any], limits: Limits = LIMITS) -> KeySource:
    """Return where keys come from: a mapping, the path of a file, or a text that is one https URL.

    Raises `InputRefused` for another URL and for a pinned set without a key, `StartRefused` without the extra `jwt`.
    """
    require_extra("jwks")
    if isinstance(jwks, str) and "://" in jwks:
        return UrlKeys(jwks, limits=limits)
    return PinnedKeys(jwks, limits)
