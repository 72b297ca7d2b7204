"""Law 7: an auditor needs only the log and a public key.

Any edit, deletion, insertion, reordering or truncation behind a checkpoint is detected and located, offline, by a
program that shares no line with the engine. The whole battery is in `tests/verifier`; here each guard of it has its
own test.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_engine_verify.formats import key
from policy_engine_verify.report import Given
from tests.verifier import honest, tampering
from tests.verifier.tampering import Bench

EDITS = ("edited", "deleted", "inserted", "reordered", "cut")


@cache
def made(seed: int) -> honest.Honest:
    """Return one of a few honest logs."""
    return honest.make(seed, 40, writers=2, batch_max=8)


def edited(lines: list[bytes], way: str, place: int, bit: int) -> list[bytes]:
    """Return lines changed in one of the ways of the law; the place is taken within them."""
    found, at = list(lines), place % len(lines)
    if way == "edited":
        found[at] = tampering.flipped(found[at], bit % (8 * len(found[at])))
    elif way == "deleted":
        del found[at]
    elif way == "inserted":
        found.insert(at, found[bit % len(found)])
    elif way == "reordered":
        other = bit % len(found)
        found[at], found[other] = found[other], found[at]
    else:
        del found[at:]
    return found


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> list[Bench]:
    """Offer bundles of the honest logs."""
    return [Bench(tmp_path_factory.mktemp("law7") / str(seed), made(seed)) for seed in range(3)]


@given(st.integers(0, 2), st.sampled_from(EDITS), st.integers(0, 10**6), st.integers(0, 10**6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_law_7_entries(benches: list[Bench], seed: int, way: str, place: int, bit: int) -> None:
    """Whatever is done to the entries of a log is found, and the log is named.

    Control: verifier/policy_engine_verify/logs.py
    `own = root_of(hashes_behind(b"\\x00", lines)).hex() == header.root
    and len(lines) == header.n`
    """
    bench = benches[seed]
    log = max(bench.made.logs.values(), key=lambda log: len(log.entries))
    lines = edited(log.entries, way, place, bit)
    with bench.written({f"entries/{log.id}.jsonl": honest.lines(lines)}):
        found = bench.found()
    assert any(where.log == log.id for _, where in found) == (lines != log.entries)


@given(st.integers(0, 2), st.sampled_from(EDITS), st.integers(0, 10**6), st.integers(0, 10**6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_law_7_leaves(benches: list[Bench], seed: int, way: str, place: int, bit: int) -> None:
    """Whatever is done to the leaves of the tree is found, and a leaf is named."""
    bench = benches[seed]
    leaves = edited(bench.made.leaves, way, place, bit)
    with bench.written({"leaves.jsonl": honest.lines(leaves)}):
        found = bench.found()
    assert any(where.leaf is not None for _, where in found) == (leaves != bench.made.leaves)


def test_law_7_what_only_the_root_shows(benches: list[Bench]) -> None:
    """What no other leaf repeats is covered by the signed root: who opened a log, and the order between logs.

    Control: verifier/policy_engine_verify/check.py
    `if tree.size == stated.size and tree.root() != stated.root:`
    """
    bench = benches[0]
    first, second, *rest = bench.made.leaves
    assert b'"open"' in first and b'"open"' in second
    booted = json.loads(first)["boot"].encode()
    for leaves in ([second, first, *rest], [first.replace(booted, bytes(reversed(booted))), second, *rest]):
        with bench.written({"leaves.jsonl": honest.lines(leaves)}):
            found = bench.found()
        assert {where.leaf for _, where in found} == ({0, 1} if leaves[0] == second else {0})


def test_law_7_the_checkpoint_is_the_logs_word(benches: list[Bench]) -> None:
    """A checkpoint over another tree, under the signature of the true one, is refused.

    Control: verifier/policy_engine_verify/formats.py
    `if not all(each.signed(text, payload) for each, payload in found):`
    """
    bench = benches[0]
    cut = tampering.cut(bench.made, len(bench.made.leaves) - 2)
    text, line = cut.note(cosigned=False).split(b"\n\n")[0], bench.made.note(cosigned=False).split(b"\n\n")[1]
    members: dict[str, bytes | None] = {**cut.files(note=text + b"\n\n" + line)}
    with bench.written(members):
        found = bench.found()
    assert len(found) == 1 and "changed after it was signed" in found[0][0]


def test_law_7_no_history_is_exchanged(benches: list[Bench], tmp_path: Path) -> None:
    """Whoever recomputes everything with the stolen key is convicted by a checkpoint that somebody kept.

    Control: verifier/policy_engine_verify/beside.py
    `if tree.root() != root:`
    """
    log = max(made(1).logs.values(), key=lambda log: len(log.entries))
    forged = tampering.recomputed(made(1), log.id, 0, log.entries[0].replace(b'"v":1}', b'"v":1,"w":0}'))
    thief = Bench(tmp_path / "forged", forged)
    assert thief.found() == []
    kept = made(1).note(len(made(1).leaves))
    assert any("forked" in message for message, _ in thief.found(replace(thief.given, since=kept)))


def test_law_7_a_receipt_convicts(tmp_path: Path) -> None:
    """Whoever recomputes everything is convicted by a receipt that somebody kept, at the very entry.

    Control: verifier/policy_engine_verify/beside.py
    `if receipt.header_bytes != line:`
    """
    receipt = json.loads(made(2).receipts[0])
    header = json.loads(receipt["note"].split("\n")[1])
    entry = made(2).logs[header["log"]].entries[receipt["seq"]]
    forged = tampering.recomputed(made(2), header["log"], receipt["seq"], entry.replace(b'"v":1}', b'"v":1,"w":0}'))
    thief = Bench(tmp_path / "forged", forged)
    found = thief.found(Given(key(forged.key), receipts={"kept": made(2).receipts[0]}))
    assert [(where.log, where.batch, where.seq) for _, where in found] == [
        (header["log"], header["batch"], receipt["seq"])
    ]


def test_law_7_a_header_is_chained_to_the_one_before_it(tmp_path: Path) -> None:
    """A batch that was replaced before its tree was signed does not fit under the next header of its log.

    Control: verifier/policy_engine_verify/logs.py
    `if leaf.prev != tip.head:`
    """
    forged = made(0).copy()
    log = next(log for log in forged.logs.values() if len(log.headers) > 2)
    old = log.headers[0]
    log.entries[0] = log.entries[0].replace(b'"v":1}', b'"v":1,"w":0}')
    own = [honest.leaf_hash(line) for line in log.entries[: old.n]]
    log.headers[0] = replace(old, root=honest.root(own).hex())
    forged.leaves[forged.leaves.index(old.encode())] = log.headers[0].encode()
    found = Bench(tmp_path / "forged", forged).found()
    next_leaf = forged.leaves.index(log.headers[1].encode())
    assert [where.leaf for _, where in found] == [next_leaf]


def test_law_7_a_missing_body_is_not_explained_away(tmp_path: Path) -> None:
    """A body that was taken out is missing unless an entry of the log says that it went, and how many went with it.

    Control: verifier/policy_engine_verify/beside.py
    `if count > self._erased_count[(log, seq), key_of_row]:`
    """
    forged = honest.make(8, 300)
    claims = b"".join(entry for log in forged.logs.values() for entry in log.entries if b'"erases"' in entry)
    bodies = [body for log in forged.logs.values() for body in log.bodies.values() if body.key and not body.sealed]
    gone = next(body for body in bodies if str(body.key).encode() in claims)
    log = max(forged.logs.values(), key=lambda log: len(log.bodies))
    seq = next(seq for seq, body in log.bodies.items() if body.key and body.sealed)
    assert Bench(tmp_path / "honest", forged).found() == []
    log.bodies[seq] = honest.Body(gone.key, b"", [(str(gone.key), None)])
    found = Bench(tmp_path / "forged", forged).found()
    assert len(found) == 1 and "it erased fewer" in found[0][0]
