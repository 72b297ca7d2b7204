"""Orders as a service: what takes effect on receipt, what waits, and what the register keeps."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.instants import DAY, format_instant
from policy_engine.core.orderparse import parse_directive
from policy_engine.core.orders import BLOCKS, loosens
from policy_engine.errors import Conflict, InputRefused
from policy_engine.ledger.canonical import canonical
from policy_engine.services.orderdocuments import split_amendment
from policy_engine.services.snapshot import read_orders
from policy_engine.store.interfaces import Change, Write
from tests.services.governed import House
from tests.services.letters import DIRECTIVE, EXEMPT, GRANT, LICENCE, OVERRIDE, body


def bodies() -> st.SearchStrategy[dict[str, Any]]:
    """Return bodies of directives on two models and two instants, with up to two exemptions."""
    models = st.lists(st.sampled_from(("fable-5", "mythos-5")), min_size=1, unique=True)
    interval = {"from": st.sampled_from((None, "2026-06-01")), "until": st.sampled_from((None, "2026-07-01"))}
    annex = st.lists(st.sampled_from(("acme", "annexco")), min_size=1, unique=True)
    exempt = st.fixed_dictionaries({**interval, "models": models, "who": st.just(EXEMPT["who"]), "annex_a": annex})
    blocks = st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, unique=True)
    return st.fixed_dictionaries(
        {
            **interval,
            "id": st.just("letter-12"),
            "models": st.just("all") | models,
            "blocks": blocks,
            "exempts": st.lists(exempt, max_size=2),
        }
    )


def approved(house: House, proposal: str | None) -> None:
    """Have paul approve a proposal."""
    assert proposal is not None
    house.approvals.approve(house["paul"], proposal)


def test_a_directive_is_in_force_from_its_receipt(house: House) -> None:
    """One person receives a directive; it is in the register at once, under a new epoch, with text and reference."""
    epoch = house.store.state().epoch
    receipt = house.orders.receive(house["olga"], "directive", DIRECTIVE, text="Dear sirs", reference="BIS/1")
    order = house.orders.show(house["paul"], "letter-12")
    assert (receipt.proposal, house.store.state().epoch) == (None, epoch + 1)
    assert (order.status, order.body, order.received_by, order.reference) == ("in_force", DIRECTIVE, "olga", "BIS/1")
    assert order.text_hash == hashlib.sha256(b"Dear sirs").hexdigest()
    assert [(step["revision"], step["change"], step["by"]) for step in order.history] == [(1, "received", "olga")]
    assert house.kinds()[-1] == "order.received"


def test_an_order_whose_own_end_has_come_is_shown_as_ended(house: House) -> None:
    """It lets nobody through any more, so a list of what is in force must not name it; the instant itself counts."""
    start = house.clock()
    grant = {**GRANT, "from": format_instant(start), "until": format_instant(start + 5_000_000)}
    house.orders.receive(house["olga"], "grant", grant)
    found = []
    for passed in (4_999_999, 1):
        house.clock.at += passed
        listed = house.orders.list(house["olga"], status="in_force")
        found.append((house.orders.show(house["olga"], "g1").status, [order.id for order in listed]))
    assert found == [("in_force", ["g1"]), ("ended", [])]


def test_without_a_text_the_document_is_hashed(house: House) -> None:
    """An order without wording keeps the hash of its own canonical document."""
    house.orders.receive(house["olga"], "directive", DIRECTIVE)
    assert house.orders.show(house["paul"], "letter-12").text_hash == hashlib.sha256(canonical(DIRECTIVE)).hexdigest()


def test_exemptions_of_a_directive_wait(house: House) -> None:
    """A directive received with exemptions denies without them, in the entry that also proposes them."""
    receipt = house.orders.receive(house["olga"], "directive", {**DIRECTIVE, "exempts": [EXEMPT]})
    assert body(house, "letter-12")["exempts"] == []
    row, proposal = house.store.row("orders", "letter-12"), house.store.row("approvals", receipt.proposal)
    assert (row.seq, row.log_id) == (proposal.seq, proposal.log_id)
    approved(house, receipt.proposal)
    order = house.orders.show(house["paul"], "letter-12")
    assert (order.body["exempts"], order.revision, order.received_by) == ([EXEMPT], 2, "olga")
    assert (order.history[-1]["change"], order.history[-1]["approved_by"]) == ("exempted", "paul")


def test_a_tightening_amendment_makes_a_waiting_exemption_fail(house: House) -> None:
    """Exemptions proposed for an earlier revision of a directive are not applied to a later one."""
    receipt = house.orders.receive(house["olga"], "directive", {**DIRECTIVE, "exempts": [EXEMPT]})
    house.orders.amend(house["olga"], "letter-12", {**DIRECTIVE, "models": "all"})
    with pytest.raises(Conflict, match="orders has changed"):
        approved(house, receipt.proposal)
    assert (body(house, "letter-12")["exempts"], body(house, "letter-12")["models"]) == ([], "all")


def test_a_licence_waits_as_a_whole(house: House) -> None:
    """A licence is in no register until a second person approved it."""
    receipt = house.orders.receive(house["olga"], "licence", LICENCE, reason="visit")
    assert (receipt.committed, house.store.row("orders", "lic-1")) == (None, None)
    approved(house, receipt.proposal)
    order = house.orders.show(house["paul"], "lic-1")
    assert (order.kind, order.body, order.received_by, order.reason) == ("licence", LICENCE, "olga", "visit")
    assert order.history[0]["approved_by"] == "paul"


def test_grants_and_overrides_are_recorded_at_once(house: House) -> None:
    """Grants and overrides take one person, since they lift nothing, and ending them takes one too."""
    for kind, document in (("grant", GRANT), ("override", OVERRIDE)):
        receipt = house.orders.receive(house["olga"], kind, document)
        assert (receipt.proposal, house.kinds()[-1]) == (None, "order.recorded")
        assert house.orders.amend(house["olga"], document["id"], {**document, "until": "2027-01-01"}).proposal is None
        assert house.orders.end(house["olga"], document["id"], "over").proposal is None
        assert house.orders.show(house["paul"], document["id"]).status == "ended"
    book = read_orders(house.store.rows("orders"))
    assert book is not None and book.boundaries == ()


@pytest.mark.parametrize(
    ("change", "waits"),
    [
        ({"models": ["fable-5", "mythos-5", "summit-4"]}, False),
        ({"models": "all"}, False),
        ({"from": "2026-06-12T00:00:00Z"}, False),
        ({"from": None}, False),
        ({"models": ["fable-5"]}, True),
        ({"blocks": ["foreign_person"]}, True),
        ({"from": "2026-06-13T00:00:00Z"}, True),
        ({"until": "2026-07-01T00:00:00Z"}, True),
        ({"exempts": [EXEMPT]}, True),
    ],
)
def test_what_an_amendment_of_a_directive_may_do_alone(house: House, change: dict[str, Any], waits: bool) -> None:
    """What only tightens a directive takes effect at once; what could allow anything waits, and nothing of it shows."""
    house.orders.receive(house["olga"], "directive", DIRECTIVE)
    receipt = house.orders.amend(house["olga"], "letter-12", {**DIRECTIVE, **change})
    assert (receipt.proposal is not None, receipt.committed is None) == (waits, waits)
    assert body(house, "letter-12") == (DIRECTIVE if waits else {**DIRECTIVE, **change})
    if waits:
        approved(house, receipt.proposal)
        assert body(house, "letter-12") == {**DIRECTIVE, **change}


def test_an_amendment_that_tightens_and_exempts_is_split(house: House) -> None:
    """The part of an amendment that tightens takes effect at once, and its exemption waits beside it."""
    house.orders.receive(house["olga"], "directive", DIRECTIVE)
    new = {**DIRECTIVE, "models": ["fable-5", "fable-5-1", "mythos-5"], "exempts": [EXEMPT]}
    receipt = house.orders.amend(house["olga"], "letter-12", new)
    assert receipt.committed is not None
    assert body(house, "letter-12") == {**new, "exempts": []}
    approved(house, receipt.proposal)
    assert body(house, "letter-12") == new


def test_an_exemption_that_waits_is_called_one(house: House) -> None:
    """Of an amendment without dates, an exemption that waits beside what tightens is entered as an exemption."""
    letter = {"id": "letter-12", "models": ["fable-5"], "blocks": ["foreign_person"]}
    house.orders.receive(house["olga"], "directive", letter)
    new = {**letter, "models": ["fable-5", "mythos-5"], "exempts": [EXEMPT]}
    approved(house, house.orders.amend(house["olga"], "letter-12", new).proposal)
    changes = [step["change"] for step in house.orders.show(house["olga"], "letter-12").history]
    assert changes == ["received", "amended", "exempted"]
    assert body(house, "letter-12") == new


@pytest.mark.parametrize(
    ("change", "at_once"),
    [
        ({"models": ["mythos-5", "summit-4"]}, {"models": ["mythos-5", "summit-4", "fable-5"]}),
        ({"models": ["summit-4"], "blocks": ["foreign_person"]}, {"models": ["summit-4", "fable-5", "mythos-5"]}),
        ({"from": "2026-06-01", "until": "2027-01-01"}, {"from": "2026-06-01"}),
        ({"from": "2026-07-01", "models": "all", "exempts": []}, {"models": "all", "exempts": []}),
        ({"exempts": [EXEMPT | {"annex_a": ["acme"]}]}, {"exempts": []}),
        (
            {"exempts": [EXEMPT | {"annex_a": ["annexco", "acme"], "until": "2026-09-01"}]},
            {"exempts": [EXEMPT | {"until": "2026-09-01"}]},
        ),
        ({"models": ["fable-5"], "exempts": []}, {"exempts": []}),
    ],
)
def test_what_a_reissued_directive_tightens_does_not_wait(
    house: House, change: dict[str, Any], at_once: dict[str, Any]
) -> None:
    """Of an amendment that both tightens and loosens, what tightens denies at once and stays if the rest is refused."""
    eased = {**DIRECTIVE, "exempts": [EXEMPT]}
    approved(house, house.orders.receive(house["olga"], "directive", eased).proposal)
    receipt = house.orders.amend(house["olga"], "letter-12", {**eased, **change})
    assert receipt.committed is not None
    assert body(house, "letter-12") == {**eased, **at_once}
    exempts_alone = {**eased, **at_once, "exempts": []} == {**eased, **change, "exempts": []}
    approved(house, receipt.proposal)
    last = house.orders.show(house["olga"], "letter-12").history[-1]["change"]
    assert last == ("exempted" if exempts_alone else "amended")
    assert body(house, "letter-12") == {**eased, **change}


@given(old=bodies(), new=bodies())
def test_a_split_amendment_loosens_nothing_at_once(old: dict[str, Any], new: dict[str, Any]) -> None:
    """The body that takes effect at once is nowhere looser than the old one, nor than the one that waits."""
    now, later = split_amendment("directive", "letter-12", old, new)
    before, after = parse_directive(old), parse_directive(new)
    assert (later is None) is not loosens(before, after)
    if now is not None:
        tighter = parse_directive(dict(now))
        assert not loosens(before, tighter)
        assert not loosens(after, tighter)


@pytest.mark.parametrize(
    ("change", "waits"),
    [
        ({"models": ["fable-5"]}, False),
        ({"actions": ["infer"], "nationalities": [], "destinations": [], "lifts": []}, False),
        ({"tenant_id": "acme"}, False),
        ({"until": "2026-06-30T00:00:00Z"}, False),
        ({"from": "2026-02-01T00:00:00Z"}, False),
        ({"conditions": ["a report each year", "no re-export"]}, False),
        ({"conditions": ["a report each year"]}, True),
        ({"conditions": None}, True),
        ({"models": ["fable-5", "mythos-5"]}, True),
        ({"actions": ["infer", "download_weights"]}, True),
        ({"nationalities": ["CN"]}, True),
        ({"destinations": ["US", "DE"]}, True),
        ({"lifts": ["nat", "seat"]}, True),
        ({"until": None}, True),
        ({"from": "2025-12-31T00:00:00Z"}, True),
    ],
)
def test_what_an_amendment_of_a_licence_may_do_alone(house: House, change: dict[str, Any], waits: bool) -> None:
    """What only narrows a licence takes effect at once; what might match or lift more, or drops a condition, waits."""
    approved(house, house.orders.receive(house["olga"], "licence", LICENCE).proposal)
    receipt = house.orders.amend(house["olga"], "lic-1", {**LICENCE, **change})
    assert (receipt.proposal is not None) == waits
    assert body(house, "lic-1") == (LICENCE if waits else {**LICENCE, **change})


def test_an_order_for_one_person_never_becomes_anothers(house: House) -> None:
    """Their erasure takes all revisions of a licence or grant or none, so that another person's is another order."""
    for kind, order in (("licence", LICENCE), ("grant", GRANT), ("grant", {"id": "g2", "tenant_id": "solo"})):
        if (proposal := house.orders.receive(house["olga"], kind, order).proposal) is not None:
            approved(house, proposal)
        for change in ({"person_id": "bruno"}, {"person_id": None, "tenant_id": "acme"}):
            with pytest.raises(InputRefused, match="another person's"):
                house.orders.amend(house["olga"], order["id"], {**order, "tenant_id": None, **change})


