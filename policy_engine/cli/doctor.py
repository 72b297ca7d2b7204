"""`policy-engine doctor`: looks at everything that could stop the engine, changes nothing, and says what to do."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.database import vault_of, view_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import read_settings
from policy_engine.core.instants import DAY, ENDLESS, format_instant, parse_instant
from policy_engine.errors import PolicyEngineError
from policy_engine.limits import LIMITS

if TYPE_CHECKING:
    from policy_engine.settings import Settings
    from policy_engine.store.interfaces import LogView, State
    from policy_engine.store.sessions import Reader

WITNESS_SECONDS_MAX = 300
"""The age from which a cosignature of an older tree is worth a note: a witness has not answered for so long."""

APPROVERS_MIN = 2
"""Persons who must be able to approve, or nothing that loosens can ever take effect."""


UNSIGNED_SECONDS = 60
"""A checkpoint older than this, with batches behind it, has no sequencer."""


class Health(StrEnum):
    """What a check found; only `broken` makes the exit 1."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    health: Health
    found: str


def doctor(form: FormOption = None) -> None:
    """Look at the installation, the policies folder, the database, its key file and its log. Exits 0 or 1."""
    checks = list(_checks(read_settings()))
    rows = [output.plain(check) for check in checks]
    broken = sum(check.health is Health.BROKEN for check in checks)
    columns: output.Columns = (("", "health"), ("what", "name"), ("found", "found"))
    output.emit({"ok": not broken, "checks": rows}, form, lambda: output.rows_table(rows, columns))
    if broken:
        output.note(f"policy-engine: {broken} of {len(checks)} checks found something broken")
        raise typer.Exit(exits.Code.INTERNAL)


def _checks(settings: Settings) -> Iterator[Check]:
    yield _python()
    yield _variables()
    yield _sqlite()
    yield _casbin()
    folder = _folder(settings)
    yield folder
    yield from _database(settings, folder)


def _python() -> Check:
    health = Health.OK if sys.version_info >= (3, 11) else Health.BROKEN
    return Check("python", health, f"{platform.python_version()} ({sys.executable})")


def _variables() -> Check:
    """Name what is set and nothing reads, for a setting that is misspelt is none; its value is not shown."""
    from policy_engine.settings import unread_variables

    unread = unread_variables(os.environ)
    if not unread:
        return Check("settings", Health.OK, "every variable that begins with POLICY_ENGINE_ is a setting")
    named = [f"{name} (is it {near}?)" if near else name for name, near in unread]
    return Check("settings", Health.NOTE, f"nothing reads {', '.join(named)}; correct or remove it")


def _sqlite() -> Check:
    """Ask the library that opens our databases for its version, on a database of its own."""
    from policy_engine.store.sessions import Query, Reader, has_wal_fix, make_engine

    with tempfile.TemporaryDirectory(prefix="policy-engine-doctor-") as folder:
        engine = make_engine(Path(folder) / "probe.db", create=True)
        connection = engine.raw_connection()
        found = Reader(connection.dbapi_connection).one(Query("SELECT sqlite_version()"))
        connection.close()
        engine.dispose()
    linked = "unknown" if found is None else str(found[0])
    if has_wal_fix(tuple(int(part) for part in linked.split(".") if part.isdigit())):
        return Check("sqlite", Health.OK, f"{linked}, write-ahead log")
    return Check("sqlite", Health.NOTE, f"{linked} can corrupt a write-ahead log, so a slower rollback journal is used")


def _casbin() -> Check:
    from policy_engine.rules import check_distribution

    try:
        check_distribution()
    except PolicyEngineError as refused:
        return Check("casbin", Health.BROKEN, str(refused))
    return Check("casbin", Health.OK, f"pycasbin {version('pycasbin')}, and no older `casbin` beside it")


def _folder(settings: Settings) -> Check:
    """Load the policies folder as the service would; what it found is the release's hash."""
    from policy_engine.rules.folder import load_release, read_folder

    try:
        release = load_release(read_folder(settings.policies))
    except PolicyEngineError as refused:
        return Check("policies folder", Health.BROKEN, str(refused))
    return Check("policies folder", Health.OK, release.hash)


def _database(settings: Settings, folder: Check) -> Iterator[Check]:
    path = settings.shown_database if settings.on_postgres else settings.database_path
    try:
        if not settings.on_postgres and not settings.database_path.exists():
            yield Check("database", Health.NOTE, f"{path} is not there; the first start makes and fills it")
            return
        with view_of(settings) as (view, reader):
            state = view.state()
            yield Check("database", Health.OK, f"{path}, epoch {state.epoch}")
            yield _key_file(settings, view)
            yield _active(state, folder)
            yield _sample(state)
            yield _approvers(view)
            yield _drill(view)
            yield _suspensions(view)
            yield _log(view, reader)
            yield _tree(view)
            yield _log_key(view)
            yield from _witnesses(settings, view)
            yield _cells(settings)
            yield _replicas(view)
            yield _remembered(settings, state)
    except (PolicyEngineError, OSError) as refused:
        yield Check("database", Health.BROKEN, exits.sentence_of(refused))


