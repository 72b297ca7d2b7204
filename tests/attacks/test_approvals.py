"""Attacks on the rule that two persons must loosen: each test is one, and names it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pysqlite3 import dbapi2

from policy_engine.core.decision import PrincipalKind
from policy_engine.core.instants import DAY, SECOND
from policy_engine.errors import Conflict, NotAuthenticated, NotPermitted, VerificationFailed
from policy_engine.services.approvals import Approvals
from policy_engine.services.keys import KeyRequest, Keys
from policy_engine.services.proposals import Proposal
from policy_engine.services.switches import Switches
from policy_engine.store.interfaces import Change, Store, Write
from tests.services.governed import OPERATOR, PEOPLE, START, VOCABULARY, House, open_house, person


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Offer the services with a switch engaged by quinn."""
    people = {**PEOPLE, "brief": person("rita", "approve", until=START + 60 * SECOND)}
    opened = open_house(tmp_path, people)
    opened.switches.engage(opened["quinn"], "s", {"models": "all"}, "attack")
    yield opened
    opened.close()


@pytest.fixture
def proposal(house: House) -> Proposal:
    """Offer olga's waiting proposal to release it."""
    return house.switches.release(house["olga"], "s", "over")


def assert_still_engaged(house: House, proposal: Proposal, status: str = "waiting", reader: str = "paul") -> None:
    """The attack changed nothing: the switch denies, and the proposal stands as it is said to stand."""
    assert house.switches.show(house[reader], "s").engaged(house.clock())
    assert house.approvals.show(house[reader], proposal.id).status == status


def test_self_approval(house: House, proposal: Proposal) -> None:
    """The proposer cannot approve with the key that proposed."""
    with pytest.raises(NotPermitted, match="another person"):
        house.approvals.approve(house["olga"], proposal.id)
    assert_still_engaged(house, proposal)


def test_second_key_of_the_same_person(house: House, proposal: Proposal) -> None:
    """Another key of the proposer is still the proposer."""
    assert house["olga-2"].key_id != house["olga"].key_id
    with pytest.raises(NotPermitted, match="another person"):
        house.approvals.approve(house["olga-2"], proposal.id)
    assert_still_engaged(house, proposal)


def test_second_key_of_the_same_person_in_other_capitals(house: House) -> None:
    """Nobody is given a key under a name that differs from another principal's in capitals only."""
    with pytest.raises(Conflict, match="capitals"):
        house.keys.create(house["olga"], KeyRequest("Olga", PrincipalKind.PERSON, ("approve",)))


def test_the_schema_refuses_self_approval(house: House, proposal: Proposal) -> None:
    """An approved row with one person on both sides cannot be written, whatever code would write it."""
    row = house.store.row("approvals", proposal.id)
    forged = {**row.document, "status": "approved", "decided_by": "olga"}
    with pytest.raises(Conflict, match="schema"):
        house.store.change(
            Change("proposal.approved", {}, (Write("approvals", proposal.id, forged, row.revision),), raises_epoch=True)
        )
    assert_still_engaged(house, proposal)


def test_service_key_approving(house: House, proposal: Proposal) -> None:
    """A service's key approves nothing, is not granted the scope, and cannot claim to be a person."""
    with pytest.raises(NotPermitted, match="service"):
        house.approvals.approve(house["gateway"], proposal.id)
    claimed = dataclasses.replace(house["gateway"], kind=PrincipalKind.PERSON, scopes=frozenset(("approve",)))
    with pytest.raises(NotPermitted):
        house.approvals.approve(claimed, proposal.id)
    assert_still_engaged(house, proposal)


def test_approval_without_the_scope(house: House, proposal: Proposal) -> None:
    """A person whose key does not hold `approve` approves nothing, also when the principal says it does."""
    with pytest.raises(NotPermitted, match="approve"):
        house.approvals.approve(house["auditor"], proposal.id)
    claimed = dataclasses.replace(house["auditor"], scopes=frozenset(("approve",)))
    with pytest.raises(NotPermitted, match="approve"):
        house.approvals.approve(claimed, proposal.id)
    assert_still_engaged(house, proposal)


