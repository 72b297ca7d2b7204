"""Writing a bundle: what `policy-engine-verify` needs to check the log offline, as a folder or a .zip.

Rules of the room:
- Everything is of one moment of the database, and goes no further than its newest checkpoint. Stored bytes are written
  as they lie there, one to a line: what was changed in the database is changed in the bundle, and is found.
- All leaves are in it. Entries are shown by whole batches: all of them, or those of a period with the batches behind it
  that erased or pruned something, so that no body is missing unexplained. While such a batch is not in the tree, no
  bundle with bodies is made (`require_told`).
- The bundle is written beside its place, synced, and put there in one step; what is not finished is taken away.
- The manifest is for readers. Nobody signs it and the verifier does not believe it.
Left to others: who may export what (`services.exports`), opening bodies (`bundletexts`), checking (the verifier).
"""

from __future__ import annotations

import os
import secrets
import shutil
import zipfile
from array import array
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import IO, Any

import orjson

from policy_engine.core.instants import format_instant
from policy_engine.errors import Conflict, InputRefused
from policy_engine.ledger.canonical import canonical
from policy_engine.ledger.spelling import HASH_BYTES
from policy_engine.ledger.tiles import TILE_HASHES
from policy_engine.services.bundleplace import (
    FORMAT,
    MANIFEST,
    put_folder,
    remove_aside,
    require_name,
    require_replaceable,
)
from policy_engine.services.exports.files import sync
from policy_engine.store.interfaces import LogView, StoredEntry
from policy_engine.store.treeinterfaces import StoredCheckpoint

PROGRESS_ENTRIES = 10_000
NOTE = (
    "Check this bundle with policy-engine-verify and with the key of the log from elsewhere: this file is signed by "
    "nobody, and what it says is not believed."
)

Texts = Callable[[StoredEntry, Mapping[str, Any]], Sequence[tuple[str | None, bytes | None]]]
"""Opens the sealed part of an entry: `(data key, committed text)` for each commitment; `None` for what is gone."""

Progress = Callable[[int], None]
"""Called with the entries written so far."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a bundle holds. `partial` says that not every entry in the tree is shown."""

    place: Path
    size: int
    entries: int
    shown: int
    key: str
    unsealed: bool

    @property
    def partial(self) -> bool:
        """Whether not every entry in the tree is shown."""
        return self.shown < self.entries


@dataclass(slots=True)
class _Batches:
    """The batches of one log in the tree: `first, n, at` one after another, and the ranges of entries shown."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    shown: list[list[int]] = field(default_factory=list)

    @property
    def entries(self) -> int:
        return self.numbers[-3] + self.numbers[-2] if self.numbers else 0

    def each(self) -> Iterator[tuple[int, int, int]]:
        numbers = iter(self.numbers)
        return zip(numbers, numbers, numbers, strict=True)

    def show(self, first: int, end: int) -> None:
        if self.shown and self.shown[-1][1] == first:
            self.shown[-1][1] = end
        else:
            self.shown.append([first, end])


def write_bundle(
    view: LogView,
    target: Path,
    *,
    since: int | None = None,
    until: int | None = None,
    sealed: bool = False,
    bodies: Texts | None = None,
    releases: Mapping[str, Mapping[str, bytes]] | None = None,
    at: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write the log of a view as a bundle to `target`: a .zip when it is so named, else a folder.

    Batches with `since <= at < until` are shown. `sealed` adds the ciphertexts, `bodies` what it opens of them (the
    caller has logged that), `releases` the files of `bundletexts.release_files` by the hash of the release.
    Raises `InputRefused` when nothing was signed yet, the place cannot be written, or a folder that is no bundle would
    be replaced, `Conflict` when the place is taken and `force` is false, and whatever `bodies` raises. A failed call
    leaves nothing behind.
    """
    require_name(target)
    if not force and target.exists():
        raise Conflict(f"{target} exists already; name another place, or say --force to replace it")
    if target.suffix != ".zip":
        require_replaceable(target)
    with _whole(target, force=force) as folder:
        writing = _Writing(view, folder, since, until, bool(sealed), bodies, progress or (lambda done: None))
        return writing.run(target, dict(releases or {}), at)


