"""The page about previews, executed: every command of it runs on a world that holds what it names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.cli.exits import Code
from policy_engine.services.preview.answer import ByRecord, ByRegisters, Preview
from tests.api.served import serving
from tests.cli.conftest import Ran, Shell, new_shell
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "preview.md"
LINES = [command for block in pages.blocks(PAGE, "sh") for command in pages.commands(block)]
COMMANDS = [line for line in LINES if line.startswith("policy-engine ")]
LETTER = """kind = "directive"
id = "commerce-letter"
models = ["fable-5", "mythos-5"]
blocks = ["foreign_person"]
"""
EXEMPT = """
[[exempts]]
models = ["mythos-5"]
who = "lab_foreign_national_employees"
"""
LICENCE = """kind = "licence"
id = "deemed-export-1"
from = 2026-01-01T00:00:00Z
person_id = "chen"
models = ["summit-4"]
actions = ["infer"]
nationalities = ["CN"]
lifts = ["nat"]
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A database with decisions, a letter, a licence and a switch in force, and the files that the page names."""
    folder = tmp_path_factory.mktemp("previewed")
    shell = new_shell(folder / "engine.db")
    assert shell.asked().code == shell.asked("greg", tenant="lab").code == Code.OK
    files = {"letter": LETTER.replace("commerce-letter", "second-letter") + EXEMPT, "eased": LETTER + EXEMPT}
    files |= {
        "licence": LICENCE.replace("deemed-export-1", "deemed-export-2").replace("summit-4", "fable-5-1"),
        "first": LETTER,
        "given": LICENCE,
    }
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    assert shell("order", "receive", folder / "first.toml", key="operator").code == Code.OK
    shell.approved(shell("order", "receive", folder / "given.toml", key="operator").json["proposal"])
    engaged = shell("switch", "engage", "opus-off", "--scope", "model=opus-4-8", "--reason", "r", key="operator")
    assert engaged.code == Code.OK
    yield shell


@pytest.fixture(scope="module")
def ran(told: Shell) -> dict[str, Ran]:
    """Every command of the page, run once by the operator of the sample, in the folder of the files."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(told.database.parent)
        return {command: told(*shlex.split(command)[1:], key="operator") for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_page_runs(ran: dict[str, Ran], command: str) -> None:
    """It answers as JSON, complete, and says what it cannot know."""
    assert ran[command].code == Code.OK, ran[command].err
    assert ran[command].json["complete"] is True and "streams" in ran[command].err


def test_the_page_asks_for_every_kind_of_change(told: Shell, ran: dict[str, Ran]) -> None:
    """Engaging, releasing, receiving, amending, ending, licensing and revoking are all shown, and all do something."""
    for command, found in ran.items():
        counts = found.json["registers"]["counts"]
        if "--location" not in command and found.json["change"] != "second-letter":
            assert counts["loses"] + counts["gains"] > 0, command
    assert {found.json["what"] for found in ran.values()} == {
        "switch.engaged", "switch.released", "order.received", "order.amended", "order.ended", "order.licensed",
        "order.revoked",
    }  # fmt: skip
    page = told.database.with_name("preview.html")
    assert page.read_text().startswith("<!doctype html>") and page.stat().st_mode & 0o777 == 0o600
    assert [row["id"] for row in told("switch", "list").json if row["status"] == "engaged"] == ["opus-off"]


def test_the_request_of_the_page_is_answered(tmp_path: Path) -> None:
    """The request over HTTP is well-formed and has the members that the page speaks of."""
    (line,) = [line for line in LINES if line.startswith("curl ")]
    body = json.loads(shlex.split(line)[-1])
    with serving(tmp_path, serving_region="US") as served:
        answer = served.post("/v1/orders/preview", body, key="operator")
    assert answer.status_code == 200 and answer.json()["complete"] is True
    assert answer.json()["registers"]["counts"]["loses"] > 0


def test_the_page_names_members_and_limits_that_exist() -> None:
    """Members in the section of what it says are fields of the answer, and the link from the audit guide is there."""
    names = {name for kind in (Preview, ByRegisters, ByRecord) for name in kind.__dataclass_fields__}
    text = PAGE.read_text(encoding="utf-8")
    for name in ("registers", "recorded", "undetermined", "lines", "unserved", "days", "complete", "at"):
        assert f"`{name}`" in text and name in names
    assert "(preview.md)" in PAGE.with_name("audit-guide.md").read_text(encoding="utf-8")
