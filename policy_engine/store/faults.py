"""What errors of the database driver mean, as sentences of `StoreUnavailable`. No value of a statement is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pysqlite3.dbapi2 as dbapi
from sqlalchemy.exc import SQLAlchemyError

from policy_engine.errors import StoreUnavailable

DatabaseError: type[Exception] = dbapi.Error
"""Base of the driver's errors."""

IntegrityError: type[Exception] = dbapi.IntegrityError
"""The schema refused a row."""

_SENTENCES = {
    "SQLITE_BUSY": "the database is locked by another process; look for a long transaction, and try again",
    "SQLITE_LOCKED": "the database is locked by another process; look for a long transaction, and try again",
    "SQLITE_FULL": "the disk that holds the database is full; free some space, and writing resumes by itself",
    "SQLITE_IOERR": "the disk that holds the database failed to read or write; check the disk and its free space",
    "SQLITE_CANTOPEN": "the database file cannot be opened; check that it is there and may be written",
    "SQLITE_READONLY": "the database file may not be written; check its permissions and its disk",
    "SQLITE_PERM": "the database file may not be written; check its permissions and its disk",
    "SQLITE_CORRUPT": "the database file is damaged; stop, keep the file, and restore a verified copy",
    "SQLITE_NOTADB": "the file is no database of this engine; check the path",
}

BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")


def error_name(error: BaseException) -> str:
    """Return the driver's own name of an error, such as `SQLITE_FULL`, or an empty text."""
    origin = getattr(error, "orig", None) or error
    return str(getattr(origin, "sqlite_errorname", "") or "")


def is_busy(error: BaseException) -> bool:
    """Return whether another process merely held the lock: nothing was written, nothing is in doubt."""
    return error_name(error).startswith(BUSY)


def sentence(error: BaseException) -> str:
    """Return what an error means and what to do."""
    name = error_name(error)
    for start, text in _SENTENCES.items():
        if name.startswith(start):
            return text
    return "the database does not answer as it should; see the operator's log"


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors of the driver into `StoreUnavailable`."""
    try:
        yield
    except (dbapi.Error, SQLAlchemyError) as error:
        raise StoreUnavailable(sentence(error), where="database") from error
