"""A bundle on disk that is changed and put right again, and a thief who has the log's key and recomputes everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from policy_engine.ledger.encoding import header_hash
from policy_engine.ledger.leaves import parse_leaf
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine_verify.check import Check
from policy_engine_verify.formats import Refused, key
from policy_engine_verify.report import Given, Place
from policy_engine_verify.source import Source
from tests.verifier import honest


class Bench:
    """A bundle in a folder, and what an auditor of it was given."""

    def __init__(self, folder: Path, made: honest.Honest, *, sealed: bool = True, bodies: bool = False) -> None:
        self.made = made
        self.files = made.files(sealed=sealed, bodies=bodies)
        self.folder = honest.write_folder(self.files, folder)
        self.given = Given(key(made.key))

    def found(self, given: Given | None = None) -> list[tuple[str, Place]]:
        """Return the findings; a bundle that is refused is one finding without a place."""
        try:
            with Source(self.folder) as source:
                return Check(source, given or self.given).run().findings
        except Refused as refused:
            return [(str(refused), Place())]

    @contextmanager
    def changed(self, **members: bytes | None) -> Iterator[None]:
        """Replace members, named with `__` for `/` and without an ending, or take them away, for a while."""
        names = {name.replace("/", "__").split(".")[0]: name for name in self.files}
        with self.written({names[short]: data for short, data in members.items()}):
            yield

    @contextmanager
    def written(self, members: dict[str, bytes | None]) -> Iterator[None]:
        """Replace members by their names, or take them away, for a while."""
        try:
            for name, data in members.items():
                if data is None:
                    (self.folder / name).unlink()
                else:
                    self._write(name, data)
            yield
        finally:
            for name in members:
                self._write(name, self.files[name])

    def _write(self, name: str, data: bytes) -> None:
        """Write over a file: emptying it first would make a file system wait for the disk each time."""
        file = self.folder / name
        with file.open("r+b" if file.exists() else "wb") as out:
            out.write(data)
            out.truncate()


def flipped(data: bytes, bit: int) -> bytes:
    """Return bytes with one bit turned."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def line_of(data: bytes, place: int) -> int:
    """Return the number of the line that a byte lies in."""
    return data.count(b"\n", 0, place)


def recomputed(made: honest.Honest, log_id: str, seq: int, entry: bytes) -> honest.Honest:
    """Return the log as a thief of its key would leave it: an entry replaced, and everything behind it made to fit."""
    forged = made.copy()
    log = forged.logs[log_id]
    log.entries[seq] = entry
    head = honest.FIRST_PREVIOUS
    old: dict[bytes, bytes] = {}
    for number, header in enumerate(log.headers):
        own = [leaf_hash(line) for line in log.entries[header.first : header.first + header.n]]
        log.headers[number] = replace(header, root=root(own).hex(), prev=head)
        old[header.encode()] = log.headers[number].encode()
        head = header_hash(log.headers[number].encode())
    for number, leaf in enumerate(forged.leaves):
        parsed = parse_leaf(leaf)
        if leaf in old:
            forged.leaves[number] = old[leaf]
        elif parsed.log_id == log_id and hasattr(parsed, "head"):
            forged.leaves[number] = replace(parsed, head=head).encode()
    return forged


def without_log(made: honest.Honest, log_id: str) -> honest.Honest:
    """Return everything but one log, as if it had never been."""
    forged = made.copy()
    del forged.logs[log_id]
    forged.leaves = [leaf for leaf in made.leaves if json.loads(leaf)["log"] != log_id]
    return forged


def cut(made: honest.Honest, leaves: int) -> honest.Honest:
    """Return the log as it was when the tree had so many leaves."""
    older = made.copy()
    older.leaves = made.leaves[:leaves]
    for log in older.logs.values():
        log.headers = [header for header in log.headers if header.encode() in older.leaves]
        count = log.headers[-1].first + log.headers[-1].n if log.headers else 0
        log.entries = log.entries[:count]
        log.bodies = {seq: body for seq, body in log.bodies.items() if seq < count}
    older.logs = {id: log for id, log in older.logs.items() if log.headers}
    return older
