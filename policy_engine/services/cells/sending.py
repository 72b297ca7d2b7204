"""Sending one instruction to every cell at once, and what became of it in each: the whole is as far as the slowest.

Rules of the room:
- All cells are told in parallel, each on its own; none waits for another. Times are milliseconds of the sender's own
  clock, which nobody sets, from before the first cell was told: `settled_ms` of the whole is that of the slowest.
- A stage counts when a cell has said that it is reached. What no cell said is not reached: silence is never success.
- Nothing is sent twice in one run. A cell that falls silent while it is told may or may not have heard: a second run
  finds out, since what is there already is not sent again (`instructions`).
- A cell is waited for until `limits.withdrawal_wait_seconds`, and given up when silent for `limits.cell_seconds`.
- Of what a cell says little is shown: numbers, ids that have the form of one, the title of a problem, cut off.
Left to others: the stages inside a cell (its `services.withdrawal`), releases and approvals (each cell's own persons).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from policy_engine.limits import LIMITS, Limits
from policy_engine.services.cells.addresses import Cell
from policy_engine.services.cells.exchange import CellAnswer, CellClient, CellSilent
from policy_engine.services.cells.instructions import Instruction, There
from policy_engine.services.replica import boottime
from policy_engine.services.withdrawal import Stage

REACHED: Final = "reached"
NOT_YET: Final = "not yet"
WAITING: Final = "waiting"
CONFLICT: Final = "conflict"
REFUSED: Final = "refused"
CUT_OFF: Final = "cut off"

STAGES: Final = (Stage.COMMITTED, Stage.DRAINED, Stage.SETTLED)

_TITLE_CHARACTERS = 120
_PROPOSAL = re.compile(r"[0-9a-zA-Z-]{1,64}")


@dataclass(frozen=True, slots=True)
class InCell:
    """What became of an instruction in one cell.

    `status` is `reached` (the stage that was waited for), `not yet`, `waiting` (for a second person, who approves
    `proposal`), `conflict` (something else is there under that id), `refused` or `cut off`. `already`: it was there
    before this run. `problem` says why, and `waits_for_count` how many replicas it waits for.
    """

    cell: str
    status: str = NOT_YET
    already: bool = False
    committed_ms: float | None = None
    drained_ms: float | None = None
    settled_ms: float | None = None
    epoch: int | None = None
    proposal: str | None = None
    waits_for_count: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an instruction everywhere. `stage` and the times are the slowest's, `None` where one lacks it."""

    id: str
    stage: Stage | None
    committed_ms: float | None
    drained_ms: float | None
    settled_ms: float | None
    slowest: str | None
    cells: tuple[InCell, ...]

    def missed(self, *, waiting: bool) -> tuple[InCell, ...]:
        """Return the cells that wait for a second person, or those that did not reach the stage for another reason."""
        return tuple(each for each in self.cells if each.status != REACHED and (each.status == WAITING) == waiting)


def send(cells: Sequence[Cell], instruction: Instruction, wait: Stage, limits: Limits = LIMITS) -> Sent:
    """Tell every cell, follow each to a stage, and return what became of it. Raises nothing that a cell did."""
    began = boottime()
    with ThreadPoolExecutor(len(cells), thread_name_prefix="cell") as pool:
        found = tuple(pool.map(lambda cell: _Delivery(cell, instruction, wait, began, limits).run(), cells))
    committed, drained, settled = (_slowest([getattr(each, f"{name}_ms") for each in found]) for name in STAGES)
    times = zip(STAGES, (committed, drained, settled), strict=True)
    last = max((name for name, took in times if took is not None), key=STAGES.index, default=None)
    slowest = None if last is None else max(found, key=lambda each: float(getattr(each, f"{last}_ms"))).cell
    return Sent(instruction.id, last, committed, drained, settled, slowest, found)


def _slowest(times: Sequence[float | None]) -> float | None:
    known = [each for each in times if each is not None]
    return max(known) if len(known) == len(times) else None


