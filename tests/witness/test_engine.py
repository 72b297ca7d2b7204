"""The whole engine under a real witness: restored backups and rewritten logs stop it, the right database does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from policy_engine.api.condition import read_condition
from policy_engine.bootstrap import Engine, copy_template, open_engine
from policy_engine.core.decision import Decision, Request
from policy_engine.core.facts import Location
from policy_engine.errors import StartRefused
from policy_engine.ledger.checkpoint import open_checkpoint
from policy_engine.ledger.note import VerifierKey, parse_key
from policy_engine.services.bundle import write_bundle
from policy_engine.services.permissions import LOCAL
from policy_engine.settings import Settings
from tests.laws.sample import POLICIES
from tests.witness.witnessed import Running, configure, configure_keys, running


def ask(engine: Engine, subject: str = "alice") -> Decision:
    """Ask for what alice may do."""
    request = Request(subject, "infer", "fable-5", "acme", Location("US"), "US")
    return engine.decider.decide(request, LOCAL)


def eventually(question: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.02)


class Site:
    """A database with its key file, opened as a serving or embedding process opens it, and the file of witnesses."""

    def __init__(self, folder: Path, sample: Any, compiled: Any) -> None:
        self.folder, self._sample, self._compiled = folder, sample, compiled
        self.database, self.witnesses = folder / "engine.db", folder / "witnesses.toml"
        copy_template(sample.place, self.database)

    @contextmanager
    def opened(self, **settings: Any) -> Iterator[Engine]:
        """Open the engine on whatever lies at the database's place."""
        named = Settings(database=f"sqlite:///{self.database}", policies=POLICIES, **settings)
        engine = open_engine(named, releases=self._compiled, embedded=True)
        try:
            yield engine
        finally:
            engine.close()

    def copy(self, name: str) -> Path:
        """Put a copy of the closed database aside."""
        return Path(shutil.copyfile(self.database, self.folder / name))

    def put_back(self, place: Path) -> None:
        """Put another database in its place, with nothing left of the old one."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(place, self.database)

    def key(self) -> VerifierKey:
        """Return the log's key, as `doctor` shows it."""
        with self.opened() as engine:
            return parse_key(engine.store.tree_state().key)


@pytest.fixture
def site(tmp_path: Path, sample_database: Any, compiled: Any) -> Site:
    """Offer a site with the sample database, whose tree has a first checkpoint."""
    return Site(tmp_path, sample_database, compiled)


@contextmanager
def witnessed(site: Site) -> Iterator[tuple[Running, VerifierKey]]:
    """Run a witness that knows the site's log, and write the site's file of witnesses."""
    folder = site.folder / "witness"
    folder.mkdir(exist_ok=True)
    witness = parse_key(configure(folder))
    configure_keys(folder, site.key())
    with running(folder) as started:
        site.witnesses.write_text(f'[[witness]]\nurl = "{started.url}"\nkey = "{witness}"\n')
        yield started, witness


def cosigned(engine: Engine, witness: VerifierKey) -> bool:
    """Return whether everything is in the tree and its newest checkpoint has the witness's cosignature."""
    pending = engine.store.pending(1)  # before the checkpoint, or it might be the one in front of what just got in
    newest = engine.store.checkpoint()
    if newest is None or pending:
        return False
    key = parse_key(engine.store.tree_state().key)
    return len(open_checkpoint(newest.note, key.name, [key], [witness]).cosignatures) == 1


def test_decisions_are_cosigned_within_seconds(site: Site) -> None:
    """What was decided is in a tree with the log's signature and the witness's; nothing waited for it."""
    with witnessed(site) as (started, witness), site.opened(witnesses=site.witnesses) as engine:
        assert engine.witnesses is not None
        for _ in range(3):
            assert ask(engine).allowed
            eventually(lambda: cosigned(engine, witness))
        size = engine.store.tree_state().size
        key = parse_key(engine.store.tree_state().key)
        shown = open_checkpoint(started.newest(key.name)[2], key.name, [key], [witness], 1)
        assert shown.checkpoint.size == size == engine.witnesses.states()[0].size
        assert read_condition(engine).reasons == () and engine.evidence.verify().ok


def test_closing_leaves_nothing_that_the_witness_has_not_seen(site: Site) -> None:
    """The last decisions before a stop are cosigned too, so that cutting them off while it is down is noticed."""
    with witnessed(site) as (_, witness):
        for _ in range(3):
            with site.opened(witnesses=site.witnesses) as engine:
                assert ask(engine).allowed
            with site.opened() as engine:
                assert cosigned(engine, witness)


def test_a_restored_backup_denies_everything_and_signs_nothing(site: Site) -> None:
    """Yesterday's database under today's witness: denied from the first request on, and ready for nothing."""
    with witnessed(site) as (_, witness):
        with site.opened(witnesses=site.witnesses) as engine:
            assert ask(engine).allowed
        backup = site.copy("backup.db")
        with site.opened(witnesses=site.witnesses) as engine:
            assert ask(engine).allowed
            eventually(lambda: cosigned(engine, witness))
        today = site.copy("today.db")
        site.put_back(backup)
        with site.opened(witnesses=site.witnesses) as engine:
            assert_stopped(engine)
        site.put_back(today)
        with site.opened(witnesses=site.witnesses) as engine:
            assert ask(engine).allowed and read_condition(engine).reasons == ()


