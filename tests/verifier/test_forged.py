"""Bundles made by somebody who wants to be believed: the manifest and what lies beside the log are whatever they wrote.

Nothing of these is signed, so each may say anything; none may hide a line that the log does not have, or a paper that
speaks against it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from policy_engine.ledger.receipts import make_receipts, sign_batch
from policy_engine_verify import cli, limits
from policy_engine_verify.formats import key
from policy_engine_verify.report import Given
from tests.verifier import honest
from tests.verifier.tampering import Bench, recomputed
from tests.verifier.test_prove import Shelf, prove

MADE = honest.make(73, 200, batch_max=16)
LOG = max(MADE.logs.values(), key=lambda log: len(log.entries))
ENTRIES = f"entries/{LOG.id}.jsonl"
BEGUN = [header.first for header in LOG.headers]
"""The first entries of the batches of the log."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Offer a bundle of public parts; whoever changes it puts it right again."""
    return Bench(tmp_path_factory.mktemp("forged") / "bundle", MADE, sealed=False)


def shown(bench: Bench, ranges: list[list[int]], log_id: str = LOG.id) -> bytes:
    """Return the manifest with other ranges of a log shown."""
    manifest = json.loads(bench.files["manifest.json"])
    for each in manifest["logs"]:
        if each["log"] == log_id:
            each["shown"] = ranges
    return honest.canonical(manifest)


def forged(count: int) -> list[bytes]:
    """Return so many allows that nobody recorded."""
    members = json.loads(next(line for line in LOG.entries if b'"kind":"decision"' in line))
    return [honest.canonical({**members, "id": f"{number:032x}", "outcome": "allow"}) for number in range(count)]


def found_with(bench: Bench, ranges: list[list[int]], lines: list[bytes]) -> list[str]:
    """Return what is said of a bundle that shows these ranges, with these lines as the entries of the log."""
    with bench.written({"manifest.json": shown(bench, ranges), ENTRIES: honest.lines(lines)}):
        return [message for message, _ in bench.found()]


@pytest.mark.parametrize("before", [[[-3, 0]], [[-3, -1], [-1, 0]], [[0, 0], [-1, 0]]])
def test_no_line_is_put_in_by_a_range_before_the_first_entry(bench: Bench, before: list[list[int]]) -> None:
    """Three lines in front, and a range that begins below zero to account for them."""
    whole = len(LOG.entries)
    assert found_with(bench, [*before, [0, whole]], forged(3) + LOG.entries)
    assert found_with(bench, [[-3, whole]], forged(3) + LOG.entries)


@pytest.mark.parametrize("place", BEGUN[1:4])
def test_no_line_is_put_in_by_ranges_that_overlap(bench: Bench, place: int) -> None:
    """A range that is there twice accounts for lines between two batches."""
    lines = [*LOG.entries[:place], *forged(2), *LOG.entries[place:]]
    for ranges in ([[0, 2], [0, len(LOG.entries)]], [[0, place], [place - 2, len(LOG.entries)]]):
        assert found_with(bench, ranges, lines)


@pytest.mark.parametrize("number", range(1, 4))
def test_no_line_is_put_in_the_place_of_a_batch(bench: Bench, number: int) -> None:
    """A range that begins within a batch shows lines that no header vouches for.

    Control: verifier/policy_engine_verify/check.py
    `if passed and not self.report.findings:`
    """
    first, end = BEGUN[number], BEGUN[number] + LOG.headers[number].n
    if end - first < 2:
        first, end = BEGUN[number], BEGUN[number + 1] + LOG.headers[number + 1].n
    hidden = forged(end - first - 1)
    lines = [*LOG.entries[:first], *hidden, *LOG.entries[end:]]
    found = found_with(bench, [[0, first], [first + 1, len(LOG.entries)]], lines)
    assert any("not whole batches" in message for message in found), found


def test_a_part_of_whole_batches_is_a_part(bench: Bench) -> None:
    """Ranges that begin and end with batches, some of them empty, are honest; what they leave out is not shown."""
    first, end = BEGUN[2], BEGUN[5]
    lines = [*LOG.entries[:first], *LOG.entries[end:]]
    assert found_with(bench, [[0, first], [first, first], [end, len(LOG.entries)]], lines) == []


