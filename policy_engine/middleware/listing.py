"""Listings of models: what the application lists, less what the caller may not use.

Rules of the room:
- What is shown is what would be allowed if it were asked for now, by the same settings; a listing grants nothing.
- All models of a page are asked about together, each with an entry of its own. If any of them could not be decided,
  nothing is shown: an empty listing would say that nothing may be used.
- An answer that is not understood shows nothing.
- No page is shown that clients take for the last one and is not. They go on behind the last model that they are shown,
  so a page of which nothing is left is passed over, and the application asked for the next.
Left to others: what the application lists, and whether it serves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote_plus

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Refusal
from policy_engine.core.questions import Question, request_of
from policy_engine.core.reasonclasses import Why
from policy_engine.core.wording import Wording, told
from policy_engine.errors import InputRefused, PolicyEngineError
from policy_engine.limits import Limits
from policy_engine.middleware.bodies import App, Message, Receive, Scope, Send
from policy_engine.middleware.exchange import answer
from policy_engine.middleware.guard import Asked, Guard
from policy_engine.middleware.head import Head

MEMBERS: Mapping[str, tuple[str, ...]] = {"data": ("id",), "models": ("id", "name", "model")}
"""Where listings name models: `data` (OpenAI, Anthropic), `models` (others)."""

UNASKED = frozenset(("accept-encoding", "range", "if-none-match", "if-modified-since", "if-range"))
"""Headers by which a client would get less than the whole listing of the application, or another than it kept."""

UNSENT = frozenset(("content-length", "content-type", "transfer-encoding"))
"""Headers of a body, which a door that asks for one more page does not send again."""

BEFORE, AFTER = "before_id", "after_id"
"""Where clients say from which model on they want the next page; the page itself says it in the other two."""
FIRST, LAST = "first_id", "last_id"

_STALE = frozenset(("content-length", "etag", "last-modified", "cache-control", "transfer-encoding"))


class NotUnderstood(PolicyEngineError):
    """The application's listing is not one that can be filtered, so nothing of it is shown."""

    code = "listing.not-understood"

    def __init__(self, message: str) -> None:
        super().__init__(message, where="the listing")


class Undecided(PolicyEngineError):
    """Nobody could decide on a model of the listing, so nothing of it is shown."""

    code = "listing.undecided"


@dataclass(frozen=True, slots=True)
class Listed:
    """An answer to a request for a listing. Names of headers are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


async def answer_listing(guard: Guard, head: Head, app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a listing. Raises what says that it cannot be answered, before anything was sent."""
    asked = guard.asked(head, await guard.subject.identify_async(head))
    query: str | None = None
    for _ in range(guard.limits.guarded_listing_pages_count):
        listed = await _listed(guard, app, scope, receive, query)
        questions = questions_of(guard, asked, models_of(listed, guard.limits))
        decisions = await guard.engine.decide_many_async(list(questions.values())) if questions else []
        found = shown_to(listed, allowed_of(questions, decisions, guard.wording))
        query = query_behind(listed, found, head.query if query is None else query)
        if query is None:
            refusal = Refusal(found.status, found.headers, found.body)
            return await answer(send, refusal, head_only=head.method == "HEAD")
    raise pages_exceeded(guard.limits)


def questions_of(guard: Guard, asked: Asked, models: Sequence[str]) -> dict[str, Question]:
    """Return what is to be asked about each model of a listing. One that could not be asked about is none that may be
    used, and left out. Raises `InputRefused` for what is malformed in the caller's own part of the question."""
    questions = {}
    for model in models:
        question = asked.of(guard.resolved(model))
        try:
            request_of(**question)
        except InputRefused as refused:
            if refused.where != "model":
                raise
        else:
            questions[model] = question
    return questions


def allowed_of(questions: Mapping[str, Question], decisions: Sequence[Decision], wording: Wording) -> frozenset[str]:
    """Return the models that are allowed. Raises `Undecided` if nobody could decide on one of them: by the
    same reasons a request for it alone is answered 503."""
    for decision in decisions:
        if not decision.allowed and told(decision, wording) is Why.OUTAGE:
            raise Undecided("holds a model that nobody could decide on", where="the listing")
    return frozenset(model for model, decision in zip(questions, decisions, strict=True) if decision.allowed)


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


