"""The global tree on SQLite: one log that is opened once, and growing by compare-and-swap under the write lock.

Rules of the room: the transaction that grows the tree writes and does nothing else, because decisions wait for it.
Left to others: reading (`tree`), what a growth is made of (`services.sequencer`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from policy_engine.store import entries
from policy_engine.store import statements as log_statements
from policy_engine.store import treestatements as statements
from policy_engine.store.sessions import Reader, Writer
from policy_engine.store.tree import Opening, StoreTree
from policy_engine.store.treewriting import Growth, TreeView
from policy_engine.store.view import StoreView

_T = TypeVar("_T")


class SqliteTreeView(StoreView):
    """A view that reads the entries of a batch in one step: each step takes the interpreter from those that decide."""

    def public_parts(self, log_id: str, first: int, end: int) -> Iterator[bytes]:
        """Yield the public bytes of the entries `first <= seq < end` of a log."""
        count, joined = self._reader.one(statements.JOIN_PUBLIC_PARTS, log_id, first, end) or (0, None)
        parts = bytes(joined or b"").split(b"\n")
        # No entry holds a newline; one that somebody changed may, and then the rows tell them apart.
        return iter(parts) if len(parts) == count else super().public_parts(log_id, first, end)


class SqliteTree(StoreTree):
    """See `treewriting.TreeStore`; `SqliteStore` lends its transactions."""

    _opening: Opening

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Reader]:
        """Lend the connection for quick reads."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Writer]:
        """Hold the write lock around a transaction."""

    def _read(self, question: Callable[[Reader], _T]) -> _T:
        with self._reading() as reader:
            return question(reader)

    def leads(self) -> bool:
        """Return true: whoever writes to the file may integrate."""
        return True

    @contextmanager
    def tree_view(self) -> Iterator[TreeView]:
        """Return the tree as of one moment."""
        with self._streaming() as reader, reader.at_one_moment():
            yield SqliteTreeView(reader)

    def adopt_logs(self) -> None:
        """Open the log of a file that was begun before there was a tree; receipts name this store's key from now on."""
        with self._transaction() as writer:
            for (log_id,) in writer.all(statements.UNOPENED_LOGS):
                row = writer.one(log_statements.READ_BATCH, log_id, 0)
                if row is not None:
                    leaf = self._opening.adopting(log_id, bytes(row[2]), key=True)
                    writer.run(statements.ADD_EVENT, log_id, "open", leaf)

    def certain(self) -> None:
        """Return `None`: one log, whose instants never go back."""
        return

    def integrate(self, growth: Growth) -> bool:
        """Write a growth if the tree still has the size it was made for."""
        after = growth.size + len(growth.leaves)
        with self._transaction() as writer:
            moved = (after, growth.origin, growth.key, growth.horizon, growth.size)
            if writer.run(statements.MOVE_TREE, *moved) != 1:
                writer.rollback()
                return False
            rows = [
                (leaf.leaf, leaf.log_id, leaf.batch, leaf.data if leaf.batch is None else None)
                for leaf in growth.leaves
            ]
            writer.insert_many(statements.ADD_LEAF, rows)
            for (level, number), data in growth.tiles.items():
                if writer.run(statements.GROW_TILE, data, level, number) == 0:
                    writer.run(statements.ADD_TILE, level, number, data)
            for log_id, (opened, batches, ended) in growth.logs.items():
                if writer.run(statements.MOVE_LOG, batches, ended, log_id) == 0:
                    writer.run(statements.ADD_LOG, log_id, opened, batches, ended)
            writer.run(statements.ADD_CHECKPOINT, after, growth.note, growth.at)
        return True

    def move_horizon(self, size: int, horizon: int) -> None:
        """Do nothing: the horizon moves with the leaves."""

    def look_after_logs(self) -> None:
        """Do nothing: the one log of a file never ends."""

    def cosign(self, size: int, cosigner: str, line: str) -> None:
        """Keep a witness's signature line under a checkpoint."""
        with self._transaction() as writer:
            if writer.one(statements.READ_COSIGNATURE, size, cosigner) is None:
                writer.run(statements.ADD_COSIGNATURE, size, cosigner, line)

    def _begin_log(self, writer: Writer, moment: entries.Moment) -> None:
        """Open the log in the transaction of its first batch."""
        if moment.head.next_batch == 0:
            state = moment.state
            leaf = self._opening.leaf(moment.head.log_id, state.epoch, state.release, moment.at)
            writer.run(statements.ADD_EVENT, moment.head.log_id, "open", leaf)
