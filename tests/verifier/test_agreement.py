"""The verifier and the engine's ledger, written apart, agree: on known answers, and on every spoiled piece of evidence.

Thousands of mutations here, hundreds of thousands every night. Neither side may accept what the other refuses, and what
both accept they read alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from policy_engine.errors import InputRefused, VerificationFailed
from policy_engine.ledger import canonical as engine_json
from policy_engine.ledger import chain, checkpoint, encoding, leaves, note, prooffile, proofs, receipts
from policy_engine.ledger.merkle import leaf_hash
from policy_engine_verify import formats, logs, tree
from policy_engine_verify import proofs as own
from tests.ledger import twin
from tests.ledger.mutations import spoil_bytes, spoil_hashes
from tests.ledger.vectors import make_vectors
from tests.verifier import honest

ROUNDS = [3_000, pytest.param(150_000, marks=pytest.mark.nightly)]
FOLDER = Path(make_vectors.__file__).parent
VECTORS = json.loads((FOLDER / "notes.json").read_text(encoding="utf-8"))
LOG = json.loads((FOLDER / "log.json").read_text(encoding="utf-8"))
ORIGIN = VECTORS["origin"]
ENGINE_KEY, OWN_KEY = note.parse_key(VECTORS["log_key"]), formats.key(VECTORS["log_key"])
ENGINE_WITNESSES = [note.parse_key(text) for text in VECTORS["witness_keys"]]
OWN_WITNESSES = [formats.key(text) for text in VECTORS["witness_keys"]]
NOTES = [case["note"].encode() for case in VECTORS["checkpoints"]]
MADE = honest.make(31, 400)
REFUSALS = (VerificationFailed, InputRefused, formats.Refused)


def answer(check: Callable[[], Any]) -> Any:
    """Return what a check returns, or that it refused."""
    try:
        return check()
    except REFUSALS:
        return "refused"


def agree(cases: int, both: Callable[[], tuple[Any, Any]]) -> int:
    """Check that both sides give one answer each time, and return how often they accepted."""
    accepted = 0
    for _ in range(cases):
        one, two = both()
        assert one == two
        accepted += one != "refused"
    return accepted


# Known answers


def test_published_answers() -> None:
    """The tree of the Certificate Transparency tests, and the notes published by C2SP and in Go's documentation."""
    published = json.loads((FOLDER / "published.json").read_text(encoding="utf-8"))
    hashes = [tree.leaf_hash(bytes.fromhex(leaf)) for leaf in published["tree"]["leaves"]]
    assert [tree.root_of(hashes[:size]).hex() for size in range(len(hashes) + 1)] == published["tree"]["roots"]
    for case in published["notes"]:
        signer = formats.key(case["key"])
        _, signed_by = formats.signers(case["note"].encode(), [signer], "it")
        assert [each for each, _ in signed_by] == [signer]


def test_known_trees() -> None:
    """Roots, and inclusion proofs that hold and that do not, of the published and of the self-made vectors."""
    trees = json.loads((FOLDER / "trees.json").read_text(encoding="utf-8"))
    hashes = [tree.leaf_hash(f"leaf {number}".encode()) for number in range(70)]
    growing = tree.Growing()
    for size, root in enumerate(trees["roots"]):
        assert tree.root_of(hashes[:size]).hex() == growing.root().hex() == root
        if size < 70:
            growing.add(hashes[size])
    cases = [(case, True) for case in trees["inclusion"]]
    cases += [(case, False) for case in trees["refused"] if case["check"] == "inclusion"]
    for case, holds in cases:
        proof = [bytes.fromhex(hash) for hash in case["proof"]]
        leaf, root = bytes.fromhex(case["leaf"]), bytes.fromhex(case["root"])
        found = answer(lambda: own.check_inclusion(leaf, case["index"], case["size"], proof, root))  # noqa: B023  at once
        assert (found is None) == holds


def test_known_notes() -> None:
    """Checkpoints with the cosignatures that they have, and notes that must be refused."""
    for case in VECTORS["checkpoints"]:
        count = len(case["cosigned"])
        opened = formats.checkpoint(case["note"].encode(), OWN_KEY, OWN_WITNESSES, count, "it")
        assert (opened.size, [list(seen) for seen in opened.witnesses]) == (case["size"], case["cosigned"])
    for case in VECTORS["refused"]:
        with pytest.raises(formats.Refused):
            formats.checkpoint(case["note"].encode(), OWN_KEY, OWN_WITNESSES, 0, "it")


