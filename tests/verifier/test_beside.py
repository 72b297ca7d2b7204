"""What lies beside the log: odd lines of ciphertexts and opened bodies, and receipts of logs that name no key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policy_engine.ledger.leaves import Opened, parse_leaf
from policy_engine.ledger.receipts import make_receipts, sign_batch
from policy_engine_verify.formats import key
from policy_engine_verify.report import Given
from tests.verifier import honest
from tests.verifier.tampering import Bench

MADE = honest.make(61, 150, batch_max=16)
LOG = max(MADE.logs.values(), key=lambda log: len(log.entries))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Offer an unsealed bundle; whoever changes it puts it right again."""
    return Bench(tmp_path_factory.mktemp("beside") / "bundle", MADE, bodies=True)


def rewritten(data: bytes, change: Callable[[dict[str, Any]], object], place: int = 3) -> bytes:
    """Return lines of which one has other members."""
    lines = data.splitlines()
    members = json.loads(lines[place])
    change(members)
    lines[place] = honest.canonical(members)
    return honest.lines(lines)


@pytest.mark.parametrize(
    ("folder", "change", "word"),
    [
        ("sealed", lambda m: m.update(sealed=m["sealed"].rstrip("=") + "!"), "ciphertext"),
        ("sealed", lambda m: m.update(sealed=m["sealed"][:-4]), "ciphertext"),
        ("sealed", lambda m: m.update(more=1), "no ciphertext in its one spelling"),
        ("sealed", lambda m: m.update(seq=-1), "no ciphertext in its one spelling"),
        ("sealed", lambda m: m.update(key=7), "no ciphertext in its one spelling"),
        ("bodies", lambda m: m.update(more=1), "other members"),
        ("bodies", lambda m: m.update(seq="3"), "other members"),
        ("bodies", lambda m: m.update(texts=[*m["texts"], None]), "a key for each text"),
        ("bodies", lambda m: m.update(texts=[*m["texts"], None], keys=[*m["keys"], None]), "another number of texts"),
        ("bodies", lambda m: m.update(texts=["?"] * len(m["texts"])), "is not base64"),
        ("bodies", lambda m: m.update(texts=["AAAA"] * len(m["texts"])), "not the one that the entry committed to"),
    ],
)
def test_odd_lines(bench: Bench, folder: str, change: Callable[[dict[str, Any]], object], word: str) -> None:
    """A line that is not as it should be is a finding at its entry, and the lines behind it still count."""
    name = f"{folder}/{LOG.id}.jsonl"
    with bench.written({name: rewritten(bench.files[name], change)}):
        found = bench.found()
    assert found and all(where.log in (LOG.id, None) for _, where in found)
    assert any(word in message for message, _ in found), found


@pytest.mark.parametrize("shown", [None, 5, [[0]], [["a", 3]], "all", [[0, None]]])
def test_a_manifest_that_says_nothing(bench: Bench, shown: object) -> None:
    """A manifest that does not say which entries it shows is refused."""
    manifest = json.loads(bench.files["manifest.json"])
    for each in manifest["logs"]:
        each["shown"] = shown
    with bench.written({"manifest.json": json.dumps(manifest).encode()}):
        assert [message for message, _ in bench.found()] == ["the manifest does not say which entries are shown"]


def test_what_an_entry_erases_must_be_readable(tmp_path: Path) -> None:
    """An entry whose `erases` or `prunes` is nothing that anybody can read is a finding."""
    for number, odd in enumerate(({"erases": 5}, {"erases": {"keys": []}}, {"prunes": {"ranges": [[1]]}})):
        made = honest.Maker(1, 1, 4)
        made.commit(made.writers[0], ["decision"])
        made.gone = lambda kind, odd=odd: odd  # type: ignore[method-assign,misc]  # what a bad writer would write
        made.commit(made.writers[0], ["pruned" if "prunes" in odd else "erased"])
        found = Bench(tmp_path / str(number), made.made).found()
        assert [(where.seq, "cannot be read" in message) for message, where in found] == [(1, True)]


def test_a_receipt_of_a_log_without_a_key(tmp_path: Path) -> None:
    """Where the log names no key for receipts, nobody can tell who signed one, and that is said."""
    made = honest.make(62, 30, writers=1, gone=False)
    log = next(iter(made.logs.values()))
    opened = parse_leaf(made.leaves[0])
    assert isinstance(opened, Opened)
    made.leaves[0] = replace(opened, key=None).encode()
    header = log.headers[0]
    own = [honest.leaf_hash(entry) for entry in log.entries[: header.n]]
    note = sign_batch(header.encode(), 2_000, honest.signer("anybody.example"))
    (receipt,) = make_receipts(note, 0, own, {0: 1_000})
    found = Bench(tmp_path / "b", made).found(Given(key(made.key), receipts={"kept": receipt.encode()}))
    assert [("names no key" in message, where.seq) for message, where in found] == [(True, 0)]


def test_files_of_a_log_that_is_not_there(bench: Bench) -> None:
    """Files of a log that no leaf speaks of, and a blob under another name, are findings."""
    extra = {f"{folder}/{'0' * 16}.jsonl": b"x\n" for folder in ("entries", "sealed", "bodies")}
    extra[f"blobs/{'0' * 64}"] = b"x"
    honest.write_folder(extra, bench.folder)
    found = [message for message, _ in bench.found()]
    for name in extra:
        (bench.folder / name).unlink()
    assert sum("a log that has no batch" in message for message in found) == 3
    assert sum("does not hash to its name" in message for message in found) == 1
    assert bench.found() == []