def test_approval_under_another_persons_name(house: House, proposal: Proposal) -> None:
    """A principal that carries the proposer's own key and another name is refused."""
    with pytest.raises(NotPermitted):
        house.approvals.approve(dataclasses.replace(house["olga-2"], id="paul"), proposal.id)
    assert_still_engaged(house, proposal)


def test_approval_by_a_key_bounded_to_tenants(house: House, proposal: Proposal) -> None:
    """A key bounded to tenants does not approve what reaches everybody."""
    with pytest.raises(NotPermitted, match="bounded"):
        house.approvals.approve(house["bounded"], proposal.id)
    assert_still_engaged(house, proposal)


def test_approval_after_the_state_moved(house: House, proposal: Proposal) -> None:
    """When the row under a proposal has changed since, the approval fails, and so does the proposal for good."""
    row = house.store.row("switches", "s")
    moved = {**row.document, "reason": "widened"}
    house.store.change(Change("switch.engaged", {}, (Write("switches", "s", moved, row.revision),), raises_epoch=True))
    with pytest.raises(Conflict, match="switches has changed"):
        house.approvals.approve(house["paul"], proposal.id)
    assert_still_engaged(house, proposal, "failed")
    assert house.kinds()[-1] == "proposal.failed"
    with pytest.raises(Conflict, match="failed already"):
        house.approvals.approve(house["paul"], proposal.id)


def test_approval_after_the_active_release_moved(house: House, proposal: Proposal) -> None:
    """When another release was activated since, the approval fails, and so does the proposal."""
    other = "sha256:" + "cd" * 32
    row = house.store.row("releases", house.store.state().release)
    house.store.change(
        Change("release.activated", {}, (Write("releases", other, row.document, 0),), raises_epoch=True, activate=other)
    )
    with pytest.raises(Conflict, match="active release"):
        house.approvals.approve(house["paul"], proposal.id)
    assert_still_engaged(house, proposal, "failed")


def test_approval_of_what_a_stolen_key_proposed(house: House, proposal: Proposal) -> None:
    """When the key that proposed was revoked since, its proposals fail."""
    house.keys.revoke(house["quinn"], "olga", "stolen")
    with pytest.raises(Conflict, match="key of the proposer"):
        house.approvals.approve(house["paul"], proposal.id)
    assert_still_engaged(house, proposal, "failed")


def test_approval_of_what_a_key_proposed_that_has_expired_since(tmp_path: Path) -> None:
    """A key that was made for an hour proposes nothing for a week: from its end on its proposals fail."""
    people = {**PEOPLE, "brief": person("rita", *OPERATOR, until=START + 60 * SECOND)}
    with closing(open_house(tmp_path, people)) as house:
        house.switches.engage(house["quinn"], "s", {"models": "all"}, "attack")
        early = house.switches.release(house["brief"], "s", "over")
        house.clock.at = START + 60 * SECOND
        with pytest.raises(Conflict, match="key of the proposer has expired"):
            house.approvals.approve(house["paul"], early.id)
        assert_still_engaged(house, early, "failed")


class MovingStore:
    """The real store, except that another process gets in right before a chosen change is committed."""

    def __init__(self, store: Store, kind: str, meanwhile: Change) -> None:
        self._store, self._kind, self._meanwhile = store, kind, meanwhile

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def change(self, change: Change) -> object:
        """Let the other change in first, once."""
        if change.kind == self._kind:
            self._kind = ""
            self._store.change(self._meanwhile)
        return self._store.change(change)


def racing(house: House, kind: str, meanwhile: Change) -> Approvals:
    """Return approvals of the same database whose commit of an effect meets another change."""
    store = MovingStore(house.store, kind, meanwhile)
    approvals = Approvals(store)  # type: ignore[arg-type]  # all but `change` is the store's own
    Switches(store, approvals, lambda hash: VOCABULARY)  # type: ignore[arg-type]  # all but `change` is the store's own
    return approvals


