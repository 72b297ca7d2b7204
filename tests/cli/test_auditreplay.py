"""`policy-engine audit replay` and the questions beside it: what they print, what they refuse, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell
from tests.cli.test_audit import tampered

LETTER = 'kind = "directive"\nid = "letter"\nmodels = ["fable-5"]\nblocks = ["foreign_person"]\n'
LICENCE = (
    'kind = "licence"\nid = "lic-1"\nfrom = 2026-01-01T00:00:00Z\nperson_id = "chen"\nmodels = ["fable-5"]\n'
    'actions = ["infer"]\nnationalities = ["CN"]\nlifts = ["nat"]\n'
)


@pytest.fixture
def asked(shell: Shell) -> Shell:
    """A shell whose log holds an allow for alice and a deny for eve: entries 1 and 2."""
    assert shell.asked().code == Code.OK
    assert shell.asked("eve").code == Code.DENY
    return shell


def test_one_decision_is_the_same(asked: Shell) -> None:
    """By its number and by its id; the same document, and exit 0."""
    ran = asked("audit", "replay", "1", key="auditor")
    assert ran.code == Code.OK, ran.err
    assert (ran.json["status"], ran.json["entry"], ran.json["differences"]) == ("same", "1", [])
    again = asked("audit", "replay", ran.json["id"], key="auditor")
    assert again.json == ran.json
    assert "same" in asked("audit", "replay", "2", "-o", "table", key="auditor").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("1", "--since", "2020-01-01"), "--since"),
        (("1", "--until", "2020-01-01"), "--until"),
        (("1", "--subject", "eve"), "--subject"),
        (("--all", "--explain"), "--explain"),
        (("--with-fact", "us_status=none", "--subject", "eve", "--until", "2020-01-01"), "--until"),
        (("--subject", "eve", "--with-fact", "us_status=none", "--with-fact", "us_status=citizen"), "twice"),
        (("--subject", "eve", "--with-fact", "us_status=none", "--with-fact", "us_status=none"), "twice"),
        (("--all", "--since", "2026-07-01", "--until", "2026-06-01"), "earlier instant first"),
        (("--all", "since 2026-07-01", "--since", "2026-06-01"), "in the question already"),
        (("--all", "since 2026-07-01", "--until", "2026-06-01"), "earlier instant first"),
    ],
)
def test_what_nothing_heeds_is_refused(asked: Shell, words: tuple[str, ...], says: str) -> None:
    """An option that does not go with the others, and a time that holds nothing, are not passed over as all is well."""
    ran = asked("audit", "replay", *words, key="auditor")
    assert (ran.code, ran.out) == (Code.USAGE, "")
    assert says in ran.err


def test_a_timeline_that_ends_before_it_begins(asked: Shell) -> None:
    """A time that holds nothing is refused: "no late allow" would be no answer."""
    ran = asked("audit", "timeline", "--since", "2026-07-01", "--until", "2026-06-01")
    assert (ran.code, ran.out) == (Code.USAGE, "")
    assert "earlier instant first" in ran.err


def test_all_decisions_are_counted(asked: Shell) -> None:
    """Counts by what became of them, nothing listed, exit 0; a question and a time narrow it."""
    ran = asked("audit", "replay", "--all", key="auditor")
    assert ran.code == Code.OK, ran.err
    assert ran.json == {
        "decisions": 2,
        "same": 2,
        "different": 0,
        "erased": 0,
        "pruned": 0,
        "unreadable": 0,
        "found": [],
    }
    assert asked("audit", "replay", "--all", "deny", key="auditor").json["decisions"] == 1
    assert asked("audit", "replay", "--all", "--until", "2020-01-01", key="auditor").json["decisions"] == 0
    assert asked("audit", "replay", "--all", "--since", "2020-01-01", key="auditor").json["decisions"] == 2
    assert "same" in asked("audit", "replay", "--all", "-o", "table", key="auditor").out


def test_a_difference_ends_with_6(asked: Shell) -> None:
    """The entry, the member, what is recorded and what was found; the same for one and for all."""
    tampered(asked, "UPDATE entries SET public = CAST(replace(public, '\"deny\"', '\"allow\"') AS BLOB)")
    for words in (("--all",), ("2",)):
        ran = asked("audit", "replay", *words, key="auditor")
        assert ran.code == Code.VERIFICATION_FAILED
        (found,) = ran.json.get("found", (ran.json,))
        assert (found["entry"], found["status"]) == ("2", "different")
        assert {"member": "outcome", "recorded": "allow", "found": "deny"} in found["differences"]
        assert "do not come out as they are recorded" in ran.err
    assert "outcome" in asked("audit", "replay", "--all", "-o", "table", key="auditor").out


def test_one_decision_explained(asked: Shell) -> None:
    """Facts with source and age, the rules, the law and the tables, as JSON and as tables."""
    found = asked("audit", "replay", "2", "--explain", key="auditor").json
    assert (found["asked"]["subject"], found["outcome"], found["replayed"]) == ("eve", "deny", "same")
    assert {"fact", "value", "source", "age_days", "entry"} <= found["facts"][0].keys()
    assert [(rule["label"], rule["decided"], bool(rule["authority"])) for rule in found["rules"]] == [
        ("P8", True, True)
    ]
    shown = asked("audit", "replay", "2", "--explain", "-o", "table", key="auditor").out
    assert "P8" in shown and "ear@" in shown and "nationality_evidence" in shown


def test_a_corrected_fact(asked: Shell) -> None:
    """Which decisions about a subject would have been answered otherwise; values are JSON or plain words."""
    words = ("audit", "replay", "--subject", "alice", "--with-fact", "us_status=none")
    ties = '[{"country": "CN", "acquired": "birth", "current": true}]'
    ran = asked(*words, "--with-fact", f"citizenships={ties}", key="auditor")
    assert ran.code == Code.OK, ran.err
    assert [(row["entry"], row["was"], row["would_be"]) for row in ran.json["otherwise"]] == [("1", "allow", "deny")]
    assert "1 of 1 decisions" in ran.err
    assert asked(*words, "--since", "2099-01-01", key="auditor").json["decisions"] == 0
    tenant = asked(
        "audit", "replay", "--subject", "tenants/acme", "--with-fact", "denied_by_lab=true", key="auditor"
    ).json
    assert tenant["decisions"] == 2
    assert "alice" in asked(*words, "--with-fact", f"citizenships={ties}", "-o", "table", key="auditor").out


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("1", "--with-fact", "us_status=none", "--subject", "alice"),
        ("--all", "--with-fact", "us_status=none", "--subject", "alice"),
        ("--with-fact", "us_status=none"),
        ("--with-fact", "us_status", "--subject", "alice"),
        ("--with-fact", "shoe=43", "--subject", "alice"),
        ("--with-fact", "us_status=none", "--subject", "keys/alice"),
        ("--all", "tier~4"),
        ("--all", "--without", "shoe"),
        ("1", "--without", "birth_country"),
        ("0",),
        ("nothing",),
        ("99",),
    ],
)
def test_what_cannot_be_replayed_is_a_usage_error(asked: Shell, words: tuple[str, ...]) -> None:
    """Nothing to replay, two things at once, no subject, no fact, no question, no decision: exit 2 and one sentence."""
    ran = asked("audit", "replay", *words, key="auditor")
    assert (ran.code, ran.out, ran.err.count("\n")) == (Code.USAGE, "", 1)


def test_a_replay_needs_a_key(asked: Shell) -> None:
    """`local` and a key without `audit:unseal` are told which scope is needed."""
    for key in (None, "operator"):
        ran = asked("audit", "replay", "1", key=key)
        assert ran.code == Code.USAGE and "audit:unseal" in ran.err


def test_a_directive_and_a_licence(asked: Shell, tmp_path: Path) -> None:
    """Receipt, enforcement, who got through and every use, each as JSON and as a table."""
    for name, text in (("letter", LETTER), ("licence", LICENCE)):
        (tmp_path / f"{name}.toml").write_text(text)
        ran = asked("order", "receive", tmp_path / f"{name}.toml", key="operator")
        if ran.json["proposal"]:
            asked.approved(ran.json["proposal"])
    assert asked.asked("mina", tenant="acme").code == Code.OK
    assert asked.asked("greg", tenant="lab").code == Code.DENY
    letter = asked("audit", "directive", "letter", key="auditor").json
    assert letter["received"]["by"] == "operator" and letter["through"] == []
    assert letter["enforced"]["entry"] == letter["writers"][0]["enforced_entry"]
    since = asked("audit", "directive", "letter", "--since", "2020-01-01", key="auditor")
    assert since.json["allows_between"] == 2 and "0 of 2 allows" in since.err
    assert letter["amended"] == [] and "amended later" not in since.err
    amended = tmp_path / "wider.toml"
    amended.write_text(LETTER.replace('"fable-5"', '"fable-5", "summit-4"', 1))
    assert asked("order", "amend", "letter", amended, key="operator").code == Code.OK
    wider = asked("audit", "directive", "letter", key="auditor")
    assert len(wider.json["amended"]) == 1 and f"amended later (entry {wider.json['amended'][0]})" in wider.err
    stood = [(one["standing"], one["subject"]) for one in since.json["standings"]]
    assert stood == [("kept", "mina"), ("lost", "greg")]
    uses = asked("audit", "licence", "lic-1", key="auditor")
    assert (uses.code, uses.json["count"], uses.json["by"], uses.json["ends_at"]) == (Code.OK, 0, [], None)
    for words in (("directive", "letter"), ("licence", "lic-1")):
        assert asked("audit", *words, "-o", "table", key="auditor").code == Code.OK
    assert asked("audit", "directive", "nothing", key="auditor").code == Code.USAGE


def test_an_erased_decision_under_a_directive_is_named_once(asked: Shell, tmp_path: Path) -> None:
    """It may have got through before the first deny, and it may have kept access: it is one decision that is closed."""
    (tmp_path / "letter.toml").write_text(LETTER)
    asked("order", "receive", tmp_path / "letter.toml", key="operator")
    assert asked.asked("mina", tenant="acme").code == Code.OK
    asked.approved(asked("audit", "erase", "mina", "--reason", "case 7", key="operator").json["proposal"])
    assert asked.asked("greg", tenant="lab").code == Code.DENY
    found = asked("audit", "directive", "letter", key="auditor").json
    assert [one["status"] for one in found["closed"]] == ["erased"]


def test_a_use_outside_a_licence_ends_with_6(asked: Shell, tmp_path: Path) -> None:
    """An entry that names a licence which did not cover it is listed with what did not."""
    (tmp_path / "licence.toml").write_text(LICENCE)
    asked.approved(asked("order", "receive", tmp_path / "licence.toml", key="operator").json["proposal"])
    tampered(
        asked,
        'UPDATE entries SET public = CAST(replace(public, \'"licences":[]\', \'"licences":["lic-1"]\') AS BLOB)',
    )
    ran = asked("audit", "licence", "lic-1", key="auditor")
    assert ran.code == Code.VERIFICATION_FAILED
    assert [use["outside"] for use in ran.json["uses"]] == [["licence"]] * 2  # before anybody had made it
    assert ran.json["outside"] == ["1", "2"]


def test_evidence_releases_and_rows(asked: Shell) -> None:
    """Kinds with their counts, the releases with what they decided, and no row without an entry."""
    found = asked("audit", "evidence", key="auditor").json
    assert {(kind["level"], kind["outcome"]): kind["count"] for kind in found["kinds"]} == {
        ("verified", "allow"): 1,
        ("declared", "deny"): 1,
    }
    assert [item["subject"] for item in found["doubtful"]] == ["eve"]
    assert asked("audit", "evidence", "allow", key="auditor").json["decisions"] == 1
    (release,) = asked("audit", "releases", key="auditor").json
    assert (release["change"], release["allows_count"], release["denies_count"]) == ("activated", 1, 1)
    rows = asked("audit", "rows")
    assert (rows.code, rows.json["ok"], rows.json["findings"]) == (Code.OK, True, [])
    for words in (("evidence",), ("releases",), ("rows",)):
        assert asked("audit", *words, "-o", "table", key="auditor").code == Code.OK


def test_what_did_not_decide(asked: Shell) -> None:
    """Without a fact that no rule reads nothing changes; without one that rules need, something does."""
    ran = asked("audit", "replay", "--all", "--without", "birth_country", key="auditor")
    assert (ran.code, ran.json["decisions"], ran.json["otherwise"]) == (Code.OK, 2, [])
    ran = asked("audit", "replay", "--all", "allow", "--without", "us_status", "--without", "tenants", key="auditor")
    assert [row["entry"] for row in ran.json["otherwise"]] == ["1"] and "1 of 1 decisions" in ran.err


def test_owners_and_family(asked: Shell) -> None:
    """Tenants with what is restricted about them, and a model's family with its controls, as JSON and as tables."""
    owned = {row["tenant"]: row for row in asked("audit", "owners", key="auditor").json}
    assert owned["shellco"]["restricted"] and "acme" not in owned
    assert asked("audit", "owners", "--at", "2020-01-01", key="auditor").code == Code.USAGE  # nothing was active then
    assert asked("switch", "engage", "stop", "--scope", "model=fable-5", "--reason", "drill", key="operator").code == 0
    assert asked.asked().code == Code.DENY
    found = asked("audit", "family", "fable-latest", key="auditor").json
    assert found["family"][0] == {"model": "fable-5", "aliases": ["fable-latest"]}
    assert [(one["control"], one["denies_count"], one["missed"]) for one in found["controls"]] == [("stop", 1, False)]
    for words in (("owners",), ("family", "fable-5")):
        assert asked("audit", *words, "-o", "table", key="auditor").code == Code.OK
    tampered(asked, "UPDATE entries SET public = CAST(replace(public, '\"deny\"', '\"allow\"') AS BLOB)")
    assert asked("audit", "family", "fable-5", key="auditor").code == Code.VERIFICATION_FAILED


