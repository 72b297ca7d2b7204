"""How long a page of the log takes to find among 1,000,000 entries: by public columns, and by keyed tags.

The log is written by the engine itself on SQLite; PostgreSQL holds the same log, copied there table by table by its
superuser, because it is the finding that is measured. Questions are asked newest first, oldest first and from places in
the middle. The look that a sealed question records, and its sync, is part of its time. Judged is the 95th percentile of
all pages of a kind on a store: at most 100 ms. A page counts only if it is full or complete.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.report import Line

if TYPE_CHECKING:
    from policy_engine.core.decision import Principal
    from policy_engine.services.evidence import Evidence

ENTRIES = 1_000_000
ENTRIES_QUICK = 20_000
BOUND_MILLISECONDS = 100.0
ROUNDS = 20
ROUNDS_QUICK = 3
QUESTIONS = {
    "public columns": (
        "deny tier>=4",
        "allow model:fable-5",
        "deny rule:P6 tenant:lab",
        "reason:nationality.* -tenant:acme",
        "action:download_weights outcome:allow",
        "kind:genesis,read",
        "deny model:mythos-5,summit-4 -reason:nationality.*",
    ),
    "keyed tags": (
        "subject:alice deny",
        "country:CN",
        "group:D:5 tier>=4",
        "allow us_person:no location:DE",
        "evidence:expired,declared allow",
        "subject:chen location:IR model:open-1",
    ),
}
_PLACES = ("US", "US", "US", "GB", "DE", "IN", "CN", "IR")
_MODELS = ("fable-5", "mythos-5", "opus-4-8", "open-1", "summit-4")
_ACTIONS = ("infer", "infer", "infer", "fine_tune", "download_weights")
_PERSONS = (
    ("alice", "acme"), ("mina", "acme"), ("dana", "acme"), ("bruno", "acme-de"), ("ines", "annexco"),
    ("chen", "lab"), ("greg", "lab"), ("eve", "acme"), ("frank", "acme"), ("sofia", "acme"),
)  # fmt: skip


class NotFoundWhole(RuntimeError):
    """A page is neither full nor complete, so its time means nothing."""


def measure(policies: Path, folder: Path, entries: int, rounds: int, say: Callable[[str], None]) -> list[Line]:
    """Fill a log, copy it, and ask both. Needs PostgreSQL."""
    from policy_engine.bootstrap import open_engine
    from policy_engine.settings import Settings

    settings = Settings(database=f"sqlite:///{folder / 'questions.db'}", policies=policies)
    engine = open_engine(settings)
    try:
        keys = {key.label: key.secret for key in engine.sample_keys}
        auditor = engine.keys.authenticate(keys["auditor"], engine.store.now())
        say(f"writing a log of {entries:,} entries")
        _fill(engine, entries)
        say("indexing it")
        _index(engine)
        lines = _lines("SQLite", engine.evidence, auditor, rounds, say)
    finally:
        engine.close()
    with _postgres(folder / "questions.db", settings, say) as evidence:
        return [*lines, *_lines("PostgreSQL", evidence, auditor, rounds, say)]


def _fill(engine: Any, entries: int) -> None:
    from policy_engine.core.decision import Request
    from policy_engine.core.facts import Location
    from policy_engine.services.permissions import LOCAL

    random = Random(11)
    for _ in range(0, entries, 256):
        batch = []
        for _ in range(256):
            person, tenant = random.choice(_PERSONS)
            place = Location(random.choice(_PLACES))
            batch.append(Request(person, random.choice(_ACTIONS), random.choice(_MODELS), tenant, place, "US"))
        engine.decider.decide_many(batch, LOCAL)


def _index(engine: Any) -> None:
    """Put everything into the tree and the indexes, as an idle engine would."""
    engine.sequencer.integrate()
    while engine.store.index_tags(2_000):
        pass
    while engine.store.index_columns(2_000).leaves:
        pass


def _lines(store: str, evidence: Evidence, auditor: Principal, rounds: int, say: Callable[[str], None]) -> list[Line]:
    lines = []
    for kind, texts in QUESTIONS.items():
        say(f"asking by {kind} on {store}")
        taken = {text: list(_pages(evidence, auditor, text, rounds)) for text in texts}
        milliseconds = sorted(each for several in taken.values() for each in several)
        judged = statistics.quantiles(milliseconds, n=20)[-1]
        detail = {
            "pages": len(milliseconds),
            "p50_ms": round(statistics.median(milliseconds), 2),
            "max_ms": round(milliseconds[-1], 2),
            "p95_ms": {text: round(statistics.quantiles(several, n=20)[-1], 2) for text, several in taken.items()},
        }
        name = f"a page of the log by {kind}, {store}"
        lines.append(Line(name, "ms p95", judged, None, judged, BOUND_MILLISECONDS, at_most=True, detail=detail))
    return lines


def _pages(evidence: Evidence, auditor: Principal, text: str, rounds: int) -> Iterator[float]:
    """Yield the milliseconds of pages: from both ends, and each behind the one before it."""
    from policy_engine.services.evidence import Filters
    from policy_engine.services.questiontext import parse_question

    question = parse_question(text, 0)
    for newest_first in (True, False):
        after = None
        for _ in range(rounds):
            began = perf_counter()
            page = evidence.query(auditor, Filters(question, after=after, newest_first=newest_first))
            yield (perf_counter() - began) * 1_000
            if len(page.entries) < 100 and page.after is not None:
                raise NotFoundWhole(f"`{text}` gave {len(page.entries)} entries and said that there are more")
            after = page.after


# The same log on PostgreSQL


@contextmanager
def _postgres(database: Path, settings: Any, say: Callable[[str], None]) -> Iterator[Evidence]:
    from policy_engine.services.evidence import Evidence
    from policy_engine.services.keyfile import open_vault
    from policy_engine.services.record import Recorder
    from policy_engine.store.postgres import PostgresStore
    from tests import postgresql

    server = postgresql.running()
    name = server.new_database()
    try:
        say("copying the log to PostgreSQL")
        with server.admin(name) as session:
            _copy(database, session)
        vault = open_vault(settings.key_file, database_is_empty=False, now=0)
        store = PostgresStore(server.url(name, "pe_writer"), vault)
        recorder = Recorder(store, vault)
        try:
            yield Evidence(store, recorder, vault)
        finally:
            recorder.close()
            store.close()
    finally:
        server.drop_database(name)


def _copy(database: Path, session: Any) -> None:
    """Copy every table, guards put aside: it is a copy of a whole log, and nothing is served from it."""
    import pysqlite3

    from policy_engine.store.tables import metadata

    source = pysqlite3.connect(str(database))
    session.execute("SET session_replication_role = replica")
    for table in metadata.sorted_tables:
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        session.execute(f"DELETE FROM policy_engine.{table.name}")
        with session.cursor().copy(f"COPY policy_engine.{table.name} ({names}) FROM STDIN") as copy:
            for row in source.execute(f"SELECT {names} FROM {table.name}"):
                copy.write_row(row)
    session.execute("SET session_replication_role = DEFAULT")
    session.execute("ANALYZE")
    source.close()
