"""The project's decision cases pass through the real path, and a malformed case is refused by its id."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_engine.cases import Case, read_case, read_cases, run_cases
from policy_engine.errors import InputRefused
from policy_engine.rules.release import read_folder

POLICIES = Path(__file__).parents[2] / "policies"
FILES = tuple(sorted((POLICIES / "cases").glob("*.jsonl")))
CHUNKS_COUNT = 6

CASE: dict[str, Any] = {
    "id": "C1",
    "given": {
        "person": {
            "id": "p1",
            "citizenships": [{"country": "US", "acquired": "birth", "current": True}],
            "us_status": "citizen",
            "residence_country": "US",
            "nationality_evidence": {"level": "verified", "verified_on": "2026-03-01", "expires_on": None},
            "list_match": "none",
        },
        "tenant": {
            "id": "t1",
            "type": "reseller",
            "incorporated_in": "US",
            "headquarters": "US",
            "ultimate_parent_headquarters": "US",
            "owners": [{"name": "Holding A", "country": "US", "percent": 50, "list": None}],
            "list_match": "none",
            "end_customer": {
                "id": "c1",
                "type": "enterprise",
                "incorporated_in": "US",
                "headquarters": "US",
                "ultimate_parent_headquarters": "US",
                "list_match": "none",
            },
        },
        "location": {"country": "US"},
        "serving_region": "US",
    },
    "model": {
        "id": "summit-4",
        "tier": 4,
        "weights_public": False,
        "status": "available",
        "permitted_serving_regions": ["US"],
        "nationality_test": "EAR",
    },
    "action": "infer",
    "time": "2026-08-10T12:00:00Z",
    "state": {
        "directives": [
            {
                "id": "d1",
                "from": "2026-08-01T00:00:00Z",
                "models": ["harbor-3"],
                "blocks": ["foreign_person"],
                "exempts": [{"models": ["harbor-3"], "who": "lab_foreign_national_employees"}],
            }
        ],
        "kill_switches": [{"id": "k1", "tiers": [1]}],
        "licences": [{"id": "l1", "person_id": "p1", "models": ["summit-4"], "actions": ["infer"], "lifts": ["seat"]}],
        "grants": [{"id": "g1", "person_id": "p1"}],
        "overrides": [{"id": "o1", "by": "ann"}],
        "bis_affiliates_rule": "suspended",
        "registry_reachable": True,
    },
    "expect": "allow",
    "rule": "-",
    "because": "All is well",
}

EVERYWHERE = (
    "",
    "given",
    "given.person",
    "given.person.citizenships.0",
    "given.person.nationality_evidence",
    "given.tenant",
    "given.tenant.owners.0",
    "given.tenant.end_customer",
    "given.location",
    "model",
    "state",
    "state.directives.0",
    "state.directives.0.exempts.0",
    "state.kill_switches.0",
    "state.licences.0",
    "state.grants.0",
    "state.overrides.0",
)
"""Every object of a case."""

LISTS = (
    "given.person.citizenships",
    "given.tenant.owners",
    "model.permitted_serving_regions",
    "model.base",
    "state.directives",
    "state.kill_switches",
    "state.licences",
    "state.licences.0.models",
    "state.licences.0.lifts",
    "state.grants",
    "state.overrides",
)
"""Some lists of a case."""

OUTSIDE: tuple[tuple[str, Any], ...] = (
    ("expect", "maybe"),
    ("given.person.us_status", "visitor"),
    ("given.person.list_match", "likely"),
    ("given.person.lab_employee", "yes"),
    ("given.person.nationality_evidence.level", "seen"),
    ("given.tenant.type", "company"),
    ("given.tenant.list_match", "Confirmed"),
    ("given.tenant.owners.0.list", "sdn"),
    ("given.tenant.owners.0.percent", 100.1),
    ("given.tenant.owners.0.percent", "half"),
    ("given.tenant.denied_by_lab", 1),
    ("given.tenant.end_customer.type", "customer"),
    ("given.location.anonymiser", "vpn"),
    ("model.tier", 6),
    ("model.tier", "4"),
    ("model.tier", True),
    ("model.status", "preview"),
    ("model.nationality_test", "ear"),
    ("model.weights_public", "no"),
    ("state.bis_affiliates_rule", "on"),
    ("state.registry_reachable", "yes"),
    ("state.licences.0.lifts", ["everything"]),
    ("state.kill_switches.0.tiers", [6]),
    ("state.kill_switches.0.tenant_types", ["company"]),
    ("state.directives.0.exempts.0.who", "everyone"),
)
"""Values outside a vocabulary."""

NO_INSTANTS = (
    "time",
    "given.person.nationality_evidence.verified_on",
    "state.licences.0.from",
    "state.kill_switches.0.until",
)
NEEDED = (
    "given",
    "model",
    "action",
    "time",
    "expect",
    "model.id",
    "given.person.id",
    "given.tenant.id",
    "given.tenant.end_customer.id",
    "state.directives.0.id",
    "state.directives.0.exempts.0.who",
    "state.kill_switches.0.id",
    "state.licences.0.id",
    "state.grants.0.id",
    "state.overrides.0.id",
)
UNJUDGED: tuple[tuple[str, Any], ...] = (
    ("action", "evaluate"),
    ("state.directives.0.blocks", ["tuesday_users"]),
    ("given.location.country", "ZZ"),
    ("given.person.residence_country", "nowhere"),
    ("given.tenant.owners.0.country", "??"),
    ("model.nationality_test", None),
    ("model.tier", None),
)
"""What stands outside a vocabulary and is no mistake: a rule says what it means."""


def changed(path: str, change: Callable[[Any, Any], None]) -> dict[str, Any]:
    """Return the case with a change made where a dotted path leads: `change(object, last name)`."""
    case = copy.deepcopy(CASE)
    *way, last = path.split(".")
    place: Any = case
    for name in way:
        place = place[int(name) if name.isdigit() else name]
    change(place, int(last) if last.isdigit() else last)
    return case


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Return the case with another value."""
    return changed(path, lambda place, name: place.__setitem__(name, value))


