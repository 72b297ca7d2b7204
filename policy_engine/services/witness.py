"""Witnesses: each new checkpoint is offered to all of them, and their word against our tree stops every allow.

Rules of the room:
- One thread a witness, so that a slow one delays neither a decision nor another witness. A failure is written to the
  log once, shown by `states`, and tried again with growing pauses; a witness that is silent stops nothing.
- A witness that has seen a larger tree, or another one, of our log is believed: the database was rolled back, replaced
  or rewritten. `forked` is told once, and nothing is offered any more; whoever opened the engine lets it deny. It stays
  so until the engine is started again on the right database.
- A word that the witness's own record contradicts is not believed: it shows a tree of ours that begins our tree.
- A cosignature is kept only when it is the witness's own and of the very checkpoint that was sent.
- Before the first decision `await_first` waits a little for every witness's first word.
Left to others: HTTP (`services.witnessclient`), signing checkpoints (`services.sequencer`), recovery by two people.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol

import structlog

from policy_engine.errors import LogForked, PolicyEngineError
from policy_engine.ledger.checkpoint import Checkpoint, open_checkpoint
from policy_engine.ledger.note import VerifierKey, parse_key, parse_note
from policy_engine.ledger.proofs import check_consistency, make_consistency, make_root
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.ledger.tiles import TileNodes
from policy_engine.ledger.witnessing import SIZE_TYPE, read_cosignature, read_size, write_submission
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.exchange import Answer
from policy_engine.services.witnessclient import WitnessAddress, WitnessClient, WitnessSilent
from policy_engine.store.treeinterfaces import StoredCheckpoint, TreeState

ATTEMPTS_COUNT = 4
"""How often one round follows a size that a witness names; others may be submitting too."""

CLOSING_SECONDS = 2.0
"""How long closing waits for all threads together; none of them writes anything that must not be lost."""

_RIGHT_DATABASE = "stop, and start the engine on the right database"

log = structlog.get_logger(__name__)


class WitnessedTree(Protocol):
    """What is read of the store; safe to use from several threads."""

    def tree_state(self) -> TreeState:
        """Return the row about the tree, which names the key of the log."""
        ...

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the newest checkpoint."""
        ...

    def tile(self, level: int, number: int) -> bytes | None:
        """Return the hashes of a tile."""
        ...


@dataclass(frozen=True, slots=True)
class WitnessState:
    """How it stands with one witness: the last tree it cosigned, when, and what is wrong now (`""`: nothing)."""

    name: str
    size: int = 0
    seconds: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OwnLog:
    """Our side: the tree, and where cosignatures are kept (`None`: by another process)."""

    tree: WitnessedTree
    keep: Callable[[int, str, str], None] | None = None


