"""A database looked at without opening the engine: nothing is migrated, filled, repaired or recorded.

For `audit verify` and `doctor`, which must work where the engine would refuse to start. Left to others: what is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from policy_engine.errors import StartRefused, StoreDamaged, StoreUnavailable

if TYPE_CHECKING:
    from policy_engine.ledger.sealing import KeyVault
    from policy_engine.settings import Settings
    from policy_engine.store.interfaces import LogView
    from policy_engine.store.sessions import Reader


def vault_of(settings: Settings) -> KeyVault | None:
    """Return the vault of the key file, `None` where there is no such file. Raises `StartRefused` for a damaged one."""
    from policy_engine.services.keyfile import open_vault

    if not _is_there(settings.key_file):
        return None
    return open_vault(settings.key_file, database_is_empty=False, now=0)


def _is_there(path: Path) -> bool:
    """Return whether there is a file. Raises `StoreUnavailable` where nobody may look: that is no word on the file."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        reason = f"cannot be looked at ({error.strerror}); check its name, its rights and those of its folder"
        raise StoreUnavailable(reason, where=str(path)) from None
    return True


def older_copy(settings: Settings, view: LogView) -> str | None:
    """Return a sentence when the epoch file beside a database remembers a newer one, else `None`."""
    from policy_engine.services.epochfile import EpochFile

    if settings.remembered is None:
        return None
    try:
        found, epoch = EpochFile(settings.remembered).read(), view.state().epoch
    except StoreDamaged:
        return None  # said among the findings
    except StartRefused as refused:
        return str(refused)
    if found is None or epoch >= found.epoch:
        return None
    return (
        f"epoch {found.epoch} is remembered on this machine and the database is at {epoch}: it is an older copy, whole "
        "or not; see `policy-engine audit recover`"
    )


@contextmanager
def view_of(settings: Settings) -> Iterator[tuple[LogView, Reader]]:
    """Offer everything in the database as of one moment.

    Raises `StoreUnavailable` when it cannot be read, `StartRefused` when it is another program's or a newer one's.
    """
    from policy_engine.store import faults
    from policy_engine.store.migrate import require_known
    from policy_engine.store.sessions import make_engine
    from policy_engine.store.view import ReportingReader, StoreView

    if settings.on_postgres:
        from policy_engine.store.pgreading import looked_at

        with looked_at(settings.database) as found:
            yield found
        return
    path = settings.database_path
    if not _is_there(path):
        raise StoreUnavailable("there is no database; name one in POLICY_ENGINE_DATABASE", where=str(path))
    with faults.reported():
        require_known(path)
    engine = make_engine(path)
    try:
        with faults.reported():
            connection = engine.raw_connection()
            try:
                reader = ReportingReader(connection.dbapi_connection)
                with reader.at_one_moment():
                    yield StoreView(reader), reader
            finally:
                connection.close()
    finally:
        engine.dispose()
