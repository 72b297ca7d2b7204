"""Operational logs: one JSON object a line, events that are nouns with fields, and nothing personal.

Rules of the room:
- An event has a stable dotted name (`request.answered`); anything else is written as `event.unnamed`.
- Only the fields of `FIELDS` are written, and only short scalars or lists of them. A field that is not known is left
  out and its name (ours, never a caller's) listed in `dropped`: a new field is a deliberate line in this file.
- An exception is written as its class and the place it was raised; its text only where it is one of `errors.py`,
  whose sentences hold no personal fact.
- Lines of other libraries are written with their logger and level; their text only for loggers in `TEXT_FROM`.
The decision log is not here: it is the store's, durable and sealed. Left to others: metrics (`api`).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO

import structlog

from policy_engine.errors import PolicyEngineError

# fmt: off
FIELDS: Final = frozenset(
    (
        "approvers", "batch", "bytes", "cause", "cell", "code", "codes", "count", "database", "decision", "dropped",
        "entries", "epoch", "error", "folder", "host", "kind", "library", "log", "message", "method", "milliseconds",
        "model", "order", "outcome", "port", "process", "proposal", "queue", "reason", "register", "release",
        "replica", "route", "rows", "sample", "scope", "seconds", "seq", "signal", "status", "switch", "version",
        "where", "witness", "workers",
    )
)
# fmt: on
"""Every field a log line may carry beside `event`, `level` and `at`. None of them is about a person or a tenant."""

TEXT_FROM: Final = ("uvicorn", "alembic")
"""Loggers whose message templates are written. Their arguments are not: they may hold what a caller sent."""

_EVENT: Final = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)*")
_CHARACTERS_MAX: Final = 300
_ITEMS_MAX: Final = 50
_HANDLER_NAME: Final = "policy-engine"
_OWN: Final = "policy_engine"
"""The logger that an embedding program hears the engine through."""


def configure(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logging to one stream (standard error) as JSON lines.

    `level` is `debug`, `info`, `warning` or `error`. May be called again; the last call wins.
    """
    number = logging.getLevelNamesMapping()[level.upper()]

    def writer(*_: Any) -> structlog.WriteLogger:
        # Asked for at each line: who replaces sys.stderr later gets the lines, and nobody writes to a closed one.
        return structlog.WriteLogger(sys.stderr if stream is None else stream)

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            _only_known,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=writer,
        cache_logger_on_first_use=False,
    )
    handler = _LibraryHandler(max(number, logging.INFO))
    handler.set_name(_HANDLER_NAME)
    root = logging.getLogger()
    for old in [each for each in root.handlers if each.get_name() == _HANDLER_NAME]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger("uvicorn.access").disabled = True  # it writes what a caller sent


def configure_embedded() -> None:
    """Hand the engine's lines to the standard library's logger `policy_engine`: the embedding program says where to.

    Standard output is the program's own. A program that has configured structlog itself keeps what it configured.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.add_log_level,
            _only_known,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=lambda *_: logging.getLogger(_OWN),
        cache_logger_on_first_use=False,
    )


class _LibraryHandler(logging.Handler):
    """Writes the lines of other libraries through structlog, without their arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _OWN:
            return  # it came through structlog
        fields: dict[str, Any] = {"library": record.name}
        if record.name.split(".")[0] in TEXT_FROM and isinstance(record.msg, str):
            fields["message"] = record.msg
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        level = (
            "error" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "info"
        )
        getattr(structlog.get_logger(), level)("library.message", **fields)


def _only_known(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep what may be written; list the names of what may not."""
    name = event.pop("event", "")
    kept: dict[str, Any] = {"event": name if isinstance(name, str) and _EVENT.fullmatch(name) else "event.unnamed"}
    kept |= {key: event.pop(key) for key in ("level", "at") if key in event}
    kept |= _error(event.pop("exc_info", None))
    dropped = sorted(event.keys() - FIELDS)
    kept |= {key: _short(value) for key, value in event.items() if key in FIELDS}
    if dropped:
        kept["dropped"] = dropped
    return kept


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_short(item) for item in sorted(value, key=str)[:_ITEMS_MAX]]
    return value[:_CHARACTERS_MAX] if isinstance(value, str) else type(value).__name__


def _error(given: Any) -> dict[str, Any]:
    """Return class, place and, for our own errors, the sentence of an exception."""
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if not isinstance(error, BaseException):
        return {}
    found: dict[str, Any] = {"error": type(error).__name__, "where": _place(error.__traceback__)}
    if isinstance(error, PolicyEngineError):
        found |= {"code": error.code, "message": _short(error.message)}
    return found


def _place(trace: TracebackType | None) -> str:
    """Return `file:line` of the frame that raised: a place in code, never a value."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
