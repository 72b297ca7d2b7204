"""`CompiledEnforcer`: what `casbin.Enforcer(model, policy)` answers, at a cost that grows with the rules that match.

Rules of the room:
- It takes what `casbin.Enforcer` takes, returns what that returns and raises where that raises. What it does not
  support is refused by name when it is built, never when it is asked.
- The index narrows, the scan confirms: rows are found by the request's values; rows and values that the index cannot
  read are judged by Casbin's own evaluator, in Casbin's order, and no more of them than Casbin would have visited.
- Frozen: `updated` returns another enforcer, which shares what did not change. Rows are copied when they come in from
  others' hands and when they go out.
Left to others: taking a matcher apart (`rules.selectors`), rows under one matcher (`rules.rowgroups`), what an effect
makes of rows (`core.effects`), strictness about packs and served folders (`rules.release`, `rules.plain`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush, heapreplace
from typing import Any, NoReturn

import casbin

from policy_engine.core.effects import Answer
from policy_engine.core.lookup import Found
from policy_engine.core.selection import Selection, Tests
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.functions import Declared
from policy_engine.rules.rowgroups import Group
from policy_engine.rules.rows import Rows
from policy_engine.rules.rulebook import Rulebook

Row = Sequence[Any]
Matching = Callable[[Any, Any], bool]
_MANY_OBJECTS = 20_000
"""New objects from which on it is worth more than a look at all frozen ones to have them count as old."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the garbage collector: building makes a million objects that stay, which it would visit over and over.

    Afterwards many count as old, so that it does not visit them at once; where the program has frozen objects, it does.
    For a few there is nothing to spare: whether objects are frozen is found by counting them, and may be millions.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            if gc.get_count()[0] > _MANY_OBJECTS and not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()  # which puts them among the old ones
            gc.enable()


class NotSupported(LoadRefused, AttributeError):
    """A call that a frozen enforcer does not have; `hasattr` says so too."""


