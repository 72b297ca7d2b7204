"""`audit report` as somebody types it: a file, a summary, and exit 6 when the log does not verify."""

from __future__ import annotations

from pathlib import Path

import pysqlite3.dbapi2 as dbapi

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell

ALWAYS = "2020-01-01..2029-12-31"


def test_a_report_is_one_file(shell: Shell, tmp_path: Path) -> None:
    """The auditor's has keyed counts; the shell's without a key has not; both verify."""
    shell.asked()
    place = tmp_path / "r.html"
    ran = shell("audit", "report", "--period", ALWAYS, "--to", place, key="auditor")
    assert ran.code == Code.OK, ran.err
    assert (ran.json["decisions"], ran.json["verified"], ran.json["counted_by_sealed"]) == (1, True, True)
    assert place.read_text(encoding="utf-8").startswith("<!doctype html>")
    ran = shell("audit", "report", "--period", ALWAYS, "--to", place, "--force", "--no-verify")
    assert (ran.json["verified"], ran.json["counted_by_sealed"]) == (None, False)
    assert "not verified" in place.read_text(encoding="utf-8")


def test_what_is_summed_up_says_what_it_lacks(shell: Shell, tmp_path: Path) -> None:
    """After an erasure the summary counts what is gone from each section that counts what is sealed."""
    shell.asked("mina")
    words = ("audit", "report", "--period", ALWAYS, "--no-verify", "--force", "--to", tmp_path / "r.html")
    gone = shell(*words, "--ages", key="auditor").json["gone"]
    assert gone == {"groups": {"erased": 0, "pruned": 0}, "ages": {"erased": 0, "pruned": 0, "unreadable": 0}}
    shell.approved(shell("audit", "erase", "mina", "--reason", "case 7", key="operator").json["proposal"])
    gone = shell(*words, "--ages", key="auditor").json["gone"]
    assert gone == {"groups": {"erased": 1, "pruned": 0}, "ages": {"erased": 1, "pruned": 0, "unreadable": 0}}
    assert "1 of the 1 decisions was erased or pruned" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert shell(*words).json["gone"] == {}


def test_refusals_are_one_sentence(shell: Shell, tmp_path: Path) -> None:
    """A period that is none, and a file that is there."""
    (tmp_path / "taken").write_text("mine")
    for period, place, sentence in (("june", "f", "is no period"), ("2026-06", "taken", "exists already")):
        ran = shell("audit", "report", "--period", period, "--to", tmp_path / place)
        assert ran.code == Code.USAGE and sentence in ran.err and ran.err.count("\n") == 1
    assert not (tmp_path / "f").exists()


def test_a_log_that_does_not_verify_ends_with_6(shell: Shell, tmp_path: Path) -> None:
    """The report is there and says so."""
    shell.asked()
    connection = dbapi.connect(str(shell.database))
    connection.execute("UPDATE tenants SET document = replace(document, 'US', 'DE')")
    connection.commit()
    connection.close()
    ran = shell("audit", "report", "--period", ALWAYS, "--to", tmp_path / "r.html")
    assert ran.code == Code.VERIFICATION_FAILED and ran.json["verified"] is False
    assert "do NOT agree" in (tmp_path / "r.html").read_text(encoding="utf-8")
