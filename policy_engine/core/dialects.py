"""Denies, refusals and outages in the words of the client that asked: OpenAI, Anthropic, problem details, MCP.

Rules of the room:
- An answer that refuses is never 2xx, and a deny never 409, 429 or 5xx: proxies let the first pass, clients repeat the
  others. Every deny says `x-should-retry: false`. The one exception is asked for: an MCP tool error answers the call
  whose JSON-RPC id is given, with 200 and `isError`.
- A deny that nobody decided (the engine was away) is an outage to the client: 503 with `Retry-After`.
- In the Anthropic dialect a withdrawn or unknown model is 404 `not_found_error`, which makes clients offer another one.
- Nothing that a caller sent is in a body or header; what may be said of the reasons is `wording`'s.
- An end of a stream begins with an empty line, so that it is an event of its own behind whatever was sent.
Left to others: the sentences (`wording`), the classes of reasons (`reasonclasses`), who sends the bytes (the doors).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from policy_engine.core.decision import Decision
from policy_engine.core.reasonclasses import Why
from policy_engine.core.wording import (
    Detail,
    Wording,
    alternatives,
    is_model_wide,
    message,
    shown_reasons,
    status_of,
    told,
)

__all__ = [
    "Detail",
    "Dialect",
    "Refusal",
    "Wording",
    "dialect_of",
    "malformed",
    "message",
    "refusal",
    "stream_end",
    "unauthenticated",
    "unavailable",
]

RETRY_AFTER_SECONDS: Final = 1
PROBLEM_TYPE: Final = "urn:policy-engine:problem:"
_DENIED: Final = Wording()
_AWAY: Final = "The decision service cannot be asked at the moment, so nothing is allowed. Try again later."
_JSON_RPC_DENIED: Final = -32003
_JSON_RPC_AWAY: Final = -32603
_JSON_RPC_MALFORMED: Final = -32600

Pairs = tuple[tuple[str, str], ...]
RpcId = str | int


class Dialect(StrEnum):
    """Whose words an error is in."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    PROBLEM = "problem"
    MCP = "mcp"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A whole answer that lets nothing through. Header names are in lower case; `content-length` is the sender's."""

    status: int
    headers: Pairs
    body: bytes


_OPENAI_CODES: Final[Mapping[Why, str]] = {
    Why.PLACE: "unsupported_country_region_territory",
    Why.WITHDRAWN: "model_suspended",
    Why.FACTS: "facts_missing",
}
_TITLES: Final = {400: "The request is refused", 401: "Not authenticated", 503: "No decision can be made"}


def refusal(
    decision: Decision, dialect: Dialect, wording: Wording = _DENIED, *, rpc_id: RpcId | None = None
) -> Refusal:
    """Return the answer to a denied request. Raises `ValueError` for an allow, which is no refusal.

    `rpc_id` is the id of the MCP call to answer: then the answer is a tool error, and 200, as MCP has it.
    """
    if decision.allowed is True:
        raise ValueError("an allowed decision is no refusal")
    why = told(decision, wording)
    if rpc_id is not None and dialect is Dialect.MCP:
        return Refusal(200, _headers(dialect, decision.id), _bytes(_tool_error(decision, wording, rpc_id)))
    if why is Why.OUTAGE:
        return unavailable(dialect)
    model_wide = dialect is Dialect.ANTHROPIC and is_model_wide(decision, wording)
    status = status_of(decision, wording, 404 if model_wide else 403)
    headers = _headers(dialect, decision.id)
    if status == 451 and wording.blocked_by is not None:
        headers += (("link", f'<{wording.blocked_by}>; rel="blocked-by"'),)
    return Refusal(status, headers, _bytes(_denied(decision, dialect, wording, status)))


def unavailable(dialect: Dialect) -> Refusal:
    """Return the answer while the engine cannot be asked: 503, to be tried again."""
    headers = (*_headers(dialect, "", retried=True), ("retry-after", str(RETRY_AFTER_SECONDS)))
    return Refusal(503, headers, _bytes(_plain(dialect, 503, "engine_unavailable", _AWAY)))


def unauthenticated(dialect: Dialect, detail: str) -> Refusal:
    """Return 401. `detail` is a sentence of ours that says what is missing; it holds nothing that was sent."""
    headers = (*_headers(dialect, ""), ("www-authenticate", "Bearer"))
    return Refusal(401, headers, _bytes(_plain(dialect, 401, "invalid_api_key", detail)))


def malformed(dialect: Dialect, detail: str) -> Refusal:
    """Return 400. `detail` is a sentence of ours that says what is wrong; it holds nothing that was sent."""
    return Refusal(400, _headers(dialect, ""), _bytes(_plain(dialect, 400, "request_refused", detail)))


