"""Wiring: opens a database and a policies folder and puts the services together, once.

Rules of the room:
- An empty database is filled once (`filling`). Nothing else is ever activated by itself.
- A serving or embedding process whose folder's hash differs from the active release refuses to start; the command
  line's other verbs do not (one of them is how to activate).
- A sample world or database refuses PostgreSQL, and a host that is not loopback, unless
  `POLICY_ENGINE_SAMPLE_WORLD=yes`.
- A clock that is given (cases, demo, tests) serves services and store alike, and entries say so.
Left to others: everything that happens afterwards.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from policy_engine.errors import Conflict, LogForked, StartRefused
from policy_engine.filling import Genesis, SampleKey, fill, has_world
from policy_engine.ledger.note import KEY_BYTES
from policy_engine.rules import check_distribution
from policy_engine.rules.folder import read_folder
from policy_engine.services.approvals import Approvals
from policy_engine.services.cells.addresses import Cell, read_cells
from policy_engine.services.cells.peers import Peers
from policy_engine.services.cells.standing import Standings
from policy_engine.services.decide import Decider
from policy_engine.services.disposal import Disposal
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.evidence import Evidence
from policy_engine.services.exports.service import Exports
from policy_engine.services.factcache import FactCache
from policy_engine.services.facts import Facts
from policy_engine.services.foresight import Foresight
from policy_engine.services.inuse import Uses
from policy_engine.services.keyfile import FileVault, KeyVault, new_vault, open_vault
from policy_engine.services.keys import Keys
from policy_engine.services.listings import Listings
from policy_engine.services.orders import Orders
from policy_engine.services.publish import Publish
from policy_engine.services.receipts import ReceiptKey
from policy_engine.services.record import Recorder
from policy_engine.services.recovery import Recovery
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.replay import Replay
from policy_engine.services.report.service import Reports
from policy_engine.services.search import Search
from policy_engine.services.sequencer import Sequencer
from policy_engine.services.snapshot import Snapshots
from policy_engine.services.switches import Switches
from policy_engine.services.vocabulary import Vocabulary, vocabulary_of
from policy_engine.services.withdrawal import Withdrawals
from policy_engine.services.witness import OwnLog, Witnesses
from policy_engine.services.witnessclient import WitnessAddress, read_witnesses
from policy_engine.settings import Settings
from policy_engine.startchecks import check_fillable, check_served, check_world
from policy_engine.store import migrate
from policy_engine.store.interfaces import Store
from policy_engine.stores import open_replicas, open_sequencer, open_store, replica_label, scrub_of

if TYPE_CHECKING:
    from policy_engine.tokens.anchors import Anchor
    from policy_engine.tokens.issuers import Issuers

SAMPLE_SERVING_REGION = "US"


@dataclass(frozen=True, slots=True)
class Engine:
    """The services over one database. `sample_keys` are those made by the start that filled it."""

    settings: Settings
    store: Store
    decider: Decider
    recorder: Recorder
    snapshots: Snapshots
    releases: ReleaseLoader
    search: Search
    listings: Listings
    facts: Facts
    orders: Orders
    switches: Switches
    approvals: Approvals
    publish: Publish
    keys: Keys
    evidence: Evidence
    exports: Exports
    reports: Reports
    replay: Replay
    disposal: Disposal
    withdrawals: Withdrawals
    recovery: Recovery
    foresight: Foresight
    standings: Standings
    uses: Uses
    sequencer: Sequencer | None = None
    sample_keys: tuple[SampleKey, ...] = ()
    witnesses: Witnesses | None = None
    peers: Peers | None = None
    issuers: Issuers | None = None

    @property
    def log_key(self) -> str:
        """Return the verifier key of the log as text, empty before its first checkpoint."""
        return self.store.tree_state().key

    def close(self) -> None:
        """Write what is queued, integrate it, and close the database. Closing twice is no error."""
        self.uses.close()
        if self.peers is not None:
            self.peers.close()
        self.listings.close()
        self.recorder.close()
        self.recovery.finish()
        self.withdrawals.close()
        if self.sequencer is not None and self.store.one_log:
            self.sequencer.close()
        if self.witnesses is not None:
            self.witnesses.await_last()
            self.witnesses.close()
        self.store.close()  # on PostgreSQL this ends the log, which is a leaf too
        if self.sequencer is not None:
            self.sequencer.close()


def open_engine(
    settings: Settings,
    *,
    clock: Callable[[], int] | None = None,
    serving: bool = False,
    embedded: bool = False,
    releases: ReleaseLoader | None = None,
    genesis: Genesis | None = None,
) -> Engine:
    """Open the engine on the settings' database, filling an empty one; of several first starts at once, one fills it.

    A process that is `serving` or `embedded` needs a folder that is the active release; it is one of the replicas, asks
    the witnesses that the settings name before it decides, and offers them each checkpoint.
    Raises `StartRefused`, `LoadRefused` or `StoreUnavailable`; nothing is left open then.
    """
    check_distribution()
    releases = ReleaseLoader() if releases is None else releases
    anchors = _read_anchors(settings) if serving else ()
    opened = partial(_opened, settings, clock, serving or embedded, releases, genesis, anchors)
    try:
        return opened()
    except Conflict:  # another start has filled the database meanwhile: it is empty no more
        return opened()
    except OSError as error:
        if error.filename is None:
            raise
        reason = f"cannot be used ({error.strerror}); check its name, its rights and those of its folder"
        raise StartRefused(reason, where=str(error.filename)) from None


def _opened(
    settings: Settings,
    clock: Callable[[], int] | None,
    asked: bool,
    releases: ReleaseLoader,
    genesis: Genesis | None,
    anchors: Sequence[Anchor],
) -> Engine:
    if asked:
        check_world(settings)
    addresses = read_witnesses(settings.witnesses) if asked and settings.witnesses is not None else ()
    cells = read_cells(settings.cells) if asked and settings.cells is not None else ()
    if genesis is None and not settings.on_postgres and not settings.database_path.exists():
        releases.load(read_folder(settings.policies))  # a folder that cannot be served leaves no new database behind
    empty = migrate.prepare(settings.database if settings.on_postgres else settings.database_path)
    if empty and settings.on_postgres:
        check_fillable(settings)
    now = clock() if clock is not None else 0
    vault = open_vault(settings.key_file, database_is_empty=empty, now=now, with_log_key=not settings.on_postgres)
    sample = empty and genesis is None and has_world(settings)
    with _closed_on_error(_open(settings, vault, clock, releases, sample=sample)) as engine:
        if empty:
            engine.recovery.check_begun()
            engine = replace(engine, sample_keys=fill(engine, genesis))
        elif asked:
            check_served(settings, engine.store, engine.releases)
        engine.recovery.examine(engine.snapshots)
        engine = _vouched(engine, anchors) if anchors else engine
        return _started(engine, addresses, cells) if asked else engine


def _read_anchors(settings: Settings) -> Sequence[Anchor]:
    """Return the issuers of the settings' file, none without one. What reads them is loaded only where there is one."""
    if settings.tokens is None:
        return ()
    from policy_engine.tokens.anchors import read_anchors

    return read_anchors(settings.tokens)


