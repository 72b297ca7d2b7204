"""Keys as a service: first keys, granting, revoking, authenticating, and what a key may be asked to be."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.core.instants import DAY, SECOND
from policy_engine.errors import Conflict, InputRefused, NotAuthenticated, NotFound, NotPermitted, TooLarge
from policy_engine.services.approvals import Approvals
from policy_engine.services.keydocuments import FIRST_SCOPES, new_secret
from policy_engine.services.keys import KeyRequest, Keys
from policy_engine.services.permissions import LOCAL, SCOPES, require
from policy_engine.store.interfaces import Change, Committed
from tests.services.governed import PEOPLE, START, House, open_house, person


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[House]:
    """Offer the services on a database in which nobody has a key."""
    (tmp_path / "empty").mkdir()
    opened = open_house(tmp_path / "empty", {})
    yield opened
    opened.close()


def granted(house: House, request: KeyRequest) -> tuple[str, Principal]:
    """Return the text and principal of a key that olga proposed and paul approved."""
    issued = house.keys.create(house["olga"], request)
    house.approvals.approve(house["paul"], issued.proposal)
    return issued.secret, house.keys.authenticate(issued.secret, house.clock())


def test_first_keys_are_those_of_two_persons_in_one_entry(empty: House) -> None:
    """The first keys are made together, work at once, hold every scope but unsealing, and only their hash is kept."""
    issued = empty.keys.create_first(["ada", "ben"])
    assert empty.kinds() == ["genesis", "genesis"]
    for key in issued:
        assert re.fullmatch(r"pe_[A-Za-z0-9_-]{43}", key.secret)
        principal = empty.keys.authenticate(key.secret, empty.clock())
        assert (principal.id, principal.kind, principal.tenants) == (key.principal, PrincipalKind.PERSON, None)
        assert principal.scopes == set(SCOPES) - {"audit:unseal"} == set(FIRST_SCOPES)
        document = empty.store.row("keys", key.id).document
        assert document["hash"] == hashlib.sha256(key.secret.encode()).hexdigest()
        assert key.secret not in str(document) and key.secret not in repr(key)


@pytest.mark.parametrize("names", [[], ["ada"], ["ada", "ada"], ["ada", "Ada"], ["ada", "ben", "BEN"]])
def test_first_keys_of_one_person_are_refused(empty: House, names: list[str]) -> None:
    """One person alone, under however many spellings, gets no first keys."""
    with pytest.raises(InputRefused, match="two different persons"):
        empty.keys.create_first(names)
    assert empty.store.rows("keys") == []


def test_first_keys_must_be_able_to_approve(empty: House) -> None:
    """First keys without `approve` would lock everybody out, so they are refused."""
    with pytest.raises(InputRefused, match="approve"):
        empty.keys.create_first(["ada", "ben"], scopes=["decide"])


def test_first_keys_are_made_once(empty: House, house: House) -> None:
    """While any person's key exists, revoked ones too, `create_first` is a conflict; a service's key is no person's."""
    with pytest.raises(Conflict, match="exists already"):
        house.keys.create_first(["ada", "ben"])
    empty.keys.create_first(["ada", "ben"])
    with pytest.raises(Conflict, match="exists already"):
        empty.keys.create_first(["eve", "mallory"])


