"""Asking the log: pages that say when they are not complete, reads that are logged first, registers as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.decision import Request
from policy_engine.core.facts import EvidenceLevel
from policy_engine.errors import (
    InputRefused,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    StoreUnavailable,
    VerificationFailed,
)
from policy_engine.ledger.decisions import flat_values
from policy_engine.ledger.encoding import parse_public
from policy_engine.limits import LIMITS
from policy_engine.services.evidence import Evidence, Filters, Page
from policy_engine.services.permissions import LOCAL
from policy_engine.services.questions import WORDS
from policy_engine.services.record import Recorder
from policy_engine.store.interfaces import Change, State, Write
from policy_engine.store.migrate import copy_template
from policy_engine.store.sqlite import SqliteStore
from tests.services.evidencesamples import AUDITOR, BOUNDED, PEP, UNSEALER, VAULT, Desk, open_desk

NOON = 1_780_315_200_000_000
YEAR = 366 * 86_400 * 1_000_000


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at noon."""
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Iterator[Desk]:
    """A desk on an empty log; whatever was written verifies at the end."""
    made = open_desk(tmp_path / "log.db", clock)
    yield made
    assert made.evidence.verify().findings == ()
    made.close()


@pytest.fixture
def busy(desk: Desk, clock: Clock) -> Desk:
    """A desk with twelve decisions, a second apart: entries 1 to 12."""
    for n in range(12):
        clock.now = NOON + n * 1_000_000
        desk.decide(
            desk.evaluation(
                f"user-{n % 3}",
                allowed=n % 2 == 0,
                model=f"model-{n % 4}",
                request=Request(f"user-{n % 3}", "infer" if n % 5 else "list", "m", "acme" if n % 4 else "lab"),
                matched=(f"rule-{n % 2}",),
            )
        )
    return desk


def seqs(page: Page) -> list[int]:
    """Return the sequence numbers of a page."""
    return [entry["seq"] for entry in page.entries]


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, list(range(12, -1, -1))),
    ({"newest_first": False}, list(range(13))),
    ({"kind": "decision", "outcome": "allow"}, [11, 9, 7, 5, 3, 1]),
    ({"kind": "genesis"}, [0]),
    ({"model": "model-3"}, [12, 8, 4]),
    ({"action": "list"}, [11, 6, 1]),
    ({"tenant": "lab"}, [9, 5, 1]),
    ({"rule": "P7"}, [12, 10, 8, 6, 4, 2]),
    ({"rule": "rule-0"}, [11, 9, 7, 5, 3, 1]),
    ({"since": NOON + 9_000_000}, [12, 11, 10]),
    ({"until": NOON + 2_000_000}, [2, 1, 0]),
    ({"since": NOON + 2_000_000, "until": NOON + 4_000_000, "newest_first": False}, [3, 4]),
    ({"since": NOON + 99_000_000}, []),
    ({"until": NOON}, []),
    ({"model": "model-3", "tenant": "lab"}, []),
    ({"after": 3}, [2, 1, 0]),
    ({"after": 9, "newest_first": False}, [10, 11, 12]),
]


@pytest.mark.parametrize(("filters", "wanted"), FILTERS)
def test_every_filter_selects_exactly_its_entries(busy: Desk, filters: dict[str, Any], wanted: list[int]) -> None:
    """Each filter, alone and together, forwards and backwards, gives exactly the entries that match."""
    page = busy.evidence.query(AUDITOR, Filters(**filters))
    assert (seqs(page), page.complete, page.after) == (wanted, True, None)


@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_join_to_the_whole_and_say_when_they_are_not(busy: Desk, newest_first: bool) -> None:
    """Following `after` from page to page gives each entry once; only the last page says it is complete."""
    found: list[int] = []
    after = None
    complete = False
    for _ in range(20):
        page = busy.evidence.query(AUDITOR, Filters(kind="decision", limit=5, after=after, newest_first=newest_first))
        found += seqs(page)
        complete, after = page.complete, page.after
        if complete:
            break
    assert complete
    assert found == sorted(range(1, 13), reverse=newest_first)