def _vouched(engine: Engine, anchors: Sequence[Anchor]) -> Engine:
    """Take the tokens of issuers, at the store's clock."""
    from policy_engine.tokens.issuers import Issuers

    return replace(engine, issuers=Issuers(anchors, engine.store.now))


def _started(engine: Engine, addresses: Sequence[WitnessAddress], cells: Sequence[Cell]) -> Engine:
    """Be one of the replicas, doubt the other cells, let the sequencer look, and the witnesses see what it signs."""
    engine.decider.presence = engine.withdrawals.join(engine.snapshots, replica_label())
    engine = _witnessed(engine, addresses) if addresses else engine
    if engine.sequencer is not None:
        engine.sequencer.start()
    return _among(engine, cells) if cells else engine


def _among(engine: Engine, cells: Sequence[Cell]) -> Engine:
    """Ask the other cells from now on; until each has answered, nothing is allowed that needs their word."""
    peers = Peers(cells, engine.standings, engine.settings.cells_tier)
    engine.decider.doubt_by(peers.doubt)
    peers.start()
    return replace(engine, peers=peers)


def _witnessed(engine: Engine, addresses: Sequence[WitnessAddress]) -> Engine:
    """Ask the witnesses for their first word, and offer them each checkpoint from now on.

    Their word against our tree stops the recorder: from there on nothing is allowed, until a restart.
    """
    sequencer = engine.sequencer
    keep = None if sequencer is None else sequencer.cosign

    def forked(fork: LogForked) -> None:
        engine.recorder.halt(fork)
        if sequencer is not None:
            sequencer.halt(fork.message)

    witnesses = Witnesses(addresses, OwnLog(engine.store, keep), forked)
    if sequencer is not None:
        sequencer.published = witnesses.offer
    witnesses.await_first()
    return replace(engine, witnesses=witnesses)


@dataclass(frozen=True, slots=True)
class Template:
    """An empty migrated database and the vault that every engine on a copy of it shares."""

    place: Path
    vault: FileVault

    @classmethod
    def create(cls, place: Path) -> Template:
        """Write the database, once for as many engines as will be filled from it."""
        check_distribution()
        migrate.copy_template(place)
        return cls(place, new_vault())

    def open_copy(
        self, settings: Settings, *, clock: Callable[[], int], releases: ReleaseLoader, genesis: Genesis
    ) -> Engine:
        """Open an engine on a fresh copy, filled with `genesis`, whose tree stays empty.

        Nobody has the settings' database open.
        """
        _copy_database(self.place, settings.database_path)
        with _closed_on_error(_open(settings, self.vault, clock, releases, integrating=False)) as engine:
            return replace(engine, sample_keys=fill(engine, genesis))


