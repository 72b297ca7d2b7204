"""A Casbin adapter: packs and tables as ordinary `p` and `g` lines of a Casbin model.

Rules of the room: reading only; a policy is changed by publishing a release, so every writing call is refused. The
lines are already checked. Left to others: checking (`rules.packs`, `rules.tables`), writing files (`rules.export`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from casbin.persist import Adapter

from policy_engine.errors import LoadRefused
from policy_engine.rules.functions import ANY, NO_LIFT
from policy_engine.rules.packs import PackRule


class ReleaseAdapter(Adapter):  # type: ignore[misc]  # casbin has no types
    """Gives a Casbin model the lines of a release."""

    def __init__(
        self, rules: Sequence[PackRule], groups: Iterable[tuple[str, str, str]], lift_column: str | None
    ) -> None:
        self._rules = rules
        self._groups = groups
        self._lift_column = lift_column

    def load_policy(self, model: Any) -> None:
        """Append one `p` line a rule, columns in the model's order, and one `g` line a member, group and edition."""
        columns = [token.removeprefix("p_") for token in model["p"]["p"].tokens]
        model["p"]["p"].policy.extend(self._line(rule, columns) for rule in self._rules)
        if model["g"]:
            model["g"]["g"].policy.extend(list(line) for line in self._groups)

    def save_policy(self, model: Any) -> None:
        """Refuse: a release is immutable."""
        raise LoadRefused("a release is immutable; publish another")

    def add_policy(self, sec: str, ptype: str, rule: Sequence[str]) -> None:
        """Refuse: a release is immutable."""
        self.save_policy(None)

    def remove_policy(self, sec: str, ptype: str, rule: Sequence[str]) -> None:
        """Refuse: a release is immutable."""
        self.save_policy(None)

    def remove_filtered_policy(self, sec: str, ptype: str, field_index: int, *field_values: str) -> None:
        """Refuse: a release is immutable."""
        self.save_policy(None)

    def _line(self, rule: PackRule, columns: Sequence[str]) -> list[str]:
        said = {"id": rule.meta.id, "eft": rule.meta.effect, **rule.conditions}
        if self._lift_column is not None:
            said.setdefault(self._lift_column, NO_LIFT)
        return [said.get(column, ANY) for column in columns]