def test_a_licence_that_named_nobody_is_not_narrowed_to_somebody(house: House) -> None:
    """A licence in the register that names nobody matches nobody, so naming somebody widens it."""
    nobody = {**LICENCE, "person_id": None}
    approved(house, house.orders.receive(house["olga"], "licence", LICENCE).proposal)
    row = house.store.row("orders", "lic-1")
    write = Write("orders", "lic-1", {**row.document, "body": nobody}, row.revision)
    house.store.change(Change("order.amended", {}, (write,), raises_epoch=True))
    assert house.orders.amend(house["olga"], "lic-1", LICENCE).proposal is not None


def test_ending_a_directive_takes_two(house: House) -> None:
    """A directive denies until a second person has approved its end; then it ends at that instant."""
    house.orders.receive(house["olga"], "directive", {**DIRECTIVE, "from": None})
    receipt = house.orders.end(house["olga"], "letter-12", "withdrawn")
    assert (receipt.committed, house.orders.show(house["paul"], "letter-12").status) == (None, "in_force")
    house.clock.at += DAY
    approved(house, receipt.proposal)
    order = house.orders.show(house["paul"], "letter-12")
    assert (order.status, order.body["until"], order.reason) == ("ended", format_instant(house.clock()), "withdrawn")
    book = read_orders(house.store.rows("orders"))
    assert book is not None and book.blocking(["fable-5"], house.clock()) == []


