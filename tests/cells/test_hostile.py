"""What another cell says is hostile: bounded, read strictly, never believed into an allow, never echoed."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.core.switches import KillSwitch, Switchboard, SwitchQuestion
from policy_engine.limits import LIMITS
from policy_engine.services.cells import instructions
from policy_engine.services.cells.addresses import Cell
from policy_engine.services.cells.comparing import ask, compare
from policy_engine.services.cells.exchange import CellClient, CellSilent
from policy_engine.services.cells.peers import Peers
from policy_engine.services.cells.sending import CUT_OFF, REACHED, REFUSED, send
from policy_engine.services.cells.standing import (
    OrderThere,
    Standing,
    Standings,
    SwitchThere,
    lacking,
    read_standing,
)
from policy_engine.services.withdrawal import Stage
from tests.cells.hostile import DIGEST, answered, answering, document, standing
from tests.services.governed import open_house

SHORT = replace(LIMITS, cell_seconds=0.4, cell_answer_bytes=4_096, cell_orders_count=3, withdrawal_wait_seconds=0.5)
SWITCH = {"id": "s", "revision": 1, "scope": {"models": ["m"]}}
ORDER = {"id": "o", "kind": "directive", "revision": 1, "models": ["m"], "blocks": ["everyone"]}

ANSWERS = {
    "nothing": b"",
    "no HTTP": b"\x00\xff" * 100,
    "huge": answered(b'{"a": "' + b"x" * 8_192 + b'"}'),
    "endless": b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
    "shorter than it says": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}",
    "deep": answered(b"[" * 2_000 + b"]" * 2_000),
    "not an object": answered(b"[1]"),
    "not JSON": answered(b"{"),
    "NaN": answered(b'{"epoch": NaN}'),
    "a member twice": answered(b'{"epoch": 1, "epoch": 2}'),
    "redirect": answered(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:1/"),
    "error": answered(b'{"title": "No"}', "500 Internal Server Error"),
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1_000 + b"\r\n{}",
}


@pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_not_understood_is_none(said: bytes) -> None:
    """Whatever comes in its place, nothing is known of that cell, in time; nothing else is connected to."""
    began = time.monotonic()
    with answering(said) as cell:
        client = CellClient(cell, SHORT)
        with pytest.raises(CellSilent):
            ask(client, None, SHORT)
        client.close()
        (shown,) = compare([cell], SHORT)
    assert (shown.reachable, shown.lacks) == (False, ())
    assert time.monotonic() - began < 10 * SHORT.cell_seconds


def test_an_answer_that_drips_ends_at_the_bound() -> None:
    """A byte now and then keeps nobody waiting beyond the time of one exchange."""
    began = time.monotonic()
    with answering(standing(), pause_seconds=0.02) as cell:
        client = CellClient(cell, SHORT)
        with pytest.raises(CellSilent):
            ask(client, None, SHORT)
        took = time.monotonic() - began
        client.close()
    assert SHORT.cell_seconds <= took < 5 * SHORT.cell_seconds < len(standing()) * 0.02


def test_a_whole_answer_is_believed() -> None:
    """What the others are tried against: a standing in order is read."""
    with answering(standing(switches=[SWITCH], orders=[ORDER])) as cell:
        client = CellClient(cell)
        found = ask(client, None, SHORT)
        client.close()
    assert (found.switches["s"].reach.models, found.orders["o"].blocks) == ({"m"}, {"everyone"})


@pytest.mark.parametrize(
    "members",
    [
        {"epoch": "1"},
        {"epoch": True},
        {"epoch": None},
        {"release": 1},
        {"release": "r" * 300},
        {"digest": "x"},
        {"digest": 0},
        {"switches": {}},
        {"switches": None},
        {"orders": "none"},
        {"switches": [SWITCH] * 4},
        {"switches": ["s"]},
        {"switches": [{**SWITCH, "id": 1}]},
        {"switches": [{**SWITCH, "id": ""}]},
        {"switches": [{**SWITCH, "id": "s" * 300}]},
        {"switches": [{**SWITCH, "revision": 1.5}]},
        {"switches": [{**SWITCH, "scope": None}]},
        {"switches": [{**SWITCH, "scope": {"drill": True}}]},
        {"switches": [{**SWITCH, "until": "tomorrow"}]},
        {"switches": [{**SWITCH, "until": 5}]},
        {"orders": [{**ORDER, "kind": "hold"}]},
        {"orders": [{**ORDER, "kind": ["directive"]}]},
        {"orders": [{**ORDER, "blocks": "everyone"}]},
        {"orders": [{**ORDER, "blocks": [1]}]},
        {"orders": [{**ORDER, "exempts": "none"}]},
        {"orders": [{**ORDER, "from": []}]},
    ],
)
def test_a_member_of_the_wrong_kind_makes_the_whole_unbelieved(members: dict[str, Any]) -> None:
    """Not even the members beside it count: of such a cell nothing is known."""
    with pytest.raises(CellSilent):
        read_standing(document(**members), None, SHORT)


def test_lists_are_left_out_only_where_they_are_known() -> None:
    """Without lists a standing means those known under the same digest, and no others."""
    known = read_standing(document(switches=[SWITCH]))
    short = {name: value for name, value in document().items() if name not in ("switches", "orders")}
    assert read_standing(short, known).switches == known.switches
    for before in (None, replace(known, digest="1" * 64)):
        with pytest.raises(CellSilent):
            read_standing(short, before)
    with pytest.raises(CellSilent):
        read_standing({**short, "orders": []}, known)


@pytest.mark.parametrize(
    "scope", [{}, {"models": "x"}, {"models": [1]}, {"models": []}, {"tiers": ["4"]}, {"odd": ["x"]}]
)
def test_a_reach_that_cannot_be_read_is_everything(scope: dict[str, Any]) -> None:
    """A hostile or newer cell narrows nothing by a scope that nobody understands."""
    found = read_standing(document(switches=[{**SWITCH, "scope": scope}]))
    anything = SwitchQuestion(
        frozenset(("any",)), frozenset(("t",)), frozenset(("lab",)), 1, frozenset(("US",)), "infer"
    )
    assert Switchboard(lacking(read_standing(document()), found)).engaged(anything, 0) == ("s",)


WORDS = st.none() | st.frozensets(st.sampled_from("abc"), min_size=1)
TIMES = st.sampled_from((-ENDLESS, 0, 10, 20, ENDLESS))
REACHES = st.builds(
    KillSwitch, id=st.sampled_from(("s", "t")), start=TIMES, until=TIMES, models=WORDS, tenants=WORDS, actions=WORDS
)
QUESTIONS = st.builds(
    SwitchQuestion,
    models=st.frozensets(st.sampled_from("abc"), min_size=1),
    tenants=WORDS,
    tenant_types=st.just(frozenset(("lab",))),
    tier=st.none(),
    regions=st.none(),
    action=st.sampled_from("abc"),
)


def stands(reaches: list[KillSwitch], kind: str) -> Standing:
    """Return a standing with these reaches as switches or as directives."""
    switches = {each.id: SwitchThere(each.id, 1, each) for each in reaches if kind == "switch"}
    orders = {each.id: OrderThere(each.id, "directive", 1, each) for each in reaches if kind == "directive"}
    return Standing("r", 1, DIGEST, switches, orders)


@given(
    own=st.lists(REACHES, max_size=2),
    there=st.lists(REACHES, max_size=2),
    kind=st.sampled_from(("switch", "directive")),
    question=QUESTIONS,
    at=st.integers(-1, 25),
)
def test_what_is_stopped_there_is_stopped_here_or_lacking(
    own: list[KillSwitch], there: list[KillSwitch], kind: str, question: SwitchQuestion, at: int
) -> None:
    """No question at any time escapes: what is reached there is reached by own orders or by what is lacking.

    Control: policy_engine/services/cells/standing.py:
    `return wide and own.start <= there.start and there.until <= own.until`
    """
    mine, others = stands(own, kind), stands(there, kind)
    held = Switchboard(each.reach for each in (*mine.switches.values(), *mine.orders.values()))
    wanted = Switchboard(each.reach for each in (*others.switches.values(), *others.orders.values()))
    found = Switchboard(lacking(mine, others))
    for id in wanted.engaged(question, at):
        assert id in held.engaged(question, at) or id in found.engaged(question, at)


@pytest.mark.parametrize(
    ("own", "there", "behind"),
    [
        ({}, {}, False),
        (None, {}, True),
        ({"blocks": ["everyone"]}, {"blocks": ["everyone", "foreign_person"]}, True),
        ({"models": ["m"]}, {"models": "all"}, True),
        ({"models": "all"}, {"models": ["m"]}, False),
        ({"exempts": "1" * 64}, {}, False),
        ({"exempts": "1" * 64}, {"revision": 2}, True),
        ({"exempts": "1" * 64, "revision": 2}, {"revision": 2, "exempts": "1" * 64}, False),
        ({}, {"exempts": "1" * 64, "revision": 2}, False),
        ({"kind": "grant"}, {}, True),
        ({}, {"kind": "licence"}, False),
    ],
)
def test_a_directive_is_behind_where_it_is_looser_here(
    own: dict[str, Any] | None, there: dict[str, Any], behind: bool
) -> None:
    """Missing, narrower, or eased here while amended since there; one that is stricter here is not behind."""
    mine = read_standing(document(orders=[] if own is None else [{**ORDER, **own}]))
    others = read_standing(document(orders=[{**ORDER, **there}]))
    assert bool(lacking(mine, others)) is behind


def test_what_is_over_is_lacked_by_nobody() -> None:
    """A switch or an order that ended by itself in one cell alone can be sent nowhere any more, nor released."""
    past, coming = "2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
    licence = {"id": "l", "kind": "licence", "revision": 1}
    switches = [{**SWITCH, "until": past}, {**SWITCH, "id": "s2", "until": coming}]
    orders = [{**ORDER, "until": past}, {**licence, "until": past}, {**licence, "id": "l2", "until": coming}]
    with answering(standing(switches=switches, orders=orders)) as one, answering(standing()) as other:
        first, second = compare([one, other], SHORT)
    assert (first.switches_count, first.orders_count, first.lacks) == (1, 1, ())
    assert [each.id for each in second.lacks] == ["l2", "s2"]


def test_a_cell_says_when_what_it_has_in_force_ends(tmp_path: Path) -> None:
    """Of every kind, so that another sees when it is over, though nobody has ended it."""
    house, until = open_house(tmp_path), "2026-07-01T00:00:00Z"
    house.orders.receive(house["olga"], "grant", {"id": "g", "models": ["fable-5"], "until": until})
    house.switches.engage(house["olga"], "s", {"models": ["fable-5"]}, "why", until=parse_instant(until))
    shown = Standings(house.store).shown(house["auditor"])
    house.close()
    assert [(each["id"], each["until"]) for each in (*shown["orders"], *shown["switches"])] == [
        ("g", until), ("s", until),
    ]  # fmt: skip


def test_closing_does_not_wait_for_a_cell_that_takes_no_connection() -> None:
    """Nothing can be broken off before there is a connection: the engine writes what it has to, and ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(3):  # more than it takes: whoever comes next hears nothing
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        cell = Cell("full", f"http://127.0.0.1:{full.getsockname()[1]}", "pe_" + "k" * 43)
        peers = Peers([cell], cast("Standings", None), 4, LIMITS)
        peers.start()
        time.sleep(0.2)
        began = time.monotonic()
        peers.close()
        peers.close()
        assert time.monotonic() - began < LIMITS.cell_seconds / 2


