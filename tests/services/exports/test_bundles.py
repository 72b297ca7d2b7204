"""Bundles as exports: who may have one, what the separate verifier says of it, and that it is whole or not there."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.instants import DAY
from policy_engine.errors import Conflict, InputRefused, NotPermitted, VerificationFailed
from policy_engine.ledger.note import Ed25519Signer
from policy_engine.services.exports.bundles import releases_of
from policy_engine.services.exports.service import Form, Target
from policy_engine.services.sequencer import Sequencer
from policy_engine_verify import cli
from tests.services.exports.office import Office, denied

SIGNER = Ed25519Signer("example.org/engine/log", bytes(range(32)))


def integrate(office: Office) -> None:
    """Take what is pending into the tree, and sign it."""
    Sequencer(office.house.store, lambda state: SIGNER).integrate()


def verified(capsys: pytest.CaptureFixture[str], place: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the answer of the separate verifier."""
    code = cli.main([str(place), "--key", str(SIGNER.key), *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def sheet_of(place: Path) -> Any:
    """Return the proof sheet beside a bundle."""
    return json.loads(place.with_name(f"{place.name}.proof.json").read_text(encoding="utf-8"))


@pytest.fixture
def signed(office: Office) -> Office:
    """An office whose log holds five decisions under a checkpoint, and one behind it."""
    for number in range(5):
        office.decide(office.evaluation() if number else denied(office))
    integrate(office)
    office.decide(office.evaluation())
    return office


@pytest.mark.parametrize("name", ["bundle.zip", "bundle"])
def test_the_verifier_accepts_what_is_exported(
    signed: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A bundle verifies, as a .zip and as a folder, and its sheet names its hash, its tree and what is not in it."""
    place = tmp_path / "out" / name
    place.parent.mkdir()
    signed.export(place, Form.BUNDLE)
    code, found = verified(capsys, place)
    assert (code, found["findings"], found["counts"]["entries"]) == (0, [], 6)
    sheet = sheet_of(place)
    assert (sheet["entries"], sheet["complete"], sheet["tree"]["size"] > 0) == (6, False, True)
    assert sorted(path.name for path in place.parent.iterdir()) == [name, f"{name}.proof.json", f"{name}.proof.txt"]
    if place.is_file():
        assert sheet["file"]["sha256"] == hashlib.sha256(place.read_bytes()).hexdigest()
    integrate(signed)
    signed.export(place, Form.BUNDLE, force=True)
    assert (sheet_of(place)["entries"], sheet_of(place)["complete"]) == (7, True)


def test_the_hash_of_a_folder_is_that_of_its_list(signed: Office, tmp_path: Path) -> None:
    """`sha256sum` of the files, in order, hashed once more, is the sheet's hash: a changed file changes it."""
    signed.export(tmp_path / "b", Form.BUNDLE)
    files = sorted(
        path.relative_to(tmp_path / "b").as_posix() for path in (tmp_path / "b").rglob("*") if path.is_file()
    )
    lines = [f"{hashlib.sha256((tmp_path / 'b' / name).read_bytes()).hexdigest()}  {name}\n" for name in files]
    assert sheet_of(tmp_path / "b")["file"]["sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_an_approved_bundle_can_be_replayed(signed: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With two persons' word the bundle holds bodies and releases, and the log says which file it was."""
    asked = signed.exports.ask("")
    id = signed.exports.propose_unsealed(signed.house["una"], asked, Form.BUNDLE, "an audit").id
    signed.house.approvals.approve(signed.house["paul"], id)
    integrate(signed)
    sheet = signed.exports.export_unsealed(signed.house["una"], id, asked, None, Target(tmp_path / "b.zip"))
    code, found = verified(capsys, tmp_path / "b.zip")
    assert (code, found["findings"]) == (0, [])
    assert found["counts"]["opened texts"] > 6 and found["counts"]["ciphertexts"] > 6
    assert (sheet.unsealed, sheet.approval) == (True, id)
    assert signed.publics()[-1]["sha256"] == hashlib.sha256((tmp_path / "b.zip").read_bytes()).hexdigest()
    with pytest.raises(Conflict, match="used"):
        signed.exports.export_unsealed(signed.house["una"], id, asked, None, Target(tmp_path / "c.zip"))
    assert not (tmp_path / "c.zip").exists()


def test_a_bundle_is_of_a_time_of_the_whole_log(signed: Office, tmp_path: Path) -> None:
    """A question, a key bounded to tenants, and one without the scope get none, and nothing is written."""
    with pytest.raises(InputRefused, match="leave the question out"):
        signed.export(tmp_path / "b", Form.BUNDLE, "deny")
    with pytest.raises(InputRefused, match="leave the question out"):
        signed.exports.propose_unsealed(signed.house["una"], signed.exports.ask("deny"), Form.BUNDLE, "why")
    for who in ("bounded", "writer"):
        with pytest.raises(NotPermitted):
            signed.export(tmp_path / "b", Form.BUNDLE, who=who)
    assert [path.name for path in tmp_path.iterdir()] == ["office"]


def test_a_period_is_partial_and_says_so(signed: Office, tmp_path: Path) -> None:
    """The sheet says how many of the entries a bundle of a period shows."""
    last = signed.publics()[-1]["at"]
    sheet = signed.export(tmp_path / "b.zip", Form.BUNDLE, until=last)
    assert f"of {6:,} entries" in sheet.notes[0] and sheet.until == last


def test_a_range_is_final_when_the_tree_has_all_of_it(signed: Office, tmp_path: Path) -> None:
    """While an entry of the range waits for the tree, a bundle of it is neither complete nor final; then it is both."""
    until = signed.publics()[-1]["at"] + 1
    signed.house.clock.at = until + 1
    signed.decide(signed.evaluation())
    sheet = signed.export(tmp_path / "a.zip", Form.BUNDLE, until=until)
    assert (sheet.complete, sheet.final, sheet.entries) == (False, False, 6)
    integrate(signed)
    sheet = signed.export(tmp_path / "b.zip", Form.BUNDLE, until=until)
    assert (sheet.complete, sheet.final, sheet.entries) == (True, True, 7)


@pytest.mark.parametrize("name", ["b.zip", "b"])
def test_nothing_is_replaced_or_left_behind(
    signed: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What is there stays, and a bundle that fails on its way leaves nothing."""
    folder = tmp_path / "out"
    folder.mkdir()
    for taken in (name, f"{name}.proof.json"):
        (folder / taken).write_text("mine")
        with pytest.raises(Conflict, match="exists already"):
            signed.export(folder / name, Form.BUNDLE)
        assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(taken, "mine")]
        (folder / taken).unlink()

    def fail(part: Path) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("policy_engine.services.exports.service.measured", fail)
    with pytest.raises(InputRefused, match="No space left"):
        signed.export(folder / name, Form.BUNDLE)
    assert list(folder.iterdir()) == []


def test_without_a_checkpoint_there_is_no_bundle(office: Office, tmp_path: Path) -> None:
    """Nothing was signed: one sentence, and nothing is written."""
    with pytest.raises(InputRefused, match="nothing of this log was signed"):
        office.export(tmp_path / "b.zip", Form.BUNDLE)
    assert [path.name for path in tmp_path.iterdir()] == ["office"]


def erase(office: Office) -> None:
    """Erase a subject, by two persons."""
    id = office.house.disposal.erasures.propose(office.house["quinn"], "alice", "case 7").proposal.id
    office.house.approvals.approve(office.house["paul"], id)


def prune(office: Office) -> None:
    """Prune the bodies of what was decided so far, by two persons, three days later."""
    before = office.publics()[-1]["at"] + 1
    office.house.clock.at += 3 * DAY
    id = office.house.disposal.retention.propose(office.house["rita"], before, "old").proposal.id
    office.house.approvals.approve(office.house["paul"], id)


def bundle_proposed(office: Office) -> str:
    """Return the id of an approved proposal for a bundle with bodies."""
    id = office.exports.propose_unsealed(office.house["una"], office.exports.ask(""), Form.BUNDLE, "an audit").id
    office.house.approvals.approve(office.house["paul"], id)
    return id


@pytest.mark.parametrize("take", [erase, prune])
@pytest.mark.parametrize("integrating", [False, True], ids=["elsewhere", "here"])
def test_bodies_that_went_since_the_checkpoint_are_no_false_alarm(
    signed: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str], take: Any, integrating: bool
) -> None:
    """Where this process integrates, it does so first; else the bundle waits, unmade, and its approval with it."""
    integrate(signed)
    take(signed)
    id = bundle_proposed(signed)
    una, target = signed.house["una"], Target(tmp_path / "b.zip")
    if integrating:
        signed.exports.integrate = partial(integrate, signed)
    else:
        before = signed.house.kinds()
        with pytest.raises(Conflict, match="not in the tree yet; try again in a second"):
            signed.exports.export_unsealed(una, id, None, None, target)
        assert signed.house.kinds() == before and [path.name for path in tmp_path.iterdir()] == ["office"]
        integrate(signed)
    signed.exports.export_unsealed(una, id, None, None, target)
    code, found = verified(capsys, tmp_path / "b.zip")
    assert (code, found["findings"]) == (0, [])
    assert signed.exports.export(una, signed.exports.ask(""), Form.BUNDLE, Target(tmp_path / "public")).entries > 6


def test_what_goes_while_a_bundle_is_made_is_no_false_alarm(
    signed: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look, the entries and the bodies are of one moment: an erasure after the look is wholly behind the bundle."""
    signed.exports.integrate = partial(integrate, signed)
    id = bundle_proposed(signed)

    def meanwhile(store: Any, releases: Any) -> Any:
        erase(signed)
        return releases_of(store, releases)

    monkeypatch.setattr("policy_engine.services.exports.service.releases_of", meanwhile)
    signed.exports.export_unsealed(signed.house["una"], id, None, None, Target(tmp_path / "b.zip"))
    code, found = verified(capsys, tmp_path / "b.zip")
    assert (code, found["findings"]) == (0, [])


def test_a_tree_that_cannot_grow_is_exported_as_it_is(
    signed: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evidence is wanted most when the sequencer refuses to sign: what was signed before still goes out."""

    def refuse() -> None:
        raise VerificationFailed("a fork")

    id = bundle_proposed(signed)
    integrate(signed)
    signed.exports.integrate = refuse
    signed.exports.export_unsealed(signed.house["una"], id, None, None, Target(tmp_path / "b.zip"))
    assert verified(capsys, tmp_path / "b.zip")[0] == 0


def test_without_a_checkpoint_no_approval_is_used(office: Office, tmp_path: Path) -> None:
    """Nothing was signed: the proposal stays approved until something is."""
    office.decide(office.evaluation())
    id = bundle_proposed(office)
    with pytest.raises(InputRefused, match="nothing of this log was signed"):
        office.exports.export_unsealed(office.house["una"], id, None, None, Target(tmp_path / "b.zip"))
    integrate(office)
    office.exports.export_unsealed(office.house["una"], id, None, None, Target(tmp_path / "b.zip"))
