"""`policy-engine audit`: the log is found by what is public, by what is sealed on the record, and verified offline."""

from __future__ import annotations

import json
from pathlib import Path

import pysqlite3
import pytest

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell


@pytest.fixture
def asked(shell: Shell) -> Shell:
    """A shell whose log holds an allow for alice and a deny for eve."""
    assert shell.asked().code == Code.OK and shell.asked("eve").code == Code.DENY
    return shell


def tampered(shell: Shell, statement: str) -> None:
    """Change the database behind the engine's back, triggers and all."""
    connection = pysqlite3.connect(str(shell.database))
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f'DROP TRIGGER "{name}"')
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_entries_are_found_by_what_is_public(asked: Shell) -> None:
    """Kind, outcome, model, rule, tenant and time; the newest first, and nothing personal in them."""
    page = asked("audit", "query", "--kind", "decision").json
    assert [entry["outcome"] for entry in page["entries"]] == ["deny", "allow"] and page["complete"] is True
    assert "alice" not in json.dumps(page) and "eve" not in json.dumps(page)
    oldest = asked("audit", "query", "--oldest-first", "--limit", "1").json
    assert oldest["entries"][0]["kind"] == "genesis" and oldest["complete"] is False
    for filter, count in (
        (("--outcome", "allow"), 1),
        (("--model", "fable-5", "--action", "infer"), 2),
        (("--rule", "P8"), 1),
        (("--tenant", "acme"), 2),
        (("--tenant", "annexco"), 0),
        (("--since", "2099-01-01"), 0),
        (("--until", "2026-01-01"), 0),
    ):
        assert len(asked("audit", "query", *filter).json["entries"]) == count, filter


def test_a_long_answer_says_where_to_continue(asked: Shell) -> None:
    """Each page names the entry behind which the next begins."""
    ran = asked("audit", "query", "--limit", "2")
    assert ran.json["complete"] is False and f"--after {ran.json['after']}" in ran.err
    rest = asked("audit", "query", "--after", str(ran.json["after"])).json["entries"]
    assert [entry["kind"] for entry in rest] == ["genesis"]


def test_finding_a_person_needs_a_key_and_is_recorded(asked: Shell) -> None:
    """The subject is sealed: who looked for whom stands in the log."""
    assert asked("audit", "query", "--sealed", "subject=eve").code == Code.USAGE
    found = asked("audit", "query", "--sealed", "subject=eve", key="auditor").json["entries"]
    assert [entry["outcome"] for entry in found if entry["kind"] == "decision"] == ["deny"]
    assert len(asked("audit", "query", "--kind", "read").json["entries"]) == 1
    assert asked("audit", "query", "--sealed", "subject", key="auditor").code == Code.USAGE
    both = asked("audit", "query", "--sealed", "subject=eve", "--sealed", "subject=alice", key="auditor")
    assert (both.code, both.out) == (Code.USAGE, "")
    assert asked("audit", "query", "since 2026-07-01", "--until", "2026-06-01").code == Code.USAGE
    assert asked("audit", "query", "--sealed", "shoe=43", key="auditor").code == Code.USAGE


def test_entries_are_a_table_on_request(asked: Shell) -> None:
    """One line an entry, with the rules that spoke."""
    shown = asked("audit", "query", "-o", "table").out
    assert "P8" in shown and "declared-only" in shown and "genesis" in shown


