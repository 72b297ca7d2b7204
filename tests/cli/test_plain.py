"""The command line on a plain Casbin folder: each verb works, or says in one sentence why it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import casbin
import pytest

from policy_engine.cli.exits import Code
from tests.cli.conftest import Ran, Shell
from tests.rules.plainfolders import POLICY, folder, with_line


@pytest.fixture
def plain(tmp_path: Path) -> Shell:
    """Offer a shell on a new database; its settings are given with `at`."""
    return Shell(tmp_path / "engine.db", {})


def written(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """Write a folder and return its path."""
    place = tmp_path / "plain"
    place.mkdir(exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place


@pytest.fixture
def run(plain: Shell, tmp_path: Path) -> Any:
    """Offer `run(*words)`, which runs a command on the small folder."""
    place = written(tmp_path, folder())

    def command(*words: str | Path, **settings: Any) -> Ran:
        return plain(*words, **{"policies": place, **settings})

    return command


def checked(run: Any, subject: str, *words: str) -> Ran:
    """Ask whether a subject may read the document."""
    return run("check", "--subject", subject, "--model", "doc", "--action", "read", *words)


def test_check_decides_and_explains(run: Any) -> None:
    """An allow exits 0 and a deny 3; the text of a row is shown to who asks for an explanation, and only there."""
    allowed = checked(run, "alice")
    assert (allowed.code, allowed.json["decision"]) == (Code.OK, True)
    assert allowed.json["context"]["reasons"][0]["rule"] == "policy.csv:2"
    assert "reader" not in allowed.out
    denied = checked(run, "mallory", "--explain")
    assert denied.code == Code.DENY
    rows = [rule["row"] for rule in denied.json["context"]["explanation"]["matching_rules"]]
    assert rows == ["p, reader, doc, read, allow", "p, mallory, doc, read, deny"]


def test_any_type_of_subject_and_resource_can_be_asked_about(run: Any, tmp_path: Path) -> None:
    """Types are free: entities of any type are found by type and id."""
    entity = '{"type": "user", "id": "bob", "properties": {"role": "reader"}}\n'
    facets = '[tokens]\nsub = { from = "subject.properties.role", kind = "scalar" }\n'
    written(tmp_path, folder(facets_toml=facets, entities_jsonl=entity))
    assert checked(run, "bob", "--subject-type", "user").code == Code.OK
    refused = checked(run, "bob")
    assert (refused.code, refused.json["context"]["missing"]) == (Code.DENY, ["subject.properties.role"])


def test_lint_names_warnings_and_refusals(run: Any, tmp_path: Path) -> None:
    """Lint exits 0 with warnings, and 4 with the refusal's sentence."""
    written(tmp_path, with_line("g, alice, reader"))
    ran = run("policy", "lint")
    assert (ran.code, ran.json["rules"]) == (Code.OK, 3)
    assert ran.json["warnings"] == ["policy.csv:9: repeats line 6 and adds nothing"]
    written(tmp_path, with_line("p, bob, doc, read, maybe"))
    ran = run("policy", "lint")
    assert ran.code == Code.REFUSED
    assert "policy.csv:9: the effect is `maybe`; write allow or deny" in ran.err


def test_show_lists_the_rows(run: Any) -> None:
    """`policy show` lists each rule with its line and text."""
    shown = run("policy", "show").json
    assert [rule["text"] for rule in shown["rules"]][:1] == ["p, reader, doc, read, allow"]
    assert [rule["id"] for rule in shown["rules"]] == ["policy.csv:2", "policy.csv:3", "policy.csv:5"]
    assert shown["models"] == []


def test_an_export_is_what_stock_casbin_reads(run: Any, tmp_path: Path) -> None:
    """The exported folder answers in an unmodified `casbin.Enforcer` as the engine does."""
    out = tmp_path / "out"
    assert run("policy", "export", "--casbin", out).code == Code.OK
    assert (out / "policy.csv").read_bytes() == POLICY.encode()
    enforcer = casbin.Enforcer(str(out / "model.conf"), str(out / "policy.csv"), enable_log=False)
    for subject in ("alice", "mallory", "eve"):
        assert enforcer.enforce(subject, "doc", "read") == (checked(run, subject).code == Code.OK)


def test_what_a_plain_folder_has_not_is_said(run: Any, tmp_path: Path) -> None:
    """Decision cases are refused by one sentence."""
    cases = tmp_path / "cases.jsonl"
    cases.write_text("", encoding="utf-8")
    ran = run("policy", "test", "--cases", str(cases))
    assert ran.code == Code.USAGE
    assert "plain Casbin folder" in ran.err and ran.err.count("\n") == 1


def test_listings_agree_with_check(run: Any, tmp_path: Path) -> None:
    """Whoever is listed is allowed when asked; without entities the listing says that there may be more."""
    ran = run("who-can", "--model", "doc", "--action", "read")
    listed = {hit["subject"] for hit in ran.json["hits"]}
    assert (ran.code, ran.json["complete"]) == (Code.OK, False)
    assert listed == {"alice", "reader", "writer"} and "There may be more" in ran.err
    for subject in ("alice", "writer", "mallory", "eve"):
        assert (checked(run, subject).code == Code.OK) == (subject in listed)
    assert [hit["action"] for hit in run("what-can", "writer").json["hits"]] == ["read", "write"]


def test_serve_refuses_a_folder_that_does_not_load(run: Any, tmp_path: Path) -> None:
    """A folder that is refused leaves no database behind, with exit 4 and the place of the mistake."""
    written(tmp_path, with_line("p, bob, doc"))
    ran = run("serve", "--port", "0")
    assert ran.code == Code.REFUSED
    assert "policy.csv:9: the `p` line has 2 values" in ran.err
    assert not (tmp_path / "engine.db").exists()


def test_a_changed_folder_is_not_served_unasked(run: Any, tmp_path: Path) -> None:
    """A folder that differs from the active release refuses to serve; the database keeps what it had."""
    assert checked(run, "alice").code == Code.OK
    written(tmp_path, with_line("p, eve, doc, read, allow"))
    ran = run("serve", "--port", "0")
    assert ran.code == Code.REFUSED and "publish and activate the folder" in ran.err
    assert checked(run, "eve").code == Code.DENY


def test_doctor_and_verify_are_content(run: Any) -> None:
    """`doctor` finds the folder and the active release alike, and the log verifies."""
    assert checked(run, "alice").code == Code.OK
    assert run("doctor").code == Code.OK
    assert run("audit", "verify").code == Code.OK
