"""The past: entries in the order in which they happened, and registers as they were after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.bootstrap import Engine
from policy_engine.ledger.canonical import canonical
from policy_engine.services.past import Past, in_order, instant_of, is_change, is_decision
from policy_engine.services.permissions import LOCAL
from policy_engine.services.unseal import Unsealer
from policy_engine.store.interfaces import StoredEntry
from tests.laws.sample import opened
from tests.services.replays import ALICE


class Logs:
    """A view of several logs, by instant, log and number, as a store gives them."""

    one_log = False

    def __init__(self, *entries: StoredEntry) -> None:
        self._entries = sorted(entries, key=lambda one: (instant_of(one.public), one.log_id, one.seq))

    def scan_entries(self, *, by_instant: bool = False) -> Iterator[StoredEntry]:
        """Yield the entries by instant."""
        assert by_instant
        yield from self._entries


COMMON: dict[str, Any] = {"v": 1, "id": "", "epoch": 0, "release": None, "sealed": ""}


def entry(log: str, seq: int, at: int, *, changes: bool = False, **more: Any) -> StoredEntry:
    """Return an entry of a log."""
    members = {"kind": "facts.set", "rows": [["persons", "c"]]} if changes else {"kind": "decision"}
    public = canonical({**COMMON, "at": at, "log": log, "seq": seq, **members, **more})
    return StoredEntry(log, seq, public, b"", None, None, None)


def test_a_change_comes_before_whatever_has_its_instant() -> None:
    """Of another log and written under it, whatever the logs are called; what is earlier stays before it."""
    view: Any = Logs(
        entry("a", 0, 4), entry("a", 1, 5), entry("b", 0, 5, changes=True), entry("b", 1, 5), entry("a", 2, 6)
    )
    assert [(one.log_id, one.seq) for one in in_order(view)] == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]


def test_changes_of_one_transaction_keep_their_order() -> None:
    """Several changes at one instant come one after another, as they were written."""
    view: Any = Logs(entry("a", 0, 5), *(entry("b", seq, 5, changes=True) for seq in range(4)))
    assert [(one.log_id, one.seq) for one in in_order(view)] == [("b", 0), ("b", 1), ("b", 2), ("b", 3), ("a", 0)]


@given(at=st.integers(0, 2**52), name=st.text(max_size=9), inner=st.integers(0, 2**52))
def test_the_instant_is_that_of_the_entry_itself(at: int, name: str, inner: int) -> None:
    """Not of a member within another, nor of a text that looks like one."""
    look = f'"at":{inner},{name}'
    for more in ({"about": {"at": inner}}, {"z": [{"at": inner}]}, {"about": look}, {"a": look, "z": {"at": inner}}):
        assert instant_of(entry("a", 0, at, **more).public) == at


@pytest.mark.parametrize("text", ['"rows":[', '"kind":"decision"', '{"rows":[]}'])
def test_a_text_is_no_member(text: str) -> None:
    """What a caller wrote into a text makes an entry neither a change nor a decision."""
    public = canonical({"at": 1, "kind": "search", "note": text, "tail": f"\\{text}"})
    one = StoredEntry("a", 0, public, b"", None, None, None)
    assert not is_change(one)
    assert not is_decision(one)


def test_registers_are_those_of_the_entry(sample_database: Any, compiled: Any) -> None:
    """After every entry each register, its pages and the state are what the store had at that moment."""
    with opened(sample_database, compiled) as (engine, keys):
        then = [seen(engine)]
        for act in (
            lambda: engine.facts.set_facts(keys["operator"], "persons", "alice", {"residence_country": "GB"}),
            lambda: engine.decider.decide(ALICE, LOCAL),
            lambda: engine.switches.engage(keys["operator"], "stop", {"models": ["open-1"]}, "a drill"),
            lambda: engine.keys.revoke(keys["operator"], str(keys["enforcement point"].key_id)),
        ):
            act()
            then.append(seen(engine))
        with engine.store.view() as view:
            past = Past(Unsealer.over(engine.replay.vault, view), engine.store.blob)
            found = []
            for one in in_order(view):
                past.apply(one)
                found.append(seen_in(past))
    assert found == then


def seen(engine: Engine) -> Any:
    """Return what a store holds now."""
    return seen_in(engine.store)


def seen_in(registers: Any) -> Any:
    """Return state and registers, whole, by row and by page."""
    whole = {name: registers.rows(name) for name in ("persons", "tenants", "orders", "switches", "keys", "releases")}
    page = registers.rows("persons", after="b", limit=3)
    rows = (registers.row("persons", "alice"), registers.row("persons", "nobody"), registers.row("switches", "stop"))
    return registers.state(), whole, page, rows
