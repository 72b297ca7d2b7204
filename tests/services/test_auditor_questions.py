"""The questions of auditors, as `docs/questions.md` asks them, on histories of 12,000 and of 200,000 entries.

Each command of the page is run as it stands there. What it answers is compared with trying every entry of the history,
by a predicate that knows what was written and shares nothing with the engine.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Principal
from policy_engine.core.instants import format_instant, parse_instant
from policy_engine.services.questiontext import parse_question
from policy_engine.settings import Settings
from tests.cli.conftest import Ran, Shell
from tests.docs import pages
from tests.services.longhistory import ENTRIES_COUNT, Known, LongHistory, long_history, long_history_of_the_run

PAGE = pages.ROOT / "docs" / "questions.md"
GROUPS = [line.split(",") for line in (pages.ROOT / "policies/tables/ear_groups.csv").read_text().splitlines()[1:]]
FROM_DIRECTIVE, TO_ITS_END = parse_instant("2026-06-12T21:21:00Z"), parse_instant("2026-07-15")
AUGUST = parse_instant("2026-08-01")

SHORT = 12_000

Predicate = Callable[[Known], bool]


def decided(one: Known, outcome: str | None = None) -> bool:
    """Return whether an entry is a decision, of this outcome if one is named."""
    return one.public["kind"] == "decision" and outcome in (None, one.public["outcome"])


def between(one: Known, since: int, until: int) -> bool:
    """Return whether an entry was written between two instants."""
    return since <= one.public["at"] < until


def coded(one: Known, pattern: str) -> bool:
    """Return whether a reason's code is like this."""
    return decided(one) and any(re.fullmatch(pattern, code) for _, code, _ in one.public["reasons"])


def ordered(one: Known, order: str) -> bool:
    """Return whether an order is among the reasons."""
    return decided(one) and any(order in orders for _, _, orders in one.public["reasons"])


def in_d5(one: Known) -> bool:
    """Return whether a counted country was in D:5 on the day of the decision."""
    day = format_instant(one.public["instant"])[:10]
    members = {row[0] for row in GROUPS if row[1] == "D:5" and row[2] <= day and (not row[3] or day < row[3])}
    return not one.facets.get("counted", frozenset()).isdisjoint(members)


def foreign_frontier(one: Known, *models: str) -> bool:
    """Return whether a foreign person was allowed one of the models in the time of the directive."""
    return (
        decided(one, "allow")
        and one.public["model"] in models
        and "no" in one.facets.get("us_person", ())
        and between(one, FROM_DIRECTIVE, TO_ITS_END)
    )


ANSWERS: dict[int, list[Predicate]] = {
    1: [lambda one: decided(one, "allow") and one.public["tier"] in (4, 5) and in_d5(one)],
    5: [
        lambda one: one.public["kind"].startswith("order.") and one.public.get("order") == "june-2026",
        lambda one: decided(one, "deny") and ordered(one, "june-2026"),
        lambda one: (
            foreign_frontier(one, "fable-5", "mythos-5")
            and not one.public["lifted"]
            and one.public["at"] < parse_instant("2026-06-13")
        ),
    ],
    6: [lambda one: foreign_frontier(one, "fable-5", "mythos-5")],
    9: [
        lambda one: not one.facets.get("evidence", frozenset()).isdisjoint(
            ("expired", "undated", "declared", "conflict")
        ),
        lambda one: decided(one, "deny") and coded(one, r"evidence\..*"),
    ],
    11: [
        lambda one: decided(one) and "deemed-export-2026-014" in one.public["licences"],
        lambda one: (
            decided(one)
            and "deemed-export-2026-014" in one.public["licences"]
            and one.public["at"] >= parse_instant("2026-07-10")
        ),
    ],
    12: [lambda one: decided(one, "allow") and bool(one.public["lifted"])],
    13: [lambda one: one.public["kind"].startswith("release.") or one.public["kind"] == "genesis"],
    17: [
        lambda one: one.public["kind"].startswith("switch."),
        lambda one: one.public.get("switch") == "drill-1",
        lambda one: decided(one, "deny") and ordered(one, "drill-1"),
    ],
    18: [
        lambda one: one.public.get("order_kind") == "override",
        lambda one: one.public["kind"].startswith("order.") and one.public["by"] != "local",
    ],
    19: [
        lambda one: coded(one, r"place\.anonymised|place\.unknown|destination\.anonymised"),
        lambda one: decided(one, "allow") and coded(one, r"place\.anonymised"),
    ],
    20: [lambda one: coded(one, r"serving\..*")],
    21: [
        lambda one: (
            decided(one, "deny") and one.public.get("asked") == "fable-latest" and ordered(one, "june-2026")
        ),
        lambda one: foreign_frontier(one, "fable-5", "fable-5-1"),
    ],
    22: [
        lambda one: decided(one) and one.public["action"] == "download_weights",
        lambda one: (
            decided(one, "allow")
            and one.public["action"] == "download_weights"
            and (one.public["tier"] or 0) >= 4
        ),
    ],
    24: [
        lambda one: one.public["kind"] == "read" and one.public["at"] < AUGUST,
        lambda one: one.public["kind"] == "read" and one.subject == "alice" and one.public["at"] < AUGUST,
    ],
    26: [lambda one: one.public["kind"] == "gap"],
}  # fmt: skip

