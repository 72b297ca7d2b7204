"""Exports and the report where every process has a log of its own: on PostgreSQL, two writers, one tree.

What is found there is found once it is in the tree, and the proof sheet says so while something is on its way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.errors import Conflict
from policy_engine.services.exports.service import Form, Target
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.report.period import parse_period
from policy_engine.settings import Settings
from policy_engine_verify import cli as verifier
from tests.postgresql import running
from tests.services.histories import POLICIES, History, played
from tests.services.report.readhtml import read

LONG = parse_period("2026-01-01..2030-01-01")


@pytest.fixture
def history(tmp_path: Path, compiled: ReleaseLoader) -> Iterator[History]:
    """A generated history of two writers, whose tree was not looked after since the last of it."""
    server = running()
    name = server.new_database()
    given = {"policies": POLICIES, "keys": tmp_path / "engine.keys", "sample_world": "yes", "serving_region": "US"}
    roles = {"database": "pe_writer", "operator_database": "pe_operator", "sequencer_database": "pe_sequencer"}
    urls = {setting: server.url(name, login) for setting, login in roles.items()}
    settings = [
        Settings(**urls, **given, log_key=tmp_path / "log.key"),
        Settings(**{**urls, "sequencer_database": None}, **given),
    ]
    with played(11, 60, settings, compiled) as made:
        yield made
    server.drop_database(name)


def integrated(history: History) -> None:
    """Take everything into the tree."""
    sequencer = history.engines[0].sequencer
    assert sequencer is not None
    while history.engines[0].store.pending(1):
        sequencer.integrate()


def stored(history: History) -> set[bytes]:
    """Return the public bytes of every entry of every log."""
    return {public for _, _, public in history.engines[1].store.entries(limit=1_000_000)}


def test_an_export_holds_every_log_in_the_order_of_the_tree(history: History, tmp_path: Path) -> None:
    """Nothing of either log is missing or twice, each log is in its order, and the sheet has a part for each."""
    integrated(history)
    engine, who = history.engines[1], history.keys["auditor"]
    sheet = engine.exports.export(who, engine.exports.ask(""), Form.JSONL, Target(tmp_path / "all"))
    lines = (tmp_path / "all").read_bytes().splitlines()
    assert set(lines) == stored(history) and len(lines) == len(set(lines)) == sheet.entries
    assert (sheet.complete, sheet.notes) == (True, [])
    seqs: dict[str, list[int]] = {}
    for line in lines:
        public = json.loads(line)
        seqs.setdefault(public["log"], []).append(public["seq"])
    assert len(seqs) >= 2 and all(found == list(range(len(found))) for found in seqs.values())
    assert [(part.log, part.entries, part.proved) for part in sheet.logs] == [
        (log, len(found), len(found)) for log, found in sorted(seqs.items())
    ]


def test_what_is_not_in_the_tree_yet_is_said_to_be_missing(history: History, tmp_path: Path) -> None:
    """An export before the sequencer came round is not complete, and says why; a final range is."""
    integrated(history)
    engine, who = history.engines[1], history.keys["auditor"]
    history.clock.now += 1_000_000
    before = history.clock.now
    integrated(history)
    history.clock.now += 1_000_000
    engine.decider.decide_many([history.request()], who)
    sheet = engine.exports.export(who, engine.exports.ask(""), Form.JSONL, Target(tmp_path / "early"))
    assert not sheet.complete and "in the tree" in sheet.notes[0]
    final = engine.exports.export(who, engine.exports.ask("", None, before), Form.JSONL, Target(tmp_path / "past"))
    assert final.complete is final.final
    integrated(history)
    sheet = engine.exports.export(who, engine.exports.ask(""), Form.JSONL, Target(tmp_path / "late"))
    assert sheet.complete and set((tmp_path / "late").read_bytes().splitlines()) == stored(history)


def test_a_bundle_of_several_logs_verifies(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The separate verifier accepts it and finds every entry of every log."""
    integrated(history)
    engine = history.engines[1]
    sheet = engine.exports.export(
        history.keys["auditor"], engine.exports.ask(""), Form.BUNDLE, Target(tmp_path / "b.zip")
    )
    assert verifier.main([str(tmp_path / "b.zip"), "--key", sheet.log_key, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["entries"] == sheet.entries == len(stored(history))


def test_a_bundle_with_bodies_waits_for_an_erasure_that_another_process_integrates(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process without the sequencer refuses and keeps the approval; the one with it integrates, and it verifies."""
    integrated(history)
    leading, other = history.engines
    keys = history.keys
    asked = other.exports.ask("")
    ids = [other.exports.propose_unsealed(keys["auditor"], asked, Form.BUNDLE, "an audit").id for _ in range(2)]
    for id in ids:
        other.approvals.approve(keys["approver"], id)
    integrated(history)
    other.decider.decide_many([history.request()], keys["auditor"])
    found = other.disposal.erasures.propose(keys["operator"], "mina", "case 7")
    other.approvals.approve(keys["approver"], found.proposal.id)
    with pytest.raises(Conflict, match="not in the tree yet"):
        other.exports.export_unsealed(keys["auditor"], ids[0], None, None, Target(tmp_path / "a.zip"))
    assert not (tmp_path / "a.zip").exists()
    for engine, id, name in ((leading, ids[1], "b.zip"), (other, ids[0], "a.zip")):
        sheet = engine.exports.export_unsealed(keys["auditor"], id, None, None, Target(tmp_path / name))
        assert verifier.main([str(tmp_path / name), "--key", sheet.log_key, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["findings"] == []


def test_the_report_counts_every_log(history: History, tmp_path: Path) -> None:
    """Decisions of both writers are counted, with their keyed facets, and the log verifies."""
    integrated(history)
    made = history.engines[1].reports.write(history.keys["auditor"], LONG, tmp_path / "r.html")
    decisions = sum(json.loads(public)["kind"] == "decision" for public in stored(history))
    assert (made.decisions, made.keyed, made.verified) == (decisions, True, True)
    page = read((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.problems == [] and "US persons" in page.said()
