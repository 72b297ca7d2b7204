"""The check of WebSocket: handshakes and first messages for the forbidden model, and who answers (RFC 6455).

Rules of the room: a handshake that is accepted is no hole by itself; what counts is which model the frames behind it
name. Few frames are read, each of bounded length, and nothing is asked that takes more than a token.
Left to others: plain requests (`routes`, `methods`).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import Final

from policy_engine.limits import LIMITS
from policy_engine.probe.asks import Ask, encoded, encoded_part
from policy_engine.probe.checking import DECOY, Check, Scene, Verdict, evidence, judged
from policy_engine.probe.reading import Kind, Reading, read
from policy_engine.probe.standing import folded
from policy_engine.probe.wire import Answer, Exchange, Lack, Unanswered

GROUP: Final = "methods"
TEXT, CLOSE = 0x1, 0x8
SWITCHING: Final = 101
_LENGTH_16, _LENGTH_64 = 126, 127


@dataclass(frozen=True, slots=True)
class Call:
    """A handshake, and the model that the first message behind it names; `beside` says that the query names another."""

    ask: Ask
    model: str
    beside: bool = False


def calls(scene: Scene) -> Iterator[Call]:
    """Ask for upgrades where models are talked to live, and where they are asked otherwise: the forbidden model in the
    query and the first message, and in the message alone, with the allowed one in the query or none."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    headers = (
        ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Protocol", "realtime"),
    )  # fmt: skip
    for path in ("/v1/realtime", scene.form.path, "/v1/responses"):
        bare = Ask(f"a WebSocket at {path}", path, method="GET", headers=headers)
        yield Call(replace(bare, path=_with(path, scene.forbidden)), scene.forbidden)
        sent = f"{bare.sent}, the model in its first message"
        yield Call(replace(bare, sent=sent), scene.forbidden)
        other = replace(bare, sent=f"{sent}, the other in the query", path=_with(path, scene.allowed))
        yield Call(other, scene.forbidden, beside=True)


def _with(path: str, model: str) -> str:
    return f"{path}?model={encoded_part(model)}"


def live(scene: Scene) -> Verdict:
    """Open WebSockets for the forbidden model, speak once on each, and look who answers."""
    pairs = []
    for call in calls(scene):
        reading = _talk(scene, call)
        if reading.forbidden and call.beside:
            reading = _unless_repeated(scene, call, reading)
        pairs.append((reading, evidence(call.ask, reading)))
    return judged(pairs)


def _unless_repeated(scene: Scene, call: Call, reading: Reading) -> Reading:
    """Return what is known where both models are named: nothing, if a made-up name comes back as well."""
    if folded(_talk(scene, replace(call, model=DECOY)).said) != folded(DECOY):
        return reading
    return replace(reading, kind=Kind.UNCLEAR, found=f"{reading.found}; but any name is repeated there")


def _talk(scene: Scene, call: Call) -> Reading:
    try:
        with scene.sender.open(call.ask, LIMITS.probe_answer_bytes) as opened:
            if opened.status != SWITCHING:
                return read(opened.rest(), scene.names)
            return _heard(scene, opened, call.model)
    except Unanswered as unanswered:
        return read(unanswered.lack, scene.names)


def _heard(scene: Scene, opened: Exchange, model: str) -> Reading:
    """Return what is said behind a handshake that was accepted: the answer of the forbidden model, a refusal, or who
    else has spoken. A first word may be the session's alone, so others are waited for."""
    heard = Reading(Kind.UNCLEAR, found="the handshake is accepted, and no model is named behind it", status=SWITCHING)
    words = {"max_output_tokens": 1, "model": model, "input": []}
    try:
        opened.send(masked(TEXT, encoded({"type": "response.create", "model": model, "response": words})))
        for _ in range(LIMITS.probe_frames_count):
            opened.wait(LIMITS.probe_frame_seconds)
            code, data = frame(opened)
            if code == CLOSE:
                number = int.from_bytes(data[:2], "big") if len(data) > 1 else 1005
                return Reading(Kind.REFUSED, found=f"accepted, then closed with {number}", status=SWITCHING)
            reading = read(Answer(200, (), data, True), scene.names)  # read as an answer that began well
            if reading.kind is not Kind.UNCLEAR:
                found = reading.found.removeprefix("200").lstrip(", ")
                heard = replace(reading, found=f"accepted, then {found}", status=SWITCHING)
            if heard.forbidden or heard.kind is Kind.REFUSED:
                break
    except (OSError, HTTPException, ValueError):
        pass  # nothing more was said in time, or what was said is no frame: what was heard before is what is known
    return heard


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
    Check(
        "websocket",
        GROUP,
        "decide at the handshake as on a request, and again on each model that is named later",
        live,
    ),
)