def copy_template(template: Path, place: Path) -> None:
    """Copy a database with its key file over one that nobody has open."""
    _copy_database(template, place)
    shutil.copy(f"{template}.keys", f"{place}.keys")


def _copy_database(template: Path, place: Path) -> None:
    for suffix in ("-wal", "-shm", ".keys.epoch"):
        Path(f"{place}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(template, place)


@contextmanager
def _closed_on_error(engine: Engine) -> Iterator[Engine]:
    """Leave nothing open when what comes after the opening fails."""
    try:
        yield engine
    except BaseException:
        engine.close()
        raise


def _open(
    settings: Settings,
    vault: FileVault,
    clock: Callable[[], int] | None,
    releases: ReleaseLoader,
    *,
    sample: bool = False,
    integrating: bool = True,
) -> Engine:
    """Open the store and put the services over it. Raises what opening raises; nothing is left open then."""
    seed = secrets.token_bytes(KEY_BYTES) if settings.on_postgres else vault.receipt_seed()
    receipts = ReceiptKey(seed, settings.valid_for_ms)
    with ExitStack() as opened:
        store = open_store(settings, vault, clock, receipts)
        opened.callback(store.close)
        sequencer = open_sequencer(settings, store, vault.log_seed, clock) if integrating else None
        if sequencer is not None:
            opened.callback(sequencer.close, last=False)
        recorder = Recorder(store, vault, receipts=receipts)
        opened.callback(recorder.close)
        if sequencer is not None:
            sequencer.refused = partial(_halt, recorder)
        engine = _wire(settings, store, vault, recorder, releases, sample)
        if sequencer is not None:
            engine.exports.integrate = sequencer.integrate
        opened.pop_all()
        return replace(engine, sequencer=sequencer)


def _halt(recorder: Recorder, problem: str) -> None:
    """Allow nothing more: the tree in the database is not the one that was signed, so what is written may be lost."""
    recorder.halt(LogForked(problem, where="log"))


def _wire(
    settings: Settings, store: Store, vault: KeyVault, recorder: Recorder, releases: ReleaseLoader, sample: bool
) -> Engine:
    snapshots = Snapshots(store, releases)
    region = _serving_region(settings, store, sample)
    evaluator = Evaluator(FactCache(store), serving_region=region)
    approvals, load = Approvals(store), partial(releases.stored, store)

    def vocabulary(hash: str) -> Vocabulary:
        return vocabulary_of(load(hash))

    keys, evidence = Keys(store, approvals), Evidence(store, recorder, vault, load=load)
    budget, recovery = settings.valid_for_ms, Recovery(store, approvals, settings.remembered)
    evidence.older = recovery.sentence
    decider = Decider(snapshots, evaluator, recorder, store.now, keys.still_alive, budget, recovery)
    asking = Evaluator(FactCache(store), serving_region=region, remembers=False, hints=False)
    asking.doubting = evaluator.doubt  # of its own are the memories alone: a long search drives out no decision's
    switches, orders = Switches(store, approvals, vocabulary), Orders(store, approvals, vocabulary)
    return Engine(
        settings=settings,
        store=store,
        decider=decider,
        recorder=recorder,
        snapshots=snapshots,
        releases=releases,
        search=Search(snapshots, asking, recorder, store, require_able=decider.require_able),
        listings=Listings(snapshots, asking, recorder, store, vault, decider),
        facts=Facts(store, recorder, vocabulary),
        orders=orders,
        switches=switches,
        approvals=approvals,
        publish=Publish(store, approvals, releases),
        keys=keys,
        evidence=evidence,
        exports=Exports(store, evidence, recorder, approvals, vault, releases),
        reports=Reports(store, evidence, recorder, vault, releases),
        replay=Replay(store, recorder, vault, releases),
        disposal=Disposal.over(store, approvals, vault, settings.retention_days, scrub_of(settings), load=load),
        withdrawals=Withdrawals(store, open_replicas(settings, store), settings.valid_for_ms),
        recovery=recovery,
        foresight=Foresight.over(store, switches, orders, recorder, vault, releases, decider, snapshots, region),
        standings=Standings(store),
        uses=Uses(decider, snapshots, recorder),
    )


def _serving_region(settings: Settings, store: Store, sample: bool) -> str | None:
    """Return where requests that do not say are served: the setting; the sample world is in the US without one.

    Anywhere else it stays unknown without the setting, and what is served from nobody knows where is denied.
    """
    if settings.serving_region is not None:
        return settings.serving_region
    return SAMPLE_SERVING_REGION if sample or store.state().sample else None
