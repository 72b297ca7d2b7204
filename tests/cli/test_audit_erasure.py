"""`audit erase` and `audit hold` on the command line: two persons, a hold that beats it, and a file written anew."""

from __future__ import annotations

import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell

WHY = ("--reason", "case 7")


def test_a_subject_is_erased_by_two_persons(shell: Shell) -> None:
    """Proposing ends with 8 and takes nothing; the approval takes all of it, and verifying says by which entry."""
    shell.asked("mina")
    ran = shell("audit", "erase", "mina", *WHY, key="operator")
    assert ran.code == Code.APPROVAL_MISSING
    assert "until another person" in ran.err
    assert ran.json["entries"] >= 1
    assert ran.json["rows"] == {"persons": 1}
    assert shell("facts", "show", "persons", "mina", key="operator").code == Code.OK
    shell.approved(ran.json["proposal"])
    assert shell("facts", "show", "persons", "mina", key="operator").code == Code.USAGE
    verified = shell("audit", "verify")
    assert verified.code == Code.OK
    # Beside what was there: the read just made, the row in the sample's genesis, and the proposal.
    assert list(verified.json["gone"].values()) == [ran.json["entries"] + 3]
    assert b"mina" not in shell.database.read_bytes()


def test_showing_what_was_erased_says_by_what(shell: Shell) -> None:
    """The public part is shown with a note; reading the sealed part is refused with the same words."""
    shell.asked("mina")
    entry = str(shell("audit", "query", "--kind", "decision", key="auditor").json["entries"][0]["seq"])
    shell.approved(shell("audit", "erase", "mina", *WHY, key="operator").json["proposal"])
    by = shell("audit", "query", "--kind", "erased", key="auditor").json["entries"][0]
    words = f"erased by entry {by['seq']} of log {by['log']}"
    shown = shell("audit", "show", entry, key="auditor")
    assert shown.code == Code.OK and f"Sealed: {words}." in shown.err
    refused = shell("audit", "show", entry, "--unseal", key="auditor")
    assert refused.code == Code.USAGE and words in refused.err
    genesis = shell("audit", "show", "0", key="auditor")
    assert f"Sealed: {words}." in genesis.err
    assert "Sealed" not in shell("audit", "show", str(by["seq"]), key="auditor").err


@pytest.mark.parametrize("count", [(), ("--count",)], ids=["page", "count"])
def test_an_answer_by_a_place_says_that_it_lacks_what_a_switch_denied(shell: Shell, count: tuple[str, ...]) -> None:
    """A switch is checked before anybody looks where a request is from, so that no place finds what it denied."""
    ran = shell("switch", "engage", "stop", "--scope", "model=open-1", "--reason", "drill", key="operator")
    assert ran.code == Code.OK, ran.err
    shell.asked("mina", model="open-1")
    words = "denied before person and place were looked at"
    for question, found in (("location:US order:stop", 0), ("subject:mina order:stop", 1), ("order:stop deny", 1)):
        ran = shell("audit", "query", question, *count, key="auditor")
        assert ran.json.get("count", len(ran.json.get("entries", ()))) == found
        assert (words in ran.err) is question.startswith("location")
    place = shell.database.with_name("us.csv")
    ran = shell("audit", "export", "location:US", "--format", "csv", "--to", place, key="auditor")
    assert any(words in note for note in ran.json["notes"])


@pytest.mark.parametrize("count", [(), ("--count",)], ids=["page", "count"])
def test_an_answer_by_what_is_sealed_says_that_it_may_lack_what_is_gone(shell: Shell, count: tuple[str, ...]) -> None:
    """Complete is about what may still come; a question by public columns, or about later, lacks nothing."""
    shell.asked("mina")
    words = "erased or pruned are not found"
    asked = ("audit", "query", "us_person:yes", *count)
    assert words not in shell(*asked, key="auditor").err
    shell.approved(shell("audit", "erase", "mina", *WHY, key="operator").json["proposal"])
    ran = shell(*asked, key="auditor")
    assert ran.json["complete"] is True and words in ran.err
    for question in ("kind:decision", "us_person:yes since now"):
        assert words not in shell("audit", "query", question, *count, key="auditor").err


def test_the_scrubbed_file_is_smaller_and_works(shell: Shell) -> None:
    """`--scrub` writes the file anew and says how large it is; while somebody writes, it says so and ends with 7."""
    connection = dbapi.connect(str(shell.database), isolation_level=None)
    connection.execute("CREATE TABLE scratch (a TEXT)")
    connection.executemany("INSERT INTO scratch VALUES (?)", [("x" * 500,)] * 5_000)
    connection.execute("DROP TABLE scratch")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    large = shell.database.stat().st_size
    connection.execute("BEGIN IMMEDIATE")
    busy = shell("audit", "erase", "--scrub")
    assert busy.code == Code.UNREACHABLE and "quiet hour" in busy.err
    connection.execute("ROLLBACK")
    connection.close()
    ran = shell("audit", "erase", "--scrub")
    assert ran.json == {"status": "scrubbed", "bytes": shell.database.stat().st_size}
    assert ran.json["bytes"] < large - 2_000_000
    assert shell("audit", "verify").code == Code.OK


