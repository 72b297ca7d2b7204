"""Verifying the whole log and the registers, first form: what a database says of itself, checked against itself.

It recomputes every leaf, body hash, batch root, header and the chain between headers, looks for gaps in the sequence,
replays the entries into state and registers, and compares both ways. With the vault it also opens every sealed part,
checks its commitment and its tags, and rebuilds the registers; without it, it checks rows against public commitments.
Rules: one moment of the database; streaming, so that memory grows with the registers and not with the log; every
finding names its place and no personal fact. What it cannot see is said in the report's note.
Left to others: the tree and its checkpoints (`verifytree`); bundles and witnesses, which see what all of this was
recomputed for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

from policy_engine.errors import StoreDamaged, VerificationFailed
from policy_engine.ledger.encoding import FIRST_PREVIOUS, Header, header_hash, parse_header, parse_public
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.sealing import TAG_BYTES, KeyVault, split_rows
from policy_engine.services.entrystream import EntryStream
from policy_engine.services.marks import NO_MARKS, MarkCheck, Marks
from policy_engine.services.projection import Projection
from policy_engine.services.timeline import Timeline
from policy_engine.services.unseal import Unsealer
from policy_engine.services.verifycolumns import verify_columns
from policy_engine.services.verifyrows import compare_registers
from policy_engine.services.verifytree import verify_tree
from policy_engine.store.interfaces import Head, LogView, StoredBatch, StoredEntry

FINDINGS_COUNT = 1_000
"""Findings listed one by one; the rest are counted."""

PROGRESS_ENTRIES = 10_000
"""Entries between two calls of the progress callback."""

NOTE = (
    "Without a checkpoint that somebody else keeps, a log whose end was cut off together with its tree, or that was "
    "recomputed and signed again, looks like an honest one."
)

UNOPENED = "Without the key file, sealed parts were not opened, and a register row that was taken out is not missed."

_Found = TypeVar("_Found")

Progress = Callable[[int, int], None]
"""Called with entries verified so far and entries in all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not agree: where, and what."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """What verifying found. `counts` says what was checked, `note` what could not be seen.

    `gone` says by which entry sealed parts were erased or pruned, and how many by each; `heads` where each log ends.
    """

    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    note: str
    more: int = 0
    gone: Mapping[str, int] = field(default_factory=dict)
    heads: tuple[Head, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def raise_if_failed(self) -> None:
        """Raise `VerificationFailed` with every finding, unless there are none."""
        if self.findings:
            raise VerificationFailed(
                f"the log or the registers fail verification in {len(self.findings) + self.more} places",
                tuple(str(finding) for finding in self.findings),
            )


def verify(view: LogView, vault: KeyVault | None, progress: Progress | None = None) -> Report:
    """Verify everything in a view; without a vault only what is public, and the note says so."""
    check = _Verification(view, vault, progress or (lambda done, total: None))
    check.run()
    note = NOTE if vault is not None else f"{NOTE} {UNOPENED}"
    more = max(0, len(check.findings) - FINDINGS_COUNT)
    heads = tuple(check.heads.values())
    return Report(tuple(check.findings[:FINDINGS_COUNT]), check.counts, note, more, check.marks.gone, heads)


class _Verification:
    """One run over one view."""

    def __init__(self, view: LogView, vault: KeyVault | None, progress: Progress) -> None:
        self._view = view
        self._progress = progress
        self.findings: list[Finding] = []
        self._marks = self._read("marks", lambda: Marks.of(view), NO_MARKS)
        self.marks = MarkCheck(self._marks, self.find)
        self._erased: set[tuple[str, int, int]] = set()
        self._unsealer = None if vault is None else Unsealer(vault, view.data_key, self._marks)
        self._projection = Projection()
        self._timeline = None if view.one_log else Timeline()
        self._commitments: dict[tuple[str, int, int], tuple[str, str]] = {}
        self._blobs: set[str] = set()
        heads = self._read("heads", view.heads, list[Head]())
        self.heads = {head.log_id: head for head in heads}
        self._total = sum(head.next_seq for head in self.heads.values())
        self._tags_indexed = 0
        self._last_at: dict[str, int] = {}
        self._led_to: tuple[int, str | None] = (0, None)
        self.counts = {"entries": 0, "batches": 0, "bodies": 0, "tags": 0, "rows": 0, "blobs": 0}

    def find(self, place: str, message: str) -> None:
        """Note one thing that does not agree."""
        self.findings.append(Finding(place, message))

    def _read(self, place: str, read: Callable[[], _Found], otherwise: _Found) -> _Found:
        try:
            return read()
        except StoreDamaged as damaged:
            self.find(place, damaged.message)
            return otherwise

    def run(self) -> None:
        """Check everything, the log first: the registers are compared with what it says."""
        if self._view.one_log and len(self.heads) > 1:
            self.find("heads", "the database holds more than one log")
        for place, check in (
            ("log", self._check_log),
            ("changes", self._check_changes),
            ("bodies", self._check_lone_bodies),
            ("tags", self._check_index),
            ("registers", self._check_rows),
            ("state", self._check_state),
            ("blobs", self._check_blobs),
            ("tree", self._check_tree),
            ("columns", lambda: verify_columns(self._view, self.find)),
            ("marks", lambda: self.marks.compare(self._view)),
        ):
            try:
                self._read(place, check, None)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                self.find(place, "something there is not what this program writes, and hides the rest from it")
        self._progress(self.counts["entries"], self.counts["entries"])

    # The log

    def _check_log(self) -> None:
        entries = EntryStream(self._view.scan_entries())
        expected: dict[str, Head] = {}
        for batch in self._view.scan_batches():
            before = expected.get(batch.log_id) or Head(batch.log_id, 0, 0, FIRST_PREVIOUS, 0, 0)
            expected[batch.log_id] = self._check_batch(batch, before, entries)
        for entry in entries.rest():
            self.find(_entry(entry.log_id, entry.seq), "the entry belongs to no batch")
            self._check_entry(entry, None)
        for log_id in expected.keys() | self.heads.keys():
            self._check_head(self.heads.get(log_id), expected.get(log_id), log_id)

    def _check_changes(self) -> None:
        """Replay the changes of several logs in their one order."""
        if self._timeline is not None:
            self._timeline.replay(self._projection, self.find)

    def _check_batch(self, batch: StoredBatch, before: Head, entries: EntryStream) -> Head:
        """Check one header and its entries, and return the head as it is after them."""
        self.counts["batches"] += 1
        place = f"batch {batch.batch} of log {batch.log_id}"
        hash = header_hash(batch.header)
        header: Header | None = None
        try:
            header = parse_header(batch.header)
        except VerificationFailed as failed:
            self.find(place, failed.message)
        if hash != batch.hash:
            self.find(place, "the hash beside the header is not the header's")
        if batch.batch != before.next_batch:
            self.find(place, f"batch {before.next_batch} is missing before it")
        if batch.first != before.next_seq:
            self.find(place, f"it begins at entry {batch.first} where entry {before.next_seq} comes next")
        if header is not None:
            columns = (batch.log_id, batch.batch, batch.first, batch.n)
            if (header.log_id, header.batch, header.first, header.n) != columns:
                self.find(place, "the columns beside the header do not say what it says")
            if batch.batch == before.next_batch and header.prev != before.head_hash:
                self.find(place, "the header does not follow the header before it")
        end = batch.first + batch.n
        for entry in entries.before(batch.log_id, batch.first):
            self.find(_entry(entry.log_id, entry.seq), "the entry belongs to no batch")
            self._check_entry(entry, None)
        own = list(entries.before(batch.log_id, end))
        self._check_members(place, batch, own, header)
        at = before.last_at if header is None else header.at
        return Head(batch.log_id, end, batch.batch + 1, hash, at, 0)

    def _check_members(self, place: str, batch: StoredBatch, own: list[StoredEntry], header: Header | None) -> None:
        there = {entry.seq for entry in own}
        for seq in range(batch.first, batch.first + batch.n):
            if seq not in there:
                self.find(_entry(batch.log_id, seq), "the entry is missing")
        leaves = [self._check_entry(entry, header) for entry in own]
        if header is None:
            return
        if len(own) == batch.n and root(leaves).hex() != header.root:
            self.find(place, f"its root is not that of entries {batch.first} to {batch.first + batch.n - 1}")
        if (header.epoch, header.release) != self._led_to:
            self.find(place, "the header names another epoch or release than its entries lead to")

    def _check_entry(self, entry: StoredEntry, header: Header | None) -> bytes:
        """Check one entry and return the hash that its bytes really have."""
        self.counts["entries"] += 1
        if self.counts["entries"] % PROGRESS_ENTRIES == 0:
            self._progress(self.counts["entries"], self._total)
        place = _entry(entry.log_id, entry.seq)
        leaf = leaf_hash(entry.public)
        if leaf != entry.leaf:
            self.find(place, "the leaf hash is not that of the public bytes")
        try:
            public = parse_public(entry.public)
            self._check_place(public, entry, header)
        except VerificationFailed as failed:
            self.find(place, failed.message)
            return leaf
        except (KeyError, TypeError, ValueError):
            self.find(place, "a member of the entry is missing or has the wrong type")
            return leaf
        for check in (self._follow, self._check_sealed):
            try:
                check(entry, public)
            except VerificationFailed as failed:
                self.find(place, failed.message)
            except (KeyError, TypeError, ValueError, AttributeError):
                self.find(place, "a member of the entry is missing or has the wrong type")
        return leaf

    def _check_place(self, public: Mapping[str, Any], entry: StoredEntry, header: Header | None) -> None:
        if (public["log"], public["seq"]) != (entry.log_id, entry.seq):
            raise VerificationFailed("the entry was written for another place")
        last = self._last_at.get(entry.log_id, 0)
        if public["at"] < last:
            raise VerificationFailed("the entry is earlier than the one before it")
        self._last_at[entry.log_id] = public["at"]
        if header is not None and public["at"] != header.at:
            raise VerificationFailed("the entry names another time than its batch")

    def _follow(self, entry: StoredEntry, public: Mapping[str, Any]) -> None:
        for item, (register, commit) in enumerate(public.get("rows", ())):
            self._commitments[entry.log_id, entry.seq, item] = (register, commit)
        self._blobs.update(public.get("blobs", ()))
        self.marks.follow(public)
        if self._timeline is None:
            self._projection.follow(public)
            self._led_to = (self._projection.state.epoch, self._projection.state.release)
        else:
            self._timeline.follow(entry, public)
            self._led_to = (public["epoch"], public["release"])

    def _check_sealed(self, entry: StoredEntry, public: Mapping[str, Any]) -> None:
        if public["sealed"] == "":
            if entry.sealed is not None:
                raise VerificationFailed("there is a body that the entry does not commit to")
            return
        if entry.sealed is None:
            raise VerificationFailed("the sealed body is missing")
        mark = self._marks.of_body(entry, public["at"])
        if not entry.sealed:
            if mark is None or entry.tags:
                raise VerificationFailed("the sealed body was emptied and no entry says so")
            self.marks.emptied(mark)
            return
        if mark is not None:
            raise VerificationFailed(f"the sealed body was {mark} and is still there")
        if sha256(entry.sealed).hexdigest() != public["sealed"]:
            raise VerificationFailed("the sealed body is not the one that the entry names")
        self.counts["bodies"] += 1
        self._follow_keys(entry, public)
        joined = entry.tags or b""
        tags = {joined[start : start + TAG_BYTES] for start in range(0, len(joined), TAG_BYTES)}
        self._check_tags(entry, tags)
        if self._unsealer is None:
            return
        if "rows" in public:
            rows = self._unsealer.rows(entry, public)
            if self._timeline is None:
                self._projection.put(entry.log_id, entry.seq, rows)
            else:
                self._timeline.put(entry, rows)
            expected: set[bytes] = set()
        else:
            expected = self._unsealer.tags(self._unsealer.body(entry, public), public)
        if tags != expected:
            raise VerificationFailed("its tags are not those of its sealed body")

    def _follow_keys(self, entry: StoredEntry, public: Mapping[str, Any]) -> None:
        """Note which rows of a change were erased, and which data keys are in use again."""
        if "rows" in public and entry.data_key is not None:
            self.find(_entry(entry.log_id, entry.seq), "its body names a data key, and its rows have each their own")
        place = (entry.log_id, entry.seq)
        keys = [entry.data_key] if "rows" not in public else [key for key, _ in split_rows(entry.sealed or b"")]
        for item, key in enumerate(keys):
            mark = None if key is None else self._marks.of_key(key, *place, public["at"])
            if mark is not None:
                self._erased.add((*place, item))
                self.marks.count(mark)
            elif key is not None:
                self.marks.used(key)

    def _check_tags(self, entry: StoredEntry, tags: set[bytes]) -> None:
        """Check that the index has the tags of a body that lies before its mark."""
        self.counts["tags"] += len(tags)
        head = self.heads.get(entry.log_id)
        if head is None or entry.seq >= head.tagged:
            return
        self._tags_indexed += len(tags)
        if not all(self._view.has_tag(tag, entry.log_id, entry.seq) for tag in tags):
            raise VerificationFailed("the index of tags lacks a tag of this entry")

    def _check_head(self, head: Head | None, expected: Head | None, log_id: str) -> None:
        place = f"head of log {log_id}"
        if head is None or expected is None:
            self.find(place, "a log and its head do not both exist")
            return
        found = (head.next_seq, head.next_batch, head.head_hash)
        if found != (expected.next_seq, expected.next_batch, expected.head_hash):
            self.find(place, "the log does not end where its head says")
        if head.last_at != expected.last_at:
            self.find(place, "the head names another time than the last batch")
        if not 0 <= head.tagged <= head.next_seq:
            self.find(place, "the mark of the index of tags lies outside the log")

    # What lies beside the log

    def _check_tree(self) -> None:
        self.counts |= verify_tree(self._view, self.find)

    def _check_lone_bodies(self) -> None:
        for log_id, seq in self._view.bodies_without_entry():
            self.find(_entry(log_id, seq), "there is a body and no entry")

    def _check_rows(self) -> None:
        opened = self._unsealer is not None
        compare_registers(self._view, self._projection, self._commitments, opened, self, self._erased)

    def _check_index(self) -> None:
        """Look for tags that no body has; only when their number is wrong, since each right one was found above."""
        if self._view.tags_count() == self._tags_indexed:
            return
        tags: dict[tuple[str, int], bytes] = {}
        for entry in self._view.scan_entries():
            head = self.heads.get(entry.log_id)
            if head is not None and entry.seq < head.tagged:
                tags[entry.log_id, entry.seq] = entry.tags or b""
        for tag, log_id, seq in self._view.scan_tags():
            joined = tags.get((log_id, seq), b"")
            own = {joined[start : start + TAG_BYTES] for start in range(0, len(joined), TAG_BYTES)}
            if tag not in own:
                self.find(_entry(log_id, seq), "the index has a tag that the entry's body has not")

    def _check_state(self) -> None:
        stored, expected = self._view.state(), self._projection.state
        for name in ("epoch", "release", "facts_revision", "sample"):
            if getattr(stored, name) != getattr(expected, name):
                self.find("state", f"its {name} is not the one that the log leads to")

    def _check_blobs(self) -> None:
        there = set()
        for hash, content in self._view.scan_blobs():
            self.counts["blobs"] += 1
            there.add(hash)
            if sha256(content).hexdigest() != hash:
                self.find(f"blob {hash}", "the content has another hash")
            if hash not in self._blobs:
                self.find(f"blob {hash}", "no entry stored it")
        for hash in sorted(self._blobs - there):
            self.find(f"blob {hash}", "the content is missing")


def _entry(log_id: str, seq: int) -> str:
    return f"entry {seq} of log {log_id}"
