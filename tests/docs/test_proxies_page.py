"""The page about proxies, executed: its commands and examples against a served engine, its tables against the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from policy_engine.api.checks.table import Proxy
from policy_engine.api.checks.told import FACT_HEADERS
from policy_engine.cli.pep import SNIPPETS
from tests.api.served import Served, serving
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "proxies.md"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer a service on a new sample database, with gRPC beside it."""
    with serving(tmp_path_factory.mktemp("page"), grpc_port=0) as running:
        yield running


def environment(served: Served) -> dict[str, str]:
    """Return what a reader's terminal holds."""
    spared = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    return {**spared, "PATH": f"{BIN}:{os.environ['PATH']}", "KEY": served.keys["gateway"]}


SHOWN = [block for block in pages.blocks(PAGE) if block.language in ("sh", "text", "json")]
ASKED = [(one, other) for one, other in pairwise(SHOWN) if "curl" in one.text]


@pytest.mark.parametrize(("asked", "answer"), ASKED, ids=[str(asked.line) for asked, _ in ASKED])
def test_each_door_answers_as_the_page_shows(served: Served, asked: pages.Block, answer: pages.Block) -> None:
    """Pasted, each command gives the status and the headers, or the object, that stand below it."""
    command = asked.text.replace("127.0.0.1:8181", f"127.0.0.1:{served.port}")
    done = subprocess.run(["bash", "-c", command], env=environment(served), capture_output=True, text=True, check=True)
    if answer.language == "json":
        assert pages.differences(json.loads(answer.text), json.loads(done.stdout)) == []
        return
    came = done.stdout.replace("\r", "").splitlines()
    first, *headers = answer.text.splitlines()
    assert came[0] == first
    for line in headers:
        assert any(each.startswith(line.removesuffix("…")) for each in came), (line, came)


def test_there_is_an_example_of_each_door(served: Served) -> None:
    """Four over HTTP and one over gRPC."""
    text = "".join(asked.text for asked, _ in ASKED)
    assert all(proxy.value in text for proxy in Proxy) and "/v1/data/" in text
    assert len(ASKED) == 4


def test_the_example_over_grpc_is_allowed(served: Served) -> None:
    """The program of the page, run as it stands but for the port."""
    (example,) = pages.blocks(PAGE, "python")
    program = example.text.replace("127.0.0.1:9191", f"127.0.0.1:{served.server.beside.port}")
    done = subprocess.run([sys.executable, "-c", program], env=environment(served), capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("allowed\n", 0), done.stderr


def test_the_snippets_are_printed_as_they_lie_there(served: Served) -> None:
    """The commands of the page, for every gateway that is listed."""
    listed = subprocess.run([str(BIN / "policy-engine"), "pep", "list"], capture_output=True, text=True, check=True)
    assert [row["name"] for row in json.loads(listed.stdout)] == list(SNIPPETS)
    for name, snippet in SNIPPETS.items():
        words = [str(BIN / "policy-engine"), "pep", "snippet", name]
        printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert printed == snippet.text() and "pe_THE_KEY_OF_THIS_PROXY" in printed


def test_every_fact_is_in_the_table_and_nothing_else() -> None:
    """A header that is believed is documented."""
    named = re.findall(r"^\| `(X-Policy-Engine-[\w-]+)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert [name.lower() for name in named] == list(FACT_HEADERS)


def test_the_snippets_leave_no_fact_to_the_client() -> None:
    """nginx names each header that it takes out of what goes on; the others take them all by their beginning."""
    nginx = SNIPPETS["nginx"].text().lower()
    assert all(f'proxy_set_header {name} "";' in nginx for name in FACT_HEADERS)
    for name in ("envoy", "envoy-http"):
        assert "remove_on_match: {key_matcher: {prefix: x-policy-engine-, ignore_case: true}}" in SNIPPETS[name].text()
    assert "request_header -X-Policy-Engine-*" in SNIPPETS["caddy"].text()
