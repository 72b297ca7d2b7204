"""The witnesses that the settings name, and what is asked of each.

Rules of the room:
- Only the addresses of the file are spoken to, by http or https, within the bounds of `exchange`.
- Whatever an answer says is somebody else's word, and believed by `services.witness` only.
Left to others: what is said (`ledger.witnessing`), when, and what follows from it (`services.witness`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from policy_engine.core.tomltext import loads_toml
from policy_engine.errors import PolicyEngineError, StartRefused
from policy_engine.ledger.note import COSIGNATURE, VerifierKey, parse_key
from policy_engine.ledger.refusals import EvidenceRefused
from policy_engine.ledger.witnessing import ADD_CHECKPOINT
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.exchange import Answer, Peer, PeerSilent


class WitnessSilent(PolicyEngineError):
    """A witness cannot be reached, or took too long, or said more than a limit allows: nothing is known of its word."""

    code = "witness.silent"


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """Where a witness is (the prefix of its URL, ending in a slash) and the key by which it is believed."""

    url: str
    key: VerifierKey


def read_witnesses(path: Path, limits: Limits = LIMITS) -> tuple[WitnessAddress, ...]:
    """Return the witnesses of a TOML file: `[[witness]]` tables, each with its `url` and its verifier `key`.

    Raises `StartRefused` with the file and the table: a witness that is misspelt must not go missing in silence.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(limits.document_bytes + 1)
        document = loads_toml(data.decode()) if len(data) <= limits.document_bytes else {}
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
        self._peer = Peer(address.url, seconds=limits.witness_seconds, bytes_max=limits.witness_answer_bytes)

    def submit(self, body: bytes) -> Answer:
        """Post a submission (`ledger.witnessing.write_submission`). Raises `WitnessSilent`."""
        return self._ask("POST", ADD_CHECKPOINT, {"Content-Type": "text/plain; charset=utf-8"}, body)

    def newest(self, origin: str) -> Answer:
        """Ask for the last checkpoint that the witness cosigned of a log. Raises `WitnessSilent`."""
        return self._ask("GET", f"{sha256(origin.encode()).hexdigest()}/checkpoint", {}, None)

    def close(self) -> None:
        """Break off whatever is under way; nothing is asked any more."""
        self._peer.close()

    def _ask(self, method: str, place: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Ask, and once more where a kept connection is gone: to ask a witness twice does no harm."""
        try:
            return self._peer.ask(method, place, headers, body)
        except PeerSilent as silent:
            raise WitnessSilent(str(silent)) from silent
