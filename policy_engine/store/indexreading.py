"""Finding entries at one moment, on any store: positions, lists of labels and tags, and plain reading.

Rules of the room: valid inside one transaction that reads; what is not indexed is read; nothing is decided here.
Left to others: which lists are asked for, and whether an entry is what was asked for (`services.finding`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby

from policy_engine.store import entries
from policy_engine.store import indexstatements as statements
from policy_engine.store.indexing import ID_BYTES, id_bytes
from policy_engine.store.indexinterfaces import PENDING, Candidate, Era, Marks, Position, ReadEntry, Span
from policy_engine.store.sessions import Reader
from policy_engine.store.tree import read_tree

CLOSE_COUNT = 4
"""How far apart entries may lie that are read together: one more row costs less than one more statement."""

READ_COUNT = 1_000
"""Entries read at a time where nothing says how many are wanted."""


class ReadIndex:
    """See `indexinterfaces.IndexViewer`. `_reader` reads it."""

    _reader: Reader

    def labels(self, after: int = 0) -> list[tuple[int, str]]:
        """Return `(label, text)` of the labels behind one."""
        return [(int(label), str(says)) for label, says in self._reader.all(statements.READ_LABELS, after)]

    def eras(self) -> list[Era]:
        """Return every epoch that is indexed."""
        return [Era(*row) for row in self._reader.all(statements.READ_ERAS)]

    def scan_spans(self) -> Iterator[Span]:
        """Yield the leaves of the index in order."""
        for row in self._reader.stream(statements.SCAN_SPANS):
            yield Span(*row)

    def columns_count(self) -> int:
        """Return how many entries the lists of all labels have."""
        row = self._reader.one(statements.COUNT_COLUMNS)
        return 0 if row is None else int(row[0])

    def has_column(self, label: int, leaf: int, seq: int) -> bool:
        """Return whether the list of a label has an entry."""
        return self._reader.one(statements.HAS_COLUMN, label, leaf, seq) is not None


class StoreIndex(ReadIndex):
    """See `indexinterfaces.IndexReader`. Valid while the transaction of its reader is open."""

    def __init__(self, reader: Reader, *, one_log: bool) -> None:
        self._reader = reader
        self._one_log = one_log

    def marks(self) -> Marks:
        """Return how far this moment's answers go."""
        tree = read_tree(self._reader)
        heads = entries.read_heads(self._reader)
        pending = self._reader.one(statements.COUNT_PENDING)
        last_at = max((head.last_at for head in heads), default=0)
        first = self._reader.one(statements.FIRST_ENTRY)
        tagged = tree.size
        for log_id, seq in self._reader.all(statements.UNTAGGED_HEADS):
            position = self.position_of(str(log_id), seq)
            tagged = min(tagged, tree.size if position is None else position[0])
        return Marks(
            one_log=self._one_log,
            indexed=tree.indexed,
            tagged=tagged,
            horizon=max(tree.horizon, last_at) if self._one_log else tree.horizon,
            pending=pending is not None and int(pending[0]) > 0,
            first_at=last_at if first is None else int(json.loads(bytes(first[0]))["at"]),
            last_at=last_at,
        )

    def position_of(self, log_id: str | None, seq: int) -> Position | None:
        """Return the position of an entry; `None` when it has none."""
        log_id = self._only_log() if log_id is None else log_id
        if log_id is None or not 0 <= seq < PENDING:
            return None
        batch = self._reader.one(statements.BATCH_OF_ENTRY, log_id, seq)
        if batch is None or seq >= batch[1]:
            return None
        leaf = self._reader.one(statements.LEAF_OF_BATCH, log_id, batch[0])
        if leaf is not None:
            return int(leaf[0]), seq
        return (PENDING, seq) if self._one_log else None

    def _only_log(self) -> str | None:
        heads = entries.read_heads(self._reader)
        return heads[0].log_id if self._one_log and heads else None

    def leaf_reached(self, instant: int) -> int:
        """Return the first indexed leaf at which some entry had this instant or a later one, by halving."""
        low, high = 0, read_tree(self._reader).indexed
        while low < high:
            middle = (low + high) // 2
            row = self._reader.one(statements.TOP_FROM, middle)
            if row is None or row[1] >= instant:
                high = middle
            else:
                low = int(row[0]) + 1
        return low

    def lateness(self) -> int:
        """Return by how much an indexed entry was ever dated before one that came earlier in the tree."""
        row = self._reader.one(statements.LAST_SPAN)
        return 0 if row is None else int(row[1])

    def listed(
        self, labels: Sequence[int], after: Position, before: Position, *, newest_first: bool, count: int
    ) -> dict[int, list[Candidate]]:
        """Return the first `count` entries of each label between two bounds; their logs are left out."""
        statement = statements.LISTED_NEWEST if newest_first else statements.LISTED_OLDEST
        return {
            label: [
                Candidate(position, "", label)
                for position in self._reader.all(statement, label, *after, *before, count)
            ]
            for label in labels
        }

    def logs_between(self, after: Position, before: Position) -> list[tuple[str, Position, Position]]:
        """Return each log in the tree with its first and last position between two bounds, if it has one."""
        found = []
        for (log_id,) in self._reader.all(statements.LOGS_BETWEEN, before[0] + 1, after[0]):
            first, last = self._first(str(log_id), after), self._last(str(log_id), before)
            if first is not None and last is not None and first <= last:
                found.append((str(log_id), first, last))
        return found

    def _first(self, log_id: str, after: Position) -> Position | None:
        row = self._reader.one(statements.FIRST_SPAN, log_id, after[0])
        if row is not None and row[0] == after[0]:
            if after[1] + 1 < row[1] + row[2]:
                return row[0], max(row[1], after[1] + 1)
            row = self._reader.one(statements.FIRST_SPAN, log_id, after[0] + 1)
        return None if row is None else (row[0], row[1])

    def _last(self, log_id: str, before: Position) -> Position | None:
        row = self._reader.one(statements.LAST_SPAN_OF, log_id, before[0])
        if row is not None and row[0] == before[0]:
            if before[1] > row[1]:
                return row[0], min(row[1] + row[2], before[1]) - 1
            row = self._reader.one(statements.LAST_SPAN_OF, log_id, before[0] - 1)
        return None if row is None else (row[0], row[1] + row[2] - 1)

    def tagged(
        self, tags: Sequence[bytes], log_id: str, first: int, last: int, *, newest_first: bool, count: int
    ) -> dict[bytes, list[Candidate]]:
        """Return the first `count` indexed entries of a log with each tag, from number `first` to `last`."""
        statement = statements.TAGGED_NEWEST if newest_first else statements.TAGGED_OLDEST
        return {
            tag: [
                Candidate((leaf, seq), log_id, int.from_bytes(label, "big"))
                for leaf, seq, label in self._reader.all(statement, tag, log_id, first, last, count)
            ]
            for tag in tags
        }

    def having(self, tags: Sequence[bytes], places: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those of some indexed entries that have any of the tags."""
        numbers: dict[str, list[int]] = {}
        for log_id, seq in places:
            numbers.setdefault(log_id, []).append(seq)
        return {
            (log_id, int(seq))
            for log_id, seqs in numbers.items()
            for tag in tags
            for (seq,) in self._reader.all(statements.HAVING_TAG, tag, log_id, json.dumps(seqs))
        }

    def fetch(self, positions: Sequence[Position], *, with_tags: bool) -> list[ReadEntry]:
        """Return the entries at positions in the tree. Neighbours in a batch are read together."""
        statement = statements.FETCH_WITH_TAGS if with_tags else statements.FETCH
        found: list[ReadEntry] = []
        for leaf, seqs in _runs(positions):
            for seq, log_id, public, *tags in self._reader.all(statement, leaf, min(seqs), max(seqs)):
                if seq in seqs:
                    found.append(
                        ReadEntry((leaf, seq), log_id, seq, bytes(public), bytes(tags[0] or b"") if tags else b"")
                    )
        return found

    def read(
        self, after: Position, before: Position, *, newest_first: bool, with_tags: bool, count: int
    ) -> list[ReadEntry]:
        """Return the first `count` entries between two bounds, index or not."""
        found: list[ReadEntry] = []
        for part in (self._pending, self._in_tree) if newest_first else (self._in_tree, self._pending):
            if len(found) < count:
                found += part(after, before, newest_first, count - len(found))
        if with_tags:
            return [entry._replace(tags=self._tags(entry.log_id, entry.seq)) for entry in found]
        return found

    def _tags(self, log_id: str, seq: int) -> bytes:
        row = self._reader.one(statements.FETCH_TAGS, log_id, seq)
        return b"" if row is None else bytes(row[0])

    def _in_tree(self, after: Position, before: Position, newest_first: bool, count: int) -> list[ReadEntry]:
        statement = statements.READ_NEWEST if newest_first else statements.READ_OLDEST
        return [
            ReadEntry((leaf, seq), log_id, seq, bytes(public), b"")
            for leaf, log_id, seq, public in self._reader.all(statement, after[0], before[0], *after, *before, count)
        ]

    def _pending(self, after: Position, before: Position, newest_first: bool, count: int) -> list[ReadEntry]:
        """Return what is not in the tree, where there is one log."""
        log_id = self._only_log()
        if log_id is None or before[0] < PENDING:
            return []
        row = self._reader.one(statements.FIRST_PENDING, log_id)
        first = 0 if row is None or row[1] is None else int(row[1])
        low = max(first - 1, after[1] if after[0] == PENDING else -1)
        statement = statements.PENDING_NEWEST if newest_first else statements.PENDING_OLDEST
        return [
            ReadEntry((PENDING, seq), log, seq, bytes(public), b"")
            for log, seq, public in self._reader.all(statement, log_id, low, before[1], count)
        ]

    def named(self, id: str) -> Iterator[ReadEntry]:
        """Yield entries whose id begins as this one does: the indexed ones, then those behind the index."""
        wanted = id_bytes(id)
        for leaf, first, ids in self._reader.stream(statements.SPANS_OF_IDS):
            at = ids.find(wanted)
            while at >= 0:
                if at % ID_BYTES == 0:
                    yield from self.fetch([(leaf, first + at // ID_BYTES)], with_tags=False)
                at = ids.find(wanted, at + 1)
        after, end = (read_tree(self._reader).indexed, -1), (PENDING, PENDING)
        while True:
            part = self.read(after, end, newest_first=False, with_tags=False, count=READ_COUNT)
            yield from part
            if len(part) < READ_COUNT:
                return
            after = part[-1].position


def _runs(positions: Sequence[Position]) -> Iterator[tuple[int, set[int]]]:
    """Yield positions by leaf, those of one leaf together as far as they lie close to each other."""
    for leaf, group in groupby(sorted(positions), key=lambda position: position[0]):
        run: set[int] = set()
        last = 0
        for _, seq in group:
            if run and seq - last > CLOSE_COUNT:
                yield leaf, run
                run = set()
            run.add(seq)
            last = seq
        yield leaf, run
