"""The shipped release says what the reference policy says: rule by rule, row by row, edition by edition."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from policy_engine.core.authorizer import authorize
from policy_engine.core.decision import Outcome
from policy_engine.core.facets import FACETS
from policy_engine.core.index import positions
from policy_engine.core.instants import parse_instant
from policy_engine.rules.functions import parse_tiers
from policy_engine.rules.packs import PackRule
from policy_engine.rules.release import load_release
from tests.core import rulebook
from tests.core import sample as core_sample
from tests.rules.sample import (
    EMBARGOED,
    FAVOURED,
    FRONTIER,
    GOOD_FACETS,
    INSTANTS,
    RESTRICTED,
    facets_at,
    files,
    flat,
    parts,
    release,
    rule,
    some_facets,
)

NOW = INSTANTS[-1]


def matching(facets: dict[str, Any]) -> list[int]:
    """Return the positions of the sample's rules that match."""
    return list(positions(release().index.matching(flat(facets))))


@given(some_facets())
def test_the_packs_say_what_the_reference_policy_says(facets: dict[str, Any]) -> None:
    """For any facets, the rules that deny are those of the policy's table, and without them there is an allow."""
    rules = release().rules
    found = matching(facets)
    groups = dict(release().reference.groups.at(facets["now"]).groups)
    groups[core_sample.FAVOURED] = groups[FAVOURED]
    expected = rulebook.denials(facets, groups)
    assert {rules[at].label for at in found if rules[at].effect == "deny"} == {label for label, _ in expected}
    verdict = authorize(rules, found, facets["lifts"])
    known_action = facets["action"] in release().reference.actions and "action" not in facets["unknown"]
    allowed = not rulebook.denied(facets, groups) and known_action
    if facets["in_us"] == "unknown":
        allowed = allowed and verdict.outcome is Outcome.ALLOW  # P10 on an unknown place is lifted by nothing
    assert (verdict.outcome is Outcome.ALLOW) == allowed


def test_good_facets_are_allowed_by_one_row() -> None:
    """Facets of good standing match one allow row and no deny."""
    assert [release().rules[at].id for at in matching(facets_at(NOW))] == ["access.closed"]


def witness(found: PackRule) -> dict[str, Any]:
    """Return facets of good standing, changed just so that one row's conditions hold."""
    changes: dict[str, Any] = {}
    for column, value in found.conditions.items():
        if column in ("requires", "valid", "lift"):
            continue
        token = next(t.name for t in release().tokens if t.source == parts().columns.source(column))
        if column == "tiers":
            changes[token] = max(parse_tiers(value))
        elif column == "home_outside":
            changes[token] = "CN"
        elif column.endswith("_in"):
            changes[token] = frozenset(sorted(release().reference.groups.at(NOW).groups[value])[:1])
        elif isinstance(GOOD_FACETS[token], frozenset):
            changes[token] = frozenset((value,))
        else:
            changes[token] = value
    unknown = changes.get("unknown", frozenset())
    said = {"status": "unknown", "tier": "unclassified", "serving": "unknown"}
    changes.update({name: word for name, word in said.items() if name in unknown})
    if "screening" in unknown:
        changes["screening"] = frozenset(("unscreened",))
    return facets_at(NOW, **changes)


@pytest.mark.parametrize("at", range(len(parts().rules)), ids=[found.meta.id for found in parts().rules])
def test_no_row_is_redundant(at: int) -> None:
    """Each row is the only one to give its code, or its allow, for some request: dropping it changes an answer."""
    found = parts().rules[at]
    facets = witness(found)
    hit = matching(facets)
    assert at in hit
    if found.meta.effect == "allow":
        assert [p for p in hit if release().rules[p].effect == "allow"] == [at]
        assert authorize(release().rules, [p for p in hit if p != at], frozenset()).outcome is Outcome.DENY
    else:
        assert [release().rules[p].code for p in hit].count(found.meta.code) == 1


