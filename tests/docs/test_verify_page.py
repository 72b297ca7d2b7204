"""The auditor's page, executed: its commands on a bundle of a made-up log say what stands under them."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from policy_engine.ledger.compact import CompactRange
from policy_engine.ledger.merkle import leaf_hash, paths
from policy_engine.ledger.prooffile import ProofFile
from policy_engine.ledger.proofs import LeafNodes, make_inclusion
from policy_engine.ledger.spelling import write_base64
from tests.docs import pages
from tests.verifier import honest

PAGE = pages.ROOT / "docs" / "verify.md"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offer what the page's reader has."""
    place = tmp_path_factory.mktemp("audit")
    made = honest.make(125, 600)
    honest.write_zip(made.files(), place / "bundle.zip")
    tampered = honest.write_folder(made.files(), place / "tampered")
    log = max(made.logs.values(), key=lambda log: len(log.entries))
    lines = [*log.entries]
    lines[20] = lines[20].replace(b'"v":1}', b'"v":2}')
    del lines[60]
    (tampered / f"entries/{log.id}.jsonl").write_bytes(honest.lines(lines))
    texts = {"log.key": made.key, "witness.key": made.witness_key}
    texts |= {"other.key": str(honest.signer("elsewhere.example").key)}
    for name, text in texts.items():
        (place / name).write_text(text + "\n")
    (place / "kept.checkpoint").write_bytes(made.note(40))
    (place / "kept.receipt.json").write_bytes(made.receipts[3])
    (place / "decision.tlog-proof").write_bytes(proof_of(made, log))
    return place


def proof_of(made: honest.Honest, log: honest.Log) -> bytes:
    """Return the proof of the first entry of a log."""
    header = log.headers[0].encode()
    index = made.leaves.index(header)
    path = paths([leaf_hash(entry) for entry in log.entries[: log.headers[0].n]])[0]
    extra = {"v": 1, "entry": log.entries[0].decode(), "header": header.decode(), "key": made.key}
    extra["path"] = [write_base64(hash) for hash in path]
    nodes = LeafNodes([leaf_hash(leaf) for leaf in made.leaves])
    inclusion = make_inclusion(index, len(made.leaves), nodes)
    return ProofFile(index, tuple(inclusion), made.note(), honest.canonical(extra)).format()


def shown() -> list[tuple[pages.Block, pages.Block | None]]:
    """Return each command of the page with the answer that stands under it, if one does."""
    found = pages.blocks(PAGE, "sh", "text")
    pairs = pairwise([*found, None])
    return [(one, two if two and two.language == "text" else None) for one, two in pairs if one.language == "sh"]


@pytest.mark.parametrize("place", range(len(shown())))
def test_each_command_says_what_is_shown(folder: Path, place: int) -> None:
    """Line by line; a shown line may end in `…`, and one that is only `…` stands for any number of lines."""
    question, answer = shown()[place]
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-c", question.text], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    wanted = [] if answer is None else answer.text.splitlines()
    bad = any("NOT VERIFIED" in line for line in wanted)
    assert (done.returncode, done.stderr) == (6 if bad else 0, "")
    said = done.stdout.splitlines()
    if answer is not None:
        assert unlike(wanted, said) == []


def unlike(wanted: list[str], said: list[str]) -> list[str]:
    """Return the lines that are not as they are shown."""
    if "…" in wanted:
        middle = wanted.index("…")
        tail = wanted[middle + 1 :]
        return unlike(wanted[:middle], said[:middle]) + unlike(tail, said[len(said) - len(tail) :])
    if len(wanted) != len(said):
        return [f"{len(wanted)} lines are shown: {said}"]
    pairs = zip(wanted, said, strict=True)
    return [two for one, two in pairs if not (two.startswith(one.split("…")[0]) and two.endswith(one.split("…")[-1]))]


def test_the_made_up_log_is_what_it_seems() -> None:
    """The bundle of this page comes from an honest log whose tree grows from the kept checkpoint."""
    made = honest.make(125, 600)
    tree = CompactRange()
    tree.extend(leaf_hash(leaf) for leaf in made.leaves)
    assert (len(made.leaves), sum(len(log.entries) for log in made.logs.values())) == (tree.end, 600)
