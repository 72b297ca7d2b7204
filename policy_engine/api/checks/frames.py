"""The frames of HTTP/2 and the messages of gRPC that one unary method needs: bytes in, bytes out (RFC 9113, RFC 7541).

Rules of the room: headers that we send are literals without indexing, so they depend on nothing sent before. What is
longer than its bound, or padded beyond its end, is a `Fault` of the whole connection.
Left to others: the state of a connection (`connection`), reading compressed headers (`hpack`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
FRAME_BYTES_MAX: Final = 16_384
"""The largest frame that either side sends: nobody is told that another size would do."""

WINDOW_BYTES: Final = 65_535
WINDOW_BYTES_MAX: Final = 2**31 - 1
MESSAGE_HEAD_BYTES: Final = 5

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20


class Kind(IntEnum):
    """Frame types."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """Settings that either side reads."""

    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Error codes of HTTP/2."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Status(IntEnum):
    """Status codes of gRPC that a call may end with."""

    OK = 0
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class Fault(Exception):
    """The other side broke the protocol: the connection ends with this code."""

    def __init__(self, code: Code) -> None:
        self.code = code
        super().__init__(code.name)


class CallRefused(Exception):
    """A call ends with a status and one sentence, and without a message."""

    def __init__(self, status: Status, sentence: str) -> None:
        self.status = status
        self.sentence = sentence
        super().__init__(sentence)


Metadata = tuple[tuple[str, bytes], ...]
Call = tuple[bytes, Metadata]
"""A message, and the headers that it came with."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that has arrived whole."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def read_frame(buffer: bytes, place: int) -> Frame | None:
    """Return the frame that begins at a place, `None` until it is there. Raises `Fault` for one that is too long."""
    if len(buffer) - place < HEAD_BYTES:
        return None
    length = int.from_bytes(buffer[place : place + 3], "big")
    if length > FRAME_BYTES_MAX:
        raise Fault(Code.FRAME_SIZE_ERROR)
    begin = place + HEAD_BYTES
    if len(buffer) - begin < length:
        return None
    stream = int.from_bytes(buffer[place + 5 : begin], "big") & WINDOW_BYTES_MAX
    return Frame(buffer[place + 3], buffer[place + 4], stream, buffer[begin : begin + length])


def content(frame: Frame) -> bytes:
    """Return the payload of a DATA or HEADERS frame without padding and priority. Raises `Fault`."""
    payload = frame.payload
    begin, end = 0, len(payload)
    if frame.flags & PADDED:
        if not payload:
            raise Fault(Code.FRAME_SIZE_ERROR)
        begin, end = 1, end - payload[0]
    if frame.kind == Kind.HEADERS and frame.flags & PRIORITISED:
        begin += 5
    if begin > end:
        raise Fault(Code.PROTOCOL_ERROR)
    return payload[begin:end]


def write_frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame as bytes."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(pairs: Iterable[tuple[Setting, int]]) -> bytes:
    """Return a SETTINGS frame."""
    return write_frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def read_settings(frame: Frame) -> dict[int, int]:
    """Return the settings of a frame, the last of a kind. Raises `Fault` for one that is cut off."""
    if frame.stream or len(frame.payload) % 6:
        raise Fault(Code.FRAME_SIZE_ERROR if not frame.stream else Code.PROTOCOL_ERROR)
    return dict(struct.iter_unpack(">HI", frame.payload))


def read_number(frame: Frame) -> int:
    """Return the one number of a WINDOW_UPDATE or RST_STREAM frame. Raises `Fault`."""
    if len(frame.payload) != 4:
        raise Fault(Code.FRAME_SIZE_ERROR)
    return int.from_bytes(frame.payload, "big") & WINDOW_BYTES_MAX


def window_update(stream: int, size: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return write_frame(Kind.WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def reset(stream: int, code: Code) -> bytes:
    """Return a RST_STREAM frame."""
    return write_frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def go_away(last: int, code: Code) -> bytes:
    """Return a GOAWAY frame: what came after the stream `last` was not looked at."""
    return write_frame(Kind.GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def message(data: bytes) -> bytes:
    """Return a gRPC message as it stands in DATA frames."""
    return b"\0" + len(data).to_bytes(4, "big") + data


def length_of_message(data: bytes | bytearray) -> int | None:
    """Return how long the message is that begins here, `None` until that is known. Raises `CallRefused`."""
    if len(data) < MESSAGE_HEAD_BYTES:
        return None
    if data[0]:
        raise CallRefused(Status.UNIMPLEMENTED, "compressed messages are not read here")
    return int.from_bytes(data[1:MESSAGE_HEAD_BYTES], "big")


def header_block(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return headers as literals without indexing."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in pairs)


def _string(text: str) -> bytes:
    data = text.encode("ascii", "replace")
    length = len(data)
    if length < 127:
        return bytes((length,)) + data
    prefix, length = bytearray((127,)), length - 127
    while length >= 128:
        prefix.append(length & 127 | 128)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + data


BEGIN: Final = header_block(((":status", "200"), ("content-type", "application/grpc")))
DONE: Final = header_block((("grpc-status", "0"),))


NO_GRPC: Final = CallRefused(Status.UNIMPLEMENTED, "this is no gRPC")
"""Whoever asks over HTTP/2 without gRPC reads the status alone, and gRPC's is 200 whatever it says."""

_UNSUPPORTED: Final = header_block(((":status", "415"),))


def refused(refusal: CallRefused) -> bytes:
    """Return the headers of an answer that is nothing but a refusal."""
    if refusal is NO_GRPC:
        return _UNSUPPORTED
    status, sentence = str(int(refusal.status)), _percent(refusal.sentence)
    return BEGIN + header_block((("grpc-status", status), ("grpc-message", sentence)))


def _percent(sentence: str) -> str:
    return "".join(each if " " <= each <= "~" and each != "%" else "?" for each in sentence)


_ENDED: Final = len(DONE).to_bytes(3, "big") + bytes((Kind.HEADERS, END_HEADERS | END_STREAM))
_BEGUN: Final = len(BEGIN).to_bytes(3, "big") + bytes((Kind.HEADERS, END_HEADERS))


def answer(stream: int, data: bytes) -> bytes:
    """Return a whole answer of a call: headers, a message that fits one frame, and the status that ends it well."""
    at = stream.to_bytes(4, "big")
    return b"".join((_BEGUN, at, BEGIN, len(data).to_bytes(3, "big"), b"\x00\x00", at, data, _ENDED, at, DONE))
