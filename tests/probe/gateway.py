"""A gateway with holes, made for the tests: strict in everything but what its holes name.

Without one it refuses whatever it does not understand. Each hole is a fault that gateways are known to have; it bears
the name of the check that must find it; a further way to the same check stands behind a slash. `styles` are what good
gateways differ in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.probe.tokens import signature, unpacked
from tests.probe.upstream import Upstream, document_of, path_of, place_of, whole

ALLOWED, FORBIDDEN, ALIAS, DERIVATIVE, FAILING, DEFAULT = (
    "open-1",
    "fable-5",
    "fable-latest",
    "fable-5-tuned",
    "down-1",
    "",
)
MODELS = {ALLOWED: ALLOWED, FORBIDDEN: FORBIDDEN, ALIAS: FORBIDDEN, DERIVATIVE: DERIVATIVE, FAILING: FAILING}
MODEL_PATHS = frozenset({"/v1/chat/completions", "/v1/messages", "/v1/completions", "/v1/embeddings", "/v1/responses"})
BODY_BYTES = 65_536
LARGE_BYTES = 1_048_576
EDGE = ((b"access-control-allow-origin", b"*"), (b"strict-transport-security", b"max-age=1"), (b"via", b"1.1 edge"))
CACHE_SECONDS = 30.0


@dataclass(frozen=True)
class Seen:
    """A request as the gateway sees it."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    chunked: bool

    @property
    def text(self) -> str:
        """Return the body as text, as far as it is one."""
        return self.body.decode("utf-8", "replace")

    @property
    def kind(self) -> str:
        """Return what the body says it is."""
        return self.headers.get("content-type", "")

    @property
    def loose(self) -> Mapping[str, Any]:
        """Return the body as a lenient reader takes it."""
        return document_of(self.headers, self.body)

    @property
    def names(self) -> list[Any]:
        """Return the values of the members that a reader without case takes for the model."""
        return [value for name, value in self.loose.items() if name.lower() == "model"]


def _spelled(seen: Seen, kind: Callable[[str], bool]) -> bool:
    """Say whether a name that is no entry of the catalogue is of a kind, and nothing else is odd about the request."""
    name = seen.loose.get("model")
    return isinstance(name, str) and name not in MODELS and kind(name)


def _unread(seen: Seen, window: int, models: int) -> bool:
    """Say whether a body is longer than what is read of it, and no longer than what is taken."""
    return window < len(seen.body) <= LARGE_BYTES and seen.text.count('"model"') == models


def _place(seen: Seen, *places: str) -> bool:
    return seen.method == "POST" and place_of(seen.path) in places


def _same_place(seen: Seen, odd: Callable[[str], bool]) -> bool:
    """Say whether a path is odd in one way and leads where the plain question is asked."""
    return seen.method == "POST" and odd(seen.path) and place_of(seen.path) == "/v1/chat/completions"