def test_an_honest_log_verifies_and_says_what_it_cannot_see(asked: Shell) -> None:
    """Counts, the last header to keep elsewhere, and the note about a cut tail."""
    ran = asked("audit", "verify")
    assert ran.code == Code.OK and ran.json["ok"] is True and ran.json["findings"] == []
    assert ran.json["entries"] == 3 and ran.json["bodies"] == 3
    (head,) = ran.json["heads"]
    assert head["entries"] == 3 and len(head["last_header"]) == 64 and "checkpoint" in ran.err
    assert "last_header" in asked("audit", "verify", "-o", "table").out


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE entries SET public = CAST(replace(public, '\"deny\"', '\"allow\"') AS BLOB)", "entry"),
        ("DELETE FROM entries WHERE seq = 2", ""),
        ("UPDATE persons SET document = replace(document, 'declared', 'verified') WHERE id = 'eve'", "persons"),
        ("DELETE FROM persons WHERE id = 'eve'", "persons"),
    ],
)
def test_a_change_behind_the_engines_back_is_found(asked: Shell, statement: str, place: str) -> None:
    """Exit 6, with the place; also where the log's end is too damaged to serve from."""
    tampered(asked, statement)
    ran = asked("audit", "verify")
    assert ran.code == Code.VERIFICATION_FAILED and ran.json["ok"] is False
    assert any(place in finding for finding in ran.json["findings"]) and "do not agree" in ran.err
    assert "eve" not in ran.err


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("DROP TABLE entries", "log: "),
        ("DROP TABLE heads", "heads: "),
        ("DROP TABLE tree_leaves", "tree: "),
        ("DROP TABLE orders", "registers: "),
        ("DROP TABLE erased_keys", "marks: "),
        ("DROP TABLE state", "state: "),
        ("ALTER TABLE batches RENAME COLUMN header TO head", "log: "),
    ],
)
def test_a_table_that_is_gone_is_found(asked: Shell, statement: str, place: str) -> None:
    """Exit 6 and the place, with nothing on stderr but sentences; the rest is still looked at."""
    tampered(asked, statement)
    ran = asked("audit", "verify")
    assert ran.code == Code.VERIFICATION_FAILED and ran.json["ok"] is False
    assert any(finding.startswith(place) and "changed by hand" in finding for finding in ran.json["findings"])
    assert "Traceback" not in ran.err and "do not agree" in ran.err


def test_a_damaged_file_fails_the_verification(asked: Shell) -> None:
    """Exit 6 also where SQLite itself finds the file damaged."""
    with Path(asked.database).open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 200_000)
    Path(f"{asked.database}-wal").unlink(missing_ok=True)
    ran = asked("audit", "verify")
    assert ran.code == Code.VERIFICATION_FAILED
    assert any("the database file is damaged" in finding for finding in ran.json["findings"])


def test_without_the_key_file_less_is_verified_and_the_note_says_so(asked: Shell) -> None:
    """An auditor with the database alone still finds an edited row."""
    Path(f"{asked.database}.keys").unlink()
    ran = asked("audit", "verify")
    assert ran.code == Code.OK and "Without the key file" in ran.err
    tampered(asked, "UPDATE persons SET document = replace(document, 'declared', 'verified') WHERE id = 'eve'")
    assert asked("audit", "verify").code == Code.VERIFICATION_FAILED


def test_an_older_copy_is_told_where_a_newer_epoch_is_remembered(asked: Shell) -> None:
    """A restored copy agrees with itself; the note says that this machine has seen a newer one."""
    older = Path(asked.database).read_bytes()
    assert asked("switch", "engage", "s-1", "--scope", "model=open-1", "--reason", "x").code == Code.OK
    assert "older copy" not in asked("audit", "verify").err
    Path(asked.database).write_bytes(older)
    ran = asked("audit", "verify")
    assert ran.code == Code.OK and "epoch 2 is remembered" in ran.err and "older copy" in ran.err


def test_a_database_that_is_not_there_is_unreachable_and_not_made(shell: Shell, tmp_path: Path) -> None:
    """Exit 7: verifying nothing is not a success."""
    place = tmp_path / "none.db"
    assert shell("audit", "verify", database=f"sqlite:///{place}").code == Code.UNREACHABLE
    assert not place.exists()