def _key_file(settings: Settings, view: LogView) -> Check:
    name = "key file"
    try:
        vault = vault_of(settings)
    except PolicyEngineError as refused:
        return Check(name, Health.BROKEN, str(refused))
    if vault is None and view.heads():
        return Check(name, Health.BROKEN, f"{settings.key_file} is missing; restore it, a new one opens nothing")
    if vault is None:
        return Check(name, Health.NOTE, "not there yet; the first start writes it")
    return Check(name, Health.OK, f"{settings.key_file}, mode 0600")


def _active(state: State, folder: Check) -> Check:
    name = "active release"
    if state.release is None:
        return Check(name, Health.BROKEN, "none: nothing is allowed until one is published and activated")
    if folder.health is Health.OK and folder.found != state.release:
        differs = "is not the folder's: `serve` refuses until the folder is published and activated"
        return Check(name, Health.BROKEN, f"{state.release} {differs}")
    return Check(name, Health.OK, state.release)


def _sample(state: State) -> Check:
    if state.sample:
        return Check("sample", Health.NOTE, "the database was filled with the sample world: not for production")
    return Check("sample", Health.OK, "no")


def _approvers(view: LogView) -> Check:
    """Count the persons whose keys can approve now."""
    name = "approvers"
    now = time.time_ns() // 1_000
    persons: set[str] = set()
    for row in view.scan_rows("keys"):
        try:
            document = None if row.document is None else json.loads(row.document)
            if document is not None and _approves(document, now):
                persons.add(document["principal"]["id"])
        except (LookupError, TypeError, ValueError):
            problem = f"the row of the key {row.id} is not what this program writes"
            return Check(name, Health.BROKEN, f"{problem}: policy-engine audit verify")
    if len(persons) >= APPROVERS_MIN:
        return Check(name, Health.OK, f"{len(persons)} persons can approve")
    problem = f"{len(persons)} can approve, {APPROVERS_MIN} are needed before anything that loosens can take effect"
    mend = "policy-engine keys create --first NAME NAME" if not persons else "create another approver"
    return Check(name, Health.BROKEN if persons else Health.NOTE, f"{problem}: {mend}")


def _approves(key: dict[str, Any], now: int) -> bool:
    expires_at = ENDLESS if key["expires_at"] is None else parse_instant(key["expires_at"])
    living = key["revoked_at"] is None and now < expires_at and "token" not in key
    return living and key["principal"]["kind"] == "person" and "approve" in key["scopes"] and key["tenants"] is None


