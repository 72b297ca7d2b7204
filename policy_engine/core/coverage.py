"""Coverage: whether some request meets one rule and none of others, decided by splitting cases. Exact, or it stops.

Rules of the room:
- A request gives each variable one of `sizes[variable]` values, numbered from 0. A literal says that a variable has
  one of some values; a clause is literals of which one must hold; a rule is clauses that must all hold.
- Cases are split until a request is found or none is left: literals that cannot hold fall away, a last literal is
  taken as true, and a rule that may not match and has one clause open fails in that clause.
- Every look at a clause costs a step. Without steps left the question is not decided, never guessed.
Left to others: what variables and values stand for (`core.classes`), what follows for a rule (`core.analysis`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Values(NamedTuple):
    """The values named, or (`inside` false) all the others. A set of one variable's values."""

    named: frozenset[int]
    inside: bool = True

    def without(self, other: Values) -> Values:
        """Return the values that are not among the others."""
        return self.meet(_not(other))

    def meet(self, other: Values) -> Values:
        """Return the values in both."""
        if self.inside:
            return Values(self.named & other.named if other.inside else self.named - other.named)
        if other.inside:
            return Values(other.named - self.named)
        return Values(self.named | other.named, False)

    def empty(self, size: int) -> bool:
        """Return whether no value is left of a variable with so many."""
        return not self.named if self.inside else len(self.named) >= size


Literal = tuple[int, Values]
Clause = tuple[Literal, ...]
Box = Mapping[int, Values]
"""What is left of each variable; one that is not named is whole."""

_WHOLE = Values(frozenset(), False)
_NARROW_VALUES = 64
"""Up to so many values, a set is written by those inside."""


class Undecided(Exception):
    """The steps ran out before the question was decided. Caught by `core.analysis`, never shown."""


class Steps:
    """How many steps are left: for all questions together, and for those about one rule."""

    __slots__ = ("_each", "_rule", "_total")

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._rule = min(each, total)

    def begin_rule(self) -> None:
        """Give the next rule its share of what is left."""
        self._rule = min(self._each, self._total)

    def spend(self, count: int) -> None:
        """Take steps away. Raises `Undecided` when there are not enough."""
        self._total -= count
        self._rule -= count
        if self._rule < 0:
            raise Undecided


class Form(NamedTuple):
    """A rule put simply: the values it leaves to single variables, and the clauses that bind several."""

    box: Box
    clauses: tuple[Clause, ...]

    def as_clauses(self) -> tuple[Clause, ...]:
        """Return the rule as clauses alone."""
        return (*(((variable, values),) for variable, values in self.box.items()), *self.clauses)

    def key(self) -> object:
        """Return what two rules share only if they match the same requests."""
        return frozenset(self.box.items()), frozenset(frozenset(clause) for clause in self.clauses)


