"""The tamper battery: whatever is changed behind a checkpoint is found, and its place is named. 100% or red."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from policy_engine.ledger.compact import CompactRange
from policy_engine.ledger.merkle import leaf_hash
from policy_engine_verify import logs, tree
from policy_engine_verify.formats import key
from policy_engine_verify.locate import where
from policy_engine_verify.report import Given
from tests.verifier import honest, tampering
from tests.verifier.tampering import Bench, flipped, line_of

SMALL = {"seed": 11, "entries": 200, "batch_max": 8}
LARGE = {"seed": 12, "entries": 10_000, "batch_max": 32}
WHOLE = [(SMALL, 2_000, 14), *(pytest.param(LARGE, 2_500, seed, marks=pytest.mark.nightly) for seed in range(15, 19))]
"""Each log with how many bits of it the whole program looks for, and the seed; 10,000 of the large one in all."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Offer the bundle of a log of 200 entries; whoever changes it puts it right again."""
    return Bench(tmp_path_factory.mktemp("tamper") / "bundle", honest.make(**SMALL))


def headers_of(made: honest.Honest) -> list[tuple[honest.Log, logs.Header]]:
    """Return each log with each of its headers, read by the verifier."""
    found = [(log, logs.parse_leaf(header.encode())) for log in made.logs.values() for header in log.headers]
    return [(log, header) for log, header in found if isinstance(header, logs.Header)]


def check_flip(log: honest.Log, header: logs.Header, number: int, bit: int) -> None:
    """Turn a bit of one entry: its batch does not have the root any more, and the entry is named."""
    lines = log.entries[header.first : header.first + header.n]
    hashes = [leaf_hash(line) for line in lines]
    lines[number] = flipped(lines[number], bit)
    same, _, _ = logs.check_batch(header, lines, every=False)
    assert not same
    assert [seq for seq, _ in where(header, lines, hashes)] == [header.first + number]


def check_flip_of_leaf(made: honest.Honest, number: int, bit: int, root: bytes) -> None:
    """Turn a bit of one leaf: the tree does not have the root any more."""
    hashes = [leaf_hash(leaf) for leaf in made.leaves]
    hashes[number] = tree.leaf_hash(flipped(made.leaves[number], bit))
    assert tree.root_of(hashes) != root


@pytest.mark.nightly
def test_every_bit_of_a_small_log() -> None:
    """No single bit of 200 entries, of their headers and of the other leaves can be turned without being found."""
    made = honest.make(**SMALL)
    count = 0
    for log, header in headers_of(made):
        for number in range(header.n):
            for bit in range(8 * len(log.entries[header.first + number])):
                check_flip(log, header, number, bit)
                count += 1
    grown = CompactRange()
    grown.extend(leaf_hash(leaf) for leaf in made.leaves)
    for number, leaf in enumerate(made.leaves):
        for bit in range(8 * len(leaf)):
            check_flip_of_leaf(made, number, bit, grown.root())
            count += 1
    assert count == 8 * sum(map(len, [*made.leaves, *(entry for log in made.logs.values() for entry in log.entries)]))


@pytest.mark.parametrize("flips", [3_000, pytest.param(1_000_000, marks=pytest.mark.nightly)])
def test_sampled_bits_of_a_large_log(flips: int) -> None:
    """Bits of 10,000 entries, a million of them every night: each is found by the batch check on the stored bytes."""
    made, random = honest.make(**LARGE), Random(13)
    headers = headers_of(made)
    for _ in range(flips):
        log, header = headers[random.randrange(len(headers))]
        number = random.randrange(header.n)
        check_flip(log, header, number, random.randrange(8 * len(log.entries[header.first + number])))


