"""Law 8: what is personal is sealed from the first day, can be erased, and every proof still holds afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2

from policy_engine.core.decision import Principal, Request
from policy_engine.core.facts import Location
from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.merkle import leaf_hash
from policy_engine.ledger.proofs import (
    LeafNodes,
    check_consistency,
    check_inclusion,
    make_consistency,
    make_inclusion,
    make_root,
)
from policy_engine.services.keyfile import open_vault
from policy_engine.services.marks import marks_of
from policy_engine.services.permissions import LOCAL
from policy_engine.services.unseal import Unsealer
from policy_engine.services.verify import verify
from tests.laws.sample import decisions, opened

LOG_TABLES = ("entries", "batches", "bodies", "tags", "data_keys", "heads")
PLANTED = ("planted-subject-7731", "planted-tenant-7731", "XQ-PLANTED-7731")
SUBJECT = "erased-subject-7731"
FACTS = ("reference-7731", "verifier-note-7731", "second-reference-7731")


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


def leave_traces(engine: Any, people: dict[str, Principal]) -> list[int]:
    """Let a subject leave traces of every kind, and return the numbers of the decisions about them."""
    operator, auditor = people["operator"], people["auditor"]
    for number, reference in enumerate(FACTS):
        fact = {"value": ("US", "GB", "DE")[number], "reference": reference, "assurance": "high"}
        engine.facts.set_facts(operator, "persons", SUBJECT, {"residence_country": fact, "tenants": ["acme", "lab"]})
    for n in range(40):  # pages that split, so that a stale copy could stay behind
        engine.facts.set_facts(operator, "persons", f"{SUBJECT}-not-{n}"[7:], {"tenants": ["acme"]})
    engine.orders.receive(operator, "grant", {"id": "g-7731", "person_id": SUBJECT, "tenant_id": "acme"})
    engine.orders.end(operator, "g-7731", "over")
    for tenant in ("acme", "lab", "no-such-tenant"):
        engine.decider.decide(Request(SUBJECT, "infer", "fable-5", tenant, Location("US"), "US"), LOCAL)
    engine.decider.decide(Request("chen", "infer", "fable-5", "lab", Location("US"), "US"), LOCAL)
    engine.facts.show(auditor, "persons", SUBJECT)
    return [recorded.seq for recorded in decisions(engine) if recorded.body["subject"] == SUBJECT]


def erase(engine: Any, people: dict[str, Principal]) -> int:
    """Erase the subject by two persons and return the number of the entry."""
    waiting = engine.disposal.erasures.propose(people["operator"], SUBJECT, "case 7").proposal
    committed = engine.approvals.approve(people["approver"], waiting.id).committed
    return int(committed.seqs[-1])


def leaves(engine: Any) -> list[bytes]:
    """Return the leaf hashes of the batch headers as they lie there."""
    with engine.store.view() as view:
        return [leaf_hash(batch.header) for batch in view.scan_batches()]


def entries_of(engine: Any) -> list[Any]:
    """Return every entry as it lies there."""
    with engine.store.view() as view:
        return list(view.scan_entries())


def bytes_of(database: Path) -> bytes:
    """Return every byte of a database, its write-ahead log included."""
    files = [Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")]
    return b"".join(file.read_bytes() for file in files if file.exists())


def test_an_erased_subject_is_in_no_byte_of_the_database(sample_database: Any, compiled: Any) -> None:
    """Neither the id nor any fact, of now or of earlier, is left in the file or in its write-ahead log.

    Control: policy_engine/store/erasing.py: `self._writer.run(statements.DROP_ROW[register], id, revision)`
    """
    with opened(sample_database, compiled) as (engine, people):
        leave_traces(engine, people)
        before = bytes_of(engine.settings.database_path)
        assert all(word.encode() in before for word in (SUBJECT, FACTS[-1], FACTS[0]))
        erase(engine, people)
        left = bytes_of(engine.settings.database_path)
        assert [word for word in (SUBJECT, *FACTS) if word.encode() in left] == []
        assert engine.evidence.verify().findings == ()


def test_a_page_that_was_split_keeps_no_copy(sample_database: Any, compiled: Any) -> None:
    """Writing the file anew after an erasure is what clears stale copies in unused parts of pages.

    Control: policy_engine/store/scrubbing.py: `connection.execute("VACUUM")`
    """
    with opened(sample_database, compiled) as (engine, people):
        leave_traces(engine, people)
        planted = dbapi2.connect(str(engine.settings.database_path), isolation_level=None)
        planted.execute("PRAGMA secure_delete = OFF")  # as an older program left it: rows that grew and went
        planted.execute("CREATE TABLE scratch (a TEXT)")
        planted.executemany("INSERT INTO scratch VALUES (?)", [(f"{SUBJECT} {n}",) for n in range(2_000)])
        planted.execute("DROP TABLE scratch")
        planted.close()
        erase(engine, people)
        assert SUBJECT.encode() not in bytes_of(engine.settings.database_path)


def test_every_proof_holds_after_an_erasure(sample_database: Any, compiled: Any) -> None:
    """Leaves, batch roots, inclusion and consistency verify on what lies there then, with and without the key file.

    Control: policy_engine/services/marks.py: `erased = self.of_key(entry.data_key, entry.log_id, entry.seq, at)`
    """
    with opened(sample_database, compiled) as (engine, people):
        numbers = leave_traces(engine, people)
        before, publics = leaves(engine), {entry.seq: entry.public for entry in entries_of(engine)}
        root = make_root(len(before), LeafNodes(before))
        proofs = [make_inclusion(n, len(before), LeafNodes(before)) for n in range(len(before))]
        by = erase(engine, people)
        after = leaves(engine)
        for n, proof in enumerate(proofs):
            check_inclusion(after[n], n, len(before), proof, root)
        grown = make_root(len(after), LeafNodes(after))
        check_consistency(
            len(before), len(after), make_consistency(len(before), len(after), LeafNodes(after)), root, grown
        )
        lying = {entry.seq: entry for entry in entries_of(engine)}
        assert all(lying[seq].public == public for seq, public in publics.items())
        assert all(lying[seq].sealed == b"" and lying[seq].tags == b"" for seq in numbers)
        log_id = lying[0].log_id
        vault = open_vault(engine.settings.key_file, database_is_empty=False, now=0)
        for keys in (vault, None):
            with engine.store.view() as view:
                found = verify(view, keys)
            assert found.findings == ()
            assert list(found.gone) == [f"erased by entry {by} of log {log_id}"]


def test_the_keys_of_an_erased_subject_are_gone(sample_database: Any, compiled: Any) -> None:
    """No data key that the entry names is left, so that no copy of a sealed part can be opened; others still open.

    Control: policy_engine/store/erasing.py: `self._writer.run(statements.DROP_DATA_KEY, key)`
    """
    with opened(sample_database, compiled) as (engine, people):
        numbers = leave_traces(engine, people)
        keys = {entry.data_key for entry in entries_of(engine) if entry.seq in numbers}
        erase(engine, people)
        marks = marks_of(engine.store)
        assert keys <= {mark.key for mark in marks.keys}
        assert [key for key in keys if engine.store.data_key(str(key)) is not None] == []
        assert [body["subject"] for body in opening(engine)] == ["chen"]


def opening(engine: Any) -> list[Any]:
    """Return the sealed bodies of the decisions that still have one."""
    with engine.store.view() as view:
        unsealer = Unsealer.over(engine.evidence._vault, view)
        found = [(entry, parse_public(entry.public)) for entry in view.scan_entries() if entry.sealed]
        return [unsealer.body(entry, public) for entry, public in found if public["kind"] == "decision"]


def test_replay_of_what_was_erased_says_so(sample_database: Any, compiled: Any) -> None:
    """Laws 5 and 6 answer `erased by entry N` for an erased decision, and the others replay as before.

    Control: policy_engine/services/walk.py: `status = PRUNED if gone.message.startswith(PRUNED) else ERASED`
    """
    with opened(sample_database, compiled) as (engine, people):
        numbers = leave_traces(engine, people)
        kept = [r.seq for r in decisions(engine) if r.seq not in numbers]
        by = erase(engine, people)
        log_id = entries_of(engine)[0].log_id
        for seq in numbers:
            found = engine.replay.one(people["auditor"], str(seq))
            assert (found.status, found.note) == ("erased", f"erased by entry {by} of log {log_id}")
        for seq in kept:
            assert engine.replay.one(people["auditor"], str(seq)).status == "same"


def test_who_comes_back_gets_a_fresh_key(sample_database: Any, compiled: Any) -> None:
    """After an erasure the same subject can be known and decided about again; nothing of before opens or returns.

    Control: policy_engine/services/datakeys.py: `if epoch > self._epoch:`
    """
    with opened(sample_database, compiled) as (engine, people):
        leave_traces(engine, people)
        erase(engine, people)
        engine.decider.decide(Request(SUBJECT, "infer", "fable-5", "acme", Location("US"), "US"), LOCAL)
        engine.facts.set_facts(people["operator"], "persons", SUBJECT, {"tenants": ["acme"]})
        decided = engine.decider.decide(Request(SUBJECT, "infer", "fable-5", "acme", Location("US"), "US"), LOCAL)
        row = engine.store.row("persons", SUBJECT)
        assert row is not None
        assert row.revision == len(FACTS) + 1, "no revision is ever given twice"
        assert "residence_country" not in row.document["facts"]
        assert not decided
        assert [body["subject"] for body in opening(engine)[-2:]] == [SUBJECT, SUBJECT]
        assert engine.evidence.verify().findings == ()
