"""Shapes of `eval()` texts: rows whose texts differ in their literals alone share one matcher.

Rules of the room: a text such as `r.sub.age > 18` becomes the shape `r_sub.age > n_0` and the value 18, which then is a
cell of the row like any other, so that thousands of texts are one inverted term. A text that cannot be taken apart
safely (f-strings, literals side by side, odd numbers) is a shape of its own; one that is no expression, or that names
what does not exist, has no shape and is left to Casbin's evaluator, which raises when a scan reaches it.
Left to others: what a shape's matcher means (`rules.selectors`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from casbin.util import util

from policy_engine.errors import LoadRefused
from policy_engine.rules.expressions import Names, parse, preprocess

_LITERAL: Final = re.compile(
    r"(?<![\w.'\"])(?:(?P<text>\"[^\"\\\n]{0,1024}\"|'[^'\\\n]{0,1024}')(?![\w'\"])|"
    r"(?P<number>(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?)(?![\w.'\"]))"
)
"""Texts and decimal numbers that end where they seem to, and are read back as they were written."""
_UNSURE: Final = re.compile(r"[\"'\\#]")
"""What is left of a text whose literals may not be where they seem to be."""
_SUFFIXED: Final = re.compile(r"\b[pr]\d+\.")
_SIDE: Final = re.compile(r"(?<=\b[pr])\.")
_KEPT_TEXTS_COUNT: Final = 4_096
NUMBER: Final = "_n"
TEXT: Final = "_t"
_TAKEN: Final = re.compile(rf"\b(?:{NUMBER}|{TEXT})\d")


@dataclass(frozen=True, slots=True)
class Shape:
    """A matcher with `eval()` expanded; `names` has the cells that stand for literals behind the row's own."""

    tree: ast.expr
    names: Names


@dataclass(frozen=True, slots=True)
class Apart:
    """A rule's text with names for its literals, and their values in order."""

    text: str
    names: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()


def apart(text: str, start: int = 0) -> Apart:
    """Return a preprocessed rule's text taken apart, names counted from `start`; whole where that is not safe."""
    names: list[str] = []
    values: list[Any] = []

    def named(found: re.Match[str]) -> str:
        piece = found.group()
        if found.lastgroup == "text":
            names.append(f"{TEXT}{start + len(names)}")
            values.append(piece[1:-1])
        else:
            names.append(f"{NUMBER}{start + len(names)}")
            values.append(float(piece) if "." in piece else int(piece))
        return names[-1]

    shape = _LITERAL.sub(named, text)
    if _UNSURE.search(shape):
        return Apart(text)
    return Apart(shape, tuple(names), tuple(values))


def escaped(text: str) -> str:
    """Return a rule's text as Casbin escapes it: `r.` and `p.` become `r_` and `p_`."""
    if _SUFFIXED.search(text):
        found: str = util.escape_assertion(text)
        return found
    return _SIDE.sub("_", text)


class Shapes:
    """The shapes of a model's rows, each parsed once. Raises `LoadRefused` where `eval()` names no policy column."""

    def __init__(self, text: str, names: Names, where: str) -> None:
        self._text = text
        self._names = names
        rule_names: list[str] = util.get_eval_value(text)
        if any(name not in names.columns for name in rule_names):
            message = "`eval` takes one policy column, as in eval(p.rule); name one that `p` defines"
            raise LoadRefused(message, where=where)
        self._places = tuple(names.columns[name] for name in rule_names)
        self._known: dict[tuple[str, ...], Shape | None] = {}
        self._texts: dict[tuple[Any, ...], tuple[tuple[str, ...], Shape | None, tuple[Any, ...]]] = {}

    def of(self, row: Sequence[Any]) -> tuple[tuple[str, ...], Shape | None, tuple[Any, ...]]:
        """Return the key of a row's shape, the shape (`None`: there is none) and the row's literals."""
        texts = tuple([row[place] for place in self._places])
        known = self._texts.get(texts)
        if known is None:
            known = self._of(texts)
            if len(self._texts) < _KEPT_TEXTS_COUNT:
                self._texts[texts] = known
        return known

    def _of(self, texts: tuple[Any, ...]) -> tuple[tuple[str, ...], Shape | None, tuple[Any, ...]]:
        parts: list[Apart] = []
        count = 0
        for said in texts:
            if type(said) is not str:
                return (), None, ()
            text = preprocess(escaped(said))
            if (NUMBER in text or TEXT in text) and _TAKEN.search(text):
                return (text,), None, ()
            parts.append(apart(text, count))
            count += len(parts[-1].names)
        key = tuple([part.text for part in parts])
        if key not in self._known:
            self._known[key] = self._parsed(parts)
        return key, self._known[key], tuple([value for part in parts for value in part.values])

    def _parsed(self, parts: Sequence[Apart]) -> Shape | None:
        names = self._names.with_columns(name for part in parts for name in part.names)
        expanded = util.replace_eval(self._text, [part.text for part in parts])
        try:
            return Shape(parse(preprocess(expanded), names), names)
        except LoadRefused:
            return None