def test_every_allow_requires_what_denies_when_unknown() -> None:
    """Each allow row requires every name that some deny row reads as unknown at its tiers and weights."""
    for allow in (found for found in parts().rules if found.meta.effect == "allow"):
        needed = {
            deny.conditions["unknown"]
            for deny in parts().rules
            if "unknown" in deny.conditions
            and parse_tiers(deny.conditions.get("tiers", "1-5")) & parse_tiers(allow.conditions["tiers"])
            and deny.conditions.get("weights", allow.conditions.get("weights")) == allow.conditions.get("weights")
        }
        assert needed == set(allow.meta.requires)


def test_every_group_line_is_asked_by_a_rule() -> None:
    """Each compiled group line is of a group that a rule's column names, for a code that a request can resolve to."""
    model = parts().model
    columns = [token.removeprefix("p_") for token in model["p"]["p"].tokens]
    grouped = [at for at, name in enumerate(columns) if name.endswith("_in") or name == "home_outside"]
    asked = {line[at] for line in model["p"]["p"].policy for at in grouped} - {"*"}
    lines = model["g"]["g"].policy
    assert {group for _, group, _ in lines} == asked == {RESTRICTED, FRONTIER, FAVOURED, EMBARGOED}
    gazetteer = release().reference.gazetteer
    for code, _, _ in lines:
        country, dash, _ = code.partition("-")
        assert code in gazetteer.resolve(country, code if dash else None).codes
    domains = {domain for at in INSTANTS for domain in release().reference.groups.at(at).domains}
    assert {domain for _, _, domain in lines} == domains


@pytest.mark.parametrize("column", ["location_in", "residence_in", "entity_in", "seat_in", "counted_in"])
def test_dropping_a_group_line_changes_an_answer(column: str) -> None:
    """For each group a column names, each member in each edition matches by its line alone."""
    token = next(t.name for t in release().tokens if t.source == parts().columns.source(column))
    for found in (found for found in parts().rules if column in found.conditions):
        for instant in INSTANTS[1:]:
            members = release().reference.groups.at(instant).groups[found.conditions[column]]
            for code in ("CN", "AE", "KH", "IR", "DE", "UA-43", "IL", "AM"):
                facets = {**witness(found), "now": instant, token: frozenset((code,))}
                facets["editions"] = release().reference.groups.at(instant).domains
                assert (found.meta.id in [release().rules[p].id for p in matching(facets)]) == (code in members)


def members(group: str, day: str) -> frozenset[str]:
    """Return a compiled group's members on a day."""
    return release().reference.groups.at(parse_instant(day)).groups[group]


def test_the_editions_follow_the_dated_changes() -> None:
    """Cambodia leaves D:5 on 2026-02-03 and the Emirates join A:5 on 2026-07-23, at 00:00Z and not before."""
    assert "KH" in members(RESTRICTED, "2026-02-02T23:59:59.999999Z")
    assert "KH" not in members(RESTRICTED, "2026-02-03")
    assert {"AE"} == members(FRONTIER, "2026-07-22T23:59:59.999999Z") - members(FRONTIER, "2026-07-23")
    assert {"AE"} == members(FAVOURED, "2026-07-23") - members(FAVOURED, "2026-07-22T23:59:59.999999Z")
    assert release().reference.groups.at(parse_instant("2026-07-23")).domains == {
        "ear@2026-07-23",
        "embargo@2026-01-01",
    }


def test_before_the_oldest_edition_the_oldest_is_used_and_flagged() -> None:
    """Before 2026-01-01 the oldest editions answer, and say so."""
    early = release().reference.groups.at(parse_instant("2025-12-31"))
    assert early.groups == release().reference.groups.at(parse_instant("2026-01-01")).groups
    assert early.flags == ("edition-before-oldest:ear", "edition-before-oldest:embargo")
    assert release().reference.groups.at(parse_instant("2026-01-01")).flags == ()


def test_the_groups_are_those_of_the_regulation() -> None:
    """The facts about the country groups that the data's own notes state hold for the shipped table."""
    table = parts().tables.groups["ear"].members[-1]
    assert table["E:1"] == {"IR", "KP", "SY"}
    assert table["E:2"] == {"CU"}
    assert table["E:1"] | table["E:2"] <= table["D:5"]
    restricted = "AF BY CD CF CN CU ER HT IQ IR KP LB LY MM NI RU SD SO SS SY VE ZW"
    assert table["D:5"] == set(restricted.split())
    assert "MO" not in table["D:5"]
    assert not table["A:5"] & (table["D:1"] | table["D:3"] | table["D:4"] | table["D:5"])
    assert table["A:6"] & (table["D:3"] | table["D:4"]) == {"IL", "TW"}
    assert members(RESTRICTED, "2026-08-01") == table["D:5"] | {"MO"}
    assert not {"IL", "TW"} & members(FRONTIER, "2026-08-01")


