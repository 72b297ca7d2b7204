"""Which model a name means: one that the caller may use, one that it may not, or nobody knows.

Rules of the room:
- Names are compared as a person would: without case, spaces, look-alikes, a provider before a slash or a date behind.
- The last segment of a given name means the same model, unless an allowed and a forbidden one share it.
- A name under which the allowed model answers, and which is not its own, is evidence of nobody: the forbidden one may
  answer under it too. Where both have, it is nobody's even if it was given as an allowed one.
Left to others: where in an answer a model is named (`reading`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from policy_engine.probe.target import Models

MAY_SHARE: Final = "both models may answer under this name: add it to --allowed if it is the allowed model's alone"
DO_SHARE: Final = "both models are answered under this name: nobody can tell them apart until the upstream names them"

_HYPHENS: Final = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212\u00ad\ufe63\uff0d"), "-")
_ALIKE: Final = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0501\u04cf", "aeopcyxidl")
_SUFFIX: Final = re.compile(r"[-@:_.](?:latest|preview|default|main|v\d+(?::\d+)?|\d{4}-\d{2}-\d{2}|\d{6,8})")


class Standing(StrEnum):
    """Which of the models an answer names."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    SHARED = "shared"  # the allowed model answers under it, and the forbidden one may
    OTHER = "other"
    UNSAID = "unsaid"


class Names:
    """Tells from what an answer calls its model which of the named ones it is."""

    def __init__(self, models: Models) -> None:
        self._known = dict.fromkeys(map(folded, models.allowed), Standing.ALLOWED)
        self._known |= dict.fromkeys(map(folded, models.withheld), Standing.FORBIDDEN)
        self._asked = folded(models.allowed[0])
        self._withheld_ends = _ends(models.withheld)
        self._doubt = ""
        allowed_ends = _ends(models.allowed)
        for end in allowed_ends ^ self._withheld_ends:
            self._known.setdefault(end, Standing.ALLOWED if end in allowed_ends else Standing.FORBIDDEN)

    def learn(self, said: str, other: str) -> None:
        """Take the name under which the plain question for the allowed model was answered.

        `other` is the name under which that for the forbidden model was, empty where it was not. A name that neither
        of them was given is shared from now on; so is one under which both were answered, unless it is the allowed
        model's own, for then the gateway says that it puts that model in the place of the other.
        """
        if other and folded(other) == folded(said) and not self._is_own(said):
            self._known[folded(said)], self._doubt = Standing.SHARED, DO_SHARE
        elif self.standing(said) is Standing.OTHER:
            self._known[folded(said)], self._doubt = Standing.SHARED, MAY_SHARE

    def standing(self, said: str) -> Standing:
        """Return which model is named; a version or date behind a name changes nothing, another word does."""
        if not said:
            return Standing.UNSAID
        stem = _stem(said, self._known)
        return Standing.OTHER if stem is None else self._known[stem]

    def doubt(self, said: str) -> str:
        """Return why a name is evidence of neither model, empty for one that is not shared."""
        return self._doubt if self.standing(said) is Standing.SHARED else ""

    def _is_own(self, said: str) -> bool:
        """Say whether a name is that of the allowed model which was asked for, and of no forbidden one."""
        own = {self._asked, _end(self._asked)} - self._withheld_ends
        return _stem(said, self._known) in own


def folded(name: str) -> str:
    """Return a name as a lenient reader takes it: no case, no space, no invisible mark, look-alikes as one."""
    text = unicodedata.normalize("NFKC", name.translate(_HYPHENS)).translate(_HYPHENS)
    kept = "".join(mark for mark in text if not mark.isspace() and unicodedata.category(mark)[0] != "C")
    return kept.casefold().translate(_ALIKE)


def _stem(said: str, known: Mapping[str, Standing]) -> str | None:
    """Return the known name that a name stems from, `None` without one."""
    text = folded(said)
    for each in (text, _end(text)):
        if each in known:
            return each
        for name in sorted(known, key=len, reverse=True):
            if each.startswith(name) and _SUFFIX.fullmatch(each[len(name) :]):
                return name
    return None


def _end(text: str) -> str:
    return text.rpartition("/")[2]


def _ends(names: Iterable[str]) -> set[str]:
    """Return what stands behind the last slash of each name, where something does."""
    return {end for name in names if (end := _end(folded(name)))}
