"""Law 11: one person may tighten, two must loosen; and what moved under a proposal makes its approval fail.

The law is about what is allowed, so that is what is compared: after every act of a random history, by random people
with random keys, who may do what with which model, as the evaluator itself says.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import event, example, given

from policy_engine.errors import Conflict
from tests.services.acts import HISTORIES, Act, Governance, govern

LOOSENED: list[Act] = [
    ("engage", 0, 0, 0),
    ("release", 0, 0, 0),
    ("approve", 1, 0, 0),
    ("approve", 2, 0, 0),
    ("directive", 0, 0, 3),
    ("approve", 2, 0, 0),
    ("end", 0, 0, 0),
    ("approve", 2, 0, 0),
]
MOVED: list[Act] = [("directive", 0, 0, 3), ("amend", 0, 1, 2), ("approve", 2, 0, 0), ("approve", 3, 0, 0)]
EASED: list[Act] = [("directive", 0, 0, 1), ("amend", 0, 1, 0), ("approve", 3, 0, 0)]
SOCK: list[Act] = [("grant", 0, 0, 0), ("engage", 3, 0, 0), ("release", 0, 0, 0), ("approve", 8, 0, 0)]


@given(HISTORIES)
@example(LOOSENED)
@example(EASED)
@example(MOVED)
@example(SOCK)
def test_nothing_is_allowed_that_was_denied_without_two_persons(acts: list[Act]) -> None:
    """Whenever an act makes anything allowed that was denied, its one entry carries an approval by a second person.

    Control: policy_engine/services/orderdocuments.py: `if not loosens(before, parse_directive({**new, "id": id})):`
    """
    with tempfile.TemporaryDirectory() as folder:
        governance = govern(Path(folder))
        try:
            before = governance.allowed()
            for act in acts:
                entries = entries_of(governance)
                governance.do(act)
                after = governance.allowed()
                if after - before:
                    event(f"loosened by {act[0]}")
                    assert_two_persons(governance, entries_of(governance)[len(entries) :])
                before = after
            assert_grants_of_two(governance)
        finally:
            governance.house.close()


@given(HISTORIES)
@example(MOVED)
def test_an_approval_fails_when_what_it_rests_on_moved(acts: list[Act]) -> None:
    """A proposal whose rows or release differ from those it was made on is never approved, and fails when tried."""
    with tempfile.TemporaryDirectory() as folder:
        governance = govern(Path(folder))
        try:
            for act in acts:
                id = governance.proposal(act[2])
                row = governance.house.store.row("approvals", id) if act[0] == "approve" else None
                moved = row is not None and row.document["status"] == "waiting" and has_moved(governance, row.document)
                refusal = governance.do(act)
                if moved:
                    status = governance.house.store.row("approvals", id).document["status"]
                    assert refusal is not None and status in ("waiting", "failed")
                    assert (status == "failed") == isinstance(refusal, Conflict)
                    event(f"moved, now {status}")
        finally:
            governance.house.close()


def test_the_examples_do_what_they_are_for(tmp_path: Path) -> None:
    """The histories above are not idle: one loosens three times, one fails a proposal, one is refused."""
    for name, acts in (("a", LOOSENED), ("b", MOVED), ("c", SOCK)):
        (tmp_path / name).mkdir()
        governance = govern(tmp_path / name)
        sizes = [len(governance.allowed())]
        refusals = []
        for act in acts:
            refusals.append(governance.do(act))
            sizes.append(len(governance.allowed()))
        statuses = [row.document["status"] for row in governance.house.store.rows("approvals")]
        if name == "a":
            grew = [act[0] for act, was, now in zip(acts, sizes, sizes[1:], strict=False) if now > was]
            assert grew == ["approve", "approve", "approve"]
        elif name == "b":
            assert statuses == ["failed"]
        else:
            assert sorted(statuses) == ["waiting", "waiting"] and refusals[-1] is not None
        governance.house.close()


def entries_of(governance: Governance) -> list[dict[str, Any]]:
    """Return the public members of every entry, in order."""
    return [json.loads(public) for _, _, public in governance.house.store.entries()]


def assert_two_persons(governance: Governance, entries: list[dict[str, Any]]) -> None:
    """The one entry that loosened names a proposal, approved by a person who is not the one that made it."""
    (entry,) = entries
    proposal = governance.house.store.row("approvals", entry["proposal"]).document
    keys = {row.id: row.document["principal"] for row in governance.house.store.rows("keys")}
    proposer, approver = keys[entry["proposed_by"]], keys[entry["by"]]
    assert proposal["status"] == "approved" and proposal["hash"] == entry["hash"]
    assert proposer["kind"] == approver["kind"] == "person"
    assert (proposer["id"], approver["id"]) == (proposal["proposed_by"], proposal["decided_by"])
    assert proposer["id"] != approver["id"]


def assert_grants_of_two(governance: Governance) -> None:
    """Every key that is not of the genesis was issued by one person and approved by another."""
    for row in governance.house.store.rows("keys"):
        if row.id.startswith("key-"):
            assert row.document["approved_by"] is not None
            assert row.document["approved_by"] != row.document["issued_by"]


def has_moved(governance: Governance, document: dict[str, Any]) -> bool:
    """Whether anything that a proposal's document says it rests on is another by now."""
    store = governance.house.store
    rows = [(store.row(register, id), revision) for register, id, revision in document["base"]]
    moved = any((0 if row is None else row.revision) != revision for row, revision in rows)
    return moved or store.state().release != document["release"]
