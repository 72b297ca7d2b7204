"""Suspensions that must be confirmed again: directives with a `reconfirm_by`, and which of them are overdue.

Rules of the room:
- The date changes no decision: an overdue suspension goes on denying, for silence is no second person. It raises an
  alarm instead: `doctor`, a warning of `/readyz`, a gauge, and one log line for each order and date.
- Confirming is an amendment that says a later date; it loosens nothing, so it takes effect at once.
- A date that cannot be read is overdue.
Left to others: receiving and amending (`services.orders`), showing (the doors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.services.orderdocuments import IN_FORCE
from policy_engine.store.interfaces import Store

MEMBER: Final = "reconfirm_by"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Overdue:
    """A directive in force whose confirmation is overdue since an instant."""

    order: str
    since: int


class Suspensions:
    """The suspensions of a register. The register is read again only when the epoch has moved."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._epoch = -1
        self._dated: tuple[tuple[str, int, int], ...] = ()
        self._said: set[Overdue] = set()

    def overdue(self) -> tuple[Overdue, ...]:
        """Return what is overdue now; what was not before leaves one line in the log. Raises `StoreUnavailable`."""
        epoch = self._store.state().epoch
        if epoch != self._epoch:
            self._dated = tuple(_dated((row.id, row.document) for row in self._store.rows("orders")))
            self._epoch = epoch
        found = _late(self._dated, self._store.now())
        for late in found:
            if late not in self._said:
                log.warning("suspension.overdue", order=late.order)
        self._said = set(found)
        return found


def overdue(documents: Iterable[tuple[str, Mapping[str, Any]]], at: int) -> tuple[Overdue, ...]:
    """Return the directives that are overdue at an instant, in order of id, from ids and documents."""
    return _late(_dated(documents), at)


def _late(dated: Iterable[tuple[str, int, int]], at: int) -> tuple[Overdue, ...]:
    return tuple(Overdue(id, since) for id, since, until in dated if since <= at < until)


def _dated(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterable[tuple[str, int, int]]:
    """Yield id, date of confirmation and end of each directive in force that has one."""
    for id, document in documents:
        if document.get("kind") == "directive" and document.get("status") == IN_FORCE:
            body = document["body"]
            if body.get(MEMBER) is not None:
                yield id, _instant(body[MEMBER], -ENDLESS), _instant(body.get("until"), ENDLESS)


def _instant(value: Any, otherwise: int) -> int:
    try:
        return otherwise if value is None else parse_instant(value)
    except (ValueError, TypeError, AttributeError):
        return otherwise
