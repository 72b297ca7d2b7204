"""Attacks on legal hold and on retention: each test is one, and names it."""

from __future__ import annotations

import pytest

from policy_engine.core.instants import DAY, SECOND
from policy_engine.errors import Conflict, InputRefused, NotPermitted
from policy_engine.services.holdrules import Cover
from tests.attacks.zoe import ZOE, there
from tests.services.erasedsamples import RETENTION_DAYS, Office, ten_years
from tests.services.evidencesamples import PEP

# Holds


def test_releasing_a_hold_alone(office: Office) -> None:
    """One person places a hold; the one who proposes its release cannot approve it, and no other way ends it."""
    nina = office.people["nina"]
    office.holds.place(nina, "h", Cover(subject=ZOE), "why")
    proposal = office.holds.release(nina, "h", "over")
    with pytest.raises(NotPermitted, match="another person"):
        office.approvals.approve(nina, proposal.id)
    for attempt in (
        lambda: office.orders.end(nina, "h", "over"),
        lambda: office.orders.amend(nina, "h", {"subject": "nobody"}),
        lambda: office.orders.receive(nina, "hold", {"id": "h2", "subject": ZOE}),
        lambda: office.holds.place(nina, "h", Cover(subject="nobody"), "why"),
    ):
        with pytest.raises((Conflict, InputRefused)):
            attempt()
    assert office.holds.list(nina)[0].in_force


@pytest.mark.parametrize(
    "cover", [Cover(), Cover(subject=""), Cover(tenant=" "), Cover(since=10, until=10), Cover(since=10, until=9)]
)
def test_a_hold_on_nothing(office: Office, cover: Cover) -> None:
    """A hold that covers nothing must not look like one."""
    with pytest.raises(InputRefused):
        office.holds.place(office.people["nina"], "h", cover, "why")


def test_a_hold_denies_nobody(office: Office) -> None:
    """A hold keeps records; the register of orders stays readable with it, and no decision changes by it."""
    from policy_engine.services.snapshot import read_orders

    office.holds.place(office.people["nina"], "h", Cover(subject=ZOE), "why")
    assert read_orders(office.store.rows("orders")) is not None


# Retention


def test_pruning_what_is_younger_than_the_limit(office: Office) -> None:
    """Nothing within the retention limit is pruned, whoever asks; a day short is refused as well."""
    nina = office.people["nina"]
    office.clock.at += ten_years()
    limit = office.clock() - RETENTION_DAYS * DAY
    for before in (office.clock(), limit + 1, limit + DAY):
        with pytest.raises(InputRefused, match="retention limit of 3653 days"):
            office.retention.propose(nina, before, "old")
    assert office.retention.propose(nina, limit, "old").bodies == 1


def test_pruning_alone(office: Office) -> None:
    """Who proposed a pruning cannot approve it."""
    office.clock.at += ten_years()
    proposal = office.retention.propose(office.people["nina"], office.clock() - ten_years() + SECOND, "old").proposal
    with pytest.raises(NotPermitted, match="another person"):
        office.approvals.approve(office.people["nina"], proposal.id)
    assert there(office)


def test_a_hold_placed_after_a_pruning_was_proposed(office: Office) -> None:
    """What is held when the pruning is applied stays, whatever was held when it was proposed."""
    office.tick()
    bob = office.decide("bob")
    office.clock.at += ten_years()
    before = office.clock() - ten_years() + SECOND
    proposal = office.retention.propose(office.people["nina"], before, "old").proposal
    office.holds.place(office.people["rita"], "h", Cover(subject="bob"), "why")
    office.approvals.approve(office.people["paul"], proposal.id)
    assert office.entry(bob).sealed
    assert not there(office)
    assert office.publics()[-1]["held"] == 1


@pytest.mark.parametrize("subject", ["bob", ""], ids=["about a person", "about nobody"])
def test_a_hold_on_a_tenant_keeps_what_names_it_in_its_sealed_part_only(office: Office, subject: str) -> None:
    """A search that was made for a tenant says so in its body alone; the tenant's hold keeps it all the same."""
    held, gone = (
        office.recorder.record(
            lambda state, tenant=tenant: office.recorder.note(
                "search", {"count": 0}, PEP, state, body={"model": "fable-5"}, subject=subject, tenant=tenant
            )
        )
        for tenant in ("acme", "lab")
    )
    office.holds.place(office.people["rita"], "h", Cover(tenant="acme"), "why")
    office.clock.at += ten_years()
    office.prune(office.clock() - ten_years() + 2 * SECOND)
    assert office.entry((held.log_id, held.seq)).sealed and there(office)
    assert not office.entry((gone.log_id, gone.seq)).sealed
    assert office.publics()[-1]["held"] == 2
