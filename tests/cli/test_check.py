"""`policy-engine check`: a real decision, its exit code, its explanation, and its answer in the form of AuthZEN."""

from __future__ import annotations

import pytest

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell


def test_an_allow_exits_0_and_answers_as_over_http(shell: Shell) -> None:
    """The members are those of an AuthZEN answer: decision and context."""
    ran = shell.asked()
    assert ran.code == Code.OK and ran.json["decision"] is True
    context = ran.json["context"]
    assert set(context) >= {"id", "reasons", "missing", "alternatives", "release", "epoch", "valid_for_ms"}
    assert len(context["id"]) == 32 and context["release"].startswith("sha256:") and context["valid_for_ms"] > 0


def test_a_deny_exits_3_and_says_which_rule_and_why(shell: Shell) -> None:
    """Eve says that she is American; nobody has verified it."""
    ran = shell.asked("eve")
    (reason,) = ran.json["context"]["reasons"]
    assert ran.code == Code.DENY and ran.json["decision"] is False
    assert (reason["rule"], reason["code"]) == ("P8", "evidence.declared-only") and reason["message"]


def test_the_decision_is_recorded(shell: Shell) -> None:
    """A check is a decision like any other: it stands in the log under its id."""
    id = shell.asked("eve").json["context"]["id"]
    entries = shell("audit", "query", "--kind", "decision").json["entries"]
    assert [entry["id"] for entry in entries] == [id]


def test_explain_shows_every_matching_rule_lifts_and_the_age_of_facts(shell: Shell) -> None:
    """An operator sees what was found, and never a fact's value."""
    ran = shell(
        "check",
        "--subject",
        "omar",
        "--model",
        "mythos-5",
        "--action",
        "infer",
        "--tenant",
        "acme",
        "--location",
        "US",
        "--explain",
    )
    explanation = ran.json["context"]["explanation"]
    assert {rule["label"] for rule in explanation["matching_rules"]} == {"P8", "P9"}
    assert all(rule["authority"] and rule["lifted"] is False for rule in explanation["matching_rules"])
    ages = {fact["fact"]: fact["age_days"] for fact in explanation["facts"]}
    assert ages["citizenships"] == 30 and "KE" not in ran.out


def test_explain_is_a_table_on_request(shell: Shell) -> None:
    """A person reads the same as a table."""
    ran = shell.asked("eve", output="table")
    assert ran.code == Code.DENY and "DENY" in ran.out and "evidence.declared-only" in ran.out
    ran = shell(
        "check",
        "--subject",
        "alice",
        "--model",
        "fable-5",
        "--action",
        "infer",
        "--tenant",
        "acme",
        "--location",
        "US",
        "--explain",
        "-o",
        "table",
    )
    assert "ALLOW" in ran.out and "Every rule that matched" in ran.out and "nationality_evidence" in ran.out


def test_a_place_may_name_a_region(shell: Shell) -> None:
    """`UA-43` is Crimea, and embargoed; a region of the US is the US."""
    assert shell.asked(location="US-CA").code == Code.OK
    ran = shell.asked(location="UA-43", model="open-1")
    assert ran.code == Code.DENY and "P3" in {reason["rule"] for reason in ran.json["context"]["reasons"]}


def test_the_serving_region_is_the_option_or_the_setting(shell: Shell) -> None:
    """Where a request names none, the configured region is used; without either it is unknown and denies."""
    assert shell.asked(**{"serving-region": "CN"}).json["context"]["reasons"][0]["rule"] == "P6b"
    words = ("check", "--subject", "alice", "--model", "fable-5", "--action", "infer", "--tenant", "acme")
    assert shell(*words, "--location", "US", serving_region="").code == Code.DENY


def test_what_is_unknown_denies_and_names_what_is_missing(shell: Shell) -> None:
    """No location, no tenant, an unknown person, an unknown model: deny."""
    words = ("check", "--subject", "alice", "--model", "fable-5", "--action", "infer")
    assert "location" in " ".join(shell(*words, "--tenant", "acme").json["context"]["missing"])
    assert shell(*words).code == Code.DENY
    assert shell.asked("nobody").code == Code.DENY
    assert shell.asked(model="nothing").code == Code.DENY
    assert shell.asked(**{"subject-type": "service"}).code == Code.DENY


def test_usage_errors_exit_2(shell: Shell) -> None:
    """What is missing or malformed is said on standard error, and nothing is decided."""
    for words in (("check",), ("check", "--subject", "alice"), ("check", "--wrong")):
        ran = shell(*words)
        assert ran.code == Code.USAGE and ran.err and ran.out == ""
    assert shell.asked(**{"subject-type": "robot"}).code == Code.USAGE
    assert shell.asked(at="noon").code == Code.USAGE


def test_another_instant_is_hypothetical_and_needs_audit_read(shell: Shell) -> None:
    """Alice's evidence was not there a year ago; only an auditor may ask what would have been."""
    words = (
        "check",
        "--subject",
        "alice",
        "--model",
        "fable-5",
        "--action",
        "infer",
        "--tenant",
        "acme",
        "--location",
        "US",
        "--at",
        "2025-01-01",
    )
    ran = shell(*words)
    assert ran.code == Code.USAGE and "audit:read" in ran.err
    ran = shell(*words, key="operator")
    assert ran.code == Code.DENY and ran.json["context"]["hypothetical"] is True
    assert ran.json["context"]["valid_for_ms"] == 0


def test_a_database_that_is_away_ends_with_7(shell: Shell) -> None:
    """Nothing was wrong with the call, so a script may try it again; no code of a refusal."""
    ran = shell(
        "check",
        "--subject",
        "alice",
        "--model",
        "fable-5",
        "--action",
        "infer",
        database="postgresql:///x?host=/nowhere",
    )
    assert ran.code == Code.UNREACHABLE and "cannot be reached" in ran.err and ran.out == ""


@pytest.mark.parametrize("option", ["--subject", "--location", "--tenant", "--action"])
def test_bytes_that_are_no_text_are_refused_before_anything_is_asked(shell: Shell, option: str) -> None:
    """A slip of the caller is no fault of the log: exit 2, and no entry says that the log was away."""
    words = {"--subject": "alice", "--model": "fable-5", "--action": "infer", "--tenant": "acme", option: "a\udcff"}
    ran = shell("check", *(word for pair in words.items() for word in pair))
    assert ran.code == Code.USAGE and "UTF-8" in ran.err and "internal" not in ran.err
    assert shell("audit", "query", "kind:gap,decision").json["entries"] == []
