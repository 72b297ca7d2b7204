"""What lint finds in a release: rules that never fire, duplicates and shadowed rules, each true and with its place.

Every finding on the sample is proven here from the packs themselves, and every rule without one changes an outcome.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.core.authorizer import authorize
from policy_engine.core.facts import EvidenceLevel
from policy_engine.core.index import positions
from policy_engine.core.instants import parse_instant
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.findings import RANGES, analyse_release
from policy_engine.rules.functions import TIERS, parse_tiers
from policy_engine.rules.lint import lint
from policy_engine.rules.packs import PackRule
from tests.rules.sample import GOOD_FACETS, changed, files, flat, parts, release, rule, some_facets

FACETS = "facets.toml"
MODEL = "model.conf"
NEVER = "never changes an outcome: "
COVERED = {
    "P5.headquarters-unknown": "P3.headquarters-unknown",
    "P5.owners-unknown": "P4.owners-unknown",
    "P6.location-unknown": "P3.location-unknown",
    "P6.location-anonymised": "P3.location-anonymised",
}
"""Denies of the sample that another deny covers."""
UNMET = {
    "catalogue": (
        "P2.status-unknown P2.unclassified P2.action-undeclared P6b.unknown P8.declared P8.expired P8.undated "
        "P8.conflict P8.none P8.no-person P8.contradictory P8.end-customer"
    ),
    "export_controls": (
        "P5.parent-unknown P5.owned-unknown P6.location-region-unknown P7.nationality-unresolved "
        "P7.nationality-none P7.test-unknown"
    ),
    "sanctions": (
        "P3.location-unknown P3.location-anonymised P3.residence-unknown P3.incorporation-unknown "
        "P3.headquarters-unknown P4.unscreened P4.owners-unknown"
    ),
}
"""Denies of the sample that no allow meets: what they deny is unknown or without evidence, which no allow suffers."""
BY_ID = {row.meta.id: row for row in parts().rules}
IDLE = {*COVERED, *(id for ids in UNMET.values() for id in ids.split())}


def found_in(text: str) -> str:
    """Return a finding without its file and line."""
    return text.partition(": ")[2]


def extra(files: Mapping[str, bytes], limits: Limits = LIMITS) -> list[str]:
    """Return what lint says of the planted pack, in order."""
    findings = lint(files, limits=limits)
    assert findings.refusals == ()
    return [text for text in findings.warnings if text.startswith("packs/extra.toml:")]


def test_the_sample_has_these_findings_and_no_other() -> None:
    """One sentence for each covered deny and one a pack for what no allow meets, all with file and line."""
    texts = analyse_release(parts(), release().reference.groups)
    covered = [text for text in texts if "denies whatever it denies" in text]
    unmet = [text for text in texts if "these denies never change an outcome" in text]
    assert len(texts) == len(covered) + len(unmet)
    for text in covered:
        name, other = re.findall(r"`(P[0-9]\S+)`", text)[:2]
        row = BY_ID[name].meta
        assert COVERED[name] == other
        assert text.startswith(f"{row.pack}:{row.line}: `{name}` {NEVER}")
        assert text.endswith(f"it only adds its reason `{row.code}`")
    assert len(covered) == len(COVERED)
    named = {text.partition(":")[0]: re.findall(r"`(\S+)` \(line (\d+)\)", text) for text in unmet}
    assert {path: [id for id, _ in found] for path, found in named.items()} == {
        f"packs/{pack}.toml": ids.split() for pack, ids in UNMET.items()
    }
    assert all(BY_ID[id].meta.line == int(line) for found in named.values() for id, line in found)


@pytest.mark.parametrize("id", sorted(COVERED))
def test_a_covered_deny_of_the_sample_asks_all_that_its_cover_asks(id: str) -> None:
    """The cover's conditions are among its own and nothing lifts the cover, so wherever it denies, the cover does."""
    cover = BY_ID[COVERED[id]]
    assert cover.conditions.items() <= BY_ID[id].conditions.items()
    assert (cover.meta.effect, cover.meta.lift) == ("deny", "")


@pytest.mark.parametrize("id", sorted(id for ids in UNMET.values() for id in ids.split()))
def test_a_deny_that_no_allow_meets_contradicts_every_allow(id: str) -> None:
    """Each allow of the sample names another value, other tiers, or requires known what the deny finds unknown."""
    allows = [row for row in BY_ID.values() if row.meta.effect == "allow"]
    assert allows and all(contradict(BY_ID[id], allow) for allow in allows)


