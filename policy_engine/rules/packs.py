"""Packs: TOML files of rules, read strictly, checked against the model, the facets and the tables.

Rules of the room:
- `when` names policy columns of model.conf; a list is alternatives and becomes several lines: the first keeps the
  rule's id, the others are `id#2`, `id#3`. `requires`, `valid` and `lift` stand beside `when`.
- Refused with file, line and a fix: an effect that is not `allow` or `deny`, an unknown column, value, group or key, a
  repeated id, a text that is not one printable line, an empty set, an allow without conditions on action and tier, a
  rule that reads nationality without an authority, one that names a birth country, an interval that ends before it
  starts, a lift of what is unknown.
Left to others: what a matching rule does (`core.authorizer`), the lines in Casbin's form (`rules.adapter`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from typing import Final

from pydantic import Field

from policy_engine.core.lacking import FOLDING
from policy_engine.core.release import RuleMeta
from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.conditions import BESIDE, Columns
from policy_engine.rules.facets import is_line, line_wanted
from policy_engine.rules.functions import SEPARATOR
from policy_engine.rules.groups import CompiledGroup
from policy_engine.rules.sources import Strict, TomlFile, read_strict, read_toml

FOLDER: Final = "packs/"
EFFECTS: Final = ("allow", "deny")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_CODE = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")


class _Pack(Strict):
    name: str
    owner: str
    version: str


class Rule(Strict):
    """One rule as it stands in a pack."""

    id: str
    label: str
    effect: str
    code: str
    message: str
    authority: str = ""
    when: dict[str, str | list[str]] = Field(default_factory=dict)
    requires: list[str] | None = None
    valid: str | None = None
    lift: str | None = None


class _File(Strict):
    pack: _Pack
    rule: list[Rule]


@dataclass(frozen=True, slots=True)
class PackRule:
    """One line of one rule: what is said about it, and its conditions by policy column."""

    meta: RuleMeta
    conditions: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """One pack as it was read: all that a release needs of it, so that the next one need not read it again.

    `places` says in which line each rule stands, by the rule's id; `groups` and `bounds` are what its conditions name.
    Two packs are the same only where they are one object.
    """

    path: str
    content: bytes
    rules: tuple[PackRule, ...]
    metas: tuple[RuleMeta, ...]
    places: Mapping[str, int]
    groups: Mapping[str, CompiledGroup]
    bounds: frozenset[int]


def read_packs(
    files: Mapping[str, bytes], columns: Columns, limits: Limits, old: Mapping[str, Pack] | None = None
) -> tuple[Pack, ...]:
    """Return all packs, in order of file name, with the groups and bounds that they name in `columns`.

    `old` are packs by path that were read under the same model, facets, tables and limits: one whose content is the
    same is taken over, and checked only against the others. Raises `LoadRefused`.
    """
    packs: list[Pack] = []
    taken: set[str] = set()
    count = 0
    for path in sorted(path for path in files if path.startswith(FOLDER)):
        pack = (old or {}).get(path)
        same = pack is not None and pack.content == files[path]
        if (
            pack is not None
            and same
            and count + len(pack.rules) <= limits.rules_count
            and taken.isdisjoint(pack.places)
        ):
            columns.take(pack.groups, pack.bounds)
        else:  # also where an unchanged pack is refused: reading it says in which line
            pack = _read_pack(path, files[path], columns, limits, packs, taken, count)
        packs.append(pack)
        taken.update(pack.places)
        count += len(pack.rules)
    if not count:
        raise LoadRefused("there is no rule, so everything would be denied; add a pack", where=FOLDER)
    return tuple(packs)


def _read_pack(
    path: str,
    content: bytes,
    columns: Columns,
    limits: Limits,
    before: Sequence[Pack],
    taken: Collection[str],
    count: int,
) -> Pack:
    """Return a pack; `before` are the packs before it with their rules' ids `taken` and the `count` of their lines."""
    file = read_toml(path, content, limits.pack_bytes)
    read = read_strict(file, file.data, _File)
    named = columns.collect()
    lines: list[PackRule] = []
    places: dict[str, int] = {}
    for at, rule in enumerate(read.rule):
        line = file.line("rule", at)
        if rule.id in places or rule.id in taken:
            first = _place(rule.id, (*((pack.path, pack.places) for pack in before), (path, places)))
            message = f"the id `{rule.id}` is taken at {first}; rename one"
            raise LoadRefused(message, where=file.where("rule", at, "id"))
        places[rule.id] = line
        lines.extend(_Expansion(file, at, line, rule, columns, limits).lines())
        if count + len(lines) > limits.rules_count:
            message = f"there are more than {limits.rules_count} rules (rules_count)"
            raise LoadRefused(message, where=f"{path}:{line}")
    metas = tuple(line.meta for line in lines)
    return Pack(path, content, tuple(lines), metas, places, named.groups, frozenset(named.bounds))


def _place(id: str, packs: Iterable[tuple[str, Mapping[str, int]]]) -> str:
    return next(f"{path}:{places[id]}" for path, places in packs if id in places)


