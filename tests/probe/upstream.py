"""A fake upstream: answers as OpenAI, Anthropic and Ollama do, takes everything, and remembers what reached it.

A lenient one reads a request as any upstream may: whatever a gateway lets through by mistake is answered here. Where
two names of a model stand in a request, the last one counts, and a header that says where to route counts before all.
Another reads as the usual servers do: known paths, POST, one JSON object whose last `model` counts.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

CHUNK_SECONDS = 0.03
STREAM_CHUNKS = 60
CYRILLIC = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456", "aeopcyxi")
JSON = [(b"content-type", b"application/json"), (b"x-upstream", b"fake")]
USUAL_PATHS = frozenset(
    f"/v1/{each}" for each in ("chat/completions", "messages", "completions", "embeddings", "responses")
) | {"/invocations"}
MODEL_HEADERS = ("x-model", "x-ai-eg-model", "x-gateway-model-name", "model", "x-litellm-model")


@dataclass
class Upstream:
    """A raw ASGI application in the place of models. `models` are those it has, by name and other names; `called` is
    what their answers call them, where that is something else."""

    models: Mapping[str, str]
    default: str = ""
    failing: str = ""
    lenient: bool = True
    called: Mapping[str, str] = field(default_factory=dict)
    reached: list[tuple[str, str, str]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request or a handshake."""
        if scope["type"] == "websocket":
            await self._live(scope, receive, send)
            return
        body = bytearray()
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        await self.answer(scope, bytes(body), send)

    async def answer(self, scope: Any, body: bytes, send: Any) -> None:
        """Answer a request whose body has been read."""
        headers = {name.decode().lower(): value.decode("utf-8", "replace") for name, value in scope["headers"]}
        if not self.lenient and not scope["path"].startswith("/v1/models"):
            await self._usual(scope, body, send)
            return
        path = place_of(headers.get("x-original-url") or headers.get("x-rewrite-url") or path_of(scope))
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
        document = document_of(headers, body)
        if path.startswith("/v1/models"):
            await self.listing(path, send)
            return
        model = self.resolved(named(path, query, headers, document) or self.default)
        await self._served(scope, path, model, document, send)

    async def _usual(self, scope: Any, body: bytes, send: Any) -> None:
        """Answer as vLLM and the like do."""
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if scope["path"] not in USUAL_PATHS or scope["method"] != "POST" or not isinstance(document, dict):
            await whole(send, 404, {"detail": "Not Found"})
            return
        name = document.get("model") or self.default
        model = self.models.get(name, "") if isinstance(name, str) else ""
        await self._served(scope, scope["path"], model, document, send)

    async def _served(self, scope: Any, path: str, model: str, document: Mapping[str, Any], send: Any) -> None:
        self.reached.append((scope["method"], path, model))
        if model == self.failing:
            await whole(send, 500, {"error": {"message": "it broke", "type": "server_error"}})
        elif not model:
            await whole(send, 404, {"error": {"message": "no such model", "type": "invalid_request_error"}})
        elif document.get("stream"):
            await self._stream(path, model, int(document.get("max_tokens") or 1), send)
        else:
            said = self.called.get(model, model)
            head = [*JSON, (b"openai-model", said.encode())]
            await whole(send, 200, completion(path, said), head)

    def resolved(self, name: str) -> str:
        """Return the model of a name as a lenient upstream finds it, empty without one."""
        text = unicodedata.normalize("NFKC", name.translate(CYRILLIC)).replace("\u2010", "-")
        text = re.sub(r"[\u200b\u00ad\0]", "", text).strip().lower()
        text = re.sub(r"(:latest|@latest|:0)$", "", text.rpartition("/")[2])
        return self.models.get(text, "")

    async def listing(self, path: str, send: Any) -> None:
        """Show all models, or the one of a path."""
        one = path.removeprefix("/v1/models").strip("/")
        entries = {name: {"id": name, "object": "model"} for name in self.models}
        if one:
            await whole(send, 200 if one in entries else 404, entries.get(one, {}))
        else:
            await whole(send, 200, {"object": "list", "data": list(entries.values())})

    async def _stream(self, path: str, model: str, tokens: int, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-upstream", b"fake")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(min(tokens, STREAM_CHUNKS)):
            data = b"data: %b\n\n" % json.dumps(completion(path, self.called.get(model, model))).encode()
            await send({"type": "http.response.body", "body": data, "more_body": True})
            await asyncio.sleep(CHUNK_SECONDS if tokens > 1 else 0)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        """Talk live to the model of the query; a lenient one changes it for each message that names another."""
        await receive()
        query = parse_qs(scope["query_string"].decode())
        model = self.resolved(query.get("model", [""])[-1])
        self.reached.append(("WEBSOCKET", scope["path"], model))
        await send({"type": "websocket.accept"})
        if model:
            session = {"type": "session.created", "session": {"object": "realtime.session", "model": model}}
            await send({"type": "websocket.send", "text": json.dumps(session)})
        while (event := await receive())["type"] != "websocket.disconnect":
            named = self.resolved(json.loads(event["text"]).get("model", ""))
            if self.lenient and named:
                self.reached.append(("WEBSOCKET", scope["path"], named))
                response = {"object": "response", "model": named, "output": []}
                await send(
                    {"type": "websocket.send", "text": json.dumps({"type": "response.done", "response": response})}
                )


async def whole(send: Any, status: int, document: Any, headers: Any = JSON) -> None:
    """Send a JSON answer."""
    body = json.dumps(document).encode()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def path_of(scope: Any) -> str:
    """Return the path as it was asked for."""
    return str(scope["raw_path"].decode())


def place_of(path: str) -> str:
    """Return a path as a lenient router takes it."""
    path = unquote(unquote(path.partition("?")[0])).replace("\0", "").replace("\\", "/")
    path = re.sub(r";[^/]*", "", re.sub(r"^https?://[^/]*", "", path)).removesuffix("/x.css")
    kept: list[str] = []
    for part in path.lower().split("/"):
        if part == "..":
            kept = kept[:-1]
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept)


