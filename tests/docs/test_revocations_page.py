"""The page about revocations, executed: its stream is followed with curl, its client asks, its table is complete."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.api import feed
from policy_engine.client.sse import Event, Parser
from policy_engine.limits import LIMITS
from tests.api.served import Served, serving
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "revocations.md"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer a service on a new sample database."""
    with serving(tmp_path_factory.mktemp("page")) as running:
        yield running


def environment(served: Served) -> dict[str, str]:
    """Return what a reader's terminal holds."""
    spared = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    return {
        **spared,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "URL": f"http://127.0.0.1:{served.port}",
        "KEY": served.keys["gateway"],
        "POLICY_ENGINE_DATABASE": served.engine.settings.database,
        "POLICY_ENGINE_POLICIES": str(pages.ROOT / "policies"),
    }


def test_the_stream_says_what_the_page_shows(served: Served) -> None:
    """Both commands, pasted; the events that come are those on the page, member by member."""
    follow, engage = [pages.commands(block)[0] for block in pages.blocks(PAGE, "sh")]
    subprocess.run(shlex.split(engage), env=environment(served), capture_output=True, check=True)
    command = follow.replace(":8181", f":{served.port}").replace("curl", "curl -s --max-time 1.5")
    came = subprocess.run(["bash", "-c", command], env=environment(served), capture_output=True, check=False).stdout
    (shown,) = pages.blocks(PAGE, "text")
    assert came.endswith(b": heartbeat\n\n") and shown.text.endswith(": heartbeat\n")
    expected, found = parsed(shown.text.encode()), parsed(came)
    assert [event.name for event in expected] == [event.name for event in found]
    for one, other in zip(expected, found, strict=True):
        assert pages.differences(json.loads(one.data), json.loads(other.data)) == []


def parsed(text: bytes) -> list[Event]:
    """Return the events of a stream."""
    return Parser().feed(text)


def test_the_client_of_the_page_runs(served: Served) -> None:
    """The Python block, run as a program, uses its allow twice."""
    (block,) = pages.blocks(PAGE, "python")
    done = subprocess.run(
        [sys.executable, "-c", block.text], env=environment(served), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n"), done.stderr


def test_every_event_and_reason_is_on_the_page() -> None:
    """The table has each event that is sent, and `void` each of its reasons."""
    table = pages.section(PAGE, "Follow the stream")
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == ["standing", "changed", "void", "ended"]
    assert f"`{feed.MISSED}` or `{feed.ROLLED_BACK}`" in table


def test_the_limits_on_the_page_are_the_limits() -> None:
    """The numbers in words are those of `limits.py`."""
    text = " ".join(pages.section(PAGE, "Limits of a stream").split())
    assert f"Up to {LIMITS.revocation_streams_count} streams" in text
    assert f"{LIMITS.revocation_key_streams_count} of one key" in text
    assert f"or {LIMITS.revocation_queue_events_count} events" in text
    assert f"{LIMITS.revocation_missed_epochs_count:,} epochs" in text
    assert f"{LIMITS.revocation_looked_entries_count:,} entries" in text
    assert (LIMITS.revocation_send_seconds, LIMITS.revocation_retry_milliseconds) == (5.0, 1_000)
    assert LIMITS.revocation_stream_seconds == 3_600.0