def test_two_processes_making_first_keys_at_once(empty: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that both saw no key, the second is refused inside the transaction."""
    empty.keys.create_first(["ada", "ben"])
    monkeypatch.setattr(empty.store, "rows", lambda register: [])
    with pytest.raises(Conflict):
        empty.keys.create_first(["eve", "mallory"])
    monkeypatch.undo()
    assert [row.document["principal"]["id"] for row in empty.store.rows("keys")] == ["ada", "ben"]


def test_first_keys_beside_a_service(tmp_path: Path) -> None:
    """A database whose keys belong to services only still gets its first persons."""
    house = open_house(tmp_path, {"gateway": PEOPLE["gateway"]})
    assert len(house.keys.create_first(["ada", "ben"])) == 2
    house.close()


@pytest.mark.parametrize("name", ["gateway", "Gateway"])
def test_first_keys_take_no_services_name(tmp_path: Path, name: str) -> None:
    """What is a service on one key is no person on another, in whatever capitals, on the first keys either."""
    house = open_house(tmp_path, {"gateway": PEOPLE["gateway"]})
    with pytest.raises(Conflict, match="principal"):
        house.keys.create_first(["ada", name])
    assert [row.document["principal"]["id"] for row in house.store.rows("keys")] == ["gateway"]
    house.close()


def test_a_key_works_only_once_approved(house: House) -> None:
    """A proposed key is unknown; approved it is its principal's, with what was asked and who asked and approved."""
    request = KeyRequest(
        "edge", PrincipalKind.SERVICE, ("decide",), ("acme",), ("location", "subject.properties.role"), START + DAY
    )
    issued = house.keys.create(house["olga"], request)
    with pytest.raises(NotAuthenticated, match="unknown"):
        house.keys.authenticate(issued.secret, house.clock())
    house.approvals.approve(house["paul"], issued.proposal)
    principal = house.keys.authenticate(issued.secret, house.clock())
    assert principal == Principal(
        "edge",
        PrincipalKind.SERVICE,
        frozenset(("decide",)),
        frozenset(("acme",)),
        frozenset(("location", "subject.properties.role")),
        issued.id,
    )
    key = next(key for key in house.keys.list(house["olga"]) if key.id == issued.id)
    assert (key.issued_by, key.approved_by, key.created_at) == ("olga", "paul", house.clock())
    assert issued.secret.startswith(key.prefix) and len(key.prefix) == 7


def test_the_owner_may_make_the_text(house: House) -> None:
    """With a hash instead of a text nobody here sees the secret, and a text is used for one key only."""
    secret = new_secret()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    issued = house.keys.create(house["olga"], person("rita", "approve"), key_hash=digest)
    twin = house.keys.create(house["olga"], person("rita", "orders:write"), key_hash=digest)
    assert issued.secret is None
    house.approvals.approve(house["paul"], issued.proposal)
    assert house.keys.authenticate(secret, house.clock()).id == "rita"
    with pytest.raises(Conflict, match="text"):
        house.approvals.approve(house["paul"], twin.proposal)
    with pytest.raises(Conflict, match="text"):
        house.keys.create(house["olga"], person("rita", "decide"), key_hash=digest)
    with pytest.raises(InputRefused, match="SHA-256"):
        house.keys.create(house["olga"], person("rita", "decide"), key_hash=digest.upper())


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        (person("", "decide"), "principal"),
        (person("x" * 257, "decide"), "principal"),
        (person("olga\n", "decide"), "principal"),
        (person("\u043elga", "decide"), "principal"),  # a Cyrillic first letter
        (person("LOCAL", "decide"), "principal"),
        (person("rita"), "scopes"),
        (person("rita", "decide", "everything"), "scopes[1]"),
        (KeyRequest("edge", PrincipalKind.SERVICE, ("approve",)), "scopes[0]"),
        (KeyRequest("edge", PrincipalKind.SERVICE, ("decide", "facts:write")), "scopes[1]"),
        (person("rita", "decide", tenants=()), "tenants"),
        (person("rita", "decide", tenants=("acme", "acmee")), "tenants[1]"),
        (KeyRequest("rita", PrincipalKind.PERSON, ("decide",), supplies=("nationality",)), "supplies[0]"),
        (KeyRequest("rita", PrincipalKind.PERSON, ("decide",), supplies=("subject",)), "supplies[0]"),
        (KeyRequest("rita", PrincipalKind.PERSON, ("decide",), supplies=("subject.properties.",)), "supplies[0]"),
        (KeyRequest("rita", PrincipalKind.PERSON, ("decide",), supplies=("context.*",)), "supplies[0]"),
        (person("rita", "decide", until=START), "expires_at"),
    ],
)
def test_a_request_that_means_nothing_is_refused(house: House, request_: KeyRequest, where: str) -> None:
    """A name, scope, tenant, supply or end that cannot be is refused with its place, and nothing is proposed."""
    with pytest.raises(InputRefused) as refused:
        house.keys.create(house["olga"], request_)
    assert refused.value.where == where
    assert house.approvals.list(house["paul"]) == ()


@pytest.mark.parametrize("path", ["*", "serving_region", "resource.properties.a.b", "context.device-class"])
def test_what_a_key_may_supply(house: House, path: str) -> None:
    """Location, serving region, everything, or a path into the request may be supplied."""
    _, principal = granted(house, KeyRequest("edge", PrincipalKind.SERVICE, ("decide",), supplies=(path,)))
    assert principal.supplies == {path}


