"""The pages about exports and the report, executed: their commands run in order and leave what the pages say."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import shlex
from pathlib import Path

import pytest

from policy_engine.cli.exits import Code
from policy_engine.services.exports.columns import COLUMNS
from policy_engine.services.exports.neutral import DANGEROUS
from policy_engine.services.report.markup import Markup
from policy_engine.services.report.page import _HEADING
from tests.cli.conftest import Ran, Shell, new_shell
from tests.docs import pages

EXPORTS = pages.ROOT / "docs" / "exports.md"
REPORT = pages.ROOT / "docs" / "audit-report.md"
PROPOSAL = "prop-1f0c9a3b5d7e"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Offer a shell in an empty folder, on a sample database with a few decisions."""
    monkeypatch.chdir(tmp_path)
    opened = new_shell(tmp_path / "engine.db")
    for person, model in (("alice", "fable-5"), ("eve", "fable-5"), ("mina", "mythos-5"), ("bruno", "fable-5")):
        opened.asked(person, model)
    return opened


def run(shell: Shell, command: str, key: str | None = None) -> Ran:
    """Run a command of a page as the holder of a key."""
    words = shlex.split(command)
    assert words.pop(0) == "policy-engine"
    return shell(*words, key=key)


def commands_of(page: Path, heading: str) -> list[str]:
    """Return the commands of a section."""
    found = re.findall(r"```sh\n(.*?)```", pages.section(page, heading), re.DOTALL)
    return [line for block in found for line in block.splitlines() if line]


def test_the_first_export_leaves_the_three_files_of_its_table(shell: Shell) -> None:
    """The command of the first section writes the files that the table under it names, and no other."""
    (command,) = commands_of(EXPORTS, "A first export")
    assert run(shell, command).code == Code.OK
    named = set(re.findall(r"^\| `(denies[\w.]+)` \|", EXPORTS.read_text(encoding="utf-8"), re.M))
    assert {path.name for path in Path().iterdir() if path.name.startswith("denies")} == named
    with Path("denies.csv").open(encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading == [column.name for column in COLUMNS] and len(rows) == 3


def test_sealed_bodies_go_as_the_page_says(shell: Shell) -> None:
    """Propose and get 8, approve, make: the commands in their order, by the two persons that the page names."""
    propose, approve, make = commands_of(EXPORTS, "Sealed bodies")
    proposed = run(shell, propose, "auditor")
    assert proposed.code == Code.APPROVAL_MISSING, proposed.err
    assert run(shell, approve.replace(PROPOSAL, proposed.json["proposal"]), "approver").code == Code.OK
    assert run(shell, make.replace(PROPOSAL, proposed.json["proposal"]), "auditor").code == Code.OK
    lines = [json.loads(line) for line in Path("bodies.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["body"]["subject"] for line in lines} == {"alice", "eve", "mina", "bruno"}


def test_the_duckdb_example_runs(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's program reads an exported Parquet file."""
    assert shell("audit", "export", "--format", "parquet", "--to", "all.parquet").code == Code.OK
    (block,) = pages.blocks(EXPORTS, "python")
    Path("example.py").write_text(block.text, encoding="utf-8")
    runpy.run_path("example.py")
    assert capsys.readouterr().out == "[('decision', 4), ('genesis', 1)]\n"


def test_every_form_is_on_the_page(shell: Shell) -> None:
    """The table of forms has each form that the command takes, and no other."""
    from policy_engine.cli.auditexport import ExportForm

    rows = re.findall(r"^\| `(\w+)` \|", pages.section(EXPORTS, "Forms"), re.M)
    assert rows == [form.value for form in ExportForm]


def test_every_dangerous_beginning_is_on_the_page() -> None:
    """What cells may not begin with is what the page says."""
    told = pages.section(EXPORTS, "Cells that are safe to open")
    words = {"\t": "a tab", "\r": "a carriage return", "\n": "a line feed"}
    assert [mark for mark in DANGEROUS if words.get(mark, f"`{mark}`") not in told] == []


def test_the_report_is_written_and_has_the_sections_of_the_page(shell: Shell) -> None:
    """The page's command writes the file; each section of the report is spoken of on the page."""
    (command,) = (command for block in pages.blocks(REPORT, "sh") for command in pages.commands(block))
    assert run(shell, command).code == Code.OK
    text = Markup(Path("june.html").read_text(encoding="utf-8")).text
    told = REPORT.read_text(encoding="utf-8").lower()
    headings = [heading for _, heading in _HEADING.findall(text)]
    assert len(headings) == 10
    words = [heading.split(",")[0].split()[-1].lower() for heading in headings]
    assert [word for word in words if word not in told] == []
    assert os.path.getsize("june.html") < 200_000
