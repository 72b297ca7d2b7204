"""The witnesses that the settings name, and one HTTP exchange with each: bounded in time and size, no redirects.

Rules of the room:
- Only the addresses of the file are spoken to, by http or https; a proxy of the environment is not asked, a redirect is
  an answer like any other that is not understood. https checks the certificate against the system's authorities.
- Whatever an answer says is somebody else's word: it is read up to a limit, and believed by `services.witness` only.
- A timer ends what takes too long, however it trickles.
Left to others: what is said (`ledger.witnessing`), when, and what follows from it (`services.witness`).
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from policy_engine.errors import PolicyEngineError, StartRefused
from policy_engine.ledger.note import COSIGNATURE, VerifierKey, parse_key
from policy_engine.ledger.refusals import EvidenceRefused
from policy_engine.ledger.witnessing import ADD_CHECKPOINT
from policy_engine.limits import LIMITS, Limits

CLOSING_SECONDS = 0.1
"""How long closing waits for a question under way, which has just been broken off."""


class WitnessSilent(PolicyEngineError):
    """A witness cannot be reached, or took too long, or said more than a limit allows: nothing is known of its word."""

    code = "witness.silent"


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """Where a witness is (the prefix of its URL, ending in a slash) and the key by which it is believed."""

    url: str
    key: VerifierKey


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """What came back: *nobody has checked any of it*."""

    status: int
    type: str
    body: bytes


def read_witnesses(path: Path, limits: Limits = LIMITS) -> tuple[WitnessAddress, ...]:
    """Return the witnesses of a TOML file: `[[witness]]` tables, each with its `url` and its verifier `key`.

    Raises `StartRefused` with the file and the table: a witness that is misspelt must not go missing in silence.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(limits.document_bytes + 1)
        document = tomllib.loads(data.decode()) if len(data) <= limits.document_bytes else {}
    except (OSError, ValueError):
        raise StartRefused("the file of witnesses cannot be read as TOML", where=where) from None
    tables = document.get("witness")
    if set(document) != {"witness"} or not isinstance(tables, list) or not tables:
        raise StartRefused(
            "the file of witnesses holds [[witness]] tables, at least one, and nothing else", where=where
        )
    if len(tables) > limits.witnesses_count:
        raise StartRefused(f"the file names more than {limits.witnesses_count} witnesses", where=where)
    found = tuple(_address(table, f"{where}: witness {number}") for number, table in enumerate(tables, start=1))
    if len({address.key.name for address in found}) < len(found):
        raise StartRefused("two witnesses of the file have one name", where=where)
    return found


def _address(table: Any, where: str) -> WitnessAddress:
    if (
        not isinstance(table, dict)
        or set(table) != {"url", "key"}
        or not all(type(each) is str for each in table.values())
    ):
        raise StartRefused("a witness has a `url` and a `key`, both text, and nothing else", where=where)
    try:
        parts = urlsplit(table["url"])
        valid = parts.port is None or parts.port > 0
    except ValueError:
        valid = False
    if not valid or parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise StartRefused("the url of a witness is http or https with a host and without a user", where=where)
    if parts.query or parts.fragment or not table["url"].isascii() or not table["url"].isprintable():
        raise StartRefused("the url of a witness is a plain prefix without query or fragment", where=where)
    try:
        key = parse_key(table["key"])
    except EvidenceRefused as refused:
        raise StartRefused(str(refused), where=where) from None
    if key.algorithm != COSIGNATURE:
        raise StartRefused("the key of a witness is a cosigner's (type 4)", where=where)
    return WitnessAddress(table["url"].rstrip("/") + "/", key)


class WitnessClient:
    """Speaks with one witness, on a connection that is kept. For one thread; `close` may come from another."""

    def __init__(self, address: WitnessAddress, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._parts = urlsplit(address.url)
        self._connection: http.client.HTTPConnection | None = None
        self._closed = False
        self._asking = threading.Lock()

    def submit(self, body: bytes) -> WitnessAnswer:
        """Post a submission (`ledger.witnessing.write_submission`). Raises `WitnessSilent`."""
        return self._exchange("POST", ADD_CHECKPOINT, body)

    def newest(self, origin: str) -> WitnessAnswer:
        """Ask for the last checkpoint that the witness cosigned of a log. Raises `WitnessSilent`."""
        return self._exchange("GET", f"{sha256(origin.encode()).hexdigest()}/checkpoint", None)

    def close(self) -> None:
        """Break off whatever is under way; nothing is asked any more."""
        self._closed = True
        connection = self._connection
        _shut(None if connection is None else connection.sock)
        if self._asking.acquire(timeout=CLOSING_SECONDS):
            self._drop()
            self._asking.release()

    def _exchange(self, method: str, place: str, body: bytes | None) -> WitnessAnswer:
        """Ask, and once more on a new connection when a kept one turns out to be gone: asking twice does no harm."""
        with self._asking:
            kept = self._connection is not None and self._connection.sock is not None
            try:
                return self._ask(method, place, body)
            except _Gone:
                if not kept:
                    raise
            return self._ask(method, place, body)

    def _ask(self, method: str, place: str, body: bytes | None) -> WitnessAnswer:
        if self._closed:
            raise WitnessSilent("the engine is closing")
        until = time.monotonic() + self._limits.witness_seconds
        try:
            connection = self._connection = self._connection or self._connect()
            if connection.sock is None:
                connection.connect()
            watch = threading.Timer(max(0.0, until - time.monotonic()), _shut, (connection.sock,))
            watch.daemon = True
            watch.start()
            try:
                return self._read(connection, method, place, body, until)
            finally:
                watch.cancel()
        except WitnessSilent:
            self._drop()
            raise
        except (OSError, http.client.HTTPException, UnicodeError) as failed:
            self._drop()
            gone = isinstance(failed, (ConnectionError, http.client.BadStatusLine)) and time.monotonic() < until
            raise (_Gone if gone else WitnessSilent)("it cannot be reached, or does not answer in time") from failed

    def _read(
        self, connection: http.client.HTTPConnection, method: str, place: str, body: bytes | None, until: float
    ) -> WitnessAnswer:
        headers = {"Content-Type": "text/plain; charset=utf-8"} if body else {}
        connection.request(method, self._parts.path + place, body, headers)
        response = connection.getresponse()
        answer = response.read(self._limits.witness_answer_bytes + 1)
        if len(answer) > self._limits.witness_answer_bytes:
            raise WitnessSilent(f"it answers with over {self._limits.witness_answer_bytes} bytes")
        if response.length or time.monotonic() >= until:  # it ended early, or the timer ended it
            raise WitnessSilent("its answer is not whole, or does not come in time")
        if not response.isclosed():  # there may be more, which would be taken for the next answer
            self._drop()
        return WitnessAnswer(response.status, response.headers.get("Content-Type", ""), answer)

    def _connect(self) -> http.client.HTTPConnection:
        host, port, seconds = self._parts.hostname or "", self._parts.port, self._limits.witness_seconds
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=seconds)

    def _drop(self) -> None:
        """Close the connection: the next question opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Gone(WitnessSilent):
    """The other side closed the connection before it answered."""


def _shut(sock: socket.socket | None) -> None:
    """Wake a thread that waits on a socket: what it waits for ends now."""
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
