"""Whether the engine can decide and record, read fresh each time: for `/readyz` and the gauges of `/metrics`.

Rules of the room: reasons are stable codes with one sentence; what cannot be read is a reason, not an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policy_engine.api.metrics import UNKNOWN_TIER
from policy_engine.errors import PolicyEngineError
from policy_engine.services.replica import CUT_OFF

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine

GAUGES: Final[Mapping[str, str]] = {
    "policy_engine_cells_doubted": "Other cells because of which something is denied: unconfirmed, or ahead.",
    "policy_engine_epoch": "Epoch of the state: grows with every change of release, orders or keys.",
    "policy_engine_log_away": "1 while entries cannot be written, so that nothing is allowed.",
    "policy_engine_log_forked": "1 when a witness knows another tree of the log, so that nothing is allowed.",
    "policy_engine_queue_entries": "Entries waiting for their commit.",
    "policy_engine_ready": "1 when decisions can be made and recorded.",
    "policy_engine_sample": "1 on a database that was filled with the sample world.",
    "policy_engine_suspensions_overdue": "Directives in force whose re-confirmation is overdue; they go on denying.",
    "policy_engine_witnesses_failing": "Witnesses whose last exchange failed.",
}

_CUT_OFF: Final = "This replica is cut off: nothing confirms its epoch, so it allows nothing."
_OLDER: Final = ("rollback.suspected", "The database is older than it was here, so nothing is allowed.")


@dataclass(frozen=True, slots=True)
class Condition:
    """The state as read, and a `(code, sentence)` for each reason against being ready; none: ready.

    `suspensions` are ids of directives whose re-confirmation is overdue: an alarm, and no reason against being ready.
    """

    release: str | None = None
    epoch: int = 0
    sample: bool = False
    queued: int = 0
    log_away: bool = False
    reasons: tuple[tuple[str, str], ...] = ()
    forked: bool = False
    witnesses_failing: int = 0
    suspensions: tuple[str, ...] = ()
    cells_doubted: int = 0


def read_condition(engine: Engine) -> Condition:
    """Return the condition now; never raises."""
    queued, away = engine.recorder.queued, engine.recorder.away
    witnesses, presence = engine.witnesses, engine.decider.presence
    if presence is not None and not presence.confirmed():  # asked first: a database that hangs is not asked at all
        epoch, why = engine.snapshots.epoch, _OLDER if presence.older else (CUT_OFF, _CUT_OFF)
        return Condition(epoch=epoch, queued=queued, log_away=True, reasons=(why,))
    reasons: list[tuple[str, str]] = []
    try:
        state = engine.store.state()
        suspensions = tuple(late.order for late in engine.foresight.suspensions.overdue())
    except PolicyEngineError:
        reasons.append(("store.unreadable", "The state of the database cannot be read."))
        return Condition(queued=queued, log_away=True, reasons=tuple(reasons))
    fork = None if witnesses is None else witnesses.fork
    failing = 0 if witnesses is None else sum(bool(each.problem) for each in witnesses.states())
    if fork is not None:
        reasons.append((fork.code, f"Nothing is allowed: {fork.message}."))
    elif engine.recovery.suspicion is not None:
        reasons.append(
            (
                "rollback.suspected",
                f"Nothing is allowed: the database is not believed, {engine.recovery.suspicion.sentence}.",
            )
        )
    elif away:
        reasons.append(("log.unavailable", "Entries cannot be written, so nothing is allowed."))
    if engine.sequencer is not None and engine.sequencer.trouble is not None:
        reasons.append(("tree.refused", "The tree in the database is not the one that was signed; see the log."))
    if state.release is None:
        reasons.append(("release.missing", "No release is active."))
    forked, cells = fork is not None, 0 if engine.peers is None else len(engine.peers.doubted())
    return Condition(
        state.release, state.epoch, state.sample, queued, away, tuple(reasons), forked, failing, suspensions, cells
    )


def gauges(found: Condition) -> dict[str, float]:
    """Return the condition as numbers, under the names of `GAUGES`."""
    return {
        "policy_engine_cells_doubted": float(found.cells_doubted),
        "policy_engine_epoch": float(found.epoch),
        "policy_engine_log_away": float(found.log_away),
        "policy_engine_log_forked": float(found.forked),
        "policy_engine_queue_entries": float(found.queued),
        "policy_engine_ready": float(not found.reasons),
        "policy_engine_sample": float(found.sample),
        "policy_engine_suspensions_overdue": float(len(found.suspensions)),
        "policy_engine_witnesses_failing": float(found.witnesses_failing),
    }


def tier_label(engine: Engine, model: str) -> str:
    """Return the tier of the catalogue entry that a name means, as a label: `1` to `5`, `unclassified`, `unknown`."""
    release = engine.snapshots.current().release
    entry = None if release is None else release.catalogue.find(model)
    if entry is None:
        return UNKNOWN_TIER
    return "unclassified" if entry.tier is None else str(entry.tier)
