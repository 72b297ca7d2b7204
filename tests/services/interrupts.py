"""Ctrl-C at a moment that a test says."""

from __future__ import annotations

from types import FrameType


class Struck:
    """Ctrl-C in this thread at one of the moments at which Python looks for it: where a function begins, and where one
    in C has returned. As a profile function it is called at just these."""

    def __init__(self, at: int, files: tuple[str, ...] = ("",)) -> None:
        self.left = at
        self.files = files

    def __call__(self, frame: FrameType, event: str, given: object) -> None:
        """Be told of a moment, and strike when it has come."""
        if event in ("call", "c_return") and frame.f_code.co_filename.endswith(self.files):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
