"""The loop on which an engine is asked from afar: what an interrupt or a lack of threads leaves of it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from policy_engine import PolicyEngine
from policy_engine.remote import background as module
from policy_engine.remote.background import Background
from tests.remote.test_hostile import ASKED, KEY


async def none() -> None:
    """Do nothing, last."""


async def five() -> int:
    """Return something to look for."""
    return 5


class Struck(threading.Thread):
    """A thread that something strikes once, before it has begun."""

    by: BaseException | None = None

    def start(self) -> None:
        """Begin, unless struck."""
        struck, Struck.by = Struck.by, None
        if struck is not None:
            raise struck
        super().start()


@pytest.mark.parametrize("by", [KeyboardInterrupt(), RuntimeError("can't start new thread")])
def test_a_loop_that_could_not_begin_begins_with_the_next_call(
    by: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C or a lack of threads at the first question left a loop that never ran: every later one was a deny."""
    begun: list[int] = []
    monkeypatch.setattr(module, "Thread", Struck)
    monkeypatch.setattr(Struck, "by", by)
    own = Background(lambda: begun.append(1))
    with pytest.raises(KeyboardInterrupt if isinstance(by, KeyboardInterrupt) else module.Closed):
        own.submit(five())
    assert own.submit(five()).result(2) == 5 and begun == [1]
    own.close(none)


def test_without_a_thread_to_ask_in_the_answer_is_a_deny(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that cannot be asked is a deny that says so, and never an exception."""
    monkeypatch.setattr(module, "Thread", Struck)
    monkeypatch.setattr(Struck, "by", RuntimeError("can't start new thread"))
    with PolicyEngine.connect("http://127.0.0.1:1", key=KEY) as engine:
        assert [each.code for each in engine.decide(**ASKED).reasons] == ["engine.unreachable"]


@pytest.mark.parametrize("busy", [False, True])
def test_an_interrupt_behind_the_handing_over_stays_one(busy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has begun on the loop is not closed under its feet by another thread, which made Ctrl-C a `ValueError`."""
    begun, ended = threading.Event(), threading.Event()
    hand_over = asyncio.run_coroutine_threadsafe

    async def call() -> None:
        begun.set()
        if busy:
            time.sleep(0.2)
        await asyncio.sleep(0.1)
        ended.set()

    def struck(*given: Any) -> None:
        hand_over(*given)
        begun.wait(2)
        time.sleep(0.02)
        raise KeyboardInterrupt

    own = Background(lambda: None)
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", struck)
    with pytest.raises(KeyboardInterrupt):
        own.submit(call())
    assert ended.wait(2)
    monkeypatch.undo()
    assert own.submit(five()).result(2) == 5
    own.close(none)
