"""Approvals as a service: what a proposal fixes, who sees and decides it, and what the log says of it."""

from __future__ import annotations

import json

import pytest

from policy_engine.core.instants import DAY
from policy_engine.errors import Conflict, InputRefused, NotFound, NotPermitted, PolicyEngineError
from policy_engine.services.approvals import Approvals
from policy_engine.services.permissions import LOCAL, acting_person
from tests.services.governed import House, person

LICENCE = {
    "id": "lic-1",
    "from": "2026-01-01T00:00:00Z",
    "until": None,
    "person_id": "planted-person-of-the-licence",
    "tenant_id": None,
    "models": ["fable-5"],
    "actions": ["infer"],
    "nationalities": ["IN"],
    "destinations": [],
    "lifts": ["nat"],
}


def test_a_proposal_has_no_effect_and_raises_no_epoch(house: House) -> None:
    """A waiting proposal is durable and changes neither what it is about nor the epoch."""
    before = house.store.state()
    receipt = house.orders.receive(house["olga"], "licence", LICENCE)
    assert house.store.state() == before
    assert house.kinds()[-1] == "proposal.made"
    assert house.store.row("orders", "lic-1") is None
    assert house.approvals.show(house["paul"], receipt.proposal).status == "waiting"


def test_effect_and_status_are_one_entry(house: House) -> None:
    """Approving writes the order and the proposal's status in one entry, naming both keys and the content hash."""
    receipt = house.orders.receive(house["olga"], "licence", LICENCE, reason="customer visit")
    waiting = house.approvals.show(house["paul"], receipt.proposal)
    ruled = house.approvals.approve(house["paul"], receipt.proposal, hash=waiting.hash)
    order, proposal = house.store.row("orders", "lic-1"), house.store.row("approvals", receipt.proposal)
    assert (order.log_id, order.seq) == (proposal.log_id, proposal.seq)
    entry = json.loads(house.store.entry(order.log_id, order.seq).public)
    assert (entry["kind"], entry["by"], entry["proposed_by"]) == ("order.licensed", "paul", "olga")
    assert (entry["proposal"], entry["hash"]) == (receipt.proposal, waiting.hash)
    assert (ruled.proposal.status, ruled.proposal.decided_by, ruled.proposal.decided_at) == (
        "approved",
        "paul",
        house.clock(),
    )
    assert waiting.note == "customer visit"


def test_the_log_names_nobody_that_a_proposal_is_about(house: House) -> None:
    """No public entry holds what the payload says of a person, and equal payloads have unequal hashes."""
    first = house.orders.receive(house["olga"], "licence", LICENCE)
    second = house.orders.receive(house["olga"], "licence", LICENCE)
    house.approvals.approve(house["paul"], first.proposal)
    public = b"".join(public for _, _, public in house.store.entries())
    assert b"planted-person-of-the-licence" not in public
    hashes = {house.approvals.show(house["paul"], receipt.proposal).hash for receipt in (first, second)}
    assert len(hashes) == 2


def test_refusing_needs_a_reason_and_closes_the_proposal(house: House) -> None:
    """One person with `approve` refuses with a reason; nothing is applied and no epoch is raised."""
    receipt = house.orders.receive(house["olga"], "licence", LICENCE)
    epoch = house.store.state().epoch
    for reason in ("", " ", "x" * 1_025):
        with pytest.raises(InputRefused, match="reason"):
            house.approvals.refuse(house["paul"], receipt.proposal, reason)
    with pytest.raises(NotPermitted):
        house.approvals.refuse(house["auditor"], receipt.proposal, "no")
    ruled = house.approvals.refuse(house["paul"], receipt.proposal, "no such visit")
    assert (ruled.proposal.status, ruled.proposal.reason) == ("refused", "no such visit")
    assert (house.store.state().epoch, house.store.row("orders", "lic-1")) == (epoch, None)


def test_the_proposer_may_withdraw(house: House) -> None:
    """Taking back one's own proposal only tightens, so its proposer may, with any key that is alive."""
    receipt = house.orders.receive(house["olga"], "licence", LICENCE)
    house.approvals.refuse(house["olga-2"], receipt.proposal, "wrong person")
    assert house.approvals.show(house["paul"], receipt.proposal).status == "refused"


