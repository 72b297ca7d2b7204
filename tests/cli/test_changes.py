"""Switches, orders, approvals and keys on the command line: one person tightens, two loosen, exit 8 while it waits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_engine.cli.exits import Code
from tests.cli.conftest import LABELS, POLICIES, Shell
from tests.middleware.tokens import claims, token

DIRECTIVE = """
kind = "directive"
id = "letter-1"
from = 2026-06-12T21:21:00Z
models = ["fable-5"]
blocks = ["foreign_person", "destination_outside_us"]
"""
EXEMPT = """
[[exempts]]
models = ["fable-5"]
who = "annex_a_entities_and_their_employees"
annex_a = ["annexco"]
"""
LICENCE = """
kind = "licence"
id = "licence-1"
from = 2026-01-01
person_id = "chen"
models = ["fable-5"]
actions = ["infer"]
nationalities = ["CN"]
lifts = ["nat"]
"""

Written = Callable[[str, str], Path]


def test_a_switch_is_engaged_by_one_and_released_by_two(shell: Shell) -> None:
    """The whole life of a switch, with what alice gets at each step."""
    words = ("switch", "engage", "off", "--scope", "model=fable-5", "--reason", "letter")
    ran = shell(*words, key="operator")
    assert ran.code == Code.OK and ran.json["status"] == "committed" and ran.json["seq"] > 0
    denied = shell.asked()
    assert denied.code == Code.DENY and denied.json["context"]["reasons"][0]["orders"] == ["off"]
    waiting = shell("switch", "release", "off", "--reason", "over", key="operator")
    assert waiting.code == Code.APPROVAL_MISSING and waiting.json["status"] == "waiting" and "approved" in waiting.err
    assert shell.asked().code == Code.DENY
    shell.approved(waiting.json["proposal"])
    assert shell.asked().code == Code.OK
    shown = shell("switch", "show", "off", key="operator").json
    assert (shown["status"], shown["released_by"], shown["approved_by"]) == ("released", "operator", "approver")


def test_without_a_key_a_switch_may_be_engaged_on_a_sample_and_nothing_released(shell: Shell) -> None:
    """`local` may tighten a sample database; it has no person behind it to loosen anything."""
    assert shell("switch", "engage", "off", "--scope", "model=all", "--reason", "drill").code == Code.OK
    assert shell.asked().code == Code.DENY
    ran = shell("switch", "release", "off", "--reason", "over")
    assert ran.code == Code.USAGE and "POLICY_ENGINE_KEY" in ran.err


def test_a_switch_may_end_by_itself_and_is_listed(shell: Shell) -> None:
    """Scope, end and reference are shown; an end in the past is refused."""
    words = ("switch", "engage", "off", "--scope", "tenant=acme", "--scope", "tier=4,5", "--reason", "drill")
    assert shell(*words, "--until", "2020-01-01", key="operator").code == Code.USAGE
    assert shell(*words, "--until", "2099-01-01", "--reference", "T-1", key="operator").code == Code.OK
    (row,) = shell("switch", "list").json
    assert row["scope"] == {"tenants": ["acme"], "tiers": [4, 5]} and row["until"] == "2099-01-01T00:00:00Z"
    assert (row["status"], row["reference"], row["engaged_by"]) == ("engaged", "T-1", "operator")
    assert "tiers=4,5" in shell("switch", "list", "-o", "table").out


def test_what_does_not_exist_or_is_not_permitted_exits_2(shell: Shell) -> None:
    """Unknown ids, unknown models and keys without the scope change nothing."""
    assert shell("switch", "show", "nothing").code == Code.USAGE
    assert (
        shell("switch", "engage", "x", "--scope", "model=nothing", "--reason", "r", key="operator").code == Code.USAGE
    )
    ran = shell("switch", "engage", "x", "--scope", "model=fable-5", "--reason", "r", key="auditor")
    assert ran.code == Code.USAGE and "switch:engage" in ran.err
    assert shell("switch", "list").json == []


def test_a_directive_denies_at_once_and_its_exemption_waits(shell: Shell, written: Written) -> None:
    """Bruno loses access on receipt; ines, of the annex, has it back when a second person has approved."""
    ran = shell("order", "receive", written("d.toml", DIRECTIVE + EXEMPT), "--reference", "file 1", key="operator")
    assert ran.code == Code.APPROVAL_MISSING and ran.json["status"] == "partly waiting" and ran.json["seq"] > 0
    assert shell.asked("ines", tenant="annexco").code == Code.DENY
    shell.approved(ran.json["proposal"])
    assert shell.asked("ines", tenant="annexco").code == Code.OK
    denied = shell.asked("bruno", tenant="acme-de", location="DE")
    assert denied.code == Code.DENY and denied.json["context"]["reasons"][0]["orders"] == ["letter-1"]


def test_a_directive_is_amended_and_ended(shell: Shell, written: Written) -> None:
    """What narrows it waits for a second person; its end too; then it is listed as ended."""
    assert shell("order", "receive", written("d.toml", DIRECTIVE), key="operator").code == Code.OK
    narrowed = written("n.toml", DIRECTIVE.replace(', "destination_outside_us"', ""))
    ran = shell("order", "amend", "letter-1", narrowed, "--reason", "second letter", key="operator")
    assert ran.code == Code.APPROVAL_MISSING and ran.json["status"] == "waiting"
    assert shell.asked("dana", location="GB").code == Code.DENY
    shell.approved(ran.json["proposal"])
    assert shell.asked("dana", location="GB").code == Code.OK
    ended = shell("order", "end", "letter-1", "--reason", "lifted", key="operator")
    assert ended.code == Code.APPROVAL_MISSING
    shell.approved(ended.json["proposal"])
    assert shell.asked("sofia").code == Code.OK
    (row,) = shell("order", "list", "--status", "ended", "--kind", "directive", key="auditor").json
    assert row["id"] == "letter-1" and shell("order", "list", "--status", "in_force", key="auditor").json == []
    changes = [change["change"] for change in shell("order", "show", "letter-1", key="auditor").json["history"]]
    assert changes == ["received", "amended", "ended"]


def test_a_licence_waits_and_is_revoked_by_one(shell: Shell, written: Written) -> None:
    """Chen has fable-5 under a licence, and loses it with the licence."""
    lab: dict[str, Any] = {"person": "chen", "tenant": "lab"}
    assert shell.asked(**lab).code == Code.DENY
    words = ("order", "receive", written("l.toml", LICENCE), "--text", written("l.txt", "The licence."))
    ran = shell(*words, key="operator")
    assert ran.code == Code.APPROVAL_MISSING and ran.json["status"] == "waiting" and "seq" not in ran.json
    shell.approved(ran.json["proposal"])
    assert shell.asked(**lab).code == Code.OK
    assert shell("order", "end", "licence-1", "--reason", "misused", key="operator").json["status"] == "committed"
    assert shell.asked(**lab).code == Code.DENY


def test_an_amendment_of_another_kind_is_refused(shell: Shell, written: Written) -> None:
    """A file for a licence does not amend a directive."""
    assert shell("order", "receive", written("d.toml", DIRECTIVE), key="operator").code == Code.OK
    ran = shell("order", "amend", "letter-1", written("l.toml", LICENCE), key="operator")
    assert ran.code == Code.USAGE and "directive" in ran.err


def test_orders_need_a_persons_key(shell: Shell, written: Written) -> None:
    """Neither `local` nor the enforcement point receives or reads orders."""
    for key in (None, "enforcement point"):
        assert shell("order", "receive", written("d.toml", DIRECTIVE), key=key).code == Code.USAGE
        assert shell("order", "list", key=key).code == Code.USAGE


def test_a_proposal_is_shown_approved_by_its_hash_and_refused(shell: Shell, written: Written) -> None:
    """Who approves may say which content they read; nobody approves their own; refusing keeps the reason."""
    first = shell("order", "receive", written("l.toml", LICENCE), key="operator").json["proposal"]
    own = shell("approvals", "approve", first, key="operator")
    assert own.code == Code.USAGE and "another person" in own.err
    assert shell("approvals", "approve", first, "--hash", "0" * 64, key="approver").code == Code.USAGE
    shown = shell("approvals", "show", first, key="approver").json
    assert shown["payload"]["body"]["lifts"] == ["nat"] and shown["proposed_by"] == "operator"
    ran = shell("approvals", "refuse", first, "--reason", "not filed", key="approver")
    assert ran.code == Code.OK and ran.json["status"] == "refused"
    (row,) = shell("approvals", "list", "--status", "refused", key="auditor").json
    assert (row["id"], row["reason"], row["decided_by"]) == (first, "not filed", "approver")
    assert shell("approvals", "list", "--status", "waiting", key="auditor").json == []
    assert shell("approvals", "approve", first, "--hash", shown["hash"], key="approver").code == Code.USAGE
    assert "not filed" not in shell("approvals", "list", "-o", "table", key="auditor").out


def test_a_key_works_when_a_second_person_has_approved_it_and_not_after_its_revocation(shell: Shell) -> None:
    """The life of an enforcement point's key; its text is shown once and never listed."""
    words = (
        "keys",
        "create",
        "pep-2",
        "--kind",
        "service",
        "--scopes",
        "decide",
        "--supplies",
        "location,serving_region",
    )
    ran = shell(*words, "--tenants", "acme", "--expires", "2099-01-01", key="operator")
    (made,) = ran.json
    assert ran.code == Code.APPROVAL_MISSING and made["secret"].startswith("pe_") and made["proposal"] in ran.err
    ask = (
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
    )
    assert shell(*ask, key=made["secret"]).code == Code.USAGE
    shell.approved(made["proposal"])
    assert shell(*ask, key=made["secret"]).code == Code.OK
    (row,) = [row for row in shell("keys", "list", key="auditor").json if row["id"] == made["id"]]
    assert (row["tenants"], row["kind"], row["scopes"]) == (["acme"], "service", ["decide"])
    assert made["secret"] not in shell("keys", "list", key="auditor").out
    assert shell("keys", "revoke", made["id"], "--reason", "lost", key="operator").json["status"] == "revoked"
    ran = shell(*ask, key=made["secret"])
    assert ran.code == Code.USAGE and "revoked" in ran.err


