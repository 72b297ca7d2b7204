"""`policy-engine doctor`: looks at everything, changes nothing, and exits 1 when something is broken."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path

import pysqlite3
import pytest

from policy_engine.cli import doctor
from policy_engine.cli.exits import Code
from tests.cli.conftest import POLICIES, Ran, Shell


def health(ran: Ran) -> dict[str, str]:
    """Return what each check found."""
    return {check["name"]: check["health"] for check in ran.json["checks"]}


def found(ran: Ran, name: str) -> str:
    """Return the sentence of one check."""
    return next(str(check["found"]) for check in ran.json["checks"] if check["name"] == name)


def test_a_healthy_sample_is_healthy_and_called_a_sample(shell: Shell) -> None:
    """Every part is there; that it is a sample is noted, and no personal fact is shown."""
    ran = shell("doctor")
    assert ran.code == Code.OK and ran.json["ok"] is True
    states = health(ran)
    assert {states.pop(name) for name in ("sample", "witnesses", "epoch file", "drill")} == {"note"}
    assert set(states.values()) == {"ok"}
    assert set(states) == {
        "python", "settings", "sqlite", "casbin", "policies folder", "database", "key file", "active release",
        "approvers", "log", "log key", "tree", "replicas", "cells", "suspensions",
    }  # fmt: skip
    assert "1 entries" in found(ran, "log") and "audit verify" in found(ran, "log") and "alice" not in ran.out
    assert "policy-engine.local/" in found(ran, "tree") and "0 batches pending" in found(ran, "tree")
    assert "note" in shell("doctor", "-o", "table").out


def test_a_misspelt_setting_is_named_and_its_value_is_not_shown(shell: Shell) -> None:
    """Nothing reads it, so whoever wrote it goes without what it should bring."""
    others = {"guard_issuer": "x", "gateway_location": "x", "probe_credential": "x", "url": "https://engine.example"}
    assert health(shell("doctor", **others))["settings"] == "ok"
    ran = shell("doctor", epochfile="/secret/place", xyz="1")
    assert health(ran)["settings"] == "note" and ran.code == Code.OK
    said = found(ran, "settings")
    assert "POLICY_ENGINE_EPOCHFILE (is it POLICY_ENGINE_EPOCH_FILE?), POLICY_ENGINE_XYZ;" in said
    assert "secret" not in ran.out


def test_without_a_database_nothing_is_made(shell: Shell, tmp_path: Path) -> None:
    """The first start makes it, not the doctor."""
    place = tmp_path / "none.db"
    ran = shell("doctor", database=f"sqlite:///{place}")
    assert ran.code == Code.OK and health(ran)["database"] == "note" and not place.exists()


def test_a_key_file_that_is_missing_or_open_to_others_is_broken(shell: Shell) -> None:
    """Each says what to do."""
    keys = Path(f"{shell.database}.keys")
    keys.chmod(0o644)
    ran = shell("doctor")
    assert ran.code == Code.INTERNAL and "0600" in found(ran, "key file") and "1 of" in ran.err
    keys.unlink()
    assert "restore" in found(shell("doctor"), "key file")


def test_the_cells_that_are_heeded_are_named(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of cells that cannot be read would refuse the start, so it is broken here."""
    assert found(shell("doctor"), "cells") == "none other is heeded"
    place = tmp_path / "cells.toml"
    place.write_text("[[cell]]\n")
    ran = shell("doctor", cells=place)
    assert ran.code == Code.INTERNAL and health(ran)["cells"] == "broken"
    secret = tmp_path / "east.key"
    secret.write_text("pe_" + "k" * 43)
    secret.chmod(0o600)
    place.write_text('[[cell]]\nname = "east"\nurl = "https://east.example"\nkey_file = "east.key"\n')
    assert found(shell("doctor", cells=place), "cells").startswith("east; from tier 4 on")


def test_a_folder_that_differs_or_does_not_load_is_broken(shell: Shell, tmp_path: Path) -> None:
    """`serve` would refuse to start on it."""
    folder = Path(shutil.copytree(POLICIES, tmp_path / "policies"))
    pack = folder / "packs" / "access.toml"
    pack.write_text(pack.read_text() + "\n# changed\n")
    ran = shell("doctor", policies=folder)
    assert ran.code == Code.INTERNAL and "publish" in found(ran, "active release")
    pack.write_text("[[rule]]\n")
    ran = shell("doctor", policies=folder)
    assert health(ran)["policies folder"] == "broken" and health(ran)["active release"] == "ok"


