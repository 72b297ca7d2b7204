"""Orders as a service: what is refused, with its place, and who may enter and read them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.instants import format_instant
from policy_engine.errors import Conflict, InputRefused, NotFound, NotPermitted, TooLarge
from policy_engine.limits import Limits
from policy_engine.services.approvals import Approvals
from policy_engine.services.orders import Orders
from policy_engine.services.permissions import LOCAL
from policy_engine.store.interfaces import Change, Write
from tests.services.governed import PEOPLE, VOCABULARY, House, open_house
from tests.services.letters import DIRECTIVE, EXEMPT, GRANT, LICENCE, OVERRIDE, body


@pytest.mark.parametrize(
    ("kind", "document", "where"),
    [
        ("directive", {**DIRECTIVE, "blocks": []}, "directive.blocks"),
        ("directive", {**DIRECTIVE, "blocks": ["planted_block"]}, "directive.blocks"),
        ("directive", {**DIRECTIVE, "models": []}, "directive.models"),
        ("directive", {**DIRECTIVE, "models": ["fable-5", "planted"]}, "directive.models[1]"),
        ("directive", {**DIRECTIVE, "until": "2026-06-12T21:21:00Z"}, "directive.until"),
        ("directive", {**DIRECTIVE, "exempts": [{**EXEMPT, "models": ["planted"]}]}, "directive.exempts[0].models[0]"),
        ("directive", {**DIRECTIVE, "exempts": [{**EXEMPT, "who": "planted"}]}, "directive.exempts[0].who"),
        ("directive", {**DIRECTIVE, "planted": 1}, "directive"),
        ("directive", {**DIRECTIVE, "id": ""}, "document.id"),
        ("directive", {**DIRECTIVE, "id": "letter\n12"}, "document.id"),
        ("directive", {**DIRECTIVE, "id": 12}, "document.id"),
        ("directive", {**DIRECTIVE, "id": "x" * 257}, "document.id"),
        ("licence", {**LICENCE, "models": ["fable-latest"]}, "licence.models[0]"),
        ("licence", {**LICENCE, "actions": ["planted"]}, "licence.actions[0]"),
        ("licence", {**LICENCE, "nationalities": ["IN", "QQ"]}, "licence.nationalities[1]"),
        ("licence", {**LICENCE, "nationalities": ["US-CA"]}, "licence.nationalities[0]"),
        ("licence", {**LICENCE, "destinations": ["US-QQ"]}, "licence.destinations[0]"),
        ("licence", {**LICENCE, "lifts": ["planted"]}, "licence.lifts"),
        ("licence", {**LICENCE, "person_id": None}, "licence"),
        ("licence", {**LICENCE, "from": None}, "licence.from"),
        ("licence", {**LICENCE, "until": "2025-01-01"}, "licence.until"),
        ("licence", {**LICENCE, "revoked_at": "2027-01-01"}, "licence.revoked_at"),
        ("grant", {**GRANT, "models": ["planted"]}, "grant.models[0]"),
        ("override", {**OVERRIDE, "until": "soon"}, "override.until"),
        ("letter", DIRECTIVE, "kind"),
    ],
)
def test_an_order_that_cannot_mean_anything_is_refused(
    house: House, kind: str, document: dict[str, Any], where: str
) -> None:
    """A malformed order, or one that names the unknown, is refused with the place and not the word; nothing is kept."""
    with pytest.raises(InputRefused) as refused:
        house.orders.receive(house["olga"], kind, document)
    assert refused.value.where == where
    assert "planted" not in str(refused.value)
    assert house.kinds() == ["genesis"]


def test_a_directive_that_is_over_is_not_received(house: House) -> None:
    """It would be committed and deny nobody, which an operator who wrote the wrong year would not see."""
    for until in ("2025-06-12T21:21:00Z", format_instant(house.clock())):
        with pytest.raises(InputRefused, match="has passed already") as refused:
            house.orders.receive(house["olga"], "directive", {**DIRECTIVE, "from": None, "until": until})
        assert refused.value.where == "directive.until"
    assert house.kinds() == ["genesis"]
    coming = format_instant(house.clock() + 1)
    assert house.orders.receive(house["olga"], "directive", {**DIRECTIVE, "from": None, "until": coming}).committed


def test_an_amendment_is_checked_like_a_receipt(house: House) -> None:
    """An amendment that names the unknown, another id or too much is refused, and the order stands."""
    house.orders.receive(house["olga"], "directive", DIRECTIVE)
    for change, where in (
        ({"models": ["planted"]}, "directive.models[0]"),
        ({"blocks": []}, "directive.blocks"),
        ({"id": "letter-13"}, "document.id"),
    ):
        with pytest.raises(InputRefused) as refused:
            house.orders.amend(house["olga"], "letter-12", {**DIRECTIVE, **change})
        assert refused.value.where == where
    with pytest.raises(NotFound):
        house.orders.amend(house["olga"], "letter-13", DIRECTIVE)
    without_id = {name: value for name, value in DIRECTIVE.items() if name != "id"}
    house.orders.amend(house["olga"], "letter-12", {**without_id, "models": "all"})
    assert body(house, "letter-12") == {**DIRECTIVE, "models": "all"}


def test_words_and_documents_have_bounds(house: House) -> None:
    """A text, reference, reason or document beyond its limit is refused; at the limit it is not."""
    receive = house.orders.receive
    for words in ({"reference": "x" * 1_025}, {"reason": "x" * 1_025}, {"text": "x" * 1_048_577}):
        with pytest.raises(TooLarge):
            receive(house["olga"], "directive", DIRECTIVE, **words)
    many = [{**EXEMPT, "annex_a": [f"{n:0120}" for n in range(10_000)]}]
    with pytest.raises(TooLarge, match="bytes"):
        receive(house["olga"], "directive", {**DIRECTIVE, "exempts": many})
    receive(house["olga"], "directive", DIRECTIVE, reference="x" * 1_024, reason="y" * 1_024, text="x" * 1_048_576)


def test_an_order_is_not_amended_without_end(house: House) -> None:
    """An order with as many revisions as the limit allows takes no further one."""
    few = dataclasses.replace(Limits(), list_items_count=2)
    orders = Orders(house.store, Approvals(house.store), lambda hash: VOCABULARY, limits=few)
    orders.receive(house["olga"], "grant", GRANT)
    orders.amend(house["olga"], "g1", {**GRANT, "by": "a"})
    with pytest.raises(TooLarge, match="2 revisions"):
        orders.amend(house["olga"], "g1", {**GRANT, "by": "b"})


def test_ending_needs_a_reason(house: House) -> None:
    """An end without a reason, or with one too long, is refused."""
    house.orders.receive(house["olga"], "grant", GRANT)
    for reason in ("", "  ", "x" * 1_025):
        with pytest.raises(InputRefused, match="why"):
            house.orders.end(house["olga"], "g1", reason)
    with pytest.raises(NotFound):
        house.orders.end(house["olga"], "g2", "why")


def test_without_a_release_no_order_is_entered(tmp_path: Path) -> None:
    """While no release is active nobody can say which models an order means, so none is entered."""
    house = open_house(tmp_path, PEOPLE, release=False)
    with pytest.raises(Conflict, match="no release is active"):
        house.orders.receive(house["olga"], "directive", DIRECTIVE)
    house.close()


def test_who_writes_and_reads_orders(house: House) -> None:
    """Orders are entered with `orders:write` by a key that is not bounded, and read by persons with a reason to."""
    house.orders.receive(house["olga"], "grant", GRANT)
    for principal in (house["paul"], house["auditor"], house["gateway"], house["bounded"], LOCAL):
        with pytest.raises(NotPermitted):
            house.orders.receive(principal, "directive", DIRECTIVE)
        with pytest.raises(NotPermitted):
            house.orders.end(principal, "g1", "why")
    for principal in (house["paul"], house["auditor"], house["olga"]):
        assert [order.id for order in house.orders.list(principal, kind="grant", status="in_force")] == ["g1"]
        assert house.orders.list(principal, kind="licence") == house.orders.list(principal, status="ended") == ()
    for principal in (house["gateway"], LOCAL):
        with pytest.raises(NotPermitted):
            house.orders.list(principal)
        with pytest.raises(NotPermitted):
            house.orders.show(principal, "g1")
    with pytest.raises(NotFound):
        house.orders.show(house["paul"], "g2")


def test_a_release_that_changes_under_a_receipt_refuses_it(house: House) -> None:
    """An order whose words were checked against one release is not entered under another."""
    other = "sha256:" + "ef" * 32

    def vocabulary(hash: str) -> Any:
        if house.store.row("releases", other) is None:
            row = house.store.row("releases", hash)
            write = Write("releases", other, row.document, 0)
            house.store.change(Change("release.activated", {}, (write,), raises_epoch=True, activate=other))
        return VOCABULARY

    orders = Orders(house.store, Approvals(house.store), vocabulary)
    with pytest.raises(Conflict, match="release"):
        orders.receive(house["olga"], "directive", DIRECTIVE)
    assert house.store.rows("orders") == []
