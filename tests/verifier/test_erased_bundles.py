"""Logs out of which something was erased and pruned, on both stores: the bundle verifies, and says by whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.services.bundle import write_bundle
from policy_engine.services.bundletexts import OpenedTexts
from policy_engine_verify.formats import key
from policy_engine_verify.report import Given, Report
from tests.services.erasedsamples import Office, ten_years
from tests.store.conftest import KINDS
from tests.store.samples import VAULT
from tests.store.trees import SIGNER, retire, sequencer
from tests.verifier.test_honest import checked


@pytest.fixture(params=sorted(KINDS))
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    """Offer an office on each store."""
    made = KINDS[request.param](tmp_path)
    opened = Office(made)
    yield opened
    opened.close()
    made.close()
    made.drop()


def history(office: Office) -> dict[str, set[tuple[str, int]]]:
    """Decide, erase, come back, prune; return places of decisions by what became of their bodies."""
    office.person("ada", "acme")
    office.person("ben", "acme", "lab")
    pruned = {office.decide("ben") for _ in range(3)}
    office.clock.at += ten_years()
    erased = {office.decide("ada") for _ in range(4)} | {office.decide("ada", "lab")}
    kept = {office.decide("ben", "lab"), office.decide("ben")}
    office.tick()
    office.erase("ada")
    office.tick()
    kept |= {office.decide("ada"), office.decide("ben")}
    office.tick()
    office.prune(office.clock.at - ten_years() + 10_000_000)
    office.tick()
    kept.add(office.decide("ada"))
    return {"pruned": pruned, "erased": erased, "kept": kept}


def bundle(office: Office, target: Path, **wanted: object) -> Report:
    """Return what the verifier finds in a bundle of an office."""
    sequencer(office.database).integrate()
    retire(office.database)
    with office.store.view() as view:
        write_bundle(view, target, bodies=OpenedTexts.over(VAULT, view), **wanted)  # type: ignore[arg-type]  # since
    return checked(target, Given(key(str(SIGNER.key))))


def test_what_is_gone_is_accounted_for(office: Office, tmp_path: Path) -> None:
    """Nothing is missing; bodies that were erased and pruned are told apart, and those that came later are there."""
    places = history(office)
    report = bundle(office, tmp_path / "b", sealed=True)
    assert report.findings == []
    gone = {name: count for name, count in report.counts.items() if name.startswith("bodies ")}
    assert sum(count for name, count in gone.items() if "pruned" in name) >= len(places["pruned"])
    assert sum(count for name, count in gone.items() if "erased" in name) >= len(places["erased"])
    opened = {
        (path.stem, line["seq"]): line["texts"]
        for path in (tmp_path / "b" / "bodies").iterdir()
        for line in map(json.loads, path.read_text().splitlines())
    }
    assert all(opened[place] != [None] for place in places["kept"])
    assert all(opened[place] == [None] for place in places["erased"] | places["pruned"])


def test_a_period_shows_who_erased_its_bodies_later(office: Office, tmp_path: Path) -> None:
    """A bundle of the time before an erasure also shows the entry that erased, so that nothing seems missing."""
    office.person("ada", "acme")
    office.decide("ada")
    office.tick()
    until = office.clock.at
    office.tick()
    office.decide("ben")
    office.erase("ada")
    report = bundle(office, tmp_path / "b", sealed=True, until=until)
    assert (report.findings, report.partial) == ([], True)
    assert any(name.startswith("bodies erased by entry") for name in report.counts)


def test_a_body_that_was_merely_deleted_is_missing(office: Office, tmp_path: Path) -> None:
    """Beside what was erased lawfully, a body that somebody took out of the bundle is found."""
    places = history(office)
    log, seq = min(places["kept"])
    assert bundle(office, tmp_path / "b", sealed=True).findings == []
    for folder in ("sealed", "bodies"):
        path = tmp_path / "b" / folder / f"{log}.jsonl"
        lines = [line for line in path.read_bytes().splitlines() if json.loads(line)["seq"] != seq]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
    found = checked(tmp_path / "b", Given(key(str(SIGNER.key)))).findings
    assert {("the body is missing, and no entry says why", place.log, place.seq) for _, place in found} == {
        (message, place.log, place.seq) for message, place in found
    }
    assert {(place.log, place.seq) for _, place in found} == {(log, seq)}


def test_two_writers_at_once(office: Office, tmp_path: Path) -> None:
    """Two processes that decide in turn make one tree, whole, with one log or two."""
    other = office.again()
    for number in range(6):
        (office, other)[number % 2].decide(f"person-{number % 3}")
        office.tick()
    other.close()
    report = bundle(office, tmp_path / "b", sealed=True)
    assert (report.findings, report.counts["entries"]) == ([], sum(tip.entries for tip in report.tips.values()))
    assert len(report.tips) == (1 if office.store.one_log else 2)
