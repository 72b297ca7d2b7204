"""A cell fails closed by itself for what the others do not confirm, and for what they have in force and it has not."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from policy_engine import logs
from policy_engine.core.decision import PrincipalKind
from policy_engine.core.facts import Location
from policy_engine.errors import StartRefused
from policy_engine.limits import LIMITS
from policy_engine.services.cells.addresses import Cell
from policy_engine.services.cells.peers import Peers
from policy_engine.services.keys import KeyRequest
from policy_engine.services.permissions import LOCAL
from policy_engine.services.search import Query
from tests.api.served import Served, request, serving
from tests.api.streams import soon
from tests.client.proxy import Proxy

SHORT = replace(LIMITS, cell_seconds=0.3, cell_ask_seconds=0.05, cell_unconfirmed_seconds=0.5)
DIRECTIVE = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}


@dataclass
class Pair:
    """Two engines that serve, and a network between them that can be cut: `here` asks `there`."""

    here: Served
    there: Served
    network: Proxy
    peers: Peers

    def decide(self, model: str, subject: str = "alice", tenant: str = "acme") -> tuple[bool, list[str]]:
        """Return what is decided here: whether it is allowed, and the codes of the reasons."""
        return decide(self.here, model, subject, tenant)

    def allowed(self, model: str, subject: str = "alice", tenant: str = "acme") -> bool:
        """Return whether it is allowed here."""
        return self.decide(model, subject, tenant)[0]

    def engage(self, where: Served, id: str, **scope: list[str]) -> None:
        """Engage a switch in one of the two."""
        answer = where.post("/v1/switches", {"id": id, "scope": scope, "reason": "w"}, key="operator")
        assert answer.status_code == 201, answer.text

    def release(self, where: Served, id: str) -> None:
        """Release a switch in one of the two, by two persons."""
        waiting = where.post(f"/v1/switches/{id}/release", {"reason": "over"}, key="operator").json()
        body = {"hash": waiting["hash"]}
        assert where.post(f"/v1/approvals/{waiting['proposal']}/approve", body, key="approver").status_code == 200

    def receive(self, where: Served, document: dict[str, Any]) -> None:
        """Receive a directive in one of the two."""
        answer = where.post("/v1/orders", {"kind": "directive", "document": document}, key="operator")
        assert answer.status_code == 201, answer.text


def decide(here: Served, model: str, subject: str = "alice", tenant: str = "acme") -> tuple[bool, list[str]]:
    """Return what an engine decides: whether it is allowed, and the codes of the reasons."""
    answer = here.decide(request(subject, tenant, "DE" if tenant == "acme-de" else "US", model))
    return answer["decision"], [each["code"] for each in answer["context"]["reasons"]]


@contextmanager
def asking(here: Served, cell: Cell) -> Iterator[Peers]:
    """Have an engine ask another cell, with short limits, until the block ends."""
    peers = Peers([cell], here.engine.standings, 4, SHORT)
    here.engine.decider.doubt_by(peers.doubt)
    peers.start()
    try:
        yield peers
    finally:
        peers.close()
        here.engine.decider.doubt_by(lambda: None)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Two engines, each on its own database."""
    with ExitStack() as stack:
        here, there = (stack.enter_context(serving(tmp_path_factory.mktemp(name))) for name in ("here", "there"))
        yield here, there


@pytest.fixture
def pair(services: tuple[Served, Served]) -> Iterator[Pair]:
    """The two, connected, and confirmed once; asked with the key of a service that may read and nothing else."""
    here, there = services
    network = Proxy(there.port)
    key = there.grant("audit:read", PrincipalKind.SERVICE)
    with asking(here, Cell("there", f"http://127.0.0.1:{network.port}", key)) as peers:
        soon(lambda: peers.doubt() is None)
        yield Pair(here, there, network, peers)
    network.close()


def test_nothing_is_confirmed_at_the_start(services: tuple[Served, Served]) -> None:
    """Until the others have answered for the first time, models from the tier on are denied, and others go on.

    Whoever is denied anyway is told so by the rules' own reason: a doubt takes back allows and touches no deny.

    Control: policy_engine/services/cells/peers.py:
    `return tuple(peer.name for peer in self._peers if peer.confirmed_at < oldest)`
    Control: policy_engine/services/cells/doubt.py: `if found.outcome is not Outcome.ALLOW:`
    """
    here, _ = services
    denied = decide(here, "fable-5", "eve")
    peers = Peers([Cell("there", "http://127.0.0.1:1", "pe_none")], here.engine.standings, 4)
    here.engine.decider.doubt_by(peers.doubt)
    answers = [here.decide(request("alice", "acme", "US", model)) for model in ("fable-5", "opus-4-8")]
    found = decide(here, "fable-5", "eve")
    here.engine.decider.doubt_by(lambda: None)
    assert found == denied and found[1] != ["cell.unconfirmed"]
    assert peers.doubted() == ("there",)
    assert [answer["decision"] for answer in answers] == [False, True]
    assert answers[0]["context"]["reasons"][0]["code"] == "cell.unconfirmed"
    assert "there" not in str(answers[0])


