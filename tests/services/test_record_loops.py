"""The recorder under event loops that go away, are interrupted, or begin in many threads at once."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from policy_engine.errors import StoreUnavailable
from policy_engine.limits import LIMITS
from policy_engine.services.looped import LoopCommitter
from policy_engine.services.record import Written
from tests.services.evidencesamples import PEP, Desk, open_desk
from tests.services.interrupts import Struck


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An open desk; whatever was written verifies at the end."""
    made = open_desk(tmp_path / "log.db")
    yield made
    made.recorder.close()
    assert made.evidence.verify().findings == ()
    made.store.close()


def test_a_loop_that_went_away_does_not_stop_the_recorder(desk: Desk) -> None:
    """When an event loop is closed while its entry is written, others are served as before."""
    state = desk.state

    async def leave() -> None:
        draft = desk.recorder.decision(desk.evaluation(), PEP, 1)
        task = asyncio.ensure_future(desk.recorder.write_async([draft], state))
        await asyncio.sleep(0)
        task.cancel()

    for _ in range(5):
        asyncio.run(leave())
    assert isinstance(desk.decide(desk.evaluation())[0], Written)


def test_nothing_waits_where_a_loop_was_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loop left behind when it was closed is not counted as waiting: nobody does, and nothing comes of it."""
    begun, go_on, commit = threading.Event(), threading.Event(), desk.store.commit
    monkeypatch.setattr(desk.store, "commit", lambda staged: (begun.set(), go_on.wait(5), commit(staged))[2])
    state, drafts = desk.state, [desk.recorder.decision(desk.evaluation(), PEP, 1) for _ in range(3)]

    async def leave() -> int:
        writing = [asyncio.ensure_future(desk.recorder.write_async([drafts.pop()], state))]
        await asyncio.to_thread(begun.wait, 5)
        writing += [asyncio.ensure_future(desk.recorder.write_async([draft], state)) for draft in drafts]
        await asyncio.sleep(0)
        return desk.recorder.queued

    assert asyncio.run(leave()) == 2
    go_on.set()
    assert desk.recorder.queued == 0


class Interrupted(asyncio.SelectorEventLoop):
    """An event loop in which Ctrl-C strikes once, instead of a call of the name that a test says: the call is lost."""

    lost = ""

    def call_soon(self, callback: Any, *args: Any, **more: Any) -> Any:
        """Have a call made, or lost."""
        return super().call_soon(self._struck(callback), *args, **more)

    def call_soon_threadsafe(self, callback: Any, *args: Any, **more: Any) -> Any:
        """Have a call made, or lost."""
        return super().call_soon_threadsafe(self._struck(callback), *args, **more)

    def call_at(self, when: float, callback: Any, *args: Any, **more: Any) -> Any:
        """Have a call made, or lost."""
        return super().call_at(when, self._struck(callback), *args, **more)

    def _struck(self, callback: Any) -> Any:
        if getattr(callback, "__name__", None) != self.lost:
            return callback
        self.lost = ""
        return strike


def strike(*unread: Any) -> None:
    """Be the interrupt."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["_soon", "_committed", "try_stage", "_hand_over"])
def test_a_loop_that_was_interrupted_goes_on_when_it_is_run_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Ctrl-C in a loop that `run_until_complete` drives leaves nobody waiting for a commit that never comes: it denied
    for ever after. What was under way may be denied, and one more where the loop lost a call."""
    loop, struck = Interrupted(), [1]

    def once() -> None:
        if struck:
            strike(struck.pop())

    async def write() -> object:
        draft = desk.recorder.decision(desk.evaluation(), PEP, 1)
        return (await desk.recorder.write_async([draft], desk.state))[0]

    stage, hand_over = desk.store.try_stage, LoopCommitter._hand_over
    if where == "try_stage":
        monkeypatch.setattr(desk.store, "try_stage", lambda *given: (once(), stage(*given))[1])
    elif where == "_hand_over":
        monkeypatch.setattr(desk.store, "try_stage", lambda *unread: None)
        monkeypatch.setattr(LoopCommitter, "_hand_over", lambda *given: (once(), hand_over(*given)))
    loop.lost = where
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(write())
    if where in ("_soon", "_committed"):
        with suppress(StoreUnavailable):
            loop.run_until_complete(write())
    assert isinstance(loop.run_until_complete(write()), Written)
    loop.close()


def test_nobody_waits_for_ever_after_an_interrupt(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C that takes along the timer of a loop leaves nobody without an answer when a commit does not return."""
    loop, stuck = Interrupted(), threading.Event()
    commit = desk.store.commit

    async def write() -> object:
        draft = desk.recorder.decision(desk.evaluation(), PEP, 1)
        return (await desk.recorder.write_async([draft], desk.state))[0]

    loop.lost = "_watch"
    assert isinstance(loop.run_until_complete(write()), Written)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(LIMITS.answer_seconds + 1))
    monkeypatch.setattr(desk.store, "commit", lambda staged: (stuck.wait(10), commit(staged))[1])
    try:
        with pytest.raises(StoreUnavailable):
            loop.run_until_complete(asyncio.wait_for(write(), 5))
    finally:
        stuck.set()
    loop.close()