class Witnesses:
    """All witnesses of one engine. Close it to end their threads; closing twice is no error."""

    def __init__(
        self,
        addresses: Sequence[WitnessAddress],
        own: OwnLog,
        forked: Callable[[LogForked], None],
        limits: Limits = LIMITS,
    ) -> None:
        self._forked = forked
        self._limits = limits
        self._changed = threading.Condition()
        self._offered = 0
        self._closed = False
        self._fork: LogForked | None = None
        self._watches = [_Watch(address, own, limits) for address in addresses]
        self._threads = [
            threading.Thread(target=self._run, args=(watch,), name=f"witness-{number}", daemon=True)
            for number, watch in enumerate(self._watches, start=1)
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, checkpoint: StoredCheckpoint) -> None:
        """Let every witness see a checkpoint that is durable, as soon as it has time. Returns at once."""
        with self._changed:
            self._offered = max(self._offered, checkpoint.size)
            self._changed.notify_all()

    def await_first(self, seconds: float | None = None) -> None:
        """Return when every witness was asked once, or after `limits.witness_start_seconds`."""
        until = time.monotonic() + (self._limits.witness_start_seconds if seconds is None else seconds)
        with self._changed:
            while not self._closed and self._fork is None and not all(watch.asked for watch in self._watches):
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    return

    def await_last(self) -> None:
        """Return when every witness that answers has seen the newest checkpoint, or after a little while: for closing.

        What no witness has seen could be cut off unnoticed while the engine is down.
        """
        until = time.monotonic() + CLOSING_SECONDS
        with self._changed:
            while not self._closed and self._fork is None and any(self._is_behind(watch) for watch in self._watches):
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    return

    def _is_behind(self, watch: _Watch) -> bool:
        return not watch.state.problem and watch.state.size < self._offered

    @property
    def fork(self) -> LogForked | None:
        """Return the word of a witness against our tree, `None` while there is none."""
        return self._fork

    def states(self) -> list[WitnessState]:
        """Return how it stands with each witness, in the order of the file."""
        return [watch.state for watch in self._watches]

    def close(self) -> None:
        """End the threads, whatever a witness is doing. One that still looks for an address is left to itself."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for watch in self._watches:
            watch.client.close()
        until = time.monotonic() + CLOSING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    # The thread of one witness

    def _run(self, watch: _Watch) -> None:
        failures = 0
        while not self._closed and self._fork is None:
            with self._changed:
                offered = self._offered
            failures = 0 if self._round(watch) else failures + 1
            with self._changed:
                watch.asked = True
                self._changed.notify_all()
                self._wait(offered, failures)

    def _round(self, watch: _Watch) -> bool:
        """Ask once; return whether it went well."""
        name = watch.state.name
        try:
            watch.ask()
        except LogForked as fork:
            self._stop(watch, fork)
            return False
        except Exception as failed:
            known = isinstance(failed, PolicyEngineError)
            problem = str(failed) if known else "the exchange failed; the log has the place"
            if problem != watch.state.problem and not self._closed:
                log.warning("witness.failed", witness=name, message=problem, exc_info=None if known else failed)
            watch.state = replace(watch.state, problem=problem)
            return False
        if watch.state.problem:
            log.info("witness.returned", witness=name)
            watch.state = replace(watch.state, problem="")
        return True

    def _stop(self, watch: _Watch, fork: LogForked) -> None:
        """Tell whoever opened the engine, once: from here on nothing is allowed."""
        watch.state = replace(watch.state, problem=str(fork))
        with self._changed:
            first, self._fork = self._fork is None, self._fork or fork
            self._changed.notify_all()
        if first:
            self._forked(fork)
            log.critical("log.forked", witness=watch.state.name, message=str(fork))

    def _wait(self, offered: int, failures: int) -> None:
        """Wait for a newer checkpoint, or until the next look is due; behind a failure in any case for a while."""
        pause = self._limits.witness_check_seconds
        if failures:
            pause = min(2.0 ** min(failures - 1, 16), self._limits.witness_retry_seconds)
        until = time.monotonic() + pause
        while not self._closed and self._fork is None and (failures or self._offered == offered):
            rest = until - time.monotonic()
            if rest <= 0:
                return
            self._changed.wait(rest)


class _Watch:
    """The dialogue with one witness; one thread at a time."""

    def __init__(self, address: WitnessAddress, own: OwnLog, limits: Limits) -> None:
        self._key = address.key
        self._own = own
        self._limits = limits
        self._log_key: VerifierKey | None = None
        self._known_size = 0
        """The size of the witness's record, as last heard."""
        self.client = WitnessClient(address, limits)
        self.state = WitnessState(address.key.name)
        self.asked = False

    def ask(self) -> None:
        """Get the newest checkpoint cosigned, if there is one.

        Raises `LogForked`; `WitnessSilent` and `EvidenceRefused` for a witness that fails or is not understood.
        """
        newest = self._newest()
        if newest is None:
            return
        for _ in range(ATTEMPTS_COUNT):
            if self._known_size > newest[1].size:  # another process on our database may have sent a newer one
                newest = self._newest() or newest
            stored, checkpoint = newest
            old = self._known_size
            if old > checkpoint.size:
                self._judge("a larger tree", old)
            answer = self.client.submit(write_submission(old, self._proof(old, checkpoint), stored.note))
            if self._is_settled(answer, old, stored, checkpoint):
                return
        raise WitnessSilent("it names another size each time it is asked")

    def _is_settled(self, answer: Answer, old: int, stored: StoredCheckpoint, checkpoint: Checkpoint) -> bool:
        """Return whether the witness cosigned; false when it named the size from which to try again."""
        if answer.status == 200:
            self._take(answer.body, stored, checkpoint)
            return True
        if answer.status == 409 and answer.type.partition(";")[0].strip() == SIZE_TYPE:
            size = read_size(answer.body)
            if size != old:
                self._known_size = size
                return False
            if old == checkpoint.size:
                self._judge("another tree of the same size", old)
        if answer.status == 422 and old:
            self._judge("another tree, which ours does not continue,", old)
        raise EvidenceRefused(Reason.MALFORMED, f"it answers with status {answer.status}")

    def _take(self, body: bytes, stored: StoredCheckpoint, checkpoint: Checkpoint) -> None:
        """Keep a cosignature, once for each checkpoint."""
        signature, seconds = read_cosignature(body, checkpoint.text(), self._key, self._limits)
        self._known_size = checkpoint.size
        there = {(each.name, each.key_id) for each in parse_note(stored.note, self._limits).signatures}
        if self._own.keep is not None and (self._key.name, self._key.id) not in there:
            self._own.keep(checkpoint.size, str(self._key), signature.line())
        self.state = replace(self.state, size=checkpoint.size, seconds=seconds)

    def _newest(self) -> tuple[StoredCheckpoint, Checkpoint] | None:
        """Return our newest checkpoint, checked against the key that the tree has had since its first one."""
        stored = self._own.tree.checkpoint()
        if stored is None:
            return None
        if self._log_key is None:
            self._log_key = parse_key(self._own.tree.tree_state().key)
        return stored, self._opened(stored.note, self._log_key)

    def _opened(self, note: bytes, key: VerifierKey) -> Checkpoint:
        return open_checkpoint(note, key.name, [key], limits=self._limits).checkpoint

    def _proof(self, old: int, checkpoint: Checkpoint) -> list[bytes]:
        """Return the proof from an older size, checked: hashes that do not lead to our own checkpoint are no tree."""
        if old in (0, checkpoint.size):
            return []
        nodes = TileNodes(self._own.tree.tile)
        try:
            proof = make_consistency(old, checkpoint.size, nodes)
            check_consistency(old, checkpoint.size, proof, make_root(old, nodes), checkpoint.root)
        except (LookupError, EvidenceRefused) as failed:
            raise LogForked(
                f"the stored hashes of the tree do not lead to its checkpoint: {_RIGHT_DATABASE}", where="tree"
            ) from failed
        return proof

    def _judge(self, claim: str, size: int) -> NoReturn:
        """Weigh a witness's word against our tree. Raises `LogForked`, or `EvidenceRefused` when it contradicts itself.

        The witness is asked for its record first, and our newest checkpoint read after that: what we have by now is at
        least what any process on our database had sent.
        """
        shown = self._shown()
        newest = self._newest()
        ours = 0 if newest is None else newest[1].size
        if shown is not None and shown.size <= ours:
            try:
                same = make_root(shown.size, TileNodes(self._own.tree.tile)) == shown.root
            except LookupError:
                same = False
            if same:
                self._known_size = shown.size
                raise EvidenceRefused(Reason.MALFORMED, "its word is not that of its own record")
        word, size = ("says that it has seen", size) if shown is None else ("shows, signed by our key,", shown.size)
        raise LogForked(
            f"the witness {self._key.name} {word} {claim} of size {size}, and the database has a tree of size {ours}: "
            f"it was rolled back, replaced or rewritten; {_RIGHT_DATABASE}",
            where="tree",
        )

    def _shown(self) -> Checkpoint | None:
        """Return the witness's record when our own key signed it; not every witness shows one."""
        if self._log_key is None:
            return None
        try:
            answer = self.client.newest(self._log_key.name)
            return self._opened(answer.body, self._log_key) if answer.status == 200 else None
        except (WitnessSilent, EvidenceRefused):
            return None
