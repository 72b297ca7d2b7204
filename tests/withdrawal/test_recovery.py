"""A database that was restored from an older copy allows nothing until two persons have recovered it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policy_engine.api.condition import read_condition
from policy_engine.bootstrap import Engine, copy_template, open_engine
from policy_engine.core.decision import Request
from policy_engine.core.facts import Location
from policy_engine.errors import Conflict, InputRefused, NotPermitted, StartRefused
from policy_engine.services.evidence import Filters
from policy_engine.services.exports.service import Form, Target
from policy_engine.services.permissions import LOCAL
from policy_engine.services.questions import Question
from policy_engine.services.report.period import parse_period
from policy_engine.settings import Settings
from policy_engine.store.interfaces import Change
from policy_engine.store.sqlite import SqliteStore
from tests.conftest import POLICIES
from tests.store.samples import VAULT, PostgresDatabase, genesis

ALLOWED = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")
SUSPECTED = ["rollback.suspected"]


@dataclass
class Machine:
    """A machine with a database, its backup, and what it remembers."""

    place: Path
    keys: dict[str, str]
    compiled: Any

    @property
    def remembered(self) -> Path:
        """The file that remembers the farthest epoch."""
        return Path(f"{self.place}.keys.epoch")

    @contextmanager
    def opened(self, *, epoch_file: Path | None = None) -> Iterator[Engine]:
        """Offer an embedded engine."""
        settings = Settings(database=f"sqlite:///{self.place}", policies=POLICIES, epoch_file=epoch_file)
        engine = open_engine(settings, releases=self.compiled, embedded=True)
        try:
            yield engine
        finally:
            engine.close()

    def back_up(self) -> None:
        """Copy the database, which nobody has open."""
        shutil.copy(self.place, f"{self.place}.backup")

    def restore(self) -> None:
        """Put the copy back; whoever restores a backup restores no key file and nothing that is remembered."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.place}{suffix}").unlink(missing_ok=True)
        shutil.copy(f"{self.place}.backup", self.place)

    def who(self, engine: Engine, label: str) -> Any:
        """Return a sample principal."""
        return engine.keys.authenticate(self.keys[label])


@pytest.fixture
def machine(tmp_path: Path, sample_database: Any, compiled: Any) -> Machine:
    """A machine whose database was served, backed up, and then had a model withdrawn."""
    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    made = Machine(place, sample_database.keys, compiled)
    with made.opened() as engine:
        assert engine.decider.decide(ALLOWED, LOCAL).allowed
    made.back_up()
    with made.opened() as engine:
        engine.switches.engage(LOCAL, "stop", {"models": ["fable-5"]}, "withdrawn")
        assert not engine.decider.decide(ALLOWED, LOCAL).allowed
    return made


def test_a_restored_backup_does_not_bring_a_withdrawn_model_back(machine: Machine) -> None:
    """The older copy denies everything with a code of its own, and says so in `/readyz`.

    Control: policy_engine/services/decide.py:
    `if self._recovery is not None and self._recovery.suspicion is not None:`
    """
    with machine.opened() as engine:
        assert engine.recovery.suspicion is None
    machine.restore()
    for _ in range(2):  # a restart makes nothing better
        with machine.opened() as engine:
            denied = engine.decider.decide(ALLOWED, LOCAL)
            assert [reason.code for reason in denied.reasons] == SUSPECTED
            assert [code for code, _ in read_condition(engine).reasons] == SUSPECTED


def test_no_answer_of_an_older_copy_is_complete(machine: Machine, tmp_path: Path) -> None:
    """What was written since is missing from it, and this machine knows: queries, sheets and the report say so."""
    everything, ended = Filters(), Question(until=1)
    period = parse_period("2026-01-01..2029-01-01")
    for restored in (False, True):
        if restored:
            machine.restore()
        with machine.opened() as engine:
            found = engine.evidence.query(LOCAL, everything).complete, engine.evidence.count(LOCAL, ended).complete
            for form in (Form.CSV, Form.BUNDLE):
                sheet = engine.exports.export(
                    LOCAL, engine.exports.ask(""), form, Target(tmp_path / f"{form}-{restored}")
                )
                assert any("an older copy was restored" in note for note in sheet.notes) is restored
                found += (sheet.complete,)
            engine.reports.write(LOCAL, period, tmp_path / "report.html", force=True, verify=False)
            assert ("an older copy was restored" in (tmp_path / "report.html").read_text()) is restored
        assert set(found) == {not restored}


