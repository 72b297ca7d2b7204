"""What stands around withdrawing a model: previews before it, drills of the means, alarms for what is not confirmed.

Left to others: the withdrawal itself (`services.switches`, `services.orders`), each of the three (its own room).
"""

from __future__ import annotations

from dataclasses import dataclass

from policy_engine.ledger.sealing import KeyVault
from policy_engine.services.decide import Decider
from policy_engine.services.drills import Drills
from policy_engine.services.orders import Orders
from policy_engine.services.preview.service import Previews
from policy_engine.services.record import Recorder
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.snapshot import Snapshots
from policy_engine.services.suspensions import Suspensions
from policy_engine.services.switches import Switches
from policy_engine.store.interfaces import Store


@dataclass(frozen=True, slots=True)
class Foresight:
    """The three services, over one store."""

    previews: Previews
    drills: Drills
    suspensions: Suspensions

    @classmethod
    def over(
        cls,
        store: Store,
        switches: Switches,
        orders: Orders,
        recorder: Recorder,
        vault: KeyVault,
        releases: ReleaseLoader,
        decider: Decider,
        snapshots: Snapshots,
        serving_region: str | None,
    ) -> Foresight:
        """Return them wired."""
        return cls(
            Previews(store, switches, orders, recorder, vault, releases, serving_region=serving_region),
            Drills(store, switches, decider, snapshots),
            Suspensions(store),
        )
