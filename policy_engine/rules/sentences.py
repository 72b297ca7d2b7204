"""Findings of the analysis in words: one sentence a finding, beginning with file and line.

Rules of the room: a sentence says exactly what was found. A deny that changes no outcome still adds its reason where
reasons are given, and the sentence says so. Where a facet takes any text, it says for which values it holds.
Left to others: finding (`core.analysis`), what the rows are called (`rules.findings`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policy_engine.core.analysis import ALLOW, DENY, Finding, Rule, Why
from policy_engine.limits import Limits

_NAMES_COUNT = 4
"""So many other rules are named in a sentence."""


@dataclass(frozen=True, slots=True)
class Told:
    """How a row is spoken of: where it stands, itself, beside another one, and the reason code that it adds, if any.

    Rows of one `group` are alternatives of one rule, which is called `whole`.
    """

    where: str
    name: str
    other: str
    reason: str = ""
    group: int | None = None
    whole: str = ""


def sentences(
    findings: Sequence[Finding],
    rules: Sequence[Rule],
    told: Sequence[Told],
    open_facets: Mapping[str, str],
    limits: Limits,
) -> tuple[str, ...]:
    """Return the findings in words; `open_facets` are the names of facets that take any text."""
    decided = [finding for finding in findings if finding.why is not Why.UNDECIDED]
    undecided = [finding.rule for finding in findings if finding.why is Why.UNDECIDED]
    speaker = _Speaker(rules, told, open_facets)
    return (*speaker.sentences(decided), *_undecided(undecided, told, limits))


class _Speaker:
    """Says findings about rows, together where one sentence says the same of all."""

    def __init__(self, rules: Sequence[Rule], told: Sequence[Told], open_facets: Mapping[str, str]) -> None:
        self._rules = rules
        self._told = told
        self._open_facets = open_facets
        self._rows = Counter(row.group for row in told)

    def sentences(self, findings: Iterable[Finding]) -> list[str]:
        """Return the sentences in the order of the rows that they begin with."""
        together = self._together(findings)
        unmet: dict[str, list[list[Finding]]] = {}
        said: list[tuple[int, str]] = []
        for some in together:
            row = self._told[some[0].rule]
            if some[0].why is Why.UNMET and row.reason:
                unmet.setdefault(row.where.partition(":")[0], []).append(some)
            else:
                said.append((some[0].rule, self._sentence(some)))
        for several in unmet.values():
            said.append((several[0][0].rule, self._unmet(several)))
        return [text for _, text in sorted(said)]

    def _together(self, findings: Iterable[Finding]) -> list[list[Finding]]:
        """Return the findings one by one, or all rows of a rule at once where the same is found of each."""
        alone: list[list[Finding]] = []
        grouped: dict[tuple[int, Why], list[Finding]] = {}
        for finding in findings:
            group = self._told[finding.rule].group
            if group is None:
                alone.append([finding])
            else:
                grouped.setdefault((group, finding.why), []).append(finding)
        for (group, _), some in grouped.items():
            alone += [some] if len(some) == self._rows[group] else [[one] for one in some]
        return alone

    def _sentence(self, some: Sequence[Finding]) -> str:
        first = some[0]
        row, rule = self._told[first.rule], self._rules[first.rule]
        others = dict.fromkeys(at for finding in some for at in finding.by)
        named = list(dict.fromkeys(self._beside(at, row) for at in others))
        labels = list(dict.fromkeys(label for finding in some for label in finding.labels))
        said = _SAYS[first.why](rule.effect, named, labels)
        read = (*(finding.rule for finding in some), *others)
        return f"{row.where}: {self._subject(some)} {said}{self._reason(first, others)}{self._open(read)}"

    def _unmet(self, several: Sequence[Sequence[Finding]]) -> str:
        """Return one sentence about the denies of a file that no allow meets: what is unknown, most often."""
        if len(several) == 1:
            return self._sentence(several[0])
        first = self._told[several[0][0].rule]
        named = []
        for some in several:
            line = self._told[some[0].rule].where.rpartition(":")[2]
            named.append(f"{self._subject(some)} (line {line})")
        read = [finding.rule for some in several for finding in some]
        return (
            f"{first.where}: these denies never change an outcome, for no rule allows what they deny; "
            f"they only add their reasons: {', '.join(named)}{self._open(read)}"
        )

    def _subject(self, some: Sequence[Finding]) -> str:
        row = self._told[some[0].rule]
        return row.whole if row.group is not None and len(some) == self._rows[row.group] else row.name

    def _beside(self, at: int, row: Told) -> str:
        """Return how another row is called: an alternative of the same rule by itself, any other by its rule."""
        other = self._told[at]
        return other.name if other.group is not None and other.group == row.group else other.other

    def _reason(self, finding: Finding, others: Iterable[int]) -> str:
        row = self._told[finding.rule]
        if finding.why is Why.NEVER or self._rules[finding.rule].effect != DENY or not row.reason:
            return ""
        if finding.why is Why.DUPLICATE and all(self._told[at].reason == row.reason for at in others):
            return ""
        return f"; it only adds its reason `{row.reason}`"

    def _open(self, read: Iterable[int]) -> str:
        used: dict[str, None] = {}
        for at in read:
            for condition in self._rules[at].conditions:
                used[condition.facet] = None
                if condition.given is not None:
                    used[condition.given.facet] = None
        names = [f"`{self._open_facets[facet]}`" for facet in used if facet in self._open_facets]
        if not names:
            return ""
        takes = "takes" if len(names) == 1 else "take"
        return f" (for the values named in rules and for any other one; {_listed(names)} {takes} any text)"


def _undecided(rows: Sequence[int], told: Sequence[Told], limits: Limits) -> list[str]:
    if not rows:
        return []
    row = told[rows[0]]
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    bounds = (
        f"{limits.analysis_rule_steps_count} steps a rule (analysis_rule_steps_count) or "
        f"{limits.analysis_steps_count} in all (analysis_steps_count)"
    )
    return [f"{row.where}: not decided for {row.name}{more}: whether it ever changes an outcome takes over {bounds}"]


def _never(effect: str, named: Sequence[str], labels: Sequence[str]) -> str:
    if not labels:
        return "never fires: no request meets its conditions"
    columns = _listed([f"`{label}`" for label in labels])
    together = " together" if len(labels) > 1 else ""
    return f"never fires: no request meets its condition{'s' * (len(labels) > 1)} on {columns}{together}"


def _duplicate(effect: str, named: Sequence[str], labels: Sequence[str]) -> str:
    return f"is a duplicate of {_listed(named)}: the same effect for the same requests"


def _same(effect: str, named: Sequence[str], labels: Sequence[str]) -> str:
    does, does_itself = ("deny", "denies") if effect == DENY else ("allow", "allows")
    return f"never changes an outcome: {_listed(named)} {_verb(named, does, does_itself)} whatever it {does_itself}"


def _opposed(effect: str, named: Sequence[str], labels: Sequence[str]) -> str:
    return f"never changes an outcome: {_listed(named)} {_verb(named, 'deny', 'denies')} whatever it allows"


def _mixed(effect: str, named: Sequence[str], labels: Sequence[str]) -> str:
    if effect == DENY:
        denying = f"{_listed(named)} {_verb(named, 'deny', 'denies')}"
        return f"never changes an outcome: what it denies, {denying} or no rule allows"
    return f"never changes an outcome: what it allows, {_listed(named)} allow as well or deny"


def _unmet(effect: str, named: Sequence[str], labels: Sequence[str]) -> str:
    return "never changes an outcome: no rule allows what it denies"


def _earlier(effect: str, named: Sequence[str], labels: Sequence[str]) -> str:
    return (
        f"never changes an outcome: {_listed(named)} {_verb(named, 'decide', 'decides')} whatever it matches before it"
    )


def _alike(effect: str, named: Sequence[str], labels: Sequence[str]) -> str:
    return "never changes an outcome: where it decides, what follows it decides alike"


def _unread(effect: str, named: Sequence[str], labels: Sequence[str]) -> str:
    if effect not in (ALLOW, DENY):
        return "never changes an outcome: its effect is neither `allow` nor `deny`"
    return f"never changes an outcome: the effect of the model does not look at rows that {effect}"


_SAYS: Final = {
    Why.NEVER: _never,
    Why.DUPLICATE: _duplicate,
    Why.SAME: _same,
    Why.OPPOSED: _opposed,
    Why.MIXED: _mixed,
    Why.UNMET: _unmet,
    Why.EARLIER: _earlier,
    Why.ALIKE: _alike,
    Why.UNREAD: _unread,
}


def _verb(named: Sequence[str], several: str, one: str) -> str:
    return one if len(named) == 1 else several


def _listed(names: Sequence[str]) -> str:
    if len(names) > _NAMES_COUNT:
        return f"{', '.join(names[:_NAMES_COUNT])} and {len(names) - _NAMES_COUNT} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
