"""The page about the Python API, executed: each example is run as a program, and prints what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.bootstrap import copy_template
from policy_engine.core.dialects import Dialect, refusal
from policy_engine.core.reasonclasses import CLASSES, Why
from tests.api.served import Served, serving
from tests.conftest import SampleDatabase
from tests.core.test_dialects import body, deny
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "python.md"
EXAMPLES = [block for block in pages.blocks(PAGE) if block.language == "python"]
SHOWN = [block for block in pages.blocks(PAGE) if block.language == "text"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer a service on a new sample database."""
    with serving(tmp_path_factory.mktemp("served"), replica=True) as running:
        yield running


@pytest.mark.parametrize(
    ("example", "shown"), list(zip(EXAMPLES, SHOWN, strict=True)), ids=lambda block: str(block.line)
)
def test_an_example_prints_what_is_shown(
    example: pages.Block, shown: pages.Block, served: Served, sample_database: SampleDatabase, tmp_path: Path
) -> None:
    """Pasted into a file beside the sample's folder, with the address and key of a service in the environment."""
    copy_template(sample_database.place, tmp_path / "engine.db")
    (tmp_path / "policies").symlink_to(pages.ROOT / "policies")
    spared = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    own = {"URL": f"http://127.0.0.1:{served.port}", "KEY": served.keys["gateway"], "PYTHONPATH": str(pages.ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example.text],
        cwd=tmp_path,
        env=spared | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (shown.text, "")


def test_the_page_names_each_extra() -> None:
    """What there is to install is what the package declares."""
    declared = tomllib.loads((pages.ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    text = PAGE.read_text("utf-8")
    named = set(re.findall(r"`policy-engine\[([a-z]+)\]`", text)) | set(re.findall(r"older name `([a-z]+)`", text))
    assert named == set(declared)


def test_the_examples_are_short() -> None:
    """Five lines for each door; what an event loop and a made-up stream need around them comes on top."""
    for example in EXAMPLES:
        lines = [line for line in example.text.splitlines() if line.strip() and not line.startswith(("import", "from"))]
        assert len(lines) <= 11, f"line {example.line}"


def test_the_page_names_each_code_of_this_side() -> None:
    """The table is complete: every way to have no answer, and nothing else."""
    section = pages.section(PAGE, "From afar")
    named = set(re.findall(r"^\| `(engine\.[a-z-]+)`", section, re.M))
    assert named == {code for code in CLASSES if code.startswith("engine.")} - {"engine.forked"}
    assert "`engine.forked`" in pages.section(PAGE, "In your process")


def test_the_table_of_classes_is_what_the_dialects_say() -> None:
    """Each class of the table stands with the code and status that a deny of that class has."""
    section = pages.section(PAGE, "Refuse in the client's words")
    rows = re.findall(r"^\| (`[a-z_`, ]+) \| .+ \| (.+) \| (.+) \|$", section, re.M)
    told = {why.strip("` "): row[1:] for row in rows for why in row[0].split(",")}
    assert set(told) == {why.value for why in Why}
    for code, why in CLASSES.items():
        openai, anthropic = (refusal(deny(code), dialect) for dialect in (Dialect.OPENAI, Dialect.ANTHROPIC))
        assert f"`{body(openai)['error']['code']}`" in told[why.value][0], code
        assert told[why.value][1] == f"{anthropic.status} `{body(anthropic)['error']['type']}`", code