def test_a_key_may_be_made_from_a_hash(shell: Shell) -> None:
    """Then nobody here ever sees its text."""
    (made,) = shell(
        "keys", "create", "pep-3", "--kind", "service", "--scopes", "decide", "--hash", "0" * 64, key="operator"
    ).json
    assert made["secret"] is None


def test_a_subject_of_an_issuer_is_registered_in_place_of_a_key(shell: Shell) -> None:
    """No secret is printed; approved, the list shows issuer and subject, and it can be revoked like a key."""
    identity = ("--issuer", "https://issuer.example", "--subject", "svc-4711")
    ran = shell("keys", "create", "pep-4", "--kind", "service", "--scopes", "decide", *identity, key="operator")
    (made,) = ran.json
    assert ran.code == Code.APPROVAL_MISSING and made["secret"] is None
    shown = shell("approvals", "show", made["proposal"], key="approver")
    assert "svc-4711" in shown.out and "https://issuer.example" in shown.out
    shell.approved(made["proposal"])
    (listed,) = [row for row in shell("keys", "list", key="operator").json if row["id"] == made["id"]]
    assert (listed["issuer"], listed["subject"], listed["prefix"]) == ("https://issuer.example", "svc-4711", "")
    again = shell("keys", "create", "pep-4", "--kind", "service", "--scopes", "decide", *identity, key="operator")
    assert again.code == Code.USAGE and "registered already" in again.err
    assert shell("keys", "revoke", made["id"], key="operator").code == Code.OK


