"""`policy-engine policy` and `models`: lint, cases, publishing by two, and export to plain Casbin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_engine.cli.exits import Code
from tests.cli.conftest import POLICIES, Shell

PERSON = {
    "id": "p1",
    "citizenships": [{"country": "US", "acquired": "birth", "current": True}],
    "permanent_residencies": [],
    "us_status": "citizen",
    "residence_country": "US",
    "nationality_evidence": {"level": "verified", "verified_on": "2026-03-01", "expires_on": None},
    "lab_employee": False,
    "list_match": "none",
}
TENANT = {
    "id": "t1",
    "type": "enterprise",
    "incorporated_in": "US",
    "headquarters": "US",
    "ultimate_parent_headquarters": "US",
    "list_match": "none",
}
MODEL = {
    "id": "summit-4",
    "tier": 4,
    "status": "available",
    "permitted_serving_regions": ["US"],
    "nationality_test": "EAR",
}
CASE: dict[str, Any] = {
    "id": "C1",
    "given": {"person": PERSON, "tenant": TENANT, "location": {"country": "US"}, "serving_region": "US"},
    "model": MODEL,
    "action": "infer",
    "time": "2026-08-10T12:00:00Z",
    "state": {"bis_affiliates_rule": "suspended"},
    "expect": "allow",
    "rule": "-",
}

Written = Callable[[str, str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the sample policies, to be changed."""
    return Path(shutil.copytree(POLICIES, tmp_path / "policies"))


def changed(folder: Path) -> Path:
    """Change the release of a folder without changing what it decides."""
    pack = next((folder / "packs").glob("*.toml"))
    pack.write_text(pack.read_text() + "\n# changed\n")
    return folder


def test_the_sample_release_passes_lint(shell: Shell) -> None:
    """Lint names the release, and needs no database."""
    ran = shell("policy", "lint")
    assert ran.code == Code.OK and ran.json["refusals"] == [] and ran.json["rules"] > 20
    assert ran.json["release"].startswith("sha256:")


def test_lint_refuses_with_file_line_and_fix(shell: Shell, folder: Path) -> None:
    """Two mistakes in two packs are both shown; exit 4."""
    for name in ("access.toml", "catalogue.toml"):
        pack = folder / "packs" / name
        pack.write_text(pack.read_text().replace('effect = "', 'effect = "x', 1))
    ran = shell("policy", "lint", folder)
    assert ran.code == Code.REFUSED and ran.json["release"] is None and "refused" in ran.err
    assert all(
        any(f"{name}:" in refusal for refusal in ran.json["refusals"]) for name in ("access.toml", "catalogue.toml")
    )


def test_a_folder_that_is_none_is_refused(shell: Shell, tmp_path: Path) -> None:
    """Exit 4, one sentence."""
    ran = shell("policy", "lint", tmp_path / "missing")
    assert ran.code == Code.REFUSED and ran.err.count("\n") == 1


def test_cases_that_pass_exit_0(shell: Shell, written: Written) -> None:
    """One closing line; several files may be named."""
    one = written("one.jsonl", json.dumps(CASE))
    two = written("two.jsonl", json.dumps({**CASE, "id": "C2", "action": "fine_tune"}) + "\n\n")
    ran = shell("policy", "test", "--cases", one, two)
    assert (ran.code, ran.out) == (Code.OK, "2 passed, 0 failed\n")
    assert shell("policy", "test", "--cases", one, "--cases", two).out == "2 passed, 0 failed\n"


def test_a_case_that_fails_is_told_with_the_reasons_found_and_exits_5(shell: Shell, written: Written) -> None:
    """A wrong outcome fails, and so does a deny for another reason than the one expected."""
    denied = {**CASE, "id": "C2", "action": "download_weights", "expect": "deny", "rule": "P10"}
    wrong_rule = {**denied, "id": "C3", "rule": "P5"}
    wrong_outcome = {**denied, "id": "C4", "expect": "allow"}
    file = written("cases.jsonl", "\n".join(json.dumps(case) for case in (CASE, denied, wrong_rule, wrong_outcome)))
    ran = shell("policy", "test", "--cases", file)
    third, fourth, closing = ran.out.splitlines()
    assert ran.code == Code.CASE_FAILED and closing == "2 passed, 2 failed"
    assert third.startswith("C3: expected deny P5, found deny P10") and "weights." in third
    assert fourth.startswith("C4: expected allow, found deny P10")
    found = shell("policy", "test", "--cases", file, "-o", "json")
    assert found.code == Code.CASE_FAILED and [row["id"] for row in found.json["failures"]] == ["C3", "C4"]


