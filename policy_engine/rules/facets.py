"""`facets.toml`: where each request token comes from, what derivations read, and the engine's own reasons.

Rules of the room: the tokens are exactly those of `r = ...` in model.conf; a derivation must be one that the engine
has, in the kind that it gives; a vocabulary is closed where `values` stands; no token reads a birth country. What a
decision says of a rule or a reason is one printable line within a limit: whoever reads answers refuses anything else.
Left to others: the derivations (`core.facets`), the values of a request (`core.release`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from pydantic import Field

from policy_engine.core.derive import Threshold
from policy_engine.core.facets import FACETS, FACT_OF_UNKNOWN
from policy_engine.core.facts import OwnerList
from policy_engine.core.release import DERIVED, ReasonText, Token
from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.sources import Strict, TomlFile, read_strict, read_toml

PATH: Final = "facets.toml"
PERSONAL: Final = frozenset(("derive:counted", "derive:us_person"))
"""Derivations that tell of nationality: a rule that reads one needs an authority."""
PERSONAL_UNKNOWNS: Final = frozenset(("counted", "nationality", "nationality-test"))
_SETS: Final = frozenset(
    ("location", "residence", "entities", "seats", "counted", "unknown", "screening", "ownership", "owned")
) | frozenset(("directive", "editions", "lifts"))
FACET_KINDS: Final = {name: "instant" if name == "now" else "set" if name in _SETS else "scalar" for name in FACETS}
"""The kind of value that each derivation gives."""
_PATH = re.compile(r"(subject|resource|action|context)(\.[A-Za-z_][A-Za-z0-9_]*)+")


class _Token(Strict):
    from_: str = Field(alias="from")
    kind: Literal["scalar", "set", "instant"]
    values: list[str] | None = None


class _Share(Strict):
    percent: int
    compare: Literal["more-than", "at-least"]
    lists: list[str] = Field(default_factory=list)


class _Reference(Strict):
    lab_tenant: str
    evidence_days: int
    home_country: str
    coarse_countries: list[str]
    seat_group: str
    seat: _Share
    sdn: _Share
    affiliates: _Share


class _Reason(Strict):
    label: str
    message: str


class _Facets(Strict):
    tokens: dict[str, _Token]
    reference: _Reference
    reasons: dict[str, _Reason] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReferenceSettings:
    """The operator's choices that derivations read, as they stand in the file."""

    lab_tenant: str
    evidence_days: int
    home_country: str
    coarse_countries: frozenset[str]
    seat_group: str
    seat: Threshold
    sdn: Threshold
    affiliate: Threshold


@dataclass(frozen=True, slots=True)
class Facets:
    """A read `facets.toml`: tokens in the order of the flat tuple, settings, reasons, and the file for its lines."""

    tokens: tuple[Token, ...]
    reference: ReferenceSettings
    reasons: Mapping[str, ReasonText]
    file: TomlFile

    def token(self, name: str) -> Token:
        """Return a token by name. Raises `KeyError`."""
        return {token.name: token for token in self.tokens}[name]

    def of(self, derivation: str) -> Token | None:
        """Return the token that carries a derivation, if the model has one."""
        return next((token for token in self.tokens if token.source == f"{DERIVED}{derivation}"), None)


def read_facets(content: bytes, names: tuple[str, ...], limits: Limits) -> Facets:
    """Return the facets of a release whose model names these request tokens. Raises `LoadRefused`."""
    file = read_toml(PATH, content, limits.pack_bytes)
    read = read_strict(file, file.data, _Facets)
    for name in read.tokens:
        if name not in names:
            message = f"`{name}` is no request token of model.conf; add it to `r = ...` or remove it here"
            raise LoadRefused(message, where=file.where("tokens", None, name))
    for name in names:
        if name not in read.tokens:
            raise LoadRefused(
                f"the request token `{name}` of model.conf has no source; add it", where=file.where("tokens")
            )
    found = tuple(_token(name, read.tokens[name], file) for name in names)
    reasons = {code: reason_text(code, said.label, said.message, file, limits) for code, said in read.reasons.items()}
    return Facets(found, _settings(read.reference, file), reasons, file)