class CompiledEnforcer:
    """Answers like `casbin.Enforcer`.

    `functions` are functions of your own by name, each with its purity declared. `matching` and `domain_matching` are,
    by role definition (`g`), functions that tell whether a name or a domain fits a pattern, as
    `add_named_matching_func` takes them. Raises `LoadRefused` by name for what cannot be compiled, and for what Casbin
    stumbles over while loading, where it is an error of Casbin's kind too; `TooLarge` beyond a limit; and what an
    adapter raises.
    """

    def __init__(
        self,
        model: Any,
        policy: Any = None,
        *,
        functions: Mapping[str, Declared] | None = None,
        matching: Mapping[str, Matching] | None = None,
        domain_matching: Mapping[str, Matching] | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        with _uncollected():
            book = Rulebook.read(model, policy, functions or {}, matching or {}, domain_matching or {}, limits)
            self._take(Rows.of(book))

    def _take(self, rows: Rows) -> None:
        self._rows = rows
        self._size = len(rows.book.policy.tokens)
        self._effect = rows.effect
        self._only = rows.only
        # Rows that are found by the first value are not found by a context in its place; any others would be.
        self._first_unread = rows.only is not None and 0 not in rows.only.selection.positions
        self._lines = rows.lines

    def enforce(self, *rvals: Any) -> bool:
        """Return whether the request is allowed. Raises what `casbin.Enforcer.enforce` raises."""
        only = self._only
        if self._first_unread:
            self._check(rvals)
        if only is not None and len(rvals) == self._size and only.rest is None:
            values = only.values(rvals)
            selection = only.selection
            if selection.readable(values):
                if selection.whole and self._effect.ranks is None:
                    return self._effect.of_leaves(selection.leaves(values, self._effect.settled))[0]
                return self._narrowed(selection, values)[0]
        return self.enforce_ex(*rvals)[0]

    def enforce_ex(self, *rvals: Any) -> tuple[bool, Row]:
        """Return the answer and the one row that Casbin names for it (empty where none matched)."""
        self._check(rvals)
        if not self._rows.count:
            return self._rows.answer_without_rows(rvals), []
        allowed, slot = self._answer(rvals)
        return allowed, [] if slot is None else self._lines[slot][:]

    def batch_enforce(self, rvals: Iterable[Sequence[Any]]) -> list[bool]:
        """Return the answers to several requests, in order."""
        return [self.enforce(*request) for request in rvals]

    def explain(self, *rvals: Any) -> list[Row]:
        """Return every matching row, in the order of Casbin's scan. Raises where any row of the policy raises."""
        self._check(rvals)
        return [self._lines[slot][:] for slot in self._matching(rvals)]

    def _check(self, rvals: Sequence[Any]) -> None:
        if rvals and isinstance(rvals[0], casbin.core_enforcer.EnforceContext):
            raise NotSupported("contexts are not supported by a compiled enforcer; ask without one")
        if len(rvals) != self._size:
            raise RuntimeError("invalid request size")

    def updated(self, add: Iterable[Row] = (), remove: Iterable[Row] = ()) -> CompiledEnforcer:
        """Return an enforcer with rows removed and then added at the end; this one stays as it is.

        A row is a line of the policy file as a list, its kind first (`["p", "alice", "data1", "read"]`,
        `["g", "alice", "admin"]`); without a kind it is a `p` row. Of equal rows the first is removed. Raises
        `InputRefused` for a row that is not there or fits no definition, `TooLarge` beyond a limit, and `LoadRefused`
        for a row that nothing can judge within bounds; and what Casbin raises when it sorts rows by subjects that go
        in a circle. Nothing is changed then.
        """
        copy: CompiledEnforcer = object.__new__(CompiledEnforcer)
        copy._take(self._rows.updated([list(row) for row in add], [list(row) for row in remove]))
        return copy

    @property
    def memory_bytes(self) -> int:
        """What rows, index and remembered evaluations take in memory; counted anew at each call, which takes time."""
        return self._rows.memory_bytes()

    @property
    def rules_count(self) -> int:
        """How many `p` rows there are."""
        return self._rows.count

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what `casbin.Enforcer` has and this does not, by name."""
        if not name.startswith("_") and hasattr(casbin.Enforcer, name):
            message = f"`{name}` is a management call and this enforcer is frozen; use `updated`, or build another"
            raise NotSupported(message)
        raise AttributeError(name)

    def _answer(self, rvals: Sequence[Any]) -> Answer:
        """Return what the effect makes of the rows: all at once where nothing can raise, else one after another."""
        only, effect = self._only, self._effect
        if only is None:
            return effect.scan(self._matching(rvals))
        values = only.values(rvals)
        selection = only.selection
        if not selection.readable(values):
            return effect.scan(self._judged(rvals))
        if selection.whole and only.rest is None and effect.ranks is None:
            return effect.of_leaves(selection.leaves(values))
        if only.rest is None:
            return self._narrowed(selection, values)
        found, tests = selection.find(values)
        return effect.scan(self._tested(found, tests, values, only.rest.judge(rvals), rvals))

    def _narrowed(self, selection: Selection, values: Sequence[Any]) -> Answer:
        """Return the answer where terms must narrow or test what was looked up; remembered for values that return."""
        remembered = self._rows.book.remembered
        outcomes = remembered.outcomes(selection.name, [values[position] for position in selection.positions])
        if outcomes:
            answer: Answer = outcomes[None]
            return answer
        found, tests = selection.find(values)
        if not tests:
            answer = self._effect.of(found)
        elif len(tests) == 1:
            test = tests[0].test
            answer = self._effect.among(found, lambda slot: test(values, slot))
        else:
            answer = self._effect.among(found, lambda slot: all(term.test(values, slot) for term in tests))
        if outcomes is not None:
            remembered.keep(outcomes, None, answer)
        return answer

    def _judged(self, rvals: Sequence[Any]) -> Iterator[int]:
        """Yield the slots of matching rows where the index can read nothing: all rows, as Casbin judges them."""
        judge = self._rows.book.evaluation.judge(rvals)
        lines, gone = self._lines, self._rows.gone
        slots: Iterable[int] = range(len(lines))
        if self._effect.ranks is not None:
            slots = sorted(slots, key=self._effect.ranks.__getitem__)
        for slot in slots:
            if slot not in gone and judge(lines[slot]):
                yield slot

    def _tested(
        self, found: Found, tests: Tests, values: Sequence[Any], rest: Callable[[Row], bool], rvals: Sequence[Any]
    ) -> Iterator[int]:
        """Yield the slots of matching rows among those found, where there is one group whose places are slots."""
        lines, rows = self._lines, self._rows.groups[0].rows
        for slot in self._effect.ordered(found):
            try:
                matches = all(term.test(values, slot) for term in tests) if tests else True
                matches = matches and rest(rows[slot])
            except Exception:  # noqa: BLE001  whatever it is, Casbin's own loop says what it raises here
                matches = self._rows.book.evaluation.judge(rvals)(lines[slot])
            if matches:
                yield slot

    def _matching(self, rvals: Sequence[Any]) -> Iterator[int]:
        """Yield the slots of matching rows in the order of Casbin's scan, each judged when its turn comes."""
        ranks = self._effect.ranks
        candidates: Iterable[tuple[int, Callable[[], bool]]] = self._candidates(rvals)
        if ranks is not None:
            candidates = sorted(candidates, key=lambda candidate: ranks[candidate[0]])
        judge = self._rows.book.evaluation.judge(rvals)
        for slot, matches in candidates:
            try:
                found = matches()
            except Exception:  # noqa: BLE001  whatever it is, Casbin's own loop says what it raises here
                found = judge(self._lines[slot])
            if found:
                yield slot

    def _candidates(self, rvals: Sequence[Any]) -> Iterator[tuple[int, Callable[[], bool]]]:
        """Yield rows that may match and what judges each, by slot; a group is opened when its first row may be next."""
        groups = self._rows.sources
        opened: list[tuple[int, int, Iterator[tuple[int, Callable[[], bool]]], Callable[[], bool]]] = []
        waiting = 0
        while True:
            while waiting < len(groups) and (not opened or groups[waiting][0] <= opened[0][0]):
                source = self._opened(groups[waiting][1], rvals)
                first = next(source, None)
                if first is not None:
                    heappush(opened, (first[0], waiting, source, first[1]))
                waiting += 1
            if not opened:
                return
            slot, number, source, matches = opened[0]
            yield slot, matches
            following = next(source, None)
            if following is None:
                heappop(opened)
            else:
                heapreplace(opened, (following[0], number, source, following[1]))

    def _opened(self, source: Group | Sequence[int], rvals: Sequence[Any]) -> Iterator[tuple[int, Callable[[], bool]]]:
        judge = self._rows.book.evaluation.judge(rvals)
        lines = self._lines
        if not isinstance(source, Group):
            for slot in source:
                yield slot, _judging(judge, lines[slot])
            return
        values = source.values(rvals)
        if not source.selection.readable(values):
            for slot in self._rows.slots_of(source):
                yield slot, _judging(judge, lines[slot])
            return
        found, tests = source.selection.find(values)
        rest = None if source.rest is None else source.rest.judge(rvals)
        for place in source.ordered(found):
            yield source.slots[place], _testing(tests, values, place, rest, source.rows[place])


def _judging(judge: Callable[[Row], bool], row: Row) -> Callable[[], bool]:
    return lambda: judge(row)


def _testing(
    tests: Sequence[Any], values: Sequence[Any], place: int, rest: Callable[[Row], bool] | None, row: Row
) -> Callable[[], bool]:
    def matches() -> bool:
        for term in tests:
            if not term.test(values, place):
                return False
        return rest is None or rest(row)

    return matches
