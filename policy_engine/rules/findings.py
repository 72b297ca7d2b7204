"""Analysis of a release and of a plain Casbin model: which facets there are, and the findings as sentences.

Rules of the room:
- A facet that a release derives has the values that its derivation gives, whatever `facets.toml` lists: an action may
  be any text. A value that comes from the request may be any text too: no vocabulary is enforced on it.
- Instants are cut at every bound that a rule or an edition has; the editions in force hang on the instant alone.
- What cannot be read is not analysed in part: one sentence names it.
Left to others: the analysis (`core.analysis`), reading cells (`rules.readings`), the words (`rules.sentences`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations
from typing import Any, Final

from policy_engine.core.analysis import Combining, analyse
from policy_engine.core.classes import Facet, Segments
from policy_engine.core.facts import EvidenceLevel, ModelStatus
from policy_engine.core.places import GroupTables
from policy_engine.core.release import DERIVED
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.functions import ANY, TIER_WORDS, parse_interval
from policy_engine.rules.matcher import EQUAL, EQUAL_OR_ANY, Conjunct, policy_columns, request_tokens, split_matcher
from policy_engine.rules.packs import PackRule
from policy_engine.rules.readings import GROUPED, Domains, Terms, read_rules
from policy_engine.rules.release import MODEL_FILE, Parts
from policy_engine.rules.sentences import Told, sentences

NOW: Final = "derive:now"
PLACES: Final = frozenset(
    f"{DERIVED}{name}" for name in ("location", "residence", "entities", "seats", "counted", "home")
)
"""Facets that hold codes of countries and regions."""
_YES_NO = frozenset(("yes", "no"))
RANGES: Final[Mapping[str, frozenset[str]]] = {
    "derive:tier": TIER_WORDS,
    "derive:status": frozenset((*ModelStatus, "unknown")),
    "derive:weights": frozenset(("public", "closed")),
    "derive:serving": frozenset(("permitted", "forbidden", "unknown")),
    "derive:affiliates": frozenset(("in_force", "suspended")),
    "derive:us_person": _YES_NO,
    "derive:partner": _YES_NO,
    "derive:employee": _YES_NO,
    "derive:denied": _YES_NO,
    "derive:in_us": frozenset(("yes", "no", "unknown")),
    "derive:evidence": frozenset(
        (*(frozenset(EvidenceLevel) - {EvidenceLevel.VERIFIED}), "valid", "expired", "undated", "no-person")
    )
    | {"contradictory"},
}
"""Every value that a derivation of one value can give, where there are few."""
_DOMAINS_COUNT = 6
"""Any set of so many role domains is tried where a request names the set."""
_TEXTS = frozenset((EQUAL, EQUAL_OR_ANY, "within", "outside", "during"))
_SETS = frozenset(("known", "unlifted"))
Rows = Sequence[tuple[int, Sequence[str]]]
"""Lines of a policy with their line numbers, without the leading `p`."""


def analyse_release(parts: Parts, groups: GroupTables, *, limits: Limits = LIMITS) -> tuple[str, ...]:
    """Return what is found of a release's rules, one sentence each, beginning with the pack's file and line."""
    conjuncts = split_matcher(parts.model, MODEL_FILE)
    terms = _release_terms(parts, groups, conjuncts)
    rules = read_rules(parts.model, parts.model["p"]["p"].policy, policy_columns(parts.model), conjuncts, terms)
    tokens = parts.facets.tokens
    findings = analyse(terms.facets, rules, Combining.ALLOW_AND_DENY, limits=limits)
    open_facets = {
        token.source: token.name
        for token in reversed(tokens)
        if token.source not in PLACES
        and terms.facets[token.source].values is None
        # A set that is closed by `facets.toml` and a single value that is not closed by its derivation.
        and (token.kind == "scalar" or token.values is None)
    }
    return sentences(findings, rules, _told(parts.rules), open_facets, limits)


def analyse_model(model: Any, rows: Rows, where: str, *, limits: Limits = LIMITS) -> tuple[str, ...]:
    """Return what is found of a Casbin model's rows, one sentence each, beginning with file and line.

    `model` holds the role links (its `g` lines); `rows` are its `p` lines with their numbers in the file `where`, in
    the file's order: a column `priority` is put in order here, as Casbin does. What is not understood, or an effect
    that hangs on more than that, gives one sentence that says what was not analysed.
    """
    try:
        combining = Combining(model["e"]["e"].value.replace(" ", ""))
        conjuncts = split_matcher(model, where)
        columns = policy_columns(model)
        ordered = _in_order(rows, columns)
        terms = _model_terms(model, [line for _, line in ordered], columns, conjuncts)
        rules = read_rules(model, [line for _, line in ordered], columns, conjuncts, terms)
    except LoadRefused as error:
        return (f"{where}: not analysed: {error.message}",)
    except ValueError as error:
        return (f"{where}: not analysed: {error}",)
    findings = analyse(terms.facets, rules, combining, limits=limits)
    told = [Told(f"{where}:{number}", "this row", f"line {number}") for number, _ in ordered]
    names = set(request_tokens(model))
    open_facets = {name: name for name, facet in terms.facets.items() if facet.values is None and name in names}
    return sentences(findings, rules, told, open_facets, limits)


def _told(rules: Sequence[PackRule]) -> list[Told]:
    """Return how each row of a release is spoken of; the rows of one rule differ in their alternatives."""
    groups: dict[tuple[str, int], list[PackRule]] = {}
    for rule in rules:
        groups.setdefault((rule.meta.pack, rule.meta.line), []).append(rule)
    numbers = {place: number for number, place in enumerate(groups)}
    found: list[Told] = []
    for rule in rules:
        place = (rule.meta.pack, rule.meta.line)
        rows = groups[place]
        first = rows[0].meta.id
        choice = ", ".join(
            f"{column} {value}"
            for column, value in rule.conditions.items()
            if any(row.conditions[column] != value for row in rows)
        )
        name = f"`{first}` with {choice}" if choice else f"`{first}`"
        where = f"{place[0]}:{place[1]}"
        found.append(Told(where, name, f"`{first}` ({where})", rule.meta.code, numbers[place], f"`{first}`"))
    return found


def _release_terms(parts: Parts, groups: GroupTables, conjuncts: Iterable[Conjunct]) -> Terms:
    segments = Segments((*parts.columns.bounds, *groups.boundaries))
    names: dict[str, str] = {}
    facets = {NOW: Facet(values=segments.all)}
    for token in parts.facets.tokens:
        names[token.name] = token.source
        if token.source != NOW:
            facets[token.source] = Facet(True) if token.kind == "set" else Facet(values=RANGES.get(token.source))
    in_force = Domains(NOW, tuple(groups.at(start).domains for start in segments.starts))
    domains: dict[str, Domains] = {}
    for part in conjuncts:
        if part.function in GROUPED:
            naming = part.tokens[1]
            found = in_force if names[naming] == "derive:editions" else _any_domains(parts.model, naming)
            facets.setdefault(found.facet, Facet(values=frozenset(range(len(found.sets)))))
            domains[naming] = found
    return Terms(names, facets, {NOW: segments}, domains, PLACES)


def _model_terms(
    model: Any, lines: Sequence[Sequence[str]], columns: Sequence[str], conjuncts: Sequence[Conjunct]
) -> Terms:
    roles = model["g"] or {}
    kinds: dict[str, set[str]] = {}
    for part in conjuncts:
        kinds.setdefault(part.tokens[0], set()).add(part.function)
        for token in part.tokens[1:]:
            kinds.setdefault(token, set()).add("domains" if part.function in GROUPED else EQUAL)
    facets: dict[str, Facet] = {token: Facet() for token in request_tokens(model)}
    segments: dict[str, Segments] = {}
    domains: dict[str, Domains] = {}
    for token, functions in kinds.items():
        texts = not functions.isdisjoint(_TEXTS) or any(name in roles for name in functions)
        sets = not functions.isdisjoint(_SETS)
        alone = ("during" in functions or "domains" in functions) and len(functions) > 1
        if (texts and sets) or alone:
            raise LoadRefused(f"`r.{token}` is read in ways that no single value suits")
        if "domains" in functions:
            domains[token] = _any_domains(model, token)
            facets[domains[token].facet] = Facet(values=frozenset(range(len(domains[token].sets))))
        elif "during" in functions:
            segments[token] = _bounds(token, lines, columns, conjuncts)
            facets[token] = Facet(values=segments[token].all)
        else:
            facets[token] = Facet(not texts, TIER_WORDS if "within" in functions else None)
    return Terms({token: token for token in facets}, facets, segments, domains)


def _bounds(
    token: str, lines: Sequence[Sequence[str]], columns: Sequence[str], conjuncts: Sequence[Conjunct]
) -> Segments:
    read = [columns.index(part.column) for part in conjuncts if part.function == "during" and token in part.tokens]
    cells = {line[at] for line in lines for at in read} - {ANY}
    return Segments(chain.from_iterable(parse_interval(cell) for cell in cells))


def _any_domains(model: Any, token: str) -> Domains:
    """Return every set of the role domains that there are and one that has no links."""
    named = sorted({line[2] for line in model["g"]["g"].policy})
    if len(named) > _DOMAINS_COUNT:
        raise LoadRefused(f"`r.{token}` names any set of {len(named)} role domains; {_DOMAINS_COUNT} can be tried")
    every = [*named, ""]
    sets = chain.from_iterable(combinations(every, count) for count in range(len(every) + 1))
    return Domains(f"sets of {token}", tuple(map(frozenset, sets)))


def _in_order(rows: Rows, columns: Sequence[str]) -> Rows:
    """Return the rows as Casbin scans them: sorted by the column `priority`, where there is one."""
    for number, line in rows:
        if len(line) != len(columns):
            raise ValueError(f"line {number} has {len(line)} values where `p` defines {len(columns)}")
    if "priority" not in columns:
        return rows
    place = columns.index("priority")
    words = [line[place] for _, line in rows if not line[place].isdigit()]
    if words and len(words) < len(rows):
        raise ValueError("priorities are numbers in some rows and words in others, which have no order")
    if words:
        return sorted(rows, key=lambda row: row[1][place])
    return sorted(rows, key=lambda row: int(row[1][place]))
