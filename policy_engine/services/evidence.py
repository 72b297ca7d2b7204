"""Evidence: asking the log, reading sealed parts, verifying everything, and the registers as the log says they were.

Rules of the room:
- The public part may be read under `audit:read`, and by `local`. Whoever is bounded to tenants sees their entries only.
- Finding entries by what is sealed (a subject, a place) and reading a body are logged reads: their own entry is durable
  before anything is shown. Both need a person's key; reading a body needs `audit:unseal`.
- An answer that stopped early, or to which entries can still come, says so: it is not `complete`.
Left to others: what verifying checks (`services.verify`), replay (`services.decide` on what `rebuild` gives).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from policy_engine.core.decision import Principal
from policy_engine.core.instants import ENDLESS
from policy_engine.core.plain import AnyRelease
from policy_engine.errors import InputRefused, NotFound, VerificationFailed
from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.finding import Finder, parse_entry_name
from policy_engine.services.marks import Mark, marks_of
from policy_engine.services.permissions import acting_person, is_local, require
from policy_engine.services.projection import Projection
from policy_engine.services.questiongroups import QuestionGroups
from policy_engine.services.questions import (
    EVERYTHING,
    Found,
    PublicTerm,
    Question,
    check_one_person,
    entry_name,
    one_of,
    person_of,
    sealed_terms,
)
from policy_engine.services.record import Recorder
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.timeline import Timeline
from policy_engine.services.unseal import Unsealer, row_documents
from policy_engine.services.verify import Progress, Report, verify
from policy_engine.store.interfaces import LogView, Row, State, Store, StoredEntry


@dataclass(frozen=True, slots=True)
class Filters:
    """What a page shows; the question and every filter given must match.

    Instants: `since` inclusive, `until` exclusive. `sealed` names facets of the sealed part by the names of their tags,
    such as `{"subject": id}`. `after` names the entry that an earlier page ended with, to continue behind it: older
    ones when `newest_first`, else newer ones.
    """

    question: Question = EVERYTHING
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
    after: str | int | None = None
    newest_first: bool = True

    def asked(self) -> Question:
        """Return everything as one question. Raises `InputRefused` for a filter that nothing can be found by."""
        own = self.question
        if self.outcome not in (None, "allow", "deny"):
            raise InputRefused("is allow or deny", where="outcome")
        since, until = _latest(own.since, self.since), _earliest(own.until, self.until)
        if since is not None and until is not None and until <= since:
            raise InputRefused("the time ends before it begins; give the earlier instant first", where="until")
        sealed = (*own.sealed, *sealed_terms(self.sealed))
        check_one_person(sealed, "filter")
        names = ("kind", "outcome", "model", "action", "rule", "tenant")
        terms = [term for name in names for term in one_of(name, getattr(self, name))]
        return Question(
            (*own.public, *terms),
            sealed,
            since,
            until,
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Public parts of the entries found, in order. `after` continues where this page stopped, if there is more.

    `complete` says that nothing is missing: the whole range was looked at and, with an end in the past, no entry can
    come any more that would fall into it, and the database is not known to be an older copy.
    """

    entries: tuple[Mapping[str, Any], ...]
    complete: bool
    after: str | None


@dataclass(frozen=True, slots=True)
class Count:
    """How many entries a question finds; `complete` as in `Page`."""

    count: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Registers:
    """State and registers as the log says they are after an entry."""

    state: State
    rows: Mapping[str, Mapping[str, Row]]


