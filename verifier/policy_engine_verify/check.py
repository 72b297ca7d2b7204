"""The whole check of a bundle: one pass over the leaves, and over the entries of each batch as its leaf comes.

Nothing but the key, the witnesses and the earlier checkpoint that were given is believed. The manifest says what the
bundle means to show, and is held to it. Each finding names its place. What lies beside the log is `beside`'s.
"""

from __future__ import annotations

from policy_engine_verify import limits
from policy_engine_verify.beside import Beside, manifest_of, shown_of
from policy_engine_verify.formats import Refused, checkpoint, key
from policy_engine_verify.locate import Part, in_step, part_of, skipped, unlike, where
from policy_engine_verify.logs import Header, Tip, check_batch, follow, parse_leaf
from policy_engine_verify.report import Given, Place, Report
from policy_engine_verify.source import Lines, Source
from policy_engine_verify.tree import Growing, leaf_hash


class _Enough(Exception):
    """As many findings as are listed."""


class Check:
    """One run over one bundle."""

    def __init__(self, source: Source, given: Given) -> None:
        self._source = source
        self._manifest = manifest_of(source)
        self._log = given.key or key(str(self._manifest.get("key")))
        data = source.read("checkpoint", limits.NOTE_BYTES)
        stated = checkpoint(data, self._log, given.witnesses, given.quorum, "the checkpoint")
        self.report = Report(stated)
        self._beside = Beside(source, given, self.find, self.report.counts, self._manifest.get("unsealed") is True)
        if given.since is not None:
            self.report.since = checkpoint(given.since, self._log, [], 0, "the earlier checkpoint")
        self._logs: dict[str, tuple[Lines, list[Part]]] = {}

    def run(self) -> Report:
        """Check everything, and return what was found."""
        try:
            self._beside.begin(self._log, self.report.since)
            self._leaves()
            for log, (lines, _) in self._logs.items():
                if lines.take(1):
                    self.find("there are more entries than the leaves and the manifest say", Place(log))
            self._beside.end(self._logs.keys())
        except _Enough:
            self.report.findings.append(("there is more, and checking stopped here", Place()))
        return self.report

    def find(self, message: str, place: Place) -> None:
        """Note what does not agree."""
        self.report.findings.append((message, place))
        if len(self.report.findings) >= limits.FINDINGS_COUNT:
            raise _Enough

    # The tree

    def _leaves(self) -> None:
        """Check each leaf with its batch, and the roots at both sizes."""
        stated, since = self.report.stated, self.report.since
        lines, tree = self._source.lines("leaves.jsonl"), Growing()
        if since and since.size > stated.size:
            self.find(f"the log was rolled back: it had {since.size} leaves and has {stated.size}", Place())
        while tree.size < stated.size and (taken := lines.take(min(1_024, stated.size - tree.size))):
            for line in taken:
                self._beside.compare(tree)
                hash = leaf_hash(line)
                self._leaf(tree.size, line, hash, lines.plain)
                tree.add(hash)
        self._beside.compare(tree)
        if tree.size < stated.size:
            self.find(f"leaves are missing from here on: {stated.size} were signed", Place(leaf=tree.size))
        elif lines.take(1):
            self.find(f"there are more leaves than the {stated.size} that were signed", Place(leaf=tree.size))
        if tree.size == stated.size and tree.root() != stated.root:
            for number in unlike(self._source, stated.size, stated.root):
                self.find("the leaves are not those that were signed: another root", Place(leaf=number))

    def _leaf(self, number: int, line: bytes, hash: bytes, plain: bool) -> None:
        tips, leaf, log = self.report.tips, None, None
        try:
            leaf = parse_leaf(line, plain)
            log = leaf.log if isinstance(leaf, Header) else str(leaf["log"])
            tips[log] = follow(tips.get(log), leaf, hash)
        except Refused as refused:
            self.find(str(refused), Place(log, leaf=number))
            tip = tips.get(log or "")
            if tip is None or not isinstance(leaf, Header) or leaf.batch < tip.batches:
                return
            tip.batches, tip.entries, tip.head = leaf.batch + 1, leaf.first + leaf.n, hash.hex()  # said once; go on
        if isinstance(leaf, Header):
            self._batch(number, leaf, line, tips[leaf.log])

    # Batches

    def _batch(self, number: int, header: Header, line: bytes, tip: Tip) -> None:
        log, at = header.log, Place(header.log, header.batch, None, number)
        self.report.counts["batches"] += 1
        self._beside.batch(number, header, line, tip)
        if log not in self._logs:
            lines = self._source.lines(f"entries/{log}.jsonl")
            self._logs[log] = lines, shown_of(self._manifest, log)
        lines, shown = self._logs[log]
        part = part_of(shown, header.first)
        if part is None:
            self.report.partial = True
            return
        if header.n > limits.BATCH_ENTRIES_COUNT:
            raise Refused(f"a batch of log {log} has over {limits.BATCH_ENTRIES_COUNT} entries")
        passed = skipped(header, part, tip.shown, lines)  # which only a leaf that could not be read is a reason for
        if passed and not self.report.findings:
            self.find("entries in front of it are shown, and not whole batches of the log", at)
        tip.shown += passed
        own, strays = in_step(header, lines)
        if strays:
            self.find(f"{strays} lines before or in it are of no batch, or are there twice", at)
        same, entries, wrong = check_batch(header, own, lines.plain, tip.entry_epoch, self._beside.every)
        if not same:  # each line that is not as it was committed is said once, by its place if that can be told
            self._beside.damaged.add(log)
            found = where(header, own, self._source.hashes(log, tip.shown, header.n))
            wrong = found + ([] if any(seq is not None for seq, _ in found) else wrong)
        for seq, message in wrong:
            self.find(message, at._replace(seq=seq))
        if same and not wrong:
            self._beside.shown(header, own, at)
        tip.shown, tip.entry_epoch = tip.shown + header.n, max(tip.entry_epoch, header.epoch)
        self.report.counts["entries"] += len(own)
        for entry in entries:
            self._beside.entry(entry, at, same)
