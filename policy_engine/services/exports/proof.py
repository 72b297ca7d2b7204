"""The proof sheet beside an export: what the file is, of which log, and how to check it. As JSON and as text. Pure.

Rules of the room: it says what it knows and what it does not: entries that no checkpoint covers yet, a range that can
still grow, tenants that the reader is bounded to, cells that were cut. It holds no public member of any entry.
Left to others: counting (`source.Tally`), checkpoints (`services.sequencer`), verifying (`audit verify`, the verifier).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from policy_engine.core.instants import format_instant

FORMAT = "policy-engine-proof-sheet/v1"


@dataclass(frozen=True, slots=True)
class LogPart:
    """What the file holds of one log: `entries` of them, from sequence number `first` to `last`.

    Entries of the log before number `proved` are under the checkpoint of the sheet.
    """

    log: str
    entries: int
    first: int
    last: int
    first_at: int
    last_at: int
    proved: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything that is said of an export. Instants in microseconds.

    `complete`: every entry of the question and range that was durable when the export began is in the file. `final`:
    none can be added to the range any more. `checkpoint` is the newest signed note then, `None` before the first.
    """

    file: str
    format: str
    size_bytes: int
    sha256: str
    question: str
    since: int | None
    until: int | None
    made_at: int
    made_by: str
    entries: int
    logs: Sequence[LogPart]
    complete: bool
    final: bool
    tenants: Sequence[str] | None
    releases: Sequence[str]
    origin: str
    log_key: str
    tree_size: int
    checkpoint: str | None
    unsealed: bool = False
    approval: str | None = None
    notes: Sequence[str] = ()

    def as_json(self) -> bytes:
        """Return the sheet as a JSON document, instants as RFC 3339 text."""
        return orjson.dumps(self._members(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def as_text(self) -> bytes:
        """Return the sheet for a person, 100 characters wide; what it quotes has no control characters."""
        lines = [f"Proof sheet of {self.file}", ""]
        for name, value in self._told():
            first, *rest = textwrap.wrap(_shown(value), 78, break_on_hyphens=False) or ["-"]
            lines += [f"{name:<20} {first}", *(f"{'':<20} {line}" for line in rest)]
        if self.checkpoint is not None:
            lines += ["", "Newest checkpoint when the export began, as it was signed:", ""]
            lines += [f"    {_shown(line)}" for line in self.checkpoint.rstrip("\n").split("\n")]
        lines += ["", *_HOW_TO_CHECK]
        return ("\n".join(line.rstrip() for line in lines) + "\n").encode()

    def _members(self) -> Mapping[str, Any]:
        return {
            "format": FORMAT,
            "file": {"name": self.file, "format": self.format, "bytes": self.size_bytes, "sha256": self.sha256},
            "asked": {
                "question": self.question,
                "since": _instant(self.since),
                "until": _instant(self.until),
                "tenants": None if self.tenants is None else list(self.tenants),
            },
            "made": {"at": _instant(self.made_at), "by": self.made_by, "approval": self.approval},
            "entries": self.entries,
            "logs": [
                {
                    "log": part.log,
                    "entries": part.entries,
                    "first": part.first,
                    "last": part.last,
                    "first_at": _instant(part.first_at),
                    "last_at": _instant(part.last_at),
                    "proved": part.proved,
                }
                for part in self.logs
            ],
            "complete": self.complete,
            "final": self.final,
            "unsealed": self.unsealed,
            "releases": list(self.releases),
            "tree": {
                "origin": self.origin,
                "key": self.log_key,
                "size": self.tree_size,
                "checkpoint": self.checkpoint,
            },
            "notes": list(self.notes),
        }

    def _told(self) -> list[tuple[str, str]]:
        since, until = _instant(self.since) or "the beginning", _instant(self.until) or "the end"
        tenants = "all" if self.tenants is None else f"{', '.join(self.tenants)} only: the reader's key is bounded"
        told = [
            ("SHA-256", self.sha256),
            ("bytes", f"{self.size_bytes:,}"),
            ("form", f"{self.format}, {'with sealed bodies' if self.unsealed else 'public parts only'}"),
            ("question", self.question or "everything"),
            ("range", f"from {since} until {until}"),
            ("tenants", tenants),
            ("entries", f"{self.entries:,}"),
            *((f"log {part.log}", _range(part)) for part in self.logs),
            ("complete", _COMPLETE[self.complete]),
            ("final", _FINAL[self.final]),
            ("releases", ", ".join(self.releases) or "none"),
            ("made", f"{_instant(self.made_at)} by {self.made_by}"),
            ("origin of the log", self.origin or "none: there is no checkpoint yet"),
            ("key of the log", self.log_key or "none"),
            ("tree size", f"{self.tree_size:,} leaves"),
        ]
        if self.approval is not None:
            told.append(("approval", self.approval))
        return [*told, *(("note", note) for note in self.notes)]


_COMPLETE = {
    True: "yes: every entry asked for that was durable when the export began is in the file",
    False: "no: see the notes",
}
_FINAL = {
    True: "yes: no entry can be added to this range any more",
    False: "no: the range reaches to the moment of the export, and the log goes on",
}
_HOW_TO_CHECK = (
    "To check the file: its SHA-256 must be the one above (`sha256sum FILE`). To check the log it came",
    "from: `policy-engine audit verify` beside the database, or, without it, `policy-engine-verify` on an",
    "export of the form `bundle`, which carries the proofs that this form does not.",
)


def _range(part: LogPart) -> str:
    times = f"{format_instant(part.first_at)} to {format_instant(part.last_at)}"
    proved = (
        "all"
        if part.last < part.proved
        else f"those before number {part.proved}"
        if part.proved > part.first
        else "none"
    )
    return f"{part.entries:,} entries, numbers {part.first} to {part.last}, {times}; under the checkpoint: {proved}"


def _instant(at: int | None) -> str | None:
    return None if at is None else format_instant(at)


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