def test_who_sees_proposals(house: House) -> None:
    """Approvers and auditors see every proposal, other persons their own, services and `local` none."""
    receipt = house.orders.receive(house["olga"], "licence", LICENCE)
    assert [p.id for p in house.approvals.list(house["paul"])] == [receipt.proposal]
    assert [p.id for p in house.approvals.list(house["auditor"], status="waiting")] == [receipt.proposal]
    assert house.approvals.list(house["paul"], status="approved") == ()
    issued = house.keys.create(house["olga"], person("clerk", "orders:write"))
    house.approvals.approve(house["paul"], issued.proposal)
    clerk = house.keys.authenticate(issued.secret, house.clock())
    assert house.approvals.list(clerk) == ()
    with pytest.raises(NotFound):
        house.approvals.show(clerk, receipt.proposal)
    own = house.orders.receive(clerk, "licence", {**LICENCE, "id": "lic-2"})
    assert [p.id for p in house.approvals.list(clerk)] == [own.proposal]
    assert house.approvals.show(clerk, own.proposal).proposed_by == "clerk"
    for principal in (LOCAL, house["gateway"]):
        with pytest.raises(NotPermitted):
            house.approvals.list(principal)


def test_a_bounded_key_reads_nothing_beyond_its_own(house: House) -> None:
    """A key bounded to tenants shows its owner their own proposals and keys, and no orders, which reach everybody."""
    house.orders.receive(house["olga"], "licence", LICENCE)
    assert house.approvals.list(house["bounded"]) == ()
    assert [key.id for key in house.keys.list(house["bounded"])] == ["bounded"]
    with pytest.raises(NotPermitted, match="bounded"):
        house.orders.list(house["bounded"])
    with pytest.raises(NotPermitted, match="bounded"):
        house.orders.show(house["bounded"], "lic-1")


def test_an_old_proposal_is_shown_as_expired(house: House) -> None:
    """A proposal waits for exactly seven days; from then on it is shown as expired before anybody touches it."""
    receipt = house.orders.receive(house["olga"], "licence", LICENCE)
    house.clock.at += 7 * DAY - 1
    assert house.approvals.show(house["paul"], receipt.proposal).status == "waiting"
    house.clock.at += 1
    assert house.approvals.show(house["paul"], receipt.proposal).status == "expired"
    assert [p.status for p in house.approvals.list(house["paul"], status="expired")] == ["expired"]


def test_an_unknown_proposal_is_not_found(house: House) -> None:
    """Approving, refusing or showing what was never proposed is not found."""
    for attempt in (house.approvals.approve, house.approvals.show):
        with pytest.raises(NotFound):
            attempt(house["paul"], "prop-none")
    with pytest.raises(NotFound):
        house.approvals.refuse(house["paul"], "prop-none", "why")


def test_a_kind_has_one_handler(house: House) -> None:
    """A kind nobody applies is not proposed, a kind has one handler, and what nobody here applies is not approved."""
    caller = acting_person(house.store, house["olga"], "orders:write")
    with pytest.raises(ValueError, match="no handler"):
        house.approvals.propose(caller, "order.sing", {}, ())
    with pytest.raises(ValueError, match="handler already"):
        house.approvals.register("order.end", lambda proposal, approver: None)
    receipt = house.orders.receive(house["olga"], "licence", LICENCE)
    with pytest.raises(PolicyEngineError, match="applies"):
        Approvals(house.store).approve(house["paul"], receipt.proposal)
    assert house.approvals.show(house["paul"], receipt.proposal).status == "waiting"


def test_a_proposal_rests_on_what_it_was_made_from(house: House) -> None:
    """A proposal whose rows moved before it could be stored is not stored."""
    caller = acting_person(house.store, house["olga"], "orders:write")
    with pytest.raises(Conflict):
        house.approvals.propose(caller, "order.end", {"id": "d", "reason": "r"}, (("orders", "d", 1),))
    assert house.approvals.list(house["paul"]) == ()
