"""The page about replay, executed: every command of it runs on a history that holds what it names."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell, new_shell
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "replay.md"
COMMANDS = [command for block in pages.blocks(PAGE, "sh") for command in pages.commands(block)]
ORDERS = {
    "fable-letter": 'kind = "directive"\nmodels = ["fable-5"]\nblocks = ["foreign_person"]\n',
    "lic-lab-1": 'kind = "licence"\nfrom = 2026-01-01T00:00:00Z\ntenant_id = "lab"\nmodels = ["fable-5"]\n'
    'actions = ["infer"]\nnationalities = ["GB"]\nlifts = ["directive"]\n',
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A database with decisions before and behind the directive and the licence that the page names."""
    shell = new_shell(tmp_path_factory.mktemp("told") / "engine.db")
    assert shell.asked().code == Code.OK
    assert shell.asked("greg", tenant="lab").code == Code.OK
    for id, text in ORDERS.items():
        file = shell.database.with_name(f"{id}.toml")
        file.write_text(f'id = "{id}"\n{text}')
        proposal = shell("order", "receive", file, key="operator").json["proposal"]
        if proposal is not None:
            shell.approved(proposal)
    assert shell.asked("greg", tenant="lab").code == Code.OK
    assert shell.asked("mina").code == Code.OK
    return shell


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_page_runs(told: Shell, command: str) -> None:
    """As an auditor, with the answer as JSON and the exit code of a history in which nothing is wrong."""
    program, *words = shlex.split(command)
    assert program == "policy-engine"
    ran = told(*words, key="auditor")
    assert ran.code == Code.OK, ran.err
    assert ran.json


def test_the_page_shows_what_it_promises(told: Shell) -> None:
    """The licence's use, who got through before the letter was entered, and alice's decision with another status."""
    ran = {command: told(*shlex.split(command)[1:], key="auditor").json for command in COMMANDS}
    (licence,) = [found for command, found in ran.items() if "audit licence" in command]
    assert licence["by"] == [{"subject": "greg", "count": 1}]
    (directive,) = [found for command, found in ran.items() if "audit directive" in command]
    assert [one["subject"] for one in directive["through"]] == ["greg"]
    (fact,) = [found for command, found in ran.items() if "--with-fact" in command]
    assert [(one["was"], one["would_be"]) for one in fact["otherwise"]] == [("allow", "deny")]


def test_every_question_is_a_command_of_the_page() -> None:
    """No command of this room is left out of the page."""
    named = {tuple(shlex.split(command)[1:3]) for command in COMMANDS}
    verbs = ("replay", "licence", "directive", "evidence", "releases", "owners", "family", "rows", "timeline")
    assert named == {("audit", verb) for verb in verbs}


def test_the_page_is_where_it_is_said_to_be() -> None:
    """The audit guide leads here."""
    assert "(replay.md)" in Path(PAGE.with_name("audit-guide.md")).read_text(encoding="utf-8")