def test_a_principal_is_a_person_or_a_service(house: House) -> None:
    """A person's name cannot be a service's, nor spelt in other capitals, also when two proposals race."""
    with pytest.raises(Conflict, match="other kind"):
        house.keys.create(house["olga"], KeyRequest("paul", PrincipalKind.SERVICE, ("decide",)))
    with pytest.raises(Conflict, match="other kind"):
        house.keys.create(house["olga"], person("gateway", "decide"))
    first = house.keys.create(house["olga"], person("rita", "approve"))
    second = house.keys.create(house["olga"], person("Rita", "approve"))
    house.approvals.approve(house["paul"], first.proposal)
    with pytest.raises(Conflict, match="capitals"):
        house.approvals.approve(house["paul"], second.proposal)
    granted(house, person("rita", "orders:write"))


def test_authenticating_names_what_is_wrong_and_no_key(house: House) -> None:
    """No key, an unknown, an expired and a revoked one each get one constant sentence that holds nothing of the key."""
    secret, _ = granted(house, person("rita", "decide", until=START + SECOND))
    gone, principal = granted(house, person("rolf", "decide"))
    house.keys.revoke(house["olga"], principal.key_id)
    at = house.clock()
    for token, instant, sentence in (
        (None, at, "no key was given"),
        ("", at, "no key was given"),
        ("pe_short", at, "the key is unknown"),
        (new_secret(), at, "the key is unknown"),
        (f" {secret}", at, "the key is unknown"),
        (secret, START + SECOND, "the key has expired"),
        (gone, at, "the key is revoked"),
    ):
        with pytest.raises(NotAuthenticated) as refused:
            house.keys.authenticate(token, instant)
        assert str(refused.value) == sentence
    assert house.keys.authenticate(secret, START + SECOND - 1).id == "rita"
    assert house.keys.authenticate(secret).id == "rita"
    house.clock.at += SECOND
    with pytest.raises(NotAuthenticated, match="expired"):
        house.keys.authenticate(secret)


def test_authenticating_reads_the_register_once_an_epoch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are read again when the epoch moved, and not otherwise; facts and proposals cost no reading."""
    secret, _ = granted(house, person("rita", "decide"))
    calls: list[str] = []
    rows = house.store.rows
    monkeypatch.setattr(house.store, "rows", lambda register: calls.append(register) or rows(register))
    house.facts.set_facts(house["olga"], "tenants", "acme", {"headquarters": "US"})
    for _ in range(3):
        house.keys.authenticate(secret, house.clock())
    assert calls == []
    house.switches.engage(house["olga"], "s", {"models": "all"}, "why")
    for _ in range(3):
        house.keys.authenticate(secret, house.clock())
        house.keys.authenticate(secret, house.clock(), epoch=1)
    assert calls == ["keys"]


def test_revocation_by_another_process_counts_at_once(house: House) -> None:
    """A revocation committed through another store object is seen by the next authentication."""
    secret, principal = granted(house, person("rita", "decide"))
    other = Keys(house.store, Approvals(house.store))
    assert other.authenticate(secret, house.clock()) == principal
    house.keys.revoke(house["olga"], principal.key_id)
    with pytest.raises(NotAuthenticated, match="revoked"):
        other.authenticate(secret, house.clock())


def test_a_principal_in_hand_can_be_asked_again(house: House) -> None:
    """`still_alive` says whether a principal's key lives as of an epoch: not once revoked or expired; `local` is."""
    _, principal = granted(house, person("rita", "decide", until=START + DAY))
    epoch = house.store.state().epoch
    assert house.keys.still_alive(principal, START, epoch=epoch)
    assert not house.keys.still_alive(principal, START + DAY, epoch=epoch)
    house.keys.revoke(house["olga"], principal.key_id)
    assert not house.keys.still_alive(principal, START, epoch=epoch + 1)
    assert house.keys.still_alive(LOCAL, START, epoch=epoch + 1)
    unknown = dataclasses.replace(principal, key_id="key-none")
    assert not house.keys.still_alive(unknown, START, epoch=epoch + 1)


