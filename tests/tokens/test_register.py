"""Registering a subject of an issuer: two persons, one living row, and nothing else that lets a token in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.core.instants import DAY, SECOND
from policy_engine.errors import Conflict, InputRefused, NotAuthenticated, NotPermitted
from policy_engine.services.keydocuments import is_token
from policy_engine.services.keys import KeyRequest, TokenIdentity
from policy_engine.tokens.identity import is_issuer, is_subject
from tests.services.governed import OPERATOR, START, House, open_house

RITA = TokenIdentity("https://issuer.example", "rita@example")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Offer the services on a database in which the people of the tests have keys."""
    opened = open_house(tmp_path)
    yield opened
    opened.close()


def asked(name: str = "rita", identity: TokenIdentity = RITA, **more: Any) -> KeyRequest:
    """Return the request for a service that comes by token."""
    return KeyRequest(name, **{"kind": PrincipalKind.SERVICE, "scopes": ("decide",), "identity": identity, **more})


def register(house: House, request: KeyRequest) -> Principal:
    """Register as olga and paul; return the principal."""
    issued = house.keys.create(house["olga"], request)
    house.approvals.approve(house["paul"], issued.proposal)
    assert request.identity is not None
    return house.keys.authenticate_identity(request.identity, house.clock())


def test_law_11_a_registration_waits_for_a_second_person(house: House) -> None:
    """Proposed, it is unknown; the proposer cannot approve it; approved, it is what was asked for, and listed.

    Control: policy_engine/services/approvals.py: `if caller.person == proposal.proposed_by:`
    """
    issued = house.keys.create(house["olga"], asked(tenants=("acme",), supplies=("location",), expires_at=START + DAY))
    assert issued.secret is None
    text = f"jwt\n{RITA.issuer}\n{RITA.subject}"
    assert RITA.digest() == hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(NotAuthenticated, match=r"^the key is unknown$"):
        house.keys.authenticate_identity(RITA, house.clock())
    with pytest.raises(NotPermitted):
        house.approvals.approve(house["olga-2"], issued.proposal)
    with pytest.raises(NotAuthenticated):
        house.keys.authenticate_identity(RITA, house.clock())
    house.approvals.approve(house["paul"], issued.proposal)
    found = house.keys.authenticate_identity(RITA, house.clock())
    scopes, supplies = frozenset(("decide",)), frozenset(("location",))
    assert found == Principal("rita", PrincipalKind.SERVICE, scopes, frozenset(("acme",)), supplies, issued.id)
    assert house.store.row("keys", issued.id).document["hash"] == RITA.digest()
    listed = {key.id: key for key in house.keys.list(house["olga"])}
    assert (listed[issued.id].issuer, listed[issued.id].subject) == (RITA.issuer, RITA.subject)
    assert {(key.issuer, key.subject) for key in listed.values() if key.id != issued.id} == {(None, None)}
    assert house.evidence.verify().ok


def test_a_person_may_have_a_key_and_come_by_token(house: House) -> None:
    """Both are that person; a name that is a service's on one is not a person's on the other."""
    found = register(house, asked("quinn", kind=PrincipalKind.PERSON, scopes=("audit:read",)))
    assert (found.id, found.kind) == ("quinn", PrincipalKind.PERSON)
    with pytest.raises(Conflict, match="other kind"):
        house.keys.create(house["olga"], asked("quinn", TokenIdentity(RITA.issuer, "other")))


def test_the_three_sentences_of_a_key(house: House) -> None:
    """Unknown, revoked and expired are said as of keys; a row that ended is not alive for a decision either."""
    expiring = TokenIdentity(RITA.issuer, "expiring")
    gone, late = register(house, asked()), register(house, asked("sam", expiring, expires_at=START + SECOND))
    house.keys.revoke(house["olga"], gone.key_id or "")
    for identity, sentence in ((RITA, "the key is revoked"), (expiring, "the key has expired")):
        with pytest.raises(NotAuthenticated, match=f"^{sentence}$"):
            house.keys.authenticate_identity(identity, START + SECOND)
    epoch = house.store.state().epoch
    assert not house.keys.still_alive(gone, START, epoch=epoch)
    assert house.keys.still_alive(late, START, epoch=epoch)
    assert not house.keys.still_alive(late, START + SECOND, epoch=epoch)


def test_one_living_row_for_a_subject(house: House) -> None:
    """A second row is refused while the first lives, also when it was proposed before; after it ended one follows."""
    early = house.keys.create(house["olga"], asked("early"))
    first = register(house, asked())
    with pytest.raises(Conflict, match="registered already"):
        house.keys.create(house["olga"], asked())
    with pytest.raises(Conflict):
        house.approvals.approve(house["paul"], early.proposal)
    house.keys.revoke(house["olga"], first.key_id or "")
    second = register(house, asked(scopes=("decide", "audit:read")))
    assert second.key_id != first.key_id and second.scopes == {"decide", "audit:read"}
    house.keys.revoke(house["olga"], second.key_id or "")
    with pytest.raises(NotAuthenticated, match="revoked"):
        house.keys.authenticate_identity(RITA, house.clock())
    third = register(house, asked(expires_at=START + DAY))
    assert third.key_id not in (first.key_id, second.key_id)
    assert house.evidence.verify().ok


