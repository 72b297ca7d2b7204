"""What the errors of the database say, and what the small parts of the store promise."""

from __future__ import annotations

import pysqlite3.dbapi2 as dbapi
import pytest
from sqlalchemy import bindparam, select

from policy_engine.errors import StoreDamaged, StoreUnavailable
from policy_engine.store import entries
from policy_engine.store.faults import is_busy, reported, sentence
from policy_engine.store.interfaces import Encoded, Head
from policy_engine.store.sessions import query
from policy_engine.store.sqlite import SqliteStore
from policy_engine.store.tables import state
from tests.store.samples import SqliteDatabase, genesis


@pytest.fixture
def database(sqlite_database: SqliteDatabase) -> SqliteDatabase:
    """A file: what is tested here is about files."""
    return sqlite_database


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SQLITE_BUSY_SNAPSHOT", "locked by another process"),
        ("SQLITE_FULL", "full; free some space"),
        ("SQLITE_IOERR_FSYNC", "failed to read or write"),
        ("SQLITE_CANTOPEN", "cannot be opened"),
        ("SQLITE_READONLY_DIRECTORY", "may not be written"),
        ("SQLITE_CORRUPT_INDEX", "damaged"),
        ("SQLITE_NOTADB", "no database of this engine"),
        ("SQLITE_MISUSE", "does not answer as it should"),
    ],
)
def test_each_error_has_a_sentence_with_a_remedy(name: str, words: str) -> None:
    """Errors of the driver are told by their extended names, and no detail of a statement is repeated."""
    error = dbapi.OperationalError("INSERT INTO persons VALUES ('planted')")
    error.sqlite_errorname = name
    assert words in sentence(error)
    assert is_busy(error) is name.startswith("SQLITE_BUSY")
    with pytest.raises(StoreUnavailable, match=words) as unavailable, reported():
        raise error
    assert "planted" not in str(unavailable.value)


def test_a_table_that_is_gone_is_damage() -> None:
    """A missing table or column is told by its name, and apart from a database that cannot be reached."""
    error = dbapi.OperationalError("no such table: entries")
    with pytest.raises(StoreDamaged, match="no such table: entries"), reported():
        raise error
    with pytest.raises(StoreUnavailable, match="does not answer") as other, reported():
        raise dbapi.OperationalError("no such table: 'planted'")
    assert not isinstance(other.value, StoreDamaged)


def test_an_error_of_another_kind_passes() -> None:
    """Only errors of the driver are turned into an unavailable store."""
    with pytest.raises(KeyError), reported():
        raise KeyError("x")


def test_a_statement_names_its_parameters_in_order() -> None:
    """A statement compiled with other parameters than it says is a programming error at import."""
    expression = select(state.c.id).where(state.c.id == bindparam("a"), state.c.epoch == bindparam("b"))
    with pytest.raises(ValueError, match="takes"):
        query(expression, "b", "a")


def test_a_head_that_is_not_the_one_read_is_not_moved(store: SqliteStore) -> None:
    """Even a caller with a wrong idea of the head cannot write behind the real one."""
    genesis(store)
    head = store.head()
    assert head is not None
    wrong = Head(head.log_id, head.next_seq, head.next_batch, "00" * 32, head.last_at, head.tagged)
    moment = entries.Moment(store.state(), wrong, store.now())
    with pytest.raises(StoreUnavailable, match="head of the log"), store._transaction() as writer:
        entries.write_batch(writer, [Encoded(b"{}", b"", None)], moment, moment.state)
    assert store.head() == head
    assert len(list(store.entries())) == 1
