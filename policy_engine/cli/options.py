"""Arguments that several verbs read the same way: instants, lists separated by commas, and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from policy_engine.core.instants import format_instant, of_datetime, parse_instant
from policy_engine.core.tomltext import NotToml, loads_toml
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS

BYTE_ORDER_MARK: Final = "\ufeff"


class SubjectType(StrEnum):
    """Who may be a subject, and who may hold a key."""

    PERSON = "person"
    SERVICE = "service"


class OrderKind(StrEnum):
    """The kinds of order."""

    DIRECTIVE = "directive"
    LICENCE = "licence"
    GRANT = "grant"
    OVERRIDE = "override"


class OrderStatus(StrEnum):
    """What became of an order; `in_force` also before its start."""

    IN_FORCE = "in_force"
    ENDED = "ended"
    REVOKED = "revoked"


class ProposalStatus(StrEnum):
    """What became of a proposal."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    FAILED = "failed"
    EXPIRED = "expired"
    USED = "used"


def instant_of(text: str | None, where: str) -> int | None:
    """Return the instant that an option names, or `None` without one. Raises `InputRefused` naming the option."""
    if text is None:
        return None
    try:
        return parse_instant(text)
    except ValueError:
        raise InputRefused("must be a date (2026-06-12) or an instant (2026-06-12T21:21:00Z)", where=where) from None


def names_of(given: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of an option that may be given several times, each time several separated by commas."""
    words = [word.strip() for text in given or () for word in text.split(",")]
    return tuple(dict.fromkeys(word for word in words if word))


def once_each(pairs: Iterable[tuple[str, Any]], where: str, why: str) -> dict[str, Any]:
    """Return the values of NAME=VALUE words by name. Raises `InputRefused` for a name that is given twice.

    Nobody knows which of two values is meant, and an answer by the last would not say that it left one out.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InputRefused(f"names the same thing twice; {why}", where=where)
        found[name] = value
    return found


def text_of(file: Path, where: str) -> str:
    """Return the text of a file that an argument names. Raises `InputRefused` when it cannot be read as UTF-8."""
    try:
        if file.stat().st_size > LIMITS.pack_bytes:
            raise TooLarge(f"is larger than {LIMITS.pack_bytes} bytes", where=where)
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputRefused(unreadable(error), where=where) from None


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Return why a file could not be read as text, and what to do."""
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8; save it as UTF-8"
    return f"cannot be read ({error.strerror or type(error).__name__}); check its name and its rights"


def toml_of(file: Path) -> dict[str, Any]:
    """Return the data of a TOML file as JSON data, date-times as RFC 3339 text. Raises `InputRefused` naming the file.

    A date-time without a zone is refused: nobody knows which instant it means.
    """
    text = text_of(file, str(file))
    if text.startswith(BYTE_ORDER_MARK):
        raise InputRefused("begins with a byte order mark; save it as UTF-8 without one", where=str(file))
    try:
        return {name: _json(item, f"{file}: {name}") for name, item in loads_toml(text).items()}
    except NotToml as error:
        where = f"{file}:{error.line}" if error.line is not None else str(file)
        raise InputRefused(f"is not TOML ({error}); texts stand in quotes", where=where) from None


def _json(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _json(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_json(item, where) for item in value]
    if isinstance(value, time) or (isinstance(value, datetime) and value.tzinfo is None):
        raise InputRefused("needs a date and a zone, such as 2026-06-12T21:21:00Z", where=where)
    if isinstance(value, datetime):
        return format_instant(of_datetime(value))
    return value.isoformat() if isinstance(value, date) else value