def shown_to(listed: Listed, allowed: frozenset[str]) -> Listed:
    """Return the listing with only the models that are allowed, by each name under which it lists one; an error as it
    is. Raises `NotUnderstood`."""
    kept = tuple((name, value) for name, value in listed.headers if name not in _STALE)
    headers = (*kept, ("cache-control", "no-store"))
    if listed.status >= 400:
        return replace(listed, headers=headers)
    document = dict(_document(listed))
    for member in MEMBERS:
        if isinstance(document.get(member), list):
            document[member] = [
                each for each in document[member] if _names(member, each) and _names(member, each) <= allowed
            ]
    for name, place in ((FIRST, 0), (LAST, -1)):  # Anthropic's paging names what may be hidden
        if name in document:
            left = [each if isinstance(each, str) else each["id"] for each in _members(document, "data")]
            document[name] = left[place] if left else None
    return Listed(200, headers, json.dumps(document, separators=(",", ":")).encode("utf-8"))


def query_behind(listed: Listed, shown: Listed, query: str) -> str | None:
    """Return the query of the next page where nothing is left of this one, `None` where it can be shown: there is
    something to go on behind, or nothing more. Raises `NotUnderstood` where the page does not say behind what."""
    if listed.status >= 400:
        return None
    document = _document(listed)
    if not document.keys() & {FIRST, LAST} or document.get("has_more") is False:
        return None
    if _members(_document(shown), "data") or not _members(document, "data"):
        return None
    backwards = any(_name_of(pair) == BEFORE for pair in query.split("&"))
    own, asked = (FIRST, BEFORE) if backwards else (LAST, AFTER)
    place = document.get(own)
    if not isinstance(place, str) or not place:
        if document.get("has_more") is None:  # clients take it for the end
            return None
        raise NotUnderstood("has more, and does not say behind which model")
    kept = [pair for pair in query.split("&") if pair and _name_of(pair) not in (BEFORE, AFTER)]
    behind = "&".join((*kept, f"{asked}={quote(place, safe='')}"))
    if behind == query:
        raise NotUnderstood("has more behind a model, and answers with the same page")
    return behind


def _name_of(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0])


def pages_exceeded(limits: Limits) -> NotUnderstood:
    """Return what says that nothing may be shown of as many pages as are asked for."""
    return NotUnderstood(f"has more than {limits.guarded_listing_pages_count} pages of which nothing may be shown")


async def _listed(guard: Guard, app: App, scope: Scope, receive: Receive, query: str | None) -> Listed:
    """Return what the application lists, taken as a whole and not compressed; for a query of ours without the body that
    the client may have sent."""
    taken = _Taken(guard.limits)
    left_out = UNASKED if query is None else UNASKED | UNSENT
    plain = [(name, value) for name, value in scope["headers"] if name.decode("latin-1").lower() not in left_out]
    asking = {**scope, "method": "GET", "headers": plain}
    if query is None:
        await app(asking, receive, taken.take)
    else:
        await app({**asking, "query_string": query.encode("latin-1")}, _nothing_then(receive), taken.take)
    return taken.whole()


class _Taken:
    """An answer of the application, taken in as it comes. Nothing is kept of a message but what it says: an application
    may use one mapping for all of them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._begun: tuple[int, tuple[tuple[str, str], ...]] | None = None
        self._pieces: list[bytes] = []
        self._length = 0
        self._complete = False

    async def take(self, message: Message) -> None:
        """Take a message in. Raises `NotUnderstood` when it becomes too long."""
        if message["type"] == "http.response.start":
            headers = ((bytes(name), bytes(value)) for name, value in message.get("headers", ()))
            kept = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
            self._begun = message["status"], kept
        elif message["type"] == "http.response.body":
            self._pieces.append(message.get("body", b""))
            self._length += len(self._pieces[-1])
            self._complete = not message.get("more_body", False)
        if self._length > self._limits.guarded_listing_bytes:
            raise NotUnderstood("is too long")

    def whole(self) -> Listed:
        """Return the answer. Raises `NotUnderstood` for one that was not ended."""
        if self._begun is None or not self._complete:
            raise NotUnderstood("is no whole answer")
        return Listed(*self._begun, b"".join(self._pieces))


def _nothing_then(receive: Receive) -> Receive:
    """Return what receives a request without a body, and then whether the client is still there."""
    sent = False

    async def received() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return received


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