def own_cases() -> list[Case]:
    """Return every case of the project."""
    return [case for file in FILES for case in read_cases(file)]


@pytest.mark.parametrize("chunk", range(CHUNKS_COUNT))
def test_every_case_of_the_project_passes(chunk: int) -> None:
    """Each case comes out as it expects, decided through registers, orders, decider and log."""
    cases = own_cases()[chunk::CHUNKS_COUNT]
    assert len(cases) > 100
    failed = [(r.case.id, r.allowed, r.rules) for r in run_cases(cases, read_folder(POLICIES)) if not r.passed]
    assert failed == []


def test_every_rule_has_cases_on_both_sides() -> None:
    """Each rule is the reason of a deny and what an allow is about; an unknown tenant is never allowed."""
    cases = own_cases()
    rules = {f"P{number}" for number in (*range(1, 13), 14)} | {"P6b"}
    assert {case.rule for case in cases if not case.allowed} == rules | {"unknown-tenant"}
    assert {case.rule for case in cases if case.allowed} - {"-"} == rules | {"P13"}


def test_ids_are_unique_over_all_files() -> None:
    """A case is known by its id alone."""
    ids = [case.id for case in own_cases()]
    assert len(set(ids)) == len(ids)


def test_the_case_that_is_changed_here_is_a_good_one() -> None:
    """Control: unchanged, the case is read and passes."""
    (result,) = run_cases([read_case(CASE, "file:1")], read_folder(POLICIES))
    assert result.passed


@pytest.mark.parametrize("path", EVERYWHERE)
def test_an_unknown_member_is_refused_with_the_case_id(path: str) -> None:
    """A misspelt member anywhere is no case, so that a mistake cannot pass as a test."""
    case = with_value(f"{path}.recieved" if path else "recieved", True)
    with pytest.raises(InputRefused, match="case C1"):
        read_case(case, "file:1")


@pytest.mark.parametrize(("path", "value"), OUTSIDE)
def test_a_value_outside_its_vocabulary_is_refused_with_the_case_id(path: str, value: Any) -> None:
    """Values are spelt exactly; the refusal names the case and the field."""
    with pytest.raises(InputRefused, match="case C1") as refused:
        read_case(with_value(path, value), "file:1")
    assert path.rpartition(".")[2].replace("0", "") in str(refused.value)


@pytest.mark.parametrize("path", NO_INSTANTS)
@pytest.mark.parametrize("value", ["yesterday", "2026-02-30", "2026-08-10T25:00:00Z", 1_786_000_000])
def test_what_is_no_instant_is_refused_with_the_case_id(path: str, value: Any) -> None:
    """A date that does not exist, or is no date, is never read as another one."""
    with pytest.raises(InputRefused, match="case C1"):
        read_case(with_value(path, value), "file:1")


