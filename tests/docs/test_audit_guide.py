"""The audit guide, executed: its way from an entry to an unmodified Casbin enforcer gives the recorded outcome."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell, new_shell
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "audit-guide.md"
SECTION = "Check a decision against the law, not against us"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A database of the sample world."""
    return new_shell(tmp_path_factory.mktemp("guide") / "engine.db")


@pytest.mark.parametrize(("location", "said"), [("US", "allow True"), ("CU", "deny False")])
def test_stock_casbin_gives_the_recorded_outcome(shell: Shell, tmp_path: Path, location: str, said: str) -> None:
    """The commands and the program of the page, as they stand there, on the entry of a decision."""
    decision = shell.asked(location=location).json["context"]["id"]
    text = pages.section(PAGE, SECTION)
    page = tmp_path / "section.md"
    page.write_text(text, encoding="utf-8")
    export, show = (line for block in pages.blocks(page, "sh") for line in block.text.splitlines())
    assert shell(*shlex.split(export.replace(" rules", f" {tmp_path / 'rules'}"))[1:], key="auditor").code == Code.OK
    words, _, file = show.replace("ENTRY", decision).rpartition(" > ")
    shown = shell(*shlex.split(words)[1:], key="auditor")
    assert shown.code == Code.OK, shown.err
    (tmp_path / file).write_text(shown.out, encoding="utf-8")
    (program,) = (block.text for block in pages.blocks(page, "python"))
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout == f"{said}\n", ran.stderr
