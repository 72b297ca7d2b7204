"""Honest logs made with the ledger alone: several writers, restarts, closes, abandonments, erasures and prunings.

Everything follows from a seed. `make` simulates writers that commit batches into their logs and a sequencer that takes
them into the tree; what comes out is the files of a bundle, exactly as `services.bundle` lays them out, and what
callers keep (receipts, earlier checkpoints). It holds the signing keys too, for tests that play a thief.
"""

from __future__ import annotations

import json
import zipfile
from base64 import b64encode
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policy_engine.ledger.canonical import canonical
from policy_engine.ledger.checkpoint import Checkpoint, add_cosignatures, cosign, sign_checkpoint
from policy_engine.ledger.compact import CompactRange
from policy_engine.ledger.decisions import DecisionMembers, decision_public
from policy_engine.ledger.encoding import FIRST_PREVIOUS, Header, Place, change_public, header_hash, note_public
from policy_engine.ledger.leaves import Abandoned, Closed, Opened
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.note import COSIGNATURE, Ed25519Signer
from policy_engine.ledger.receipts import make_receipts, sign_batch
from policy_engine.ledger.sealing import commitment, join_rows, place_of, seal_body

ORIGIN = "example.org/policy-engine/log"
WITNESS = "witness.example.net/w1"
START = 1_780_000_000_000_000
RELEASE = "sha256:" + "ab" * 32
KINDS = ("decision", "decision", "decision", "decision", "decision", "decision", "search", "facts.set")


def signer(name: str, algorithm: int = 1) -> Ed25519Signer:
    """Return the signer of a name: its private key is the hash of the name."""
    return Ed25519Signer(name, sha256(name.encode()).digest(), algorithm)


@dataclass
class Body:
    """What is sealed of one entry: the data key's id, the ciphertext, and the committed texts with their keys."""

    key: str | None
    sealed: bytes
    texts: list[tuple[str, bytes | None]]


@dataclass
class Log:
    """One writer log as it grows."""

    id: str
    writer: str
    entries: list[bytes] = field(default_factory=list)
    bodies: dict[int, Body] = field(default_factory=dict)
    headers: list[Header] = field(default_factory=list)
    head: str = FIRST_PREVIOUS
    ended: bool = False


