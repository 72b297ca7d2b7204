"""The page about the probe, executed: its commands, the hole that it shows, and its numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from policy_engine.limits import LIMITS
from policy_engine.probe import Outcome, Target, run
from policy_engine.probe.bodies import PADS_BYTES
from policy_engine.probe.catalogue import NAMES
from tests.docs import pages
from tests.probe.conftest import Served, everything

PAGE = pages.ROOT / "docs" / "probe.md"
BIN = Path(sys.executable).parent


def pasted(served: Served, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a block as a reader pastes it, on the gateway of the tests."""
    (folder / "caller.token").write_text(everything(served)["credentials"].own, encoding="utf-8")
    spared = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    given = {**spared, "PATH": f"{BIN}:{os.environ['PATH']}", "GATEWAY": served.url}
    quick = text.replace("http://127.0.0.1:8080", served.url).replace(
        "policy-engine probe", "policy-engine probe --pause 0"
    )
    script = f'export POLICY_ENGINE_PROBE_CREDENTIAL="$(cat caller.token)"\n{quick}'
    return subprocess.run(["bash", "-c", script], cwd=folder, env=given, capture_output=True, text=True, check=False)


def test_the_example_finds_the_hole_that_the_page_shows(served: Served, tmp_path: Path) -> None:
    """The first block, pasted, exits 9; the check that is shown has come, member by member."""
    served.gateway.holes = frozenset({"compressed"})
    block = pages.blocks(PAGE, "sh")[0]
    (shown,) = pages.blocks(PAGE, "json")
    done = pasted(served, tmp_path, block.text)
    assert done.returncode == 9 and done.stderr.startswith("policy-engine: hole: compressed: ")
    expected = json.loads(shown.text)
    (found,) = (check for check in json.loads(done.stdout)["checks"] if check["check"] == expected["check"])
    assert {name: found[name] for name in expected} == expected


def test_the_example_for_ci_writes_xml(served: Served, tmp_path: Path) -> None:
    """The second block, pasted, exits 0 on a good gateway and leaves a file that build servers read."""
    done = pasted(served, tmp_path, pages.blocks(PAGE, "sh")[1].text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    suite = ElementTree.parse(tmp_path / "probe.xml").getroot()
    assert suite.attrib["tests"] == str(len(NAMES))
    assert [case.attrib["name"] for case in suite if case.find("skipped") is not None].count("head") == 1


def test_the_numbers_on_the_page_are_true(served: Served, aimed: Callable[..., Target]) -> None:
    """Bounds are those of `limits.py`, and about as many requests are sent as the page says."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert (LIMITS.probe_pause_seconds, LIMITS.probe_requests_count) == (0.05, 600)
    assert "a pause of 0.05 s" in text and "never more than 600" in text
    assert LIMITS.probe_body_bytes == 1_200_000 and "has 1.2 MB" in text
    assert LIMITS.probe_answer_bytes == 256 * 1_024 and LIMITS.probe_answer_seconds == 15
    assert (LIMITS.probe_stale_seconds, LIMITS.probe_cut_seconds, LIMITS.probe_switch_seconds) == (3, 2, 60)
    assert "after three seconds" in text and "more than two seconds after the switch" in text
    report = run(aimed(down=None, up=None, switching=None, privileged=("admin", "root")))
    assert "about 340 requests" in text and 320 <= report.requests <= 360
    assert "32 MiB" in text and report.sent_bytes < LIMITS.probe_sent_bytes == 32 * 2**20
    shown = [f"{size:,}" for size in PADS_BYTES]
    assert f"behind {', '.join(shown[:-1])} and {shown[-1]} bytes" in text


def test_the_large_bodies_leave_room_for_the_rest() -> None:
    """Asked for both models, late and twice, and each of the latter once more with a made-up name, they are at most
    half of the bytes that may be sent."""
    assert 4 * sum(PADS_BYTES) < LIMITS.probe_sent_bytes / 2


def test_the_page_explains_each_outcome() -> None:
    """The table has every outcome of a check."""
    table = pages.section(PAGE, "What counts")
    assert [f"| `{outcome.value}` |" in table for outcome in Outcome] == [True] * len(Outcome)