class Looked(asyncio.SelectorEventLoop):
    """An event loop that calls something the next time that somebody looks whether it is closed."""

    meanwhile: Callable[[], object] | None = None

    def is_closed(self) -> bool:
        """Return whether it is, after the call."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().is_closed()


def test_event_loops_of_many_threads_begin_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread's new loop looks for closed ones, that of another is put beside them: both get their entries."""
    found: list[object] = []
    begun, looked = threading.Event(), threading.Event()
    make = LoopCommitter.__init__

    async def write() -> None:
        draft = desk.recorder.decision(desk.evaluation(), PEP, 1)
        found.extend(await desk.recorder.write_async([draft], desk.state))

    def made(*arguments: Any) -> None:
        make(*arguments)
        if threading.current_thread() is other:
            kept.meanwhile = lambda: (looked.set(), other.join(0.2))
            begun.set()
            looked.wait(0.2)

    kept = Looked()
    kept.run_until_complete(write())
    other = threading.Thread(target=lambda: asyncio.run(write()))
    monkeypatch.setattr(LoopCommitter, "__init__", made)
    other.start()
    assert begun.wait(5)
    asyncio.run(write())
    other.join()
    kept.close()
    assert [type(result) for result in found] == [Written] * 3


def test_an_interrupt_of_whoever_waits_stops_nobody(tmp_path: Path) -> None:
    """Ctrl-C, or a worker's time limit, at whatever moment of a write leaves no lock taken: the recorder waited for it
    for ever, so that everything was denied and closing never ended. Those that nobody waits for are written."""
    desk = open_desk(tmp_path / "log.db")
    moment, struck = 0, Struck(0)
    while struck.left <= 0:
        moment += 1
        draft, struck = desk.recorder.decision(desk.evaluation(), PEP, 1), Struck(moment)
        with suppress(KeyboardInterrupt):
            sys.setprofile(struck)
            try:
                desk.recorder.write([draft], desk.state)
            finally:
                sys.setprofile(None)
        assert isinstance(desk.decide(desk.evaluation())[0], Written), f"after an interrupt at moment {moment}"
    assert moment > 10
    assert desk.recorder.queued == 0
    desk.recorder.close()
    assert desk.evidence.verify().findings == ()
    desk.store.close()


def test_an_interrupt_of_an_event_loop_lets_go_of_the_store(tmp_path: Path) -> None:
    """Ctrl-C at whatever moment of writing a batch leaves the store to others, even while its traceback is kept: it was
    `busy` for ever, or until memory was cleaned up. What was under way may be denied, and one more where the loop lost
    a call."""
    desk, loop = open_desk(tmp_path / "log.db"), asyncio.new_event_loop()
    loop.set_exception_handler(lambda *unread: None)  # tasks that were struck have errors that nobody asks for

    def write(struck: Struck | None = None) -> object:
        writing = desk.recorder.write_async([desk.recorder.decision(desk.evaluation(), PEP, 1)], desk.state)
        sys.setprofile(struck)
        try:
            return loop.run_until_complete(writing)[0]
        finally:
            sys.setprofile(None)

    write()
    kept: list[BaseException] = []
    moment, struck = 0, Struck(0)
    while struck.left <= 0:
        moment += 1
        struck = Struck(moment, ("looped.py", "sqlite.py", "committing.py", "contextlib.py"))
        try:
            write(struck)
        except KeyboardInterrupt as error:
            kept.append(error)
        with suppress(StoreUnavailable):
            write()
        assert isinstance(write(), Written), f"after an interrupt at moment {moment}"
    assert len(kept) > 30
    loop.close()
    desk.recorder.close()
    assert desk.evidence.verify().findings == ()
    desk.store.close()
