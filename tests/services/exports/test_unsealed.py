"""Exports of sealed bodies: proposed by one person, approved by another, made once by the first, and in the log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2

from policy_engine.core.instants import DAY, SECOND
from policy_engine.errors import Conflict, InputRefused, NotFound, NotPermitted, PolicyEngineError
from policy_engine.services.exports import unsealed
from policy_engine.services.exports.service import Form, Target
from policy_engine.services.permissions import LOCAL
from tests.services.exports.office import Office, denied
from tests.services.governed import START

REACHED = "sealed bodies were opened"


def made(office: Office, id: str, place: Path, who: str = "una", text: str = "", **range: int) -> Any:
    """Make an approved export and return its sheet."""
    asked = office.exports.ask(text, **range)
    return office.exports.export_unsealed(office.house[who], id, asked, None, Target(place))


def opened(place: Path) -> list[Any]:
    """Return the lines of an export of bodies."""
    return [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def asked_of(office: Office) -> Office:
    """An office in which three persons were decided about."""
    for number, name in enumerate(("alice", "bob", "carol")):
        office.house.clock.at = START + number * 60 * SECOND
        office.decide(office.evaluation(subject=name) if number else denied(office, subject=name))
    return office


def test_an_approved_export_holds_the_bodies(asked_of: Office, tmp_path: Path) -> None:
    """Each line has an entry's public members as committed, and the body that they commit to."""
    sheet = made(asked_of, asked_of.approved("kind:decision").id, tmp_path / "f")
    lines = opened(tmp_path / "f")
    assert [line["body"]["subject"] for line in lines] == ["alice", "bob", "carol"]
    assert [line["public"] for line in lines] == asked_of.publics()[1:4]
    assert (sheet.entries, sheet.unsealed, sheet.notes) == (3, True, [])


def test_rows_of_changes_are_opened(asked_of: Office, tmp_path: Path) -> None:
    """A change shows the rows it wrote."""
    made(asked_of, asked_of.approved("kind:genesis").id, tmp_path / "f")
    (line,) = opened(tmp_path / "f")
    assert {row["register"] for row in line["body"]["rows"]} == {"keys", "tenants", "releases"}


def test_an_erased_body_is_said_to_be_absent(asked_of: Office, tmp_path: Path) -> None:
    """The line of an erased decision names the entry that erased it; the others are opened; the sheet counts."""
    house = asked_of.house
    waiting = house.disposal.erasures.propose(house["quinn"], "bob", "they asked for it")
    house.approvals.approve(house["paul"], waiting.proposal.id)
    sheet = made(asked_of, asked_of.approved("kind:decision").id, tmp_path / "f")
    lines = opened(tmp_path / "f")
    assert [line["body"] and line["body"]["subject"] for line in lines] == ["alice", None, "carol"]
    assert lines[1]["absent"].startswith("erased by entry 5 ") and "absent" not in lines[0]
    assert sheet.notes[0].startswith("1 bodies are absent: erased")