def test_usage_of_token_identities(shell: Shell) -> None:
    """Half of one, one beside --hash or --first, and one that no token can have: refused with a sentence."""
    both = ("--issuer", "https://issuer.example", "--subject", "s")
    for words, sentence in (
        (("a", "--scopes", "decide", *both[:2]), "must be given together"),
        (("a", "--scopes", "decide", *both[2:]), "must be given together"),
        (("a", "--scopes", "decide", *both, "--hash", "0" * 64), "neither --first nor --hash"),
        (("a", "b", "--first", *both), "neither --first nor --hash"),
        (("a", "--scopes", "decide", "--issuer", "", "--subject", "s"), "issuer: must be a text"),
    ):
        ran = shell("keys", "create", *words, key="operator")
        assert ran.code == Code.USAGE and sentence in ran.err, ran.err


def test_a_token_is_no_key_of_the_command_line(shell: Shell) -> None:
    """It says so, names the variable, and repeats nothing of it."""
    bearer = token(claims())
    ran = shell("switch", "list", key=bearer)
    assert ran.code == Code.USAGE and "POLICY_ENGINE_KEY: is a token (JWT)" in ran.err
    assert not any(piece in ran.err for piece in bearer.split("."))


def test_usage_of_keys(shell: Shell) -> None:
    """Two names without --first, an unknown kind, a time that is none: refused."""
    assert shell("keys", "create", "a", "b", key="operator").code == Code.USAGE
    assert shell("keys", "create", "a", "--kind", "robot", key="operator").code == Code.USAGE
    assert shell("keys", "create", "a", "--scopes", "decide", "--expires", "soon", key="operator").code == Code.USAGE
    assert shell("keys", "create").code == Code.USAGE
    assert shell("keys", "revoke", "nothing", key="operator").code == Code.USAGE
    assert shell("keys", "revoke", "sample-approver", key="operator").code == Code.USAGE