def test_a_page_that_holds_just_everything_is_complete(busy: Desk) -> None:
    """When the limit is met exactly at the end of the range, nothing more is promised."""
    assert busy.evidence.query(AUDITOR, Filters(limit=13)).complete
    page = busy.evidence.query(AUDITOR, Filters(limit=12))
    assert (page.complete, page.after) == (False, "1")


def test_a_long_search_stops_and_says_so(busy: Desk) -> None:
    """After a bounded number of entries a query answers with what it has, and where to go on."""
    evidence = Evidence(busy.store, busy.recorder, VAULT, replace(LIMITS, looked_entries_count=5))
    page = evidence.query(AUDITOR, Filters(tenant="lab"))
    assert (seqs(page), page.complete, page.after) == ([9], False, "8")
    page = evidence.query(AUDITOR, Filters(tenant="lab", after=page.after))
    assert (seqs(page), page.complete, page.after) == ([5], False, "3")


def test_many_entries_are_read_page_by_page(desk: Desk) -> None:
    """A log longer than a page of the store is searched to its end."""
    for _ in range(5):
        desk.decide(*[desk.evaluation(f"u{n}") for n in range(250)])
    for newest_first in (True, False):
        page = desk.evidence.query(AUDITOR, Filters(kind="genesis", newest_first=newest_first))
        assert (seqs(page), page.complete) == ([0], True)


def test_an_empty_log_is_a_complete_answer(tmp_path: Path) -> None:
    """Nothing recorded is nothing found, and that is complete."""
    store = SqliteStore(copy_template(tmp_path / "log.db"), VAULT)
    recorder = Recorder(store, VAULT)
    evidence = Evidence(store, recorder, VAULT)
    assert evidence.query(LOCAL, Filters()) == Page((), True, None)
    with pytest.raises(NotFound):
        evidence.show(LOCAL, 0)
    assert evidence.rebuild().state == State(0, None, 0)
    assert evidence.verify().ok
    recorder.close()
    store.close()


@pytest.mark.parametrize("limit", [0, 1_001])
def test_the_size_of_a_page_is_bounded(busy: Desk, limit: int) -> None:
    """A page of no entry, or of more than the limit, is refused."""
    with pytest.raises(InputRefused, match="1 to 1000"):
        busy.evidence.query(AUDITOR, Filters(limit=limit))
    assert busy.evidence.query(AUDITOR, Filters(limit=1_000)).complete


def test_who_may_ask(busy: Desk) -> None:
    """`local` and holders of `audit:read` read the public log; a gateway's key does not."""
    assert len(busy.evidence.query(LOCAL, Filters()).entries) == 13
    for attempt in (lambda: busy.evidence.query(PEP, Filters()), lambda: busy.evidence.show(PEP, 1)):
        with pytest.raises(NotPermitted, match="audit:read"):
            attempt()


def test_the_bounded_see_their_tenants_only(busy: Desk) -> None:
    """A key bounded to a tenant sees that tenant's decisions and nothing else of the log."""
    page = busy.evidence.query(BOUNDED, Filters())
    assert seqs(page) == [12, 11, 10, 8, 7, 6, 4, 3, 2]
    assert busy.evidence.show(BOUNDED, 12)["tenant"] == "acme"
    for seq in (0, 1):
        with pytest.raises(NotFound):
            busy.evidence.show(BOUNDED, seq)
        with pytest.raises(NotFound):
            busy.evidence.read_body(BOUNDED, seq)


def test_a_subject_is_found_by_its_tag_and_the_search_is_logged(busy: Desk) -> None:
    """Looking for a subject gives that subject's entries, after an entry that says who looked, sealed for whom."""
    page = busy.evidence.query(UNSEALER, Filters(sealed={"subject": "user-1"}, kind="decision"))
    assert seqs(page) == [11, 8, 5, 2]
    read = busy.evidence.show(AUDITOR, 13)
    assert (read["kind"], read["what"], read["by"], read["by_sealed"]) == ("read", "query", "key-uma", ["subject"])
    assert "user-1" not in str(read)
    again = busy.evidence.query(UNSEALER, Filters(sealed={"subject": "user-1"}, newest_first=False, limit=2))
    assert (seqs(again), again.complete) == ([2, 5], False)
    assert busy.evidence.query(AUDITOR, Filters(sealed={"subject": "user-1"}, kind="read")).entries[-1]["seq"] == 13