@pytest.mark.parametrize("how", ["cut", "hold"])
def test_a_cell_that_is_cut_off_denies_and_recovers(pair: Pair, how: str) -> None:
    """Within the bound, models of the tier are denied with the reason and the others go on; then it confirms again."""
    soon(lambda: pair.allowed("fable-5"))
    getattr(pair.network, how)()
    soon(lambda: not pair.allowed("fable-5"), SHORT.cell_unconfirmed_seconds + SHORT.cell_seconds + 2)
    assert pair.decide("fable-5") == (False, ["cell.unconfirmed"])
    assert pair.peers.unconfirmed() == ("there",)
    assert pair.allowed("opus-4-8")
    pair.network.heal()
    soon(lambda: pair.allowed("fable-5"))


def test_the_log_names_the_cell_and_no_word_of_it(pair: Pair) -> None:
    """Each turn is one line with the cell's name: silent and why, confirmed again, ahead of this one by how much."""
    stream = io.StringIO()
    logs.configure(level="info", stream=stream)
    pair.network.cut()
    soon(lambda: "cell.silent" in stream.getvalue())
    pair.network.heal()
    soon(lambda: "cell.confirmed" in stream.getvalue())
    pair.engage(pair.there, "planted-word", models=["fable-5-1"])
    soon(lambda: "cell.behind" in stream.getvalue())
    pair.engage(pair.here, "planted-word", models=["fable-5-1"])
    logs.configure(level="info", stream=io.StringIO())
    lines = [json.loads(line) for line in stream.getvalue().splitlines() if '"cell.' in line]
    assert {line["cell"] for line in lines} == {"there"}
    assert any(line.get("reason", "").startswith("it cannot be reached") for line in lines)
    assert next(line["count"] for line in lines if line["event"] == "cell.behind") == 1
    assert not any("dropped" in line or "planted-word" in str(line) for line in lines)


def test_a_switch_that_was_missed_denies_what_it_reaches(pair: Pair) -> None:
    """Of any tier, for its own scope and nothing else; once it is engaged here too, it is the switch that denies."""
    pair.engage(pair.there, "missed", models=["opus-4-8"])
    soon(lambda: pair.decide("opus-4-8") == (False, ["cell.behind"]))
    soon(lambda: pair.allowed("fable-5"))
    pair.engage(pair.here, "missed", models=["opus-4-8"])
    soon(lambda: pair.decide("opus-4-8") == (False, ["switch.engaged"]))
    pair.release(pair.there, "missed")
    assert pair.decide("opus-4-8") == (False, ["switch.engaged"]), "a release there is none here"
    pair.release(pair.here, "missed")
    soon(lambda: pair.allowed("opus-4-8"))


def test_a_release_here_waits_for_the_release_there(pair: Pair) -> None:
    """What another cell still has in force denies here, though two persons have released it here."""
    for where in (pair.here, pair.there):
        pair.engage(where, "both", models=["summit-4"])
    pair.release(pair.here, "both")
    soon(lambda: pair.decide("summit-4") == (False, ["cell.behind"]))
    pair.release(pair.there, "both")
    soon(lambda: pair.allowed("summit-4"))


def test_the_scope_of_a_missed_switch_is_its_own(pair: Pair) -> None:
    """A switch for one tenant denies that tenant alone; the same id with a narrower scope here is not enough."""
    pair.engage(pair.here, "scoped", models=["open-1"], tenants=["acme"])
    pair.engage(pair.there, "scoped", tenants=["acme"])
    soon(lambda: pair.decide("opus-4-8") == (False, ["cell.behind"]))
    assert pair.allowed("opus-4-8", "bruno", "acme-de")
    for where in (pair.here, pair.there):
        pair.release(where, "scoped")
    soon(lambda: pair.allowed("opus-4-8"))


