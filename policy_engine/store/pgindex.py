"""The index of columns on PostgreSQL: many lists, and many entries, in one question to the server.

Left to others: filling (the function of `0004_index.sql`), everything else of reading (`indexreading`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final

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
    "SELECT t.tag, s.leaf, t.seq, substr(s.labels, ((t.seq - s.first_seq) * 4 + 1)::integer, 4)"
    " FROM unnest(?::bytea[]) AS w (tag) CROSS JOIN LATERAL ("
    " SELECT g.tag, g.seq FROM policy_engine.tags g WHERE g.tag = w.tag AND g.log_id = ?"
    " AND g.seq >= ?::bigint AND g.seq <= ?::bigint ORDER BY {order} LIMIT ?::bigint) AS t"
    " CROSS JOIN LATERAL (SELECT p.leaf, p.first_seq, p.labels FROM policy_engine.spans p"
    " WHERE p.log_id = ? AND p.first_seq <= t.seq ORDER BY p.first_seq DESC LIMIT 1) AS s"
)
_TAGGED_OLDEST: Final = Query(_TAGGED.format(order="g.seq"))
_TAGGED_NEWEST: Final = Query(_TAGGED.format(order="g.seq DESC"))
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
        rows = self._reader.all(statement, list(tags), log_id, first, last, count, log_id)
        for tag, leaf, seq, label in rows:
            found[bytes(tag)].append(Candidate((leaf, seq), log_id, int.from_bytes(label, "big")))
        for entries in found.values():
            entries.sort(reverse=newest_first)
        return found

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