OPENED = {"plain": FORBIDDEN, "alias": ALIAS, "derivative": DERIVATIVE}
HEAD_WORDS = ("decision", "allowed", "authz", "envoy", "authorized", "internal", "guardrails", "policy-engine-model")
PASSES: dict[str, Callable[[Seen], bool]] = {
    # What a gateway with the hole sends on without a decision.
    "streaming": lambda seen: bool(seen.loose.get("stream")),
    "name-case": lambda seen: _spelled(seen, lambda name: name.lower() in MODELS),
    "name-space": lambda seen: _spelled(seen, lambda name: name.strip(" \t\n\0") in MODELS),
    "name-unicode": lambda seen: _spelled(seen, lambda name: not name.isascii()),
    "name-prefix": lambda seen: _spelled(seen, lambda name: "/" in name or ":" in name or "@" in name),
    "name-escaped": lambda seen: '"\\u' in seen.text and seen.text.count("odel") == 1,
    "name-shape": lambda seen: isinstance(seen.loose.get("model"), (list, dict)),
    "name-missing": lambda seen: _place(seen, "/v1/chat/completions") and seen.names in ([], [""], [None]),
    "name-missing/models": lambda seen: not seen.names and FORBIDDEN in seen.loose.get("models", ()),
    "decision-headers": lambda seen: any(word in name for word in HEAD_WORDS for name in seen.headers),
    "rewrite-headers": lambda seen: any(value in ("/healthz", "OPTIONS") for value in seen.headers.values()),
    "rewrite-headers/health": lambda seen: seen.path == "/healthz" and "x-original-url" in seen.headers,
    "escaped-key": lambda seen: "u006dodel" in seen.text or "mod\\u0065l" in seen.text,
    "key-case": lambda seen: len(seen.names) == 2,
    "nested-model": lambda seen: any(isinstance(value, dict) and "model" in value for value in seen.loose.values()),
    "second-document": lambda seen: '}{"model"' in seen.text or '}\n{"model"' in seen.text,
    "late-model": lambda seen: len(seen.body) > BODY_BYTES and seen.text.count('"model"') == 1,
    "late-model/128-kib": lambda seen: _unread(seen, 131_072, 1),
    "late-model/512-kib": lambda seen: _unread(seen, 524_288, 1),
    "late-duplicate": lambda seen: len(seen.body) > BODY_BYTES and seen.text.count('"model"') == 2,
    "late-duplicate/128-kib": lambda seen: _unread(seen, 131_072, 2),
    "compressed": lambda seen: "content-encoding" in seen.headers,
    "chunked": lambda seen: seen.chunked,
    "multipart": lambda seen: "multipart" in seen.kind,
    "encoding": lambda seen: "charset" in seen.kind or seen.body[:3] == b"\xef\xbb\xbf" or b"\xff\xfe" in seen.body,
    "content-type": lambda seen: "json" not in seen.kind and "multipart" not in seen.kind and bool(seen.body),
    "options": lambda seen: seen.method == "OPTIONS",
    "head": lambda seen: seen.method == "HEAD",
    "methods": lambda seen: seen.method not in ("POST", "OPTIONS", "HEAD") and place_of(seen.path) in MODEL_PATHS,
    "route-chat": lambda seen: _place(seen, "/chat/completions"),
    "route-messages": lambda seen: _place(seen, "/v1/messages", "/messages"),
    "route-responses": lambda seen: _place(seen, "/v1/responses"),
    "route-completions": lambda seen: _place(seen, "/v1/completions"),
    "route-embeddings": lambda seen: _place(seen, "/v1/embeddings"),
    "route-invocations": lambda seen: _place(seen, "/invocations"),
    "route-deployments": lambda seen: "/openai/deployments/" in seen.path,
    "route-native": lambda seen: _place(seen, "/api/chat", "/api/generate"),
    "path-slash": lambda seen: _same_place(seen, lambda path: path.endswith("/") or "//" in path or "\\" in path),
    "path-dots": lambda seen: _same_place(seen, lambda path: "/./" in path or "/.." in path or "%2e" in path),
    "path-encoded": lambda seen: _same_place(seen, lambda path: "%" in path.replace("%00", "").replace("%2e", "")),
    "path-case": lambda seen: _same_place(seen, lambda path: path != path.lower()),
    "path-form": lambda seen: _same_place(seen, lambda path: path.endswith((";x=1", "%00", ".css"))),
}  # fmt: skip