@dataclass
class Honest:
    """A whole log, and what is kept of it. `files` gives a bundle of it; edit `leaves` and `logs` to cheat."""

    leaves: list[bytes] = field(default_factory=list)
    logs: dict[str, Log] = field(default_factory=dict)
    receipts: list[bytes] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    key: str = str(signer(ORIGIN).key)
    witness_key: str = str(signer(WITNESS, COSIGNATURE).key)

    def note(self, size: int | None = None, *, cosigned: bool = True) -> bytes:
        """Return the checkpoint over the first `size` leaves, signed, and cosigned by the witness."""
        size = len(self.leaves) if size is None else size
        tree = CompactRange()
        tree.extend(leaf_hash(leaf) for leaf in self.leaves[:size])
        stated = Checkpoint(ORIGIN, size, tree.root())
        note = sign_checkpoint(stated, [signer(ORIGIN)])
        if not cosigned:
            return note
        witness = signer(WITNESS, COSIGNATURE)
        line = cosign(stated.text(), witness, START // 1_000_000 + size).line()
        return add_cosignatures(note, line, [witness.key])

    def files(self, *, sealed: bool = True, bodies: bool = False, note: bytes | None = None) -> dict[str, bytes]:
        """Return the members of a bundle by name."""
        shown = [
            {"log": log.id, "batches": len(log.headers), "entries": len(log.entries), "shown": [[0, len(log.entries)]]}
            for log in self.logs.values()
        ]
        manifest = {"format": "policy-engine-bundle/v1", "origin": ORIGIN, "size": len(self.leaves), "key": self.key}
        manifest |= {"made_at": "2026-11-26T12:00:00Z", "logs": shown, "unsealed": bodies, "note": "made by a test"}
        found = {
            "manifest.json": json.dumps(manifest).encode(),
            "checkpoint": self.note() if note is None else note,
            "leaves.jsonl": lines(self.leaves),
            "hashes/leaves": b"".join(leaf_hash(leaf) for leaf in self.leaves),
            **{f"blobs/{name}": content for name, content in self.blobs.items()},
        }
        for log in self.logs.values():
            found[f"entries/{log.id}.jsonl"] = lines(log.entries)
            found[f"hashes/{log.id}"] = b"".join(leaf_hash(entry) for entry in log.entries)
            if sealed:
                found[f"sealed/{log.id}.jsonl"] = lines(sealed_line(seq, body) for seq, body in log.bodies.items())
            if bodies:
                found[f"bodies/{log.id}.jsonl"] = lines(texts_line(seq, body) for seq, body in log.bodies.items())
        return found

    def copy(self) -> Honest:
        """Return a log that can be changed by itself."""
        logs = {
            id: replace(log, entries=list(log.entries), bodies=dict(log.bodies), headers=list(log.headers))
            for id, log in self.logs.items()
        }
        return replace(self, leaves=list(self.leaves), logs=logs, receipts=list(self.receipts))


def lines(parts: object) -> bytes:
    """Return byte strings one per line."""
    return b"".join(part + b"\n" for part in parts)  # type: ignore[attr-defined]  # any iterable of bytes


def sealed_line(seq: int, body: Body) -> bytes:
    """Return a line of ciphertexts."""
    return canonical({"key": body.key, "sealed": b64encode(body.sealed).decode(), "seq": seq})


def texts_line(seq: int, body: Body) -> bytes:
    """Return a line of opened bodies."""
    texts = [None if text is None else b64encode(text).decode() for _, text in body.texts]
    return canonical({"keys": [key for key, _ in body.texts], "seq": seq, "texts": texts})


def write_folder(files: dict[str, bytes], folder: Path) -> Path:
    """Write a bundle as a folder, and return it."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(files: dict[str, bytes], path: Path) -> Path:
    """Write a bundle as a .zip, and return its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


class Maker:
    """The simulation behind `make`."""

    def __init__(self, seed: int, writers: int, batch_max: int) -> None:
        self.random = Random(seed)
        self.made = Honest()
        self.at, self.epoch = START, 1
        self.batch_max = batch_max
        self.writers = [self.opened(f"writer.example.org/{number}") for number in range(writers)]
        self.ciphers: dict[str, AESGCM] = {}
        self.count = self.receipted = 0

    def opened(self, writer: str) -> Log:
        """Open a log for a writer."""
        self.at += self.random.randrange(1, 5_000)
        log = Log(self.random.randbytes(8).hex(), writer)
        self.made.logs[log.id] = log
        opened = Opened(log.id, self.random.randbytes(8).hex(), str(signer(writer).key), self.epoch, RELEASE, self.at)
        self.made.leaves.append(opened.encode())
        return log

    def commit(self, log: Log, kinds: list[str]) -> None:
        """Write one batch of entries of these kinds, and give receipts for some of its allows."""
        self.at += self.random.randrange(1, 5_000)
        first = len(log.entries)
        for kind in kinds:
            self.epoch += kind in ("switch.engaged", "erased", "pruned")
            log.entries.append(self.entry(log, kind))
            self.count += 1
        own = [leaf_hash(entry) for entry in log.entries[first:]]
        place = (log.id, len(log.headers), first, len(kinds), root(own).hex(), log.head)
        header = Header(*place, self.epoch, RELEASE, self.at)
        log.headers.append(header)
        log.head = header_hash(header.encode())
        self.made.leaves.append(header.encode())
        self.receipted += 1
        if self.receipted <= 20:
            note = sign_batch(header.encode(), 2_000, signer(log.writer))
            allows = [seq for seq in range(first, len(log.entries)) if b'"outcome":"allow"' in log.entries[seq]]
            place = self.random.randrange(len(kinds))
            kept = {allows[place % len(allows)]: 1_500} if allows else {}
            self.made.receipts += [receipt.encode() for receipt in make_receipts(note, first, own, kept)]

    def entry(self, log: Log, kind: str) -> bytes:
        """Return the public bytes of the next entry, and keep its body."""
        seq, id = len(log.entries), self.random.randbytes(16).hex()
        place = Place(log.id, seq, self.at, self.epoch, RELEASE)
        if kind == "decision":
            commit, sealed = self.seal(log, seq)
            return decision_public(self.decision(id), log.id, seq, self.at, commit, sealed)
        if kind in ("search", "note"):
            commit, sealed = self.seal(log, seq)
            return note_public(
                kind,
                id,
                place,
                {"by": "local", "count": 3, "note": 'a "quoted" \u00fcber note'},
                commit=commit,
                sealed=sealed,
            )
        removed = self.gone(kind) if kind in ("erased", "pruned") else {}
        rows, sealed = self.seal_rows(log, seq)
        return change_public(kind, id, place, {"by": "k-1"}, rows=rows, sealed=sealed, removes=removed)

    def decision(self, id: str) -> DecisionMembers:
        """Return the public members of a decision."""
        allow = self.random.randrange(3) == 0
        reasons = (
            (("A1", "tier.allowed", ()),)
            if allow
            else (("P12", "origin.not-listed", ()), ("D3", "directive.blocked", ("order-1",)))
        )
        return DecisionMembers(
            id=id,
            outcome="allow" if allow else "deny",
            action=self.random.choice(("infer", "fine_tune", None)),
            model="fable-5",
            asked=self.random.choice((None, "fable-latest")),
            tier=self.random.choice((4, None)),
            tenant=f"acme-{self.random.randrange(30)}",
            reasons=reasons,
            rules=("p-12-1", "p-14"),
            lifted=(),
            licences=(),
            missing=() if allow else ("evidence",),
            flags=self.random.choice(((), ("annex",))),
            until=self.random.choice((None, START * 2)),
            instant=self.at,
            by="k-pep",
            reached=True,
            epoch=self.epoch,
            release=RELEASE,
            clock_set=False,
        )

    def seal(self, log: Log, seq: int) -> tuple[str, str]:
        """Seal a body for one of a few subjects, and return its commitment and its hash."""
        subject = f"person-{self.random.randrange(40)}"
        name = sha256(subject.encode()).hexdigest()[:32]
        cipher = self.ciphers.setdefault(name, AESGCM(self.random.randbytes(32)))
        salt, body = self.random.randbytes(32), canonical({"subject": subject, "values": ["infer", 4]})
        sealed = seal_body(cipher, self.random.randbytes(12), salt, place_of(log.id, seq), body)
        text = b'{"body":' + body + b',"salt":"' + salt.hex().encode() + b'"}'
        log.bodies[seq] = Body(name, sealed.ciphertext, [(name, text)])
        return sealed.commit, sealed.sealed

    def seal_rows(self, log: Log, seq: int) -> tuple[list[tuple[str, str]], str]:
        """Seal the rows of a change, and return their commitments and the hash of them all."""
        sealed, rows, texts = [], [], []
        for item in range(self.random.randrange(1, 4)):
            name = f"{self.random.randrange(20):032x}"
            cipher = self.ciphers.setdefault(name, AESGCM(self.random.randbytes(32)))
            salt, body = (
                self.random.randbytes(32),
                canonical({"register": "persons", "id": f"p{item}", "revision": 1, "document": None}),
            )
            one = seal_body(cipher, self.random.randbytes(12), salt, place_of(log.id, seq, item), body)
            sealed.append((name, one.ciphertext))
            rows.append(("persons", commitment(salt, body)))
            texts.append((name, b'{"body":' + body + b',"salt":"' + salt.hex().encode() + b'"}'))
        joined = join_rows(sealed)
        log.bodies[seq] = Body(None, joined, texts)
        return rows, sha256(joined).hexdigest()

    def gone(self, kind: str) -> dict[str, object]:
        """Take bodies away as an erasure or a pruning does, and return the public member that says so."""
        if kind == "pruned":
            return self.pruned()
        name = self.random.choice(
            [body.key for each in self.made.logs.values() for body in each.bodies.values() if body.key] or [""]
        )
        row = f"{self.random.randrange(20):032x}"
        count, revisions = 0, 0
        for each in self.made.logs.values():
            for seq, body in each.bodies.items():
                if body.key == name and body.sealed:
                    each.bodies[seq], count = Body(name, b"", [(name, None)]), count + 1
                elif body.key is None:  # a row keeps its ciphertext; its key is gone, so nobody opens it
                    texts = [(key, None if key == row else text) for key, text in body.texts]
                    each.bodies[seq] = replace(body, texts=texts)
                    revisions += sum(key == row for key, _ in texts)
        return {"erases": {"keys": sorted([name, row]), "rows": [["persons", row, revisions]], "bodies": count}}

    def pruned(self) -> dict[str, object]:
        """Empty the first bodies of a log."""
        log = self.random.choice(list(self.made.logs.values()))
        end = self.random.randrange(len(log.entries) + 1)
        gone = [seq for seq, body in log.bodies.items() if seq < end and body.key and body.sealed]
        for seq in gone:
            name = log.bodies[seq].key
            log.bodies[seq] = Body(name, b"", [(str(name), None)])
        return {"prunes": {"before": self.at, "ranges": [[log.id, 0, end]] if end else [], "bodies": len(gone)}}

    def end(self, log: Log) -> None:
        """Close a log, or abandon it."""
        self.at += self.random.randrange(1, 5_000)
        kind = Closed if self.random.randrange(2) else Abandoned
        end = kind(log.id, len(log.headers), len(log.entries), log.head, self.epoch, self.at)
        self.made.leaves.append(end.encode())
        log.ended = True

    def run(self, entries: int, *, gone: bool) -> Honest:
        """Let writers commit, come and go until there are so many entries."""
        special = entries // 3
        while self.count < entries:
            number = self.random.randrange(len(self.writers))
            log = self.writers[number]
            if gone and self.count >= special:
                special += max(entries // 3, 1)
                self.commit(log, [self.random.choice(("erased", "pruned"))])
            elif log.headers and self.random.randrange(15) == 0:
                self.end(log)
                self.writers[number] = self.opened(log.writer)
            elif self.random.randrange(50) == 0:
                self.commit(log, ["switch.engaged"])
            else:
                size = min(self.random.choice((1, 1, 2, 5, 20, self.batch_max)), entries - self.count, self.batch_max)
                self.commit(log, [self.random.choice(KINDS) for _ in range(max(size, 1))])
        self.made.blobs = {sha256(b"a rule").hexdigest(): b"a rule"}
        return self.made


def make(seed: int, entries: int = 300, *, writers: int = 3, batch_max: int = 64, gone: bool = True) -> Honest:
    """Return an honest log of at least so many entries; with `gone`, some bodies were erased and some pruned."""
    return Maker(seed, writers, batch_max).run(entries, gone=gone)
