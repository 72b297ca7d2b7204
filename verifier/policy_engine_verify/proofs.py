"""What a caller keeps: the receipt of an answer, and one entry with its proof in a `.tlog-proof` file."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from policy_engine_verify import limits
from policy_engine_verify.formats import Checkpoint, Key, Refused, base64, canonical, checkpoint, decimal, key, signers
from policy_engine_verify.logs import Header, parse_entry, parse_leaf
from policy_engine_verify.tree import leaf_hash

HEADER = b"c2sp.org/tlog-proof@v1\n"
RECEIPT = "policy-engine/receipt/v1"


class Receipt(NamedTuple):
    """What a receipt claims; `check_receipt` says whether the writer of the log signed it."""

    seq: int
    leaf: bytes
    path: list[bytes]
    valid_for_ms: int
    note: bytes
    header: Header
    header_bytes: bytes


def parse_receipt(data: bytes) -> Receipt:
    """Return the parts of a receipt."""
    if len(data) > limits.RECEIPT_BYTES:
        raise Refused(f"the receipt is longer than {limits.RECEIPT_BYTES} bytes")
    members = canonical(data, "the receipt")
    types = {"v": int, "seq": int, "leaf": str, "path": list, "valid_for_ms": int, "note": str}
    if not isinstance(members, dict) or {name: type(value) for name, value in members.items()} != types:
        raise Refused("the receipt has other members than version 1 has")
    numbers, path = (members["seq"], members["valid_for_ms"]), members["path"]
    if members["v"] != 1 or min(numbers) < 0 or not all(isinstance(text, str) for text in path):
        raise Refused("the receipt has an unknown version or a member of the wrong type")
    lines = members["note"].split("\n")
    if len(path) > limits.PROOF_HASHES_COUNT or len(lines) < 4 or lines[0] != RECEIPT or lines[3]:
        raise Refused("the receipt has too long a path, or its note is not about a batch")
    header = parse_leaf(lines[1].encode(errors="replace"))
    valid = decimal(lines[2].removeprefix("valid_for_ms "), "the validity in the note")
    if not lines[2].startswith("valid_for_ms ") or members["valid_for_ms"] > valid or not isinstance(header, Header):
        raise Refused("the receipt claims a longer validity than its batch, or names no batch")
    hashes = [base64(text, "a hash of the receipt", 32) for text in (members["leaf"], *path)]
    note = members["note"].encode(errors="replace")
    return Receipt(numbers[0], hashes[0], hashes[1:], numbers[1], note, header, lines[1].encode())


def check_receipt(receipt: Receipt, writer: Key) -> None:
    """Check that the writer signed the batch, and that the entry is in it at its place."""
    text, _ = signers(receipt.note, [writer], "the receipt")
    first, n = receipt.header.first, receipt.header.n
    if text.count("\n") != 3 or not first <= receipt.seq < first + n:
        raise Refused("the receipt names an entry outside its batch")
    check_inclusion(receipt.leaf, receipt.seq - first, n, receipt.path, bytes.fromhex(receipt.header.root))


class Proof(NamedTuple):
    """The parts of a proof file; `extra` is nobody's word."""

    leaf: int
    hashes: list[bytes]
    checkpoint: bytes
    extra: bytes | None


def parse_proof(data: bytes) -> Proof:
    """Return the parts of a `.tlog-proof` file (C2SP tlog-proof)."""
    if len(data) > limits.PROOF_BYTES:
        raise Refused(f"the proof is longer than {limits.PROOF_BYTES} bytes")
    head, parted, rest = data.partition(b"\n\n")
    if not parted or not head.startswith(HEADER) or not head.isascii():
        raise Refused("the file is no tlog-proof of version 1")
    lines = head.decode().split("\n")[1:]
    extra = base64(lines.pop(0)[6:], "the extra data") if lines[0].startswith("extra ") else None
    if extra is not None and not 1 <= len(extra) <= limits.PROOF_EXTRA_BYTES:
        raise Refused(f"the extra data has not from 1 to {limits.PROOF_EXTRA_BYTES} bytes")
    if not lines or not lines[0].startswith("index ") or len(lines) > limits.PROOF_HASHES_COUNT + 1:
        raise Refused(f"the proof names no index, or has over {limits.PROOF_HASHES_COUNT} hashes")
    leaf = decimal(lines[0][6:], "the index")
    return Proof(leaf, [base64(line, "a hash of the proof", 32) for line in lines[1:]], rest, extra)


def check_leaf(proof: Proof, leaf: bytes, log: Key, witnesses: list[Key], quorum: int) -> Checkpoint:
    """Check that the log has a leaf where the proof says, and return the checkpoint that says so."""
    stated = checkpoint(proof.checkpoint, log, witnesses, quorum, "the checkpoint")
    check_inclusion(leaf_hash(leaf), proof.leaf, stated.size, proof.hashes, stated.root)
    return stated


class Proved(NamedTuple):
    """What a proof file proves: an entry, its batch, the number of that leaf, and the checkpoint that says so."""

    entry: dict[str, Any]
    header: Header
    header_bytes: bytes
    leaf: int
    stated: Checkpoint


def check_entry(data: bytes, log: Key | None, witnesses: list[Key], quorum: int) -> Proved:
    """Check one entry with its proof: in its batch, and the batch in the tree.

    The extra data holds `entry`, `header`, `path` and `key`. Without a log key given, that `key` is trusted.
    """
    proof = parse_proof(data)
    extra = canonical(proof.extra or b"", "the extra data")
    types = {"v": int, "entry": str, "header": str, "path": list, "key": str}
    if not isinstance(extra, dict) or {name: type(value) for name, value in extra.items()} != types or extra["v"] != 1:
        raise Refused("the proof holds no entry with its batch")
    line = extra["header"].encode()
    stated = check_leaf(proof, line, log or key(extra["key"]), witnesses, quorum)
    header, entry = parse_leaf(line), parse_entry(extra["entry"].encode())
    if not isinstance(header, Header) or (entry.log, entry.at) != (header.log, header.at):
        raise Refused("the entry is not of the batch that is proved")
    path = [base64(str(text), "a hash of the path", 32) for text in extra["path"]]
    place = entry.seq - header.first
    check_inclusion(leaf_hash(extra["entry"].encode()), place, header.n, path, bytes.fromhex(header.root))
    return Proved(canonical(extra["entry"].encode(), "the entry"), header, line, proof.leaf, stated)


def check_inclusion(hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf hash is at an index of the tree of this size and root (RFC 9162 section 2.1.3.2)."""
    fn, sn = index, size - 1
    if not 0 <= index < size:
        raise Refused("the index lies outside the tree")
    for sibling in proof:
        if sn == 0:
            raise Refused("the proof goes on above the root")
        if fn & 1 or fn == sn:
            hash = sha256(b"\x01" + sibling + hash).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            hash = sha256(b"\x01" + hash + sibling).digest()
        fn, sn = fn >> 1, sn >> 1
    if sn or hash != root or any(len(sibling) != 32 for sibling in proof):
        raise Refused("the proof does not lead to the root")
