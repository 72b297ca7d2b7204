"""The course of an incident: what was decided under each change, whatever order the entries are read in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policy_engine.services.approvals import Effect
from policy_engine.services.incident import Stretch, course
from policy_engine.services.permissions import acting_person
from tests.services.governed import open_house

Entry = tuple[str, Mapping[str, Any]]


def change(name: str, epoch: int, at: int, **members: Any) -> Entry:
    """Return a change of an order that raised the epoch."""
    public = {"kind": "order.received", "epoch": epoch, "at": at, "by": "key", "rows": [["orders", "hash"]]}
    return name, {**public, "order": f"order-{epoch}", **members}


def decision(epoch: int, at: int, *orders: str, outcome: str = "allow") -> Entry:
    """Return a decision, denied by orders where there are any."""
    reasons = [["P12", "directive.blocked", list(orders)]]
    return "d", {
        "kind": "decision",
        "epoch": epoch,
        "at": at,
        "outcome": "deny" if orders else outcome,
        "reasons": reasons,
    }


def test_a_stretch_is_what_names_its_epoch() -> None:
    """Allows, denies and who denied are counted under the epoch that the entry names, and the last allow is kept."""
    first, second = course(
        [
            change("1", 4, 10),
            decision(4, 11),
            decision(4, 12),
            change("4", 5, 20),
            decision(5, 21, "order-5"),
            decision(5, 22, outcome="deny"),
        ]
    )
    assert (first.entry, first.started_at, first.allows_count, first.denies_count) == ("1", 10, 2, 0)
    assert (first.last_allow_at, first.late_count) == (12, 0)
    assert (second.kind, second.said["order"], second.denies_count) == ("order.received", "order-5", 2)
    assert second.denied_by == {"order-5": 1}


def test_an_older_allow_after_a_change_is_late() -> None:
    """Under each later change it counts once; one of the same instant does not: the change is dated behind it."""
    found = course([change("0", 1, 0), change("1", 2, 10), decision(1, 10), decision(1, 11), change("2", 3, 20)])
    assert [stretch.late_count for stretch in found] == [0, 1, 0]
    found = course([change("1", 2, 10), change("2", 3, 20), decision(1, 25)])
    assert [(stretch.epoch, stretch.late_count) for stretch in found] == [(1, 0), (2, 1), (3, 1)]


def test_what_lies_within_an_epoch_begins_none() -> None:
    """Facts, proposals, exports and stored releases; what a second person approved does begin one."""
    within = [
        change("1", 3, 1, kind="facts.set", rows=[["persons", "hash"]]),
        change("2", 3, 2, kind="proposal.made", rows=[["approvals", "hash"]], proposal="p"),
        change("3", 3, 3, kind="release.stored", rows=[["releases", "hash"]]),
    ]
    assert course(within) == [Stretch(3)]
    approved = change("4", 3, 4, kind="facts.imported", rows=[["persons", "h"], ["approvals", "h"]], proposal="p")
    assert course([*within, approved])[0].entry == "4"
    assert course([change("5", 3, 4, kind="release.activated", rows=[], activates="sha256:1")])[0].entry == "5"


def test_every_epoch_that_the_services_make_has_its_beginning(tmp_path: Path) -> None:
    """A recovery and an approved export write no row but their proposal's, and begin an epoch like any other change."""
    house = open_house(tmp_path)
    house.approvals.register("export.unseal", lambda proposal, approver: Effect("export.approved", {}, ()))
    caller = acting_person(house.store, house["quinn"], "approve")
    house.switches.engage(house["quinn"], "s", {"models": ["fable-5"]}, "why")
    for waiting in (
        house.switches.release(house["olga"], "s", "over"),
        house.recovery.propose(house["olga"], "the disk was lost", beyond=50),
        house.approvals.propose(caller, "export.unseal", {}, ()),
    ):
        house.approvals.approve(house["paul"], waiting.id)
    house.approvals.refuse(house["paul"], house.recovery.propose(house["olga"], "again", beyond=90).id, "no")
    entries = [(str(seq), json.loads(public)) for _, seq, public in house.store.entries()]
    found = course(entries)
    house.close()
    assert [(each.epoch, each.kind) for each in found] == [
        (1, "genesis"),
        (2, "switch.engaged"),
        (3, "switch.released"),
        (51, "epoch.recovered"),
        (52, "export.approved"),
    ]
    assert all(each.started_at is not None for each in found)
    assert found[3].said["beyond"] == 50


@given(st.randoms(use_true_random=False))
def test_the_order_of_reading_does_not_matter(random: Random) -> None:
    """Entries of several logs come interleaved: the course is the same however they do."""
    entries: list[Entry] = []
    at = 0
    for epoch in range(1, random.randint(2, 5)):
        at += random.randint(0, 3)
        entries.append(change(str(epoch), epoch, at))
        for _ in range(random.randint(0, 4)):
            orders = random.sample(["order-1", "order-2"], random.randint(0, 2))
            entries.append(decision(epoch, at + random.randint(1, 4), *orders))
    shuffled = random.sample(entries, len(entries))
    assert course(shuffled) == course(entries)
