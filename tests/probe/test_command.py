"""The command `probe`: exit codes, forms of the report, options that name files, and what is never on the screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from policy_engine.cli import probeshown
from policy_engine.cli.app import app
from policy_engine.cli.exits import Code
from policy_engine.probe import Outcome, Report, Result
from policy_engine.probe.catalogue import NAMES
from tests.cli.conftest import Ran
from tests.commandline import CliRunner
from tests.probe.conftest import Served, everything
from tests.probe.gateway import ALLOWED, FORBIDDEN

SHOWN = {
    "schema", "target", "run", "dialect", "started_at", "seconds", "requests", "sent_bytes", "problem", "holes",
    "complete", "counts", "checks",
}  # fmt: skip
CHECK = {"check", "group", "outcome", "finding", "fix", "requests", "measured_milliseconds", "evidence"}
EVIDENCE = {"sent", "method", "path", "status", "said", "found"}

Command = Callable[..., Ran]


@pytest.fixture
def probe(served: Served, tmp_path: Path) -> Command:
    """Offer the command on the gateway, with the caller's credential in the environment."""

    def command(*words: str, url: str | None = None, credential: str | None = None) -> Ran:
        own = everything(served)["credentials"].own if credential is None else credential
        given = ["probe", url or served.url, "--allowed", ALLOWED, "--forbidden", FORBIDDEN, "--pause", "0", *words]
        found = CliRunner().invoke(app, given, env={"POLICY_ENGINE_PROBE_CREDENTIAL": own, "POLICY_ENGINE_KEY": None})
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Ran(found.exit_code, found.stdout, found.stderr)

    return command


def test_a_good_gateway_exits_0_and_the_report_has_its_form(probe: Command) -> None:
    """Piped, the report is one JSON document with the members that are promised, and nothing is on standard error."""
    ran = probe()
    assert (ran.code, ran.err) == (Code.OK, "")
    report = ran.json
    assert set(report) == SHOWN and report["schema"] == "policy-engine-probe/1"
    assert report["complete"] is True and report["holes"] == []
    assert [check["check"] for check in report["checks"]] == [*NAMES]
    assert all(set(check) == CHECK for check in report["checks"])
    assert {name for check in report["checks"] for each in check["evidence"] for name in each} == EVIDENCE
    assert sum(report["counts"].values()) == len(NAMES)


def test_a_hole_exits_9_with_its_fix(served: Served, probe: Command) -> None:
    """The hole is in the report with what was sent, what answered and how to mend it."""
    served.gateway.holes = frozenset({"compressed"})
    ran = probe()
    assert ran.code == Code.BYPASS_FOUND == 9
    (found,) = (check for check in ran.json["checks"] if check["outcome"] == "hole")
    assert found["check"] == "compressed" and found["fix"].startswith("refuse a Content-Encoding")
    assert ran.err == f"policy-engine: hole: compressed: {found['finding']}. Fix: {found['fix']}\n"
    assert found["evidence"][0]["said"] == FORBIDDEN and found["evidence"][0]["status"] == 200


def test_a_gateway_that_is_not_there_exits_7(probe: Command) -> None:
    """One sentence on standard error says why, and no check is passed."""
    ran = probe(url="http://127.0.0.1:9")
    assert ran.code == Code.UNREACHABLE and "could not be reached" in ran.err and ran.err.count("\n") == 1
    assert ran.json["counts"]["passed"] == 0


def test_an_unclear_check_exits_7(probe: Command) -> None:
    """A wrong credential makes everything look closed; that is no success."""
    ran = probe(credential="wrong")
    assert ran.code == Code.UNREACHABLE and ran.json["complete"] is False


def test_the_table_shows_holes_first_with_their_fix(served: Served, probe: Command) -> None:
    """On a terminal: a line for each check, the hole at the top, the sum at the end."""
    served.gateway.holes = frozenset({"route-native"})
    ran = probe("--output", "table", "--only", "route-native,listing")
    lines = [line for line in ran.out.splitlines() if line.strip()]
    assert ran.code == Code.BYPASS_FOUND
    assert lines[3].strip().startswith("hole") and "route-native" in lines[3] and "Fix: guard every path" in ran.out
    assert "1 hole" in lines[-1] and "requests in" in lines[-1]


def test_junit_counts_holes_as_failures(served: Served, probe: Command) -> None:
    """A build server shows a hole as a failure, and what was left out as skipped."""
    served.gateway.holes = frozenset({"name-case"})
    suite = ElementTree.fromstring(probe("-o", "junit", "--only", "name-case").out)
    assert suite.attrib["tests"] == str(len(NAMES)) and suite.attrib["failures"] == "1"
    (failure,) = suite.iter("failure")
    assert "answered by `fable-5`" in failure.attrib["message"] and "Fix: " in (failure.text or "")
    assert len(list(suite.iter("skipped"))) == int(suite.attrib["skipped"]) == len(NAMES) - 2


