"""Where the entries come from that a question is held against: the lists of an index, or reading one after another.

Rules of the room: a source leaves out only what cannot be asked for; it may give what is not. Of several lists that all
must hold, the one with the fewest entries is followed, as far as their beginnings tell.
Left to others: whether an entry is what is asked for (`services.finding`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from threading import Lock
from typing import Any, Final

from policy_engine.limits import Limits
from policy_engine.services.merging import key_of, merge_lists, merge_logs
from policy_engine.services.questions import PublicTerm, Question
from policy_engine.services.taggedterms import SealedTerms
from policy_engine.store.indexinterfaces import Candidate, Era, IndexReader, Marks, Position, ReadEntry

READ_COUNT: Final = 1_000
"""Entries read at a time without an index."""

PROBED_COUNT: Final = 128
"""How many of each list are looked at before one is chosen."""

BESIDE_COUNT: Final = 16
"""Candidates of another list that may be read for each one that is followed: reading an entry costs as much."""

FOLLOWED_COUNT: Final = 64
"""Lists of labels that are followed beside those of tags, or before looking whether reading is quicker."""

BESIDE_LABELS: Final = frozenset({"epoch", "release"})
"""Columns that no label says."""

OF_CHANGES: Final = frozenset({"order", "order_kind", "switch", "proposal"})
"""Columns that the labels of changes do not say."""


@dataclass(frozen=True, slots=True)
class Source:
    """Either candidates, of which `fits` says which are worth reading, or entries that were read already."""

    candidates: Iterator[Candidate]
    fits: Callable[[Candidate], bool]
    entries: Iterator[ReadEntry] | None = None


class Labels:
    """The labels of a database, read once: they only become more."""

    def __init__(self) -> None:
        self._known: list[tuple[int, Mapping[str, Any]]] = []
        self._lock = Lock()

    def fitting(self, index: IndexReader, question: Question) -> frozenset[int] | None:
        """Return the labels whose entries may be what is asked for; `None` when those are all of them."""
        with self._lock:
            last = self._known[-1][0] if self._known else 0
            self._known += [(label, json.loads(says)) for label, says in index.labels(last)]
            known = self._known
        terms = [term for term in question.public if term.column not in BESIDE_LABELS]
        fitting = frozenset(label for label, says in known if all(_may_hold(term, says) for term in terms))
        return None if len(fitting) == len(known) else fitting


def _may_hold(term: PublicTerm, says: Mapping[str, Any]) -> bool:
    return (term.column in OF_CHANGES and says["kind"] != "decision") or term.holds(says)


class Sources:
    """The sources of one question at one moment."""

    def __init__(
        self,
        index: IndexReader,
        marks: Marks,
        question: Question,
        sealed: SealedTerms,
        labels: Labels,
        limits: Limits,
        newest_first: bool,
    ) -> None:
        self._index = index
        self._marks = marks
        self._question = question
        self._sealed = sealed
        self._labels = labels
        self._limits = limits
        self._newest_first = newest_first

    def reading(self, after: Position, before: Position) -> Source:
        """Return every entry between two bounds."""
        return Source(iter(()), lambda candidate: True, self._read(after, before))

    def choose(self, after: Position, before: Position) -> Source:
        """Return what the index knows between two bounds, both before its end."""
        eras = self._index.eras()
        low, high = self._leaves(eras)
        after, before = max(after, (low, -1)), min(before, (high, -1))
        if after >= before:
            return Source(iter(()), lambda candidate: False)
        fitting = self._labels.fitting(self._index, self._question)
        streams: list[_Stream] = []
        most = FOLLOWED_COUNT if self._sealed else self._limits.merged_labels_count
        if fitting is not None and len(fitting) <= most and not self._is_dense(fitting, after, before):
            streams.append(_Stream(self._of_labels(sorted(fitting), after, before), lambda candidate: True, tags=False))
        if self._sealed:
            logs = self._index.logs_between(after, before)
            wanted = (lambda candidate: True) if fitting is None else (lambda candidate: candidate.label in fitting)
            for tags in self._sealed.to_look_for(self._question, self._marks, eras):
                streams.append(_Stream(self._of_tags(tags, logs), wanted, tags=True))
        if not streams:
            return self.reading(after, before)
        return Source(*_shortest(streams, self._newest_first))

    def _is_dense(self, fitting: frozenset[int], after: Position, before: Position) -> bool:
        """Return whether so many entries are what is asked for that reading all of them costs less than many lists."""
        if self._sealed or len(fitting) <= FOLLOWED_COUNT:
            return False
        first = self._index.read(after, before, newest_first=self._newest_first, with_tags=False, count=PROBED_COUNT)
        return 4 * sum(self._question.matches(json.loads(entry.public)) for entry in first) > PROBED_COUNT

    def _leaves(self, eras: Sequence[Era]) -> tuple[int, int]:
        """Return the leaves between which the answer lies, by time and epoch: the first, and the first behind."""
        low, high = 0, self._marks.indexed
        late = self._index.lateness()
        if self._question.since is not None:
            low = self._index.leaf_reached(self._question.since)
        until = self._question.until
        fitting = [era for era in eras if self._in_era(era)]
        if len(fitting) < len(eras):
            first = min((era.epoch for era in fitting), default=None)
            if first is None:
                return 0, 0
            low = max(low, min(era.leaf for era in eras if era.epoch >= first))
            ended = [era.at for era in eras if era.epoch > max(era.epoch for era in fitting)]
            if ended:
                until = min(ended) + 1 if until is None else min(until, min(ended) + 1)
        if until is not None:
            high = min(high, self._index.leaf_reached(until + late))
        return low, high

    def _in_era(self, era: Era) -> bool:
        """Return whether an entry of an epoch can be what is asked for."""
        said = {"kind": "", "epoch": era.epoch, "release": era.release}
        return all(term.holds(said) for term in self._question.public if term.column in BESIDE_LABELS)

    def _of_labels(self, labels: Sequence[int], after: Position, before: Position) -> Iterator[Candidate]:
        def listed(some: Sequence[int], behind: Position | None, count: int) -> Mapping[int, Sequence[Candidate]]:
            low, high = after, before
            if behind is not None:
                low, high = (low, behind) if self._newest_first else (behind, high)
            return self._index.listed(some, low, high, newest_first=self._newest_first, count=count)

        return merge_lists(labels, listed, self._newest_first)

    def _of_tags(self, tags: Sequence[bytes], logs: Sequence[tuple[str, Position, Position]]) -> Iterator[Candidate]:
        lists = [
            (last if self._newest_first else first, partial(self._of_log, tags, log_id, first[1], last[1]))
            for log_id, first, last in logs
        ]
        return merge_logs(lists, self._newest_first)

    def _of_log(self, tags: Sequence[bytes], log_id: str, first: int, last: int) -> Iterator[Candidate]:
        def listed(some: Sequence[bytes], behind: Position | None, count: int) -> Mapping[bytes, Sequence[Candidate]]:
            low, high = first, last
            if behind is not None:
                low, high = (low, behind[1] - 1) if self._newest_first else (behind[1] + 1, high)
            return self._index.tagged(some, log_id, low, high, newest_first=self._newest_first, count=count)

        return merge_lists(tags, listed, self._newest_first)

    def _read(self, after: Position, before: Position) -> Iterator[ReadEntry]:
        while True:
            part = self._index.read(
                after, before, newest_first=self._newest_first, with_tags=bool(self._sealed), count=READ_COUNT
            )
            yield from part
            if len(part) < READ_COUNT:
                return
            after, before = (after, part[-1].position) if self._newest_first else (part[-1].position, before)


@dataclass(frozen=True, slots=True)
class _Stream:
    """The candidates of one list, which of them are worth reading, and whether it is a list of tags."""

    candidates: Iterator[Candidate]
    fits: Callable[[Candidate], bool]
    tags: bool


class _Beside:
    """A list that must hold as well, read along the one that is followed, for as long as that is cheap."""

    def __init__(self, candidates: Iterator[Candidate], newest_first: bool) -> None:
        self._keys = (key_of(candidate.position, newest_first) for candidate in candidates)
        self._newest_first = newest_first
        self._at: Position | None = next(self._keys, None)
        self._asked = self._read = 0

    def may_have(self, candidate: Candidate) -> bool:
        """Return false when the list does not have a candidate; candidates come in order."""
        wanted = key_of(candidate.position, self._newest_first)
        self._asked += 1
        while self._at is not None and self._at < wanted:
            self._read += 1
            if self._read > BESIDE_COUNT * (self._asked + PROBED_COUNT):
                return True  # too dear so far: the entry itself will tell
            self._at = next(self._keys, None)
        return self._at == wanted


def _shortest(
    streams: Sequence[_Stream], newest_first: bool
) -> tuple[Iterator[Candidate], Callable[[Candidate], bool]]:
    """Return the stream with the fewest candidates, as far as their beginnings tell, and what the others say of it."""
    if len(streams) == 1:
        return streams[0].candidates, streams[0].fits
    begun = [(list(islice(stream.candidates, PROBED_COUNT)), stream) for stream in streams]
    ended = [item for item in begun if len(item[0]) < PROBED_COUNT]
    if ended:
        followed = min(ended, key=lambda item: len(item[0]))
    else:  # the one whose beginning reaches farthest is the sparsest
        followed = max(begun, key=lambda item: key_of(item[0][-1].position, newest_first))
    # What labels say of a candidate of tags, `fits` knows without reading their lists.
    others = [
        _Beside(chain(head, stream.candidates), newest_first)
        for head, stream in begun
        if stream.tags and stream is not followed[1]
    ]
    head, stream = followed
    return chain(
        head, stream.candidates
    ), lambda candidate: stream.fits(candidate) and all(other.may_have(candidate) for other in others)
