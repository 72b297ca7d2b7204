"""`policy-engine facts`: stated by one person, stamped, shown on the record, never about oneself."""

from __future__ import annotations

import json

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell

VERIFIED = json.dumps({"level": "verified", "verified_on": "2026-01-01", "expires_on": None})


def test_evidence_brought_gives_access_and_names_its_verifier(shell: Shell) -> None:
    """Eve's papers are checked; the next decision knows."""
    words = (
        "facts",
        "set",
        "persons",
        "eve",
        f"nationality_evidence={VERIFIED}",
        "--method",
        "document-check",
        "--assurance",
        "IAL2",
        "--verified-at",
        "2026-01-01",
        "--expires-at",
        "2099-01-01",
        "--reference",
        "R-1",
    )
    assert shell.asked("eve").code == Code.DENY
    ran = shell(*words, key="operator")
    assert ran.code == Code.OK and ran.json["facts"] == ["nationality_evidence"] and ran.json["seq"] > 0
    evidence = shell("facts", "show", "persons", "eve", key="operator").json["facts"]["nationality_evidence"]
    assert (evidence["verifier"], evidence["method"], evidence["reference"]) == ("operator", "document-check", "R-1")
    assert (evidence["verified_at"], evidence["expires_at"]) == ("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z")
    assert shell.asked("eve").json["context"]["reasons"][0]["code"] != "evidence.declared-only"


def test_values_are_json_where_they_read_so_and_text_else(shell: Shell) -> None:
    """`NO` is Norway, `true` is true, `null` is nothing."""
    words = ("facts", "set", "tenants", "acme", "headquarters=NO", "vetted_partner=true", "list_match=null")
    assert shell(*words, key="operator").code == Code.OK
    facts = shell("facts", "show", "tenants", "acme", key="auditor").json["facts"]
    assert [facts[n]["value"] for n in ("headquarters", "vetted_partner", "list_match")] == ["NO", True, None]


def test_bad_facts_are_refused_without_their_value(shell: Shell, planted_facts: object) -> None:
    """Unknown names, values outside a vocabulary and broken JSON change nothing."""
    for fact in ("us_status=martian", "shoe_size=43", "citizenships=[", "nonsense", "=x", 'tenants={"a": 1, "a": 2}'):
        ran = shell("facts", "set", "persons", "eve", fact, key="operator")
        assert ran.code == Code.USAGE and "martian" not in ran.err and ran.out == ""
    assert shell("facts", "set", "things", "eve", "us_status=lpr", key="operator").code == Code.USAGE
    assert shell("facts", "set", "persons", "operator", "us_status=lpr", key="operator").code == Code.USAGE
    assert shell("facts", "set", "persons", "eve", "us_status=lpr").code == Code.USAGE


def test_one_fact_has_one_value(shell: Shell) -> None:
    """Two values of a name are refused, and neither is taken; nobody knows which was meant."""
    before = shell("facts", "show", "persons", "eve", key="operator").json["facts"].get("us_status")
    ran = shell("facts", "set", "persons", "eve", "us_status=none", "list_match=none", "us_status=lpr", key="operator")
    assert (ran.code, ran.out) == (Code.USAGE, "") and "names the same thing twice" in ran.err
    assert shell("facts", "show", "persons", "eve", key="operator").json["facts"].get("us_status") == before


def test_an_import_is_all_or_nothing_and_may_be_repeated(shell: Shell) -> None:
    """Two new persons come in one import; a bad line takes the good one with it."""
    good = "\n".join(json.dumps({"id": id, "us_status": "lpr", "tenants": ["acme"]}) for id in ("zoe", "yan"))
    ran = shell("facts", "import", "-", "--register", "persons", text=good, key="operator")
    assert ran.code == Code.OK and (ran.json["changed"], ran.json["unchanged"]) == (2, 0)
    again = shell("facts", "import", "-", "--register", "persons", text=good + "\n\n", key="operator")
    assert (again.json["changed"], again.json["unchanged"]) == (0, 2) and "seq" not in again.json
    mixed = (
        '{"register": "persons", "id": "ann", "us_status": "lpr"}\n{"register": "persons", "id": "bob", "us_status": 1}'
    )
    ran = shell("facts", "import", "-", text=mixed, key="operator")
    assert ran.code == Code.USAGE and "row 2" in ran.err
    assert shell("facts", "show", "persons", "ann", key="operator").code == Code.USAGE


def test_an_import_is_read_strictly_from_a_file(shell: Shell, tmp_path: object) -> None:
    """A missing file, a line that is no object, a duplicate name: refused with file and line."""
    from pathlib import Path

    folder = Path(str(tmp_path))
    ran = shell("facts", "import", folder / "missing.jsonl", key="operator")
    assert ran.code == Code.USAGE and "No such file" in ran.err
    for text in ("[]", '{"id": "a", "id": "b"}', "{", "NaN"):
        (folder / "rows.jsonl").write_text(f'{{"register": "tenants", "id": "t", "type": "lab"}}\n{text}\n')
        ran = shell("facts", "import", folder / "rows.jsonl", key="operator")
        assert ran.code == Code.USAGE and "rows.jsonl:2" in ran.err
    row = '{"register": "tenants", "id": "t", "type": "enterprise"}\n'
    (folder / "rows.jsonl").write_text(row, encoding="utf-8-sig")
    assert "byte order mark" in shell("facts", "import", folder / "rows.jsonl", key="operator").err
    (folder / "rows.jsonl").write_text(row)
    assert shell("facts", "import", folder / "rows.jsonl", key="operator").json["changed"] == 1


def test_what_expires_soon_is_listed(shell: Shell) -> None:
    """Frank's evidence lapses ten days after the sample was loaded."""
    assert shell("facts", "expiring", "--days", "5", key="operator").json == []
    (row,) = shell("facts", "expiring", key="operator").json
    assert (row["id"], row["field"], row["register"]) == ("frank", "nationality_evidence", "persons")
    assert "frank" in shell("facts", "expiring", "-o", "table", key="operator").out


def test_reading_a_persons_facts_is_recorded(shell: Shell) -> None:
    """Who looked, stands in the log."""
    assert shell("facts", "show", "persons", "alice", key="auditor").code == Code.OK
    assert len(shell("audit", "query", "--kind", "read").json["entries"]) == 1
    assert shell("facts", "show", "persons", "alice").code == Code.USAGE
    shown = shell("facts", "show", "persons", "alice", "-o", "table", key="auditor").out
    assert "citizenships" in shown and "sample-world" in shown


def test_what_is_not_there_is_not_found(shell: Shell) -> None:
    """An unknown person is an error, not an empty answer."""
    assert shell("facts", "show", "persons", "nobody", key="operator").code == Code.USAGE