def test_facets_and_sealed_tenants_are_found_together(desk: Desk) -> None:
    """Several sealed facets must all match; a tenant that is sealed is found by its tag."""
    home = Request("alice", "infer", "m", "alice-home")
    desk.decide(
        desk.evaluation("alice", request=home, tenant_sealed=True),
        desk.evaluation("alice", facets={"location": frozenset({"UA", "UA-65"}), "us_person": "no"}),
        desk.evaluation("bob"),
    )

    def found(**sealed: str) -> list[int]:
        page = desk.evidence.query(AUDITOR, Filters(sealed=sealed, kind="decision", newest_first=False))
        return seqs(page)

    assert found(tenant="alice-home") == [1]
    assert found(location="UA-65") == found(location="UA") == [2]
    assert found(location="GB") == [1, 3]
    assert found(location="GB", subject="alice") == [1]
    assert found(evidence="valid", us_person="no") == [1, 3]
    assert found(location="FR") == []


def test_tags_of_every_year_are_found(desk: Desk, clock: Clock) -> None:
    """Tags are keyed by year, and a query looks under each year of the log."""
    desk.decide(desk.evaluation("alice"))
    clock.now += YEAR
    desk.decide(desk.evaluation("alice"))
    page = desk.evidence.query(AUDITOR, Filters(sealed={"subject": "alice"}, kind="decision"))
    assert seqs(page) == [2, 1]


@pytest.mark.parametrize("principal", [LOCAL, PEP, replace(AUDITOR, scopes=frozenset())])
def test_sealed_parts_are_not_searched_by_everybody(busy: Desk, principal: Any) -> None:
    """Looking by what is sealed needs a person's key with `audit:read`; nothing is logged for a refusal."""
    with pytest.raises(NotPermitted):
        busy.evidence.query(principal, Filters(sealed={"subject": "user-1"}))
    assert busy.store.head() is not None
    assert seqs(busy.evidence.query(LOCAL, Filters(kind="read"))) == []


def test_only_known_facets_can_be_searched(busy: Desk) -> None:
    """An unknown name among the sealed filters is refused with the names that exist."""
    with pytest.raises(InputRefused, match="subject"):
        busy.evidence.query(AUDITOR, Filters(sealed={"birth_country": "IR"}))


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (Filters(sealed={"evidence": "expird"}), "evidence is one of valid"),
        (Filters(sealed={"us_person": ""}), "us_person is one of yes, no"),
        (Filters(sealed={"counted": "ir"}), "codes in capital letters"),
        (Filters(outcome="maybe"), "allow or deny"),
        (Filters(since=2, until=1), "ends before it begins"),
    ],
)
def test_a_filter_that_can_find_nothing_is_refused(busy: Desk, filters: Filters, words: str) -> None:
    """A slip is told, and never answered by "none, and that is complete"."""
    with pytest.raises(InputRefused, match=words):
        busy.evidence.query(AUDITOR, filters)


def test_every_level_of_evidence_can_be_asked_for() -> None:
    """What a person's evidence is declared to be is a word of the question; what is verified is asked as `valid`."""
    assert {level.value for level in EvidenceLevel} - set(WORDS["evidence"]) == {"verified"}


def test_a_body_is_shown_after_its_read_is_durable(busy: Desk) -> None:
    """The sealed part holds every personal input; reading it leaves an entry that the subject's tag finds."""
    body = busy.evidence.read_body(UNSEALER, 3)
    public = busy.evidence.show(AUDITOR, 3)
    assert (body["subject"], body["tenant"], body["action"], body["model"]) == ("user-2", "acme", "infer", "m")
    assert flat_values(body["values"]) == (public["instant"], "infer", ("GB",))
    assert body["tagged"]["location"] == ["GB"]
    read = busy.evidence.show(AUDITOR, 13)
    assert (read["kind"], read["what"], read["entry"], read["by"]) == ("read", "body", 3, "key-uma")
    found = busy.evidence.query(AUDITOR, Filters(sealed={"subject": "user-2"}, kind="read"))
    assert 13 in seqs(found)


