"""Whether a leaf may follow: the life of each writer log, from `open` over its batches to its end.

Rules, each with its own reason: a log is opened once and first; the next batch has the next number, begins with the
next sequence number, and names the hash of the header before it; time and epoch never run backwards; what ends a log
says how much of it there is, and nothing follows. A gap, a fork and a changed header are told apart.
One log's leaves come in order; leaves of different logs may lie between them in any order.
Left to others: hashing the entries of a batch (`merkle`), the tree over the leaves (`compact`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from policy_engine.ledger.encoding import FIRST_PREVIOUS, Header, header_hash
from policy_engine.ledger.leaves import Abandoned, Closed, Leaf, Opened, parse_leaf
from policy_engine.ledger.refusals import EvidenceRefused, Reason


@dataclass(frozen=True, slots=True)
class LogTip:
    """Where a log stands after its leaves so far: what it has, its last header's hash, and whether it has ended."""

    log_id: str
    batches: int = 0
    entries: int = 0
    head: str = FIRST_PREVIOUS
    epoch: int = 0
    at: int = 0
    ended: bool = False


def unopened(log_id: str) -> LogTip:
    """Return the tip before the first header of a log that was begun before there was a tree (no `open` leaf)."""
    return LogTip(log_id)


def tip_at(data: bytes) -> LogTip:
    """Return the tip behind a leaf that was checked before, as a sequencer needs it when it starts again.

    Raises as `parse_leaf` does; it checks nothing else.
    """
    return _tip_behind(parse_leaf(data), data)


def next_of(tip: LogTip | None, data: bytes) -> LogTip:
    """Return the tip behind a leaf that follows `tip`; `None` when the log has no leaf yet.

    Raises as `parse_leaf` does, and `EvidenceRefused`: `NOT_OPENED`, `OPENED_TWICE`, `ENDED`, `OTHER_LOG`, `GAP`,
    `REPEATED`, `FORK`, `OTHER_PREVIOUS`, `TIME_BACKWARDS`, `EPOCH_BACKWARDS`.
    """
    return behind(tip, parse_leaf(data), data)


def behind(tip: LogTip | None, leaf: Leaf, data: bytes) -> LogTip:
    """Return the tip behind a leaf that was parsed already; `data` are its bytes. Raises as `next_of` does."""
    if tip is None:
        if not isinstance(leaf, Opened):
            raise EvidenceRefused(Reason.NOT_OPENED, "the log has a leaf before it is opened")
        return _tip_behind(leaf, data)
    if leaf.log_id != tip.log_id:
        raise EvidenceRefused(Reason.OTHER_LOG, "the leaf is of another log")
    if isinstance(leaf, Opened):
        raise EvidenceRefused(Reason.OPENED_TWICE, "the log is opened a second time")
    if isinstance(leaf, Header):
        _check_batch(tip, leaf, data)
    else:
        _check_end(tip, leaf)
    if leaf.at < tip.at:
        raise EvidenceRefused(Reason.TIME_BACKWARDS, "the leaf is dated before the one in front of it")
    if leaf.epoch < tip.epoch:
        raise EvidenceRefused(Reason.EPOCH_BACKWARDS, "the leaf has an older epoch than the one in front of it")
    return _tip_behind(leaf, data)


def _tip_behind(leaf: Leaf, data: bytes) -> LogTip:
    if isinstance(leaf, Opened):
        return LogTip(leaf.log_id, epoch=leaf.epoch, at=leaf.at)
    if isinstance(leaf, Header):
        return LogTip(leaf.log_id, leaf.batch + 1, leaf.first + leaf.n, header_hash(data), leaf.epoch, leaf.at)
    return LogTip(leaf.log_id, leaf.batches, leaf.entries, leaf.head, leaf.epoch, leaf.at, ended=True)


def _check_batch(tip: LogTip, header: Header, data: bytes) -> None:
    if header.batch + 1 == tip.batches and header_hash(data) == tip.head:
        raise EvidenceRefused(Reason.REPEATED, "the batch header is there already")
    if header.batch < tip.batches:
        raise EvidenceRefused(Reason.FORK, "the log has a header under this number already, and it is past it")
    if tip.ended:
        raise EvidenceRefused(Reason.ENDED, "a batch follows the end of its log")
    if header.batch > tip.batches:
        raise EvidenceRefused(Reason.GAP, "a batch of the log was left out")
    if header.prev != tip.head:
        raise EvidenceRefused(Reason.OTHER_PREVIOUS, "the batch header names another header as the one before it")
    if header.first != tip.entries:
        raise EvidenceRefused(Reason.GAP, "the batch does not begin with the next sequence number")


def _check_end(tip: LogTip, end: Closed | Abandoned) -> None:
    if tip.ended:
        raise EvidenceRefused(Reason.ENDED, "the log has ended already")
    if end.batches > tip.batches:
        raise EvidenceRefused(Reason.GAP, "the log ends with more batches than there are")
    if end.batches < tip.batches:
        raise EvidenceRefused(Reason.FORK, "the log ends with fewer batches than there are")
    if end.head != tip.head:
        raise EvidenceRefused(Reason.OTHER_PREVIOUS, "the log ends on another header than its last one")
    if end.entries != tip.entries:
        raise EvidenceRefused(Reason.GAP, "the log ends with another number of entries than there are")


class Logs:
    """The tips of all logs of a global tree, as its leaves are added in order."""

    __slots__ = ("_tips",)

    def __init__(self, tips: Mapping[str, LogTip] = MappingProxyType({})) -> None:
        self._tips = dict(tips)

    @property
    def tips(self) -> Mapping[str, LogTip]:
        """Return the tip of each log by its id."""
        return MappingProxyType(self._tips)

    def add(self, data: bytes) -> LogTip:
        """Check that a leaf may come next, and return the new tip of its log. A refused leaf changes nothing.

        Raises as `next_of` does.
        """
        tip = next_of(self._tips.get(parse_leaf(data).log_id), data)
        self._tips[tip.log_id] = tip
        return tip
