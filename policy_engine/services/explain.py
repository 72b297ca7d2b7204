"""Explaining an evaluation to an operator: every matching rule, what was lifted, the facts used and their age.

Rules of the room: names, methods, sources and ages of facts are shown, never their values. Left to others: showing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy_engine.core.decision import Evaluation
from policy_engine.core.instants import DAY, format_instant
from policy_engine.services.factcache import FactCache


def explain(evaluation: Evaluation, facts: FactCache) -> Mapping[str, Any]:
    """Return the explanation as plain JSON values."""
    return {
        "at": format_instant(evaluation.at),
        "model": evaluation.model,
        "tier": evaluation.tier,
        "reached_rules": evaluation.values is not None,
        "matching_rules": list(evaluation.matched),
        "lifted": list(evaluation.lifted),
        "licences": list(evaluation.licences),
        "flags": list(evaluation.flags),
        "facts": [
            fact
            for register, id, revision in evaluation.revisions
            for fact in _facts(facts.provenance(register, id), register, revision, evaluation.at)
        ],
    }


def _facts(provenance: Mapping[str, Any], register: str, revision: int, at: int) -> list[dict[str, Any]]:
    found = []
    for name, known in sorted(provenance.items()):
        verified = known.verified_at
        found.append(
            {
                "register": register,
                "revision": revision,
                "fact": name,
                "method": known.method,
                "source": known.source,
                "age_days": None if verified is None else (at - verified) // DAY,
                "expires_at": None if known.expires_at is None else format_instant(known.expires_at),
            }
        )
    return found
