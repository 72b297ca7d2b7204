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

BESIDE_COUNT: Final = 64
"""Tags of another term that candidates are asked for; with more of them, reading the entries costs as much."""

FOLLOWED_COUNT: Final = 64
"""Lists of labels that are followed beside those of tags, or before looking whether reading is quicker."""

BESIDE_LABELS: Final = frozenset({"epoch", "release"})
"""Columns that no label says."""

OF_CHANGES: Final = frozenset({"order", "order_kind", "switch", "proposal"})
"""Columns that the labels of changes do not say."""


Narrow = Callable[[Sequence[Candidate]], Sequence[Candidate]]
"""Leaves those of some candidates that may be what is asked for."""


@dataclass(frozen=True, slots=True)
class Source:
    """Either candidates, of which `narrow` leaves those that are worth reading, or entries that were read already."""

    candidates: Iterator[Candidate]
    narrow: Narrow
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
        return Source(iter(()), _all, self._read(after, before))

    def choose(self, after: Position, before: Position) -> Source:
        """Return what the index knows between two bounds, both before its end."""
        eras = self._index.eras()
        low, high = self._leaves(eras)
        after, before = max(after, (low, -1)), min(before, (high, -1))
        if after >= before:
            return Source(iter(()), _all)
        fitting = self._labels.fitting(self._index, self._question)
        streams: list[tuple[Iterator[Candidate], Narrow]] = []
        most = FOLLOWED_COUNT if self._sealed else self._limits.merged_labels_count
        if fitting is not None and len(fitting) <= most and not self._is_dense(fitting, after, before):
            streams.append((self._of_labels(sorted(fitting), after, before), _all))
        if self._sealed:
            logs = self._index.logs_between(after, before)
            terms = self._sealed.to_look_for(self._question, self._marks, eras)
            for place, tags in enumerate(terms):
                others = [other for at, other in enumerate(terms) if at != place and len(other) <= BESIDE_COUNT]
                streams.append((self._of_tags(tags, logs), partial(self._narrow, fitting, others)))
        if not streams:
            return self.reading(after, before)
        return Source(*_shortest(streams, self._newest_first))

    def _narrow(
        self, fitting: frozenset[int] | None, others: Sequence[Sequence[bytes]], candidates: Sequence[Candidate]
    ) -> Sequence[Candidate]:
        """Leave the candidates of a list of tags whose label fits, and that have a tag of each other term."""
        left = [candidate for candidate in candidates if fitting is None or candidate.label in fitting]
        for tags in others:
            if left:
                having = self._index.having(tags, [(candidate.log_id, candidate.position[1]) for candidate in left])
                left = [candidate for candidate in left if (candidate.log_id, candidate.position[1]) in having]
        return left

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


def _all(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    return candidates


def _shortest(
    streams: Sequence[tuple[Iterator[Candidate], Narrow]], newest_first: bool
) -> tuple[Iterator[Candidate], Narrow]:
    """Return the stream with the fewest candidates, as far as their beginnings tell."""
    if len(streams) == 1:
        return streams[0]
    begun = [(list(islice(stream, PROBED_COUNT)), stream, narrow) for stream, narrow in streams]
    ended = [item for item in begun if len(item[0]) < PROBED_COUNT]
    if ended:
        head, stream, narrow = min(ended, key=lambda item: len(item[0]))
    else:  # the one whose beginning reaches farthest is the sparsest
        head, stream, narrow = max(begun, key=lambda item: key_of(item[0][-1].position, newest_first))
    return chain(head, stream), narrow