@pytest.mark.parametrize(("log", "flips", "seed"), WHOLE)
def test_bits_by_the_whole_program(tmp_path: Path, log: dict[str, int], flips: int, seed: int) -> None:
    """A bit turned in any file of the bundle that holds evidence is found, and the line that it lies in is named.

    Of the large log the public parts are read only: ciphertexts are turned in the small one.
    """
    bench, random = Bench(tmp_path / "bundle", honest.make(**log), sealed=log is SMALL), Random(seed)
    bench.given = Given(key(bench.made.key), [key(bench.made.witness_key)], 1)
    assert bench.found() == []
    evidence = [name for name in bench.files if not name.startswith(("hashes", "manifest", "blobs"))]
    weights = [len(bench.files[name]) for name in evidence]
    for name in random.choices(evidence, weights, k=flips):
        data = bench.files[name]
        bit = random.randrange(8 * len(data))
        if name.startswith("sealed") and is_idle_key(bench.made, name, data, bit // 8):
            continue
        with bench.written({name: flipped(data, bit)}):
            places = [place for _, place in bench.found()]
        assert places, (name, bit)
        if not names(places, name, data, bit):
            pytest.fail(f"{name}, bit {bit}: found, and its place was not named")


def is_idle_key(made: honest.Honest, name: str, data: bytes, place: int) -> bool:
    """Return whether a byte of the ciphertexts lies in the name of a data key from which nothing follows.

    Nobody vouches for that name. It is looked at only where a body is gone that no pruning explains.
    """
    start = data.rfind(b"\n", 0, place) + 1
    line = data[start : data.find(b"\n", place)]
    if not 7 <= place - start < line.find(b',"sealed"'):
        return False
    members, log = json.loads(line), name.split("/")[1].removesuffix(".jsonl")
    entries = (json.loads(entry) for each in made.logs.values() for entry in each.entries if b'"prunes":{' in entry)
    ranges = [part for entry in entries for part in entry["prunes"]["ranges"]]
    pruned = any(of == log and first <= members["seq"] < end for of, first, end in ranges)
    return pruned or members["sealed"] != ""


def names(places: list[tampering.Place], name: str, data: bytes, bit: int) -> bool:
    """Return whether findings name the place of a bit: the leaf, or the entry and its log; the checkpoint has none."""
    line = line_of(data, bit // 8)
    if name == "checkpoint":
        return True
    if name == "leaves.jsonl":
        return any(place.leaf is not None and abs(place.leaf - line) <= 1 for place in places)
    log = name.split("/")[1].removesuffix(".jsonl")
    if name.startswith("sealed"):
        line = json.loads(data.split(b"\n")[line])["seq"]
        return any(place == tampering.Place() or place.log == log for place in places)
    return any(place.log == log and place.seq is not None and abs(place.seq - line) <= 1 for place in places)


# Lines that are taken out, doubled, swapped or put in


@pytest.mark.parametrize("rounds", [60, pytest.param(2_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("way", ["deleted", "doubled", "swapped", "inserted", "cut"])
def test_lines_of_entries(bench: Bench, way: str, rounds: int) -> None:
    """Entries that were deleted, doubled, swapped, inserted or cut off are found, at their place."""
    for round in range(rounds):
        random = Random(f"{way} {round}")
        log = random.choice([log for log in bench.made.logs.values() if len(log.entries) > 3])
        lines, place = list(log.entries), random.randrange(len(log.entries) - 1)
        if way == "deleted":
            del lines[place]
        elif way == "doubled":
            lines.insert(random.randrange(len(lines)), lines[place])
        elif way == "swapped":
            other = random.randrange(place + 1, len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        elif way == "inserted":
            lines.insert(place, lines[place].replace(b'"v":1}', b'"v":1 }'))
        else:
            del lines[place:]
        name = f"entries/{log.id}.jsonl"
        with bench.written({name: honest.lines(lines)}):
            every = bench.found()
        found = [each for each in every if "the body is missing" not in each[0]]  # of an erasure that was taken out
        assert found and all(where.log == log.id for _, where in found)
        if way == "deleted":
            assert ("the entry is missing", place) in {(message, where.seq) for message, where in found}
        if way == "cut":
            missing = {where.seq for message, where in found if message == "the entry is missing"}
            assert missing == set(range(place, len(log.entries)))
        assert len(found) < 20 or way == "cut"  # the rest of the log is not blamed


@pytest.mark.parametrize("rounds", [40, pytest.param(2_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("way", ["deleted", "doubled", "swapped", "cut", "of another log"])
def test_lines_of_leaves(bench: Bench, way: str, rounds: int) -> None:
    """Leaves that were deleted, doubled, swapped, cut off or replaced are found, at their place or behind it."""
    for round in range(rounds):
        random = Random(f"{way} {round}")
        leaves, place = list(bench.made.leaves), random.randrange(len(bench.made.leaves) - 1)
        if way == "deleted":
            del leaves[place]
        elif way == "doubled":
            leaves.insert(random.randrange(len(leaves)), leaves[place])
        elif way == "swapped":
            leaves[place], leaves[place + 1] = leaves[place + 1], leaves[place]
        elif way == "cut":
            del leaves[place:]
        else:
            leaves[place] = honest.make(99, 50).leaves[3]
        with bench.changed(leaves=honest.lines(leaves)):
            found = bench.found()
        assert any(where.leaf is not None for _, where in found), found


# Whole logs, older copies, ciphertexts


def test_a_whole_log_is_removed(bench: Bench) -> None:
    """A log that is taken out with all its leaves is missed, even where the manifest does not mention it any more."""
    for log_id in bench.made.logs:
        forged = tampering.without_log(bench.made, log_id)
        members: dict[str, bytes | None] = dict(forged.files(note=bench.files["checkpoint"]))
        gone = {name: None for name in bench.files if log_id in name}
        with bench.written(members | gone):
            assert any(where.leaf == len(forged.leaves) for _, where in bench.found())


def test_an_older_copy_is_put_in_place(tmp_path: Path) -> None:
    """An older copy verifies by itself, as it must, and is found by whoever kept a younger checkpoint."""
    made = honest.make(**SMALL, gone=False)
    older = Bench(tmp_path / "older", tampering.cut(made, len(made.leaves) - 5))
    assert older.found() == []
    found = older.found(replace(older.given, since=made.note()))
    assert len(found) == 1 and "rolled back" in found[0][0]


def test_the_tail_is_cut_behind_a_checkpoint(bench: Bench, tmp_path: Path) -> None:
    """Taking away the last leaves and entries is found at the first one that is gone, while the checkpoint stands."""
    for count in (1, 2, 7, len(bench.made.leaves) - 1):
        cut = tampering.cut(bench.made, len(bench.made.leaves) - count)
        found = Bench(tmp_path / str(count), cut)
        (found.folder / "checkpoint").write_bytes(bench.files["checkpoint"])
        assert any(where.leaf == len(cut.leaves) for _, where in found.found())


def test_ciphertexts(bench: Bench) -> None:
    """A ciphertext that is replaced, swapped, emptied or taken out is found at its entry; so is one too many."""
    log = max(bench.made.logs.values(), key=lambda log: len(log.bodies))
    seqs = [seq for seq, body in log.bodies.items() if body.sealed and body.key]
    name = f"sealed/{log.id}.jsonl"

    def found(bodies: dict[int, honest.Body]) -> set[int | None]:
        data = honest.lines(honest.sealed_line(seq, bodies[seq]) for seq in bodies)
        with bench.written({name: data}):
            return {place.seq for _, place in bench.found() if place.log == log.id}

    assert len(seqs) > 20
    for one, two in zip(seqs[:20:2], seqs[1:20:2], strict=True):
        body = log.bodies[one]
        assert found(log.bodies | {one: replace(body, sealed=flipped(body.sealed, 70))}) == {one}
        assert found(log.bodies | {one: log.bodies[two], two: body}) == {one, two}
        assert found({seq: body for seq, body in log.bodies.items() if seq != one}) == {one}
        unknown = replace(body, sealed=b"", key="ff" * 16)
        assert found(log.bodies | {one: unknown}) == {one}
    assert found(log.bodies | {len(log.entries): log.bodies[seqs[0]]}) == {None}


def test_a_body_is_not_hidden_behind_an_erasure(tmp_path: Path) -> None:
    """A body that was taken out and claimed to be erased is one too many for the entry that erased, and is found."""
    for seed in range(40):
        made = honest.make(seed, 300)
        erased = next(
            (body for log in made.logs.values() for body in log.bodies.values() if body.key and not body.sealed), None
        )
        log = max(made.logs.values(), key=lambda log: len(log.entries))
        seq, body = next((seq, body) for seq, body in log.bodies.items() if body.key and body.sealed)
        if erased is None or not any(
            b'"erases"' in entry and str(erased.key).encode() in entry
            for each in made.logs.values()
            for entry in each.entries
        ):
            continue
        log.bodies[seq] = replace(body, key=erased.key, sealed=b"")
        assert len(Bench(tmp_path / str(seed), made).found()) == 1


@pytest.mark.parametrize("first", ["erased", "pruned"])
def test_a_pruning_makes_no_room_behind_an_erasure(tmp_path: Path, first: str) -> None:
    """A body that was erased and lies in what was pruned later is one of those that the erasure counted.

    Otherwise as many others could be taken out under its key. What was pruned before is none of them.
    """
    maker = honest.Maker(8, 1, 64)
    log, made = maker.writers[0], maker.made
    maker.commit(log, ["decision"] * 60)
    name = log.bodies[0].key
    own = [seq for seq, body in log.bodies.items() if body.key == name]

    def gone(kind: str) -> dict[str, object]:
        seqs = [seq for seq in own if log.bodies[seq].sealed]
        if kind == "pruned":
            seqs = [seq for seq in range(30) if log.bodies[seq].sealed]
        for seq in seqs:
            log.bodies[seq] = honest.Body(log.bodies[seq].key, b"", [(str(log.bodies[seq].key), None)])
        if kind == "pruned":
            return {"prunes": {"before": maker.at, "ranges": [[log.id, 0, 30]], "bodies": len(seqs)}}
        return {"erases": {"keys": [name], "rows": [], "bodies": len(seqs)}}

    maker.gone = gone  # type: ignore[method-assign]  # one person and one range, in either order
    for kind in (first, "pruned" if first == "erased" else "erased"):
        maker.commit(log, [kind])
    assert Bench(tmp_path / "honest", made).found() == []
    hidden = next(seq for seq, body in log.bodies.items() if seq >= 30 and body.sealed)
    erasure = next(seq for seq, entry in enumerate(log.entries) if b'"kind":"erased"' in entry)
    log.bodies[hidden] = replace(log.bodies[hidden], key=name, sealed=b"")
    assert [place.seq for _, place in Bench(tmp_path / "hidden", made).found()] == [erasure]


def test_two_erasures_of_one_person_in_any_order_of_the_tree(tmp_path: Path) -> None:
    """Leaves of several logs stand in the tree as they were taken in, which need not be the order of their time."""
    maker = honest.Maker(8, 2, 64)
    made, (one, other) = maker.made, maker.writers
    name = "ab" * 16

    def gone(kind: str) -> dict[str, object]:
        found = [(log, seq) for log in (one, other) for seq, body in log.bodies.items() if body.key and body.sealed]
        for log, seq in found:
            log.bodies[seq] = honest.Body(name, b"", [(name, None)])
        return {"erases": {"keys": [name], "rows": [], "bodies": len(found)}}

    maker.gone = gone  # type: ignore[method-assign]  # all bodies are one person's, whose key is made anew
    maker.commit(one, ["decision"] * 5)
    maker.commit(one, ["erased"])
    maker.commit(other, ["decision"] * 3)
    maker.commit(other, ["erased"])
    before = [*made.leaves]
    made.leaves.sort(key=lambda leaf: json.loads(leaf)["log"] == one.id)
    assert made.leaves != before
    assert Bench(tmp_path / "b", made).found() == []


@pytest.mark.parametrize("what", ["a decision", "a row"])
def test_the_key_of_an_erased_row_hides_nothing_else(what: str, tmp_path: Path) -> None:
    """A row's key accounts for no decision, and for no more rows than it had revisions: what else is gone is found."""
    made = honest.make(3, 400)
    log, end, row = next(
        (log, seq, key_id)
        for log in made.logs.values()
        for seq, entry in enumerate(log.entries)
        for _, key_id, revision in json.loads(entry).get("erases", {"rows": ()})["rows"]
        if revision > 0
    )
    seq, body = next(
        (seq, body)
        for seq, body in log.bodies.items()
        if seq < end
        and bool(body.key) == (what == "a decision")
        and body.sealed
        and all(text for _, text in body.texts)
    )
    assert Bench(tmp_path / "honest", made, bodies=True).found() == []
    sealed = b"" if body.key else body.sealed
    log.bodies[seq] = replace(body, key=body.key and row, sealed=sealed, texts=[(row, None), *body.texts[1:]])
    found = Bench(tmp_path / "hidden", made, bodies=True).found()
    assert {place.seq for _, place in found} == {seq if what == "a decision" else end}


def test_no_row_of_a_change_hides_behind_a_pruning(tmp_path: Path) -> None:
    """Prunings empty bodies of decisions only: a row that is gone from a range that was pruned is missing."""
    made = honest.make(5, 400)
    ranges = [
        part
        for log in made.logs.values()
        for entry in log.entries
        for part in json.loads(entry).get("prunes", {"ranges": ()})["ranges"]
    ]
    log, seq = next(
        (made.logs[of], seq)
        for of, first, end in ranges
        for seq, body in made.logs[of].bodies.items()
        if first <= seq < end and body.key is None and all(text for _, text in body.texts)
    )
    assert Bench(tmp_path / "honest", made, bodies=True).found() == []
    log.bodies[seq] = replace(log.bodies[seq], texts=[("ff" * 16, None), *log.bodies[seq].texts[1:]])
    assert [place.seq for _, place in Bench(tmp_path / "hidden", made, bodies=True).found()] == [seq]


# The key is stolen


def test_everything_is_recomputed_with_the_stolen_key(bench: Bench, tmp_path: Path) -> None:
    """A thief of the key can make a log that agrees with itself; a witness, a checkpoint and a receipt convict it."""
    made = bench.made
    receipt = json.loads(made.receipts[0])
    header = json.loads(receipt["note"].split("\n")[1])
    seq = receipt["seq"]
    entry = made.logs[header["log"]].entries[seq]
    forged = tampering.recomputed(made, header["log"], seq, entry.replace(b'"v":1}', b'"v":1,"w":0}'))
    thief = Bench(tmp_path / "forged", forged)
    (thief.folder / "checkpoint").write_bytes(forged.note(cosigned=False))
    assert thief.found() == []  # the control: by itself, nobody can tell
    witnessed = Given(key(made.key), [key(made.witness_key)], 1)
    assert "cosigned by fewer than 1" in thief.found(witnessed)[0][0]
    assert "forked" in thief.found(replace(thief.given, since=made.note(len(made.leaves) - 1)))[0][0]
    found = thief.found(replace(thief.given, receipts={"kept": made.receipts[0]}))
    assert [(place.log, place.batch, place.seq) for _, place in found] == [(header["log"], header["batch"], seq)]
    assert "the log was rewritten" in found[0][0]


def test_a_receipt_of_what_was_never_kept(tmp_path: Path) -> None:
    """A receipt for a batch that a thief left out is a finding."""
    made = honest.make(5, 200, batch_max=8, gone=False)
    header = json.loads(json.loads(made.receipts[-1])["note"].split("\n")[1])
    leaf = next(number for number, leaf in enumerate(made.leaves) if json.loads(leaf) == header)
    shorter = Bench(tmp_path / "shorter", tampering.cut(made, leaf))
    assert shorter.found() == []
    found = shorter.found(Given(key(made.key), receipts={"kept": made.receipts[-1]}))
    assert [("not in the tree" in message, place.batch) for message, place in found] == [(True, header["batch"])]
