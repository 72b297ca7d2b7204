"""What was found for scalars that came before, within so many bytes for the whole enforcer.

Rules of the room: kept are truths and answers alone, under the type and value of every scalar that was read of a
request, never an object. Values are remembered from their second coming on, so that a stream of values that come once
costs no more than evaluating them. Full, the store is emptied: what is lost is time.
Left to others: what is evaluated (`rules.rowgroups`), which answers take so long that they are worth it
(`rules.enforcer`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from policy_engine.core.terms import SCALARS

_OVERHEAD_BYTES = 200
"""About what a key and its dict, or one outcome, take beside the values themselves."""

Outcomes = dict[Any, Any]
"""What was found: by the cells of a row that were read, whether an expression held; or one answer, under `None`."""


class Remembered:
    """Outcomes by who asks and what was read, within `most` bytes; not for values beyond a hundredth of that."""

    __slots__ = ("_bytes", "_held", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[tuple[Any, ...], Outcomes | None] = {}
        self._bytes = 0

    def outcomes(self, owner: object, values: Sequence[Any]) -> Outcomes | None:
        """Return what is remembered for these values, `None` at first sight and for what is no scalar.

        `owner` is who asks; it is told apart by identity, and kept: it must hold no rows.
        """
        key: list[Any] = [owner]
        for value in values:
            kind = type(value)
            if kind not in SCALARS or value != value:
                return None
            key += (kind, value)
        held = tuple(key)
        try:
            found = self._held[held]
        except KeyError:
            size = sum(map(sys.getsizeof, held)) + _OVERHEAD_BYTES
            if size <= self._most // 100:
                self._charge(size)
                self._held[held] = None
            return None
        if found is None:
            found = self._held[held] = {}
        return found

    def keep(self, outcomes: Outcomes, cells: Any, found: Any) -> None:
        """Remember one outcome; the cells are the policy's own and cost nothing."""
        self._charge(_OVERHEAD_BYTES)
        outcomes[cells] = found

    def _charge(self, more: int) -> None:
        self._bytes += more
        if self._bytes > self._most:
            self._held.clear()
            self._bytes = more