def assert_stopped(engine: Engine) -> None:
    """Nothing is allowed, `/readyz` says why, and the tree stays as it is."""
    size = engine.store.tree_state().size
    decision = ask(engine)
    assert (decision.allowed, [reason.code for reason in decision.reasons]) == (False, ["log.forked"])
    ((code, sentence),) = [each for each in read_condition(engine).reasons if each[0] == "log.forked"]
    assert code == "log.forked" and "witness.example/one" in sentence and "right database" in sentence
    assert engine.sequencer is not None and engine.sequencer.trouble is not None
    time.sleep(1.5)  # longer than a checkpoint takes
    assert engine.store.tree_state().size == size


@pytest.mark.parametrize("longer", [False, True])
def test_everything_recomputed_with_the_stolen_key_is_detected_by_the_witness(site: Site, longer: bool) -> None:
    """Another history under the log's own keys verifies by itself: the witness alone knows better."""
    start = site.copy("start.db")
    with witnessed(site) as (started, witness):
        with site.opened(witnesses=site.witnesses) as engine:
            for _ in range(4):
                assert ask(engine).allowed
                eventually(lambda: cosigned(engine, witness))
            size, key = engine.store.tree_state().size, parse_key(engine.store.tree_state().key)
            assert verdict(engine, site, "honest", "--key", str(key), "--witness", str(witness), "--quorum", "1") == (
                0,
                "",
            )
        site.put_back(start)  # the thief has the database and both key files, and no witness
        with site.opened() as engine:
            for _ in range(8 if longer else 4):
                assert not ask(engine, "eve").allowed
                assert engine.sequencer is not None
                engine.sequencer.integrate()
            assert (engine.store.tree_state().size > size) is longer
            assert engine.evidence.verify().ok
            newest = engine.store.checkpoint()
            assert newest is not None and open_checkpoint(newest.note, key.name, [key])
            assert verdict(engine, site, "forged", "--key", str(key)) == (0, "")
            code, said = verdict(engine, site, "forged", "--key", str(key), "--witness", str(witness), "--quorum", "1")
            assert code == 6 and "witness" in said
        with site.opened(witnesses=site.witnesses) as engine:
            assert_stopped(engine)
        shown = open_checkpoint(started.newest(key.name)[2], key.name, [key], [witness], 1)
        assert shown.checkpoint.size == size


def verdict(engine: Engine, site: Site, name: str, *arguments: str) -> tuple[int, str]:
    """Return the exit code of the auditor's own program about a bundle of the database, and what it says when bad."""
    bundle = site.folder / name
    if not bundle.exists():
        with engine.store.view() as view:
            write_bundle(view, bundle)
    command = [sys.executable, "-m", "policy_engine_verify", str(bundle), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr if done.returncode else ""


def test_a_witness_that_is_away_stops_nothing(site: Site) -> None:
    """No witness answers: it starts within seconds, allows, and counts the failing witness."""
    with witnessed(site):
        pass
    begun = time.monotonic()
    with site.opened(witnesses=site.witnesses) as engine:
        assert ask(engine).allowed
        assert time.monotonic() - begun < 8
        found = read_condition(engine)
        assert (found.reasons, found.witnesses_failing, found.forked) == ((), 1, False)


def test_a_file_of_witnesses_that_is_wrong_makes_no_database(tmp_path: Path, compiled: Any) -> None:
    """A misspelt file is refused before an empty place is filled: the keys that are shown once are not lost."""
    place = tmp_path / "new.db"
    named = Settings(database=f"sqlite:///{place}", policies=POLICIES, witnesses=tmp_path / "none.toml")
    with pytest.raises(StartRefused):
        open_engine(named, releases=compiled, embedded=True)
    assert not place.exists() and not Path(f"{place}.keys").exists()


def test_doctor_shows_what_each_witness_cosigned(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first cosignature it says so; afterwards the sizes and the age; a bad file is broken."""
    with witnessed(site) as (_, witness):
        monkeypatch.setenv("POLICY_ENGINE_WITNESSES", str(site.witnesses))
        assert "nothing yet" in doctor(site)
        with site.opened(witnesses=site.witnesses) as engine:
            assert ask(engine).allowed
            eventually(lambda: cosigned(engine, witness))
            size = engine.store.tree_state().size
        assert f"cosigned a tree of {size} of" in doctor(site)
        site.witnesses.write_text("")
        assert "[[witness]]" in doctor(site)


def doctor(site: Site) -> str:
    """Return what the command prints."""
    command = [sys.executable, "-m", "policy_engine.cli.app", "doctor", "-o", "json"]
    own = {"POLICY_ENGINE_DATABASE": f"sqlite:///{site.database}", "POLICY_ENGINE_POLICIES": str(POLICIES)}
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    return done.stdout
