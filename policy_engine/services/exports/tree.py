"""What the tree says of a log when an export begins: its origin and key, the newest checkpoint, and what that covers.

Left to others: building and signing the tree (`services.sequencer`), checking it (`services.verify`, the verifier).
"""

from __future__ import annotations

from dataclasses import dataclass

from policy_engine.store.interfaces import ReadStore


@dataclass(frozen=True, slots=True)
class TreeFacts:
    """Origin, key and size of the tree, and its newest checkpoint as text; empty, 0 and `None` before the first.

    Nothing dated before `horizon` can still come.
    """

    origin: str
    key: str
    size: int
    checkpoint: str | None
    horizon: int


def tree_facts(store: ReadStore) -> TreeFacts:
    """Return what is so now."""
    head, state, newest = store.head(), store.tree_state(), store.checkpoint()
    # In one log an entry is never earlier than the one before it; in several, the tree says what can still come.
    horizon = state.horizon if not store.one_log else 0 if head is None else head.last_at
    if newest is None:
        return TreeFacts(state.origin, state.key, 0, None, horizon)
    return TreeFacts(state.origin, state.key, newest.size, newest.note.decode("utf-8", "replace"), horizon)


def proved_before(store: ReadStore, facts: TreeFacts, log_id: str, last: int) -> int:
    """Return the number before which every entry of a log is under the checkpoint, looking no further than `last`."""
    low, high = 0, last + 1 if facts.size else 0
    while low < high:
        middle = (low + high) // 2
        leaf = store.leaf_of(log_id, middle)
        if leaf is not None and leaf.leaf < facts.size:
            low = middle + 1
        else:
            high = middle
    return low
