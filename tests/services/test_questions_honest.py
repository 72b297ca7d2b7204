"""Answers are honest: whatever the log holds, pages joined are exactly the entries that match, each once, in order.

The oracle tries every entry and knows what was written; the engine has labels, lists, tags and an index that is at any
place behind the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.core.instants import DAY, format_instant
from policy_engine.errors import InputRefused, NotFound
from policy_engine.services.evidence import Filters, Page
from policy_engine.services.questions import EVERYTHING, Question
from policy_engine.services.questiontext import parse_question
from policy_engine.store.indexinterfaces import Backlog
from tests.services.evidencesamples import AUDITOR
from tests.services.questionscenes import COUNTRIES, MODELS, SUBJECTS, TENANTS, Oracle, Scene, Truth, opened
from tests.store.conftest import KINDS
from tests.store.samples import NOON

GROUPS = [line.split(",") for line in Path("policies/tables/ear_groups.csv").read_text().splitlines()[1:]]
"""Country, group, first day, first day after."""

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("decide", "decide", "decide", "integrate", "integrate", "index", "index", "tags", "switch", "wait")
        ),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=12,
)


def has(member: str, value: Any, negated: bool = False) -> Oracle:
    """Return the oracle of one public member."""
    return lambda truth: truth.public.get(member) is not None and (truth.public[member] == value) is not negated


def facet(name: str, *values: str) -> Oracle:
    """Return the oracle of one sealed facet."""
    return lambda truth: not truth.facets.get(name, frozenset()).isdisjoint(values)


def in_group(name: str) -> Oracle:
    """Return the oracle of a group, by the edition at the decision's own instant."""

    def oracle(truth: Truth) -> bool:
        if "instant" not in truth.public:
            return False
        day = format_instant(truth.public["instant"])[:10]
        members = {row[0] for row in GROUPS if row[1] == name and row[2] <= day and (not row[3] or day < row[3])}
        return not truth.facets.get("counted", frozenset()).isdisjoint(members)

    return oracle


def decision(oracle: Oracle) -> Oracle:
    """Return an oracle that only decisions pass."""
    return lambda truth: truth.public["kind"] == "decision" and oracle(truth)


def reasons(place: int, value: str) -> Oracle:
    """Return the oracle of a rule's label or code among the reasons."""
    return decision(lambda truth: value in [reason[place] for reason in truth.public["reasons"]])


TERMS: list[tuple[str, Oracle]] = [
    ("allow", has("outcome", "allow")),
    ("-allow", has("outcome", "allow", negated=True)),
    ("kind:decision", has("kind", "decision")),
    ("kind:switch.*", lambda truth: truth.public["kind"].startswith("switch.")),
    ("kind:read,genesis", lambda truth: truth.public["kind"] in ("read", "genesis")),
    *((f"model:{model}", has("model", model)) for model in MODELS if model),
    ("-model:fable-5", has("model", "fable-5", negated=True)),
    *((f"tenant:{tenant}", has("tenant", tenant)) for tenant in TENANTS),
    ("-tenant:acme", has("tenant", "acme", negated=True)),
    ("tier>=4", lambda truth: (truth.public.get("tier") or 0) >= 4),
    ("-tier>=4", lambda truth: truth.public.get("tier") is not None and truth.public["tier"] < 4),
    ("tier:1,5", lambda truth: truth.public.get("tier") in (1, 5)),
    ("action:download_weights", has("action", "download_weights")),
    ("rule:P12", reasons(0, "P12")),
    ("-rule:P12", decision(lambda truth: "P12" not in [reason[0] for reason in truth.public["reasons"]])),
    ("rule:row-2", decision(lambda truth: "row-2" in truth.public["rules"])),
    ("reason:nationality.*", reasons(1, "nationality.restricted")),
    ("order:sw-1", decision(lambda truth: any("sw-1" in reason[2] for reason in truth.public["reasons"]))),
    ("missing:*", decision(lambda truth: bool(truth.public["missing"]))),
    ("-lifted:*", decision(lambda truth: not truth.public["lifted"])),
    ("-licence:l-1", decision(lambda truth: "l-1" not in truth.public["licences"])),
    ("lifted:seat", decision(lambda truth: "seat" in truth.public["lifted"])),
    ("licence:l-1", decision(lambda truth: "l-1" in truth.public["licences"])),
    ("by:key-pep", has("by", "key-pep")),
    ("epoch:2", has("epoch", 2)),
    ("epoch>2 epoch<=5", lambda truth: 2 < truth.public["epoch"] <= 5),
    ("switch:sw-1", has("switch", "sw-1")),
    ("release:sha256:a*", lambda truth: str(truth.public["release"]).startswith("sha256:a")),
    *((f"subject:{subject}", lambda truth, subject=subject: truth.subject == subject) for subject in SUBJECTS[:2]),
    *((f"country:{country}", facet("counted", country)) for country in COUNTRIES[:2]),
    ("location:GB,CN", facet("location", "GB", "CN")),
    ("us_person:no", facet("us_person", "no")),
    ("evidence:expired", facet("evidence", "expired")),
    ("individual:acme", lambda truth: truth.tenant == "acme"),
    ("group:D:5", in_group("D:5")),
    ("group:A:5", in_group("A:5")),
]  # fmt: skip


