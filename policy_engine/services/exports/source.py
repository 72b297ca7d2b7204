"""Which entries an export or a report reads, in the order in which they were completed.

Rules of the room: a range without further terms is read by pages straight from the log, up to an end that was fixed
before the first entry was read; everything else is what `Evidence.scan` finds. No transaction stays open for hours.
Left to others: what a question means (`services.questions`), who may ask (`services.evidence`), what is written of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

import orjson

from policy_engine.core.decision import Principal
from policy_engine.errors import InputRefused, PolicyEngineError, VerificationFailed
from policy_engine.services.evidence import Evidence
from policy_engine.services.permissions import is_local, require
from policy_engine.services.questions import Question
from policy_engine.services.questiontext import parse_question
from policy_engine.store.interfaces import Head, ReadStore

Entry = tuple[str, int, bytes]
"""Log, sequence number, and the public bytes as they were committed."""

PAGE_ENTRIES = 4_096


@contextmanager
def reading_entries() -> Iterator[None]:
    """Read members of entries; one that has not those that this program writes is a damaged log, and no fault of ours.

    Raises `VerificationFailed` then, and lets every error of our own through.
    """
    try:
        yield
    except PolicyEngineError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as odd:
        raise VerificationFailed(
            "an entry is not what this program writes, so nothing was made of the log; `audit verify` names it"
        ) from odd


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: the words of a question, and what they mean. Instants: `since` counts, `until` does not."""

    text: str
    question: Question

    @property
    def is_range(self) -> bool:
        """Whether only a time is asked for, and nothing of what entries say."""
        return not self.question.public and not self.question.sealed


def read_asked(text: str, now: int, since: int | None = None, until: int | None = None) -> Asked:
    """Return what is asked; `now` is the instant from which "7d" counts back.

    Raises `InputRefused` for words that are no question, for an end of the range that is given twice, and for a range
    that ends before it begins.
    """
    question = parse_question(text, now)
    for name, given, own in (("--since", since, question.since), ("--until", until, question.until)):
        if given is not None and own is not None:
            raise InputRefused("is in the question already; leave one of the two", where=name)
    whole = replace(
        question,
        since=question.since if since is None else since,
        until=question.until if until is None else until,
    )
    if whole.since is not None and whole.until is not None and whole.until <= whole.since:
        raise InputRefused("the range ends before it begins; give the earlier instant first", where="--until")
    return Asked(text.strip(), whole)


def pages(store: ReadStore, evidence: Evidence, principal: Principal, asked: Asked) -> Iterator[list[Entry]]:
    """Return the entries asked for, a page at a time.

    Raises `NotPermitted` without `audit:read` (`local` may read what is public); a question by what is sealed is a
    logged read, durable before the first page.
    """
    if not is_local(principal):
        require(principal, "audit:read")
    head = store.head()
    if asked.is_range and principal.tenants is None and store.one_log:
        return iter(()) if head is None else _one_log(store, head, asked.question)
    found = evidence.scan(principal, asked.question)
    return _by_pages((entry.log_id, entry.seq, entry.data) for entry in found)


def _by_pages(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while page := list(islice(entries, PAGE_ENTRIES)):
        yield page


def _one_log(store: ReadStore, head: Head, range: Question) -> Iterator[list[Entry]]:
    """Yield a range of the one log: its ends are found by halving, since time in a log never runs backwards."""
    after = -1 if range.since is None else _first_at(store, head, range.since) - 1
    end = head.next_seq if range.until is None else _first_at(store, head, range.until)
    while page := list(store.entries(after=after, before=end, limit=PAGE_ENTRIES)):
        yield page
        after = page[-1][1]


def _first_at(store: ReadStore, head: Head, instant: int) -> int:
    low, high = 0, head.next_seq
    while low < high:
        middle = (low + high) // 2
        found = list(store.entries(after=middle - 1, before=middle + 1, limit=1))
        if not found:
            raise VerificationFailed(f"entry {middle} of log {head.log_id} is missing; run `audit verify`")
        ((_, _, public),) = found
        if orjson.loads(public)["at"] < instant:
            low = middle + 1
        else:
            high = middle
    return low


@dataclass(slots=True)
class LogRange:
    """What was read of one log: how many entries, and the first and last of them."""

    entries: int
    first: tuple[int, bytes]
    last: tuple[int, bytes]


@dataclass(slots=True)
class Tally:
    """Counts what passes through it, without looking into entries more than it must."""

    entries: int = 0
    logs: dict[str, LogRange] = field(default_factory=dict)
    releases: set[str] = field(default_factory=set)
    _known: bytes = b""

    def count(self, found: Iterator[list[Entry]]) -> Iterator[list[Entry]]:
        """Yield the same pages, counted."""
        for page in found:
            self._count_page(page)
            yield page

    def _count_page(self, page: list[Entry]) -> None:
        self.entries += len(page)
        known = self._known
        for log_id, seq, public in page:
            # An entry that holds the text of the release seen last names that release; any other is looked into.
            if known not in public or not known:
                known = self._release_of(public)
            seen = self.logs.get(log_id)
            if seen is None:
                self.logs[log_id] = LogRange(1, (seq, public), (seq, public))
            else:
                seen.entries += 1
                seen.last = (seq, public)
        self._known = known

    def _release_of(self, public: bytes) -> bytes:
        release = orjson.loads(public).get("release")
        if not isinstance(release, str):
            return b""
        self.releases.add(release)
        return b',"release":' + orjson.dumps(release) + b","
