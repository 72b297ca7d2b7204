"""The sample world: what it holds, how its dates are read, and what is refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.decision import PrincipalKind
from policy_engine.core.factparse import parse_person, parse_tenant, split_provenance
from policy_engine.core.facts import EvidenceLevel
from policy_engine.core.instants import DAY, format_instant, parse_instant
from policy_engine.errors import LoadRefused
from policy_engine.filling import has_world
from policy_engine.settings import Settings
from policy_engine.world import SOURCE, load_world

WORLD = Path(__file__).parent.parent / "policies" / "world"
AT = parse_instant("2026-06-10T12:00:00Z")

TENANT = {"id": "t", "type": "enterprise", "incorporated_in": "US"}
PERSON = {"id": "p", "us_status": "citizen", "tenants": ["t"]}


def folder(tmp_path: Path, **files: list[Any]) -> Path:
    """Write a world of the given lines, texts as they are, and return its folder."""
    lines = {"persons": [PERSON], "tenants": [TENANT], **files}
    for name, rows in lines.items():
        text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    return tmp_path


def test_the_sample_world_has_twenty_persons_and_the_six_tenants() -> None:
    """The demo tells its story with twenty persons in six named tenants."""
    world = load_world(WORLD, AT)
    assert len(world.persons) == 20
    assert set(world.tenants) == {"acme", "acme-de", "annexco", "lab", "ministry-uk", "shellco"}
    assert set(world.persons) >= {"alice", "mina", "dana", "bruno", "ines", "chen", "greg", "eve"}


def test_sample_documents_are_read_back_by_the_strict_readers_of_the_registers() -> None:
    """What the world writes, the registers can read."""
    world = load_world(WORLD, AT)
    for id, document in world.persons.items():
        values, _ = split_provenance(document, id)
        person = parse_person(id, values)
        assert person.tenants <= set(world.tenants)
    for id, document in world.tenants.items():
        values, _ = split_provenance(document, id)
        assert parse_tenant(id, values).incorporated_in is not None


def test_relative_dates_count_from_the_day_of_loading() -> None:
    """Evidence of `-30d` is thirty days old whenever the sample is loaded."""
    for at in (AT, AT + 400 * DAY):
        document = load_world(WORLD, at).persons["alice"]
        values, provenance = split_provenance(document, "alice")
        evidence = parse_person("alice", values).evidence
        assert evidence.level is EvidenceLevel.VERIFIED
        assert evidence.verified_on == at // DAY * DAY - 30 * DAY
        assert evidence.expires_on == at // DAY * DAY + 335 * DAY
        assert provenance["us_status"].verified_at == at - 30 * DAY


def test_every_sample_fact_names_the_world_as_its_source() -> None:
    """No sample fact can be taken for a checked one."""
    world = load_world(WORLD, AT)
    for document in (*world.persons.values(), *world.tenants.values()):
        assert {fact["source"] for fact in document["facts"].values()} == {SOURCE}
        assert {fact["verifier"] for fact in document["facts"].values()} == {SOURCE}


def test_sample_keys_come_in_the_order_in_which_they_are_printed() -> None:
    """First the enforcement point's, then an operator's, an approver's and an auditor's."""
    keys = load_world(WORLD, AT).keys
    assert [key.label for key in keys] == ["enforcement point", "operator", "approver", "auditor"]
    assert [key.kind for key in keys] == [PrincipalKind.SERVICE] + [PrincipalKind.PERSON] * 3
    assert set(keys[0].supplies) == {"location", "serving_region"} and keys[0].scopes == ("decide",)
    assert sum("approve" in key.scopes for key in keys) >= 2
    assert all(key.kind is PrincipalKind.PERSON for key in keys if "approve" in key.scopes)


def test_a_calendar_date_stays_what_it_is(tmp_path: Path) -> None:
    """Only the `-30d` form moves."""
    person = {**PERSON, "citizenships": [{"country": "US", "acquired": "2019-09-17", "current": True}]}
    document = load_world(folder(tmp_path, persons=[person]), AT).persons["p"]
    assert document["facts"]["citizenships"]["value"][0]["acquired"] == "2019-09-17"


def test_provenance_dates_may_be_relative_absolute_or_absent(tmp_path: Path) -> None:
    """The provenance of a line is stamped on each of its facts."""
    person = {**PERSON, "provenance": {"method": "m", "verified_at": "2026-01-01", "expires_at": "+1d"}}
    fact = load_world(folder(tmp_path, persons=[person]), AT).persons["p"]["facts"]["us_status"]
    assert fact["verified_at"] == "2026-01-01T00:00:00Z"
    assert fact["expires_at"] == format_instant(AT + DAY)
    assert fact["method"] == "m" and fact["assurance"] is None


def test_a_world_without_keys_has_none(tmp_path: Path) -> None:
    """Only persons and tenants must be there."""
    assert load_world(folder(tmp_path), AT).keys == ()


def test_shares_are_stored_as_exact_texts(tmp_path: Path) -> None:
    """A share of 49.9 percent has one canonical encoding."""
    tenant = {**TENANT, "owners": [{"name": "a", "country": "US", "percent": 49.9, "list": None}]}
    document = load_world(folder(tmp_path, tenants=[tenant]), AT).tenants["t"]
    assert document["facts"]["owners"]["value"][0]["percent"] == "49.9"


@pytest.mark.parametrize(
    ("files", "where"),
    [
        ({"persons": [PERSON, PERSON]}, "persons.jsonl:2"),
        ({"persons": ["", '{"id": "p", "id": "p"}']}, "persons.jsonl:2"),
        ({"persons": ["not json"]}, "persons.jsonl:1"),
        ({"persons": ["[]"]}, "persons.jsonl:1"),
        ({"persons": ["[" * 100_000]}, "persons.jsonl:1"),
        ({"persons": ['{"id": "p", "lab_employee": NaN}']}, "persons.jsonl:1"),
        ({"persons": [{**PERSON, "us_status": "american"}]}, "persons.jsonl:1"),
        ({"persons": [{**PERSON, "shoe_size": 43}]}, "persons.jsonl:1"),
        ({"persons": [{**PERSON, "provenance": {"source": "me"}}]}, "persons.jsonl:1"),
        ({"persons": [{**PERSON, "provenance": {"verified_at": "soon"}}]}, "persons.jsonl:1"),
        ({"persons": [{"us_status": "citizen"}]}, "persons.jsonl:1"),
        ({"persons": [{**PERSON, "tenants": ["elsewhere"]}]}, "persons.jsonl"),
        ({"tenants": [{**TENANT, "type": "club"}]}, "tenants.jsonl:1"),
        ({"keys": [{"label": "k", "principal": {"id": "k", "kind": "robot"}, "scopes": []}]}, "keys.jsonl:1"),
        ({"keys": [{"label": "k", "principal": {"id": "k", "kind": "person"}}]}, "keys.jsonl:1"),
        ({"keys": [{"key": "pe_x"}]}, "keys.jsonl:1"),
    ],
)
def test_a_bad_line_is_refused_with_its_file_and_line(tmp_path: Path, files: dict[str, list[Any]], where: str) -> None:
    """A world is loaded whole or not at all."""
    with pytest.raises(LoadRefused) as refused:
        load_world(folder(tmp_path, **files), AT)
    assert refused.value.where is not None and refused.value.where.endswith(where)
    assert "american" not in str(refused.value) and "elsewhere" not in str(refused.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    """A world folder that cannot be read is no empty world."""
    with pytest.raises(LoadRefused):
        load_world(tmp_path, AT)
    folder(tmp_path)
    (tmp_path / "persons.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(LoadRefused):
        load_world(tmp_path, AT)


def test_a_key_may_be_bounded_to_tenants(tmp_path: Path) -> None:
    """`tenants: null` means all; a list bounds the key."""
    key = {"label": "k", "principal": {"id": "k", "kind": "person"}, "scopes": ["decide"], "tenants": ["t"]}
    assert load_world(folder(tmp_path, keys=[key]), AT).keys[0].tenants == ("t",)


def test_a_policies_folder_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a world is in it cannot be known then; that is a refusal which names it, and no fault of ours."""

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", closed)
    with pytest.raises(LoadRefused, match=r"the folder cannot be read \(PermissionError\)"):
        has_world(Settings(policies=tmp_path))
