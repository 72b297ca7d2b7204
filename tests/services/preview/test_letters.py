"""Bad letters: one clear error each, by the preview and by the real change alike, and nothing half-applied."""

from __future__ import annotations

import time
from typing import Any

import pytest

from policy_engine.core.instants import format_instant
from policy_engine.errors import Conflict, InputRefused, NotFound, PolicyEngineError, TooLarge
from policy_engine.limits import LIMITS
from policy_engine.services.preview.service import Wanted
from tests.services.preview.conftest import Live
from tests.services.preview.worlds import ALICE, GREG, NOW, Scene, World

LETTER: dict[str, Any] = {"id": "new", "models": ["fable-5"], "blocks": ["foreign_person"]}
ANNEX: dict[str, Any] = {"models": ["fable-5"], "who": "annex_a_entities_and_their_employees", "annex_a": ["acme"]}
LICENCE: dict[str, Any] = {
    "id": "new",
    "from": "2026-01-01",
    "person_id": "p1",
    "models": ["fable-5"],
    "actions": ["infer"],
    "lifts": ["nat"],
}
PEOPLE = World([ALICE, GREG], switch={"models": ["open-1"]}, directive={**LETTER, "id": "d"})


def annex(count: int) -> dict[str, Any]:
    """Return a letter with an annex of so many names."""
    return {**LETTER, "exempts": [{**ANNEX, "annex_a": [f"company-{n}" for n in range(count)]}]}


def held(scene: Scene) -> tuple[Any, ...]:
    """Return everything that a change could have left behind, the log's length included."""
    store = scene.engine.store
    registers = ("orders", "switches", "approvals")
    rows = [(row.register, row.id, row.revision) for name in registers for row in store.rows(name)]
    return rows, store.state(), store.head().next_seq