def test_the_state_moves_while_the_approval_is_committed(house: House, proposal: Proposal) -> None:
    """A change that slips in between looking and committing is seen inside the transaction: the proposal fails."""
    row = house.store.row("switches", "s")
    widened = Write("switches", "s", {**row.document, "reason": "widened"}, row.revision)
    meanwhile = Change("switch.engaged", {}, (widened,), raises_epoch=True)
    with pytest.raises(Conflict, match="nothing was applied"):
        racing(house, "switch.released", meanwhile).approve(house["paul"], proposal.id)
    assert_still_engaged(house, proposal, "failed")


def test_a_second_spelling_is_made_while_the_approval_is_committed(house: House) -> None:
    """Of two keys whose names differ in capitals only, approved at one moment, one is made."""
    first, second = (house.keys.create(house["olga"], person(name, "approve")) for name in ("nia", "Nia"))
    made = house.approvals.show(house["paul"], first.proposal or "").payload["document"]
    write = Write("keys", first.id, {**made, "created_at": house.store.row("keys", "paul").document["created_at"]}, 0)
    store = MovingStore(house.store, "key.created", Change("key.created", {}, (write,), raises_epoch=True))
    approvals = Approvals(store)  # type: ignore[arg-type]  # all but `change` is the store's own
    Keys(store, approvals)  # type: ignore[arg-type]  # all but `change` is the store's own
    with pytest.raises(Conflict, match="capitals"):
        approvals.approve(house["paul"], second.proposal or "")
    assert [row.document["principal"]["id"] for row in house.store.rows("keys") if row.id == second.id] == []


def test_the_approvers_key_is_revoked_while_the_approval_is_committed(house: House, proposal: Proposal) -> None:
    """A revocation that slips in before the commit wins: nothing is applied, and the proposal waits."""
    row = house.store.row("keys", "paul")
    revoked = Write("keys", "paul", {**row.document, "revoked_at": row.document["created_at"]}, row.revision)
    meanwhile = Change("key.revoked", {}, (revoked,), raises_epoch=True)
    with pytest.raises(Conflict, match="nothing was applied"):
        racing(house, "switch.released", meanwhile).approve(house["paul"], proposal.id)
    assert_still_engaged(house, proposal, reader="quinn")


def test_the_proposers_key_is_revoked_while_the_approval_is_committed(house: House, proposal: Proposal) -> None:
    """A revocation of the key that proposed, in between looking and committing, fails the proposal."""
    row = house.store.row("keys", "olga")
    revoked = Write("keys", "olga", {**row.document, "revoked_at": row.document["created_at"]}, row.revision)
    meanwhile = Change("key.revoked", {}, (revoked,), raises_epoch=True)
    with pytest.raises(Conflict, match="nothing was applied"):
        racing(house, "switch.released", meanwhile).approve(house["paul"], proposal.id)
    assert_still_engaged(house, proposal, "failed")


def test_two_approvers_at_once(house: House, proposal: Proposal) -> None:
    """When another approval is committed first, the second is refused and does not mark the proposal as failed."""
    first, switch = house.store.row("approvals", proposal.id), house.store.row("switches", "s")
    done = {**first.document, "status": "approved", "decided_by": "paul"}
    others = (
        Write("approvals", proposal.id, done, first.revision),
        Write("switches", "s", {**switch.document, "released_at": "2026-06-12T12:00:00Z"}, switch.revision),
    )
    meanwhile = Change("switch.released", {}, others, raises_epoch=True)
    with pytest.raises(Conflict, match="nothing was applied"):
        racing(house, "switch.released", meanwhile).approve(house["brief"], proposal.id)
    assert house.approvals.show(house["paul"], proposal.id).status == "approved"


def test_replayed_approval(house: House, proposal: Proposal) -> None:
    """An approved proposal is approved once; approving it again, after the switch was engaged anew, does nothing."""
    house.approvals.approve(house["paul"], proposal.id)
    house.switches.engage(house["quinn"], "s", {"models": "all"}, "again")
    for name in ("paul", "brief"):
        with pytest.raises(Conflict, match="approved already"):
            house.approvals.approve(house[name], proposal.id)
    assert_still_engaged(house, proposal, "approved")


