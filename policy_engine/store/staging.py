"""A transaction between writing and committing: what an event loop has written and another thread will commit.

Left to others: writing and committing (`sqlite`), why it is split (`services.looped`).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from policy_engine.errors import StoreUnavailable
from policy_engine.store.interfaces import Committed, Head


class Occupied(StoreUnavailable):
    """Somebody else writes at the moment; nothing was done."""


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """A transaction that is open, with everything in it but its commit."""

    transaction: ExitStack
    head: Head
    epoch: int
    committed: Committed
