"""`policy-engine demo`: the directive of June 2026 with real decisions, verified at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from policy_engine.cli.demostory import read_story
from policy_engine.cli.exits import Code
from policy_engine.errors import LoadRefused
from policy_engine.world import load_world
from tests.cli.conftest import POLICIES, Ran, Shell

SECONDS_MAX = 60


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Ran]:
    """Play the demo once, on a database that is named."""
    shell = Shell(tmp_path_factory.mktemp("demo") / "demo.db", {})
    return shell, shell("demo", serving_region="")


def row_of(text: str, person: str, place: int = 0) -> list[str]:
    """Return the cells of a person's line in the table that is the `place`th to name them."""
    lines = [line for line in text.splitlines() if re.match(rf"\s*{person}\s", line)]
    return re.split(r"\s{2,}", lines[place].strip())


def test_the_demo_ends_well_and_leaves_a_log_that_verifies(played: tuple[Shell, Ran]) -> None:
    """Exit 0; the path is printed; `audit verify` agrees afterwards; every entry says that the clock was set."""
    shell, ran = played
    assert ran.code == Code.OK, ran.err
    assert "The log is verified" in ran.out and str(shell.database) in ran.out.replace("\n", "")
    assert shell("audit", "verify").code == Code.OK
    page = shell("audit", "query", "--kind", "decision", "--limit", "1000").json
    assert len(page["entries"]) == 5 * 20 * 6 and all(entry["clock"] == "set" for entry in page["entries"])


def test_the_directive_is_told_person_by_person(played: tuple[Shell, Ran]) -> None:
    """Before, first letter, eased, ended: fable-5 first, mythos-5 second."""
    text = played[1].out
    assert row_of(text, "alice")[3:] == ["yes"] * 4
    assert row_of(text, "mina")[3:] == ["yes"] * 4
    assert row_of(text, "dana")[3:] == ["yes", "P12", "P12", "yes"]
    assert row_of(text, "bruno")[3:] == ["yes", "P12", "P12", "yes"]
    assert row_of(text, "ines", 1)[3:] == ["yes", "P12", "yes", "yes"]
    assert row_of(text, "chen", 1)[3:] == ["yes", "P12", "yes", "yes"]
    assert row_of(text, "greg")[3:] == ["yes", "P12", "P12", "yes"]
    assert row_of(text, "eve")[3:] == ["P8", "P8 P12", "P8 P12", "P8"]


def test_who_kept_lost_and_was_undetermined_is_told_apart(played: tuple[Shell, Ran]) -> None:
    """A verified foreigner has lost access; somebody without evidence is undetermined, and told what is missing."""
    fates = {
        person: row_of(played[1].out, person, 2)[2:] for person in ("mina", "sofia", "dana", "eve", "nadia", "kai")
    }
    assert fates["mina"][0] == "kept" and "permanent resident" in fates["mina"][1]
    assert fates["sofia"] == ["lost", "verified, and not a US person (MX)"]
    assert fates["dana"] == ["lost", "calls from GB"]
    assert fates["eve"] == ["undetermined", "says so, nobody has verified it"]
    assert fates["nadia"] == ["undetermined", "no evidence at all"]
    assert fates["kai"][0] == "had none" and fates["kai"][1].startswith("P5")


def test_the_cost_of_a_global_switch_off_is_counted(played: tuple[Shell, Ran]) -> None:
    """Off for all leaves nobody; the directive alone leaves those whom it does not concern."""
    text = " ".join(played[1].out.split())
    assert "16 of 20 people could use fable-5 or mythos-5 before the letter." in text
    assert "Off for everyone leaves 0. The directive alone leaves 7, in 3 tenants; after the easing 10." in text
    assert "about 139 person-days" in text and "3 people were undetermined" in text


def test_the_demo_needs_a_new_database(played: tuple[Shell, Ran]) -> None:
    """It sets the clock, so it refuses one that exists: exit 4, nothing written."""
    ran = played[0]("demo")
    assert ran.code == Code.REFUSED and "POLICY_ENGINE_DATABASE" in ran.err and ran.out == ""


def test_the_demo_needs_the_sample_world(tmp_path: Path) -> None:
    """A production folder has none."""
    ran = Shell(tmp_path / "demo.db", {})("demo", policies=tmp_path)
    assert ran.code == Code.REFUSED and "june-2026.toml" in ran.err


def test_without_a_named_database_a_temporary_one_is_printed(tmp_path: Path) -> None:
    """As `make demo` runs it: a process of its own, under a minute, plain text when piped."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    program = Path(sys.executable).with_name("policy-engine")
    done = subprocess.run(
        [program, "demo"],
        cwd=POLICIES.parent,
        env={**settings, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"The database is (\S+)", done.stdout)
    assert found is not None and Path(found[1]).is_relative_to(tmp_path) and Path(found[1]).exists()
    assert "\x1b" not in done.stdout and done.stderr == ""


def test_the_story_names_every_sample_person_once() -> None:
    """Twenty people, six tenants, six models."""
    story, world = read_story(POLICIES / "world"), load_world(POLICIES / "world", 0)
    assert set(story.places) == set(world.persons) and len(story.models) == 6 and len(world.tenants) == 6


@pytest.mark.parametrize("text", ["title = 3", "title = 'x'\nloaded = 'soon'", ""])
def test_a_story_that_lacks_a_part_is_refused(tmp_path: Path, text: str) -> None:
    """The file is named, and what is wrong with it."""
    (tmp_path / "june-2026.toml").write_text(text)
    with pytest.raises(LoadRefused, match="june-2026"):
        read_story(tmp_path)


def test_the_timeline_tells_the_incident_from_the_log_alone(played: tuple[Shell, Ran]) -> None:
    """Letter, easing and end, each with what was decided under it; no allow of an older epoch after any of them."""
    shell, _ = played
    ran = shell("audit", "timeline", "--since", "2026-06-12", "--until", "2026-07-02")
    assert ran.code == Code.OK, ran.err
    assert "0 allows of an older epoch" in ran.err
    told = [row for row in ran.json["stretches"] if row["started_at"] is not None]
    letter = "commerce-letter-2026-06-12"
    assert [(row["kind"], row["of"]) for row in told if row["of"] == letter] == [
        ("order.received", letter),
        ("order.amended", letter),
        ("order.ended", letter),
    ]
    assert [row["denied_by"] for row in told[-3:]] == [{letter: 24}, {letter: 21}, {}]
    assert all(row["late_count"] == 0 for row in told)