EMPTY_ON_PURPOSE = {(5, 2), (11, 1), (19, 1), (22, 1)}
"""Right answers that are nothing: nobody got through, no use after the end, no anonymised place, no weights allowed."""


def commands() -> Iterator[tuple[int, int, list[str]]]:
    """Yield each command of the page's questions with the question's number and its place among that one's commands."""
    parts = re.split(r"^### (\d+)\. .*$", pages.section(PAGE, "Questions that auditors ask"), flags=re.MULTILINE)
    for number, text in zip(parts[1::2], parts[2::2], strict=True):
        lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        for place, line in enumerate(lines):
            yield int(number), place, shlex.split(line)


@pytest.fixture(scope="module", params=[SHORT, pytest.param(ENTRIES_COUNT, marks=pytest.mark.campaign)])
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LongHistory:
    """Offer a short history, and the long one that other tests read as well."""
    return long_history_of_the_run(tmp_path_factory, request.param)


@pytest.fixture(scope="module")
def shell(history: LongHistory) -> Shell:
    """A shell on the history's database."""
    return Shell(history.database, dict(history.keys))


@pytest.fixture(scope="module")
def asker(history: LongHistory) -> Iterator[tuple[Engine, Principal]]:
    """The engine opened on the history, and the auditor."""
    engine = open_engine(Settings(database=f"sqlite:///{history.database}", policies=pages.ROOT / "policies"))
    yield engine, engine.keys.authenticate(history.keys["auditor"], engine.store.now())
    engine.close()


def answered(ran: Ran) -> Any:
    """Return the answer of a command that must succeed."""
    assert ran.code == 0, ran.err
    return ran.json


def scanned(
    history: LongHistory, engine: Engine, auditor: Principal, number: int, place: int, words: list[str]
) -> list[Mapping[str, Any]]:
    """Return what trying every entry finds, after comparing it with what streaming the question finds."""
    wanted = [one.public for one in history.entries if ANSWERS[number][place](one)]
    assert bool(wanted) is ((number, place) not in EMPTY_ON_PURPOSE)
    assert words[:3] == ["policy-engine", "audit", "query"]
    found = engine.evidence.scan(auditor, parse_question(words[3], engine.store.now()))
    assert [json.loads(one.data)["id"] for one in found] == [public["id"] for public in wanted]
    return wanted


@pytest.mark.parametrize(("number", "place", "words"), list(commands()), ids=lambda value: str(value)[:40])
def test_the_answer_is_what_trying_every_entry_gives(
    history: LongHistory, asker: tuple[Engine, Principal], shell: Shell, number: int, place: int, words: list[str]
) -> None:
    """The command of the page finds exactly the entries of the history that are what was asked for."""
    wanted = scanned(history, *asker, number, place, words)
    answer = answered(shell(*words[1:], key="auditor"))
    if "--count" in words:
        assert answer == {"count": len(wanted), "complete": True}
        return
    limit = int(words[words.index("--limit") + 1]) if "--limit" in words else 100
    ordered_as_asked = wanted if "--oldest-first" in words else wanted[::-1]
    assert [entry["id"] for entry in answer["entries"]] == [public["id"] for public in ordered_as_asked[:limit]]
    assert answer["complete"] is (len(wanted) <= limit) and (answer["after"] is None) is answer["complete"]


def test_every_question_of_the_page_has_an_answer_here() -> None:
    """A question that is added to the page is compared with trying every entry, and none is forgotten."""
    asked: dict[int, int] = {}
    for number, place, _ in commands():
        asked[number] = place + 1
    assert asked == {number: len(predicates) for number, predicates in ANSWERS.items()}


def test_question_2_everything_about_one_decision(history: LongHistory, shell: Shell) -> None:
    """By its id alone: what was decided and why; unsealed: for whom, from where, on which revisions and values."""
    one = next(one for one in history.entries[len(history.entries) * 3 // 4 :] if decided(one, "deny") and one.facets)
    shown = answered(shell("audit", "show", str(one.public["id"])))
    assert (shown["seq"], shown["reasons"]) == (one.public["seq"], one.public["reasons"])
    body = answered(shell("audit", "show", str(one.public["id"]), "--unseal", key="auditor"))["body"]
    assert body["subject"] == one.subject and body["revisions"] and body["values"]


def test_the_first_commands_of_the_page_run(shell: Shell) -> None:
    """The examples at its head are commands that work."""
    (block,) = pages.blocks(PAGE, "sh")[:1]
    for line in pages.commands(block):
        assert json.loads(shell(*shlex.split(line)[1:]).out)


@pytest.mark.nightly
def test_a_million_entries_are_answered_as_well(tmp_path: Path) -> None:
    """Five times the history, and the same questions."""
    longer = long_history(tmp_path, 1_000_000)
    engine = open_engine(Settings(database=f"sqlite:///{longer.database}", policies=pages.ROOT / "policies"))
    try:
        auditor = engine.keys.authenticate(longer.keys["auditor"], engine.store.now())
        for number, place, words in commands():
            scanned(longer, engine, auditor, number, place, words)
    finally:
        engine.close()