@pytest.mark.parametrize(
    ("code", "country"),
    [
        ("HK", "CN"),
        ("LI", "CH"),
        ("PR", "US"),
        ("KY", "GB"),
        ("XK", "XK"),
        ("MO", "MO"),
        ("CK", None),
        ("PS", None),
        ("ZZ", None),
    ],
)
def test_codes_resolve_to_the_state_whose_rules_apply(code: str, country: str | None) -> None:
    """A territory is its sovereign, Kosovo and Macau are themselves, and what nobody settled is unknown."""
    assert release().reference.gazetteer.country(code) == country


def test_embargoed_regions_are_listed_whatever_stands_beside() -> None:
    """A listed region counts beside any country; another Ukrainian region is plain Ukraine."""
    gazetteer = release().reference.gazetteer
    assert "UA-43" in gazetteer.resolve("RU", "UA-43").codes
    assert gazetteer.resolve("UA", "UA-30").codes == {"UA", "UA-30"}
    assert gazetteer.resolve("UA", "UA-30").known


def test_the_affiliates_rule_has_its_dates() -> None:
    """In force from 2025-09-29, suspended for a year from 2025-11-10, in force after."""
    days = ("2025-09-28", "2025-09-29", "2025-11-09", "2025-11-10", "2026-11-09", "2026-11-10", "2030-01-01")
    states = [release().reference.affiliates.at(parse_instant(day))[0] for day in days]
    assert states == ["suspended", "in_force", "in_force", "suspended", "suspended", "in_force", "in_force"]


def test_boundaries_are_every_instant_at_which_something_begins_or_ends() -> None:
    """The release names the starts of editions and statuses, and the bounds of rules' intervals."""
    days = ["2025-09-29", "2025-11-10", "2026-01-01", "2026-02-03", "2026-07-23", "2026-11-10"]
    assert list(release().boundaries) == [parse_instant(day) for day in days]
    dated = load_release(rule(valid='"2026-03-01/2026-04-01T12:00:00Z"'))
    added = {parse_instant("2026-03-01"), parse_instant("2026-04-01T12:00:00Z")}
    assert set(dated.boundaries) - set(release().boundaries) == added


def test_tokens_are_the_facets_in_order() -> None:
    """The flat tuple of the sample holds each facet that the engine derives, each once."""
    assert [token.source for token in release().tokens] == [f"derive:{name}" for name in FACETS]


def test_every_reason_is_a_sentence_for_the_end_user() -> None:
    """Each rule and each engine reason has one plain sentence, and no sentence speaks of a person's facts."""
    texts = [found.message for found in release().rules]
    texts += [text.message for text in release().engine_reasons.values()]
    assert all(text.endswith(".") and text[0].isupper() for text in texts)
    personal = ("citizen", "national", "birth", "passport", "immigra")
    assert [text for text in texts if any(word in text.lower() for word in personal)] == []


def test_the_catalogue_holds_the_sample_models() -> None:
    """The six models of the sample world have their tiers, and the alias finds its model."""
    catalogue = release().catalogue
    tiers = {"fable-5": 4, "mythos-5": 5, "fable-5-1": 4, "summit-4": 4, "opus-4-8": 3, "open-1": 1}
    assert {id: model.tier for id, model in catalogue.models.items()} == tiers
    assert catalogue.find("fable-latest") is catalogue.models["fable-5"]
    assert catalogue.models["fable-5"].fallback == "opus-4-8"


def test_the_hash_names_the_files() -> None:
    """The same files give the same hash; one changed byte gives another."""
    assert load_release(dict(reversed(files().items()))).hash == release().hash
    other = {**files(), "facets.toml": files()["facets.toml"] + b"\n"}
    assert load_release(other).hash != release().hash