@pytest.mark.parametrize("path", NEEDED)
def test_a_missing_member_is_refused_with_the_case_id(path: str) -> None:
    """What a case cannot do without must stand in it."""
    with pytest.raises(InputRefused, match="case C1"):
        read_case(changed(path, lambda place, name: place.__delitem__(name)), "file:1")


@pytest.mark.parametrize("value", [7, [7]])
@pytest.mark.parametrize("path", [*(path for path in EVERYWHERE if path), *LISTS])
def test_another_kind_of_value_is_refused_with_the_case_id(path: str, value: Any) -> None:
    """What is no object, or no list of what belongs there, is refused and not taken for empty."""
    with pytest.raises(InputRefused, match="case C1"):
        read_case(with_value(path, value), "file:1")


@pytest.mark.parametrize(("path", "value"), UNJUDGED)
def test_what_a_rule_gives_a_meaning_is_no_mistake(path: str, value: Any) -> None:
    """An undeclared action, an unknown block, an unknown place, no test and no tier are decided, not refused."""
    (result,) = run_cases([read_case(with_value(path, value), "file:1")], read_folder(POLICIES))
    assert result.codes != ()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.id", "summit\u0000"),
        ("model.resolved_from", " summit-latest"),
        ("model.base", "summit-4"),
        ("model", {**CASE["model"], "base": ["summit-3"], "resolved_from": "summit-3"}),
        ("time", "2255-06-06T00:00:00Z"),
        ("time", "0001-01-01"),
    ],
)
def test_what_no_catalogue_or_entry_can_hold_is_refused_with_the_case_id(path: str, value: Any) -> None:
    """A model that is its own base, or a name for two, is a mistake in the case and not in some models.toml."""
    with pytest.raises(InputRefused, match=r"case C1\.(model|time)"):
        read_case(with_value(path, value), "file:1")


@pytest.mark.parametrize("other", ["directives", "licences", "grants"])
def test_orders_of_one_id_are_all_in_force(other: str) -> None:
    """Each list of a case has ids of its own, and in one list one may stand twice: no order displaces another."""
    blocking = {"id": "d1", "from": None, "models": ["summit-4"], "blocks": ["tuesday_users"]}
    case = with_value("state.directives", [*CASE["state"]["directives"], blocking])
    case["state"][other] = [*case["state"][other], {**case["state"][other][0], "id": "d1"}]
    case["state"]["kill_switches"] = [{"id": "d1", "tiers": [1]}, {"id": "d1", "actions": ["list"]}]
    listed = {**case, "id": "C2", "action": "list"}
    used, stopped = run_cases([read_case(item, "file:1") for item in (case, listed)], read_folder(POLICIES))
    assert (used.rules, stopped.rules) == (("P12",), ("P1",))


NO_EVIDENCE = {"level": "declared", "verified_on": None, "expires_on": None}
SHARE_UNKNOWN = [{"name": "Holding A", "country": "US", "percent": None, "list": "SDN"}]


