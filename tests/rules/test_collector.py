"""What building an enforcer does to the garbage collector of the program that builds it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from casbin.persist.adapters import StringAdapter

from policy_engine.errors import LoadRefused
from policy_engine.rules import CompiledEnforcer
from policy_engine.rules.stock import read_model
from tests.rules.test_enforcer import MATCHERS, conf

MANY_ROWS = 30_000


class Collector:
    """Notes what is asked of the collector, and says that so many objects are frozen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, frozen: int) -> None:
        self.asked: list[str] = []
        self.frozen = frozen
        for name in ("freeze", "unfreeze", "get_freeze_count"):
            monkeypatch.setattr(gc, name, lambda name=name: self._asked(name))

    def _asked(self, name: str) -> int:
        self.asked.append(name)
        return self.frozen


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    """Begin with nothing new, and with a collector that works; it works afterwards too."""
    gc.enable()
    gc.collect()
    yield
    assert gc.isenabled()


def built(rows: int, matcher: str = MATCHERS[0]) -> CompiledEnforcer:
    """Return an enforcer with so many rows."""
    lines = "\n".join(f"p, u{number}, data, read, allow" for number in range(rows))
    return CompiledEnforcer(read_model(conf(matcher), "model"), StringAdapter(lines))


def test_few_rows_do_not_count_what_the_program_froze(monkeypatch: pytest.MonkeyPatch) -> None:
    """To count frozen objects is to walk them all: with millions, each small enforcer took a tenth of a second."""
    collector = Collector(monkeypatch, 5_000_000)
    assert built(10).enforce("u1", "data", "read")
    assert collector.asked == []


def test_many_rows_count_as_old_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a large policy is built of is not visited by the next collections."""
    collector = Collector(monkeypatch, 0)
    assert built(MANY_ROWS).enforce("u1", "data", "read")
    assert collector.asked == ["get_freeze_count", "freeze", "unfreeze"]


def test_what_the_program_froze_stays_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that froze its objects, to fork with them or to spare the collector, has them frozen still."""
    collector = Collector(monkeypatch, 1)
    assert built(MANY_ROWS).enforce("u1", "data", "read")
    assert collector.asked == ["get_freeze_count"]


def test_a_collector_that_was_off_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a build nor a refused one turns it on."""
    collector = Collector(monkeypatch, 0)
    gc.disable()
    try:
        built(MANY_ROWS)
        with pytest.raises(LoadRefused):
            built(1, "like(r.sub, p.sub)")
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert collector.asked == []


def test_a_refused_build_leaves_the_collector_on() -> None:
    """The collector works again after a model that is refused."""
    with pytest.raises(LoadRefused):
        built(1, "like(r.sub, p.sub)")
    assert gc.isenabled()
