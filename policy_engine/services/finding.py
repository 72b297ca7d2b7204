"""Finding what a question asks for, in the order of the log, with the index where there is one and without elsewhere.

Rules of the room:
- The index narrows and the entry decides: whatever is found was read, and says what was asked.
- In one page everything is of one moment. From page to page an entry is named, and found again where it then lies.
- A page looks at a bounded number of entries and says where it stopped; it never leaves out what it passed.
- What is durable and not indexed is read. Where there are several logs, entries count once they are in the tree.
Left to others: who may ask, and the entry that says so (`services.evidence`); lists (`services.sources`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from policy_engine.errors import InputRefused, VerificationFailed
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import Limits
from policy_engine.services.questiongroups import QuestionGroups
from policy_engine.services.questions import EVERYTHING, Found, Question, entry_name
from policy_engine.services.sources import Labels, Source, Sources
from policy_engine.services.taggedterms import SealedTerms
from policy_engine.store.indexinterfaces import END, PENDING, START, IndexReader, Marks, Position, ReadEntry
from policy_engine.store.interfaces import Store

STREAMED_COUNT = 4_096
"""Entries looked at in one moment while everything is streamed."""

_NAME = re.compile(r"(?:([0-9a-f]{16}):)?([0-9]{1,18})")

NARROWED_COUNT = 512
"""Entries of a list that other lists are asked about at a time."""

FETCHED_COUNT = 128
"""Entries read at a time when lists name them."""


Looked = tuple[Found | None, str, int]
"""An entry that was looked at: as it was found, or `None` when it is not what was asked for; its log and number."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What one moment gave: entries found, and the name of the last one looked at, if there is more behind it.

    `final` says that no entry can come any more that the question would have found in this slice's past.
    """

    found: tuple[Found, ...]
    after: str | None
    final: bool


class Finder:
    """Finds entries on one store."""

    def __init__(self, store: Store, vault: KeyVault, groups: QuestionGroups, limits: Limits) -> None:
        self._store = store
        self._vault = vault
        self._groups = groups
        self._limits = limits
        self._labels = Labels()

    def page(self, question: Question, *, limit: int, after: str | None, newest_first: bool) -> Slice:
        """Return up to `limit` entries behind the one that `after` names.

        Raises `InputRefused` for a name that names none.
        """
        found: list[Found] = []
        last = ("", 0)
        with self._store.finding() as index:
            marks = index.marks()
            start, end = self._bounds(index, after, newest_first)
            looking = self._looked(index, marks, question, start, end, newest_first)
            for count, (one, log_id, seq) in enumerate(looking):
                if count == self._limits.looked_entries_count:
                    return Slice(tuple(found), entry_name(*last, one_log=marks.one_log), False)
                if one is not None and len(found) == limit:
                    return Slice(tuple(found), found[-1].name, False)
                last = (log_id, seq)
                if one is not None:
                    found.append(one)
        return Slice(tuple(found), None, _is_final(question, marks, self._store.now()))

    def is_final(self, question: Question) -> bool:
        """Return whether an answer that is begun now and looks at everything can be missing nothing."""
        with self._store.finding() as index:
            return _is_final(question, index.marks(), self._store.now())

    def stream(self, question: Question, *, newest_first: bool) -> Iterator[Found]:
        """Yield everything that is found, from one moment to the next."""
        after: str | None = None
        while True:
            part, after = self._part(question, after, newest_first)
            yield from part
            if after is None:
                return

    def _part(self, question: Question, after: str | None, newest_first: bool) -> tuple[list[Found], str | None]:
        """Return what one moment of a stream finds, and the entry behind which the next one goes on."""
        found: list[Found] = []
        with self._store.finding() as index:
            marks = index.marks()
            start, end = self._bounds(index, after, newest_first)
            looking = self._looked(index, marks, question, start, end, newest_first)
            for count, (one, log_id, seq) in enumerate(looking, start=1):
                if one is not None:
                    found.append(one)
                if count == STREAMED_COUNT:
                    return found, entry_name(log_id, seq, one_log=marks.one_log)
        return found, None

    def _bounds(self, index: IndexReader, after: str | None, newest_first: bool) -> tuple[Position, Position]:
        if after is None:
            return START, END
        log_id, seq = parse_entry_name(after, "after")
        position = index.position_of(log_id, seq)
        if position is None:
            raise InputRefused("names no entry; give what an earlier page ended with", where="after")
        return (START, position) if newest_first else (position, END)

    def _looked(
        self, index: IndexReader, marks: Marks, question: Question, start: Position, end: Position, newest_first: bool
    ) -> Iterator[Looked]:
        """Yield what is looked at between two bounds, in order: from lists before the frontier, by reading behind."""
        question = EVERYTHING if question == EVERYTHING else question
        sealed = SealedTerms(question.sealed, self._vault, self._groups)
        frontier = (min(marks.indexed, marks.tagged) if question.sealed else marks.indexed, -1)
        sources = Sources(index, marks, question, sealed, self._labels, self._limits, newest_first)
        listed = (sources.choose, max(start, START), min(end, frontier))
        rest = (sources.reading, max(start, frontier), end)
        for make, low, high in (rest, listed) if newest_first else (listed, rest):
            if low < high:
                yield from self._from(make(low, high), index, marks, question, sealed)

    def _from(
        self, source: Source, index: IndexReader, marks: Marks, question: Question, sealed: SealedTerms
    ) -> Iterator[Looked]:
        """Yield what a source names or reads, each looked at."""
        with_tags = bool(question.sealed)
        if source.entries is not None:
            for entry in source.entries:
                yield _look(entry, marks, question, sealed)
            return
        while part := list(islice(source.candidates, NARROWED_COUNT)):
            wanted = list(dict.fromkeys(candidate.position for candidate in source.narrow(part)))
            places = {position: place for place, position in enumerate(wanted)}
            read: dict[Position, ReadEntry] = {}
            for candidate in part:
                place = places.get(candidate.position)
                if place is not None and place % FETCHED_COUNT == 0:
                    some = index.fetch(wanted[place : place + FETCHED_COUNT], with_tags=with_tags)
                    read = {entry.position: entry for entry in some}
                own = read.get(candidate.position)
                if own is not None:
                    yield _look(own, marks, question, sealed)
                elif candidate.log_id:
                    yield None, candidate.log_id, candidate.position[1]


def _look(entry: ReadEntry, marks: Marks, question: Question, sealed: SealedTerms) -> Looked:
    """Look at an entry: it is found when it says what is asked for."""
    position, log_id, seq, data, tags = entry
    public = None
    if question is not EVERYTHING:
        try:
            public = json.loads(data)
            if not question.matches(public) or not sealed.hold(public, tags):
                return None, log_id, seq
        except (AttributeError, LookupError, TypeError, ValueError):
            place = f"entry {seq} of log {log_id}"
            raise VerificationFailed(f"{place} is not what this program writes; run `audit verify`") from None
    leaf = None if position[0] == PENDING else position[0]
    return Found(log_id, seq, leaf, data, one_log=marks.one_log, public=public), log_id, seq


def _is_final(question: Question, marks: Marks, now: int) -> bool:
    """Return whether nothing can be missing from an answer that looked at everything.

    With an end in the past: no entry before it is pending or will come. Else: everything durable was looked at.
    """
    if question.until is not None and question.until <= now:
        return question.until <= marks.horizon
    return marks.one_log or not marks.pending


def parse_entry_name(text: str, where: str) -> tuple[str | None, int]:
    """Return the log (`None`: the only one) and the number that a name of an entry says.

    Raises `InputRefused` for any other text.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise InputRefused(
            "must be the name of an entry: a number, or LOG:NUMBER where there are several logs", where=where
        )
    return found[1], int(found[2])