def test_approvers_are_counted(tmp_path: Path) -> None:
    """Without persons nothing that loosens could be approved; with one it could not either."""
    empty = Shell(tmp_path / "own.db", {})
    folder = shutil.copytree(POLICIES, tmp_path / "policies", ignore=shutil.ignore_patterns("world"))
    assert empty("models", "list", policies=folder).code == Code.OK
    ran = empty("doctor", policies=folder)
    assert ran.code == Code.OK and "--first" in found(ran, "approvers") and health(ran)["sample"] == "ok"
    assert empty("keys", "create", "--first", "olga", "paul", policies=folder).code == Code.OK
    assert "2 persons" in found(empty("doctor", policies=folder), "approvers")
    key = {"principal": {"id": "a", "kind": "person"}, "scopes": ["approve"], "tenants": None}
    assert doctor._approves({**key, "revoked_at": None, "expires_at": None}, 0)
    assert not doctor._approves({**key, "revoked_at": "2026-01-01T00:00:00Z", "expires_at": None}, 0)
    assert not doctor._approves({**key, "revoked_at": None, "expires_at": "1970-01-01T00:00:00Z"}, 0)
    assert not doctor._approves({**key, "revoked_at": None, "expires_at": None, "token": {"issuer": "i"}}, 0)


def test_a_damaged_end_of_the_log_is_broken(shell: Shell) -> None:
    """The engine would not open it; the doctor says what to run."""
    connection = pysqlite3.connect(str(shell.database))
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f'DROP TRIGGER "{name}"')
    connection.execute("DELETE FROM entries")
    connection.commit()
    connection.close()
    ran = shell("doctor")
    assert ran.code == Code.INTERNAL and "audit verify" in found(ran, "log") and health(ran)["log"] == "broken"


def test_a_file_that_is_no_database_is_broken(shell: Shell, tmp_path: Path) -> None:
    """One sentence, no traceback."""
    (tmp_path / "text.db").write_text("not a database" * 100)
    ran = shell("doctor", database=f"sqlite:///{tmp_path / 'text.db'}")
    assert ran.code == Code.INTERNAL and health(ran)["database"] == "broken"


@pytest.mark.parametrize(
    ("change", "said"),
    [("UPDATE alembic_version SET version_num = '9999'", "newer program"), (None, "another program's database")],
)
def test_a_database_that_is_not_this_programs_is_looked_at_by_no_command(
    shell: Shell, tmp_path: Path, change: str | None, said: str
) -> None:
    """What the engine refuses to open is neither healthy nor verified, and is not written anew: it is left alone."""
    place = shell.database if change else tmp_path / "theirs.db"
    with closing(pysqlite3.connect(str(place))) as connection:
        connection.execute(change or "CREATE TABLE theirs (a)")
        connection.commit()
    before = place.read_bytes()
    ran = shell("doctor", database=f"sqlite:///{place}")
    assert ran.code == Code.INTERNAL and health(ran)["database"] == "broken" and said in found(ran, "database")
    for words in ("audit verify", "audit rows", "audit erase --scrub"):
        ran = shell(*words.split(), database=f"sqlite:///{place}")
        assert (ran.code, ran.out) == (Code.REFUSED, "") and said in ran.err, words
    assert place.read_bytes() == before


def test_the_last_drill_is_named_and_an_old_one_noted(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """None yet is a note; one that held is well for 31 days; then it is a note again."""
    assert health(shell("doctor"))["drill"] == "note" and "switch drill" in found(shell("doctor"), "drill")
    ran = shell("switch", "drill", key="operator")
    assert ran.code == Code.OK and {row["status"] for row in ran.json} == {"held", "skipped"}
    assert health(shell("doctor"))["drill"] == "ok" and "10 kinds held" in found(shell("doctor"), "drill")
    now = time.time_ns()
    for days, expected in ((31, "ok"), (32, "note")):
        later = now + days * 86_400_000_000_000 + 10**9
        monkeypatch.setattr("policy_engine.cli.doctor.time.time_ns", lambda later=later: later)
        assert health(shell("doctor"))["drill"] == expected


def test_a_drill_that_did_not_hold_is_broken(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command exits 1 and doctor goes on saying so until a drill holds."""
    with monkeypatch.context() as patched:
        patched.setattr("policy_engine.core.switches.covers", lambda switch, question: False)
        ran = shell("switch", "drill", key="operator")
        assert ran.code == Code.INTERNAL and "incident" in ran.err
    assert shell("doctor").code == Code.INTERNAL and "NOT held" in found(shell("doctor"), "drill")
    assert shell("switch", "drill", key="operator").code == Code.OK
    assert health(shell("doctor"))["drill"] == "ok"


def test_an_overdue_suspension_is_named(shell: Shell, tmp_path: Path) -> None:
    """A directive whose re-confirmation is overdue is a note with its id; amended with a later date it is well."""
    file = tmp_path / "letter.toml"
    text = 'kind = "directive"\nid = "letter-9"\nmodels = ["fable-5"]\nblocks = ["foreign_person"]\nreconfirm_by = '
    file.write_text(f"{text}2026-01-01T00:00:00Z\n")
    assert shell("order", "receive", file, key="operator").code == Code.OK
    assert health(shell("doctor"))["suspensions"] == "note" and "letter-9" in found(shell("doctor"), "suspensions")
    file.write_text(f"{text}2199-01-01T00:00:00Z\n")
    assert shell("order", "amend", "letter-9", file, key="operator").code == Code.OK
    assert health(shell("doctor"))["suspensions"] == "ok"