def at_least(instant: int) -> Oracle:
    """Return the oracle of `since`."""
    return lambda truth: truth.public["at"] >= instant


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, list[Oracle]]:
    """Draw a question and its oracles; names of columns with one value appear once."""
    chosen = draw(st.lists(st.sampled_from(TERMS), max_size=3, unique_by=lambda term: term[0].lstrip("-")[:3]))
    text, oracles = " ".join(term for term, _ in chosen), [oracle for _, oracle in chosen]
    since, length = draw(st.none() | st.integers(0, 60)), draw(st.none() | st.integers(1, 60))
    begin = NOON + (since or 0) * DAY
    if since is not None:
        text, oracles = f"{text} since {format_instant(begin)}", [*oracles, at_least(begin)]
    if length is not None:
        end = begin + length * DAY
        text, oracles = f"{text} until {format_instant(end)}", [*oracles, lambda truth: truth.public["at"] < end]
    return text, oracles


@pytest.fixture(scope="module", params=sorted(KINDS))
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One database for all examples of a kind: what earlier ones wrote is part of the history of the later."""
    made = opened(KINDS[request.param], tmp_path_factory.mktemp("honest"))
    yield made
    made.close()
    made.database.close()
    findings = made.database.verify().findings
    made.database.drop()
    assert findings == ()


def places(page: Any) -> list[tuple[str, int]]:
    """Return the places of a page's entries."""
    return [(entry["log"], entry["seq"]) for entry in page.entries]


@settings(max_examples=40, deadline=None)
@given(before=STEPS, between=st.lists(STEPS, max_size=3), asked=questions(), limit=st.integers(1, 30), data=st.data())
def test_pages_joined_are_what_matches(
    scene: Scene,
    before: list[tuple[str, int]],
    between: list[list[tuple[str, int]]],
    asked: tuple[str, list[Oracle]],
    limit: int,
    data: st.DataObject,
) -> None:
    """Forwards everything up to the end, backwards everything there was at the first page, while more is written.

    Pages of sealed questions are not too small: each look is one more entry, which the next page may find.
    """
    text, oracles = asked
    limit = max(limit, 20) if parse_question(text, NOON).sealed else limit
    newest_first = data.draw(st.booleans())
    for step in before:
        scene.happen(step)
    page = scene.look(text, limit=limit, newest_first=newest_first)
    wanted = scene.expected(oracles)
    found = places(page)
    for _ in range(100_000):
        if page.after is None:
            break
        for step in between.pop() if between else ():
            scene.happen(step)
        page = scene.look(text, limit=limit, newest_first=newest_first, after=page.after)
        found += places(page)
    else:
        pytest.fail("the pages do not end")
    if newest_first:
        assert found == list(reversed(wanted))
    else:
        assert found == scene.expected(oracles)