@dataclass
class Gateway:
    """A raw ASGI application that stands before an upstream. `holes` name what it does wrong."""

    upstream: Upstream
    holes: frozenset[str] = frozenset()
    styles: frozenset[str] = frozenset()
    up: bool = True
    switched: dict[str, float] = field(default_factory=dict)
    cached: dict[str, float] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, refuse or hand on."""
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await self._live(scope, receive, send)
            return
        seen = await _seen(scope, receive)
        send = _edged(send) if "edge" in self.styles else send
        if seen.path == "/engine/v1/switches":
            await self._switch(seen, send)
        elif any(PASSES[hole](seen) for hole in self.holes & PASSES.keys()) and self._who(seen) is not None:
            await self.upstream.answer(scope, seen.body, send)
        elif not await self._styled(seen, send):
            await self._guarded(scope, seen, send)

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse a WebSocket; with a hole, or where they are this gateway's style, let some through."""
        (model,) = parse_qs(scope["query_string"].decode()).get("model", [""])
        late = {"websocket/message-alone": "", "websocket/message-beside": ALLOWED}
        if "websocket" in self.holes or any(model == late[hole] for hole in self.holes & late.keys()):
            await self.upstream(scope, receive, send)
        elif "live" in self.styles and model == ALLOWED:
            await self.upstream(scope, _heeded(receive, send), send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _styled(self, seen: Seen, send: Any) -> bool:
        """Answer what is answered without the upstream, by this gateway's styles; say whether it was."""
        if "health" in self.styles and seen.path == "/healthz":
            await whole(send, 200, {"status": "ok", "seconds": time.monotonic()})
        elif "edge" in self.styles and seen.method == "OPTIONS":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif "site" in self.styles and seen.method == "GET" and seen.path == "/models":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            await send({"type": "http.response.body", "body": b"<html>Our models</html>"})
        else:
            return False
        return True

    async def _switch(self, seen: Seen, send: Any) -> None:
        """Engage a switch, as the engine does."""
        if seen.headers.get("authorization") != "Bearer pe_operator":
            await refused(send, 403)
            return
        for model in json.loads(seen.body)["scope"]["models"]:
            self.switched[model] = time.monotonic()
        await whole(send, 201, {"id": "probe", "status": "done"})

    async def _guarded(self, scope: Any, seen: Seen, send: Any) -> None:
        who = self._who(seen)
        if self._is_shown(seen, who):
            await self.upstream.listing("/v1/models" if seen.path == "/models" else seen.path, send)
        elif who is None:
            await refused(send, 401)
        elif seen.path.startswith("/v1/models") and seen.method == "GET":
            await self._listing(scope, seen, send)
        elif seen.method != "POST" or seen.path not in MODEL_PATHS:
            await refused(send, 404)
        else:
            model = self._model(seen)
            status = self._status(who, model, seen)
            if status != 200:
                await refused(send, status)
            else:
                await self._sent_on(scope, seen, model, send)

    def _is_shown(self, seen: Seen, who: str | None) -> bool:
        """Say whether a hole shows all models at a path, to strangers or to callers."""
        to_strangers = {"/v1/models": "listing/strangers", f"/v1/models/{FORBIDDEN}": "listing-one/strangers"}
        to_callers = {"/models": "listing/short-path", "/v1/models/": "listing/slash"}
        return seen.method == "GET" and (to_callers if who else to_strangers).get(seen.path) in self.holes

    def _who(self, seen: Seen) -> str | None:
        """Return whom a request is from, `None` for nobody."""
        if "identity-headers" in self.holes and "x-forwarded-user" in seen.headers:
            return seen.headers["x-forwarded-user"]
        key = seen.headers.get("x-api-key")
        given = seen.headers.get("authorization") or key or ""
        if not given and ("no-credentials" in self.holes or self._is_open(seen)):
            return "alice"
        if key in ("", "null", "undefined") and "no-credentials/empty-key" in self.holes:
            return "alice"
        parts = given.removeprefix("Bearer ").split(".")
        try:
            head, claims = json.loads(unpacked(parts[0])), json.loads(unpacked(parts[1]))
        except (ValueError, IndexError):
            return None
        unsigned = "jwt-unsigned" in self.holes and str(head["alg"]).lower() == "none"
        changed = "jwt-changed" in self.holes and head["alg"] == "HS256" and bool(parts[2])
        signed = head["alg"] == "HS256" and parts[2] == signature(f"{parts[0]}.{parts[1]}")
        living = claims["exp"] > time.time() or "expired-credential" in self.holes
        ours = claims["aud"] == "gateway" or "foreign-credentials" in self.holes
        return str(claims["sub"]) if (signed or unsigned or changed) and living and ours else None

    def _is_open(self, seen: Seen) -> bool:
        return "no-credentials/route" in self.holes and seen.path == "/v1/messages"

    def _model(self, seen: Seen) -> str:
        """Return the one model of a strict body, empty where there is none that is beyond doubt."""
        strict = seen.kind == "application/json" and "content-encoding" not in seen.headers and "=" not in seen.query
        if not strict or len(seen.body) > BODY_BYTES or seen.body[:3] == b"\xef\xbb\xbf":
            return ""
        try:
            members = json.loads(seen.body.decode(), object_pairs_hook=list)
        except ValueError:
            return ""
        names = [value for name, value in members if name.lower() == "model"] if isinstance(members, list) else []
        if "body-model" in self.holes and "x-model" in seen.headers:
            return seen.headers["x-model"]
        if "duplicate-key" in self.holes and seen.text.count('"model"') == len(names) == 2:
            return str(names[0])
        return names[0] if len(names) == 1 and isinstance(names[0], str) else ""

    def _status(self, who: str, model: str, seen: Seen) -> int:
        """Return the decision as a status."""
        if not self.up:
            return 200 if "authorizer-down" in self.holes else 503
        if model in self.switched and not ("stale-answer" in self.holes and model in self.cached):
            return 403
        usable = {ALLOWED, FAILING, *(OPENED[hole] for hole in self.holes & OPENED.keys())}
        if who == "admin":
            usable.add(FORBIDDEN)
        if model in usable:
            self.cached[model] = time.monotonic()
            return 200
        return 403 if model else 400

    async def _sent_on(self, scope: Any, seen: Seen, model: str, send: Any) -> None:
        """Hand a request on, with its own model and nothing that the caller says beside it."""
        kept = (b"content-type", b"x-model") if "header-model" in self.holes else (b"content-type",)
        if "body-model" in self.holes:
            kept = (b"content-type",)
        headers = [(name, value) for name, value in scope["headers"] if name in kept]
        clean = {**scope, "headers": headers, "query_string": b""}
        late = self.holes & {"body-model", "duplicate-key"}
        body = _clean(seen.loose, str(seen.loose["model"]) if late else model)
        if "fallback-asked" in self.holes and seen.loose.get("fallbacks") == [FORBIDDEN]:
            body = _clean(seen.loose, FORBIDDEN)
        if any(_falls_back(hole, seen.loose) or _merges(hole, seen) for hole in self.holes):
            body = _clean(seen.loose, FORBIDDEN)
        if "fallback-forced" in self.holes and model == FAILING:
            body = _clean(seen.loose, FORBIDDEN)
        cut = seen.loose.get("stream") and "stream-cut" not in self.holes
        await self.upstream.answer(clean, body, self._cut(model, send) if cut else send)

    def _cut(self, model: str, send: Any) -> Any:
        """Return a `send` that ends a stream once its model is switched."""
        ended = False

        async def guarded(event: Any) -> None:
            nonlocal ended
            if ended:
                return
            if model in self.switched and event["type"] == "http.response.body":
                ended = True
                error = {"error": {"message": "withdrawn", "type": "request_forbidden", "code": "model_suspended"}}
                event = {"type": "http.response.body", "body": b"data: %b\n\n" % json.dumps(error).encode()}
            await send(event)

        return guarded

    async def _listing(self, scope: Any, seen: Seen, send: Any) -> None:
        """Show what may be used; with a hole, what there is."""
        one = seen.path.removeprefix("/v1/models").strip("/")
        if ("listing" in self.holes and not one) or ("listing-one" in self.holes and one):
            await self.upstream.answer(scope, b"", send)
        elif one:
            await whole(send, 200, {"id": one, "object": "model"}) if one == ALLOWED else await refused(send, 404)
        else:
            await whole(send, 200, {"object": "list", "data": [{"id": ALLOWED, "object": "model"}]})


INLINE = frozenset({
    "plain", "alias", "derivative", "body-model", "header-model", "identity-headers", "duplicate-key", "websocket",
    "listing", "listing-one", "fallback-asked", "fallback-forced", "no-credentials", "foreign-credentials",
    "jwt-unsigned", "jwt-changed", "expired-credential", "authorizer-down", "stale-answer", "stream-cut",
    "no-credentials/route", "websocket/message-alone", "websocket/message-beside", "listing/strangers",
    "listing/short-path", "listing/slash", "listing-one/strangers", "fallback-asked/models",
    "fallback-asked/fallback_models", "fallback-asked/content_policy_fallbacks", "fallback-asked/streamed",
    "nested-elsewhere", "nested-elsewhere/second-name", "nested-model/second-name",
})  # fmt: skip
HOLES = frozenset(PASSES) | INLINE
"""Every hole that the gateway can have by day: one for each check of the suite, and further ways to some."""


def check_of(hole: str) -> str:
    """Return the check that must find a hole."""
    return hole.partition("/")[0]


def _falls_back(hole: str, document: Mapping[str, Any]) -> bool:
    """Say whether a caller is let to name a fallback, in the member that a hole is about."""
    check, _, member = hole.partition("/")
    if check != "fallback-asked":
        return False
    if member == "streamed":
        return bool(document.get("stream")) and document.get("fallbacks") == [FORBIDDEN]
    return bool(member) and FORBIDDEN in json.dumps(document.get(member)) and "route" not in document


def _merges(hole: str, seen: Seen) -> bool:
    """Say whether another member than `model` says at this place which model answers."""
    plain = _place(seen, "/v1/chat/completions")
    if hole == "nested-elsewhere":
        return not plain and seen.loose.get("extra_body") == {"model": FORBIDDEN}
    named = FORBIDDEN in (seen.loose.get("deployment_id"), seen.loose.get("model_id"))
    return named and (hole == "nested-model/second-name" if plain else hole == "nested-elsewhere/second-name")


def _clean(document: Mapping[str, Any], model: str) -> bytes:
    kept = ("messages", "max_tokens", "stream", "prompt", "input")
    return json.dumps({"model": model, **{name: document[name] for name in kept if name in document}}).encode()


def _edged(send: Any) -> Any:
    """Return a `send` that adds what an edge writes over answers, and leaves off refusals."""

    async def edged(event: Any) -> None:
        if event["type"] == "http.response.start" and event["status"] < 400:
            event = {**event, "headers": [*event["headers"], *EDGE]}
        await send(event)

    return edged


def _heeded(receive: Any, send: Any) -> Any:
    """Return a `receive` that closes a WebSocket whose message names another model than the one it was opened for."""

    async def heeded() -> Any:
        event = await receive()
        if event["type"] == "websocket.receive" and json.loads(event["text"]).get("model", ALLOWED) != ALLOWED:
            await send({"type": "websocket.close", "code": 1008})
            return {"type": "websocket.disconnect", "code": 1008}
        return event

    return heeded


async def refused(send: Any, status: int) -> None:
    """Refuse as OpenAI does."""
    error = {"message": "refused", "type": "request_forbidden", "code": "model_access_denied"}
    await whole(send, status, {"error": error}, [(b"content-type", b"application/json")])


async def _seen(scope: Any, receive: Any) -> Seen:
    body = bytearray()
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    headers = {name.decode().lower(): value.decode("utf-8", "replace") for name, value in scope["headers"]}
    query = scope["query_string"].decode()
    return Seen(scope["method"], path_of(scope), query, headers, bytes(body), "transfer-encoding" in headers)
