"""Lint of a plain Casbin folder that loads: its warnings, and the rules that change nothing, each said once.

Rules of the room: the analysis reads the same rows as the enforcer; what it cannot read it says in one sentence. Where
it speaks of a line, the plainer warning about the same thing stays away.
Left to others: the analysis (`rules.findings`), the warnings (`rules.plainadvice`).
"""

from __future__ import annotations

import re

from policy_engine.core.plain import POLICY_FILE, PlainRelease
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.findings import analyse_model
from policy_engine.rules.plain import Basis, RowsAdapter
from policy_engine.rules.plainadvice import warnings_of

_PLACE = re.compile(rf"{re.escape(POLICY_FILE)}:(\d+):")


def plain_warnings(release: PlainRelease, *, limits: Limits = LIMITS) -> tuple[str, ...]:
    """Return every warning of a plain folder, the analysis of its rules included."""
    basis = release.basis
    if not isinstance(basis, Basis):
        raise TypeError("the release was not loaded from a folder")
    found = _analysed(basis, limits)
    spoken = {int(place[1]) for sentence in found if (place := _PLACE.match(sentence))}
    return (*warnings_of(basis.model, release.rows, frozenset(spoken)), *found)


def _analysed(basis: Basis, limits: Limits) -> tuple[str, ...]:
    rows = basis.policy.rows
    model = basis.model.casbin()
    RowsAdapter(rows).load_policy(model)
    rules = [(at, list(row[1:])) for at, row in enumerate(rows.entries, 1) if row is not None and row[0] == "p"]
    try:
        return analyse_model(model, rules, POLICY_FILE, limits=limits)
    except Exception as error:  # noqa: BLE001  a doubt about rules must not hide the other warnings
        return (f"{POLICY_FILE}: not analysed: the analysis failed ({type(error).__name__})",)