def test_what_is_in_doubt_is_an_error_for_junit() -> None:
    """Nothing that was not told is shown as passed, and no control character of a gateway leaves."""
    results = (
        Result("a", "names", Outcome.UNCLEAR, "answered by `\x1b[2J`"),
        Result("b", "names", Outcome.UNPROBED, "no"),
        Result("c", "names", Outcome.PASSED, "1 refused"),
    )
    report = Report("s", "t", "r", "openai", "2026-06-12T00:00:00Z", 1.0, 3, 99, "", results)
    suite = ElementTree.fromstring(probeshown.junit(report))
    assert [case.find("error") is not None for case in suite] == [True, True, False]
    assert suite.attrib["errors"] == "2" and "\x1b" not in probeshown.junit(report)


def test_files_hold_credentials_and_none_is_shown(served: Served, probe: Command, tmp_path: Path) -> None:
    """Own, foreign, expired and the operator's key come from files; the report and the errors hold none."""
    secrets = everything(served)["credentials"]
    given = {"own": secrets.own, "foreign": secrets.foreign, "expired": secrets.expired, "key": "pe_operator"}
    for name, secret in given.items():
        (tmp_path / name).write_text(f"{secret}\n", encoding="utf-8")
    checks = "foreign-credentials,expired-credential,jwt-unsigned,jwt-changed,stale-answer"
    ran = probe(
        *("--credential-file", str(tmp_path / "own"), "--foreign-file", str(tmp_path / "foreign")),
        *("--expired-file", str(tmp_path / "expired"), "--operator-key", str(tmp_path / "key")),
        *("--engine", f"{served.url}/elsewhere", "--switch-model", ALLOWED, "--only", checks),
        credential="",
    )
    outcomes = {check["check"]: check["outcome"] for check in ran.json["checks"]}
    assert [outcomes[name] for name in checks.split(",")] == ["passed"] * 4 + ["unprobed"]
    assert ran.code == Code.UNREACHABLE
    assert [name for name, secret in given.items() if secret in ran.out + ran.err] == []


def test_the_authorizer_is_taken_away_by_commands(served: Served, probe: Command, tmp_path: Path) -> None:
    """Commands are run as words, without a shell; a command that fails leaves the check unprobed, and is undone."""
    away, back = tmp_path / "away", tmp_path / "back; rm -rf nothing"
    touch = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch(); sys.exit(int(sys.argv[2]))"
    down, up = (f"{sys.executable} -c '{touch}' '{file}' {code}" for file, code in ((away, 3), (back, 0)))
    ran = probe("--authorizer-down", down, "--authorizer-up", up, "--only", "authorizer-down")
    (found,) = (check for check in ran.json["checks"] if check["check"] == "authorizer-down")
    assert found["outcome"] == "unprobed" and "--authorizer-down: ended with 3" in found["finding"]
    assert ran.code == Code.UNREACHABLE and away.exists() and back.exists()


def test_the_authorizer_is_taken_away_by_addresses(served: Served, probe: Command) -> None:
    """An address is posted to; whoever does not answer 2xx has not done it."""
    levers = ("--authorizer-down", f"{served.url}/down", "--authorizer-up", f"{served.url}/up")
    ran = probe(*levers, "--only", "authorizer-down")
    (found,) = (check for check in ran.json["checks"] if check["check"] == "authorizer-down")
    assert found["outcome"] == "unprobed" and "--authorizer-up: answered 401" in found["finding"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--only", "nonsense"), "there is no check `nonsense`"),
        (("--authorizer-down", "true"), "--authorizer-up"),
        (("--authorizer-down", "'", "--authorizer-up", "true"), "a quotation mark is open"),
        (("--switch-model", "m"), "--engine"),
        (("--engine", "http://x"), "--switch-model"),
        (("--engine", "http://x", "--switch-model", "m"), "POLICY_ENGINE_KEY"),
        (("--credential-file", "nowhere"), "--credential-file"),
        (("--credential-header", "a: b"), "--credential-header"),
        (("--alias", ALLOWED), "allowed and as forbidden"),
    ],
)
def test_options_that_make_no_sense_are_refused(probe: Command, words: Any, told: str) -> None:
    """One sentence that names the option, exit 2, and nothing is sent."""
    ran = probe(*words)
    assert ran.code == Code.USAGE and told in ran.err and ran.err.count("\n") == 1 and ran.out == ""


def test_the_models_are_required(served: Served) -> None:
    """Without a model that is allowed and one that is not there is nothing to tell apart."""
    found = CliRunner().invoke(app, ["probe", served.url, "--allowed", ALLOWED])
    assert found.exit_code == Code.USAGE and "--forbidden" in found.stderr


def test_the_report_is_json_whatever_a_gateway_says(served: Served, probe: Command) -> None:
    """Text of the gateway is text in the report."""
    served.gateway.holes = frozenset({"listing"})
    assert json.loads(probe("--only", "listing").out)["holes"] == ["listing"]