def test_two_proposals_that_would_follow_the_same_row(house: House) -> None:
    """Of two that were proposed after the row ended, one comes to pass."""
    first = register(house, asked())
    house.keys.revoke(house["olga"], first.key_id or "")
    one, two = (house.keys.create(house["olga"], asked()) for _ in range(2))
    house.approvals.approve(house["paul"], one.proposal)
    with pytest.raises(Conflict):
        house.approvals.approve(house["paul"], two.proposal)
    assert house.keys.authenticate_identity(RITA, house.clock()).key_id == one.id


def test_a_token_lets_in_as_its_own_row_alone(house: House) -> None:
    """Neither another subject, nor another issuer, nor a key that was made of the identity's hash.

    Control: policy_engine/services/keys.py: `return self._living(ring.by_identity.get(identity), at)`
    """
    register(house, asked())
    smuggled = TokenIdentity(RITA.issuer, "smuggled")
    issued = house.keys.create(
        house["olga"], KeyRequest("sam", PrincipalKind.SERVICE, ("decide",)), key_hash=smuggled.digest()
    )
    house.approvals.approve(house["paul"], issued.proposal)
    others = (
        smuggled,
        TokenIdentity(RITA.issuer, "Rita@example"),
        TokenIdentity("https://issuer.example/", RITA.subject),
    )
    for identity in others:
        with pytest.raises(NotAuthenticated, match=r"^the key is unknown$"):
            house.keys.authenticate_identity(identity, house.clock())
    with pytest.raises(NotAuthenticated, match="unknown"):
        house.keys.authenticate(f"jwt\n{RITA.issuer}\n{RITA.subject}", house.clock())


def test_who_comes_by_token_is_not_counted_on_to_approve(house: House) -> None:
    """A revocation that would leave fewer than two approvers with keys is refused, whoever else comes by token."""
    register(house, asked("tess", kind=PrincipalKind.PERSON, scopes=OPERATOR))
    approvers = [key for key in house.keys.list(house["olga"]) if "approve" in key.scopes and key.tenants is None]
    own = [key for key in approvers if key.issuer is None and key.principal != "olga"]
    with pytest.raises(Conflict, match="fewer than two"):
        for key in own:
            house.keys.revoke(house["olga"], key.id)


@pytest.mark.parametrize(
    ("identity", "where"),
    [
        (TokenIdentity("", "rita"), "issuer"),
        (TokenIdentity("https://a\nb", "rita"), "issuer"),
        (TokenIdentity("a" * 257, "rita"), "issuer"),
        (TokenIdentity(RITA.issuer, ""), "subject"),
        (TokenIdentity(RITA.issuer, "a\tb"), "subject"),
        (TokenIdentity(RITA.issuer, "\u2028"), "subject"),
        (TokenIdentity(RITA.issuer, "\ud800"), "subject"),
        (TokenIdentity(RITA.issuer, "a" * 257), "subject"),
    ],
)
def test_what_no_identity_may_be(house: House, identity: TokenIdentity, where: str) -> None:
    """Empty, endless, or with characters that would make two of one: refused by the name of the member."""
    with pytest.raises(InputRefused) as refused:
        house.keys.create(house["olga"], asked(identity=identity))
    assert refused.value.where == where


def test_an_identity_excludes_a_hash_and_needs_an_unbounded_person(house: House) -> None:
    """Whatever holds for making a key holds here; a row lets in by one of the two."""
    with pytest.raises(InputRefused, match="excludes"):
        house.keys.create(house["olga"], asked(), key_hash="0" * 64)
    with pytest.raises(NotPermitted):
        house.keys.create(house["bounded"], asked())
    with pytest.raises(NotPermitted):
        house.keys.create(house["gateway"], asked())
    with pytest.raises(InputRefused, match="first keys"):
        house.keys.genesis({"key-1": asked()})
    with pytest.raises(InputRefused, match="service"):
        house.keys.create(house["olga"], asked(scopes=("approve",)))


TEXTS = st.text(st.sampled_from("ab\n0/:jwt"), max_size=6)


@given(TEXTS, TEXTS, st.integers(0, 3), TEXTS, TEXTS, st.integers(0, 3))
def test_the_hash_stands_for_one_identity(a: str, b: str, n: int, c: str, d: str, m: int) -> None:
    """Two that differ, in issuer, subject or place in line, never have one hash, and no key has the text of any."""
    if not (is_issuer(a) and is_subject(b) and is_issuer(c) and is_subject(d)):
        return
    same = (a, b, n) == (c, d, m)
    assert (TokenIdentity(a, b).digest(n) == TokenIdentity(c, d).digest(m)) is same
    assert not is_token(f"jwt\n{a}\n{b}")
