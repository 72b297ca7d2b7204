"""Makes the self-made vectors again: `python tests/ledger/vectors/make_vectors.py` from the root of the repository.

It uses the twin and the standard library alone. `made()` returns the content of each file; running it writes them.
"""

from __future__ import annotations

import json
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parents[2]))

from tests.ledger import twin  # noqa: E402  the line above finds it when this file is run by itself

LEAVES = [twin.leaf(f"leaf {number}".encode()) for number in range(70)]
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 33, 63, 64, 65, 70)
ORIGIN = "example.org/policy-engine/log"
TIME = 1_795_219_200


def b64(data: bytes) -> str:
    """Return base64."""
    return b64encode(data).decode()


def seed(name: str) -> bytes:
    """Return the private key of a name in these vectors."""
    return sha256(name.encode()).digest()


def public(name: str) -> bytes:
    """Return the public key of a name."""
    return twin.Ed25519PrivateKey.from_private_bytes(seed(name)).public_key().public_bytes_raw()


def vkey(name: str, kind: int) -> str:
    """Return the verifier key text of a name for a signature type."""
    return f"{name}+{twin.key_id(name, kind, public(name)).hex()}+{b64(bytes([kind]) + public(name))}"


def trees() -> dict[str, Any]:
    """Return roots, proofs and refused proofs."""
    inclusion, consistency, refused = [], [], []
    for size in SIZES:
        root = twin.mth(LEAVES[:size]).hex()
        for index in sorted({0, size // 2, size - 1}):
            path = [hash.hex() for hash in twin.path(index, LEAVES[:size])]
            inclusion.append({"leaf": LEAVES[index].hex(), "index": index, "size": size, "root": root, "proof": path})
        for old in SIZES:
            if old <= size:
                proof = [hash.hex() for hash in twin.proof(old, LEAVES[:size])]
                roots = {"old_root": twin.mth(LEAVES[:old]).hex(), "root": root}
                consistency.append({"old_size": old, "size": size, **roots, "proof": proof})
    good = next(case for case in inclusion if case["size"] == 11 and case["index"] == 5)
    path = good["proof"]
    for reason, change in (
        ("tree.empty", {"size": 0, "index": 0}),
        ("tree.index-beyond-size", {"index": 11}),
        ("tree.index-beyond-size", {"index": -1}),
        ("proof.too-short", {"proof": path[:-1]}),
        ("proof.too-short", {"proof": []}),
        ("proof.too-long", {"proof": [*path, path[0]]}),
        ("proof.hash-length", {"proof": [path[0][:-2], *path[1:]]}),
        ("proof.hash-length", {"leaf": good["leaf"] + "00"}),
        ("proof.other-root", {"proof": [path[1], path[0], *path[2:]]}),
        ("proof.other-root", {"index": 4}),
        ("proof.other-root", {"leaf": LEAVES[6].hex()}),
        ("proof.other-root", {"root": twin.mth(LEAVES[:12]).hex()}),
    ):
        refused.append({"check": "inclusion", "reason": reason, **good, **change})
    good = next(case for case in consistency if (case["old_size"], case["size"]) == (6, 11))
    even = next(case for case in consistency if (case["old_size"], case["size"]) == (4, 11))
    same = next(case for case in consistency if (case["old_size"], case["size"]) == (7, 7))
    path = good["proof"]
    for reason, base, change in (
        ("tree.empty", good, {"old_size": 0, "proof": []}),
        ("tree.sizes-out-of-order", good, {"old_size": 12}),
        ("tree.sizes-out-of-order", good, {"old_size": -1}),
        ("proof.too-short", good, {"proof": path[:-1]}),
        ("proof.too-short", even, {"proof": []}),
        ("proof.too-long", good, {"proof": [*path, path[0]]}),
        ("proof.too-long", same, {"proof": path[:1]}),
        ("proof.hash-length", good, {"proof": [path[0] + "00", *path[1:]]}),
        ("proof.other-root", same, {"root": good["root"]}),
        ("proof.other-root", good, {"old_root": good["root"]}),
        ("proof.other-root", good, {"root": good["old_root"]}),
        ("proof.other-root", even, {"old_root": good["old_root"]}),
    ):
        refused.append({"check": "consistency", "reason": reason, **base, **change})
    roots = [twin.mth(LEAVES[:size]).hex() for size in range(len(LEAVES) + 1)]
    return {"roots": roots, "inclusion": inclusion, "consistency": consistency, "refused": refused}


def checkpoint_text(size: int, *more: str) -> str:
    """Return the text of the checkpoint over the first leaves."""
    return "\n".join((ORIGIN, str(size), b64(twin.mth(LEAVES[:size])), *more)) + "\n"


def signed(text: str, *witnesses: str) -> str:
    """Return a note signed by the log, and cosigned."""
    lines = [twin.signature_line(ORIGIN, seed(ORIGIN), text)]
    lines += [twin.signature_line(name, seed(name), text, TIME + number) for number, name in enumerate(witnesses)]
    return text + "\n" + "".join(lines)


def notes() -> dict[str, Any]:
    """Return checkpoints, cosigned ones, a proof file, and what must be refused."""
    one, two = "witness.example.net/w1", "witness.example.com/w2"
    plain, both = signed(checkpoint_text(11)), signed(checkpoint_text(11), one, two)
    stranger = twin.signature_line("stranger.example", seed("stranger"), checkpoint_text(11))
    good = [
        {"note": plain, "size": 11, "cosigned": []},
        {"note": both, "size": 11, "cosigned": [[one, TIME], [two, TIME + 1]]},
        {"note": plain + stranger, "size": 11, "cosigned": []},
        {"note": signed(checkpoint_text(0)), "size": 0, "cosigned": []},
        {"note": signed(checkpoint_text(7, "one line", "another")), "size": 7, "cosigned": []},
    ]
    line = plain.split("\n\n")[1]
    other_time = both.replace(twin.signature_line(one, seed(one), checkpoint_text(11), TIME), "") + _retimed(one)
    refused = [
        ("malformed", checkpoint_text(11)),
        ("malformed", checkpoint_text(11) + "\n"),
        ("malformed", plain.rstrip("\n")),
        ("malformed", plain.replace("\n", "\r\n")),
        ("malformed", plain.replace("\u2014", "-")),
        ("malformed", plain.replace("=\n", "\n")),
        ("malformed", signed(checkpoint_text(11).replace("\n11\n", "\n+11\n"))),
        ("malformed", signed(checkpoint_text(11).replace("\n11\n", "\n011\n"))),
        ("malformed", signed(ORIGIN + "\n11\n")),
        ("malformed", signed(checkpoint_text(11, ""))),
        ("proof.hash-length", signed(f"{ORIGIN}\n11\n{b64(bytes(31))}\n")),
        ("checkpoint.other-empty-root", signed(f"{ORIGIN}\n0\n{b64(bytes(32))}\n")),
        ("checkpoint.other-origin", signed(checkpoint_text(11).replace(ORIGIN, ORIGIN + "2"))),
        ("note.no-known-key", checkpoint_text(11) + "\n" + stranger),
        ("note.no-known-key", checkpoint_text(11) + "\n" + line.replace(ORIGIN, ORIGIN + "2")),
        ("note.bad-signature", plain.replace("\n11\n", "\n12\n")),
        ("note.bad-signature", plain.replace(b64(twin.mth(LEAVES[:11])), b64(twin.mth(LEAVES[:12])))),
        ("note.bad-signature", plain + twin.signature_line(ORIGIN, seed(ORIGIN), "another text\n")),
        ("note.bad-signature", other_time),
        ("too-large", plain + stranger * 64),
    ]
    path = "".join(b64(hash) + "\n" for hash in twin.path(5, LEAVES[:11]))
    file = f"c2sp.org/tlog-proof@v1\nextra {b64(b'for the auditor')}\nindex 5\n{path}\n{both}"
    return {
        "origin": ORIGIN,
        "log_key": vkey(ORIGIN, 1),
        "witness_keys": [vkey(one, 4), vkey(two, 4)],
        "checkpoints": good,
        "refused": [{"reason": reason, "note": note} for reason, note in refused],
        "proof_file": {"text": file, "leaf": "leaf 5", "index": 5, "extra": "for the auditor"},
    }


def _retimed(name: str) -> str:
    """Return a cosignature line whose time was changed behind the signature."""
    line = twin.signature_line(name, seed(name), checkpoint_text(11), TIME)
    _, _, encoded = line.rstrip("\n").split(" ")
    data = bytearray(b64decode(encoded))
    data[11] ^= 1  # the last byte of the time, behind the four of the key id
    return line.replace(encoded, b64(bytes(data)))


def dumps(value: object) -> str:
    """Return canonical JSON for values without special characters."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def header(log: str, batch: int, first: int, entries: list[str], prev: str, epoch: int, at: int) -> str:
    """Return the bytes of a batch header as text."""
    root = twin.mth([twin.leaf(entry.encode()) for entry in entries]).hex()
    members = {"v": 1, "log": log, "batch": batch, "first": first, "n": len(entries), "root": root, "prev": prev}
    return dumps({**members, "epoch": epoch, "release": "sha256:ab", "at": at})


def log() -> dict[str, Any]:
    """Return the leaves of two logs, one closed and one abandoned, and a receipt for an entry of the first."""
    a, b, none = "00000000000000aa", "00000000000000bb", "0" * 64
    writer = "writer.example.org/1"

    def entry(log: str, seq: int) -> str:
        members = {"v": 1, "kind": "decision", "id": f"{seq:032x}", "log": log, "seq": seq, "at": 100 + seq}
        return dumps({**members, "epoch": 3, "release": "sha256:ab", "sealed": "", "commit": ""})

    def hash(leaf: str) -> str:
        return twin.leaf(leaf.encode()).hex()

    opened = {"v": 1, "kind": "open", "epoch": 3, "release": "sha256:ab", "at": 100}
    open_a = dumps({**opened, "log": a, "boot": "boot-1", "key": vkey(writer, 1)})
    open_b = dumps({**opened, "log": b, "boot": "boot-2", "key": None})
    entries = [entry(a, seq) for seq in range(5)]
    a0 = header(a, 0, 0, entries[:3], none, 3, 110)
    a1 = header(a, 1, 3, entries[3:], hash(a0), 4, 120)
    b0 = header(b, 0, 0, [entry(b, 0)], none, 3, 115)
    end = {"v": 1, "epoch": 4, "at": 140}
    end_a = dumps({**end, "kind": "close", "log": a, "batches": 2, "entries": 5, "head": hash(a1)})
    end_b = dumps({**end, "kind": "abandoned", "log": b, "batches": 1, "entries": 1, "head": hash(b0)})
    leaves = [open_a, a0, open_b, b0, a1, end_a, end_b]
    text = f"policy-engine/receipt/v1\n{a0}\nvalid_for_ms 2000\n"
    hashes = [twin.leaf(entry.encode()) for entry in entries[:3]]
    receipt = {
        "v": 1,
        "seq": 1,
        "leaf": b64(hashes[1]),
        "path": [b64(hash) for hash in twin.path(1, hashes)],
        "valid_for_ms": 1500,
        "note": text + "\n" + twin.signature_line(writer, seed(writer), text),
    }
    changed = json.loads(a1)
    may_not = [
        ("log.not-opened", [], a0),
        ("log.opened-twice", [open_a], open_a),
        ("log.gap", [open_a], a1),
        ("log.gap", [open_a, a0], dumps({**changed, "batch": 2})),
        ("log.gap", [open_a, a0], dumps({**changed, "first": 4})),
        ("log.repeated", [open_a, a0], a0),
        ("log.fork", [open_a, a0], dumps({**json.loads(a0), "at": 111})),
        ("log.other-previous", [open_a, a0], dumps({**changed, "prev": hash(b0)})),
        ("log.time-backwards", [open_a, a0], dumps({**changed, "at": 109})),
        ("log.epoch-backwards", [open_a, a0], dumps({**changed, "epoch": 2})),
        ("log.gap", [open_a, a0], end_a),
        ("log.fork", [open_a, a0, a1], dumps({**json.loads(end_a), "batches": 1})),
        ("log.other-previous", [open_a, a0, a1], dumps({**json.loads(end_a), "head": hash(a0)})),
        ("log.gap", [open_a, a0, a1], dumps({**json.loads(end_a), "entries": 4})),
        ("log.ended", [open_a, a0, a1, end_a], end_a),
        ("log.ended", [open_a, a0, a1, end_a], dumps({**changed, "batch": 2, "first": 5, "prev": hash(a1), "at": 141})),
        ("malformed", [open_a, a0, a1], dumps({**json.loads(end_a), "kind": "paused"})),
        ("malformed", [open_a, a0, a1], dumps({**json.loads(end_a), "batches": True})),
        ("unknown-version", [open_a, a0, a1], dumps({**json.loads(end_a), "v": 2})),
    ]
    return {
        "leaves": leaves,
        "roots": [twin.mth([twin.leaf(leaf.encode()) for leaf in leaves[:size]]).hex() for size in range(8)],
        "entries": entries,
        "writer_key": vkey(writer, 1),
        "receipt": dumps(receipt).replace("\\u2014", "\u2014"),
        "receipt_entry": entries[1],
        "may_not_follow": [{"reason": reason, "after": after, "leaf": leaf} for reason, after, leaf in may_not],
    }


def made() -> dict[str, str]:
    """Return the text of each self-made file by its name."""
    parts = {"trees.json": trees(), "notes.json": notes(), "log.json": log()}
    return {name: json.dumps(value, indent=1) + "\n" for name, value in parts.items()}


if __name__ == "__main__":
    for name, text in made().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
