"""What is doubtful in a plain Casbin folder that loads: warnings, one sentence each, with file and line.

Rules of the room: a warning never stops a folder; what packs refuse and Casbin's users are used to is warned of here.
Warnings of one kind are counted after the first few. Left to others: what is refused (`rules.plainmodel`,
`rules.plainpolicy`), rules that can never fire (`core.analysis`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator

from policy_engine.core.plain import ALLOW, POLICY_FILE, PolicyRows, Row
from policy_engine.rules.matcher import PATTERNS
from policy_engine.rules.plainmodel import ALLOW_OVERRIDE, PlainModel

SHOWN_COUNT = 20
"""Warnings of one kind that are shown; the others are counted."""
_ANY = frozenset(("*", ""))
_COMMENT = re.compile(r"\s#|^#")


def warnings_of(model: PlainModel, rows: PolicyRows, spoken: frozenset[int] = frozenset()) -> tuple[str, ...]:
    """Return the warnings of a folder that loads; that a line changes nothing is left out where that is `spoken` of."""
    numbered = [(number, row) for number, row in enumerate(rows.entries, 1) if row is not None]
    rules = [(number, row) for number, row in numbered if row[0] == "p"]
    return (
        *_of_model(model),
        *_shown(_repeated(numbered, spoken), "lines that repeat another"),
        *_shown(_unconditional(rules, rows), "allow rules without a condition"),
        *_shown(_quoted(numbered, model), "values in quotes"),
        *_shown(_commented(numbered), "lines with a comment in a value"),
        *_shown(_broken(rules, model), "patterns that are no regular expressions"),
        *_shown(_without_effect(rules, model, rows, spoken), "rules that change nothing"),
    )


def _of_model(model: PlainModel) -> Iterator[str]:
    for name, line in model.repeated:
        yield f"model.conf:{line}: `{name}` is defined again further down, and Casbin takes the last; remove one"
    if "eft" not in model.columns:
        yield f"{model.where('p')}: there is no column `eft`, so every rule allows; add it to write deny rules"
    for name in sorted(model.functions & (PATTERNS | {"eval"})):
        what = "is an unbounded pattern: its cost is not bounded by the number of rules that match"
        if name == "eval":
            what = "evaluates texts of the policy: its cost grows with the number of texts that are built differently"
        yield f"{model.where('m')}: `{name}` {what}"


def _repeated(rows: Iterable[tuple[int, Row]], spoken: frozenset[int]) -> Iterator[str]:
    first: dict[Row, int] = {}
    for number, row in rows:
        earlier = first.setdefault(row, number)
        if earlier != number and number not in spoken:
            yield f"{POLICY_FILE}:{number}: repeats line {earlier} and adds nothing"


def _unconditional(rules: Iterable[tuple[int, Row]], rows: PolicyRows) -> Iterator[str]:
    conditions = [at for at, name in enumerate(rows.columns, 1) if name != "eft"]
    for number, row in rules:
        if rows.effect(row[1:]) == ALLOW and all(row[at] in _ANY for at in conditions):
            yield f"{POLICY_FILE}:{number}: an allow rule with nothing but `*` may allow everything"


def _quoted(rows: Iterable[tuple[int, Row]], model: PlainModel) -> Iterator[str]:
    read = {model.columns.index(name) + 1 for name in model.evaluated}
    for number, row in rows:
        quoted = [at for at, cell in enumerate(row) if len(cell) > 1 and cell[0] == cell[-1] == '"']
        # An expression may begin and end with two texts of its own.
        if any(row[0] != "p" or at not in read or '"' not in row[at][1:-1] for at in quoted):
            yield f"{POLICY_FILE}:{number}: Casbin's policy file knows no quotes; they are part of the value"


def _commented(rows: Iterable[tuple[int, Row]]) -> Iterator[str]:
    for number, row in rows:
        if any(_COMMENT.search(cell) for cell in row):
            what = "comments on lines of their own only; this one is a part of the value"
            yield f"{POLICY_FILE}:{number}: Casbin's policy file has {what}"


def _broken(rules: Iterable[tuple[int, Row]], model: PlainModel) -> Iterator[str]:
    places = [model.columns.index(name) + 1 for name in sorted(model.expressions)]
    for number, row in rules:
        if any(not _is_expression(row[place]) for place in places):
            yield (
                f"{POLICY_FILE}:{number}: the pattern is no regular expression, so every request that gets to it is "
                "denied; correct it"
            )


def _is_expression(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError):
            return False
    return True


def _without_effect(
    rules: Iterable[tuple[int, Row]], model: PlainModel, rows: PolicyRows, spoken: frozenset[int]
) -> Iterator[str]:
    held = list(rules)
    if all(rows.effect(row[1:]) != ALLOW for _, row in held):
        yield f"{POLICY_FILE}: no rule allows, so everything is denied"
    elif model.effect == ALLOW_OVERRIDE:
        for number, row in held:
            if rows.effect(row[1:]) != ALLOW and number not in spoken:
                yield f"{POLICY_FILE}:{number}: under this effect a deny rule changes nothing"


def _shown(found: Iterable[str], what: str) -> Iterator[str]:
    left = 0
    for at, warning in enumerate(found):
        if at < SHOWN_COUNT:
            yield warning
        else:
            left += 1
    if left:
        yield f"{POLICY_FILE}: and {left} more {what}"
