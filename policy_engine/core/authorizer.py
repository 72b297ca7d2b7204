"""The authorizer: from the rules that match and the keys that lift to an outcome.

Rules of the room: no matching allow means deny; any deny left after lifting means deny; order and duplicates do not
matter; a rule that errs never gets here (its error denies before). A slow, obvious twin in the tests must agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from policy_engine.core.decision import Outcome


class Rule(Protocol):
    """What the authorizer needs to know of a rule."""

    @property
    def effect(self) -> str: ...

    @property
    def lift(self) -> str: ...


class Verdict(NamedTuple):
    """Outcome with positions of the rules that allow, that deny, and whose deny was lifted."""

    outcome: Outcome
    allows: tuple[int, ...]
    denies: tuple[int, ...]
    lifted: tuple[int, ...]


def authorize(rules: Sequence[Rule], matching: Iterable[int], lifts: frozenset[str]) -> Verdict:
    """Return the verdict of the matching rules under the lift keys given."""
    allows: list[int] = []
    denies: list[int] = []
    lifted: list[int] = []
    for position in matching:
        rule = rules[position]
        if rule.effect == "allow":
            allows.append(position)
        elif rule.lift and rule.lift in lifts:
            lifted.append(position)
        else:
            denies.append(position)  # whatever is not exactly `allow` denies
    outcome = Outcome.ALLOW if allows and not denies else Outcome.DENY
    return Verdict(outcome, tuple(allows), tuple(denies), tuple(lifted))
