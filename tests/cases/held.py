"""The decision cases, each decided once through the real path and kept, to be evaluated again under another release.

What is kept of a case is a snapshot and an evaluator that has its facts in memory: evaluating again asks no store and
takes the same way through derivation, index and authorizer as the decision did. Mutants are generated from the release
itself, so that a row, a group or an edition that somebody adds makes more of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from policy_engine.cases import ASKER, Case, as_expected, open_cases, read_cases, rules_of
from policy_engine.core.decision import Evaluation, Outcome
from policy_engine.core.index import Index
from policy_engine.core.instants import ENDLESS
from policy_engine.core.places import GroupTables
from policy_engine.core.release import Release, RuleMeta
from policy_engine.rules.compile import compile_index
from policy_engine.rules.functions import ANY
from policy_engine.rules.groups import compile_group
from policy_engine.rules.matcher import policy_columns
from policy_engine.rules.release import MODEL_FILE, Parts, load_release, read_folder, read_parts
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.factcache import FactCache
from policy_engine.services.snapshot import Snapshot

POLICIES = Path(__file__).parents[2] / "policies"
FILES = tuple(sorted((POLICIES / "cases").glob("*.jsonl")))

Line = list[str]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change to the compiled release: other rows, or other groups. `rows` are ids whose cases are tried first."""

    name: str
    rules: tuple[RuleMeta, ...]
    index: Index
    rows: frozenset[str]
    groups: GroupTables | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """One case with what its decision rested on."""

    case: Case
    evaluator: Evaluator
    snapshot: Snapshot
    evaluation: Evaluation

    @property
    def release(self) -> Release:
        """Return the release that the case was decided under."""
        assert self.snapshot.release is not None
        return self.snapshot.release

    def again(self, mutant: Mutant) -> Evaluation:
        """Return what the case's request evaluates to under the mutant."""
        release = replace(self.release, rules=mutant.rules, index=mutant.index)
        if mutant.groups is not None:
            release = replace(release, reference=replace(release.reference, groups=mutant.groups))
        return self.evaluator.evaluate(self.case.request, ASKER, replace(self.snapshot, release=release), self.case.at)

    def passes(self, mutant: Mutant) -> bool:
        """Return whether the case would pass under the mutant."""
        found = self.again(mutant)
        return as_expected(self.case, found.outcome is Outcome.ALLOW, rules_of(found.reasons))


@cache
def release() -> Release:
    """Return the sample release."""
    return load_release(read_folder(POLICIES))


@cache
def _parts() -> Parts:
    return read_parts(read_folder(POLICIES))


@cache
def held() -> tuple[Held, ...]:
    """Return every case of the project that reached the rules; each must have come out as it expects."""
    found = []
    cases = [case for file in FILES for case in read_cases(file)]
    for case, engine in open_cases(cases, read_folder(POLICIES)):
        decision = engine.decider.decide(case.request, ASKER)
        evaluator = Evaluator(FactCache(engine.store), serving_region=None)
        snapshot = engine.snapshots.current()
        evaluation = evaluator.evaluate(case.request, ASKER, snapshot, case.at)
        assert (evaluation.outcome is Outcome.ALLOW, evaluation.reasons) == (decision.allowed, decision.reasons)
        assert as_expected(case, decision.allowed, rules_of(decision.reasons)), case.id
        if evaluation.values is not None:
            found.append(Held(case, evaluator, snapshot, evaluation))
    return tuple(found)


def noticed(mutant: Mutant) -> str | None:
    """Return the id of a case that fails under the mutant, those that met its rows first; `None`: it survives."""
    near = [one for one in held() if not mutant.rows.isdisjoint(one.evaluation.matched)]
    for one in (*near, *held()):
        if not one.passes(mutant):
            return one.case.id
    return None


def survivors(mutants: Iterable[Mutant]) -> list[str]:
    """Return the names of the mutants under which every case passes."""
    return [mutant.name for mutant in mutants if noticed(mutant) is None]