def document_of(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return what a body says, in whatever form it is; the last document and the last member count."""
    coding = headers.get("content-encoding", "").lower()
    if "gzip" in coding:
        body = gzip.decompress(body)
    elif coding == "deflate":
        body = zlib.decompress(body)
    kind = headers.get("content-type", "")
    charset = re.search(r"charset=([\w-]+)", kind)
    text = body.decode(charset.group(1) if charset else "utf-8-sig", "replace")
    if "multipart" in kind:
        return dict(re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n--', text, re.S))
    if text.startswith("model="):
        return {name: values[-1] for name, values in parse_qs(text).items()}
    documents = re.split(r"(?<=})\s*(?={\"model\")", text) if text else []
    try:
        found = json.loads(documents[-1]) if documents else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def named(path: str, query: Mapping[str, str], headers: Mapping[str, str], document: Mapping[str, Any]) -> str:
    """Return the name of the model that a request is for."""
    inner = [document.get(name) for name in ("extra_body", "request", "params", "litellm_params")]
    merged = [each["model"] for each in inner if isinstance(each, dict) and "model" in each]
    folded = [value for name, value in document.items() if name.lower() == "model"]
    shaped = [
        each[0] if isinstance(each, list) else each.get("id") for each in folded if isinstance(each, (list, dict))
    ]
    place = re.search(r"(?:deployments|engines|models|model)/([^/:]+)[/:]", path)
    routed = [headers[name] for name in MODEL_HEADERS if name in headers] + [query.get("model", "")]
    found = [*routed, *([place.group(1)] if place else []), *merged, *shaped, *reversed(folded)]
    return next((each for each in found if isinstance(each, str) and each), "")


def completion(path: str, model: str) -> dict[str, Any]:
    """Return what a model answers at a path."""
    usage = {"completion_tokens": 1}
    if path.endswith("/messages"):
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": []}
    if path.endswith("/responses"):
        return {"id": "resp_1", "object": "response", "model": model, "output": []}
    if path.endswith("/embeddings"):
        return {"object": "list", "model": model, "data": [{"object": "embedding", "embedding": [0.5]}]}
    if path.startswith("/api/"):
        return {"model": model, "response": "yes", "done": True}
    if path.endswith(":generatecontent"):
        return {"candidates": [{}], "modelVersion": model}
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "length"}
    return {"id": "c-1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