def test_one_person_revokes_under_a_new_epoch(house: House) -> None:
    """A revocation takes one person with `keys:write`, raises the epoch and names both; twice is a conflict."""
    epoch = house.store.state().epoch
    house.keys.revoke(house["olga"], "auditor", "left")
    document = house.store.row("keys", "auditor").document
    assert house.store.state().epoch == epoch + 1
    assert (document["revoked_by"], document["reason"]) == ("olga", "left")
    with pytest.raises(Conflict, match="already"):
        house.keys.revoke(house["olga"], "auditor")
    with pytest.raises(NotFound):
        house.keys.revoke(house["olga"], "key-none")
    with pytest.raises(TooLarge):
        house.keys.revoke(house["olga"], "gateway", "x" * 1_025)
    for principal in (house["paul"], house["gateway"], LOCAL):
        with pytest.raises(NotPermitted):
            house.keys.revoke(principal, "gateway")


def test_a_person_revokes_their_own_key(house: House) -> None:
    """Whoever lost a key may revoke it without `keys:write`, with another key or with itself."""
    house.keys.revoke(house["auditor"], "auditor", "lost")
    with pytest.raises(NotAuthenticated, match="revoked"):
        house.keys.list(house["auditor"])


def test_two_approvers_always_stay(house: House) -> None:
    """A revocation that would leave fewer than two persons who can approve is refused; a second key is no person."""
    house.keys.revoke(house["olga"], "quinn")
    for name in ("paul",):
        with pytest.raises(Conflict, match="fewer than two"):
            house.keys.revoke(house["olga"], name)
        with pytest.raises(Conflict, match="fewer than two"):
            house.keys.revoke(house[name], name)
    house.keys.revoke(house["olga"], "olga-2")
    with pytest.raises(Conflict, match="fewer than two"):
        house.keys.revoke(house["olga"], "olga")
    house.keys.revoke(house["olga"], "gateway")
    granted(house, person("rita", "approve"))
    house.keys.revoke(house["olga"], "paul")


def test_an_approver_that_expired_or_is_bounded_does_not_count(tmp_path: Path) -> None:
    """Neither an expired key nor one bounded to tenants is counted among the approvers that stay."""
    people = {
        **{name: PEOPLE[name] for name in ("olga", "paul", "bounded")},
        "brief": person("rita", "approve", until=START + SECOND),
    }
    house = open_house(tmp_path, people)
    house.keys.still_alive(house["paul"], START, epoch=1)
    house.clock.at += SECOND
    with pytest.raises(Conflict, match="fewer than two"):
        house.keys.revoke(house["olga"], "paul")
    house.keys.revoke(house["olga"], "brief")
    house.close()


def test_two_revocations_at_once_leave_two_approvers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two revocations that each would leave two approvers, the second meets the first inside its transaction."""
    change = house.store.change

    def meanwhile(own: Change) -> Committed:
        monkeypatch.undo()
        house.keys.revoke(house["olga"], "quinn")
        return change(own)

    monkeypatch.setattr(house.store, "change", meanwhile)
    with pytest.raises(Conflict):
        house.keys.revoke(house["olga"], "paul")
    assert house.store.row("keys", "paul").document["revoked_at"] is None


def test_who_lists_keys(house: House) -> None:
    """All keys are listed with `keys:write` or `audit:read`, else one's own; never a hash; services list none."""
    assert len(house.keys.list(house["olga"])) == len(house.keys.list(house["auditor"])) == len(PEOPLE)
    _, clerk = granted(house, person("clerk", "orders:write"))
    assert [key.principal for key in house.keys.list(clerk)] == ["clerk"]
    assert not any(
        len(str(value)) == 64 for key in house.keys.list(house["olga"]) for value in dataclasses.astuple(key)
    )
    for principal in (house["gateway"], LOCAL):
        with pytest.raises(NotPermitted):
            house.keys.list(principal)


def test_who_grants(house: House) -> None:
    """Granting needs `keys:write` with a key that is not bounded to tenants."""
    for principal in (house["paul"], house["gateway"], LOCAL, house["bounded"]):
        with pytest.raises(NotPermitted):
            house.keys.create(principal, person("rita", "decide"))


def test_a_scope_is_asked_for_by_name() -> None:
    """`local` holds `decide`, supplies location and serving region, and nothing else."""
    require(LOCAL, "decide")
    for scope in set(SCOPES) - {"decide"}:
        with pytest.raises(NotPermitted, match=scope):
            require(LOCAL, scope)
    assert LOCAL.supplies == {"location", "serving_region"}
