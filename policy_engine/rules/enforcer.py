"""`CompiledEnforcer`: what `casbin.Enforcer(model, policy)` answers, from the compiled index.

Rules of the room:
- It takes what `casbin.Enforcer` takes and returns what that returns; where that raises, it raises the same.
- Every conjunct of the matcher is inverted when it is built; what cannot be inverted is refused by name. A request
  with a value of a kind that the terms cannot read is answered by the stock enforcer itself, held beside the index.
- It is frozen: management calls, contexts (`r2`, `p2`), conditional roles and other effects are refused by name.
Left to others: strictness about packs (`rules.release`); here a policy means what Casbin says it means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

import casbin

from policy_engine.core.index import Index, positions
from policy_engine.errors import LoadRefused
from policy_engine.rules.compile import compile_index
from policy_engine.rules.matcher import policy_columns, request_tokens, split_matcher
from policy_engine.rules.stock import stock_enforcer

_ALLOW_OVERRIDE: Final = "some(where (p_eft == allow))"
_DENY_OVERRIDE: Final = "!some(where (p_eft == deny))"
_ALLOW_AND_DENY: Final = f"{_ALLOW_OVERRIDE} && {_DENY_OVERRIDE}"
_PRIORITY: Final = ("priority(p_eft) || deny", "subjectPriority(p_eft) || deny")


class NotSupported(LoadRefused, AttributeError):
    """A call that a frozen enforcer does not have; `hasattr` says so too."""


class CompiledEnforcer:
    """Answers like `casbin.Enforcer`, at a cost that grows with the rules that match.

    Raises `LoadRefused` by name for a model that cannot be compiled, and otherwise what Casbin raises.
    """

    def __init__(self, model: Any, policy: Any = None) -> None:
        where = model if isinstance(model, str) else "model"
        self._stock = stock_enforcer(model, policy)
        held = self._stock.get_model()
        split_matcher(held, where)
        self._lines: Sequence[Sequence[str]] = held["p"]["p"].policy
        self._request_size = len(request_tokens(held))
        self._index = self._compiled(held, where)
        self._scan = None if self._index is None else _Scan(held["e"]["e"].value, self._lines, policy_columns(held))

    def enforce(self, *rvals: Any) -> bool:
        """Return whether the request is allowed."""
        return self.enforce_ex(*rvals)[0]

    def enforce_ex(self, *rvals: Any) -> tuple[bool, Sequence[str]]:
        """Return the answer and the one row that Casbin names for it (empty where none matched)."""
        index, scan = self._index, self._scan
        if rvals and isinstance(rvals[0], casbin.core_enforcer.EnforceContext):
            raise NotSupported("contexts are not supported by a compiled enforcer; ask without one")
        if index is None or scan is None or len(rvals) != self._request_size or not index.readable(rvals):
            result: tuple[bool, Sequence[str]] = self._stock.enforce_ex(*rvals)
            return result
        return scan.answer(index.matching(rvals))

    def batch_enforce(self, rvals: Iterable[Sequence[Any]]) -> list[bool]:
        """Return the answers to several requests, in order."""
        return [self.enforce(*request) for request in rvals]

    def explain(self, *rvals: Any) -> list[Sequence[str]]:
        """Return every matching row, in order of the policy.

        Raises `InputRefused` for a value that the terms cannot read, `LoadRefused` where nothing is compiled.
        """
        if self._index is None or len(rvals) != self._request_size:
            raise NotSupported("there is nothing to explain: no rows, or a request of another size")
        return [self._lines[at] for at in positions(self._index.matching(rvals))]

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what `casbin.Enforcer` has and this does not, by name."""
        if not name.startswith("_") and hasattr(casbin.Enforcer, name):
            message = f"`{name}` is a management call and this enforcer is frozen; change the policy and build another"
            raise NotSupported(message)
        raise AttributeError(name)

    def _compiled(self, held: Any, where: str) -> Index | None:
        """Without rows, or with rows of another size, Casbin evaluates or raises in ways of its own: left to it."""
        size = len(policy_columns(held))
        if not self._lines or any(len(line) != size for line in self._lines):
            return None
        return compile_index(held, where)


class _Scan:
    """What a scan in order of the policy would answer, told from the set of matching rows."""

    def __init__(self, effect: str, lines: Sequence[Sequence[str]], columns: tuple[str, ...]) -> None:
        self._lines = lines
        place = columns.index("eft") if "eft" in columns else None
        words = ["allow" if place is None else line[place] for line in lines]
        self._allows = sum(1 << at for at, word in enumerate(words) if word == "allow")
        self._denies = sum(1 << at for at, word in enumerate(words) if word == "deny")
        self._deciding = {
            _ALLOW_OVERRIDE: self._allows,
            _DENY_OVERRIDE: self._denies,
            _ALLOW_AND_DENY: self._denies,
            **dict.fromkeys(_PRIORITY, self._allows | self._denies),
        }[effect]
        self._effect = effect

    def answer(self, found: int) -> tuple[bool, Sequence[str]]:
        """Return the answer and the row at which the scan stopped, else the last that matched."""
        deciding = found & self._deciding
        if deciding:
            first = deciding & -deciding
            return bool(first & self._allows), self._lines[first.bit_length() - 1]
        row: Sequence[str] = self._lines[found.bit_length() - 1] if found else []
        if self._effect == _DENY_OVERRIDE:
            return True, row
        return self._effect == _ALLOW_AND_DENY and bool(found & self._allows), row
