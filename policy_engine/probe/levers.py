"""How the operator's authorizer goes away and comes back: a command, or an address that is posted to.

Rules of the room: a command is run as its words, by no shell; what it writes is not kept. It has a bounded time.
Left to others: when (`outage`).
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable

from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS
from policy_engine.probe.asks import Ask, to_bytes
from policy_engine.probe.target import address
from policy_engine.probe.wire import Unanswered, Wire


def lever(text: str, where: str) -> Callable[[], None]:
    """Return what does it. Raises `InputRefused` for what is neither a command nor an address; so does the lever itself
    when it fails."""
    if text.startswith(("http://", "https://")):
        return _posting(text, where)
    try:
        words = shlex.split(text)
    except ValueError:
        raise InputRefused("is no command: a quotation mark is open", where=where) from None
    if not words:
        raise InputRefused("is empty; give a command or an address", where=where)
    return lambda: _run(words, where)


def _run(words: list[str], where: str) -> None:
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LIMITS.probe_command_seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, ValueError):
        raise InputRefused("could not be run to its end", where=where) from None
    if done.returncode:
        raise InputRefused(f"ended with {done.returncode}", where=where)


def _posting(url: str, where: str) -> Callable[[], None]:
    origin, slash, path = url.partition("://")[2].partition("/")
    to = address(f"{url.partition('://')[0]}://{origin}", where)
    request = to_bytes(Ask("the lever", f"{slash or '/'}{path}", headers=()), to.authority, "", ())

    def post() -> None:
        try:
            answer = Wire(to).exchange(request, "POST", LIMITS.probe_command_seconds)
        except Unanswered as unanswered:
            raise InputRefused(f"did not answer ({unanswered.lack})", where=where) from None
        if answer.status >= 300:
            raise InputRefused(f"answered {answer.status}", where=where)

    return post