class _Case:
    """One case of a question: what is left of each variable, clauses that must hold, rules that may not match."""

    __slots__ = ("avoid", "box", "must", "sizes", "steps", "used")

    def __init__(
        self,
        sizes: Sequence[int],
        box: Box,
        must: Iterable[Clause],
        avoid: Iterable[tuple[int, Sequence[Clause]]],
        steps: Steps,
        used: set[int],
    ) -> None:
        self.sizes = sizes
        self.box = dict(box)
        self.must = list(must)
        self.avoid = list(avoid)
        self.steps = steps
        self.used = used

    def unsettled(self, clause: Clause) -> Clause | None:
        """Return the literals that may hold or fail here, `None` where one holds in any case."""
        left: list[Literal] = []
        for variable, values in clause:
            size = self.sizes[variable]
            have = self.box.get(variable, _WHOLE)
            if have.without(values).empty(size):
                return None
            if not have.meet(values).empty(size):
                left.append((variable, values))
        return tuple(left)

    def take(self, variable: int, values: Values) -> bool:
        """Narrow a variable to the values; return whether anything is left of it."""
        left = self.box.get(variable, _WHOLE).meet(values)
        self.box[variable] = left
        return not left.empty(self.sizes[variable])

    def settle(self) -> bool:
        """Follow what must be so until nothing more follows; return whether a request may be left."""
        changed = True
        while changed:
            self.steps.spend(1 + len(self.must) + sum(len(clauses) for _, clauses in self.avoid))
            before = (len(self.must), len(self.avoid))
            if not self._settle_must() or not self._settle_avoid():
                return False
            # Only what fell away can have narrowed a variable.
            changed = before != (len(self.must), len(self.avoid))
        return True

    def _settle_must(self) -> bool:
        kept: list[Clause] = []
        for clause in self.must:
            left = self.unsettled(clause)
            if left is None:
                continue
            if not left or (len(left) == 1 and not self.take(*left[0])):
                return False
            if len(left) > 1:
                kept.append(left)
        self.must = kept
        return True

    def _settle_avoid(self) -> bool:
        kept: list[tuple[int, Sequence[Clause]]] = []
        for name, clauses in self.avoid:
            left = self._pending(clauses)
            if left is None:
                continue
            if len(left) > 1:
                kept.append((name, left))
                continue
            self.used.add(name)
            if not left or not self.fail(left[0]):
                return False
        self.avoid = kept
        return True

    def _pending(self, clauses: Sequence[Clause]) -> list[Clause] | None:
        """Return the clauses of a rule that may hold or fail here, `None` where the rule cannot match any more."""
        left: list[Clause] = []
        for clause in clauses:
            part = self.unsettled(clause)
            if part is None:
                continue
            if not part:
                return None
            left.append(part)
        return left

    def fail(self, clause: Clause) -> bool:
        """Let every literal of a clause fail; return whether a request may be left."""
        return all(self.take(variable, _not(values)) for variable, values in clause)

    def split(self) -> list[_Case]:
        """Return the two cases of one open clause or literal; none where every request left is an answer."""
        if self.avoid:
            at = min(range(len(self.avoid)), key=lambda place: len(self.avoid[place][1]))
            name, clauses = self.avoid[at]
            clause = min(clauses, key=len)
            failing, holding = self._copy(), self._copy()
            holding.must.append(clause)
            holding.avoid[at] = (name, [other for other in clauses if other is not clause])
            # A case that failed at once is dropped; the other covers the rest.
            return [holding, failing] if failing.fail(clause) else [holding]
        if self.must:
            variable, values = self.must[0][0]
            taken, refused = self._copy(), self._copy()
            found = [case for case, part in ((refused, _not(values)), (taken, values)) if case.take(variable, part)]
            return found
        return []

    def _copy(self) -> _Case:
        return _Case(self.sizes, self.box, self.must, self.avoid, self.steps, self.used)


def simplify(sizes: Sequence[int], clauses: Iterable[Clause], steps: Steps) -> Form | None:
    """Return the rule in its simple form, `None` where no request meets it. Raises `Undecided`."""
    case = _Case(sizes, {}, clauses, (), steps, set())
    if not case.settle():
        return None
    form = Form({at: _plain(values, sizes[at]) for at, values in case.box.items()}, tuple(case.must))
    return None if form.clauses and uncovered(sizes, form, (), steps) is not None else form


def uncovered(
    sizes: Sequence[int], rule: Form, others: Iterable[tuple[int, Form]], steps: Steps, *, also: Form | None = None
) -> frozenset[int] | None:
    """Return `None` where some request meets the rule (and `also`) and none of the others.

    Otherwise the names of others that together leave nothing of it; none of them where nothing meets both rules.
    Raises `Undecided` when the steps run out.
    """
    used: set[int] = set()
    must = rule.clauses if also is None else (*rule.clauses, *also.as_clauses())
    avoid = [(name, form.as_clauses()) for name, form in others]
    cases = [_Case(sizes, rule.box, must, avoid, steps, used)]
    while cases:
        case = cases.pop()
        if not case.settle():
            continue
        parts = case.split()
        if not parts and not case.avoid and not case.must:
            return None
        cases.extend(parts)
    return frozenset(used)


def _plain(values: Values, size: int) -> Values:
    """Return the one way in which this set of values is written."""
    count = len(values.named) if values.inside else size - len(values.named)
    inside = count <= _NARROW_VALUES or 2 * count <= size
    return values if inside == values.inside else Values(frozenset(range(size)) - values.named, inside)


def _not(values: Values) -> Values:
    return Values(values.named, not values.inside)
