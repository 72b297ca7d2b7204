"""Boolean regular expressions whose time is bounded: the answers of `re.match`, never its explosions.

Rules of the room:
- For every pattern that is accepted and every text, the answer is that of `re.match(pattern, text) is not None`.
- A pattern that `re` can take only little time over, by `regexrisk`, is given to `re`. Any other is given to `re` only
  for texts so short that the bound stays small, and otherwise to an automaton: after a look whether the words that
  every match holds are there at all, since that look takes a thousandth of what the automaton takes.
- A pattern that is neither harmless nor followed by the automaton is refused when it is loaded.
Left to others: Casbin's functions that are made of regular expressions (`rules.patterns`).
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from policy_engine.core.automaton import Automaton
from policy_engine.core.characters import Tree, literals, parse
from policy_engine.core.regexrisk import EXPLOSIVE, Cost, assess
from policy_engine.core.wiring import build, refused
from policy_engine.limits import LIMITS, Limits

_HARMLESS_FACTOR: Final = 1_000
"""Up to so many steps for each character, `re` is quicker than anything else that we have."""


class Regex:
    """A compiled pattern: call it with a text, and it returns whether the text matches from a place on."""

    __slots__ = ("_automaton", "_cost", "_match", "_pattern", "_steps", "_words")

    def __init__(
        self,
        compiled: re.Pattern[str],
        cost: Cost,
        automaton: Automaton | None = None,
        steps: int = 0,
        words: tuple[str, ...] = (),
    ) -> None:
        self._match = compiled.match
        self._pattern = compiled.pattern
        self._cost = cost
        self._automaton = automaton
        self._steps = steps
        self._words = words

    def __call__(self, text: str, start: int = 0) -> bool:
        """Return what `re.compile(pattern).match(text, start) is not None` returns."""
        if self._automaton is None or self.within(len(text)):
            return self._match(text, start) is not None
        place = start
        for word in self._words:
            place = text.find(word, place)
            if place < 0:
                return False
            place += len(word)
        return self._automaton.matches(text, start)

    def within(self, size: int) -> bool:
        """Return whether `re` itself answers for a text of so many characters, as that takes little time."""
        cost = self._cost
        return self._automaton is None or (cost.degree < EXPLOSIVE and cost.steps(size) <= self._steps)

    @property
    def harmless(self) -> bool:
        """Return whether `re` itself answers, whatever the text."""
        return self._automaton is None

    @property
    def size_bytes(self) -> int:
        """Return about how much memory this takes, without what automata remember."""
        states = 0 if self._automaton is None else self._automaton.states_count
        return 1_000 + 40 * len(self._pattern) + 400 * states


def compile_regex(pattern: str, *, limits: Limits = LIMITS, always_bounded: bool = False) -> Regex:
    """Return a matcher that answers as `re.match(pattern, text) is not None` does, in bounded time.

    Raises what `re.compile` raises for a bad pattern, and `LoadRefused` for one whose time cannot be bounded.
    `always_bounded` takes the automaton for every pattern and text, so that it can be compared with `re`.
    """
    compiled = re.compile(pattern)
    try:
        tree = parse(pattern)
        cost = assess(tree)
        harmless = cost.degree <= 1 and cost.factor <= _HARMLESS_FACTOR
        if harmless and not always_bounded:
            return Regex(compiled, cost)
        if len(pattern) > limits.regex_characters:
            raise refused(f"is longer than {limits.regex_characters} characters (regex_characters); split it")
        steps = 0 if always_bounded else limits.regex_steps_count
        return Regex(compiled, cost, build(tree, limits), steps, _words(tree, limits))
    except RecursionError:
        raise refused("nests its groups too deeply; take groups away") from None


def _words(tree: Tree, limits: Limits) -> tuple[str, ...]:
    """Return texts that every match holds, one behind the other in this order."""
    words = [""]
    for character in islice(literals(tree.items, tree.flags), limits.regex_characters):
        if character is None:
            words.append("")
        else:
            words[-1] += character
    return tuple(word for word in words if word)


def literal_prefix(pattern: str) -> str:
    """Return a text with which every text begins that `re.match` finds to match; it may be shorter than it could be.

    Raises what `re.compile` raises for a bad pattern.
    """
    tree = parse(pattern)
    found: list[str] = []
    for character in literals(tree.items, tree.flags):
        if character is None or len(found) >= LIMITS.regex_characters:
            break
        found.append(character)
    return "".join(found)