def test_a_row_that_no_entry_made_ends_with_6(asked: Shell) -> None:
    """With and without the key file; persons are not named."""
    tampered(asked, "UPDATE persons SET document = replace(document, 'declared', 'verified') WHERE id = 'eve'")
    ran = asked("audit", "rows")
    assert ran.code == Code.VERIFICATION_FAILED and ran.json["findings"]
    assert "eve" not in json.dumps(ran.json) + ran.err
    Path(f"{asked.database}.keys").unlink()
    ran = asked("audit", "rows")
    assert ran.code == Code.VERIFICATION_FAILED and "Without the key file" in ran.err


def test_what_was_erased_is_no_failure(asked: Shell) -> None:
    """Exit 0, with the entry that erased it."""
    ran = asked("audit", "erase", "eve", "--reason", "asked by the person", key="operator")
    assert ran.code == Code.APPROVAL_MISSING, ran.err
    asked.approved(ran.json["proposal"])
    for words in (("--all",), ("2",)):
        ran = asked("audit", "replay", *words, key="auditor")
        assert ran.code == Code.OK, ran.err
        (found,) = ran.json.get("found", (ran.json,))
        assert found["status"] == "erased" and found["note"].startswith("erased by entry ")


def test_long_work_is_quiet_when_piped(asked: Shell) -> None:
    """No bar and no word on standard error where that is no terminal."""
    assert asked("audit", "replay", "--all", key="auditor").err == ""