class Evidence:
    """Reading the log for whoever may."""

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        vault: KeyVault,
        limits: Limits = LIMITS,
        *,
        load: Callable[[str], AnyRelease] | None = None,
    ) -> None:
        """`load` gives a release by its hash, for questions about groups; by default each is loaded anew."""
        self._store = store
        self._recorder = recorder
        self._vault = vault
        self._limits = limits
        self._groups = QuestionGroups(partial(ReleaseLoader().stored, store) if load is None else load)
        self._finder = Finder(store, vault, self._groups, limits)
        self.older: Callable[[], str | None] = lambda: None
        """Returns why the database is taken for an older copy, if it is: then nothing found in it is all there was."""

    def query(self, principal: Principal, filters: Filters) -> Page:
        """Return a page of entries. Looking by what is sealed is a logged read.

        Raises `NotPermitted` without `audit:read`, `InputRefused` for a filter nobody knows, a limit out of range, or
        an `after` that names no entry.
        """
        if not 1 <= filters.limit <= self._limits.query_rows_count:
            raise InputRefused(f"must be 1 to {self._limits.query_rows_count}", where="limit")
        question = self._permitted(principal, filters.asked())
        after = None if filters.after is None else str(filters.after)
        part = self._finder.page(question, limit=filters.limit, after=after, newest_first=filters.newest_first)
        return Page(
            tuple(map(_shown, part.found)), part.after is None and part.final and self.older() is None, part.after
        )

    def scan(self, principal: Principal, question: Question, *, newest_first: bool = False) -> Iterator[Found]:
        """Yield everything that a question finds, in the order of the log or from its end, for exports and reports.

        What is written meanwhile may be found or not. Asking by what is sealed is a logged read, made by this call.
        Raises `NotPermitted` as `query` does.
        """
        return self._finder.stream(self._permitted(principal, question), newest_first=newest_first)

    def count(self, principal: Principal, question: Question) -> Count:
        """Return how many entries a question finds; see `scan` for what is recorded and raised."""
        question = self._permitted(principal, question)
        complete = self._finder.is_final(question) and self.older() is None
        return Count(sum(1 for _ in self._finder.stream(question, newest_first=False)), complete)

    def lost(self, question: Question) -> bool:
        """Return whether sealed parts of the time asked about were erased or pruned, and are asked for.

        What they said is found by nothing any more, so that an answer may lack decisions although it is complete.
        """
        if not question.sealed:
            return False
        since = -ENDLESS if question.since is None else question.since
        return any(since < end for end in self._ends_of_lost())

    def _ends_of_lost(self) -> Iterator[int]:
        """Yield instants before which sealed parts were erased or pruned."""
        marks = marks_of(self._store)
        yield from (key.at for key in marks.keys if key.register is None)
        for log_id, seq in {(part.by_log, part.by_seq) for part in marks.ranges}:
            yield int(parse_public(self._entry(entry_name(log_id, seq, one_log=False)).public)["prunes"]["before"])

    def _permitted(self, principal: Principal, question: Question) -> Question:
        """Return what of a question its asker may see, after the entry is durable that says what sealed was asked."""
        if not is_local(principal) or question.sealed:
            require(principal, "audit:read")
        if question.sealed:
            acting_person(self._store, principal, "audit:read")
            for term in question.sealed:
                if term.group is not None:
                    self._groups.check(self._store.state().release, term.group)
            self._log_search(principal, question)
        if principal.tenants is None:
            return question
        return replace(question, public=(*question.public, PublicTerm("tenant", tuple(sorted(principal.tenants)))))

    def show(self, principal: Principal, entry: str | int) -> Mapping[str, Any]:
        """Return the public part of one entry, by its name or by its id, which of a decision is the decision's.

        Raises `NotFound`, also when it is not the caller's to see, and `InputRefused` for what is no name or id.
        """
        if not is_local(principal):
            require(principal, "audit:read")
        public = parse_public(self._entry(entry).public)
        if not _sees(principal, public):
            raise NotFound("there is no such entry", where="entry")
        return public

    def gone(self, principal: Principal, entry: str | int) -> tuple[Mark, ...]:
        """Return what erased or pruned the sealed part of an entry, or rows in it. Raises as `show`."""
        public = self.show(principal, entry)
        return marks_of(self._store).of_entry(self._entry(entry), public)

    def read_body(self, principal: Principal, name: str | int) -> Mapping[str, Any]:
        """Return the sealed part of one entry, after the entry that says who read it is durable.

        A change gives `{"rows": [...]}`. Raises `NotPermitted` without a person's key holding `audit:unseal`,
        `NotFound` when there is no such entry or body, `VerificationFailed` when it does not open, and
        `StoreUnavailable` when the read cannot be logged.
        """
        caller = acting_person(self._store, principal, "audit:unseal")
        entry = self._entry(name)
        public = parse_public(entry.public)
        if not _sees(principal, public) or (caller.tenants is not None and "rows" in public):
            raise NotFound("there is no such entry", where="entry")
        marks = marks_of(self._store)
        marks.require_body(entry, public["at"])
        if not entry.sealed:
            raise NotFound("the entry has no sealed part", where="entry")
        unsealer = Unsealer(self._vault, self._store.data_key, marks)
        body: dict[str, Any]
        if "rows" in public:
            body = {"rows": row_documents(unsealer.rows(entry, public), public)}
            subject, tenant = "", None
        else:
            body = unsealer.body(entry, public)
            subject, tenant = str(body["subject"]), body["tenant"]
        place = entry.seq if self._store.one_log else entry_name(entry.log_id, entry.seq, one_log=False)
        self._log_read(principal, {"what": "body", "entry": place}, {}, subject, tenant)
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
            unsealer = Unsealer.over(self._vault, view)
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

    # Logged reads

    def _log_search(self, principal: Principal, question: Question) -> None:
        asked: dict[str, Any] = {}
        for term in question.sealed:
            name, values = (term.facet, term.values) if term.group is None else ("group", (term.group,))
            asked[name] = values[0] if len(values) == 1 and name not in asked else [*_listed(asked.get(name)), *values]
        members = {"what": "query", "by_sealed": sorted(asked)}
        self._log_read(principal, members, {"sealed": asked}, person_of(question), None)

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

    def _entry(self, name: str | int) -> StoredEntry:
        """Return an entry by its name, or by its id."""
        if isinstance(name, str) and _ID.fullmatch(name):
            log_id, seq = self._place_of_id(name)
        else:
            named, seq = parse_entry_name(str(name), "entry") if isinstance(name, str) else (None, name)
            head = self._store.head() if named is None and self._store.one_log else None
            log_id = named or ("" if head is None else head.log_id)
        entry = self._store.entry(log_id, seq)
        if entry is None:
            raise NotFound("there is no such entry", where="entry")
        return entry

    def _place_of_id(self, id: str) -> tuple[str, int]:
        with self._store.finding() as index:
            for entry in index.named(id):
                if parse_public(entry.public)["id"] == id:
                    return entry.log_id, entry.seq
        raise NotFound("there is no such entry", where="entry")


_ID = re.compile(r"[0-9a-f]{32}")


def _shown(found: Found) -> Mapping[str, Any]:
    """Return the public part of an entry that is shown. Raises `VerificationFailed` naming one that is damaged."""
    try:
        return parse_public(found.data)
    except VerificationFailed as failed:
        place = f"entry {found.seq} of log {found.log_id}"
        raise VerificationFailed(f"{place}: {failed.message}; run `audit verify`") from None


def _sees(principal: Principal, public: Mapping[str, Any]) -> bool:
    """Whoever is bounded to tenants sees the decisions of those tenants, and nothing else of the log."""
    return principal.tenants is None or public.get("tenant") in principal.tenants


def _latest(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def _earliest(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
