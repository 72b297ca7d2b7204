"""Register rows that no entry made, and entries whose row is not there: the rows check of verifying, by itself.

Rules of the room: nothing is written and no engine opened; with the vault, rows are compared with those that the log
leads to, without it with the public commitments alone. Places name entries and positions, never persons.
Left to others: the whole verification (`services.verify`), the comparison itself (`services.verifyrows`).
"""

from __future__ import annotations

from policy_engine.errors import VerificationFailed
from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.sealing import KeyVault
from policy_engine.services.marks import Marks
from policy_engine.services.past import in_order, is_change
from policy_engine.services.projection import Projection
from policy_engine.services.unseal import Unsealer
from policy_engine.services.verify import Finding
from policy_engine.services.verifyrows import compare_registers
from policy_engine.store.interfaces import LogView, StoredEntry


class RowsCheck:
    """What comparing registers and log found, both ways."""

    def __init__(self, view: LogView, vault: KeyVault | None) -> None:
        self._marks = Marks.of(view)
        self._erased: set[tuple[str, int, int]] = set()
        self._unsealer = None if vault is None else Unsealer(vault, view.data_key, self._marks)
        self._projection = Projection()
        self._commitments: dict[tuple[str, int, int], tuple[str, str]] = {}
        self.findings: list[Finding] = []
        self.counts = {"changes": 0, "rows": 0}
        for entry in in_order(view):
            if is_change(entry):
                self._follow(entry)
        compare_registers(view, self._projection, self._commitments, vault is not None, self, self._erased)

    def find(self, place: str, message: str) -> None:
        """Note one thing that does not agree."""
        self.findings.append(Finding(place, message))

    def _follow(self, entry: StoredEntry) -> None:
        try:
            public = parse_public(entry.public)
            if "rows" not in public:
                return
            self.counts["changes"] += 1
            for item, (register, commit) in enumerate(public["rows"]):
                self._commitments[entry.log_id, entry.seq, item] = (register, commit)
            self._erased |= self._marks.erased_rows(entry, public)
            self._projection.follow(public)
            if self._unsealer is not None:
                self._projection.put(entry.log_id, entry.seq, self._unsealer.rows(entry, public))
        except VerificationFailed as failed:
            self.find(f"entry {entry.seq} of log {entry.log_id}", failed.message)
