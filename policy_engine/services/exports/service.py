"""Exports: who may, which file is written, and the proof sheet beside it.

Rules of the room:
- What is public may be exported by whoever may read it; sealed bodies by two persons (`unsealed`).
- A file is whole or not there, and so are its sheets: `FILE.proof.json` and `FILE.proof.txt`.
- The sheet's facts about the tree are read before the first entry, so that they never claim more than was there.
Left to others: the forms (the modules beside this one), the command (`cli.auditexport`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path

import orjson

from policy_engine.core.decision import Principal
from policy_engine.errors import InputRefused, StoreUnavailable, VerificationFailed
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.approvals import Approvals
from policy_engine.services.bundle import Written, require_told, write_bundle
from policy_engine.services.bundleplace import require_name
from policy_engine.services.bundletexts import OpenedTexts
from policy_engine.services.evidence import Evidence
from policy_engine.services.exports.bundles import measured, placed_bundle, releases_of, require_bundle
from policy_engine.services.exports.files import digest_of, whole_file
from policy_engine.services.exports.ocsf import write_ocsf
from policy_engine.services.exports.parquet import require_duckdb, write_parquet
from policy_engine.services.exports.proof import LogPart, Sheet
from policy_engine.services.exports.sheets import write_xlsx
from policy_engine.services.exports.source import Asked, Entry, LogRange, Tally, pages, read_asked, reading_entries
from policy_engine.services.exports.textfiles import write_csv, write_jsonl
from policy_engine.services.exports.tree import TreeFacts, facts_of, proved_before, tree_facts
from policy_engine.services.exports.unsealed import Allowed, Opener, Unsealing, write_opened
from policy_engine.services.proposals import Proposal
from policy_engine.services.questions import NOT_DERIVED, asks_derived
from policy_engine.services.record import Recorder
from policy_engine.services.releases import ReleaseLoader
from policy_engine.store.interfaces import Store

UNSEALED_FORMS = ("jsonl", "bundle")
"""Forms in which sealed bodies are exported."""

_ERASED = ("Entries whose sealed part was erased or pruned are not found by what was sealed in them.",)

_WAITING = ("Where there are several logs, entries are found once they are in the tree: some were not there yet.",)

Progress = Callable[[int], None]
"""Called with the entries written so far."""


class Form(StrEnum):
    """The forms of a file."""

    JSONL = "jsonl"
    CSV = "csv"
    XLSX = "xlsx"
    PARQUET = "parquet"
    OCSF = "ocsf"
    BUNDLE = "bundle"


@dataclass(frozen=True, slots=True)
class Target:
    """Where an export goes, and whether a file that is there may be replaced."""

    place: Path
    force: bool = False

    @property
    def sheet_json(self) -> Path:
        """The proof sheet for programs."""
        return self.place.with_name(f"{self.place.name}.proof.json")

    @property
    def sheet_text(self) -> Path:
        """The proof sheet for persons."""
        return self.place.with_name(f"{self.place.name}.proof.txt")


class Exports:
    """Writing the log to files, for whoever may."""

    def __init__(
        self,
        store: Store,
        evidence: Evidence,
        recorder: Recorder,
        approvals: Approvals,
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
        self._unsealing = Unsealing(store, approvals)
        self.integrate: Callable[[], object] = lambda: None
        """Takes what is pending into the tree, in a process that may; called before a bundle with bodies is made."""

    def ask(self, text: str, since: int | None = None, until: int | None = None) -> Asked:
        """Return what words and a range ask for, now. Raises `InputRefused` for words that are no question."""
        return read_asked(text, self._store.now(), since, until)

    def export(
        self, principal: Principal, asked: Asked, form: Form, target: Target, progress: Progress | None = None
    ) -> Sheet:
        """Write the public parts of what is asked, and return the proof sheet that lies beside them.

        Raises `NotPermitted` without `audit:read`, `Conflict` when the file exists, `InputRefused` when it cannot be
        written, `StartRefused` when a program that the form needs is not installed.
        """
        if form is Form.BUNDLE:
            require_bundle(principal, asked)
            return self._bundle(principal, asked, target, None, progress)
        if form is Form.PARQUET:
            require_duckdb()
        with whole_file(target.place, force=target.force) as pending:
            with reading_entries():
                begun = self._begun(principal, asked, progress)
                notes = self._write(form, pending.part, begun.entries)
                sheet = self._sheet(begun, form, target, pending.part, notes)
            pending.beside = _sheets(target, sheet)
        return sheet

    def propose_unsealed(self, principal: Principal, asked: Asked, form: Form, reason: str) -> Proposal:
        """Propose an export of sealed bodies. Another person approves it; then `export_unsealed` makes it, once.

        Raises `NotPermitted` without a person's key with `audit:unseal` and `audit:read` that no tenant bounds.
        """
        if form not in UNSEALED_FORMS:
            raise InputRefused(f"sealed bodies are exported as {' or '.join(UNSEALED_FORMS)}", where="--format")
        if form is Form.BUNDLE:
            require_bundle(principal, asked)
        return self._unsealing.propose(principal, asked, form, reason)

    def export_unsealed(
        self,
        principal: Principal,
        approval: str,
        asked: Asked,
        form: Form | None,
        target: Target,
        progress: Progress | None = None,
    ) -> Sheet:
        """Make an approved export of sealed bodies, and return its proof sheet. See `unsealed` for what is refused.

        The approval is used by the entry that says so, which is durable before the first body is opened.
        """
        if self._unsealing.form_of(approval) == Form.BUNDLE:
            return self._bundle(principal, asked, target, (approval, form), progress)
        with whole_file(target.place, force=target.force) as pending:
            allowed = self._unsealing.begin(principal, approval, asked, form)
            begun = self._begun(principal, allowed.asked, progress)
            opener = Opener(self._store, self._vault)
            with reading_entries():
                write_opened(pending.part, begun.entries, opener)
                sheet = self._sheet(begun, Form(allowed.form), target, pending.part, opener.absent.notes, allowed)
            self._log_export(principal, allowed, sheet)
            pending.beside = _sheets(target, sheet)
        return sheet

    def _bundle(
        self,
        principal: Principal,
        asked: Asked,
        target: Target,
        approval: tuple[str, Form | None] | None,
        progress: Progress | None,
    ) -> Sheet:
        """Write a bundle; with an approval, one that holds what was sealed, and what a replay needs.

        With one it raises `Conflict`, and leaves the approval unused, while the tree lacks an erasure or a pruning.
        """
        require_name(target.place)
        beside = (target.sheet_json, target.sheet_text)
        with placed_bundle(target.place, force=target.force, beside=beside) as pending:
            if approval is not None:
                with suppress(StoreUnavailable, VerificationFailed):  # whether it is enough is looked at in the view
                    self.integrate()
            with self._store.view() as view:
                allowed = None
                if approval is not None:
                    # What is looked at is what is written: what is erased from here on is still in this view, whole.
                    ready = partial(require_told, view)
                    allowed = self._unsealing.begin(principal, approval[0], asked, approval[1], ready)
                    asked = allowed.asked
                now = self._store.now()
                facts = facts_of(view, one_log=False, last_at=0)  # what is not in the tree is not in a bundle
                written = write_bundle(
                    view,
                    pending.part,
                    since=asked.question.since,
                    until=asked.question.until,
                    sealed=allowed is not None,
                    bodies=None if allowed is None else OpenedTexts.over(self._vault, view),
                    releases=None if allowed is None else releases_of(self._store, self._releases),
                    at=now,
                    progress=progress,
                )
            sheet = self._bundle_sheet(principal, asked, target, pending.part, now, facts, written, allowed)
            if allowed is not None:
                self._log_export(principal, allowed, sheet)
            pending.beside = _sheets(target, sheet)
        return sheet

    def _bundle_sheet(
        self,
        principal: Principal,
        asked: Asked,
        target: Target,
        part: Path,
        now: int,
        facts: TreeFacts,
        written: Written,
        allowed: Allowed | None,
    ) -> Sheet:
        until = asked.question.until
        digest, size = measured(part)
        final, older = until is not None and until <= facts.horizon, self._older()
        return Sheet(
            file=target.place.name,
            format=Form.BUNDLE,
            size_bytes=size,
            sha256=digest,
            question=asked.text,
            since=asked.question.since,
            until=until,
            made_at=now,
            made_by=principal.key_id or "local",
            entries=written.shown,
            logs=[],
            complete=(final or not facts.waiting) and not older,
            final=final,
            tenants=None,
            releases=sorted(row.id for row in self._store.rows("releases")),
            origin=facts.origin,
            log_key=facts.key,
            tree_size=facts.size,
            checkpoint=facts.checkpoint,
            unsealed=allowed is not None,
            approval=None if allowed is None else allowed.proposal.id,
            notes=[
                f"It shows {written.shown:,} of {written.entries:,} entries of the tree, by whole batches; all leaves.",
                "Entries that the newest checkpoint does not cover are not in a bundle.",
                *older,
            ],
        )

    def _older(self) -> list[str]:
        """Return the note of a sheet whose database is known to be an older copy, none for any other."""
        sentence = self._evidence.older()
        return [] if sentence is None else [f"The database is not believed: {sentence}."]

    def _log_export(self, principal: Principal, allowed: Allowed, sheet: Sheet) -> None:
        """Write the entry that names the file, before the file is there."""
        members = {
            "what": "export",
            "proposal": allowed.proposal.id,
            "sha256": sheet.sha256,
            "entries": sheet.entries,
        }
        self._recorder.record(lambda state: self._recorder.note("read", members, principal, state))

    def _begun(self, principal: Principal, asked: Asked, progress: Progress | None) -> _Begun:
        """Return an export at its beginning: what the tree says then, and the entries to come, counted."""
        facts, now = tree_facts(self._store), self._store.now()
        tally = Tally()
        counted = tally.count(pages(self._store, self._evidence, principal, asked))
        return _Begun(principal, asked, now, facts, tally, _reported(counted, tally, progress))

    def _write(self, form: Form, part: Path, counted: Iterator[list[Entry]]) -> list[str]:
        """Write one form and return notes for the sheet."""
        if form is Form.JSONL:
            write_jsonl(part, counted)
        elif form is Form.CSV:
            write_csv(part, counted)
        elif form is Form.OCSF:
            write_ocsf(part, counted, version("policy-engine"))
        elif form is Form.PARQUET:
            write_parquet(part, counted, self._limits)
        else:
            book = write_xlsx(part, counted, self._limits)
            if book.cut_cells:
                return [f"{book.cut_cells} texts were longer than a cell can hold; they are cut, and end by saying so."]
        return []

    def _sheet(
        self, begun: _Begun, form: Form, target: Target, part: Path, notes: list[str], allowed: Allowed | None = None
    ) -> Sheet:
        facts, tally, until = begun.facts, begun.tally, begun.asked.question.until
        final, older = until is not None and until <= facts.horizon, self._older()
        logs = [
            _log_part(log_id, seen, proved_before(self._store, facts, log_id, seen.last[0]))
            for log_id, seen in sorted(tally.logs.items())
        ]
        return Sheet(
            file=target.place.name,
            format=form,
            size_bytes=part.stat().st_size,
            sha256=digest_of(part),
            question=begun.asked.text,
            since=begun.asked.question.since,
            until=until,
            made_at=begun.at,
            made_by=begun.principal.key_id or "local",
            entries=tally.entries,
            logs=logs,
            complete=(final or not facts.waiting) and not older,
            final=final,
            tenants=None if begun.principal.tenants is None else sorted(begun.principal.tenants),
            releases=sorted(tally.releases),
            origin=facts.origin,
            log_key=facts.key,
            tree_size=facts.size,
            checkpoint=facts.checkpoint,
            unsealed=allowed is not None,
            approval=None if allowed is None else allowed.proposal.id,
            notes=[
                *notes,
                *(_ERASED if begun.asked.question.sealed else ()),
                *((NOT_DERIVED,) if asks_derived(begun.asked.question) else ()),
                *(_WAITING if facts.waiting and not final else ()),
                *older,
            ],
        )


@dataclass(frozen=True, slots=True)
class _Begun:
    """An export under way."""

    principal: Principal
    asked: Asked
    at: int
    facts: TreeFacts
    tally: Tally
    entries: Iterator[list[Entry]]


def _reported(found: Iterator[list[Entry]], tally: Tally, progress: Progress | None) -> Iterator[list[Entry]]:
    for page in found:
        if progress is not None:
            progress(tally.entries)
        yield page


def _sheets(target: Target, sheet: Sheet) -> dict[Path, bytes]:
    return {target.sheet_json: sheet.as_json(), target.sheet_text: sheet.as_text()}


def _log_part(log_id: str, seen: LogRange, proved: int) -> LogPart:
    (first, earliest), (last, latest) = seen.first, seen.last
    return LogPart(log_id, seen.entries, first, last, orjson.loads(earliest)["at"], orjson.loads(latest)["at"], proved)
