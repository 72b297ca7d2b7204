"""Enforcement points as real processes before a real server, disturbed: nothing is used after `settled`.

A test engages a switch while the answer is kept back, the network is cut, the process is stopped, or the interface is
down. `settled` is counted as an engage counts it: from the commit, the budget times 1.01 on this machine's clock. A use
is a violation when even the instant before its check lies behind that. Every scenario also shows that the enforcement
point used allows before, asked on afterwards, and was denied: one that did nothing would prove nothing.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pysqlite3 import dbapi2

from policy_engine.api.server import server
from policy_engine.bootstrap import open_engine
from policy_engine.client import Address, DecisionPoint, Heard, Listener
from tests.api.served import Served, request, serving
from tests.api.streams import soon
from tests.client.proxy import Proxy

BUDGET = 0.3
SETTLED_SHARE = 1.01
ROOT = Path(__file__).parents[2]
MODEL = "opus-4-8"
REQUEST = request("alice", "acme", "US", MODEL)


@dataclass
class Line:
    """One line that an enforcement point wrote."""

    what: str
    before: float
    after: float
    epoch: int


@dataclass
class Point:
    """A running enforcement point and what it has written so far."""

    process: subprocess.Popen[bytes]
    lines: list[Line] = field(default_factory=list)

    def count(self, what: str, since: float = 0.0) -> int:
        """Return how many lines of a kind there are that were written after an instant."""
        return sum(1 for line in list(self.lines) if line.what == what and line.before > since)

    def read(self) -> None:
        """Take lines until there are no more."""
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            what, before, after, epoch = raw.decode().split()
            self.lines.append(Line(what, float(before), float(after), int(epoch)))


@contextmanager
def enforcing(url: str, key: str, *, listen: bool = True, prefix: tuple[str, ...] = ()) -> Iterator[Point]:
    """Run an enforcement point that has used an allow already; it ends with the block."""
    command = [*prefix, sys.executable, "-m", "tests.client.enforcing", url, key, MODEL, "listen" if listen else "deaf"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment)
    point = Point(process)
    reader = threading.Thread(target=point.read)
    reader.start()
    try:
        soon(lambda: point.count("used") > 3, 20.0)
        yield point
    finally:
        process.send_signal(signal.SIGCONT)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer a service whose answers are valid for a short time."""
    with serving(tmp_path_factory.mktemp("served"), valid_for_ms=round(BUDGET * 1_000)) as running:
        yield running


@pytest.fixture
def proxy(served: Served) -> Iterator[Proxy]:
    """Offer a network before the service."""
    made = Proxy(served.port)
    yield made
    made.close()


def engage(served: Served, id: str, *, wait: str = "committed") -> float:
    """Engage a switch and return when it is settled, on this machine's clock.

    With `wait="settled"` it is the engine that says so: this returns when its answer has come.
    """
    body = {"id": id, "scope": {"models": [MODEL]}, "reason": "why"}
    answer = served.post(f"/v1/switches?wait={wait}", body, key="operator")
    assert (answer.status_code, answer.json()["withdrawal"]["settles_after_ms"]) == (
        201,
        BUDGET * SETTLED_SHARE * 1_000,
    )
    return time.monotonic() + (BUDGET * SETTLED_SHARE if wait == "committed" else 0.0)


def release(served: Served, id: str) -> None:
    """Release a switch with a second person, for the next scenario."""
    waiting = served.post(f"/v1/switches/{id}/release", {"reason": "over"}, key="operator").json()
    answer = served.post(f"/v1/approvals/{waiting['proposal']}/approve", {"hash": waiting["hash"]}, key="approver")
    assert answer.status_code == 200, answer.text


def judged(point: Point, settled: float, *, denied: bool = True) -> None:
    """Nothing was used after `settled`, though it went on asking and was denied."""
    while time.monotonic() < settled:
        time.sleep(0.01)
    if denied:
        soon(lambda: point.count("denied", settled) > 3, 20.0)
    assert [line for line in point.lines if line.what == "used" and line.before > settled] == []