def test_known_log_and_receipt() -> None:
    """The twin's leaves follow one another, those that may not follow do not, and its receipt and proof hold."""
    tips: dict[str, logs.Tip] = {}
    for leaf in LOG["leaves"]:
        followed(tips, leaf.encode())
    assert {tip.log: (tip.batches, tip.entries, bool(tip.ended)) for tip in tips.values()} == {
        "00000000000000aa": (2, 5, True),
        "00000000000000bb": (1, 1, True),
    }
    for case in LOG["may_not_follow"]:
        tips = {}
        for leaf in case["after"]:
            followed(tips, leaf.encode())
        with pytest.raises(formats.Refused):
            followed(tips, case["leaf"].encode())
    receipt = own.parse_receipt(LOG["receipt"].encode())
    own.check_receipt(receipt, formats.key(LOG["writer_key"]))
    assert receipt.header_bytes.decode() == LOG["leaves"][1]
    case = VECTORS["proof_file"]
    proof = own.parse_proof(case["text"].encode())
    assert own.check_leaf(proof, case["leaf"].encode(), OWN_KEY, OWN_WITNESSES, 2).size == 11


def followed(tips: dict[str, logs.Tip], data: bytes) -> logs.Tip:
    """Add a leaf, as a check of a bundle does."""
    leaf = logs.parse_leaf(data)
    log = leaf.log if isinstance(leaf, logs.Header) else leaf["log"]
    tips[log] = logs.follow(tips.get(log), leaf, tree.leaf_hash(data))
    return tips[log]


# Spoiled evidence


@pytest.mark.parametrize("rounds", ROUNDS)
def test_inclusion_proofs(rounds: int) -> None:
    """No inclusion proof is judged differently."""
    random = Random(1)
    hashes = make_vectors.LEAVES[:40]
    roots = [twin.mth(hashes[:size]) for size in range(41)]

    def both() -> tuple[Any, Any]:
        size = random.randint(1, 40)
        index = random.randrange(size)
        proof, leaf, root = twin.path(index, hashes[:size]), hashes[index], roots[size]
        for _ in range(random.randint(0, 2)):
            proof = spoil_hashes(proof, random, hashes + roots)
        if random.randrange(4) == 0:
            index, size = random.randint(-1, 41), random.randint(0, 41)
        if random.randrange(8) == 0:
            leaf = random.choice(hashes)
        one = answer(lambda: proofs.check_inclusion(leaf, index, size, proof, root))
        return one, answer(lambda: own.check_inclusion(leaf, index, size, proof, root))

    assert rounds / 20 < agree(rounds, both) < rounds / 2


@pytest.mark.parametrize("rounds", ROUNDS)
def test_checkpoints(rounds: int) -> None:
    """No signed note is judged or read differently: size, root, and who cosigned when."""
    random = Random(2)

    def both() -> tuple[Any, Any]:
        data = random.choice(NOTES)
        for _ in range(random.randint(0, 2)):
            data = spoil_bytes(data, random, NOTES)
        quorum = random.randint(0, 2)

        def engine() -> Any:
            opened = checkpoint.open_checkpoint(data, ORIGIN, [ENGINE_KEY], ENGINE_WITNESSES, quorum)
            seen = {(each.cosigner.name, each.time_seconds) for each in opened.cosignatures}
            return opened.checkpoint.size, opened.checkpoint.root, {name for name, _ in seen}

        def verifier() -> Any:
            found = formats.checkpoint(data, OWN_KEY, OWN_WITNESSES, quorum, "it")
            return found.size, found.root, {name for name, _ in found.witnesses}

        return answer(engine), answer(verifier)

    assert rounds / 20 < agree(rounds, both) < rounds


