"""A provider on loopback: answers as OpenAI and Anthropic do, and remembers which models were reached.

A model named `broken…` fails with 500. Its streams break off before their first piece; or behind it, when somebody has
`heard` it. A model named `quiet` sends the first piece of a stream and then nothing more, until its reader leaves. Any
other sends `PIECES` pieces.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

PIECES = 3
FIRST = b"piece 0"
HEARD_SECONDS = 30.0
ANSWER = "the answer"


@dataclass
class Provider:
    """What was asked of it, and where it answers."""

    port: int = 0
    reached: list[tuple[str, str]] = field(default_factory=list)
    """Path and model of each request."""
    left: list[str] = field(default_factory=list)
    """Models whose reader left in the middle of a stream."""
    heard: threading.Event | None = None
    """Where there is one, broken streams have a first piece, and break off once this is set."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        content = b""
        while True:
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        body = json.loads(content)
        path, model = scope["path"], body["model"]
        self.reached.append((path, model))
        if model.startswith("broken") and body.get("stream"):
            await self._break_off(path, model, send)
        elif model.startswith("broken"):
            await answer(send, 500, {"error": {"message": "broken on purpose", "type": "server_error", "code": None}})
        elif body.get("stream"):
            await self._stream(path, model, receive, send)
        else:
            await answer(send, 200, whole(path, model))

    async def _break_off(self, path: str, model: str, send: Any) -> None:
        """Begin a stream; the connection ends when this returns."""
        await send(start(200, b"text/event-stream"))
        for event in events(path, model):
            if FIRST in event and self.heard is None:
                break
            await send({"type": "http.response.body", "body": event, "more_body": True})
            if FIRST in event and self.heard is not None:
                await asyncio.to_thread(self.heard.wait, HEARD_SECONDS)
                break

    async def _stream(self, path: str, model: str, receive: Any, send: Any) -> None:
        await send(start(200, b"text/event-stream"))
        for event in events(path, model):
            await send({"type": "http.response.body", "body": event, "more_body": True})
            if model == "quiet" and FIRST in event:
                await receive()  # nothing more comes: it waits until its reader leaves
                self.left.append(model)
                return
        await send({"type": "http.response.body", "body": b""})


def start(status: int, media: bytes) -> dict[str, Any]:
    """Return the beginning of an answer."""
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", media)]}


async def answer(send: Any, status: int, body: Any) -> None:
    """Send a JSON answer."""
    await send(start(status, b"application/json"))
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def whole(path: str, model: str) -> Any:
    """Return an answer that is not a stream, in the dialect of the path."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    head = {"id": "answer-1", "created": 1, "model": model}
    if path.endswith("/chat/completions"):
        message = {"role": "assistant", "content": ANSWER}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    if path.endswith("/completions"):
        choice = {"index": 0, "finish_reason": "stop", "text": ANSWER, "logprobs": None}
        return {**head, "object": "text_completion", "choices": [choice], "usage": usage}
    if path.endswith("/embeddings"):
        one = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
        return {"object": "list", "model": model, "data": [one], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    if path.endswith("/messages"):
        text = [{"type": "text", "text": ANSWER}]
        spent = {"input_tokens": 1, "output_tokens": 1}
        told = {"role": "assistant", "content": text, "stop_reason": "end_turn", "stop_sequence": None, "usage": spent}
        return {"id": "msg_1", "type": "message", "model": model, **told}
    return response(model)


def response(model: str) -> dict[str, Any]:
    """Return an answer of `/v1/responses`."""
    text = {"type": "output_text", "text": ANSWER, "annotations": []}
    said = {"type": "message", "id": "item-1", "status": "completed", "role": "assistant", "content": [text]}
    spent = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    plain = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "metadata": {}}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": model}
    return {**head, **plain, "output": [said], "usage": {**spent, **details}}


def events(path: str, model: str) -> Iterator[bytes]:
    """Return the events of a stream in the dialect of the path."""
    if path.endswith("/messages"):
        yield from anthropic_events(model)
        return
    if path.endswith("/responses"):
        yield from response_events(model)
        return
    for number in range(PIECES):
        choice: dict[str, Any] = {"index": 0, "finish_reason": None}
        if path.endswith("/chat/completions"):
            choice["delta"] = {"role": "assistant", "content": f"piece {number} "}
        else:
            choice["text"] = f"piece {number} "
        kind = "chat.completion.chunk" if "delta" in choice else "text_completion"
        chunk = {"id": "answer-1", "object": kind, "created": 1, "model": model, "choices": [choice]}
        yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def response_events(model: str) -> Iterator[bytes]:
    """Return the events of a stream of `/v1/responses`."""
    begun = {**response(model), "status": "in_progress", "output": [], "usage": None}
    yield named("response.created", {"response": begun, "sequence_number": 0})
    for number in range(PIECES):
        place = {"item_id": "item-1", "output_index": 0, "content_index": 0, "sequence_number": number + 1}
        yield named("response.output_text.delta", {**place, "delta": f"piece {number} "})
    yield named("response.completed", {"response": response(model), "sequence_number": PIECES + 1})


def anthropic_events(model: str) -> Iterator[bytes]:
    """Return the events of a stream of `/v1/messages`."""
    message = {**whole("/messages", model), "content": [], "stop_reason": None}
    yield named("message_start", {"message": message})
    yield named("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    for number in range(PIECES):
        delta = {"type": "text_delta", "text": f"piece {number} "}
        yield named("content_block_delta", {"index": 0, "delta": delta})
    yield named("content_block_stop", {"index": 0})
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield named("message_delta", {"delta": ended, "usage": {"output_tokens": PIECES}})
    yield named("message_stop", {})


def named(kind: str, body: dict[str, Any]) -> bytes:
    """Return an event that names its kind."""
    return b"event: " + kind.encode() + b"\ndata: " + json.dumps({"type": kind, **body}).encode() + b"\n\n"


@contextmanager
def providing() -> Iterator[Provider]:
    """Serve a provider on a free port of loopback."""
    provider = Provider()
    server = uvicorn.Server(uvicorn.Config(provider, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), name="provider")
    thread.start()
    try:
        until = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive() and time.monotonic() < until, "the provider did not start"
            time.sleep(0.01)
        provider.port = server.servers[0].sockets[0].getsockname()[1]
        yield provider
    finally:
        server.should_exit = server.force_exit = True
        thread.join(timeout=30)
