"""Evidence: asking the log, reading sealed parts, verifying everything, and the registers as the log says they were.

Rules of the room:
- The public part may be read under `audit:read`, and by `local`. Whoever is bounded to tenants sees their entries only.
- Finding entries by what is sealed (a subject, a place) and reading a body are logged reads: their own entry is durable
  before anything is shown. Both need a person's key; reading a body needs `audit:unseal`.
- An answer that stopped early says so: `complete` is true only when the whole range was looked at.
Left to others: what verifying checks (`services.verify`), replay (`services.decide` on what `rebuild` gives).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policy_engine.core.decision import Principal
from policy_engine.core.instants import ENDLESS
from policy_engine.errors import InputRefused, NotFound, VerificationFailed
from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.sealing import KeyVault, tag
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.datakeys import year_of
from policy_engine.services.drafts import TAGGED_FACETS
from policy_engine.services.permissions import acting_person, is_local, require
from policy_engine.services.projection import Projection
from policy_engine.services.questions import Found, Question
from policy_engine.services.record import Recorder
from policy_engine.services.timeline import Timeline
from policy_engine.services.unseal import Unsealer
from policy_engine.services.verify import Progress, Report, verify
from policy_engine.store.interfaces import Head, LogView, Row, State, Store, StoredEntry

SCANNED_COUNT = 100_000
"""Entries that one query looks at before it answers with what it has and says that there is more."""

SEALED_NAMES = frozenset({"subject", "tenant", *TAGGED_FACETS})
"""What sealed parts can be found by."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a query asks for; every filter given must match. Instants: `since` inclusive, `until` exclusive.

    `sealed` names facets of the sealed part, such as `{"subject": id}`. `after` continues behind an entry that an
    earlier page ended with: older ones when `newest_first`, else newer ones.
    """

    kind: str | None = None
    outcome: str | None = None
    model: str | None = None
    action: str | None = None
    rule: str | None = None
    tenant: str | None = None
    since: int | None = None
    until: int | None = None
    sealed: Mapping[str, str] = field(default_factory=dict)
    limit: int = 100
    after: int | None = None
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """Public parts of the entries found, in order. `after` continues where this page stopped, if not `complete`."""

    entries: tuple[Mapping[str, Any], ...]
    complete: bool
    after: int | None


@dataclass(frozen=True, slots=True)
class Registers:
    """State and registers as the log says they are after an entry."""

    state: State
    rows: Mapping[str, Mapping[str, Row]]


class Evidence:
    """Reading the log for whoever may."""

    def __init__(self, store: Store, recorder: Recorder, vault: KeyVault, limits: Limits = LIMITS) -> None:
        self._store = store
        self._recorder = recorder
        self._vault = vault
        self._limits = limits

    def query(self, principal: Principal, filters: Filters) -> Page:
        """Return a page of entries. Looking by what is sealed is a logged read.

        Raises `NotPermitted` without `audit:read`, `InputRefused` for a filter nobody knows or a limit out of range.
        """
        self._check(filters)
        if not is_local(principal) or filters.sealed:
            require(principal, "audit:read")
        if filters.sealed:
            acting_person(self._store, principal, "audit:read")
        self._require_one_log()
        head = self._store.head()
        if head is None:
            return Page((), True, None)
        low, high = self._range(head, filters)
        if not filters.sealed:
            return self._page(principal, filters, self._scan(low, high, filters.newest_first), low, high)
        self._log_search(principal, filters)
        seqs = [seq for seq in self._tagged(head, filters) if low < seq < high]
        if filters.newest_first:
            seqs.reverse()
        return self._page(principal, filters, self._each(head, seqs), low, high)

    def scan(self, principal: Principal, question: Question, *, newest_first: bool = False) -> Iterator[Found]:
        """Yield everything that a question finds, in the order of the log or from its end, for exports and reports.

        What is written meanwhile may be found or not. Asking by what is sealed is a logged read, made by this call.
        Raises `NotPermitted` as `query` does.
        """
        if not is_local(principal) or question.sealed:
            require(principal, "audit:read")
        self._require_one_log()
        if question.sealed:
            raise InputRefused("sealed facets are not scanned yet", where="question")
        return self._found(principal, question, newest_first)

    def _found(self, principal: Principal, question: Question, newest_first: bool) -> Iterator[Found]:
        head = self._store.head()
        if head is None:
            return
        for seq, data in self._scan(-1, head.next_seq, newest_first):
            public = json.loads(data)
            if _sees(principal, public) and question.matches(public):
                yield Found(head.log_id, seq, None, public, data)

    def show(self, principal: Principal, seq: int) -> Mapping[str, Any]:
        """Return the public part of one entry. Raises `NotFound`, also when it is not the caller's to see."""
        if not is_local(principal):
            require(principal, "audit:read")
        entry = self._entry(seq)
        public = parse_public(entry.public)
        if not _sees(principal, public):
            raise NotFound("there is no such entry", where="entry")
        return public

    def read_body(self, principal: Principal, seq: int) -> Mapping[str, Any]:
        """Return the sealed part of one entry, after the entry that says who read it is durable.

        A change gives `{"rows": [...]}`. Raises `NotPermitted` without a person's key holding `audit:unseal`,
        `NotFound` when there is no such entry or body, `VerificationFailed` when it does not open, and
        `StoreUnavailable` when the read cannot be logged.
        """
        caller = acting_person(self._store, principal, "audit:unseal")
        entry = self._entry(seq)
        public = parse_public(entry.public)
        if not _sees(principal, public) or (caller.tenants is not None and "rows" in public):
            raise NotFound("there is no such entry", where="entry")
        if not entry.sealed:
            raise NotFound("the entry has no sealed part, or it was erased", where="entry")
        unsealer = Unsealer(self._vault, self._store.data_key)
        body: dict[str, Any]
        if "rows" in public:
            rows = unsealer.rows(entry, public)
            body = {
                "rows": [
                    {"register": row.register, "id": row.id, "revision": row.revision, "document": row.document}
                    for row in rows
                ]
            }
            subject, tenant = "", None
        else:
            body = unsealer.body(entry, public)
            subject, tenant = str(body["subject"]), body["tenant"]
        self._log_read(principal, {"what": "body", "entry": seq}, {}, subject, tenant)
        return body

    def verify(self, progress: Progress | None = None) -> Report:
        """Verify everything; see `services.verify`. Needs no scope: it shows places, no personal facts."""
        with self._store.view() as view:
            return verify(view, self._vault, progress)

    def rebuild(self, up_to: int | None = None) -> Registers:
        """Return state and registers as the log says they were after entry `up_to` (by default, all entries).

        For replay and verifying; callers answer for who may see it. Raises `VerificationFailed` when an entry on the
        way does not open or does not follow.
        """
        projection = Projection()
        with self._store.view() as view:
            unsealer = Unsealer(self._vault, view.data_key)
            if not view.one_log:
                self._rebuild_all(view, unsealer, projection, up_to)
                return Registers(projection.state, projection.registers())
            for entry in view.scan_entries():
                if up_to is not None and entry.seq > up_to:
                    break
                public = parse_public(entry.public)
                projection.follow(public)
                if "rows" in public:
                    projection.put(entry.log_id, entry.seq, unsealer.rows(entry, public))
        return Registers(projection.state, projection.registers())

    def _rebuild_all(self, view: LogView, unsealer: Unsealer, projection: Projection, up_to: int | None) -> None:
        """Apply the changes of several logs in their one order."""
        if up_to is not None:
            raise InputRefused("entries of several logs have no common number; rebuild all of them", where="up_to")
        timeline = Timeline()
        for entry in view.scan_entries():
            public = parse_public(entry.public)
            timeline.follow(entry, public)
            if "rows" in public:
                timeline.put(entry, unsealer.rows(entry, public))
        found: list[str] = []
        timeline.replay(projection, lambda place, message: found.append(f"{place}: {message}"))
        if found:
            raise VerificationFailed("the changes do not follow each other", tuple(found))

    # Pages

    def _check(self, filters: Filters) -> None:
        if not 1 <= filters.limit <= self._limits.query_rows_count:
            raise InputRefused(f"must be 1 to {self._limits.query_rows_count}", where="limit")
        unknown = sorted(set(filters.sealed) - SEALED_NAMES)
        if unknown:
            raise InputRefused(f"sealed parts are found by {', '.join(sorted(SEALED_NAMES))} only", where="filter")

    def _range(self, head: Head, filters: Filters) -> tuple[int, int]:
        """Return the sequence numbers, exclusive, between which the answer lies."""
        low = -1 if filters.since is None else self._first_at(head, filters.since) - 1
        high = head.next_seq if filters.until is None else self._first_at(head, filters.until)
        if filters.after is not None:
            if filters.newest_first:
                high = min(high, filters.after)
            else:
                low = max(low, filters.after)
        return low, high

    def _first_at(self, head: Head, instant: int) -> int:
        """Return the first sequence number at or after an instant, by halving: time in the log never runs backwards."""
        low, high = 0, head.next_seq
        while low < high:
            middle = (low + high) // 2
            if parse_public(self._entry(middle).public)["at"] < instant:
                low = middle + 1
            else:
                high = middle
        return low

    def _scan(self, low: int, high: int, newest_first: bool) -> Iterator[tuple[int, bytes]]:
        """Yield the public parts between two sequence numbers, a page of the store at a time."""
        while True:
            page = list(self._store.entries(after=low, before=high, limit=1_000, newest_first=newest_first))
            for _, seq, public in page:
                yield seq, public
            if len(page) < 1_000:
                return
            low, high = (low, page[-1][1]) if newest_first else (page[-1][1], high)

    def _each(self, head: Head, seqs: list[int]) -> Iterator[tuple[int, bytes]]:
        for seq in seqs:
            entry = self._store.entry(head.log_id, seq)
            if entry is not None:
                yield seq, entry.public

    def _page(
        self, principal: Principal, filters: Filters, found: Iterator[tuple[int, bytes]], low: int, high: int
    ) -> Page:
        matching: list[Mapping[str, Any]] = []
        last: int | None = None
        for scanned, (seq, data) in enumerate(found):
            if len(matching) == filters.limit or scanned == SCANNED_COUNT:
                return Page(tuple(matching), False, last)
            last = seq
            public = json.loads(data)
            if _sees(principal, public) and _matches(filters, public):
                matching.append(public)
        return Page(tuple(matching), True, None)

    def _tagged(self, head: Head, filters: Filters) -> list[int]:
        """Return the entries that carry every wanted tag, in whichever year each lies."""
        first = parse_public(self._entry(0).public)["at"]
        years = range(year_of(first), year_of(head.last_at) + 1)
        found: set[int] | None = None
        for name, value in filters.sealed.items():
            tags = [tag(self._vault.period_key(str(year)), name, value) for year in years]
            seqs = {seq for log_id, seq in self._store.tagged(tags) if log_id == head.log_id}
            found = seqs if found is None else found & seqs
        return sorted(found or ())

    def _require_one_log(self) -> None:
        """Refuse to answer from one log where there are several: what is in the others would be missing unsaid."""
        if not self._store.one_log:
            raise InputRefused(
                "this database has a log for each writer, and entries are not found across them yet; "
                "`audit verify` reads all of them",
                where="database",
            )

    # Logged reads

    def _log_search(self, principal: Principal, filters: Filters) -> None:
        names = sorted(filters.sealed)
        self._log_read(
            principal,
            {"what": "query", "by_sealed": names},
            {"sealed": dict(filters.sealed)},
            filters.sealed.get("subject", ""),
            None,
        )

    def _log_read(
        self,
        principal: Principal,
        members: Mapping[str, Any],
        body: Mapping[str, Any],
        subject: str,
        tenant: str | None,
    ) -> None:
        """Write the entry of a read, sealed for and found by the person it was about."""
        self._recorder.record(
            lambda state: self._recorder.note(
                "read", members, principal, state, body=body, subject=subject, tenant=tenant, until=ENDLESS
            )
        )

    def _entry(self, seq: int) -> StoredEntry:
        self._require_one_log()
        head = self._store.head()
        entry = None if head is None else self._store.entry(head.log_id, seq)
        if entry is None:
            raise NotFound("there is no such entry", where="entry")
        return entry


def _sees(principal: Principal, public: Mapping[str, Any]) -> bool:
    """Whoever is bounded to tenants sees the decisions of those tenants, and nothing else of the log."""
    return principal.tenants is None or public.get("tenant") in principal.tenants


def _matches(filters: Filters, public: Mapping[str, Any]) -> bool:
    wanted = (
        ("kind", filters.kind),
        ("outcome", filters.outcome),
        ("model", filters.model),
        ("action", filters.action),
        ("tenant", filters.tenant),
    )
    if any(value is not None and public.get(name) != value for name, value in wanted):
        return False
    return filters.rule is None or filters.rule in _rules(public)


def _rules(public: Mapping[str, Any]) -> set[str]:
    """Labels of the rules among the reasons, and ids of all rules that matched."""
    return {str(reason[0]) for reason in public.get("reasons", ())} | set(public.get("rules", ()))