class _Delivery:
    """One instruction on its way to one cell."""

    def __init__(self, cell: Cell, instruction: Instruction, wait: Stage, began: float, limits: Limits) -> None:
        self._client = CellClient(cell, limits)
        self._instruction = instruction
        self._wait = wait
        self._began = began
        self._limits = limits
        self._found = InCell(cell.name)

    def run(self) -> InCell:
        """Return what became of it, whatever the cell does."""
        try:
            if self._told():
                self._follow()
        except CellSilent as silent:
            self._note(status=CUT_OFF, problem=silent.message)
        finally:
            self._client.close()
        return self._found

    def _told(self) -> bool:
        """Tell the cell, unless it has what is asked for; return whether there is something to follow."""
        if self._instruction.looks_first and (known := self._looked()) is not None:
            return known
        answer = self._client.post(f"{self._instruction.sent_to}?wait={Stage.COMMITTED}", self._instruction.body)
        if answer.status == 409 and (known := self._looked()) is not None:
            return known
        if answer.status not in (200, 201, 202):
            return self._refused(answer)
        proposal = answer.document.get("proposal")
        if isinstance(proposal, str) and _PROPOSAL.fullmatch(proposal):
            self._note(proposal=proposal)
        if answer.status == 202:
            return self._note(status=WAITING, problem="a second person must approve it there")
        self._reach(Stage.COMMITTED)
        self._hear(answer.document)
        return True

    def _looked(self) -> bool | None:
        """Look at what the cell has. `None`: nothing of the kind; else whether there is something to follow."""
        answer = self._client.get(self._instruction.shown_at)
        if answer.status == 404:
            return self._proposed()
        if answer.status != 200:
            return self._refused(answer)
        there = self._instruction.judge(answer.document)
        if there is There.NOTHING:
            return self._proposed()
        if there is There.OTHER:
            return self._note(status=CONFLICT, problem="something else stands there under this id; look at it")
        self._note(already=True)
        self._reach(Stage.COMMITTED)
        self._hear(answer.document)
        self._proposed()
        return True

    def _proposed(self) -> bool | None:
        """Note a proposal of this very instruction that waits there already; `None` where there is none."""
        proposed = self._instruction.proposed
        if proposed is None:
            return None
        answer = self._client.get("/v1/approvals?status=waiting")
        shown = answer.document.get("approvals") if answer.status == 200 else None
        for each in shown if isinstance(shown, list) else ():
            if not isinstance(each, Mapping):
                continue
            kind, payload, id = (each.get(name) for name in ("kind", "payload", "id"))
            if not isinstance(kind, str) or not isinstance(payload, Mapping) or not isinstance(id, str):
                continue
            if proposed(kind, payload) and _PROPOSAL.fullmatch(id):
                self._note(already=True, proposal=id)
                return self._note(status=WAITING, problem="a second person must approve it there")
        return None

    def _follow(self) -> None:
        """Look until the stage is reached, as far as the cell says so, or the time is over."""
        until = boottime() + self._limits.withdrawal_wait_seconds
        while getattr(self._found, f"{self._wait}_ms") is None and boottime() < until:
            time.sleep(self._limits.cell_look_seconds)
            answer = self._client.get(self._instruction.shown_at)
            if answer.status == 503:  # busy, or its database is away: it may come back before the time is over
                continue
            if answer.status != 200:
                self._refused(answer)
                return
            self._hear(answer.document)
        waits = self._found.proposal is not None
        done = getattr(self._found, f"{self._wait}_ms") is not None
        self._note(status=WAITING if waits and done else REACHED if done else NOT_YET)

    def _hear(self, document: Mapping[str, Any]) -> None:
        """Take what a cell says of how far it has come; members of the wrong kind say nothing."""
        said = document.get("withdrawal")
        if not isinstance(said, Mapping):
            return
        epoch, stage, waits_for = said.get("epoch"), said.get("stage"), said.get("waits_for")
        if type(epoch) is not int or not isinstance(waits_for, list):
            return
        self._note(epoch=epoch, waits_for_count=len(waits_for))
        if stage in (Stage.DRAINED, Stage.SETTLED) and not waits_for:
            self._reach(Stage.DRAINED)
        if stage == Stage.SETTLED:
            self._reach(Stage.SETTLED)

    def _reach(self, stage: Stage) -> None:
        if getattr(self._found, f"{stage}_ms") is None:
            self._note(**{f"{stage}_ms": round((boottime() - self._began) * 1_000, 3)})

    def _refused(self, answer: CellAnswer) -> bool:
        title = answer.document.get("title")
        said = title if isinstance(title, str) else "an answer that is not understood"
        said = "".join(each if each.isprintable() else "?" for each in said[:_TITLE_CHARACTERS])
        return self._note(status=REFUSED, problem=f"{said} ({answer.status})")

    def _note(self, **members: Any) -> bool:
        """Keep what became known; `False`, since most of what is noted leaves nothing to follow."""
        self._found = replace(self._found, **members)
        return False
