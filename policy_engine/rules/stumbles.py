"""What Casbin stumbles over while it reads a model or a policy, said in one sentence with file and line.

Rules of the room: Casbin raises bare errors (`IndexError: pop from empty list`). What is raised here in their place is
a `LoadRefused` and an error of Casbin's kind too, so that whoever catches what Casbin raises catches it still. A file
is read once more to find a line, and only when there is something to refuse.
Left to others: when Casbin stumbles (`rules.policy`), what a served folder is refused beyond that (`rules.plainmodel`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from policy_engine.errors import LoadRefused
from policy_engine.rules.circles import closing_line

NEEDED_SECTIONS = {"r": "request_definition", "p": "policy_definition", "e": "policy_effect", "m": "matchers"}
"""The sections that every model has, by the letter of their definitions."""
Row = Sequence[Any]
_PARSE_LINE = re.compile(r"line (\d+) ,")


class RuntimeRefused(LoadRefused, RuntimeError):
    """A refusal where Casbin raises `RuntimeError`."""


class IndexRefused(LoadRefused, IndexError):
    """A refusal where Casbin raises `IndexError`."""


class TypeRefused(LoadRefused, TypeError):
    """A refusal where Casbin raises `TypeError`."""


class ValueRefused(LoadRefused, ValueError):
    """A refusal where Casbin raises `ValueError`, such as one about text that is not UTF-8."""


def model_unread(error: UnicodeDecodeError | RuntimeError, path: str) -> LoadRefused:
    """Return the refusal for a model file in which Casbin found no text or no definition."""
    if isinstance(error, UnicodeDecodeError):
        return ValueRefused("the file is not UTF-8; save it as UTF-8", where=path)
    with open(path, encoding="utf-8") as file:
        if file.read(1) == "\ufeff":
            message = "the file begins with a byte order mark, which Casbin reads as text; save it as UTF-8 without one"
            return RuntimeRefused(message, where=f"{path}:1")
    found = _PARSE_LINE.search(str(error))
    message = "the line is no section and no `name = value`; correct or remove it"
    return RuntimeRefused(message, where=f"{path}:{found[1]}" if found else path)


def definition_place(path: str, section: str, key: str) -> str:
    """Return `file:line` of the definition that Casbin takes, of several the last; the path where that cannot be told.

    What is no ordinary file, such as a pipe, is not read again.
    """
    if not os.path.isfile(path):
        return path
    with open(path, encoding="utf-8") as file:
        return definition_among(file, path, section, key)


def definition_among(lines: Iterable[str], path: str, section: str, key: str) -> str:
    """Return `file:line` of a definition among the lines of a model, as `definition_place` does."""
    place, inside, continued = path, False, False
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continued = False
        elif line[0] == "[" and line[-1] == "]":
            inside, continued = line[1:-1] == section, False
        else:
            if inside and not continued and line.partition("=")[0].strip() == key:
                place = f"{path}:{number}"
            continued = line[-1] == "\\"
    return place


def refuse_missing(model: Any, where: str, place: Callable[[str, str], str]) -> None:
    """Raise `LoadRefused` for a model without one of the definitions that every model has.

    `place` tells where the definition of a name stands in the section of a title, and gives `where` if nowhere. Casbin
    takes a definition without a value for none.
    """
    for section, title in NEEDED_SECTIONS.items():
        if section in (model[section] or {}):
            continue
        found = place(title, section)
        if found != where:
            raise LoadRefused(f"`{section} = ...` has no value; write one behind the sign", where=found)
        raise LoadRefused(f"the section [{title}] is missing; add it with a line `{section} = ...`", where=where)


def refuse_unread(model: Any, text: str, where: str) -> None:
    """Raise `LoadRefused` for a line of a model that Casbin drops without a word, and the rule with it.

    It joins a definition's lines before it takes all behind `#` for a comment, and reads numbered definitions only as
    far as none is left out.
    """
    title, goes_on, behind = "", False, False
    letters = {name: letter for letter, name in {**NEEDED_SECTIONS, "g": "role_definition"}.items()}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            goes_on = False
        elif line[0] == "[" and line[-1] == "]":
            title, goes_on = line[1:-1], False
        else:
            if goes_on and behind:
                message = "Casbin takes this line for a part of the comment that begins with `#` in a line before it; "
                raise LoadRefused(f"{message}write comments above the definition", where=f"{where}:{number}")
            key, letter = line.partition("=")[0].strip(), letters.get(title, "")
            if not goes_on and re.fullmatch(rf"{letter}[0-9]+", key) and letter and key not in (model[letter] or {}):
                message = (
                    f"Casbin does not read `{key}`: numbers go on from `{letter}`, `{letter}2`, each with a value; "
                )
                raise LoadRefused(f"{message}correct or remove the line", where=f"{where}:{number}")
            behind = "#" in line or (goes_on and behind)
            goes_on = line[-1] == "\\"


def row_unread(error: UnicodeDecodeError | IndexError, where: str) -> LoadRefused:
    """Return the refusal for a line of a policy file that Casbin cannot split into cells."""
    if isinstance(error, UnicodeDecodeError):
        return ValueRefused("the line is not UTF-8; save the file as UTF-8", where=where)
    message = "the brackets of the line do not match, and Casbin splits at commas outside of brackets; correct it"
    return IndexRefused(message, where=where)


def unsorted(
    error: Exception,
    rows: Sequence[Row],
    columns: Sequence[str],
    lines: Mapping[str, Sequence[Row]],
    place: Callable[[Row, str], str],
) -> LoadRefused | None:
    """Return the refusal for rows that Casbin cannot put in order, `None` where it is not known why.

    `columns` are named as the policy names them; `place` tells where a row of a kind stands.
    """
    if isinstance(error, RuntimeError) and "cycle" in str(error):
        links = lines.get("g", ())
        closing = closing_line("g", [("g", *line) for line in links])
        message = "cycle dependency in subject hierarchy: this `g` line makes a subject its own role, directly or "
        where = None if closing is None else place(links[closing - 1], "g")
        return RuntimeRefused(f"{message}through others; take one link out", where=where)
    if isinstance(error, IndexError):
        row = min(rows, key=len)
        message = f"the row has {len(row)} values where `p` defines {len(columns)}, and none to sort it by; correct it"
        return IndexRefused(message, where=place(row, "p"))
    if not isinstance(error, TypeError | ValueError) or "priority" not in columns:
        return None
    at = columns.index("priority")
    if not all(isinstance(row[at], str) for row in rows):
        return None
    odd = next((row for row in rows if _is_number(row[at]) is not _is_number(rows[0][at])), rows[0])
    message = "priorities are whole numbers in some rows and not in others, which have no order; write numbers"
    return (TypeRefused if isinstance(error, TypeError) else ValueRefused)(message, where=place(odd, "p"))


def _is_number(text: str) -> bool:
    """Return whether Casbin reads a priority as a number; one with other digits, such as `²`, it cannot read."""
    return text.isdecimal()