def test_a_missed_directive_denies_its_models_until_it_is_received(pair: Pair) -> None:
    """Whom it would let through is not known here, so nobody passes; once received, the rules decide again."""
    pair.receive(pair.there, DIRECTIVE)
    soon(lambda: pair.decide("fable-5") == (False, ["cell.behind"]))
    soon(lambda: pair.allowed("summit-4"))
    pair.receive(pair.here, DIRECTIVE)
    soon(lambda: pair.allowed("fable-5"))
    allowed, codes = pair.decide("fable-5", "chen", "lab")
    assert not allowed and not any(code.startswith("cell.") for code in codes)


def test_the_deny_is_recorded_replayed_and_seen_by_a_search(pair: Pair) -> None:
    """The entry holds the code and the flag, a replay comes out the same, and a search hides what is denied.

    Control: policy_engine/services/decide.py:
    `evaluation = redoubted(evaluator.evaluate(request, principal, snapshot, at), flags)`
    """
    engine, keys = pair.here.engine, pair.here.keys
    auditor = engine.keys.authenticate(keys["auditor"], engine.store.now())
    query = Query(subject="alice", tenant="acme", action="infer", location=Location("US"), serving_region="US")
    before = {hit.model for hit in engine.search.what_can(LOCAL, query).hits}
    pair.network.cut()
    soon(lambda: not pair.allowed("summit-4"))
    answer = pair.here.decide(request("alice", "acme", "US", "summit-4"))
    after = {hit.model for hit in engine.search.what_can(LOCAL, query).hits}
    assert answer["context"]["reasons"][0]["code"] == "cell.unconfirmed"
    assert "opus-4-8" in str(answer["context"]["alternatives"])
    replayed = engine.replay.one(auditor, answer["context"]["id"])
    assert (replayed.status, replayed.public["flags"]) == ("same", ["cell.unconfirmed"])
    assert engine.evidence.verify().ok
    assert before - after >= {"summit-4", "fable-5"} and "opus-4-8" in after


def test_a_process_that_serves_asks_the_cells_of_its_setting(services: tuple[Served, Served], tmp_path: Path) -> None:
    """It starts though nobody answers, denies from the tier of the setting on until they do, and ends with it."""
    _, there = services
    network = Proxy(there.port)
    network.cut()
    (tmp_path / "there.key").write_text(there.keys["auditor"])
    (tmp_path / "there.key").chmod(0o600)
    cell = f'[[cell]]\nname = "there"\nurl = "http://127.0.0.1:{network.port}"\nkey_file = "there.key"\n'
    (tmp_path / "cells.toml").write_text(cell)
    with serving(tmp_path, replica=True, cells=tmp_path / "cells.toml", cells_tier=3) as here:
        assert [decide(here, model) for model in ("summit-4", "opus-4-8")] == [(False, ["cell.unconfirmed"])] * 2
        assert decide(here, "open-1")[0]
        assert "policy_engine_cells_doubted 1.0" in here.get("/metrics").text
        network.heal()
        soon(lambda: decide(here, "summit-4")[0] and decide(here, "opus-4-8")[0])
    network.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "cell-there"] == []


def test_a_file_of_cells_that_is_wrong_lets_nothing_start(tmp_path: Path) -> None:
    """The file is read before the database is made."""
    (tmp_path / "cells.toml").write_text("[[cell]]\n")
    with pytest.raises(StartRefused, match="cell 1"), serving(tmp_path, replica=True, cells=tmp_path / "cells.toml"):
        pass
    assert not (tmp_path / "engine.db").exists()


def test_the_route_is_for_whole_keys_that_may_read_orders(services: tuple[Served, Served]) -> None:
    """It answers ids, revisions and reach; an enforcement point and a key that is bounded to a tenant are refused."""
    _, there = services
    bounded = KeyRequest("bounded", PrincipalKind.SERVICE, ("audit:read",), ("acme",))
    engine = there.engine
    operator, approver = (
        engine.keys.authenticate(there.keys[name], engine.store.now()) for name in ("operator", "approver")
    )
    issued = engine.keys.create(operator, bounded)
    engine.approvals.approve(approver, issued.proposal)
    assert [there.get("/v1/cells/orders", key=key).status_code for key in ("gateway", issued.secret)] == [403, 403]
    answer = there.get("/v1/cells/orders", key="auditor").json()
    assert answer.keys() == {"release", "epoch", "digest", "switches", "orders"}
    again = there.get(f"/v1/cells/orders?known={answer['digest']}", key="auditor").json()
    assert again == {name: answer[name] for name in ("release", "epoch", "digest")}