def stream_end(decision: Decision, dialect: Dialect, wording: Wording = _DENIED) -> bytes:
    """Return the last bytes of a stream of Server-Sent Events whose allow has ended.

    Raises `ValueError` for an allow.
    """
    if decision.allowed is True:
        raise ValueError("an allowed decision ends no stream")
    if told(decision, wording) is Why.OUTAGE:
        body = _plain(dialect, 503, "engine_unavailable", _AWAY)
    else:
        body = _denied(decision, dialect, wording, status_of(decision, wording, 403))
    event = b"" if dialect is Dialect.OPENAI else b"event: message\n" if dialect is Dialect.MCP else b"event: error\n"
    return b"\n\n" + event + b"data: " + _bytes(body) + b"\n\n"


_OPENAI_PATHS: Final = ("/chat/completions", "/completions", "/responses", "/embeddings", "/models", "/moderations")
_OPENAI_PARTS: Final = ("/images/", "/audio/", "/fine_tuning/", "/batches", "/files", "/realtime", "/models/")


def dialect_of(path: str, headers: Mapping[str, str]) -> Dialect:
    """Return whose words a client understands, by what it says and by the path it calls. It decides nothing else."""
    sent = {name.lower(): value for name, value in headers.items()}
    bare = path.partition("?")[0].rstrip("/")
    if "application/problem+json" in sent.get("accept", ""):
        return Dialect.PROBLEM
    if "mcp-protocol-version" in sent or "mcp-session-id" in sent or bare == "/mcp" or bare.endswith("/mcp"):
        return Dialect.MCP
    if "anthropic-version" in sent or bare.endswith(("/v1/messages", "/v1/complete", "/messages/count_tokens")):
        return Dialect.ANTHROPIC
    if bare.endswith(_OPENAI_PATHS) or any(part in bare for part in _OPENAI_PARTS):
        return Dialect.OPENAI
    return Dialect.PROBLEM


def _headers(dialect: Dialect, id: str, *, retried: bool = False) -> Pairs:
    media = "application/problem+json" if dialect is Dialect.PROBLEM else "application/json"
    headers: Pairs = (("content-type", media), ("cache-control", "no-store"))
    if not retried:
        headers += (("x-should-retry", "false"),)
    if id and id.isascii() and id.isprintable():
        headers += (("policy-engine-decision-id", id),)
        headers += (("request-id", id),) if dialect is Dialect.ANTHROPIC else ()
    return headers


def _denied(decision: Decision, dialect: Dialect, wording: Wording, status: int) -> dict[str, Any]:
    """Return the body of a deny."""
    text = message(decision, wording)
    if dialect is Dialect.ANTHROPIC:
        kind = "not_found_error" if is_model_wide(decision, wording) else "permission_error"
        return _anthropic(kind, text, decision.id)
    fields = _fields(decision, wording)
    if dialect is Dialect.OPENAI:
        head = {"message": text, "type": "request_forbidden", "param": "model"}
        return {"error": {**head, **fields}}
    if dialect is Dialect.MCP:
        return {"jsonrpc": "2.0", "id": None, "error": {"code": _JSON_RPC_DENIED, "message": text, "data": fields}}
    named = {"type": f"{PROBLEM_TYPE}denied", "title": "The policy denies this request", "status": status}
    return {**named, "detail": text, **fields, "reasons": shown_reasons(decision, wording)}


def _fields(decision: Decision, wording: Wording) -> dict[str, Any]:
    """Return what every dialect with room for it says beside the sentences."""
    return {
        "code": _OPENAI_CODES.get(told(decision, wording), "model_access_denied"),
        "decision_id": decision.id or None,
        "alternatives": list(alternatives(decision, wording)),
        "docs_url": wording.docs_url,
    }


def _tool_error(decision: Decision, wording: Wording, rpc_id: RpcId) -> dict[str, Any]:
    """Return an MCP tool error: the call was answered, and the answer is that it was not done."""
    fields = {**_fields(decision, wording), "reasons": shown_reasons(decision, wording)}
    text = {"type": "text", "text": message(decision, wording)}
    return {
        "jsonrpc": "2.0",
        "id": rpc_id,
        "result": {"content": [text], "isError": True, "structuredContent": fields},
    }


def _plain(dialect: Dialect, status: int, code: str, detail: str) -> dict[str, Any]:
    """Return the body of an answer that rests on no decision."""
    if dialect is Dialect.ANTHROPIC:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 503: "api_error"}
        return _anthropic(kinds[status], detail, "")
    if dialect is Dialect.OPENAI:
        kind = "server_error" if status == 503 else "invalid_request_error"
        return {"error": {"message": detail, "type": kind, "param": None, "code": code}}
    if dialect is Dialect.MCP:
        number = _JSON_RPC_AWAY if status == 503 else _JSON_RPC_MALFORMED
        return {"jsonrpc": "2.0", "id": None, "error": {"code": number, "message": detail, "data": {"code": code}}}
    named = {"type": PROBLEM_TYPE + code.replace("_", "-"), "title": _TITLES[status], "status": status}
    return {**named, "detail": detail, "code": code}


def _anthropic(kind: str, text: str, id: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": id or None}


def _bytes(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode("ascii")
