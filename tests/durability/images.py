"""What a disk may hold after a loss of power: everything made durable, and any part of the rest in any order.

Rules of the model:
- A file's bytes and its length are durable after its own fsync returned, names after their folder's. Nothing else is.
- Folders are there as soon as they were made, and move with their names.
- Of the rest a loss keeps nothing, all, a beginning (its last write torn), any writes, any sectors, or any sectors in
  any order: `LOSSES`. Writes to different files are not ordered by anything but fsync.
- After an fsync that failed, what it was to write counts as clean: a later fsync does not write it, though reading
  shows it. Writing to such a page again makes the whole page count (as kernels do).
- What is named `-shm` is memory: after the loss it is gone, or holds rubbish.
Left to others: how programs behave on such a disk (tests), and disks that lie about fsync (nobody can stand that).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.durability.journal import Step

PAGE_BYTES = 4096
SECTORS_BYTES = (512, 4096)

Write = tuple[int, bytes | None]
"""Bytes at an offset, or (with `None`) the length that a file was cut or grown to."""


@dataclass(slots=True)
class File:
    """One file, whatever its names: what is durable, what reading shows, and what is on its way between the two."""

    durable: bytearray = field(default_factory=bytearray)
    cache: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)
    lost_pages: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, data: bytes) -> File:
        """Return a file that was there before, durably."""
        return cls(bytearray(data), bytearray(data))

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes; a page that a failed fsync left behind is now written as a whole."""
        put(self.cache, (offset, data))
        first, last = offset // PAGE_BYTES, (offset + len(data) - 1) // PAGE_BYTES
        again = self.lost_pages.intersection(range(first, last + 1))
        for page in sorted(again):
            start = page * PAGE_BYTES
            self.pending.append((start, bytes(self.cache[start : start + PAGE_BYTES])))
        self.lost_pages -= again
        self.pending.append((offset, data))

    def cut(self, size: int) -> None:
        """Cut or grow the file."""
        put(self.cache, (size, None))
        self.pending.append((size, None))

    def sync(self) -> None:
        """Make everything durable that is on its way."""
        for write in self.pending:
            put(self.durable, write)
        self.pending.clear()

    def fail(self) -> None:
        """Forget what was on its way."""
        for offset, data in self.pending:
            if data:
                self.lost_pages.update(range(offset // PAGE_BYTES, (offset + len(data) - 1) // PAGE_BYTES + 1))
        self.pending.clear()


def put(content: bytearray, write: Write) -> None:
    """Apply one write to a file's bytes."""
    offset, data = write
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


@dataclass
class Disk:
    """The disk after the steps it was told; `said` are the program's marks among them."""

    names: dict[str, File] = field(default_factory=dict)
    visible: dict[str, File] = field(default_factory=dict)
    moves: list[tuple[str, tuple[str, ...], File]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    steps_count: int = 0
    _inodes: dict[int, File] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, said: Sequence[str] = ()) -> Disk:
        """Return the disk as a folder holds it before the program starts, all of it durable."""
        disk = cls(said=list(said))
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.endswith("-shm"):
                name = str(path.relative_to(folder))
                disk.names[name] = disk.visible[name] = disk._inodes[path.stat().st_ino] = File.of(path.read_bytes())
        return disk

    def follow(self, steps: Iterable[Step]) -> None:
        """Take the next steps."""
        for step in steps:
            self._take(step)
            self.steps_count += 1

    def _take(self, step: Step) -> None:
        match step.kind:
            case "M":
                self.said.append(step.data.decode())
            case "W":
                self._inodes[step.inode].write(step.offset, step.data)
            case "T":
                self._inodes[step.inode].cut(step.offset)
            case "S":
                self._inodes[step.inode].sync()
            case "s":
                self._inodes[step.inode].fail()
            case "D":
                self._sync_folder(step.data.decode())
            case "C":
                self._inodes[step.inode] = File()
                self._move("L", (step.names[0], step.names[0]), self._inodes[step.inode])
            case "P":
                self._move("P", step.names, File())
            case "U" | "R" | "L":
                self._move(step.kind, step.names, self._inodes[step.inode])
            case "N" | "d":
                pass  # folders count as there; names whose folder was not synced stay on their way

    def _move(self, kind: str, names: tuple[str, ...], file: File) -> None:
        self.moves.append((kind, names, file))
        move(self.visible, kind, names, file)

    def _sync_folder(self, folder: str) -> None:
        elsewhere = []
        for kind, names, file in self.moves:
            if Path(names[-1]).parent == Path(folder):
                if kind == "R" and Path(names[0]).parent != Path(folder):
                    elsewhere.append(("U", names[:1], file))  # its old name is the other folder's
                    kind = "L"
                move(self.names, kind, names, file)
                if kind == "P":
                    elsewhere = [(other, inside(about, *names), one) for other, about, one in elsewhere]
            else:
                elsewhere.append((kind, names, file))
        self.moves = elsewhere

    @property
    def waiting_count(self) -> int:
        """How many writes and names are on their way."""
        return len(self.moves) + sum(len(file.pending) for file in self._inodes.values())


def move(names: dict[str, File], kind: str, about: tuple[str, ...], file: File) -> None:
    """Apply one change of names. Changes may be lost one by one, so a name may not be there."""
    if kind == "P":
        for name in list(names):
            names[inside((name,), *about)[0]] = names.pop(name)
        return
    if kind == "R":
        names.pop(about[0], None)
    if kind == "U":
        names.pop(about[0], None)
    else:
        names[about[1]] = file


def inside(names: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    """Return names as they are after a folder got another name."""
    return tuple(f"{new}/{name.removeprefix(f'{old}/')}" if name.startswith(f"{old}/") else name for name in names)


@dataclass(frozen=True, slots=True)
class Loss:
    """A way to lose power: which writes on their way to a file still arrive, and which names."""

    name: str
    keeps: Callable[[random.Random, Sequence[Write]], Sequence[Write]]


def _nothing(chance: random.Random, writes: Sequence[Write]) -> Sequence[Write]:
    return ()


def _all(chance: random.Random, writes: Sequence[Write]) -> Sequence[Write]:
    return writes


def _beginning(chance: random.Random, writes: Sequence[Write]) -> Sequence[Write]:
    if not writes:
        return ()
    count = chance.randrange(len(writes))
    offset, data = writes[count]
    if not data:
        return writes[:count]
    sector = chance.choice(SECTORS_BYTES)
    torn = data[: sector * chance.randrange(len(data) // sector + 1)]
    return [*writes[:count], *([(offset, torn)] if torn else [])]


def _some(chance: random.Random, writes: Sequence[Write]) -> Sequence[Write]:
    often = chance.random()
    return [write for write in writes if chance.random() < often]


def _sectors(chance: random.Random, writes: Sequence[Write]) -> Sequence[Write]:
    often, sector = chance.random(), chance.choice(SECTORS_BYTES)
    return [piece for write in writes for piece in _pieces(write, sector) if chance.random() < often]


def _shuffled(chance: random.Random, writes: Sequence[Write]) -> Sequence[Write]:
    kept = list(_sectors(chance, writes))
    chance.shuffle(kept)
    return kept


def _pieces(write: Write, sector: int) -> list[Write]:
    """Cut a write at the borders of sectors."""
    offset, data = write
    if data is None:
        return [write]
    pieces: list[Write] = []
    at = 0
    while at < len(data):
        end = min(len(data), at + sector - (offset + at) % sector)
        pieces.append((offset + at, data[at:end]))
        at = end
    return pieces


LOSSES = (
    Loss("drop", _nothing),
    Loss("keep", _all),
    Loss("tear", _beginning),
    Loss("some", _some),
    Loss("sectors", _sectors),
    Loss("shuffle", _shuffled),
)


def image(disk: Disk, loss: Loss, chance: random.Random, under: str = "") -> Mapping[str, bytes]:
    """Return the files under a folder, by their names in it, that are there after the power went."""
    names = dict(disk.names)
    moves = list(range(len(disk.moves)))
    if loss.name in ("some", "sectors", "shuffle"):
        kept = [number for number in moves if chance.random() < 0.5]
    else:
        kept = moves[: {"drop": 0, "keep": len(moves)}.get(loss.name, chance.randrange(len(moves) + 1))]
    for number in kept:
        move(names, *disk.moves[number])
    found: dict[str, bytes] = {}
    for name, file in names.items():
        if not name.startswith(under):
            continue
        content = bytearray(file.durable)
        for write in loss.keeps(chance, file.pending):
            put(content, write)
        found[name.removeprefix(under)] = bytes(content)
    return found


def lay(files: Mapping[str, bytes], folder: Path, chance: random.Random) -> None:
    """Write an image to an empty folder; beside a database there may be rubbish where its memory was."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.chmod(path, 0o600)
        if name + "-wal" in files and chance.random() < 0.3:
            path.with_name(path.name + "-shm").write_bytes(chance.randbytes(32_768))
