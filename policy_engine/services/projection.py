"""The registers and the state as the log says they are: what applying its entries, one after another, gives.

Rules: the state row and the registers hold nothing that no entry made; a change says the epoch and release after it,
every other entry the ones it was written under. Used by verifying and by rebuilding alike.
Left to others: opening sealed rows (`services.unseal`), comparing (`services.verify`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policy_engine.errors import VerificationFailed
from policy_engine.services.unseal import OpenedRow
from policy_engine.store.interfaces import EPOCH_REGISTERS, FACT_REGISTERS, Row, State


class Projection:
    """State, and rows by register and id, after the entries applied so far."""

    def __init__(self) -> None:
        self.state = State(0, None, 0)
        self.rows: dict[str, dict[str, OpenedRow]] = {}
        self.made_by: dict[tuple[str, str], tuple[str, int, int]] = {}
        self._erased: dict[str, int] = {}

    def follow(self, public: Mapping[str, Any]) -> None:
        """Move the state by the public part of an entry. Raises `VerificationFailed` when it does not follow."""
        epoch, release = public["epoch"], public["release"]
        if "rows" not in public:
            if (epoch, release) != (self.state.epoch, self.state.release):
                raise VerificationFailed("the entry was written under another epoch or release than the log's")
            return
        erased = public["erases"]["rows"] if "erases" in public else ()
        self._erased |= {key: revision for _, key, revision in erased}
        registers = {register for register, _ in public["rows"]} | {row[0] for row in erased}
        activates = public.get("activates")
        if public["kind"] == "epoch.recovered":
            beyond = public.get("beyond")
            if type(beyond) is not int or epoch != max(self.state.epoch, beyond) + 1:
                raise VerificationFailed("the recovery does not lead to the epoch behind the one that it names")
        elif epoch not in (self.state.epoch, self.state.epoch + 1):
            raise VerificationFailed("the change moves the epoch by more than one")
        removes = "erases" in public or "prunes" in public
        if epoch == self.state.epoch and (activates is not None or removes or registers & set(EPOCH_REGISTERS)):
            raise VerificationFailed("the change had to raise the epoch and did not")
        if release != (self.state.release if activates is None else activates):
            raise VerificationFailed("the active release changed without a change that activates it")
        self.state = State(
            epoch=epoch,
            release=release,
            facts_revision=self.state.facts_revision + bool(registers & set(FACT_REGISTERS)),
            sample=self.state.sample or bool(public.get("sample")),
        )

    def put(self, log_id: str, seq: int, rows: Sequence[OpenedRow | None]) -> None:
        """Apply the opened rows of a change, passing over erased ones.

        Raises `VerificationFailed` when a revision does not follow.
        """
        for item, row in enumerate(rows):
            if row is None:
                continue
            known = self.rows.setdefault(row.register, {})
            before = known.get(row.id)
            known[row.id] = row
            self.made_by[row.register, row.id] = (log_id, seq, item)
            if row.revision != (self._erased.get(row.key_id, 0) if before is None else before.revision) + 1:
                raise VerificationFailed("the revision of a row does not follow the one before it")

    def registers(self) -> dict[str, dict[str, Row]]:
        """Return the rows that are there, by register and id."""
        return {
            register: {
                id: Row(register, id, row.revision, row.document, row.salt, *self.made_by[register, id])
                for id, row in rows.items()
                if row.document is not None
            }
            for register, rows in self.rows.items()
        }
