"""Questions to the log as data: what an entry must say to be found, and whether an entry says it.

Rules of the room:
- Every term must hold. A term names a column (a public member of entries) or a sealed facet (found by keyed tags).
- A negated term finds entries that *have* the column and another value: what is not known is never counted as "not".
  A list of a decision is known even when it is empty.
  Sealed facets cannot be negated at all: an entry without the tag may be one whose facet was unknown, or was erased.
- `matches` on the public members is the meaning of a question; indexes only make it fast.
Left to others: the words of the language (`services.questiontext`), finding (`services.finding`), who may ask
(`services.evidence`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.errors import InputRefused
from policy_engine.services.drafts import TAGGED_FACETS

Public = Mapping[str, Any]
Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class PublicTerm:
    """What a column must say: one of `values`, or a text that begins with one of `prefixes`, or a number.

    A number lies within `low` to `high`. Where nothing of all this is given, anything will do.
    """

    column: str
    values: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    negated: bool = False

    def holds(self, public: Public) -> bool:
        """Return whether an entry says so."""
        found = COLUMNS[self.column](public)
        known = bool(found) or (self.column in LISTS and public["kind"] == "decision")
        return known and any(map(self._is, found)) is not self.negated

    def _is(self, value: Any) -> bool:
        if self.low is not None or self.high is not None:
            return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        text = str(value)
        return text in self.values or text.startswith(self.prefixes) or not (self.values or self.prefixes)


@dataclass(frozen=True, slots=True)
class SealedTerm:
    """What a sealed facet must be: one of `values`; or, with `group`, a country of that group at the entry's time."""

    facet: str
    values: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the log: every term must hold. Instants: `since` inclusive, `until` exclusive."""

    public: tuple[PublicTerm, ...] = ()
    sealed: tuple[SealedTerm, ...] = ()
    since: int | None = None
    until: int | None = None

    def matches(self, public: Public) -> bool:
        """Return whether the public members of an entry are what is asked for; sealed terms are not looked at."""
        at = public["at"]
        if (self.since is not None and at < self.since) or (self.until is not None and at >= self.until):
            return False
        return all(term.holds(public) for term in self.public)


EVERYTHING: Final = Question()
"""The question that finds every entry."""


class Found:
    """An entry that was found: its place, its leaf in the tree (`None` while it is pending), and its public part.

    `data` are the public bytes as committed, and `public` what they say, read when it is asked for. `one_log` says that
    the sequence number alone names the entry.
    """

    __slots__ = ("_public", "data", "leaf", "log_id", "one_log", "seq")

    def __init__(
        self, log_id: str, seq: int, leaf: int | None, data: bytes, *, one_log: bool, public: Public | None = None
    ) -> None:
        self.log_id = log_id
        self.seq = seq
        self.leaf = leaf
        self.data = data
        self.one_log = one_log
        self._public = public

    @property
    def public(self) -> Public:
        """The public members."""
        if self._public is None:
            self._public = json.loads(self.data)
        return self._public

    @property
    def name(self) -> str:
        """The name of the entry: its number, or `LOG:NUMBER` where there are several logs."""
        return entry_name(self.log_id, self.seq, one_log=self.one_log)


def entry_name(log_id: str, seq: int, *, one_log: bool) -> str:
    """Return how an entry is called."""
    return str(seq) if one_log else f"{log_id}:{seq}"


# Columns

Column = Callable[[Public], Values]


def _one(member: str) -> Column:
    """A member that holds one value; null or absent is none."""

    def values(public: Public) -> Values:
        value = public.get(member)
        return () if value is None else (value,)

    return values


def _list(member: str) -> Column:
    """A member of decisions that lists texts."""

    def values(public: Public) -> Values:
        return tuple(public.get(member, ())) if public["kind"] == "decision" else ()

    return values


def _reasons(public: Public) -> list[list[Any]]:
    """Return `[rule, code, orders]` of a decision."""
    return list(public["reasons"]) if public["kind"] == "decision" else []


def _rules(public: Public) -> Values:
    """Labels of the rules among the reasons, and ids of all rules that matched."""
    labels = [reason[0] for reason in _reasons(public) if reason[0] is not None]
    return (*labels, *_list("rules")(public))


def _codes(public: Public) -> Values:
    return tuple(reason[1] for reason in _reasons(public))


def _orders(public: Public) -> Values:
    """Orders and switches among the reasons, and the one that a change is about."""
    return (*(order for reason in _reasons(public) for order in reason[2]), *_one("order")(public))


COLUMNS: Final[Mapping[str, Column]] = {
    "kind": _one("kind"),
    "outcome": _one("outcome"),
    "model": _one("model"),
    "asked": _one("asked"),
    "action": _one("action"),
    "tenant": _one("tenant"),
    "tier": _one("tier"),
    "epoch": _one("epoch"),
    "release": _one("release"),
    "by": _one("by"),
    "rule": _rules,
    "reason": _codes,
    "order": _orders,
    "licence": _list("licences"),
    "lifted": _list("lifted"),
    "missing": _list("missing"),
    "flag": _list("flags"),
    "order_kind": _one("order_kind"),
    "switch": _one("switch"),
    "proposal": _one("proposal"),
    "what": _one("what"),
}
"""The columns, each a function from the public members of an entry to its values; none where it says nothing."""

NUMBERS: Final = frozenset({"tier", "epoch"})
"""Columns that are numbers and can be compared."""

LISTS: Final = frozenset({"rule", "reason", "order", "licence", "lifted", "missing", "flag"})
"""Columns of which an entry may have several values."""

SEALED: Final[Mapping[str, str]] = {
    "subject": "subject",
    "individual": "tenant",
    "country": "counted",
    **{facet: facet for facet in TAGGED_FACETS},
}
"""Names of sealed facets, with the name that their tags bear. `individual` is a tenant that is itself a person."""


WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "us_person": ("yes", "no"),
    "evidence": ("valid", "declared", "expired", "undated", "conflict", "none", "no-person", "contradictory"),
}
"""Sealed facets of few values. Another word is a slip, and would be answered by "none", and that as complete."""
CODED: Final = frozenset(("counted", "location"))
"""Sealed facets whose values are codes of ISO 3166: `us` is as much a slip."""


def check_words(facet: str, values: Collection[str], where: str) -> None:
    """Raise `InputRefused` for a value that a facet never has; the value itself is not repeated."""
    known = WORDS.get(facet)
    if known is not None and not set(values) <= set(known):
        raise InputRefused(f"{facet} is one of {', '.join(known)}", where=where)
    if facet in CODED and any(value != value.upper() for value in values):
        raise InputRefused("countries and regions are codes in capital letters, such as US or UA-43", where=where)


def check_one_person(sealed: Iterable[SealedTerm], where: str) -> None:
    """Raise `InputRefused` for terms that name two persons, or two tenants that are persons."""
    named = [term.facet for term in sealed if term.facet in ("subject", "tenant")]
    if len(set(named)) < len(named):
        raise InputRefused("one person at a time: each look is recorded for the person it is about", where=where)


def person_of(question: Question) -> str:
    """Return the person whom a question names, by their id or by that of their own tenant; empty when it names none.

    A read of that question is sealed for them, so that it goes when they are erased.
    """
    named = {term.facet: value for term in reversed(question.sealed) for value in term.values[:1]}
    return named.get("subject") or named.get("tenant") or ""


def asks_derived(question: Question) -> bool:
    """Return whether a question asks by what only a decision that looked at person and place has.

    One that ended before, at a switch or an unknown subject, model or tenant, has no such tag, and is not found.
    """
    return any(term.facet not in ("subject", "tenant") for term in question.sealed)


NOT_DERIVED: Final = (
    "Requests that were denied before person and place were looked at (by a switch, or as of an unknown subject, "
    "model or tenant) are found by subject alone."
)
"""What goes with an answer to such a question."""


def one_of(column: str, value: str | None) -> tuple[PublicTerm, ...]:
    """Return the term that a column has one value; none without a value."""
    return () if value is None else (PublicTerm(column, (value,)),)


def sealed_terms(sealed: Mapping[str, str]) -> tuple[SealedTerm, ...]:
    """Return the terms for facets by the names of their tags. Raises `InputRefused` for a facet without tags."""
    known = set(SEALED.values())
    if not sealed.keys() <= known:
        raise InputRefused(f"sealed parts are found by {', '.join(sorted(known))} only", where="filter")
    for facet, value in sealed.items():
        check_words(facet, (value,), "filter")
    return tuple(SealedTerm(facet, (value,)) for facet, value in sealed.items())
