"""What takes data away for good, and what keeps it: erasure, retention and legal holds, wired over one store.

Left to others: what each of them does (`erasure`, `retention`, `holds`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from policy_engine.core.plain import AnyRelease
from policy_engine.ledger.sealing import KeyVault
from policy_engine.services.approvals import Approvals
from policy_engine.services.erasure import Erasures
from policy_engine.services.holds import Holds
from policy_engine.services.retention import Retention
from policy_engine.store.interfaces import Store


@dataclass(frozen=True, slots=True)
class Disposal:
    """The three services."""

    holds: Holds
    erasures: Erasures
    retention: Retention

    @classmethod
    def over(
        cls,
        store: Store,
        approvals: Approvals,
        vault: KeyVault,
        retention_days: int,
        scrub: Callable[[], object],
        *,
        load: Callable[[str], AnyRelease] | None = None,
    ) -> Disposal:
        """Return them over a store; `scrub` clears the unused parts of the database behind them.

        `load` gives a release by its hash.
        """
        return cls(
            Holds(store, approvals, load=load),
            Erasures(store, approvals, vault, scrub=scrub),
            Retention(store, approvals, vault, retention_days=retention_days, scrub=scrub),
        )