def test_two_persons_recover_it_and_no_epoch_is_used_twice(machine: Machine) -> None:
    """What was lost is entered again, one person proposes, another approves; the log verifies, and all goes on."""
    before = json.loads(machine.remembered.read_text())["epoch"]
    machine.restore()
    with machine.opened() as engine:
        operator, approver = machine.who(engine, "operator"), machine.who(engine, "approver")
        engine.switches.engage(operator, "stop", {"models": ["mythos-5"]}, "withdrawn, entered again")
        proposal = engine.recovery.propose(operator, "the disk was lost")
        with pytest.raises(NotPermitted):
            engine.approvals.approve(operator, proposal.id)
        assert not engine.decider.decide(ALLOWED, LOCAL).allowed
        engine.approvals.approve(approver, proposal.id)
        assert engine.snapshots.refresh().state.epoch == before + 1
        assert engine.recovery.suspicion is None
        assert engine.decider.decide(ALLOWED, LOCAL).allowed
        assert engine.evidence.verify().ok
    assert json.loads(machine.remembered.read_text())["epoch"] == before + 1
    with machine.opened() as engine:
        assert engine.decider.decide(ALLOWED, LOCAL).allowed


def test_an_older_copy_that_has_grown_since_is_found_out(machine: Machine) -> None:
    """A copy that was changed elsewhere until its epoch is greater still lacks the entry that is remembered."""
    before = json.loads(machine.remembered.read_text())["epoch"]
    machine.restore()
    with machine.opened(epoch_file=machine.place.with_name("elsewhere")) as engine:
        for number in range(3):
            engine.switches.engage(LOCAL, f"s{number}", {"models": ["open-1"]}, "a drill")
        assert engine.store.state().epoch > before
        assert engine.decider.decide(ALLOWED, LOCAL).allowed  # nothing is remembered there
    with machine.opened() as engine:
        assert engine.recovery.suspicion is not None
        assert not engine.decider.decide(ALLOWED, LOCAL).allowed


def test_a_recovery_of_less_than_is_remembered_recovers_nothing(machine: Machine) -> None:
    """A machine that remembers more than was recovered elsewhere goes on suspecting."""
    before = json.loads(machine.remembered.read_text())["epoch"]
    machine.restore()
    with machine.opened() as engine:
        operator, approver = machine.who(engine, "operator"), machine.who(engine, "approver")
        engine.approvals.approve(approver, engine.recovery.propose(operator, "lost", beyond=before - 1).id)
        engine.snapshots.refresh()
        assert engine.recovery.suspicion is not None
        assert not engine.decider.decide(ALLOWED, LOCAL).allowed


def test_a_recovery_is_refused_where_there_is_nothing_to_recover(machine: Machine) -> None:
    """Without a suspicion the epoch has to be named, and it has to be one; no service and no stranger proposes."""
    with machine.opened() as engine:
        operator = machine.who(engine, "operator")
        with pytest.raises(Conflict):
            engine.recovery.propose(operator, "why not")
        for beyond in (-1, 2**52 + 1):
            with pytest.raises(InputRefused):
                engine.recovery.propose(operator, "why not", beyond=beyond)
        with pytest.raises(NotPermitted):
            engine.recovery.propose(LOCAL, "why not", beyond=1)


@pytest.mark.parametrize("text", ["", "{}", '{"version": 2, "epoch": 1, "log": "a", "seq": 1, "leaf": "b"}', "[1]"])
def test_what_cannot_be_read_is_not_believed_to_be_nothing(machine: Machine, text: str) -> None:
    """A damaged file starts nothing: what it remembered is not known, and none is no answer."""
    machine.remembered.write_text(text)
    with pytest.raises(StartRefused, match="damaged"), machine.opened():
        pass


def test_a_database_that_vanished_is_not_begun_anew(machine: Machine) -> None:
    """Where a database is remembered an empty one is refused, until somebody takes the memory away on purpose."""
    machine.place.unlink()
    with pytest.raises(StartRefused, match=r"take .* away"), machine.opened():
        pass
    machine.remembered.unlink()
    with machine.opened() as engine:
        assert engine.decider.decide(ALLOWED, LOCAL).allowed


def test_only_a_recovery_leaps_over_epochs(postgres_database: PostgresDatabase, tmp_path: Path) -> None:
    """Both stores lead a recovery behind the lost epoch, and every other change one further; the log verifies."""
    from policy_engine.store.migrate import copy_template as copy_empty

    sqlite = SqliteStore(copy_empty(tmp_path / "log.db"), VAULT)
    for store in (sqlite, postgres_database.open()):
        genesis(store)
        recovered = Change("epoch.recovered", {"by": "x", "beyond": 40}, (), raises_epoch=True, beyond=40)
        store.change(recovered)
        assert store.state().epoch == 41
        store.change(Change("epoch.recovered", {"beyond": 7}, (), raises_epoch=True, beyond=7))
        assert store.state().epoch == 42
        with pytest.raises(ValueError, match="a recovery alone"):
            store.change(Change("switch.engaged", {"beyond": 90}, (), raises_epoch=True, beyond=90))
    sqlite.close()
