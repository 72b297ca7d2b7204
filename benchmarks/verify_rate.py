"""How fast the separate verifier reads a bundle: entries a second, on one core, start of the program included.

The bundle holds decisions as the engine writes them (600 to 900 bytes), in batches of 1 to 256, by several writers. The
program runs as an auditor runs it, in a process of its own, and must find that everything agrees. Beside the public
bundle in a folder, which is judged, a .zip and one with ciphertexts are shown, and what reading and hashing alone take
in the same run: no verifier in Python is faster than that.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import zipfile
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from time import perf_counter

from benchmarks.report import Line

ENTRIES = 400_000
ENTRIES_QUICK = 40_000
RATE = 200_000.0
WRITERS = 4
USUAL_BATCH = 50
BATCHES = (1, 1, 2, 4, 8, 16, 32, 64, 128, 256)
ORIGIN = "bench.example/log"
RELEASE = "sha256:" + "ab" * 32
START = 1_790_000_000_000_000


class NotVerified(RuntimeError):
    """The verifier did not find that an honest bundle agrees, so its speed means nothing."""


def measure(folder: Path, entries: int, runs: int, say: Callable[[str], None]) -> list[Line]:
    """Make one bundle in three forms, and verify each so many times."""
    say(f"making a log of {entries:,} entries")
    place = folder / "verify"
    key, size = _make(place, entries)
    lines = [_line("verified: public parts, a folder", RATE, place, key, entries, runs, size, say)]
    lines.append(_least(place, entries, runs, lines[0].ours))
    packed = folder / "verify.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(place.rglob("*")):
            if path.is_file() and path.parent.name != "ciphertexts":
                archive.write(path, path.relative_to(place).as_posix())
    lines.append(_line("verified: public parts, a .zip", None, packed, key, entries, runs, size, say))
    for path in folder.glob("verify-sealed/*"):
        (place / "sealed").mkdir(exist_ok=True)
        path.rename(place / "sealed" / path.name)
    lines.append(_line("verified: with ciphertexts, a folder", None, place, key, entries, runs, size, say))
    return lines


def _line(
    name: str,
    bound: float | None,
    bundle: Path,
    key: str,
    entries: int,
    runs: int,
    size: int,
    say: Callable[[str], None],
) -> Line:
    say(name)
    command = [sys.executable, "-m", "policy_engine_verify", str(bundle), "--key", key, "--json"]
    seconds = []
    for _ in range(runs):
        began = perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds.append(perf_counter() - began)
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        if found.get("counts", {}).get("entries") != entries:
            raise NotVerified(f"{name}: {done.stdout[-300:]}{done.stderr[-300:]}")
    rate = entries / statistics.median(seconds)
    detail = {"seconds": [round(each, 3) for each in seconds], "entries": entries, "bytes_each": size}
    return Line(name, "entries/s", rate, None, rate, bound, detail=detail)


def _least(place: Path, entries: int, runs: int, verified: float) -> Line:
    """Return how fast lines are read and hashed, leaves and the tree of each batch of a usual size, and no more."""
    from policy_engine_verify.tree import hashes_behind, root_of

    seconds = []
    for _ in range(runs):
        began = perf_counter()
        for path in (place / "entries").iterdir():
            with path.open("rb") as file:
                while lines := [line[:-1] for line in islice(file, USUAL_BATCH)]:
                    root_of(hashes_behind(b"\x00", lines))
        seconds.append(perf_counter() - began)
    rate = entries / statistics.median(seconds)
    name = "verified: the same lines read and hashed, nothing else"
    return Line(name, "entries/s", rate, verified, verified / rate, None, detail={"seconds": seconds})


def _make(place: Path, count: int) -> tuple[str, int]:
    """Write the bundle, and the ciphertexts apart; return the log's key and the mean size of an entry."""
    from policy_engine.ledger.checkpoint import Checkpoint, sign_checkpoint
    from policy_engine.ledger.compact import CompactRange
    from policy_engine.ledger.leaves import Opened
    from policy_engine.ledger.merkle import leaf_hash
    from policy_engine.ledger.note import Ed25519Signer

    random, signer, tree = Random(1), Ed25519Signer(ORIGIN, bytes(32)), CompactRange()
    (place / "entries").mkdir(parents=True)
    (place.parent / "verify-sealed").mkdir()
    writers = [_Writer(place, f"{number:016x}") for number in range(WRITERS)]
    leaves = [Opened(writer.id, "boot", None, 1, RELEASE, START).encode() for writer in writers]
    written = 0
    while written < count:
        writer, n = random.choice(writers), min(random.choice(BATCHES), count - written)
        leaves.append(writer.commit(random, n, START + len(leaves) * 900))
        written += n
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    (place / "leaves.jsonl").write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    (place / "checkpoint").write_bytes(sign_checkpoint(Checkpoint(ORIGIN, tree.end, tree.root()), [signer]))
    manifest = {"format": "policy-engine-bundle/v1", "logs": [writer.close() for writer in writers]}
    (place / "manifest.json").write_text(json.dumps(manifest))
    return str(signer.key), sum(path.stat().st_size for path in (place / "entries").iterdir()) // count


