"""One entry with its proof: out of its batch, out of the tree, under the newest checkpoint.

The proof is a `.tlog-proof` file of the batch's leaf; its extra data holds the entry, its batch header, its path within
the batch, and the key of the log. `policy-engine-verify FILE` checks it offline.
Rules: what is given out was checked; a store that holds anything else gives no proof, it raises.
Left to others: finding the entry, and who may see it (`services.evidence`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from policy_engine.errors import NotFound, VerificationFailed
from policy_engine.ledger.canonical import canonical
from policy_engine.ledger.encoding import Header, parse_header
from policy_engine.ledger.merkle import leaf_hash, paths, root
from policy_engine.ledger.note import parse_key
from policy_engine.ledger.prooffile import ProofFile, check_proof
from policy_engine.ledger.proofs import make_inclusion
from policy_engine.ledger.spelling import write_base64
from policy_engine.ledger.tiles import TileNodes
from policy_engine.store.interfaces import StoredEntry
from policy_engine.store.treeinterfaces import TreeReader


class ProofReader(TreeReader, Protocol):
    """What a proof is made from: the tree, and single entries."""

    def entry(self, log_id: str, seq: int) -> StoredEntry | None:
        """Return one entry."""
        ...


@dataclass(frozen=True, slots=True)
class Proved:
    """An entry and what proves it. `file` is the whole proof; the rest is in it too."""

    entry: bytes
    header: bytes
    path: tuple[bytes, ...]
    index: int
    size: int
    checkpoint: bytes
    key: str
    file: bytes


def prove(reader: ProofReader, log_id: str, seq: int) -> Proved:
    """Return an entry with its proof.

    Raises `NotFound` for an entry that is not there, or not in the tree yet (it is at most a second later), and
    `VerificationFailed` when what the store holds proves nothing.
    """
    leaf, newest, state = reader.leaf_of(log_id, seq), reader.checkpoint(), reader.tree_state()
    if leaf is None or newest is None or leaf.leaf >= newest.size:
        raise NotFound("the entry is not in the tree: there is none, or it was written within the last second")
    header = parse_header(leaf.data)
    publics = _batch(reader, header)
    hashes = [leaf_hash(public) for public in publics]
    if root(hashes).hex() != header.root or (header.log_id, header.batch) != (log_id, leaf.batch):
        raise VerificationFailed("the entries of the batch are not those that its header was written over")
    place = seq - header.first
    path = paths(hashes)[place]
    extra = {
        "v": 1,
        "entry": publics[place].decode(),
        "header": leaf.data.decode(),
        "path": [write_base64(hash) for hash in path],
        "key": state.key,
    }
    try:
        proof = make_inclusion(leaf.leaf, newest.size, TileNodes(reader.tile))
    except LookupError:
        raise VerificationFailed("the tiles of the tree do not hold what the proof needs") from None
    file = ProofFile(leaf.leaf, tuple(proof), newest.note, canonical(extra)).format()
    check_proof(file, leaf.data, state.origin, [parse_key(state.key)])
    return Proved(publics[place], leaf.data, path, leaf.leaf, newest.size, newest.note, state.key, file)


def _batch(reader: ProofReader, header: Header) -> list[bytes]:
    """Return the public bytes of the entries of a batch."""
    found = [reader.entry(header.log_id, seq) for seq in range(header.first, header.first + header.n)]
    publics = [entry.public for entry in found if entry is not None]
    if len(publics) != header.n:
        raise VerificationFailed("an entry of the batch is missing")
    return publics
