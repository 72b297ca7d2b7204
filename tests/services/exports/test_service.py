"""Exports as a whole: what is in the file, what the proof sheet says, who may, and that files are whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.instants import SECOND, format_instant
from policy_engine.errors import Conflict, InputRefused, NotPermitted
from policy_engine.services.exports import files, parquet, service, sheets, source
from policy_engine.services.exports.service import Form, Target
from policy_engine.services.permissions import LOCAL
from tests.services.exports.office import Office, denied
from tests.services.governed import START

FILES = [form for form in Form if form is not Form.BUNDLE]


def sheet_of(place: Path) -> Any:
    """Return the proof sheet for programs that lies beside a file."""
    return json.loads(place.with_name(f"{place.name}.proof.json").read_text(encoding="utf-8"))


def lines_of(place: Path) -> list[Any]:
    """Return the values of a file of JSON lines."""
    return [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def busy(office: Office) -> Office:
    """An office with twelve decisions, a minute apart, every third denied."""
    for number in range(12):
        office.house.clock.at += 60 * SECOND
        office.decide(office.evaluation(number % 3 > 0) if number % 3 else denied(office))
    return office


def test_an_export_holds_every_entry_as_committed(busy: Office, tmp_path: Path) -> None:
    """JSON Lines of everything are the public bytes of the log, in its order."""
    busy.export(tmp_path / "all.jsonl")
    stored = [public for _, _, public in busy.house.store.entries()]
    assert (tmp_path / "all.jsonl").read_bytes().split(b"\n") == [*stored, b""]


def test_pages_join_without_seam(busy: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading by pages loses and repeats nothing at any page size, with or without a range."""
    everything = busy.publics()
    for size in (1, 2, 5, 12, 13, 14):
        monkeypatch.setattr(source, "PAGE_ENTRIES", size)
        busy.export(tmp_path / "f", force=True)
        assert lines_of(tmp_path / "f") == everything
        busy.export(tmp_path / "f", force=True, since=START + 60 * SECOND * 3, until=START + 60 * SECOND * 7)
        assert lines_of(tmp_path / "f") == everything[3:7]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("deny", lambda public: public.get("outcome") == "deny"),
        ("kind:genesis", lambda public: public["kind"] == "genesis"),
        ("allow model:fable-5 tier>=4", lambda public: public.get("outcome") == "allow"),
        ("model:other", lambda public: False),
    ],
)
def test_a_question_chooses(busy: Office, tmp_path: Path, text: str, wanted: Callable[[Any], bool]) -> None:
    """Only what the question asks for is exported, and the sheet repeats the question."""
    sheet = busy.export(tmp_path / "f", text=text)
    expected = [public for public in busy.publics() if wanted(public)]
    assert lines_of(tmp_path / "f") == expected
    assert (sheet.entries, sheet.question) == (len(expected), text)


def test_a_question_by_what_is_sealed_is_a_logged_read(busy: Office, tmp_path: Path) -> None:
    """Asking for a person's entries writes the entry that says so; nothing else about an export does."""
    before = busy.house.kinds()
    busy.export(tmp_path / "plain")
    assert busy.house.kinds() == before
    sheet = busy.export(tmp_path / "f", text="subject:alice")
    assert busy.house.kinds() == [*before, "read"]
    assert sheet.entries == 13 and "erased or pruned are not found" in sheet.notes[0]