def test_a_title_of_a_problem_is_cut_and_made_printable() -> None:
    """What a cell calls its problem is shown in a line that moves no cursor, and no longer than a line."""
    title = json.dumps({"title": "\x1b[2J" + "x" * 500}).encode()
    with answering(answered(title, "418 Teapot")) as cell:
        found = send([cell], instructions.engage("s", {"models": ["m"]}, "w"), Stage.COMMITTED, SHORT)
    (one,) = found.cells
    assert (one.status, found.stage) == (REFUSED, None)
    assert one.problem.isprintable() and len(one.problem) < 140


def test_stages_that_are_said_at_once_keep_their_order() -> None:
    """What a cell has settled when it is first heard of was not settled before it was committed."""
    said = {"epoch": 1, "stage": "settled", "waits_for": []}
    body = json.dumps({"id": "s", "status": "committed", "withdrawal": said}).encode()
    with answering(answered(body, "201 Created")) as cell:
        (found,) = send([cell], instructions.engage("s", {"models": ["m"]}, "w"), Stage.SETTLED, SHORT).cells
    times = (found.committed_ms, found.drained_ms, found.settled_ms)
    assert found.status == REACHED and list(times) == sorted(each for each in times if each is not None)


@pytest.mark.parametrize(
    "withdrawal",
    [None, [], {}, {"epoch": "1"}, {"epoch": 1, "stage": "settled"}, {"epoch": 1, "stage": 7, "waits_for": []}],
)
def test_a_stage_that_was_not_said_is_not_reached(withdrawal: Any) -> None:
    """A cell that took it and says nothing that can be understood of its stages has not settled it."""
    body = json.dumps({"id": "s", "status": "committed", "withdrawal": withdrawal}).encode()
    with answering(answered(body, "201 Created")) as cell:
        found = send([cell], instructions.engage("s", {"models": ["m"]}, "w"), Stage.SETTLED, SHORT)
    assert (found.cells[0].status in (REFUSED, CUT_OFF), found.settled_ms) == (True, None)
