"""Questions that need the registers of a time or several entries: what rested on what, and what would have been.

Rules of the room:
- Each reads sealed parts, so it needs a person's key with `audit:unseal` whose key is not bounded to tenants, and an
  entry of kind `read` names the question before anything is shown. The policy's history names no subjects: `audit:read`
  is enough for it.
- What was erased or does not open is counted and named with every answer: an answer that lacks it would be a lie.
Left to others: the questions themselves (a module each), replays (`services.replay`), public questions
(`services.evidence`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from policy_engine.core.decision import Principal
from policy_engine.errors import NotFound
from policy_engine.services.datakeys import Tags
from policy_engine.services.entryexplained import explained
from policy_engine.services.evidenceage import Rested, changes_of_facts, rested_on
from policy_engine.services.letthrough import Receipt, let_through, receipt_of
from policy_engine.services.licenceuse import Use, ends_at, uses_of
from policy_engine.services.modelfamily import Family, family_of
from policy_engine.services.permissions import acting_person, require_unbounded
from policy_engine.services.questions import Question, person_of
from policy_engine.services.rejudge import Recorded, Rejudge
from policy_engine.services.releasehistory import ReleaseChange, release_history
from policy_engine.services.replay import Replay, replayed, sees
from policy_engine.services.sealedterms import groups_of
from policy_engine.services.supposed import Correction, Otherwise, corrected, forgotten, keys_of
from policy_engine.services.tenantowners import Owned, tenants_owned
from policy_engine.services.underdirective import Standing, Tally, standings
from policy_engine.services.walk import Closed, Progress, Walk


@dataclass(slots=True)
class Answer:
    """What a question found: `considered_count` decisions were looked at; `closed` are those that could not be."""

    considered_count: int = 0
    closed: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Changed(Answer):
    """Decisions that would have come out otherwise."""

    otherwise: list[Otherwise] = field(default_factory=list)


@dataclass(slots=True)
class LetThrough(Answer):
    """Who got through before a directive was enforced, and what the log says of the directive."""

    receipt: Receipt | None = None
    since: int = 0
    through: list[Otherwise] = field(default_factory=list)


@dataclass(slots=True)
class Standings(Answer):
    """How persons stood under a directive."""

    standings: list[Standing] = field(default_factory=list)


@dataclass(slots=True)
class Owners:
    """Tenants that are restricted or untold. `closed_count` decisions may be of one of them, and are counted nowhere.

    Those are decisions whose tenant is not public and whose sealed part was erased or pruned.
    """

    owned: list[Owned] = field(default_factory=list)
    closed_count: int = 0


@dataclass(slots=True)
class LicenceUse(Answer):
    """Every use of a licence. `ends_at` is its end or revocation as it stands now; `by` counts uses by subject.

    `gone` says by which entry the licence was erased, together with the person it was for; then `licence` is `None`.
    """

    licence: Mapping[str, Any] | None = None
    gone: str | None = None
    ends_at: int | None = None
    uses: list[Use] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)
    after_end: list[str] = field(default_factory=list)


@dataclass(slots=True)
class EvidenceUse(Answer):
    """Decisions by kind and age of the evidence they rested on, and those on stale, declared or changed evidence."""

    kinds: Counter[tuple[str, str, str, str, str]] = field(default_factory=Counter)
    doubtful: list[Rested] = field(default_factory=list)


class AsOf:
    """Answers questions about what was, for whoever may read what is sealed."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._store = replay.store
        self._vault = replay.vault
        self._releases = replay.releases

    def explained(self, principal: Principal, name: str) -> Mapping[str, Any]:
        """Return everything that a decision rested on, and whether a replay gives the same. Raises as `Replay.one`."""
        caller = acting_person(self._store, principal, "audit:unseal")
        is_it = self._replay.named(name)
        with self._walk() as walk:
            rejudge = Rejudge(walk.past, self._releases)
            for step in walk.steps(lambda public: sees(caller, public), may=is_it):
                if isinstance(step, Closed) and step.public is not None:
                    raise NotFound(f"the sealed part cannot be shown: {step.note}", where="entry")
                if isinstance(step, Recorded):
                    again = replayed(walk, rejudge, step)
                    shown = explained(step, walk.past, rejudge.snapshot().release, one_log=walk.one_log)
                    self._replay.log_read(principal, {"what": "explain", "entry": again.entry}, {}, step)
                    return {**shown, "replayed": again.status, "differences": again.differences}
        raise NotFound("there is no such decision", where="entry")

    def corrected(self, principal: Principal, correction: Correction, progress: Progress | None = None) -> Changed:
        """Return which decisions about a subject the corrected facts would have answered otherwise."""
        body = {"register": correction.register, "row": correction.id, "facts": sorted(correction.facts)}
        self._require(principal)
        self._replay.log_read(principal, {"what": "with-fact"}, body, correction.id)
        answer = Changed()
        others = self._store.rows("tenants" if correction.register == "persons" else "persons")
        with self._walk(progress) as walk:
            keys = keys_of(self._vault, correction, (row.id for row in others), walk.marks)
            for found in corrected(walk, self._releases, correction, Tags(self._vault), keys):
                _count(walk, answer, found)
                if isinstance(found, Otherwise):
                    answer.otherwise.append(found)
        return answer

    def let_through(
        self, principal: Principal, directive: str, since: int | None = None, progress: Progress | None = None
    ) -> LetThrough:
        """Return who got through between the receipt of a directive (or `since`) and its first enforcement.

        Raises `NotFound` when no entry received such a directive.
        """
        self._require(principal)
        self._log_read_of(principal, "let-through", directive)
        with self._walk() as walk:
            receipt = receipt_of(walk, directive)
        answer = LetThrough(receipt=receipt, since=receipt.counts_from if since is None else since)
        with self._walk(progress) as walk:
            for found in let_through(walk, self._releases, receipt, answer.since):
                _count(walk, answer, found)
                if isinstance(found, Otherwise):
                    answer.through.append(found)
        return answer

    def standings(self, principal: Principal, directive: str, progress: Progress | None = None) -> Standings:
        """Return who kept access under a directive, on what evidence, who lost it, and who was undetermined."""
        self._require(principal)
        self._log_read_of(principal, "standings", directive)
        answer = Standings()
        with self._walk(progress) as walk:
            tally = Tally(walk)
            for found in standings(walk, self._releases, directive):
                _count(walk, answer, found)
                if not isinstance(found, Closed):
                    tally.add(*found)
            answer.standings = tally.standings()
        return answer

    def forgotten(
        self, principal: Principal, names: frozenset[str], question: Question, text: str = "", progress: Any = None
    ) -> Changed:
        """Return which decisions would have been answered otherwise had nobody known facts of these names."""
        self._require(principal)
        body = {"question": text, "facts": sorted(names)}
        self._replay.log_read(principal, {"what": "without-fact"}, body, person_of(question))
        answer = Changed()
        with self._walk(progress) as walk:
            for found in forgotten(walk, self._releases, names, question):
                _count(walk, answer, found)
                if isinstance(found, Otherwise):
                    answer.otherwise.append(found)
        return answer

    def owners(self, principal: Principal, at: int | None = None, progress: Progress | None = None) -> Owners:
        """Return tenants with something restricted or unknown about seat, parent, owners or lists, as of an instant."""
        self._require(principal)
        self._replay.log_read(principal, {"what": "owners"}, {})
        answer = Owners()
        with self._walk(progress) as walk:
            for found in tenants_owned(walk, self._releases, self._store.now() if at is None else at):
                if isinstance(found, Owned):
                    answer.owned.append(found)
                else:
                    answer.closed_count += 1
        return answer

    def family(self, principal: Principal, model: str, progress: Progress | None = None) -> Family:
        """Return which models derive from a model and what every control did to them. Needs `audit:read`."""
        require_unbounded(acting_person(self._store, principal, "audit:read", "audit:unseal"))
        self._replay.log_read(principal, {"what": "family"}, {"model": model})
        with self._walk(progress) as walk:
            return family_of(walk, self._releases, model)

    def licence(self, principal: Principal, id: str, progress: Progress | None = None) -> LicenceUse:
        """Return every use of a licence. Raises `NotFound` when no entry ever made such a licence."""
        self._require(principal)
        self._log_read_of(principal, "licence-use", id)
        answer = LicenceUse()
        with self._walk(progress) as walk:
            for found in uses_of(walk, id):
                _count(walk, answer, found)
                if isinstance(found, Use):
                    answer.uses.append(found)
                    answer.by[found.subject] += 1
            row = walk.past.row("orders", id)
            answer.gone = walk.row_gone("orders", id) if row is None else None
        if answer.gone is not None:
            return answer
        if row is None or row.document["kind"] != "licence":
            raise NotFound("no entry made a licence of that id", where="licence")
        answer.licence, answer.ends_at = row.document, ends_at(row)
        if answer.ends_at is not None:
            answer.after_end = [use.entry for use in answer.uses if use.instant >= answer.ends_at]
        return answer

    def evidence(
        self, principal: Principal, question: Question, text: str = "", progress: Progress | None = None
    ) -> EvidenceUse:
        """Return on which kinds of evidence, and how old, the decisions that a question asks for rested."""
        self._require(principal)
        self._replay.log_read(principal, {"what": "evidence"}, {"question": text}, person_of(question))
        answer = EvidenceUse()
        with self._walk() as walk:
            later = changes_of_facts(walk)
        with self._walk(progress) as walk:
            for found in rested_on(walk, later, question, groups_of(walk.past, self._releases)):
                _count(walk, answer, found)
                if isinstance(found, Rested):
                    answer.kinds[found.level, found.method, found.assurance, found.age, found.outcome] += 1
                    if found.stale or found.self_declared or found.changed_later:
                        answer.doubtful.append(found)
        return answer

    def releases(self, principal: Principal, progress: Progress | None = None) -> list[ReleaseChange]:
        """Return every step of every release. Needs a person's key with `audit:read`."""
        require_unbounded(acting_person(self._store, principal, "audit:read", "audit:unseal"))
        self._replay.log_read(principal, {"what": "releases"}, {})
        with self._walk(progress) as walk:
            return release_history(walk)

    def _log_read_of(self, principal: Principal, what: str, order: str) -> None:
        """Write the entry of a read about an order. An id that no order bears is the caller's own word, and sealed."""
        known = self._store.row("orders", order) is not None
        public = {"what": what, **({"order": order} if known else {})}
        self._replay.log_read(principal, public, {} if known else {"order": order}, "" if known else order)

    def _require(self, principal: Principal) -> None:
        require_unbounded(acting_person(self._store, principal, "audit:unseal"))

    @contextmanager
    def _walk(self, progress: Progress | None = None) -> Iterator[Walk]:
        with self._store.view() as view:
            yield Walk(view, self._vault, self._store.blob, progress=progress)


def _count(walk: Walk, answer: Answer, found: object) -> None:
    """Count a decision that was looked at, and name one that could not be."""
    answer.considered_count += 1
    if isinstance(found, Closed):
        answer.closed.append({"entry": walk.name(found), "status": found.status, "note": found.note})
