"""The sequencer: puts what was committed into the global tree, at most a second later, and signs what the tree is then.

Rules of the room:
- A checkpoint leaves this process only after its row is durable. Of two sequencers that sign at once, the one that
  loses the compare-and-swap throws its note away: never are there two signed trees of one size.
- What a commit left unknown is read again before anything else is signed: the store says what is there.
- It remembers the newest tree that it saw. A store that holds a smaller one, or another one of that size, is an older
  copy or a fork: nothing is signed any more, `trouble` says so, and it stays so until somebody has looked and
  restarted; whoever asked to be told (`refused`) stops allowing. A store that is merely away is tried again.
- It is quiet while nothing is pending.
Left to others: what is checked and signed (`growth`), the key (`logkey`), writing (`store`), witnesses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from policy_engine.errors import StoreUnavailable, VerificationFailed
from policy_engine.ledger.note import Signer
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.growth import TreeRefused, check_newest, grow, read_range
from policy_engine.store.treeinterfaces import TreeState
from policy_engine.store.treewriting import Growth, StoredCheckpoint, TreeStore, TreeView

SignerOf = Callable[[TreeState], Signer]
"""Gives the signer for a tree: its key is named by the tree's origin. Raises `TreeRefused` for another log's tree."""

RACES_COUNT = 8
"""How often one integration starts again because another sequencer, or a new leaf's log, came in between."""

log = structlog.get_logger(__name__)


class Sequencer:
    """Integrates on request (`integrate`) and, once `wake` or `start` was called, in a thread of its own.

    `polls` is for a store to which other processes write: the thread then looks by itself. `on_close` is called when
    nothing is integrated any more.
    """

    def __init__(
        self,
        store: TreeStore,
        signer_of: SignerOf,
        *,
        polls: bool = False,
        on_close: Callable[[], None] = lambda: None,
        limits: Limits = LIMITS,
    ) -> None:
        self._store = store
        self._signer_of = signer_of
        self._on_close = on_close
        self._limits = limits
        self._idle_seconds = limits.integrate_seconds if polls else limits.integrate_idle_seconds
        self._one = threading.Lock()
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: tuple[int, bytes] = (0, b"")
        self.trouble: str | None = None
        """Why nothing is signed any more; `None` while all is well."""
        self.published: Callable[[StoredCheckpoint], None] = lambda checkpoint: None
        """Called with each checkpoint that is durable, before the next one is made; it returns at once."""
        self.refused: Callable[[str], None] = lambda problem: None
        """Called with the reason when the tree or a leaf in the database is not what it must be; it returns at once."""

    # In the background

    def wake(self) -> None:
        """Say that something was committed. Costs next to nothing when the thread knows already."""
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None:
                self.start()

    def start(self) -> None:
        """Start the thread, if it does not run yet."""
        with self._starting:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)
                self._thread.start()

    def close(self, *, last: bool = True) -> None:
        """Stop the thread; with `last` integrate what is left, if the store lets it. Closing twice is no error."""
        again = self._stop.is_set()
        with self._starting:
            self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        if last and not again and self.trouble is None:
            try:
                self.integrate()
            except (StoreUnavailable, VerificationFailed) as error:
                log.warning("sequencer.close", reason=str(error))
        self._on_close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self.integrate()
                self._store.look_after_logs()
            except StoreUnavailable as error:
                log.warning("sequencer.waits", reason=error.message)
            except VerificationFailed:
                return  # `trouble` says why
            except Exception as error:  # a fault of ours: the log goes on without new checkpoints
                self._refuse("an error in the sequencer itself; see the operator's log")
                log.error("sequencer.failed", exc_info=error)
                return
            self._stop.wait(self._limits.integrate_seconds)
            self._wake.wait(max(0.0, self._idle_seconds - self._limits.integrate_seconds))

    def halt(self, problem: str) -> None:
        """Sign nothing any more: a witness speaks against the tree in the database."""
        if self.trouble is None:
            self._refuse(problem)

    # One integration

    def integrate(self) -> StoredCheckpoint | None:
        """Put everything that is pending now into the tree; return its checkpoint, `None` when nothing was pending.

        Raises `StoreUnavailable` when the store is away or does not say what became of a commit, and
        `VerificationFailed` (mostly `TreeRefused`) when the tree or a leaf is not what it must be.
        """
        newest: StoredCheckpoint | None = None
        with self._one:
            races, more = 0, True
            while more and races < RACES_COUNT:
                if self.trouble is not None:
                    raise TreeRefused(self.trouble)
                try:
                    found, more = self._step()
                except StoreUnavailable:
                    raise
                except VerificationFailed as refused:
                    self._refuse(refused.message)
                    self.refused(refused.message)
                    raise
                races = races + 1 if found is None else 0
                newest = found or newest
        return newest

    def cosign(self, size: int, cosigner: str, line: str) -> None:
        """Keep a witness's signature line, which the caller has checked, under the checkpoint of a size."""
        self._store.cosign(size, cosigner, line)

    def _refuse(self, problem: str) -> None:
        self.trouble = problem
        log.error("sequencer.refused", reason=problem)

    def _step(self) -> tuple[StoredCheckpoint | None, bool]:
        """Integrate up to a number of leaves; return the checkpoint, and whether there was more, or somebody was first.

        What is committed meanwhile waits for the next integration, or a busy log would never end this one.
        """
        if not self._store.leads():
            return None, False
        certain = self._store.certain()
        with self._store.tree_view() as view:
            unopened = view.unopened_logs()
            made = None if unopened else self._prepare(view, certain)
        if unopened:
            self._store.adopt_logs()
            return None, True
        if isinstance(made, int) and certain is not None:
            self._store.move_horizon(made, certain)
        if made is None or isinstance(made, int):
            return None, False
        growth, root = made
        if not self._store.integrate(growth):
            return None, True
        self._seen = (growth.size + len(growth.leaves), root)
        checkpoint = StoredCheckpoint(self._seen[0], growth.note, growth.at)
        self.published(checkpoint)
        return checkpoint, len(growth.leaves) >= self._limits.integrate_leaves_count

    def _prepare(self, view: TreeView, certain: int | None) -> tuple[Growth, bytes] | int | None:
        """Return the next growth with its root; the tree's size when only the horizon has to move; else `None`."""
        state = view.tree_state()
        pending = view.pending(self._limits.integrate_leaves_count)
        if not pending and not self._seen[0] > state.size:
            return state.size if certain is not None and certain > state.horizon else None
        signer = self._signer_of(state)
        edge = read_range(view, state.size, exact=True)
        newest = view.checkpoint()
        root = check_newest(view, newest, edge, signer)
        self._check_seen(view, state.size, root)
        if not pending:
            return None
        everything = len(pending) < self._limits.integrate_leaves_count
        horizon = (certain if everything else state.horizon) if certain is not None else None
        growth, checkpoint = grow(view, edge, pending, signer, self._store.now(), horizon)
        return growth, checkpoint.root

    def _check_seen(self, view: TreeView, size: int, root: bytes) -> None:
        """Refuse a tree that does not begin with the newest one that was seen."""
        seen, seen_root = self._seen
        if size < seen:
            raise TreeRefused(
                "the newest checkpoint in the database is older than one that was there: an older copy was put in its "
                "place; look into it, then restart"
            )
        if seen and (root if size == seen else read_range(view, seen, exact=False).range.root()) != seen_root:
            raise TreeRefused("the tree in the database does not begin with the one that was there: it is a fork")
        self._seen = (size, root)
