"""Deciding: a request in, an explained answer out after its entry is durable. The steps are design section 5.

1. The caller is authenticated; its principal bounds the request (the doors authenticate, `evaluate` bounds).
2. The body is parsed strictly (the doors). 3. to 8. `evaluate`. 9. The entry is appended with the snapshot it was
evaluated under; if anything moved, evaluate again. 10. The answer leaves with id, release, epoch and validity.

Rules of the room: only a positive commit answer lets an allow out (law 3). What moved is evaluated again a bounded
number of times and then denied as `stale`. While the log is away every answer is a deny; the recorder counts those
and writes one `gap` entry on return. A replica that others may count as gone allows nothing, and an allow that could
not leave in time is withheld. Deciding never raises for policy reasons.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from policy_engine.core.decision import Decision, Evaluation, Outcome, Principal, Reason, Request
from policy_engine.core.instants import ENDLESS
from policy_engine.core.plain import AnyRelease
from policy_engine.errors import LoadRefused, LogForked, ReplicaCutOff, RollbackSuspected, StoreUnavailable
from policy_engine.services.cells.doubt import Doubting, redoubted
from policy_engine.services.evaluate import Evaluator, question_key
from policy_engine.services.explain import explain
from policy_engine.services.record import Recorder, Written
from policy_engine.services.recovery import Recovery
from policy_engine.services.replica import CUT_OFF, Presence, boottime
from policy_engine.services.snapshot import Snapshot, Snapshots

ATTEMPTS_COUNT = 8
EXECUTE_ALL = "execute_all"
DENY_ON_FIRST_DENY = "deny_on_first_deny"
PERMIT_ON_FIRST_PERMIT = "permit_on_first_permit"

_AWAY = Reason("log.unavailable", None, "The decision service cannot record decisions at the moment. Try again later.")
_CUT_OFF = Reason(CUT_OFF, None, "This replica is cut off from the others, so it allows nothing. Ask another one.")
_OLDER = Reason("rollback.suspected", None, "The database is older than it was, so nothing is allowed for now.")
_FORKED = Reason("log.forked", None, "The record of decisions is contradicted, so nothing is allowed for now.")


class KeyAlive(Protocol):
    """Says whether a principal's key may be used at an instant, as of an epoch at the earliest."""

    def __call__(self, principal: Principal, at: int, *, epoch: int) -> bool: ...


class Given(NamedTuple):
    """What the engine that gave an allow knows of it: which one it is, and until when the allow's budget lasts.

    `spent` is in seconds of the clock of `boottime`; from then on the allow must be asked for again.
    """

    engine: object
    spent: float


@dataclass(slots=True)
class _Open:
    """A request on its way: its last evaluation, and the decision once there is one."""

    request: Request
    evaluation: Evaluation | None = None
    decision: Decision | None = None
    evaluated: float = 0.0


