"""What lies beside the log in a bundle: the manifest, ciphertexts, opened bodies, receipts, proofs and blobs.

A body that is not there is accounted for by an entry that erased its key or pruned its range, or it is missing. The key
of a register's row accounts for rows of that register and for no decision, and for no more of them than it had.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection
from hashlib import sha256
from itertools import accumulate
from typing import Any

from policy_engine_verify import limits
from policy_engine_verify.formats import Checkpoint, Key, Refused, base64, canonical, key
from policy_engine_verify.locate import Part
from policy_engine_verify.logs import Entry, Header, Tip
from policy_engine_verify.proofs import Proved, Receipt, check_entry, check_receipt, parse_receipt
from policy_engine_verify.report import Given, Place
from policy_engine_verify.source import Lines, Source
from policy_engine_verify.tree import Growing

FORMAT = "policy-engine-bundle/v1"
_SEALED = re.compile(rb'\{"key":(?:"([^"\\]*)"|null),"sealed":"([^"\\]*)","seq":(0|[1-9][0-9]{0,15})\}')
_TEXT = re.compile(rb'\{"body":(.*),"salt":"([0-9a-f]{64})"\}', re.DOTALL)


Find = Callable[[str, Place], None]
_Event = tuple[int, tuple[str, int]]
"""When an entry that took bodies away was written, and its log and number."""


def manifest_of(source: Source) -> dict[str, Any]:
    """Return the manifest, which nobody signed. Raises `Refused` when the bundle is none of ours."""
    try:
        found = json.loads(source.read("manifest.json", limits.SMALL_BYTES))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Refused(f"the bundle is foreign: its manifest does not say {FORMAT}")
    return found


def shown_of(manifest: dict[str, Any], log: str) -> list[Part]:
    """Return the ranges of entries that the manifest says are shown of a log. Raises `Refused` unless they ascend."""
    try:
        ranges: Any = next((each["shown"] for each in manifest["logs"] if each["log"] == log), [])
        found = [(int(first), int(end)) for first, end in ranges]
    except (TypeError, KeyError, ValueError, OverflowError):  # JSON knows numbers beyond every float
        raise Refused("the manifest does not say which entries are shown") from None
    bounds = [0, *(bound for each in found for bound in each)]
    if bounds != sorted(bounds):  # or a line could be counted to two places, and be looked at in none
        raise Refused(f"the manifest shows ranges of log {log} that overlap, or end before they begin")
    before = accumulate((end - first for first, end in found), initial=0)
    return [Part(first, end, count) for (first, end), count in zip(found, before, strict=False)]


def files_of(source: Source, release: str) -> dict[str, str]:
    """Return the digests of the files of a release by their paths.

    Raises `Refused` unless the list in the bundle is the one that the release has its name from, and the model and the
    policy beside it are those that it names. The policy of a release made of packs is in no list.
    """
    folder = f"releases/{release}"
    try:
        found = dict(json.loads(source.read(f"{folder}/files.json", 8 * limits.SMALL_BYTES)))
        text = json.dumps(sorted(found.items()), ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError):
        raise Refused("the list of the files of a release in the bundle cannot be read") from None
    if sha256(text).hexdigest() != release:
        raise Refused("the list of files in the bundle is not that of the release")
    for file in ("model.conf", "policy.csv"):
        data = source.read(f"{folder}/{file}", 8 * limits.SMALL_BYTES)
        if (file == "model.conf" or file in found) and sha256(data).hexdigest() != found.get(file):
            raise Refused(f"the {file} in the bundle is not that of the release")
    return found


class _Aside:
    """Lines that hold something for some entries, read beside the entries in their order."""

    def __init__(self, lines: Lines, parse: Callable[[bytes, str], tuple[int, Any]]) -> None:
        self._lines, self._parse = lines, parse
        self._waits: tuple[int, Any] | None = None
        self._next()

    def _next(self) -> None:
        taken = self._lines.take(1)
        self._waits = self._parse(taken[0], self._lines.name) if taken else None

    def of(self, seq: int, damaged: bool) -> Any:
        """Return what there is for an entry, `None` if nothing. Raises `Refused` for a line of no entry.

        `damaged`: entries in front of it were changed or taken out, so that their lines belong to nobody here.
        """
        strays = 0
        while self._waits and self._waits[0] < seq:
            strays += 1
            self._next()
        found = None
        if self._waits and self._waits[0] == seq:
            found = self._waits[1]
            self._next()
        if strays and not damaged:
            raise Refused(
                f"{strays} lines of {self._lines.name} before it are of no entry that has a body, or come twice"
            )
        return found

    @property
    def left(self) -> bool:
        """Whether a line waits behind the last entry."""
        return self._waits is not None


def _sealed(line: bytes, name: str) -> tuple[int, tuple[str | None, bytes]]:
    found = _SEALED.fullmatch(line)
    if not found:
        raise Refused(f"a line of {name} is no ciphertext in its one spelling")
    sealed = base64(found[2].decode(errors="replace"), f"a ciphertext of {name}")
    return int(found[3]), (None if found[1] is None else found[1].decode(errors="replace"), sealed)


def _texts(line: bytes, name: str) -> tuple[int, list[tuple[Any, bytes | None]]]:
    members = canonical(line, f"a line of {name}")
    types = {"keys": list, "seq": int, "texts": list}
    if not isinstance(members, dict) or {member: type(value) for member, value in members.items()} != types:
        raise Refused(f"a line of {name} has other members than version 1 has")
    texts = [None if text is None else base64(str(text), f"a text of {name}") for text in members["texts"]]
    if len(members["keys"]) != len(texts):
        raise Refused(f"a line of {name} has not a key for each text")
    return members["seq"], list(zip(members["keys"], texts, strict=True))


def _is_before(one: _Event, other: _Event) -> bool:
    """Return whether an entry was written before another: by its number within a log, else by its time."""
    return one[1][1] < other[1][1] if one[1][0] == other[1][0] else one[0] <= other[0]


def _is_within(seq: int, ranges: list[tuple[int, int]]) -> bool:
    """Return whether ranges in order, none of which overlap, hold a number."""
    place = bisect_left(ranges, (seq + 1, 0)) - 1
    return place >= 0 and seq < ranges[place][1]


class Beside:
    """One run beside one bundle: told of each batch and each entry as they come."""

    def __init__(self, source: Source, given: Given, find: Find, counts: Counter[str], unsealed: bool) -> None:
        self._source, self._given, self._find, self._counts = source, given, find, counts
        self._folders = {name.partition("/")[0] for name in source.sizes} | ({"bodies"} if unsealed else set())
        """What is shown of any log, or said to be, is shown of each: one without its file has nothing there."""
        self._asides: dict[tuple[str, str], _Aside] = {}
        self._receipts: dict[tuple[str, int], list[tuple[str, Receipt, Any]]] = {}
        """By batch: what it is called, and the id of the decision that the answer around it named."""
        self._good: list[tuple[str, Receipt, Any]] = []
        """Those of the batch that is looked at now which the writer signed."""
        self._proofs: dict[tuple[str, int], list[tuple[str, Proved]]] = {}
        self._absent: dict[tuple[str, int, int, Any], tuple[int, Any]] = {}
        self._erased: dict[str, list[tuple[_Event, Any]]] = {}
        self._pruned: dict[str, list[tuple[_Event, list[tuple[int, int]]]]] = {}
        """By log: what each event emptied of it, in order, so that one body is not looked for in every range."""
        self._roots: dict[int, list[tuple[bytes, str]]] = {}
        """The root that the log signed for a size of its tree, and what to say where the tree had another."""
        self.damaged: set[str] = set()
        """Logs of which the last batch was not whole."""
        self._erased_count: Counter[tuple[tuple[str, int], str | None]] = Counter()

    @property
    def every(self) -> bool:
        """Whether the bundle holds anything for single entries."""
        return not self._folders.isdisjoint(("sealed", "bodies"))

    def begin(self, log_key: Key, since: Checkpoint | None) -> None:
        """Read the receipts that were given, and the receipts and proofs in the bundle."""
        if since is not None:
            message = "the log was forked: its first leaves are not those of the earlier checkpoint"
            self._roots[since.size] = [(since.root, message)]
        papers = (*self._within("receipts/"), *self._within("proofs/"))
        if sum(self._source.sizes[name] for name in papers) > limits.KEPT_BYTES:
            raise Refused(f"the receipts and proofs in the bundle are longer than {limits.KEPT_BYTES} bytes together")
        for name in self._within("proofs/"):
            self._counts["proofs"] += 1
            try:
                found = check_entry(self._source.read(name, limits.PROOF_BYTES), log_key, self._given.witnesses, 0)
            except Refused as refused:
                self._find(f"{name}: {refused}", Place())
                continue
            self._proofs.setdefault((found.header.log, found.header.batch), []).append((name, found))
            forked = f"{name}: the log was forked: its first leaves are not those of the proof's checkpoint"
            self._roots.setdefault(found.stated.size, []).append((found.stated.root, forked))
        inside = [(name, self._source.read(name, limits.RECEIPT_BYTES)) for name in self._within("receipts/")]
        # Two of one name are two: what the auditor kept is not replaced by what lies in the bundle.
        for name, data in (*self._given.receipts.items(), *inside):
            try:
                receipt = parse_receipt(data)
                place = (receipt.header.log, receipt.header.batch)
                told = self._given.ids.get(name) if data is self._given.receipts.get(name) else None
                self._receipts.setdefault(place, []).append((name, receipt, told))
            except Refused as refused:
                self._find(f"{name}: {refused}", Place())

    def _within(self, folder: str) -> list[str]:
        return [name for name in self._source.sizes if name.startswith(folder)]

    def compare(self, tree: Growing) -> None:
        """Compare the tree at a size with each root that the log signed for it."""
        for root, message in self._roots.get(tree.size, ()):
            if tree.root() != root:
                self._find(message, Place(leaf=tree.size))

    def batch(self, number: int, header: Header, line: bytes, tip: Tip) -> None:
        """Compare the receipts and proofs of a batch with what the log has in its place, at this leaf."""
        for name, proved in self._proofs.pop((header.log, header.batch), ()):
            if (proved.header_bytes, proved.leaf) != (line, number):
                why = "the log signed another batch than it has now, or had it elsewhere: the log was forked"
                self._find(f"{name}: {why}", Place(header.log, header.batch, proved.entry["seq"], number))
        self._good = []
        for name, receipt, told in self._receipts.pop((header.log, header.batch), ()):
            self._counts["receipts"] += 1
            try:
                if tip.key is None:
                    raise Refused("the log names no key for receipts, so nobody can tell who signed it")
                check_receipt(receipt, key(tip.key))
                if receipt.header_bytes != line:
                    raise Refused("the writer signed another batch than the log has now: the log was rewritten")
                self._good.append((name, receipt, told))
            except Refused as refused:
                self._find(f"{name}: {refused}", Place(header.log, header.batch, receipt.seq))

    def shown(self, header: Header, own: list[bytes], at: Place) -> None:
        """Compare what callers were told with the entries of the last batch, which are those that it committed."""
        for name, receipt, told in self._good:
            entry = json.loads(own[receipt.seq - header.first])
            if (entry.get("kind"), entry.get("outcome")) != ("decision", "allow"):
                message = "the entry is no allow, and nothing else has a receipt: its caller was told otherwise"
                self._find(f"{name}: {message}", at._replace(seq=receipt.seq))
            elif told is not None and entry.get("id") != told:
                message = "the answer named another decision than the entry that it holds the receipt of"
                self._find(f"{name}: {message}", at._replace(seq=receipt.seq))

    def entry(self, entry: Entry, at: Place, same: bool) -> None:
        """Take in what an entry took away from others, and check what lies beside it. `same`: its batch is whole."""
        damaged = entry.log in self.damaged
        if same and entry.sealed:
            self.damaged.discard(entry.log)
        for check in (self._follow, self._check_sealed, self._check_texts):
            try:
                check(entry, damaged)
            except Refused as refused:
                self._find(str(refused), at._replace(seq=entry.seq))
            except (TypeError, KeyError, IndexError, ValueError, AttributeError):
                self._find("what the entry says of bodies cannot be read", at._replace(seq=entry.seq))

    def _follow(self, entry: Entry, damaged: bool) -> None:
        """Take in data keys that an entry destroyed (`erases`), and ranges whose bodies it emptied (`prunes`)."""
        members, place = entry.members or {}, (entry.log, entry.seq)
        erases = members.get("erases") if members.get("kind") == "erased" else None
        prunes = members.get("prunes") if members.get("kind") == "pruned" else None
        if erases:
            self._erased_count[place, None] += erases["bodies"]
            rows = {name: register for register, name, _ in erases["rows"]}
            for name in erases["keys"]:
                self._erased.setdefault(name, []).append(((entry.at, place), rows.get(name)))
            self._erased_count.update({(place, name): revision for _, name, revision in erases["rows"]})
        ranges: dict[str, list[tuple[int, int]]] = {}
        for log, first, end in prunes["ranges"] if prunes else ():
            ranges.setdefault(log, []).append((int(first), int(end)))
        for log, own in ranges.items():
            self._pruned.setdefault(log, []).append(((entry.at, place), sorted(own)))
        for name in members.get("blobs", ()):
            if f"blobs/{name}" not in self._source.sizes:
                raise Refused("a file of a release that it stored is missing from blobs/")

    def _aside(self, folder: str, log: str, parse: Callable[[bytes, str], tuple[int, Any]]) -> _Aside | None:
        if folder not in self._folders:
            return None
        if (folder, log) not in self._asides:
            self._asides[folder, log] = _Aside(self._source.lines(f"{folder}/{log}.jsonl"), parse)
        return self._asides[folder, log]

    def _check_sealed(self, entry: Entry, damaged: bool) -> None:
        lines = self._aside("sealed", entry.log, _sealed) if entry.sealed else None
        if lines is None:
            return
        name, sealed = lines.of(entry.seq, damaged) or (None, b"")
        if not sealed:
            self._absent[entry.log, entry.seq, 0, name] = entry.at, None
        elif sha256(sealed).hexdigest() != entry.sealed:
            raise Refused("the ciphertext is not the one that the entry names")
        self._counts["ciphertexts"] += bool(sealed)

    def _check_texts(self, entry: Entry, damaged: bool) -> None:
        lines = self._aside("bodies", entry.log, _texts) if entry.sealed else None
        if lines is None:
            return
        rows = None if entry.members is None else entry.members.get("rows")
        commits = [(None, entry.commit)] if rows is None else rows
        opened = lines.of(entry.seq, damaged) or [(None, None)] * len(commits)
        if len(opened) != len(commits):
            raise Refused("another number of texts was opened than the entry commits to")
        for item, ((name, text), (register, commit)) in enumerate(zip(opened, commits, strict=True)):
            parts = _TEXT.fullmatch(text or b"")
            if text is None:
                self._absent[entry.log, entry.seq, item, name] = entry.at, register
            elif parts is None or sha256(bytes.fromhex(parts[2].decode()) + parts[1]).hexdigest() != commit:
                raise Refused("an opened text is not the one that the entry committed to")
            self._counts["opened texts"] += text is not None

    # What is left at the end

    def end(self, logs: Collection[str]) -> None:
        """Account for what is not there, and for what nobody asked for. `logs` have batches in the tree."""
        kept = [(place, each[0], each[1].seq) for place, found in self._receipts.items() for each in found]
        kept += [(place, each[0], each[1].entry["seq"]) for place, found in self._proofs.items() for each in found]
        for (log, batch), name, seq in kept:
            why = "it was deleted, or is younger than this checkpoint"
            self._find(f"{name}: its batch is not in the tree: {why}", Place(log, batch, seq))
        for (folder, log), lines in self._asides.items():
            if lines.left:
                self._find(f"{folder} holds lines behind those of the last entry that has a body", Place(log))
        for name, size in self._source.sizes.items():
            folder, _, rest = name.partition("/")
            log = rest.removesuffix(".jsonl")
            if folder in ("entries", "sealed", "bodies") and size and log not in logs:
                self._find(f"{name} shows something of a log that has no batch", Place(log))
            elif folder in ("sealed", "bodies") and size and (folder, log) not in self._asides:
                self._find(f"{name} shows something of entries that are not shown, or that have no body", Place(log))
            self._check_member(name)
        for release in sorted({name.split("/")[1] for name in self._within("releases/")}):
            try:
                files_of(self._source, release)
            except Refused as refused:
                self._find(f"releases/{release}: {refused}", Place())
        self._account()

    def _account(self) -> None:
        """Say of each body that is not there which entry took it away. What no entry says is missing."""
        claims: Counter[tuple[tuple[str, int], str | None]] = Counter()
        for (log, seq, _, name), (at, register) in self._absent.items():
            erased = (
                each
                for each, of in self._erased.get(name, ())
                if of == register and (seq < each[1][1] if each[1][0] == log else at < each[0])
            )
            of_log = self._pruned.get(log, ()) if register is None else ()  # bodies of changes are never pruned
            pruned = [each for each, ranges in of_log if _is_within(seq, ranges)]
            event = min(erased, default=None)  # the earliest, wherever the tree has it
            if event is not None:
                gone_before = any(_is_before(each, event) for each in pruned)  # and so not counted by it
                claims[event[1], register and name] += not gone_before
                self._counts[f"bodies erased by entry {event[1][0]}:{event[1][1]}"] += 1
            elif pruned:
                self._counts["bodies pruned by event {}:{}".format(*pruned[0][1])] += 1
            else:
                self._find("the body is missing, and no entry says why", Place(log, seq=seq))
        for ((log, seq), key_of_row), count in claims.items():
            if count > self._erased_count[(log, seq), key_of_row]:
                message = f"{count} bodies are gone under the keys that it erased, and it erased fewer"
                self._find(message, Place(log, seq=seq))

    def _check_member(self, name: str) -> None:
        try:
            if name.startswith("blobs/"):
                self._counts["blobs"] += 1
                if sha256(self._source.read(name, 8 * limits.SMALL_BYTES)).hexdigest() != name[6:]:
                    raise Refused("its content does not hash to its name")
        except Refused as refused:
            self._find(f"{name}: {refused}", Place())