@pytest.mark.parametrize(
    ("changes", "code", "missing"),
    [
        ({"given.person.nationality_evidence": NO_EVIDENCE}, "directive.foreign-person", "person.nationality_evidence"),
        ({"given.person.us_status": "unknown"}, "directive.foreign-person", "person.us_status"),
        ({"given.person": None}, "directive.foreign-person", "subject"),
        ({"given.tenant.incorporated_in": None}, "directive.foreign-person", "tenant.incorporated_in"),
        ({"given.tenant.type": None}, "directive.foreign-person", "tenant.type"),
        ({"given.location": None}, "directive.destination", "location"),
        ({"given.location.anonymiser": True}, "directive.destination", "location.anonymiser"),
        ({"given.tenant.owners": SHARE_UNKNOWN}, "ownership.sdn-share-unknown", "tenant.owners"),
        ({"given.tenant.type": None, "model.tier": 3}, "tenant.end-customer-unknown", "tenant.type"),
        ({"given.tenant.type": None, "model.tier": 4, "action": "fine_tune"}, "fine-tuning.home", "tenant.type"),
        ({"given.person.us_status": "unknown", "model.tier": 3}, "nationality.restricted", "person.us_status"),
        (
            {"given.person.us_status": None, "model.tier": 3, "state.directives": []},
            "evidence.contradictory",
            "person.us_status",
        ),
        ({"given.person.us_status": None}, "directive.foreign-person", "person.us_status"),
        (
            {"given.person.citizenships": None, "model.tier": 3, "state.directives": []},
            "evidence.contradictory",
            "person.citizenships",
        ),
        ({"given.person.us_status": "none"}, "directive.foreign-person", None),
        ({"given.tenant.incorporated_in": "DE"}, "directive.foreign-person", None),
        ({"given.location.country": "DE"}, "directive.destination", None),
    ],
)
def test_a_deny_for_want_of_a_fact_names_it(changes: dict[str, Any], code: str, missing: str | None) -> None:
    """Law 1: an unknown that a rule takes for a value (no US person, a foreign entity) is named as any other is."""
    made = copy.deepcopy(CASE)
    made["model"] |= {"id": "harbor-3", "tier": 2}
    made["state"] = {"directives": [{**made["state"]["directives"][0], "exempts": []}]}
    made["state"]["directives"][0]["blocks"] = ["foreign_person", "destination_outside_us"]
    made["given"]["tenant"] |= {"type": "enterprise", "end_customer": None}
    for path, value in changes.items():
        *way, name = path.split(".")
        place = made
        for step in way:
            place = place[step]
        place[name] = value
    if changes.get("given.person.us_status"):
        made["given"]["person"]["citizenships"] = [{"country": "CN", "acquired": "birth", "current": True}]
    (result,) = run_cases([read_case(made, "here")], read_folder(POLICIES))
    assert code in result.codes and not result.allowed
    assert result.decision.missing == () if missing is None else missing in result.decision.missing


@pytest.mark.parametrize(
    ("switches", "changes", "missing"),
    [
        ([{"regions": ["CN"]}], {"location": None}, ("location",)),
        ([{"regions": ["CN"]}], {"location": {"country": "US", "anonymiser": True}}, ("location.anonymiser",)),
        ([{"regions": ["CN"], "tenant_types": ["lab"]}], {"location": None}, ("location", "tenant.type")),
        ([{"regions": ["CN"]}, {"models": ["harbor-3"]}], {"location": None}, ()),
        ([{"models": ["harbor-3"]}], {"location": None}, ()),
    ],
)
def test_a_switch_that_covers_in_doubt_names_the_fact(
    switches: list[dict[str, Any]], changes: dict[str, Any], missing: tuple[str, ...]
) -> None:
    """Law 1: whom a switch denies because a place or type is unknown is told so, unless another denies anyway."""
    made = copy.deepcopy(CASE)
    made["model"] |= {"id": "harbor-3", "tier": 2}
    made["state"] = {"kill_switches": [{"id": f"k{place}", **scope} for place, scope in enumerate(switches)]}
    made["given"] |= changes
    if "tenant.type" in missing:
        made["given"]["tenant"]["type"] = None
    (result,) = run_cases([read_case(made, "here")], read_folder(POLICIES))
    assert (result.codes, result.decision.missing) == (("switch.engaged",), missing)


def written(folder: Path, *lines: str) -> Path:
    """Return a file of these lines."""
    file = folder / "some.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_an_id_that_stands_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    """The second line is named, and the id."""
    other = with_value("id", "C2")
    file = written(tmp_path, json.dumps(CASE), "", json.dumps(other), json.dumps(CASE))
    with pytest.raises(InputRefused, match=r"some\.jsonl:4.*C1"):
        read_cases(file)
    assert [case.id for case in read_cases(written(tmp_path, json.dumps(CASE), json.dumps(other)))] == ["C1", "C2"]


@pytest.mark.parametrize(
    "line",
    ["{", '["C1"]', '{"expect": "allow"}', '{"id": 7}', '{"id": "C1", "id": "C2"}', "NaN", r'{"id": "\ud800"}'],
)
def test_a_line_without_a_case_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    """Where there is no id to name, file and line are."""
    with pytest.raises(InputRefused, match=r"some\.jsonl:2"):
        read_cases(written(tmp_path, json.dumps(CASE), line))


def test_a_line_of_any_length_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A case is a line of bounded length."""
    with pytest.raises(InputRefused, match=r"some\.jsonl:1"):
        read_cases(written(tmp_path, json.dumps(with_value("because", "x" * 3_000_000))))