INDEXED = [0, 40, 10_000]
"""How many entries an index of the scene holds: none, about a half, all."""


@pytest.mark.parametrize(
    ("kind", "indexed"),
    [
        *(("sqlite", indexed) for indexed in INDEXED),
        ("postgres", 40),
        *(pytest.param("postgres", indexed, marks=pytest.mark.campaign) for indexed in INDEXED if indexed != 40),
    ],
)
def test_every_term_finds_its_entries(kind: str, indexed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each term alone and beside one other, from both ends, however far the index is: all, once, in order."""
    scene = opened(KINDS[kind], tmp_path, seed=indexed)
    for store in scene.stores:  # the recorders would go on with the index by themselves
        monkeypatch.setattr(store, "index_columns", lambda count: Backlog(0, 0))
        monkeypatch.setattr(store, "index_tags", lambda count: 0)
    for round in range(6):
        scene.decide(10, 0)
        scene.decide(6, 1)
        scene.switch()
        scene.wait(12 + round)
        scene.sequencer.integrate()
    for store in scene.stores:
        for step in range(indexed // 10):  # the index of tags lags behind
            type(store).index_columns(store, 10)
            if step % 2:
                type(store).index_tags(store, 10)
    for place, (text, oracle) in enumerate(TERMS):
        other, beside = TERMS[(7 * place + 3) % len(TERMS)]
        apart = text.lstrip("-")[:3] != other.lstrip("-")[:3]
        for asked, oracles in ((text, [oracle]), (f"{text} {other}", [oracle, beside])):
            if asked == text or apart:
                wanted = scene.expected(oracles)
                for newest_first in (True, False):
                    found = paged(scene, asked, newest_first)
                    assert found == (wanted[::-1] if newest_first else wanted), asked
    scene.close()
    scene.database.close()
    scene.database.drop()


def paged(scene: Scene, text: str, newest_first: bool) -> list[tuple[str, int]]:
    """Return what the pages of a question hold, looked at without an entry about the look."""
    question, found, after = parse_question(text, scene.clock.now), [], None
    finder = scene.evidence._finder
    while True:
        part = finder.page(question, limit=17, after=after, newest_first=newest_first)
        found += [(one.log_id, one.seq) for one in part.found]
        after = part.after
        if after is None:
            return found


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Scene]]:
    """The same history on each kind of store, by one writer: half of it indexed, some in the tree, some pending."""
    made = [opened(KINDS[kind], tmp_path_factory.mktemp(kind), seed=7) for kind in sorted(KINDS)]
    for scene in made:
        scene.looks = []
        for days in (0, 20, 40):
            scene.wait(days)
            for _ in range(12):
                scene.decide(4)
            scene.switch()
            scene.sequencer.integrate()
        while scene.stores[0].index_tags(40):
            pass
        scene.stores[0].index_columns(80)
    yield made
    for scene in made:
        scene.close()
        scene.database.close()
        scene.database.drop()


@settings(max_examples=60, deadline=None)
@given(asked=questions(), limit=st.integers(1, 200), newest_first=st.booleans())
def test_both_stores_give_the_same_answers(
    twins: list[Scene], asked: tuple[str, list[Oracle]], limit: int, newest_first: bool
) -> None:
    """The same history gives the same entries, pages and completeness, whatever keeps it."""
    answers = []
    for scene in twins:
        question = parse_question(asked[0], scene.clock.now)
        only = Filters(question, kind="decision", limit=limit, newest_first=newest_first)
        page = scene.evidence.query(AUDITOR, only)
        end = None if page.after is None else int(page.after.rpartition(":")[2])
        answers.append(([entry["seq"] for entry in page.entries], end))
    assert answers[0] == answers[1]


@settings(max_examples=20, deadline=None)
@given(asked=questions(), newest_first=st.booleans())
def test_a_scan_is_every_page_at_once(scene: Scene, asked: tuple[str, list[Oracle]], newest_first: bool) -> None:
    """Streaming gives what the pages give, with the bytes as they were committed and the leaf of each entry."""
    scene.decide(3)
    question = parse_question(asked[0], scene.clock.now)
    if question.sealed:
        scene.looks.append(next((term.values[0] for term in question.sealed if term.facet == "subject"), ""))
    found = list(scene.evidence.scan(AUDITOR, question, newest_first=newest_first))
    wanted = scene.expected(asked[1])
    assert [(one.log_id, one.seq) for one in found] == (wanted[::-1] if newest_first else wanted)
    with scene.stores[0].view() as view:
        for one in found[:20]:
            leaf = view.leaf_of(one.log_id, one.seq)
            assert one.leaf == (None if leaf is None else leaf.leaf)
            assert json.loads(one.data) == one.public
            assert one.name == (str(one.seq) if scene.database.one_log else f"{one.log_id}:{one.seq}")


@given(text=st.text(max_size=30) | st.from_regex(r"([0-9a-f]{16}:)?[0-9]{1,20}", fullmatch=True))
def test_no_cursor_is_an_internal_error(scene: Scene, text: str) -> None:
    """Whatever stands where the name of an entry belongs is refused with a sentence, or names an entry."""
    for newest_first in (True, False):
        try:
            scene.evidence.query(AUDITOR, Filters(after=text, limit=1, newest_first=newest_first))
        except InputRefused as refused:
            assert refused.where == "after"
            assert text not in refused.message or len(text) < 4
    try:
        scene.evidence.show(AUDITOR, text)
    except (InputRefused, NotFound) as refused:
        assert refused.where == "entry"


def test_an_answer_about_the_past_is_complete_when_nothing_can_come_any_more(scene: Scene) -> None:
    """Looking at everything is not enough: until the horizon has passed the end, an entry could still come."""
    scene.decide(2, 0)
    scene.sequencer.integrate()
    end = scene.clock.now
    scene.wait(1)
    asked = Filters(parse_question(f"until {format_instant(end)}", scene.clock.now), limit=1_000)
    page = scene.evidence.query(AUDITOR, asked)
    while page.after is not None:
        assert not page.complete
        page = scene.evidence.query(AUDITOR, replace(asked, after=page.after))
    with scene.stores[0].finding() as index:
        horizon = index.marks().horizon
    assert page.complete is (end <= horizon)
    ahead = parse_question(f"until {format_instant(scene.clock.now - 1)}", scene.clock.now)
    assert ahead.until is not None and ahead.until > horizon
    assert not last_page(scene, ahead).complete
    scene.decide(1, 0)
    scene.sequencer.integrate()
    scene.wait(0)
    scene.sequencer.integrate()
    assert last_page(scene, ahead).complete


def test_where_there_are_several_logs_what_is_pending_is_not_in_an_answer_and_it_says_so(scene: Scene) -> None:
    """On PostgreSQL an entry counts once it is in the tree; on SQLite whatever is durable is found."""
    scene.sequencer.integrate()
    scene.decide(1, 0)
    page = scene.evidence.query(AUDITOR, Filters(limit=1))
    newest = scene.truths[next(reversed(scene.truths))].public
    assert (page.entries[0]["id"] == newest["id"]) is scene.database.one_log
    assert last_page(scene, EVERYTHING).complete is scene.database.one_log
    scene.sequencer.integrate()
    assert scene.evidence.query(AUDITOR, Filters(limit=1)).entries[0]["id"] == newest["id"]
    assert last_page(scene, EVERYTHING).complete


def last_page(scene: Scene, question: Question) -> Page:
    """Return the page with which the answer to a question ends."""
    page = scene.evidence.query(AUDITOR, Filters(question, limit=1_000))
    while page.after is not None:
        page = scene.evidence.query(AUDITOR, Filters(question, limit=1_000, after=page.after))
    return page
