"""Listings of models: what the application lists, less what the caller may not use.

Rules of the room: what is shown is what would be allowed if it were asked for now, by the same settings; a listing
grants nothing. An answer that is not understood shows nothing. Each model is asked about with an entry of its own.
Left to others: what the application lists, and whether it serves it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from policy_engine.core.dialects import Refusal
from policy_engine.errors import PolicyEngineError
from policy_engine.middleware.bodies import App, Message, Receive, Scope, Send
from policy_engine.middleware.exchange import answer
from policy_engine.middleware.guard import Asked, Guard
from policy_engine.middleware.head import Head

MEMBERS = (("data", "id"), ("models", "id"), ("models", "name"), ("models", "model"))
"""Where listings name models: `data` (OpenAI, Anthropic), `models` (others)."""


class NotUnderstood(PolicyEngineError):
    """The application's listing is not one that can be filtered, so nothing of it is shown."""

    code = "listing.not-understood"


async def answer_listing(guard: Guard, head: Head, app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a listing. Raises what says that it cannot be answered, before anything was sent."""
    subject = await guard.subject.identify_async(head)
    asked = guard.asked(head, subject)
    status, headers, body = await _listed(guard, app, scope, receive)
    if status == 200:
        document = _document(body)
        models = sorted({model for models in _named(document) for model in models})
        allowed = await _allowed(guard, asked, models)
        body = json.dumps(shown(document, allowed), separators=(",", ":")).encode("utf-8")
    kept = tuple((name, value) for name, value in headers if name not in ("content-length", "etag", "cache-control"))
    await answer(send, Refusal(status, (*kept, ("cache-control", "no-store")), b"" if head.method == "HEAD" else body))


def shown(document: Mapping[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    """Return the listing with only the models that are allowed, by each name under which it lists one."""
    found = dict(document)
    for member in ("data", "models"):
        listed = found.get(member)
        if isinstance(listed, list):
            found[member] = [each for each in listed if _names(member, each) and _names(member, each) <= allowed]
    for name, place in (("first_id", 0), ("last_id", -1)):  # Anthropic's paging names what may be hidden
        if name in found:
            listed = found.get("data") or [{}]
            found[name] = listed[place].get("id")
    return found


async def _allowed(guard: Guard, asked: Asked, models: list[str]) -> frozenset[str]:
    """Return those that would be allowed now."""
    if len(models) > guard.limits.list_items_count:
        raise NotUnderstood("lists more models than are asked about", where="the listing")
    found = await asyncio.gather(*(guard.engine.decide_async(**asked.of(guard.resolved(model))) for model in models))
    return frozenset(model for model, decision in zip(models, found, strict=True) if decision.allowed)


async def _listed(guard: Guard, app: App, scope: Scope, receive: Receive) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return what the application lists, taken as a whole and not compressed."""
    taken: list[Message] = []
    length = 0

    async def take(message: Message) -> None:
        nonlocal length
        length += len(message.get("body", b""))
        if length > guard.limits.guarded_listing_bytes:
            raise NotUnderstood("is too long", where="the listing")
        taken.append(message)

    plain = [(name, value) for name, value in scope["headers"] if name.lower() not in (b"accept-encoding", b"range")]
    await app({**scope, "method": "GET", "headers": plain}, receive, take)
    if not taken or taken[0]["type"] != "http.response.start" or taken[-1].get("more_body", False):
        raise NotUnderstood("is no whole answer", where="the listing")
    headers = [(bytes(n).decode("latin-1").lower(), bytes(v).decode("latin-1")) for n, v in taken[0].get("headers", ())]
    if any(name == "content-encoding" and value != "identity" for name, value in headers):
        raise NotUnderstood("is compressed", where="the listing")
    return taken[0]["status"], headers, b"".join(message.get("body", b"") for message in taken[1:])


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise NotUnderstood("is no JSON", where="the listing") from None
    if not isinstance(document, dict) or not any(isinstance(document.get(name), list) for name, _ in MEMBERS):
        raise NotUnderstood("names no models where listings do", where="the listing")
    return document


def _named(document: Mapping[str, Any]) -> list[set[str]]:
    return [
        _names(member, each)
        for member in ("data", "models")
        if isinstance(document.get(member), list)
        for each in document[member]
    ]


def _names(member: str, each: Any) -> set[str]:
    """Return every name under which a listing names one model; none where it is not understood."""
    if isinstance(each, str):
        return {each}
    if not isinstance(each, Mapping):
        return set()
    return {each[key] for place, key in MEMBERS if place == member and isinstance(each.get(key), str)}