class _Expansion:
    """Checks one rule and expands its alternatives."""

    def __init__(self, file: TomlFile, at: int, line: int, rule: Rule, columns: Columns, limits: Limits) -> None:
        self._file = file
        self._at = at
        self._line = line
        self._rule = rule
        self._columns = columns
        self._limits = limits

    def lines(self) -> list[PackRule]:
        """Return the rule's lines, one for each combination of alternatives. Raises `LoadRefused`."""
        rule = self._rule
        self._check_words()
        names = list(rule.when)
        choices = [self._choices(name) for name in names]
        beside = self._beside()
        if prod(map(len, choices)) > self._limits.rules_count:
            raise self._refuse(
                "when", f"its alternatives alone make more than {self._limits.rules_count} (rules_count)"
            )
        lines = []
        for number, values in enumerate(product(*choices), start=1):
            conditions = {**dict(zip(names, values, strict=True)), **beside}
            self._check_sense(conditions)
            lines.append(PackRule(self._meta(number, conditions), conditions))
        return lines

    def _check_words(self) -> None:
        rule = self._rule
        if rule.effect not in EFFECTS:
            raise self._refuse("effect", 'the effect is "allow" or "deny", written so')
        if not _ID.fullmatch(rule.id) or len(rule.id) > self._limits.id_characters:
            raise self._refuse("id", "an id is letters, digits and . _ : -")
        if not _CODE.fullmatch(rule.code) or len(rule.code) > self._limits.id_characters:
            most = self._limits.id_characters
            raise self._refuse(
                "code", f"a reason code is lower-case words joined by . and -, of at most {most} characters"
            )
        for key, text in (("label", rule.label), ("message", rule.message), ("authority", rule.authority)):
            if not is_line(text, self._limits) and (text or key != "authority"):  # an authority may be left out
                raise self._refuse(key, line_wanted(key, self._limits))

    def _choices(self, name: str) -> list[str]:
        where = partial(self._file.where, "rule", self._at, name, after="when")
        self._columns.check_name(name, where)
        written = self._rule.when[name]
        values = [written] if isinstance(written, str) else written
        if not values:
            raise LoadRefused(f"`{name}` is an empty set, which nothing satisfies; name a value", where=where())
        if len(set(values)) != len(values):
            raise LoadRefused(f"`{name}` names a value twice; remove one", where=where())
        for value in values:
            self._columns.check(name, value, where)
        return values

    def _beside(self) -> dict[str, str]:
        rule = self._rule
        written = {"requires": rule.requires, "valid": rule.valid, "lift": rule.lift}
        found: dict[str, str] = {}
        for function, key in BESIDE.items():
            value = written[key]
            if value is None:
                continue
            column = self._columns.read_by(function)
            if column is None:
                raise self._refuse(key, f"the model has no column for `{key}`; add one that {function}() reads")
            if isinstance(value, str):
                self._columns.check(column, value, partial(self._where, key))
                found[column] = value
            else:
                found[column] = self._names(column, key, value)
        return found

    def _names(self, column: str, key: str, names: list[str]) -> str:
        if not names:
            raise self._refuse(key, f"`{key}` is an empty set; leave it out or name a fact")
        for name in names:
            self._columns.check(column, name, partial(self._where, key))
        return SEPARATOR.join(dict.fromkeys(names))

    def _check_sense(self, conditions: Mapping[str, str]) -> None:
        rule = self._rule
        columns = self._columns
        sources = {columns.source(name) for name in rule.when}
        if rule.effect == "allow":
            for needed in ("action", "tier"):
                if f"derive:{needed}" not in sources:
                    raise self._refuse(
                        "when", f"an allow rule names its actions and tiers; add a condition on {needed}"
                    )
            if rule.lift is not None:
                raise self._refuse("lift", "only a deny can be lifted; remove the key")
        personal = any(columns.personal(name, value) for name, value in conditions.items())
        if personal and not rule.authority.strip():
            raise self._refuse("authority", "the rule reads nationality and cites no authority; cite one")
        unknown = "derive:unknown" in sources or "unknown" in (conditions[name] for name in rule.when)
        if unknown and rule.lift is not None:
            raise self._refuse("lift", "an authorisation never lifts what is unknown; remove the key")

    def _meta(self, number: int, conditions: Mapping[str, str]) -> RuleMeta:
        rule = self._rule
        named = {self._columns.source(name): conditions[name] for name in rule.when}
        return RuleMeta(
            id=rule.id if number == 1 else f"{rule.id}#{number}",
            label=rule.label,
            effect=rule.effect,
            code=rule.code,
            message=rule.message,
            authority=rule.authority,
            lift=rule.lift or "",
            requires=tuple(dict.fromkeys(rule.requires or ())),
            pack=self._file.path,
            line=self._line,
            unknown=_lacking(rule.effect, named),
            directives=tuple(value for source, value in named.items() if source == "derive:directive"),
            folded=_folded(named),
        )

    def _where(self, key: str) -> str:
        return self._file.where("rule", self._at, key)

    def _refuse(self, key: str, message: str) -> LoadRefused:
        return LoadRefused(message, where=self._where(key))


def _folded(named: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the conditions, by derivation, behind which something unknown may stand as a value."""
    found = ((source.removeprefix("derive:"), value) for source, value in named.items() if source.startswith("derive:"))
    return tuple(each for each in found if each[0] in FOLDING)


def _lacking(effect: str, named: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of what a deny row finds lacking: what is unknown, or evidence that is not valid."""
    found = [value for source, value in named.items() if source == "derive:unknown"]
    state = named.get("derive:evidence", "valid")
    if effect != "allow" and state != "valid":
        found.append("person" if state == "no-person" else "evidence")
    return tuple(found)
