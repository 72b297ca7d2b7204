"""The index of columns on PostgreSQL: many lists, and many entries, in one question to the server.

Left to others: filling (the function of `0004_index.sql`), everything else of reading (`indexreading`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from policy_engine.store.indexinterfaces import Candidate, IndexReader, Position, ReadEntry
from policy_engine.store.indexreading import StoreIndex
from policy_engine.store.sessions import Query, Reader

_LISTED = (
    "SELECT l.label, p.leaf, p.seq FROM unnest(?::integer[]) AS l (label) CROSS JOIN LATERAL ("
    " SELECT c.leaf, c.seq FROM policy_engine.columns c WHERE c.label = l.label"
    " AND (c.leaf, c.seq) > (?::bigint, ?::bigint) AND (c.leaf, c.seq) < (?::bigint, ?::bigint)"
    " ORDER BY {order} LIMIT ?::bigint) AS p"
)
_OLDEST: Final = Query(_LISTED.format(order="c.leaf, c.seq"))
_NEWEST: Final = Query(_LISTED.format(order="c.leaf DESC, c.seq DESC"))
_TAGGED = (
    "SELECT w.place, t.seq FROM unnest(?::bytea[]) WITH ORDINALITY AS w (tag, place) CROSS JOIN LATERAL ("
    " SELECT g.seq FROM policy_engine.tags g WHERE g.tag = w.tag AND g.log_id = ?"
    " AND g.seq >= ?::bigint AND g.seq <= ?::bigint ORDER BY {order} LIMIT ?::bigint) AS t"
)
_TAGGED_OLDEST: Final = Query(_TAGGED.format(order="g.seq"))
_TAGGED_NEWEST: Final = Query(_TAGGED.format(order="g.seq DESC"))
_SPANS_BETWEEN: Final = Query(
    "SELECT p.first_seq, p.leaf, p.labels FROM policy_engine.spans p WHERE p.log_id = ? AND p.first_seq <= ?::bigint"
    " AND p.first_seq >= (SELECT max(o.first_seq) FROM policy_engine.spans o"
    " WHERE o.log_id = ? AND o.first_seq <= ?::bigint) ORDER BY p.first_seq"
)
_SPANS_OF: Final = Query(
    "SELECT t.seq, s.leaf, substr(s.labels, ((t.seq - s.first_seq) * 4 + 1)::integer, 4)"
    " FROM unnest(?::bigint[]) AS t (seq) CROSS JOIN LATERAL (SELECT p.leaf, p.first_seq, p.labels"
    " FROM policy_engine.spans p WHERE p.log_id = ? AND p.first_seq <= t.seq ORDER BY p.first_seq DESC LIMIT 1) AS s"
    " ORDER BY t.seq"
)
_DENSE_RATIO: Final = 16
"""Where entries with a tag lie no farther apart than this, all spans between them are read in one go."""
_HAVING: Final = Query(
    "SELECT g.log_id, g.seq FROM unnest(?::bytea[]) AS w (tag)"
    " CROSS JOIN unnest(?::text[], ?::bigint[]) AS p (log_id, seq)"
    " JOIN policy_engine.tags g ON g.tag = w.tag AND g.log_id = p.log_id AND g.seq = p.seq"
)
_FETCH: Final = Query(
    "SELECT p.leaf, s.log_id, p.seq, e.public, CASE WHEN ?::boolean THEN"
    " (SELECT b.tags FROM policy_engine.bodies b WHERE b.log_id = e.log_id AND b.seq = e.seq) END"
    " FROM unnest(?::bigint[], ?::bigint[]) WITH ORDINALITY AS p (leaf, seq, place)"
    " JOIN policy_engine.spans s ON s.leaf = p.leaf"
    " JOIN policy_engine.entries e ON e.log_id = s.log_id AND e.seq = p.seq ORDER BY p.place"
)


class PostgresStoreIndex(StoreIndex):
    """See `indexinterfaces.IndexReader`."""

    def listed(
        self, labels: Sequence[int], after: Position, before: Position, *, newest_first: bool, count: int
    ) -> dict[int, list[Candidate]]:
        """Return the first `count` entries of each label between two bounds; their logs are left out."""
        found: dict[int, list[Candidate]] = {label: [] for label in labels}
        statement = _NEWEST if newest_first else _OLDEST
        for label, leaf, seq in self._reader.all(statement, list(labels), *after, *before, count):
            found[label].append(Candidate((leaf, seq), "", label))
        for entries in found.values():
            entries.sort(reverse=newest_first)
        return found

    def tagged(
        self, tags: Sequence[bytes], log_id: str, first: int, last: int, *, newest_first: bool, count: int
    ) -> dict[bytes, list[Candidate]]:
        """Return the first `count` indexed entries of a log with each tag, from number `first` to `last`."""
        found: dict[bytes, list[Candidate]] = {tag: [] for tag in tags}
        statement = _TAGGED_NEWEST if newest_first else _TAGGED_OLDEST
        rows = self._reader.all(statement, list(tags), log_id, first, last, count)
        known = self._candidates(log_id, sorted({seq for _, seq in rows}))
        for place, seq in rows:
            found[tags[place - 1]].append(known[seq])
        for entries in found.values():
            entries.sort(reverse=newest_first)
        return found

    def _candidates(self, log_id: str, seqs: Sequence[int]) -> dict[int, Candidate]:
        """Return the indexed entries of a log with these numbers, which are in order."""
        if not seqs:
            return {}
        if seqs[-1] - seqs[0] > _DENSE_RATIO * len(seqs):
            rows = self._reader.all(_SPANS_OF, list(seqs), log_id)
        else:
            spans = self._reader.all(_SPANS_BETWEEN, log_id, seqs[-1], log_id, seqs[0])
            rows = [(seq, *labelled) for seq, labelled in zip(seqs, _labelled(spans, seqs), strict=True)]
        return {seq: Candidate((leaf, seq), log_id, int.from_bytes(label, "big")) for seq, leaf, label in rows}

    def having(self, tags: Sequence[bytes], places: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those of some indexed entries that have any of the tags."""
        logs, seqs = [log_id for log_id, _ in places], [seq for _, seq in places]
        return {(str(log_id), int(seq)) for log_id, seq in self._reader.all(_HAVING, list(tags), logs, seqs)}

    def fetch(self, positions: Sequence[Position], *, with_tags: bool) -> list[ReadEntry]:
        """Return the entries at positions in the tree, in the order asked for."""
        leaves, seqs = [leaf for leaf, _ in positions], [seq for _, seq in positions]
        return [
            ReadEntry((leaf, seq), log_id, seq, bytes(public), b"" if tags is None else bytes(tags))
            for leaf, log_id, seq, public, tags in self._reader.all(_FETCH, with_tags, leaves, seqs)
        ]


def _labelled(spans: Sequence[Any], seqs: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the leaf and the label of each number, from the spans that hold them, both in order."""
    place, last = 0, len(spans) - 1
    for seq in seqs:
        while place < last and spans[place + 1][0] <= seq:
            place += 1
        first, leaf, labels = spans[place]
        yield leaf, labels[(seq - first) * 4 : (seq - first) * 4 + 4]


class PostgresFinding:
    """See `indexinterfaces.FindingStore`; `PostgresReading` lends its connections."""

    @abstractmethod
    def _streaming(self) -> AbstractContextManager[Reader]:
        """Lend a connection for a long read."""

    @contextmanager
    def finding(self) -> Iterator[IndexReader]:
        """Return everything at one moment, for finding entries."""
        with self._streaming() as reader, reader.at_one_moment():
            yield PostgresStoreIndex(reader, one_log=False)
