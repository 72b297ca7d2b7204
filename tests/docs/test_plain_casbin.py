"""The page on plain Casbin folders, executed: its files, its commands, its answer, its program and other examples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from policy_engine.limits import LIMITS
from policy_engine.rules.entities import read_entities
from policy_engine.rules.plainmodel import read_plain_model
from policy_engine.rules.plaintokens import USUAL, read_tokens
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "plain-casbin.md"
BIN = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Offer a folder that holds `plain/` with the page's model and policy, as a reader would have it."""
    place = tmp_path / "plain"
    place.mkdir()
    for language, name in (("ini", "model.conf"), ("csv", "policy.csv")):
        (block,) = pages.blocks(PAGE, language)
        (place / name).write_text(block.text, encoding="utf-8")
    return tmp_path


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the reader's folder, with the reader's environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    environment |= {"PATH": f"{BIN}:{environment['PATH']}", "PYTHONPATH": str(pages.ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_commands_give_the_answer_shown(folder: Path) -> None:
    """Lint finds nothing, and the question gets the deny that stands under it, member by member."""
    (block,) = pages.blocks(PAGE, "sh")
    (shown,) = pages.blocks(PAGE, "json")
    lint, check = block.text.splitlines()[1:]
    settings = block.text.splitlines()[0]
    linted = run(["bash", "-c", f"{settings}\n{lint}"], folder)
    assert (linted.returncode, json.loads(linted.stdout)["warnings"]) == (0, []), linted.stderr
    checked = run(["bash", "-c", f"{settings}\n{check}"], folder)
    assert checked.returncode == 3, checked.stderr
    assert pages.differences(json.loads(shown.text), json.loads(checked.stdout)) == []


def test_the_program_says_the_same_before_and_after(folder: Path) -> None:
    """The migration's five lines run, and both sides allow."""
    (block,) = pages.blocks(PAGE, "python")
    assert len([line for line in block.text.splitlines() if line and not line.startswith(("import", "from"))]) <= 5
    done = run([sys.executable, "-c", block.text], folder)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr


def test_the_examples_of_other_files_are_read() -> None:
    """The page's facets.toml and entities.jsonl are accepted as they stand."""
    (model,) = pages.blocks(PAGE, "ini")
    (facets,) = pages.blocks(PAGE, "toml")
    (entities,) = pages.blocks(PAGE, "jsonl")
    named = model.text.replace("r = sub, obj, act", "r = sub, obj, act, role, teams, ip")
    tokens, _ = read_tokens(facets.text.encode(), read_plain_model(named.encode(), LIMITS), LIMITS)
    assert [token.kind for token in tokens] == ["object", "scalar", "scalar", "scalar", "set", "scalar"]
    assert len(read_entities(entities.text.encode(), LIMITS)) == 2


def test_the_table_of_tokens_is_the_engines() -> None:
    """The page names the usual tokens with the sources that the engine gives them."""
    text = pages.section(PAGE, "Where request tokens come from")
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    assert {name.strip("` "): source.strip("` ") for name, source in rows} == USUAL
