"""Verifying the index of columns against the log: what it has is what the entries say, and it has all of them.

Rules: entries are read again from the leaves of the tree, up to the mark; every position is looked for in the list of
its label, and the lists have no more. An index that lacks an entry would leave it out of answers: that is a finding.
Left to others: entries and leaves themselves (`verify`, `verifytree`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from policy_engine.store.indexing import ID_BYTES, LABEL_BYTES, id_bytes, label_of
from policy_engine.store.indexinterfaces import Era
from policy_engine.store.interfaces import LogView

Find = Callable[[str, str], None]


def verify_columns(view: LogView, find: Find) -> None:
    """Compare the index of columns in a view with the entries that it should have."""
    says = {label: _text(json.loads(text)) for label, text in view.labels()}
    if len(set(says.values())) != len(says):
        find("labels", "two labels of the index say the same")
    eras: dict[int, Era] = {}
    total, top, late = 0, 0, 0
    spans = view.scan_spans()
    for expected, publics in _leaves(view):
        leaf, log_id, first, n = expected
        place = f"leaf {leaf} of the index"
        span = next(spans, None)
        if span is None or tuple(span[:4]) != expected:
            find(place, "the index does not have the leaf of the tree that comes next")
            return
        total += n
        for seq, (data, label) in enumerate(zip(publics, _parts(span.labels, LABEL_BYTES), strict=True), start=first):
            public = json.loads(data)
            own = int.from_bytes(label, "big")
            at = public["at"]
            eras.setdefault(public["epoch"], Era(public["epoch"], public["release"], leaf, at))
            right = says.get(own) == _text(label_of(public)) and view.has_column(own, leaf, seq)
            known = span.ids[(seq - first) * ID_BYTES :][:ID_BYTES]
            if not right or known != id_bytes(public["id"]):
                find(f"entry {seq} of log {log_id}", "the index of columns says something else of it, or lacks it")
        top = max(top, at)
        late = max(late, top - at)
        if (span.at, span.top, span.late) != (at, top, late):
            find(place, "its instants are not those of its entries")
    if next(spans, None) is not None or view.columns_count() != total:
        find("columns", "the index has more, or less, than the entries before its mark")
    if view.eras() != sorted(eras.values(), key=lambda era: era.epoch):
        find("eras", "the epochs of the index are not those of the entries")


def _leaves(view: LogView) -> Iterator[tuple[tuple[int, str, int, int], list[bytes]]]:
    """Yield each batch leaf before the mark, as the index should have it, with its entries."""
    for leaf in view.scan_leaves(0, view.tree_state().indexed):
        if leaf.batch is not None:
            header = json.loads(leaf.data)
            first, n = header["first"], header["n"]
            yield (leaf.leaf, leaf.log_id, first, n), list(view.public_parts(leaf.log_id, first, first + n))


def _parts(joined: bytes, size: int) -> list[bytes]:
    return [joined[start : start + size] for start in range(0, len(joined), size)]


def _text(label: object) -> str:
    return json.dumps(label, sort_keys=True)
