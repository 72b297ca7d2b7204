"""Changing: rows, entry and epoch together or not at all, and nothing on what has moved."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from policy_engine.errors import Conflict, InputRefused, PolicyEngineError, TooLarge
from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.sealing import RowBody, commitment, split_rows
from policy_engine.limits import LIMITS
from policy_engine.store.interfaces import REGISTERS, Change, State, Write
from tests.store.samples import AnyStore, genesis, put


def public_of(store: AnyStore, seq: int) -> dict[str, Any]:
    """Return the public part of an entry."""
    head = store.head()
    assert head is not None
    entry = store.entry(head.log_id, seq)
    assert entry is not None
    return parse_public(entry.public)


def test_genesis_lays_the_first_state(store: AnyStore) -> None:
    """One change on an empty database gives epoch 1, the active release, the rows, and the mark of a sample."""
    write = Write("releases", "sha256:aa", {"hash": "sha256:aa"}, 0)
    store.change(Change("genesis", {}, (write,), raises_epoch=True, activate="sha256:aa", mark_sample=True))
    assert store.state() == State(1, "sha256:aa", 0, sample=True)
    public = public_of(store, 0)
    assert (public["kind"], public["activates"], public["sample"]) == ("genesis", "sha256:aa", True)


@pytest.mark.parametrize("register", REGISTERS)
def test_rows_are_put_replaced_and_taken_away(store: AnyStore, register: str) -> None:
    """In every register revisions count from 1, name their entry, and never repeat, even after a row was gone."""
    genesis(store)
    raises = register not in ("persons", "tenants", "approvals")
    for seq, (expect, document, revision) in enumerate(
        [(0, {"a": "1"}, 1), (1, {"a": "2"}, 2), (2, None, None), (0, {"a": "3"}, 4), (4, {"a": "4"}, 5)], start=1
    ):
        store.change(Change("put", {}, (Write(register, "x", document, expect),), raises_epoch=raises))
        row = store.row(register, "x")
        if document is None:
            assert row is None
            assert "x" not in [row.id for row in store.rows(register)]
        else:
            assert row is not None
            assert (row.document, row.revision, row.seq, row.item) == (document, revision, seq, 0)


def test_rows_carry_the_salt_of_their_public_commitment(store: AnyStore) -> None:
    """Each row's salt and document give the commitment in the public part of the entry the row names."""
    genesis(store)
    for item, (register, id) in enumerate(
        [("releases", "sha256:aa"), ("persons", "alice"), ("tenants", "acme"), ("orders", "dir-1")]
    ):
        row = store.row(register, id)
        assert row is not None
        assert row.item == item
        body = RowBody(register, id, row.revision, row.document).encode()
        assert public_of(store, row.seq)["rows"][item] == [register, commitment(row.salt, body)]


def test_nothing_of_a_row_is_public(store: AnyStore) -> None:
    """Neither id nor document of a row stands in the public part of its entry, nor in clear in the sealed part."""
    store.change(put("persons", "planted-id", 0, {"facts": {"planted-name": "planted-value"}}))
    head = store.head()
    assert head is not None
    entry = store.entry(head.log_id, 0)
    assert entry is not None
    assert b"planted" not in entry.public + (entry.sealed or b"")


@pytest.mark.parametrize("raises", [False, True])
def test_what_a_change_moves(store: AnyStore, raises: bool) -> None:
    """Facts move the facts revision, and the epoch only when the change says so."""
    genesis(store)
    before = store.state()
    store.change(Change("x", {}, (Write("tenants", "t", {}, 0), Write("persons", "p", {}, 0)), raises_epoch=raises))
    after = store.state()
    assert after.facts_revision == before.facts_revision + 1
    assert after.epoch == before.epoch + raises
    store.change(put("approvals", "p", 0))
    assert store.state() == after


@pytest.mark.parametrize("register", ["orders", "switches", "keys"])
def test_a_change_that_can_deny_must_raise_the_epoch(store: AnyStore, register: str) -> None:
    """Orders, switches, keys and the active release cannot change without a new epoch; the store refuses."""
    genesis(store)
    with pytest.raises(ValueError, match="epoch"):
        store.change(Change("x", {}, (Write(register, "a", {}, 0),), raises_epoch=False))
    with pytest.raises(ValueError, match="epoch"):
        store.change(Change("x", {}, (), raises_epoch=False, activate="sha256:aa"))
    assert store.state().epoch == 1