def _drill(view: LogView) -> Check:
    """Say when every kind of kill switch was last tried for real, and whether each took hold."""
    from policy_engine.limits import LIMITS
    from policy_engine.services.drills import read_last_drill

    name = "drill"
    last = read_last_drill((row.id, json.loads(row.document)) for row in view.scan_rows("switches") if row.document)
    command = "policy-engine switch drill"
    if last is None:
        return Check(name, Health.NOTE, f"there was none yet: {command}")
    days = (time.time_ns() // 1_000 - last.at) // DAY
    found = (
        f"{format_instant(last.at)}, {len(last.held)} kinds held, slowest {last.slowest_microseconds / 1_000:.1f} ms"
    )
    if last.failed:
        return Check(name, Health.BROKEN, f"{found}; NOT held: {', '.join(last.failed)}. Treat it as an incident")
    if days > LIMITS.drill_days:
        return Check(name, Health.NOTE, f"{found}; that is {days} days ago, over {LIMITS.drill_days}: {command}")
    return Check(name, Health.OK, found)


def _suspensions(view: LogView) -> Check:
    """Name the directives whose re-confirmation is overdue: a suspension that nobody confirms may be a mistake."""
    from policy_engine.services.suspensions import overdue

    name = "suspensions"
    rows = ((row.id, json.loads(row.document)) for row in view.scan_rows("orders") if row.document)
    late = overdue(rows, time.time_ns() // 1_000)
    if not late:
        return Check(name, Health.OK, "none waits for its re-confirmation")
    named = ", ".join(f"{one.order} (since {format_instant(one.since)})" for one in late)
    mend = "policy-engine order amend with a later reconfirm_by, or order end"
    return Check(name, Health.NOTE, f"re-confirmation overdue: {named}. They go on denying: {mend}")


def _tree(view: LogView) -> Check:
    """Say how much of the log is signed for, and since when."""
    from policy_engine.services.verifytree import glance

    name = "tree"
    try:
        newest, pending = glance(view)
    except PolicyEngineError as refused:
        return Check(name, Health.BROKEN, f"{refused}; run `policy-engine audit verify`")
    if newest is None:
        return Check(name, Health.NOTE, f"no checkpoint yet, {pending} batches pending")
    age = max(0, time.time_ns() // 1_000 - newest.at) // 1_000_000
    found = f"{view.tree_state().origin}: {newest.size} leaves, signed {age} s ago, {pending} batches pending"
    if pending and age > UNSIGNED_SECONDS:
        return Check(name, Health.NOTE, f"{found}. Nobody integrates: start the service, or the sequencer")
    return Check(name, Health.OK, found)


def _log_key(view: LogView) -> Check:
    """Show the public key that signs checkpoints: what auditors and witnesses know the log by."""
    key = view.tree_state().key
    if not key:
        return Check("log key", Health.NOTE, "none yet; the first checkpoint makes it")
    return Check("log key", Health.OK, key)


def _witnesses(settings: Settings, view: LogView) -> Iterator[Check]:
    """Say of each witness what it cosigned last. Nobody is asked: what is shown is what the database keeps."""
    from policy_engine.ledger.note import TIME_BYTES, parse_signature
    from policy_engine.services.witnessclient import read_witnesses

    name = "witnesses"
    if settings.witnesses is None:
        yield Check(name, Health.NOTE, "none: whoever holds database and log key can rewrite the log unnoticed")
        return
    try:
        addresses = read_witnesses(settings.witnesses)
    except PolicyEngineError as refused:
        yield Check(name, Health.BROKEN, str(refused))
        return
    size = view.tree_state().size
    for address in addresses:
        name, last = f"witness {address.key.name}", view.last_cosignature(str(address.key))
        if last is None:
            yield Check(name, Health.NOTE, "has cosigned nothing yet")
            continue
        seconds = int.from_bytes(parse_signature(last[1].removesuffix("\n")).payload[:TIME_BYTES], "big")
        age = max(0, int(time.time()) - seconds)
        behind = last[0] < size and age > WITNESS_SECONDS_MAX
        found = f"cosigned a tree of {last[0]} of {size} leaves {age} s ago"
        yield Check(name, Health.NOTE if behind else Health.OK, found)


def _cells(settings: Settings) -> Check:
    """Say which other cells this process heeds. None is asked: what stands there, `cells status` shows."""
    from policy_engine.services.cells.addresses import read_cells

    name = "cells"
    if settings.cells is None:
        return Check(name, Health.OK, "none other is heeded")
    try:
        cells = read_cells(settings.cells)
    except PolicyEngineError as refused:
        return Check(name, Health.BROKEN, str(refused))
    names = ", ".join(cell.name for cell in cells)
    return Check(
        name, Health.OK, f"{names}; from tier {settings.cells_tier} on nothing is allowed while one is unconfirmed"
    )


def _remembered(settings: Settings, state: State) -> Check:
    """Say which epoch this machine remembers, so that an older copy would be noticed."""
    from policy_engine.services.epochfile import EpochFile

    name = "epoch file"
    if settings.remembered is None:
        return Check(name, Health.NOTE, "none: without POLICY_ENGINE_EPOCH_FILE an older copy is not noticed here")
    try:
        found = EpochFile(settings.remembered).read()
    except PolicyEngineError as refused:
        return Check(name, Health.BROKEN, str(refused))
    if found is None:
        return Check(name, Health.NOTE, "not there yet; the next start writes it")
    if state.epoch < found.epoch:
        problem = f"epoch {found.epoch} is remembered and the database is at {state.epoch}: an older copy was restored"
        return Check(name, Health.BROKEN, f"{problem}. See `policy-engine audit recover`")
    return Check(name, Health.OK, f"epoch {found.epoch} is remembered")


def _replicas(view: LogView) -> Check:
    """Say who serves, and whether one of them stands in the way of a withdrawal."""
    name, epoch = "replicas", view.state().epoch
    live = [replica for replica in view.replicas() if replica.ended is None]
    if not live:
        return Check(name, Health.OK, "none serves now")
    now, slowest = time.time_ns() // 1_000, live[0]
    age = max(0, now - min(replica.heartbeat for replica in live)) / 1_000_000
    found = f"{len(live)} serve; the slowest is {slowest.label} at epoch {slowest.epoch} of {epoch}"
    if age > LIMITS.gone_seconds:
        return Check(name, Health.NOTE, f"{found}. One was last heard {age:.0f} s ago: it is stopped, cut off, or gone")
    return Check(name, Health.OK if slowest.epoch == epoch else Health.NOTE, found)


def _log(view: LogView, reader: Reader) -> Check:
    from policy_engine.store.entries import verify_head

    name = "log"
    heads = view.heads()
    if not heads:
        return Check(name, Health.NOTE, "empty")
    (head, *others) = sorted(heads, key=lambda head: -head.last_at)
    if others and view.one_log:
        return Check(name, Health.BROKEN, "the database holds more than one log; run `policy-engine audit verify`")
    try:
        verify_head(reader, head)
    except PolicyEngineError as refused:
        return Check(name, Health.BROKEN, f"{refused}; run `policy-engine audit verify`")
    entries = sum(each.next_seq for each in heads)
    logs = f" in {len(heads)} logs" if others else ""
    return Check(
        name,
        Health.OK,
        f"{entries} entries{logs}, the last at {format_instant(head.last_at)}; last header {head.head_hash}. Keep that "
        "hash where the operator cannot write, and run `policy-engine audit verify` now and then",
    )
