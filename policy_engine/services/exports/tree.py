"""What the tree says of a log when an export begins: its origin and key, the newest checkpoint, and what that covers.

Left to others: building and signing the tree (`services.sequencer`), checking it (`services.verify`, the verifier).
"""

from __future__ import annotations

from dataclasses import dataclass

from policy_engine.store.interfaces import ReadStore
from policy_engine.store.treeinterfaces import TreeReader


@dataclass(frozen=True, slots=True)
class TreeFacts:
    """Origin, key and size of the tree, and its newest checkpoint as text; empty, 0 and `None` before the first.

    Nothing dated before `horizon` can still come. `waiting` says that something durable is not found yet: where there
    are several logs, an entry is found once it is in the tree.
    """

    origin: str
    key: str
    size: int
    checkpoint: str | None
    horizon: int
    waiting: bool


def tree_facts(store: ReadStore) -> TreeFacts:
    """Return what is so now."""
    head = store.head()
    return facts_of(store, store.one_log, 0 if head is None else head.last_at)


def facts_of(reader: TreeReader, one_log: bool, last_at: int) -> TreeFacts:
    """Return what a store or a view says; `last_at` is the instant of the newest entry of the one log."""
    state, newest = reader.tree_state(), reader.checkpoint()
    # In one log an entry is never earlier than the one before it; in several, the tree says what can still come.
    return TreeFacts(
        origin=state.origin,
        key=state.key,
        size=0 if newest is None else newest.size,
        checkpoint=None if newest is None else newest.note.decode("utf-8", "replace"),
        horizon=last_at if one_log else state.horizon,
        waiting=not one_log and bool(reader.pending(1)),
    )


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