class _Writer:
    """One writer log on its way into the bundle."""

    def __init__(self, place: Path, log_id: str) -> None:
        from policy_engine.ledger.encoding import FIRST_PREVIOUS

        self.id = log_id
        self._entries = (place / "entries" / f"{log_id}.jsonl").open("wb")
        self._sealed = (place.parent / "verify-sealed" / f"{log_id}.jsonl").open("wb")
        self._seq = self._batch = 0
        self._head = FIRST_PREVIOUS

    def commit(self, random: Random, n: int, at: int) -> bytes:
        """Write a batch, and return its header."""
        from policy_engine.ledger.encoding import Header, header_hash
        from policy_engine.ledger.merkle import leaf_hash, root

        hashes = []
        for seq in range(self._seq, self._seq + n):
            sealed = random.randbytes(420)
            public = _decision(random, self.id, seq, at, sha256(sealed).hexdigest())
            self._entries.write(public + b"\n")
            self._sealed.write(b'{"key":"%032x","sealed":"%s","seq":%d}\n' % (seq % 1_000, b64encode(sealed), seq))
            hashes.append(leaf_hash(public))
        place = (self.id, self._batch, self._seq, n, root(hashes).hex(), self._head)
        header = Header(*place, 1, RELEASE, at).encode()
        self._seq, self._batch, self._head = self._seq + n, self._batch + 1, header_hash(header)
        return header

    def close(self) -> dict[str, object]:
        """Return what the manifest says of the log."""
        self._entries.close()
        self._sealed.close()
        return {"log": self.id, "shown": [[0, self._seq]]}


def _decision(random: Random, log_id: str, seq: int, at: int, sealed: str) -> bytes:
    """Return a decision as it is written when the sample policy decides."""
    from policy_engine.ledger.decisions import DecisionMembers, decision_public

    allowed = random.random() < 0.6
    reasons: tuple[tuple[str | None, str, tuple[str, ...]], ...] = (("P1", "tier.permitted", ()),)
    if not allowed:
        codes = ("origin.not-listed", "evidence.expired", "location.embargoed", "directive.blocked")
        reasons = tuple((f"P{random.randrange(20)}", code, ()) for code in random.sample(codes, random.randint(1, 3)))
    members = DecisionMembers(
        id=random.randbytes(16).hex(),
        outcome="allow" if allowed else "deny",
        action=random.choice(("infer", "infer", "infer", "list", "fine_tune")),
        model=random.choice(("fable-5", "mythos-5", "summit-4", "open-1")),
        asked="fable-latest" if random.random() < 0.2 else None,
        tier=random.randint(1, 5),
        tenant=f"tenant-{random.randrange(500)}",
        reasons=reasons,
        rules=tuple(sorted(f"sample/rule-{random.randrange(60)}" for _ in range(random.randint(1, 5)))),
        lifted=(),
        licences=(),
        missing=() if allowed else random.choice(((), ("screening",), ("citizenships", "residencies"))),
        flags=(),
        until=START + random.randrange(5) * 86_400_000_000,
        instant=at - random.randrange(2_000),
        by=f"key-{random.randrange(20)}",
        reached=True,
        epoch=1,
        release=RELEASE,
    )
    return decision_public(members, log_id, seq, at, random.randbytes(32).hex(), sealed)
