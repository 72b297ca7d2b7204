"""The policy.csv of a plain Casbin folder: its rows with their lines, read exactly as Casbin's file adapter reads them.

Rules of the room:
- What Casbin skips, trims or stumbles over later is refused here with its line: an unknown kind of line, a wrong number
  of values, an unknown effect word, brackets that do not match, roles that go in a circle.
- A text that differs from the one before by a few lines is read in those lines alone; line numbers stay right.
Left to others: what the rows mean (`rules.enforcer`), duplicates and other doubts (`rules.plainadvice`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from policy_engine.core.plain import ALLOW, DENY, POLICY_FILE, PolicyRows, Row
from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.circles import closing_line
from policy_engine.rules.plainmodel import PlainModel
from policy_engine.rules.sources import decode

CHANGED_LINES_COUNT = 256
"""More changed lines than this are read as a new policy."""
_BRACKETS = re.compile(r"[\[\]()]")
_SEPARATORS = re.compile(r"[\[\](),]")


class Change(NamedTuple):
    """What a policy says more and less than the one before, in order.

    `appended` says that every added row stands behind all others of its kind, and that no added or removed row stands
    anywhere else: then the rows of an enforcer can be changed instead of read again.
    """

    added: tuple[Row, ...]
    removed: tuple[Row, ...]
    appended: bool


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A read policy: its lines as text, its rows, and how many of them are rules."""

    lines: Sequence[str]
    rows: PolicyRows
    count: int


def read_policy(
    content: bytes, model: PlainModel, limits: Limits, previous: PolicyText | None = None
) -> tuple[PolicyText, Change | None]:
    """Return the policy, and its change from a `previous` one under the same model where it is a small one.

    Raises `LoadRefused` with file, line and a fix.
    """
    lines = decode(POLICY_FILE, content, limits.policy_bytes).split("\n")
    reader = _Reader(model, limits)
    before, after = (0, 0) if previous is None else _same(previous.lines, lines)
    changed = len(lines) - before - after
    if previous is None or max(changed, len(previous.lines) - before - after) > CHANGED_LINES_COUNT:
        entries = [reader.row(line, number) for number, line in enumerate(lines, 1)]
        count = _rules(row for row in entries if row is not None)
        _check_rows(entries, model.roles, count, limits)
        _check_priorities(entries, model)
        return PolicyText(lines, PolicyRows(entries, model.columns), count), None
    old = previous.rows.entries
    new = [reader.row(lines[at], at + 1) for at in range(before, before + changed)]
    added = tuple(row for row in new if row is not None)
    removed = tuple(row for row in old[before : len(old) - after] if row is not None)
    entries = [*old[:before], *new, *old[len(old) - after :]]
    # The lines that stayed are the previous texts themselves, so that two releases hold them once.
    lines = [*previous.lines[:before], *lines[before : before + changed], *previous.lines[len(old) - after :]]
    count = previous.count + _rules(added) - _rules(removed)
    _check_rows(entries, {row[0] for row in (*added, *removed)} & model.roles.keys(), count, limits)
    _check_priorities(entries, model)
    numbered = _renumbered(previous.rows, entries, before, after) if all(row[0] != "p" for row in removed) else None
    rows = PolicyRows(entries, model.columns, numbered)
    return PolicyText(lines, rows, count), Change(added, removed, _appended(previous.rows, rows, added, removed, after))


