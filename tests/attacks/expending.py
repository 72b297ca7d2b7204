"""A PostgreSQL database whose server a test may kill, stop or cut off, and what such a test writes to it and reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from policy_engine.store.postgres import PostgresStore
from tests.postgresql import expendable
from tests.store.samples import PostgresDatabase, Sample, genesis


@contextmanager
def expendable_database() -> Iterator[PostgresDatabase]:
    """Offer a database on a server that may be stopped; whatever happened to it, its logs verify."""
    made = PostgresDatabase(None, expendable())
    genesis(made.open())
    yield made
    made.close()
    findings = made.verify().findings
    made.drop()
    assert findings == ()


def draft(store: PostgresStore) -> Sample:
    """Return an allow of this moment."""
    return Sample(store.state(), instant=store.now(), until=2**62, clock_set=False)


def places(database: PostgresDatabase) -> list[tuple[str, int]]:
    """Return the place of every entry there is."""
    with database.server.admin(database.name) as session:
        return [(str(log), int(seq)) for log, seq in session.execute("SELECT log_id, seq FROM policy_engine.entries")]
