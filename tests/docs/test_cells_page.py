"""The page about cells, executed: its file with two real cells, its commands, and the answer that it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from policy_engine.cli.exits import Code
from policy_engine.services.cells import sending
from policy_engine.services.cells.addresses import parse_cells
from policy_engine.services.cells.doubt import BEHIND, UNCONFIRMED
from tests.api.served import Served, serving
from tests.docs import pages
from tests.docs.test_witness_page import run

PAGE = pages.ROOT / "docs" / "cells.md"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """The two cells of the page, with the budgets that it names."""
    with ExitStack() as stack:
        budgets = {"east": 200, "west": 600}
        yield {
            name: stack.enter_context(serving(tmp_path_factory.mktemp(name), replica=True, valid_for_ms=budget))
            for name, budget in budgets.items()
        }


@pytest.fixture
def folder(served: dict[str, Served], tmp_path: Path) -> Path:
    """A reader's folder with the page's file of cells and the key files that it names."""
    (block,) = pages.blocks(PAGE, "toml")
    text = block.text
    for cell in parse_cells(text, "page"):
        text = text.replace(cell.url, f"http://127.0.0.1:{served[cell.name].port}")
        (tmp_path / cell.key_file).write_text(served[cell.name].keys["operator"])
        (tmp_path / cell.key_file).chmod(0o600)
    (tmp_path / "cells.toml").write_text(text)
    return tmp_path


def measured(shown: Any) -> Any:
    """Return an answer whose times are all the same."""
    if isinstance(shown, list):
        return [measured(each) for each in shown]
    if not isinstance(shown, dict):
        return shown
    return {name: 0.0 if name.endswith("_ms") else measured(value) for name, value in shown.items()}


def test_the_commands_give_the_answers_shown(folder: Path) -> None:
    """The switch is engaged in both, settled when the slower one is, and neither lacks it afterwards."""
    engage, status = (pages.commands(block)[0] for block in pages.blocks(PAGE, "sh"))
    (answer,) = pages.blocks(PAGE, "json")
    found = json.loads(run(engage, folder))
    assert pages.differences(measured(json.loads(answer.text)), measured(found)) == []
    assert found["settled_ms"] >= 606
    assert [(each["cell"], each["lacks"]) for each in json.loads(run(status, folder))] == [("east", []), ("west", [])]


def test_every_status_and_reason_is_on_the_page() -> None:
    """The tables have each status with its exit code, and each reason of a deny."""
    rows = re.findall(r"^\| `([a-z ]+)` \| .* \| (\d) \|$", pages.section(PAGE, "Send an order to all"), re.M)
    known = (sending.REACHED, sending.NOT_YET, sending.WAITING, sending.CONFLICT, sending.REFUSED, sending.CUT_OFF)
    assert [status for status, _ in rows] == list(known)
    codes = {status: int(code) for status, code in rows}
    assert (codes.pop(sending.REACHED), codes.pop(sending.WAITING)) == (Code.OK, Code.APPROVAL_MISSING)
    assert set(codes.values()) == {Code.UNREACHABLE}
    reasons = set(re.findall(r"\| `(cell\.\w+)` \|$", pages.section(PAGE, "Fail closed when cut off"), re.M))
    assert reasons == {UNCONFIRMED, BEHIND}
