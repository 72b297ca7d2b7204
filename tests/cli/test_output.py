"""What is written: JSON when piped, tables on a terminal, no control characters, instants as text."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from policy_engine.cli import output
from policy_engine.cli.output import Form
from policy_engine.core.facts import UsStatus
from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.store.interfaces import Committed

COLUMNS = (("id", "id"), ("twice", lambda row: row["id"] * 2))


class Terminal(io.StringIO):
    """A text buffer that says it is a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


@dataclass(frozen=True)
class Thing:
    """A dataclass with instants, as the services return them."""

    id: str
    made_at: int
    until: int
    count: int


def test_data_is_json_when_piped(capsys: Any) -> None:
    """A script reads one JSON document without asking for it."""
    output.emit_rows([{"id": "a"}], None, COLUMNS)
    assert json.loads(capsys.readouterr().out) == [{"id": "a"}]


def test_data_is_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person reads columns."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.emit_rows([{"id": "a"}], None, COLUMNS)
    assert "twice" in terminal.getvalue() and "aa" in terminal.getvalue() and "{" not in terminal.getvalue()


def test_the_form_asked_for_wins(capsys: Any) -> None:
    """`-o table` writes a table into a pipe as well."""
    output.emit_record({"id": "a", "none": None, "yes": True, "nested": {"b": [1]}}, Form.TABLE)
    shown = capsys.readouterr().out
    assert "id" in shown and "yes" in shown and '"b"' in shown and "-" in shown


def test_json_keeps_the_order_of_members_and_any_script(capsys: Any) -> None:
    """The same question gives the same text."""
    output.emit_record({"z": "ü", "a": 1}, Form.JSON)
    assert capsys.readouterr().out == '{\n  "z": "ü",\n  "a": 1\n}\n'


def test_instants_become_text_and_no_end_becomes_null() -> None:
    """Microseconds are for the inside; a member without an end is null."""
    thing = Thing("x", parse_instant("2026-06-12T21:21:00Z"), ENDLESS, 7)
    assert output.plain(thing) == {"id": "x", "made_at": "2026-06-12T21:21:00Z", "until": None, "count": 7}


def test_every_value_becomes_json_data() -> None:
    """Sets are sorted, enumerations are their words, fractions are numbers as text."""
    value = {"set": {"b", "a"}, "word": UsStatus.LPR, "share": Fraction(499, 10), "list": (1, None), "flag": True}
    expected = {"set": ["a", "b"], "word": "lpr", "share": "49.9", "list": [1, None], "flag": True}
    assert output.plain(value) == expected and type(output.plain(UsStatus.LPR)) is str
    assert output.plain(object()).startswith("<object")


def test_text_from_outside_cannot_move_the_cursor_or_colour(capsys: Any) -> None:
    """An id that holds an escape sequence or markup is shown, not obeyed."""
    output.emit_rows([{"id": "\x1b[2Jx[red]y"}], Form.TABLE, (("id", "id"),))
    output.note("a\x07b")
    output.data("c\x1bd")
    told = capsys.readouterr()
    assert "\x1b" not in told.out and "x[red]y" in told.out and told.err == "a\ufffdb\n"


def test_where_a_change_stands_in_the_log() -> None:
    """Every change says its entry."""
    committed = Committed("log-1", (3, 4), parse_instant("2026-06-12T21:21:00Z"))
    assert output.entry(committed) == {"log": "log-1", "seq": 4, "at": "2026-06-12T21:21:00Z"}


def test_progress_is_silent_when_piped(capsys: Any) -> None:
    """A log file gets no bars."""
    with output.progress("counting") as report:
        report(1, 2)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


def test_progress_goes_to_standard_error_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A person sees that something happens, and standard output stays data."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress("counting") as report:
        report(1, 2)
    assert "counting" in terminal.getvalue() and capsys.readouterr().out == ""