@pytest.mark.parametrize("listen", [True, False], ids=["listening", "deaf"])
def test_an_engage_without_any_disturbance(served: Served, listen: bool) -> None:
    """When the engine itself answers `settled`, nothing is used any more, also where no stream is followed."""
    with enforcing(f"http://127.0.0.1:{served.port}", served.keys["gateway"], listen=listen) as point:
        judged(point, engage(served, "plain", wait="settled"))
    release(served, "plain")


def test_a_network_that_keeps_answers_back(served: Served, proxy: Proxy) -> None:
    """Answers given before the engage are delivered after `settled`: they came too late, and none is used."""
    with enforcing(f"http://127.0.0.1:{proxy.port}", served.keys["gateway"], listen=False) as point:
        proxy.hold()
        time.sleep(BUDGET)  # by now a question hangs in the network
        settled = engage(served, "held")
        time.sleep(BUDGET / 2)  # and is answered before it is settled, which nobody hears
        judged(point, settled, denied=False)
        proxy.heal()
        judged(point, settled)
        assert point.count("late") > 0
    release(served, "held")


def test_a_network_that_is_cut(served: Served, proxy: Proxy) -> None:
    """Cut off from the moment of the engage on: nothing is answered, nothing is heard, and nothing is used."""
    with enforcing(f"http://127.0.0.1:{proxy.port}", served.keys["gateway"]) as point:
        proxy.cut()
        settled = engage(served, "cut")
        judged(point, settled, denied=False)
        soon(lambda: point.count("unanswered", settled) > 3)
        proxy.heal()
        judged(point, settled)
    release(served, "cut")


def test_processes_that_are_stopped(served: Served) -> None:
    """SIGSTOP with an allow in hand, for 1 to 5 budgets around an engage: each wakes up with nothing left."""
    url, key = f"http://127.0.0.1:{served.port}", served.keys["gateway"]
    with ExitStack() as running:
        points = [running.enter_context(enforcing(url, key, listen=place % 2 == 0)) for place in range(5)]
        for point in points:
            used = point.count("used")
            soon(lambda point=point, used=used: point.count("used") > used)
            point.process.send_signal(signal.SIGSTOP)
        settled = engage(served, "stopped")
        for budgets, point in enumerate(points, start=1):
            while time.monotonic() < settled + BUDGET * (budgets - 1):
                time.sleep(0.005)
            point.process.send_signal(signal.SIGCONT)
        for point in points:
            judged(point, settled)
    release(served, "stopped")


@contextmanager
def replica(served: Served, *, host: str = "127.0.0.1", database: Path | None = None) -> Iterator[int]:
    """Serve the same database, or another one, from another engine; offer its port."""
    place = {} if database is None else {"database": f"sqlite:///{database}"}
    other = open_engine(served.engine.settings.model_copy(update=place))
    running = server(other, host=host, port=0)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        soon(lambda: running.started)
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        thread.join()
        other.close()


def test_a_replica_that_was_started_before_the_engage(served: Served) -> None:
    """Another server on the same database, whose snapshot is of before: its answers are of after, or there are none."""
    with (
        replica(served) as port,
        enforcing(f"http://127.0.0.1:{port}", served.keys["gateway"], listen=False) as point,
    ):
        judged(point, engage(served, "replica"))
    release(served, "replica")


def test_a_replica_on_an_older_copy_of_the_database(served: Served, tmp_path: Path) -> None:
    """It would allow for ever; a client that has heard of a newer epoch uses none of its allows, nor one in doubt."""
    with closing(dbapi2.connect(served.engine.settings.database_path)) as connection:
        connection.execute("VACUUM INTO ?", (str(tmp_path / "old.db"),))
    shutil.copy(f"{served.engine.settings.database_path}.keys", tmp_path / "old.db.keys")
    heard = Heard()
    url = f"http://127.0.0.1:{served.port}"
    listener = Listener(Address(url, served.keys["gateway"]), heard).start()
    try:
        with replica(served, database=tmp_path / "old.db") as port:
            older = DecisionPoint(Address(f"http://127.0.0.1:{port}", served.keys["gateway"]), heard)
            soon(lambda: heard.epoch)
            soon(lambda: older.ask(REQUEST).is_usable())  # until the engage, the copy is as new as the database
            engage(served, "older")
            soon(lambda: heard.epoch == served.engine.store.state().epoch)
            permission = older.ask(REQUEST)
            assert permission.answer.allowed, "the older copy allows, which is what this test is about"
            assert not permission.is_usable()
    finally:
        listener.close()
    release(served, "older")


