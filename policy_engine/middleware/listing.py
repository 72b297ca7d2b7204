"""Listings of models: what the application lists, less what the caller may not use.

Rules of the room: what is shown is what would be allowed if it were asked for now, by the same settings; a listing
grants nothing. An answer that is not understood shows nothing. Each model is asked about with an entry of its own.
Left to others: what the application lists, and whether it serves it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from policy_engine.core.dialects import Refusal
from policy_engine.errors import PolicyEngineError
from policy_engine.limits import Limits
from policy_engine.middleware.bodies import App, Message, Receive, Scope, Send
from policy_engine.middleware.exchange import answer
from policy_engine.middleware.guard import Asked, Guard
from policy_engine.middleware.head import Head

MEMBERS: Mapping[str, tuple[str, ...]] = {"data": ("id",), "models": ("id", "name", "model")}
"""Where listings name models: `data` (OpenAI, Anthropic), `models` (others)."""

UNASKED = frozenset(("accept-encoding", "range", "if-none-match", "if-modified-since", "if-range"))
"""Headers by which a client would get less than the whole listing of the application, or another than it kept."""

_STALE = frozenset(("content-length", "etag", "last-modified", "cache-control", "transfer-encoding"))


class NotUnderstood(PolicyEngineError):
    """The application's listing is not one that can be filtered, so nothing of it is shown."""

    code = "listing.not-understood"

    def __init__(self, message: str) -> None:
        super().__init__(message, where="the listing")


@dataclass(frozen=True, slots=True)
class Listed:
    """An answer to a request for a listing. Names of headers are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


async def answer_listing(guard: Guard, head: Head, app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a listing. Raises what says that it cannot be answered, before anything was sent."""
    asked = guard.asked(head, await guard.subject.identify_async(head))
    listed = await _listed(guard, app, scope, receive)
    models = models_of(listed, guard.limits)
    allowed = await _allowed(guard, asked, models)
    found = shown_to(listed, lambda _: allowed, guard.limits)
    await answer(send, Refusal(found.status, found.headers, found.body), head_only=head.method == "HEAD")


def models_of(listed: Listed, limits: Limits) -> list[str]:
    """Return every name of a model in a listing, none in an error. Raises `NotUnderstood`."""
    if listed.status >= 400:
        return []
    if listed.status != 200:
        raise NotUnderstood("is neither a whole answer nor an error")
    document = _document(listed)
    models = {name for member in MEMBERS for each in _members(document, member) for name in _names(member, each)}
    if len(models) > limits.list_items_count:
        raise NotUnderstood("lists more models than are asked about")
    return sorted(models)


def shown_to(listed: Listed, allowed: Callable[[list[str]], frozenset[str]], limits: Limits) -> Listed:
    """Return the listing with only the models that are allowed, by each name under which it lists one; an error as it
    is. Raises `NotUnderstood`."""
    kept = tuple((name, value) for name, value in listed.headers if name not in _STALE)
    headers = (*kept, ("cache-control", "no-store"))
    if listed.status >= 400:
        return replace(listed, headers=headers)
    own = allowed(models_of(listed, limits))
    document = dict(_document(listed))
    for member in MEMBERS:
        if isinstance(document.get(member), list):
            document[member] = [
                each for each in document[member] if _names(member, each) and _names(member, each) <= own
            ]
    for name, place in (("first_id", 0), ("last_id", -1)):  # Anthropic's paging names what may be hidden
        if name in document:
            left = [each.get("id") for each in _members(document, "data") if isinstance(each, Mapping)]
            document[name] = left[place] if left else None
    return Listed(200, headers, json.dumps(document, separators=(",", ":")).encode("utf-8"))


async def _allowed(guard: Guard, asked: Asked, models: list[str]) -> frozenset[str]:
    """Return those that would be allowed now."""
    found = await asyncio.gather(*(guard.engine.decide_async(**asked.of(guard.resolved(model))) for model in models))
    return frozenset(model for model, decision in zip(models, found, strict=True) if decision.allowed)


async def _listed(guard: Guard, app: App, scope: Scope, receive: Receive) -> Listed:
    """Return what the application lists, taken as a whole and not compressed."""
    taken: list[Message] = []
    length = 0

    async def take(message: Message) -> None:
        nonlocal length
        length += len(message.get("body", b""))
        if length > guard.limits.guarded_listing_bytes:
            raise NotUnderstood("is too long")
        taken.append(message)

    plain = [(name, value) for name, value in scope["headers"] if name.decode("latin-1").lower() not in UNASKED]
    await app({**scope, "method": "GET", "headers": plain}, receive, take)
    if not taken or taken[0]["type"] != "http.response.start" or taken[-1].get("more_body", False):
        raise NotUnderstood("is no whole answer")
    headers = tuple(
        (bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1"))
        for name, value in taken[0].get("headers", ())
    )
    return Listed(taken[0]["status"], headers, b"".join(message.get("body", b"") for message in taken[1:]))


def _document(listed: Listed) -> Mapping[str, Any]:
    if any(name == "content-encoding" and value != "identity" for name, value in listed.headers):
        raise NotUnderstood("is compressed")
    try:
        document = json.loads(listed.body)
    except (ValueError, RecursionError):
        raise NotUnderstood("is no JSON") from None
    if not isinstance(document, dict) or not any(isinstance(document.get(member), list) for member in MEMBERS):
        raise NotUnderstood("names no models where listings do")
    return document


def _members(document: Mapping[str, Any], member: str) -> list[Any]:
    found = document.get(member)
    return found if isinstance(found, list) else []


def _names(member: str, each: Any) -> set[str]:
    """Return every name under which a listing names one model; none where it is not understood."""
    if isinstance(each, str):
        return {each}
    if not isinstance(each, Mapping):
        return set()
    return {each[key] for key in MEMBERS[member] if isinstance(each.get(key), str)}