def test_an_end_does_not_outlast_the_directives_own(house: House) -> None:
    """A directive that ended by its own date before its end was approved keeps that date."""
    own = format_instant(house.clock() + DAY)
    house.orders.receive(house["olga"], "directive", {**DIRECTIVE, "from": None, "until": own})
    receipt = house.orders.end(house["olga"], "letter-12", "withdrawn")
    house.clock.at += 2 * DAY
    approved(house, receipt.proposal)
    assert body(house, "letter-12")["until"] == own


def test_revoking_a_licence_takes_one(house: House) -> None:
    """A licence is revoked at once, by one person, from that instant on."""
    approved(house, house.orders.receive(house["olga"], "licence", LICENCE).proposal)
    epoch = house.store.state().epoch
    receipt = house.orders.end(house["olga"], "lic-1", "misused")
    assert (receipt.proposal, house.store.state().epoch) == (None, epoch + 1)
    assert house.orders.show(house["paul"], "lic-1").status == "revoked"
    assert (body(house, "lic-1")["revoked_at"], house.kinds()[-1]) == (format_instant(house.clock()), "order.revoked")


@pytest.mark.parametrize("later", ["amend", "end"])
def test_an_order_that_ended_stays_as_it_is(house: House, later: str) -> None:
    """An ended order is neither amended nor ended again, and its id is never used for another."""
    house.orders.receive(house["olga"], "grant", GRANT)
    house.orders.end(house["olga"], "g1", "over")
    with pytest.raises(Conflict, match="ended already"):
        if later == "amend":
            house.orders.amend(house["olga"], "g1", GRANT)
        else:
            house.orders.end(house["olga"], "g1", "again")
    with pytest.raises(Conflict, match="exists already"):
        house.orders.receive(house["olga"], "directive", {**DIRECTIVE, "id": "g1"})


def test_two_licences_proposed_under_one_id(house: House) -> None:
    """Of two proposed licences with one id the second approval fails: its row exists by then."""
    first = house.orders.receive(house["olga"], "licence", LICENCE)
    second = house.orders.receive(house["quinn"], "licence", {**LICENCE, "person_id": "chen"})
    approved(house, first.proposal)
    with pytest.raises(Conflict):
        approved(house, second.proposal)
    assert body(house, "lic-1")["person_id"] == "ines"
