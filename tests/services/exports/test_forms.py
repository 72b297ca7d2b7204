"""The forms of an export: nothing is lost, nothing is evaluated, and what a form cannot hold is said."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import duckdb
import openpyxl
import pytest
from hypothesis import given
from openpyxl.utils.escape import unescape

from policy_engine.core.instants import parse_instant
from policy_engine.errors import StartRefused
from policy_engine.ledger.canonical import canonical
from policy_engine.limits import LIMITS
from policy_engine.services.exports import parquet
from policy_engine.services.exports.columns import COLUMNS, Column, Kind, cell_of, members_of, row_of
from policy_engine.services.exports.neutral import DANGEROUS, MARK, neutral, restored
from policy_engine.services.exports.parquet import write_parquet
from policy_engine.services.exports.sheets import Book, write_xlsx
from policy_engine.services.exports.source import Entry
from policy_engine.services.exports.textfiles import write_csv, write_jsonl
from tests.services.exports.office import FORMULAS, MARKUP, public_parts, texts

NAMES = [column.name for column in COLUMNS]


def entries(*publics: dict[str, Any]) -> Iterator[list[Entry]]:
    """Return public members as one page of entries."""
    yield [(public["log"], public["seq"], canonical(public)) for public in publics]


def decision(**members: Any) -> dict[str, Any]:
    """Return the public members of a decision."""
    return {
        "v": 1, "kind": "decision", "id": "0" * 32, "log": "aa", "seq": 0, "at": 1_780_315_200_000_001, "epoch": 1,
        "release": "sha256:aa", "sealed": "bb", "commit": "cc", "outcome": "deny", "action": "infer", "model": "m",
        "tier": 4, "tenant": "acme", "reasons": [["P7", "code", ["d1"]]], "rules": ["r"], "lifted": [], "licences": [],
        "missing": [], "until": None, "instant": 1_780_315_200_000_000, "by": "key-1", "reached": True,
    } | members  # fmt: skip


def value_of(column: Column, cell: str) -> Any:
    """Return the value that a cell of text shows: the way back that docs/exports.md states."""
    if cell == "":
        return None
    text = restored(cell)
    match column.kind:
        case Kind.NUMBER:
            return int(text)
        case Kind.INSTANT:
            return parse_instant(text)
        case Kind.FLAG:
            return text == "true"
        case Kind.TEXTS | Kind.REASONS:
            return json.loads(text)
    return text


@given(texts)
def test_a_neutral_text_is_no_formula_and_comes_back(text: str) -> None:
    """No cell begins like a formula, and taking one apostrophe off gives the text back, whatever it is."""
    cell = neutral(text)
    assert cell[0] not in DANGEROUS
    assert restored(cell) == text
    assert cell in (text, MARK + text)


@pytest.mark.parametrize("text", FORMULAS)
def test_each_known_formula_is_made_harmless(text: str) -> None:
    """What the literature on formula injection lists, and a text that looks made harmless already."""
    assert neutral(text) == MARK + text


@pytest.mark.parametrize("text", ["a", "1+1", "SHA-256", " =1", "é", "{", '"'])
def test_a_harmless_text_stays_as_it_is(text: str) -> None:
    """Only what would be evaluated is touched."""
    assert neutral(text) == text


@given(public_parts())
def test_a_row_gives_the_members_back(public: dict[str, Any]) -> None:
    """Whatever an entry says, known or not, of the expected type or not, its row says it too."""
    assert members_of(row_of(public)) == public


def test_json_lines_are_the_committed_bytes(tmp_path: Path) -> None:
    """Each line is an entry's canonical bytes, also where they hold characters that other encoders escape."""
    publics = [decision(seq=0), decision(seq=1, model="\u2028é\x7f")]
    write_jsonl(tmp_path / "f", entries(*publics))
    assert (tmp_path / "f").read_bytes() == b"".join(canonical(public) + b"\n" for public in publics)


