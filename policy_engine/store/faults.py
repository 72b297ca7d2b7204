"""What errors of the database driver mean, as sentences of `StoreUnavailable`. No value of a statement is repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pysqlite3.dbapi2 as dbapi
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from policy_engine.errors import StoreDamaged, StoreUnavailable

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

NO_READER = (
    "every connection for long reads is in use; wait until an export, report or question has ended, and try again"
)
"""Said when no connection of the pool came free in time. Nothing is wrong with the database."""

_LACKS = re.compile(r"no such (?:table|column): [a-z_.]{1,64}")
"""What SQLite says of a table or column that is gone. Its name is the program's own."""

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
    if isinstance(error, PoolTimeout):
        return NO_READER
    lacks = _LACKS.fullmatch(_text(error))
    if lacks is not None:
        return f"the database was changed by hand ({lacks[0]}); stop, keep the file, and restore a verified copy"
    return "the database does not answer as it should; see the operator's log"


def is_damage(error: BaseException) -> bool:
    """Return whether the file could be read, and what it holds is not what this program made."""
    return error_name(error).startswith("SQLITE_CORRUPT") or _LACKS.fullmatch(_text(error)) is not None


def _text(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error)


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors of the driver into `StoreUnavailable`; into `StoreDamaged` where the file itself is wrong."""
    try:
        yield
    except (dbapi.Error, SQLAlchemyError) as error:
        kind = StoreDamaged if is_damage(error) else StoreUnavailable
        raise kind(sentence(error), where="database") from error
