"""The language in which the log is asked: `deny tier>=4 since 7d`, `allow group:D:5 model:fable-5 -tenant:acme`.

Grammar, in words: a question is terms with blanks between them, and every term must hold.
- `NAME:VALUE`, where a column or sealed facet has the value; `NAME:A,B` has one of several; `NAME:*` has any;
  `NAME:switch.*` has one that begins so. A value with blanks or commas stands in double quotes.
- `NAME>=N`, `NAME<=N`, `NAME>N`, `NAME<N` for numbers (`tier`, `epoch`).
- `allow` and `deny` alone are `outcome:allow` and `outcome:deny`.
- `since TIME`, `until TIME`, `between TIME and TIME`: the first instant counts, the last does not. TIME is a date, an
  RFC 3339 instant, `now`, or how long ago: `7d`, `36h`, `90m`.
- `-` in front of a term about a column finds entries that have the column and say otherwise.
Rules of the room: a refusal names the character where it went wrong and how to mend it, and never repeats a value: it
may be a person. Left to others: what terms mean (`services.questions`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from policy_engine.core.instants import DAY, ENDLESS, SECOND, parse_instant
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.ledger.canonical import INTEGER_MAX
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.questions import (
    COLUMNS,
    LISTS,
    NUMBERS,
    SEALED,
    PublicTerm,
    Question,
    SealedTerm,
    check_one_person,
    check_words,
)

GROUP: Final = "group"
"""The name that asks for the countries of a group, at the time of each entry."""

_UNITS: Final = {"d": DAY, "h": 3_600 * SECOND, "m": 60 * SECOND, "s": SECOND}
_AGO: Final = re.compile(r"-?([0-9]{1,6})([dhms])")
_NUMBER: Final = re.compile(r"[0-9]{1,16}")
_NAME: Final = re.compile(r"[a-z_]+")
_SIGNS: Final = (">=", "<=", ">", "<", ":")
_WORDS: Final = ("since", "until", "between")
_OUTCOMES: Final = ("allow", "deny")


@dataclass(frozen=True, slots=True)
class _Word:
    """One word of the text between blanks, and the character at which it begins, from 1."""

    text: str
    start: int


def parse_question(text: str, now: int, limits: Limits = LIMITS) -> Question:
    """Return what a text asks. `now` is the instant from which "ago" counts.

    Raises `InputRefused` with the character where it went wrong and how to mend it, `TooLarge` beyond a limit.
    """
    if len(text) > limits.question_characters:
        raise TooLarge(f"is longer than {limits.question_characters} characters", where="question")
    words = _words(text)
    if len(words) > limits.question_terms_count:
        raise TooLarge(f"has more than {limits.question_terms_count} words; ask for less at once", where="question")
    public: list[tuple[PublicTerm, int]] = []
    sealed: list[SealedTerm] = []
    span = _Span()
    rest = iter(words)
    for word in rest:
        if word.text in _WORDS:
            span.read(word, rest, now)
        else:
            term = _term(word, limits)
            if isinstance(term, PublicTerm):
                public.append((term, word.start))
            else:
                sealed.append(term)
    _check_repeated(public)
    check_one_person(sealed, "question")
    return Question(tuple(term for term, _ in public), tuple(sealed), *span.ends())


def _words(text: str) -> list[_Word]:
    """Return the words of a text. A double quote opens a part in which blanks do not count, until the next one."""
    words: list[_Word] = []
    start: int | None = None
    quoted = False
    for place, character in enumerate(f"{text} "):
        if character == '"':
            quoted = not quoted
        if not quoted and character.isspace():
            if start is not None:
                words.append(_Word(text[start:place], start + 1))
            start = None
        elif start is None:
            start = place
    if quoted:
        raise _refused("a double quote is opened and not closed; close it", text.rindex('"') + 1)
    return words


class _Span:
    """The time that a question is about."""

    def __init__(self) -> None:
        self._since: int | None = None
        self._until: int | None = None
        self._place = 1

    def read(self, word: _Word, rest: Iterator[_Word], now: int) -> None:
        """Take the instants behind `since`, `until` or `between`."""
        self._place = word.start
        if word.text != "until":
            self._once(self._since, word)
            self._since = _instant(word, next(rest, None), now)
        if word.text == "between":
            second = next(rest, None)
            second = next(rest, None) if second is not None and second.text == "and" else second
        elif word.text == "until":
            second = next(rest, None)
        else:
            return
        self._once(self._until, word)
        self._until = _instant(word, second, now)

    def ends(self) -> tuple[int | None, int | None]:
        """Return the first instant that counts and the first that does not."""
        if self._since is not None and self._until is not None and self._until <= self._since:
            _refuse("the time ends before it begins; write the earlier instant first", self._place)
        return self._since, self._until

    @staticmethod
    def _once(known: int | None, word: _Word) -> None:
        if known is not None:
            _refuse("the same end of the time is given twice; leave one", word.start)


def _instant(word: _Word, given: _Word | None, now: int) -> int:
    example = "write a date (2026-06-12), an instant (2026-06-12T21:21:00Z), now, or how long ago (7d, 36h, 90m)"
    if given is None:
        _refuse(f"an instant is missing behind this word; {example}", word.start)
    if given.text == "now":
        return now
    ago = _AGO.fullmatch(given.text)
    if ago is not None:
        return max(now - int(ago[1]) * _UNITS[ago[2]], -ENDLESS)
    try:
        return parse_instant(given.text.strip('"'))
    except ValueError:
        _refuse(f"this is no instant; {example}", given.start)


def _term(word: _Word, limits: Limits) -> PublicTerm | SealedTerm:
    negated = word.text.startswith("-")
    text, start = word.text.removeprefix("-"), word.start + negated
    if text in _OUTCOMES:
        return PublicTerm("outcome", (text,), negated=negated)
    name = _NAME.match(text)
    sign = None if name is None else next((s for s in _SIGNS if text.startswith(s, name.end())), None)
    if name is None or sign is None:
        _refuse(
            "this is no term; write NAME:VALUE, allow, deny, since, until or between, such as `deny tier>=4 since 7d`",
            start,
        )
    value, at = text[name.end() + len(sign) :], start + name.end() + len(sign)
    if name[0] in COLUMNS:
        return _public(name[0], sign, value, at, negated, limits)
    if name[0] not in SEALED and name[0] != GROUP:
        _refuse(f"there is no such name; entries are found by {_names()}", start)
    if negated:
        _refuse(
            "what is sealed cannot be excluded: an entry without it may be one whose value was unknown or is erased; "
            "ask for the values that you want",
            word.start,
        )
    if sign != ":":
        _refuse(f"what is sealed is not compared; write {name[0]}:VALUE", at)
    values, prefixes = _values(value, at, limits)
    if prefixes:
        _refuse("what is sealed is found by whole values only; write the value", at)
    if name[0] == GROUP:
        if len(values) > 1:
            _refuse('one group at a time; join groups as the packs do, such as group:"D:5 + MO"', at)
        return SealedTerm("counted", (), values[0])
    if name[0] in ("subject", "individual") and len(values) > 1:
        _refuse("one person at a time: each look is recorded for the person it is about", at)
    check_words(SEALED[name[0]], values, f"question, character {at}")
    return SealedTerm(SEALED[name[0]], values)


def _public(name: str, sign: str, value: str, at: int, negated: bool, limits: Limits) -> PublicTerm:
    if sign != ":":
        if name not in NUMBERS:
            _refuse(f"only {' and '.join(sorted(NUMBERS))} are compared; write {name}:VALUE", at)
        number = _number(value, at)
        low = number + (sign == ">") if sign[0] == ">" else None
        high = number - (sign == "<") if sign[0] == "<" else None
        return PublicTerm(name, (), (), low, high, negated)
    values, prefixes = _values(value, at, limits)
    if prefixes == ("",) and not values:
        if negated and name not in LISTS:
            _refuse(f"entries without {name} are not told from those of which it is unknown; leave this out", at)
        return PublicTerm(name, negated=negated)
    if name in NUMBERS:
        if prefixes:
            _refuse("a number is written out; compare it instead, such as tier>=4", at)
        values = tuple(str(_number(item, at)) for item in values)
    if name == "outcome" and not set(values) <= set(_OUTCOMES):
        _refuse("an outcome is allow or deny", at)
    return PublicTerm(name, values, prefixes, negated=negated)


def _values(text: str, at: int, limits: Limits) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the alternatives of a value, which commas separate outside of quotes, and the beginnings among them."""
    parts = re.findall(r'(?:"[^"]*"|[^",])+', text)
    if not parts or '""' in parts or len(parts) != len(re.sub(r'"[^"]*"', "", text).split(",")):
        _refuse("a value is missing here; write it, or leave the sign out", at)
    if len(parts) > limits.question_values_count:
        raise TooLarge(f"has more than {limits.question_values_count} alternatives", where=f"question, character {at}")
    prefixes = [part[:-1].replace('"', "") for part in parts if part.endswith("*")]
    values = [part.replace('"', "") for part in parts if not part.endswith("*")]
    return tuple(dict.fromkeys(values)), tuple(dict.fromkeys(prefixes))


def _number(text: str, at: int) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > INTEGER_MAX:
        _refuse("a whole number is needed here, such as tier>=4", at)
    return int(text)


def _check_repeated(terms: list[tuple[PublicTerm, int]]) -> None:
    """Refuse two values of a column that has one: nothing could match, and `,` was meant."""
    seen: set[str] = set()
    for term, start in terms:
        if term.negated or term.column in LISTS or not (term.values or term.prefixes):
            continue
        if term.column in seen:
            _refuse(f"an entry has one {term.column}; alternatives are one term, with commas between them", start)
        seen.add(term.column)


def _names() -> str:
    return f"{', '.join(COLUMNS)}; and sealed: {', '.join(dict.fromkeys((*SEALED, GROUP)))}"


def _refused(message: str, place: int) -> InputRefused:
    return InputRefused(message, where=f"question, character {place}")


def _refuse(message: str, place: int) -> NoReturn:
    raise _refused(message, place)
