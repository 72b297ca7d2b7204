"""Bundles and proofs that the engine writes: the verifier, which shares no line with it, finds that they hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pysqlite3 import dbapi2

from policy_engine.api.answers import single
from policy_engine.core.decision import Request
from policy_engine.core.factparse import parse_location
from policy_engine.errors import Conflict, InputRefused, NotFound, VerificationFailed
from policy_engine.ledger.note import Ed25519Signer
from policy_engine.services.bundle import write_bundle
from policy_engine.services.bundletexts import OpenedTexts, release_files
from policy_engine.services.permissions import LOCAL
from policy_engine.services.prove import prove
from policy_engine.services.sequencer import Sequencer
from policy_engine_verify import cli

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine

SIGNER = Ed25519Signer("example.org/engine/log", bytes(range(32)))
KEY = str(SIGNER.key)


@pytest.fixture
def decided(engine: Engine) -> Engine:
    """Offer an engine whose log holds the sample world and some decisions, all in a signed tree."""
    for subject in ("alice", "eve", "mina", "dana", "alice"):
        engine.decider.decide(Request(subject, "infer", "fable-5", "acme", parse_location("US"), "US"), LOCAL)
    integrate(engine)
    return engine


def integrate(engine: Engine) -> None:
    """Take what is pending into the tree."""
    sequencer = getattr(engine, "sequencer", None) or Sequencer(engine.store, lambda state: SIGNER)
    sequencer.integrate()


def key_of(engine: Engine) -> str:
    """Return the key of the log."""
    return engine.store.tree_state().key


def verified(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the answer of the program."""
    code = cli.main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def texts_of(engine: Engine, view: Any) -> OpenedTexts:
    """Return what opens the bodies of an engine."""
    return OpenedTexts.over(engine.evidence._vault, view)


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_a_whole_bundle_verifies(
    decided: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Everything of a real log agrees: every entry, ciphertext, opened text and blob, as a folder and as a .zip."""
    with decided.store.view() as view:
        entries = sum(1 for _ in view.scan_entries())
        written = write_bundle(
            view, tmp_path / name, sealed=True, bodies=texts_of(decided, view), at=decided.store.now()
        )
    code, found = verified(capsys, tmp_path / name, "--key", key_of(decided))
    assert (code, found["ok"], found["findings"], found["partial"]) == (0, True, [], False)
    assert found["counts"]["entries"] == written.shown == written.entries == entries > 5
    assert found["counts"]["ciphertexts"] > 5 < found["counts"]["opened texts"]
    assert [path.name for path in tmp_path.iterdir() if "bundle" in path.name] == [name]


def test_a_policy_file_that_was_taken_out_is_missing(
    decided: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file of a release that a shown entry stored must be in the bundle; one that is not is named by its entry."""
    with decided.store.view() as view:
        write_bundle(view, tmp_path / "b", at=decided.store.now())
    min((tmp_path / "b" / "blobs").iterdir()).unlink()
    code, found = verified(capsys, tmp_path / "b", "--key", key_of(decided))
    assert (code, len(found["findings"])) == (6, 1)
    assert "missing from blobs/" in found["findings"][0]["message"]
    assert found["findings"][0]["seq"] is not None


def test_replayed_by_stock_casbin(decided: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every decision of an unsealed bundle that reached the rules comes out as it was recorded."""
    release = decided.snapshots.current().release
    assert release is not None
    with decided.store.view() as view:
        files = {release.hash: release_files(release)}
        write_bundle(view, tmp_path / "b", bodies=texts_of(decided, view), releases=files)
    code, found = verified(capsys, tmp_path / "b", "--key", key_of(decided), "--replay")
    replayed = found["replay"]
    assert (code, replayed["same"], replayed["differ"], replayed["left_out"]) == (0, 5, 0, 0), replayed
    assert list(replayed["releases"]) == [release.hash]


def test_a_forged_outcome_is_seen_by_replay(
    decided: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy that says otherwise than the one that decided gives other outcomes, and exit code 6."""
    release = decided.snapshots.current().release
    assert release is not None
    files = release_files(release)
    files["policy.csv"] = re.sub(rb", allow, ", b", deny, ", files["policy.csv"])
    with decided.store.view() as view:
        write_bundle(view, tmp_path / "b", bodies=texts_of(decided, view), releases={release.hash: files})
        allows = sum(json.loads(entry.public).get("outcome") == "allow" for entry in view.scan_entries())
    code, found = verified(capsys, tmp_path / "b", "--key", key_of(decided), "--replay")
    assert (code, found["ok"], found["replay"]["differ"]) == (6, False, allows)
    assert 0 < len(found["replay"]["places"]) == allows < 5


def test_a_period_shows_whole_batches_and_says_so(
    decided: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle of a period verifies, shows fewer entries, and says that it is a part."""
    with decided.store.view() as view:
        publics = [json.loads(entry.public) for entry in view.scan_entries()]
        since = publics[-3]["at"]
        written = write_bundle(view, tmp_path / "b", since=since, sealed=True)
    code, found = verified(capsys, tmp_path / "b", "--key", key_of(decided))
    assert (code, found["partial"], written.partial) == (0, True, True)
    assert found["counts"]["entries"] == written.shown == sum(public["at"] >= since for public in publics)


def test_a_bundle_is_there_whole_or_not_at_all(decided: Engine, tmp_path: Path) -> None:
    """An error on the way leaves nothing behind, a place that is taken is refused, and --force replaces it."""

    def failing(entry: Any, public: Any) -> Any:
        raise VerificationFailed("does not open")

    with decided.store.view() as view:
        with pytest.raises(VerificationFailed, match="does not open"):
            write_bundle(view, tmp_path / "b.zip", bodies=failing)
        assert [path.name for path in tmp_path.iterdir() if "b.zip" in path.name] == []
        write_bundle(view, tmp_path / "b.zip")
        with pytest.raises(Conflict, match="exists already"):
            write_bundle(view, tmp_path / "b.zip")
        write_bundle(view, tmp_path / "b.zip", force=True)
        with pytest.raises(InputRefused, match="cannot be written"):
            write_bundle(view, tmp_path / "absent" / "b.zip")
    assert [path.name for path in tmp_path.iterdir() if "b.zip" in path.name] == ["b.zip"]


def test_what_is_changed_in_the_database_is_found_in_its_bundle(
    decided: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever edits a stored entry behind the guards is convicted by the bundle made afterwards, at the very entry."""
    with decided.store.view() as view:
        last = list(view.scan_entries())[-1]
    with dbapi2.connect(decided.settings.database_path) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        edited = last.public.replace(b'"outcome":"allow"', b'"outcome":"deny!"')
        assert edited != last.public
        database.execute("UPDATE entries SET public = ? WHERE log_id = ? AND seq = ?", (edited, last.log_id, last.seq))
    with decided.store.view() as view:
        write_bundle(view, tmp_path / "b")
    code, found = verified(capsys, tmp_path / "b", "--key", key_of(decided))
    assert code == 6
    assert {(finding["log"], finding["seq"]) for finding in found["findings"]} == {(last.log_id, last.seq)}


def test_one_entry_with_its_proof(decided: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each entry of the log has a proof that the verifier accepts by itself, and a changed one that it does not."""
    with decided.store.view() as view:
        places = [(entry.log_id, entry.seq, entry.public) for entry in view.scan_entries()]
    for log_id, seq, public in places:
        proved = prove(decided.store, log_id, seq)
        file = tmp_path / "entry.tlog-proof"
        file.write_bytes(proved.file)
        code, found = verified(capsys, file, "--key", key_of(decided))
        assert (code, found["entry"], proved.entry) == (0, json.loads(public), public)
        assert found["proved"] == {"log": log_id, "batch": found["proved"]["batch"], "seq": seq}
    file.write_bytes(proved.file.replace(b"extra eyJ", b"extra eyK"))
    assert verified(capsys, file, "--key", key_of(decided))[0] == 6


def test_what_is_not_in_the_tree_has_no_proof(decided: Engine) -> None:
    """An entry that is pending, and one that does not exist, is refused with a sentence."""
    head = decided.store.head()
    assert head is not None
    decided.decider.decide(Request("alice", "infer", "fable-5", "acme", parse_location("US"), "US"), LOCAL)
    for seq in (head.next_seq, 10_000):
        with pytest.raises(NotFound, match="not in the tree"):
            prove(decided.store, head.log_id, seq)


def test_receipts_of_answers(engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a caller kept of an allow, by itself or as the whole answer, is found in the log; a forged one is not."""
    asked = Request("alice", "infer", "fable-5", "acme", parse_location("US"), "US")
    decision = engine.decider.decide(asked, LOCAL)
    receipt = decision.receipt
    assert decision.allowed and receipt is not None
    integrate(engine)
    with engine.store.view() as view:
        write_bundle(view, tmp_path / "b")
    kept = {"alone": json.dumps(receipt, indent=2), "answer": single(decision).decode()}
    kept["forged"] = json.dumps({**receipt, "seq": receipt["seq"] - 1})
    for name, text in kept.items():
        (tmp_path / name).write_text(text)
        code, found = verified(capsys, tmp_path / "b", "--key", key_of(engine), "--receipt", tmp_path / name)
        assert (code, found["counts"]["receipts"]) == (6 if name == "forged" else 0, 1), found["findings"]
