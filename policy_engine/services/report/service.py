"""The audit report: who may have it, what is read for it, and the file.

Rules of the room:
- Public parts are read by whoever may read the log. Counts by what is sealed are made for a person's key with
  `audit:read` alone, after the entry is durable that says so; anybody else gets a report that says "sealed".
- A count of what is sealed says how much it lacks: decisions that were erased or pruned, or do not open.
- The log is verified for the report, unless that is left out, which the report then says.
- The file is whole or not there.
Left to others: counting and showing (the rooms beside this one), the command (`cli.auditreport`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.core.instants import format_instant
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.asof import AsOf
from policy_engine.services.evidence import Evidence
from policy_engine.services.evidenceage import AGES_DAYS
from policy_engine.services.exports.files import digest_of, whole_file
from policy_engine.services.exports.source import Asked, pages, reading_entries
from policy_engine.services.exports.tree import tree_facts
from policy_engine.services.permissions import acting_person
from policy_engine.services.questions import Question
from policy_engine.services.record import Recorder
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.replay import Replay
from policy_engine.services.report.gathered import Gathered, gather
from policy_engine.services.report.gone import Gone, closed_of
from policy_engine.services.report.keyed import Keyed, count_keyed
from policy_engine.services.report.page import Content, page_of
from policy_engine.services.report.period import Period
from policy_engine.store.interfaces import Store

BY_SEALED = ("counted", "evidence", "us_person")
"""The sealed facets that a report counts by."""

AGE_CLASSES = (*(f"up to {days} days" for days in AGES_DAYS), f"older than {AGES_DAYS[-1]} days", "unknown")
"""Classes of age, as `evidenceage` names them."""

Progress = Callable[[int, int], None]
"""Called while the log is verified, with entries done and entries in all."""


@dataclass(frozen=True, slots=True)
class Made:
    """A report that was written. `verified` is whether the log and the registers agreed, `None` if it was left out.

    `gone` is, for each section that counts what is sealed, which decisions of the period it could not count.
    """

    place: Path
    sha256: str
    entries: int
    decisions: int
    verified: bool | None
    keyed: bool
    gone: Mapping[str, Gone]


class Reports:
    """Writes reports for whoever may have them."""

    def __init__(
        self,
        store: Store,
        evidence: Evidence,
        recorder: Recorder,
        vault: KeyVault,
        releases: ReleaseLoader,
        limits: Limits = LIMITS,
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._recorder = recorder
        self._vault = vault
        self._releases = releases
        self._limits = limits

    def write(
        self,
        principal: Principal,
        period: Period,
        place: Path,
        *,
        force: bool = False,
        verify: bool = True,
        ages: bool = False,
        progress: Progress | None = None,
    ) -> Made:
        """Write the report of a period to a file, and return what it is.

        `ages` opens every decision of the period to count how old the evidence was. Raises `NotPermitted` without
        `audit:read` (`local` gets what is public), and for `ages` without a person's unbounded key with `audit:unseal`;
        `Conflict` when the file exists.
        """
        with whole_file(place, force=force) as pending:
            content = self._content(principal, period, verify, progress)
            if ages:
                counted, gone = self._ages(principal, period)
                content = replace(content, ages=counted, ages_gone=gone)
            pending.part.write_bytes(page_of(content))
            digest = digest_of(pending.part)
        verified = None if content.verified is None else content.verified.ok
        found = content.found
        keyed = content.keyed
        lacking = {} if keyed is None else {"groups": keyed.gone}
        lacking |= {"ages": content.ages_gone} if ages else {}
        return Made(place, digest, found.entries, found.decisions, verified, keyed is not None, lacking)

    def _content(self, principal: Principal, period: Period, verify: bool, progress: Progress | None) -> Content:
        store, now = self._store, self._store.now()
        tree = tree_facts(store)
        asked = Asked("", Question(since=period.since, until=period.until))
        with reading_entries():
            entries = pages(store, self._evidence, principal, asked)
            found = gather(period, entries, self._limits.keyed_decisions_count, one_log=store.one_log)
        keyed, sealed = self._keyed(principal, found)
        return Content(
            found=found,
            keyed=keyed,
            sealed=sealed,
            ages=None,
            ages_gone=Gone(),
            verified=self._evidence.verify(progress) if verify else None,
            tree=tree,
            made_at=now,
            made_by=principal.key_id or "local",
            tenants=None if principal.tenants is None else sorted(principal.tenants),
            sample=store.state().sample,
            older=self._evidence.older(),
            least=self._limits.small_group_decisions_count,
        )

    def _ages(self, principal: Principal, period: Period) -> tuple[list[tuple[str, int]], Gone]:
        """Return decisions by the age of the evidence they rested on, and those of which it cannot be told.

        A logged read, made by `AsOf`.
        """
        asof = AsOf(Replay(self._store, self._recorder, self._vault, self._releases))
        found = asof.evidence(principal, Question(since=period.since, until=period.until), f"report {period.name}")
        counted: Counter[str] = Counter()
        for (_, _, _, age, _), count in found.kinds.items():
            counted[age] += count
        return [(name, counted[name]) for name in AGE_CLASSES], closed_of(found.closed)

    def _keyed(self, principal: Principal, found: Gathered) -> tuple[Keyed | None, str]:
        """Return counts by what is sealed, or why there are none. They are a read, logged before it is made."""
        if principal.kind is not PrincipalKind.PERSON or principal.key_id is None:
            return None, (
                "Where persons are from, and on what evidence they were judged, is sealed. A person's key with "
                "audit:read gets counts."
            )
        if not found.verdicts_complete:
            most = self._limits.keyed_decisions_count
            return None, f"The period has more than {most:,} decisions; make reports of shorter periods to have counts."
        acting_person(self._store, principal, "audit:read")
        period = found.period
        members = {
            "what": "report",
            "by_sealed": list(BY_SEALED),
            "since": format_instant(period.since),
            "until": format_instant(period.until),
        }
        self._recorder.record(lambda state: self._recorder.note("read", members, principal, state))
        least = self._limits.small_group_decisions_count
        return count_keyed(self._store, self._vault, self._releases, found, least), ""