def require_told(view: LogView) -> None:
    """Raise `Conflict` while the tree lacks an entry that erased or pruned something: a verifier would miss the bodies.

    Bodies are those of now and entries those under the newest checkpoint, so what is gone must be told by one of them.
    Raises `InputRefused` when nothing was signed yet.
    """
    size = _newest(view).size
    last: dict[str, int] = {}
    by = [(key.log_id, key.seq) for key in view.erased_keys()]
    by += [(part.by_log, part.by_seq) for part in view.pruned_ranges()]
    for log_id, seq in by:  # a log goes into the tree in its own order: its last mark stands for the earlier ones
        last[log_id] = max(seq, last.get(log_id, -1))
    for log_id, seq in last.items():
        leaf = view.leaf_of(log_id, seq)
        if leaf is None or leaf.leaf >= size:
            raise Conflict("an erasure or pruning is not in the tree yet; try again in a second")


def _newest(view: LogView) -> StoredCheckpoint:
    newest = view.checkpoint()
    if newest is None:
        raise InputRefused("nothing of this log was signed yet; start the service, or `policy-engine audit verify`")
    return newest


@contextmanager
def _whole(target: Path, *, force: bool) -> Iterator[Path]:
    """Offer an empty folder, and put what was written into it at `target` when the block ends without an error."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    packed = part.with_suffix(".zip")
    try:
        part.mkdir(mode=0o700)
        yield part
        if target.suffix == ".zip":
            _packed(part, packed).replace(target)
            sync(target.parent)
        else:
            remove_aside(put_folder(_synced(part), target, force=force))
    except OSError as error:
        reason = error.strerror or "input or output error"
        raise InputRefused(f"cannot be written ({reason})", where=str(target)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            packed.unlink(missing_ok=True)


def _synced(folder: Path) -> Path:
    """Make the names of the members durable; each was synced itself when it was written."""
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            sync(path)
    return folder


def _packed(folder: Path, packed: Path) -> Path:
    with zipfile.ZipFile(packed, "x", zipfile.ZIP_DEFLATED, compresslevel=6, strict_timestamps=False) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    packed.chmod(0o600)
    sync(packed)
    return packed


class _Writing:
    """One bundle on its way into an empty folder."""

    def __init__(
        self,
        view: LogView,
        folder: Path,
        since: int | None,
        until: int | None,
        sealed: bool,
        bodies: Texts | None,
        progress: Progress,
    ) -> None:
        self._view, self._folder = view, folder
        self._since, self._until = since, until
        self._sealed, self._bodies, self._progress = sealed, bodies, progress
        self._logs: dict[str, _Batches] = {}
        self._done = 0

    def run(self, target: Path, releases: dict[str, Mapping[str, bytes]], at: int | None) -> Written:
        """Write every member, the manifest last."""
        state, newest = self._view.tree_state(), _newest(self._view)
        self._small("checkpoint", newest.note)
        self._leaves(newest.size)
        for log_id, entries in groupby(self._view.scan_entries(), key=lambda entry: entry.log_id):
            if log_id in self._logs:
                self._log(log_id, entries)
        for hash, content in self._view.scan_blobs():
            self._small(f"blobs/{hash}", content)
        for release, files in releases.items():
            for name, content in files.items():
                self._small(f"releases/{release.removeprefix('sha256:')}/{name}", content)
        shown = sum(end - first for batches in self._logs.values() for first, end in batches.shown)
        entries_count = sum(batches.entries for batches in self._logs.values())
        written = Written(target, newest.size, entries_count, shown, state.key, self._bodies is not None)
        self._small(MANIFEST, self._manifest(written, state.origin, at))
        return written

    def _manifest(self, written: Written, origin: str, at: int | None) -> bytes:
        logs = [
            {"log": log, "batches": len(batches.numbers) // 3, "entries": batches.entries, "shown": batches.shown}
            for log, batches in self._logs.items()
        ]
        members = {
            "format": FORMAT,
            "origin": origin,
            "size": written.size,
            "key": written.key,
            "made_at": None if at is None else format_instant(at),
            "logs": logs,
            "unsealed": written.unsealed,
            "note": NOTE,
        }
        return orjson.dumps(members, option=orjson.OPT_INDENT_2) + b"\n"

    def _leaves(self, size: int) -> None:
        """Write the leaves up to the size that was signed, and beside them the hashes that the tree has of them."""
        with self._open("leaves.jsonl") as out:
            for leaf in self._view.scan_leaves(0, size):
                out.write(leaf.data + b"\n")
                batches = self._logs.setdefault(leaf.log_id, _Batches())
                if leaf.batch is not None:
                    batches.numbers.extend(_numbers(leaf.data))
        with self._open("hashes/leaves") as out:
            for number in range((size + TILE_HASHES - 1) // TILE_HASHES):
                hashes = self._view.tile(0, number) or b""
                out.write(hashes[: (size - number * TILE_HASHES) * HASH_BYTES])

    def _log(self, log_id: str, entries: Iterator[StoredEntry]) -> None:
        """Write the entries of one log that are in the tree and in the period."""
        batches = self._logs[log_id]
        with ExitStack() as opened:
            outs = {
                name: opened.enter_context(self._open(f"{name}/{log_id}{suffix}"))
                for name, suffix, wanted in (
                    ("entries", ".jsonl", True),
                    ("hashes", "", True),
                    ("sealed", ".jsonl", self._sealed),
                    ("bodies", ".jsonl", self._bodies is not None),
                )
                if wanted
            }
            for first, n, at in batches.each():
                batch = list(islice(entries, n))
                if not self._is_shown(at, batch):
                    continue
                batches.show(first, first + n)
                for entry in batch:
                    self._entry(entry, outs)

    def _is_shown(self, at: int, batch: list[StoredEntry]) -> bool:
        """Return whether a batch is of the period, or took away bodies that may be of it."""
        if self._until is not None and at >= self._until:
            return any(b'"erases":{' in entry.public or b'"prunes":{' in entry.public for entry in batch)
        return self._since is None or at >= self._since

    def _entry(self, entry: StoredEntry, outs: Mapping[str, IO[bytes]]) -> None:
        outs["entries"].write(entry.public + b"\n")
        outs["hashes"].write(entry.leaf)
        if "sealed" in outs and entry.sealed is not None:
            text = b64encode(entry.sealed).decode()
            outs["sealed"].write(canonical({"key": entry.data_key, "sealed": text, "seq": entry.seq}) + b"\n")
        if self._bodies is not None and entry.sealed is not None:
            texts = self._bodies(entry, orjson.loads(entry.public))
            members = {
                "keys": [key for key, _ in texts],
                "seq": entry.seq,
                "texts": [None if text is None else b64encode(text).decode() for _, text in texts],
            }
            outs["bodies"].write(canonical(members) + b"\n")
        self._done += 1
        if self._done % PROGRESS_ENTRIES == 0:
            self._progress(self._done)

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        """Offer a member to write to; it is synced when it is whole."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())

    def _small(self, name: str, content: bytes) -> None:
        with self._open(name) as out:
            out.write(content)


def _numbers(header: bytes) -> tuple[int, int, int]:
    """Return `first, n, at` of a header. Bytes that are none count as an empty batch, which the verifier will find."""
    try:
        members = orjson.loads(header)
        return int(members["first"]), int(members["n"]), int(members["at"])
    except (ValueError, KeyError, TypeError):
        return 0, 0, 0
