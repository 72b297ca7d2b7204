"""The check of WebSocket: a handshake for the forbidden model, and what is said behind it (RFC 6455).

Rules of the room: a handshake that is accepted is no hole by itself; what counts is which model the frames behind it
name. Few frames are read, each of bounded length, and nothing is asked that takes more than a token.
Left to others: plain requests (`routes`, `methods`).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPException
from typing import Final

from policy_engine.limits import LIMITS
from policy_engine.probe.asks import Ask, encoded, encoded_part
from policy_engine.probe.checking import Check, Scene, Verdict, evidence, judged
from policy_engine.probe.reading import Kind, Reading, read
from policy_engine.probe.wire import Answer, Exchange, Lack, Unanswered

GROUP: Final = "methods"
TEXT, CLOSE = 0x1, 0x8
SWITCHING: Final = 101
_LENGTH_16, _LENGTH_64 = 126, 127


def handshakes(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for an upgrade where models are talked to live, and where they are asked otherwise."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    headers = (
        ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Protocol", "realtime"),
    )  # fmt: skip
    for path in ("/v1/realtime", scene.form.path, "/v1/responses"):
        query = f"{path}?model={encoded_part(model)}"
        yield Ask(f"a WebSocket at {path}", query, method="GET", headers=headers)


def live(scene: Scene) -> Verdict:
    """Open a WebSocket for the forbidden model, speak once, and look who answers."""
    pairs = []
    for ask in handshakes(scene, scene.forbidden):
        reading = _talk(scene, ask)
        pairs.append((reading, evidence(ask, reading)))
    return judged(pairs)


def _talk(scene: Scene, ask: Ask) -> Reading:
    try:
        with scene.sender.open(ask, LIMITS.probe_answer_bytes) as opened:
            if opened.status != SWITCHING:
                return read(opened.rest(), scene.names)
            return _heard(scene, opened)
    except Unanswered as unanswered:
        return read(unanswered.lack, scene.names)


def _heard(scene: Scene, opened: Exchange) -> Reading:
    """Return what is said behind a handshake that was accepted."""
    words = {"max_output_tokens": 1, "model": scene.forbidden, "input": []}
    question = {"type": "response.create", "model": scene.forbidden, "response": words}
    try:
        opened.send(masked(TEXT, encoded(question)))
        for _ in range(LIMITS.probe_frames_count):
            opened.wait(LIMITS.probe_frame_seconds)
            code, data = frame(opened)
            if code == CLOSE:
                number = int.from_bytes(data[:2], "big") if len(data) > 1 else 1005
                return Reading(Kind.REFUSED, found=f"accepted, then closed with {number}", status=SWITCHING)
            reading = read(Answer(200, (), data, True), scene.names)  # read as an answer that began well
            if reading.kind is not Kind.UNCLEAR:
                found = reading.found.removeprefix("200").lstrip(", ")
                return replace(reading, found=f"accepted, then {found}", status=SWITCHING)
    except (OSError, HTTPException, ValueError):
        pass  # nothing more was said in time, or what was said is no frame: the handshake alone is what is known
    return Reading(Kind.UNCLEAR, found="the handshake is accepted, and no model is named behind it", status=SWITCHING)


def masked(code: int, data: bytes) -> bytes:
    """Return a frame as a client sends it."""
    mask = secrets.token_bytes(4)
    length = len(data)
    size = bytes([0x80 | length]) if length < _LENGTH_16 else bytes([0x80 | _LENGTH_16]) + length.to_bytes(2, "big")
    return bytes([0x80 | code]) + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def frame(opened: Exchange) -> tuple[int, bytes]:
    """Return the kind and the data of the next frame. Raises `ValueError` at the end, or for one that is too long."""
    head = opened.raw(2)
    if len(head) < 2:
        raise ValueError(Lack.DROPPED)
    length = head[1] & 0x7F
    if length >= _LENGTH_16:
        length = int.from_bytes(opened.raw(2 if length == _LENGTH_16 else 8), "big")
    if length > LIMITS.probe_answer_bytes:
        raise ValueError("a frame is too long")
    return head[0] & 0x0F, opened.raw(length)


CHECKS: Final = (
    Check("websocket", GROUP, "decide at the handshake, by the same code as for requests; close what is refused", live),
)
