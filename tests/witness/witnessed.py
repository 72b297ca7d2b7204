"""What the tests of the witness stand on: logs in memory that grow and fork, and the real program in a process."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from policy_engine.ledger.checkpoint import Checkpoint, sign_checkpoint
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.note import Ed25519Signer, VerifierKey
from policy_engine.ledger.proofs import LeafNodes, make_consistency
from policy_engine.ledger.witnessing import write_submission

ORIGIN = "log.example/global"
LOG = Ed25519Signer(ORIGIN, sha256(b"key of the log").digest())
OTHER = Ed25519Signer("log.example/other", sha256(b"key of the other log").digest())
NAME = "witness.example/one"


@dataclass(slots=True)
class Tree:
    """A log in memory. Whoever has its key may let it say anything: `forked` goes on from an earlier size otherwise."""

    signer: Ed25519Signer = LOG
    leaves: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, count: int, word: str = "leaf", signer: Ed25519Signer = LOG) -> Tree:
        """Return a log of so many leaves made of a word."""
        return cls(signer).grown(count, word)

    def grown(self, count: int, word: str = "leaf") -> Tree:
        """Return the log with more leaves behind it."""
        first = len(self.leaves)
        return Tree(self.signer, [*self.leaves, *(leaf_hash(f"{word} {first + n}".encode()) for n in range(count))])

    def forked(self, size: int, count: int) -> Tree:
        """Return the log as it was at a size, with other leaves behind it."""
        return Tree(self.signer, self.leaves[:size]).grown(count, "another leaf")

    @property
    def size(self) -> int:
        """Return how many leaves it has."""
        return len(self.leaves)

    def checkpoint(self) -> Checkpoint:
        """Return what it says its tree is."""
        return Checkpoint(self.signer.key.name, self.size, root(self.leaves))

    def note(self) -> bytes:
        """Return its signed checkpoint."""
        return sign_checkpoint(self.checkpoint(), [self.signer])

    def proof(self, old_size: int) -> list[bytes]:
        """Return the proof that it grew from an older size of its own."""
        return [] if old_size in (0, self.size) else make_consistency(old_size, self.size, LeafNodes(self.leaves))

    def submission(self, old_size: int, proof: Sequence[bytes] | None = None) -> bytes:
        """Return the body that asks for a cosignature."""
        return write_submission(old_size, self.proof(old_size) if proof is None else proof, self.note())


def configure(folder: Path, *logs: Ed25519Signer) -> str:
    """Make the key (once) and the configuration of a witness in a folder; return its verifier key text."""
    key = folder / "witness.key"
    if not key.exists():
        command = [sys.executable, "-m", "policy_engine_witness", "new-key", NAME, str(key)]
        made = subprocess.run(command, capture_output=True, text=True, check=True)
        (folder / "witness.vkey").write_text(made.stdout)
    configure_keys(folder, *(log.key for log in logs or (LOG, OTHER)))
    return (folder / "witness.vkey").read_text().strip()


def configure_keys(folder: Path, *keys: VerifierKey) -> None:
    """Name other logs in a witness's configuration."""
    tables = "".join(f'[[log]]\norigin = "{key.name}"\nkeys = ["{key}"]\n' for key in keys)
    (folder / "witness.toml").write_text(f'key = "witness.key"\ndatabase = "witness.db"\n{tables}')


@dataclass(frozen=True, slots=True)
class Running:
    """A witness in a process of its own."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        """Return status, media type and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()
        finally:
            connection.close()

    def add(self, body: bytes) -> tuple[int, str, bytes]:
        """Ask for a cosignature."""
        return self.ask("POST", "/add-checkpoint", body)

    def newest(self, origin: str = ORIGIN) -> tuple[int, str, bytes]:
        """Ask for the last cosigned checkpoint of a log."""
        return self.ask("GET", f"/{sha256(origin.encode()).hexdigest()}/checkpoint")

    def kill(self) -> None:
        """End it as a power failure would, as far as a process can tell."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(folder: Path, *, program: str = "", port: int = 0) -> Iterator[Running]:
    """Run the witness of a configured folder; `program` is Python code that runs before it, in its process."""
    start = ["-m", "policy_engine_witness"]
    if program:
        start = ["-c", f"{program}\nfrom policy_engine_witness.cli import main\nmain()\n"]
    command = [sys.executable, *start, "--config", str(folder / "witness.toml"), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    with (folder / "witness.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line:
            raise AssertionError(f"the witness did not start: {(folder / 'witness.log').read_text()[-2000:]}")
        yield Running(process, int(line.rpartition(":")[2]))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