def _same(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """Return how many lines two texts share from their beginnings, and from their ends behind that."""
    most = min(len(old), len(new))
    before = _longest(most, lambda start, end: old[start:end] == new[start:end])
    ends = len(old), len(new)
    after = _longest(
        most - before, lambda start, end: old[ends[0] - end : ends[0] - start] == new[ends[1] - end : ends[1] - start]
    )
    return before, after


def _longest(most: int, same: Callable[[int, int], bool]) -> int:
    """Return how many lines are the same, by halving: slices are compared much faster than lines one by one."""
    known = 0
    while known < most:
        middle = (known + most + 1) // 2
        if same(known, middle):
            known = middle
        else:
            most = middle - 1
    return known


def _renumbered(previous: PolicyRows, entries: Sequence[Row | None], before: int, after: int) -> dict[Row, int]:
    """Return the first line of each `p` row where none was removed: known ones move, added ones come in."""
    known = previous.lines
    found = dict(known)
    moved = len(entries) - len(previous.entries)
    for at in range(len(entries) - after, len(entries)) if moved else ():
        row = entries[at]
        if row is not None and known.get(row) == at + 1 - moved:  # an equal row further down moves nothing
            found[row] = at + 1
    for at in range(before, len(entries) - after):
        row = entries[at]
        if row is not None and row[0] == "p":
            found[row] = min(found.get(row, at + 1), at + 1)
    return found


def _appended(old: PolicyRows, new: PolicyRows, added: Sequence[Row], removed: Sequence[Row], after: int) -> bool:
    kinds = {row[0] for row in added}
    if any(row is not None and row[0] in kinds for row in new.entries[len(new.entries) - after :]):
        return False
    if len(set(added)) < len(added) or len(set(removed)) < len(removed):
        return False
    return not any(_stands(row, old) for row in added) and not any(_stands(row, new) for row in removed)


def _stands(row: Row, rows: PolicyRows) -> bool:
    return row in rows.lines if row[0] == "p" else row in rows.entries


def _rules(rows: Iterable[Row]) -> int:
    return sum(1 for row in rows if row[0] == "p")


def _check_rows(entries: Sequence[Row | None], roles: Iterable[str], count: int, limits: Limits) -> None:
    """Raise `LoadRefused` for what is wrong with the rows together."""
    if count == 0:
        raise LoadRefused("the policy has no `p` line, so nothing could be allowed; add one", where=POLICY_FILE)
    if count > limits.rules_count:
        raise LoadRefused(f"the policy has more than {limits.rules_count} rules (rules_count)", where=POLICY_FILE)
    for kind in sorted(roles):
        line = closing_line(kind, entries)
        if line is not None:
            message = f"this `{kind}` line makes a role its own member, directly or through others; take one link out"
            raise LoadRefused(message, where=f"{POLICY_FILE}:{line}")


def _check_priorities(entries: Sequence[Row | None], model: PlainModel) -> None:
    """Raise `LoadRefused` where some priorities are numbers and some are not: Casbin cannot put those in order."""
    if "priority" not in model.columns:
        return
    place = model.columns.index("priority") + 1
    first: bool | None = None
    for number, row in enumerate(entries, 1):
        if row is None or row[0] != "p":
            continue
        first = row[place].isdigit() if first is None else first
        # Casbin takes `²` for a digit, and then finds no number in it.
        if row[place].isdigit() is not first or row[place].isdigit() is not row[place].isdecimal():
            message = "priorities are whole numbers in some lines and not in others, which have no order; write numbers"
            raise LoadRefused(message, where=f"{POLICY_FILE}:{number}")


class _Reader:
    """Reads one line at a time against a model."""

    def __init__(self, model: PlainModel, limits: Limits) -> None:
        self._model = model
        self._most = limits.policy_line_characters
        self._sizes = {"p": len(model.columns), **model.roles}
        self._eft = model.columns.index("eft") + 1 if "eft" in model.columns else None
        self._evaluated = [(model.columns.index(name) + 1) for name in sorted(model.evaluated)]
        self._expressions: set[str] = set()

    def row(self, line: str, number: int) -> Row | None:
        """Return the row that a line holds, `None` for a blank one or a comment."""
        if len(line) > self._most:
            message = f"the line is longer than {self._most} characters (policy_line_characters); shorten it"
            raise LoadRefused(message, where=f"{POLICY_FILE}:{number}")
        text = line.strip()
        if not text or text[0] == "#":
            return None
        row = tuple(cell.strip() for cell in text.split(",")) if not _BRACKETS.search(text) else _cells(text, number)
        kind = row[0]
        size = self._sizes.get(kind)
        if size is None:
            raise LoadRefused(self._unknown(kind), where=f"{POLICY_FILE}:{number}")
        if len(row) != size + 1:
            names = f" ({', '.join(self._model.columns)})" if kind == "p" else ""
            message = f"the `{kind}` line has {len(row) - 1} values where model.conf defines {size}{names}; correct it"
            raise LoadRefused(message, where=f"{POLICY_FILE}:{number}")
        if kind == "p":
            self._check_rule(row, number)
        return row

    def _check_rule(self, row: Row, number: int) -> None:
        if self._eft is not None and row[self._eft] not in (ALLOW, DENY):
            message = f"the effect is `{row[self._eft]}`; write allow or deny, in small letters"
            raise LoadRefused(message, where=f"{POLICY_FILE}:{number}")
        for place in self._evaluated:
            if row[place] not in self._expressions:
                self._model.check_expression(row[place], f"{POLICY_FILE}:{number}")
                self._expressions.add(row[place])

    def _unknown(self, kind: str) -> str:
        if kind.startswith("\ufeff"):
            return "the line begins with a byte order mark, which Casbin reads as text; take it out"
        if re.fullmatch(r"g\d*", kind):
            return f"model.conf has no role definition `{kind}`; add `{kind} = _, _` or correct the line"
        known = ", ".join(f"`{name}`" for name in self._sizes)
        return f"a line begins with {known}; Casbin would skip this one in silence, so correct or remove it"


def _cells(text: str, number: int) -> Row:
    """Return the cells of a line with brackets, between the commas outside of them. Raises where they do not match."""
    cells: list[str] = []
    depth = start = 0
    for found in _SEPARATORS.finditer(text):
        mark = found.group()
        if mark in "([":
            depth += 1
        elif mark in ")]":
            depth -= 1
            if depth < 0:
                break
        elif depth == 0:
            cells.append(text[start : found.start()].strip())
            start = found.end()
    if depth != 0:
        message = "the brackets of the line do not match, and Casbin splits at commas outside of brackets; correct it"
        raise LoadRefused(message, where=f"{POLICY_FILE}:{number}")
    cells.append(text[start:].strip())
    return tuple(cells)