def test_the_first_keys_are_those_of_two_persons(tmp_path: Path) -> None:
    """On a database without a person's key `--first` makes them, once; afterwards law 11 holds.

    A bound that they would not have is refused, and not left out: each is as large as its scopes, and has no end.
    """
    empty = Shell(tmp_path / "own.db", {})
    folder = without_world(tmp_path)
    assert empty("keys", "create", "--first", "olga", policies=folder).code == Code.USAGE
    for bound in ("--kind service", "--tenants acme", "--supplies x", "--expires 2031-01-01", "--hash " + "0" * 64):
        ran = empty("keys", "create", "--first", "olga", "paul", *bound.split(), policies=folder)
        assert ran.code == Code.USAGE and bound.split()[0] in ran.err and not ran.out, bound
    ran = empty("keys", "create", "--first", "olga", "paul", policies=folder)
    assert ran.code == Code.OK and [key["principal"] for key in ran.json] == ["olga", "paul"]
    olga, paul = (key["secret"] for key in ran.json)
    assert empty("keys", "create", "--first", "eve", "mallory", policies=folder).code == Code.USAGE
    waiting = empty("keys", "create", "quinn", "--scopes", "audit:read", key=olga, policies=folder)
    assert waiting.code == Code.APPROVAL_MISSING
    assert empty("approvals", "approve", waiting.json[0]["proposal"], key=paul, policies=folder).code == Code.OK
    ran = empty("switch", "engage", "off", "--scope", "model=fable-5", "--reason", "r", policies=folder)
    assert ran.code == Code.USAGE and "sample" in ran.err


def without_world(tmp_path: Path) -> Path:
    """Copy the policies without their sample world, as a production folder is."""
    import shutil

    return Path(shutil.copytree(POLICIES, tmp_path / "policies", ignore=shutil.ignore_patterns("world")))


@pytest.mark.parametrize("key", ["pe_" + "x" * 43, "nonsense"])
def test_a_key_that_is_unknown_is_refused_and_not_echoed(shell: Shell, key: str) -> None:
    """A command under a wrong key does nothing, not even what `local` may."""
    ran = shell("switch", "list", key=key)
    assert ran.code == Code.USAGE and "unknown" in ran.err and key not in ran.err


def test_the_sample_keys_are_printed_by_the_first_command_alone(filled: Shell, shell: Shell) -> None:
    """They are shown once, on standard error, in the order of the file."""
    assert tuple(filled.keys) == LABELS and len(set(filled.keys.values())) == len(LABELS)
    assert "pe_" not in shell("models", "list").err
