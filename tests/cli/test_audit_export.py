"""`audit export` as somebody types it: three files or none, two persons for what is sealed, clear refusals."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policy_engine.cli.exits import Code
from policy_engine_verify import cli as verifier
from tests.cli.conftest import Shell
from tests.cli.test_audit import tampered


def test_an_export_is_three_files(shell: Shell, tmp_path: Path) -> None:
    """The file, and its proof sheet twice; what is printed names hash and count."""
    shell.asked()
    ran = shell("audit", "export", "allow", "--to", tmp_path / "a.jsonl", "-o", "json")
    assert ran.code == Code.OK, ran.err
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.jsonl", "a.jsonl.proof.json", "a.jsonl.proof.txt"]
    sheet = json.loads((tmp_path / "a.jsonl.proof.json").read_text())
    assert (ran.json["sha256"], ran.json["entries"]) == (sheet["file"]["sha256"], 1)
    assert sheet["asked"]["question"] == "allow"


def test_every_form_is_written(shell: Shell, tmp_path: Path) -> None:
    """Each form that the help names is made, of the same entries."""
    for form in ("jsonl", "csv", "xlsx", "parquet", "ocsf"):
        ran = shell("audit", "export", "--format", form, "--to", tmp_path / form, key="auditor")
        assert ran.code == Code.OK and ran.json["entries"] == 1, ran.err


def test_refusals_are_one_sentence(shell: Shell, tmp_path: Path) -> None:
    """No file name, a file that is there, a question that is none, an approval without --unsealed."""
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for words, sentence in (
        ([], "name the file"),
        (["--to", taken], "exists already"),
        (["nonsense", "--to", tmp_path / "f"], "question, character 1"),
        (["--approval", "prop-1", "--to", tmp_path / "f"], "goes with --unsealed"),
        (["--since", "yesterday", "--to", tmp_path / "f"], "--since"),
    ):
        ran = shell("audit", "export", *words)
        assert ran.code == Code.USAGE and sentence in ran.err and ran.err.count("\n") == 1, ran.err
    assert taken.read_text() == "mine" and [path.name for path in tmp_path.glob("f*")] == []


@pytest.mark.parametrize("to", ["", ".", "..", "/"])
@pytest.mark.parametrize("form", ["bundle", "jsonl"])
def test_a_place_without_a_name_is_a_usage_error(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, to: str
) -> None:
    """Every form says so in one sentence, with and without --force, and nothing is touched."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    for words in ((), ("--force",)):
        ran = shell("audit", "export", "--format", form, "--to", to, *words)
        assert (ran.code, ran.out, ran.err.count("\n")) == (Code.USAGE, "", 1), ran.err
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine"]


def test_bodies_take_two_persons(shell: Shell, tmp_path: Path) -> None:
    """The auditor proposes and gets 8; after the approver's word the auditor makes it, once."""
    shell.asked()
    words = ("audit", "export", "kind:decision", "--unsealed", "--reason", "an audit")
    assert shell(*words).code == Code.USAGE
    ran = shell(*words, key="auditor")
    assert ran.code == Code.APPROVAL_MISSING and "--approval" in ran.err, ran.err
    proposal = ran.json["proposal"]
    made = ("audit", "export", "--unsealed", "--approval", proposal, "--to")
    assert shell(*made, tmp_path / "early", key="auditor").code == Code.USAGE
    shell.approved(proposal)
    ran = shell(*made, tmp_path / "bodies", key="auditor")
    assert ran.code == Code.OK and ran.json["unsealed"] is True, ran.err
    (line,) = (tmp_path / "bodies").read_text().splitlines()
    assert json.loads(line)["body"]["subject"] == "alice"
    assert "used" in shell(*made, tmp_path / "again", key="auditor").err
    assert shell("approvals", "list", "--status", "used", key="auditor").json[0]["id"] == proposal


def test_a_replayable_bundle_takes_two_persons(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The separate verifier accepts it, replays every decision on stock Casbin, and finds the same."""
    for person in ("alice", "eve", "mina"):
        shell.asked(person)
    words = ("audit", "export", "--unsealed", "--format", "bundle", "--reason", "a replay")
    proposal = shell(*words, key="auditor").json["proposal"]
    shell.approved(proposal)
    place = tmp_path / "bundle.zip"
    ran = shell("audit", "export", "--unsealed", "--approval", proposal, "--to", place, key="auditor")
    assert ran.code == Code.OK, ran.err
    key = json.loads((tmp_path / "bundle.zip.proof.json").read_text())["tree"]["key"]
    code = verifier.main([str(place), "--key", key, "--replay", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["findings"], found["replay"]["same"], found["replay"]["differ"]) == (0, [], 3, 0)


def test_a_public_bundle_needs_no_approval(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of public parts verifies as well, and holds no body."""
    shell.asked()
    ran = shell("audit", "export", "--format", "bundle", "--to", tmp_path / "b")
    assert ran.code == Code.OK, ran.err
    key = json.loads((tmp_path / "b.proof.json").read_text())["tree"]["key"]
    assert verifier.main([str(tmp_path / "b"), "--key", key, "--json"]) == 0
    assert not (tmp_path / "b" / "bodies").exists() and not (tmp_path / "b" / "sealed").exists()
    assert json.loads(capsys.readouterr().out)["counts"]["entries"] > 0


@pytest.mark.parametrize("now", ["replace(public, '\"outcome\":', '\"income\":')", "'[1]'", "'hello'"])
def test_an_entry_that_is_none_ends_what_is_made_of_the_log(shell: Shell, tmp_path: Path, now: str) -> None:
    """Exit 6 with a word about `audit verify`, and no file: a damaged log is no internal error."""
    shell.asked()
    tampered(shell, f"UPDATE entries SET public = CAST({now} AS BLOB) WHERE seq = 1")
    made, year = tmp_path / "made", datetime.now(UTC).year
    for words in (
        ("export", "--format", "ocsf", "--to", made),
        ("report", "--period", f"{year - 1}-01-01..{year + 2}-01-01", "--no-verify", "--to", made),
        ("timeline",),
    ):
        ran = shell("audit", *words, key="auditor")
        assert (ran.code, ran.out) == (Code.VERIFICATION_FAILED, ""), words
        assert "audit verify" in ran.err and not made.exists()
