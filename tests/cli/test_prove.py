"""`audit prove`: the proof it writes is accepted by the separate verifier, with the key that it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy_engine.bootstrap import open_engine
from policy_engine.cli.exits import Code
from policy_engine.ledger.note import Ed25519Signer
from policy_engine.services.sequencer import Sequencer
from policy_engine.settings import Settings
from policy_engine_verify import cli
from tests.cli.conftest import POLICIES, Shell


def signed(shell: Shell) -> None:
    """See to it that there is a signed tree, whoever signs it."""
    engine = open_engine(Settings(database=f"sqlite:///{shell.database}", policies=POLICIES))
    if not engine.store.tree_state().key:
        Sequencer(engine.store, lambda state: Ed25519Signer("example.org/log", bytes(32))).integrate()
    engine.close()


def test_a_decision_is_proved_by_its_id(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file of a decision, asked for by its id, verifies offline and shows the very entry."""
    asked = json.loads(shell.asked().out)
    signed(shell)
    ran = shell("audit", "prove", asked["context"]["id"], "--to", tmp_path / "one.tlog-proof")
    assert ran.code == Code.OK, ran.err
    assert cli.main([str(tmp_path / "one.tlog-proof"), "--key", ran.json["key"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entry"] == json.loads(ran.json["entry"])
    assert json.loads(ran.json["entry"])["id"] == asked["context"]["id"]
    assert shell("audit", "prove", "0", "--to", tmp_path / "one.tlog-proof").code == Code.USAGE
    assert shell("audit", "prove", "0").json["proof"].startswith("c2sp.org/tlog-proof@v1\n")


def test_an_entry_that_is_not_there(shell: Shell) -> None:
    """An unknown number and an unknown id get one sentence."""
    for name in ("9999", "0" * 32):
        ran = shell("audit", "prove", name)
        assert (ran.code, ran.out) == (Code.USAGE, "") and "there is no such entry" in ran.err
