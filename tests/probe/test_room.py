"""The room of the probe: light to import, and its page has every check."""

from __future__ import annotations

import re
import subprocess
import sys

from policy_engine.probe.catalogue import CHECKS, LAST, NAMES
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "probe.md"


def test_the_probe_needs_nothing_that_must_be_installed() -> None:
    """An interpreter that knows the standard library alone imports the suite, and loads no room of the engine."""
    program = (
        "import sys, policy_engine.probe.catalogue, policy_engine.probe.levers\n"
        "rooms = ('api', 'bootstrap', 'cli', 'rules', 'services', 'settings', 'store')\n"
        "print([room for room in rooms if f'policy_engine.{room}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, cwd=pages.ROOT, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_each_check_is_on_the_page_once() -> None:
    """Whoever reads a report finds what a check does, why it matters and how to mend it."""
    named = re.findall(r"\*\*`([a-z-]+)`\*\*", PAGE.read_text(encoding="utf-8"))
    assert sorted(named) == sorted(NAMES)


def test_each_check_has_a_fix_of_one_line() -> None:
    """The fix stands beside the hole in a table."""
    for check in (*CHECKS, *LAST):
        assert check.fix and "\n" not in check.fix and len(check.fix) <= 120, check.name
