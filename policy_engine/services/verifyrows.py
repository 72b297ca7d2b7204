"""Comparing register rows with the log, both ways: rows that no entry made, rows that are missing, rows that differ.

Rules: places name the entry that made a row, or its position in the register; ids of persons and tenants are personal
and stay out of the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Protocol

from policy_engine.errors import InputRefused, VerificationFailed
from policy_engine.ledger.canonical import parse
from policy_engine.ledger.sealing import RowBody, commitment
from policy_engine.services.projection import Projection
from policy_engine.store.interfaces import FACT_REGISTERS, REGISTERS, LogView, StoredRow

Commitments = Mapping[tuple[str, int, int], tuple[str, str]]
"""`(register, commitment)` of every row that a change wrote, by `(log_id, seq, item)`."""


Erased = Set[tuple[str, int, int]]
"""`(log_id, seq, item)` of every row that an entry erased."""


class Findings(Protocol):
    """Where findings go, and the counts of what was checked."""

    counts: dict[str, int]

    def find(self, place: str, message: str) -> None:
        """Note one thing that does not agree."""
        ...


def compare_registers(
    view: LogView,
    projection: Projection,
    commitments: Commitments,
    opened: bool,
    findings: Findings,
    erased: Erased = frozenset(),
) -> None:
    """Compare every row with its entry's commitment and, where sealed parts were opened, with the rebuilt row."""
    for register in REGISTERS:
        rebuilt = projection.rows.get(register, {})
        there = set()
        for position, row in enumerate(view.scan_rows(register), start=1):
            findings.counts["rows"] += 1
            there.add(row.id)
            place = _place(row, position)
            problem = _problem(row, commitments)
            if problem is None and (row.log_id, row.seq, row.item) in erased:
                problem = "the row was erased and is still there"
            if problem is None and opened:
                known = rebuilt.get(row.id)
                if known is None:
                    problem = "no entry made this row"
                elif (known.revision, known.salt) != (row.revision, row.salt):
                    problem = "the row is not the newest that an entry made"
                elif projection.made_by[register, row.id] != (row.log_id, row.seq, row.item):
                    problem = "the row names another entry than the one that made it"
            if problem is not None:
                findings.find(place, problem)
        if opened:
            for id in sorted(rebuilt.keys() - there):
                log_id, seq, item = projection.made_by[register, id]
                findings.find(f"{register}, item {item} of entry {seq} of log {log_id}", "the row is missing")


def _problem(row: StoredRow, commitments: Commitments) -> str | None:
    """Return what is wrong with a row as it lies there, without any key."""
    promised = commitments.get((row.log_id, row.seq, row.item))
    if promised is None or promised[0] != row.register:
        return "no entry made this row"
    try:
        document: Any = None if row.document is None else parse(row.document.encode(), "the document")
        body = RowBody(row.register, row.id, row.revision, document).encode()
    except (VerificationFailed, InputRefused, UnicodeEncodeError):
        return "the document is not canonical JSON"
    if row.document is not None and not isinstance(document, dict):
        return "the document is no object"
    if commitment(row.salt, body) != promised[1]:
        return "the row is not the one that its entry committed to"
    for name, value in row.typed.items():
        if value != (None if document is None else document.get(name)):
            return f"the column {name} does not say what the document says"
    return None


def _place(row: StoredRow, position: int) -> str:
    if row.register in FACT_REGISTERS:
        return f"{row.register} row {position} in order of id"
    return f"{row.register} row {row.id}"
