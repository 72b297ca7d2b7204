"""`python -m benchmarks.bare serve ...`: the same program without tree and receipts, the other side of a comparison.

Nothing in the product can switch them off, so this takes them out at import: in this process, and in the worker
processes, which import this module again.
"""

from __future__ import annotations

from typing import Any

from policy_engine import bootstrap
from policy_engine.services.receipts import ReceiptedBatch, ReceiptKey
from policy_engine.store.interfaces import Committed


class NoReceipts(ReceiptKey):
    """A key that signs nothing."""

    def batch(self, committed: Committed) -> ReceiptedBatch | None:
        """Return `None`: no answer has a receipt."""
        return None


def _no_sequencer(*arguments: Any) -> None:
    return None


vars(bootstrap).update(ReceiptKey=NoReceipts, open_sequencer=_no_sequencer)

if __name__ == "__main__":
    from policy_engine.cli.app import main

    main()