def test_the_rows_of_a_change_are_shown(desk: Desk) -> None:
    """The sealed part of a change is its rows."""
    rows = desk.evidence.read_body(UNSEALER, 0)["rows"]
    assert rows[1] == {"register": "persons", "id": "alice", "revision": 1, "document": {"facts": {}}}
    assert desk.evidence.show(AUDITOR, 1)["what"] == "body"


def test_a_body_without_its_read_entry_is_not_shown(busy: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the read cannot be recorded nothing is shown."""

    def away(*arguments: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(busy.store, "append", away)
    with pytest.raises(StoreUnavailable):
        busy.evidence.read_body(UNSEALER, 3)
    with pytest.raises(StoreUnavailable):
        busy.evidence.query(AUDITOR, Filters(sealed={"subject": "user-1"}))


@pytest.mark.parametrize("principal", [LOCAL, PEP, AUDITOR])
def test_bodies_need_the_scope(busy: Desk, principal: Any) -> None:
    """Reading a body needs a person's key with `audit:unseal`."""
    with pytest.raises(NotPermitted):
        busy.evidence.read_body(principal, 3)


def test_a_revoked_key_reads_nothing(busy: Desk) -> None:
    """The key is looked up again at the read, whatever the principal says."""
    row = busy.store.row("keys", "key-uma")
    assert row is not None
    revoked = {**row.document, "revoked_at": "2026-06-01T00:00:00Z"}
    busy.store.change(Change("key.revoked", {}, (Write("keys", "key-uma", revoked, 1),), raises_epoch=True))
    with pytest.raises(NotAuthenticated):
        busy.evidence.read_body(UNSEALER, 3)


def test_what_is_not_there_is_not_found(busy: Desk) -> None:
    """An entry beyond the log, before it, or without a sealed part is not found."""
    busy.recorder.missed("stale")
    busy.decide(busy.evaluation())
    for seq in (99, -1):
        with pytest.raises(NotFound):
            busy.evidence.show(AUDITOR, seq)
    assert busy.evidence.show(AUDITOR, 13)["kind"] == "gap"
    with pytest.raises(NotFound, match="no sealed part"):
        busy.evidence.read_body(UNSEALER, 13)


def test_registers_are_rebuilt_as_they_were(desk: Desk) -> None:
    """State and rows after any entry are those that held then; after all, those of the registers now."""
    store = desk.store
    states = [store.state()]
    documents: list[Any] = [{"facts": {}}]
    for change, document in (
        (Change("a", {}, (Write("persons", "alice", {"facts": {"a": "1"}}, 1),), raises_epoch=False), True),
        (Change("b", {}, (Write("switches", "s", {}, 0),), raises_epoch=True), False),
        (Change("c", {}, (Write("persons", "alice", None, 2),), raises_epoch=False), True),
        (Change("d", {}, (Write("persons", "alice", {"facts": {"a": "3"}}, 0),), raises_epoch=False), True),
    ):
        store.change(change)
        states.append(store.state())
        written = change.writes[0].document
        documents.append(written if document else documents[-1])
    for seq, (state, wanted) in enumerate(zip(states, documents, strict=True)):
        rebuilt = desk.evidence.rebuild(seq)
        assert rebuilt.state == state
        row = rebuilt.rows["persons"].get("alice")
        assert (None if row is None else row.document) == wanted
    whole = desk.evidence.rebuild()
    for register, rows in whole.rows.items():
        assert sorted(rows.values(), key=lambda row: row.id) == store.rows(register)


def test_rebuilding_refuses_a_log_that_does_not_open(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change whose rows do not open gives no registers at all."""
    monkeypatch.setattr("policy_engine.services.unseal.row_key_id", lambda *names: "other")
    with pytest.raises(VerificationFailed):
        desk.evidence.rebuild()


def test_the_public_log_holds_nothing_of_the_sealed_names(busy: Desk) -> None:
    """No subject, tenant that is sealed, or place stands anywhere in the public bytes of the log."""
    for _, _, public in busy.store.entries():
        assert b"user-" not in public
        assert b'"GB"' not in public
        assert parse_public(public)["v"] == 1