@pytest.mark.parametrize("rounds", ROUNDS)
def test_keys(rounds: int) -> None:
    """No key text is judged or read differently."""
    random = Random(3)
    texts = [VECTORS["log_key"].encode(), *(text.encode() for text in VECTORS["witness_keys"])]

    def both() -> tuple[Any, Any]:
        data = random.choice(texts)
        if random.randrange(4):
            data = spoil_bytes(data, random, texts)
        text = data.decode("utf-8", errors="surrogateescape")

        def engine() -> Any:
            found = note.parse_key(text)
            return found.name, found.algorithm, found.public

        def verifier() -> Any:
            found = formats.key(text)
            return found.name, found.kind, found.public

        return answer(engine), answer(verifier)

    agree(rounds, both)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_proof_files(rounds: int) -> None:
    """No proof file is judged or read differently."""
    random = Random(4)
    case = VECTORS["proof_file"]
    data, leaf = case["text"].encode(), case["leaf"].encode()

    def both() -> tuple[Any, Any]:
        spoiled = spoil_bytes(data, random, [data, *NOTES]) if random.randrange(8) else data

        def engine() -> Any:
            index, opened = prooffile.check_proof(spoiled, leaf, ORIGIN, [ENGINE_KEY], ENGINE_WITNESSES)
            return index, opened.checkpoint.size, prooffile.parse_proof(spoiled).extra

        def verifier() -> Any:
            proof = own.parse_proof(spoiled)
            return proof.leaf, own.check_leaf(proof, leaf, OWN_KEY, OWN_WITNESSES, 0).size, proof.extra

        return answer(engine), answer(verifier)

    assert rounds / 20 < agree(rounds, both) < rounds


@pytest.mark.parametrize("rounds", ROUNDS)
def test_receipts(rounds: int) -> None:
    """No receipt is judged or read differently."""
    random = Random(5)
    data, writer = LOG["receipt"].encode(), LOG["writer_key"]
    members = json.loads(data)

    def both() -> tuple[Any, Any]:
        way = random.randrange(3)
        spoiled = data if way == 0 and random.randrange(2) else spoil_bytes(data, random, [data])
        if way == 1:
            name = random.choice(("seq", "valid_for_ms", "v"))
            spoiled = make_vectors.dumps({**members, name: members[name] + random.randint(-2, 700)}).encode()

        def engine() -> Any:
            checked = receipts.check_receipt(receipts.parse_receipt(spoiled), [note.parse_key(writer)])
            return checked.header_bytes, checked.seq, checked.leaf, checked.valid_for_ms

        def verifier() -> Any:
            found = own.parse_receipt(spoiled)
            own.check_receipt(found, formats.key(writer))
            return found.header_bytes, found.seq, found.leaf, found.valid_for_ms

        return answer(engine), answer(verifier)

    assert rounds / 20 < agree(rounds, both) < rounds


def as_members(leaf: Any) -> Any:
    """Return the engine's leaf as the verifier names it."""
    if isinstance(leaf, encoding.Header):
        return (leaf.log_id, leaf.batch, leaf.first, leaf.n, leaf.root, leaf.prev, leaf.epoch, leaf.release, leaf.at)
    return {**json.loads(leaf.encode())}


@pytest.mark.parametrize("rounds", ROUNDS)
def test_leaves(rounds: int) -> None:
    """No leaf is read differently, spoiled by bytes or by its members."""
    random = Random(6)
    others = [*MADE.leaves, *(leaf.encode() for leaf in LOG["leaves"])]
    values = (None, True, 0, 1, -1, 2**53, 1.5, "", "x", "0" * 64, [], {}, "\u00e9", "a\\b", 10**15, 9 * 10**15)

    def both() -> tuple[Any, Any]:
        data = random.choice(others)
        if random.randrange(3) == 0:
            members = json.loads(data)
            members[random.choice([*members, "kind", "z"])] = random.choice(values)
            data = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        elif random.randrange(4):
            data = spoil_bytes(data, random, others)

        def verifier() -> Any:
            found = logs.parse_leaf(data)
            return tuple(found) if isinstance(found, logs.Header) else found

        return answer(lambda: as_members(leaves.parse_leaf(data))), answer(verifier)

    assert rounds / 20 < agree(rounds, both) < rounds