BASE = (Write("persons", "new", {}, 0),)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (put("persons", "alice", 0), Conflict),
        (put("persons", "alice", 2), Conflict),
        (put("persons", "bob", 1), Conflict),
        (Change("x", {}, (Write("persons", "bob", None, 0),), raises_epoch=False), Conflict),
        (Change("x", {}, BASE, raises_epoch=False, expect_release="sha256:bb"), Conflict),
        (Change("x", {}, BASE, raises_epoch=False, expects=(("persons", "alice", 2),)), Conflict),
        (Change("x", {}, BASE, raises_epoch=False, expects=(("persons", "bob", 1),)), Conflict),
        (Change("x", {}, BASE, raises_epoch=False, expects=(("persons", "alice", 0),)), Conflict),
        (Change("x", {}, BASE, raises_epoch=True, activate="sha256:bb"), Conflict),
        (Change("x", {}, (*BASE, put("persons", "alice", 9).writes[0]), raises_epoch=False), Conflict),
        (Change("x", {"seq": 9}, BASE, raises_epoch=False), InputRefused),
        (Change("x", {"a": 0.5}, BASE, raises_epoch=False), InputRefused),
        (Change("x", {}, (Write("persons", "new", {"a": 0.5}, 0),), raises_epoch=False), InputRefused),
        (Change("x", {}, (Write("persons", "new", {"é": 1}, 0),), raises_epoch=False), InputRefused),
        (Change("x", {}, (Write("keys", "new", {"hash": 5}, 0),), raises_epoch=True), InputRefused),
        (Change("x", {}, tuple(Write("persons", f"p{n}", {}, 0) for n in range(257)), raises_epoch=False), TooLarge),
    ],
)
def test_a_refused_change_leaves_nothing(store: AnyStore, change: Change, error: type[PolicyEngineError]) -> None:
    """When anything it rests on has moved, or it cannot be recorded, no row, entry, key or epoch is written."""
    genesis(store)
    before = (store.head(), store.state(), store.row("persons", "alice"))
    with pytest.raises(error) as refused:
        store.change(change)
    assert (store.head(), store.state(), store.row("persons", "alice")) == before
    assert store.row("persons", "new") is None
    assert "alice" not in str(refused.value)


def test_what_a_change_rests_on_may_stand(store: AnyStore) -> None:
    """A change goes through when the rows it expects, present or absent, are as it expects."""
    genesis(store)
    expects = (("persons", "alice", 1), ("persons", "bob", 0))
    store.change(Change("x", {}, BASE, raises_epoch=False, expects=expects, expect_release="sha256:aa"))
    assert store.row("persons", "new") is not None


def test_the_most_rows_of_an_entry_and_one_more_for_genesis(store: AnyStore) -> None:
    """An entry holds up to the limit of rows; genesis, which is one entry by contract, may hold more."""
    count = LIMITS.rows_per_entry_count
    store.change(Change("genesis", {}, tuple(Write("persons", f"g{n}", {}, 0) for n in range(count + 1)), True))
    store.change(Change("x", {}, tuple(Write("persons", f"p{n}", {}, 0) for n in range(count)), raises_epoch=False))
    assert len(store.rows("persons")) == 2 * count + 1


def test_the_same_row_twice_in_a_change_is_refused(store: AnyStore) -> None:
    """A change writes each row once."""
    with pytest.raises(ValueError, match="once"):
        store.change(Change("x", {}, (*BASE, *BASE), raises_epoch=False))


def test_blobs_are_stored_once_and_named_in_the_entry(store: AnyStore) -> None:
    """Content is kept under its own hash, twice is no error, and the entry names it; a wrong hash is refused."""
    content = b"rules"
    hash = sha256(content).hexdigest()
    store.change(Change("x", {}, (), raises_epoch=False, blobs={hash: content}))
    store.change(Change("x", {}, (), raises_epoch=False, blobs={hash: content}))
    assert store.blob(hash) == content
    assert store.blob("0" * 64) is None
    assert public_of(store, 0)["blobs"] == [hash]
    with pytest.raises(ValueError, match="SHA-256"):
        store.change(Change("x", {}, (), raises_epoch=False, blobs={"0" * 64: content}))


