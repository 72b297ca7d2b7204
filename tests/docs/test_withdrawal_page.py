"""The page about withdrawal, executed: its commands on a database of their own, and the answer that it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.docs import pages
from tests.docs.test_witness_page import run

PAGE = pages.ROOT / "docs" / "withdrawal.md"


def measured(shown: Any) -> Any:
    """Return an answer whose measured times are all the same; what they promise is compared apart."""
    if not isinstance(shown, dict):
        return shown
    return {name: 0.0 if name in ("committed_ms", "drained_ms") else measured(value) for name, value in shown.items()}


def test_the_commands_give_the_answers_shown(tmp_path: Path) -> None:
    """The engaged switch settles after the budget and 1%, and is shown as settled afterwards."""
    engage, show = (pages.commands(block)[0] for block in pages.blocks(PAGE, "sh"))
    (answer,) = pages.blocks(PAGE, "json")
    found = json.loads(run(engage, tmp_path))
    assert pages.differences(measured(json.loads(answer.text)), measured(found)) == []
    later = json.loads(run(show, tmp_path))["withdrawal"]
    assert (later["stage"], later["epoch"]) == ("settled", found["withdrawal"]["epoch"])