def test_a_receipt_that_was_kept_is_not_replaced_by_one_of_its_name(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The auditor's own convicts a log that was recomputed, whatever lies in the bundle under the same name.

    Control: verifier/policy_engine_verify/beside.py
    `for name, data in (*self._given.receipts.items(), *inside):`
    """
    kept = {json.loads(json.loads(each)["note"].split("\n")[1])["log"]: each for each in MADE.receipts}
    log_id, harmless = LOG.id, next(each for log_id, each in kept.items() if log_id != LOG.id)
    seq = json.loads(kept[log_id])["seq"]
    other = honest.canonical({**json.loads(MADE.logs[log_id].entries[seq]), "id": "f" * 32})
    thief = recomputed(MADE, log_id, seq, other)
    monkeypatch.chdir(tmp_path)
    Path("receipts").mkdir()
    Path("receipts/mine.json").write_bytes(kept[log_id])
    for members in ({}, {"receipts/mine.json": harmless}):
        folder = honest.write_folder(thief.files(sealed=False) | members, tmp_path / f"b{len(members)}")
        assert cli.main([str(folder), "--key", MADE.key, "--receipt", "receipts/mine.json"]) == 6


def test_a_proof_in_a_bundle_is_of_its_tree(bench: Bench) -> None:
    """One of the log's own is counted; one of another history that the same key signed is a fork, and named.

    Control: verifier/policy_engine_verify/beside.py
    `if (proved.header_bytes, proved.leaf) != (line, number):`
    """
    name = "proofs/mine.tlog-proof"
    seq = BEGUN[2]
    own = prove(Shelf(MADE), LOG.id, seq).file  # type: ignore[arg-type]  # what is used of it
    changed = honest.canonical({**json.loads(LOG.entries[seq]), "id": "f" * 32})
    fork = recomputed(MADE, LOG.id, seq, changed)
    other = honest.make(74, 60)
    theirs = max(other.logs.values(), key=lambda log: len(log.entries))
    papers = [
        (own, []),
        (prove(Shelf(fork), LOG.id, seq).file, ["checkpoint", "signed another batch"]),  # type: ignore[arg-type]  # as above
        (prove(Shelf(other), theirs.id, 0).file, ["its batch is not in the tree"]),  # type: ignore[arg-type]  # as above
    ]
    for paper, words in papers:
        honest.write_folder({name: paper}, bench.folder)
        said = [message for message, _ in bench.found() if name in message]
        (bench.folder / name).unlink()
        assert len(said) >= len(words) and all(any(word in each for each in said) for word in words), said
        assert bool(said) == bool(words)
    assert bench.found() == []


@pytest.mark.parametrize("folder", ["bodies", "sealed"])
def test_nothing_is_said_of_entries_that_are_not_shown(tmp_path: Path, folder: str) -> None:
    """Opened bodies and ciphertexts beside a log of which no entry is shown belong to nobody."""
    bench = Bench(tmp_path / "b", MADE, bodies=True)
    with bench.written({"manifest.json": shown(bench, []), ENTRIES: b""}):
        found = bench.found()
    said = [message for message, where in found if where.log == LOG.id and f"{folder}/" in message]
    assert len(said) == 1 and "not shown" in said[0]


def test_lines_of_no_batch_have_an_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are counted; more of them than a batch has are refused, for to look at each would take hours."""
    monkeypatch.setattr(limits, "BATCH_ENTRIES_COUNT", 500)
    for count, word in ((400, "400 lines before or in it"), (501, "over 500 lines of log")):
        with bench.written({ENTRIES: b"x\n" * count + bench.files[ENTRIES]}):
            assert [word in message for message, _ in bench.found()] == [True]


def test_the_auditors_key_and_checkpoint_stand_over_the_bundle(bench: Bench) -> None:
    """What is given is believed, and what the manifest says of it is not."""
    since = MADE.note(len(MADE.leaves) // 2)
    assert bench.found(Given(key(MADE.key), since=since)) == []
    forked = recomputed(MADE, LOG.id, 0, forged(1)[0])
    said = [message for message, _ in bench.found(Given(key(MADE.key), since=forked.note(len(MADE.leaves))))]
    assert len(said) == 1 and "forked" in said[0]


@pytest.mark.parametrize("folder", ["bodies", "sealed"])
def test_no_log_is_passed_over_by_taking_its_file_out(tmp_path: Path, folder: str) -> None:
    """What is shown of one log is shown of each: without the file of one, each of its bodies is missing."""
    bench = Bench(tmp_path / "b", MADE, bodies=True)
    with bench.written({f"{folder}/{LOG.id}.jsonl": None}):
        found = bench.found()
    assert found and all("the body is missing" in message and where.log == LOG.id for message, where in found)
    assert bench.found() == []


def test_a_bundle_that_calls_itself_unsealed_shows_bodies(tmp_path: Path) -> None:
    """Without any of them it does not show what its manifest says, and every log that has some lacks them."""
    bench = Bench(tmp_path / "b", MADE, bodies=True)
    with bench.written({name: None for name in bench.files if name.startswith("bodies/")}):
        missing = {where.log for message, where in bench.found() if "is missing" in message}
    assert missing == {
        log.id for log in MADE.logs.values() if any(text for b in log.bodies.values() for _, text in b.texts)
    }


def receipts_of(outcome: str) -> tuple[honest.Honest, bytes, dict[str, object]]:
    """Return a log, the receipt that its writer signed of a decision with this outcome, and the entry."""
    made = honest.Maker(5, 1, 32)
    log = made.writers[0]
    made.commit(log, ["decision"] * 30)
    seq = next(seq for seq, line in enumerate(log.entries) if f'"outcome":"{outcome}"'.encode() in line)
    note = sign_batch(log.headers[0].encode(), 2_000, honest.signer(log.writer))
    (receipt,) = make_receipts(note, 0, [honest.leaf_hash(line) for line in log.entries], {seq: 1_500})
    return made.made, receipt.encode(), json.loads(log.entries[seq])


@pytest.mark.parametrize("within", [True, False])
def test_a_receipt_of_what_was_recorded_as_a_deny(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], within: bool
) -> None:
    """Somebody was told allow and the log says deny: the receipt is signed and in its batch, and convicts the log."""
    for outcome, code in (("allow", 0), ("deny", 6)):
        made, receipt, _ = receipts_of(outcome)
        folder = honest.write_folder(
            made.files() | ({"receipts/a.json": receipt} if within else {}), tmp_path / outcome
        )
        (tmp_path / "kept").write_bytes(receipt)
        kept = () if within else ("--receipt", str(tmp_path / "kept"))
        assert cli.main([str(folder), "--key", made.key, *kept]) == code
        assert ("the entry is no allow" in capsys.readouterr().out) == (outcome == "deny")


def test_a_receipt_of_another_decision_than_its_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An answer that holds the receipt of somebody else's allow has no entry of its own, and that is found."""
    made, receipt, entry = receipts_of("allow")
    folder = honest.write_folder(made.files(), tmp_path / "b")
    for id, code in ((entry["id"], 0), ("f" * 32, 6), (None, 0), (7, 6)):
        answer = {"decision": True, "context": {"id": id, "receipt": json.loads(receipt)}}
        (tmp_path / "answer").write_text(json.dumps(answer))
        assert cli.main([str(folder), "--key", made.key, "--receipt", str(tmp_path / "answer")]) == code
        assert ("named another decision" in capsys.readouterr().out) == (code == 6)


def test_many_ranges_are_not_gone_through_for_every_batch(bench: Bench) -> None:
    """A manifest of a million ranges, most of them empty, would else keep an auditor for hours: calls are counted."""
    ranges, calls = 20_000, [0]
    assert len(LOG.headers) > 12

    def count(*event: object) -> None:
        calls[0] += 1

    with bench.written({"manifest.json": shown(bench, [[0, 0]] * ranges + [[0, len(LOG.entries)]])}):
        sys.setprofile(count)
        try:
            found = bench.found()
        finally:
            sys.setprofile(None)
    assert found == [] and calls[0] < 12 * ranges
