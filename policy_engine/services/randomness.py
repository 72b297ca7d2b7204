"""Random bytes from the operating system, fetched in larger pieces.

Rules: every byte is handed out once; each thread has its own piece, and a forked process starts with none (a nonce must
never be used twice). Asking the system for each nonce would let go of the interpreter each time, and a busy event loop
keeps it then for milliseconds. Left to others: what the bytes are for.
"""

from __future__ import annotations

import os
import threading

_PIECE_BYTES = 16_384


class _Piece(threading.local):
    """What a thread has left."""

    def __init__(self) -> None:
        self.left = b""
        self.at = 0


_piece = _Piece()


def random_bytes(count: int) -> bytes:
    """Return fresh random bytes. Raises `ValueError` for more than a piece."""
    if count > _PIECE_BYTES:
        raise ValueError(f"at most {_PIECE_BYTES} bytes at once")
    piece = _piece
    if piece.at + count > len(piece.left):
        piece.left = os.urandom(_PIECE_BYTES)
        piece.at = 0
    piece.at += count
    return piece.left[piece.at - count : piece.at]


def _forget() -> None:
    global _piece
    _piece = _Piece()


os.register_at_fork(after_in_child=_forget)