@pytest.mark.parametrize("change", [{"expect": "perhaps"}, {"time": "noon"}, {"model": {**MODEL, "tier": 9}}])
def test_a_malformed_case_exits_2_with_its_id(shell: Shell, written: Written, change: dict[str, Any]) -> None:
    """A case that cannot mean anything is not decided at all."""
    ran = shell("policy", "test", "--cases", written("cases.jsonl", json.dumps({**CASE, **change})))
    assert ran.code == Code.USAGE and "C1" in ran.err and ran.out == ""


def test_without_files_the_folders_own_cases_are_decided(shell: Shell, folder: Path) -> None:
    """A folder without cases says where they would be."""
    shutil.rmtree(folder / "cases", ignore_errors=True)
    ran = shell("policy", "test", policies=folder)
    assert ran.code == Code.USAGE and "cases" in ran.err
    (folder / "cases").mkdir()
    (folder / "cases" / "own.jsonl").write_text(json.dumps(CASE))
    assert shell("policy", "test", policies=folder).out == "1 passed, 0 failed\n"
    assert shell("policy", "test", "--cases", folder / "missing.jsonl").code == Code.USAGE
    (folder / "cases" / "own.jsonl").write_text("\n")  # as an editor or a failed copy leaves it
    ran = shell("policy", "test", policies=folder)
    assert ran.code == Code.USAGE and "holds no case" in ran.err and ran.out == ""


def test_the_active_release_is_shown_and_listed(shell: Shell) -> None:
    """Its rules come with authority and lift key; a beginning of the hash is enough."""
    shown = shell("policy", "show").json
    assert shown["active"] is True and any(rule["lift"] == "nat" and rule["authority"] for rule in shown["rules"])
    (row,) = shell("policy", "list").json
    assert row["hash"] == shown["hash"] and shell("policy", "show", shown["hash"][:25]).json["hash"] == shown["hash"]
    assert shell("policy", "show", "sha256:abc").code == Code.USAGE
    assert (
        "P12" in shell("policy", "show", "-o", "table").out and "active" in shell("policy", "list", "-o", "table").out
    )


def test_a_release_is_published_and_activated_by_two(shell: Shell, folder: Path) -> None:
    """The folder's release decides only after both steps were approved."""
    published = shell("policy", "publish", changed(folder), "--note", "why", key="operator")
    hash = published.json["release"]
    assert published.code == Code.APPROVAL_MISSING and published.json["status"] == "waiting"
    assert shell("policy", "activate", hash, key="operator").code == Code.USAGE
    shell.approved(published.json["proposal"])
    activated = shell("policy", "activate", hash[:25], key="operator")
    assert activated.code == Code.APPROVAL_MISSING
    assert shell.asked().json["context"]["release"] != hash
    shell.approved(activated.json["proposal"])
    assert shell.asked().json["context"]["release"] == hash
    assert shell("policy", "publish", folder, key="approver").code == Code.USAGE


def test_a_release_that_does_not_load_is_not_published(shell: Shell, folder: Path) -> None:
    """The last good release keeps deciding."""
    (folder / "model.conf").write_text("[request_definition]\n")
    assert shell("policy", "publish", folder, key="operator").code == Code.REFUSED
    assert len(shell("policy", "list").json) == 1 and shell.asked().code == Code.OK


def test_an_export_is_a_plain_casbin_folder(shell: Shell, tmp_path: Path) -> None:
    """The two files are there; a policies folder is never written over."""
    ran = shell("policy", "export", "--casbin", tmp_path / "out" / "casbin")
    assert ran.code == Code.OK and [Path(file).name for file in ran.json["files"]] == ["model.conf", "policy.csv"]
    assert (tmp_path / "out" / "casbin" / "policy.csv").read_text().startswith("p, ")
    assert shell("policy", "export", "--casbin", POLICIES).code == Code.USAGE
    (tmp_path / "file").write_text("")
    assert shell("policy", "export", "--casbin", tmp_path / "file").code == Code.USAGE
    assert shell("policy", "export").code == Code.USAGE


def test_models_are_listed_and_found_by_alias(shell: Shell) -> None:
    """The catalogue of the active release, to read; an alias shows the model behind it."""
    rows = {row["id"]: row for row in shell("models", "list").json}
    assert rows["mythos-5"]["tier"] == 5 and rows["open-1"]["weights_public"] is True
    shown = shell("models", "show", "fable-latest").json
    assert shown["id"] == "fable-5" and "fable-latest" in shown["reached_by"]
    assert shell("models", "show", "nothing").code == Code.USAGE
    assert "frontier" not in shell("models", "list", "-o", "table").err


def test_a_database_without_a_release_says_so(shell: Shell, tmp_path: Path) -> None:
    """An unreadable folder fills nothing: exit 4."""
    ran = shell("models", "list", database=f"sqlite:///{tmp_path / 'new.db'}", policies=tmp_path / "missing")
    assert ran.code == Code.REFUSED
