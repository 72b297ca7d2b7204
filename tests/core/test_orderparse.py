"""Orders as documents: what is refused on receipt, and what a doubtful one means when it is read back."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.core.orderparse import (
    parse_directive,
    parse_grant,
    parse_licence,
    parse_override,
    parse_switch_scope,
)
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS

EXEMPT = {"models": ["m"], "who": "annex_a_entities_and_their_employees", "annex_a": ["t1"]}
LAB = {"who": "lab_foreign_national_employees", "annex_a": None}
DIRECTIVE = {"id": "d1", "models": ["m"], "blocks": ["foreign_person"], "exempts": [EXEMPT]}
LICENCE = {"id": "l1", "from": "2026-01-01", "person_id": "p1", "models": ["m"], "actions": ["infer"], "lifts": ["nat"]}
GRANT = {"id": "g1", "person_id": "p1", "tenant_id": None, "models": ["m"], "actions": ["infer"], "by": "an account"}
OVERRIDE = {"id": "o1", "by": "one", "approved_by": "two", "reason": "why"}
PARSERS = {
    "directive": (parse_directive, DIRECTIVE),
    "licence": (parse_licence, LICENCE),
    "grant": (parse_grant, GRANT),
    "override": (parse_override, OVERRIDE),
}


def refused(parse: Any, body: Any, **options: Any) -> str:
    """Return where a document was refused."""
    with pytest.raises(InputRefused) as found:
        parse(body, **options)
    return str(found.value.where)


@pytest.mark.parametrize("kind", PARSERS)
def test_a_whole_order_is_read(kind: str) -> None:
    """The documents that the other tests spoil are good ones."""
    parse, body = PARSERS[kind]
    assert parse(body).id == body["id"]
    assert parse(body, strict=False) == parse(body)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", PARSERS)
@pytest.mark.parametrize("change", [{"id": None}, {"id": ""}, {"id": 7}, {"note": "x"}, {"from": "soon"}, {"until": 3}])
def test_malformed_orders_are_always_refused(kind: str, change: dict[str, Any], strict: bool) -> None:
    """No id, an unknown member, and dates that are none are refused on receipt and when read back."""
    parse, body = PARSERS[kind]
    name = next(iter(change))
    assert refused(parse, {**body, **change}, strict=strict) == (kind if name == "note" else f"{kind}.{name}")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("value", [0, False, "", {}])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("directive", "exempts"),
        ("directive", "blocks"),
        ("licence", "nationalities"),
        ("licence", "lifts"),
        ("licence", "conditions"),
    ],
)
def test_what_is_no_list_is_never_taken_for_an_empty_one(kind: str, name: str, value: Any, strict: bool) -> None:
    """Absent and null are empty; an empty text, false, 0 or an object is a mistake, on receipt and when read back."""
    parse, body = PARSERS[kind]
    assert refused(parse, {**body, name: value}, strict=strict) == f"{kind}.{name}"


@pytest.mark.parametrize("kind", PARSERS)
@pytest.mark.parametrize("body", [None, "all", ["d1"], 3])
def test_an_order_is_an_object(kind: str, body: Any) -> None:
    """Anything else is refused by the name of the kind."""
    assert refused(PARSERS[kind][0], body) == kind


@pytest.mark.parametrize("kind", PARSERS)
def test_an_order_that_ends_before_it_starts_is_refused_on_receipt(kind: str) -> None:
    """An interval of no length is none either; read back, such an order is simply never in force."""
    parse, body = PARSERS[kind]
    dates = {"from": "2026-06-12", "until": "2026-06-12"}
    assert refused(parse, {**body, **dates}) == f"{kind}.until"
    order = parse({**body, **dates}, strict=False)
    assert order.start == order.until == parse_instant("2026-06-12")
    parse({**body, **dates, "until": "2026-06-12T00:00:00.000001Z"})


@pytest.mark.parametrize("kind", ["directive", "grant", "override"])
def test_an_order_without_dates_is_in_force_for_good(kind: str) -> None:
    """Anything but a licence is in force without `from`; an absent end is open."""
    parse, body = PARSERS[kind]
    order = parse(body)
    assert (order.start, order.until) == (-ENDLESS, ENDLESS)


@pytest.mark.parametrize("blocks", [None, [], ["nonsense"], ["foreign_person", "nonsense"]])
def test_a_directive_without_blocks_or_with_an_unknown_one_is_refused_on_receipt(blocks: Any) -> None:
    """On receipt it is refused; read back, it keeps its words, which block everyone."""
    body = {**DIRECTIVE, "blocks": blocks}
    assert refused(parse_directive, body) == "directive.blocks"
    assert parse_directive(body, strict=False).blocks == frozenset(blocks or ())


@pytest.mark.parametrize(
    ("directive", "exempt", "place"),
    [
        ({"until": "2026-07-01"}, {"from": "2026-07-01"}, "directive.exempts[1]"),
        ({"until": "2026-07-01"}, {"from": "2026-06-30T23:59:59.999999Z"}, None),
        ({"from": "2026-06-12"}, {"until": "2026-06-12"}, "directive.exempts[1]"),
        ({"from": "2026-06-12"}, {"until": "2026-06-12T00:00:00.000001Z"}, None),
        ({"blocks": ["destination_outside_us"]}, {}, None),
        ({"blocks": ["destination_outside_us"]}, LAB, "directive.exempts[1].who"),
        ({"blocks": ["destination_outside_us", "foreign_person"]}, LAB, None),
    ],
)
def test_an_exemption_that_contradicts_its_directive_is_refused_on_receipt(
    directive: dict[str, Any], exempt: dict[str, Any], place: str | None
) -> None:
    """One that is in force at no instant of the directive, or lifts nothing that it blocks; read back, it stays."""
    body = {**DIRECTIVE, **directive, "exempts": [EXEMPT, {**EXEMPT, **exempt}]}
    assert len(parse_directive(body, strict=False).exempts) == 2
    if place is None:
        assert parse_directive(body) == parse_directive(body, strict=False)
    else:
        assert refused(parse_directive, body) == place


@pytest.mark.parametrize("models", [None, []])
def test_a_directive_must_name_its_models_on_receipt(models: Any) -> None:
    """`"all"` says every model on purpose; read back, no models mean every model."""
    body = {**DIRECTIVE, "models": models}
    assert refused(parse_directive, body) == "directive.models"
    assert parse_directive(body, strict=False).models is None
    assert parse_directive({**body, "models": "all"}).models is None


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"who": "friends"}, "directive.exempts[0].who"),
        ({"who": None}, "directive.exempts[0].who"),
        ({"until": "soon"}, "directive.exempts[0].until"),
        ({"annex_a": "t1"}, "directive.exempts[0].annex_a"),
        ({"annex_a": [1]}, "directive.exempts[0].annex_a[0]"),
        ({"id": 1}, "directive.exempts[0].id"),
        ({"because": "x"}, "directive.exempts[0]"),
    ],
)
def test_a_malformed_exemption_is_always_refused(change: dict[str, Any], where: str, strict: bool) -> None:
    """An exemption that cannot be read eases nobody, and the place is named."""
    assert refused(parse_directive, {**DIRECTIVE, "exempts": [{**EXEMPT, **change}]}, strict=strict) == where


def test_an_exemption_must_name_models_on_receipt() -> None:
    """Read back, an exemption for no model eases none."""
    body = {**DIRECTIVE, "exempts": [{**EXEMPT, "models": []}]}
    assert refused(parse_directive, body) == "directive.exempts[0].models"
    assert parse_directive(body, strict=False).exempts[0].models == frozenset()


def test_exemptions_may_share_an_id_or_have_none() -> None:
    """Ids of exemptions may repeat; both are kept."""
    body = {**DIRECTIVE, "exempts": [{**EXEMPT, "id": "e"}, {**EXEMPT, "id": "e", "models": ["n"]}, EXEMPT]}
    assert [exempt.id for exempt in parse_directive(body).exempts] == ["e", "e", ""]


def test_an_annex_may_be_long_and_not_endless() -> None:
    """The limit on the names of an annex is its own: at the edge accepted, one past it refused."""
    names = [f"t{number}" for number in range(LIMITS.annex_names_count + 1)]
    body = {**DIRECTIVE, "exempts": [{**EXEMPT, "annex_a": names[:-1]}]}
    assert len(parse_directive(body).exempts[0].annex) == LIMITS.annex_names_count
    with pytest.raises(TooLarge):
        parse_directive({**DIRECTIVE, "exempts": [{**EXEMPT, "annex_a": names}]})


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("lifts", [["P5"], ["nat", "embargo"], ["directive.foreign_person"], ["Nat"]])
def test_any_other_lift_key_is_refused(lifts: list[str], strict: bool) -> None:
    """Lift keys are `seat, dest, nat, weights, directive`, on receipt and when read back."""
    assert refused(parse_licence, {**LICENCE, "lifts": lifts}, strict=strict) == "licence.lifts"
    assert parse_licence({**LICENCE, "lifts": ["seat", "dest", "nat", "weights", "directive"]})


def test_a_licence_must_be_somebodys_on_receipt() -> None:
    """With both ids null it matches nobody, and is refused rather than received in vain."""
    body = {**LICENCE, "person_id": None, "tenant_id": None}
    assert refused(parse_licence, body) == "licence"
    assert parse_licence(body, strict=False).person_id is None
    assert parse_licence({**body, "tenant_id": "t1"}).tenant_id == "t1"


def test_a_licence_must_say_from_when_on_receipt() -> None:
    """Without `from` it is never in force."""
    body = {**LICENCE, "from": None}
    assert refused(parse_licence, body) == "licence.from"
    assert parse_licence(body, strict=False).start is None


def test_a_licence_keeps_its_instants() -> None:
    """Start, end and revocation; open where nothing is said."""
    plain = parse_licence(LICENCE)
    assert (plain.until, plain.revoked_at) == (ENDLESS, ENDLESS)
    dated = parse_licence({**LICENCE, "until": "2026-09-01", "revoked_at": "2026-08-01"})
    assert (dated.until, dated.revoked_at) == (parse_instant("2026-09-01"), parse_instant("2026-08-01"))


def test_grants_and_overrides_keep_what_was_said() -> None:
    """They are recorded as received."""
    grant = parse_grant(GRANT)
    assert (grant.person_id, grant.tenant_id, grant.by) == ("p1", None, "an account")
    assert (grant.models, grant.actions) == ({"m"}, {"infer"})
    override = parse_override(OVERRIDE)
    assert (override.by, override.approved_by, override.reason) == ("one", "two", "why")


def test_a_switch_scope_is_read_dimension_by_dimension() -> None:
    """Named dimensions become sorted lists without repetition; `"all"` stays; absent ones are left out."""
    body = {"id": "k1", "models": "all", "tiers": [5, 4, 5], "regions": ["US", "DE"], "actions": None}
    assert parse_switch_scope(body) == {"models": "all", "tiers": [4, 5], "regions": ["DE", "US"]}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "switch"),
        ({"id": "k1", "from": "2026-01-01"}, "switch"),
        ({"models": []}, "switch.models"),
        ({"tiers": [0]}, "switch.tiers[0]"),
        ({"tiers": [4, 6]}, "switch.tiers[1]"),
        ({"tiers": ["4"]}, "switch.tiers[0]"),
        ({"tiers": [True]}, "switch.tiers[0]"),
        ({"tiers": 4}, "switch.tiers"),
        ({"models": ["m", 5]}, "switch.models[1]"),
        ({"models": "m"}, "switch.models"),
        ({"planets": ["mars"]}, "switch"),
        ({"models": ["m"], "from": "2026-02-01", "until": "2026-01-01"}, "switch.until"),
        ([], "switch"),
    ],
)
def test_a_switch_scope_that_cannot_mean_anything_is_refused_on_receipt(body: Any, where: str) -> None:
    """No scope, an empty one, a tier that is none, an unknown dimension and a backward interval."""
    assert refused(parse_switch_scope, body) == where


def test_a_switch_scope_read_back_means_more_where_it_is_empty() -> None:
    """Read without strictness, an empty dimension is none, which any request matches."""
    assert parse_switch_scope({"models": [], "tiers": [4]}, strict=False) == {"tiers": [4]}
    assert parse_switch_scope({}, strict=False) == {}