def test_the_sheet_says_what_the_file_is(busy: Office, tmp_path: Path) -> None:
    """Hash, size, counts, places, times, releases and range are those of the file."""
    until = START + 60 * SECOND * 8
    busy.export(tmp_path / "f.jsonl", until=until)
    data, sheet = (tmp_path / "f.jsonl").read_bytes(), sheet_of(tmp_path / "f.jsonl")
    entries = lines_of(tmp_path / "f.jsonl")
    assert sheet["file"] == {
        "name": "f.jsonl", "format": "jsonl", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    (log,) = sheet["logs"]
    assert (log["log"], log["entries"], log["first"], log["last"]) == (entries[0]["log"], 8, 0, 7)
    assert (log["first_at"], log["last_at"]) == (format_instant(START), format_instant(START + 60 * SECOND * 7))
    assert (sheet["entries"], sheet["releases"]) == (8, sorted({entry["release"] for entry in entries}))
    assert sheet["asked"] == {"question": "", "since": None, "until": format_instant(until), "tenants": None}
    assert (sheet["complete"], sheet["final"], sheet["unsealed"]) == (True, True, False)
    text = (tmp_path / "f.jsonl.proof.txt").read_text(encoding="utf-8")
    assert sheet["file"]["sha256"] in text and format_instant(until) in text and "public parts only" in text


def test_a_range_that_can_grow_is_not_final(busy: Office, tmp_path: Path) -> None:
    """A range up to the newest entry or later may still get entries, and the sheet says so; an earlier one may not."""
    last = busy.publics()[-1]["at"]
    assert busy.export(tmp_path / "a").final is False
    assert busy.export(tmp_path / "b", until=last + 1).final is False
    sheet = busy.export(tmp_path / "c", until=last)
    assert sheet.final is True
    before = lines_of(tmp_path / "c")
    busy.decide(busy.evaluation())
    busy.export(tmp_path / "c", until=last, force=True)
    assert lines_of(tmp_path / "c") == before


def test_every_release_that_decided_is_named(office: Office, tmp_path: Path) -> None:
    """A release that was active for one entry in the middle is on the sheet, beside the others."""
    tally = source.Tally()
    names = ["sha256:a", "sha256:a", "sha256:b", 'odd"name', None, "sha256:a"]
    page = [
        ("l", seq, json.dumps({"at": 1, "release": name, "x": 1}, separators=(",", ":")).encode())
        for seq, name in enumerate(names)
    ]
    list(tally.count(iter([page[:3], page[3:]])))
    assert tally.releases == {"sha256:a", "sha256:b", 'odd"name'}
    assert tally.entries == 6 and tally.logs["l"].entries == 6


def test_a_key_bounded_to_tenants_exports_its_own(busy: Office, tmp_path: Path) -> None:
    """What other tenants did, and every change, stays out, and the sheet names the bound."""
    busy.decide(busy.evaluation(tenant="lab"))
    sheet = busy.export(tmp_path / "f", who="bounded")
    assert sheet.tenants == ["acme"] and sheet.entries == 12
    assert {public["tenant"] for public in lines_of(tmp_path / "f")} == {"acme"}


def test_reading_the_log_needs_its_scope(busy: Office, tmp_path: Path) -> None:
    """Without `audit:read` nothing is written; `local` may read what is public."""
    for who in ("writer", "unsealer"):
        with pytest.raises(NotPermitted):
            busy.export(tmp_path / "f", who=who)
    assert [path.name for path in tmp_path.iterdir()] == ["office"]
    busy.exports.export(LOCAL, busy.exports.ask(""), Form.JSONL, Target(tmp_path / "f"))
    assert len(lines_of(tmp_path / "f")) == 13


@pytest.mark.parametrize("form", FILES)
def test_a_file_and_its_sheets_are_their_owners(busy: Office, tmp_path: Path, form: Form) -> None:
    """Nobody else may read an export, and nothing but the file and its two sheets is left."""
    place = tmp_path / "out" / "f"
    place.parent.mkdir()
    busy.export(place, form)
    assert sorted(path.name for path in place.parent.iterdir()) == ["f", "f.proof.json", "f.proof.txt"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["f", "f.proof.json", "f.proof.txt"])
def test_a_file_that_exists_is_not_touched(busy: Office, tmp_path: Path, name: str) -> None:
    """Without `force` an existing file, or sheet, refuses the export, and everything is as it was; with it, not."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(Conflict, match="exists already"):
        busy.export(folder / "f")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, "mine")]
    busy.export(folder / "f", force=True)
    assert len(lines_of(folder / "f")) == 13


def test_a_file_that_comes_meanwhile_is_not_touched(
    busy: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's file that appears while the export is written stays, and the export is taken away."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(service, "digest_of", lambda part: (folder / "f").write_text("mine") and "00")
    with pytest.raises(Conflict, match="came while this was written"):
        busy.export(folder / "f")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("f", "mine")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
@pytest.mark.parametrize("form", FILES)
def test_an_interruption_leaves_nothing(
    busy: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Form, error: Any
) -> None:
    """Whatever stops an export, the folder is as it was: no half of a file, no sheet of a file that is not there."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(source, "PAGE_ENTRIES", 5)
    done = 0

    def stop(entries: int) -> None:
        nonlocal done
        done = entries
        if entries > 5:
            raise error

    with pytest.raises((KeyboardInterrupt, InputRefused, MemoryError)):
        busy.exports.export(busy.house["reader"], busy.exports.ask(""), form, Target(folder / "f"), stop)
    assert done == 10 and list(folder.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_an_error_at_the_end_leaves_nothing(
    busy: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A disk that fails when the file is synced, or when a sheet or it is put in place, leaves nothing behind."""
    folder = tmp_path / "out"
    folder.mkdir()
    real = getattr(os, call)
    for failing in range(1, 5 if call == "fsync" else 4):
        left = failing

        def fail(*given: Any, real: Any = real) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return real(*given)

        monkeypatch.setattr(files.os, call, fail)
        with pytest.raises(KeyboardInterrupt):
            busy.export(folder / "f")
        monkeypatch.setattr(files.os, call, real)
        assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(busy: Office, tmp_path: Path) -> None:
    """A missing folder and a folder in the place of the file are one sentence each."""
    with pytest.raises(InputRefused, match="No such file or directory"):
        busy.export(tmp_path / "missing" / "f")
    with pytest.raises(InputRefused, match="is a folder"):
        busy.export(tmp_path)


@pytest.mark.parametrize("name", ["f", "f.proof.json", "f.proof.txt"])
@pytest.mark.parametrize("force", [False, True])
def test_a_device_or_pipe_is_never_replaced(busy: Office, tmp_path: Path, name: str, force: bool) -> None:
    """Whoever names `/dev/null`, as root and with force, has it still: also where a sheet would lie."""
    os.mkfifo(tmp_path / name)
    with pytest.raises((InputRefused, Conflict)):
        busy.export(tmp_path / "f", force=force)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".f", "f"))] == [name]
    assert (tmp_path / name).is_fifo()


def test_a_dash_is_no_file(busy: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who writes `-` wants a file of that name: it is refused, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputRefused, match="standard output"):
        busy.export(Path("-"))
    assert list(tmp_path.glob("*-*")) == []


def test_a_range_given_twice_or_backwards_is_refused(office: Office) -> None:
    """An end of the range has one meaning, and the end comes after the beginning."""
    with pytest.raises(InputRefused, match="--since"):
        office.exports.ask("since 7d", since=1)
    with pytest.raises(InputRefused, match="ends before it begins"):
        office.exports.ask("since 2026-06-02", until=1)


def test_what_is_cut_is_on_the_sheet(office: Office, tmp_path: Path) -> None:
    """A workbook that could not hold a text says so on its sheet, not only in the cell."""
    office.decide(office.evaluation(model="m" * 40_000))
    assert "1 texts were longer" in office.export(tmp_path / "f.xlsx", Form.XLSX).notes[0]
    assert office.export(tmp_path / "f.jsonl").notes == []
    assert parquet.MODE == files.MODE and sheets.Book().cut_cells == 0