@pytest.mark.parametrize("rounds", ROUNDS)
def test_entries(rounds: int) -> None:
    """No entry is canonical for one and not for the other, and every member that is checked is read alike."""
    random = Random(7)
    others = [entry for log in MADE.logs.values() for entry in log.entries][:200]
    names = ("log", "seq", "at", "epoch", "release", "sealed", "commit")
    values = (
        None,
        True,
        0,
        -1,
        2**53,
        1.5,
        "",
        "x",
        'a"b',
        [],
        ["x"],
        [["x", "y", []]],
        {},
        "\u00e9",
        9 * 10**15,
        10**16,
    )

    def both() -> tuple[Any, Any]:
        data = random.choice(others)
        if random.randrange(3) == 0:
            members = json.loads(data)
            members[random.choice([*members, "z", "\u00e9"])] = random.choice(values)
            data = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        elif random.randrange(4):
            data = spoil_bytes(data, random, others)

        def engine() -> Any:
            members = encoding.parse_public(data)
            texts = [members["log"], members["sealed"], members.get("commit", "")]
            numbers = [members["seq"], members["at"], members["epoch"]]
            if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
                raise VerificationFailed("the verifier also looks at the types of what it compares")
            return [members.get(name, "") for name in names]

        def verifier() -> Any:
            found = logs.parse_entry(data)
            return [getattr(found, name) for name in names]

        return answer(engine), answer(verifier)

    assert rounds / 20 < agree(rounds, both) < rounds


@pytest.mark.parametrize("rounds", ROUNDS)
def test_canonical_json(rounds: int) -> None:
    """No byte string is canonical for one and not for the other."""
    random = Random(8)
    pieces = [b'"a"', b'"\\n"', b'"\\u001f"', b'"\\u00e9"', '"\u00e9"'.encode(), b'"\xed\xa0\x80"', b'"\\ud800"', b"1"]
    pieces += [b"-0", b"01", b"1.0", b"1e2", b"9007199254740991", b"9007199254740992", b"-5", b"true", b"null", b"NaN"]
    pieces += [b'{"a":1,"b":2}', b'{"b":1,"a":2}', b'{"a":1,"a":1}', '{"\u00e9":1}'.encode(), b"[" * 64 + b"]" * 64]
    pieces += [b"[" * 65 + b"]" * 65, b" 1", b"[1, 2]", b'"\x7f"', b'"\x1f"', b'"/"', b'"\\/"', b"", b"[" * 5_000]

    def both() -> tuple[Any, Any]:
        data = random.choice(pieces)
        for _ in range(random.randint(0, 3)):
            data = random.choice((b"[%s,%s]", b'{"x":%s,"y":%s}', b"%s%s", b"[%s]%.0s")) % (data, random.choice(pieces))
        one = answer(lambda: engine_json.parse(data, "it"))
        return one, answer(lambda: formats.canonical(data, "it"))

    agree(rounds, both)


@pytest.mark.parametrize("rounds", [600, pytest.param(30_000, marks=pytest.mark.nightly)])
def test_runs_of_leaves(rounds: int) -> None:
    """No run of leaves is taken by one and refused by the other, and both refuse at the same leaf."""
    random = Random(9)
    starts = [
        [leaf.encode() for leaf in LOG["leaves"]],
        *(honest.make(seed, 60, batch_max=8).leaves for seed in range(6)),
    ]
    others = [leaf for leaves_ in starts for leaf in leaves_]
    others += [case["leaf"].encode() for case in LOG["may_not_follow"]]

    def both() -> tuple[Any, Any]:
        run = list(random.choice(starts))
        one, two = random.randrange(len(run)), random.randrange(len(run))
        way = random.randrange(6)
        if way == 0:
            run[one] = spoil_bytes(run[one], random, others)
        elif way == 1:
            del run[one]
        elif way == 2:
            run.insert(two, run[one])
        elif way == 3:
            run[one], run[two] = run[two], run[one]
        elif way == 4:
            run[one] = random.choice(others)
        engine, tips = chain.Logs(), dict[str, logs.Tip]()
        for number, leaf in enumerate(run):
            one_tip, two_tip = answer(lambda: engine.add(leaf)), answer(lambda: followed(tips, leaf))  # noqa: B023  at once
            if "refused" in (one_tip, two_tip):
                return (number, one_tip), (number, two_tip)
            assert (one_tip.batches, one_tip.entries, one_tip.head) == (two_tip.batches, two_tip.entries, two_tip.head)
        return "taken", "taken"

    agree(rounds, both)
    assert leaf_hash(b"x") == tree.leaf_hash(b"x")