@given(public=public_parts())
def test_csv_comes_back_and_no_cell_is_a_formula(
    tmp_path_factory: pytest.TempPathFactory, public: dict[str, Any]
) -> None:
    """A reader of RFC 4180 gets every member back, and no cell begins like a formula."""
    place = tmp_path_factory.mktemp("csv") / "f"
    write_csv(place, entries(public))
    with place.open(encoding="utf-8", newline="") as file:
        heading, row = csv.reader(file)
    assert heading == NAMES
    assert all(cell[:1] not in DANGEROUS for cell, column in zip(row, COLUMNS, strict=True) if column.kind is Kind.TEXT)
    assert members_of([value_of(column, cell) for column, cell in zip(COLUMNS, row, strict=True)]) == public


def test_csv_quotes_as_rfc_4180_says(tmp_path: Path) -> None:
    """Lines end with CRLF; a cell with a comma, a quote or a line break is quoted, quotes doubled; it is UTF-8."""
    write_csv(tmp_path / "f", entries(decision(model='a,"b"\né')))
    data = (tmp_path / "f").read_bytes()
    assert b'"a,""b""\n\xc3\xa9"' in data
    assert data.startswith(b"log,seq,at,") and data.count(b"\r\n") == 2 and not data.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("text", [*FORMULAS, *MARKUP, "\x07bell", "_x0041_", "https://example.org", "1e5", ""])
def test_workbooks_hold_texts_as_texts(tmp_path: Path, text: str) -> None:
    """Every text is a string cell: no formula, no number, no link is made of it, and it comes back."""
    assert write_xlsx(tmp_path / "f.xlsx", entries(decision(model=text))) == Book(1, 0)
    book = openpyxl.load_workbook(tmp_path / "f.xlsx")
    cells = dict(zip(NAMES, next(book.active.iter_rows(min_row=2)), strict=True))
    assert cells["model"].data_type == "s" and cells["model"].hyperlink is None
    assert restored(unescape(cells["model"].value)) == text
    assert (cells["tier"].value, cells["tier"].data_type) == (4, "n")
    assert cells["at"].value == "2026-06-01T12:00:00.000001Z"