def test_the_entry_id_may_be_given(store: AnyStore) -> None:
    """A public `id` becomes the entry's; without one the entry gets its own."""
    store.change(Change("x", {"id": "0" * 32}, (), raises_epoch=False))
    store.change(Change("x", {}, (), raises_epoch=False))
    assert public_of(store, 0)["id"] == "0" * 32
    assert len(public_of(store, 1)["id"]) == 32


def approval(status: str, proposed_by: Any, decided_by: Any) -> dict[str, Any]:
    """Return the typed part of a proposal."""
    return {"status": status, "proposed_by": proposed_by, "decided_by": decided_by}


@pytest.mark.parametrize(("proposer", "decider"), [("olga", "olga"), ("olga", None), (None, "paul"), (None, None)])
def test_nobody_approves_alone(store: AnyStore, proposer: str | None, decider: str | None) -> None:
    """The schema refuses an approved proposal without two different persons, whatever the service does."""
    genesis(store)
    with pytest.raises(Conflict):
        store.change(put("approvals", "p", 0, approval("approved", proposer, decider)))
    store.change(put("approvals", "p", 0, approval("waiting", proposer, None)))
    with pytest.raises(Conflict):
        store.change(put("approvals", "p", 1, approval("approved", proposer, decider)))
    row = store.row("approvals", "p")
    assert row is not None
    assert row.document["status"] == "waiting"


def test_two_persons_approve_and_one_may_refuse(store: AnyStore) -> None:
    """Two different persons approve; the proposer alone may withdraw."""
    genesis(store)
    store.change(put("approvals", "p", 0, approval("approved", "olga", "paul")))
    store.change(put("approvals", "q", 0, approval("refused", "olga", "olga")))
    assert [row.id for row in store.rows_by("approvals", "status", "approved")] == ["p"]
    assert [row.id for row in store.rows_by("approvals", "proposed_by", "olga")] == ["p", "q"]


def test_two_keys_never_share_a_hash(store: AnyStore) -> None:
    """A second key with a stored hash is refused, and a key is found by its hash."""
    genesis(store)
    store.change(put("keys", "k1", 0, {"hash": "h1"}))
    with pytest.raises(Conflict):
        store.change(put("keys", "k2", 0, {"hash": "h1"}))
    assert [row.id for row in store.rows_by("keys", "hash", "h1")] == ["k1"]
    assert store.rows_by("keys", "hash", "h2") == []


def test_rows_are_paged_by_id(store: AnyStore) -> None:
    """`after` and `limit` page through a register in order of id."""
    store.change(Change("x", {}, tuple(Write("persons", id, {}, 0) for id in "dacb"), raises_epoch=False))
    assert [row.id for row in store.rows("persons")] == list("abcd")
    assert [row.id for row in store.rows("persons", after="a", limit=2)] == ["b", "c"]
    assert store.rows("persons", after="d") == []


def test_each_row_has_a_data_key_of_its_own(store: AnyStore) -> None:
    """Rows of one change are sealed under different keys, so that one of them can be erased alone."""
    store.change(Change("x", {}, tuple(Write("persons", id, {}, 0) for id in "ab"), raises_epoch=False))
    with store.view() as view:
        (entry,) = view.scan_entries()

        keys = [key_id for key_id, _ in split_rows(entry.sealed or b"")]
        assert len(set(keys)) == 2
        assert all(view.data_key(key_id) for key_id in keys)


def test_several_changes_are_one_batch_or_none(store: AnyStore) -> None:
    """Changes applied together get an entry each in one batch; when one is refused none is applied."""
    genesis(store)
    committed = store.change_all([put("persons", "p", 0), put("switches", "s", 0), put("persons", "p", 1)])
    assert committed.seqs == (1, 2, 3)
    assert (store.state().epoch, store.state().facts_revision) == (2, 3)
    head = store.head()
    assert head is not None
    assert head.next_batch == 2
    with pytest.raises(Conflict):
        store.change_all([put("persons", "q", 0), put("persons", "p", 9)])
    assert store.head() == head
    assert store.row("persons", "q") is None
    with pytest.raises(ValueError, match="no change"):
        store.change_all([])
