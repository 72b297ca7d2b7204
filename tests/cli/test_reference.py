"""The reference page names every command, option and exit code; help is quick; every command speaks of itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from policy_engine.cli.app import app
from policy_engine.cli.exits import Code
from policy_engine.settings import Settings
from tests.cli.conftest import Shell

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
HEAVY = ("sqlalchemy", "casbin", "fastapi", "pydantic", "structlog", "rich", "alembic", "cryptography")
EVERYWHERE = {"--output", "-o", "--help", "-h"}


def commands() -> Iterator[tuple[str, Any]]:
    """Yield each command with its words."""
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        for below, leaf in getattr(command, "commands", {"": command}).items():
            yield f"{name} {below}".strip(), leaf


def sections() -> dict[str, str]:
    """Return the page's sections by heading."""
    parts = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.split("\n", 1)[0]: part for part in parts}


def test_the_page_has_a_section_for_each_command_and_no_other() -> None:
    """A new command is documented before it is merged, and a page never promises one that is not there."""
    documented = {heading.removeprefix("policy-engine ") for heading in sections() if "policy-engine " in heading}
    assert documented == {name for name, _ in commands()}


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_each_section_names_every_argument_and_option(name: str, command: Any) -> None:
    """No option is undocumented, none is documented that does not exist, and each has a help text."""
    section = sections()[f"policy-engine {name}"]
    cells = {
        cell.strip("` ") for line in section.splitlines() for cell in line.split("|")[1:2] for cell in cell.split(",")
    }
    cells -= {"argument or option", "---"}
    expected: set[str] = set()
    for parameter in command.params:
        names = set(parameter.opts) if parameter.param_type_name == "option" else {parameter.metavar}
        expected |= names - EVERYWHERE
        assert parameter.help, (name, parameter.name)
    assert cells == expected


def test_the_page_names_the_commands_that_have_no_form_of_output() -> None:
    """Every other command takes `-o`."""
    without = {name for name, command in commands() if not any("-o" in each.opts for each in command.params)}
    beginning = PAGE.read_text(encoding="utf-8").partition("## Exit codes")[0]
    named = re.search("Every command but (.*) takes `--output", beginning)
    assert named is not None and set(re.findall("`([a-z ]+)`", named[1])) == without


def test_the_page_names_every_exit_code() -> None:
    """What a script may rely on is written down."""
    table = sections()["Exit codes"]
    assert all(f"\n| {code.value} | " in table for code in Code)


def test_the_page_names_the_settings_that_the_command_line_reads() -> None:
    """Variables are the fields of the settings, in capitals."""
    text = PAGE.read_text(encoding="utf-8")
    for name in ("database", "policies", "serving_region", "keys", "key"):
        assert name in Settings.model_fields and f"`POLICY_ENGINE_{name.upper()}`" in text


def test_the_verbs_are_those_of_the_contract() -> None:
    """Verbs of later issues are absent, never stubbed."""
    assert {name for name, _ in commands()} == {
        "serve", "demo", "doctor", "check", "who-can", "what-can", "probe",
        "policy lint", "policy test", "policy show", "policy export",
        "policy publish", "policy activate", "policy list",
        "facts import", "facts set", "facts show", "facts expiring",
        "models list", "models show",
        "keys create", "keys list", "keys revoke",
        "approvals list", "approvals show", "approvals approve", "approvals refuse",
        "switch engage", "switch release", "switch list", "switch show", "switch preview", "switch drill",
        "order receive", "order amend", "order end", "order list", "order show", "order preview",
        "cells engage", "cells receive", "cells amend", "cells end", "cells status",
        "audit query", "audit show", "audit verify", "audit export", "audit report", "audit prove", "audit erase",
        "audit hold", "audit recover",
        "audit replay", "audit licence", "audit directive", "audit evidence", "audit releases", "audit rows",
        "audit owners", "audit family", "audit timeline",
        "pep list", "pep snippet",
    }  # fmt: skip


def test_help_loads_nothing_heavy() -> None:
    """Help and usage errors answer at once: neither the engine nor its libraries are imported."""
    program = (
        "import sys\nfrom policy_engine.cli.app import app\n"
        "try:\n    app(['--help'], prog_name='policy-engine')\n"
        f"except SystemExit:\n    print(sorted(set({HEAVY}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "switch" in done.stdout


def test_every_command_has_help(shell: Shell) -> None:
    """`--help` and `-h` work everywhere and exit 0, in plain text; without a command the groups show theirs."""
    for name, _ in commands():
        ran = shell(*name.split(), "-h")
        assert ran.code == Code.OK and "Usage: policy-engine" in ran.out, name
        assert "](" not in ran.out, f"{name}: a link is for the reference page; help names the file"
    assert "Usage" in shell("switch").out + shell("switch").err
    assert shell("nonsense").code == Code.USAGE


def test_an_unexpected_fault_is_one_sentence_and_exit_1(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback, no value, and never 0."""
    from policy_engine.services import decide

    def broken(*_: object, **__: object) -> None:
        raise KeyError("planted in a fault")

    monkeypatch.setattr(decide.Decider, "decide", broken)
    ran = shell.asked()
    assert ran.code == Code.INTERNAL and ran.err.count("\n") == 1 and "planted" not in ran.err
