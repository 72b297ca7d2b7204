"""What is sent to every cell: a switch to engage, or an order to receive, amend or end; and when it is there already.

Rules of the room:
- An instruction is the same for every cell. What it asks for is checked as far as it can be without a register, before
  the first cell hears of it.
- Each says, of what a cell shows under the id, whether that is what was asked for (then nothing is sent again),
  something else (a conflict, which a person has to look at), or nothing of the kind (then it is sent).
- What another cell shows is somebody else's word: a member of the wrong kind is never what was asked for.
Left to others: sending, counting and naming cells (`sending`); what a cell makes of it (its own services).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final
from urllib.parse import quote

from policy_engine.core.factparse import storable
from policy_engine.core.instants import format_instant, parse_instant
from policy_engine.core.orderparse import parse_switch_scope
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS
from policy_engine.services.orderdocuments import ENDED, IN_FORCE, REVOKED
from policy_engine.services.snapshot import parse_order
from policy_engine.services.vocabulary import require_id

_SWITCHES: Final = "/v1/switches"
_ORDERS: Final = "/v1/orders"
_OVER: Final = frozenset((ENDED, REVOKED))


class There(Enum):
    """What a cell has under the id of an instruction."""

    ASKED_FOR = "what was asked for"
    OTHER = "something else"
    NOTHING = "nothing yet"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One change for every cell: what is posted where, where it can be seen then, and how that is judged.

    `proposed` says of a proposal that waits in a cell, by its kind and payload, whether it is this very change.
    `looks_first`: sending it twice would do it twice, so that a cell is looked at before.
    """

    id: str
    shown_at: str
    sent_to: str
    body: Mapping[str, Any]
    judge: Callable[[Mapping[str, Any]], There]
    proposed: Callable[[str, Mapping[str, Any]], bool] | None = None
    looks_first: bool = False


def engage(
    id: str, scope: Mapping[str, Any], reason: str, *, reference: str = "", until: int | None = None
) -> Instruction:
    """Return the instruction to engage a switch. Raises `InputRefused` for an id, scope or reason that no cell takes.

    A switch of that id that is engaged with the same scope and end is what was asked for, whatever its reason.
    """
    require_id(id, "id", LIMITS)
    _require_words(reason, "--reason")
    named = parse_switch_scope(scope, "scope")
    end = None if until is None else format_instant(until)
    body = {"id": id, "scope": named, "reason": reason, "reference": reference}

    def judge(shown: Mapping[str, Any]) -> There:
        if shown.get("status") != "engaged":
            return There.NOTHING
        same = shown.get("scope") == named and _same_instant(shown.get("until"), end)
        return There.ASKED_FOR if same else There.OTHER

    body |= {} if end is None else {"until": end}
    return Instruction(id, f"{_SWITCHES}/{quote(id, safe='')}", _SWITCHES, body, judge)


def receive(
    kind: str, document: Mapping[str, Any], *, text: str | None = None, reference: str = "", reason: str = ""
) -> Instruction:
    """Return the instruction to receive an order. Raises `InputRefused` for one that cannot mean anything.

    What was asked for is an order in force with the same members; a directive's exemptions may still wait there.
    """
    wanted = _meant(kind, document)
    body = {"kind": kind, **_paper(document, text, reference, reason)}

    def judge(shown: Mapping[str, Any]) -> There:
        held = shown.get("body")
        if shown.get("kind") != kind or shown.get("status") != IN_FORCE or not isinstance(held, Mapping):
            return There.OTHER
        without: dict[str, Any] = {"exempts": []} if kind == "directive" else {}
        return There.ASKED_FOR if _eased(held) in (_eased(wanted), _eased({**wanted, **without})) else There.OTHER

    id = str(wanted["id"])
    proposed = _proposing(wanted, "order.licence", "order.exempt")
    return Instruction(id, _order(id), _ORDERS, body, judge, proposed, looks_first=kind == "licence")


def amend(
    id: str, kind: str, document: Mapping[str, Any], *, text: str | None = None, reference: str = "", reason: str = ""
) -> Instruction:
    """Return the instruction to amend an order. Raises `InputRefused` as `receive`, or for another id within."""
    wanted = _meant(kind, {"id": id, **document})
    if wanted["id"] != id:
        raise InputRefused("is not the id of the order to amend", where="document.id")

    def judge(shown: Mapping[str, Any]) -> There:
        held = shown.get("body")
        if shown.get("kind") != kind or shown.get("status") != IN_FORCE or not isinstance(held, Mapping):
            return There.OTHER
        return There.ASKED_FOR if _eased(held) == _eased(wanted) else There.NOTHING

    body = _paper(wanted, text, reference, reason)
    proposed = _proposing(wanted, "order.amend", "order.exempt")
    return Instruction(id, _order(id), f"{_order(id)}/amend", body, judge, proposed, looks_first=True)


def end(id: str, reason: str) -> Instruction:
    """Return the instruction to end an order. Raises `InputRefused` for an id or reason that no cell takes."""
    require_id(id, "id", LIMITS)
    _require_words(reason, "--reason")

    def judge(shown: Mapping[str, Any]) -> There:
        return There.ASKED_FOR if shown.get("status") in _OVER else There.NOTHING

    def proposed(kind: str, payload: Mapping[str, Any]) -> bool:
        return kind == "order.end" and payload.get("id") == id

    return Instruction(id, _order(id), f"{_order(id)}/end", {"reason": reason}, judge, proposed, looks_first=True)


def _meant(kind: str, document: Mapping[str, Any]) -> Mapping[str, Any]:
    wanted: Mapping[str, Any] = storable(dict(document))
    require_id(wanted.get("id"), "document.id", LIMITS)
    parse_order(kind, wanted["id"], wanted)
    return wanted


def _proposing(wanted: Mapping[str, Any], *kinds: str) -> Callable[[str, Mapping[str, Any]], bool]:
    """Return what recognises a proposal of one of the kinds that would bring exactly this body."""

    def proposed(kind: str, payload: Mapping[str, Any]) -> bool:
        body = payload.get("body")
        return kind in kinds and isinstance(body, Mapping) and _eased(body) == _eased(wanted)

    return proposed


def _order(id: str) -> str:
    return f"{_ORDERS}/{quote(id, safe='')}"


def _paper(document: Mapping[str, Any], text: str | None, reference: str, reason: str) -> dict[str, Any]:
    paper = {"document": dict(document), "reference": reference, "reason": reason}
    return paper if text is None else {**paper, "text": text}


def _eased(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body in which no exemption and an empty list of exemptions are the same."""
    return {name: value for name, value in body.items() if not (name == "exempts" and not value)}


def _same_instant(shown: Any, wanted: str | None) -> bool:
    if shown is None or wanted is None:
        return shown is wanted
    try:
        return isinstance(shown, str) and parse_instant(shown) == parse_instant(wanted)
    except ValueError:
        return False


def _require_words(words: str, where: str) -> None:
    if not words.strip() or len(words) > LIMITS.text_characters:
        raise InputRefused(f"say why, in at most {LIMITS.text_characters} characters", where=where)
