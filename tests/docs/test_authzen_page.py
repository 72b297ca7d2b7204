"""The page about AuthZEN, executed: its requests get the answers shown, its programs run, its numbers are right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from policy_engine.api.authzen import SEMANTICS
from policy_engine.api.searches import PATHS
from policy_engine.limits import LIMITS
from tests.api.served import Served, serving
from tests.authzen.casefiles import CERTIFICATION, SUITE, document
from tests.authzen.test_folders import INTEROP, INTEROP_SEARCHES
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "authzen.md"
SHOWN = [(one, two) for one, two in pairwise(pages.blocks(PAGE, "sh", "json")) if "curl" in one.text]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer a service on a new sample database."""
    with serving(tmp_path_factory.mktemp("page")) as running:
        yield running


def environment(served: Served) -> dict[str, str]:
    """Return what a reader's terminal holds."""
    return {**os.environ, "URL": f"http://127.0.0.1:{served.port}", "KEY": served.keys["gateway"]}


@pytest.mark.parametrize("place", range(len(SHOWN)))
def test_each_request_gets_the_answer_shown(served: Served, place: int) -> None:
    """A reader who pastes a request gets the answer under it, member by member."""
    question, answer = SHOWN[place]
    command = question.text.replace("http://127.0.0.1:8181", f"http://127.0.0.1:{served.port}")
    done = subprocess.run(["bash", "-c", command], env=environment(served), capture_output=True, text=True, check=True)
    assert pages.differences(json.loads(answer.text), json.loads(done.stdout)) == []


def test_the_programs_run(served: Served) -> None:
    """The five lines list what the request above lists; the loop over pages finds each person once, in order."""
    short, loop = (block.text for block in pages.blocks(PAGE, "python"))
    said = [
        subprocess.run(
            [sys.executable, "-c", text], env=environment(served), capture_output=True, text=True, check=True
        ).stdout
        for text in (short, loop)
    ]
    listed = [each["id"] for each in json.loads(SHOWN[0][1].text)["results"]]
    assert said[0] == f"{listed}\n"
    count, in_order = said[1].split()
    assert int(count) > 3 and in_order == "True"
    statements = [line for line in short.splitlines() if line and not line.startswith((" ", "import", "from"))]
    assert len(statements) <= 5


def test_the_page_names_every_path_option_and_limit() -> None:
    """The table of searches is the door's; the semantics are the parser's; the limits have their values."""
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(/access/v1/search/\w+)`", text, re.M) == list(PATHS)
    assert all(f"`{semantic}`" in text for semantic in SEMANTICS)
    assert f"at {LIMITS.search_page_count:,} results" in text
    assert f"after {LIMITS.search_page_candidates_count:,} ids" in text


def test_the_numbers_of_cases_are_those_of_the_files() -> None:
    """Published cases are all sent; the one that differs is not counted as passed."""
    section = pages.section(PAGE, "How it is checked")
    numbers = [(int(one), int(two)) for one, two in re.findall(r"\| (\d+) of (\d+) \|", section)]
    scenario, suite = (len(document(file)["cases"]) for file in (CERTIFICATION, SUITE))
    interop = len(INTEROP) + len(INTEROP_SEARCHES)
    assert numbers == [(scenario, scenario), (suite - 1, suite), (interop, interop)]