def columns() -> tuple[str, ...]:
    """Return the names of the policy columns."""
    return policy_columns(_parts().model)


def lines() -> list[Line]:
    """Return the compiled `p` lines, in the order of the release's rules."""
    return [list(line) for line in _parts().model["p"]["p"].policy]


def cell(line: Line, column: str) -> str:
    """Return what a line says in a column."""
    return line[columns().index(column)]


def with_cell(line: Line, column: str, value: str) -> Line:
    """Return the line with another value in a column."""
    return [value if name == column else said for name, said in zip(columns(), line, strict=True)]


def with_lines(name: str, changed: Sequence[Line | None], rows: Iterable[str]) -> Mutant:
    """Return the release with other lines: `None` takes out the row that stood there."""
    model = _parts().model
    kept = [(line, rule) for line, rule in zip(changed, release().rules, strict=True) if line is not None]
    index = _compiled(model, "p", [line for line, _ in kept])
    return Mutant(name, tuple(rule for _, rule in kept), index, frozenset(rows))


def without_rows() -> Iterator[Mutant]:
    """Yield the release without each of its rows."""
    whole = lines()
    for at, rule in enumerate(release().rules):
        yield with_lines(f"without {rule.id}", [*whole[:at], None, *whole[at + 1 :]], (rule.id,))


def with_groups_changed() -> Iterator[Mutant]:
    """Yield the release with one group of one table edition emptied, or short of one term or single member."""
    for table, editions in release().reference.groups.tables.items():
        for at, edition in enumerate(editions):
            for group, members in edition.groups.items():
                for what, fewer in _shorter(group, at, members):
                    yield _with_group(f"{group} of {edition.domain} {what}", table, at, group, fewer)


def _shorter(group: str, edition: int, members: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    yield "emptied", frozenset()
    words = group.split(" ")
    if len(words) == 1:
        for code in sorted(members):
            yield f"without {code}", members - {code}
    for place in range(0, len(words) if len(words) > 1 else 0, 2):
        rest = words[2:] if place == 0 else [*words[: place - 1], *words[place + 1 :]]
        fewer = compile_group(" ".join(rest), _parts().tables, group).editions[edition]
        if fewer != members:  # a term may say nothing that the others do not
            yield f"without the term {words[place]}", fewer


def _with_group(name: str, table: str, edition: int, group: str, members: frozenset[str]) -> Mutant:
    tables = dict(release().reference.groups.tables)
    changed = list(tables[table])
    domain = changed[edition].domain
    changed[edition] = replace(changed[edition], groups={**changed[edition].groups, group: members})
    tables[table] = tuple(changed)
    model = _parts().model
    links = [line for line in model["g"]["g"].policy if line[1:] != [group, domain]]
    index = _compiled(model, "g", [*links, *([code, group, domain] for code in members)])
    near = {rule.id for line, rule in zip(lines(), release().rules, strict=True) if group in line}
    return Mutant(name, release().rules, index, frozenset(near), GroupTables(tables))


def with_rules(name: str, rules: tuple[RuleMeta, ...], rows: Iterable[str]) -> Mutant:
    """Return the release with other meta data of its rules, such as a lift key."""
    return Mutant(name, rules, release().index, frozenset(rows))


def conditions(line: Line) -> list[str]:
    """Return the columns in which a line has a condition on a facet."""
    beside = ("id", "eft", "requires", "valid", "lift")
    return [name for name in columns() if name not in beside and cell(line, name) != ANY]


def _compiled(model: Any, section: str, changed: list[Line]) -> Index:
    """Compile the model with other lines in a section, and put its own back."""
    own = model[section][section].policy
    model[section][section].policy = changed
    try:
        groups = release().reference.groups
        editions = [groups.at(instant).domains for instant in (-ENDLESS, *groups.boundaries)]
        return compile_index(model, MODEL_FILE, without=("unlifted",), editions=editions)
    finally:
        model[section][section].policy = own