BAD: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "an unknown model": ("directive", {**LETTER, "models": ["fable-5", "fabel-5"]}, "directive.models[1]"),
    "an unknown model of an exemption": (
        "directive",
        {**LETTER, "exempts": [{**ANNEX, "models": ["fabel-5"]}]},
        "directive.exempts[0].models[0]",
    ),
    "an exemption for nobody known": (
        "directive",
        {**LETTER, "exempts": [{**ANNEX, "who": "friends"}]},
        "directive.exempts[0].who",
    ),
    "an exemption from a model that the letter does not name": (
        "directive",
        {**LETTER, "exempts": [{**ANNEX, "models": ["open-1"]}]},
        "directive.exempts[0].models[0]",
    ),
    "an exemption from a letter on all models": (
        "directive",
        {**LETTER, "models": "all", "exempts": [ANNEX]},
        "directive.exempts[0].models",
    ),
    "an exemption that says twice whom it is for": (
        "directive",
        {**LETTER, "exempts": [{**ANNEX, "who": "lab_foreign_national_employees"}]},
        "directive.exempts[0].annex_a",
    ),
    "an exemption for an annex without names": (
        "directive",
        {**LETTER, "exempts": [{**ANNEX, "annex_a": []}]},
        "directive.exempts[0].annex_a",
    ),
    "an exemption that ends before it starts": (
        "directive",
        {**LETTER, "exempts": [{**ANNEX, "from": "2026-07-02", "until": "2026-07-01"}]},
        "directive.exempts[0].until",
    ),
    "an end before the start": (
        "directive",
        {**LETTER, "from": "2026-07-02T00:00:00Z", "until": "2026-07-01T00:00:00Z"},
        "directive.until",
    ),
    "an end that has come": ("directive", {**LETTER, "until": format_instant(NOW)}, "directive.until"),
    "an unknown block": ("directive", {**LETTER, "blocks": ["everybody"]}, "directive.blocks"),
    "an unknown country": ("licence", {**LICENCE, "nationalities": ["CN", "XX"]}, "licence.nationalities[1]"),
    "an unknown place": ("licence", {**LICENCE, "destinations": ["US-43"]}, "licence.destinations[0]"),
    "an annex beyond the limit": ("directive", annex(LIMITS.annex_names_count + 1), "directive.exempts[0].annex_a"),
    "an id that exists": ("directive", {**LETTER, "id": "d"}, None),
    "a letter of no kind": ("memo", LETTER, "kind"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_letter_is_one_clear_error_and_nothing_more(name: str, live: Live) -> None:
    """Preview and receipt refuse it with the same sentence and place; registers, state and log stay as they were."""
    kind, document, where = BAD[name]
    with live(PEOPLE) as scene:
        before, olga = held(scene), scene.people["olga"]
        with pytest.raises(PolicyEngineError) as previewed:
            scene.previews.receive(olga, kind, document)
        with pytest.raises(PolicyEngineError) as received:
            scene.engine.orders.receive(olga, kind, document)
        assert held(scene) == before
    assert isinstance(received.value, InputRefused | Conflict | TooLarge)
    assert (previewed.value.where, str(previewed.value)) == (received.value.where, str(received.value))
    if where is not None:
        assert received.value.where == where
    assert not any(word in str(received.value) for word in ("fabel", "XX", "everybody", "friends"))


def test_an_annex_of_10_000_names_is_received_and_previewed_quickly(live: Live) -> None:
    """The whole annex is within the limits, and neither step takes long."""
    with live(PEOPLE) as scene:
        olga, letter = scene.people["olga"], annex(LIMITS.annex_names_count)
        began = time.monotonic()
        found = scene.previews.receive(olga, "directive", letter, wanted=Wanted(days=1))
        receipt = scene.engine.orders.receive(olga, "directive", letter)
        scene.approve(receipt.proposal)
        assert time.monotonic() - began < 5.0
        assert found.complete and receipt.committed is not None
        kept = scene.engine.orders.show(olga, "new").body["exempts"][0]["annex_a"]
        assert len(kept) == LIMITS.annex_names_count


def test_overlapping_directives_all_bind(live: Live) -> None:
    """A second letter on the same model takes nothing more away; ending the first gives nothing back."""
    with live(PEOPLE) as scene:
        olga = scene.people["olga"]
        again = scene.previews.receive(olga, "directive", LETTER, wanted=Wanted(days=0))
        assert again.registers.counts.loses == 0
        alone = scene.previews.end(olga, "d", wanted=Wanted(days=0))
        assert alone.registers.counts.gains > 0
        scene.engine.orders.receive(olga, "directive", LETTER)
        ended = scene.previews.end(olga, "d", wanted=Wanted(days=0))
        assert ended.registers.counts.gains == 0


@pytest.mark.parametrize("after", ["never", "released"])
def test_a_switch_that_is_not_engaged_is_not_released(after: str, live: Live) -> None:
    """Preview and release refuse it with the same sentence, and leave nothing behind."""
    with live(PEOPLE) as scene:
        olga, engine = scene.people["olga"], scene.engine
        id = "none" if after == "never" else "s"
        if after == "released":
            scene.approve(engine.switches.release(scene.people["quinn"], "s", "over").id)
        before = held(scene)
        with pytest.raises((NotFound, Conflict)) as previewed:
            scene.previews.release(olga, id)
        with pytest.raises((NotFound, Conflict)) as refused:
            engine.switches.release(olga, id, "over")
        assert str(previewed.value) == str(refused.value)
        assert (id in str(refused.value)) is (after == "released")  # what names nothing may be anything
        assert held(scene) == before


def test_an_order_that_is_over_or_of_another_kind_is_not_amended(live: Live) -> None:
    """An ended order, an unknown one, and members of another kind are refused, each with its own error."""
    with live(PEOPLE) as scene:
        olga = scene.people["olga"]
        with pytest.raises(InputRefused, match="kind"):
            scene.previews.amend(olga, "d", {**LETTER, "id": "d"}, kind="licence")
        with pytest.raises(NotFound):
            scene.previews.amend(olga, "none", {**LETTER, "id": "none"})
        scene.approve(scene.engine.orders.end(olga, "d", "over").proposal)
        with pytest.raises(Conflict, match="ended already"):
            scene.previews.end(olga, "d")