def test_a_hold_beats_an_erasure(shell: Shell) -> None:
    """A hold is placed at once, listed, and released by two persons; meanwhile nothing of its subject is erased."""
    placed = shell("audit", "hold", "add", "lit-7", "--subject", "mina", *WHY, "--reference", "88", key="operator")
    assert placed.json["status"] == "in_force" and "in no register" not in placed.err
    shell(
        "audit", "hold", "add", "lit-8", "--model", "open-1", "--since", "2026-06-01", "--until", "2026-07-01", *WHY,
        key="operator",
    )  # fmt: skip
    refused = shell("audit", "erase", "mina", *WHY, key="operator")
    assert refused.code == Code.USAGE and "hold lit-7" in refused.err
    listed = shell("audit", "hold", "list", key="auditor").json
    assert [(hold["id"], hold["status"]) for hold in listed] == [("lit-7", "in_force"), ("lit-8", "in_force")]
    assert listed[1]["since"] == "2026-06-01T00:00:00Z"
    assert "lit-8" in shell("audit", "hold", "list", "-o", "table", key="auditor").out
    waiting = shell("audit", "hold", "release", "lit-7", "--reason", "closed", key="operator")
    assert waiting.code == Code.APPROVAL_MISSING
    assert shell("audit", "erase", "mina", *WHY, key="operator").code == Code.USAGE
    shell.approved(waiting.json["proposal"])
    assert shell("audit", "erase", "mina", *WHY, key="operator").code == Code.APPROVAL_MISSING


def test_a_hold_on_somebody_unknown_is_placed_and_told(shell: Shell) -> None:
    """Who misspells a tenant or a person thinks something kept that is not; the note repeats no name."""
    placed = shell("audit", "hold", "add", "lit-9", "--subject", "minna", "--tenant", "acmee", *WHY, key="operator")
    assert placed.json["status"] == "in_force"
    assert "The subject of this hold is in no register" in placed.err
    assert "The tenant of this hold is in no register" in placed.err
    assert "minna" not in placed.err and "acmee" not in placed.err


@pytest.mark.parametrize(("model", "known"), [("fable5", False), ("fable-5", True), ("fable-latest", True)])
def test_a_hold_on_a_model_that_the_catalogue_has_not_is_placed_and_told(shell: Shell, model: str, known: bool) -> None:
    """A misspelt model keeps nothing either; an alias is recorded beside the id, so it is known."""
    placed = shell("audit", "hold", "add", "lit-9", "--model", model, *WHY, key="operator")
    assert placed.json["status"] == "in_force" and model not in placed.err
    assert ("The model of this hold is not in the active release's catalogue" in placed.err) is not known


def test_pruning_respects_the_limit_and_the_setting(shell: Shell) -> None:
    """What is younger than POLICY_ENGINE_RETENTION_DAYS is refused, and the sentence names the setting."""
    shell.asked("mina")
    ran = shell("audit", "erase", "--before", "2126-01-01", *WHY, key="operator")
    assert ran.code == Code.USAGE and "3653 days (POLICY_ENGINE_RETENTION_DAYS)" in ran.err
    ran = shell("audit", "erase", "--before", "2020-01-01", *WHY, key="operator", retention_days=30)
    assert ran.code == Code.USAGE and "no sealed part is as old" in ran.err
    assert shell("audit", "erase", "--before", "2020-01-01", *WHY, key="operator", retention_days=0).code == Code.USAGE


@pytest.mark.parametrize(
    "words",
    [
        ("erase",),
        ("erase", "mina", "--scrub"),
        ("erase", "mina", "--before", "2001-01-01"),
        ("erase", "--before", "soon"),
        ("hold", "add"),
        ("hold", "list", "lit-7"),
        ("hold", "release"),
        ("hold", "release", "lit-7", "--subject", "mina"),
        ("hold", "end", "lit-7"),
    ],
)
def test_what_means_nothing_is_a_usage_error(shell: Shell, words: tuple[str, ...]) -> None:
    """One form at a time; a hold is named to add or release it, and only adding says what it covers."""
    ran = shell("audit", *words, key="operator")
    assert ran.code == Code.USAGE
    assert ran.err.strip()


def test_without_a_key_nothing_is_erased_or_held(shell: Shell) -> None:
    """The shell without a key proposes no erasure, and sees no holds."""
    for words in (("erase", "mina", *WHY), ("hold", "list"), ("hold", "add", "h", "--subject", "mina", *WHY)):
        ran = shell("audit", *words)
        assert ran.code == Code.USAGE and "POLICY_ENGINE_KEY" in ran.err
