"""What may come at any moment: Ctrl-C, and whatever a handler of signals or the collector of garbage runs."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any


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


def closed_beside(hold: Any, other: Any) -> bool:
    """Close one hold at every such moment while another is used, as a handler of signals may, or garbage that is
    collected; return whether it came to an end."""

    def beside(frame: FrameType, event: str, given: object) -> None:
        if event == "c_return" and frame.f_code.co_filename.endswith(("holds.py", "inuse.py")):
            other.close()

    def using() -> None:
        sys.setprofile(beside)
        hold.on_end(lambda: None)
        hold.close()
        sys.setprofile(None)

    thread = threading.Thread(target=using, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()
