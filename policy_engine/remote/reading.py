"""Bytes of a server into decisions; what cannot be read allows nothing.

Rules of the room:
- One strict JSON object: no duplicate names, no NaN, no deep nesting. A member of a wrong type makes the whole answer
  unreadable: an answer that is half understood is not acted on.
- An allow needs its id, its release, its epoch and a budget that an engine may give. A deny needs none of them. An
  item that the service could not take is neither: nobody decided.
- Texts are bounded, and free of control characters where they may reach a header or a log.
Left to others: getting the bytes (`exchange`), whether there was time (`engine`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from policy_engine.client.permission import BUDGET_MILLISECONDS_MAX
from policy_engine.core.decision import Decision, Reason, Request
from policy_engine.limits import LIMITS

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_EPOCH_MAX: Final = 2**63 - 1


class Unreadable(Exception):
    """The bytes are no answer."""


def read_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that the bytes are. Raises `Unreadable`."""
    try:
        body = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Unreadable from None
    if type(body) is not dict:
        raise Unreadable
    return body


def read_decision(body: Any, asked: Request) -> Decision:
    """Return the decision of one AuthZEN answer with its context. Raises `Unreadable`."""
    answer = _mapping(body)
    allowed, context = answer.get("decision"), _mapping(answer.get("context"))
    if type(allowed) is not bool:
        raise Unreadable
    id, release = _text(context.get("id", "")), _text(context.get("release", ""))
    epoch = _count(context.get("epoch", 0), _EPOCH_MAX)
    budget = _count(context.get("valid_for_ms", None if allowed else 0), BUDGET_MILLISECONDS_MAX)
    if not allowed and "error" in context:
        raise Unreadable
    if allowed and not (id and release and "epoch" in context):
        raise Unreadable
    receipt = context.get("receipt")
    return Decision(
        allowed=allowed,
        id=id,
        reasons=tuple(_reason(each) for each in _list(context.get("reasons", []))),
        missing=_texts(context.get("missing", [])),
        alternatives=_texts(context.get("alternatives", [])),
        release=release,
        epoch=epoch,
        valid_for_ms=budget,
        message=_sentence(context.get("message", "")),
        proof=_receipt(receipt) if allowed and receipt is not None else None,
        asked=asked,
    )


def read_decisions(body: Mapping[str, Any], asked: Sequence[Request]) -> list[Decision | None]:
    """Return the decision of each item of a batch, `None` for one that cannot be read. Raises `Unreadable`.

    An answer with another number of items than were asked is none: nothing says which is whose.
    """
    items = _list(body.get("evaluations"), LIMITS.evaluations_count)
    if len(items) != len(asked):
        raise Unreadable
    found: list[Decision | None] = []
    for item, request in zip(items, asked, strict=True):
        try:
            found.append(read_decision(item, request))
        except Unreadable:
            found.append(None)
    return found


def read_page(body: Mapping[str, Any], member: str) -> tuple[list[str], str, bool]:
    """Return the ids of one page of a search, the token of the next one, and whether the listing can be complete."""
    ids = [_text(_mapping(each).get(member)) for each in _list(body.get("results"), LIMITS.search_candidates_count)]
    page = _mapping(body.get("page", {}))
    token = page.get("next_token", "")
    if type(token) is not str or len(token) > LIMITS.text_characters * 4 or not all(ids):
        raise Unreadable
    return ids, token, _mapping(page.get("properties", {})).get("complete", True) is True


def _reason(value: Any) -> Reason:
    members = _mapping(value)
    code = _text(members.get("code"))
    if not code:
        raise Unreadable
    return Reason(
        code=code,
        rule=_optional(members.get("rule")),
        message=_sentence(members.get("message", "")),
        authority=_optional(members.get("authority")),
        rule_id=_optional(members.get("rule_id")),
        orders=_texts(members.get("orders", [])),
    )


def _receipt(receipt: Any) -> Callable[[], Mapping[str, Any]]:
    found = _mapping(receipt)
    return lambda: found


def _mapping(value: Any) -> Mapping[str, Any]:
    if type(value) is not dict:
        raise Unreadable
    return value


def _list(value: Any, count_max: int = LIMITS.list_items_count) -> list[Any]:
    if type(value) is not list or len(value) > count_max:
        raise Unreadable
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(each) for each in _list(value))


def _text(value: Any) -> str:
    """Return a short text in one line."""
    if type(value) is not str or len(value) > LIMITS.text_characters or _CONTROL.search(value):
        raise Unreadable
    return value


def _sentence(value: Any) -> str:
    if type(value) is not str or len(value) > LIMITS.text_characters * 4 or _CONTROL.search(value):
        raise Unreadable
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise Unreadable
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; one that says a name twice says nothing."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError("not a JSON number")
