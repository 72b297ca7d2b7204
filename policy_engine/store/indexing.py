"""Filling the index of public columns behind the commits: what a label says, and the work on one SQLite file.

Rules of the room: leaves are taken whole and in the order of the tree, so that one number says how far the index goes;
what an entry says is read from its stored bytes. A label leaves out what hardly two entries share (ids of switches,
orders and proposals that a change is about, epoch, release): questions about those are narrowed otherwise.
Left to others: reading (`indexreading`), when to fill (`services.record`), PostgreSQL (`migrations`, `pgindex`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from policy_engine.store import indexstatements as statements
from policy_engine.store import treestatements
from policy_engine.store.indexinterfaces import Backlog
from policy_engine.store.sessions import Writer
from policy_engine.store.tree import read_tree

ID_BYTES = 4
"""How much of an entry's id is in the index: enough that hardly ever two are read for one."""

LABEL_BYTES = 4

MEMBERS = ("action", "asked", "by", "kind", "model", "outcome", "tenant", "tier", "what")
DECISION_MEMBERS = (*MEMBERS, "flags", "licences", "lifted", "missing", "reasons", "rules")
"""What a label says of an entry, and of a decision; `label_of` in `0004_index.sql` says the same."""

_ID = re.compile(r"[0-9a-f]{32}")


def label_of(public: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an entry says as many others do."""
    names = DECISION_MEMBERS if public["kind"] == "decision" else MEMBERS
    return {name: public[name] for name in names if name in public}


def id_bytes(id: object) -> bytes:
    """Return what the index keeps of an id."""
    text = str(id)
    return bytes.fromhex(text[: 2 * ID_BYTES]) if _ID.fullmatch(text) else bytes(ID_BYTES)


@dataclass
class _Rows:
    """The rows to add, and what is known of those that are there."""

    top: int
    late: int
    spans: list[tuple[Any, ...]] = field(default_factory=list)
    columns: list[tuple[int, int, int]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    eras: dict[int, tuple[Any, ...]] = field(default_factory=dict)


def index_columns(writer: Writer, count: int) -> Backlog:
    """Index up to `count` further entries, or one leaf that has more, and return what is left."""
    tree = read_tree(writer)
    end = tree.indexed
    if tree.indexed < tree.size:
        last = writer.one(statements.LAST_SPAN) or (0, 0)
        rows = _Rows(*last)
        done = 0
        for leaf, log_id, first, n in writer.all(statements.LEAVES_TO_INDEX, tree.indexed, count):
            if n is not None:
                if done and done + n > count:
                    break
                _add_leaf(writer, rows, leaf, log_id, first, n)
                done += n
            end = leaf + 1
        rows.columns.sort()
        if rows.spans:
            writer.insert_many(statements.ADD_COLUMN, rows.columns)
            writer.insert_many(statements.ADD_SPAN, rows.spans)
        writer.run(statements.MOVE_INDEXED, end)
    pending = writer.one(statements.COUNT_PENDING)
    return Backlog(tree.size - end, 0 if pending is None else int(pending[0]))


def _add_leaf(writer: Writer, rows: _Rows, leaf: int, log_id: str, first: int, n: int) -> None:
    """Collect the rows of one batch."""
    ids, labels, at = [], [], 0
    for seq, (data,) in enumerate(writer.all(treestatements.READ_PUBLIC_PARTS, log_id, first, first + n), start=first):
        public = json.loads(data)
        label = _label(writer, rows, public)
        at = public["at"]
        rows.columns.append((label, leaf, seq))
        ids.append(id_bytes(public["id"]))
        labels.append(label.to_bytes(LABEL_BYTES, "big"))
        epoch = public["epoch"]
        if epoch not in rows.eras:
            rows.eras[epoch] = (epoch, public["release"], leaf, at)
            if writer.one(statements.FIND_ERA, epoch) is None:
                writer.run(statements.ADD_ERA, *rows.eras[epoch])
    rows.top = max(rows.top, at)
    rows.late = max(rows.late, rows.top - at)
    rows.spans.append((leaf, log_id, first, n, at, rows.top, rows.late, b"".join(ids), b"".join(labels)))


def _label(writer: Writer, rows: _Rows, public: Mapping[str, Any]) -> int:
    """Return the number of an entry's label, giving it one if it is new."""
    says = json.dumps(label_of(public), sort_keys=True, separators=(",", ":"))
    label = rows.labels.get(says)
    if label is None:
        digest = sha256(says.encode()).digest()
        found = writer.one(statements.FIND_LABEL, digest)
        if found is None:
            last = writer.one(statements.LAST_LABEL)
            label = 1 + (0 if last is None else int(last[0]))
            writer.run(statements.ADD_LABEL, label, digest, says)
        else:
            label = int(found[0])
        rows.labels[says] = label
    return label