@dataclass
class Namespace:
    """A network namespace of its own, joined to this one by a pair of interfaces that can be taken down."""

    near: str
    address: str
    keeper: subprocess.Popen[bytes]

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return the words before a command that runs it in there."""
        return ("nsenter", "-t", str(self.keeper.pid), "-n")

    def turn(self, state: str) -> None:
        """Take the interface `down` or `up`."""
        privileged("ip", "link", "set", self.near, state)


def privileged(*words: str) -> None:
    """Run a command of the system; raise `OSError` or `CalledProcessError` where that is not allowed."""
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """Offer a namespace; skip where none can be made, fail there where `CI` is true."""
    number = os.getpid() % 60_000
    subnet = f"10.{200 + number % 50}.{number // 256 % 250}"
    near, far = f"pe{number}a", f"pe{number}b"
    keeper = None
    try:
        keeper = subprocess.Popen(["unshare", "-n", "sleep", "120"])
        soon(lambda: os.readlink(f"/proc/{keeper.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        inside = ("nsenter", "-t", str(keeper.pid), "-n")
        privileged("ip", "link", "add", near, "type", "veth", "peer", "name", far)
        privileged("ip", "link", "set", far, "netns", str(keeper.pid))
        privileged("ip", "address", "add", f"{subnet}.1/30", "dev", near)
        privileged("ip", "link", "set", near, "up")
        privileged(*inside, "ip", "address", "add", f"{subnet}.2/30", "dev", far)
        privileged(*inside, "ip", "link", "set", far, "up")
        yield Namespace(near, f"{subnet}.1", keeper)
    except (OSError, subprocess.CalledProcessError, AssertionError) as error:
        missing = f"no network namespace can be made here (root, unshare, nsenter and ip are needed): {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    finally:
        if keeper is not None:
            keeper.kill()
            keeper.wait()


def test_an_interface_that_is_down(served: Served, namespace: Namespace) -> None:
    """A real network namespace whose link is taken down before the engage and up again after `settled`."""
    with (
        replica(served, host=namespace.address) as port,
        enforcing(f"http://{namespace.address}:{port}", served.keys["gateway"], prefix=namespace.prefix) as point,
    ):
        namespace.turn("down")
        settled = engage(served, "down")
        judged(point, settled, denied=False)
        assert point.count("used", settled) == 0
        namespace.turn("up")
        judged(point, settled)
    release(served, "down")


def campaign(served: Served, proxy: Proxy, rounds: int, seed: int) -> int:
    """Disturb two enforcement points at random, engage and release, so often; return how many uses were looked at."""
    chance = random.Random(seed)
    url, key = f"http://127.0.0.1:{proxy.port}", served.keys["gateway"]
    with enforcing(url, key) as listening, enforcing(url, key, listen=False) as deaf:
        for number in range(rounds):
            point = chance.choice((listening, deaf))
            disturb, heal = chance.choice(
                (
                    (proxy.hold, proxy.heal),
                    (proxy.cut, proxy.heal),
                    (
                        lambda p=point: p.process.send_signal(signal.SIGSTOP),
                        lambda p=point: p.process.send_signal(signal.SIGCONT),
                    ),
                )
            )
            disturb()
            time.sleep(chance.uniform(0.0, BUDGET))
            settled = engage(served, f"round-{number}")
            time.sleep(BUDGET * chance.uniform(0.0, 5.0))
            heal()
            for each in (listening, deaf):
                judged(each, settled)
            release(served, f"round-{number}")
            for each in (listening, deaf):
                used = each.count("used")
                soon(lambda each=each, used=used: each.count("used") > used)
        return listening.count("used") + deaf.count("used")


@pytest.mark.nightly
def test_many_disturbances(served: Served, proxy: Proxy, tell: Callable[[str], None]) -> None:
    """200 engages, each while the network or one of two enforcement points is disturbed for 0 to 5 budgets."""
    seed = random.randrange(2**32)
    tell(f"partitions: 200 rounds, seed {seed}, {campaign(served, proxy, 200, seed)} uses, none after settled")