def contradict(deny: PackRule, allow: PackRule) -> bool:
    """Return whether one condition of a deny rules out one of an allow, on a facet of one value or one unknown name."""
    if deny.conditions.get("unknown") in allow.meta.requires:
        return True
    tiers = [parse_tiers(row.conditions["tiers"]) for row in (deny, allow) if "tiers" in row.conditions]
    if len(tiers) == 2 and tiers[0].isdisjoint(tiers[1]):
        return True
    return any(
        name in deny.conditions and allow.conditions.get(name, deny.conditions[name]) != deny.conditions[name]
        for name in ("weights", "evidence")
    )


PLACE_OF = {"embargoed": "IR", "D:5 + MO + E:1 + E:2": "CN", "D:1 + D:4 - A:5 - A:6": "AM", "A:5 + US": "BR"}
TOKEN_OF = {
    "location_in": "location",
    "residence_in": "residence",
    "entity_in": "entities",
    "seat_in": "seats",
    "counted_in": "counted",
    "home_outside": "home",
}
SETS = {token.name for token in release().tokens if token.kind == "set"}


def meeting(row: PackRule) -> dict[str, Any]:
    """Return facets that a row matches and that are good otherwise."""
    facets: dict[str, Any] = {**GOOD_FACETS, "location": frozenset(("DE",)), "tier": "4"}
    for column, value in row.conditions.items():
        if column == "tiers":
            facets["tier"] = max(parse_tiers(value))
        elif column not in ("requires", "lift", "valid"):
            name = TOKEN_OF.get(column, column)
            word = PLACE_OF.get(value, value)
            facets[name] = frozenset((word,)) if name in SETS else word
    return {**facets, "now": AT, "editions": release().reference.groups.at(AT).domains}


AT = parse_instant("2026-06-01")


def changes(position: int, facets: Mapping[str, Any]) -> bool:
    """Return whether the outcome is another one without the rule, by the compiled index and the authorizer."""
    matching = positions(release().index.matching(flat(facets)))
    rules = release().rules
    outcome = authorize(rules, matching, facets["lifts"]).outcome
    rest = [at for at in matching if at != position]
    return authorize(rules, rest, facets["lifts"]).outcome is not outcome


@pytest.mark.parametrize("position", range(len(parts().rules)), ids=lambda at: parts().rules[at].meta.id)
def test_every_other_rule_of_the_sample_changes_an_outcome(position: int) -> None:
    """For a rule without a finding there is a request whose outcome hangs on it; for the others none is at hand."""
    row = parts().rules[position]
    facets = meeting(row)
    assert positions(release().index.matching(flat(facets))).count(position) == 1
    if row.meta.id in IDLE:
        assert not changes(position, facets)
        return
    # Some need a tier or a person that no other rule denies.
    more: list[dict[str, Any]] = [
        {"tier": "1"},
        {"tier": "3"},
        {"us_person": "yes"},
        {"partner": "yes", "employee": "yes"},
    ]
    choices = [{}, *more]
    assert any(changes(position, {**facets, **choice}) for choice in choices)


@settings(max_examples=300, deadline=None)
@given(some_facets(), st.data())
def test_no_drawn_request_hangs_on_a_rule_with_a_finding(facets: dict[str, Any], data: st.DataObject) -> None:
    """Whatever the facets are, made to meet such a rule or not, the outcome is the same without it."""
    position = data.draw(st.sampled_from([at for at, row in enumerate(parts().rules) if row.meta.id in IDLE]))
    assert not changes(position, facets)
    row = parts().rules[position]
    wanted = {name: value for name, value in meeting(row).items() if name in row.conditions and name != "tiers"}
    merged = {name: facets[name] | value if name in SETS else value for name, value in wanted.items()}
    assert not changes(position, {**facets, **merged, "tier": data.draw(st.sampled_from(TIERS))})


def test_what_derivations_give_is_what_the_sample_lists() -> None:
    """The analysis takes a closed facet's values from the derivations; the sample writes the same words."""
    written = {token.source: token.values for token in release().tokens}
    assert {source: written[source] for source in RANGES} == dict(RANGES)
    scalars = {token.source for token in release().tokens if token.kind == "scalar"}
    assert scalars - RANGES.keys() == {"derive:action", "derive:home"}
    assert set(EvidenceLevel) - RANGES["derive:evidence"] == {EvidenceLevel.VERIFIED}


