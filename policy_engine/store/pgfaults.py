"""What errors of psycopg mean, as sentences of `StoreUnavailable`. No value of a statement is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from policy_engine.errors import StoreUnavailable
from policy_engine.store.faults import NO_READER
from policy_engine.store.pgdriver import psycopg

ERRORS = (psycopg.Error, SQLAlchemyError)
"""What the driver raises, by itself or through SQLAlchemy."""

HEAD_MOVED = "PE002"
NOT_DURABLE = "PE003"
LOG_ENDED = "PE005"

_UNREACHABLE = (
    "the database server cannot be reached, or refuses the login; check that it runs, and the host, user, password and "
    "database of its URL"
)

_SENTENCES = (
    ("08", _UNREACHABLE),
    ("57P", "the database server is stopping or starting; writing resumes by itself when it is back"),
    ("53100", "the disk that holds the database is full; free some space, and writing resumes by itself"),
    ("53300", "the database server has no connection left; raise max_connections, or run fewer workers"),
    ("57014", "the server cancelled a statement; raise statement_timeout for the login, or look who cancelled it"),
    ("55P03", "the database is locked by another process; look for a long transaction, and try again"),
    ("58", "the disk that holds the database failed to read or write; check the disk and its free space"),
    ("25006", "the database takes no writes; name the primary in the database's URL"),
    ("42501", "the database role lacks a right; grant it policy_engine_writer or policy_engine_operator"),
    ("42P01", "the database lacks a table of this program; its owner must migrate it"),
    ("42883", "the database lacks a function of this program; its owner must migrate it"),
    (HEAD_MOVED, "the head of the log is not the one that was read"),
    (LOG_ENDED, "the log of this process was ended as if its writer were gone; another is opened at the next try"),
    (NOT_DURABLE, "the server does not make commits durable; set fsync, full_page_writes and synchronous_commit to on"),
)

_AWAY_CLASSES = ("57P", "53300")
REFUSED_CLASSES = ("22", "23", "42", "54", "55P03", "53100", "PE")
"""Errors that a statement was refused with: the transaction is undone, and nothing of it is in doubt."""


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of an error, or an empty text when the server did not answer."""
    origin = getattr(error, "orig", None) or error
    return str(getattr(origin, "sqlstate", "") or "")


def is_refused(error: BaseException) -> bool:
    """Return whether the server answered that it undid a statement: nothing is in doubt."""
    return state_of(error).startswith(REFUSED_CLASSES)


def is_away(error: BaseException) -> bool:
    """Return whether the server was not there to ask, so that trying again may help and nothing else was wrong."""
    return sentence(error) == _UNREACHABLE or state_of(error).startswith(_AWAY_CLASSES)


def sentence(error: BaseException) -> str:
    """Return what an error means and what to do."""
    state = state_of(error)
    for start, text in _SENTENCES:
        if state.startswith(start):
            return text
    if isinstance(error, PoolTimeout):
        return NO_READER
    origin = getattr(error, "orig", None) or error
    if not state and isinstance(origin, psycopg.OperationalError):
        return _UNREACHABLE
    return "the database does not answer as it should; see the operator's log"


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors of the driver into `StoreUnavailable`."""
    try:
        yield
    except ERRORS as error:
        raise StoreUnavailable(sentence(error), where="database") from error


@contextmanager
def reported_unless_refused() -> Iterator[None]:
    """The same, letting through that the schema refuses a row."""
    try:
        yield
    except psycopg.IntegrityError:
        raise
    except ERRORS as error:
        raise StoreUnavailable(sentence(error), where="database") from error