def test_an_erasure_while_bodies_are_opened_is_no_fault(
    asked_of: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is erased after the export began is absent too, and not called broken."""
    house = asked_of.house
    waiting = house.disposal.erasures.propose(house["quinn"], "carol", "they asked for it")
    real = unsealed.Opener.open

    def meanwhile(self: Any, log_id: str, seq: int, public: Any) -> Any:
        if seq == 2:
            house.approvals.approve(house["paul"], waiting.proposal.id)
        return real(self, log_id, seq, public)

    monkeypatch.setattr(unsealed.Opener, "open", meanwhile)
    sheet = made(asked_of, asked_of.approved("kind:decision").id, tmp_path / "f")
    assert [line.get("absent", "")[:9] for line in opened(tmp_path / "f")] == ["", "", "erased by"]
    assert len(sheet.notes) == 1


def test_a_body_that_was_taken_away_is_not_called_erased(asked_of: Office, tmp_path: Path) -> None:
    """Without an entry that says why, an empty body is a fault: the line and the sheet say so."""
    while asked_of.house.store.index_tags(1_000):
        pass  # or the recorder would index what lies there while it is taken away
    connection = dbapi2.connect(str(tmp_path / "office" / "engine.db"))
    kept = connection.execute("SELECT sealed, tags FROM bodies WHERE seq = 2").fetchone()
    connection.execute("UPDATE bodies SET sealed = x'', tags = x'' WHERE seq = 2")
    connection.commit()
    sheet = made(asked_of, asked_of.approved("kind:decision").id, tmp_path / "f")
    assert "absent" in opened(tmp_path / "f")[1] and "run `audit verify`" in sheet.notes[0]
    connection.execute("DROP TRIGGER IF EXISTS bodies_only_emptied")
    for (name,) in connection.execute(
        "SELECT name FROM sqlite_master WHERE type='trigger' AND tbl_name='bodies'"
    ).fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("UPDATE bodies SET sealed = ?, tags = ? WHERE seq = 2", kept)
    connection.commit()
    connection.close()


def test_an_erasure_takes_the_proposals_that_name_the_subject(asked_of: Office) -> None:
    """A question about a person stands in the register of approvals; erasing the person empties it."""
    house = asked_of.house
    proposal = asked_of.approved("subject:bob")
    waiting = house.disposal.erasures.propose(house["quinn"], "bob", "they asked for it")
    house.approvals.approve(house["paul"], waiting.proposal.id)
    row = house.store.row("approvals", proposal.id)
    assert row is None or "bob" not in json.dumps(row.document)


def test_the_log_says_everything_about_it(asked_of: Office, tmp_path: Path) -> None:
    """Proposal, approval, use and the finished file are entries, in this order, and hold no question and no reason."""
    text = "kind:decision model:fable-5"
    proposal = asked_of.approved(text)
    made(asked_of, proposal.id, tmp_path / "f")
    entries = asked_of.publics()[4:]
    assert [entry["kind"] for entry in entries] == ["proposal.made", "export.approved", "export.unsealed", "read"]
    read = entries[-1]
    assert (read["what"], read["proposal"], read["entries"]) == ("export", proposal.id, 3)
    assert read["sha256"] == hashlib.sha256((tmp_path / "f").read_bytes()).hexdigest()
    assert {entry["proposal"] for entry in entries} == {proposal.id}
    said = json.dumps(entries)
    assert "an audit" not in said and text not in said
    assert json.loads((tmp_path / "f.proof.json").read_text())["made"]["approval"] == proposal.id


def test_an_approval_is_used_once(asked_of: Office, tmp_path: Path) -> None:
    """A second export with the same approval is refused, also by another key of the same person."""
    proposal = asked_of.approved("kind:decision")
    made(asked_of, proposal.id, tmp_path / "f")
    for who in ("una", "una-2"):
        with pytest.raises(Conflict, match="used for its one export"):
            made(asked_of, proposal.id, tmp_path / "g", who)
    assert not (tmp_path / "g").exists()


def test_a_failed_export_used_its_approval(asked_of: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry comes first: an export that stops while bodies are opened is proposed anew, and leaves no file."""
    proposal = asked_of.approved("kind:decision")

    def stop(*_: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("policy_engine.services.exports.service.write_opened", stop)
    with pytest.raises(InputRefused, match="Input/output"):
        made(asked_of, proposal.id, tmp_path / "f")
    assert asked_of.house.kinds()[-1] == "export.unsealed" and list(tmp_path.glob("*f*")) == [tmp_path / "office"]
    monkeypatch.undo()
    with pytest.raises(Conflict, match="used"):
        made(asked_of, proposal.id, tmp_path / "f")


def test_nothing_is_opened_before_its_entry(asked_of: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the entry of the use cannot be written, no body is opened and no file is there."""
    proposal = asked_of.approved("kind:decision")

    def refuse(change: Any) -> Any:
        raise Conflict("planted")

    monkeypatch.setattr(asked_of.house.store, "change", refuse, raising=False)
    monkeypatch.setattr("policy_engine.services.exports.service.write_opened", lambda *_: pytest.fail(REACHED))
    with pytest.raises(Conflict, match="planted"):
        made(asked_of, proposal.id, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_file_that_exists_uses_no_approval(asked_of: Office, tmp_path: Path) -> None:
    """A mistyped name costs nothing: the place is looked at before the approval is used."""
    proposal = asked_of.approved("kind:decision")
    (tmp_path / "f").write_text("mine")
    with pytest.raises(Conflict, match="exists already"):
        made(asked_of, proposal.id, tmp_path / "f")
    made(asked_of, proposal.id, tmp_path / "g")


def test_only_the_proposer_makes_it(asked_of: Office, tmp_path: Path) -> None:
    """Neither the approver nor another person with the same scopes may use somebody's approval.

    Control: policy_engine/services/exports/unsealed.py: `if proposal.proposed_by != caller.person:`
    """
    proposal = asked_of.approved()
    for who in ("vera", "paul", "reader", "bounded", "unsealer"):
        with pytest.raises(NotPermitted):
            made(asked_of, proposal.id, tmp_path / "f", who)
    with pytest.raises(NotPermitted):
        asked_of.exports.export_unsealed(LOCAL, proposal.id, asked_of.exports.ask(""), None, Target(tmp_path / "f"))
    made(asked_of, proposal.id, tmp_path / "f")


def test_the_proposer_cannot_approve(asked_of: Office) -> None:
    """Two persons, not two keys."""
    proposal = asked_of.exports.propose_unsealed(asked_of.house["una"], asked_of.exports.ask(""), Form.JSONL, "why")
    with pytest.raises(NotPermitted, match="another person"):
        asked_of.house.approvals.approve(asked_of.house["una-2"], proposal.id)


def test_nothing_else_is_exported_under_it(asked_of: Office, tmp_path: Path) -> None:
    """Another question, range or form than the approved one is refused, and the approval stays usable."""
    proposal = asked_of.approved("deny", until=START + DAY)
    wrong: list[Mapping[str, Any]] = [{"text": "allow"}, {"until": START + 2 * DAY}, {"since": START}]
    for given in wrong:
        with pytest.raises(Conflict, match="approved for another"):
            made(asked_of, proposal.id, tmp_path / "f", **given)
    with pytest.raises(Conflict, match="approved for another"):
        asked_of.exports.export_unsealed(
            asked_of.house["una"], proposal.id, asked_of.exports.ask(""), Form.CSV, Target(tmp_path / "f")
        )
    sheet = made(asked_of, proposal.id, tmp_path / "f", until=START + DAY)
    assert (sheet.question, sheet.until, sheet.entries) == ("deny", START + DAY, 1)


def test_words_of_time_mean_what_they_meant(asked_of: Office, tmp_path: Path) -> None:
    """`since 90s` was approved at one instant; a day later the export still holds what it held then."""
    proposal = asked_of.approved("kind:decision since 90s")
    asked_of.house.clock.at += DAY
    assert made(asked_of, proposal.id, tmp_path / "f", text="kind:decision since 90s").entries == 2


@pytest.mark.parametrize("step", ["waiting", "refused", "expired", "foreign", "missing"])
def test_what_is_not_approved_is_refused(asked_of: Office, tmp_path: Path, step: str) -> None:
    """Neither a waiting, refused or expired proposal, nor one of something else, nor none, opens anything.

    Control: policy_engine/services/exports/unsealed.py: `if proposal.status != APPROVED:`
    """
    house = asked_of.house
    id = "prop-0"
    if step in ("waiting", "refused"):
        id = asked_of.exports.propose_unsealed(house["una"], asked_of.exports.ask(""), Form.JSONL, "why").id
    if step == "refused":
        house.approvals.refuse(house["paul"], id, "no")
    if step == "expired":
        id = asked_of.approved().id
        house.clock.at += 8 * DAY
    if step == "foreign":
        house.switches.engage(house["quinn"], "s", {"models": ["fable-5"]}, "why")
        id = house.switches.release(house["quinn"], "s", "over").id
        house.approvals.approve(house["paul"], id)
    before = house.kinds()
    with pytest.raises((Conflict, NotFound)):
        made(asked_of, id, tmp_path / "f")
    assert house.kinds() == before and not (tmp_path / "f").exists()


@pytest.mark.parametrize("who", ["reader", "unsealer", "bounded", "paul", "writer"])
def test_proposing_needs_both_scopes_of_an_unbounded_person(office: Office, who: str) -> None:
    """Without `audit:unseal`, `audit:read`, or beyond one's tenants there is nothing to approve."""
    with pytest.raises(NotPermitted):
        office.exports.propose_unsealed(office.house[who], office.exports.ask(""), Form.JSONL, "why")


def test_a_proposal_says_why_and_in_which_form(office: Office) -> None:
    """Who approves must know what for; forms that cannot hold bodies are refused at once."""
    with pytest.raises(InputRefused, match="say why"):
        office.exports.propose_unsealed(office.house["una"], office.exports.ask(""), Form.JSONL, " ")
    with pytest.raises(InputRefused, match="jsonl"):
        office.exports.propose_unsealed(office.house["una"], office.exports.ask(""), Form.CSV, "why")


def test_two_at_once_are_one(asked_of: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that use one approval at the same moment, the store lets one through."""
    proposal = asked_of.approved("kind:decision")
    unsealing = asked_of.exports._unsealing
    real = unsealed._require_usable

    def meanwhile(found: Any, at: int) -> None:
        monkeypatch.setattr(unsealed, "_require_usable", real)
        made(asked_of, proposal.id, tmp_path / "first")
        real(found, at)

    monkeypatch.setattr(unsealed, "_require_usable", meanwhile)
    with pytest.raises(PolicyEngineError):
        unsealing.begin(asked_of.house["una"], proposal.id, None, None)
    assert asked_of.house.kinds().count("export.unsealed") == 1
