"""What every test stands on: no network, reproducible examples, kept outputs, and engines on a fresh database.

- A connection to anything but loopback raises, whichever test tries it (an audit hook; nothing to remember).
- Hypothesis runs the `default` profile; `HYPOTHESIS_PROFILE=nightly` runs many more examples.
- Every decision entry that a test records is put to stock Casbin when its process ends (law 6, `house/witness.py`).
- Log lines, metrics and error bodies of the whole run are kept and searched for planted facts (`house/outputs.py`).
"""

from __future__ import annotations

import gc
import ipaddress
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.house import order, outputs, witness

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine
    from policy_engine.services.releases import ReleaseLoader

POLICIES = Path(__file__).resolve().parents[1] / "policies"

settings.register_profile(
    "default",
    max_examples=60,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "nightly",
    settings.get_profile("default"),
    max_examples=5_000,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


class OutsideRefused(RuntimeError):
    """A test tried to reach beyond loopback."""


def is_loopback(host: Any) -> bool:
    """Say whether a host of a socket call stays on this machine. `None` and "" mean every local address."""
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse_outside(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise when a Python socket connects, sends or resolves beyond loopback; Unix sockets pass."""
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if isinstance(address, tuple) and not is_loopback(address[0]):
            raise OutsideRefused("a test tried to reach an address beyond loopback")
    elif event == "socket.getaddrinfo" and not is_loopback(arguments[0]):
        raise OutsideRefused("a test tried to resolve a name beyond loopback")


MEMORY = Path("/dev/shm")
MEMORY_BYTES_LEAST = 3 << 30


def in_memory(folder: Path) -> bool:
    """Say whether there is room for the tests' files in memory: thousands of commits need not wait for a real disk.

    What a disk may lose, and when, the fault disk of `durability/` decides and no real one; a killed process loses
    nothing on either. `TMPDIR=/tmp` puts the files on a disk, as `make nightly` does.
    """
    try:
        return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= MEMORY_BYTES_LEAST
    except OSError:
        return False


def pytest_configure(config: pytest.Config) -> None:
    """Close the network, and make the folder of kept outputs in the controlling process (workers inherit its name)."""
    sys.addaudithook(refuse_outside)
    if not hasattr(config, "workerinput"):
        if "TMPDIR" not in os.environ and in_memory(MEMORY):
            os.environ["TMPDIR"], tempfile.tempdir = str(MEMORY), None  # `None`: look again where files go
        os.environ[outputs.FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="policy-engine-outputs-")
    outputs.listen()
    witness.attend(WITNESS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, for each of two workers."""
    items[:] = order.ordered(items)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Set aside what was imported and collected: it stays to the end, and need not be looked through for garbage."""
    gc.collect()
    gc.freeze()


WITNESS = witness.Witness()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the session red when a planted fact got out, or when stock Casbin disagrees with a recorded entry.

    A worker process puts its own entries to stock Casbin; the controlling process ends last and reads what all said.
    """
    for line in WITNESS.disagreements():
        outputs.keep("disagreements", line)
    outputs.keep("witnessed", f"{WITNESS.entries} {len(WITNESS.answers)}")
    if hasattr(session.config, "workerinput"):
        return
    folder = Path(os.environ[outputs.FOLDER_VARIABLE])
    stash = session.config.stash
    stash[COUNTED], stash[WITNESSED] = outputs.counted(folder), outputs.witnessed(folder)
    stash[WRONG] = [f"PLANTED FACT OUTSIDE {line}" for line in outputs.leaks(folder)]
    stash[WRONG] += [f"LAW 6 BROKEN {line}" for line in outputs.kept(folder, "disagreements")]
    if stash[WRONG] and session.exitstatus == 0:
        session.exitstatus = WRONG_WITHOUT_A_FAILED_TEST
    shutil.rmtree(folder)
    made: Path = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # what the fixture `tmp_path_factory` offers
    for history in made.glob("history-*"):
        shutil.rmtree(history, ignore_errors=True)


WRONG_WITHOUT_A_FAILED_TEST = 8
"""Exit code of a run whose tests passed and whose entries or outputs are wrong; no code of pytest's own."""

WRONG = pytest.StashKey[list[str]]()
COUNTED = pytest.StashKey[dict[str, int]]()
WITNESSED = pytest.StashKey[tuple[int, int]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what was searched and what was put to stock Casbin, and name whatever was wrong."""
    counted = ", ".join(f"{count} {kind}" for kind, count in config.stash.get(COUNTED, {}).items())
    entries, questions = config.stash.get(WITNESSED, (0, 0))
    terminalreporter.write_line(f"searched for planted facts, in lines: {counted}")
    terminalreporter.write_line(f"put to stock Casbin: {questions} different questions of {entries} recorded decisions")
    for line in config.stash.get(WRONG, []):
        terminalreporter.write_line(line, red=True)


@pytest.fixture
def planted_facts() -> outputs.PlantedFacts:
    """Offer facts to plant in requests and registers; the session fails if one is ever logged or echoed."""
    return outputs.PLANTED


@pytest.fixture
def kept_outputs() -> Iterator[Any]:
    """Offer `keep(kind, text)` for outputs that no client or logger of this process sees."""
    return outputs.keep


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Offer a way to tell the figures of a long campaign on standard error, past pytest's capture."""

    def write(line: str) -> None:
        with capfd.disabled():
            sys.stderr.write(f"\n{line}\n")

    return write


@dataclass(frozen=True, slots=True)
class SampleDatabase:
    """A closed database that holds the sample release and world, and the keys that its start made, by label."""

    place: Path
    keys: dict[str, str]


@pytest.fixture(scope="session")
def compiled() -> ReleaseLoader:
    """Offer a loader that has compiled the sample release, so that each test process compiles it once."""
    from policy_engine.rules.release import read_folder
    from policy_engine.services.releases import ReleaseLoader

    loader = ReleaseLoader()
    loader.load(read_folder(POLICIES))
    return loader


@pytest.fixture(scope="session")
def sample_database(tmp_path_factory: pytest.TempPathFactory, compiled: ReleaseLoader) -> SampleDatabase:
    """Offer a database filled as `serve` fills an empty one; nobody has it open, so it can be copied."""
    from policy_engine.bootstrap import open_engine
    from policy_engine.settings import Settings

    place = tmp_path_factory.mktemp("sample") / "engine.db"
    engine = open_engine(Settings(database=f"sqlite:///{place}", policies=POLICIES), releases=compiled)
    engine.close()
    return SampleDatabase(place, {key.label: key.secret for key in engine.sample_keys})


@pytest.fixture
def engine(tmp_path: Path, sample_database: SampleDatabase, compiled: ReleaseLoader) -> Iterator[Engine]:
    """Offer an open engine on a copy of the sample database; it is closed when the test ends."""
    from policy_engine.bootstrap import copy_template, open_engine
    from policy_engine.settings import Settings

    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    opened = open_engine(Settings(database=f"sqlite:///{place}", policies=POLICIES), releases=compiled)
    yield opened
    opened.close()