def test_replayed_refusal(house: House, proposal: Proposal) -> None:
    """A refused proposal cannot be approved afterwards, and not be refused twice."""
    house.approvals.refuse(house["paul"], proposal.id, "too early")
    with pytest.raises(Conflict, match="refused already"):
        house.approvals.approve(house["paul"], proposal.id)
    with pytest.raises(Conflict, match="refused already"):
        house.approvals.refuse(house["paul"], proposal.id, "again")
    assert_still_engaged(house, proposal, "refused")


def test_expired_approver_key(house: House, proposal: Proposal) -> None:
    """A principal authenticated before its key expired approves nothing after it has."""
    house.clock.at += 60 * SECOND
    with pytest.raises(NotAuthenticated, match="expired"):
        house.approvals.approve(house["brief"], proposal.id)
    assert_still_engaged(house, proposal)


def test_approver_key_one_microsecond_before_it_expires(house: House, proposal: Proposal) -> None:
    """The same key approves up to the last microsecond, so that the test above is about its expiry."""
    house.clock.at += 60 * SECOND - 1
    house.approvals.approve(house["brief"], proposal.id)
    assert not house.switches.show(house["olga"], "s").engaged(house.clock())


def test_revoked_approver_key(house: House, proposal: Proposal) -> None:
    """A principal authenticated before its key was revoked approves nothing after it was."""
    house.keys.revoke(house["quinn"], "paul", "left")
    with pytest.raises(NotAuthenticated, match="revoked"):
        house.approvals.approve(house["paul"], proposal.id)
    assert_still_engaged(house, proposal, reader="quinn")


def test_expired_proposal(house: House, proposal: Proposal) -> None:
    """A proposal that nobody decided in time cannot be approved; the log says that it expired."""
    house.clock.at += 7 * DAY
    with pytest.raises(Conflict, match="expired"):
        house.approvals.approve(house["paul"], proposal.id)
    assert_still_engaged(house, proposal, "expired")
    assert house.kinds()[-1] == "proposal.expired"


def test_approving_another_content(house: House, proposal: Proposal) -> None:
    """Who approves by content hash approves that content and no other."""
    with pytest.raises(Conflict, match="content hash"):
        house.approvals.approve(house["paul"], proposal.id, hash="00" * 32)
    assert_still_engaged(house, proposal)
    house.approvals.approve(house["paul"], proposal.id, hash=proposal.hash)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ('"payload":{"id":"s"', '"payload":{"id":"t"'),
        ('["switches","s",1]', '["switches","s",2]'),
        ('"kind":"switch.release"', '"kind":"order.end"'),
    ],
)
def test_a_proposal_changed_behind_the_engines_back(
    house: House, proposal: Proposal, tmp_path: Path, was: str, becomes: str
) -> None:
    """A proposal edited in the database file no longer matches its hash and is not applied."""
    row = house.store.row("switches", "s")
    house.store.change(Change("switch.engaged", {}, (Write("switches", "s", row.document, 1),), raises_epoch=True))
    house.switches.engage(house["quinn"], "t", {"models": "all"}, "another")
    with closing(dbapi2.connect(tmp_path / "engine.db")) as connection:
        edited = connection.execute(
            "UPDATE approvals SET document = replace(document, ?, ?) WHERE instr(document, ?)", (was, becomes, was)
        )
        assert edited.rowcount == 1
        connection.commit()
    with pytest.raises(VerificationFailed, match="content hash"):
        house.approvals.approve(house["paul"], proposal.id)
    assert house.switches.show(house["olga"], "t").engaged(house.clock())
    assert house.switches.show(house["olga"], "s").engaged(house.clock())


def test_granting_oneself_a_second_person(house: House) -> None:
    """A key for an invented person works only after a real second person approved it, so it cannot approve itself."""
    issued = house.keys.create(house["olga"], KeyRequest("sock", PrincipalKind.PERSON, OPERATOR))
    with pytest.raises(NotAuthenticated, match="unknown"):
        house.keys.authenticate(issued.secret, house.clock())
    with pytest.raises(NotPermitted):
        house.approvals.approve(house["olga-2"], issued.proposal)
    with pytest.raises(NotAuthenticated, match="unknown"):
        house.keys.authenticate(issued.secret, house.clock())
