"""What a set of rules holds that changes nothing: rules that never fire, duplicates, and rules that are shadowed.

Rules of the room:
- A rule is shadowed when the outcome of every request is the same without it (and without its later duplicates), all
  other rules being in place. Each finding is about one rule: after taking one out, ask again.
- A duplicate has the effect and the requests of an earlier rule; a rule that never fires is neither.
- Exact for facets as free variables (`core.classes`), or not decided: the steps of `limits` bound the work, those for
  one rule and those for all.
- Lifting is a condition as any other: a deny with a key does not match where the key lifts it.
Left to others: reading rules and facets, and saying findings in words (`rules.findings`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from policy_engine.core.classes import Classes, Condition, Facet
from policy_engine.core.coverage import Clause, Form, Steps, Undecided, simplify, uncovered
from policy_engine.limits import LIMITS, Limits

ALLOW: Final = "allow"
DENY: Final = "deny"
_POSTED_VALUES = 64
"""A condition on more values than this is no help in finding the rules that meet another."""


class Combining(Enum):
    """How the effects of matching rules become an outcome: the effects of Casbin, written without their spaces."""

    ALLOW_OVERRIDE = "some(where(p_eft==allow))"
    DENY_OVERRIDE = "!some(where(p_eft==deny))"
    ALLOW_AND_DENY = "some(where(p_eft==allow))&&!some(where(p_eft==deny))"
    PRIORITY = "priority(p_eft)||deny"


class Why(Enum):
    """What makes a rule change nothing."""

    NEVER = "no request meets its conditions"
    DUPLICATE = "an earlier rule has its effect and its requests"
    SAME = "rules of the same effect cover it"
    OPPOSED = "denies cover this allow"
    MIXED = "what others do not cover, no allow opens; or denies and allows cover it together"
    UNMET = "no allow meets this deny"
    EARLIER = "earlier rules decide whatever it matches"
    ALIKE = "where it decides, what follows decides alike"
    UNREAD = "its effect is never looked at"
    UNDECIDED = "the steps ran out"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its effect and the conditions that must all hold."""

    effect: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that changes nothing, by position, and the others that make it so.

    `labels` are, for a rule that never fires, the conditions that cannot hold together.
    """

    rule: int
    why: Why
    by: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()


def analyse(
    facets: Mapping[str, Facet], rules: Sequence[Rule], combining: Combining, *, limits: Limits = LIMITS
) -> tuple[Finding, ...]:
    """Return the findings, at most one a rule, in the order of the rules."""
    return _Analysis(facets, rules, combining, limits).findings()


class _Analysis:
    """The rules in their simple forms, and what was found of them so far."""

    def __init__(
        self, facets: Mapping[str, Facet], rules: Sequence[Rule], combining: Combining, limits: Limits
    ) -> None:
        self._rules = rules
        self._combining = combining
        self._classes = Classes(facets, (condition for rule in rules for condition in rule.conditions))
        self._steps = Steps(limits.analysis_steps_count, limits.analysis_rule_steps_count)
        self._found: dict[int, Finding] = {}
        self._forms: dict[int, Form] = {}
        for at, rule in enumerate(rules):
            self._begin(at, rule)
        self._index = _Meeting(self._forms, self._classes.singles)

    def findings(self) -> tuple[Finding, ...]:
        """Return what is found of every rule."""
        self._note_repeated()
        for at in list(self._forms):
            if at not in self._found:
                self._steps.begin_rule()
                try:
                    finding = self._shadowed(at)
                except Undecided:
                    finding = Finding(at, Why.UNDECIDED)
                if finding is not None:
                    self._found[at] = finding
        return tuple(self._rooted(self._found[at]) for at in sorted(self._found))

    def _rooted(self, finding: Finding) -> Finding:
        """Return a duplicate with the first of its kind beside it, which a later look may have found."""
        while finding.why is Why.DUPLICATE:
            before = self._found.get(finding.by[0])
            if before is None or before.why is not Why.DUPLICATE:
                break
            finding = Finding(finding.rule, Why.DUPLICATE, before.by)
        return finding

    def _begin(self, at: int, rule: Rule) -> None:
        """Bring a rule into its simple form, or note that it never fires or is never looked at."""
        self._steps.begin_rule()
        written = Form({}, tuple(self._clauses(rule.conditions)))
        form: Form | None = written
        try:
            form = simplify(self._classes.sizes, written.clauses, self._steps)
        except Undecided:
            # As it is written it still covers and meets others as exactly as a simple form would.
            self._found[at] = Finding(at, Why.UNDECIDED)
        if form is None:
            self._found[at] = Finding(at, Why.NEVER, labels=self._contradicting(rule))
        elif rule.effect not in _READ[self._combining]:
            self._found[at] = Finding(at, Why.UNREAD)
        else:
            self._forms[at] = form

    def _clauses(self, conditions: Iterable[Condition]) -> Iterator[Clause]:
        for condition in conditions:
            yield from self._classes.clauses(condition)

    def _contradicting(self, rule: Rule) -> tuple[str, ...]:
        """Return the labels of conditions that cannot hold together, none of them idle unless the steps run out."""
        kept = list(dict.fromkeys(condition.label for condition in rule.conditions))
        for label in tuple(kept):
            rest = [condition for condition in rule.conditions if condition.label in kept and condition.label != label]
            try:
                if simplify(self._classes.sizes, self._clauses(rest), self._steps) is None:
                    kept.remove(label)
            except Undecided:
                break
        return tuple(kept)

    def _note_repeated(self) -> None:
        """Find the rules that are written alike once they are put simply."""
        first: dict[object, int] = {}
        for at, form in self._forms.items():
            earlier = at if at in self._found else first.setdefault((self._rules[at].effect, form.key()), at)
            if earlier != at:
                self._found[at] = Finding(at, Why.DUPLICATE, (earlier,))

    def _shadowed(self, at: int) -> Finding | None:
        while True:
            meeting = [other for other in self._index.meeting(at, self._steps) if self._counts(other, at)]
            finding = _ASKED[self._combining](self, at, meeting)
            if finding is None:
                return None
            twins = [other for other in meeting if self._alike(at, other)]
            if twins and twins[0] < at:
                return Finding(at, Why.DUPLICATE, (twins[0],))
            if not twins:
                return finding
            for twin in twins:
                self._found[twin] = Finding(twin, Why.DUPLICATE, (at,))

    def _counts(self, other: int, at: int) -> bool:
        """Return whether another rule stands: duplicates do not, the first of them does."""
        found = self._found.get(other)
        return other != at and (found is None or found.why is not Why.DUPLICATE)

    def _alike(self, at: int, other: int) -> bool:
        """Return whether two rules that are written differently have one effect and the same requests."""
        one, two = self._forms[at], self._forms[other]
        if self._rules[at].effect != self._rules[other].effect or not (one.clauses or two.clauses):
            return False
        return self.covered(at, (other,)) is not None and self.covered(other, (at,)) is not None

    def covered(self, at: int, others: Iterable[int], *, also: int | None = None) -> frozenset[int] | None:
        """Return which others leave nothing of a rule (that meets another, `also`), `None` where some is left."""
        forms = self._forms
        named = ((other, forms[other]) for other in others)
        together = None if also is None else forms[also]
        return uncovered(self._classes.sizes, forms[at], named, self._steps, also=together)

    def few(self, at: int, proof: frozenset[int]) -> tuple[int, ...]:
        """Return rules of a proof that suffice: one where one does, else so that none can be left out."""
        kept = sorted(proof)
        for other in kept:
            if self.covered(at, (other,)) is not None:
                return (other,)
        for other in tuple(kept):
            rest = [name for name in kept if name != other]
            if self.covered(at, rest) is not None:
                kept = rest
        return tuple(kept)

    def overriding(self, at: int, meeting: Sequence[int]) -> Finding | None:
        """Where only one effect is looked at, a rule changes nothing if others cover it."""
        proof = self.covered(at, meeting)
        return None if proof is None else Finding(at, Why.SAME, self.few(at, proof))

    def both(self, at: int, meeting: Sequence[int]) -> Finding | None:
        """Where an allow is needed and a deny wins."""
        allows, denies = self._parted(meeting)
        if self._rules[at].effect == DENY:
            return self._deny(at, allows, denies)
        if self.covered(at, meeting) is None:
            return None
        for why, others in ((Why.OPPOSED, denies), (Why.SAME, allows), (Why.MIXED, meeting)):
            proof = self.covered(at, others)
            if proof is not None:
                return Finding(at, why, self.few(at, proof))
        return None

    def _deny(self, at: int, allows: Sequence[int], denies: Sequence[int]) -> Finding | None:
        proof = self.covered(at, denies)
        if proof is not None:
            return Finding(at, Why.SAME, self.few(at, proof))
        used: set[int] = set()
        for allow in allows:
            needed = self.covered(at, denies, also=allow)
            if needed is None:
                return None
            used |= needed
        return Finding(at, Why.MIXED if used else Why.UNMET, tuple(sorted(used)))

    def first(self, at: int, meeting: Sequence[int]) -> Finding | None:
        """Where the first match decides: a rule counts if it decides and what follows would decide otherwise."""
        earlier = [other for other in meeting if other < at]
        proof = self.covered(at, earlier)
        if proof is not None:
            return Finding(at, Why.EARLIER, self.few(at, proof))
        later = [other for other in meeting if other > at]
        mine = self._rules[at].effect
        alike: list[int] = []
        for other in later:
            if self._rules[other].effect == mine:
                alike.append(other)
            elif self.covered(at, (*earlier, *alike), also=other) is None:
                return None
        if mine == ALLOW and self.covered(at, (*earlier, *alike)) is None:
            return None
        return Finding(at, Why.ALIKE, tuple(alike))

    def _parted(self, meeting: Sequence[int]) -> tuple[list[int], list[int]]:
        allows = [other for other in meeting if self._rules[other].effect == ALLOW]
        return allows, [other for other in meeting if self._rules[other].effect == DENY]


class _Meeting:
    """Finds the rules that may match a request that a rule matches, by the facet that leaves the fewest."""

    def __init__(self, forms: Mapping[int, Form], singles: Iterable[int]) -> None:
        self._forms = forms
        self._posted: dict[int, dict[int, list[int]]] = {variable: {} for variable in singles}
        self._free: dict[int, list[int]] = {variable: [] for variable in self._posted}
        for at, form in forms.items():
            for variable, posted in self._posted.items():
                values = _posted(form, variable)
                for value in values or ():
                    posted.setdefault(value, []).append(at)
                if values is None:
                    self._free[variable].append(at)

    def meeting(self, at: int, steps: Steps) -> list[int]:
        """Return the other rules that may meet a rule, in order; some of them may not. A step each."""
        best: list[list[int]] | None = None
        for variable, posted in self._posted.items():
            values = _posted(self._forms[at], variable)
            if values is not None:
                lists = [self._free[variable], *(posted.get(value, []) for value in values)]
                if best is None or sum(map(len, lists)) < sum(map(len, best)):
                    best = lists
        lists = [list(self._forms)] if best is None else best
        steps.spend(sum(map(len, lists)))
        return sorted({other for part in lists for other in part} - {at})


def _posted(form: Form, variable: int) -> frozenset[int] | None:
    """Return the few values that a rule leaves to a variable, `None` where it leaves many."""
    values = form.box.get(variable)
    if values is None or not values.inside or len(values.named) > _POSTED_VALUES:
        return None
    return values.named


_READ: Final = {
    Combining.ALLOW_OVERRIDE: (ALLOW,),
    Combining.DENY_OVERRIDE: (DENY,),
    Combining.ALLOW_AND_DENY: (ALLOW, DENY),
    Combining.PRIORITY: (ALLOW, DENY),
}
_ASKED: Final = {
    Combining.ALLOW_OVERRIDE: _Analysis.overriding,
    Combining.DENY_OVERRIDE: _Analysis.overriding,
    Combining.ALLOW_AND_DENY: _Analysis.both,
    Combining.PRIORITY: _Analysis.first,
}
