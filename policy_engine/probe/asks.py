"""Requests as data: what a check sends, and the bodies in which the well-known interfaces take a model's name.

Rules of the room: pure. Every body asks for the least that there is: one short word, one token. Nothing is normalised.
Left to others: which requests a check makes (`names`, `routes`, `bodies`, `headers`, ...), sending them (`sender`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

PROMPT: Final = "probe"
CHAT: Final = "/v1/chat/completions"
MESSAGES: Final = "/v1/messages"
_UNRESERVED: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
JSON_TYPE: Final = ("Content-Type", "application/json")

Headers = tuple[tuple[str, str], ...]


class Bearer(Enum):
    """Whose credential a request carries."""

    OWN = 1
    NOBODY = 2


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `sent` says in a few words what is odd about it; `pieces` sends the body in chunks."""

    sent: str
    path: str
    body: bytes = b""
    method: str = "POST"
    headers: Headers = (JSON_TYPE,)
    bearer: Bearer = Bearer.OWN
    pieces: tuple[bytes, ...] = ()
    timeout_seconds: float | None = None

    def with_headers(self, *more: tuple[str, str]) -> Ask:
        """Return the same request with further headers."""
        return replace(self, headers=(*self.headers, *more))


@dataclass(frozen=True, slots=True)
class Form:
    """How the plain question is put to this gateway: its path, its headers, and the member that bounds the answer."""

    dialect: str
    path: str
    tokens_member: str = "max_tokens"
    tokens: int = 1
    headers: Headers = (JSON_TYPE,)

    def document(self, model: str) -> dict[str, Any]:
        """Return the plain question about a model."""
        chat = {"messages": [{"role": "user", "content": PROMPT}], self.tokens_member: self.tokens}
        return {"model": model, **chat}

    def rest(self) -> dict[str, Any]:
        """Return the members of the plain question but the model."""
        return {name: value for name, value in self.document("").items() if name != "model"}

    def ask(self, model: str, sent: str, **changed: Any) -> Ask:
        """Return the plain question, with further or other members of its body."""
        return self.raw(encoded({**self.document(model), **changed}), sent)

    def raw(self, body: bytes, sent: str) -> Ask:
        """Return a question with a body that is made elsewhere."""
        return Ask(sent, self.path, body, headers=self.headers)

    def spelled(self, model: str) -> bytes:
        """Return the body with the text of the model's name as it stands in JSON, between quotes or without."""
        return b'{"model":' + model.encode() + b"," + encoded(self.rest())[1:]


OPENAI: Final = Form("openai", CHAT)
OPENAI_NEWER: Final = Form("openai", CHAT, "max_completion_tokens", 16)
ANTHROPIC: Final = Form("anthropic", MESSAGES, headers=(JSON_TYPE, ("anthropic-version", "2023-06-01")))
FORMS: Final = (OPENAI, ANTHROPIC, OPENAI_NEWER)


def encoded(document: Any) -> bytes:
    """Return a document as compact JSON; characters beyond ASCII stay themselves."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def encoded_part(text: str) -> str:
    """Return a text as one segment of a path."""
    marks = (chr(byte) if chr(byte) in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())
    return "".join(marks)


def forms_of(dialect: str) -> Iterable[Form]:
    """Return the forms of the plain question that a dialect has, the usual one first."""
    return [form for form in FORMS if dialect in ("auto", form.dialect)]


def to_bytes(ask: Ask, authority: str, prefix: str, marks: Headers) -> bytes:
    """Return a request as it goes over the wire."""
    target = ask.path if ask.path.startswith("http") or ask.path == "*" else prefix + ask.path
    lines = [f"{ask.method} {target} HTTP/1.1", f"Host: {authority}"]
    given = {name.lower() for name, _ in ask.headers}
    lines += [f"{name}: {value}" for name, value in (*marks, *ask.headers)]
    if "connection" not in given:
        lines.append("Connection: close")
    if ask.pieces:
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in ask.pieces) + b"0\r\n\r\n"
    else:
        body = ask.body
        if body or ask.method == "POST":
            lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body