def is_line(text: str, limits: Limits) -> bool:
    """Return whether a text may stand in a decision: one printable line, neither blank nor too long."""
    return len(text) <= limits.text_characters and text.isprintable() and bool(text.strip())


def line_wanted(name: str, limits: Limits) -> str:
    """Return the sentence that refuses a text which `is_line` does not take."""
    return f"the {name} is one line of 1 to {limits.text_characters} printable characters"


def reason_text(code: str, label: str, message: str, file: TomlFile, limits: Limits) -> ReasonText:
    """Return what `[reasons]` says of one of the engine's own reasons. Raises `LoadRefused`."""
    for name, text in (("label", label), ("message", message)):
        if not is_line(text, limits):
            raise LoadRefused(line_wanted(f"{name} of `{code}`", limits), where=file.where("reasons", None, code))
    return ReasonText(label, message)


def _token(name: str, entry: _Token, file: TomlFile) -> Token:
    where = file.where("tokens", None, name)
    source = entry.from_
    if "birth" in name or "birth" in source:
        raise LoadRefused("a birth country decides nothing; remove the token", where=where)
    derivation = source.removeprefix(DERIVED)
    if source.startswith(DERIVED):
        kind = FACET_KINDS.get(derivation)
        if kind is None:
            message = f"there is no derivation `{derivation}`; use one of {', '.join(FACET_KINDS)}"
            raise LoadRefused(message, where=where)
        if kind != entry.kind:
            raise LoadRefused(f'the derivation `{derivation}` gives a {kind}; write kind = "{kind}"', where=where)
    elif not _PATH.fullmatch(source) or entry.kind == "instant":
        message = 'a source is "derive:<name>" or a path such as "subject.properties.role" to a scalar or set'
        raise LoadRefused(message, where=where)
    values = None if entry.values is None else frozenset(entry.values)
    if values is not None and (not values or len(values) != len(entry.values or ())):
        raise LoadRefused("the vocabulary is empty or repeats a value; correct it", where=where)
    if derivation == "unknown" and values is not None and not values <= FACT_OF_UNKNOWN.keys():
        wrong = ", ".join(sorted(values - FACT_OF_UNKNOWN.keys()))
        raise LoadRefused(f"nothing unknown is ever named `{wrong}`; correct it", where=where)
    return Token(name, source, entry.kind, values)


def _settings(read: _Reference, file: TomlFile) -> ReferenceSettings:
    if not 1 <= read.evidence_days <= 36_500:
        raise LoadRefused(
            "evidence_days is a number of days from 1 up", where=file.where("reference", None, "evidence_days")
        )
    return ReferenceSettings(
        lab_tenant=read.lab_tenant,
        evidence_days=read.evidence_days,
        home_country=read.home_country,
        coarse_countries=frozenset(read.coarse_countries),
        seat_group=read.seat_group,
        seat=_threshold(read.seat, "seat", file, lists=False),
        sdn=_threshold(read.sdn, "sdn", file, lists=True),
        affiliate=_threshold(read.affiliates, "affiliates", file, lists=True),
    )


def _threshold(read: _Share, key: str, file: TomlFile, *, lists: bool) -> Threshold:
    where = file.where("reference", None, key)
    if not 0 <= read.percent <= 100:
        raise LoadRefused("a share is 0 to 100 percent", where=where)
    if any(name not in tuple(OwnerList) for name in read.lists) or bool(read.lists) != lists:
        wanted = f"lists among {', '.join(OwnerList)}" if lists else "no lists"
        raise LoadRefused(f"this threshold needs {wanted}", where=where)
    owners = frozenset(OwnerList(name) for name in read.lists)
    return Threshold(Fraction(read.percent), read.compare == "more-than", owners)
