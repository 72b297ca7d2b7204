"""Law 8, as far as this step goes: what is personal is sealed from the first day, and its key can go alone."""

from __future__ import annotations

from typing import Any

from pysqlite3 import dbapi2

from policy_engine.core.decision import Request
from policy_engine.core.facts import Location
from policy_engine.services.permissions import LOCAL
from tests.laws.sample import decisions, opened

LOG_TABLES = ("entries", "batches", "bodies", "tags", "data_keys", "heads")
PLANTED = ("planted-subject-7731", "planted-tenant-7731", "XQ-PLANTED-7731")


def ask_with_planted_facts(engine: Any) -> None:
    """Record decisions whose subject, tenant and place can be recognised, and one of a known person."""
    engine.decider.decide(Request(PLANTED[0], "infer", "fable-5", PLANTED[1], Location("US", PLANTED[2]), "US"), LOCAL)
    engine.decider.decide(Request("chen", "infer", "fable-5", "lab", Location("US"), "US"), LOCAL)


def test_nothing_personal_stands_in_the_log_in_clear(sample_database: Any, compiled: Any) -> None:
    """No table of the log holds the subject, an unknown tenant or the place as text, and the sealed body holds all.

    Control: policy_engine/services/drafts.py: `tenant=None if found.tenant_sealed else request.tenant,`
    """
    with opened(sample_database, compiled) as (engine, _):
        ask_with_planted_facts(engine)
        body = decisions(engine)[-2].body
        assert (body["subject"], body["tenant"], body["location"]["region"]) == PLANTED
        connection = dbapi2.connect(f"file:{engine.settings.database_path}?mode=ro", uri=True)
        try:
            for table in LOG_TABLES:
                for row in connection.execute(f"SELECT * FROM {table}"):
                    stored = b"".join(v if isinstance(v, bytes) else str(v).encode() for v in row)
                    for planted in (*PLANTED, "chen"):
                        assert planted.encode() not in stored, table
        finally:
            connection.close()


def test_without_its_data_key_a_body_is_closed_and_every_hash_still_holds(sample_database: Any, compiled: Any) -> None:
    """Destroying one data key closes that subject's bodies; leaves, headers and body hashes still agree."""
    with opened(sample_database, compiled) as (engine, _):
        ask_with_planted_facts(engine)
        key = next(entry.data_key for entry in _entries(engine) if entry.seq == decisions(engine)[-1].seq)
        engine.close()
        connection = dbapi2.connect(str(engine.settings.database_path), isolation_level=None)
        connection.execute("DELETE FROM data_keys WHERE id = ?", (key,))
        connection.close()
        with opened_again(engine) as again:
            findings = [str(finding) for finding in again.evidence.verify().findings]
            assert findings, "verify must notice that a body no longer opens while erasure is no event yet"
            assert not [f for f in findings if "leaf" in f or "header" in f or "sequence" in f]


def _entries(engine: Any) -> list[Any]:
    with engine.store.view() as view:
        return list(view.scan_entries())


def opened_again(engine: Any) -> Any:
    """Open the same database once more."""
    from contextlib import closing

    from policy_engine.bootstrap import open_engine

    return closing(open_engine(engine.settings))
