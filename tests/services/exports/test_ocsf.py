"""OCSF events: they have what release 1.8 requires, only attributes it knows, and nobody's name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from policy_engine.core.decision import Reason
from policy_engine.services.exports.ocsf import event_of
from policy_engine.services.exports.service import Form
from tests.services.exports.office import Office, changed, denied, public_parts

FACTS: dict[str, Any] = json.loads(Path(__file__).with_name("ocsf-1.8-api-activity.json").read_text(encoding="utf-8"))


def faults(event: dict[str, Any]) -> Iterator[str]:
    """Yield what the schema objects to in an event."""
    yield from _members("event", event, {"required": FACTS["required"], "allowed": FACTS["allowed"]})
    for name, known in FACTS["enums"].items():
        if name in event and event[name] not in known:
            yield f"{name} is {event[name]}"
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        yield "type_uid is not made of class and activity"
    yield from _objects(event)


def _objects(value: dict[str, Any]) -> Iterator[str]:
    for name, member in value.items():
        for item in member if isinstance(member, list) else [member]:
            if name in FACTS["objects"] and name != "unmapped":
                yield from _members(name, item, FACTS["objects"][name])
            if isinstance(item, dict) and name != "unmapped":
                yield from _objects(item)


def _members(name: str, value: Any, facts: dict[str, Any]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{name} is no object"
        return
    yield from (f"{name} lacks {member}" for member in facts.get("required", ()) if member not in value)
    yield from (f"{name} has {member}" for member in value if member not in facts["allowed"])
    if facts.get("at_least_one") and value.keys().isdisjoint(facts["at_least_one"]):
        yield f"{name} has none of {', '.join(facts['at_least_one'])}"


def exported(office: Office, folder: Path) -> list[dict[str, Any]]:
    """Return the events of everything in the log."""
    office.export(folder / "events.jsonl", Form.OCSF)
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_kind_of_entry_is_an_event_of_the_schema(office: Office, tmp_path: Path) -> None:
    """Decisions, changes, proposals and reads: each event has what is required, and no attribute of our own making."""
    house = office.house
    office.decide(office.evaluation(), denied(office, model=None, tier=None), denied(office, "rules.error", None))
    house.switches.engage(house["quinn"], "s", {"models": ["fable-5"]}, "why")
    house.switches.release(house["quinn"], "s", "over")
    office.house.evidence.read_body(house["una"], 1)
    events = exported(office, tmp_path)
    assert len(events) == len(office.publics()) == 7
    assert [(event["metadata"]["uid"], list(faults(event))) for event in events if list(faults(event))] == []
    assert {(event["class_uid"], event["category_uid"], event["metadata"]["version"]) for event in events} == {
        (6003, 6, "1.8.0")
    }


def test_an_allow_a_deny_and_an_error_are_told_apart(office: Office, tmp_path: Path) -> None:
    """A deny is a control that worked: Success and Denied. Only what the engine could not decide is a Failure."""
    office.decide(office.evaluation(), denied(office), denied(office, "rules.error", None))
    allow, deny, error = exported(office, tmp_path)[1:]
    names = ("status_id", "action_id", "disposition_id", "status_code")
    assert [allow[name] for name in names] == [1, 1, 1, allow["status_detail"]]
    assert [deny[name] for name in names] == [1, 2, 2, "nationality.restricted"]
    assert [error[name] for name in names] == [2, 2, 27, "rules.error"]
    assert deny["resources"] == [{"uid": "fable-5", "type": "ai_model", "labels": ["tier:4"]}]
    assert deny["authorizations"][0] == {
        "decision": "deny",
        "policy": {"uid": "nationality.restricted", "name": "P7", "group": {"name": "reason"}},
    }


def test_the_actor_is_a_key_and_the_person_stays_sealed(office: Office, tmp_path: Path) -> None:
    """No event names the subject of a decision, their place, or the person behind a key."""
    office.decide(denied(office, subject="zoe-quite-unique"))
    event = exported(office, tmp_path)[-1]
    assert event["actor"] == {"app_uid": changed(office.house["paul"])}
    assert "zoe-quite-unique" not in json.dumps(event) and '"GB"' not in json.dumps(event)


@given(public_parts())
def test_no_member_of_an_entry_is_lost(public: dict[str, Any]) -> None:
    """Every member is in an attribute, or in `unmapped` under its own name; whatever it holds, the event is lawful."""
    event = event_of(public, "0")
    assert list(faults(event)) == []
    text = json.dumps(event)
    for name, value in public.items():
        if name not in event["unmapped"] and isinstance(value, str) and value:
            assert json.dumps(value)[1:-1] in text, name
    assert json.loads(text) == event


@pytest.mark.parametrize(
    "change",
    [
        {"actor": {}},
        {"src_endpoint": {"port": 1}},
        {"severity_id": 7},
        {"activity_id": 3},
        {"api": {"service": {"name": "x"}}},
        {"surprise": 1},
        {"metadata": {"version": "1.8.0"}},
    ],
)
def test_the_check_objects_to_a_wrong_event(change: dict[str, Any]) -> None:
    """A check that finds nothing in events made to break it would be no check."""
    public = {"v": 1, "kind": "read", "id": "0" * 32, "log": "aa", "seq": 1, "at": 1_000, "epoch": 1, "release": None}
    good = event_of(public | {"sealed": "", "commit": "c", "by": "key"}, "0")
    assert list(faults(good)) == [] and list(faults(good | change)) != []


def test_reasons_name_orders(office: Office, tmp_path: Path) -> None:
    """A deny by an order says which, where the schema has a place for it."""
    reason = Reason("directive.foreign-person", "P3", orders=("june-2026",))
    office.decide(office.evaluation(False, reasons=(reason,)))
    assert exported(office, tmp_path)[-1]["authorizations"][0]["policy"]["desc"] == "june-2026"
