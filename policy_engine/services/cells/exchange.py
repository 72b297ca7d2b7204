"""One exchange with another cell, within the bounds of `services.exchange`.

Rules of the room:
- Only the addresses of the file of cells are spoken to. An answer is one JSON object, or nothing is known of it.
- Whatever an answer says is somebody else's word: who believes what of it is left to others, and so is the retry of
  what changes something. Only a question that changes nothing is asked again, on a new connection, once.
Left to others: what is asked (`sending`, `standing`, `peers`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.errors import PolicyEngineError
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.cells.addresses import Cell
from policy_engine.services.exchange import Answer, Peer, PeerSilent


class CellSilent(PolicyEngineError):
    """A cell cannot be reached, took too long, or said what nobody understands: nothing is known of its word."""

    code = "cell.silent"


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """What came back: the status and the members of one JSON object. *Nobody has checked any of it.*"""

    status: int
    document: Mapping[str, Any]


class CellClient:
    """Speaks with one cell, on a connection that is kept. For one thread; `close` may come from another."""

    def __init__(self, cell: Cell, limits: Limits = LIMITS) -> None:
        self.cell = cell
        self._peer = Peer(cell.url, seconds=limits.cell_seconds, bytes_max=limits.cell_answer_bytes)
        self._headers = {"Authorization": f"Bearer {cell.key}", "Accept": "application/json"}

    def get(self, path: str) -> CellAnswer:
        """Ask for a path; once more when a kept connection turns out to be gone. Raises `CellSilent`."""
        try:
            return _read(self._peer.ask("GET", path, self._headers))
        except PeerSilent as silent:
            raise CellSilent(str(silent)) from silent

    def post(self, path: str, body: Mapping[str, Any]) -> CellAnswer:
        """Send a body, once, on a connection of its own. Raises `CellSilent`: then nobody knows what became of it."""
        headers = {**self._headers, "Content-Type": "application/json"}
        try:
            return _read(self._peer.tell("POST", path, headers, json.dumps(body).encode()))
        except PeerSilent as silent:
            raise CellSilent(str(silent)) from silent

    def close(self) -> None:
        """Break off whatever is under way; nothing is asked any more."""
        self._peer.close()


def _read(answer: Answer) -> CellAnswer:
    return CellAnswer(answer.status, _object(answer.body))


def _object(data: bytes) -> Mapping[str, Any]:
    """Return the members of an answer, none of one that is empty. Raises `CellSilent` when it is no JSON object."""
    if not data:
        return {}
    try:
        found = json.loads(data, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CellSilent("its answer is not one JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member is named twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