ALLOW = {"effect": '"allow"', "label": '"access"'}
KNOWN = '["action", "status", "tier", "serving"]'
PLANTED: Mapping[str, tuple[dict[str, str], str]] = {
    "what must be unknown and known": (
        {"when": '{ unknown = "tier" }', "requires": '["tier"]'},
        "`X1` never fires: no request meets its conditions on `unknown` and `requires` together",
    ),
    "a group that is empty while the rule is valid": (
        {"when": '{ location_in = "AE - A:5" }', "valid": '"2026-07-23/"'},
        "`X1` never fires: no request meets its conditions on `location_in` and `valid` together",
    ),
    "a duplicate with its own reason": (
        {"when": '{ evidence = "none", tiers = "3+" }'},
        "`X1` is a duplicate of `P8.none` (packs/catalogue.toml:109): the same effect for the same requests; "
        "it only adds its reason `extra.rule`",
    ),
    "a duplicate in other words": (
        {"when": '{ evidence = "none", tiers = "3-5" }', "code": '"evidence.none"'},
        "`X1` is a duplicate of `P8.none` (packs/catalogue.toml:109): the same effect for the same requests",
    ),
    "a deny within another": (
        {"when": '{ location_in = "IR", tiers = "4+" }', "lift": '"dest"'},
        f"`X1` {NEVER}`P3.location-embargoed` (packs/sanctions.toml:10) denies whatever it denies; "
        "it only adds its reason `extra.rule`",
    ),
    "a deny within another's lift key, before an edition changes": (
        {
            "when": '{ location_in = "KH", tiers = "3+", weights = "closed" }',
            "lift": '"dest"',
            "valid": '"2020-01-01/2026-02-03"',
        },
        f"`X1` {NEVER}`P6.destination-restricted` (packs/export_controls.toml:98) denies whatever it denies; "
        "it only adds its reason `extra.rule`",
    ),
    "a deny within two others": (
        {"when": '{ tiers = "3+", evidence = "valid", status = ["withdrawn", "retired"] }'},
        f"`X1` {NEVER}`P2.withdrawn` (packs/catalogue.toml:10) and `P2.retired` (packs/catalogue.toml:19) deny "
        "whatever it denies; it only adds its reason `extra.rule`",
    ),
    "a deny of what is unknown": (
        {"when": '{ unknown = "serving", tiers = "2", us_person = "no", status = "superseded" }', "code": '"x.y"'},
        f"`X1` {NEVER}`P6b.unknown` (packs/catalogue.toml:64) denies whatever it denies; it only adds its reason `x.y`",
    ),
    "an allow that a deny takes back": (
        {**ALLOW, "when": '{ action = "infer", tiers = "1", status = "withdrawn" }', "requires": KNOWN},
        f"`X1` {NEVER}`P2.withdrawn` (packs/catalogue.toml:10) denies whatever it allows "
        "(for the values named in rules and for any other one; `action` takes any text)",
    ),
    "an allow within another": (
        {**ALLOW, "when": '{ action = "infer", tiers = "1", partner = "yes" }', "requires": KNOWN},
        f"`X1` {NEVER}`access.open` (packs/access.toml:9) allows whatever it allows "
        "(for the values named in rules and for any other one; `action` takes any text)",
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_rule_is_found_with_its_place(case: str) -> None:
    """The sentence is exact, begins with file and line, and is the only one about the planted pack."""
    keys, sentence = PLANTED[case]
    assert extra(rule(**keys)) == [f"packs/extra.toml:6: {sentence}"]


def test_equal_groups_of_two_tables_make_a_duplicate() -> None:
    """The seven codes, written out, are the embargo in every edition of both tables; the later place is reported."""
    codes = "CU + IR + KP + UA-43 + UA-40 + UA-14 + UA-09"
    texts = lint(rule(when=f'{{ location_in = "{codes}" }}')).warnings
    same = (
        "packs/sanctions.toml:10: `P3.location-embargoed` is a duplicate of `X1` (packs/extra.toml:6): "
        "the same effect for the same requests; it only adds its reason `place.embargoed`"
    )
    assert same in texts
    fewer = lint(rule(when=f'{{ location_in = "{codes.removesuffix(" + UA-09")}" }}')).warnings
    assert not any("`P3.location-embargoed` is" in text for text in fewer)


QUIET: Mapping[str, dict[str, str]] = {
    "an edition that changed": {
        "when": '{ location_in = "KH", tiers = "3+", weights = "closed" }',
        "lift": '"dest"',
        "valid": '"2020-01-01/2026-02-04"',
    },
    "a cover that something else lifts": {"when": '{ seat_in = "KP", tiers = "3+", weights = "closed" }'},
    "an action that no rule names": {"when": '{ partner = "no", tiers = "1" }'},
    "a group that is empty later": {"when": '{ location_in = "AE - A:5" }', "valid": '"2026-07-22/"'},
}


@pytest.mark.parametrize("case", QUIET)
def test_a_rule_that_changes_something_is_not_reported(case: str) -> None:
    """One step beside a planted finding there is none."""
    assert extra(rule(**QUIET[case])) == []


def test_a_deny_that_no_allow_meets_is_said_to_add_its_reason_only() -> None:
    """Alone in its pack it has a sentence of its own."""
    other = changed("packs/catalogue.toml", '{ unknown = "serving" }', '{ serving = "unknown" }')
    texts = extra({**rule(when='{ unknown = "serving" }'), "packs/catalogue.toml": other["packs/catalogue.toml"]})
    sentence = f"`X1` {NEVER}no rule allows what it denies; it only adds its reason `extra.rule`"
    assert texts == [f"packs/extra.toml:6: {sentence}"]


def test_alternatives_are_told_apart_and_together() -> None:
    """Of one rule's alternatives those that change nothing are named by their values; where all do, the rule is."""
    some = extra(rule(when='{ location_in = ["IR", "BR"] }'))
    assert some == [
        f"packs/extra.toml:6: `X1` with location_in IR {NEVER}`P3.location-embargoed` (packs/sanctions.toml:10) denies "
        "whatever it denies; it only adds its reason `extra.rule`"
    ]
    assert len(extra(rule(when='{ location_in = ["IR", "CU"] }'))) == 1
    within = extra(rule(when='{ denied = "no", tiers = ["1-2", "2"] }'))
    assert [found_in(text) for text in within] == [
        f"`X1` with tiers 2 {NEVER}`X1` with tiers 1-2 denies whatever it denies; it only adds its reason `extra.rule`"
    ]


def with_role(facet: str, more: str) -> dict[str, bytes]:
    """Return the sample with a token `role` read from the request, and a pack of rules on it."""
    model = files()[MODEL].decode()
    for old, new in (
        ("editions, lifts\n", "editions, lifts, role\n"),
        ("valid, lift\n", "valid, lift, role\n"),
        ("unlifted(r.lifts, p.lift)", "unlifted(r.lifts, p.lift) && has(r.role, p.role)"),
    ):
        assert old in model
        model = model.replace(old, new, 1)
    head = changed(FACETS, "[tokens.unknown]", f"{facet}\n\n[tokens.unknown]")
    return {**rule(when='{ role = "guest", tiers = "1" }'), FACETS: head[FACETS], MODEL: model.encode()} | {
        "packs/more.toml": f'[pack]\nname = "more"\nowner = "t"\nversion = "1"\n{more}'.encode()
    }


ROLE = 'role = {{ from = "subject.properties.role", kind = "scalar"{values} }}'
MORE = """
[[rule]]
id = "Y{n}"
label = "Y"
effect = "deny"
code = "more.rule"
message = "A sentence."
when = {{ {when} }}
"""


@pytest.mark.parametrize("values", ["", ', values = ["guest", "host"]'])
def test_a_facet_from_the_request_takes_any_text_and_the_finding_says_so(values: str) -> None:
    """A vocabulary in facets.toml binds rules, not requests: two denies on its words do not cover a third rule."""
    more = MORE.format(n=1, when='role = "host", tiers = "1"') + MORE.format(n=2, when='tiers = "1", partner = "no"')
    both = with_role(ROLE.format(values=values), more)
    assert [text for text in lint(both).warnings if "more.toml" in text or "extra.toml" in text] == []
    again = with_role(ROLE.format(values=values), MORE.format(n=1, when='role = "guest", tiers = "1", partner = "no"'))
    said = [found_in(text) for text in lint(again).warnings if "packs/more.toml:6" in text]
    assert said == [
        f"`Y1` {NEVER}`X1` (packs/extra.toml:6) denies whatever it denies; it only adds its reason `more.rule` "
        "(for the values named in rules and for any other one; `role` takes any text)"
    ]


def test_what_the_limit_cuts_off_is_said_not_guessed() -> None:
    """With few steps, lint names the rules that are not decided and the limits, and keeps what it did decide."""
    limits = Limits(analysis_rule_steps_count=30)
    texts = [text for text in lint(files(), limits=limits).warnings if "not decided" in text]
    assert len(texts) == 1
    assert re.fullmatch(
        r"packs/\w+\.toml:\d+: not decided for `[^`]+`[\w ]* and \d+ more: whether it ever changes an outcome "
        r"takes over 30 steps a rule \(analysis_rule_steps_count\) or 5000000 in all \(analysis_steps_count\)",
        texts[0],
    )