def test_workbooks_go_on_in_another_sheet(tmp_path: Path) -> None:
    """When a sheet is full the next begins with the heading again, and no row is lost between them."""
    limits = replace(LIMITS, sheet_rows_count=4)
    page = [decision(seq=seq) for seq in range(7)]
    assert write_xlsx(tmp_path / "f.xlsx", entries(*page), limits) == Book(3, 0)
    book = openpyxl.load_workbook(tmp_path / "f.xlsx", read_only=True)
    rows = [[row[1] for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets]
    book.close()
    assert rows == [["seq", 0, 1, 2], ["seq", 3, 4, 5], ["seq", 6]]
    assert LIMITS.sheet_rows_count == 1_048_576


def rows_of(sheet: IO[bytes]) -> int:
    """Return how many rows a sheet has, without holding all of it."""
    count, tail = 0, b""
    while chunk := sheet.read(2**20):
        count += (tail + chunk).count(b"<row ")
        tail = chunk[-4:]
    return count


@pytest.mark.nightly
def test_a_real_sheet_is_full_when_it_is_full(tmp_path: Path) -> None:
    """One row more than a sheet of a spreadsheet program can hold: the last is on a second sheet."""
    rows = LIMITS.sheet_rows_count
    data = canonical({"v": 1, "kind": "x", "log": "aa", "seq": 1, "at": 1, "release": None, "epoch": 1, "id": "0"})
    pages = (([("aa", 1, data)] * 4_096)[: rows - start] for start in range(0, rows, 4_096))
    assert write_xlsx(tmp_path / "f.xlsx", pages) == Book(2, 0)
    counts = []
    with zipfile.ZipFile(tmp_path / "f.xlsx") as book:
        for number in (1, 2):
            with book.open(f"xl/worksheets/sheet{number}.xml") as sheet:
                counts.append(rows_of(sheet))
    assert counts == [rows, 2]


def test_an_empty_export_has_its_headings(tmp_path: Path) -> None:
    """Nothing found is a file that says so in its own form, not a file that cannot be opened."""
    assert write_xlsx(tmp_path / "f.xlsx", iter(())) == Book(1, 0)
    assert [cell.value for cell in next(openpyxl.load_workbook(tmp_path / "f.xlsx").active.iter_rows())] == NAMES
    write_csv(tmp_path / "f.csv", iter(()))
    assert (tmp_path / "f.csv").read_text().strip() == ",".join(NAMES)
    write_jsonl(tmp_path / "f.jsonl", iter(()))
    assert (tmp_path / "f.jsonl").read_bytes() == b""
    write_parquet(tmp_path / "f.parquet", iter(()))
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/f.parquet'").fetchall() == [(0,)]


def test_a_text_longer_than_a_cell_is_cut_and_says_so(tmp_path: Path) -> None:
    """At the limit a text is whole; one unit past it, it is cut, ends with a note, and is counted."""
    most = LIMITS.sheet_cell_characters
    whole, long = "x" * most, "\U0001f512" * (most // 2 + 1)
    assert write_xlsx(tmp_path / "f.xlsx", entries(decision(model=whole), decision(model=long))) == Book(1, 1)
    rows = list(openpyxl.load_workbook(tmp_path / "f.xlsx").active.iter_rows(min_row=2, values_only=True))
    place = NAMES.index("model")
    assert rows[0][place] == whole
    assert rows[1][place].endswith(f"[{most + 1} characters, cut]") and rows[1][place].startswith("\U0001f512")
    assert len(rows[1][place].encode("utf-16-le")) // 2 <= most


def test_parquet_is_typed(tmp_path: Path) -> None:
    """Instants are timestamps to the microsecond, lists are lists, reasons are structures."""
    write_parquet(tmp_path / "f.parquet", entries(decision(), decision(seq=1, until=1_780_315_200_000_002)))
    found = duckdb.sql(
        f"SELECT seq, epoch_us(\"at\"), epoch_us(until), reasons, rules, reached, tier FROM '{tmp_path}/f.parquet'"
    ).fetchall()
    reason = {"rule": "P7", "code": "code", "orders": ["d1"]}
    assert found == [
        (0, 1_780_315_200_000_001, None, [reason], ["r"], True, 4),
        (1, 1_780_315_200_000_001, 1_780_315_200_000_002, [reason], ["r"], True, 4),
    ]


@given(public=public_parts())
def test_parquet_comes_back(tmp_path_factory: pytest.TempPathFactory, public: dict[str, Any]) -> None:
    """DuckDB reads every member back, whatever texts there are, also a folder name that holds a quote."""
    place = tmp_path_factory.mktemp("it's") / "f.parquet"
    write_parquet(place, entries(public))
    shown = [f'epoch_us("{c.name}")' if c.kind is Kind.INSTANT else f'"{c.name}"' for c in COLUMNS]
    (row,) = duckdb.sql(f"SELECT {', '.join(shown)} FROM read_parquet($place)", params={"place": str(place)}).fetchall()
    values = [
        [[r["rule"], r["code"], r["orders"]] for r in value] if c.kind is Kind.REASONS and value is not None else value
        for c, value in zip(COLUMNS, row, strict=True)
    ]
    assert members_of(values) == public


def test_without_duckdb_parquet_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra is one sentence that names it."""
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(StartRefused, match=r"policy-engine\[reports\]"):
        parquet.require_duckdb()


def test_an_instant_no_calendar_has_is_its_number() -> None:
    """A cell never fails: an instant beyond the calendar is shown as the number it is."""
    column = Column("at", Kind.INSTANT)
    assert cell_of(column, 2**61) == str(2**61)
    assert cell_of(column, 0) == "1970-01-01T00:00:00Z"