def test_a_file_that_is_no_database_is_unreachable(shell: Shell, tmp_path: Path) -> None:
    """Exit 7, one sentence."""
    (tmp_path / "text.db").write_text("not a database" * 100)
    ran = shell("audit", "verify", database=f"sqlite:///{tmp_path / 'text.db'}")
    assert ran.code == Code.UNREACHABLE and ran.err.count("\n") == 1


def test_a_question_is_asked_in_words(asked: Shell) -> None:
    """Words of the language may stand alone or in quotes; options still narrow them."""
    assert [entry["outcome"] for entry in asked("audit", "query", "deny tier>=4 since 7d").json["entries"]] == ["deny"]
    both = asked("audit", "query", "model:fable-5,open-1", "kind:decision", "--oldest-first").json["entries"]
    assert [entry["outcome"] for entry in both] == ["allow", "deny"]
    assert asked("audit", "query", "model:fable-5", "--outcome", "allow").json["entries"][0]["outcome"] == "allow"
    assert asked("audit", "query", "--count", "kind:decision").json == {"count": 2, "complete": True}
    assert asked("audit", "query", "subject:eve", "--count", key="auditor").json == {"count": 2, "complete": True}
    refused = asked("audit", "query", "deny", "shoe:43")
    assert refused.code == Code.USAGE and "character 6" in refused.err and "43" not in refused.err


def test_one_entry_is_shown_and_unsealed_on_the_record(asked: Shell) -> None:
    """By number or by the id of the decision; the sealed part needs the scope, and the look is an entry."""
    (deny,) = asked("audit", "query", "deny").json["entries"]
    shown = asked("audit", "show", deny["id"]).json
    assert shown == deny and asked("audit", "show", str(deny["seq"])).json == deny
    assert "body" not in shown and "eve" not in json.dumps(shown)
    assert asked("audit", "show", deny["id"], "--unseal").code == Code.USAGE
    body = asked("audit", "show", deny["id"], "--unseal", key="auditor").json["body"]
    assert body["subject"] == "eve"
    (read,) = asked("audit", "query", "kind:read").json["entries"]
    assert (read["what"], read["entry"]) == ("body", deny["seq"])
    assert asked("audit", "show", "99").code == Code.USAGE and asked("audit", "show", "what?").code == Code.USAGE


@pytest.mark.parametrize(
    "data",
    [b'{"a":"\\udc00"}', b"{", b"\xff", b"[]"],
    ids=["half a surrogate pair", "cut", "no text", "a list"],
)
@pytest.mark.parametrize("words", [("query",), ("export", "--force", "--to")], ids=["query", "export"])
def test_an_entry_that_is_damaged_ends_with_6(asked: Shell, data: bytes, words: tuple[str, ...]) -> None:
    """Whatever its bytes are, the answer is one sentence that says where to look, and no fault of ours."""
    tampered(asked, f"UPDATE entries SET public = x'{data.hex()}' WHERE seq = 2")
    place = [asked.database.with_name("entries.csv")] if words[0] == "export" else []
    ran = asked("audit", *words, *place, *(["--format", "csv"] if place else []))
    assert ran.code == Code.VERIFICATION_FAILED and "audit verify" in ran.err
    assert ran.out == "" and not any(path.exists() for path in place)


@pytest.mark.parametrize("document", ["{}", "[]", '"x"', '{"principal":{}}'])
def test_a_key_whose_row_is_damaged_is_named(asked: Shell, document: str) -> None:
    """Nobody is let in by a register that was edited, and the sentence says which row and what to do."""
    tampered(asked, f"UPDATE keys SET document = '{document}' WHERE id = (SELECT min(id) FROM keys)")
    for ran in (
        asked("audit", "query", key="auditor"),
        asked("keys", "create", "--first", "anna", "bert"),
        asked("doctor"),
    ):
        said = ran.err + ran.out
        assert ran.code != Code.OK and "the row of the key " in said and "audit verify" in said, said
    assert asked("audit", "query", key="auditor").code == Code.VERIFICATION_FAILED
    assert asked("audit", "verify").code == Code.VERIFICATION_FAILED
