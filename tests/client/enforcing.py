"""An enforcement point as a program of its own: asks, and uses each allow as often as the reference client lets it.

`python -m tests.client.enforcing URL KEY MODEL LISTEN` writes a line for each use and each deny: what it was, the
clock of the machine before and after `is_usable` was asked, and the epoch of the answer. It ends with its input.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from policy_engine.client import Address, DecisionPoint, Heard, Listener, Unanswered

PAUSE_SECONDS = 0.002


def say(what: str, before: float, epoch: int) -> None:
    """Write one line at once."""
    os.write(1, f"{what} {before!r} {time.monotonic()!r} {epoch}\n".encode())


def enforce(point: DecisionPoint, model: str) -> None:
    """Ask once, and use the answer until it may not be used any more."""
    body = {
        "subject": {"type": "person", "id": "alice"},
        "action": {"name": "infer"},
        "resource": {"type": "model", "id": model},
        "context": {"tenant": "acme", "location": "US", "serving_region": "US"},
    }
    try:
        permission = point.ask(body)
    except Unanswered:
        say("unanswered", time.monotonic(), 0)
        time.sleep(PAUSE_SECONDS)
        return
    if not permission.answer.allowed:
        say("denied", time.monotonic(), permission.answer.epoch)
        time.sleep(PAUSE_SECONDS)
        return
    used = False
    while True:
        before = time.monotonic()
        if not permission.is_usable():
            break
        say("used", before, permission.answer.epoch)
        used = True
        time.sleep(PAUSE_SECONDS)
    if not used:
        say("late", time.monotonic(), permission.answer.epoch)


def main() -> None:
    """Enforce until the input ends."""
    url, key, model, listen = sys.argv[1:]
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    heard = Heard()
    point = DecisionPoint(Address(url, key), heard)
    listener = Listener(Address(url, key), heard).start() if listen == "listen" else None
    while not over.is_set():
        enforce(point, model)
    if listener is not None:
        listener.close()


if __name__ == "__main__":
    main()
