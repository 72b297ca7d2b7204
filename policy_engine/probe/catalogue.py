"""Every check, in the order in which they are asked: what costs nothing first, what takes something away last."""

from __future__ import annotations

from typing import Final

from policy_engine.errors import InputRefused
from policy_engine.probe import (
    bodies,
    credentials,
    fallbacks,
    headers,
    methods,
    names,
    outage,
    routes,
    switched,
    websocket,
)
from policy_engine.probe.checking import PLAIN, Check

CHECKS: Final[tuple[Check, ...]] = (
    *credentials.CHECKS,
    *names.CHECKS,
    *headers.CHECKS,
    *bodies.CHECKS,
    *methods.CHECKS,
    *websocket.CHECKS,
    *routes.CHECKS,
    *fallbacks.CHECKS,
)
LAST: Final[tuple[Check, ...]] = (*outage.CHECKS, *switched.CHECKS)
NAMES: Final = (PLAIN, *(check.name for check in (*CHECKS, *LAST)))


def known(wanted: frozenset[str], where: str) -> frozenset[str]:
    """Return names of checks. Raises `InputRefused` naming one that does not exist."""
    for name in sorted(wanted - set(NAMES)):
        raise InputRefused(f"there is no check `{name}`; there are {', '.join(NAMES)}", where=where)
    return wanted
