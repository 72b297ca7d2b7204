"""The index of columns on one SQLite file: filling it behind the commits, and reading it at one moment.

Left to others: what is filled (`indexing`) and how it is read (`indexreading`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from policy_engine.store import indexing
from policy_engine.store.indexinterfaces import Backlog, IndexReader
from policy_engine.store.indexreading import StoreIndex
from policy_engine.store.sessions import Reader, Writer


class SqliteIndex:
    """See `indexinterfaces`; `SqliteStore` lends its transactions."""

    @abstractmethod
    def _streaming(self) -> AbstractContextManager[Reader]:
        """Lend a connection for a long read."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Writer]:
        """Hold the write lock around a transaction."""

    @contextmanager
    def finding(self) -> Iterator[IndexReader]:
        """Return everything at one moment, for finding entries."""
        with self._streaming() as reader, reader.at_one_moment():
            yield StoreIndex(reader, one_log=True)

    def index_columns(self, count: int) -> Backlog:
        """Index up to `count` further entries."""
        with self._transaction() as writer:
            return indexing.index_columns(writer, count)