class Decider:
    """Decides requests. One per engine; safe to use from several threads and from an event loop."""

    def __init__(
        self,
        snapshots: Snapshots,
        evaluator: Evaluator,
        recorder: Recorder,
        clock: Callable[[], int],
        key_alive: KeyAlive,
        valid_for_ms: int,
        recovery: Recovery | None = None,
    ) -> None:
        self._recovery = recovery
        self._snapshots = snapshots
        self._evaluator = evaluator
        self._recorder = recorder
        self._clock = clock
        self._key_alive = key_alive
        self.valid_for_ms = valid_for_ms
        """How long an answer may be used at most."""
        self.presence: Presence | None = None
        """This process among the replicas, once it serves; a process that only looks is none."""
        self.giver: object = None
        """The door that stands in allows as their `grant` (`Given`), where it must know its own again."""

    def doubt_by(self, doubting: Doubting) -> None:
        """Take back what other cells put in doubt, from now on; searches over the same evaluator do the same."""
        self._evaluator.doubting = doubting

    def require_able(self) -> None:
        """Raise what every decision would be denied for at the moment, whatever it is about.

        Raises `RollbackSuspected` for a database that is older than it was, and `ReplicaCutOff` for a replica that the
        others may count as gone. What lists allows asks this too.
        """
        if self._recovery is not None and self._recovery.suspicion is not None:
            raise self._recovery.suspicion.as_error()
        if self.presence is not None and not self.presence.may_allow():
            raise ReplicaCutOff("nobody has heard of this replica for too long", where="replica")

    def answering(self) -> AbstractContextManager[None]:
        """Return what a door holds from before it decides until it has handed the answer on."""
        return nullcontext() if self.presence is None else self.presence.answering()

    def evaluate(self, request: Request, principal: Principal, *, at: int | None = None) -> Evaluation:
        """Return what a decision would be now (or, hypothetically, at an instant), writing no entry.

        Raises `StoreUnavailable` when the state cannot be read. An evaluation is not an answer.
        """
        snapshot = self._snapshots.refresh()
        instant = self._clock() if at is None else at
        evaluation = self._evaluator.evaluate(request, principal, snapshot, instant)
        return evaluation if at is None else evaluation._replace(hypothetical=True)

    def decide(self, request: Request, principal: Principal, *, explained: bool = False) -> Decision:
        """Return the decision once its entry is durable, or a deny that says why there is none."""
        return self.decide_many((request,), principal, explained=explained)[0]

    async def decide_async(self, request: Request, principal: Principal, *, explained: bool = False) -> Decision:
        """The same, waiting on the running event loop."""
        item = _Open(request)
        open_ = (item,)
        with self.answering():
            try:
                for _ in range(ATTEMPTS_COUNT):
                    snapshot, drafts = self._prepare(open_, principal)
                    (result,) = await self._recorder.write_async(drafts, snapshot.state)
                    if isinstance(result, Written) and item.evaluation is not None:
                        id, evaluated = drafts[0].id, item.evaluated
                        return self._leaving(item, self._decision(item.evaluation, id, explained, result, evaluated))
                return self._stale(item)
            except (StoreUnavailable, LoadRefused) as error:
                return self._away(open_, error)[0]

    def decide_many(
        self, requests: Sequence[Request], principal: Principal, *, semantic: str = EXECUTE_ALL, explained: bool = False
    ) -> list[Decision]:
        """Return one decision a request, in order; fewer where the AuthZEN semantic ends early."""
        found: list[Decision] = []
        with self.answering():
            for part in _parts(requests, semantic):
                open_ = [_Open(request) for request in part]
                try:
                    for _ in range(ATTEMPTS_COUNT):
                        snapshot, drafts = self._prepare(open_, principal)
                        if self._settle(open_, drafts, self._recorder.write(drafts, snapshot.state), explained):
                            break
                    found += self._answers(open_)
                except (StoreUnavailable, LoadRefused) as error:
                    found += self._away(open_, error)
                if _ends(semantic, found[-1]):
                    break
        return found

    async def decide_many_async(
        self, requests: Sequence[Request], principal: Principal, *, semantic: str = EXECUTE_ALL, explained: bool = False
    ) -> list[Decision]:
        """The same, waiting on the running event loop."""
        found: list[Decision] = []
        with self.answering():
            for part in _parts(requests, semantic):
                open_ = [_Open(request) for request in part]
                try:
                    for _ in range(ATTEMPTS_COUNT):
                        snapshot, drafts = self._prepare(open_, principal)
                        results = await self._recorder.write_async(drafts, snapshot.state)
                        if self._settle(open_, drafts, results, explained):
                            break
                    found += self._answers(open_)
                except (StoreUnavailable, LoadRefused) as error:
                    found += self._away(open_, error)
                if _ends(semantic, found[-1]):
                    break
        return found

    # What the watcher of allows in use asks (`services.inuse`)

    def now(self) -> int:
        """Return the instant that a decision would be evaluated at now."""
        return self._clock()

    def confirmed(self) -> Snapshot:
        """Return a snapshot of the state now. Raises `StoreUnavailable` where nothing may be allowed at all."""
        snapshot = self._snapshots.refresh()
        self.require_able()
        self._recorder.check_halted()
        return snapshot

    def evaluations(
        self, asked: Sequence[tuple[Request, Principal]], snapshot: Snapshot, at: int
    ) -> Iterator[Evaluation]:
        """Yield what a decision of each would be under a snapshot at an instant, as it is judged live; no entries."""
        alive: dict[str | None, bool] = {}
        found: dict[object, Evaluation] = {}
        alike = snapshot.release is not None and not snapshot.release.reads_paths
        for request, principal in asked:
            if principal.key_id not in alive:
                alive[principal.key_id] = self._key_alive(principal, at, epoch=snapshot.state.epoch)
            # Law 5: at one instant the same question has the same evaluation, and many streams are of one caller.
            key = (principal.key_id, principal.supplies, question_key(request, principal)) if alike else None
            if key is None or key not in found:
                kept = alive[principal.key_id]
                found[key] = judged(self._evaluator, request, principal, snapshot, at, alive=kept)
            yield found[key]

    def denied(self, evaluation: Evaluation, principal: Principal, snapshot: Snapshot) -> tuple[Decision, Any]:
        """Return the deny that ends an allow in use, and the draft of its entry (`inuse` writes it)."""
        draft = self._draft(evaluation, principal, snapshot)
        return self._decision(evaluation, draft.id, False), draft

    def unrecorded(self, requests: Sequence[Request], error: Exception) -> list[Decision]:
        """Deny what cannot be recorded now, counted for the gap entry, without trying to."""
        return self._away([_Open(request) for request in requests], error)

    def _draft(self, evaluation: Evaluation, principal: Principal, snapshot: Snapshot) -> Any:
        reads = snapshot.release is not None and snapshot.release.reads_paths
        raw = _raw(evaluation.request) if reads else None
        return self._recorder.decision(evaluation, principal, snapshot.state.facts_revision, raw=raw)

    def _prepare(self, open_: Sequence[_Open], principal: Principal) -> tuple[Snapshot, list[Any]]:
        """Evaluate what is not decided yet, under one snapshot and at one instant, and draft its entries."""
        waiting = [item for item in open_ if item.decision is None]
        again = any(item.evaluation is not None for item in waiting)
        snapshot = self._snapshots.refresh() if again else self._snapshots.current()
        self.require_able()
        at, evaluated = self._clock(), boottime()
        # The caller was authenticated under some epoch; its key must hold under the one that the entry is written in.
        alive = self._key_alive(principal, at, epoch=snapshot.state.epoch)
        drafts = []
        for item in waiting:
            item.evaluated = evaluated
            item.evaluation = judged(self._evaluator, item.request, principal, snapshot, at, alive=alive)
            drafts.append(self._draft(item.evaluation, principal, snapshot))
        return snapshot, drafts

    def _settle(
        self, open_: Sequence[_Open], drafts: Sequence[Any], results: Sequence[object], explained: bool
    ) -> bool:
        """Turn each written draft into its decision; return whether none is left."""
        waiting = [item for item in open_ if item.decision is None]
        for item, draft, result in zip(waiting, drafts, results, strict=True):
            if isinstance(result, Written) and item.evaluation is not None:  # nothing else lets an answer out
                found = self._decision(item.evaluation, draft.id, explained, result, item.evaluated)
                item.decision = self._leaving(item, found)
        return all(item.decision is not None for item in open_)

    def _decision(
        self,
        evaluation: Evaluation,
        id: str,
        explained: bool,
        written: Written | None = None,
        evaluated: float = 0.0,
    ) -> Decision:
        """10. The answer with its validity: the budget, or less when an instant that may change it is nearer.

        An allow has its receipt, which is signed when somebody takes it.
        """
        valid_for_ms = self.valid_for_ms
        if evaluation.until < ENDLESS:
            valid_for_ms = max(0, min(valid_for_ms, (evaluation.until - evaluation.at) // 1_000))
        allowed = evaluation.outcome is Outcome.ALLOW
        return Decision(
            allowed=allowed,
            id=id,
            reasons=evaluation.reasons,
            missing=evaluation.missing,
            alternatives=evaluation.alternatives,
            release=evaluation.release,
            epoch=evaluation.epoch,
            valid_for_ms=valid_for_ms,
            message="" if allowed or not evaluation.reasons else evaluation.reasons[0].message,
            explanation=explain(evaluation, self._evaluator.facts) if explained else None,
            proof=_proof(written, valid_for_ms) if allowed else None,
            asked=evaluation.request,
            grant=Given(self.giver, evaluated + valid_for_ms / 1_000) if allowed else None,
        )

    def _leaving(self, item: _Open, decision: Decision) -> Decision:
        """Return what may leave now: a deny in the place of an allow that was held up until others may not count on us.

        Its entry stands and nobody was allowed on it, as when an answer is lost on its way.
        """
        if not decision.allowed or self.presence is None or self.presence.may_leave(item.evaluated):
            return decision
        item.decision = None
        return self._away((item,), ReplicaCutOff("an allow was held up for too long", where="replica"))[0]

    def _answers(self, open_: Sequence[_Open]) -> list[Decision]:
        """Return the decisions; what kept moving is denied as stale, on the record when that can be written."""
        return [self._stale(item) if item.decision is None else item.decision for item in open_]

    def _stale(self, item: _Open) -> Decision:
        evaluation = item.evaluation
        if evaluation is None:
            return self._away([item])[0]
        denied = _denied(evaluation, self._snapshots.current().release, "stale")
        self._recorder.missed("stale")
        return self._decision(denied, "", False)

    def _away(self, open_: Sequence[_Open], error: Exception | None = None) -> list[Decision]:
        """Deny everything undecided: it is not known to be recorded. The recorder counts each for its gap entry."""
        reason = self.why_away(error)
        answers = []
        for item in open_:
            if item.decision is not None:
                answers.append(item.decision)
                continue
            self._recorder.missed(reason.code)
            known = item.evaluation
            release, epoch = ("", 0) if known is None else (known.release, known.epoch)
            answers.append(Decision(False, "", (reason,), (), (), release, epoch, 0, reason.message))
        return answers

    def why_away(self, error: Exception | None) -> Reason:
        """Return the reason for which nothing is recorded, the gravest first."""
        presence = self.presence
        if isinstance(error, LogForked):
            return _FORKED
        if isinstance(error, RollbackSuspected) or (presence is not None and presence.older):
            return _OLDER
        cut_off = isinstance(error, ReplicaCutOff) or not (presence is None or presence.confirmed())
        return _CUT_OFF if cut_off else _AWAY


def judged(
    evaluator: Evaluator,
    request: Request,
    principal: Principal,
    snapshot: Snapshot,
    at: int,
    *,
    alive: bool,
    flags: Sequence[str] = (),
) -> Evaluation:
    """Return what is decided under a snapshot at an instant: the evaluation, or a deny when the caller's key has ended.

    Live decisions and their replays are judged here, and nowhere else. `flags` are a recorded entry's, which say what
    was doubted then because of other cells; a live decision asks the evaluator's own doubts.
    """
    evaluation = redoubted(evaluator.evaluate(request, principal, snapshot, at), flags)
    return evaluation if alive else _denied(evaluation, snapshot.release, "key.ended")


def _denied(evaluation: Evaluation, release: AnyRelease | None, code: str) -> Evaluation:
    """Return the evaluation as a deny for a reason of the engine's own.

    It still rests on the rows it was evaluated on: the entry is found by facets that were derived from them.
    """
    return evaluation._replace(
        outcome=Outcome.DENY,
        reasons=(Reason(code) if release is None else release.reason(code),),
        missing=(),
        alternatives=(),
        values=None,
        matched=(),
        lifted=(),
        licences=(),
        until=ENDLESS,
        shared=None,
    )


def _proof(written: Written | None, valid_for_ms: int) -> Callable[[], Mapping[str, Any]] | None:
    """Return what makes the receipt of an entry, `None` when this engine signs none."""
    if written is None or written.batch is None:
        return None
    return partial(written.batch.receipt, written.seq, valid_for_ms)


def _raw(request: Request) -> str:
    """The request as text, recorded (sealed) where rules read it, so that a replay has all that they read."""
    return json.dumps(request.raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _parts(requests: Sequence[Request], semantic: str) -> list[Sequence[Request]]:
    """All at once, or one by one where a decision may end the batch, so that nothing behind the end is decided."""
    if not requests:
        return []
    return [requests] if semantic == EXECUTE_ALL else [(request,) for request in requests]


def _ends(semantic: str, last: Decision) -> bool:
    return semantic == (PERMIT_ON_FIRST_PERMIT if last.allowed else DENY_ON_FIRST_DENY)
